//! The agent's composition: configuration → source → control thread, the admin side, and the way
//! down.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use cluster::write::events::{Event, Regarding};
use cluster::write::{Author, Written};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Source};
use crate::control::Control;
use crate::view::{Status, View};
use crate::{admin, publish, source};

/// Who reports Events.
const CONTROLLER: &str = "tidegate.io/edge-agent";
/// How often what is to be told as an Event is looked for.
const EVENTS: Duration = Duration::from_secs(1);
/// How often it is seen to that the control thread lives.
const PULSE: Duration = Duration::from_secs(1);
/// How long tasks have at the end.
const END: Duration = Duration::from_secs(3);

/// Runs the agent until SIGTERM or SIGINT.
///
/// # Errors
/// Where it can't start: a directory that isn't there, a missing right, …
pub fn run(config: Config) -> Result<()> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("starting the event loop")?
        .block_on(serve(config))
}

async fn serve(config: Config) -> Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut renew = signal(SignalKind::user_defined1())?;
    let node = config.overlay.name.clone();
    tracing::info!(version = env!("CARGO_PKG_VERSION"), node, "starting");
    let (stop, tasks) = (CancellationToken::new(), TaskTracker::new());
    let view = View::default();
    let (announce, announced) = watch::channel(None);
    // The API need not answer, but the way to it has to be configured rightly.
    let cluster = source::connect(&config).await?;
    let control = Control::start(config.clone(), view.clone(), announce)?;
    let mailbox = control.mailbox();
    if let Some(address) = config.admin {
        let listener = admin::bind(address).await.with_context(|| {
            format!(
                "admin.listen: {address}; give another address or port, or stop what listens there"
            )
        })?;
        tasks.spawn(admin::serve(listener, view.clone(), stop.clone()));
    }
    match (&config.source, &cluster) {
        (Source::Manifests(root), _) => {
            source::follow_directory(root.clone(), mailbox.clone(), &tasks, &stop)?;
        }
        (_, Some(cluster)) => {
            source::follow_cluster(cluster, &node, mailbox.clone(), &tasks, &stop);
            let client = cluster.client.clone();
            let told = publish::to_api(client.clone(), announced, mailbox.clone(), stop.clone());
            tasks.spawn(told);
            tasks.spawn(tell_events(client, node, view.clone(), stop.clone()));
        }
        _ => bail!("source: has neither kubernetes nor manifests"),
    }
    let mut pulse = tokio::time::interval(PULSE);
    loop {
        tokio::select! {
            _ = terminate.recv() => break,
            _ = interrupt.recv() => break,
            _ = renew.recv() => mailbox.renew_key(),
            _ = pulse.tick() => if control.has_ended() {
                bail!("the control thread has ended; what is in force stays");
            },
        }
    }
    tracing::info!("stopping");
    stop.cancel();
    tasks.close();
    // What is removed at the end takes a while, and the admin side is of no use by then.
    tokio::task::spawn_blocking(move || drop(control)).await?;
    if tokio::time::timeout(END, tasks.wait()).await.is_err() {
        tracing::warn!("some tasks didn't end in time");
    }
    tracing::info!("stopped");
    Ok(())
}

/// Tells what is wrong with the Node as Events on it.
async fn tell_events(client: kube::Client, node: String, view: View, stop: CancellationToken) {
    let (sender, written) = watch::channel(Arc::new(Written::default()));
    // Statuses are the gateways' to write.
    let (_leads, leader) = watch::channel(false);
    let mut options = cluster::write::Options::new(node);
    options.controller = CONTROLLER;
    let writer = cluster::write::start(client, options, written, leader, stop.clone());
    let mut interval = tokio::time::interval(EVENTS);
    loop {
        tokio::select! {
            () = stop.cancelled() => break,
            _ = interval.tick() => {}
        }
        let events = events(&view.shown().status);
        sender.send_if_modified(|written| {
            let news = written.events != events;
            if news {
                *written = Arc::new(Written { events, ..Written::default() });
            }
            news
        });
    }
    writer.ended().await;
}

/// What is told about the Node.
fn events(status: &Status) -> Vec<Event> {
    // The kubelet's Events have the name for the uid, and so `kubectl describe node` finds them.
    let object = Regarding {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        namespace: None,
        name: status.node.clone(),
        uid: Some(status.node.clone()),
    };
    let event = |reason: &str, note: String| Event {
        object: object.clone(),
        author: Author::Own,
        warning: true,
        reason: reason.to_owned(),
        action: "Overlay".to_owned(),
        note,
    };
    let mut events: Vec<Event> = status
        .findings
        .iter()
        .map(|found| {
            let about = match found.field.as_str() {
                "" => found.object.clone(),
                field => format!("{} {field}", found.object),
            };
            event("EdgeOverlay", format!("{about}: {}", found.message))
        })
        .collect();
    let faults = status.applied.faults.iter();
    events.extend(faults.map(|fault| event("EdgeOverlayNotInForce", fault.clone())));
    events.sort();
    events.dedup();
    events
}
