use model::settings::FailSafe;
use model::snapshot::policy::{Family, Icmp, Interface, NamedPort, Port, Reach, Selector};
use model::{Diagnostic, L4Settings, PortRange, Protocol, Settings, Severity};

use super::*;
use crate::manifest;

fn settings() -> Settings {
    let l4 = L4Settings {
        node_name: "edge-1".into(),
        public: vec!["eth0".into()],
        private: Vec::new(),
        node_ports: PortRange { first: 30000, last: 32767 },
        snat: false,
        load_balancer_class: "tidegate.io/gateway".into(),
        default_class: true,
        fail_safe: FailSafe::default(),
    };
    Settings { l4: Some(l4), ..Settings::default() }
}

/// What a manifest's objects are, and all that is found about them.
fn read(text: &str) -> (Policies, Vec<Diagnostic>) {
    let parsed = manifest::parse("p.yaml", text);
    let mut set = ObjectSet::default();
    parsed.objects.into_iter().for_each(|entry| entry.insert_into(&mut set));
    let (snapshot, diagnostics) = crate::ingest(&set, &settings());
    ((*snapshot.policies).clone(), [parsed.diagnostics, diagnostics].concat())
}

fn policy_text(spec: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: p}}\n\
         spec: {{{spec}}}\n"
    )
}

/// A policy by its specification, with the fields that are found wrong.
fn policy(spec: &str) -> (Option<model::snapshot::policy::Policy>, Vec<String>) {
    let (mut policies, diagnostics) = read(&policy_text(spec));
    let fields = diagnostics.iter().map(|one| one.field.clone()).collect();
    (policies.policies.remove("p"), fields)
}

#[test]
fn both_versions_of_a_name_are_the_same_object() {
    let stored = "
apiVersion: crd.projectcalico.org/v1
kind: GlobalNetworkPolicy
metadata:
  name: default.p
  annotations:
    projectcalico.org/metadata: '{\"annotations\":{\"tidegate.io/end-connections\":\"true\"}}'
spec: {order: 5, selector: 'a == ''b''', ingress: [{action: Deny}]}
";
    let (policies, diagnostics) = read(stored);
    assert_eq!(diagnostics, []);
    let policy = &policies.policies["p"];
    assert!(policy.end_connections);
    assert_eq!(policy.order, model::snapshot::policy::Order::new(Some(5.0)));
    let (policies, diagnostics) = read(&format!("{stored}---\n{}", policy_text("order: 6")));
    assert_eq!(policies.policies.len(), 1);
    assert!(diagnostics[0].reason.contains("stands in this file twice"), "{diagnostics:?}");
}

#[test]
fn labels_stored_in_an_annotation_count() {
    let (policies, diagnostics) = read(
        "apiVersion: crd.projectcalico.org/v1\nkind: HostEndpoint\nmetadata:\n  name: e\n  \
         annotations:\n    projectcalico.org/metadata: '{\"labels\":{\"ibm.role\":\"x\"},\"uid\":\"1\"}'\n\
         spec: {node: edge-1, interfaceName: eth0}\n",
    );
    assert_eq!(diagnostics, []);
    assert_eq!(policies.endpoints["e"].labels["ibm.role"], "x");
}

#[test]
fn labels_that_are_stored_and_broken_are_an_error() {
    let (_, diagnostics) = read(
        "apiVersion: crd.projectcalico.org/v1\nkind: HostEndpoint\nmetadata:\n  name: e\n  \
         annotations: {projectcalico.org/metadata: '{'}\n\
         spec: {node: edge-1, interfaceName: eth0}\n",
    );
    assert_eq!(diagnostics[0].field, "metadata.annotations[\"projectcalico.org/metadata\"]");
    assert_eq!(diagnostics[0].severity, Severity::Error);
}

#[test]
fn what_is_wrong_with_pods_policies_and_other_machines_is_no_error_here() {
    let endpoint = |node: &str| {
        format!(
            "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {{name: {node}}}\n\
             spec: {{node: {node}, interfaceName: eth0, profiles: [x]}}\n---\n"
        )
    };
    let policy = policy_text("selector: has(app), ingress: [{action: Allow, http: {}}]");
    let severities =
        |text: &str| -> Vec<Severity> { read(text).1.iter().map(|one| one.severity).collect() };
    assert_eq!(severities(&policy), [Severity::Error]);
    let (other, own) = (endpoint("edge-2"), endpoint("edge-1"));
    assert_eq!(severities(&format!("{other}{policy}")), [Severity::Error, Severity::Warning]);
    assert_eq!(severities(&format!("{own}{policy}")), [Severity::Error, Severity::Warning]);
}

#[test]
fn every_field_of_a_rule_is_read() {
    let (policy, found) = policy(
        "order: -1.5, selector: has(a), types: [Ingress, Egress], applyOnForward: true,
         ingress: [{action: Allow, ipVersion: 4, protocol: ICMP, icmp: {type: 8, code: 0},
           notICMP: {type: 13}, metadata: {annotations: {a: b}}},
          {action: Deny, protocol: tcp2, notProtocol: 6},
          {action: Log, protocol: 132, source: {nets: [10.1.2.3/8, '::ffff:192.0.2.1'],
           notNets: ['2001:db8::/32'], ports: [80, '443', '1:2', web], selector: a == 'b',
           notSelector: all(), namespaceSelector: global()},
           destination: {notPorts: [0, 65535]}}]",
    );
    let policy = policy.unwrap();
    assert_eq!(found, ["spec.ingress[1].protocol"]);
    assert_eq!(policy.reach, Reach::LocalAndForward);
    assert_eq!(policy.egress, Some(Vec::new()));
    let rules = policy.ingress.unwrap();
    assert_eq!(rules[0].family, Some(Family::Ipv4));
    assert_eq!(rules[0].protocols, [1]);
    assert_eq!(rules[0].icmp, Some(Icmp { kind: 8, code: Some(0) }));
    assert_eq!(rules[0].not_icmp, Some(Icmp { kind: 13, code: None }));
    assert_eq!(rules[1].not_protocol, Some(6));
    let (source, one) = (&rules[2].source, |port| PortRange { first: port, last: port });
    let nets: Vec<String> = source.nets.iter().flatten().map(ToString::to_string).collect();
    assert_eq!(nets, ["10.0.0.0/8", "192.0.2.1/32"]);
    assert_eq!(source.not_nets.len(), 1);
    let ports = [
        Port::Numbers(one(80)),
        Port::Numbers(one(443)),
        Port::Numbers(PortRange { first: 1, last: 2 }),
        Port::Name("web".into()),
    ];
    assert_eq!(source.ports.as_deref(), Some(&ports[..]));
    assert_eq!(source.selector, Some(Selector::Equal("a".into(), "b".into())));
    assert_eq!(source.not_selector, Some(Selector::All));
    assert_eq!(rules[2].destination.not_ports, [0, 65535].map(|port| Port::Numbers(one(port))));
}

#[test]
fn types_default_as_calicos() {
    for (spec, ingress, egress) in [
        ("", true, false),
        ("ingress: [{action: Allow}]", true, false),
        ("egress: [{action: Allow}]", false, true),
        ("ingress: [{action: Allow}], egress: [{action: Allow}]", true, true),
        ("types: [Egress]", false, true),
        ("types: [Ingress, Egress]", true, true),
    ] {
        let (policy, found) = policy(spec);
        let policy = policy.unwrap();
        assert_eq!(
            (policy.ingress.is_some(), policy.egress.is_some()),
            (ingress, egress),
            "{spec}"
        );
        assert_eq!(found, Vec::<String>::new());
    }
    let (policy, found) = policy("types: [Ingress], egress: [{action: Allow}]");
    assert_eq!(policy.unwrap().egress, None);
    assert_eq!(found, ["spec.egress"]);
}

#[test]
fn what_calico_refuses_as_a_whole_is_not_in_force() {
    for (spec, field) in [
        ("preDNAT: true", "spec.applyOnForward"),
        ("preDNAT: true, applyOnForward: true, egress: [{action: Deny}]", "spec.egress"),
        ("preDNAT: true, applyOnForward: true, types: [Ingress, Egress]", "spec.types"),
        ("doNotTrack: true, applyOnForward: true", "spec.doNotTrack"),
        ("tier: security", "spec.tier"),
    ] {
        let (policy, found) = policy(spec);
        assert_eq!(policy, None, "{spec}");
        assert_eq!(found, [field], "{spec}");
    }
    let (policy, found) = policy("tier: default, preDNAT: true, applyOnForward: true");
    assert_eq!(policy.unwrap().reach, Reach::PreDnat);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn fields_without_effect_are_named() {
    let (policy, found) = policy("performanceHints: [AssumeNeededOnEveryNode], stagedAction: Set");
    assert!(policy.is_some());
    assert_eq!(found, ["spec.performanceHints", "spec.stagedAction"]);
}

#[test]
fn an_unhonoured_match_leaves_an_allow_out_and_widens_a_deny() {
    for (field, fields) in [
        ("source.services", "source: {services: {name: a}, nets: [10.0.0.0/8]}"),
        ("source.serviceAccounts", "source: {serviceAccounts: {names: [a]}, nets: [10.0.0.0/8]}"),
        ("source.domains", "source: {domains: [a.test], nets: [10.0.0.0/8]}"),
        ("source.namespaceSelector", "source: {namespaceSelector: all(), nets: [10.0.0.0/8]}"),
        ("source.selector", "source: {selector: a =, nets: [10.0.0.0/8]}"),
        (
            "destination.nets[1]",
            "destination: {nets: [10.0.0.0/8, x]}, source: {nets: [10.0.0.0/8]}",
        ),
        ("http", "http: {methods: [GET]}, source: {nets: [10.0.0.0/8]}"),
        ("icmp", "icmp: {type: 8}, source: {nets: [10.0.0.0/8]}"),
        ("soruce", "soruce: {nets: [10.0.0.0/8]}, source: {nets: [10.0.0.0/8]}"),
        ("source.net", "source: {net: [10.0.0.0/8], nets: [10.0.0.0/8]}"),
        ("destination.port", "destination: {port: [80]}, source: {nets: [10.0.0.0/8]}"),
        ("icmp.kind", "protocol: ICMP, icmp: {kind: 8}, source: {nets: [10.0.0.0/8]}"),
        ("notICMP.cod", "protocol: ICMP, notICMP: {cod: 8}, source: {nets: [10.0.0.0/8]}"),
        ("ipVersion", "ipVersion: 5, source: {nets: [10.0.0.0/8]}"),
        ("protocol", "protocol: QUIC, source: {nets: [10.0.0.0/8]}"),
        (
            "destination.ports[0]",
            "protocol: TCP, destination: {ports: ['9:8']}, source: {nets: [10.0.0.0/8]}",
        ),
    ] {
        for action in ["Allow", "Pass", "Log", "Deny"] {
            let (policy, found) = policy(&format!("ingress: [{{action: {action}, {fields}}}]"));
            assert_eq!(found, [format!("spec.ingress[0].{field}")], "{action}");
            let rules = policy.unwrap().ingress.unwrap();
            assert_eq!(rules.len(), usize::from(action == "Deny"), "{action} {field}");
            if let [rule] = &rules[..] {
                assert!(rule.source.nets.is_some(), "{field}");
                assert_eq!(rule.source.selector, None);
                assert_eq!(rule.destination, model::snapshot::policy::Peer::default());
            }
        }
    }
}

#[test]
fn ports_need_a_protocol_that_has_them() {
    let ports = "destination: {ports: [80]}";
    let (allow, found) = policy(&format!("ingress: [{{action: Allow, {ports}}}]"));
    assert_eq!(found, ["spec.ingress[0].protocol"]);
    assert_eq!(allow.unwrap().ingress, Some(Vec::new()));
    let (deny, _) = policy(&format!("egress: [{{action: Deny, {ports}}}]"));
    assert_eq!(deny.unwrap().egress.unwrap()[0].protocols, [6, 17, 132]);
    let (deny, found) = policy(&format!("egress: [{{action: Deny, protocol: 89, {ports}}}]"));
    assert_eq!(found, ["spec.egress[0].protocol"]);
    let rule = &deny.unwrap().egress.unwrap()[0];
    assert_eq!((&rule.protocols[..], &rule.destination.ports), (&[89][..], &None));
}

#[test]
fn an_unknown_action_denies() {
    let (policy, found) = policy("ingress: [{action: allow, protocol: TCP}, {protocol: UDP}]");
    assert_eq!(found, ["spec.ingress[0].action", "spec.ingress[1].action"]);
    let rules = policy.unwrap().ingress.unwrap();
    assert!(rules.iter().all(|rule| rule.action == model::snapshot::policy::Action::Deny));
}

#[test]
fn a_selector_that_does_not_parse_leaves_the_denies_for_everyone() {
    let (policies, diagnostics) = read(&policy_text(
        "selector: ibm.role = 'x', ingress: [{action: Allow}, {action: Deny, protocol: UDP}]",
    ));
    let found = &diagnostics[0];
    assert_eq!((found.severity, found.field.as_str()), (Severity::Error, "spec.selector"));
    assert!(found.reason.contains("at character 10: expected ==, !=, in"), "{}", found.reason);
    assert_eq!(found.location.as_ref().map(|location| location.line), Some(1));
    let policy = &policies.policies["p"];
    assert_eq!(policy.selector, Selector::All);
    let rules = policy.ingress.as_deref().unwrap();
    assert_eq!((rules.len(), rules[0].index), (1, 1));
}

#[test]
fn policies_of_pods_are_for_no_host_endpoint() {
    for field in ["namespaceSelector: all()", "serviceAccountSelector: a == 'b'"] {
        let (policy, found) = policy(field);
        assert_eq!(policy, None);
        let name = field.split(':').next().unwrap();
        assert_eq!(found, [format!("spec.{name}")]);
    }
    assert!(policy("namespaceSelector: global()").0.is_some());
}

#[test]
fn kinds_that_are_not_honoured_are_named() {
    let (_, diagnostics) = read(
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nmetadata: {name: a, namespace: n}\n\
         spec: {any: thing}\n---\n\
         apiVersion: crd.projectcalico.org/v1\nkind: Tier\nmetadata: {name: security}\n---\n\
         apiVersion: projectcalico.org/v3\nkind: StagedGlobalNetworkPolicy\n\
         metadata: {name: s}\n---\n\
         apiVersion: projectcalico.org/v3\nkind: IPPool\nmetadata: {name: pool}\n---\n\
         apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: other}\n",
    );
    let objects: Vec<String> = diagnostics.iter().map(|one| one.object.to_string()).collect();
    assert_eq!(objects, ["NetworkPolicy n/a", "StagedGlobalNetworkPolicy s", "Tier security"]);
}

#[test]
fn other_versions_of_calicos_kinds_are_errors() {
    let (_, diagnostics) = read(
        "apiVersion: projectcalico.org/v1\nkind: HostEndpoint\nmetadata: {name: e}\nspec: {}\n",
    );
    assert_eq!(diagnostics[0].field, "apiVersion");
    assert!(diagnostics[0].remedy.contains("projectcalico.org/v3"), "{diagnostics:?}");
}

#[test]
fn an_unknown_field_of_a_policy_leaves_its_denies() {
    let rules = "selector: a == 'b', ingress: [{action: Allow}, {action: Deny, protocol: UDP}]";
    for (unknown, field, reach) in [
        ("preDnat: true, applyOnForward: true", "preDnat", Reach::PreDnat),
        ("preDNAT: true, applyOnForwards: true", "applyOnForwards", Reach::PreDnat),
        ("preDnat: false", "preDnat", Reach::Local),
        ("applyonforward: true", "applyonforward", Reach::LocalAndForward),
        ("oder: 5", "oder", Reach::Local),
    ] {
        let (policies, diagnostics) = read(&policy_text(&format!("{rules}, {unknown}")));
        let found: Vec<_> =
            diagnostics.iter().map(|one| (one.severity, one.field.as_str())).collect();
        assert_eq!(found, [(Severity::Error, format!("spec.{field}").as_str())], "{unknown}");
        let policy = &policies.policies["p"];
        assert_eq!(policy.selector, Selector::Equal("a".into(), "b".into()));
        assert_eq!(policy.reach, reach, "{unknown}");
        let rules = policy.ingress.as_deref().unwrap();
        assert_eq!((rules.len(), rules[0].index), (1, 1), "{unknown}");
    }
}

#[test]
fn a_wrong_case_loses_no_deny_of_what_goes_out() {
    let (policy, found) = policy("preDnat: true, egress: [{action: Allow}, {action: Deny}]");
    assert_eq!(found, ["spec.preDnat"]);
    let policy = policy.unwrap();
    assert_eq!((policy.reach, policy.egress.map(|rules| rules.len())), (Reach::Local, Some(1)));
}

#[test]
fn unknown_fields_of_endpoints_and_sets_are_errors_and_change_nothing_else() {
    let (policies, diagnostics) = read(
        "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {name: e, lables: {a: b}}\n\
         spec: {node: edge-1, interfaceName: eth0, expectedIps: [192.0.2.1]}\n---\n\
         apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: s}\n\
         spec: {nets: [203.0.113.0/24], net: [198.51.100.0/24]}\n",
    );
    let mut found: Vec<_> =
        diagnostics.iter().map(|one| (one.severity, one.field.as_str())).collect();
    found.sort_by_key(|&(_, field)| field);
    let expected = [
        (Severity::Warning, "metadata.lables"),
        (Severity::Error, "spec.expectedIps"),
        (Severity::Error, "spec.net"),
    ];
    assert_eq!(found, expected);
    assert_eq!(policies.endpoints["e"].interface, Interface::Name("eth0".into()));
    assert_eq!(policies.sets["s"].nets.len(), 1);
}

fn endpoint(spec: &str) -> (Option<model::snapshot::policy::HostEndpoint>, Vec<String>) {
    let (mut policies, diagnostics) = read(&format!(
        "apiVersion: projectcalico.org/v3\nkind: HostEndpoint\nmetadata: {{name: e, labels: {{a: b}}}}\n\
         spec: {{{spec}}}\n"
    ));
    let fields = diagnostics.iter().map(|one| one.field.clone()).collect();
    (policies.endpoints.remove("e"), fields)
}

#[test]
fn endpoints_are_interfaces_by_name_by_address_or_all() {
    for (spec, interface) in [
        (
            "node: n, interfaceName: eth0.12, expectedIPs: [192.0.2.1]",
            Interface::Name("eth0.12".into()),
        ),
        ("node: n, interfaceName: '*'", Interface::All),
        ("node: n, expectedIPs: ['2001:db8::1']", Interface::ByAddress),
    ] {
        let (endpoint, found) = endpoint(spec);
        assert_eq!(endpoint.unwrap().interface, interface);
        assert_eq!(found, Vec::<String>::new());
    }
    for (spec, field) in [
        ("interfaceName: eth0", "spec.node"),
        ("node: n", "spec.interfaceName"),
        ("node: n, interfaceName: 'eth0\" accept'", "spec.interfaceName"),
        ("node: n, interfaceName: 'eth*'", "spec.interfaceName"),
    ] {
        assert_eq!(endpoint(spec), (None, vec![field.to_owned()]), "{spec}");
    }
}

#[test]
fn profiles_ports_and_addresses_of_endpoints_are_checked() {
    let (endpoint, found) = endpoint(
        "node: n, interfaceName: eth0, expectedIPs: [192.0.2.1, x],
         profiles: [projectcalico-default-allow, kns.default],
         ports: [{name: web, protocol: TCP, port: 80}, {name: dns, protocol: ICMP, port: 53},
           {name: 'a b', port: 1}, {name: zero, port: 0}, {name: plain, port: 8080}]",
    );
    let endpoint = endpoint.unwrap();
    assert!(endpoint.default_allow);
    assert_eq!(endpoint.expected_ips.len(), 1);
    let named = |name: &str, port| NamedPort { name: name.into(), protocol: Protocol::Tcp, port };
    assert_eq!(endpoint.ports, [named("web", 80), named("plain", 8080)]);
    let expected = [
        "spec.expectedIPs[1]",
        "spec.ports[1]",
        "spec.ports[2]",
        "spec.ports[3]",
        "spec.profiles[1]",
    ];
    assert_eq!(found, expected);
}

#[test]
fn sets_hold_networks_and_no_names() {
    let (policies, diagnostics) = read(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: s, labels: {a: b}}\n\
         spec: {nets: [203.0.113.0/24, x, '2001:db8::1'], allowedEgressDomains: [a.test]}\n",
    );
    let set = &policies.sets["s"];
    assert_eq!((set.nets.len(), set.labels["a"].as_str()), (2, "b"));
    let fields: Vec<&str> = diagnostics.iter().map(|one| one.field.as_str()).collect();
    assert_eq!(fields, ["spec.allowedEgressDomains", "spec.nets[1]"]);
}

#[test]
fn without_l4_no_policy_is_in_force_and_each_is_named() {
    let parsed = manifest::parse("p.yaml", &policy_text(""));
    let mut set = ObjectSet::default();
    parsed.objects.into_iter().for_each(|entry| entry.insert_into(&mut set));
    let (snapshot, diagnostics) = crate::ingest(&set, &Settings::default());
    assert_eq!(*snapshot.policies, Policies::default());
    assert_eq!(diagnostics[0].object, ObjectRef::cluster("GlobalNetworkPolicy", "p"));
}

#[test]
fn a_misspelt_match_opens_a_rule_to_nobody() {
    for (rule, field) in [
        ("{action: Allow, soruce: {nets: [10.0.0.0/8]}}", "soruce"),
        ("{action: Allow, source: {net: [10.0.0.0/8]}}", "source.net"),
        ("{action: Pass, protocl: TCP}", "protocl"),
        ("{action: Allow, soruce: null}", "soruce"),
    ] {
        let (policies, diagnostics) = read(&policy_text(&format!("ingress: [{rule}]")));
        assert_eq!(policies.policies["p"].ingress, Some(Vec::new()), "{rule}");
        let [found] = &diagnostics[..] else { panic!("{diagnostics:?}") };
        assert_eq!(found.severity, Severity::Error);
        assert_eq!(found.field, format!("spec.ingress[0].{field}"));
        assert_eq!(found.reason, "is not a field of a rule, so the rule is left out");
    }
}
