//! How an edge stands among others and towards the nodes, what it says of that, and what is left of
//! it at its end.

use std::time::Duration;

use super::load::Train;
use super::objects::{ALB, VIPS};
use super::world::{World, at};

/// How long something may take on a machine with few cores.
const SOON: Duration = Duration::from_secs(30);
/// What a machine without a link to the nodes may cost: it is patient for three seconds.
const CUT: Duration = Duration::from_secs(7);

/// The status that `gateway status` prints.
fn status(world: &World, edge: u8) -> serde_json::Value {
    let program = &world.gateways[usize::from(edge) - 1];
    let (_, said, error) = program.run(&["status", "--config", "gateway.yaml", "--output", "json"]);
    serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}{error}"))
}

fn ready_reason(world: &World, edge: u8) -> Option<String> {
    let object = world.api.get("edgegateways.tidegate.io", "", &format!("edge-{edge}"))?;
    let conditions = object["status"]["conditions"].as_array()?.clone();
    let ready = conditions.into_iter().find(|one| one["type"] == "Ready")?;
    Some(ready["reason"].as_str()?.to_owned())
}

#[test]
fn an_edge_without_a_link_to_the_nodes_leaves_its_vips_to_the_other() {
    let world = World::new("wireguard");
    world.spread();
    let edge = world.holder(VIPS[0]).unwrap();
    let vips = [ALB, VIPS[0], VIPS[1]];
    let train = Train::connections("connections to a VIP", world.lab.client(), at(VIPS[0], 80));
    let own = status(&world, edge);
    assert_eq!(own["nodes"]["heard"].as_array().unwrap().len(), 3, "{own}");
    assert!(own["vips"].as_array().unwrap().contains(&VIPS[0].into()), "{own}");
    assert_eq!(own["edge"]["others"][format!("edge-{}", 3 - edge)], "live", "{own}");
    let namespace = world.lab.edge(edge);
    let cut = "table inet lab-cut {\n chain out {\n  type filter hook output priority -300\n  \
               ip daddr 10.0.0.16/28 drop\n }\n chain in {\n  type filter hook input priority -300\n  \
               ip saddr 10.0.0.16/28 drop\n }\n}\n";
    namespace.command_with("nft", &["-f", "-"], cut);
    world.within("the other edge has all VIPs", SOON, || {
        vips.iter().all(|vip| world.holder(vip) == Some(3 - edge)).then_some(())
    });
    world.within("it says why", SOON, || {
        (ready_reason(&world, edge).as_deref() == Some("CutOff")).then_some(())
    });
    let other = status(&world, 3 - edge);
    assert_eq!(other["edge"]["others"][format!("edge-{edge}")], "cut off", "{other}");
    assert_eq!(status(&world, edge)["nodes"]["lost"].as_array().unwrap().len(), 3);
    std::thread::sleep(Duration::from_secs(1));
    let record = train.stop();
    assert!(record.gap() <= CUT, "{record}");
    println!("{record}");
    namespace.command("nft", &["delete", "table", "inet", "lab-cut"]);
    world.spread();
    assert_eq!(ready_reason(&world, edge).as_deref(), Some("Serving"));
}

#[test]
fn the_last_edge_that_stops_says_that_it_holds_nothing_and_what_is_left_is_removed() {
    let mut world = World::new("wireguard");
    for edge in [1, 2] {
        let gateway = &mut world.gateways[edge - 1];
        gateway.terminate();
        assert!(gateway.wait().success());
        let object =
            world.api.get("edgegateways.tidegate.io", "", &format!("edge-{edge}")).unwrap();
        assert_eq!(object["status"]["vips"], serde_json::json!([]), "{object}");
        assert_eq!(object["status"]["vpnConnections"], serde_json::json!([]), "{object}");
    }
    let gateway = &mut world.gateways[0];
    gateway.start_again();
    world.within("edge-1 has a VIP", SOON, || (world.holder(VIPS[0]) == Some(1)).then_some(()));
    let arguments = ["uninstall", "--config", "gateway.yaml"];
    let (code, said, error) = world.gateways[0].run(&arguments);
    assert!(code == Some(1) && error.contains("another gateway"), "{code:?} {said}{error}");
    world.gateways[0].kill();
    let (code, said, error) = world.gateways[0].run(&arguments);
    assert_eq!(code, Some(0), "{said}{error}");
    println!("{said}");
    let edge = world.lab.edge(1);
    let left = edge.command("nft", &["list", "tables"])
        + &edge.command("ip", &["rule"])
        + &edge.command("ip", &["-6", "rule"])
        + &edge.command("ip", &["-br", "link"]);
    for part in ["tidegate", "544"] {
        assert!(!left.contains(part), "{part}: {left}");
    }
    for vip in [ALB, VIPS[0], VIPS[1]] {
        assert!(!edge.has_address(vip.parse().unwrap()), "{vip}");
    }
}
