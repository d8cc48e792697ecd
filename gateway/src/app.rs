//! The gateway's composition: configuration → source → plan → table → workers, and the way down.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use arc_swap::ArcSwap;
use plan::machines::Machines;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access_log::{self, AccessLog};
use crate::config::Config;
use crate::edges::{self, mail};
use crate::in_cluster::{self, InCluster};
use crate::l4::Plane;
use crate::l7::table::{Builder, Resolved, Shared, Table};
use crate::l7::{AlbListeners, Engine};
use crate::metrics::Metrics;
use crate::reconcile::{self, Ends, Planner, Reconciler};
use crate::signals::Signals;
use crate::source::Source;
use crate::{admin, dns, machines, overlay, vpn};

/// How long the end of the access log may take.
const LOG_END: Duration = Duration::from_secs(2);

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
    let albs: Vec<AlbListeners> = config
        .enabled_albs()
        .map(|(kind, alb)| {
            AlbListeners::new(kind, alb, workers)
                .with_pool_ports(alb.listen.pool_http, alb.listen.pool_https)
        })
        .collect();
    let planes = config.l4.is_some() || config.vpn.is_some() || config.overlay.is_some();
    if albs.is_empty() && !planes {
        bail!(
            "nothing is enabled: set alb.public.enabled, alb.private.enabled, l4.enabled, \
             vpn.enabled or overlay.enabled to true"
        );
    }
    let mut signals = Signals::new()?;
    tracing::info!(version = env!("CARGO_PKG_VERSION"), "starting");
    let (plane, mut found) = reconcile::start_l4(&config, &metrics)?;
    let (vpn, more) = reconcile::start_vpn(&config, &metrics)?;
    found.extend(more);
    // Edges speak to each other by the overlay's sealed probes.
    let (ours, carrier) = edges::mail::pair();
    let mail::Mail { out: letters, into: letters_out } = carrier;
    let into = move |edge, octets| drop(letters.try_send(mail::Letter { edge, octets }));
    let (overlay, more) = overlay::follower::start_with(&config, Box::new(into))?;
    found.extend(more);
    let stop = CancellationToken::new();
    let tasks = TaskTracker::new();
    let state = Arc::new(admin::State::new(Arc::clone(&shared), plane.as_ref(), vpn.as_ref()));
    overlay.as_ref().inspect(|plane| state.overlay(plane.view()));
    if let Some(address) = config.admin.listen {
        let listener = admin::bind(address).await.with_context(|| {
            format!(
                "admin.listen: {address}; give another address or port, or stop what listens there"
            )
        })?;
        tasks.spawn(admin::serve(listener, Arc::clone(&state), stop.clone()));
    }
    let (log, log_writer) = start_log(&config, &metrics)?;
    let mut source = Source::open(&config.source, &tasks, &stop).await?;
    if let Some(kubernetes) = &source.kubernetes {
        state.source(kubernetes.watching.state.clone());
        tracing::info!(server = kubernetes.cluster.server, "waiting for the Kubernetes API");
    }
    let machines = needed(&config, &source, &tasks, &stop).await;
    // Nothing is applied before all is known.
    tokio::select! {
        () = spare(machines.clone()) => {}
        known = source.first() => if !known {
            bail!("the source of objects has ended");
        },
        () = signals.stop() => {
            stop.cancel();
            return Ok(());
        }
    }
    let machines = match machines {
        Some(mut machines) if source.kubernetes.is_some() => {
            machines::settled(&mut machines).await;
            Some(machines)
        }
        machines => machines,
    };
    let (wanted, wanted_receiver) = watch::channel(BTreeSet::new());
    let (resolved_sender, resolved) = watch::channel(Resolved::new());
    tasks.spawn(dns::run(wanted_receiver, resolved_sender, stop.clone()));
    let allocations = plane.as_ref().map(|plane| plane.remembered().clone()).unwrap_or_default();
    let ends = Ends {
        shared: Arc::clone(&shared),
        state: Arc::clone(&state),
        deliveries: source.deliveries.clone(),
        wanted,
        resolved,
    };
    let former = vpn.as_ref().map(|_| vpn::former::remote()).unwrap_or_default();
    let planner = Planner::new(config.settings(), allocations).with_former(former);
    let ours = overlay.as_ref().map(|overlay| {
        tasks.spawn(carry(letters_out, overlay.handle(), stop.clone()));
        ours
    });
    let planes = (plane.as_ref(), vpn.as_ref(), ours);
    let cluster = join(&config, &source, planes, (&tasks, &stop))?;
    if let Some(cluster) = &cluster {
        state.edges(cluster.report());
    }
    let mut reconciler = Reconciler::new(planner, Builder::new(metrics)?, ends, plane, vpn, found)
        .with_overlay(overlay)
        .with_machines(machines)
        .with_cluster(cluster);
    reconciler.first().await?;
    let engine = Engine::start(workers, &albs, &shared, &log)?;
    state.streams(engine.listeners());
    tracing::info!(workers, generation = shared.table.load().generation, "serving");
    started(&albs);
    reconciler.run_until_signal(&mut signals, &engine, log_writer.as_ref()).await?;
    tracing::info!(deadline = ?Duration::from(config.drain), "draining");
    state.ready.store(false, Ordering::Relaxed);
    // Others take over at once.
    let written = match reconciler.take_cluster() {
        Some(cluster) => Some(cluster.give_up().await),
        None => None,
    };
    reconciler.drain();
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
    // The kernel forwards until the end, and beyond it if it is to.
    let (l4, vpn, overlay) = reconciler.into_planes();
    tokio::task::spawn_blocking(move || {
        vpn.into_iter().for_each(vpn::Plane::stop);
        l4.into_iter().for_each(Plane::stop);
        overlay.into_iter().for_each(overlay::Plane::stop);
    })
    .await?;
    stop.cancel();
    if let Some((status, shared)) = written {
        status.stop().await;
        shared.ended().await;
    }
    tasks.close();
    tasks.wait().await;
    // What is left that may still log: the listeners, for whoever asks what they hold.
    drop((log, state));
    if let Some(writer) = log_writer {
        tokio::task::spawn_blocking(move || writer.join(LOG_END)).await?;
    }
    tracing::info!("stopped");
    Ok(())
}

/// The machines that no VpnConnection may lead away and no VIP may be, where there may be any.
async fn needed(
    config: &Config,
    source: &Source,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Option<watch::Receiver<Arc<Machines>>> {
    config.vpn.as_ref().map(drop).or(config.l4.as_ref().map(drop))?;
    let api = source.kubernetes.as_ref().map(|kubernetes| machines::Api {
        host: kubernetes.cluster.host.clone(),
        in_cluster: kubernetes.in_cluster,
    });
    Some(machines::start(api, tasks, stop.clone()).await)
}

/// A former run may guard networks that they lie in. Never ends.
async fn spare(machines: Option<watch::Receiver<Arc<Machines>>>) {
    match machines {
        Some(machines) => machines::spare(machines).await,
        None => std::future::pending().await,
    }
}

/// Hands letters to the overlay, which seals them.
async fn carry(
    mut letters: mpsc::Receiver<mail::Letter>,
    overlay: overlay::Handle,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            letter = letters.recv() => match letter {
                Some(mail::Letter { edge, octets }) => overlay.send(edge, octets),
                None => return,
            },
            () = stop.cancelled() => return,
        }
    }
}

/// Where objects come from the API, there are other edges, and somebody reads statuses.
fn join(
    config: &Config,
    source: &Source,
    (l4, vpn, mail): (Option<&Plane>, Option<&vpn::Plane>, Option<mail::Mail>),
    (tasks, stop): (&TaskTracker, &CancellationToken),
) -> Result<Option<InCluster>> {
    let Some(kubernetes) = &source.kubernetes else { return Ok(None) };
    let parts = in_cluster::Parts { config, kubernetes, l4, vpn, mail };
    InCluster::start(parts, tasks, stop).map(Some)
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

/// The listeners' addresses of one kind, as `host:port`, for people.
pub fn address_of(albs: &[AlbListeners], tls: bool) -> Option<std::net::SocketAddr> {
    let all = albs.iter().flat_map(|alb| alb.addresses());
    all.filter(|(_, is_tls)| *is_tls == tls).map(|(address, _)| *address).next()
}
