use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use netdev::conntrack;
use testkit::lab::{Capture, Pings};
use testkit::{ClusterLab, Namespace, eventually};

use super::edge::TUNNELS;
use super::lab::{CONNECTION, REMOTE, Site, seen_source, state};

/// Whatever arrives at the nodes' default route has left the cluster in the clear.
fn leaks(site: &Site) -> Capture {
    Capture::start(site.lab.router(), "r0", "net 10.20.0.0/16 or host 203.0.113.10")
}

#[track_caller]
fn none_leaked(capture: &Capture) {
    assert_eq!(capture.lines(), Vec::<String>::new());
}

/// Sends from the client to the pod by way of an edge; the answer has to come back that way.
#[track_caller]
fn client_reaches_the_pod_by(site: &Site, edge: u8) {
    let client: &Namespace = site.lab.client();
    let via = ClusterLab::edge_address(edge);
    client.command("ip", &["route", "replace", "10.244.0.0/16", "via", &via.to_string()]);
    let pod = SocketAddr::new(ClusterLab::pod_address(1, 0), 9001);
    let source = seen_source(client, site.pod(), pod);
    assert_eq!(source, ClusterLab::client_address(), "by edge {edge}");
}

#[test]
fn pods_reach_remote_networks_by_the_holder_and_clients_by_either_edge_in_tunnels() {
    let mut site = Site::new("wireguard", "");
    let leaked = leaks(&site);
    // No edge answers: the remote network is nowhere, and not elsewhere.
    let error = site.pings().unwrap_err();
    assert!(site.status().applied.unreachable > 0, "{error}");
    eventually("it is told that no edge can be reached", || {
        let (code, text, _) = site.agent.run(&["status", "--config", "agent.yaml"]);
        assert_eq!(code, Some(1), "{text}");
        text.contains("no edge can be reached").then_some(())
    });

    site.start_both();
    site.wait_for_remote();
    let remote = SocketAddr::new(REMOTE, 9000);
    let source = seen_source(site.pod(), site.lab.edge(1), remote);
    assert_eq!(source, ClusterLab::pod_address(1, 0));
    client_reaches_the_pod_by(&site, 1);
    client_reaches_the_pod_by(&site, 2);
    none_leaked(&leaked);

    let (code, text, errors) = site.agent.run(&["status", "--config", "agent.yaml"]);
    assert_eq!(code, Some(0), "{text}{errors}");
    assert!(text.contains("office/hq") && text.contains("wireguard"), "{text}");
    let metrics = site.agent.get(super::lab::ADMIN.parse().unwrap(), "/metrics");
    let metrics = String::from_utf8(metrics.body.to_vec()).unwrap();
    assert!(metrics.contains("tidegate_agent_edge_live{edge=\"edge-2\"} 1"), "{metrics}");
    let mode = |name: &str| {
        use std::os::unix::fs::PermissionsExt;
        let path = site.agent.folder().join(name);
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    };
    assert_eq!((mode("state"), mode("state/keys.json")), (0o700, 0o600));
}

#[test]
fn another_edge_takes_over_within_a_second_and_without_any_nothing_leaks() {
    let mut site = Site::new("wireguard", "");
    site.start_both();
    site.wait_for_remote();
    let leaked = leaks(&site);
    let pings = Pings::start(site.pod(), REMOTE, "0.02");
    eventually("pings are under way", || (site.status().tunnels.len() == 2).then_some(()));
    let start = Instant::now();
    site.edges[0] = None;
    site.edges[1].as_ref().unwrap().hold(CONNECTION, 2);
    site.wait_for_holder(Some("edge-2"));
    let switched = start.elapsed();
    site.wait_for_remote();
    let back = start.elapsed();
    let (sent, received) = pings.stop();
    println!("by another edge after {switched:?}, reached after {back:?}; {received} of {sent}");
    assert!(switched < Duration::from_secs(1), "{switched:?}");
    assert!(sent - received < 60, "{received} of {sent}, one each 20 ms");

    let start = Instant::now();
    site.edges[1] = None;
    site.wait_for_holder(None);
    let lost = start.elapsed();
    println!("lost after {lost:?}");
    assert!(lost < Duration::from_millis(1_500), "{lost:?}");
    let error = site.pings().unwrap_err();
    assert!(site.status().applied.unreachable > 0, "{error}");
    none_leaked(&leaked);
}

#[test]
fn a_restart_leaves_rules_and_leaks_nothing_and_uninstalling_leaves_nothing() {
    let mut site = Site::new("wireguard", "");
    site.agent.kill();
    let uninstall = ["uninstall", "--config", "agent.yaml", "--keep-state"];
    assert_eq!(site.agent.run(&uninstall).0, Some(0));
    let node = site.lab.node(1).clone();
    node.ip("rule add from 10.99.0.0/16 lookup 7777 pref 5455\n\
             route add 10.99.0.0/16 dev n0 table 7777\n");
    let before = state(&node);
    site.agent.start_again();
    site.agent.wait_ready(super::lab::ADMIN.parse().unwrap(), "/readyz");
    site.start_both();
    site.wait_for_remote();
    let keys = site.status().keys;
    let leaked = leaks(&site);

    site.agent.terminate();
    assert!(site.agent.wait().success());
    assert!(site.pings().is_err(), "its tunnels are in user space");
    let rules = node.command("ip", &["rule", "show"]);
    assert!(rules.contains("5434:") && rules.contains("5455:"), "{rules}");
    site.agent.start_again();
    site.wait_for_remote();
    assert_eq!(site.status().keys, keys);
    none_leaked(&leaked);

    // What others take away is put back.
    node.command("ip", &["rule", "del", "pref", "5434"]);
    eventually("the rule is back", || {
        node.command("ip", &["rule", "show"]).contains("5434:").then_some(())
    });
    assert!(site.pings().is_ok());

    let (code, _, errors) = site.agent.run(&["uninstall", "--config", "agent.yaml"]);
    assert!(code == Some(1) && errors.contains("stop that one first"), "{errors}");
    site.agent.kill();
    let (code, text, errors) = site.agent.run(&["uninstall", "--config", "agent.yaml"]);
    assert_eq!(code, Some(0), "{text}{errors}");
    assert_eq!(state(&node), before);
    assert!(!site.agent.folder().join("state").exists());
}

#[test]
fn edges_that_answer_are_found_behind_many_that_are_gone() {
    let mut site = Site::new("wireguard", "");
    site.agent.kill();
    let folder = site.agent.folder().to_owned();
    let _ = std::fs::remove_file(folder.join("state/edges.json"));
    // Their names come first, and marks tell 7 edges apart.
    let gone = (101..110).map(|number| {
        let yaml = super::edge::Identity::new(number, "wireguard").yaml();
        yaml.replace("name: edge-", "name: a-")
    });
    std::fs::write(folder.join("objects/gone.yaml"), gone.collect::<String>()).unwrap();
    site.agent.start_again();
    site.agent.wait_ready(super::lab::ADMIN.parse().unwrap(), "/readyz");
    site.start_edge(1).hold(CONNECTION, 1);
    site.start_edge(2);
    site.wait_for_holder(Some("edge-1"));
    site.wait_for_remote();
    client_reaches_the_pod_by(&site, 2);
    let status = site.status();
    let text = serde_json::to_string(&status.findings).unwrap();
    assert!(text.contains("there are 11 EdgeGateways") && text.contains("a-101"), "{text}");
    assert!(!text.contains("edge-1") && !text.contains("edge-2"), "{text}");

    // They come first after a restart: they have answered before.
    site.agent.kill();
    site.agent.start_again();
    let start = Instant::now();
    site.wait_for_remote();
    println!("reached again after {:?}", start.elapsed());
    let numbers = |status: &edge_agent::view::Status| {
        ["edge-1", "edge-2"].map(|name| status.edges.get(name).and_then(|edge| edge.number))
    };
    assert_eq!(numbers(&site.status()), numbers(&status));
}

#[test]
fn a_node_that_starts_without_the_api_goes_by_what_was_kept() {
    let mut site = Site::with_api("wireguard");
    site.start_both();
    site.wait_for_remote();
    let kept = site.agent.folder().join("state/objects.yaml");
    eventually("objects are kept", || std::fs::read_to_string(&kept).ok()).contains("office");
    site.agent.kill();
    site.double.as_ref().unwrap().go_away(None);
    // Nothing is left of the earlier run in the kernel, as after a start of the machine.
    let uninstall = ["uninstall", "--config", "agent.yaml", "--keep-state"];
    assert_eq!(site.agent.run(&uninstall).0, Some(1), "the Node's annotations remain");
    assert!(!state(site.lab.node(1)).contains("tidegate"));

    site.agent.start_again();
    site.agent.wait_ready(super::lab::ADMIN.parse().unwrap(), "/readyz");
    let leaked = leaks(&site);
    site.wait_for_remote();
    client_reaches_the_pod_by(&site, 2);
    let conditions = site.status().conditions.join("\n");
    assert!(conditions.contains("objects are those of"), "{conditions}");
    assert!(conditions.contains("connection is refused"), "{conditions}");

    site.double.as_ref().unwrap().come_back();
    eventually("the API counts again", || {
        let status = site.status();
        (!status.conditions.iter().any(|text| text.contains("objects are"))).then_some(())
    });
    assert!(site.pings().is_ok());
    none_leaked(&leaked);
}

#[test]
fn flows_from_before_the_agent_lose_their_translated_source() {
    let mut site = Site::new("wireguard", "");
    site.agent.kill();
    let uninstall = ["uninstall", "--config", "agent.yaml", "--keep-state"];
    assert_eq!(site.agent.run(&uninstall).0, Some(0));
    // The network plugin translates it, and does so for as long as the flow goes on.
    let node = site.lab.node(1).clone();
    let client = site.pod().run(|| UdpSocket::bind("0.0.0.0:7007").unwrap());
    let remote = SocketAddr::new(REMOTE, 9000);
    let server = site.lab.edge(1).run(|| UdpSocket::bind(remote).unwrap());
    server.set_nonblocking(true).unwrap();
    client.send_to(b"early", remote).unwrap();
    let flows = node.run(|| conntrack::list(&conntrack::Filter::all()).unwrap());
    let flow = flows.iter().find(|flow| flow.original.destination == REMOTE);
    assert_eq!(flow.unwrap().reply.destination, ClusterLab::node_address(1));

    site.agent.start_again();
    site.start_both();
    let source = eventually("the flow arrives", || {
        client.send_to(b"late", remote).unwrap();
        let mut buffer = [0; 16];
        let (_, source) = server.recv_from(&mut buffer).ok()?;
        Some(source)
    });
    assert_eq!(source, SocketAddr::new(ClusterLab::pod_address(1, 0), 7007));
}

#[test]
fn on_one_link_plain_routes_do_and_a_restart_costs_nothing() {
    let mut site = Site::new("auto", "");
    let leaked = leaks(&site);
    site.start_both();
    site.wait_for_remote();
    assert_eq!(site.status().edges["edge-1"].path.as_deref(), Some("direct"));
    client_reaches_the_pod_by(&site, 1);
    client_reaches_the_pod_by(&site, 2);
    let remote = SocketAddr::new(REMOTE, 9000);
    let source = seen_source(site.pod(), site.lab.edge(1), remote);
    assert_eq!(source, ClusterLab::pod_address(1, 0));

    let pings = Pings::start(site.pod(), REMOTE, "0.005");
    site.agent.terminate();
    assert!(site.agent.wait().success());
    site.agent.start_again();
    site.agent.wait_ready(super::lab::ADMIN.parse().unwrap(), "/readyz");
    site.wait_for_holder(Some("edge-1"));
    let (sent, received) = pings.stop();
    println!("over a restart {received} of {sent}");
    assert!(sent > 10 && sent - received <= 1, "{received} of {sent}");
    none_leaked(&leaked);
}

#[test]
fn a_key_is_changed_with_hardly_a_packet_lost() {
    let mut site = Site::new("wireguard", "");
    site.start_both();
    site.wait_for_remote();
    let before = site.status().keys;
    let pings = Pings::start(site.pod(), REMOTE, "0.02");
    site.agent.signal(rustix::process::Signal::USR1);
    eventually("there are two keys", || (site.status().keys.len() == 2).then_some(()));
    let text = std::fs::read_to_string(site.agent.folder().join("state/node.yaml")).unwrap();
    let keys = site.status().keys;
    assert!(text.contains(&format!("{},{}", keys[0].key, before[0].key)), "{text}");
    let deadline = Instant::now() + Duration::from_secs(40);
    while site.status().keys.len() > 1 {
        assert!(Instant::now() < deadline, "the former key stays");
        std::thread::yield_now();
    }
    site.wait_for_remote();
    let (sent, received) = pings.stop();
    println!("while a key was changed {received} of {sent}");
    assert_eq!(site.status().keys[0].key, keys[0].key);
    assert!(sent - received <= 25, "{received} of {sent}, one each 20 ms");
    assert_eq!(site.status().tunnels.len(), 2);
}

#[test]
fn tunnels_carry_no_clear_text() {
    let mut site = Site::new("wireguard", "");
    site.start_both();
    let filter = format!("host 10.0.0.21 and not udp port {TUNNELS} and not arp and not icmp6");
    let seen = Capture::start(site.lab.edge(1), "priv0", &filter);
    site.wait_for_remote();
    client_reaches_the_pod_by(&site, 1);
    assert_eq!(seen.lines(), Vec::<String>::new());
    assert!(site.state().contains("tidegate-wg"));
}

#[test]
fn a_wrong_configuration_is_told_and_nothing_is_changed() {
    let machine = Namespace::alone("bad");
    let before = state(&machine);
    let run = |text: &str, command: &str| {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("agent.yaml");
        std::fs::write(&config, text).unwrap();
        let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_edge-agent"));
        process.args([command, "--config"]).arg(&config);
        let output = machine.run(|| process.output()).unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let head = "apiVersion: tidegate.io/v1alpha1\nkind: AgentConfig\n";
    for command in ["run", "check", "uninstall"] {
        let (code, errors) = run(&format!("{head}source: {{}}\n"), command);
        assert_eq!(code, Some(1), "{errors}");
        assert!(errors.contains("agent.yaml:3: source: has neither"), "{errors}");
    }
    let text =
        format!("{head}source: {{manifests: gone}}\nstate: state\nadmin: {{listen: null}}\n");
    for command in ["run", "check"] {
        let (code, errors) = run(&text, command);
        assert_eq!(code, Some(1), "{errors}");
        assert!(errors.contains("gone") && errors.contains("make it"), "{errors}");
    }
    assert_eq!(state(&machine), before);
}

#[test]
fn the_sample_configuration_holds() {
    let config = concat!(env!("CARGO_MANIFEST_DIR"), "/../configs/agent.yaml");
    let mut process = std::process::Command::new(env!("CARGO_BIN_EXE_edge-agent"));
    let output = process.args(["check", "--config", config]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    assert!(text.contains("holds for Node node-a"), "{text}");
}
