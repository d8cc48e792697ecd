//! Two machines with a link: ours, and one with wireguard-go.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use overlay::PrivateKey;
use plan::overlay::{Peer, Tunnel};
use testkit::Namespace;
use wireguard::{Fault, Interfaces, Keys, PeerStatistics, Settings, Wanted, random};

pub(crate) const OURS: &str = "tgwg0";
pub(crate) const PORT: u16 = 51_820;
/// Inside of the tunnel.
pub(crate) const OUR_IP: &str = "10.9.0.1";
pub(crate) const THEIR_IP: &str = "10.9.0.2";
pub(crate) const OUR_IP6: &str = "fd09::1";
pub(crate) const THEIR_IP6: &str = "fd09::2";

static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Waits until it holds.
#[track_caller]
pub(crate) fn eventually<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

pub(crate) struct Lab {
    pub(crate) ours: Namespace,
    pub(crate) theirs: Namespace,
    /// On the link besides.
    pub(crate) interfaces: Interfaces,
    pub(crate) key: PrivateKey,
    pub(crate) other_key: PrivateKey,
    pub(crate) tunnel: Tunnel,
    /// wireguard-go's interface.
    pub(crate) device: String,
    process: Child,
}

impl Drop for Lab {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

pub(crate) fn settings() -> Settings {
    Settings {
        backend: Wanted::UserSpace,
        prefix: OURS.to_owned(),
        workers: 2,
        ..Settings::default()
    }
}

impl Lab {
    /// Both are there, each knows the other's key, and ours where the other is.
    #[track_caller]
    pub(crate) fn new() -> Self {
        let (ours, theirs) = (Namespace::alone("wga"), Namespace::alone("wgb"));
        ours.ip(&format!("link add e0 type veth peer name e0 netns {}\n", theirs.name()));
        for (namespace, number) in [(&ours, 1), (&theirs, 2)] {
            namespace.ip(&format!(
                "link set lo up\nlink set e0 up\naddr add 192.0.2.{number}/24 dev e0\n\
                 addr add 2001:db8::{number}/64 dev e0 nodad\n"
            ));
        }
        let (key, other_key) = (random::private_key(), random::private_key());
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        // Its socket's name is one for all namespaces.
        let device = format!("tgo{}x{number}", std::process::id() % 1_000_000);
        let process = start(&theirs, &device);
        let tunnel = Tunnel {
            interface: OURS.to_owned(),
            key: key.public(),
            port: PORT,
            mtu: 1420,
            addresses: vec![OUR_IP.parse().unwrap(), OUR_IP6.parse().unwrap()],
            peers: vec![Peer {
                key: other_key.public(),
                name: "wireguard-go".to_owned(),
                endpoint: Some("192.0.2.2:51820".parse().unwrap()),
                allowed: ["10.9.0.2/32", "fd09::2/128"].map(|net| net.parse().unwrap()).into(),
                keepalive: None,
            }],
        };
        let interfaces = ours.run(|| Interfaces::new(settings())).unwrap();
        let mut lab = Self { ours, theirs, interfaces, key, other_key, tunnel, device, process };
        lab.configure_theirs();
        assert_eq!(lab.apply(), []);
        lab.ours
            .ip(&format!("route add 10.9.0.2/32 dev {OURS}\nroute add fd09::2/128 dev {OURS}\n"));
        lab
    }

    /// wireguard-go begins anew, and knows nothing of us but our key.
    pub(crate) fn restart_theirs(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = std::fs::remove_file(format!("/var/run/wireguard/{}.sock", self.device));
        self.process = start(&self.theirs, &self.device);
        self.configure_theirs();
    }

    fn configure_theirs(&self) {
        let device = &self.device;
        eventually("wireguard-go has its interface", || {
            self.theirs.try_command("wg", &["show", device], "").ok()
        });
        self.wg(&["listen-port", "51820"]);
        self.set_their_key(&self.other_key);
        let public = self.key.public().to_string();
        self.wg(&["peer", &public, "allowed-ips", "10.9.0.1/32,fd09::1/128"]);
        self.theirs.ip(&format!(
            "addr add {THEIR_IP}/32 dev {device}\naddr add {THEIR_IP6}/128 dev {device} nodad\n\
             link set {device} mtu 1420 up\n\
             route add 10.9.0.1/32 dev {device}\nroute add fd09::1/128 dev {device}\n"
        ));
    }

    pub(crate) fn set_their_key(&self, key: &PrivateKey) {
        let arguments = ["set", &self.device, "private-key", "/dev/stdin"];
        self.theirs.command_with("wg", &arguments, &key.to_base64());
    }

    /// `wg set DEVICE …`
    pub(crate) fn wg(&self, arguments: &[&str]) {
        self.theirs.command("wg", &[&["set", &self.device], arguments].concat());
    }

    /// `wg show DEVICE FIELD`: what stands behind our key.
    pub(crate) fn wg_show(&self, field: &str) -> String {
        let text = self.theirs.command("wg", &["show", &self.device, field]);
        text.split_once('\t').map_or(String::new(), |(_, value)| value.trim().to_owned())
    }

    pub(crate) fn keys(&self) -> Keys {
        BTreeMap::from([(self.key.public(), self.key.clone())])
    }

    pub(crate) fn apply(&mut self) -> Vec<Fault> {
        let keys = self.keys();
        let (interfaces, tunnel) = (&mut self.interfaces, &self.tunnel);
        self.ours.run(move || interfaces.apply(std::slice::from_ref(tunnel), &keys))
    }

    /// What we say of the peer.
    pub(crate) fn peer(&mut self) -> PeerStatistics {
        let all = self.interfaces.statistics();
        all[OURS].peers[&self.tunnel.peers[0].key].clone()
    }

    pub(crate) fn drops(&mut self, reason: &str) -> u64 {
        let all = self.interfaces.statistics();
        all[OURS].drops.get(reason).copied().unwrap_or_default()
    }

    pub(crate) fn endpoint(&mut self) -> Option<SocketAddr> {
        self.peer().endpoint
    }
}

fn start(theirs: &Namespace, device: &str) -> Child {
    let mut command = Command::new("wireguard-go");
    command.args(["-f", device]).env("LOG_LEVEL", "error");
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    theirs.spawn(&mut command).expect("wireguard-go is needed")
}

/// Whether pings come back, with further arguments.
pub(crate) fn pings(from: &Namespace, to: &str, more: &[&str]) -> bool {
    let arguments = [&["-c", "3", "-i", "0.1", "-W", "2"], more, &[to]].concat();
    from.try_command("ping", &arguments, "").is_ok()
}

/// Megabits a second that a TCP stream carries in a second.
pub(crate) fn stream(from: &Namespace, to_namespace: &Namespace, to: &str, more: &[&str]) -> f64 {
    let mut listening = Command::new("iperf3");
    listening.args(["-s", "-1", "-B", to]).stdout(Stdio::null()).stderr(Stdio::null());
    let mut server = to_namespace.spawn(&mut listening).expect("iperf3 is needed");
    let arguments = [&["-c", to, "-t", "1", "-J"], more].concat();
    // It says so in its answer, and not by its status, if the server doesn't listen yet.
    let text = eventually("iperf3 has run", || {
        let text = from.try_command("iperf3", &arguments, "").ok()?;
        text.contains("sum_received").then_some(text)
    });
    let _ = server.kill();
    let _ = server.wait();
    let sum = text.split("\"sum_received\"").nth(1).unwrap_or_default();
    let rate = sum.split("\"bits_per_second\":").nth(1).unwrap_or_default();
    let number = rate.trim().split(&[',', '\n', '}'][..]).next().unwrap_or_default();
    number.trim().parse::<f64>().unwrap_or_else(|_| panic!("{text}")) / 1e6
}
