//! Agents and gateways that are started anew: what stands goes on.

use std::net::SocketAddr;
use std::time::Duration;

use testkit::ClusterLab;

use super::load::Train;
use super::objects::VIPS;
use super::reach;
use super::world::{AGENT, GATEWAY, LINES, World, at};

/// How long packets in a tunnel may stand still while the agent that carries it is started anew.
const RESTART: Duration = Duration::from_secs(3);

#[test]
fn connections_outlast_agents_and_gateways_that_are_started_anew() {
    let mut world = World::new("wireguard");
    let astray = reach::astray(&world);
    let client = world.lab.client().clone();
    let customer = SocketAddr::new(ClusterLab::customer_host_address(), LINES);
    let load = |world: &World| {
        let flow =
            |n: usize| Train::flow(&format!("connection {n} to a VIP"), &client, at(VIPS[0], 80));
        let mut all: Vec<Train> = (1..=6).map(flow).collect();
        all.push(Train::flow("connection of a pod to the customer", world.lab.pod(1, 0), customer));
        all
    };
    let trains = load(&world);
    for node in [1, 2, 3] {
        println!("the agent of node-{node} is started anew");
        let agent = &mut world.agents[node - 1];
        agent.terminate();
        assert!(agent.wait().success());
        agent.start_again();
        agent.wait_ready(AGENT.parse().unwrap(), "/readyz");
    }
    std::thread::sleep(Duration::from_secs(2));
    for train in trains {
        let record = train.stop();
        assert!(record.lost() == 0 && record.slowest() < RESTART, "{record}");
    }
    let trains = load(&world);
    let holder = world.holder(VIPS[0]).unwrap();
    let other = usize::from(3 - holder);
    println!("edge-{other}, which hasn't the VIP, is started anew");
    let gateway = &mut world.gateways[other - 1];
    gateway.terminate();
    assert!(gateway.wait().success());
    gateway.start_again();
    gateway.wait_ready(GATEWAY.parse().unwrap(), "/readyz");
    std::thread::sleep(Duration::from_secs(2));
    for train in trains {
        let record = train.stop();
        assert_eq!(record.lost(), 0, "{record}");
    }
    reach::none("at the router", &astray);
}
