//! The chains: base chains that dispatch by interface, one chain for each HostEndpoint and stage,
//! one for each policy and stage.
//!
//! At the end of everything stands a verdict: a chain that decides to go on says `goto` or
//! `accept`, so that nothing returns into a chain that would ask more.
//!
//! Where a policy ends connections under way, the policies are asked of packets of such
//! connections too, in chains of their own (`_end`), in which only that policy's Deny drops.

use std::collections::BTreeMap;

use model::snapshot::policy::{Action, Direction};
use model::{Diagnostic, L4Settings, ObjectRef, Protocol};

use super::rules::{Verdicts, Writer, label, short};
use super::scope::{Asked, Endpoint, Scope};
use super::{Compiled, Counted, Stage};
use crate::nft::{Chain, MARK_ACCEPTED, Table};

const ESTABLISHED: &str = "ct state established,related accept";
/// Multicast listener discovery (RFC 2710, RFC 3810), router and neighbour discovery (RFC 4861).
pub(super) const NEIGHBOUR_DISCOVERY: [u8; 8] = [130, 131, 132, 133, 134, 135, 136, 143];

/// Where what passes the first half of the forwarding goes on.
const FORWARD_OUT: &str = "policy_forward_out";

pub(super) fn chains(
    scope: &Scope<'_>,
    settings: &L4Settings,
    diagnostics: &mut Vec<Diagnostic>,
) -> Compiled {
    let writer = Writer::new(scope);
    let mut builder = Builder {
        scope,
        settings,
        writer,
        chains: BTreeMap::new(),
        counted: BTreeMap::new(),
        diagnostics,
    };
    builder.build();
    let Builder { writer, chains, counted, .. } = builder;
    let mut table = Table::default();
    table.sets.extend(writer.sets);
    table.chains.extend(chains);
    Compiled { table, counted }
}

struct Builder<'s, 'a, 'd> {
    scope: &'s Scope<'a>,
    settings: &'s L4Settings,
    writer: Writer<'s, 'a>,
    chains: BTreeMap<String, Chain>,
    counted: BTreeMap<String, Counted>,
    diagnostics: &'d mut Vec<Diagnostic>,
}

/// Which packets a chain is for.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Of {
    /// Those of new connections.
    New,
    /// Those of connections under way, in the direction in which they were made.
    UnderWay,
}

impl Of {
    fn suffix(self) -> &'static str {
        match self {
            Self::New => "",
            Self::UnderWay => "_end",
        }
    }
}

impl<'s, 'a> Builder<'s, 'a, '_> {
    fn build(&mut self) {
        let scope = self.scope;
        if scope.endpoints().next().is_none() {
            return;
        }
        let asked = |stage| scope.endpoints().any(|one| one.asked(stage).next().is_some());
        let pre_dnat = asked(Stage::Prerouting);
        if pre_dnat {
            self.prerouting();
        }
        self.local(Stage::Input, pre_dnat);
        self.local(Stage::Output, false);
        if asked(Stage::ForwardIn) || asked(Stage::ForwardOut) {
            self.forward(pre_dnat);
        }
    }

    fn prerouting(&mut self) {
        let accepted = MARK_ACCEPTED;
        let rest = !MARK_ACCEPTED;
        let mut rules = vec![
            // Nobody else's word counts for this bit.
            format!("meta mark & {accepted:#x} != 0 meta mark set meta mark & {rest:#x}"),
            "iifname \"lo\" accept".to_owned(),
        ];
        self.before_dispatch(Stage::Prerouting, &mut rules);
        rules.extend(self.dispatch(Stage::Prerouting, Of::New, ""));
        self.base("policy_prerouting", "type filter hook prerouting priority -150", rules);
    }

    fn local(&mut self, stage: Stage, marked: bool) {
        let (interface, name) = words(stage);
        let mut rules = vec![format!("{interface} \"lo\" accept")];
        if stage == Stage::Output {
            self.output_translated();
            rules.insert(0, "ct status dnat accept".to_owned());
        }
        self.before_dispatch(stage, &mut rules);
        if marked {
            rules.push(format!("meta mark & {MARK_ACCEPTED:#x} != 0 accept"));
        }
        rules.extend(self.dispatch(stage, Of::New, ""));
        let hook = format!("type filter hook {name} priority -10");
        self.base(&format!("policy_{name}"), &hook, rules);
    }

    /// What local processes send to a destination that is translated is asked about at the end,
    /// once it is known where it goes.
    fn output_translated(&mut self) {
        let mut rules = vec!["oifname \"lo\" accept".to_owned()];
        self.before_dispatch(Stage::Output, &mut rules);
        rules.extend(self.dispatch(Stage::Output, Of::New, ""));
        rules.push("accept".to_owned());
        let name = "policy_out_translated";
        self.chain(name, rules);
        let way = format!("ct status dnat fib saddr type local goto {name}");
        let mut rules = vec![way];
        if !self.any_ends(Stage::Output) {
            rules.insert(0, ESTABLISHED.to_owned());
        }
        self.base("policy_postrouting", "type filter hook postrouting priority -10", rules);
    }

    fn forward(&mut self, marked: bool) {
        let mut rules = Vec::new();
        let unmarked =
            if marked { format!("meta mark & {MARK_ACCEPTED:#x} == 0 ") } else { String::new() };
        if self.any_ends(Stage::ForwardIn) || self.any_ends(Stage::ForwardOut) {
            let under_way = "ct state established,related ct direction original";
            rules.push(format!("{under_way} goto policy_forward_end"));
            let mut first = self.dispatch(Stage::ForwardIn, Of::UnderWay, &unmarked);
            first.push(format!("goto {FORWARD_OUT}_end"));
            self.chain("policy_forward_end", first);
            let mut second = self.dispatch(Stage::ForwardOut, Of::UnderWay, "");
            second.push("accept".to_owned());
            self.chain(&format!("{FORWARD_OUT}_end"), second);
        }
        rules.push(ESTABLISHED.to_owned());
        rules.extend(self.dispatch(Stage::ForwardIn, Of::New, &unmarked));
        rules.push(format!("goto {FORWARD_OUT}"));
        self.base("policy_forward", "type filter hook forward priority -10", rules);
        let mut second = self.dispatch(Stage::ForwardOut, Of::New, "");
        second.push("accept".to_owned());
        self.chain(FORWARD_OUT, second);
    }

    /// What passes, or ends, before any policy is asked of a new connection.
    fn before_dispatch(&mut self, stage: Stage, rules: &mut Vec<String>) {
        let ends = self.any_ends(stage);
        if !ends {
            rules.push(ESTABLISHED.to_owned());
        }
        let types = NEIGHBOUR_DISCOVERY.map(|kind| kind.to_string()).join(", ");
        rules.push(format!("icmpv6 type {{ {types} }} accept comment \"neighbour discovery\""));
        let open = match stage.direction() {
            Direction::Ingress => &self.settings.fail_safe.inbound,
            Direction::Egress => &self.settings.fail_safe.outbound,
        };
        for protocol in Protocol::ALL {
            let mut ports: Vec<u16> =
                open.iter().filter(|(of, _)| *of == protocol).map(|&(_, port)| port).collect();
            ports.sort_unstable();
            ports.dedup();
            if !ports.is_empty() {
                let ports: Vec<String> = ports.iter().map(ToString::to_string).collect();
                let (protocol, ports) = (protocol.lower(), ports.join(", "));
                rules.push(format!("{protocol} dport {{ {ports} }} accept comment \"fail-safe\""));
            }
        }
        if ends {
            let name = format!("policy_{}_end", stage.short());
            let under_way = "ct state established,related ct direction original";
            rules.push(format!("{under_way} goto {name}"));
            rules.push(ESTABLISHED.to_owned());
            let mut within = Vec::new();
            if stage == Stage::Input {
                within.push(format!("meta mark & {MARK_ACCEPTED:#x} != 0 accept"));
            }
            within.extend(self.dispatch(stage, Of::UnderWay, ""));
            within.push("accept".to_owned());
            self.chain(&name, within);
        }
    }

    /// The way from an interface to its endpoint's chain.
    fn dispatch(&mut self, stage: Stage, of: Of, condition: &str) -> Vec<String> {
        let (interface, _) = words(stage);
        let scope = self.scope;
        let goes = |one: &Endpoint<'_>| match of {
            Of::New => one.asked(stage).next().is_some() || is_local(stage),
            Of::UnderWay => ends(one, stage),
        };
        let rest = scope.rest.as_ref().filter(|one| goes(one));
        let mut ways = Vec::new();
        for (name, endpoint) in &scope.named {
            if goes(endpoint) {
                let chain = self.endpoint(endpoint, stage, of);
                ways.push(format!("\"{name}\" : goto {chain}"));
            } else if rest.is_some() {
                // Not the business of the endpoint for all the others.
                ways.push(format!("\"{name}\" : {}", onward(stage, of)));
            }
        }
        let mut rules = Vec::new();
        if !ways.is_empty() {
            rules.push(format!("{condition}{interface} vmap {{ {} }}", ways.join(", ")));
        }
        if let Some(rest) = rest {
            let chain = self.endpoint(rest, stage, of);
            rules.push(format!("{condition}{interface} != \"lo\" goto {chain}"));
        }
        rules
    }

    /// A HostEndpoint's chain at a stage, by its name.
    fn endpoint(&mut self, endpoint: &Endpoint<'a>, stage: Stage, of: Of) -> String {
        let name = format!("policy_{}_at_{}{}", stage.short(), short(endpoint.name), of.suffix());
        if self.chains.contains_key(&name) {
            return name;
        }
        let mut rules = Vec::new();
        if of == Of::New {
            let counted = Counted::Invalid { endpoint: endpoint.name.to_owned() };
            let label = format!("{} invalid", short(endpoint.name));
            rules.push(format!("ct state invalid counter drop comment \"{label}\""));
            self.counted.insert(label, counted);
        }
        let mut any = false;
        for asked in endpoint.asked(stage) {
            any = true;
            let chain = self.policy(asked, endpoint, stage, of);
            rules.push(format!("jump {chain}"));
        }
        let closed = match stage {
            Stage::Prerouting => false,
            Stage::Input | Stage::Output => any || !endpoint.default_allow,
            Stage::ForwardIn | Stage::ForwardOut => any,
        };
        rules.push(if of == Of::New && closed {
            let label = format!("{} unmatched {}", short(endpoint.name), stage.short());
            let counted = Counted::Unmatched { endpoint: endpoint.name.to_owned(), stage };
            self.counted.insert(label.clone(), counted);
            format!("counter drop comment \"{label}\"")
        } else {
            onward(stage, of)
        });
        self.chain(&name, rules);
        name
    }

    /// A policy's chain at a stage, by its name.
    fn policy(
        &mut self,
        asked: Asked<'a>,
        endpoint: &Endpoint<'a>,
        stage: Stage,
        of: Of,
    ) -> String {
        let verdicts = verdicts(asked, endpoint, stage, of);
        let rules = asked.rules(stage);
        let passes = rules.iter().any(|rule| rule.action == Action::Pass);
        // Only Pass depends on the endpoint.
        let variant = match (of, is_local(stage) && passes) {
            (Of::New, true) if endpoint.default_allow => "_open",
            (Of::New, true) => "_closed",
            _ => of.suffix(),
        };
        let name = format!("policy_{}_{}{variant}", stage.short(), short(asked.name));
        if self.chains.contains_key(&name) {
            return name;
        }
        let mut lines = Vec::new();
        for rule in rules {
            let direction = stage.direction();
            let label = label(asked.name, rule, direction);
            let counted =
                Counted::Rule { policy: asked.name.to_owned(), direction, index: rule.index };
            self.counted.insert(label.clone(), counted);
            let Some(tail) = verdicts.tail(rule.action, &label) else { continue };
            let matches = self.writer.matches(rule);
            lines.extend(matches.into_iter().map(|text| format!("{text}{tail}")));
            self.warn_of_nothing(asked, rule, direction);
        }
        self.chain(&name, lines);
        name
    }

    /// Warns of selectors and names of ports that nothing has.
    fn warn_of_nothing(
        &mut self,
        asked: Asked<'a>,
        rule: &model::snapshot::policy::Rule,
        direction: Direction,
    ) {
        use model::snapshot::policy::Port;
        for (end, peer) in [("source", &rule.source), ("destination", &rule.destination)] {
            let field = |name: &str| format!("spec.{direction}[{}].{end}.{name}", rule.index);
            let mut warn = |field: String, value: String, reason: &str, remedy: &str| {
                self.diagnostics.push(
                    Diagnostic::warning(
                        ObjectRef::cluster("GlobalNetworkPolicy", asked.name),
                        field,
                        reason,
                    )
                    .value(value)
                    .remedy(remedy)
                    .at(asked.policy.location.clone()),
                );
            };
            let selectors = [("selector", &peer.selector), ("notSelector", &peer.not_selector)];
            for (name, selector) in selectors {
                let Some(selector) = selector else { continue };
                if self.scope.selected(selector).is_empty() {
                    warn(
                        field(name),
                        selector.to_string(),
                        "selects no address of a HostEndpoint or GlobalNetworkSet; pods are not \
                         selected here",
                        "label a GlobalNetworkSet with these networks, or write nets",
                    );
                }
            }
            let ports = [("ports", peer.ports.as_deref().unwrap_or_default())];
            for (name, ports) in ports.into_iter().chain([("notPorts", &peer.not_ports[..])]) {
                for port in ports {
                    let Port::Name(text) = port else { continue };
                    if self.scope.named_ports(text).is_empty() {
                        warn(
                            field(name),
                            text.clone(),
                            "no HostEndpoint with expectedIPs has a port of this name",
                            "add it to spec.ports of one, or write the number",
                        );
                    }
                }
            }
        }
    }

    fn any_ends(&self, stage: Stage) -> bool {
        self.scope.endpoints().any(|one| ends(one, stage))
    }

    fn base(&mut self, name: &str, hook: &str, rules: Vec<String>) {
        let hook = Some(format!("{hook}; policy accept;"));
        self.chains.insert(name.to_owned(), Chain { hook, rules });
    }

    fn chain(&mut self, name: &str, rules: Vec<String>) {
        self.chains.insert(name.to_owned(), Chain { hook: None, rules });
    }
}

/// Whether connections under way are asked about at a stage of an endpoint.
pub(super) fn ends(endpoint: &Endpoint<'_>, stage: Stage) -> bool {
    let own = endpoint.asked(stage).any(|asked| {
        let denies = asked.rules(stage).iter().any(|rule| rule.action == Action::Deny);
        asked.policy.end_connections && denies
    });
    // What is allowed before translation isn't asked about after it, and that must be known then.
    own || stage == Stage::Prerouting
        && endpoint.asked(stage).next().is_some()
        && (ends(endpoint, Stage::Input) || ends(endpoint, Stage::ForwardIn))
}

fn verdicts(asked: Asked<'_>, endpoint: &Endpoint<'_>, stage: Stage, of: Of) -> Verdicts {
    let onward = onward(stage, of);
    let allow = match stage {
        Stage::Prerouting => format!("meta mark set meta mark | {MARK_ACCEPTED:#x} accept"),
        _ => onward.clone(),
    };
    let (deny, pass) = match of {
        Of::New if is_local(stage) && !endpoint.default_allow => ("drop", "drop".to_owned()),
        Of::New => ("drop", onward),
        Of::UnderWay if asked.policy.end_connections => ("drop", onward),
        Of::UnderWay => return Verdicts { allow, deny: onward.clone(), pass: onward, quiet: true },
    };
    Verdicts { allow, deny: deny.to_owned(), pass, quiet: of == Of::UnderWay }
}

/// What a chain says to a packet that it has nothing against.
fn onward(stage: Stage, of: Of) -> String {
    match stage {
        Stage::ForwardIn => format!("goto {FORWARD_OUT}{}", of.suffix()),
        _ => "accept".to_owned(),
    }
}

fn is_local(stage: Stage) -> bool {
    matches!(stage, Stage::Input | Stage::Output)
}

/// The interface that dispatches, and the hook.
fn words(stage: Stage) -> (&'static str, &'static str) {
    match stage {
        Stage::Prerouting => ("iifname", "prerouting"),
        Stage::Input => ("iifname", "input"),
        Stage::ForwardIn => ("iifname", "forward"),
        Stage::ForwardOut => ("oifname", "forward"),
        Stage::Output => ("oifname", "output"),
    }
}
