//! The gateway's composition: configuration → source → plan → table → workers, and the way down.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use ingest::TlsMemo;
use model::{Diagnostic, Settings, Severity};
use plan::l7::{Endpoints, L7Plan};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access_log::{self, AccessLog};
use crate::config::Config;
use crate::l7::table::{Builder, Resolved, Shared, Table};
use crate::l7::{AlbListeners, Engine};
use crate::metrics::Metrics;
use crate::source::Delivery;
use crate::source::directory::{Directory, Pace};
use crate::{admin, dns};

/// How long the end of the access log may take.
const LOG_END: Duration = Duration::from_secs(2);
/// How often the gateway looks after itself.
const WATCH: Duration = Duration::from_secs(1);
/// How long the first DNS answers may keep the gateway from being ready.
const FIRST_DNS: Duration = Duration::from_secs(2);

/// Runs the gateway until SIGTERM or SIGINT.
///
/// # Errors
/// Where it can't start: an address in use, a directory that isn't there, …
pub fn run(config: Config) -> Result<()> {
    run_with(config, |_| {})
}

/// The same; `started` is called with the listeners once everything serves.
///
/// # Errors
/// As [`run`].
pub fn run_with(config: Config, started: impl FnOnce(&[AlbListeners])) -> Result<()> {
    // The control side has one thread; the workers have theirs.
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")?
        .block_on(control(config, started))
}

async fn control(config: Config, started: impl FnOnce(&[AlbListeners])) -> Result<()> {
    let workers = config.workers.count();
    let metrics = Arc::new(Metrics::new(workers));
    let shared = Arc::new(Shared {
        table: ArcSwap::from_pointee(Table::default()),
        metrics: Arc::clone(&metrics),
    });
    let albs: Vec<AlbListeners> =
        config.enabled_albs().map(|(kind, alb)| AlbListeners::new(kind, alb, workers)).collect();
    if albs.is_empty() {
        bail!("no ALB is enabled: set alb.public.enabled or alb.private.enabled to true");
    }
    let mut signals = Signals::new()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "starting");
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let state = Arc::new(admin::State {
        shared: Arc::clone(&shared),
        diagnostics: ArcSwap::default(),
        ready: AtomicBool::new(false),
    });
    if let Some(address) = config.admin.listen {
        let listener = admin::bind(address).await.with_context(|| {
            format!(
                "admin.listen: {address}; give another address or port, or stop what listens there"
            )
        })?;
        tasks.spawn(admin::serve(listener, Arc::clone(&state), stop.clone()));
    }
    let (log, log_writer) = start_log(&config, &metrics)?;
    let manifests = config
        .source
        .manifests
        .clone()
        .context("source.manifests is missing: name the directory that holds the manifests")?;
    let (directory, deliveries) = Directory::open(manifests, Pace::default())?;
    tasks.spawn(directory.run(stop.clone()));
    let (wanted, wanted_receiver) = watch::channel(BTreeSet::new());
    let (resolved_sender, resolved) = watch::channel(Resolved::new());
    tasks.spawn(dns::run(wanted_receiver, resolved_sender, stop.clone()));
    let mut reconciler = Reconciler {
        settings: config.settings(),
        builder: Builder::new(metrics)?,
        memo: TlsMemo::default(),
        shared: Arc::clone(&shared),
        state: Arc::clone(&state),
        deliveries,
        wanted,
        resolved,
        plan: Arc::default(),
        diagnostics: Vec::new(),
        plan_took: Duration::ZERO,
        previous: None,
    };
    reconciler.first().await;
    let engine = Engine::start(workers, &albs, &shared, &log)?;
    state.ready.store(true, Ordering::Relaxed);
    tracing::info!(workers, generation = shared.table.load().generation, "serving");
    started(&albs);
    reconciler.run_until_signal(&mut signals, &engine, log_writer.as_ref()).await?;
    tracing::info!(deadline = ?Duration::from(config.drain), "draining");
    state.ready.store(false, Ordering::Relaxed);
    let deadline = config.drain.into();
    // The admin side goes on answering meanwhile: `/readyz` says no.
    let drained = tokio::task::spawn_blocking(move || engine.drain(deadline));
    tokio::select! {
        drained = drained => drained?,
        () = signals.stop() => {
            tracing::warn!("told to stop again: stopping without waiting for requests under way");
            std::process::exit(1);
        }
    }
    stop.cancel();
    tasks.close();
    tasks.wait().await;
    drop(log);
    if let Some(writer) = log_writer {
        tokio::task::spawn_blocking(move || writer.join(LOG_END)).await?;
    }
    tracing::info!("stopped");
    Ok(())
}

fn start_log(
    config: &Config,
    metrics: &Arc<Metrics>,
) -> Result<(AccessLog, Option<access_log::Writer>)> {
    let Some(target) = config.access_log.target() else { return Ok((AccessLog::off(), None)) };
    let (log, writer) = AccessLog::start(target.clone(), Arc::clone(metrics)).with_context(|| {
        format!(
            "accessLog.path: {target} can't be opened; name a file in a writable folder, \"-\" or \"off\""
        )
    })?;
    Ok((log, Some(writer)))
}

/// The signals that the gateway listens to, from its start to its end.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// Waits for the next one.
    async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop,
            _ = self.interrupt.recv() => Told::Stop,
            _ = self.hangup.recv() => Told::Reopen,
        }
    }

    /// Waits until the gateway is told to stop.
    async fn stop(&mut self) {
        while !matches!(self.next().await, Told::Stop) {}
    }
}

/// What a signal asks for.
enum Told {
    /// SIGTERM, SIGINT: stop.
    Stop,
    /// SIGHUP: open the access log anew.
    Reopen,
}

/// Brings objects into force.
struct Reconciler {
    settings: Settings,
    builder: Builder,
    memo: TlsMemo,
    shared: Arc<Shared>,
    state: Arc<admin::State>,
    deliveries: watch::Receiver<Arc<Delivery>>,
    wanted: watch::Sender<BTreeSet<String>>,
    resolved: watch::Receiver<Resolved>,
    plan: Arc<L7Plan>,
    diagnostics: Vec<Diagnostic>,
    /// How long the plan took to make.
    plan_took: Duration,
    /// The table that was in force before. Kept until the workers have let go of it, so that none
    /// of them has to take it down.
    previous: Option<Arc<Table>>,
}

impl Reconciler {
    /// The first objects, with the addresses of their DNS names if those come soon.
    async fn first(&mut self) {
        self.plan();
        let names = self.wanted.borrow().clone();
        let all = self.resolved.wait_for(|known| names.iter().all(|name| known.contains_key(name)));
        if tokio::time::timeout(FIRST_DNS, all).await.is_err() {
            tracing::warn!("some ExternalName Services are not resolved yet");
        }
        self.resolved.mark_unchanged();
        self.apply();
    }

    /// Applies what comes, until a signal says to stop.
    ///
    /// # Errors
    /// Where a part of the gateway has ended by a fault: better a restart than half a gateway.
    async fn run_until_signal(
        &mut self,
        signals: &mut Signals,
        engine: &Engine,
        log: Option<&access_log::Writer>,
    ) -> Result<()> {
        let mut watch = tokio::time::interval(WATCH);
        loop {
            tokio::select! {
                changed = self.deliveries.changed() => {
                    changed.context("the source of manifests has ended")?;
                    self.plan();
                    self.apply();
                }
                changed = self.resolved.changed() => {
                    changed.context("the DNS task has ended")?;
                    self.apply();
                }
                signal = signals.next() => match (signal, log) {
                    (Told::Stop, _) => return Ok(()),
                    (Told::Reopen, Some(writer)) => writer.reopen(),
                    (Told::Reopen, None) => {}
                },
                _ = watch.tick() => {
                    if !engine.is_whole() {
                        bail!("a worker has ended");
                    }
                    self.previous.take_if(|table| Arc::strong_count(table) == 1);
                }
            }
        }
    }

    /// From the latest objects to a plan.
    fn plan(&mut self) {
        let delivery = Arc::clone(&self.deliveries.borrow_and_update());
        let started = Instant::now();
        let (snapshot, found) =
            ingest::ingest_with(&delivery.objects, &self.settings, &mut self.memo);
        let (plan, more) = plan::l7::plan(&snapshot, &self.settings.albs);
        self.diagnostics = delivery.diagnostics.clone();
        self.diagnostics.extend(found);
        self.diagnostics.extend(more);
        self.plan = Arc::new(plan);
        let names: BTreeSet<String> = self
            .plan
            .backends
            .iter()
            .filter_map(|backend| match &backend.endpoints {
                Endpoints::Dns { host, .. } => Some(host.clone()),
                Endpoints::Static(_) => None,
            })
            .collect();
        self.wanted.send_if_modified(|wanted| {
            let changed = *wanted != names;
            *wanted = names;
            changed
        });
        self.plan_took = started.elapsed();
    }

    /// Puts the plan in force, in one swap.
    fn apply(&mut self) {
        let started = Instant::now();
        let resolved = self.resolved.borrow_and_update().clone();
        let (table, refused) = self.builder.build(Arc::clone(&self.plan), &resolved);
        let generation = table.generation;
        self.previous = Some(self.shared.table.swap(Arc::new(table)));
        let mut diagnostics = self.diagnostics.clone();
        diagnostics.extend(refused);
        self.report(&diagnostics);
        self.state.diagnostics.store(Arc::new(diagnostics));
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

    /// Logs the findings that are new, and counts all.
    fn report(&self, diagnostics: &[Diagnostic]) {
        let known = self.state.diagnostics.load();
        let known: BTreeSet<&Diagnostic> = known.iter().collect();
        for finding in diagnostics.iter().filter(|finding| !known.contains(finding)) {
            match finding.severity {
                Severity::Error => tracing::error!("{finding}"),
                Severity::Warning => tracing::warn!("{finding}"),
            }
        }
        let count = |severity| {
            diagnostics.iter().filter(|finding| finding.severity == severity).count() as u64
        };
        let control = &self.shared.metrics.control;
        control.errors.set(count(Severity::Error));
        control.warnings.set(count(Severity::Warning));
    }
}

/// The listeners' addresses of one kind, as `host:port`, for people.
pub fn address_of(albs: &[AlbListeners], tls: bool) -> Option<std::net::SocketAddr> {
    let all = albs.iter().flat_map(|alb| alb.addresses());
    all.filter(|(_, is_tls)| *is_tls == tls).map(|(address, _)| *address).next()
}
