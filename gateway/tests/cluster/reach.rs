//! Who reaches whom, with whose address.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use testkit::lab::Capture;
use testkit::{ClusterLab, Namespace, eventually};

use super::objects::{CLUSTER_IP, NODE_PORT, VIPS, pods};
use super::world::{LINES, World, at};

/// What arrives at the nodes' default route has left the cluster, or came back the wrong way.
#[track_caller]
pub(crate) fn astray(world: &World) -> Capture {
    let router = world.lab.router();
    let link = link_address(router, "r0");
    let filter = format!(
        "ether dst {} and (net 10.20.0.0/24 or net 203.0.113.0/24 or net 198.51.100.0/24 or net \
         10.244.0.0/16 or net 10.96.0.0/16)",
        link
    );
    Capture::start(router, "r0", &filter)
}

/// An interface's own address on its link.
#[track_caller]
pub(crate) fn link_address(at: &Namespace, interface: &str) -> String {
    let text = at.command("ip", &["-o", "link", "show", interface]);
    let mut words = text.split_whitespace().skip_while(|word| *word != "link/ether");
    words.nth(1).unwrap().to_owned()
}

#[track_caller]
pub(crate) fn none(what: &str, capture: &Capture) {
    let lines = capture.lines();
    assert!(
        lines.is_empty(),
        "{what}: {} packets, such as {:#?}",
        lines.len(),
        &lines[..lines.len().min(8)]
    );
}

/// From outside, by VIP, NodePort and Ingress: pods see the client.
#[track_caller]
pub(crate) fn client_reaches_pods(world: &World) {
    let client = world.lab.client();
    let mut answered = BTreeSet::new();
    for vip in VIPS {
        for _ in 0..20 {
            let answer = client.answer(at(vip, 80));
            assert_eq!(answer.client.ip(), ClusterLab::client_address(), "{answer:?}");
            answered.insert(answer.server);
        }
        let answer = client.datagrams(at(vip, 80)).answer("datagram");
        assert_eq!(answer.client.ip(), ClusterLab::client_address(), "{answer:?}");
    }
    println!("VIPs: answered by {answered:?}, all saw 203.0.113.10");
    assert!(answered.len() > 3, "{answered:?}");
    for edge in (1..).take(world.gateways.len()) {
        let node_port = SocketAddr::new(ClusterLab::edge_address(edge), NODE_PORT);
        let answer = client.answer(node_port);
        assert_eq!(answer.client.ip(), ClusterLab::client_address(), "edge {edge}: {answer:?}");
        println!("NodePort {node_port}: {} saw {}", answer.server, answer.client);
    }
    // The edge is no router into the cluster.
    client.ip("route replace 10.244.0.0/16 via 203.0.113.1\n");
    let pod = SocketAddr::new(ClusterLab::pod_address(1, 0), LINES);
    let wait = std::time::Duration::from_secs(1);
    let reached = client.run(|| std::net::TcpStream::connect_timeout(&pod, wait));
    assert!(reached.is_err(), "a pod is reached from outside without a Service");
    client.ip("route del 10.244.0.0/16\n");
    let (code, body) = eventually("the ALB answers", || world.over_http("/hello"));
    assert_eq!(code, 200, "{body}");
    let pod = body.lines().next().unwrap();
    let forwarded: Vec<&str> = body
        .lines()
        .filter_map(|line| line.split_once(": "))
        .filter(|(name, _)| name.eq_ignore_ascii_case("x-forwarded-for"))
        .map(|(_, value)| value)
        .collect();
    println!("Ingress: pod {pod}, X-Forwarded-For {forwarded:?}");
    assert_eq!(forwarded, ["203.0.113.10"], "{body}");
    assert!(pods().any(|(n, p)| ClusterLab::pod_address(n, p).to_string() == pod), "{body}");
}

/// Through the tunnel, both ways: each sees the other as it is.
#[track_caller]
pub(crate) fn customer_and_pods_reach_each_other(world: &World) {
    let customer = SocketAddr::new(ClusterLab::customer_host_address(), LINES);
    let host = world.lab.customer_host();
    for (node, pod) in pods() {
        let own = ClusterLab::pod_address(node, pod);
        let answer = world.lab.pod(node, pod).answer(customer);
        assert_eq!((answer.server.as_str(), answer.client.ip()), ("customer", own));
        let answer = host.answer(SocketAddr::new(own, LINES));
        assert_eq!(answer.client.ip(), ClusterLab::customer_host_address(), "{answer:?}");
    }
    let mut answered = BTreeSet::new();
    for _ in 0..30 {
        answered.insert(host.answer(at(CLUSTER_IP, 80)).server);
    }
    println!("ClusterIP from the customer: answered by {answered:?}");
    let nodes: BTreeSet<&str> = answered.iter().filter_map(|name| name.get(..5)).collect();
    assert!(nodes.len() > 1, "only pods of one node: {answered:?}");
}

#[test]
fn all_reach_each_other_in_tunnels_with_their_own_addresses() {
    let world = World::new("wireguard");
    let astray = astray(&world);
    client_reaches_pods(&world);
    customer_and_pods_reach_each_other(&world);
    none("at the router", &astray);
}

#[test]
fn all_reach_each_other_by_plain_routes_with_their_own_addresses() {
    let world = World::new("direct");
    let astray = astray(&world);
    client_reaches_pods(&world);
    customer_and_pods_reach_each_other(&world);
    none("at the router", &astray);
}
