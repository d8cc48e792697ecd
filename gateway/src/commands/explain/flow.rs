//! The half of `gateway explain` that answers for connections.

use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use ::plan::l4::explain::{Explanation, Flow, Outcome, PolicyVerdict, explain};
use ::plan::policy::{self, Packet, Stage, State, Translated, Verdict};
use anyhow::{Context, Result, bail};
use model::net::Visibility;
use model::{Diagnostic, L4Settings, ObjectRef};

use super::super::{L4, Loaded, Output, write_json};
use super::{ExplainArgs, slices_of};

/// Writes what happens to a connection, and on standard error what is wrong with the Service that
/// it meets.
pub(super) fn run(loaded: &Loaded, args: &ExplainArgs, out: &mut impl Write) -> Result<ExitCode> {
    let (Some(l4), Some(settings)) = (&loaded.l4, &loaded.settings.l4) else {
        bail!("the L4 plane is not enabled; write `l4: {{enabled: true}}` in the configuration");
    };
    if args.alb.is_some() || args.from.is_some() {
        bail!("--alb and --from are for URLs; a flow has the client's address in it");
    }
    let flow: Flow = args.url.parse().with_context(|| args.url.clone())?;
    let unjudged = explain(&l4.plan, settings, &l4.alb_ports, flow, None);
    let way = Way { l4, settings, interface: args.interface.as_deref() };
    let judged = explain(&l4.plan, settings, &l4.alb_ports, flow, Some(&|_| way.judge(&unjudged)));
    write_findings(loaded, &judged, &mut io::stderr().lock())?;
    match args.output {
        Output::Json => write_json(out, &judged)?,
        Output::Table => write!(out, "{judged}")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// What is known of a connection's way through the machine.
struct Way<'a> {
    l4: &'a L4,
    settings: &'a L4Settings,
    /// Where it comes in, if that was said.
    interface: Option<&'a str>,
}

impl Way<'_> {
    /// What the policies say of the connection's first packet, at all stages that it comes to.
    fn judge(&self, explained: &Explanation) -> PolicyVerdict {
        let Flow { protocol, source, destination } = explained.flow;
        let from = self.comes_in(destination.ip());
        let (path, translated) = match &explained.outcome {
            Outcome::Endpoint { address, .. } => (self.forward(from, address.ip()), Some(*address)),
            Outcome::OneOf { endpoints, .. } => {
                let first = endpoints.first().map(|candidate| candidate.address);
                let to = first.unwrap_or(destination).ip();
                (self.forward(from, to), first)
            }
            Outcome::NotOurs if !self.is_own(destination.ip()) => {
                (self.forward(from, destination.ip()), None)
            }
            _ => (policy::Path::Input { from }, None),
        };
        // What never gets past translation is asked about by the policies before it alone.
        let ends_there = matches!(
            explained.outcome,
            Outcome::OutsideRanges(_) | Outcome::OnlyRemote | Outcome::NoEndpoint
        );
        let packet = Packet {
            path,
            protocol: protocol.number(),
            source: source.ip(),
            destination: destination.ip(),
            source_port: Some(source.port()),
            destination_port: Some(destination.port()),
            icmp: None,
            state: State::New,
            translated: translated.map(translation),
        };
        let mut decision =
            policy::evaluate(&self.l4.policies, self.settings, &self.l4.host, &packet);
        if ends_there {
            decision.stages.retain(|stage| stage.stage == Stage::Prerouting);
            decision.allowed = decision.stages.iter().all(|stage| stage.verdict == Verdict::Pass);
        }
        let reason = decision.to_string().trim_end().replace('\n', "\n            ");
        PolicyVerdict { allowed: decision.allowed, reason }
    }

    fn forward(&self, from: String, to: IpAddr) -> policy::Path {
        let to = self.holding(to).unwrap_or_else(|| self.first(Visibility::Private));
        policy::Path::Forward { from, to }
    }

    /// Where a connection to this address comes in: on the side that a VIP faces, on the interface
    /// that has the address, or else on the first public one.
    fn comes_in(&self, destination: IpAddr) -> String {
        if let Some(interface) = self.interface {
            return interface.to_owned();
        }
        let vip = self.l4.plan.vips.iter().find(|vip| vip.address == destination);
        match vip {
            Some(vip) => self.first(vip.visibility),
            None => self.holding(destination).unwrap_or_else(|| self.first(Visibility::Public)),
        }
    }

    fn holding(&self, address: IpAddr) -> Option<String> {
        let holds = |own: &&model::HostAddress| own.network.contains(&address);
        let best = self.l4.host.iter().filter(holds).max_by_key(|own| own.network.prefix_len());
        best.map(|own| own.interface.clone())
    }

    fn is_own(&self, address: IpAddr) -> bool {
        self.l4.host.iter().any(|own| own.network.addr() == address)
    }

    /// The first interface of a side, or of the other one.
    fn first(&self, side: Visibility) -> String {
        let sides = [side, Visibility::Public, Visibility::Private];
        let all = sides.iter().flat_map(|side| self.settings.interfaces(*side));
        all.take(1).cloned().collect()
    }
}

fn translation(endpoint: SocketAddr) -> Translated {
    Translated { address: endpoint.ip(), port: Some(endpoint.port()) }
}

fn write_findings(loaded: &Loaded, explanation: &Explanation, err: &mut impl Write) -> Result<()> {
    let mut met: Vec<ObjectRef> = Vec::new();
    if let Some((service, _)) = &explanation.service {
        met.push(ObjectRef::namespaced("Service", service));
        met.extend(slices_of(loaded, service));
    }
    let (about, others): (Vec<&Diagnostic>, Vec<_>) =
        loaded.diagnostics.iter().partition(|finding| met.contains(&finding.object));
    for finding in about {
        writeln!(err, "{finding}")?;
    }
    if !others.is_empty() {
        let others = others.len();
        writeln!(err, "findings about other objects: {others}; `gateway check` prints them")?;
    }
    Ok(())
}
