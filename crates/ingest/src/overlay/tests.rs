use model::settings::PodCidrs;
use model::snapshot::overlay::OverlayMode;
use model::{ObjectKey, OverlaySettings, Settings};

use crate::fixture::{self, Fixture};

const ONE: &str = "HIgo9xNzJMWLKASShiTqIybxZ0U3wGLiUeJ1PKf8ykw=";
const TWO: &str = "xTIBA5rboUvnH4htodjb6e697QjLERt1NAB4mZqp8Dg=";
const THREE: &str = "gN65BkIKy1eCE9pP1wdc8ROUtkHLF2PfAqYdyYBz6EA=";

fn read(text: &str) -> Fixture {
    read_with(text, PodCidrs::Auto)
}

fn read_with(text: &str, pod_cidrs: PodCidrs) -> Fixture {
    let overlay = OverlaySettings { pod_cidrs, ..OverlaySettings::default() };
    fixture::with(text, Settings { overlay: Some(overlay), ..Settings::default() })
}

/// A Node, the older the lower its number.
fn node(number: u8, cidr: &str, annotations: &str) -> String {
    format!(
        "---\napiVersion: v1\nkind: Node\nmetadata: {{name: n{number}, creationTimestamp: \
         \"2026-01-0{number}T00:00:00Z\", annotations: {{{annotations}}}}}\n\
         spec: {{podCIDRs: [{cidr}]}}\n\
         status: {{addresses: [{{type: Hostname, address: n{number}}}, {{type: InternalIP, \
         address: 192.0.2.{number}}}]}}\n"
    )
}

fn block(name: &str, cidr: &str, node: &str) -> String {
    format!(
        "---\napiVersion: crd.projectcalico.org/v1\nkind: IPAMBlock\nmetadata: {{name: {name}}}\n\
         spec: {{cidr: {cidr}, affinity: \"{node}\"}}\n"
    )
}

fn edge(name: &str, status: &str) -> String {
    format!(
        "---\napiVersion: tidegate.io/v1alpha1\nkind: EdgeGateway\nmetadata: {{name: {name}}}\n\
         status: {{{status}}}\n"
    )
}

fn pods(found: &Fixture, node: &str) -> Vec<String> {
    found.snapshot.nodes[node].pods.iter().map(ToString::to_string).collect()
}

#[test]
fn a_node_is_read_whole() {
    let annotations = format!(
        "tidegate.io/wireguard-public-keys: \"{TWO}, {ONE}\", tidegate.io/overlay-mode: wireguard"
    );
    let text = node(1, "10.244.1.0/24, \"fd00:1::/64\"", &annotations)
        .replace("metadata: {", "metadata: {labels: {topology.kubernetes.io/zone: east}, ")
        + "  conditions: [{type: Ready, status: \"False\"}]\n";
    let text = text.replace("status: {addresses", "status:\n  {addresses");
    let text = text
        .replace("}]}\n  conditions", "}],\n  conditions")
        .replace("\"False\"}]", "\"False\"}]}");
    let found = read(&text);
    assert_eq!(found.messages(), [] as [String; 0]);
    let node = &found.snapshot.nodes["n1"];
    assert_eq!(node.addresses, ["192.0.2.1".parse::<std::net::IpAddr>().unwrap()]);
    assert_eq!(pods(&found, "n1"), ["10.244.1.0/24", "fd00:1::/64"]);
    assert_eq!((node.zone.as_deref(), node.ready), (Some("east"), false));
    let agent = node.agent.as_ref().unwrap();
    let keys: Vec<String> = agent.keys.iter().map(ToString::to_string).collect();
    assert_eq!(keys, [TWO, ONE]);
    assert_eq!(agent.mode, Some(OverlayMode::Wireguard));
}

#[test]
fn the_older_of_two_nodes_keeps_a_network() {
    let found = read(&(node(2, "10.244.1.0/24", "") + &node(1, "10.244.1.0/24", "")));
    let message = found.only();
    assert!(message.contains("error: Node n2: spec.podCIDRs[0] \"10.244.1.0/24\""), "{message}");
    assert!(message.contains("is what the older Node n1 has"), "{message}");
    assert_eq!(pods(&found, "n1"), ["10.244.1.0/24"]);
    assert!(pods(&found, "n2").is_empty());
    for wider in ["10.244.0.0/16", "10.244.1.128/25"] {
        let found = read(&(node(1, "10.244.1.0/24", "") + &node(2, wider, "")));
        let message = found.only();
        assert!(message.contains("overlaps 10.244.1.0/24 of the older Node n1"), "{message}");
    }
}

#[test]
fn a_node_without_a_network_or_an_address_is_told_of() {
    let found = read(&node(1, "", ""));
    assert!(found.only().contains("warning: Node n1: spec.podCIDRs: has no pod network"));
    let found =
        read("apiVersion: v1\nkind: Node\nmetadata: {name: a}\nspec: {podCIDR: 10.1.0.0/24}\n");
    assert!(found.only().contains("status.addresses: has no InternalIP"));
    assert_eq!(pods(&found, "a"), ["10.1.0.0/24"]);
    for (cidr, part) in [("10.244.1.0", "is no network"), ("0.0.0.0/0", "nobody's own")] {
        let message = read(&node(1, cidr, "")).messages().join("\n");
        assert!(message.contains(part), "{message}");
    }
    let twice =
        node(1, "10.1.0.0/24", "") + &node(2, "10.2.0.0/24", "").replace("192.0.2.2", "192.0.2.1");
    let found = read(&twice);
    assert!(found.only().contains("error: Node n2: status.addresses[1].address \"192.0.2.1\""));
    assert!(found.snapshot.nodes["n2"].addresses.is_empty());
}

#[test]
fn keys_that_are_none_or_another_ones_are_left_out() {
    let of = |number: u8, keys: &str| {
        let cidr = format!("10.244.{number}.0/24");
        node(number, &cidr, &format!("tidegate.io/wireguard-public-keys: \"{keys}\""))
    };
    let found = read(&of(1, "abc"));
    let message = found.only();
    assert!(message.contains("metadata.annotations[tidegate.io/wireguard-public-keys] \"abc\""));
    assert!(found.snapshot.nodes["n1"].agent.is_none());
    let found = read(&(of(1, ONE) + &of(2, &format!("{TWO},{ONE}"))));
    assert!(found.only().contains("error: Node n2") && found.only().contains("older Node n1"));
    assert_eq!(found.snapshot.nodes["n2"].agent.as_ref().unwrap().keys.len(), 1);
    let found = read(&of(1, &format!("{ONE},{TWO},{THREE}")));
    assert!(found.only().contains("over two keys"));
    let found = read(&node(1, "10.1.0.0/24", "tidegate.io/overlay-mode: plain"));
    assert!(found.only().contains("is no mode"), "{}", found.only());
    let zeros = "A".repeat(43) + "=";
    let found = read(&of(1, &format!("{zeros},{TWO}")));
    assert!(found.only().contains("error: Node n1: metadata.annotations"), "{}", found.only());
    assert!(found.only().contains("of low order"), "{}", found.only());
    assert_eq!(found.snapshot.nodes["n1"].agent.as_ref().unwrap().keys.len(), 1);
    let status = format!("wireguard: {{publicKeys: [\"{ONE}\"], ports: [51821]}}");
    let found = read(&(edge("e", &status) + &of(1, ONE)));
    assert!(found.only().contains("older EdgeGateway e"), "{}", found.only());
}

#[test]
fn calicos_blocks_rule_where_there_are_any_unless_told_otherwise() {
    let text = node(1, "10.244.1.0/24", "")
        + &node(2, "", "")
        + &block("a", "10.244.1.64/26", "host:n2")
        + &block("b", "10.244.9.0/26", "host:gone")
        + &block("c", "10.244.8.0/26", "virtual:load-balancer");
    let found = read(&text);
    let message = found.only();
    assert!(message.contains("warning: IPAMBlock b: spec.affinity \"gone\""), "{message}");
    assert_eq!(pods(&found, "n2"), ["10.244.1.64/26"]);
    assert!(pods(&found, "n1").is_empty());
    let found = read_with(&text, PodCidrs::Node);
    assert_eq!(pods(&found, "n1"), ["10.244.1.0/24"]);
    assert!(found.only().contains("Node n2: spec.podCIDRs"));
    let twice = node(1, "", "")
        + &block("a", "10.1.0.0/26", "host:n1")
        + &block("b", "10.1.0.0/24", "host:n1");
    assert!(read(&twice).only().contains("IPAMBlock b: spec.cidr"));
}

#[test]
fn an_edge_is_read_whole_and_its_faults_are_named() {
    let status = format!(
        "underlayAddresses: [192.0.2.9, \"2001:db8::9\"], probePort: 4000, mode: direct, \
         wireguard: {{publicKeys: [\"{ONE}\", \"{TWO}\"], ports: [51821, 51822]}}, \
         serviceSubnets: [172.21.0.0/16], egressNetworks: [0.0.0.0/0], vips: [198.51.100.7], \
         vpnConnections: [office/hq]"
    );
    let found = read(&edge("e", &status));
    assert_eq!(found.messages(), [] as [String; 0]);
    let read_edge = &found.snapshot.edges["e"];
    assert_eq!((read_edge.addresses.len(), read_edge.probe_port), (2, 4000));
    assert_eq!((read_edge.keys[1].1, read_edge.mode), (51822, OverlayMode::Direct));
    assert_eq!(read_edge.vpn, [ObjectKey::new("office", "hq")]);
    for (status, part) in [
        (
            "underlayAddresses: [127.0.0.1]",
            "status.underlayAddresses[0] \"127.0.0.1\": is no address",
        ),
        ("mode: plain", "status.mode \"plain\": is no mode"),
        ("probePort: 0", "status.probePort \"0\": is no port"),
        ("vpnConnections: [hq]", "names no VpnConnection"),
        ("serviceSubnets: [0.0.0.0/0]", "everybody's network"),
        ("egressNetworks: [x]", "status.egressNetworks[0] \"x\": is no network"),
        ("wireguard: {publicKeys: [x], ports: [1]}", "is no WireGuard key"),
        ("wireguard: {publicKeys: [x], ports: []}", "has 0 ports for 1 keys"),
        (&format!("wireguard: {{publicKeys: [\"{ONE}\"], ports: [0]}}"), "its key is left out"),
    ] {
        let message = read(&edge("e", status)).only();
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn connections_are_known_without_their_secrets() {
    let text = node(1, "10.20.0.0/24", "")
        + "---\napiVersion: tidegate.io/v1alpha1\nkind: VpnConnection\n\
           metadata: {name: hq, namespace: office}\n\
           spec: {zone: east, local: {subnets: [172.30.0.0/16]}, \
           remote: {subnets: [10.0.0.0/8, 192.168.9.0/24]}, \
           remoteSubnetNAT: [192.168.9.0/24=192.168.1.0/24]}\n";
    let found = read(&text);
    let connection = &found.snapshot.connections[&ObjectKey::new("office", "hq")];
    let remote: Vec<String> = connection.remote.iter().map(ToString::to_string).collect();
    assert_eq!((remote.len(), connection.zone.as_deref()), (2, Some("east")), "{remote:?}");
    assert_eq!(connection.local[0].to_string(), "172.30.0.0/16");
}
