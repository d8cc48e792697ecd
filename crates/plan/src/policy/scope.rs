//! Which of the machine's interfaces is which HostEndpoint, and which policies it is asked of.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;
use model::snapshot::policy::{HostEndpoint, Interface, Policies, Policy, Reach, Rule, Selector};
use model::{Diagnostic, HostAddress, L4Settings, ObjectRef};

use super::Stage;

/// The policies, as this machine sees them.
pub(super) struct Scope<'a> {
    policies: &'a Policies,
    /// By interface.
    pub(super) named: BTreeMap<&'a str, Endpoint<'a>>,
    /// Of every other interface.
    pub(super) rest: Option<Endpoint<'a>>,
}

/// A HostEndpoint of this machine.
#[derive(Clone)]
pub(super) struct Endpoint<'a> {
    pub(super) name: &'a str,
    pub(super) default_allow: bool,
    /// The policies that select it, in the order in which they are asked.
    selected: Vec<Asked<'a>>,
}

/// A policy and its name.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) name: &'a str,
    pub(super) policy: &'a Policy,
}

impl<'a> Asked<'a> {
    /// Its rules at a stage.
    pub(super) fn rules(&self, stage: Stage) -> &'a [Rule] {
        self.policy.rules(stage.direction()).unwrap_or_default()
    }
}

impl<'a> Endpoint<'a> {
    /// The policies that are asked at a stage, in order.
    pub(super) fn asked(&self, stage: Stage) -> impl Iterator<Item = Asked<'a>> + '_ {
        self.selected.iter().copied().filter(move |asked| {
            let reaches = match stage {
                Stage::Prerouting => asked.policy.reach == Reach::PreDnat,
                Stage::Input | Stage::Output => asked.policy.reach != Reach::PreDnat,
                Stage::ForwardIn | Stage::ForwardOut => {
                    asked.policy.reach == Reach::LocalAndForward
                }
            };
            reaches && asked.policy.rules(stage.direction()).is_some()
        })
    }
}

impl<'a> Scope<'a> {
    pub(super) fn new(
        policies: &'a Policies,
        settings: &L4Settings,
        host: &'a [HostAddress],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let mut scope = Self { policies, named: BTreeMap::new(), rest: None };
        let ours = || policies.endpoints.iter().filter(|(_, one)| one.node == settings.node_name);
        for (name, object) in ours() {
            match &object.interface {
                Interface::Name(interface) => {
                    diagnostics.extend(missing(name, object, interface, host));
                    scope.take(interface, name, object, diagnostics);
                }
                Interface::All => match &scope.rest {
                    Some(first) => {
                        diagnostics.push(taken(name, object, "*", first.name));
                    }
                    None => scope.rest = Some(scope.endpoint(name, object)),
                },
                Interface::ByAddress => {}
            }
        }
        for (name, object) in ours().filter(|(_, one)| one.interface == Interface::ByAddress) {
            let has =
                |address: &&HostAddress| object.expected_ips.contains(&address.network.addr());
            let mut interfaces: Vec<&str> =
                host.iter().filter(has).map(|address| address.interface.as_str()).collect();
            interfaces.sort_unstable();
            interfaces.dedup();
            if interfaces.is_empty() {
                let reference = ObjectRef::cluster("HostEndpoint", name);
                let reason = "no interface of this machine has one of these addresses, so it \
                              protects nothing";
                diagnostics.push(
                    Diagnostic::warning(reference, "spec.expectedIPs", reason)
                        .value(listed(&object.expected_ips))
                        .remedy("correct them, or write spec.interfaceName")
                        .at(object.location.clone()),
                );
            }
            for interface in interfaces {
                scope.take(interface, name, object, diagnostics);
            }
        }
        if scope.endpoints().next().is_none() && !policies.policies.is_empty() {
            let reason = "no HostEndpoint of this machine is there, so no policy is in force on it";
            diagnostics.push(
                Diagnostic::warning(
                    ObjectRef::cluster("GatewayConfig", "gateway"),
                    "nodeName",
                    reason,
                )
                .value(&settings.node_name)
                .remedy("write a HostEndpoint with this name as spec.node, or correct the name"),
            );
        }
        scope
    }

    fn take(
        &mut self,
        interface: &'a str,
        name: &'a str,
        object: &'a HostEndpoint,
        diagnostics: &mut Vec<Diagnostic>,
    ) {
        if let Some(first) = self.named.get(interface) {
            diagnostics.push(taken(name, object, interface, first.name));
            return;
        }
        let endpoint = self.endpoint(name, object);
        self.named.insert(interface, endpoint);
    }

    fn endpoint(&self, name: &'a str, object: &'a HostEndpoint) -> Endpoint<'a> {
        let mut selected: Vec<Asked<'a>> = (self.policies.policies.iter())
            .filter(|(_, policy)| policy.selector.matches(&object.labels))
            .map(|(name, policy)| Asked { name, policy })
            .collect();
        selected.sort_by_key(|asked| (asked.policy.order, asked.name));
        Endpoint { name, default_allow: object.default_allow, selected }
    }

    /// Every HostEndpoint of this machine that has an interface, each once.
    pub(super) fn endpoints(&self) -> impl Iterator<Item = &Endpoint<'a>> {
        let by_name: BTreeMap<&str, &Endpoint<'a>> =
            self.named.values().chain(&self.rest).map(|one| (one.name, one)).collect();
        by_name.into_values()
    }

    /// The HostEndpoint that an interface is.
    pub(super) fn at(&self, interface: &str) -> Option<&Endpoint<'a>> {
        self.named.get(interface).or(self.rest.as_ref())
    }

    /// The addresses that a rule's selector means: those of HostEndpoints, of any machine, and of
    /// GlobalNetworkSets.
    pub(super) fn selected(&self, selector: &Selector) -> Vec<IpNet> {
        let endpoints = self.policies.endpoints.values();
        let endpoints = endpoints.filter(|one| selector.matches(&one.labels));
        let sets = self.policies.sets.values().filter(|one| selector.matches(&one.labels));
        endpoints
            .flat_map(|one| one.expected_ips.iter().copied().map(IpNet::from))
            .chain(sets.flat_map(|one| one.nets.iter().copied()))
            .collect()
    }

    /// What a port's name means: addresses, protocols' numbers and ports.
    pub(super) fn named_ports(&self, name: &str) -> Vec<(IpAddr, u8, u16)> {
        let mut found: Vec<(IpAddr, u8, u16)> = (self.policies.endpoints.values())
            .flat_map(|one| {
                let ports = one.ports.iter().filter(|port| port.name == name);
                ports.flat_map(|port| {
                    let (protocol, number) = (port.protocol.number(), port.port);
                    one.expected_ips.iter().map(move |&address| (address, protocol, number))
                })
            })
            .collect();
        found.sort_unstable();
        found.dedup();
        found
    }
}

fn taken(name: &str, object: &HostEndpoint, interface: &str, first: &str) -> Diagnostic {
    let reason = format!("the interface is HostEndpoint {first} already, which counts");
    Diagnostic::warning(ObjectRef::cluster("HostEndpoint", name), "spec.interfaceName", reason)
        .value(interface)
        .remedy("remove one of the two")
        .at(object.location.clone())
}

/// What is wrong if no interface of the name has an address. It may come yet. Without any address
/// nothing is known of the machine.
fn missing(
    name: &str,
    object: &HostEndpoint,
    interface: &str,
    host: &[HostAddress],
) -> Option<Diagnostic> {
    let there: BTreeSet<&str> = host.iter().map(|address| address.interface.as_str()).collect();
    if there.is_empty() || there.contains(interface) {
        return None;
    }
    let there = there.into_iter().collect::<Vec<_>>().join(", ");
    let reason = "no interface of this name has an address on this machine, so the endpoint may \
                  protect nothing";
    Some(
        Diagnostic::warning(ObjectRef::cluster("HostEndpoint", name), "spec.interfaceName", reason)
            .value(interface)
            .remedy(format!("write the name of one that is there ({there}), or * for all"))
            .at(object.location.clone()),
    )
}

fn listed(addresses: &[IpAddr]) -> String {
    addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}
