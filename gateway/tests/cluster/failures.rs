//! What is lost when a part of it fails, under load.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::json;
use testkit::ClusterLab;
use testkit::manifest::{Exposed, Slice};

use super::holders::Holders;
use super::load::{Record, Train};
use super::objects::{self, ALB, CLUSTER_IP, VIPS, pods};
use super::reach;
use super::world::{LINES, World, at};

/// How long a crash may be felt.
const CRASH: Duration = Duration::from_secs(3);
/// How long a planned move may be felt.
const MOVE: Duration = Duration::from_millis(50);
/// For what has to happen, in a while.
const SOON: Duration = Duration::from_secs(15);

fn customer() -> SocketAddr {
    SocketAddr::new(ClusterLab::customer_host_address(), LINES)
}

/// The usual load: to each VIP, and through the tunnel.
struct Load {
    datagrams: Vec<Train>,
    connections: Train,
    tunnel: Train,
}

impl Load {
    #[track_caller]
    fn start(world: &World) -> Self {
        let client = world.lab.client();
        let to = |vip: &&str| Train::datagrams(&format!("datagrams to {vip}"), client, at(vip, 80));
        Self {
            datagrams: VIPS.iter().map(to).collect(),
            connections: Train::connections(
                &format!("connections to {}", VIPS[0]),
                client,
                at(VIPS[0], 80),
            ),
            tunnel: Train::datagrams("pod to customer", world.lab.pod(1, 0), customer()),
        }
    }

    /// All of them: datagrams by VIP, connections, the tunnel.
    #[track_caller]
    fn stop(self) -> (Vec<Record>, Record, Record) {
        let datagrams = self.datagrams.into_iter().map(Train::stop).collect();
        (datagrams, self.connections.stop(), self.tunnel.stop())
    }
}

/// All VIPs, the connection's too.
fn all_vips(world: &World) -> Vec<String> {
    let mut all: Vec<String> = [ALB].into_iter().chain(VIPS).map(str::to_owned).collect();
    all.push(world.vpn_vip());
    all
}

#[track_caller]
fn wait_held_by(world: &World, vips: &[String], edge: u8) {
    world.within(&format!("edge-{edge} has all VIPs"), SOON, || {
        vips.iter().all(|vip| world.holder(vip) == Some(edge)).then_some(())
    });
}

/// How many IKE SAs the customer's gateway has seen established.
fn established(world: &World) -> usize {
    world.swan.log().matches("established between").count()
}

#[test]
fn a_killed_edge_is_followed_by_the_other_within_three_seconds() {
    let mut world = World::new("wireguard");
    world.spread();
    let vips = all_vips(&world);
    let at_first: Vec<Option<u8>> = vips.iter().map(|vip| world.holder(vip)).collect();
    println!("{vips:?} are on {at_first:?}");
    for edge in [1, 2] {
        let holders = Holders::watch(&world);
        let had_tunnel = world.holder(vips.last().unwrap()) == Some(edge);
        let (sas, load) = (established(&world), Load::start(&world));
        std::thread::sleep(Duration::from_secs(1));
        println!("edge-{edge} is killed:");
        let since = Instant::now();
        world.gateways[usize::from(edge) - 1].kill();
        wait_held_by(&world, &vips, 3 - edge);
        world.within("the pods reach the customer", SOON, || {
            world.lab.pod(2, 1).attempt(customer()).ok()
        });
        std::thread::sleep(Duration::from_secs(1));
        let (datagrams, connections, tunnel) = load.stop();
        holders.never_two(since);
        for record in datagrams.iter().chain([&connections, &tunnel]) {
            assert!(record.gap() <= CRASH, "edge-{edge}: {record}");
        }
        // Another IKE SA, and so other keys: no IV comes twice.
        assert_eq!(established(&world) > sas, had_tunnel, "edge-{edge}: {}", world.swan.sas());
        world.gateways[usize::from(edge) - 1].start_again();
        world.spread();
    }
}

#[test]
fn a_planned_move_is_hardly_felt() {
    let mut world = World::new("wireguard");
    world.spread();
    let vips = all_vips(&world);
    let edge = world.holder(VIPS[0]).unwrap();
    let drain = |world: &World, drain: bool| {
        let name = format!("edge-{edge}");
        let change = |object: &mut serde_json::Value| object["spec"] = json!({"drain": drain});
        world.api.change("edgegateways.tidegate.io", "", &name, change).unwrap();
    };
    let mut all = Vec::new();
    for what in ["is drained", "takes part again", "is stopped", "is started again"] {
        let holders = Holders::watch(&world);
        let load = Load::start(&world);
        std::thread::sleep(Duration::from_secs(1));
        println!("edge-{edge} {what}:");
        let since = Instant::now();
        match what {
            "is drained" => drain(&world, true),
            "takes part again" => drain(&world, false),
            "is stopped" => world.gateways[usize::from(edge) - 1].terminate(),
            _ => world.gateways[usize::from(edge) - 1].start_again(),
        }
        match what {
            "is drained" | "is stopped" => wait_held_by(&world, &vips, 3 - edge),
            _ => world.spread(),
        }
        std::thread::sleep(Duration::from_secs(1));
        let (datagrams, connections, tunnel) = load.stop();
        holders.never_two(since);
        if what == "is stopped" {
            let status = world.gateways[usize::from(edge) - 1].wait();
            assert!(status.success(), "{status}");
        }
        all.extend(datagrams.into_iter().map(|record| (what, MOVE, record)));
        all.push((what, Duration::from_millis(550), connections));
        all.push((what, CRASH, tunnel));
    }
    for (what, limit, record) in &all {
        assert!(record.gap() <= *limit, "{what}: {record}");
    }
}

#[test]
fn a_node_that_is_cut_off_takes_only_its_own_pods_along() {
    let world = World::new("wireguard");
    let node = 3;
    let load = Load::start(&world);
    let host = world.lab.customer_host();
    let service = Train::connections("customer to ClusterIP", host, at(CLUSTER_IP, 80));
    std::thread::sleep(Duration::from_secs(1));
    println!("node-{node} is cut off:");
    world.lab.node(node).ip("link set n0 down\n");
    // As a control plane and kube-proxy do, which here are quick.
    for name in ["line", "other", "inner"] {
        world.api.put_yaml(&objects::slice(name, LINES, Some(node))).unwrap();
    }
    let others: Vec<SocketAddr> = pods()
        .filter(|(n, _)| *n != node)
        .map(|(n, p)| SocketAddr::new(ClusterLab::pod_address(n, p), LINES))
        .collect();
    world.lab.service(1, at(CLUSTER_IP, 80), &others);
    std::thread::sleep(Duration::from_secs(3));
    let (_, connections, tunnel) = load.stop();
    let service = service.stop();
    assert_eq!(tunnel.lost(), 0, "pods of other nodes: {tunnel}");
    assert!(connections.gap() <= CRASH && service.gap() <= CRASH, "{connections}; {service}");
    println!("from then on:");
    let client = world.lab.client();
    let after = [
        Train::connections("connections to a VIP", client, at(VIPS[0], 80)),
        Train::datagrams("datagrams to a VIP", client, at(VIPS[1], 80)),
        Train::connections("customer to ClusterIP", host, at(CLUSTER_IP, 80)),
    ];
    std::thread::sleep(Duration::from_secs(2));
    for record in after.map(Train::stop) {
        assert_eq!(record.lost(), 0, "{record}");
    }
}

#[test]
fn without_the_api_all_goes_on_and_what_was_changed_is_in_force_within_two_seconds() {
    let world = World::new("wireguard");
    world.spread();
    let astray = reach::astray(&world);
    let flow = Train::flow("one connection to a VIP", world.lab.client(), at(VIPS[0], 80));
    let load = Load::start(&world);
    std::thread::sleep(Duration::from_secs(1));
    println!("the API is gone for 20 s:");
    let since = Instant::now();
    let holders = Holders::watch(&world);
    world.api.go_away(None);
    let later = Exposed::node_port("later").tcp_node_port(80, 30081).spec("clusterIP: 10.96.0.20");
    let slice = Slice::of("later").tcp(80, LINES).ready(ClusterLab::pod_address(2, 0));
    world.api.put_yaml(&(later.yaml() + &slice.yaml())).unwrap();
    std::thread::sleep(Duration::from_secs(20));
    let client = world.lab.client();
    let there = [1, 2].map(|edge| SocketAddr::new(ClusterLab::edge_address(edge), 30081));
    assert!(client.attempt(there[0]).is_err());
    let back = Instant::now();
    world.api.come_back();
    world.within("what was changed is in force", SOON, || {
        there.iter().all(|at| client.attempt(*at).is_ok()).then_some(())
    });
    let took = back.elapsed();
    println!("in force {took:?} after its return");
    std::thread::sleep(Duration::from_secs(2));
    let (datagrams, connections, tunnel) = load.stop();
    let flow = flow.stop();
    holders.never_two(since);
    for record in datagrams.iter().chain([&connections, &tunnel, &flow]) {
        assert_eq!(record.lost(), 0, "{record}");
    }
    assert!(took <= Duration::from_secs(2), "{took:?}");
    reach::none("at the router", &astray);
}

#[test]
fn an_edge_without_the_api_gives_its_vips_up_before_the_other_takes_them() {
    let world = World::new("wireguard");
    world.spread();
    let vips = all_vips(&world);
    let edge = world.holder(VIPS[0]).unwrap();
    let before: Vec<Option<u8>> = vips.iter().map(|vip| world.holder(vip)).collect();
    let had: Vec<String> = vips
        .iter()
        .zip(&before)
        .filter(|(_, holder)| **holder == Some(edge))
        .map(|(vip, _)| vip.clone())
        .collect();
    let holders = Holders::watch(&world);
    let load = Load::start(&world);
    std::thread::sleep(Duration::from_secs(1));
    println!("edge-{edge} doesn't reach the API:");
    let since = Instant::now();
    let namespace = world.lab.edge(edge);
    let cut = "table inet lab-cut {\n chain out {\n  type filter hook output priority -300\n  \
               ip daddr 10.0.0.100 drop\n }\n chain in {\n  type filter hook input priority -300\n  \
               ip saddr 10.0.0.100 drop\n }\n}\n";
    namespace.command_with("nft", &["-f", "-"], cut);
    wait_held_by(&world, &vips, 3 - edge);
    world.within("the pods reach the customer", SOON, || {
        world.lab.pod(2, 1).attempt(customer()).ok()
    });
    std::thread::sleep(Duration::from_secs(1));
    let (datagrams, connections, tunnel) = load.stop();
    for vip in &had {
        let up = holders.when(since, edge, vip, false).unwrap();
        let taken = holders.when(since, 3 - edge, vip, true).unwrap();
        println!("  {vip}: given up after {up:.0?}, taken after {taken:.0?}");
        assert!(up < taken, "{vip}: {up:?}, {taken:?}");
    }
    for record in datagrams.iter().chain([&connections, &tunnel]) {
        assert!(record.gap() <= CRASH + Duration::from_secs(1), "{record}");
    }
    println!("it does again:");
    namespace.command("nft", &["delete", "table", "inet", "lab-cut"]);
    world.spread();
    holders.never_two(since);
}
