//! From objects to what is in force: plans, then the planes that apply them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ::overlay::probe::Holds;
use anyhow::{Context, Result, bail};
use holding::Claim;
use model::snapshot::vpn::RemoteGateway;
use model::{Diagnostic, Severity};
use plan::l4::L4Plan;
use plan::l7::{Endpoints, L7Plan};
use plan::machines::Machines;
use plan::vpn::VpnPlan;
use tokio::sync::watch;

use crate::access_log;
use crate::admin;
use crate::edges::Holdings;
use crate::in_cluster::{self, InCluster};
use crate::l4::health::HealthPorts;
use crate::l4::mailbox::Desired;
use crate::l4::view::View;
use crate::l4::{self, Plane};
use crate::l7::Engine;
use crate::l7::table::{Builder, Resolved, Shared, Table};
use crate::overlay::follower::{Follower, Held};
use crate::signals::{Signals, Told};
use crate::source::Delivery;
use crate::{overlay, vpn};

mod planner;

pub use planner::Planner;

/// How often the gateway looks after itself.
const WATCH: Duration = Duration::from_secs(1);
/// How long the first DNS answers may keep the gateway from being ready.
const FIRST_DNS: Duration = Duration::from_secs(2);
/// How long the VPN's first guard table may keep the L4 plane from its beginning.
const FIRST_GUARD: Duration = Duration::from_secs(5);

/// Brings objects into force.
pub struct Reconciler {
    /// None only while it plans.
    planner: Option<Planner>,
    builder: Builder,
    shared: Arc<Shared>,
    state: Arc<admin::State>,
    deliveries: watch::Receiver<Arc<Delivery>>,
    wanted: watch::Sender<BTreeSet<String>>,
    resolved: watch::Receiver<Resolved>,
    plan: Arc<L7Plan>,
    findings: Findings,
    /// How long the plan took to make.
    plan_took: Duration,
    /// The table that was in force before. Kept until the workers have let go of it, so that none
    /// of them has to take it down.
    previous: Option<Arc<Table>>,
    l4: Option<L4>,
    vpn: Option<Vpn>,
    overlay: Option<Follower>,
    /// None without a cluster.
    cluster: Option<InCluster>,
    /// How the own Lease was when it was last looked at.
    lease: in_cluster::Standing,
    holdings: Option<watch::Receiver<Arc<Holdings>>>,
    /// What no VpnConnection may lead away, and no VIP be; none where there are neither.
    machines: Option<watch::Receiver<Arc<Machines>>>,
}

/// The VPN plane, as seen from here.
struct Vpn {
    plane: vpn::Plane,
    view: watch::Receiver<Arc<vpn::report::View>>,
    /// What was planned last.
    desired: Arc<VpnPlan>,
    generation: u64,
    /// The addresses that it was told last.
    resolved: vpn::mailbox::Names,
}

/// The L4 plane, as seen from here.
struct L4 {
    plane: Plane,
    view: watch::Receiver<Arc<View>>,
    /// What was planned last.
    desired: Arc<L4Plan>,
    generation: u64,
    /// What listeners were told of last.
    listening: Option<Arc<L4Plan>>,
    health: HealthPorts,
}

/// Findings, by where they come from.
#[derive(Default)]
struct Findings {
    /// Since the start.
    start: Vec<Diagnostic>,
    planned: Arc<Vec<Diagnostic>>,
    table: Vec<Diagnostic>,
    l4: Vec<Diagnostic>,
    vpn: Vec<Diagnostic>,
    overlay: Vec<Diagnostic>,
    listeners: Vec<Diagnostic>,
    health: Vec<Diagnostic>,
}

/// What the reconciler works between.
pub struct Ends {
    /// The table in force.
    pub shared: Arc<Shared>,
    /// The admin side's.
    pub state: Arc<admin::State>,
    /// Objects.
    pub deliveries: watch::Receiver<Arc<Delivery>>,
    /// DNS names to be resolved.
    pub wanted: watch::Sender<BTreeSet<String>>,
    /// Their addresses.
    pub resolved: watch::Receiver<Resolved>,
}

impl Reconciler {
    /// With the planes that there are; `found` is wrong whatever the objects are.
    pub fn new(
        planner: Planner,
        builder: Builder,
        ends: Ends,
        plane: Option<Plane>,
        vpn: Option<vpn::Plane>,
        found: Vec<Diagnostic>,
    ) -> Self {
        let Ends { shared, state, deliveries, wanted, resolved } = ends;
        let l4 = plane.map(|plane| L4 {
            view: plane.view(),
            plane,
            desired: Arc::default(),
            generation: 0,
            listening: None,
            health: HealthPorts::default(),
        });
        let vpn = vpn.map(|plane| Vpn {
            view: plane.view(),
            plane,
            desired: Arc::default(),
            generation: 0,
            resolved: BTreeMap::new(),
        });
        Self {
            planner: Some(planner),
            builder,
            shared,
            state,
            deliveries,
            wanted,
            resolved,
            plan: Arc::default(),
            findings: Findings { start: found, ..Findings::default() },
            plan_took: Duration::ZERO,
            previous: None,
            l4,
            vpn,
            overlay: None,
            cluster: None,
            lease: in_cluster::Standing::default(),
            holdings: None,
            machines: None,
        }
    }

    /// With the overlay, too.
    pub fn with_overlay(self, overlay: Option<overlay::Plane>) -> Self {
        Self { overlay: overlay.map(Follower::new), ..self }
    }

    /// With the machines that are reached outside of tunnels.
    pub fn with_machines(self, machines: Option<watch::Receiver<Arc<Machines>>>) -> Self {
        Self { machines, ..self }
    }

    /// With a part in the cluster.
    pub fn with_cluster(self, cluster: Option<InCluster>) -> Self {
        let holdings = cluster.as_ref().map(InCluster::holdings);
        Self { cluster, holdings, ..self }
    }

    /// The first objects, with the addresses of their DNS names if those come soon.
    ///
    /// # Errors
    /// The planner has failed.
    pub async fn first(&mut self) -> Result<()> {
        self.plan().await?;
        let names = self.wanted.borrow().clone();
        let all = self.resolved.wait_for(|known| names.iter().all(|name| known.contains_key(name)));
        if tokio::time::timeout(FIRST_DNS, all).await.is_err() {
            tracing::warn!("some ExternalName Services are not resolved yet");
        }
        self.resolved.mark_unchanged();
        self.apply();
        Ok(())
    }

    /// Applies what comes, until a signal says to stop.
    ///
    /// # Errors
    /// Where a part of the gateway has ended by a fault: better a restart than half a gateway.
    pub async fn run_until_signal(
        &mut self,
        signals: &mut Signals,
        engine: &Engine,
        log: Option<&access_log::Writer>,
    ) -> Result<()> {
        let mut watch = tokio::time::interval(WATCH);
        self.follow_l4(engine).await?;
        self.follow_vpn();
        self.follow_overlay();
        loop {
            tokio::select! {
                changed = self.deliveries.changed() => {
                    changed.context("the source of manifests has ended")?;
                    self.plan().await?;
                    self.apply();
                }
                changed = self.resolved.changed() => {
                    changed.context("the DNS task has ended")?;
                    self.apply();
                }
                changed = changed(self.l4.as_mut()) => {
                    changed.context("the l4 thread has ended")?;
                    self.follow_l4(engine).await?;
                }
                changed = cluster_changed(self.cluster.as_mut()) => {
                    changed.context("who watches the shared allocations has ended")?;
                    self.plan().await?;
                    self.apply();
                }
                changed = machines_changed(self.machines.as_mut()) => {
                    changed.context("who looks for machines that are needed has ended")?;
                    self.plan().await?;
                    self.apply();
                }
                changed = holdings_changed(self.holdings.as_mut()) => {
                    changed.context("the edges thread has ended")?;
                    self.follow_holdings();
                }
                changed = vpn_changed(self.vpn.as_mut()) => {
                    changed.context("the vpn thread has ended")?;
                    self.follow_vpn();
                }
                changed = overlay::follower::changed(self.overlay.as_mut()) => {
                    changed.context("the overlay thread has ended")?;
                    self.follow_overlay();
                }
                signal = signals.next() => match signal {
                    Told::Stop => return Ok(()),
                    Told::Reopen => {
                        log.inspect(|writer| writer.reopen());
                        self.l4.as_ref().inspect(|l4| l4.plane.announce());
                    }
                },
                _ = watch.tick() => {
                    if !engine.is_whole() {
                        bail!("a worker has ended");
                    }
                    if self.l4.as_ref().is_some_and(|l4| !l4.plane.is_whole()) {
                        bail!("the l4 thread has ended");
                    }
                    if self.vpn.as_ref().is_some_and(|vpn| !vpn.plane.is_whole()) {
                        bail!("the vpn thread has ended");
                    }
                    if self.overlay.as_ref().is_some_and(|overlay| !overlay.plane.is_whole()) {
                        bail!("the overlay thread has ended");
                    }
                    if self.cluster.as_ref().is_some_and(|cluster| !cluster.is_whole()) {
                        bail!("the edges thread has ended");
                    }
                    self.previous.take_if(|table| Arc::strong_count(table) == 1);
                    self.try_again(engine);
                    let lease = self.cluster.as_ref().map(InCluster::standing).unwrap_or_default();
                    if std::mem::replace(&mut self.lease, lease) != lease {
                        self.report();
                    }
                }
            }
        }
    }

    /// The gateway drains: the L4 plane only keeps what it has.
    pub fn drain(&self) {
        self.l4.as_ref().inspect(|l4| l4.plane.drain());
    }

    /// The part in the cluster, for its end.
    pub fn take_cluster(&mut self) -> Option<InCluster> {
        self.cluster.take()
    }

    /// The L4 plane, the VPN plane and the overlay, for their end.
    pub fn into_planes(self) -> (Option<Plane>, Option<vpn::Plane>, Option<overlay::Plane>) {
        let l4 = self.l4.map(|mut l4| {
            l4.health.close();
            l4.plane
        });
        (l4, self.vpn.map(|vpn| vpn.plane), self.overlay.map(|overlay| overlay.plane))
    }

    /// From the latest objects to plans. That of the L4 plane is handed on at once: additions come
    /// before those of the ALBs, whose tables take a moment more to make.
    async fn plan(&mut self) -> Result<()> {
        let delivery = Arc::clone(&self.deliveries.borrow_and_update());
        let host = match &self.l4 {
            Some(l4) => l4.view.borrow().host.clone(),
            None => Arc::default(),
        };
        let mut planner = self.planner.take().context("invariant: one plan at a time")?;
        if let Some(cluster) = &mut self.cluster {
            planner.share(cluster.basis());
        }
        if let Some(machines) = &mut self.machines {
            planner.keep(Arc::clone(&machines.borrow_and_update()));
        }
        let known = Arc::clone(&delivery);
        // On a thread of its own, so that the admin side answers meanwhile.
        let planning = tokio::task::spawn_blocking(move || {
            let planned = planner.plan(&delivery, &host);
            (planner, planned)
        });
        let (planner, planned) = planning.await.context("the planner has failed")?;
        self.planner = Some(planner);
        let is_untold = self.overlay.as_ref().is_some_and(Follower::is_untold);
        let is_news = |holdings: &watch::Receiver<_>| holdings.has_changed().unwrap_or(true);
        if is_untold || self.holdings.as_ref().is_some_and(is_news) {
            self.follow_holdings();
        }
        if let (Some(overlay), Some(objects)) = (&mut self.overlay, planned.overlay) {
            overlay.apply(objects, planned.l4.as_ref().map(|(plan, _)| &**plan));
        }
        if let Some(cluster) = &mut self.cluster {
            cluster.planned(in_cluster::Planned {
                delivery: &known,
                l4: planned.l4.as_ref().map(|(plan, _)| plan),
                vpn: planned.vpn.as_ref(),
                diagnostics: &planned.diagnostics,
                proposal: planned.proposal.as_deref(),
            });
        }
        let mut names: BTreeSet<String> = planned.vpn.iter().flat_map(|plan| peers(plan)).collect();
        self.plan_vpn(planned.vpn).await;
        if let (Some(l4), Some((plan, policy))) = (&mut self.l4, planned.l4) {
            l4.generation += 1;
            l4.desired = Arc::clone(&plan);
            self.state.l4_planned(Arc::clone(&plan), Arc::clone(&policy));
            l4.plane.apply(Desired { generation: l4.generation, plan, policy });
        }
        self.findings.planned = planned.diagnostics;
        self.plan = planned.l7;
        let backends = self.plan.backends.iter();
        names.extend(backends.filter_map(|backend| match &backend.endpoints {
            Endpoints::Dns { host, .. } => Some(host.clone()),
            Endpoints::Static(_) => None,
        }));
        self.wanted.send_if_modified(|wanted| {
            let changed = *wanted != names;
            *wanted = names;
            changed
        });
        self.plan_took = planned.took;
        Ok(())
    }

    /// Hands a plan for the VPN plane on, if it is another one.
    async fn plan_vpn(&mut self, plan: Option<Arc<VpnPlan>>) {
        let (Some(vpn), Some(plan)) = (&mut self.vpn, plan) else { return };
        if vpn.generation > 0 && Arc::ptr_eq(&vpn.desired, &plan) {
            return;
        }
        vpn.generation += 1;
        vpn.desired = Arc::clone(&plan);
        vpn.plane.apply(vpn::mailbox::Desired { generation: vpn.generation, plan });
        // The L4 plane has the machine forward: first there has to be the guard.
        let mut view = vpn.plane.view();
        if vpn.generation == 1 && self.l4.is_some() {
            let _ = tokio::time::timeout(FIRST_GUARD, view.wait_for(|view| view.settled)).await;
        }
        self.follow_holdings();
    }

    /// Puts the ALBs' plan in force, in one swap.
    fn apply(&mut self) {
        let started = Instant::now();
        let resolved = self.resolved.borrow_and_update().clone();
        if let Some(vpn) = &mut self.vpn {
            let known = peers(&vpn.desired).filter_map(|name| resolved.get_key_value(&name));
            let known = known.map(|(name, at)| (name.clone(), at.clone())).collect();
            if vpn.resolved != known {
                vpn.resolved.clone_from(&known);
                vpn.plane.resolved(known);
            }
        }
        let (table, refused) = self.builder.build(Arc::clone(&self.plan), &resolved);
        let generation = table.generation;
        self.previous = Some(self.shared.table.swap(Arc::new(table)));
        self.findings.table = refused;
        self.report();
        let metrics = &self.shared.metrics;
        metrics.prune();
        let control = &metrics.control;
        let took = u64::try_from((self.plan_took + started.elapsed()).as_micros()).unwrap_or(0);
        self.plan_took = Duration::ZERO;
        control.generation.set(generation);
        control.reloads.increment();
        control.reload_us.set(took);
        tracing::info!(generation, reload_us = took, "in force");
    }

    /// What follows from what the L4 plane has done: listeners on addresses that are there now.
    async fn follow_l4(&mut self, engine: &Engine) -> Result<()> {
        let Some(l4) = &mut self.l4 else {
            self.settle();
            return Ok(());
        };
        let view = Arc::clone(&l4.view.borrow_and_update());
        self.findings.l4.clone_from(&view.diagnostics);
        if let Some(cluster) = &self.cluster {
            cluster.follow_l4(&view);
        }
        if view.settled && l4.listening.as_ref().is_none_or(|plan| !Arc::ptr_eq(plan, &view.plan)) {
            self.findings.listeners = engine.listen(&view.plan);
            l4.health.apply(&view.plan);
            self.findings.health = l4.health.diagnostics().to_vec();
            l4.listening = Some(Arc::clone(&view.plan));
        }
        if view.settled {
            self.settle();
        }
        let planned_for = self.planner.as_ref().map(Planner::host);
        if planned_for.is_some_and(|host| *host != *view.host) {
            tracing::info!("the machine's addresses have changed");
            self.plan().await?;
            self.apply();
        } else {
            self.report();
        }
        Ok(())
    }

    /// What follows from what the VPN plane has done.
    fn follow_vpn(&mut self) {
        let Some(vpn) = &mut self.vpn else { return };
        self.findings.vpn.clone_from(&vpn.view.borrow_and_update().diagnostics);
        self.settle();
        self.report();
    }

    /// Agents are told what this edge holds. When its time is over that is a change, too.
    fn follow_holdings(&mut self) {
        let (Some(overlay), Some(holdings)) = (&mut self.overlay, &mut self.holdings) else {
            return;
        };
        let until = Some(holdings.clone());
        let holdings = Arc::clone(&holdings.borrow_and_update());
        let now = Instant::now();
        let has = |claim: &Claim| holdings.has(claim, now);
        let epoch = |claim: &Claim| holdings.epochs.get(claim).map_or(0, |epoch| (*epoch).into());
        let mut holds = Holds::default();
        for (key, plan) in self.vpn.iter().flat_map(|vpn| &vpn.desired.connections) {
            let claim = vpn::claim(key, plan);
            if has(&claim) {
                holds.vpn.insert(key.clone(), epoch(&claim));
            }
        }
        holds.vips.extend(holdings.claims.iter().filter(|claim| has(claim)).filter_map(|claim| {
            match claim {
                Claim::Vip(address) => Some(*address),
                Claim::Leader | Claim::Vpn(_) => None,
            }
        }));
        overlay.hold(Held { holds, until, incarnation: holdings.incarnation });
    }

    /// What follows from what the overlay has done.
    fn follow_overlay(&mut self) {
        let Some(overlay) = &mut self.overlay else { return };
        let view = Arc::clone(&overlay.view.borrow_and_update());
        self.findings.overlay.clone_from(&view.diagnostics);
        if let Some(cluster) = &self.cluster {
            cluster.follow_overlay(&view.status);
        }
        self.settle();
        self.report();
    }

    /// The first objects are in force once they are in each plane.
    fn settle(&self) {
        let l4 = self.l4.as_ref().is_none_or(|l4| l4.view.borrow().settled);
        let vpn = self.vpn.as_ref().is_none_or(|vpn| vpn.view.borrow().settled);
        let overlay = self.overlay.as_ref().is_none_or(|one| one.view.borrow().settled);
        if l4 && vpn && overlay {
            self.state.ready.store(true, Ordering::Relaxed);
        }
    }

    /// Opens listeners that could not be opened before.
    fn try_again(&mut self, engine: &Engine) {
        let Some(l4) = &mut self.l4 else { return };
        let mut changed = false;
        if let Some(found) = engine.listeners().retry() {
            changed |= found != self.findings.listeners;
            self.findings.listeners = found;
        }
        if let (false, Some(plan)) = (l4.health.diagnostics().is_empty(), &l4.listening) {
            l4.health.apply(plan);
            changed |= self.findings.health != l4.health.diagnostics();
            self.findings.health = l4.health.diagnostics().to_vec();
        }
        if changed {
            self.report();
        }
    }

    /// Logs the findings that are new, and counts all.
    fn report(&self) {
        let mut of_cluster = Vec::new();
        if let Some(cluster) = &self.cluster {
            cluster.tell(&self.findings.own(), self.state.ready.load(Ordering::Relaxed));
            of_cluster = cluster.findings();
        }
        let all = || self.findings.all().chain(&of_cluster);
        let known = self.state.diagnostics.load();
        if known.iter().eq(all()) {
            return;
        }
        let all: Vec<Diagnostic> = all().cloned().collect();
        let before: BTreeSet<&Diagnostic> = known.iter().collect();
        for finding in all.iter().filter(|finding| !before.contains(finding)) {
            match finding.severity {
                Severity::Error => tracing::error!("{finding}"),
                Severity::Warning => tracing::warn!("{finding}"),
            }
        }
        let count =
            |severity| all.iter().filter(|finding| finding.severity == severity).count() as u64;
        let control = &self.shared.metrics.control;
        control.errors.set(count(Severity::Error));
        control.warnings.set(count(Severity::Warning));
        self.state.diagnostics.store(Arc::new(all));
    }
}

impl Findings {
    /// What is wrong on this machine.
    fn own(&self) -> Vec<Diagnostic> {
        let parts = [&self.start, &self.l4, &self.listeners, &self.health, &self.vpn];
        parts.into_iter().flatten().cloned().collect()
    }

    fn all(&self) -> impl Iterator<Item = &Diagnostic> {
        let parts: [&Vec<Diagnostic>; 8] = [
            &self.start,
            &self.planned,
            &self.table,
            &self.l4,
            &self.listeners,
            &self.health,
            &self.vpn,
            &self.overlay,
        ];
        parts.into_iter().flatten()
    }
}

/// Waits for news of the L4 plane; for ever where there is none.
async fn changed(l4: Option<&mut L4>) -> Result<(), watch::error::RecvError> {
    match l4 {
        Some(l4) => l4.view.changed().await,
        None => std::future::pending().await,
    }
}

/// The same of what this edge holds.
async fn holdings_changed(
    holdings: Option<&mut watch::Receiver<Arc<Holdings>>>,
) -> Result<(), watch::error::RecvError> {
    match holdings {
        Some(holdings) => holdings.changed().await,
        None => std::future::pending().await,
    }
}

/// The same of machines that are needed.
async fn machines_changed(
    machines: Option<&mut watch::Receiver<Arc<Machines>>>,
) -> Result<(), watch::error::RecvError> {
    match machines {
        Some(machines) => machines.changed().await,
        None => std::future::pending().await,
    }
}

/// The same of what edges share.
async fn cluster_changed(cluster: Option<&mut InCluster>) -> Result<(), watch::error::RecvError> {
    match cluster {
        Some(cluster) => cluster.changed().await,
        None => std::future::pending().await,
    }
}

/// The same of the VPN plane.
async fn vpn_changed(vpn: Option<&mut Vpn>) -> Result<(), watch::error::RecvError> {
    match vpn {
        Some(vpn) => vpn.view.changed().await,
        None => std::future::pending().await,
    }
}

/// Other ends that are known by name.
fn peers(plan: &VpnPlan) -> impl Iterator<Item = String> {
    plan.connections.values().filter_map(|plan| match &plan.connection.remote.gateway {
        RemoteGateway::Name(name) => Some(name.clone()),
        RemoteGateway::Any | RemoteGateway::Address(_) => None,
    })
}

/// Starts the VPN plane, if it is configured and the machine allows it. Without, the reason is
/// answered, and the rest serves all the same.
///
/// # Errors
/// There is no VPN plane, and nothing else that could serve.
pub fn start_vpn(
    config: &crate::config::Config,
    metrics: &Arc<crate::metrics::Metrics>,
) -> Result<(Option<vpn::Plane>, Vec<Diagnostic>)> {
    let Some(vpn) = &config.vpn else { return Ok((None, Vec::new())) };
    let (plane, reason) = match vpn::Plane::start(vpn, metrics) {
        Ok(plane) => match plane.lacking().map(ToString::to_string) {
            None => return Ok((Some(plane), Vec::new())),
            Some(error) => (Some(plane), error),
        },
        Err(error) => (None, error.to_string()),
    };
    if config.enabled_albs().next().is_none() && config.l4.is_none() && config.overlay.is_none() {
        plane.into_iter().for_each(vpn::Plane::stop);
        bail!("the VPN plane can't be started, and nothing else is enabled: {reason}");
    }
    // What else is enabled may forward: nothing for a remote network may leave in the clear.
    let guarded = if plane.is_some() { "; remote networks are guarded" } else { "" };
    let object = model::ObjectRef::cluster("GatewayConfig", "gateway");
    let reason = format!("the VPN plane is off: {reason}{guarded}");
    let finding = Diagnostic::error(object, "vpn.enabled", reason)
        .remedy("mend that and start the gateway again; the rest serves meanwhile");
    Ok((plane, vec![finding]))
}

/// Starts the L4 plane, if it is configured and the machine allows it. Without, the reason is
/// answered, and the ALBs serve all the same.
///
/// # Errors
/// There is no L4 plane, and nothing else that could serve.
pub fn start_l4(
    config: &crate::config::Config,
    metrics: &Arc<crate::metrics::Metrics>,
) -> Result<(Option<Plane>, Vec<Diagnostic>)> {
    let Some(l4) = &config.l4 else { return Ok((None, Vec::new())) };
    let started = Plane::start(l4, config.alb_ports(), &config.state, metrics);
    let error: l4::StartError = match started {
        Ok(plane) => return Ok((Some(plane), Vec::new())),
        Err(error) => error,
    };
    if config.enabled_albs().next().is_none() && config.vpn.is_none() && config.overlay.is_none() {
        return Err(anyhow::Error::new(error)
            .context("the L4 plane can't be started, and no ALB is enabled"));
    }
    let object = model::ObjectRef::cluster("GatewayConfig", "gateway");
    let finding = Diagnostic::error(object, "l4.enabled", format!("the L4 plane is off: {error}"))
        .remedy("mend that and start the gateway again; the ALBs serve meanwhile");
    Ok((None, vec![finding]))
}
