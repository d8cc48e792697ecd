//! What happens to a connection, and why.
//!
//! Ports are found as the kernel's table finds them, and hashes are those that the kernel draws
//! ([`super::slots::chosen`]); tests send real packets to see that they agree.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use ipnet::IpNet;
use model::ObjectKey;
use model::net::Protocol;
use model::settings::L4Settings;
use model::snapshot::Algorithm;
use serde::Serialize;

use super::slots::{chosen, slots};
use super::{AlbPorts, Frontend, L4Plan, Path, PortPlan, ServicePlan, StreamTls};

/// The first packet of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Flow {
    /// Its protocol.
    pub protocol: Protocol,
    /// The client.
    pub source: SocketAddr,
    /// Where it goes to, as the client writes it.
    pub destination: SocketAddr,
}

/// Why a text is no flow.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FlowError {
    /// It hasn't the form.
    #[error("not a flow; write one such as `tcp 198.51.100.7:40000 -> 203.0.113.10:443`")]
    Malformed,
    /// No Service speaks the protocol.
    #[error("protocol {0:?} is none that Services speak; write tcp, udp or sctp")]
    Protocol(String),
    /// An end is no address with a port.
    #[error("{0:?} is no address with a port; write 192.0.2.1:80 or [2001:db8::1]:80")]
    Address(String),
    /// The ends can't meet.
    #[error("one end is of IPv4, the other one of IPv6; write both of one family")]
    Families,
}

impl FromStr for Flow {
    type Err = FlowError;

    fn from_str(text: &str) -> Result<Self, FlowError> {
        let (protocol, ends) = text.trim().split_once(' ').ok_or(FlowError::Malformed)?;
        let (source, destination) = ends.split_once("->").ok_or(FlowError::Malformed)?;
        let protocol = Protocol::ALL
            .into_iter()
            .find(|known| known.lower().eq_ignore_ascii_case(protocol))
            .ok_or_else(|| FlowError::Protocol(protocol.to_owned()))?;
        let end = |text: &str| {
            text.trim()
                .parse::<SocketAddr>()
                .map_err(|_| FlowError::Address(text.trim().to_owned()))
        };
        let (source, destination) = (end(source)?, end(destination)?);
        if source.is_ipv4() != destination.is_ipv4() {
            return Err(FlowError::Families);
        }
        Ok(Self { protocol, source, destination })
    }
}

impl fmt::Display for Flow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} -> {}", self.protocol.lower(), self.source, self.destination)
    }
}

/// What the policies say to a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PolicyVerdict {
    /// Whether it goes on.
    pub allowed: bool,
    /// Which rule says so, or that none does.
    pub reason: String,
}

/// Judges a flow by the policies.
pub type Judge<'a> = &'a dyn Fn(&Flow) -> PolicyVerdict;

/// What happens to a flow, and why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Explanation {
    /// The flow.
    pub flow: Flow,
    /// What the policies say; none if they weren't asked.
    pub policy: Option<PolicyVerdict>,
    /// Where it comes in; none if no Service has its destination.
    pub frontend: Option<Frontend>,
    /// The Service, and the port's number there.
    pub service: Option<(ObjectKey, u16)>,
    /// What becomes of it.
    pub outcome: Outcome,
    /// Whether the endpoint sees the edge's address in place of the client's.
    pub snat: bool,
}

/// What becomes of a flow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// A policy drops it.
    Denied,
    /// No Service has its destination: it goes its way as if there were no L4 plane.
    NotOurs,
    /// An ALB listens there.
    Alb,
    /// The VPN plane listens there for this VpnConnection.
    Vpn(model::ObjectKey),
    /// It is dropped: its client is in none of these ranges.
    OutsideRanges(Vec<IpNet>),
    /// It is refused: there is nothing on this port of the VIP.
    ClosedPort,
    /// It is refused: there is no endpoint of its family.
    NoEndpoint,
    /// It is dropped: `externalTrafficPolicy: Local`, and all endpoints are elsewhere.
    OnlyRemote,
    /// A process of the gateway takes it, and chooses among these.
    UserSpace {
        /// What it does about TLS.
        tls: String,
        /// The endpoints.
        endpoints: Vec<Candidate>,
    },
    /// It goes to this endpoint, which a hash of the client says.
    Endpoint {
        /// The endpoint.
        address: SocketAddr,
        /// How it was chosen.
        algorithm: Algorithm,
        /// Unless the client has been sent elsewhere in the last so many seconds.
        affinity: Option<u32>,
    },
    /// It goes to one of these.
    OneOf {
        /// The endpoints.
        endpoints: Vec<Candidate>,
        /// How one is chosen.
        algorithm: Algorithm,
        /// For how many seconds the client stays with it.
        affinity: Option<u32>,
    },
}

/// An endpoint that a flow may go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate {
    /// The endpoint.
    pub address: SocketAddr,
    /// Its slots.
    pub share: usize,
    /// All slots.
    pub of: usize,
}

/// What happens to a flow.
///
/// A destination that is no Service's address counts as one of the edge's own if its port is a
/// NodePort.
pub fn explain(
    plan: &L4Plan,
    settings: &L4Settings,
    alb_ports: &AlbPorts,
    flow: Flow,
    policies: Option<Judge<'_>>,
) -> Explanation {
    let policy = policies.map(|judge| judge(&flow));
    let found = find(plan, settings, &flow);
    let outcome = match (&policy, found) {
        (Some(PolicyVerdict { allowed: false, .. }), _) => Outcome::Denied,
        (_, Some((service, port, frontend))) => outcome(service, port, frontend, &flow),
        (_, None) => nowhere(plan, alb_ports, &flow),
    };
    Explanation {
        flow,
        policy,
        frontend: found.map(|(_, _, frontend)| frontend),
        service: found.map(|(service, port, _)| (service.service.clone(), port.number)),
        snat: found.is_some_and(|(service, port, _)| service.snat && port.path == Path::Kernel),
        outcome,
    }
}

/// The port that has the destination: of an address first, then of a NodePort.
fn find<'a>(
    plan: &'a L4Plan,
    settings: &L4Settings,
    flow: &Flow,
) -> Option<(&'a ServicePlan, &'a PortPlan, Frontend)> {
    let to = flow.destination;
    let mut wanted = vec![Frontend::Vip(to), Frontend::External(to)];
    let vip = plan.vips.iter().any(|vip| vip.address == to.ip());
    if !vip && !to.ip().is_loopback() && settings.node_ports.contains(to.port()) {
        wanted.push(Frontend::NodePort(to.port()));
    }
    wanted.into_iter().find_map(|frontend| {
        plan.services.iter().find_map(|service| {
            let has = |port: &&PortPlan| {
                port.protocol == flow.protocol && port.frontends.contains(&frontend)
            };
            service.ports.iter().find(has).map(|port| (&**service, port, frontend))
        })
    })
}

fn nowhere(plan: &L4Plan, alb_ports: &AlbPorts, flow: &Flow) -> Outcome {
    let (to, port) = (flow.destination.ip(), flow.destination.port());
    let mut albs = plan.albs.iter();
    let listens = albs.any(|(kind, addresses)| {
        addresses.contains(&to) && alb_ports.get(kind).is_some_and(|ports| ports.contains(&port))
    });
    if flow.protocol == Protocol::Tcp && listens {
        return Outcome::Alb;
    }
    let mut vpn = plan.vpn.iter().filter(|one| one.address == to && one.ports.contains(&port));
    if let (Protocol::Udp, Some(one)) = (flow.protocol, vpn.next()) {
        return Outcome::Vpn(one.connection.clone());
    }
    let vip = plan.vips.iter().any(|vip| vip.address == to);
    if vip { Outcome::ClosedPort } else { Outcome::NotOurs }
}

fn outcome(service: &ServicePlan, port: &PortPlan, frontend: Frontend, flow: &Flow) -> Outcome {
    let ranges = &service.source_ranges;
    let within = |range: &IpNet| range.contains(&flow.source.ip());
    if matches!(frontend, Frontend::Vip(_)) && !ranges.is_empty() && !ranges.iter().any(within) {
        return Outcome::OutsideRanges(ranges.clone());
    }
    if port.endpoints.is_empty() {
        return if port.only_remote { Outcome::OnlyRemote } else { Outcome::NoEndpoint };
    }
    if let Path::UserSpace(stream) = &port.path {
        let tls = match &stream.tls {
            StreamTls::Off => "none".to_owned(),
            StreamTls::Terminate { secret, .. } => format!("ends here, with Secret {secret}"),
            StreamTls::Passthrough { hosts } => format!("passes through, for {}", hosts.join(", ")),
        };
        let weights = || port.endpoints.iter().map(|endpoint| usize::from(endpoint.weight.max(1)));
        let of = weights().sum();
        let each = port.endpoints.iter().zip(weights());
        let candidate = |(endpoint, share): (&model::snapshot::Endpoint, usize)| Candidate {
            address: endpoint.address,
            share,
            of,
        };
        return Outcome::UserSpace { tls, endpoints: each.map(candidate).collect() };
    }
    let (algorithm, affinity) = (port.algorithm, service.affinity);
    if let Some(address) = chosen(port, flow.source) {
        return Outcome::Endpoint { address, algorithm, affinity };
    }
    let slots = slots(port, flow.source.is_ipv6());
    let mut shares: BTreeMap<SocketAddr, usize> = BTreeMap::new();
    for slot in &slots {
        *shares.entry(*slot).or_default() += 1;
    }
    let of = slots.len();
    let candidates = shares.into_iter().map(|(address, share)| Candidate { address, share, of });
    let endpoints: Vec<Candidate> = candidates.collect();
    match endpoints.as_slice() {
        [] => Outcome::NoEndpoint,
        _ => Outcome::OneOf { endpoints, algorithm, affinity },
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.flow)?;
        match &self.policy {
            Some(PolicyVerdict { allowed, reason }) => {
                writeln!(
                    f,
                    "  policy    {}: {reason}",
                    if *allowed { "allowed" } else { "denied" }
                )?;
            }
            None => writeln!(f, "  policy    not asked")?,
        }
        if let (Some(frontend), Some((service, port))) = (&self.frontend, &self.service) {
            let place = match frontend {
                Frontend::Vip(at) => format!("VIP {at}"),
                Frontend::External(at) => format!("external address {at}"),
                Frontend::NodePort(port) => format!("NodePort {port}"),
            };
            writeln!(f, "  frontend  {place}")?;
            writeln!(f, "  service   {service}, port {port}")?;
        }
        let how = |algorithm: &Algorithm| match algorithm {
            Algorithm::Random => "by chance",
            Algorithm::RoundRobin => "in turn",
            Algorithm::SourceHash => "by a hash of the client's address",
            Algorithm::Maglev => "by a hash of the client's address and port",
            Algorithm::LeastConnections => "by the fewest connections",
        };
        let mut sticky = None;
        match &self.outcome {
            Outcome::Denied => writeln!(f, "  dropped   by a policy")?,
            Outcome::NotOurs => writeln!(f, "  passes    no Service has this destination")?,
            Outcome::Alb => writeln!(f, "  ALB       the ALB takes it")?,
            Outcome::Vpn(connection) => writeln!(f, "  VPN       VpnConnection {connection}")?,
            Outcome::OutsideRanges(ranges) => {
                let ranges: Vec<String> = ranges.iter().map(ToString::to_string).collect();
                let ranges = ranges.join(", ");
                writeln!(f, "  dropped   the client is outside loadBalancerSourceRanges {ranges}")?;
            }
            Outcome::ClosedPort => writeln!(f, "  refused   the VIP has nothing on this port")?,
            Outcome::NoEndpoint => writeln!(f, "  refused   there is no endpoint of this family")?,
            Outcome::OnlyRemote => {
                writeln!(f, "  dropped   externalTrafficPolicy: Local, and no endpoint is local")?;
            }
            Outcome::UserSpace { tls, endpoints } => {
                writeln!(f, "  path      user space, TLS: {tls}")?;
                candidates(f, endpoints)?;
            }
            Outcome::Endpoint { address, algorithm, affinity } => {
                writeln!(f, "  endpoint  {address}, {}", how(algorithm))?;
                sticky = *affinity;
            }
            Outcome::OneOf { endpoints, algorithm, affinity } => {
                writeln!(f, "  endpoint  one of these, {}:", how(algorithm))?;
                candidates(f, endpoints)?;
                sticky = *affinity;
            }
        }
        if let Some(seconds) = sticky {
            writeln!(
                f,
                "  affinity  unless the client was sent to another in the last {seconds} s"
            )?;
        }
        if self.snat {
            writeln!(f, "  snat      the endpoint sees the edge's address")?;
        }
        Ok(())
    }
}

fn candidates(f: &mut fmt::Formatter<'_>, candidates: &[Candidate]) -> fmt::Result {
    for Candidate { address, share, of } in candidates {
        writeln!(f, "            {address}  {share}/{of}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
