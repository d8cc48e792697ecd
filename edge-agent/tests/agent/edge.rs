//! An edge, without a gateway: its plan applied, and its answers to probes.

use std::collections::BTreeMap;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ingest::ObjectSet;
use model::{ObjectKey, OverlaySettings, PublicKey, Settings};
use overlay::PrivateKey;
use overlay::probe::{Answer, Body, Fresh, Holds, Message, Pair};
use plan::overlay::{EdgeInput, Heard, Path as Way};
use testkit::{ClusterLab, Namespace};
use wireguard::{Applier, Interfaces, Keys, Scope};

/// Where edges answer probes.
pub(crate) const PROBES: u16 = 51_820;
/// Where their tunnels end.
pub(crate) const TUNNELS: u16 = 51_821;
/// How often it looks around.
const STEP: Duration = Duration::from_millis(10);

#[derive(Default)]
struct Orders {
    /// VpnConnections with their epochs.
    vpn: BTreeMap<ObjectKey, u64>,
    end: bool,
}

/// An edge that runs. It goes, and its tunnels, when dropped: a crash, to those who look on.
pub(crate) struct Edge {
    orders: Arc<Mutex<Orders>>,
    thread: Option<JoinHandle<()>>,
}

/// What an edge is.
pub(crate) struct Identity {
    pub(crate) number: u8,
    pub(crate) key: PrivateKey,
    pub(crate) mode: &'static str,
}

impl Identity {
    pub(crate) fn new(number: u8, mode: &'static str) -> Self {
        Self { number, key: wireguard::random::private_key(), mode }
    }

    pub(crate) fn name(&self) -> String {
        format!("edge-{}", self.number)
    }

    /// Its EdgeGateway.
    pub(crate) fn yaml(&self) -> String {
        format!(
            "---\napiVersion: tidegate.io/v1alpha1\nkind: EdgeGateway\nmetadata: {{name: {}}}\n\
             status:\n  underlayAddresses: [{}]\n  wireguard: {{publicKeys: [\"{}\"], ports: \
             [{TUNNELS}]}}\n  probePort: {PROBES}\n  mode: {}\n  serviceSubnets: [10.96.0.0/16]\n",
            self.name(),
            ClusterLab::edge_underlay(self.number),
            self.key.public(),
            self.mode,
        )
    }
}

impl Edge {
    /// Starts it in a namespace. `objects` is what it knows but for the node, whose object an
    /// agent writes to `node`.
    pub(crate) fn start(at: &Namespace, own: &Identity, objects: &str, node: &Path) -> Self {
        let orders = Arc::<Mutex<Orders>>::default();
        let shared = Arc::clone(&orders);
        let (key, name, node) = (own.key.clone(), own.name(), node.to_owned());
        let (number, objects) = (own.number, objects.to_owned());
        let thread = at.run(move || {
            let socket = UdpSocket::bind(("::", PROBES)).unwrap();
            socket.set_read_timeout(Some(STEP)).unwrap();
            let applier = Applier::open(Scope::edge()).unwrap();
            let settings = wireguard::Settings { workers: 1, ..wireguard::Settings::default() };
            let interfaces = Interfaces::new(settings).unwrap();
            let mut running = Running {
                key,
                name,
                number,
                objects,
                node,
                text: String::new(),
                set: ObjectSet::default(),
                senders: Vec::new(),
                heard: BTreeMap::new(),
                fresh: Fresh::default(),
                socket,
                applier,
                interfaces,
                sequence: 0,
                orders: shared,
            };
            // A thread is where the thread is that starts it.
            std::thread::spawn(move || running.run())
        });
        Self { orders, thread: Some(thread) }
    }

    /// Holds a VpnConnection from now on.
    pub(crate) fn hold(&self, key: &str, epoch: u64) {
        let (namespace, name) = key.split_once('/').unwrap();
        self.orders.lock().unwrap().vpn.insert(ObjectKey::new(namespace, name), epoch);
    }
}

impl Drop for Edge {
    fn drop(&mut self) {
        self.orders.lock().unwrap().end = true;
        let ended = self.thread.take().unwrap().join();
        assert!(ended.is_ok() || std::thread::panicking(), "an edge panicked");
    }
}

struct Running {
    key: PrivateKey,
    name: String,
    number: u8,
    objects: String,
    node: PathBuf,
    text: String,
    set: ObjectSet,
    /// The nodes' keys.
    senders: Vec<(String, Pair)>,
    heard: BTreeMap<String, Heard>,
    fresh: Fresh,
    socket: UdpSocket,
    applier: Applier,
    interfaces: Interfaces,
    sequence: u64,
    orders: Arc<Mutex<Orders>>,
}

impl Running {
    fn run(&mut self) {
        let mut buffer = vec![0; overlay::probe::LARGEST];
        let mut looked: Option<Instant> = None;
        while !self.orders.lock().unwrap().end {
            let mut changed = false;
            if looked.is_none_or(|at| at.elapsed() > Duration::from_millis(100)) {
                looked = Some(Instant::now());
                changed = self.learn();
            }
            if let Ok((length, from)) = self.socket.recv_from(&mut buffer) {
                changed |= self.answer(&buffer[..length], from);
            }
            if changed {
                self.apply();
            }
        }
    }

    /// Reads the Node, if it is another one.
    fn learn(&mut self) -> bool {
        let text = std::fs::read_to_string(&self.node).unwrap_or_default();
        if text == self.text || text.is_empty() {
            return false;
        }
        let all = format!("{}---\n{text}", self.objects);
        let parsed = ingest::manifest::parse("objects", &all);
        self.set = ObjectSet::default();
        for entry in parsed.objects {
            entry.insert_into(&mut self.set);
        }
        self.text = text;
        let (snapshot, _) = ingest::ingest(&self.set, &self.settings());
        self.senders.clear();
        for (name, node) in &snapshot.nodes {
            for key in node.agent.iter().flat_map(|agent| &agent.keys) {
                self.senders.push((name.clone(), Pair::new(&self.key, key).unwrap()));
            }
        }
        true
    }

    fn settings(&self) -> Settings {
        let overlay = OverlaySettings {
            name: self.name.clone(),
            services: vec!["10.96.0.0/16".parse().unwrap()],
            ..OverlaySettings::default()
        };
        Settings { overlay: Some(overlay), ..Settings::default() }
    }

    fn answer(&mut self, datagram: &[u8], from: std::net::SocketAddr) -> bool {
        let opened = self.senders.iter().find_map(|(name, pair)| {
            pair.open(datagram).ok().map(|(nonce, message)| (name.clone(), pair, nonce, message))
        });
        let Some((name, pair, nonce, message)) = opened else { return false };
        let Body::Probe(probe) = message.body else { return false };
        assert_eq!(probe.node, name);
        if !self.fresh.accept(pair.other(), message.sequence) {
            return false;
        }
        let is_direct = match from.ip() {
            std::net::IpAddr::V6(ip) => ip.to_ipv4_mapped().is_some(),
            std::net::IpAddr::V4(_) => true,
        };
        let way = match is_direct {
            true => Way::Direct,
            false => Way::Tunnel { edge: self.key.public(), node: *pair.other() },
        };
        let holds = Holds { vpn: self.orders.lock().unwrap().vpn.clone(), vips: Vec::new() };
        self.sequence += 1;
        let answer = Message {
            sequence: self.sequence,
            answers: Some(nonce),
            body: Body::Answer(Answer {
                edge: self.name.clone(),
                incarnation: 1,
                drain: false,
                hash: holds.hash(),
                holds: (probe.knows != holds.hash()).then_some(holds),
            }),
        };
        let sealed = pair.seal(wireguard::random::nonce(), &answer).unwrap();
        let _ = self.socket.send_to(&sealed, from);
        let heard = self.heard.entry(name).or_default();
        let path = if probe.use_key { Some(way) } else { heard.path };
        let changed = !heard.live || heard.path != path;
        (heard.live, heard.path) = (true, path);
        changed
    }

    fn apply(&mut self) {
        let settings = self.settings();
        let (snapshot, _) = ingest::ingest(&self.set, &settings);
        let own: PublicKey = self.key.public();
        let input = EdgeInput {
            keys: vec![(own, TUNNELS)],
            host: netdev::address::host_addresses().unwrap(),
            nodes: self.heard.clone(),
            underlay: vec![ClusterLab::edge_underlay(self.number)],
            ..EdgeInput::default()
        };
        let overlay = settings.overlay.as_ref().unwrap();
        let (plan, _) = plan::overlay::edge(&snapshot, overlay, &input);
        let keys = Keys::from([(own, self.key.clone())]);
        let report = self.applier.apply(&plan, &mut self.interfaces, &keys);
        for fault in &report.faults {
            eprintln!("{}: {fault}", self.name);
        }
    }
}
