use std::collections::BTreeMap;

use ingest::ObjectSet;
use model::settings::FailSafe;
use model::{PortRange, Protocol, Settings};

use super::*;
use crate::nft::MARK_ACCEPTED;

/// An edge that keeps SSH open for itself, and DNS outward.
fn settings() -> L4Settings {
    L4Settings {
        node_name: "edge-1".into(),
        public: vec!["eth0".into()],
        private: vec!["eth1".into()],
        node_ports: PortRange { first: 30000, last: 32767 },
        snat: false,
        load_balancer_class: "tidegate.io/gateway".into(),
        default_class: true,
        fail_safe: FailSafe {
            inbound: vec![(Protocol::Tcp, 22)],
            outbound: vec![(Protocol::Udp, 53)],
        },
    }
}

fn host() -> Vec<HostAddress> {
    [("eth0", "192.0.2.1/24"), ("eth1", "10.0.0.1/24")]
        .map(|(interface, network)| HostAddress {
            interface: interface.into(),
            network: network.parse().unwrap(),
        })
        .to_vec()
}

fn policies(text: &str) -> (Policies, Vec<Diagnostic>) {
    let parsed = ingest::manifest::parse("test.yaml", text);
    assert_eq!(parsed.diagnostics, []);
    let mut set = ObjectSet::default();
    parsed.objects.into_iter().for_each(|entry| entry.insert_into(&mut set));
    let settings = Settings { l4: Some(settings()), ..Settings::default() };
    let (snapshot, diagnostics) = ingest::ingest(&set, &settings);
    ((*snapshot.policies).clone(), diagnostics)
}

fn compiled(text: &str) -> Compiled {
    let (policies, diagnostics) = policies(text);
    assert_eq!(diagnostics, []);
    let (compiled, diagnostics) = compile(&policies, &settings(), &host());
    assert_eq!(diagnostics, []);
    compiled
}

const PUBLIC: &str = "
apiVersion: projectcalico.org/v3
kind: HostEndpoint
metadata: {name: edge-1-public, labels: {ibm.role: worker_public}}
spec: {node: edge-1, interfaceName: eth0, expectedIPs: [192.0.2.1]}
---
";

/// The samples that the repository shows, by their files' names.
fn samples(names: &[&str]) -> Policies {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../configs/samples-l4/policies");
    let texts = names.iter().map(|name| {
        let path = format!("{folder}/{name}.yaml");
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"))
    });
    let (policies, diagnostics) = policies(&texts.collect::<Vec<_>>().join("---\n"));
    assert_eq!(diagnostics, []);
    assert_eq!(compile(&policies, &settings(), &host()).1, []);
    policies
}

/// A new connection: `tcp 198.51.100.7 -> 192.0.2.1:80 input eth0`, with ` => 10.2.0.3:8080`
/// after translation, and `forward eth0 eth1` or `output eth0`.
fn packet(text: &str) -> Packet {
    let (text, translated) = text.split_once(" => ").unwrap_or((text, ""));
    let words: Vec<&str> = text.split(' ').collect();
    let address = |text: &str| match text.parse::<std::net::SocketAddr>() {
        Ok(address) => (address.ip(), Some(address.port())),
        Err(_) => (text.parse().unwrap(), None),
    };
    let (destination, destination_port) = address(words[3]);
    let own = |index: usize| words[index].to_owned();
    let protocol = match words[0] {
        "tcp" => 6,
        "udp" => 17,
        "icmp" => 1,
        "icmpv6" => 58,
        other => other.parse().unwrap(),
    };
    Packet {
        path: match words[4] {
            "input" => Path::Input { from: own(5) },
            "output" => Path::Output { to: own(5) },
            _ => Path::Forward { from: own(5), to: own(6) },
        },
        protocol,
        source: words[1].parse().unwrap(),
        destination,
        source_port: destination_port.map(|_| 40000),
        destination_port,
        icmp: [1, 58].contains(&protocol).then_some(if protocol == 1 { (8, 0) } else { (128, 0) }),
        state: State::New,
        translated: (!translated.is_empty()).then(|| {
            let (address, port) = address(translated);
            Translated { address, port }
        }),
    }
}

/// What was decided last, and by what: `pass: …` or `drop: …`.
fn outcome(policies: &Policies, packet: &Packet) -> String {
    let decision = evaluate(policies, &settings(), &host(), packet);
    let last = decision.stages.last().unwrap();
    let verdict = if decision.allowed { "pass" } else { "drop" };
    format!("{verdict}: {}", last.reason)
}

fn assert_outcomes(policies: &Policies, expected: &[(&str, &str)]) {
    for (text, expected) in expected {
        assert_eq!(outcome(policies, &packet(text)), *expected, "{text}");
    }
}

#[test]
fn node_ports_are_closed_on_the_public_interface_and_one_is_open_to_the_office() {
    let policies = samples(&["host-endpoints", "deny-nodeports", "allow-office"]);
    assert_outcomes(
        &policies,
        &[
            (
                "tcp 198.51.100.7 -> 192.0.2.1:30080 forward eth0 eth1 => 10.2.0.3:8080",
                "drop: deny-nodeports ingress[0] Deny",
            ),
            (
                "udp 198.51.100.7 -> 192.0.2.1:32767 forward eth0 eth1 => 10.2.0.3:53",
                "drop: deny-nodeports ingress[1] Deny",
            ),
            (
                "tcp 203.0.113.9 -> 192.0.2.1:30080 forward eth0 eth1 => 10.2.0.3:8080",
                "pass: no policy is for it here",
            ),
            (
                "tcp 2001:db8:77::1 -> [2001:db8::1]:30080 forward eth0 eth1",
                "pass: no policy is for it here",
            ),
            (
                "tcp 203.0.113.9 -> 192.0.2.1:30081 forward eth0 eth1 => 10.2.0.3:8081",
                "drop: deny-nodeports ingress[0] Deny",
            ),
            // The VIP of the same Service, and the private interface.
            (
                "tcp 198.51.100.7 -> 192.0.2.10:80 forward eth0 eth1 => 10.2.0.3:8080",
                "pass: no policy is for it here",
            ),
            (
                "tcp 10.0.0.9 -> 10.0.0.1:30080 forward eth1 eth1 => 10.2.0.3:8080",
                "pass: no policy is for it here",
            ),
        ],
    );
}

#[test]
fn what_is_allowed_before_translation_is_not_asked_of_ingress_policies_again() {
    let policies = samples(&["host-endpoints", "deny-nodeports", "allow-office", "defaults"]);
    let office = packet("tcp 203.0.113.9 -> 192.0.2.1:30080 input eth0");
    assert_eq!(outcome(&policies, &office), "pass: allowed before translation");
    let forwarded = packet("tcp 203.0.113.9 -> 192.0.2.1:30080 forward eth0 eth1 => 10.2.0.3:80");
    let decision = evaluate(&policies, &settings(), &host(), &forwarded);
    assert_eq!(decision.stages[1].reason, Reason::AllowedBefore);
    assert!(decision.allowed);
}

#[test]
fn a_vip_is_open_to_a_list_only() {
    let policies = samples(&["host-endpoints", "vip-for-some"]);
    let there = "192.0.2.10:443 forward eth0 eth1 => 10.2.0.3:8443";
    assert_outcomes(
        &policies,
        &[
            (&format!("tcp 203.0.113.7 -> {there}"), "pass: no policy is for it here"),
            (&format!("tcp 203.0.113.8 -> {there}"), "drop: vip-deny-others ingress[0] Deny"),
        ],
    );
    let mut under_way = packet(&format!("tcp 203.0.113.8 -> {there}"));
    under_way.state = State::Established;
    assert_eq!(outcome(&policies, &under_way), "drop: vip-deny-others ingress[0] Deny");
    under_way.state = State::Reply;
    assert_eq!(outcome(&policies, &under_way), "pass: connection under way");
}

#[test]
fn the_default_policies_open_what_they_say_and_nothing_else() {
    let policies = samples(&["host-endpoints", "defaults"]);
    assert_outcomes(
        &policies,
        &[
            (
                "tcp 198.51.100.200 -> 192.0.2.1:52311 input eth0",
                "pass: allow-bigfix-port ingress[0] Allow",
            ),
            ("icmp 198.51.100.200 -> 192.0.2.1 input eth0", "pass: allow-icmp ingress[0] Allow"),
            ("112 198.51.100.200 -> 192.0.2.1 input eth0", "pass: allow-vrrp ingress[0] Allow"),
            (
                "tcp 198.51.100.7 -> 192.0.2.1:48001 input eth0",
                "pass: allow-sys-mgmt ingress[0] Allow",
            ),
            (
                "tcp 198.51.100.200 -> 192.0.2.1:48001 input eth0",
                "drop: no rule of the policies allows it",
            ),
            ("tcp 198.51.100.200 -> 192.0.2.1:22 input eth0", "pass: fail-safe port"),
            (
                "tcp 198.51.100.200 -> 192.0.2.1:80 input eth0",
                "drop: no rule of the policies allows it",
            ),
            (
                "tcp 192.0.2.1 -> 198.51.100.200:80 output eth0",
                "pass: allow-all-outbound egress[0] Allow",
            ),
            (
                "tcp 198.51.100.7 -> 192.0.2.1:80 forward eth0 eth1 => 172.30.1.2:8080",
                "pass: no policy is for it here",
            ),
            // Forwarded, and to no pod: a policy with applyOnForward is there and doesn't allow it.
            (
                "tcp 198.51.100.7 -> 10.0.0.9:80 forward eth0 eth1",
                "drop: no rule of the policies allows it",
            ),
            ("tcp 10.0.0.9 -> 10.0.0.1:80 input eth1", "pass: profile projectcalico-default-allow"),
            ("tcp 10.0.0.9 -> 10.0.0.1:80 input eth2", "pass: the interface is no HostEndpoint"),
        ],
    );
}

#[test]
fn an_endpoint_with_no_policy_drops_local_traffic_and_lets_forwarded_pass() {
    let (policies, _) = policies(PUBLIC);
    assert_outcomes(
        &policies,
        &[
            ("tcp 198.51.100.7 -> 192.0.2.1:80 input eth0", "drop: no policy is for it here"),
            ("tcp 192.0.2.1 -> 198.51.100.7:80 output eth0", "drop: no policy is for it here"),
            (
                "tcp 198.51.100.7 -> 10.0.0.9:80 forward eth0 eth1",
                "pass: the interface is no HostEndpoint",
            ),
            ("udp 192.0.2.1 -> 198.51.100.7:53 output eth0", "pass: fail-safe port"),
        ],
    );
}

/// A policy of ordinary traffic for every endpoint.
fn ordinary(name: &str, order: &str, rules: &str) -> String {
    format!(
        "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {{name: {name}}}\n\
         spec: {{applyOnForward: true, {order} ingress: [{rules}]}}\n---\n"
    )
}

#[test]
fn order_comes_before_name_and_none_is_last() {
    let text = [
        PUBLIC.to_owned(),
        ordinary("a-last", "", "{action: Allow}"),
        ordinary("b-tenth", "order: 10,", "{action: Deny}"),
        ordinary("c-tenth", "order: 10.0,", "{action: Allow}"),
        ordinary("d-ninth", "order: 9.5,", "{action: Allow, protocol: UDP}"),
    ];
    let (policies, _) = policies(&text.concat());
    assert_outcomes(
        &policies,
        &[
            ("udp 198.51.100.7 -> 192.0.2.1:80 input eth0", "pass: d-ninth ingress[0] Allow"),
            ("tcp 198.51.100.7 -> 192.0.2.1:80 input eth0", "drop: b-tenth ingress[0] Deny"),
        ],
    );
    let chains = compile(&policies, &settings(), &host()).0.table.chains;
    let jumps = &chains["policy_in_at_edge-1-public"].rules;
    let expected =
        ["d-ninth", "b-tenth", "c-tenth", "a-last"].map(|name| format!("jump policy_in_{name}"));
    assert_eq!(jumps[1..5], expected);
}

#[test]
fn pass_skips_the_other_policies_for_the_profiles() {
    let rules = "{action: Log}, {action: Pass, protocol: TCP}";
    let text = [PUBLIC, &ordinary("a", "order: 1,", rules), &ordinary("b", "", "{action: Allow}")];
    let (policies, _) = policies(&text.concat());
    assert_outcomes(
        &policies,
        &[
            (
                "tcp 198.51.100.7 -> 192.0.2.1:80 input eth0",
                "drop: a rule passed it on, and no profile allows it",
            ),
            ("udp 198.51.100.7 -> 192.0.2.1:80 input eth0", "pass: b ingress[0] Allow"),
            (
                "tcp 198.51.100.7 -> 10.0.0.9:80 forward eth0 eth1",
                "pass: the interface is no HostEndpoint",
            ),
        ],
    );
    let decision = evaluate(
        &policies,
        &settings(),
        &host(),
        &packet("tcp 198.51.100.7 -> 192.0.2.1:80 input eth0"),
    );
    assert_eq!(
        decision.to_string(),
        "before translation (edge-1-public): passes: no policy is for it here\n\
         to local processes (edge-1-public): dropped: a rule passed it on, and no profile allows it\n\
         \x20 a (order 1) ingress[0] Log: matches\n\
         \x20 a (order 1) ingress[1] Pass: matches\n"
    );
}

#[test]
fn an_edited_policy_changes_its_own_chains_only() {
    let other = ordinary("other", "", "{action: Allow}");
    let one = |port: &str| {
        let rule = format!("{{action: Deny, protocol: TCP, destination: {{ports: [{port}]}}}}");
        compiled(&[PUBLIC, &ordinary("one", "order: 1,", &rule), &other].concat()).table
    };
    let (before, after) = (one("80"), one("81"));
    assert_eq!(before.sets, after.sets);
    let changed: Vec<&str> = (before.chains.iter())
        .filter(|(name, chain)| after.chains.get(*name) != Some(*chain))
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(changed, ["policy_fin_one", "policy_in_one"]);
    assert_eq!(before.chains.len(), after.chains.len());
}

#[test]
fn an_edited_network_set_changes_elements_only() {
    let with = |net: &str| {
        let set = format!(
            "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\n\
             metadata: {{name: s, labels: {{from: office}}}}\nspec: {{nets: [{net}]}}\n---\n"
        );
        let rule = "{action: Allow, source: {selector: from == 'office'}}";
        compiled(&[PUBLIC, &set, &ordinary("one", "", rule)].concat()).table
    };
    let (before, after) = (with("203.0.113.0/24"), with("203.0.113.0/25, '::/0', 203.0.113.9"));
    assert_eq!(before.chains, after.chains);
    let elements = |table: &Table| -> Vec<Vec<String>> {
        table.sets.values().map(|set| set.elements.keys().cloned().collect()).collect()
    };
    assert_eq!(elements(&before), [vec!["203.0.113.0/24"], vec![]]);
    assert_eq!(elements(&after), [vec!["203.0.113.0/25"], vec!["8000::/1", "::/1"]]);
}

#[test]
fn nothing_stands_in_the_table_without_an_endpoint_of_this_machine() {
    let other = PUBLIC.replace("node: edge-1", "node: edge-2");
    let text = [other, ordinary("one", "", "{action: Deny}")].concat();
    let (policies, _) = policies(&text);
    let (compiled, diagnostics) = compile(&policies, &settings(), &host());
    assert_eq!(compiled, Compiled::default());
    let fields: Vec<&str> = diagnostics.iter().map(|one| one.field.as_str()).collect();
    assert_eq!(fields, ["nodeName"]);
}

#[test]
fn an_endpoint_without_interface_name_is_found_by_its_address() {
    let text = PUBLIC.replace("interfaceName: eth0, ", "");
    let input = &compiled(&text).table.chains["policy_input"];
    let last = input.rules.last().unwrap();
    assert_eq!(last, "iifname vmap { \"eth0\" : goto policy_in_at_edge-1-public }");
    let (policies, _) = policies(&text);
    let (compiled, diagnostics) = compile(&policies, &settings(), &[]);
    assert_eq!(compiled, Compiled::default());
    assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
    assert_eq!(diagnostics[0].field, "spec.expectedIPs");
}

#[test]
fn the_endpoint_of_all_interfaces_leaves_those_with_their_own_alone() {
    let rest = PUBLIC.replace("edge-1-public", "z-rest").replace("eth0", "'*'");
    let policy =
        ordinary("one", "", "{action: Allow}").replace("spec: {", "spec: {selector: x == 'y', ");
    let rest = rest.replace("worker_public", "none, x: y");
    let forward = &compiled(&[PUBLIC, &rest, &policy].concat()).table.chains["policy_forward"];
    assert_eq!(
        forward.rules[1..],
        [
            "iifname vmap { \"eth0\" : goto policy_forward_out }",
            "iifname != \"lo\" goto policy_fin_at_z-rest",
            "goto policy_forward_out",
        ]
    );
}

#[test]
fn long_names_are_shortened_and_stay_different() {
    let long = |end: &str| format!("{}.{end}", ["a"; 100].join("."));
    let text = [
        PUBLIC.to_owned(),
        ordinary(&long("x"), "", "{action: Allow}, {action: Log}"),
        ordinary(&long("y"), "", "{action: Deny}"),
    ];
    let compiled = compiled(&text.concat());
    assert_eq!(compiled.counted.len(), 7, "{:?}", compiled.counted);
    for comment in compiled.counted.keys() {
        assert!(comment.len() <= 100, "{comment}");
    }
    assert!(compiled.table.chains.keys().all(|name| name.len() < 110));
}

#[test]
fn a_selector_or_port_name_that_nothing_has_is_a_warning() {
    let rule =
        "{action: Allow, protocol: TCP, source: {selector: a == 'b'}, destination: {ports: [web]}}";
    let (policies, _) = policies(&[PUBLIC, &ordinary("one", "", rule)].concat());
    let (_, diagnostics) = compile(&policies, &settings(), &host());
    let fields: Vec<&str> = diagnostics.iter().map(|one| one.field.as_str()).collect();
    assert_eq!(fields, ["spec.ingress[0].destination.ports", "spec.ingress[0].source.selector"]);
}

#[test]
fn a_forged_mark_is_cleared_before_any_policy() {
    let policies = samples(&["host-endpoints", "deny-nodeports"]);
    let chains = compile(&policies, &settings(), &host()).0.table.chains;
    let first = &chains["policy_prerouting"].rules[0];
    assert_eq!(
        *first,
        format!("meta mark & {MARK_ACCEPTED:#x} != 0 meta mark set meta mark & 0xefffffff")
    );
}

#[test]
fn counters_are_summed_over_the_chains_of_a_rule() {
    let compiled = compiled(&[PUBLIC, &ordinary("one", "", "{action: Deny}")].concat());
    let listing = serde_json::json!({"nftables": [
        {"metainfo": {"version": "1.0.6"}},
        {"chain": {"name": "policy_in_one"}},
        {"rule": {"chain": "policy_in_one", "comment": "one ingress[0]", "expr": [
            {"match": {"op": "==", "left": {"meta": {"key": "l4proto"}}, "right": 6}},
            {"counter": {"packets": 3, "bytes": 180}}, {"drop": null}]}},
        {"rule": {"chain": "policy_fin_one", "comment": "one ingress[0]", "expr": [
            {"counter": {"packets": 2, "bytes": 100}}, {"drop": null}]}},
        {"rule": {"chain": "policy_in_at_edge-1-public", "comment": "edge-1-public invalid", "expr": [
            {"counter": {"packets": 1, "bytes": 40}}, {"drop": null}]}},
        {"rule": {"chain": "other", "comment": "foreign", "expr": [{"counter": {"packets": 9, "bytes": 9}}]}},
        {"rule": {"chain": "other", "expr": [{"accept": null}]}},
        // As nft 1.0.6 prints what its JSON has no form for, and other counters.
        {"rule": {"chain": "nat", "expr": [
            "update @affinity4 { ip saddr . ip daddr : numgen random mod 2 }", {"counter": null}]}},
        {"rule": {"chain": "policy_in_one", "comment": "one ingress[0]", "expr": [
            "text", {"counter": "named"}, {"drop": null}]}},
    ]});
    let counters = compiled.counters(&serde_json::from_value(listing).unwrap());
    let expected = BTreeMap::from([
        (
            Counted::Rule { policy: "one".into(), direction: Direction::Ingress, index: 0 },
            Counter { packets: 5, bytes: 280 },
        ),
        (Counted::Invalid { endpoint: "edge-1-public".into() }, Counter { packets: 1, bytes: 40 }),
    ]);
    assert_eq!(counters, expected);
}

#[test]
fn an_endpoint_of_an_interface_that_is_not_there_is_named_and_stays() {
    let text = PUBLIC.replace("eth0", "eht0")
        + "apiVersion: projectcalico.org/v3\nkind: GlobalNetworkPolicy\nmetadata: {name: p}\n\
           spec: {ingress: [{action: Deny}]}\n";
    let (policies, _) = policies(&text);
    let (there, diagnostics) = compile(&policies, &settings(), &host());
    let [found] = &diagnostics[..] else { panic!("{diagnostics:?}") };
    assert_eq!(found.severity, model::Severity::Warning);
    assert_eq!(found.object, model::ObjectRef::cluster("HostEndpoint", "edge-1-public"));
    assert_eq!(
        (found.field.as_str(), found.value.as_deref()),
        ("spec.interfaceName", Some("eht0"))
    );
    assert!(found.remedy.contains("(eth0, eth1)"), "{}", found.remedy);
    let (unknown, diagnostics) = compile(&policies, &settings(), &[]);
    assert_eq!(diagnostics, []);
    assert_eq!(there, unknown);
    assert!(there.table.chains.keys().any(|name| name.contains("policy_")), "{there:?}");
}
