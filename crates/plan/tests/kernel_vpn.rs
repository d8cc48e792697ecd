//! The VPN plane's guard table in a real kernel. Needs root and nft.

#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::net::UdpSocket;
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use ingest::{ObjectSet, manifest};
use model::{Settings, VpnSettings};
use nix::sched::{CloneFlags, setns};
use plan::vpn::{plan, table};

static LABS: AtomicU32 = AtomicU32::new(0);

/// An edge with a way out (`wan`), a pod behind it (`pods`), and the other end behind a tunnel
/// interface, to which there is no route.
struct Lab(String);

impl Lab {
    fn new() -> Self {
        assert!(nix::unistd::Uid::effective().is_root(), "these tests need root: run them as root");
        let number = LABS.fetch_add(1, Ordering::Relaxed);
        let lab = Self(format!("vpng{}-{number}", std::process::id()));
        for name in ["e", "w", "p", "t"] {
            ok(&run("ip", &["netns", "add", &lab.ns(name)], ""));
            lab.ip(name, "link set lo up");
        }
        for (other, device, net) in [("w", "wan", "203.0.113"), ("p", "pods", "172.30.0")] {
            let (edge, far) = (lab.ns("e"), lab.ns(other));
            ok(&run(
                "ip",
                &[
                    "link", "add", device, "netns", &edge, "type", "veth", "peer", "name", "e",
                    "netns", &far,
                ],
                "",
            ));
            lab.ip("e", &format!("addr add {net}.1/24 dev {device}"));
            lab.ip("e", &format!("link set {device} up"));
            lab.ip(other, &format!("addr add {net}.7/24 dev e"));
            lab.ip(other, "link set e up");
            lab.ip(other, &format!("route add default via {net}.1"));
        }
        lab.ip("e", "route add default via 203.0.113.7");
        let far = lab.ns("t");
        // A device of this kind speaks for itself, unlike a tunnel, and would be counted.
        ok(&lab.exec("t", "sysctl", &["-qw", "net.ipv6.conf.default.disable_ipv6=1"], ""));
        lab.ip("e", &format!("link add tidegate-vpn type veth peer name e netns {far}"));
        lab.ip("e", "addr add 192.0.2.1/30 dev tidegate-vpn");
        lab.ip("e", "link set tidegate-vpn up");
        lab.ip("t", "addr add 192.0.2.2/30 dev e");
        lab.ip("t", "link set e up");
        lab.ip("t", "addr add 10.20.0.9/32 dev lo");
        lab.ip("t", "route add default via 192.0.2.1");
        lab.ip("w", "addr add 10.20.0.9/32 dev lo");
        lab.ip("w", "addr add 198.51.100.9/32 dev lo");
        ok(&lab.exec(
            "e",
            "sysctl",
            &["-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.rp_filter=0"],
            "",
        ));
        lab
    }

    fn ns(&self, name: &str) -> String {
        format!("{}-{name}", self.0)
    }

    fn ip(&self, name: &str, arguments: &str) {
        let ns = self.ns(name);
        let all: Vec<&str> = ["-n", &ns].into_iter().chain(arguments.split(' ')).collect();
        ok(&run("ip", &all, ""));
    }

    fn exec(&self, name: &str, program: &str, arguments: &[&str], input: &str) -> Output {
        let ns = self.ns(name);
        let all: Vec<&str> =
            ["netns", "exec", &ns, program].iter().chain(arguments).copied().collect();
        run("ip", &all, input)
    }

    fn load(&self, text: &str) {
        ok(&self.exec("e", "nft", &["-f", "-"], text));
    }

    /// Packets that a counter has.
    fn counted(&self, name: &str) -> u64 {
        let output =
            self.exec("e", "nft", &["-j", "list", "counter", "inet", "tidegate-vpn", name], "");
        let listing: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        listing["nftables"][1]["counter"]["packets"].as_u64().unwrap()
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

    /// Whether a datagram from an address of one namespace comes to one of another.
    fn reaches(&self, (from, source): (&str, &str), (to, at): (&str, &str), mark: u32) -> bool {
        // A process that is being started by another test has all sockets for a moment.
        let deadline = Instant::now() + Duration::from_secs(5);
        let receiver = self.within(to, || {
            loop {
                let bound = UdpSocket::bind((at, 4500));
                if bound.is_ok() || Instant::now() > deadline {
                    break bound.unwrap();
                }
                std::thread::yield_now();
            }
        });
        receiver.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        self.within(from, || {
            let socket = UdpSocket::bind((source, 0)).unwrap();
            if mark != 0 {
                socket2::SockRef::from(&socket).set_mark(mark).unwrap();
            }
            // A dropped one is an error at once.
            let _ = socket.send_to(b"?", (at, 4500));
        });
        receiver.recv(&mut [0; 8]).is_ok()
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in ["e", "w", "p", "t"] {
            let _ = run("ip", &["netns", "del", &self.ns(name)], "");
        }
    }
}

fn run(program: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn ok(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn table_of(manifests: &str) -> String {
    let mut objects = ObjectSet::default();
    let entries = manifest::parse("f.yaml", manifests).objects;
    entries.into_iter().for_each(|entry| entry.insert_into(&mut objects));
    let cluster_subnets = vec!["172.30.0.0/16".parse().unwrap()];
    let vpn = Some(VpnSettings { cluster_subnets, ..VpnSettings::default() });
    let settings = Settings { vpn, ..Settings::default() };
    let (snapshot, _) = ingest::ingest(&objects, &settings);
    plan(&snapshot, &settings, &BTreeMap::new()).0.table
}

const SECRET: &str = "\n---\napiVersion: v1\nkind: Secret\nmetadata: {name: psk}\nstringData: {psk: \
                      3f0a9c7be1d24685aa70}\n";

fn connection(rest: &str) -> String {
    format!(
        "apiVersion: tidegate.io/v1alpha1\nkind: VpnConnection\nmetadata: {{name: c}}\nspec: {{auth: \
         {{psk: {{secretName: psk}}}}, remote: {{gateway: 203.0.113.7, subnets: [10.20.0.0/16, \
         \"2001:db8:20::/48\"]}}{rest}}}{SECRET}"
    )
}

#[test]
fn every_golden_table_loads_in_the_place_of_another() {
    let lab = Lab::new();
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden_vpn");
    let mut loaded = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "yaml") {
            let text = table_of(&std::fs::read_to_string(&path).unwrap());
            lab.load(&text);
            loaded += 1;
        }
    }
    assert!(loaded > 5);
    lab.load(&table::removal());
    lab.load(&table::removal());
    let listing = lab.exec("e", "nft", &["list", "tables"], "");
    assert!(listing.stdout.is_empty(), "{}", String::from_utf8_lossy(&listing.stdout));
}

#[test]
fn nothing_for_a_remote_network_leaves_in_the_clear() {
    let lab = Lab::new();
    let (pod, edge) = (("p", "172.30.0.7"), ("e", "203.0.113.1"));
    let (remote, other) = (("w", "10.20.0.9"), ("w", "198.51.100.9"));
    assert!(lab.reaches(pod, remote, 0) && lab.reaches(edge, remote, 0));
    lab.load(&table_of(&connection("")));
    assert!(!lab.reaches(pod, remote, 0) && !lab.reaches(edge, remote, 0));
    assert_eq!(lab.counted(table::GUARD_OUT), 2);
    assert!(lab.reaches(pod, other, 0) && lab.reaches(edge, other, 0));
    // The edge's own IKE and ESP may, even if the L4 plane marks its packets too.
    assert!(lab.reaches(edge, remote, table::MARK));
    assert!(lab.reaches(edge, remote, table::MARK | 0x2000_0000));
    assert!(!lab.reaches(edge, remote, table::MARK ^ 1));
}

#[test]
fn nobody_pretends_to_be_of_a_remote_network() {
    let lab = Lab::new();
    lab.load(&table_of(&connection("")));
    let (remote, pod) = (("w", "10.20.0.9"), ("p", "172.30.0.7"));
    assert!(!lab.reaches(remote, pod, 0));
    assert_eq!(lab.counted(table::GUARD_IN), 1);
    // To the edge's own port for IKE and ESP, where other proof is asked for.
    assert!(lab.reaches(remote, ("e", "203.0.113.1"), 0));
    assert!(lab.reaches(("w", "198.51.100.9"), pod, 0));
}

#[test]
fn this_sides_networks_within_a_remote_one_are_reached_as_before() {
    let lab = Lab::new();
    let wide = connection("").replace("10.20.0.0/16", "172.16.0.0/12");
    lab.load(&table_of(&wide));
    assert!(lab.reaches(("w", "198.51.100.9"), ("p", "172.30.0.7"), 0));
    assert!(lab.reaches(("p", "172.30.0.7"), ("w", "198.51.100.9"), 0));
    lab.ip("w", "addr add 172.29.0.9/32 dev lo");
    assert!(!lab.reaches(("p", "172.30.0.7"), ("w", "172.29.0.9"), 0));
}

#[test]
fn with_a_single_source_address_everything_leaves_from_it_and_nothing_new_comes_in() {
    let lab = Lab::new();
    let single = connection(", enableSingleSourceIP: true, singleSourceIP: 10.131.0.1");
    lab.load(&table_of(&single.replace(", \"2001:db8:20::/48\"", "")));
    lab.ip("e", "route add 10.20.0.0/16 via 192.0.2.2");
    let there = lab.within("t", || UdpSocket::bind("10.20.0.9:4500").unwrap());
    let pod = lab.within("p", || UdpSocket::bind("172.30.0.7:0").unwrap());
    for socket in [&there, &pod] {
        socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    }
    pod.send_to(b"?", "10.20.0.9:4500").unwrap();
    let (_, seen) = there.recv_from(&mut [0; 8]).unwrap();
    assert_eq!(seen.ip().to_string(), "10.131.0.1");
    there.send_to(b"!", seen).unwrap();
    assert!(pod.recv(&mut [0; 8]).is_ok());
    // Another port of the same address is nobody's flow, and a pod is not to be reached at all.
    there.send_to(b"?", ("10.131.0.1", seen.port() ^ 1)).unwrap();
    there.send_to(b"?", pod.local_addr().unwrap()).unwrap();
    pod.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    assert!(pod.recv(&mut [0; 8]).is_err());
    assert_eq!((lab.counted(table::GUARD_SINGLE), lab.counted(table::GUARD_LOCAL)), (1, 1));
}

#[test]
fn what_comes_out_of_a_tunnel_reaches_local_networks_only() {
    let lab = Lab::new();
    lab.load(&table_of(&connection("")));
    lab.ip("e", "route add 10.20.0.0/16 via 192.0.2.2");
    let remote = ("t", "10.20.0.9");
    assert!(lab.reaches(remote, ("p", "172.30.0.7"), 0));
    assert!(lab.reaches(("p", "172.30.0.7"), remote, 0));
    assert!(!lab.reaches(remote, ("w", "198.51.100.9"), 0));
    assert!(!lab.reaches(remote, ("e", "203.0.113.1"), 0));
    assert_eq!(lab.counted(table::GUARD_LOCAL), 2);
}

#[test]
fn counters_go_on_over_a_reload() {
    let lab = Lab::new();
    let text = table_of(
        &connection(", enableSingleSourceIP: true, singleSourceIP: 10.131.0.1")
            .replace(", \"2001:db8:20::/48\"", ""),
    );
    let counted = BTreeMap::from([(table::GUARD_OUT.to_owned(), (41, 4100))]);
    lab.load(&text);
    lab.load(&table::with_counters(&text, &counted));
    assert!(!lab.reaches(("p", "172.30.0.7"), ("w", "10.20.0.9"), 0));
    assert_eq!(lab.counted(table::GUARD_OUT), 42);
    for name in table::COUNTERS {
        lab.counted(name);
    }
}
