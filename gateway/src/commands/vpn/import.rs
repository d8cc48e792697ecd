//! `gateway vpn import`: the strongSwan chart's values, as a VpnConnection and its Secret.
//!
//! What the chart writes the other way round is turned: its `local.subnet` holds what the other end
//! sees (after `localSubnetNAT`), and its `remoteSubnetNAT` begins with the real remote. What has no
//! counterpart, or is weak, is said in comments on top and on standard error.

use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::Args;
use ingest::yaml;
use ipnet::IpNet;
use model::suite::{Purpose, parse_list};
use serde_json::Value;

mod keys;
#[cfg(test)]
mod tests;
mod verify;

/// The chart's own defaults, where the file says nothing.
const DEFAULT_SECRET: &str = "strongswan-preshared-secret";
const RANDOM: &str = "`openssl rand -base64 48 | tr -d '\\n'`";

/// The arguments of `gateway vpn import`.
#[derive(Args, Clone, Debug)]
pub struct ImportArgs {
    /// The chart's values
    #[arg(long, value_name = "FILE")]
    values: PathBuf,
    /// The connection's name; the release's name in the chart
    #[arg(long, default_value = "vpn")]
    name: String,
    /// Its namespace
    #[arg(long, default_value = "default")]
    namespace: String,
}

/// Writes the manifests. Fails if the values ask for what can't be, such as IKEv1; the manifests are
/// written then, too, as a beginning.
///
/// # Errors
/// If the file can't be read.
pub fn run(args: &ImportArgs, out: &mut impl Write) -> Result<ExitCode> {
    let file = args.values.display();
    let text = std::fs::read_to_string(&args.values).with_context(|| format!("reading {file}"))?;
    let documents = yaml::documents(&text).with_context(|| format!("reading {file}"))?;
    let [document] = documents.as_slice() else {
        bail!("{file}: holds {} YAML documents, not one of values", documents.len());
    };
    let values: Value = yaml::typed(document).with_context(|| format!("reading {file}"))?.value;
    let mut import = Import { values: &values, notes: Vec::new(), faults: 0 };
    for (path, line) in document.duplicate_keys() {
        import.fault(format!("{path}: stands twice, again in line {line}; write it once"));
    }
    let manifests = import.manifests(&args.name, &args.namespace);
    if import.faults == 0 {
        import.verify(&manifests);
    }
    for note in &import.notes {
        writeln!(out, "# {}", note.replace('\n', " "))?;
        writeln!(io::stderr(), "{note}")?;
    }
    write!(out, "{manifests}")?;
    Ok(if import.faults > 0 { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

struct Import<'a> {
    values: &'a Value,
    notes: Vec<String>,
    faults: usize,
}

/// Keys that say how the chart runs, which is another thing here.
const WITHOUT_MEANING: [(&str, &str); 10] = [
    (
        "enablePodSNAT",
        "the edge sends pods' own addresses, or those of localSubnetNAT and \
      enableSingleSourceIP",
    ),
    ("enableServiceSourceIP", "the edge is reached directly, and sees every source"),
    ("nodeSelector", "the connection runs on the edge"),
    ("tolerations", "the connection runs on the edge"),
    ("privilegedVpnPod", "there is no pod"),
    ("strongswanLogging", "see --log and `gateway vpn diagnose`"),
    ("helmTestsToRun", "see `gateway vpn diagnose`"),
    ("overRideIpsecConf", "carry its values over by hand"),
    ("overRideIpsecSecrets", "carry its values over by hand"),
    ("validate", "see `gateway check`"),
];

impl Import<'_> {
    fn manifests(&mut self, name: &str, namespace: &str) -> String {
        self.keys();
        self.without_meaning();
        let mut text = format!(
            "apiVersion: tidegate.io/v1alpha1\nkind: VpnConnection\nmetadata:\n  name: {}\n  \
             namespace: {}\nspec:\n",
            quoted(name),
            quoted(namespace)
        );
        self.exchange(&mut text);
        self.proposals(&mut text, "ike", Purpose::Ike);
        self.proposals(&mut text, "esp", Purpose::Esp);
        let secret_name = format!("{name}-psk");
        let _ =
            writeln!(text, "  auth:\n    psk: {{secretName: {}, key: psk}}", quoted(&secret_name));
        let single = self.flag("enableSingleSourceIP");
        self.local(&mut text, single);
        self.remote(&mut text);
        self.timers(&mut text);
        self.zone(&mut text);
        let secret = self.secret();
        let _ = write!(
            text,
            "---\napiVersion: v1\nkind: Secret\nmetadata:\n  name: {}\n  namespace: {}\ntype: \
             Opaque\nstringData:\n  psk: {}\n",
            quoted(&secret_name),
            quoted(namespace),
            quoted(&secret)
        );
        text
    }

    fn exchange(&mut self, text: &mut String) {
        match self.text("ipsec.keyexchange").as_deref() {
            None | Some("ikev2") => {}
            Some(other) => self.fault(format!(
                "ipsec.keyexchange: {other:?}: IKEv1 is not spoken (RFC 9395); have the other end \
                 changed to IKEv2"
            )),
        }
        let auto = self.text("ipsec.auto").unwrap_or_else(|| "add".to_owned());
        let auto = match auto.as_str() {
            "add" | "start" | "route" => auto,
            other => {
                let note = format!("ipsec.auto: {other:?} has no counterpart; add is written");
                self.note(note);
                "add".to_owned()
            }
        };
        if auto != "add" && self.waits() {
            self.note(format!(
                "ipsec.auto: {auto}: with remote.gateway: %any there is no address to begin with; \
                 auto: add is written, and the other end has to begin"
            ));
            text.push_str("  # with remote.gateway: \"%any\" the other end begins\n");
            text.push_str("  auto: add\n");
            return;
        }
        let _ = writeln!(text, "  auto: {auto}");
    }

    fn proposals(&mut self, text: &mut String, key: &str, purpose: Purpose) {
        let path = format!("ipsec.{key}");
        let Some(written) = self.text(&path) else {
            self.note(format!(
                "{path}: is empty: the chart proposed SHA-1 and 3DES then; this gateway proposes \
                 its own defaults, so see that the other end takes one of them"
            ));
            return;
        };
        // `!` at the end means to the chart that nothing else is accepted, as here always.
        let written = written.trim_end_matches('!');
        let mut all = Vec::new();
        let mut legacy = false;
        for one in written.split(',').map(str::trim).filter(|one| !one.is_empty()) {
            match (parse_list(one, purpose, false), parse_list(one, purpose, true)) {
                (Ok(_), _) => {}
                (Err(error), Ok(_)) => {
                    legacy = true;
                    self.note(format!(
                        "{path}: {one:?}: {error}; allowLegacy: true is written for it, better have \
                         the other end changed to {}",
                        if key == "ike" { "aes256-sha256-modp2048" } else { "aes256gcm16" }
                    ));
                }
                (_, Err(error)) => {
                    self.fault(format!("{path}: {one:?}: {error}; it is left out"));
                    continue;
                }
            }
            all.push(one.to_owned());
        }
        if !all.is_empty() {
            let _ = writeln!(text, "  {key}: [{}]", all.join(", "));
        }
        if legacy && !text.contains("  allowLegacy") {
            text.push_str("  allowLegacy: true\n");
        }
    }

    fn local(&mut self, text: &mut String, single: bool) {
        text.push_str("  local:\n");
        let address = self.text("loadBalancerIP");
        let connect = self.text("connectUsingLoadBalancerIP").unwrap_or_else(|| "auto".to_owned());
        match &address {
            Some(address) => {
                let _ = writeln!(text, "    address: {}", quoted(address));
                self.note(format!(
                    "loadBalancerIP: {address} is written as local.address: it must be one of the \
                     edge's own; write local.addressPool in its place to take one out of a pool"
                ));
            }
            None if connect == "true" => self.note(
                "connectUsingLoadBalancerIP: without loadBalancerIP there is no address to write; \
                 write local.address or local.addressPool"
                    .to_owned(),
            ),
            None => {}
        }
        match self.text("local.id").as_deref() {
            None => {}
            Some("%loadBalancerIP" | "%nodePublicIP") => match &address {
                Some(address) => {
                    let _ = writeln!(text, "    id: {}", quoted(address));
                }
                None => self.note(
                    "local.id: without it the edge's own address is its name, as the chart's \
                     variable has it"
                        .to_owned(),
                ),
            },
            Some(id) => {
                let _ = writeln!(text, "    id: {}", quoted(id));
            }
        }
        let outside = self.networks("local.subnet");
        let by_zone = self.text("local.zoneSubnet");
        if self.text("local.subnet").is_some_and(|text| text.contains("%zoneSubnet")) {
            self.fault(format!(
                "local.subnet: %zoneSubnet: write a VpnConnection for each zone, with zone and its \
                 own addresses out of local.zoneSubnet ({})",
                by_zone.unwrap_or_default().replace('\n', " ")
            ));
        } else if let Some(by_zone) = by_zone {
            self.note(format!(
                "local.zoneSubnet: {} is left out: it has no effect while local.subnet isn't \
                 %zoneSubnet; write a VpnConnection for each zone if they are to differ",
                by_zone.replace('\n', " ")
            ));
        }
        let beyond = self.networks("localNonClusterSubnet");
        let pairs = self.pairs("localSubnetNAT");
        if single {
            self.single_source(text, &outside, (&pairs, &beyond));
            return;
        }
        // The chart lists what the other end sees.
        let mut inside: Vec<IpNet> = Vec::new();
        for network in outside.iter().filter(|network| !beyond.contains(network)) {
            match pairs.iter().find(|(_, to)| to == network) {
                Some((from, _)) => inside.push(*from),
                None => inside.push(*network),
            }
        }
        for (from, to) in &pairs {
            if !inside.iter().any(|network| network.contains(from)) {
                self.note(format!(
                    "localSubnetNAT: {to} is not in local.subnet; {from} is added to the networks \
                     that the other end may reach"
                ));
                inside.push(*from);
            }
        }
        if !inside.is_empty() {
            let _ = writeln!(text, "    subnets: [{}]", joined(&inside));
        }
        if !pairs.is_empty() {
            let _ = writeln!(text, "  localSubnetNAT: [{}]", paired(&pairs));
        }
        if !beyond.is_empty() {
            let _ = writeln!(text, "  localNonClusterSubnets: [{}]", joined(&beyond));
        }
    }

    /// One address for all: what can't stand beside it is left as comments.
    fn single_source(
        &mut self,
        text: &mut String,
        outside: &[IpNet],
        (pairs, beyond): (&[(IpNet, IpNet)], &[IpNet]),
    ) {
        match outside {
            [only] if only.prefix_len() == only.max_prefix_len() => {
                text.push_str("    # subnets: the pods' networks; by default the cluster's\n");
                let _ = writeln!(
                    text,
                    "  enableSingleSourceIP: true\n  singleSourceIP: {}",
                    match only {
                        IpNet::V4(only) => only.addr().to_string(),
                        IpNet::V6(only) => quoted(&only.addr().to_string()),
                    }
                );
            }
            _ => {
                self.fault(
                    "enableSingleSourceIP: local.subnet is no single /32; write singleSourceIP, \
                     the address that the other end sees, and see that local.subnets are the pods' \
                     own networks"
                        .to_owned(),
                );
                if !outside.is_empty() {
                    let _ = writeln!(text, "    subnets: [{}]", joined(outside));
                }
                text.push_str(
                    "  enableSingleSourceIP: true\n  # singleSourceIP: the one address that the \
                     other end sees\n",
                );
            }
        }
        if !pairs.is_empty() {
            let _ = writeln!(
                text,
                "  # Not beside enableSingleSourceIP, which hides all networks:\n  # \
                 localSubnetNAT: [{}]",
                paired(pairs)
            );
            self.fault(
                "localSubnetNAT: can't stand beside enableSingleSourceIP, which hides all \
                 networks; it is left as a comment; remove one of the two"
                    .to_owned(),
            );
        }
        if !beyond.is_empty() {
            let _ = writeln!(
                text,
                "  # Not beside enableSingleSourceIP, with which nothing comes in:\n  # \
                 localNonClusterSubnets: [{}]",
                joined(beyond)
            );
            self.fault(
                "localNonClusterSubnet: can't stand beside enableSingleSourceIP, with which nothing \
                 comes in; it is left as a comment; remove one of the two"
                    .to_owned(),
            );
        }
    }

    fn remote(&mut self, text: &mut String) {
        let gateway = self.text("remote.gateway").unwrap_or_else(|| "%any".to_owned());
        let _ = writeln!(text, "  remote:\n    gateway: {}", quoted(&gateway));
        match self.text("remote.id").as_deref() {
            Some("%any") | None if gateway == "%any" => self.fault(
                "remote.id: is missing, and with remote.gateway: %any it has to say who the other \
                 end is"
                    .to_owned(),
            ),
            Some("%any") | None => {}
            Some(id) => {
                let _ = writeln!(text, "    id: {}", quoted(id));
            }
        }
        let remote = self.networks("remote.subnet");
        let _ = writeln!(text, "    subnets: [{}]", joined(&remote));
        // The chart has the original first.
        let pairs = self.pairs("remoteSubnetNAT");
        if !pairs.is_empty() {
            let turned: Vec<_> = pairs.iter().map(|(real, seen)| (*seen, *real)).collect();
            let _ = writeln!(text, "  remoteSubnetNAT: [{}]", paired(&turned));
        }
        if let Some(address) = self.text("remote.privateIPtoPing") {
            self.note(format!(
                "remote.privateIPtoPing: {address}: dead peer detection and `gateway vpn diagnose` \
                 take its place; ping it from a pod to see the whole way"
            ));
        }
    }

    fn timers(&mut self, text: &mut String) {
        let options = self.options();
        let option = |name: &str| {
            options.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone())
        };
        let action = match self.text("ipsec.dpdaction").as_deref() {
            Some("none") => None,
            Some("clear" | "hold") => Some("clear"),
            _ => Some("restart"),
        };
        let any = self.waits();
        let action = action.map(|action| if any { "clear" } else { action });
        let _ = match action {
            None => writeln!(text, "  dpd: {{delay: 0s}}"),
            Some(action) => {
                let delay = option("dpddelay").map_or_else(|| "30s".to_owned(), timed);
                let timeout = option("dpdtimeout").map_or_else(|| "150s".to_owned(), timed);
                writeln!(text, "  dpd: {{delay: {delay}, timeout: {timeout}, action: {action}}}")
            }
        };
        let mut life = |path: &str, default: &str| {
            let written = self.text(path).map_or_else(|| default.to_owned(), timed);
            if written.contains('.') || !written.ends_with(['s', 'm', 'h', 'd']) {
                self.note(format!("{path}: {written:?} is written as {default}"));
                default.to_owned()
            } else {
                written
            }
        };
        let (ike, child) = (life("ipsec.ikelifetime", "3h"), life("ipsec.lifetime", "1h"));
        let _ = writeln!(text, "  lifetimes: {{ike: {ike}, child: {child}}}");
        let start = self.text("ipsec.auto").as_deref() == Some("start");
        let close = match self.text("ipsec.closeaction").as_deref() {
            Some("restart") => "restart",
            Some("none") => "none",
            _ if start => "restart",
            _ => "none",
        };
        let _ = writeln!(
            text,
            "  closeAction: {}",
            if any && close == "restart" { "clear" } else { close }
        );
        for (name, value) in options {
            let known = match name.as_str() {
                "dpddelay" | "dpdtimeout" => true,
                "forceencaps" if value == "yes" => {
                    text.push_str("  encapsulation: udp\n");
                    true
                }
                "mobike" if value == "no" => {
                    text.push_str("  mobike: false\n");
                    true
                }
                "fragmentation" if value == "no" => {
                    text.push_str("  fragmentation: false\n");
                    true
                }
                "reauth" if value == "yes" => {
                    text.push_str("  reauthentication: true\n");
                    true
                }
                _ => false,
            };
            if !known {
                self.note(format!("ipsec.additionalOptions: {name}={value} has no counterpart"));
            }
        }
        for (path, instead) in [
            ("ipsec.keyingtries", "a connection is tried for ever here"),
            (
                "ipsec.margintime",
                "SAs are renewed before they end, by a margin with jitter that isn't configured",
            ),
        ] {
            if let Some(value) = self.text(path) {
                self.note(format!("{path}: {value}: has no counterpart: {instead}"));
            }
        }
    }

    /// Whether only the other end can begin.
    fn waits(&self) -> bool {
        self.text("remote.gateway").is_none_or(|gateway| gateway == "%any")
    }

    fn zone(&mut self, text: &mut String) {
        let zone = self.text("zoneSelector");
        match (zone, self.flag("zoneSpecificRoutes")) {
            (Some(zone), true) => {
                let _ = writeln!(text, "  zone: {}", quoted(&zone));
            }
            (Some(zone), false) => self.note(format!(
                "zoneSelector: {zone}: said where the pod runs; write zone: {zone} if only that \
                 zone's nodes are to route through the connection"
            )),
            (None, _) => {}
        }
        if let Some(zones) = self.text("zoneLoadBalancer") {
            self.note(format!(
                "zoneLoadBalancer: {}: the edges share the connection; write local.addressPool for \
                 an address that moves with it, or one VpnConnection for each zone",
                zones.replace('\n', " ")
            ));
        }
    }

    fn secret(&mut self) -> String {
        let secret = self.text("preshared.secret").unwrap_or_else(|| DEFAULT_SECRET.to_owned());
        let known = [DEFAULT_SECRET, "Not-valid-preshared-key"];
        if known.contains(&secret.as_str()) {
            self.fault(format!(
                "preshared.secret: is the chart's default, which everybody knows, and is refused; \
                 make one with {RANDOM} and write it on both ends"
            ));
        } else if secret.len() < 20 {
            self.note(format!(
                "preshared.secret: is weak (fewer than 20 characters); make one with {RANDOM} and \
                 write it on both ends"
            ));
        }
        secret
    }

    fn without_meaning(&mut self) {
        for (key, instead) in WITHOUT_MEANING {
            let is_default = match self.values.get(key) {
                None | Some(Value::Null | Value::Bool(false)) => true,
                Some(Value::Object(map)) => map.is_empty(),
                Some(Value::Array(list)) => list.is_empty(),
                Some(Value::String(text)) => {
                    ["", "auto", "strict", "simple", "off", "ALL"].contains(&text.as_str())
                        || key == "strongswanLogging"
                }
                Some(_) => false,
            };
            if !is_default {
                self.note(format!("{key}: has no counterpart: {instead}"));
            }
        }
        if self.values["monitoring"]["enable"] == true {
            self.note(
                "monitoring: has no counterpart: the gateway's metrics tell of every connection"
                    .to_owned(),
            );
        }
    }

    /// What stands at a path; nothing if it is empty.
    fn text(&self, path: &str) -> Option<String> {
        let value = path.split('.').try_fold(self.values, |value, key| value.get(key))?;
        match value {
            Value::String(text) if !text.trim().is_empty() => Some(text.trim().to_owned()),
            Value::Number(number) => Some(number.to_string()),
            Value::Bool(flag) => Some(flag.to_string()),
            Value::Array(list) => {
                let all: Vec<&str> = list.iter().filter_map(Value::as_str).collect();
                (!all.is_empty()).then(|| all.join(","))
            }
            _ => None,
        }
    }

    fn flag(&self, path: &str) -> bool {
        self.text(path).as_deref() == Some("true")
    }

    fn networks(&mut self, path: &str) -> Vec<IpNet> {
        let text = self.text(path).unwrap_or_default();
        let mut networks = Vec::new();
        for one in
            text.split([',', '\n', ' ']).filter(|one| !one.is_empty() && *one != "%zoneSubnet")
        {
            match network(one) {
                Some(network) => networks.push(network),
                None => self.fault(format!("{path}: {one:?} is no network; it is left out")),
            }
        }
        networks
    }

    /// Pairs as the chart writes them, those that this gateway can have.
    fn pairs(&mut self, path: &str) -> Vec<(IpNet, IpNet)> {
        let text = self.text(path).unwrap_or_default();
        let mut pairs = Vec::new();
        for one in text.split([',', '\n', ' ']).filter(|one| !one.is_empty()) {
            let pair = one.split_once('=');
            match pair.and_then(|(from, to)| Some((network(from)?, network(to)?))) {
                Some((from, to)) if from.prefix_len() == to.prefix_len() => pairs.push((from, to)),
                Some((from, to)) => self.fault(format!(
                    "{path}: {from}={to} is a pair of different sizes and is left out; write \
                     enableSingleSourceIP in a connection of its own, or a network of the same size"
                )),
                None => self.fault(format!("{path}: {one:?} is no pair of networks; left out")),
            }
        }
        pairs
    }

    fn options(&self) -> Vec<(String, String)> {
        let text = match &self.values["ipsec"]["additionalOptions"] {
            Value::Array(list) => {
                list.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("\n")
            }
            _ => self.text("ipsec.additionalOptions").unwrap_or_default(),
        };
        text.lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with('#'))
            .map(|line| line.split_once('=').unwrap_or((line, "")))
            .map(|(name, value)| (name.trim().to_owned(), value.trim().to_owned()))
            .collect()
    }

    fn note(&mut self, text: String) {
        self.notes.push(format!("warning: {text}"));
    }

    fn fault(&mut self, text: String) {
        self.faults += 1;
        self.notes.push(format!("error: {text}"));
    }
}

/// A time; a number alone means seconds in ipsec.conf.
fn timed(text: String) -> String {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    if is_number { format!("{text}s") } else { text }
}

fn paired(pairs: &[(IpNet, IpNet)]) -> String {
    let all = pairs.iter().map(|(one, other)| format!("\"{one}={other}\""));
    all.collect::<Vec<_>>().join(", ")
}

fn network(text: &str) -> Option<IpNet> {
    let address = || text.trim().parse::<std::net::IpAddr>().ok().map(IpNet::from);
    text.trim().parse::<IpNet>().ok().map(|network| network.trunc()).or_else(address)
}

fn joined(networks: &[IpNet]) -> String {
    let quoted = |network: &IpNet| match network {
        IpNet::V4(network) => network.to_string(),
        IpNet::V6(network) => format!("\"{network}\""),
    };
    networks.iter().map(quoted).collect::<Vec<_>>().join(", ")
}

/// A text as JSON, which is YAML, unless it needs no quotes.
fn quoted(text: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let first = text.bytes().next().is_some_and(|byte| byte.is_ascii_alphabetic());
    let word = ["true", "false", "null", "yes", "no", "on", "off"].contains(&text);
    if first && text.bytes().all(plain) && !word {
        text.to_owned()
    } else {
        Value::from(text).to_string()
    }
}
