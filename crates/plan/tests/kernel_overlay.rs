//! The overlay's plans in a real kernel: routes, rules and the nftables table of a node, over a
//! link in the clear, and over one that stands for a tunnel. Needs root and nft.

#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use model::snapshot::overlay::{Connection, Edge, Node, OverlayMode};
use model::{HostAddress, ObjectKey, OverlaySettings, PublicKey, Snapshot};
use nix::sched::{CloneFlags, setns};
use plan::overlay::{self, NodeInput, OverlayPlan, Path, Probed, Selector, Target, node};

static LABS: AtomicU32 = AtomicU32::new(0);

const EDGE: PublicKey = PublicKey([1; 32]);
const NODE: PublicKey = PublicKey([2; 32]);
const CLIENT: &str = "203.0.113.7";
const REMOTE: &str = "10.20.0.9";
const POD: &str = "10.244.1.7";
const OTHER: &str = "10.244.2.7";

/// A node `n` with a pod `p`, an edge `e` on a link (and on one that stands for the tunnel), and
/// another node's pod behind the node's router `r`, where its default route goes.
struct Lab(String);

impl Lab {
    fn new(tunnel: &str) -> Self {
        assert!(nix::unistd::Uid::effective().is_root(), "these tests need root: run them as root");
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let lab = Self(format!("plo{}-{number}", std::process::id()));
        for name in ["e", "n", "p", "r"] {
            run("ip", &format!("netns add {}", lab.ns(name)), "");
            lab.ip(name, "link set lo up");
            lab.exec(name, "sysctl -qw net.ipv4.ip_forward=1 net.ipv4.conf.all.rp_filter=0", "");
            lab.exec(name, "sysctl -qw net.ipv4.conf.default.rp_filter=1", "");
        }
        for (far, device, near_address, far_address) in [
            ("e", "eth0", "192.0.2.1/24", "192.0.2.9/24"),
            ("e", tunnel, "10.99.0.1/30", "10.99.0.2/30"),
            ("p", "pod", "10.244.1.1/24", "10.244.1.7/24"),
            ("r", "eth1", "198.51.100.1/24", "198.51.100.254/24"),
        ] {
            let (near, other) = (lab.ns("n"), lab.ns(far));
            let names = format!("{device} netns {near} type veth peer name {device} netns {other}");
            run("ip", &format!("link add {names}"), "");
            for (name, address) in [("n", near_address), (far, far_address)] {
                lab.ip(name, &format!("addr add {address} dev {device}"));
                lab.ip(name, &format!("link set {device} up"));
            }
        }
        lab.ip("n", "route add default via 198.51.100.254");
        lab.ip("n", "route add 10.244.2.0/24 via 198.51.100.254");
        lab.ip("p", "route add default via 10.244.1.1");
        for (name, address) in [("e", CLIENT), ("e", REMOTE), ("r", OTHER)] {
            lab.ip(name, &format!("addr add {address}/32 dev lo"));
        }
        // What finds no way to the edge ends there, and not in silence.
        lab.ip("r", "route add 10.244.2.0/24 dev lo");
        lab.ip("r", "route add 10.99.0.0/16 via 198.51.100.1");
        lab.ip("r", "route add 192.0.2.0/24 via 198.51.100.1");
        lab
    }

    fn ns(&self, name: &str) -> String {
        format!("{}-{name}", self.0)
    }

    fn ip(&self, name: &str, arguments: &str) {
        run("ip", &format!("-n {} {arguments}", self.ns(name)), "");
    }

    fn exec(&self, name: &str, command: &str, input: &str) -> String {
        run("ip", &format!("netns exec {} {command}", self.ns(name)), input)
    }

    /// Applies a node's plan, without its tunnels.
    fn apply(&self, plan: &OverlayPlan) {
        for (name, value) in &plan.sysctls {
            self.exec("n", &format!("sysctl -qw {name}={value}"), "");
        }
        for route in &plan.routes {
            let (network, table) = (route.network, route.table);
            let v = if network.addr().is_ipv4() { "-4" } else { "-6" };
            let what = match &route.target {
                Target::Device(device) => format!("{network} dev {device}"),
                Target::Via { address, interface } => {
                    format!("{network} via {address} dev {interface}")
                }
                Target::Unreachable => format!("unreachable {network}"),
                Target::Throw => format!("throw {network}"),
            };
            self.ip("n", &format!("{v} route add {what} table {table}"));
        }
        for rule in &plan.rules {
            let v = if rule.v6 { "-6" } else { "-4" };
            let which = match &rule.selector {
                Selector::All => "from all".to_owned(),
                Selector::Mark { value, mask } => format!("fwmark {value:#x}/{mask:#x}"),
                Selector::From(network) => format!("from {network}"),
                Selector::Incoming(device) => format!("iif {device}"),
            };
            let (priority, table) = (rule.priority, rule.table);
            self.ip("n", &format!("{v} rule add {which} priority {priority} table {table}"));
        }
        self.exec("n", "nft -f -", &plan.table);
    }

    fn within<T: Send>(&self, name: &str, action: impl FnOnce() -> T + Send) -> T {
        let file = std::fs::File::open(format!("/var/run/netns/{}", self.ns(name))).unwrap();
        std::thread::scope(|scope| {
            let entered = || {
                setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
                action()
            };
            scope.spawn(entered).join().unwrap()
        })
    }

    fn socket(&self, name: &str, address: &str) -> UdpSocket {
        self.within(name, || {
            let socket = UdpSocket::bind(address).unwrap();
            socket.set_read_timeout(Some(Duration::from_millis(700))).unwrap();
            socket
        })
    }

    /// Whom the server sees, if anything comes to it, and whether its answer comes back.
    fn exchange(&self, client: &UdpSocket, server: &UdpSocket, to: &str) -> Option<(String, bool)> {
        let to: SocketAddr = to.parse().unwrap();
        // It fails for what is unreachable.
        client.send_to(b"ask", to).ok()?;
        let mut buffer = [0; 16];
        let (_, from) = server.recv_from(&mut buffer).ok()?;
        let answered = server.send_to(b"answer", from).is_ok();
        let answered = answered && client.recv_from(&mut buffer).is_ok_and(|(_, by)| by == to);
        Some((from.ip().to_string(), answered))
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in ["e", "n", "p", "r"] {
            let _ = Command::new("ip").args(["netns", "del", &self.ns(name)]).output();
        }
    }
}

fn run(program: &str, arguments: &str, input: &str) -> String {
    let mut child = Command::new(program)
        .args(arguments.split_whitespace())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments}: {said}\n{input}");
    String::from_utf8(output.stdout).unwrap()
}

fn snapshot() -> Snapshot {
    let own = Node {
        addresses: vec!["192.0.2.1".parse().unwrap()],
        pods: vec!["10.244.1.0/24".parse().unwrap()],
        ready: true,
        ..Node::default()
    };
    let edge = Edge {
        addresses: vec!["192.0.2.9".parse().unwrap()],
        keys: vec![(EDGE, 51821)],
        probe_port: 51820,
        services: vec!["172.21.0.0/24".parse().unwrap()],
        ..Edge::default()
    };
    let connection =
        Connection { remote: vec!["10.20.0.0/16".parse().unwrap()], ..Connection::default() };
    Snapshot {
        nodes: [("n1".to_owned(), own)].into(),
        edges: [("edge-1".to_owned(), edge)].into(),
        connections: [(ObjectKey::new("office", "hq"), connection)].into(),
        ..Snapshot::default()
    }
}

fn planned(lab: Option<&Lab>, mode: OverlayMode, holds: bool) -> OverlayPlan {
    let settings = OverlaySettings { name: "n1".to_owned(), mode, ..OverlaySettings::default() };
    let mut input = NodeInput { keys: vec![NODE], ..NodeInput::default() };
    for (interface, network) in [("eth0", "192.0.2.1/24"), ("eth1", "198.51.100.1/24")] {
        let network = network.parse().unwrap();
        input.host.push(HostAddress { interface: interface.to_owned(), network });
    }
    if let Some(lab) = lab {
        let text = lab.exec("e", "cat /sys/class/net/eth0/address", "");
        let bytes = text.trim().split(':').map(|byte| u8::from_str_radix(byte, 16).unwrap());
        let bytes: Vec<u8> = bytes.collect();
        let address = "192.0.2.9".parse().unwrap();
        input.neighbours = BTreeMap::from([(address, bytes.try_into().unwrap())]);
    }
    let vpn: BTreeSet<ObjectKey> =
        holds.then(|| ObjectKey::new("office", "hq")).into_iter().collect();
    let path = match mode {
        OverlayMode::Wireguard => Path::Tunnel { edge: EDGE, node: NODE },
        _ => Path::Direct,
    };
    let probed = Probed { live: true, path: Some(path), vpn, ..Probed::default() };
    input.edges = [("edge-1".to_owned(), probed)].into();
    node(&snapshot(), &settings, &input).0
}

/// What the network plugin does: pods that leave the cluster have the node's address; and what
/// kube-proxy does: a Service's address becomes an endpoint's.
const CLUSTER: &str = "table ip cluster {
    chain leaving {
        type nat hook postrouting priority 100; policy accept;
        ip saddr 10.244.0.0/16 ip daddr != 10.244.0.0/16 masquerade
    }
    chain services {
        type nat hook prerouting priority -100; policy accept;
        ip daddr 172.21.0.1 dnat to 10.244.1.7
        ip daddr 172.21.0.2 dnat to 10.244.2.7
    }
}
";

fn both(mode: OverlayMode) {
    // The name depends on the keys alone.
    let tunnel = match planned(None, mode, true).tunnels.first() {
        Some(tunnel) => tunnel.interface.clone(),
        None => "unused".to_owned(),
    };
    let lab = Lab::new(&tunnel);
    let plan = planned(Some(&lab), mode, true);
    lab.exec("n", "nft -f -", CLUSTER);
    lab.apply(&plan);
    let way = match mode {
        OverlayMode::Wireguard => format!("10.99.0.1 dev {tunnel}"),
        _ => "192.0.2.1 dev eth0".to_owned(),
    };
    for network in ["10.244.0.0/16", "172.21.0.0/24"] {
        lab.ip("e", &format!("route add {network} via {way} src {CLIENT}"));
    }
    let client = lab.socket("e", &format!("{CLIENT}:0"));
    let remote = lab.socket("e", &format!("{REMOTE}:8000"));
    let pod = lab.socket("p", "0.0.0.0:8000");
    let other = lab.socket("r", &format!("{OTHER}:8000"));
    let found = lab.exchange(&client, &pod, &format!("{POD}:8000"));
    assert_eq!(found, Some((CLIENT.to_owned(), true)), "a client and a pod");
    let found = lab.exchange(&pod, &remote, &format!("{REMOTE}:8000"));
    assert_eq!(found, Some((POD.to_owned(), true)), "a pod and the remote end");
    let second = lab.socket("p", "0.0.0.0:8001");
    let found = lab.exchange(&remote, &second, &format!("{POD}:8001"));
    assert_eq!(found, Some((REMOTE.to_owned(), true)), "the remote end and a pod");
    let fresh = lab.socket("e", &format!("{CLIENT}:0"));
    let found = lab.exchange(&fresh, &pod, "172.21.0.1:8000");
    assert_eq!(found, Some((CLIENT.to_owned(), true)), "a client and a Service's pod here");
    let found = lab.exchange(&fresh, &other, "172.21.0.2:8000");
    assert_eq!(found, Some(("198.51.100.1".to_owned(), true)), "and one elsewhere");
    // A process of the node, too.
    let to = if mode == OverlayMode::Wireguard { "10.99.0.1" } else { "192.0.2.1" };
    let local = lab.socket("n", &format!("{to}:8002"));
    let fresh = lab.socket("e", &format!("{CLIENT}:0"));
    let found = lab.exchange(&fresh, &local, &format!("{to}:8002"));
    assert_eq!(found, Some((CLIENT.to_owned(), true)), "a client and the node");
}

#[test]
fn replies_find_back_and_sources_stay_over_a_link() {
    both(OverlayMode::Direct);
}

#[test]
fn replies_find_back_and_sources_stay_through_a_tunnel() {
    both(OverlayMode::Wireguard);
}

#[test]
fn without_a_holder_or_a_tunnel_nothing_goes_another_way() {
    let mode = OverlayMode::Wireguard;
    let tunnel = planned(None, mode, true).tunnels.first().unwrap().interface.clone();
    for holds in [false, true] {
        let lab = Lab::new(&tunnel);
        lab.ip("r", &format!("addr add {REMOTE}/32 dev lo"));
        lab.apply(&planned(Some(&lab), mode, holds));
        if holds {
            lab.ip("n", &format!("link del {tunnel}"));
        }
        let pod = lab.socket("p", "0.0.0.0:0");
        let wrong = lab.socket("r", &format!("{REMOTE}:8000"));
        assert_eq!(lab.exchange(&pod, &wrong, &format!("{REMOTE}:8000")), None, "{holds}");
        let right = lab.socket("r", &format!("{OTHER}:8000"));
        lab.ip("r", "route add 10.244.1.0/24 via 198.51.100.1");
        let found = lab.exchange(&pod, &right, &format!("{OTHER}:8000"));
        assert_eq!(found, Some((POD.to_owned(), true)), "others are reached as ever");
    }
}

#[test]
fn plans_text_is_what_nft_reads() {
    let lab = Lab::new("unused");
    let mut snapshot = snapshot();
    let mut other = snapshot.nodes["n1"].clone();
    other.agent = Some(model::snapshot::overlay::NodeAgent { keys: vec![NODE], mode: None });
    other.pods = vec!["10.244.2.0/24".parse().unwrap(), "fd00::/64".parse().unwrap()];
    other.addresses = vec!["203.0.113.2".parse().unwrap()];
    snapshot.nodes.insert("n2".to_owned(), other);
    let settings = OverlaySettings {
        name: "edge-1".to_owned(),
        services: vec!["172.21.0.0/16".parse().unwrap()],
        egress: vec!["0.0.0.0/0".parse().unwrap(), "::/0".parse().unwrap()],
        ..OverlaySettings::default()
    };
    let input = overlay::EdgeInput {
        keys: vec![(EDGE, 51821)],
        host: vec![HostAddress {
            interface: "eth0".to_owned(),
            network: "192.0.2.9/24".parse().unwrap(),
        }],
        vpn_interface: Some("tidegate-vpn".to_owned()),
        ..overlay::EdgeInput::default()
    };
    let (plan, _) = overlay::edge(&snapshot, &settings, &input);
    assert!(plan.table.contains("masquerade") && plan.table.contains("link0_4"), "{}", plan.table);
    for _ in 0..2 {
        lab.exec("e", "nft -f -", &plan.table);
    }
    let listed = lab.exec("e", "nft list table inet tidegate-overlay", "");
    assert!(listed.contains("overlay_spoofed"), "{listed}");
    lab.exec("e", "nft -f -", &overlay::table::removal(overlay::TABLE));
}

/// The lab the other way round: `n` is an edge with `eth0` outside, a node behind `eth1` and one
/// out there; who is there may call himself what he likes.
#[test]
fn who_is_outside_has_no_address_of_the_cluster() {
    let lab = Lab::new("tidegate-wg");
    let node = |address: &str, pods: &str| Node {
        addresses: vec![address.parse().unwrap()],
        pods: vec![pods.parse().unwrap()],
        agent: Some(model::snapshot::overlay::NodeAgent { keys: vec![NODE], mode: None }),
        ready: true,
        ..Node::default()
    };
    let mut snapshot = Snapshot::default();
    snapshot.nodes.insert("inside".to_owned(), node("198.51.100.254", "10.244.2.0/24"));
    snapshot.nodes.insert("there".to_owned(), node("192.0.2.8", "10.244.3.0/24"));
    let settings = OverlaySettings {
        name: "edge-1".to_owned(),
        services: vec!["172.21.0.0/24".parse().unwrap()],
        port: 51821,
        probe_port: 51820,
        ..OverlaySettings::default()
    };
    let mut input = overlay::EdgeInput {
        keys: vec![(EDGE, 51821)],
        outside: vec!["eth0".to_owned()],
        ..overlay::EdgeInput::default()
    };
    for (interface, network) in [("eth0", "192.0.2.1/24"), ("eth1", "198.51.100.1/24")] {
        let network = network.parse().unwrap();
        input.host.push(HostAddress { interface: interface.to_owned(), network });
    }
    let (plan, _) = overlay::edge(&snapshot, &settings, &input);
    lab.exec("n", "nft -f -", &plan.table);
    lab.exec("n", "sysctl -qw net.ipv4.conf.eth0.rp_filter=0 net.ipv4.conf.eth1.rp_filter=0", "");
    for address in ["198.51.100.254", "192.0.2.8", "172.21.0.5", "203.0.113.99"] {
        lab.ip("e", &format!("addr add {address}/32 dev lo"));
    }
    let own = lab.socket("n", "0.0.0.0:8000");
    let probes = lab.socket("n", "0.0.0.0:51820");
    let mut buffer = [0; 16];
    for (from, to, taken) in [
        ("203.0.113.99", 8000, true),
        ("198.51.100.254", 8000, false),
        ("172.21.0.5", 8000, false),
        ("198.51.100.254", 51820, true),
        ("192.0.2.8", 8000, true),
    ] {
        let sender = lab.socket("e", &format!("{from}:0"));
        sender.send_to(b"ask", format!("192.0.2.1:{to}")).unwrap();
        let server = if to == 8000 { &own } else { &probes };
        let heard = server.recv_from(&mut buffer).ok().map(|(_, from)| from.ip().to_string());
        assert_eq!(heard, taken.then(|| from.to_owned()), "{from} to {to}");
    }
    // The node itself is heard where it is.
    let inside = lab.socket("r", "198.51.100.254:0");
    inside.send_to(b"ask", "198.51.100.1:8000").unwrap();
    assert!(own.recv_from(&mut buffer).is_ok(), "the node behind eth1");
}
