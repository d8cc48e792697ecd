//! One rule of a policy.

use ipnet::IpNet;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use model::settings::canonical_network;
use model::snapshot::policy::{Action, Direction, Family, Icmp, Peer, Port, Rule, Selector};
use model::{Diagnostic, ObjectRef, PortRange, Protocol};

use super::objects::{self, Entity};
use crate::report::{Report, shown};

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;

/// The rule, none if it has to be left out.
pub(super) fn rule(
    reference: &ObjectRef,
    direction: Direction,
    index: usize,
    written: &objects::Rule,
    report: &mut Report<'_>,
) -> Option<Rule> {
    let mut reader =
        Reader { reference, path: format!("spec.{direction}[{index}]"), findings: Vec::new() };
    let action = reader.action(&written.action);
    let unknown_action = reader.findings.len();
    let mut rule = Rule::new(index, action);
    reader.matches(written, &mut rule);
    let refused = reader.findings.len() > unknown_action;
    let consequence = match action {
        Action::Deny => "the rule denies more than it says",
        Action::Allow | Action::Log | Action::Pass => "the rule is left out",
    };
    for (at, mut finding) in reader.findings.into_iter().enumerate() {
        if at >= unknown_action {
            finding.reason = format!("{}, so {consequence}", finding.reason);
        }
        report.push(finding);
    }
    (!refused || action == Action::Deny).then_some(rule)
}

struct Reader<'a> {
    reference: &'a ObjectRef,
    path: String,
    findings: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn find(&mut self, field: &str, value: Option<&str>, reason: &str, remedy: &str) {
        let field = format!("{}.{field}", self.path);
        let mut found = Diagnostic::error(self.reference.clone(), field, reason).remedy(remedy);
        if let Some(value) = value {
            found = found.value(shown(value));
        }
        self.findings.push(found);
    }

    fn unknown(&mut self, prefix: &str, unknown: &objects::Unknown) {
        for name in unknown.keys() {
            let field = format!("{prefix}{}", shown(name));
            self.find(&field, None, "is not a field of a rule", super::CORRECT_NAME);
        }
    }

    fn action(&mut self, text: &str) -> Action {
        match text {
            "Allow" => Action::Allow,
            "Deny" => Action::Deny,
            "Log" => Action::Log,
            "Pass" => Action::Pass,
            other => {
                let reason = "not an action, so the rule denies";
                self.find("action", Some(other), reason, "write Allow, Deny, Log or Pass");
                Action::Deny
            }
        }
    }

    fn matches(&mut self, written: &objects::Rule, rule: &mut Rule) {
        rule.family = match written.ip_version {
            None => None,
            Some(4) => Some(Family::Ipv4),
            Some(6) => Some(Family::Ipv6),
            Some(other) => {
                let reason = "not a version of IP";
                self.find("ipVersion", Some(&other.to_string()), reason, "write 4 or 6");
                None
            }
        };
        if let Some(text) = &written.protocol {
            rule.protocols.extend(self.protocol("protocol", text));
        }
        if let Some(text) = &written.not_protocol {
            rule.not_protocol = self.protocol("notProtocol", text);
        }
        if written.http.is_some() {
            let remedy = "match on http in an Ingress or Gateway instead";
            self.find("http", None, "HTTP can't be matched here", remedy);
        }
        let written_protocol = written.protocol.is_some();
        self.unknown("", &written.unknown);
        rule.icmp = self.icmp("icmp", written.icmp.as_ref(), &rule.protocols);
        rule.not_icmp = self.icmp("notICMP", written.not_icmp.as_ref(), &rule.protocols);
        rule.source = self.peer("source", written.source.as_ref());
        rule.destination = self.peer("destination", written.destination.as_ref());
        self.check_ports(rule, written_protocol);
    }

    /// Ports need a protocol that has them.
    fn check_ports(&mut self, rule: &mut Rule, written: bool) {
        let has = |peer: &Peer| peer.ports.is_some() || !peer.not_ports.is_empty();
        if !has(&rule.source) && !has(&rule.destination) {
            return;
        }
        let all = Protocol::ALL.map(Protocol::number);
        match rule.protocols[..] {
            [only] if all.contains(&only) => {}
            [] => {
                if !written {
                    self.find(
                        "protocol",
                        None,
                        "is missing, and the rule has ports",
                        "write TCP, UDP or SCTP",
                    );
                }
                // A Deny stays: of these ports, with every protocol that has ports.
                rule.protocols = all.to_vec();
            }
            _ => {
                let value = rule.protocols.first().map(ToString::to_string);
                self.find(
                    "protocol",
                    value.as_deref(),
                    "has no ports, and the rule has",
                    "write TCP, UDP or SCTP, or leave the ports out",
                );
                for peer in [&mut rule.source, &mut rule.destination] {
                    peer.ports = None;
                    peer.not_ports.clear();
                }
            }
        }
    }

    fn protocol(&mut self, field: &str, written: &IntOrString) -> Option<u8> {
        match protocol(written) {
            Some(number) => Some(number),
            None => {
                let value = text_of(written);
                let remedy =
                    "write TCP, UDP, SCTP, UDPLite, ICMP, ICMPv6 or a number from 1 to 255";
                self.find(field, Some(&value), "not a protocol", remedy);
                None
            }
        }
    }

    fn icmp(
        &mut self,
        field: &str,
        written: Option<&objects::Icmp>,
        protocols: &[u8],
    ) -> Option<Icmp> {
        let written = written?;
        self.unknown(&format!("{field}."), &written.unknown);
        if protocols != [ICMP] && protocols != [ICMPV6] {
            let reason = "needs the protocol ICMP or ICMPv6";
            self.find(field, None, reason, "write protocol: ICMP, or protocol: ICMPv6");
            return None;
        }
        let number = |value: i64| u8::try_from(value).ok();
        let (kind, code) = (written.kind.map(number), written.code.map(number));
        match (kind, code) {
            (None, None) => None,
            (Some(Some(kind)), None) => Some(Icmp { kind, code: None }),
            (Some(Some(kind)), Some(Some(code))) => Some(Icmp { kind, code: Some(code) }),
            _ => {
                let reason = "not a type with perhaps a code";
                self.find(field, None, reason, "write a type from 0 to 255, and a code with it");
                None
            }
        }
    }

    fn peer(&mut self, end: &str, written: Option<&Entity>) -> Peer {
        let Some(written) = written else { return Peer::default() };
        self.unknown(&format!("{end}."), &written.unknown);
        let unhonoured = [
            ("serviceAccounts", written.service_accounts.is_some()),
            ("services", written.services.is_some()),
            ("domains", written.domains.as_ref().is_some_and(|all| !all.is_empty())),
        ];
        for (field, there) in unhonoured {
            if there {
                let remedy = "write nets, or a selector of GlobalNetworkSets";
                self.find(&format!("{end}.{field}"), None, "is not honoured", remedy);
            }
        }
        let namespaces = written.namespace_selector.as_deref().map(str::trim);
        let namespaces = namespaces.filter(|text| !text.is_empty());
        let global = match namespaces.map(Selector::parse) {
            Some(Ok(Selector::Global)) => true,
            Some(_) => {
                let field = format!("{end}.namespaceSelector");
                let remedy = "write global(), or nets, or a selector of GlobalNetworkSets";
                self.find(&field, namespaces, "pods are not selected here", remedy);
                false
            }
            None => false,
        };
        let selector = self.selector(&format!("{end}.selector"), written.selector.as_deref());
        Peer {
            nets: self.nets(&format!("{end}.nets"), written.nets.as_deref()),
            not_nets: self
                .nets(&format!("{end}.notNets"), written.not_nets.as_deref())
                .unwrap_or_default(),
            ports: self.ports(&format!("{end}.ports"), written.ports.as_deref()),
            not_ports: self
                .ports(&format!("{end}.notPorts"), written.not_ports.as_deref())
                .unwrap_or_default(),
            // What has no namespace is all that can be selected here.
            selector: selector.or(global.then_some(Selector::Global)),
            not_selector: self
                .selector(&format!("{end}.notSelector"), written.not_selector.as_deref()),
        }
    }

    fn selector(&mut self, field: &str, written: Option<&str>) -> Option<Selector> {
        let text = written.map(str::trim).filter(|text| !text.is_empty())?;
        match Selector::parse(text) {
            Ok(selector) => Some(selector),
            Err(error) => {
                let reason = format!("doesn't parse {error}");
                let remedy = "write it as in key == 'value' && has(other)";
                self.find(field, Some(text), &reason, remedy);
                None
            }
        }
    }

    /// None if nothing is written, or something that isn't a network.
    fn nets(&mut self, field: &str, written: Option<&[String]>) -> Option<Vec<IpNet>> {
        let written = written.filter(|all| !all.is_empty())?;
        let mut nets = Vec::new();
        for (index, text) in written.iter().enumerate() {
            match network(text) {
                Some(net) => nets.push(net),
                None => {
                    let field = format!("{field}[{index}]");
                    let remedy = "write an address or a network such as 203.0.113.0/24";
                    self.find(&field, Some(text), "not a network", remedy);
                }
            }
        }
        (nets.len() == written.len()).then_some(nets)
    }

    /// None if nothing is written, or something that isn't a port.
    fn ports(&mut self, field: &str, written: Option<&[IntOrString]>) -> Option<Vec<Port>> {
        let written = written.filter(|all| !all.is_empty())?;
        let mut ports = Vec::new();
        for (index, one) in written.iter().enumerate() {
            match port(one) {
                Some(port) => ports.push(port),
                None => {
                    let field = format!("{field}[{index}]");
                    let remedy = "write a number, a range such as 30000:32767, or a name";
                    self.find(&field, Some(&text_of(one)), "not a port", remedy);
                }
            }
        }
        (ports.len() == written.len()).then_some(ports)
    }
}

/// An address or a network, with what stands behind its prefix cleared.
pub(super) fn network(text: &str) -> Option<IpNet> {
    let net = match text.parse::<IpNet>() {
        Ok(net) => net,
        Err(_) => IpNet::from(text.parse::<std::net::IpAddr>().ok()?),
    };
    Some(canonical_network(net.trunc()))
}

/// A protocol by name or number.
pub(super) fn protocol(written: &IntOrString) -> Option<u8> {
    let number = |number: i64| u8::try_from(number).ok().filter(|&number| number != 0);
    match written {
        IntOrString::Int(value) => number(i64::from(*value)),
        IntOrString::String(text) => match text.as_str() {
            "TCP" => Some(6),
            "UDP" => Some(17),
            "SCTP" => Some(132),
            "UDPLite" => Some(136),
            "ICMP" => Some(ICMP),
            "ICMPv6" => Some(ICMPV6),
            other => number(other.parse().ok()?),
        },
    }
}

fn port(written: &IntOrString) -> Option<Port> {
    let one = |port| Port::Numbers(PortRange { first: port, last: port });
    let text = match written {
        IntOrString::Int(number) => return u16::try_from(*number).ok().map(one),
        IntOrString::String(text) => text,
    };
    if let Some((first, last)) = text.split_once(':') {
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        return (first <= last).then_some(Port::Numbers(PortRange { first, last }));
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return text.parse().ok().map(one);
    }
    is_port_name(text).then(|| Port::Name(text.clone()))
}

/// Whether a text may name a port: as Calico, looser than Kubernetes.
pub(super) fn is_port_name(text: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_' || b == b'.';
    (1..=63).contains(&text.len()) && text.bytes().all(inner)
}

fn text_of(written: &IntOrString) -> String {
    match written {
        IntOrString::Int(number) => number.to_string(),
        IntOrString::String(text) => text.clone(),
    }
}
