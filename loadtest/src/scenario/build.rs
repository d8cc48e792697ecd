//! From a scenario's fields to what is to be done.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;

use super::body::{self, Defaults};
use super::form::{
    EntryForm, Form, LimitsForm, LoadForm, PhaseForm, ProcessForm, ProtocolForm, RetriesForm,
    TargetForm, TlsForm,
};
use super::values::{Address, Level, Span};
use super::{Job, Limits, Overrides, Problem, Watch, Which};
use crate::faults::{self, FaultForm};
use crate::load::mix;
use crate::load::pace::{Phase, Profile};
use crate::load::plan::{Entry, Hold, Pace, Plan, Protocol, Retries};
use crate::load::session::Prepared;
use crate::load::session::websocket::Upgrade;
use crate::load::stats::Failure;
use crate::load::tls::{ClientTls, Trust};
use crate::load::{Reuse, tls, udp};

/// Time allowed for an operation, if the scenario says nothing.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The most connections of an open loop, if the scenario says nothing.
const MAX_CONNECTIONS: u32 = 1000;
/// Idle connections opened a second, if the scenario says nothing.
const OPENED_PER_SECOND: f64 = 2000.0;
/// Bounds of what can be asked for.
const MOST_CONNECTIONS: u32 = 1_000_000;
const MOST_A_SECOND: f64 = 10_000_000.0;
const MOST_SECONDS: f64 = 7.0 * 24.0 * 3600.0;
const MOST_ENTRIES: usize = 10_000;
const LONGEST_NAME: usize = 200;
const MOST_SOURCES: usize = 65_536;
/// Slices of a time series, about, where the scenario does not say how long they are.
const SLICES: f64 = 20.0;
const MOST_SLICES: f64 = 3600.0;
const SHORTEST_SLICE: f64 = 0.05;

/// Checks a scenario and makes what it asks for.
pub(super) fn job(
    mut form: Form,
    name: &str,
    folder: &Path,
    overrides: &Overrides,
) -> anyhow::Result<Job> {
    if let Some(name) = &form.name {
        check_name(name, "name")?;
    }
    for (index, phase) in form.phases.iter().enumerate() {
        let name = phase.name.as_deref().unwrap_or_default();
        check_name(name, &format!("phases[{index}].name"))?;
    }
    for (index, process) in form.processes.iter().enumerate() {
        check_name(&process.name, &format!("processes[{index}].name"))?;
    }
    let target = target(&form.target, form.protocol, overrides)?;
    let tls = form.target.tls.as_ref().filter(|_| target.is_tls);
    let client = tls.map(|tls| client_tls(tls, form.protocol, folder)).transpose()?;
    let base = base(&form.load, form.protocol, overrides)?;
    let protocol = protocol(form.protocol, &target, base.streams)?;
    let profile = profile(&form, &base, overrides)?;
    let seconds = profile.end() as f64 / 1e9;
    let faults = faults_within(std::mem::take(&mut form.faults), &form, profile.end(), overrides)?;
    let (entries, order) = entries(&form.mix, form.protocol, &target, folder)?;
    let reuse = match (&form.load.idle, base.keep_alive) {
        (Some(_), _) => Reuse::Hold,
        (None, true) => Reuse::KeepAlive,
        (None, false) => Reuse::Never,
    };
    let idle = form.load.idle.as_ref();
    let pace = match &form.load.open {
        None => Pace::Closed { connections: profile },
        Some(_) => Pace::Open {
            rate: profile,
            connections: base.first_connections,
            max_connections: base.max_connections,
        },
    };
    let plan = Plan {
        address: target.address,
        sources: sources(&form.target.sources, target.address)?,
        tls: client,
        protocol,
        entries,
        order,
        reuse,
        streams: base.streams,
        pace,
        timeout: form.timeout.map_or(TIMEOUT, |span| span.0),
        retries: form.retries.clone().map(retries).transpose()?.unwrap_or_default(),
        hold: Hold {
            request: idle.is_none_or(|idle| idle.request.unwrap_or(true)),
            refresh: idle.and_then(|idle| idle.refresh).map(|span| span.0),
            opened_per_second: idle
                .and_then(|idle| idle.opened_per_second)
                .unwrap_or(OPENED_PER_SECOND),
        },
        ends_in_order: false,
        slice: Some(slice(form.slice, seconds)),
    };
    check_groups(&plan, &form.load)?;
    let datagrams = match form.protocol {
        ProtocolForm::Udp => Some(datagrams(&form, &plan)?),
        _ => None,
    };
    let parties: BTreeSet<String> = form.parties.iter().map(|party| party.name.clone()).collect();
    let settings = super::settings::settings(&form, &plan, &target.host);
    Ok(Job {
        settings,
        name: form.name.unwrap_or_else(|| name.to_owned()),
        description: form.description.trim().to_owned(),
        plan,
        datagrams,
        processes: processes(form.processes, &parties, folder)?,
        faults: faults::Plan::parse(form.parties, faults).context("parties and faults")?,
        limits: limits(&form.limits),
        core: overrides.core.or(form.core),
    })
}

fn protocol(form: ProtocolForm, target: &Target, streams: usize) -> Result<Protocol, Problem> {
    match form {
        ProtocolForm::Http1 => Ok(Protocol::Http1),
        ProtocolForm::Http2 => Ok(Protocol::Http2(streams)),
        ProtocolForm::WebSocket => Upgrade::new(&target.host, &target.path, &[], streams)
            .map(|upgrade| Protocol::WebSocket(Arc::new(upgrade)))
            .map_err(|error| Problem::at("target.url", format!("{error:#}"))),
        // Datagrams have a driver of their own, which needs no session.
        ProtocolForm::Tcp | ProtocolForm::Udp => Ok(Protocol::Tcp),
    }
}

/// The load of datagrams: one size, one rate, or so many under way on each flow.
fn datagrams(form: &Form, plan: &Plan) -> anyhow::Result<udp::Config> {
    for (field, is_given) in [
        ("phases", !form.phases.is_empty()),
        ("target.tls", form.target.tls.is_some()),
        ("target.sources", !form.target.sources.is_empty()),
        ("retries", form.retries.is_some()),
        ("load.idle", form.load.idle.is_some()),
        ("mix[1]", form.mix.len() > 1),
    ] {
        if is_given {
            return Err(Problem::at(field, "is not there for udp; remove it").into());
        }
    }
    let Some(entry) = plan.entries.first() else {
        return Err(Problem::at("mix", "is empty").into());
    };
    let (payload, receive) = match &entry.operation.prepared {
        Prepared::Tcp { send, receive, .. } => (*send as usize, *receive),
        _ => (0, None),
    };
    let echo = receive != Some(0);
    if receive.is_some_and(|receive| receive != 0) {
        let what = "write 0 for a target that answers nothing; else what was sent has to come back";
        return Err(Problem::at("mix[0].receive", what).into());
    }
    if !(udp::HEADER..=65_507).contains(&payload) {
        let what = format!("{payload} bytes; write {} to 65507", udp::HEADER);
        return Err(Problem::at("mix[0].body", what).into());
    }
    let (flows, pace) = match &plan.pace {
        Pace::Open { rate, connections, .. } => {
            (*connections, udp::Pace::Open { rate: rate.greatest() })
        }
        Pace::Closed { connections } => {
            let pace = udp::Pace::Closed { window: plan.streams, timeout: plan.timeout };
            (connections.greatest() as usize, pace)
        }
    };
    let slice = plan.slice.unwrap_or(Duration::from_secs(1));
    Ok(udp::Config { target: plan.address, flows: flows.max(1), pace, payload, echo, slice })
}

/// Where the load goes.
#[derive(Debug)]
struct Target {
    address: SocketAddr,
    is_tls: bool,
    host: String,
    path: String,
}

fn target(
    form: &TargetForm,
    protocol: ProtocolForm,
    overrides: &Overrides,
) -> Result<Target, Problem> {
    let schemes = match protocol {
        ProtocolForm::Http1 | ProtocolForm::Http2 => ["http", "https"],
        ProtocolForm::WebSocket => ["ws", "wss"],
        ProtocolForm::Tcp | ProtocolForm::Udp => return target_address(form, overrides),
    };
    let begin = format!("begin it with {}:// or {}://", schemes[0], schemes[1]);
    let Some(url) = &form.url else {
        return Err(Problem::at("target.url", format!("is missing: where to? {begin}")));
    };
    if form.address.is_some() {
        let what = "is for tcp and udp; the URL says where to, and connect where to connect";
        return Err(Problem::at("target.address", what));
    }
    let wrong = |what: &str| Problem::at("target.url", format!("{url:?} {what}"));
    let uri: http::Uri = url.parse().map_err(|error| wrong(&format!("is no URL ({error})")))?;
    let is_tls = match uri.scheme_str() {
        Some(scheme) if scheme == schemes[0] => false,
        Some(scheme) if scheme == schemes[1] => true,
        _ => return Err(wrong(&begin)),
    };
    let host = uri.authority().ok_or_else(|| wrong("has no host"))?;
    if host.as_str().contains('@') {
        // Not with its value: a password has no place in an error.
        let what = "holds a user and password, which are not sent from there; remove them and \
                    write headers: {Authorization: …} in the mix";
        return Err(Problem::at("target.url", what));
    }
    let port = port(host).map_err(|what| wrong(&what))?;
    check_tls(form, is_tls)?;
    let address = match (overrides.connect, &form.connect) {
        (Some(address), _) => address,
        (None, Some(address)) => {
            address.resolve().map_err(|what| Problem::at("target.connect", what))?
        }
        (None, None) => {
            let port = port.unwrap_or(if is_tls { 443 } else { 80 });
            let address = Address(format!("{}:{port}", host.host()));
            address.resolve().map_err(|what| wrong(&format!("leads nowhere: {what}")))?
        }
    };
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    Ok(Target { address, is_tls, host: host.to_string(), path: path.to_owned() })
}

/// The port that a URL names, if it names one.
fn port(host: &http::uri::Authority) -> Result<Option<u16>, String> {
    // Of an IPv6 address in brackets, the colons are no port's.
    let Some((_, text)) = host.as_str().rsplit_once(':').filter(|(_, text)| !text.contains(']'))
    else {
        return Ok(None);
    };
    let port = text.parse().ok().filter(|port| *port > 0 && !text.starts_with('+'));
    port.map(Some).ok_or_else(|| format!("has the port {text:?}: write 1 to 65535"))
}

fn target_address(form: &TargetForm, overrides: &Overrides) -> Result<Target, Problem> {
    let Some(address) = &form.address else {
        return Err(Problem::at("target.address", "is missing: write HOST:PORT"));
    };
    let is_tls = form.tls.is_some();
    check_tls(form, is_tls)?;
    let connect = form.connect.as_ref().unwrap_or(address);
    let resolved = match overrides.connect {
        Some(address) => address,
        None => connect.resolve().map_err(|what| Problem::at("target.address", what))?,
    };
    Ok(Target { address: resolved, is_tls, host: address.0.clone(), path: "/".to_owned() })
}

fn check_tls(form: &TargetForm, is_tls: bool) -> Result<(), Problem> {
    match (&form.tls, is_tls) {
        (Some(_), false) => {
            Err(Problem::at("target.tls", "is here, but the URL says that there is no TLS"))
        }
        (Some(tls), true) if tls.ca.is_some() && tls.insecure => Err(Problem::at(
            "target.tls",
            "has ca and insecure, which believes anybody; remove one of them",
        )),
        (Some(tls), true) if tls.ca.is_none() && !tls.insecure => Err(Problem::at(
            "target.tls",
            "say whom to believe: ca: FILE, or insecure: true for anybody",
        )),
        (None, true) => Err(Problem::at(
            "target.tls",
            "is missing: say whom to believe: {ca: FILE}, or {insecure: true} for anybody",
        )),
        _ => Ok(()),
    }
}

fn client_tls(
    form: &TlsForm,
    protocol: ProtocolForm,
    folder: &Path,
) -> anyhow::Result<Arc<rustls::ClientConfig>> {
    let trust = match &form.ca {
        Some(file) => Trust::from_pem_file(&folder.join(file))
            .map_err(|error| Problem::at("target.tls.ca", format!("{error:#}")))?,
        None => Trust::Anyone,
    };
    let mut offered = ClientTls { resume: form.resume, ..ClientTls::new(trust) };
    if protocol == ProtocolForm::Http2 {
        offered.alpn = vec![b"h2".to_vec()];
    }
    if !form.versions.is_empty() {
        offered.versions = form
            .versions
            .iter()
            .enumerate()
            .map(|(index, version)| {
                tls::version(version).ok_or_else(|| {
                    let what = format!("{version:?} is not spoken; write \"1.2\" or \"1.3\"");
                    Problem::at(format!("target.tls.versions[{index}]"), what)
                })
            })
            .collect::<Result<_, _>>()?;
    }
    offered.config()
}

/// What the load says, whichever kind it is.
#[derive(Clone, Copy, Debug)]
struct Base {
    /// Operations a second, or connections.
    level: f64,
    /// How much more the command line wants than the scenario.
    factor: f64,
    is_open: bool,
    streams: usize,
    keep_alive: bool,
    first_connections: usize,
    max_connections: usize,
    /// The field with the level, for messages.
    field: &'static str,
}

fn base(form: &LoadForm, protocol: ProtocolForm, overrides: &Overrides) -> Result<Base, Problem> {
    let base = match form {
        LoadForm { closed: Some(closed), open: None, idle: None } => Base {
            level: f64::from(closed.connections),
            factor: 1.0,
            is_open: false,
            streams: closed.streams.unwrap_or(1) as usize,
            keep_alive: closed.keep_alive.unwrap_or(true),
            first_connections: 0,
            max_connections: 0,
            field: "load.closed.connections",
        },
        LoadForm { closed: None, open: Some(open), idle: None } => {
            let most = open.max_connections.unwrap_or(MAX_CONNECTIONS) as usize;
            Base {
                level: open.rate,
                factor: 1.0,
                is_open: true,
                streams: open.streams.unwrap_or(1) as usize,
                keep_alive: open.keep_alive.unwrap_or(true),
                first_connections: open.connections.unwrap_or(1) as usize,
                max_connections: overrides.connections.unwrap_or(most),
                field: "load.open.rate",
            }
        }
        LoadForm { closed: None, open: None, idle: Some(idle) } => {
            if idle.opened_per_second.is_some_and(|rate| rate.is_nan() || rate <= 0.0) {
                let what = "write a number above 0";
                return Err(Problem::at("load.idle.openedPerSecond", what));
            }
            Base {
                level: f64::from(idle.connections),
                factor: 1.0,
                is_open: false,
                streams: 1,
                keep_alive: true,
                first_connections: 0,
                max_connections: 0,
                field: "load.idle.connections",
            }
        }
        _ => {
            let what = "write one of closed: {connections: 64}, open: {rate: 1000} and \
                        idle: {connections: 10000}";
            return Err(Problem::at("load", what));
        }
    };
    let wanted = match base.is_open {
        true => overrides.rate,
        false if overrides.rate.is_some() => {
            let what = "has no rate to change by --rate; write open: {rate: 1000}";
            return Err(Problem::at("load", what));
        }
        false => overrides.connections.map(|connections| connections as f64),
    };
    if base.level <= 0.0 {
        return Err(Problem::at(base.field, format!("{}: write a number above 0", base.level)));
    }
    check_level(base.level, base.is_open, base.field)?;
    if base.streams == 0 || base.streams > 1000 {
        let at = base.field.rsplit_once('.').map_or("load", |(load, _)| load);
        let what = format!("{}: write a number from 1 to 1000", base.streams);
        return Err(Problem::at(format!("{at}.streams"), what));
    }
    if base.is_open
        && (base.max_connections == 0 || base.max_connections > MOST_CONNECTIONS as usize)
    {
        let what = format!("{}: write a number from 1 to {MOST_CONNECTIONS}", base.max_connections);
        return Err(Problem::at("load.open.maxConnections", what));
    }
    if base.streams > 1 && matches!(protocol, ProtocolForm::Http1 | ProtocolForm::Tcp) {
        let at = base.field.rsplit_once('.').map_or("load", |(load, _)| load);
        let what = "has one operation at a time on a connection in this protocol; write 1, or \
                    protocol: http2";
        return Err(Problem::at(format!("{at}.streams"), what));
    }
    let factor = wanted.map_or(1.0, |wanted| wanted / base.level);
    let level = wanted.unwrap_or(base.level);
    check_level(level, base.is_open, base.field)?;
    Ok(Base { level, factor, ..base })
}

fn check_level(level: f64, is_open: bool, at: &str) -> Result<(), Problem> {
    let most = if is_open { MOST_A_SECOND } else { f64::from(MOST_CONNECTIONS) };
    if (0.0..=most).contains(&level) {
        return Ok(());
    }
    Err(Problem::at(at, format!("{level}: write a number from 0 to {most}")))
}

fn profile(form: &Form, base: &Base, overrides: &Overrides) -> Result<Profile, Problem> {
    let mut phases = match (&form.duration, form.phases.is_empty()) {
        (Some(_), false) => {
            return Err(Problem::at("duration", "the phases have durations; remove it"));
        }
        (None, true) if overrides.seconds.is_none() => {
            return Err(Problem::at("duration", "is missing: write duration: 10s, or phases"));
        }
        (duration, true) => {
            let length = duration.map_or(Duration::from_secs(1), |span| span.0);
            let (from, to) = (base.level, base.level);
            vec![Phase { name: "all".to_owned(), length, from, to, counted: true }]
        }
        (None, false) => form
            .phases
            .iter()
            .enumerate()
            .map(|(index, form)| phase(form, index, base))
            .collect::<Result<Vec<_>, _>>()?,
    };
    if let Some(seconds) = overrides.seconds {
        let sum: f64 = phases.iter().map(|phase| phase.length.as_secs_f64()).sum();
        for phase in &mut phases {
            phase.length = phase.length.mul_f64(seconds / sum);
        }
    }
    let sum: f64 = phases.iter().map(|phase| phase.length.as_secs_f64()).sum();
    if sum > MOST_SECONDS {
        return Err(Problem::at("phases", format!("{sum} s are more than a week; shorten them")));
    }
    if !phases.iter().any(|phase| phase.counted && phase.from.max(phase.to) > 0.0) {
        return Err(Problem::at("phases", "none counts and has load; let one"));
    }
    Ok(Profile::new(phases))
}

/// Refuses names that no table could show.
fn check_name(name: &str, at: &str) -> Result<(), Problem> {
    let length = name.chars().count();
    if length <= LONGEST_NAME {
        return Ok(());
    }
    let what = format!("has {length} characters; write {LONGEST_NAME} at most");
    Err(Problem::at(at, what))
}

/// The faults of a load that ends after so many nanoseconds, in proportion to it where the command
/// line makes it longer or shorter than the scenario says.
fn faults_within(
    faults: Vec<FaultForm>,
    form: &Form,
    end: u64,
    overrides: &Overrides,
) -> Result<Vec<FaultForm>, Problem> {
    let end = Duration::from_nanos(end);
    let phases: Duration = form.phases.iter().map(|phase| phase.duration.0).sum();
    let own = form.duration.map_or(phases, |span| span.0);
    let factor = match overrides.seconds {
        Some(seconds) if !own.is_zero() => seconds / own.as_secs_f64(),
        _ => 1.0,
    };
    let check = |(index, fault): (usize, FaultForm)| {
        let fault = fault.scaled(factor);
        if fault.at.0 < end {
            return Ok(fault);
        }
        let what = format!(
            "{:?} is behind the end ({end:?}), so that it would never happen; write an earlier \
             time, or a longer load",
            fault.at.0
        );
        Err(Problem::at(format!("faults[{index}].at"), what))
    };
    faults.into_iter().enumerate().map(check).collect()
}

fn phase(form: &PhaseForm, index: usize, base: &Base) -> Result<Phase, Problem> {
    let at = |field: &str| format!("phases[{index}].{field}");
    let (own, other, name, not) = match base.is_open {
        true => (form.rate, form.connections, "rate", "connections"),
        false => (form.connections, form.rate, "connections", "rate"),
    };
    if other.is_some() {
        let what = format!("is not what sets the pace of this load; write {name}");
        return Err(Problem::at(at(not), what));
    }
    let level = own.map_or(Level { from: base.level, to: base.level }, |level| Level {
        from: level.from * base.factor,
        to: level.to * base.factor,
    });
    for end in [level.from, level.to] {
        check_level(end, base.is_open, &at(name))?;
    }
    Ok(Phase {
        name: form.name.clone().unwrap_or_else(|| format!("{}", index + 1)),
        length: form.duration.0,
        from: level.from,
        to: level.to,
        counted: form.counted.unwrap_or(true),
    })
}

fn entries(
    forms: &[EntryForm],
    protocol: ProtocolForm,
    target: &Target,
    folder: &Path,
) -> anyhow::Result<(Vec<Entry>, Vec<u32>)> {
    let one = [EntryForm::default()];
    let forms = if forms.is_empty() { &one } else { forms };
    if forms.len() > MOST_ENTRIES {
        let what = format!("{} entries are too many; {MOST_ENTRIES} are allowed", forms.len());
        return Err(Problem::at("mix", what).into());
    }
    let defaults =
        Defaults { host: &target.host, path: &target.path, is_tls: target.is_tls, folder };
    let entries = forms.iter().enumerate().map(|(index, form)| {
        let at = format!("mix[{index}]");
        let request = || body::http_request(form, &at, &defaults);
        match protocol {
            ProtocolForm::Http1 => body::http1(form, &at, request()?),
            ProtocolForm::Http2 => body::http2(form, &at, request()?, target.is_tls),
            ProtocolForm::WebSocket => body::message(form, &at, &defaults, false),
            ProtocolForm::Tcp | ProtocolForm::Udp => body::message(form, &at, &defaults, true),
        }
    });
    let entries = entries.collect::<anyhow::Result<Vec<Entry>>>()?;
    let mut names = BTreeSet::new();
    for (index, entry) in entries.iter().enumerate() {
        // A name that was made of a long path is the path's matter.
        if forms.get(index).is_some_and(|form| form.name.is_some()) {
            check_name(&entry.name, &format!("mix[{index}].name"))?;
        }
        if !names.insert(&entry.name) {
            let at = format!("mix[{index}].name");
            let what = format!("{:?} is the name of another entry too; give it one", entry.name);
            return Err(Problem::at(at, what).into());
        }
    }
    let weights: Vec<u32> = forms.iter().map(|form| form.weight.unwrap_or(1)).collect();
    let order = mix::round(&weights).ok_or_else(|| {
        let what = format!(
            "the weights sum up to 0, or have so little in common that a round has more than {} \
             operations; write smaller ones",
            mix::LONGEST_ROUND
        );
        Problem::at("mix", what)
    })?;
    Ok((entries, order))
}

fn check_groups(plan: &Plan, load: &LoadForm) -> Result<(), Problem> {
    if !plan.is_grouped() || load.closed.is_none() || plan.reuse != Reuse::KeepAlive {
        return Ok(());
    }
    let names: BTreeSet<String> =
        plan.entries.iter().map(|entry| format!("{:?}", entry.server_name)).collect();
    let connections = plan.most_connections();
    if connections >= names.len() {
        return Ok(());
    }
    let what = format!(
        "{connections} connections are fewer than the {} hosts of the mix, and with TLS each is for \
         one of them; write {} or more",
        names.len(),
        names.len()
    );
    Err(Problem::at("load.closed.connections", what))
}

fn sources(texts: &[String], target: SocketAddr) -> Result<Vec<IpAddr>, Problem> {
    let mut all = Vec::new();
    for (index, text) in texts.iter().enumerate() {
        let at = format!("target.sources[{index}]");
        let wrong = |what: &str| Problem::at(at.clone(), format!("{text:?} {what}"));
        let address = |text: &str| {
            text.trim()
                .parse::<IpAddr>()
                .map_err(|_| wrong("is no address: write 127.0.0.2, or 127.0.0.2-127.0.0.9"))
        };
        match text.split_once('-') {
            None => all.push(address(text)?),
            Some((first, last)) => {
                let (IpAddr::V4(first), IpAddr::V4(last)) = (address(first)?, address(last)?)
                else {
                    return Err(wrong("is no range of IPv4 addresses; write IPv6 ones one by one"));
                };
                let range = u32::from(first)..=u32::from(last);
                let size = u32::from(last).saturating_sub(u32::from(first)) as usize;
                if range.is_empty() || size >= MOST_SOURCES {
                    return Err(wrong("is empty or too large a range"));
                }
                all.extend(range.map(|address| IpAddr::V4(address.into())));
            }
        }
        if all.iter().any(|source| source.is_ipv4() != target.is_ipv4()) {
            return Err(wrong(&format!("is of another family than the target, {target}")));
        }
    }
    if all.len() > MOST_SOURCES {
        return Err(Problem::at("target.sources", format!("{} are too many", all.len())));
    }
    Ok(all)
}

fn retries(form: RetriesForm) -> Result<Retries, Problem> {
    let default = ["connect", "tls", "closed", "timeout", "status"];
    let names = form.on.unwrap_or_else(|| default.map(str::to_owned).to_vec());
    let kinds = names.iter().enumerate().map(|(index, name)| {
        Failure::named(name).ok_or_else(|| {
            let all: Vec<_> = Failure::ALL.iter().map(|kind| kind.name()).collect();
            let what = format!("{name:?} is no kind of failure; there are {}", all.join(", "));
            Problem::at(format!("retries.on[{index}]"), what)
        })
    });
    Ok(Retries { times: form.times, on: kinds.collect::<Result<_, _>>()? })
}

fn slice(form: Option<Span>, seconds: f64) -> Duration {
    let own = if seconds >= SLICES { 1.0 } else { (seconds / SLICES).max(SHORTEST_SLICE) };
    let own = form.map_or(own, |span| span.0.as_secs_f64());
    Duration::from_secs_f64(own.max(seconds / MOST_SLICES))
}

fn processes(
    forms: Vec<ProcessForm>,
    parties: &BTreeSet<String>,
    folder: &Path,
) -> Result<Vec<Watch>, Problem> {
    let watch = |(index, form): (usize, ProcessForm)| {
        let at = format!("processes[{index}]");
        if form.name.is_empty() || form.name == "generator" {
            let what = format!("{:?}: write a name, other than generator", form.name);
            return Err(Problem::at(format!("{at}.name"), what));
        }
        let which = match (form.pid, form.pidfile, form.listens, form.party) {
            (Some(pid), None, None, None) => Which::Pid(pid),
            (None, Some(file), None, None) => Which::Pidfile(folder.join(file)),
            (None, None, Some(address), None) => Which::Listens(
                address.resolve().map_err(|what| Problem::at(format!("{at}.listens"), what))?,
            ),
            (None, None, None, Some(party)) if parties.contains(&party) => Which::Party(party),
            (None, None, None, Some(party)) => {
                let known: Vec<_> = parties.iter().map(String::as_str).collect();
                let what = format!("{party:?} is no party; there are: {}", known.join(", "));
                return Err(Problem::at(format!("{at}.party"), what));
            }
            _ => return Err(Problem::at(at, "write one of pid, pidfile, listens and party")),
        };
        Ok(Watch { name: form.name, which })
    };
    forms.into_iter().enumerate().map(watch).collect()
}

fn limits(form: &LimitsForm) -> Limits {
    let span = |span: Option<Span>| span.map(|span| span.0);
    Limits {
        latency: [
            (0.5, "p50", span(form.p50)),
            (0.9, "p90", span(form.p90)),
            (0.99, "p99", span(form.p99)),
            (0.999, "p99.9", span(form.p999)),
            (1.0, "max", span(form.max)),
        ],
        failures: form.failures.map(|share| share.0),
        rate: form.rate,
    }
}
