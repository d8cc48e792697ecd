//! The thread that owns the IKE engine, and brings plans into force.
//!
//! In this order: the guard table goes to the kernel, so that nothing leaves in the clear; then
//! the routes into the tunnel interface; then the data path is told which packets go where; then
//! the engine begins. What the engine tells is done in the data path before anything is sent that
//! it wants to send after it: an SA takes packets before the other end knows that it may send
//! them. Each part that fails keeps its last good state and is tried again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant};

use ipsec::ike::Engine;
use ipsec::ike::config::Auth;
use ipsec::ike::event::{Command, ConnectionStatus, Event, Rekey, State};
use ipsec::sa::{ChildName, ChildSaId, ConnectionName};
use model::{Diagnostic, ObjectRef, VpnSettings};
use plan::vpn::VpnPlan;
use plan::vpn::table::TABLE;
use tokio::sync::watch;

use super::StartError;
use super::captures::Captures;
use super::connections::{self, Connections};
use super::dataplane::{self, Dataplane, FromNetwork, Limits, SaCounters};
use super::failure::cause;
use super::forwarding::Forwarding;
use super::guard::{Applied, Counts, Guard};
use super::holds::Holds;
use super::journal::Journal;
use super::kernel::Kernel;
use super::mailbox::{Action, Desired, Mail, Mailbox, Names, Refused, Request};
use super::report::{OneConnection, Report, View};
use super::routes::Routes;
use crate::config::OnStop;
use crate::l4::retry::Retry;
use crate::metrics::Metrics;

mod renew;

/// How long DELETEs may take at the end.
const FAREWELL: Duration = Duration::from_secs(2);
/// Between two times that counters are taken down.
const REST: Duration = Duration::from_secs(1);
/// How many messages are taken from the queue before the rest is looked after.
const BATCH: usize = 64;

/// What the driver works with.
pub(super) struct Parts<K> {
    /// The kernel.
    pub(super) kernel: K,
    /// IKE.
    pub(super) engine: Engine,
    /// What carries packets.
    pub(super) dataplane: Box<dyn Dataplane>,
    /// Makes that anew, once its interface was taken away.
    pub(super) renewal: Renewal,
    /// What comes from it.
    pub(super) network: Receiver<FromNetwork>,
    /// What comes from the rest of the gateway.
    pub(super) mailbox: Arc<Mailbox>,
    /// What the guard table counts; none in tests.
    pub(super) counts: Option<Arc<Counts>>,
    /// Ports and interface.
    pub(super) settings: VpnSettings,
    /// What becomes of the routes at the end.
    pub(super) on_stop: OnStop,
    /// What is counted.
    pub(super) metrics: Arc<Metrics>,
}

/// Makes a data path.
pub(super) type Renewal = Box<dyn FnMut() -> Result<Box<dyn Dataplane>, StartError> + Send>;

/// The thread's state.
pub(super) struct Driver<K> {
    parts: Parts<K>,
    view: watch::Sender<Arc<View>>,
    desired: Option<Desired>,
    /// What this edge holds, of several.
    holds: Holds,
    names: Names,
    guard: Guard,
    routes: Routes,
    forwarding: Forwarding,
    connections: Connections,
    /// The plan whose policies and connections are in force.
    in_force: Option<Arc<VpnPlan>>,
    /// After connections that can't be made.
    place: Retry,
    journal: Journal,
    /// Child SAs that the data path has taken.
    sas: BTreeSet<ChildSaId>,
    /// When the data path was made anew last.
    renewed: Option<Instant>,
    /// SAs that could not be put into the data path.
    broken: BTreeSet<(ConnectionName, String)>,
    /// What had been counted of each child when its connection was configured or came up.
    before: BTreeMap<(ConnectionName, ChildName), SaCounters>,
    /// Connections for which that is to be taken down.
    rebase: BTreeSet<ConnectionName>,
    /// When it was done last: with many connections it is not for nothing.
    rebased: Option<Instant>,
    /// What had been dropped for want of a policy when the objects changed last.
    strays_before: u64,
    captures: Captures,
    stop: Option<Instant>,
    published: Arc<View>,
    is_stale: bool,
    /// A connection is down that is to go to other addresses.
    is_late: bool,
}

impl<K: Kernel> Driver<K> {
    pub(super) fn new(parts: Parts<K>) -> (Self, watch::Receiver<Arc<View>>) {
        let published = Arc::<View>::default();
        let (view, receiver) = watch::channel(Arc::clone(&published));
        let driver = Self {
            parts,
            view,
            desired: None,
            holds: Holds::default(),
            names: Names::new(),
            guard: Guard::default(),
            routes: Routes::default(),
            forwarding: Forwarding::default(),
            connections: Connections::default(),
            in_force: None,
            place: Retry::default(),
            journal: Journal::default(),
            sas: BTreeSet::new(),
            renewed: None,
            broken: BTreeSet::new(),
            before: BTreeMap::new(),
            rebase: BTreeSet::new(),
            rebased: None,
            strays_before: 0,
            captures: Captures::default(),
            stop: None,
            published,
            is_stale: false,
            is_late: false,
        };
        (driver, receiver)
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        while self.turn() {}
        self.finish();
    }

    /// One round; false when it is over.
    pub(super) fn turn(&mut self) -> bool {
        let timeout = self.next().map(|at| at.saturating_duration_since(self.parts.kernel.now()));
        let first = match timeout {
            Some(timeout) => self.parts.network.recv_timeout(timeout),
            None => self.parts.network.recv().map_err(|_| RecvTimeoutError::Disconnected),
        };
        let now = self.parts.kernel.now();
        if let Ok(message) = first {
            self.network(now, message);
        }
        for _ in 1..BATCH {
            let Ok(message) = self.parts.network.try_recv() else { break };
            self.network(now, message);
        }
        let mail = self.parts.mailbox.take();
        self.handle(mail, now);
        if self.parts.engine.poll_timeout().is_some_and(|at| at <= now) {
            self.parts.engine.handle_timeout(now);
        }
        self.pump(now);
        self.look_after(now);
        self.publish();
        if self.parts.dataplane.is_broken() && self.stop.is_none() && !self.renew(now) {
            return false;
        }
        let over = |deadline: Instant| self.parts.engine.is_idle() || deadline <= now;
        !self.stop.is_some_and(over)
    }

    /// When something is to be done next, if nothing comes.
    fn next(&self) -> Option<Instant> {
        let all = [
            self.parts.engine.poll_timeout(),
            self.next_pass(),
            self.holds.next(),
            self.captures.next(),
            self.rebased.filter(|_| !self.rebase.is_empty()).map(|at| at + REST),
            self.is_late.then(|| self.parts.kernel.now()),
            self.stop,
        ];
        all.into_iter().flatten().min()
    }

    /// What the data path tells.
    fn network(&mut self, now: Instant, message: FromNetwork) {
        let command = match message {
            FromNetwork::Wake => return,
            FromNetwork::Ike { path, datagram, at } => {
                // Time never goes back for the engine.
                self.parts.engine.handle_datagram(at.max(now), path, &datagram);
                return self.pump(now);
            }
            FromNetwork::Acquire { connection, child } => Command::Acquire { connection, child },
            FromNetwork::Worn { sa } => Command::Worn { sa },
            FromNetwork::UnknownSpi { path, spi } => Command::UnknownSpi { path, spi },
            FromNetwork::Moved { sa, path } => Command::Moved { sa, path },
            FromNetwork::Alive { sa } => Command::Alive { sa },
        };
        self.parts.engine.command(now, command);
        self.pump(now);
    }

    /// What the rest of the gateway tells.
    fn handle(&mut self, mail: Mail, now: Instant) {
        let mut changed = mail.desired.is_some() || mail.names.is_some() || mail.links;
        if let Some(who) = mail.foreign {
            self.guard.changed_by(now, who);
            changed = true;
        }
        if let Some(names) = mail.names {
            self.names = names;
        }
        if let Some(desired) = mail.desired {
            self.parts.metrics.vpn.desired.set(desired.generation);
            self.desired = Some(desired);
        }
        if mail.holdings.is_some() {
            self.holds.holdings = mail.holdings;
            changed = true;
        }
        changed |= self.holds.look(now);
        let due = self.next_pass().is_some_and(|at| at <= now) || std::mem::take(&mut self.is_late);
        if let Some(desired) = self.desired.clone().filter(|_| changed || due) {
            self.pass(now, &desired, mail.links);
        }
        for request in mail.requests {
            self.answer(now, request);
        }
        if mail.stop && self.stop.is_none() {
            self.stop = Some(now + FAREWELL);
            self.parts.engine.command(now, Command::Shutdown);
        }
    }

    fn next_pass(&self) -> Option<Instant> {
        // Nothing else is done before the guard is in force.
        if let Some(at) = self.guard.next() {
            return Some(at);
        }
        let place =
            if self.connections.diagnostics().is_empty() { None } else { self.place.next() };
        let all = [self.routes.next(), self.forwarding.next(), place];
        all.into_iter().flatten().min()
    }

    /// One way through everything, in order.
    fn pass(&mut self, now: Instant, desired: &Desired, links: bool) {
        self.is_stale = true;
        let plan = &desired.plan;
        let kernel = &mut self.parts.kernel;
        let counts = self.parts.counts.as_ref();
        let counted = || counts.map(|counts| counts.carried()).unwrap_or_default();
        let sealed_by_kernel = self.parts.dataplane.name() == dataplane::XFRM;
        let text = match sealed_by_kernel {
            true => &plan::vpn::table::with_kernel_ipsec(&plan.table),
            false => &plan.table,
        };
        match self.guard.apply(now, text, counted, kernel) {
            Applied::Yes => {}
            Applied::Mended => self.parts.metrics.vpn.drift_repairs.increment(),
            // Nothing goes on without it: what isn't led into tunnels yet could leave in the clear.
            Applied::Failed => {
                self.parts.metrics.vpn.apply_failures.increment();
                return;
            }
            Applied::Waiting => return,
        }
        let carries = self.parts.dataplane.carries();
        // An interface of that name would be somebody else's.
        let interface = Some(self.parts.settings.interface.as_str()).filter(|_| carries);
        if self.routes.apply(now, plan, interface, links, kernel) {
            tracing::warn!("routes of the VPN were changed by somebody; they are back");
            self.parts.metrics.vpn.drift_repairs.increment();
        }
        if !carries {
            return;
        }
        self.forwarding.ensure(now, plan, kernel);
        if self.in_force.as_ref().is_none_or(|before| !Arc::ptr_eq(before, plan)) {
            let policies = plan.connections.iter();
            let policies = policies
                .map(|(key, plan)| (connections::name(key), plan.policies.clone()))
                .collect();
            self.parts.dataplane.set_policies(policies);
            let limits = plan.connections.iter().map(|(key, plan)| {
                let lifetimes = &plan.connection.lifetimes;
                let limits = Limits { bytes: lifetimes.bytes, packets: lifetimes.packets };
                (connections::name(key), limits)
            });
            self.parts.dataplane.set_limits(limits.collect());
            let dropped = self.parts.dataplane.counters().dropped;
            self.strays_before = dropped.get("no-policy").copied().unwrap_or(0);
            self.in_force = Some(Arc::clone(plan));
        }
        let before = self.connections.all();
        let engine = &self.parts.engine;
        let is_up = |name: &ConnectionName| {
            let status = engine.status(now).into_iter().find(|status| status.name == *name);
            status.is_some_and(|status| matches!(status.state, State::Up | State::Partial))
        };
        let (settings, kernel) = (&self.parts.settings, &mut self.parts.kernel);
        let own = self.holds.own(now, plan);
        let moved = self.connections.update(&own, settings, &self.names, kernel, is_up);
        for moved in moved {
            tracing::info!(from = %moved.from, to = %moved.to, "this end's address has changed");
            let command = Command::AddressChanged { from: moved.from, to: moved.to };
            self.parts.engine.command(now, command);
        }
        match self.connections.diagnostics().is_empty() {
            true => self.place = Retry::default(),
            false => self.place.failed(now),
        }
        let all = self.connections.all();
        self.journal.retain(|name| all.contains_key(name));
        self.before.retain(|(name, _), _| all.contains_key(name));
        for (name, made) in &all {
            if before.get(name).is_none_or(|before| !Arc::ptr_eq(before, made)) {
                self.journal.configured(now, name);
                self.rebase.insert(Arc::clone(name));
            }
        }
        self.broken.retain(|(name, _)| all.contains_key(name));
        self.parts.engine.configure(now, all);
        self.pump(now);
    }

    /// Does what the engine wants done: first in the data path, then on the wire.
    fn pump(&mut self, now: Instant) {
        loop {
            while let Some(event) = self.parts.engine.poll_event() {
                self.event(now, event);
            }
            let Some(transmit) = self.parts.engine.poll_transmit() else { break };
            self.parts.dataplane.transmit(&transmit);
        }
        while let Some(captured) = self.parts.engine.poll_capture() {
            self.captures.keep(&captured);
        }
    }

    fn event(&mut self, now: Instant, event: Event) {
        let connections = &self.connections;
        let psk = |name: &ConnectionName| {
            let made = connections.by_name(name);
            made.is_some_and(|made| matches!(made.auth, Auth::Psk(_)))
        };
        self.is_stale |= self.journal.note(now, &event, psk);
        let dataplane = &mut self.parts.dataplane;
        match event {
            Event::ChildInstall { sa, send, replaces } => {
                self.sas.insert(sa.id);
                if let Err(reason) = dataplane.install(&sa, send, replaces) {
                    tracing::error!(
                        connection = %sa.connection, child = %sa.child, reason,
                        "the data path can't take a child SA"
                    );
                    self.broken.insert((Arc::clone(&sa.connection), reason));
                    self.is_stale = true;
                }
            }
            Event::ChildSend { sa } => dataplane.send(sa),
            Event::ChildRemove { sa, linger, .. } => {
                self.sas.remove(&sa);
                dataplane.remove(sa, linger);
            }
            Event::PathChanged { children, path, udp } => dataplane.set_path(&children, path, udp),
            Event::IkeDown { .. } => self.is_late = self.connections.is_late(),
            Event::IkeUp { connection, rekeyed: false, .. } => {
                self.rebase.insert(connection);
            }
            Event::IkeUp { .. } | Event::Failed { .. } => {}
        }
    }

    /// What is to be done from time to time.
    fn look_after(&mut self, now: Instant) {
        self.take_down_counters(now);
        if self.captures.finish(now) {
            self.parts.engine.set_capture(false);
        }
    }

    /// Takes down what has been counted so far, for connections that have just been configured or
    /// come up.
    fn take_down_counters(&mut self, now: Instant) {
        if self.rebase.is_empty() || self.rebased.is_some_and(|at| now < at + REST) {
            return;
        }
        self.rebased = Some(now);
        let rebase = std::mem::take(&mut self.rebase);
        let counted = self.parts.dataplane.counters().children.into_iter();
        self.before.extend(counted.filter(|((name, _), _)| rebase.contains(name)));
    }

    fn answer(&mut self, now: Instant, request: Request) {
        match request {
            Request::Act { connection, action, reply } => {
                let done = self.act(now, &connection, action);
                self.pump(now);
                let _ = reply.send(done);
            }
            Request::Report { reply } => _ = reply.send(self.report(now)),
            Request::Capture { connection, within, reply } => {
                let status = self.parts.engine.status(now);
                let status = status.into_iter().find(|status| status.name == connection);
                let Some(made) = self.connections.by_name(&connection) else {
                    _ = reply.send(Err(Refused::Unknown(connection)));
                    return;
                };
                let remotes = made.remote.iter().map(std::net::SocketAddr::ip).chain(
                    status
                        .into_iter()
                        .flat_map(|status| status.ike)
                        .map(|ike| ike.path.remote.ip()),
                );
                self.captures.begin(now + within, remotes.collect(), reply);
                self.parts.engine.set_capture(true);
            }
        }
    }

    fn act(
        &mut self,
        now: Instant,
        connection: &ConnectionName,
        action: Action,
    ) -> Result<(), Refused> {
        let Some(made) = self.connections.by_name(connection) else {
            return Err(Refused::Unknown(Arc::clone(connection)));
        };
        let asked = asked(&action);
        let command = match action {
            Action::Up => Command::Initiate { connection: Arc::clone(connection), child: None },
            Action::Down => Command::Terminate { connection: Arc::clone(connection) },
            Action::Rekey(what) => {
                if let Rekey::Child(child) = &what
                    && !made.children.iter().any(|has| has.name == *child)
                {
                    let children: Vec<&str> = made.children.iter().map(|c| &*c.name).collect();
                    return Err(Refused::NoChild {
                        connection: Arc::clone(connection),
                        child: child.to_string(),
                        children: children.join(", "),
                    });
                }
                let status = self.parts.engine.status(now);
                let status = status.iter().find(|status| status.name == *connection);
                if status.is_none_or(|status| status.ike.is_empty()) {
                    return Err(Refused::NotUp(Arc::clone(connection)));
                }
                Command::Rekey { connection: Arc::clone(connection), what }
            }
        };
        tracing::info!(%connection, asked, "asked for");
        self.parts.engine.command(now, command);
        Ok(())
    }

    fn report(&mut self, now: Instant) -> Report {
        let statuses = self.parts.engine.status(now).into_iter();
        let mut statuses: BTreeMap<ConnectionName, ConnectionStatus> =
            statuses.map(|status| (Arc::clone(&status.name), status)).collect();
        let plan = self.desired.as_ref().map(|desired| Arc::clone(&desired.plan));
        let findings = self.connections.diagnostics();
        let connections = plan.iter().flat_map(|plan| &plan.connections).map(|(key, plan)| {
            let name = connections::name(key);
            let object = connections::object(key);
            OneConnection {
                status: statuses.remove(&name),
                made: self.connections.get(key).cloned(),
                seen: self.journal.seen(&name).cloned(),
                since: self.journal.since(&name),
                ended: self.journal.ended(&name),
                before: plan
                    .connection
                    .children
                    .iter()
                    .filter_map(|child| {
                        let child: ChildName = child.name.as_str().into();
                        let before = self.before.get(&(Arc::clone(&name), Arc::clone(&child)))?;
                        Some((child, *before))
                    })
                    .collect(),
                finding: findings.iter().find(|finding| finding.object == object).cloned(),
                plan: Arc::new(plan.clone()),
                key: key.clone(),
                name,
            }
        });
        Report {
            now,
            view: Arc::clone(&self.published),
            dataplane: self.parts.dataplane.name(),
            ike: self.parts.engine.counters(),
            data: self.parts.dataplane.counters(),
            guard: Default::default(),
            connections: connections.collect(),
            strangers: self.journal.strangers(),
            strays_before: self.strays_before,
            forwards: [None; 2],
        }
    }

    fn publish(&mut self) {
        if !std::mem::take(&mut self.is_stale) {
            return;
        }
        let Some(desired) = &self.desired else { return };
        let whole = self.guard.fault().is_none()
            && self.routes.fault().is_none()
            && self.in_force.as_ref().is_some_and(|plan| Arc::ptr_eq(plan, &desired.plan));
        let applied = if whole { desired.generation } else { self.published.applied };
        let view = View {
            desired: desired.generation,
            applied,
            settled: true,
            diagnostics: self.diagnostics(),
        };
        self.parts.metrics.vpn.applied.set(applied);
        if *self.published != view {
            self.published = Arc::new(view);
            self.view.send_replace(Arc::clone(&self.published));
        }
    }

    fn diagnostics(&self) -> Vec<Diagnostic> {
        let gateway = || ObjectRef::cluster("GatewayConfig", "gateway");
        let mut found = Vec::new();
        if let Some(fault) = self.guard.fault() {
            let reason = format!(
                "the nftables table {} is not in force, so no connection is begun: {fault}",
                TABLE
            );
            found.push(
                Diagnostic::error(gateway(), "vpn", reason)
                    .remedy("mend what nft complains of; it is tried again"),
            );
        }
        if let Some(fault) = self.routes.fault() {
            let reason = format!("routes into the tunnels are not in force: {fault}");
            found.push(
                Diagnostic::error(gateway(), "vpn", reason)
                    .remedy("mend what the kernel complains of; it is tried again"),
            );
        }
        found.extend(self.forwarding.diagnostics());
        found.extend(self.connections.diagnostics().iter().cloned());
        let plan = self.in_force.iter().flat_map(|plan| &plan.connections);
        for (key, plan) in plan {
            let name = connections::name(key);
            let location = || plan.connection.location.clone();
            if let Some(seen) = self.journal.seen(&name) {
                let psk = matches!(plan.connection.auth, model::snapshot::vpn::VpnAuth::Psk(_));
                let cause = cause(&seen.failure, psk);
                let reason =
                    format!("{} ({}, with {})", cause.seen, cause.reason, seen.remote.ip());
                found.push(
                    Diagnostic::warning(connections::object(key), cause.field, reason)
                        .remedy(cause.change)
                        .at(location()),
                );
            }
            for (_, reason) in self.broken.iter().filter(|(broken, _)| *broken == name) {
                let reason = format!("the data path can't take its SA: {reason}");
                let remedy = "see the gateway's log";
                let finding = Diagnostic::error(connections::object(key), "spec.esp", reason);
                found.push(finding.remedy(remedy).at(location()));
            }
        }
        found
    }

    /// The end: the data path stops, and the routes stay or go. The guard table stays in any case:
    /// without it, what is for the other end would leave in the clear.
    fn finish(self) {
        let Parts { mut kernel, dataplane, on_stop, .. } = self.parts;
        drop(dataplane);
        if on_stop == OnStop::Remove
            && let Err(fault) = Routes::remove(&mut kernel)
        {
            tracing::error!(%fault, "routes of the VPN can't be removed");
        }
    }
}

/// What is asked for, for the log.
fn asked(action: &Action) -> String {
    match action {
        Action::Up => "up".to_owned(),
        Action::Down => "down".to_owned(),
        Action::Rekey(Rekey::Ike) => "rekey of the IKE SA".to_owned(),
        Action::Rekey(Rekey::Child(child)) => format!("rekey of child {child}"),
        Action::Rekey(Rekey::Children) => "rekey of all children".to_owned(),
    }
}

#[cfg(test)]
mod tests;
