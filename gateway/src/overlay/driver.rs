//! The thread that plans and applies: objects, probes and what the kernel holds come together
//! here, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use model::{Diagnostic, ObjectRef, PublicKey, Snapshot};
use netdev::{udp, wait};
use plan::overlay::{EdgeInput, Heard, OverlayPlan, Path, Target};
use tokio::sync::watch;
use wireguard::{Applier, Backend, Interfaces};

use super::keys::{Changing, KeyRing};
use super::mailbox::{Desired, Mailbox};
use super::own;
use super::quiet::Quiet;
use super::responder::{Asker, Findings, Orders, Responder};
use super::sight::Look;
use super::view::{self, NodeView, View};
use crate::config::{OnStop, Overlay};
use crate::status;

/// How often the kernel is looked at though it tells of no change.
const LOOK: Duration = Duration::from_secs(5);
/// How often counters are read.
const COUNT: Duration = Duration::from_secs(1);
/// How long what an earlier run has left stays as it is while nodes are heard for the first time.
const HOLD: Duration = Duration::from_millis(1_000);
/// How soon what failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);
/// A rest where something can't be waited for.
const REST: Duration = Duration::from_millis(50);
/// How long all nodes have to follow a change of keys before its next step.
const SETTLE: Duration = Duration::from_secs(10);
/// How long a change of a node's keys is told of.
const STRANGE: Duration = Duration::from_secs(600);

/// What the thread works with.
#[derive(Debug)]
pub(super) struct Parts {
    pub(super) config: Overlay,
    pub(super) state: PathBuf,
    /// The VPN plane's interface, where it is enabled.
    pub(super) vpn_interface: Option<String>,
    /// Interfaces that face the internet.
    pub(super) outside: Vec<String>,
    pub(super) keys: KeyRing,
    pub(super) applier: Applier,
    pub(super) interfaces: Interfaces,
    pub(super) responder: Responder,
    pub(super) mailbox: Mailbox,
    pub(super) view: watch::Sender<Arc<View>>,
}

/// The thread's state.
#[derive(Debug)]
pub(super) struct Driver {
    parts: Parts,
    desired: Option<Desired>,
    findings: Findings,
    underlay: Vec<IpAddr>,
    plan: OverlayPlan,
    /// The generation that `plan` is of.
    generation: u64,
    planned: Vec<Diagnostic>,
    faults: Vec<String>,
    mended: u64,
    failures: u64,
    /// What an earlier run has left stays until then, or until all nodes are heard.
    hold: Option<Instant>,
    /// Nodes' keys, to know when they change.
    known: BTreeMap<String, Vec<PublicKey>>,
    /// Nodes whose keys changed all at once, and when.
    strangers: BTreeMap<String, (Diagnostic, Instant)>,
    /// Nodes behind a NAT.
    behind: BTreeSet<String>,
    sight: Look,
    quiet: Quiet,
    /// Nodes of whose handshakes WireGuard is to know nothing any more, and where they were last.
    forgotten: BTreeMap<String, Option<SocketAddr>>,
    /// Since when all nodes are where a change of keys wants them.
    settled: Option<Instant>,
    look: Instant,
    count: Instant,
}

impl Driver {
    pub(super) fn new(parts: Parts) -> Self {
        let now = Instant::now();
        // Tunnels in user space went with the earlier run: there is nothing to be left.
        let stands = parts.interfaces.backend() == Backend::Kernel && parts.applier.has_rules();
        Self {
            parts,
            desired: None,
            findings: Findings::new(),
            underlay: Vec::new(),
            plan: OverlayPlan::default(),
            generation: 0,
            planned: Vec::new(),
            faults: Vec::new(),
            mended: 0,
            failures: 0,
            hold: stands.then(|| now + HOLD),
            known: BTreeMap::new(),
            strangers: BTreeMap::new(),
            behind: BTreeSet::new(),
            sight: Look::default(),
            quiet: Quiet::default(),
            forgotten: BTreeMap::new(),
            settled: None,
            look: now,
            count: now,
        }
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        loop {
            self.wait();
            let mail = self.parts.mailbox.take();
            if mail.stop {
                return self.end();
            }
            let mut changed = false;
            if let Some(desired) = mail.desired {
                self.changed_keys(&desired.snapshot);
                self.desired = Some(desired);
                changed = true;
            }
            if let Some(findings) = mail.findings {
                self.log_nodes(&findings);
                self.findings = findings;
                changed = true;
            }
            changed |= self.change_key(mail.renew, Instant::now());
            // Own changes are told too, and cost another look, which finds nothing to do.
            let touched = self.parts.applier.changed();
            let now = Instant::now();
            if self.desired.is_some() && (changed || touched || now >= self.look) {
                self.bring();
            }
            if changed || now >= self.count {
                self.count = now + COUNT;
                self.publish();
                self.forget();
            }
        }
    }

    fn wait(&self) {
        let until = match self.desired {
            Some(_) => self.look.min(self.count),
            None => self.count,
        };
        let left = until.saturating_duration_since(Instant::now());
        let [table, routes] = self.parts.applier.descriptors();
        let waker = &self.parts.mailbox.waker;
        if let Err(error) = wait::any(&[waker.as_fd(), table, routes], Some(left)) {
            tracing::error!(%error, "waiting");
            std::thread::sleep(REST);
        }
        waker.clear();
    }

    /// Plans, and puts in force what follows.
    fn bring(&mut self) {
        let Some(desired) = self.desired.clone() else { return };
        let (now, snapshot) = (Instant::now(), &desired.snapshot);
        self.look = now + LOOK;
        let settings = &self.parts.config.settings;
        let host = netdev::address::host_addresses().unwrap_or_else(|error| {
            tracing::error!(%error, "this machine's addresses can't be listed");
            Vec::new()
        });
        let nodes = snapshot.nodes.iter().filter(|(name, _)| **name != settings.name);
        let others: Vec<IpAddr> = nodes.flat_map(|(_, node)| node.addresses.clone()).collect();
        self.underlay = match self.parts.config.underlay.as_slice() {
            [] => own::towards(others.iter().copied()),
            written => written.to_vec(),
        };
        let paths = others.iter().filter_map(|node| udp::path_mtu(None, *node, 0).ok());
        let input = EdgeInput {
            keys: self.parts.keys.public(),
            host,
            underlay_mtu: paths.min().and_then(|mtu| u16::try_from(mtu).ok()),
            nodes: self.heard(),
            vpn_interface: self.parts.vpn_interface.clone(),
            underlay: self.underlay.clone(),
            outside: self.parts.outside.clone(),
        };
        let (plan, planned) = plan::overlay::edge(snapshot, settings, &input);
        self.planned = planned;
        self.parts.responder.order(self.orders(&desired));
        if self.holds(snapshot, now) {
            self.look = self.hold.unwrap_or(now);
            return;
        }
        self.apply(plan, desired.generation);
    }

    fn apply(&mut self, plan: OverlayPlan, generation: u64) {
        let keys = self.parts.keys.by_public();
        let report = self.parts.applier.apply(&plan, &mut self.parts.interfaces, &keys);
        if report.mended {
            self.mended += 1;
            tracing::warn!(changes = report.changes, "somebody changed the overlay; mended");
        }
        let faults: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
        if !faults.is_empty() {
            self.failures += 1;
            self.look = Instant::now() + AGAIN;
        }
        if faults != self.faults {
            faults.iter().for_each(|fault| tracing::error!(%fault, "not in force"));
        }
        if self.generation != generation && faults.is_empty() {
            let (tunnels, routes) = (plan.tunnels.len(), plan.routes.len());
            tracing::info!(generation, tunnels, routes, "overlay applied");
        }
        (self.plan, self.generation, self.faults) = (plan, generation, faults);
    }

    /// Takes nodes out of the tunnels and puts them back: WireGuard knows nothing of them then.
    fn forget(&mut self) {
        let nodes = std::mem::take(&mut self.forgotten);
        if nodes.is_empty() || self.hold.is_some() || !self.faults.is_empty() {
            return;
        }
        tracing::info!(
            nodes = ?nodes.keys(),
            "silent for longer than a session lasts: their handshakes begin anew"
        );
        let (mut plan, generation) = (self.plan.clone(), self.generation);
        let mut without = plan.clone();
        for tunnel in &mut without.tunnels {
            tunnel.peers.retain(|peer| !nodes.contains_key(&peer.name));
        }
        // Nodes that carry packets without an agent are still where they were.
        for peer in plan.tunnels.iter_mut().flat_map(|tunnel| &mut tunnel.peers) {
            peer.endpoint = peer.endpoint.or_else(|| *nodes.get(&peer.name)?);
        }
        self.apply(without, generation);
        self.apply(plan, generation);
    }

    /// Whether what an earlier run has left is still to stay.
    fn holds(&mut self, snapshot: &Snapshot, now: Instant) -> bool {
        let Some(hold) = self.hold else { return false };
        let agents = snapshot.nodes.iter().filter(|(_, node)| node.agent.is_some());
        let lives = |name: &String| self.findings.get(name).is_some_and(|seen| seen.live);
        if now >= hold || agents.into_iter().all(|(name, _)| lives(name)) {
            self.hold = None;
        }
        self.hold.is_some()
    }

    fn heard(&self) -> BTreeMap<String, Heard> {
        let heard = |(name, seen): (&String, &super::responder::Seen)| {
            let nat = self.behind.contains(name);
            (name.clone(), Heard { live: seen.live, path: seen.path, nat })
        };
        self.findings.iter().map(heard).collect()
    }

    fn orders(&self, desired: &Desired) -> Orders {
        let settings = &self.parts.config.settings;
        let snapshot = &desired.snapshot;
        let port = settings.probe_port;
        let mut listen: BTreeMap<SocketAddr, Option<PublicKey>> = BTreeMap::new();
        for (key, _) in self.parts.keys.public() {
            listen.insert(SocketAddr::new(key.overlay_address().into(), port), Some(key));
        }
        for address in &self.underlay {
            listen.insert(SocketAddr::new(*address, port), None);
        }
        let mut askers = BTreeMap::new();
        for (name, node) in &snapshot.nodes {
            for key in node.agent.iter().flat_map(|agent| &agent.keys) {
                askers.insert(*key, Asker::Node(name.clone()));
            }
        }
        let mut edges = BTreeMap::new();
        for (name, edge) in snapshot.edges.iter().filter(|(name, _)| **name != settings.name) {
            for (key, _) in &edge.keys {
                askers.insert(*key, Asker::Edge(name.clone()));
            }
            let own = |address: &&IpAddr| {
                self.underlay.iter().any(|own| own.is_ipv4() == address.is_ipv4())
            };
            if let (Some((key, _)), Some(address)) =
                (edge.keys.first(), edge.addresses.iter().find(own))
            {
                edges.insert(name.clone(), (*key, SocketAddr::new(*address, edge.probe_port)));
            }
        }
        Orders {
            edge: settings.name.clone(),
            keys: self.parts.keys.private(),
            listen,
            askers,
            edges,
            holds: desired.holds.clone(),
            until: desired.until.clone(),
            incarnation: desired.incarnation,
            drain: snapshot.edges.get(&settings.name).is_some_and(|own| own.drain),
        }
    }

    /// Takes note of nodes' keys, and tells of those that changed without the former one beside
    /// the new one.
    fn changed_keys(&mut self, snapshot: &Snapshot) {
        let now = Instant::now();
        for (name, node) in &snapshot.nodes {
            let Some(agent) = &node.agent else { continue };
            if let Some(before) = self.known.get(name)
                && !agent.keys.iter().any(|key| before.contains(key))
            {
                let object = ObjectRef::cluster("Node", name);
                let field = format!("metadata.annotations[{}]", ingest::overlay::KEYS);
                let reason = "is another key than before, and none that was told beside it; it is \
                              taken, and the former one no longer is";
                let finding = Diagnostic::warning(object, field, reason)
                    .value(agent.keys.first().map(ToString::to_string).unwrap_or_default())
                    .remedy(
                        "see whether the agent's state was removed (a node made anew has a new \
                         key); if not, find out who may write this Node's annotations",
                    );
                tracing::warn!(node = name, "a node's key is another one than before");
                self.strangers.insert(name.clone(), (finding, now));
            }
            self.known.insert(name.clone(), agent.keys.clone());
        }
        self.known.retain(|name, _| snapshot.nodes.contains_key(name));
    }

    /// Brings a change of the edge's own key forward. Whether something follows from it.
    fn change_key(&mut self, asked: bool, now: Instant) -> bool {
        let port = self.parts.config.settings.port;
        let rotation = self.parts.config.key_rotation.map(Duration::from);
        let old = rotation.is_some_and(|after| self.parts.keys.age(SystemTime::now()) >= after);
        let done = match self.parts.keys.changing() {
            None if asked || old => {
                tracing::info!("the edge's key is being changed");
                self.parts.keys.renew(port)
            }
            None => return false,
            Some(changing) => {
                if !self.followed(changing) {
                    self.settled = None;
                    return false;
                }
                let since = *self.settled.get_or_insert(now);
                if now.saturating_duration_since(since) < SETTLE {
                    return false;
                }
                self.parts.keys.step()
            }
        };
        self.settled = None;
        if let Err(error) = done {
            tracing::error!(%error, "the edge's key can't be changed");
            return false;
        }
        true
    }

    /// Whether all nodes that live, and are not reached in the clear, are where the next step of a
    /// change of keys wants them.
    fn followed(&self, changing: Changing) -> bool {
        let mut live = self.findings.values().filter(|seen| seen.live);
        live.all(|seen| match (changing, seen.path) {
            (_, Some(Path::Direct)) => true,
            (Changing::Offered { new }, _) => seen
                .over
                .iter()
                .any(|path| matches!(path, Path::Tunnel { edge, .. } if *edge == new)),
            (Changing::Leaving { new, .. }, path) => {
                matches!(path, Some(Path::Tunnel { edge, .. }) if edge == new)
            }
        })
    }

    fn log_nodes(&self, findings: &Findings) {
        for (name, seen) in findings {
            let before = self.findings.get(name).is_some_and(|before| before.live);
            match (before, seen.live) {
                (false, true) => tracing::info!(node = name, path = ?seen.path, "node is heard"),
                (true, false) => tracing::warn!(node = name, "node is no longer heard"),
                _ => {}
            }
        }
    }

    /// Tells how everything is.
    fn publish(&mut self) {
        let now = Instant::now();
        self.strangers.retain(|_, (_, at)| now.saturating_duration_since(*at) < STRANGE);
        let settings = &self.parts.config.settings;
        let statistics = self.parts.interfaces.statistics();
        let mut nodes: BTreeMap<String, NodeView> = BTreeMap::new();
        let mut silent = Vec::new();
        let mut behind = BTreeSet::new();
        let objects = self.desired.iter().flat_map(|desired| &desired.snapshot.nodes);
        for (name, node) in objects.filter(|(name, _)| **name != settings.name) {
            let seen = self.findings.get(name).cloned().unwrap_or_default();
            let mode = match seen.path {
                None => "none",
                Some(Path::Direct) => "direct",
                Some(Path::Tunnel { .. }) => "wireguard",
            };
            let mut shown = NodeView { live: seen.live, mode, ..NodeView::default() };
            for key in node.agent.iter().flat_map(|agent| &agent.keys) {
                for peer in statistics.values().filter_map(|one| one.peers.get(key)) {
                    let age = peer.last_handshake.map(|age| age.as_secs());
                    shown.handshake_age = match (shown.handshake_age, age) {
                        (Some(one), Some(other)) => Some(one.min(other)),
                        (one, other) => one.or(other),
                    };
                    shown.endpoint = shown.endpoint.or(peer.endpoint);
                    shown.received_bytes += peer.received_bytes;
                    shown.sent_bytes += peer.sent_bytes;
                }
            }
            let is_own = |at: &SocketAddr| node.addresses.contains(&at.ip().to_canonical());
            if shown.endpoint.is_some_and(|at| !node.addresses.is_empty() && !is_own(&at)) {
                behind.insert(name.clone());
            }
            if node.agent.is_some() && !seen.live {
                silent.push(name.clone());
            }
            if node.agent.is_some() {
                nodes.insert(name.clone(), shown);
            }
        }
        let found = self.quiet.look(now, &nodes).into_iter();
        let at = |name: &String| nodes.get(name).and_then(|node| node.endpoint);
        self.forgotten = found.map(|name| (name.clone(), at(&name))).collect();
        if behind != self.behind {
            self.behind = behind;
            self.look = now;
        }
        // Before the first objects nobody knows whether there are any.
        let sight = match self.desired {
            Some(_) => self.sight.at(now, nodes.len(), nodes.len().saturating_sub(silent.len())),
            None => holding::Sight::Blind,
        };
        let told = status::Overlay {
            underlay: self.underlay.clone(),
            wireguard: Some(view::wireguard(&self.parts.keys.public())),
            probe_port: Some(settings.probe_port),
            mode: Some(own::mode(settings.mode).to_owned()),
            nodes: Some(status::Nodes { all: nodes.len(), silent, sight }),
        };
        if self.desired.is_some()
            && let Err(error) = own::write(&self.parts.state, settings, &told)
        {
            tracing::error!(%error, "edgegateway.yaml can't be written");
        }
        let fault = |fault: &String| {
            Diagnostic::error(ObjectRef::cluster("GatewayConfig", "gateway"), "overlay", fault)
                .remedy("it is tried again; mend what it names")
        };
        let strange = self.strangers.values().map(|(finding, _)| finding.clone());
        let unreachable = self.plan.routes.iter().filter(|route| {
            let leads = |other: &&plan::overlay::Route| {
                other.network.contains(&route.network) && other.target != Target::Unreachable
            };
            route.target == Target::Unreachable && !self.plan.routes.iter().any(|one| leads(&one))
        });
        let view = View {
            generation: self.generation,
            settled: self.generation > 0 && self.faults.is_empty() && self.hold.is_none(),
            backend: self.parts.interfaces.backend().to_string(),
            nodes,
            unreachable: unreachable.map(|route| route.network.to_string()).collect(),
            faults: self.faults.clone(),
            mended: self.mended,
            failures: self.failures,
            probes: self.parts.responder.counts(),
            changing_key: self.parts.keys.changing().is_some(),
            status: told,
            diagnostics: self
                .planned
                .iter()
                .cloned()
                .chain(strange)
                .chain(self.faults.iter().map(fault))
                .collect(),
        };
        self.parts.view.send_if_modified(|before| {
            let is_new = **before != view;
            if is_new {
                *before = Arc::new(view);
            }
            is_new
        });
    }

    fn end(mut self) {
        match self.parts.config.on_stop {
            OnStop::Keep => tracing::info!("the overlay's routes stay in force"),
            OnStop::Remove => {
                for fault in &self.parts.applier.remove_all().faults {
                    tracing::error!(%fault, "not removed");
                }
                for fault in self.parts.interfaces.remove() {
                    tracing::error!(%fault, "not removed");
                }
            }
        }
    }
}
