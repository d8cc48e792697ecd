//! The thread that decides and applies: objects, probes and what the kernel holds come together
//! here, one after the other.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use ingest::Delivery;
use ipnet::IpNet;
use model::snapshot::overlay::Edge;
use model::{Diagnostic, ObjectRef, Snapshot};
use netdev::wait::{self, Waker};
use overlay::choice::{State as EdgeState, Told};
use plan::overlay::{NodeInput, OverlayPlan, Path, Probed};
use tokio::sync::watch;
use wireguard::{Applier, ApplyError, Interfaces, Scope};

use crate::config::{Config, OnStop, Source};
use crate::host::Host;
use crate::kept::{Keeper, Kept};
use crate::keys::{KeyRing, SETTLE};
use crate::numbers::{self, Numbers};
use crate::probe::{Aim, Findings, Orders, Prober};
use crate::publish::{self, Announcement};
use crate::state::{Edges, State, StateError};
use crate::view::{SourceStatus, View};

mod changes;
mod flows;
mod show;

/// How often the kernel is looked at though it tells of no change.
const LOOK: Duration = Duration::from_secs(5);
/// How often counters are read.
const COUNT: Duration = Duration::from_secs(1);
/// How long what an earlier run has left stays as it is while edges are asked for the first time.
const HOLD: Duration = Duration::from_millis(1_000);
/// A rest where something can't be waited for, or failed.
const REST: Duration = Duration::from_millis(50);
/// How soon what failed is tried again.
const AGAIN: Duration = Duration::from_secs(1);

/// The edges on other machines.
type Others = BTreeMap<String, numbers::Known>;

/// Why the agent can't begin.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Routes and rules can't be made.
    #[error("{0}")]
    Apply(#[from] ApplyError),
    /// Tunnels can't be made.
    #[error("{0}")]
    Interfaces(#[from] wireguard::StartError),
    /// Keys and the like can't be kept.
    #[error("{0}")]
    State(#[from] StateError),
    /// A thread can't be started.
    #[error("no thread can be started: {0}")]
    Thread(#[from] io::Error),
}

/// What others tell the thread.
#[derive(Debug, Default)]
struct Inbox {
    delivery: Option<Arc<Delivery>>,
    /// Go by what was kept, until there are objects.
    fall_back: bool,
    findings: Option<Findings>,
    source: Option<SourceStatus>,
    /// What is wrong between the agent and the cluster.
    complaints: Option<Vec<Diagnostic>>,
    renew: bool,
    end: bool,
}

/// Where it is told.
#[derive(Clone, Debug)]
pub struct Mailbox {
    inbox: Arc<Mutex<Inbox>>,
    waker: Waker,
}

impl Mailbox {
    fn new() -> io::Result<Self> {
        Ok(Self { inbox: Arc::default(), waker: Waker::new()? })
    }

    /// All objects, as they are now.
    pub fn deliver(&self, delivery: Arc<Delivery>) {
        self.post(|inbox| inbox.delivery = Some(delivery));
    }

    /// That there are none yet: what an earlier run has kept is better than nothing.
    pub fn fall_back(&self) {
        self.post(|inbox| inbox.fall_back = true);
    }

    /// How it goes with where they come from.
    pub fn source(&self, source: SourceStatus) {
        self.post(|inbox| inbox.source = Some(source));
    }

    /// What is wrong between the agent and the cluster.
    pub fn complain(&self, complaints: Vec<Diagnostic>) {
        self.post(|inbox| inbox.complaints = Some(complaints));
    }

    /// That the node's key is to be changed.
    pub fn renew_key(&self) {
        self.post(|inbox| inbox.renew = true);
    }

    fn post(&self, change: impl FnOnce(&mut Inbox)) {
        change(&mut self.lock());
        self.waker.wake();
    }

    fn lock(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The thread. It ends when dropped, and leaves in force what is, unless it is to remove it.
#[derive(Debug)]
pub struct Control {
    mailbox: Mailbox,
    thread: Option<JoinHandle<()>>,
}

impl Control {
    /// Starts it, in the network namespace of the calling thread. What the cluster is to know of
    /// the node is told to `announce`.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn start(
        config: Config,
        view: View,
        announce: watch::Sender<Option<Announcement>>,
    ) -> Result<Self, StartError> {
        let mailbox = Mailbox::new()?;
        let state = State::open(&config.state)?;
        let keys = KeyRing::open(&state)?;
        let applier = Applier::open(Scope::node())?;
        let interfaces = Interfaces::new(config.interfaces.clone())?;
        let post = mailbox.clone();
        let prober = Prober::start(&config.overlay.name, config.timing, move |findings| {
            post.post(|inbox| inbox.findings = Some(findings));
        })?;
        let known = state.edges();
        let numbers = Numbers::new(known.numbers.clone(), Instant::now());
        let hold = applier.has_rules().then(|| Instant::now() + HOLD);
        let now = Instant::now();
        let mut worker = Worker {
            config,
            state,
            keys,
            known,
            numbers,
            applier,
            interfaces,
            prober,
            announce,
            view,
            mailbox: mailbox.clone(),
            started: SystemTime::now(),
            delivery: None,
            keeper: Keeper::default(),
            kept: None,
            snapshot: None,
            ingested: Vec::new(),
            planned: Vec::new(),
            complaints: Vec::new(),
            own: Vec::new(),
            strangers: BTreeMap::new(),
            source: SourceStatus::default(),
            findings: Findings::default(),
            host: Host::default(),
            plan: OverlayPlan::default(),
            applied: crate::view::Applied::default(),
            reported: Vec::new(),
            hold,
            settled: None,
            led: BTreeSet::new(),
            look: now,
            count: now,
        };
        let thread = std::thread::Builder::new()
            .name("agent-control".to_owned())
            .spawn(move || worker.run())?;
        Ok(Self { mailbox, thread: Some(thread) })
    }

    /// Where it is told what happens.
    pub fn mailbox(&self) -> Mailbox {
        self.mailbox.clone()
    }

    /// Whether it has ended by itself, which is a fault.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        self.mailbox.post(|inbox| inbox.end = true);
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the agent-control thread panicked");
        }
    }
}

struct Worker {
    config: Config,
    state: State,
    keys: KeyRing,
    known: Edges,
    numbers: Numbers,
    applier: Applier,
    interfaces: Interfaces,
    prober: Prober,
    announce: watch::Sender<Option<Announcement>>,
    view: View,
    mailbox: Mailbox,
    started: SystemTime,
    delivery: Option<Arc<Delivery>>,
    keeper: Keeper,
    /// When what an earlier run has kept was seen, as long as that is what counts.
    kept: Option<u64>,
    /// None before the first objects.
    snapshot: Option<Snapshot>,
    /// Findings of ingest, of the plan, and of what is between the agent and the cluster.
    ingested: Vec<Diagnostic>,
    planned: Vec<Diagnostic>,
    complaints: Vec<Diagnostic>,
    own: Vec<Diagnostic>,
    /// Edges whose keys changed all at once, and when.
    strangers: BTreeMap<String, (Diagnostic, Instant)>,
    source: SourceStatus,
    findings: Findings,
    host: Host,
    plan: OverlayPlan,
    applied: crate::view::Applied,
    /// What was logged of findings.
    reported: Vec<String>,
    /// What an earlier run has left stays until then, or until all edges have answered.
    hold: Option<Instant>,
    /// Since when all edges answer by the newest key.
    settled: Option<Instant>,
    /// The networks that have been led to edges.
    led: BTreeSet<IpNet>,
    /// When the kernel is to be looked at.
    look: Instant,
    /// When counters are to be read.
    count: Instant,
}

impl Worker {
    fn run(&mut self) {
        self.announce();
        self.show();
        loop {
            self.wait();
            let inbox = std::mem::take(&mut *self.mailbox.lock());
            if inbox.end {
                return self.end();
            }
            let mut changed = self.take(inbox);
            changed |= self.change_keys(Instant::now());
            let now = Instant::now();
            self.keeper.save(&self.state, now);
            // Own changes are told too, and cost another look, which finds nothing to do.
            let touched = self.applier.changed();
            if self.snapshot.is_some() && (changed || touched || now >= self.look) {
                self.bring();
            }
            if changed || now >= self.count {
                self.count = now + COUNT;
                self.show();
            }
        }
    }

    fn wait(&self) {
        // Before the first objects there is nothing to look for.
        let until = match self.snapshot {
            Some(_) => self.look.min(self.count),
            None => self.count,
        };
        let left = until.saturating_duration_since(Instant::now());
        let [table, routes] = self.applier.descriptors();
        let waited = wait::any(&[self.mailbox.waker.as_fd(), table, routes], Some(left));
        if let Err(error) = waited {
            tracing::error!(%error, "waiting");
            std::thread::sleep(REST);
        }
        self.mailbox.waker.clear();
    }

    /// Takes in what happened; whether something may follow from it.
    fn take(&mut self, inbox: Inbox) -> bool {
        let mut changed = false;
        if let Some(source) = inbox.source {
            self.source = source;
            self.count = Instant::now();
        }
        if let Some(complaints) = inbox.complaints {
            self.complaints = complaints;
            changed = true;
        }
        if inbox.renew && self.delivery.is_some() {
            self.renew_key();
            changed = true;
        }
        if inbox.fall_back && self.delivery.is_none() && inbox.delivery.is_none() {
            changed |= self.fall_back();
        }
        if let Some(delivery) = inbox.delivery {
            if let Source::Kubernetes { .. } = self.config.source {
                self.keeper.take(&delivery);
            }
            self.kept = None;
            self.ingest(delivery);
            changed = true;
        }
        if let Some(findings) = inbox.findings {
            self.log_edges(&findings);
            self.findings = findings;
            changed = true;
        }
        changed
    }

    /// Goes by what an earlier run has kept, if there is anything; whether there is.
    fn fall_back(&mut self) -> bool {
        let Some(Kept { delivery, seen }) = Kept::read(&self.state) else { return false };
        let age = crate::view::seconds(SystemTime::now()).saturating_sub(seen);
        tracing::warn!(seconds = age, "going by the objects as they were seen so long ago");
        self.kept = Some(seen);
        self.ingest(Arc::new(delivery));
        true
    }

    fn ingest(&mut self, delivery: Arc<Delivery>) {
        let (snapshot, found) = ingest::ingest(&delivery.objects, &self.config.settings());
        // What else is wrong in the cluster is told by the gateways.
        let ours = |found: &Diagnostic| {
            matches!(
                found.object.kind.as_str(),
                "Node" | "EdgeGateway" | "IPAMBlock" | "File" | "AgentConfig"
            )
        };
        self.ingested =
            delivery.diagnostics.iter().chain(&found).filter(|f| ours(f)).cloned().collect();
        self.changed_keys(&snapshot);
        self.snapshot = Some(snapshot);
        self.delivery = Some(delivery);
        self.look_at_node();
        self.announce();
    }

    /// Plans, and puts in force what follows.
    fn bring(&mut self) {
        let now = Instant::now();
        self.look = now + LOOK;
        let Some(snapshot) = &self.snapshot else { return };
        let edges: Vec<IpAddr> =
            snapshot.edges.values().flat_map(|edge| edge.addresses.iter().copied()).collect();
        match Host::look(&self.config.overlay.interface, &edges) {
            Ok(host) => self.host = host,
            Err(error) => tracing::error!(%error, "this machine can't be looked at"),
        }
        let others = self.others(snapshot);
        self.numbers.give(&others, self.config.overlay.mark_mask, now);
        let input = NodeInput {
            keys: self.keys.public(),
            host: self.host.addresses.clone(),
            neighbours: self.host.neighbours.clone(),
            routed: self.host.routed.clone(),
            underlay_mtu: self.host.mtu,
            numbers: self.numbers.given().clone(),
            edges: self.probed(&others, now),
        };
        let (plan, planned) = plan::overlay::node(snapshot, &self.config.overlay, &input);
        let aims = self.aims(&plan);
        // An edge on this machine, and one that there is no way to, are not asked.
        let asked = snapshot.edges.iter().filter(|(name, _)| aims.contains_key(*name));
        let told = asked.map(|(name, edge)| {
            let vpn = edge.vpn.iter().cloned().collect();
            (name.clone(), Told { vpn, drain: edge.drain })
        });
        let told = told.collect();
        let orders = Orders { aims, told };
        if others.keys().any(|name| self.numbers.is_new(name, now)) {
            self.look = now + AGAIN;
        }
        self.planned = planned;
        self.planned.extend(self.shortage(&others, now));
        self.remember();
        if self.holds(&orders, now) {
            // The tunnels alone, for probes to go through.
            for fault in self.interfaces.apply(&plan.tunnels, &self.keys.by_public()) {
                tracing::warn!(%fault, "not in force");
            }
            self.prober.order(orders);
            self.look = self.hold.unwrap_or(now);
            self.report();
            return;
        }
        self.apply(plan);
        if self.applied.whole {
            self.end_translated_flows();
        }
        self.prober.order(orders);
        self.report();
    }

    /// Says that there are more edges than numbers, and what comes of it.
    fn shortage(&self, others: &Others, now: Instant) -> Option<Diagnostic> {
        let (reason, remedy) = self.numbers.shortage(others)?;
        let object = self.own_node();
        let lost = !others.values().any(|known| known.alive)
            && !others.keys().any(|name| self.numbers.is_new(name, now));
        let found = match lost {
            true => {
                Diagnostic::error(object, "", format!("no edge can be reached from it: {reason}"))
            }
            false => Diagnostic::warning(object, "", reason),
        };
        Some(found.remedy(remedy))
    }

    /// The edges on other machines.
    fn others(&self, snapshot: &Snapshot) -> Others {
        let objects = self.delivery.as_ref().map(|delivery| &delivery.objects.edges);
        let gone = |name: &String| {
            let status = objects.and_then(|objects| objects.get(name)?.status.as_ref());
            let mut conditions =
                status.and_then(|status| status.conditions.as_ref()).into_iter().flatten();
            conditions.any(|one| one.kind == "Ready" && one.status == "Unknown")
        };
        let own = |name: &String, edge: &Edge| {
            let mut addresses = self.host.addresses.iter().map(|own| own.network.addr());
            *name == self.config.overlay.name
                || addresses.any(|address| edge.addresses.contains(&address))
        };
        let others = snapshot.edges.iter().filter(|(name, edge)| !own(name, edge));
        let known = |name: &String| numbers::Known {
            alive: self.findings.is_alive(name),
            gone: gone(name),
        };
        others.map(|(name, _)| (name.clone(), known(name))).collect()
    }

    fn apply(&mut self, plan: OverlayPlan) {
        let keys = self.keys.by_public();
        let report = self.applier.apply(&plan, &mut self.interfaces, &keys);
        if report.mended {
            self.applied.mended += 1;
            tracing::warn!(changes = report.changes, "somebody changed routes or rules; mended");
        }
        let faults: Vec<String> = report.faults.iter().map(ToString::to_string).collect();
        if faults != self.applied.faults {
            for fault in &faults {
                tracing::error!(%fault, "not in force");
            }
        }
        if !faults.is_empty() {
            self.applied.failures += 1;
            self.look = Instant::now() + AGAIN;
        }
        if plan.active != self.plan.active {
            tracing::info!(active = ?plan.active, "by which edge what goes");
        }
        let unreachable =
            |route: &&plan::overlay::Route| route.target == plan::overlay::Target::Unreachable;
        self.applied.at = crate::view::seconds(SystemTime::now());
        self.applied.whole = faults.is_empty();
        self.applied.routes = plan.routes.len();
        self.applied.unreachable = plan.routes.iter().filter(unreachable).count();
        self.applied.rules = plan.rules.len();
        self.applied.faults = faults;
        self.plan = plan;
    }

    /// Whether what an earlier run has left is still to stay.
    fn holds(&mut self, orders: &Orders, now: Instant) -> bool {
        let Some(hold) = self.hold else { return false };
        // Tunnels in user space went with the earlier run: there is nothing to be left.
        let tunnels = orders.aims.values().flatten().any(|aim| aim.path != Path::Direct);
        if tunnels && self.interfaces.backend() == wireguard::Backend::UserSpace {
            self.hold = None;
            return false;
        }
        let known = |name: &String| {
            let found = self.findings.edges.get(name);
            found.is_some_and(|found| found.state != EdgeState::Unknown)
        };
        if now >= hold || !orders.aims.is_empty() && orders.aims.keys().all(known) {
            self.hold = None;
        }
        self.hold.is_some()
    }

    /// The ways to ask edges, the best first: by the newest of our keys, and the edges' first.
    fn aims(&self, plan: &OverlayPlan) -> BTreeMap<String, Vec<Aim>> {
        let held = self.keys.held();
        let mut aims: BTreeMap<String, Vec<(usize, usize, Aim)>> = BTreeMap::new();
        for target in &plan.probes {
            let tunnel = target.interface.as_ref().and_then(|interface| {
                plan.tunnels.iter().find(|tunnel| tunnel.interface == *interface)
            });
            let own = tunnel.map_or(0, |tunnel| {
                let place = held.iter().position(|held| held.private.public() == tunnel.key);
                place.unwrap_or_default()
            });
            let Some(key) = held.get(own) else { continue };
            let edge = self.snapshot.as_ref().and_then(|found| found.edges.get(&target.edge));
            let theirs =
                edge.and_then(|edge| edge.keys.iter().position(|(key, _)| *key == target.key));
            let path = match &tunnel {
                Some(tunnel) => Path::Tunnel { edge: target.key, node: tunnel.key },
                None => Path::Direct,
            };
            let source = tunnel.and_then(|tunnel| tunnel.addresses.first().copied());
            let aim = Aim {
                target: target.clone(),
                source,
                path,
                key: key.private.clone(),
                generation: key.generation,
            };
            let theirs = theirs.unwrap_or(usize::MAX);
            aims.entry(target.edge.clone()).or_default().push((theirs, own, aim));
        }
        let sorted = |mut aims: Vec<(usize, usize, Aim)>| {
            aims.sort_by_key(|(theirs, own, _)| (*theirs, *own));
            aims.into_iter().map(|(_, _, aim)| aim).collect()
        };
        aims.into_iter().map(|(name, aims)| (name, sorted(aims))).collect()
    }

    fn end(&mut self) {
        self.announce.send_replace(None);
        match self.config.on_stop {
            OnStop::Keep => tracing::info!("routes and rules stay in force"),
            OnStop::Remove => {
                let report = self.applier.remove_all();
                for fault in &report.faults {
                    tracing::error!(%fault, "not removed");
                }
                for fault in self.interfaces.remove() {
                    tracing::error!(%fault, "not removed");
                }
            }
        }
    }

    /// Tells the cluster, or the file in its place, what it is to know of this node.
    fn announce(&mut self) {
        // One that was only kept may have changed.
        let seen = self.delivery.as_ref().filter(|_| self.kept.is_none());
        let object = seen
            .and_then(|delivery| delivery.objects.nodes.get(&self.config.overlay.name).cloned());
        let wanted = Announcement {
            node: self.config.overlay.name.clone(),
            keys: self.keys.public(),
            mode: self.config.overlay.mode,
            object,
        };
        if let Source::Manifests(_) = self.config.source
            && let Err(error) = publish::to_file(&self.state, &wanted)
        {
            tracing::error!(%error, "the node's keys can't be told");
        }
        self.announce.send_if_modified(|told| {
            let news = told.as_ref() != Some(&wanted);
            if news {
                *told = Some(wanted);
            }
            news
        });
    }

    fn own_node(&self) -> ObjectRef {
        ObjectRef::cluster("Node", &self.config.overlay.name)
    }

    /// What probes tell of these edges, in the plan's words.
    fn probed(&self, others: &Others, now: Instant) -> BTreeMap<String, Probed> {
        // Those that have turns are told of together.
        let turns = self.numbers.given().len() < others.len();
        let chosen = &self.findings.chosen;
        let of = |name: &String| {
            let vpn =
                chosen.vpn.iter().filter(|(_, edge)| *edge == name).map(|(key, _)| key.clone());
            // Egress stays where it was chosen to be: to the plan all others are second choice.
            let second = chosen.egress.as_ref().is_some_and(|egress| egress != name);
            let found = self.findings.edges.get(name);
            let probed = Probed {
                live: self.findings.is_alive(name),
                new: turns
                    || found.is_none_or(|found| found.state == EdgeState::Unknown)
                        && self.numbers.is_new(name, now),
                path: found.and_then(|found| found.path),
                drain: found.is_some_and(|found| found.drain) || second,
                vpn: vpn.collect(),
            };
            (name.clone(), probed)
        };
        others.keys().map(of).collect()
    }
}
