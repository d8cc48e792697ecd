//! Two ends of a tunnel, each in a network namespace, on a link.
//!
//! Outside `left` has 192.0.2.1 and 2001:db8::1, `right` .2 and ::2. Inside they have what a test
//! says, on `lo`.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Write};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::process::Command;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use gateway::vpn::dataplane::{Counters, Dataplane, FromNetwork, SaCounters, Settings, UserSpace};
use ipnet::IpNet;
use ipsec::sa::{ChildSa, ChildSaId, EspKeys, EspSuite, Path, Spi};
use ipsec::selector::TrafficSelector;
use model::snapshot::vpn::NatPair;
use model::suite::{Encryption, Integrity};
use nix::sched::{CloneFlags, setns};
use plan::vpn::Policy;

pub(crate) const INTERFACE: &str = "tide0";
const MARK: u32 = 0x5447;

/// What a tunnel is like.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) udp: bool,
    pub(crate) outer_ipv6: bool,
    pub(crate) encryption: Encryption,
    pub(crate) integrity: Option<Integrity>,
    pub(crate) esn: bool,
    pub(crate) replay_window: u32,
    pub(crate) settings: Settings,
    pub(crate) ends: [End; 2],
}

/// What one end of it is like.
#[derive(Clone, Debug, Default)]
pub(crate) struct End {
    /// Its addresses inside, as they stand on `lo`.
    pub(crate) addresses: Vec<IpNet>,
    /// What it routes into the tunnel.
    pub(crate) remote: Vec<IpNet>,
    pub(crate) local_nat: Vec<NatPair>,
    pub(crate) remote_nat: Vec<NatPair>,
    /// In the tunnel.
    pub(crate) selectors: Vec<IpNet>,
}

impl Default for Options {
    fn default() -> Self {
        let end = |number: u8| {
            let other = 3 - number;
            End {
                addresses: nets(&[&format!("10.{number}.0.1/16"), &format!("fd00:{number}::1/32")]),
                remote: nets(&[&format!("10.{other}.0.0/16"), &format!("fd00:{other}::/32")]),
                selectors: nets(&[&format!("10.{number}.0.0/16"), &format!("fd00:{number}::/32")]),
                ..End::default()
            }
        };
        Self {
            udp: true,
            outer_ipv6: false,
            encryption: Encryption::Aes128Gcm16,
            integrity: None,
            esn: true,
            replay_window: 1024,
            settings: Settings {
                interface: INTERFACE.to_owned(),
                mark: MARK,
                workers: 1,
                ..Settings::default()
            },
            ends: [end(1), end(2)],
        }
    }
}

pub(crate) fn nets(texts: &[&str]) -> Vec<IpNet> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub(crate) fn pair(inside: &str, outside: &str) -> NatPair {
    NatPair { inside: inside.parse().unwrap(), outside: outside.parse().unwrap() }
}

/// A network namespace; it goes with this.
#[derive(Debug)]
pub(crate) struct Namespace(String);

impl Namespace {
    /// One with its loopback up.
    pub(crate) fn new(role: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("dataplane-{}-{count}-{role}", std::process::id());
        sh(&format!("ip netns add {name}"));
        sh(&format!("ip -n {name} link set lo up"));
        Self(name)
    }

    /// Calls a function on a thread in there.
    pub(crate) fn run<T: Send>(&self, function: impl FnOnce() -> T + Send) -> T {
        let file = self.file();
        thread::scope(|scope| {
            let inside = || {
                setns(file, CloneFlags::CLONE_NEWNET).unwrap();
                function()
            };
            scope.spawn(inside).join().unwrap()
        })
    }

    fn file(&self) -> File {
        File::open(format!("/run/netns/{}", self.0)).unwrap()
    }

    /// Its name, as `ip netns` has it.
    pub(crate) fn name(&self) -> &str {
        &self.0
    }

    /// Runs a command that succeeds; its output.
    pub(crate) fn sh(&self, command: &str) -> String {
        sh(&format!("ip netns exec {} {command}", self.0))
    }

    /// Runs a command; whether it succeeds, and its output.
    pub(crate) fn try_sh(&self, command: &str) -> (bool, String) {
        try_sh(&format!("ip netns exec {} {command}", self.0))
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).status();
    }
}

fn sh(command: &str) -> String {
    let (success, output) = try_sh(command);
    assert!(success, "{command}: {output}");
    output
}

fn try_sh(command: &str) -> (bool, String) {
    let mut words = command.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&text).into_owned())
}

/// One end.
pub(crate) struct Side {
    pub(crate) plane: Mutex<UserSpace>,
    pub(crate) namespace: Namespace,
    told: Mutex<(Receiver<FromNetwork>, Vec<FromNetwork>)>,
}

impl Side {
    pub(crate) fn counters(&self) -> Counters {
        self.plane.lock().unwrap().counters()
    }

    /// Of the only child.
    pub(crate) fn child(&self) -> SaCounters {
        self.counters().children.values().copied().next().unwrap_or_default()
    }

    pub(crate) fn dropped(&self, reason: &str) -> u64 {
        self.counters().dropped[reason]
    }

    /// All that was told so far.
    pub(crate) fn told(&self) -> Vec<FromNetwork> {
        let mut told = self.told.lock().unwrap();
        let more: Vec<FromNetwork> = told.0.try_iter().collect();
        told.1.extend(more);
        told.1.clone()
    }

    /// Whether a ping is answered.
    pub(crate) fn pings(&self, to: &str) -> bool {
        self.namespace.try_sh(&format!("ping -n -c 1 -W 2 {to}")).0
    }
}

/// Two ends on a link.
pub(crate) struct Lab {
    pub(crate) left: Side,
    pub(crate) right: Side,
    pub(crate) options: Options,
}

static NEXT: AtomicU64 = AtomicU64::new(1);

impl Lab {
    /// With SAs that work.
    pub(crate) fn up(options: Options) -> Self {
        let lab = Self::without_sas(options);
        lab.install(0x1000);
        lab
    }

    pub(crate) fn without_sas(options: Options) -> Self {
        let namespaces = [Namespace::new("l"), Namespace::new("r")];
        let [left, right] = &namespaces;
        sh(&format!(
            "ip link add out0 netns {} type veth peer name out0 netns {}",
            left.0, right.0
        ));
        let mut sides = Vec::new();
        for (place, namespace) in namespaces.into_iter().enumerate() {
            let end = &options.ends[place];
            let number = place + 1;
            // Duplicate address detection takes its time.
            namespace.sh("sysctl -qw net.ipv6.conf.out0.accept_dad=0");
            namespace.sh(&format!("ip addr add 192.0.2.{number}/24 dev out0"));
            namespace.sh(&format!("ip addr add 2001:db8::{number}/64 dev out0 nodad"));
            namespace.sh("ip link set out0 up");
            for address in &end.addresses {
                let nodad = if address.addr().is_ipv6() { " nodad" } else { "" };
                let address = IpNet::from(address.addr());
                namespace.sh(&format!("ip addr add {address} dev lo{nodad}"));
            }
            let (sender, receiver) = sync_channel(1024);
            let settings = options.settings.clone();
            let plane = namespace.run(move || UserSpace::start(&settings, sender)).unwrap();
            for remote in &end.remote {
                let same = |net: &&IpNet| net.addr().is_ipv4() == remote.addr().is_ipv4();
                let source = end.addresses.iter().find(same).unwrap().addr();
                namespace.sh(&format!("ip route add {remote} dev {INTERFACE} src {source}"));
            }
            let side = Side {
                plane: Mutex::new(plane),
                namespace,
                told: Mutex::new((receiver, Vec::new())),
            };
            side.plane.lock().unwrap().set_policies(policies(&options, place));
            sides.push(side);
        }
        let right = sides.pop().unwrap();
        let left = sides.pop().unwrap();
        Self { left, right, options }
    }

    /// Installs a pair of SAs and sends on it; its number.
    pub(crate) fn install(&self, spi: u32) -> ChildSaId {
        let id = NEXT.fetch_add(1, Ordering::Relaxed);
        for (place, side) in self.sides().into_iter().enumerate() {
            let sa = Arc::new(self.sa(id, place, spi));
            // There, since it asks for the path's MTU.
            let install = || side.plane.lock().unwrap().install(&sa, false, None);
            side.namespace.run(install).unwrap();
        }
        // Both ends take packets before either sends.
        for side in self.sides() {
            side.plane.lock().unwrap().send(ChildSaId(id));
        }
        ChildSaId(id)
    }

    /// An end's SAs. What goes from left to right has the SPI, the other way round it is one more.
    pub(crate) fn sa(&self, id: u64, place: usize, spi: u32) -> ChildSa {
        let options = &self.options;
        let outer = |number: usize| -> SocketAddr {
            let ip: IpAddr = match options.outer_ipv6 {
                false => format!("192.0.2.{number}").parse().unwrap(),
                true => format!("2001:db8::{number}").parse().unwrap(),
            };
            SocketAddr::new(ip, 4500)
        };
        let (to_right, to_left) = (keys(options, spi), keys(options, spi + 1));
        let (spi_right, spi_left) = (Spi::new(spi).unwrap(), Spi::new(spi + 1).unwrap());
        let selectors = |place: usize| {
            let networks = options.ends[place].selectors.iter().copied();
            networks.map(TrafficSelector::network).collect()
        };
        let is_left = place == 0;
        ChildSa {
            id: ChildSaId(id),
            connection: "test/link".into(),
            child: "net".into(),
            suite: EspSuite {
                encryption: options.encryption,
                integrity: options.integrity,
                esn: options.esn,
            },
            inbound_spi: if is_left { spi_left } else { spi_right },
            outbound_spi: if is_left { spi_right } else { spi_left },
            inbound: if is_left { to_left.clone() } else { to_right.clone() },
            outbound: if is_left { to_right } else { to_left },
            local: selectors(place),
            remote: selectors(1 - place),
            path: Path { local: outer(place + 1), remote: outer(2 - place) },
            udp: options.udp,
            replay_window: options.replay_window,
        }
    }

    pub(crate) fn sides(&self) -> [&Side; 2] {
        [&self.left, &self.right]
    }

    /// Sends octets over TCP from left to an address of the right, until all are there and an
    /// answer is back; how long it took.
    pub(crate) fn bulk(&self, to: &str, octets: usize) -> Duration {
        self.bulk_from(None, to, octets).0
    }

    /// The same from an address; and whom the right saw.
    pub(crate) fn bulk_from(
        &self,
        from: Option<&str>,
        to: &str,
        octets: usize,
    ) -> (Duration, IpAddr) {
        self.bulk_of(&self.left.namespace, from, to, octets)
    }

    /// The same of a host somewhere.
    pub(crate) fn bulk_of(
        &self,
        host: &Namespace,
        from: Option<&str>,
        to: &str,
        octets: usize,
    ) -> (Duration, IpAddr) {
        let any = if to.contains(':') { "[::]:0" } else { "0.0.0.0:0" };
        let listener = self.right.namespace.run(move || TcpListener::bind(any).unwrap());
        let port = listener.local_addr().unwrap().port();
        let receiving = thread::spawn(move || {
            let (mut stream, from) = listener.accept().unwrap();
            stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let mut sum = Sum::default();
            let mut buffer = vec![0; 256 * 1024];
            let mut left = octets;
            while left > 0 {
                let read = stream.read(&mut buffer).unwrap();
                assert!(read > 0, "{left} octets are missing");
                sum.add(&buffer[..read]);
                left -= read;
            }
            stream.write_all(&sum.0.to_be_bytes()).unwrap();
            from.ip().to_canonical()
        });
        let to = SocketAddr::new(to.parse().unwrap(), port);
        let from: Option<IpAddr> = from.map(|from| from.parse().unwrap());
        let took = host.run(move || {
            let socket =
                socket2::Socket::new(socket2::Domain::for_address(to), socket2::Type::STREAM, None)
                    .unwrap();
            if let Some(from) = from {
                socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
            }
            socket.connect_timeout(&to.into(), Duration::from_secs(10)).unwrap();
            let mut stream = TcpStream::from(socket);
            stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
            stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
            let begin = Instant::now();
            let chunk: Vec<u8> = (0..128 * 1024).map(|at: u32| ((at * 31) >> 3) as u8).collect();
            let mut sum = Sum::default();
            let mut left = octets;
            while left > 0 {
                let part = &chunk[..left.min(chunk.len())];
                stream.write_all(part).unwrap();
                sum.add(part);
                left -= part.len();
            }
            let mut answer = [0; 8];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(u64::from_be_bytes(answer), sum.0, "what came is not what was sent");
            begin.elapsed()
        });
        (took, receiving.join().unwrap())
    }
}

/// Depends on octets and their order.
#[derive(Default)]
struct Sum(u64);

impl Sum {
    fn add(&mut self, octets: &[u8]) {
        // Whole words only where both ends cut alike would differ: octet by octet.
        self.0 = octets.iter().fold(self.0, |sum, octet| {
            (sum.rotate_left(5) ^ u64::from(*octet)).wrapping_mul(0x517c_c1b7_2722_0a95)
        });
    }
}

fn keys(options: &Options, seed: u32) -> EspKeys {
    let octets = |length: usize, salt: u8| -> Vec<u8> {
        (0..length).map(|at| (seed as u8) ^ (at as u8).wrapping_mul(salt)).collect()
    };
    let (key, salt) = match options.encryption {
        Encryption::Aes128Gcm16 => (16, 4),
        Encryption::Aes256Gcm16 | Encryption::ChaCha20Poly1305 => (32, 4),
        Encryption::Aes128Cbc => (16, 0),
        Encryption::Aes256Cbc => (32, 0),
        _ => (24, 0),
    };
    let integrity = match options.integrity {
        None => 0,
        Some(Integrity::HmacSha256) => 32,
        Some(Integrity::HmacSha384) => 48,
        Some(Integrity::HmacSha512) => 64,
        Some(Integrity::HmacSha1) => 20,
    };
    EspKeys { encryption: octets(key, 7), salt: octets(salt, 11), integrity: octets(integrity, 13) }
}

/// An end's policies: one connection with one child.
fn policies(options: &Options, place: usize) -> BTreeMap<ipsec::sa::ConnectionName, Vec<Policy>> {
    let (end, other) = (&options.ends[place], &options.ends[1 - place]);
    let policy = Policy {
        child: "net".to_owned(),
        local: end.addresses.iter().map(IpNet::trunc).collect(),
        remote: end.remote.clone(),
        local_nat: end.local_nat.clone(),
        remote_nat: end.remote_nat.clone(),
        sources: None,
        local_selectors: end.selectors.clone(),
        remote_selectors: other.selectors.clone(),
    };
    BTreeMap::from([("test/link".into(), vec![policy])])
}

/// Waits until it is so, ten seconds at most.
pub(crate) fn eventually(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !so() {
        assert!(Instant::now() < deadline, "not within ten seconds: {what}");
        thread::yield_now();
    }
}
