//! Two network namespaces: the edge with three interfaces, and what lies behind them.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use plan::nft::Table;
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};

pub(crate) const INTERFACES: [&str; 3] = ["eth0", "eth1", "eth2"];
pub(crate) const LOCAL: [&str; 2] = ["192.0.2.1", "2001:db8::1"];
/// Destinations that are translated, and to which.
pub(crate) const TRANSLATED: [[&str; 2]; 2] =
    [["192.0.2.10", "10.1.0.8"], ["2001:db8::10", "2001:db8:1::8"]];

/// What is after the policies at each hook, and notes the packets that come so far by the 16 bits
/// in which they carry their number.
const PROBE: &str = "
table inet probe {
    set pre4 { typeof ip id; size 65535; flags dynamic; }
    set pre6 { typeof ip6 flowlabel; size 65535; flags dynamic; }
    set end4 { typeof ip id; size 65535; flags dynamic; }
    set end6 { typeof ip6 flowlabel; size 65535; flags dynamic; }
    counter seen { }
    chain seen {
        type filter hook prerouting priority -300; policy accept;
        ip ttl 77 counter name seen
        ip6 hoplimit 77 counter name seen
    }
    chain pre {
        type filter hook prerouting priority -140; policy accept;
        ct state invalid counter comment \"so that connections are tracked\"
        ip ttl 77 add @pre4 { ip id }
        ip6 hoplimit 77 add @pre6 { ip6 flowlabel }
    }
    chain translate_incoming {
        type nat hook prerouting priority -100; policy accept;
        goto translate
    }
    chain translate {
        ip daddr 192.0.2.10 meta l4proto { 6, 17, 132 } dnat ip to 10.1.0.8
        ip6 daddr 2001:db8::10 meta l4proto { 6, 17, 132 } dnat ip6 to 2001:db8:1::8
    }
    chain translate_local {
        type nat hook output priority -100; policy accept;
        goto translate
    }
    chain end {
        ip ttl { 76, 77 } add @end4 { ip id }
        ip6 hoplimit { 76, 77 } add @end6 { ip6 flowlabel }
    }
    chain input { type filter hook input priority 0; policy accept; jump end; }
    chain forward { type filter hook forward priority 0; policy accept; jump end; }
    chain output {
        type filter hook postrouting priority 0; policy accept;
        ip ttl 77 jump end
        ip6 hoplimit 77 jump end
    }
}
";

/// The namespaces; they are gone once it is dropped.
pub(crate) struct Lab {
    edge: String,
    _namespaces: Namespaces,
    /// Sockets that send through the edge's interfaces, in their order, IPv4 and IPv6.
    through: Vec<[Socket; 2]>,
    /// Sockets of the edge itself.
    local: [Socket; 2],
}

impl Lab {
    pub(crate) fn new(tag: &str) -> Self {
        let id = format!("{tag}{}", std::process::id());
        let (edge, outside) = (format!("polprop-e-{id}"), format!("polprop-o-{id}"));
        let namespaces = Namespaces([edge.clone(), outside.clone()]);
        for name in &namespaces.0 {
            run("ip", &["netns", "add", name]);
            run("ip", &["-n", name, "link", "set", "lo", "up"]);
        }
        for (index, name) in INTERFACES.into_iter().enumerate() {
            let peer = format!("o{index}");
            run(
                "ip",
                &[
                    "-n", &edge, "link", "add", name, "type", "veth", "peer", "name", &peer,
                    "netns", &outside,
                ],
            );
            // Addresses that nobody asks for: neighbours are written down.
            let ours = format!("02:00:00:00:00:0{index}");
            let theirs = format!("02:00:00:00:01:0{index}");
            run("ip", &["-n", &edge, "link", "set", name, "address", &ours, "up"]);
            run("ip", &["-n", &outside, "link", "set", &peer, "address", &theirs, "up"]);
            let (via4, via6) = (format!("169.254.{index}.9"), format!("fe80::9:{index}"));
            for (namespace, interface, lladdr) in
                [(&edge, name, &theirs), (&outside, peer.as_str(), &ours)]
            {
                for via in [&via4, &via6] {
                    run(
                        "ip",
                        &[
                            "-n",
                            namespace,
                            "neigh",
                            "add",
                            via,
                            "lladdr",
                            lladdr,
                            "dev",
                            interface,
                            "nud",
                            "permanent",
                        ],
                    );
                }
            }
            let metric = (100 + index).to_string();
            run(
                "ip",
                &[
                    "-n", &outside, "route", "add", "default", "via", &via4, "dev", &peer,
                    "onlink", "metric", &metric,
                ],
            );
            run(
                "ip",
                &[
                    "-n", &outside, "-6", "route", "add", "default", "via", &via6, "dev", &peer,
                    "metric", &metric,
                ],
            );
            let (net4, net6) = (format!("10.{index}.0.0/16"), format!("2001:db8:{index}::/48"));
            run("ip", &["-n", &edge, "route", "add", &net4, "via", &via4, "dev", name, "onlink"]);
            run("ip", &["-n", &edge, "-6", "route", "add", &net6, "via", &via6, "dev", name]);
            for namespace in [&edge, &outside] {
                for path in ["all", "default", if namespace == &edge { name } else { &peer }] {
                    run(
                        "ip",
                        &[
                            "netns",
                            "exec",
                            namespace,
                            "sysctl",
                            "-qw",
                            &format!("net.ipv4.conf.{path}.rp_filter=0"),
                        ],
                    );
                }
            }
        }
        run("ip", &["-n", &edge, "addr", "add", "192.0.2.1/32", "dev", "eth0"]);
        run("ip", &["-n", &edge, "addr", "add", "2001:db8::1/128", "dev", "eth0", "nodad"]);
        run(
            "ip",
            &[
                "-n",
                &edge,
                "route",
                "add",
                "default",
                "via",
                "169.254.0.9",
                "dev",
                "eth0",
                "onlink",
            ],
        );
        run(
            "ip",
            &["-n", &edge, "-6", "route", "add", "default", "via", "fe80::9:0", "dev", "eth0"],
        );
        for setting in [
            "net.ipv4.ip_forward=1",
            "net.ipv6.conf.all.forwarding=1",
            "net.ipv4.conf.all.send_redirects=0",
            "net.netfilter.nf_conntrack_checksum=0",
        ] {
            run("ip", &["netns", "exec", &edge, "sysctl", "-qw", setting]);
        }
        let through = (0..INTERFACES.len())
            .map(|index| sockets(&outside, Some(format!("o{index}"))))
            .collect();
        let local = sockets(&edge, None);
        let lab = Self { edge, _namespaces: namespaces, through, local };
        lab.nft(PROBE);
        lab
    }

    /// Sends a packet through an interface of the edge, or from the edge itself.
    pub(crate) fn send(&self, interface: Option<&str>, packet: &[u8], destination: IpAddr) {
        let sockets = match interface {
            Some(name) => &self.through[INTERFACES.iter().position(|&one| one == name).unwrap()],
            None => &self.local,
        };
        let socket = &sockets[usize::from(destination.is_ipv6())];
        match socket.send_to(packet, &SocketAddr::new(destination, 0).into()) {
            Ok(_) => {}
            // What the edge's own policies drop.
            Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
            Err(error) => panic!("{destination}: {error}"),
        }
    }

    /// Puts a table in place of the one before.
    pub(crate) fn load(&self, table: &Table) {
        let mut text = "table inet tidegate { }\ndelete table inet tidegate\n".to_owned();
        text.push_str(&rendered(table));
        self.nft(&text);
    }

    pub(crate) fn forget(&self) {
        self.nft(
            "flush set inet probe pre4\nflush set inet probe pre6\nflush set inet probe end4\n\
             flush set inet probe end6\nreset counter inet probe seen\n",
        );
    }

    /// Waits until this many packets have come in.
    pub(crate) fn wait_for(&self, packets: u64) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let listed = self.list(&["counter", "inet", "probe", "seen"]);
            let seen = listed["nftables"]
                .as_array()
                .unwrap()
                .iter()
                .find_map(|entry| entry["counter"]["packets"].as_u64());
            if seen.unwrap() >= packets {
                return;
            }
            assert!(Instant::now() < deadline, "only {seen:?} of {packets} packets came in");
        }
    }

    /// The numbers in one of the probe's pairs of sets.
    pub(crate) fn noted(&self, name: &str) -> BTreeSet<u16> {
        let mut found = BTreeSet::new();
        for family in ["4", "6"] {
            let listed = self.list(&["set", "inet", "probe", &format!("{name}{family}")]);
            for entry in listed["nftables"].as_array().unwrap() {
                for element in entry["set"]["elem"].as_array().into_iter().flatten() {
                    let value = element.get("elem").map_or(element, |inner| &inner["val"]);
                    found.insert(u16::try_from(value.as_u64().unwrap()).unwrap());
                }
            }
        }
        found
    }

    pub(crate) fn counters(&self) -> plan::policy::Listing {
        serde_json::from_value(self.list(&["table", "inet", "tidegate"])).unwrap()
    }

    fn list(&self, what: &[&str]) -> Value {
        let arguments = [&["netns", "exec", &self.edge, "nft", "-j", "list"], what].concat();
        serde_json::from_str(&run("ip", &arguments)).unwrap()
    }

    fn nft(&self, text: &str) {
        let mut child = Command::new("ip")
            .args(["netns", "exec", &self.edge, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "nft: {error}\n{text}");
    }
}

struct Namespaces([String; 2]);

impl Drop for Namespaces {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = Command::new("ip").args(["netns", "del", name]).status();
        }
    }
}

/// The table's text.
pub(crate) fn rendered(table: &Table) -> String {
    let mut text = "table inet tidegate {\n".to_owned();
    for (name, set) in &table.sets {
        text += &format!("set {name} {{ {}", set.head);
        if !set.elements.is_empty() {
            let elements: Vec<&str> = set.elements.keys().map(String::as_str).collect();
            text += &format!(" elements = {{ {} }}", elements.join(", "));
        }
        text += " }\n";
    }
    for (name, chain) in &table.chains {
        text += &format!("chain {name} {{\n");
        for line in chain.hook.iter().chain(&chain.rules) {
            text += &format!("  {line}\n");
        }
        text += "}\n";
    }
    text + "}\n"
}

/// Raw sockets of a namespace that take packets with their headers.
fn sockets(namespace: &str, interface: Option<String>) -> [Socket; 2] {
    let namespace = File::open(format!("/run/netns/{namespace}")).unwrap();
    // A thread of its own: the others stay where they are.
    let open = move || {
        setns(namespace, CloneFlags::CLONE_NEWNET).unwrap();
        [Domain::IPV4, Domain::IPV6].map(|domain| {
            let socket = Socket::new(domain, Type::RAW, Some(Protocol::from(255))).unwrap();
            if let Some(name) = &interface {
                socket.bind_device(Some(name.as_bytes())).unwrap();
            }
            socket
        })
    };
    std::thread::spawn(open).join().unwrap()
}

fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| panic!("{program}, which this test needs: {error}"));
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {}: {error} (this test needs root, iproute2 and nftables)",
        arguments.join(" ")
    );
    String::from_utf8(output.stdout).unwrap()
}
