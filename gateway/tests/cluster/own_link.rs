//! A connection whose remote network is the link that edges, nodes and the API are on.

use std::time::Duration;

use testkit::lab::Capture;
use testkit::{ClusterLab, Namespace};

use super::reach;
use super::world::{GATEWAY, World};

/// For what has to happen, in a while.
const SOON: Duration = Duration::from_secs(20);

/// The other end is never there.
const LINK: &str = "apiVersion: tidegate.io/v1alpha1
kind: VpnConnection
metadata: {name: link, namespace: office}
spec:
  auto: start
  auth: {psk: {secretName: hq-psk, key: psk}}
  local: {id: edge.test, subnets: [10.244.0.0/16, 10.96.0.0/16]}
  remote: {gateway: 203.0.113.99, id: nobody.test, subnets: [10.0.0.0/24]}
";

/// Whether an edge's guard has the link's network.
fn is_guarded(edge: &Namespace) -> bool {
    let listed = edge.try_command("nft", &["list", "set", "inet", "tidegate-vpn", "remote4"], "");
    listed.is_ok_and(|listed| listed.contains("10.0.0.0/24"))
}

fn answers(from: &Namespace, to: &str) -> bool {
    from.try_command("ping", &["-c1", "-W1", to], "").is_ok()
}

/// The time that an edge's Lease was renewed last.
fn renewed(world: &World, edge: u8) -> Option<String> {
    let leases = world.api.list("leases.coordination.k8s.io");
    let holder = format!("edge-{edge}");
    let own = leases.iter().find(|lease| {
        let name = lease["metadata"]["name"].as_str();
        name.is_some_and(|name| name.ends_with(&holder))
    })?;
    own["spec"]["renewTime"].as_str().map(str::to_owned)
}

/// The edge goes on writing to the API.
#[track_caller]
fn writes(world: &World, edge: u8) {
    for _ in 0..2 {
        let before = renewed(world, edge);
        world.within(&format!("edge-{edge} renews its Lease"), SOON, || {
            (renewed(world, edge)? != *before.as_ref()?).then_some(())
        });
    }
}

/// All that has to be reached, is.
#[track_caller]
fn all_well(world: &World) {
    for edge in [1, 2] {
        world
            .within("the link is guarded", SOON, || is_guarded(world.lab.edge(edge)).then_some(()));
        writes(world, edge);
        let other = ClusterLab::edge_underlay(3 - edge).to_string();
        let node = ClusterLab::node_address(2).to_string();
        for to in [&other, &node, "10.0.0.100"] {
            world.within(&format!("edge-{edge} reaches {to}"), SOON, || {
                answers(world.lab.edge(edge), to).then_some(())
            });
        }
    }
    world.settle();
    reach::client_reaches_pods(world);
    reach::customer_and_pods_reach_each_other(world);
}

/// The edges are told to reach a host on the link that isn't theirs.
fn strays(world: &World) -> bool {
    [1, 2].iter().any(|edge| answers(world.lab.edge(*edge), "10.0.0.254"))
}

#[test]
fn a_remote_network_as_large_as_the_edges_own_link_cuts_nobody_off() {
    let mut world = World::new("wireguard");
    assert!(answers(world.lab.edge(1), "10.0.0.254"));
    let to_router = Capture::start(world.lab.router(), "r0", "ip dst host 10.0.0.254");
    world.within("what was sent before has come", SOON, || {
        answers(world.lab.edge(2), "10.0.0.254").then_some(())
    });
    world.api.put_yaml(LINK).unwrap();
    all_well(&world);
    let before = to_router.lines().len();
    assert!(!strays(&world), "in the clear to another host of the link");
    world.within("the connection has its warning", SOON, || {
        let told = |event: &serde_json::Value| {
            let text = event.to_string();
            text.contains("\"link\"") && text.contains("machines of this side")
        };
        world.api.list("events").iter().any(told).then_some(())
    });

    println!("both edges are started anew, one after the other");
    for edge in [1, 2] {
        let gateway = &mut world.gateways[edge - 1];
        gateway.terminate();
        assert!(gateway.wait().success());
        gateway.start_again();
        gateway.wait_ready(GATEWAY.parse().unwrap(), "/readyz");
    }
    all_well(&world);

    println!("edge-1 was killed, and had exempt nobody");
    world.gateways[0].kill();
    let edge = world.lab.edge(1);
    edge.command("nft", &["flush", "set", "inet", "tidegate-vpn", "exempt4"]);
    let routes = edge.command("ip", &["-4", "route", "show", "table", "21575"]);
    for route in routes.lines().filter(|line| line.starts_with("throw ")) {
        edge.ip(&format!("route del {} table 21575\n", route.trim()));
    }
    assert!(!answers(edge, "10.0.0.100"));
    world.gateways[0].start_again();
    world.gateways[0].wait_ready(GATEWAY.parse().unwrap(), "/readyz");
    all_well(&world);
    assert!(!strays(&world), "in the clear to another host of the link");
    assert_eq!(to_router.lines().len(), before, "{:#?}", to_router.lines());

    assert!(world.api.remove("vpnconnections.tidegate.io", "office", "link"));
    for edge in [1, 2] {
        let edge = world.lab.edge(edge);
        world.within("the link is open again", SOON, || {
            (!is_guarded(edge) && answers(edge, "10.0.0.254")).then_some(())
        });
    }
    world.settle();
}
