//! What the policies say of one packet: from the objects, without any chain.

use std::fmt;
use std::net::IpAddr;

use ipnet::IpNet;
use model::snapshot::policy::{Action, Direction, Family, Peer, Policies, Port, Rule, Selector};
use model::{HostAddress, L4Settings};
use serde::Serialize;

use super::Stage;
use super::chains::NEIGHBOUR_DISCOVERY;
use super::scope::{Asked, Endpoint, Scope};

/// A packet, as far as policies look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Packet {
    /// Where it goes.
    pub path: Path,
    /// The IANA protocol number.
    pub protocol: u8,
    /// The address that it comes from.
    pub source: IpAddr,
    /// The address that it was sent to.
    pub destination: IpAddr,
    /// The port that it comes from, where the protocol has ports.
    pub source_port: Option<u16>,
    /// The port that it was sent to, where the protocol has ports.
    pub destination_port: Option<u16>,
    /// Type and code, of an ICMP message.
    pub icmp: Option<(u8, u8)>,
    /// What it is to its connection.
    pub state: State,
    /// Where it goes after translation, if that is another place.
    pub translated: Option<Translated>,
}

/// A destination after translation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Translated {
    /// The address.
    pub address: IpAddr,
    /// The port.
    pub port: Option<u16>,
}

/// The way of a packet, by interfaces' names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Path {
    /// To a local process.
    Input {
        /// Where it comes in.
        from: String,
    },
    /// Through the machine.
    Forward {
        /// Where it comes in.
        from: String,
        /// Where it goes out.
        to: String,
    },
    /// From a local process.
    Output {
        /// Where it goes out.
        to: String,
    },
}

/// What a packet is to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// It makes a new one.
    New,
    /// It belongs to one, in the direction in which that was made.
    Established,
    /// It belongs to one, in the other direction.
    Reply,
    /// It belongs to none and can't make one.
    Invalid,
}

/// What becomes of a packet, stage by stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Decision {
    /// Whether it passes all of them.
    pub allowed: bool,
    /// The stages that it came to, in order.
    pub stages: Vec<StageDecision>,
}

/// What becomes of a packet at one stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct StageDecision {
    /// The stage.
    pub stage: Stage,
    /// The HostEndpoint whose policies were asked, if the interface is one.
    pub endpoint: Option<String>,
    /// What was decided.
    pub verdict: Verdict,
    /// By what.
    pub reason: Reason,
    /// Every rule that was looked at, and what it said: one line each.
    pub trace: Vec<String>,
}

/// What is decided at a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// It passes.
    Pass,
    /// It is dropped.
    Drop,
}

/// By what a stage's decision was made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// A policy's rule.
    Rule {
        /// The policy.
        policy: String,
        /// Which of its lists.
        direction: Direction,
        /// The index in it.
        index: usize,
        /// Its action: Allow, Deny or Pass.
        action: Action,
    },
    /// Policies select the endpoint, and none of their rules decided.
    Unmatched,
    /// No policy is for the endpoint here.
    NoPolicy,
    /// No policy is for the endpoint here, and its profile lets everything pass.
    Profile,
    /// A rule passed it on to the profiles, and there is none that lets it pass.
    NoProfile,
    /// The interface is no HostEndpoint.
    NoEndpoint,
    /// The loopback interface is never asked about.
    Loopback,
    /// It belongs to a connection that was allowed.
    Established,
    /// Connection tracking finds it invalid.
    Invalid,
    /// The port always stays open.
    FailSafe,
    /// Without it there is no network.
    NeighbourDiscovery,
    /// A policy has allowed it for good before translation.
    AllowedBefore,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rule { policy, direction, index, action } => {
                return write!(f, "{policy} {direction}[{index}] {action}");
            }
            Self::Unmatched => "no rule of the policies allows it",
            Self::NoPolicy => "no policy is for it here",
            Self::Profile => "profile projectcalico-default-allow",
            Self::NoProfile => "a rule passed it on, and no profile allows it",
            Self::NoEndpoint => "the interface is no HostEndpoint",
            Self::Loopback => "loopback interface",
            Self::Established => "connection under way",
            Self::Invalid => "invalid for connection tracking",
            Self::FailSafe => "fail-safe port",
            Self::NeighbourDiscovery => "neighbour discovery",
            Self::AllowedBefore => "allowed before translation",
        })
    }
}

impl fmt::Display for Decision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for stage in &self.stages {
            let verdict = match stage.verdict {
                Verdict::Pass => "passes",
                Verdict::Drop => "dropped",
            };
            write!(f, "{}", stage.stage)?;
            if let Some(endpoint) = &stage.endpoint {
                write!(f, " ({endpoint})")?;
            }
            writeln!(f, ": {verdict}: {}", stage.reason)?;
            for line in &stage.trace {
                writeln!(f, "  {line}")?;
            }
        }
        Ok(())
    }
}

/// What becomes of a packet, and why. `host` are the machine's addresses, as for
/// [`compile`](super::compile).
pub fn evaluate(
    policies: &Policies,
    settings: &L4Settings,
    host: &[HostAddress],
    packet: &Packet,
) -> Decision {
    let scope = Scope::new(policies, settings, host, &mut Vec::new());
    let judge = Judge { scope: &scope, settings, packet };
    let stages: &[(Stage, &str)] = match &packet.path {
        Path::Input { from } => &[(Stage::Prerouting, from), (Stage::Input, from)],
        Path::Forward { from, to } => {
            &[(Stage::Prerouting, from), (Stage::ForwardIn, from), (Stage::ForwardOut, to)]
        }
        Path::Output { to } => &[(Stage::Output, to)],
    };
    let mut decision = Decision { allowed: true, stages: Vec::new() };
    let mut allowed_before = false;
    for &(stage, interface) in stages {
        let decided = judge.stage(stage, interface, allowed_before);
        allowed_before |= stage == Stage::Prerouting
            && matches!(decided.reason, Reason::Rule { action: Action::Allow, .. });
        decision.allowed = decided.verdict == Verdict::Pass;
        decision.stages.push(decided);
        if !decision.allowed {
            break;
        }
    }
    decision
}

struct Judge<'a> {
    scope: &'a Scope<'a>,
    settings: &'a L4Settings,
    packet: &'a Packet,
}

impl Judge<'_> {
    fn stage(&self, stage: Stage, interface: &str, allowed_before: bool) -> StageDecision {
        let endpoint = self.scope.at(interface).filter(|_| interface != "lo");
        let mut trace = Vec::new();
        let (verdict, reason) = match endpoint {
            _ if interface == "lo" => (Verdict::Pass, Reason::Loopback),
            None => (Verdict::Pass, Reason::NoEndpoint),
            Some(endpoint) => self.endpoint(stage, endpoint, allowed_before, &mut trace),
        };
        let endpoint = endpoint.map(|endpoint| endpoint.name.to_owned());
        StageDecision { stage, endpoint, verdict, reason, trace }
    }

    fn endpoint(
        &self,
        stage: Stage,
        endpoint: &Endpoint<'_>,
        allowed_before: bool,
        trace: &mut Vec<String>,
    ) -> (Verdict, Reason) {
        let forwarded = matches!(stage, Stage::ForwardIn | Stage::ForwardOut);
        let local = matches!(stage, Stage::Input | Stage::Output);
        let selected = endpoint.asked(stage).next().is_some();
        if !forwarded && self.is_neighbour_discovery() {
            return (Verdict::Pass, Reason::NeighbourDiscovery);
        }
        if !forwarded && self.is_fail_safe(stage) {
            return (Verdict::Pass, Reason::FailSafe);
        }
        if allowed_before && stage.direction() == Direction::Ingress {
            return (Verdict::Pass, Reason::AllowedBefore);
        }
        match self.packet.state {
            State::Reply => return (Verdict::Pass, Reason::Established),
            State::Invalid if selected || local => return (Verdict::Drop, Reason::Invalid),
            State::New | State::Established | State::Invalid => {}
        }
        let under_way = self.packet.state == State::Established;
        match self.first_to_decide(stage, endpoint, trace) {
            Some((asked, rule)) => {
                let reason = Reason::Rule {
                    policy: asked.name.to_owned(),
                    direction: stage.direction(),
                    index: rule.index,
                    action: rule.action,
                };
                match rule.action {
                    Action::Deny if under_way && !asked.policy.end_connections => {
                        (Verdict::Pass, Reason::Established)
                    }
                    Action::Deny => (Verdict::Drop, reason),
                    Action::Pass if local && !under_way && !endpoint.default_allow => {
                        (Verdict::Drop, Reason::NoProfile)
                    }
                    Action::Allow | Action::Pass | Action::Log => (Verdict::Pass, reason),
                }
            }
            None if under_way => (Verdict::Pass, Reason::Established),
            None if stage == Stage::Prerouting && selected => (Verdict::Pass, Reason::Unmatched),
            None if selected => (Verdict::Drop, Reason::Unmatched),
            None if local && endpoint.default_allow => (Verdict::Pass, Reason::Profile),
            None if local => (Verdict::Drop, Reason::NoPolicy),
            None => (Verdict::Pass, Reason::NoPolicy),
        }
    }

    fn first_to_decide<'p>(
        &self,
        stage: Stage,
        endpoint: &'p Endpoint<'p>,
        trace: &mut Vec<String>,
    ) -> Option<(Asked<'p>, &'p Rule)> {
        for asked in endpoint.asked(stage) {
            for rule in asked.rules(stage) {
                let (name, order, direction) = (asked.name, asked.policy.order, stage.direction());
                let what =
                    format!("{name} (order {order}) {direction}[{}] {}", rule.index, rule.action);
                match self.mismatch(stage, rule) {
                    Some(why) => trace.push(format!("{what}: no: {why}")),
                    None => {
                        trace.push(format!("{what}: matches"));
                        if rule.action != Action::Log {
                            return Some((asked, rule));
                        }
                    }
                }
            }
        }
        None
    }

    /// Why the rule doesn't match, if it doesn't.
    fn mismatch(&self, stage: Stage, rule: &Rule) -> Option<String> {
        let packet = self.packet;
        let family = Family::of(packet.source);
        if rule.family.is_some_and(|wanted| wanted != family) {
            return Some("the other family of addresses".to_owned());
        }
        if !rule.protocols.is_empty() && !rule.protocols.contains(&packet.protocol) {
            return Some(format!("protocol {}", packet.protocol));
        }
        let icmp_of_other = (rule.protocols == [1], family) == (true, Family::Ipv6)
            || (rule.protocols == [58], family) == (true, Family::Ipv4);
        if icmp_of_other {
            return Some("ICMP of the other family".to_owned());
        }
        if rule.not_protocol == Some(packet.protocol) {
            return Some(format!("notProtocol {}", packet.protocol));
        }
        let is = |icmp: model::snapshot::policy::Icmp| {
            packet.icmp.is_some_and(|(kind, code)| {
                kind == icmp.kind && icmp.code.is_none_or(|wanted| wanted == code)
            })
        };
        if rule.icmp.is_some_and(|icmp| !is(icmp)) {
            return Some("ICMP type or code".to_owned());
        }
        if rule.not_icmp.is_some_and(is) {
            return Some("notICMP".to_owned());
        }
        let (destination, destination_port) = match packet.translated {
            Some(to) if stage != Stage::Prerouting => (to.address, to.port),
            _ => (packet.destination, packet.destination_port),
        };
        self.end_mismatch("source", &rule.source, packet.source, packet.source_port).or_else(|| {
            let peer = &rule.destination;
            self.end_mismatch("destination", peer, destination, destination_port)
        })
    }

    fn end_mismatch(
        &self,
        end: &str,
        peer: &Peer,
        address: IpAddr,
        port: Option<u16>,
    ) -> Option<String> {
        let family = Family::of(address);
        let within = |nets: &[IpNet]| nets.iter().any(|net| net.contains(&address));
        if peer.nets.as_ref().is_some_and(|nets| !within(nets)) {
            return Some(format!("{end} {address} is not in nets"));
        }
        if within(&peer.not_nets) {
            return Some(format!("{end} {address} is in notNets"));
        }
        if !peer.not_nets.is_empty() && !peer.not_nets.iter().any(|net| family.has(net)) {
            return Some(format!("{end}.notNets is of the other family"));
        }
        let selected = |selector: &Selector| within(&self.scope.selected(selector));
        if peer.selector.as_ref().is_some_and(|selector| !selected(selector)) {
            return Some(format!("{end} {address} is not selected"));
        }
        if peer.not_selector.as_ref().is_some_and(selected) {
            return Some(format!("{end} {address} is selected by notSelector"));
        }
        let is = |wanted: &Port| match wanted {
            Port::Numbers(range) => port.is_some_and(|port| range.contains(port)),
            Port::Name(name) => port.is_some_and(|port| {
                self.scope.named_ports(name).contains(&(address, self.packet.protocol, port))
            }),
        };
        let shown = port.map_or_else(|| "none".to_owned(), |port| port.to_string());
        if peer.ports.as_ref().is_some_and(|ports| !ports.iter().any(is)) {
            return Some(format!("{end} port {shown} is not in ports"));
        }
        if peer.not_ports.iter().any(is) {
            return Some(format!("{end} port {shown} is in notPorts"));
        }
        None
    }

    fn is_neighbour_discovery(&self) -> bool {
        self.packet.protocol == 58
            && self.packet.icmp.is_some_and(|(kind, _)| NEIGHBOUR_DISCOVERY.contains(&kind))
    }

    fn is_fail_safe(&self, stage: Stage) -> bool {
        let translated = match self.packet.translated {
            Some(to) if stage != Stage::Prerouting => to.port,
            _ => self.packet.destination_port,
        };
        let open = match stage.direction() {
            Direction::Ingress => &self.settings.fail_safe.inbound,
            Direction::Egress => &self.settings.fail_safe.outbound,
        };
        (open.iter())
            .any(|&(of, port)| of.number() == self.packet.protocol && translated == Some(port))
    }
}
