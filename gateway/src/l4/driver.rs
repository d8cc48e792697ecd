//! The thread that owns what the kernel holds of the L4 plane.
//!
//! Additions go in this order: what must be remembered goes to the disk, the network is asked who
//! has the new addresses, the rules go to the kernel in one transaction, the addresses onto their
//! interfaces, and then they are announced. So an address never answers before its rules are
//! there, and none is used that would be forgotten. Removals go the other way round. Each part
//! that fails keeps its last good state and is tried again, and the others go on.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use holding::Claim;
use model::{Diagnostic, L4Settings, ObjectRef};
use plan::l4::{AlbPorts, L4Plan, ServicePlan};
use tokio::sync::watch;

use super::drain::Flows;
use super::effective::{Held, Part};
use super::forwarding::Forwarding;
use super::kernel::{Events, Fault, Kernel};
use super::mailbox::{Desired, Mail, Mailbox};
use super::retry::Retry;
use super::rules::{self, Applied, Rules, Source};
use super::state::{Memory, State};
use super::view::View;
use super::vips::{Stage, Vips};
use crate::edges::Holdings;
use crate::metrics::Metrics;

/// The rest after a change, so that a storm of them is applied in few transactions.
const REST: Duration = Duration::from_millis(10);

/// How often the kernel is told anew that it may have VIPs on interfaces, where they are held for
/// a time, and how many VIPs at most: more would cost too much.
const LIMIT: (Duration, usize) = (Duration::from_millis(400), 512);

/// All tracked connections are gone through at most this often, and for at most this part of the
/// time.
const DRAIN_REST: Duration = Duration::from_millis(100);
const DRAIN_SHARE: u32 = 4;

/// The thread's state.
pub(super) struct Driver<K> {
    /// The kernel.
    pub(super) kernel: K,
    settings: L4Settings,
    state: State,
    mailbox: Arc<Mailbox>,
    view: watch::Sender<Arc<View>>,
    metrics: Arc<Metrics>,
    desired: Option<Desired>,
    holdings: Option<watch::Receiver<Arc<Holdings>>>,
    /// The holdings that were acted on last.
    acted: u64,
    limited: Option<Instant>,
    vips: Vips,
    rules: Rules,
    forwarding: Forwarding,
    /// What the rules are made of.
    source: Option<Source>,
    /// The parts of plans that rules are made of, and that are told.
    parts: [Part; 2],
    /// The holdings that were looked through last, and whether their time was over.
    held: Option<(Arc<Holdings>, bool)>,
    /// The plan whose rules are in force.
    in_force: Arc<L4Plan>,
    flows: Flows,
    /// Connections may be tracked that lead nowhere.
    is_drain_due: bool,
    drain: Retry,
    /// Until then other endpoints alone are no reason to go through all of them again.
    drain_rest: Option<Instant>,
    save: Retry,
    save_fault: Option<String>,
    host_fault: Option<Fault>,
    host: Retry,
    published: Arc<View>,
}

impl<K: Kernel> Driver<K> {
    /// With the machine as it is.
    ///
    /// # Errors
    /// The interfaces can't be seen.
    pub(super) fn new(
        mut kernel: K,
        settings: L4Settings,
        alb_ports: AlbPorts,
        state: State,
        mailbox: Arc<Mailbox>,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, watch::Receiver<Arc<View>>), Fault> {
        let mut vips = Vips::new(&state.saved().taken);
        vips.look(Instant::now(), kernel.host()?);
        let published = Arc::new(View {
            host: Arc::clone(vips.own_addresses()),
            sides: Some(vips.sides(&settings)),
            ..View::default()
        });
        let (view, receiver) = watch::channel(Arc::clone(&published));
        let driver = Self {
            kernel,
            rules: Rules::new(settings.clone(), alb_ports),
            settings,
            state,
            mailbox,
            view,
            metrics,
            desired: None,
            holdings: None,
            acted: 0,
            limited: None,
            vips,
            forwarding: Forwarding::default(),
            source: None,
            parts: Default::default(),
            held: None,
            in_force: Arc::default(),
            flows: Flows::default(),
            is_drain_due: true,
            drain: Retry::default(),
            drain_rest: None,
            save: Retry::default(),
            save_fault: None,
            host_fault: None,
            host: Retry::default(),
            published,
        };
        Ok((driver, receiver))
    }

    /// Works until it is told to stop.
    pub(super) fn run(mut self) {
        let mut rested = Instant::now();
        loop {
            let events = self.kernel.wait(self.next());
            let mail = self.mailbox.take();
            if let Some(remove) = mail.stop {
                if remove {
                    self.remove();
                }
                return;
            }
            if mail.desired.is_some() {
                // The first of several changes goes at once, those after it together.
                std::thread::sleep(rested.saturating_duration_since(Instant::now()));
                rested = Instant::now() + REST;
            }
            self.handle(mail, events, Instant::now());
        }
    }

    /// Does what is to be done.
    pub(super) fn handle(&mut self, mail: Mail, events: Events, now: Instant) {
        if events.links || self.host_fault.is_some() && self.host.is_due(now) {
            self.look(now);
        }
        if mail.drain {
            self.vips.take_no_more();
        }
        for probed in events.probed {
            self.vips.probed(now, probed);
        }
        if let Some(who) = events.foreign {
            self.rules.changed_by(now, who);
        }
        if mail.holdings.is_some() {
            self.holdings = mail.holdings;
        }
        if mail.announce {
            self.vips.announce_again(now);
        }
        if let Some(desired) = mail.desired {
            self.metrics.l4.desired.set(desired.generation);
            self.desired = Some(desired);
        }
        if let Some(desired) = self.desired.clone() {
            self.pass(now, &desired);
            self.publish(&desired);
        } else if let Some(holdings) = self.holdings() {
            let on = Arc::clone(self.vips.on());
            let sides = Some(self.vips.sides(&self.settings));
            let view = View { acted: holdings.revision, on, sides, ..View::clone(&self.published) };
            self.published = Arc::new(view);
            self.view.send_replace(Arc::clone(&self.published));
        }
    }

    fn holdings(&self) -> Option<Arc<Holdings>> {
        self.holdings.as_ref().map(|holdings| Arc::clone(&holdings.borrow()))
    }

    /// Takes off what this edge doesn't hold any more, before anything else.
    fn hold(&mut self, now: Instant) {
        let Some(holdings) = self.holdings() else { return };
        let is_over = holdings.until.is_some_and(|until| until <= now);
        let same = self
            .held
            .as_ref()
            .is_some_and(|(held, was_over)| Arc::ptr_eq(held, &holdings) && *was_over == is_over);
        if !(self.vips.is_unchanged() && same) {
            self.vips.hold(|address| {
                let claim = Claim::Vip(address);
                holdings.has(&claim, now).then(|| !holdings.unsure.contains(&claim))
            });
            self.vips.let_go(&mut self.kernel);
        }
        self.acted = holdings.revision;
        self.held = Some((holdings, is_over));
    }

    /// Has the kernel take VIPs off by itself, should this thread not come to it.
    fn limit(&mut self, now: Instant) {
        let Some(holdings) = self.holdings() else { return };
        let Some(until) = holdings.until else { return };
        let (every, most) = LIMIT;
        if self.vips.on().len() > most {
            // Those that had a time while there were fewer would be taken off at its end.
            if self.limited.take().is_some() {
                self.vips.limit(u32::MAX, &mut self.kernel);
            }
        } else if self.limited.is_none_or(|limited| now >= limited + every) {
            let seconds = until.saturating_duration_since(now).as_secs();
            self.vips.limit(u32::try_from(seconds).unwrap_or(u32::MAX), &mut self.kernel);
            self.limited = Some(now);
        }
    }

    /// When this edge must let go of what it holds, or say anew that it doesn't.
    fn next_holding(&self) -> Option<Instant> {
        if self.vips.on().is_empty() {
            return None;
        }
        let until = self.holdings()?.until?;
        Some(self.limited.map_or(until, |limited| until.min(limited + LIMIT.0)))
    }

    /// When something is to be done next, if nothing happens.
    pub(super) fn next(&self) -> Option<Instant> {
        let save = self.save_fault.as_ref().and_then(|_| self.save.next());
        let host = self.host_fault.as_ref().and_then(|_| self.host.next());
        let drain = self.is_drain_due.then(|| self.drain.next().max(self.drain_rest)).flatten();
        let holding = self.next_holding();
        let all = [
            holding,
            self.vips.next(),
            self.rules.next(),
            self.forwarding.next(),
            save,
            host,
            drain,
        ];
        all.into_iter().flatten().min()
    }

    fn look(&mut self, now: Instant) {
        match self.kernel.host() {
            Ok(host) => {
                self.host_fault = None;
                let lost = self.vips.look(now, host);
                if !lost.is_empty() {
                    tracing::warn!(vips = ?lost, "addresses were taken off by somebody");
                    self.metrics.l4.drift_repairs.add(lost.len() as u64);
                }
            }
            Err(fault) => {
                self.host.failed(now);
                self.host_fault = Some(fault);
            }
        }
    }

    /// One way through everything, in order.
    fn pass(&mut self, now: Instant, desired: &Desired) {
        self.vips.want(&desired.plan.vips, &self.settings);
        self.hold(now);
        self.remember(now, desired);
        let saved = self.state.saved();
        let held = Held {
            addresses: Arc::clone(self.vips.duplicates()),
            services: Held::unsaved(&desired.plan, &saved.allocations),
        };
        let [part, _] = &mut self.parts;
        let plan = part.of(&desired.plan, held);
        let source = Source { plan: Arc::clone(&plan), policy: Arc::clone(&desired.policy) };
        let duplicates = Arc::clone(self.vips.duplicates());
        let usable = |address: &IpAddr| {
            duplicates.contains(address)
                || plan.vips.binary_search_by_key(address, |vip| vip.address).is_ok()
        };
        self.vips.ask(
            now,
            |taken| saved.taken.contains(taken) && usable(&taken.address),
            &mut self.kernel,
        );
        self.forwarding.ensure(now, &plan, &mut self.kernel);
        let mending = self.rules.is_foreign();
        let metrics = Arc::clone(&self.metrics);
        let metrics = &metrics.l4;
        let failures = || metrics.apply_failures.increment();
        let started = Instant::now();
        let applied = self.rules.apply(now, &source, &mut self.kernel, failures);
        self.source = Some(source);
        if applied == Applied::Changed {
            let took = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
            metrics.apply_us.set(took);
            tracing::debug!(generation = desired.generation, us = took, "rules in force");
        }
        if matches!(applied, Applied::Changed | Applied::Unchanged) {
            if applied == Applied::Changed && mending && !self.rules.is_foreign() {
                metrics.drift_repairs.increment();
                self.is_drain_due = true;
            }
            self.drain(now, &plan);
            let saved = self.state.saved();
            self.vips.take(now, |taken| saved.taken.contains(taken), &mut self.kernel);
            self.vips.leave(&mut self.kernel);
            self.vips.settle(now, &mut self.kernel);
            self.remember(now, desired);
        }
        self.vips.announce(now, &mut self.kernel);
        self.limit(now);
    }

    /// Brings to the disk what must be there before anything is done.
    fn remember(&mut self, now: Instant, desired: &Desired) {
        let memory = Memory {
            allocations: Arc::clone(&desired.plan.allocations),
            taken: Arc::clone(self.vips.to_remember()),
        };
        if self.save_fault.is_some() && !self.save.is_due(now) {
            return;
        }
        match self.state.save(&memory) {
            Ok(()) => (self.save_fault, self.save) = (None, Retry::default()),
            Err(error) => {
                self.save.failed(now);
                self.save_fault = Some(error.to_string());
            }
        }
    }

    /// Deletes tracked connections that lead nowhere any more.
    fn drain(&mut self, now: Instant, plan: &Arc<L4Plan>) {
        if !Arc::ptr_eq(plan, &self.in_force) {
            if Flows::may_differ(plan, &self.in_force) {
                let flows = Flows::of(plan);
                self.is_drain_due |= flows.leave_behind(&self.flows);
                if self.is_drain_due {
                    self.flows.also(flows);
                } else {
                    self.flows = flows;
                }
                if plan.changes(&self.in_force).is_none() {
                    self.drain_rest = None;
                }
            }
            self.in_force = Arc::clone(plan);
        }
        let rests = self.drain_rest.is_some_and(|until| now < until);
        if !self.is_drain_due || rests || !self.drain.is_due(now) {
            return;
        }
        let started = Instant::now();
        let flows = Flows::of(plan);
        let host = self.vips.own_addresses();
        let is_local = |address| host.iter().any(|own| own.network.addr() == address);
        let before = &self.flows;
        match self.kernel.forget(&|entry| flows.is_stale(before, is_local, entry)) {
            Ok(forgotten) => {
                if forgotten > 0 {
                    tracing::debug!(forgotten, "tracked connections led nowhere");
                }
                self.flows = flows;
                self.is_drain_due = false;
                self.drain = Retry::default();
                self.drain_rest = Some(now + DRAIN_REST.max(started.elapsed() * DRAIN_SHARE));
            }
            Err(fault) => {
                tracing::warn!(%fault, "tracked connections can't be deleted");
                self.drain.failed(now);
            }
        }
    }

    /// Tells the others.
    fn publish(&mut self, desired: &Desired) {
        let held = Held { addresses: Arc::clone(self.vips.absent()), ..Held::default() };
        let [_, part] = &mut self.parts;
        let plan = match &self.source {
            _ if self.rules.fault().is_some() => Arc::clone(&self.published.plan),
            Some(source) => {
                let plan = part.of(&source.plan, held);
                // The same plan stays the same in memory, so that it is seen at once.
                if plan == self.published.plan { Arc::clone(&self.published.plan) } else { plan }
            }
            None => Arc::default(),
        };
        let is_whole = self.rules.fault().is_none()
            && !self.rules.is_foreign()
            && self.save_fault.is_none()
            && !self.vips.is_under_way();
        let applied = if is_whole { desired.generation } else { self.published.applied };
        let settled = self.published.settled
            || self.rules.fault().is_some()
            || self.save_fault.is_some()
            || !self.vips.is_undecided();
        let view = View {
            desired: desired.generation,
            applied,
            settled,
            plan,
            vips: Arc::clone(self.vips.states()),
            acted: self.acted,
            on: Arc::clone(self.vips.on()),
            diagnostics: self.diagnostics(desired),
            host: Arc::clone(self.vips.own_addresses()),
            sides: Some(self.vips.sides(&self.settings)),
        };
        self.metrics.l4.applied.set(applied);
        if view != *self.published {
            if view.applied != self.published.applied {
                tracing::info!(generation = applied, vips = view.vips.len(), "l4 in force");
            }
            self.published = Arc::new(view);
            self.view.send_replace(Arc::clone(&self.published));
        }
    }

    fn diagnostics(&self, desired: &Desired) -> Vec<Diagnostic> {
        let gateway = || ObjectRef::cluster("GatewayConfig", "gateway");
        let mut found = Vec::new();
        if let Some(fault) = self.rules.fault() {
            let reason =
                format!("the rules are not in force, those before them still are: {fault}");
            found.push(
                Diagnostic::error(gateway(), "l4", reason)
                    .remedy("look at the log; it is tried again every few seconds"),
            );
        }
        if let Some(error) = &self.save_fault {
            let reason = format!(
                "{}: {error}; addresses given out since are not in force",
                self.state.directory().display()
            );
            let remedy = "make room on the disk or let the gateway write there; it is tried again";
            found.push(Diagnostic::error(gateway(), "state", reason).remedy(remedy));
        }
        if let Some(fault) = &self.host_fault {
            let reason = format!("interfaces and addresses can't be seen: {fault}");
            found.push(Diagnostic::error(gateway(), "l4.interfaces", reason));
        }
        found.extend(self.vips.unusable(&self.settings));
        found.extend(self.forwarding.diagnostics());
        for (vip, interface, stage) in self.vips.all() {
            let (address, pool) = (vip.address, &vip.pool);
            let (reason, remedy) = match stage {
                Stage::Duplicate(mac) => (
                    format!(
                        "{address} of AddressPool {pool} is in use on {interface} by another \
                         machine with the hardware address {mac}, so it isn't taken"
                    ),
                    "take it off that machine, or put it under spec.reserved of the pool",
                ),
                Stage::Failed(fault) => (
                    format!(
                        "{address} of AddressPool {pool} can't be taken on {interface}: {fault}"
                    ),
                    "look at the interface; it is tried again every few seconds",
                ),
                Stage::Homeless(reason) => (
                    format!("{address} of AddressPool {pool} has no interface: {reason}"),
                    "name an interface that is there; it is taken as soon as one appears",
                ),
                _ => continue,
            };
            let mut users = users(&desired.plan, address).peekable();
            if users.peek().is_none() {
                let object = ObjectRef::cluster("AddressPool", pool.clone());
                found.push(Diagnostic::error(object, "spec.addresses", reason).remedy(remedy));
                continue;
            }
            for service in users {
                let object = ObjectRef::namespaced("Service", &service.service);
                found.push(
                    Diagnostic::error(object, "status.loadBalancer", reason.clone()).remedy(remedy),
                );
            }
        }
        found
    }

    /// Takes down what was put up: the rules first.
    fn remove(&mut self) {
        if let Err(fault) = self.kernel.transaction(&rules::unload()) {
            tracing::error!(%fault, "the nftables table inet tidegate can't be removed");
        }
        self.vips.give_up(&mut self.kernel);
        let allocations = Arc::clone(&self.state.saved().allocations);
        let memory = Memory { allocations, taken: Arc::clone(self.vips.to_remember()) };
        if let Err(error) = self.state.save(&memory) {
            tracing::warn!(%error, "the state can't be written");
        }
    }
}

fn users(plan: &L4Plan, address: IpAddr) -> impl Iterator<Item = &ServicePlan> {
    let services = plan.services.iter().map(AsRef::as_ref);
    services.filter(move |service: &&ServicePlan| service.addresses.contains(&address))
}

#[cfg(test)]
mod tests;
