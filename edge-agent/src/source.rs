//! Where objects come from: the API or a directory, with the same objects in both.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::source::directory::{Directory, Pace, SourceError};
use cluster::watch::What;
use cluster::{Cluster, ConnectError};
use ingest::Delivery;
use model::ObjectRef;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{Config, Source};
use crate::control::Mailbox;
use crate::view::SourceStatus;

/// How long the API is waited for at the start before objects that were kept count,
const ANSWER: Duration = Duration::from_secs(2);
/// and how long for all of them to be told where it answers.
const ALL: Duration = Duration::from_secs(10);

/// A way to the API, as configured; none for a directory.
///
/// # Errors
/// The kubeconfig or the service account can't be used.
pub async fn connect(config: &Config) -> Result<Option<Cluster>, ConnectError> {
    let Source::Kubernetes { kubeconfig, context } = &config.source else { return Ok(None) };
    let options = cluster::Options {
        kubeconfig: kubeconfig.clone(),
        context: context.clone(),
        namespace: None,
        agent: concat!("tidegate-agent/", env!("CARGO_PKG_VERSION")).to_owned(),
        field: "source.kubernetes".to_owned(),
    };
    cluster::connect(&options).await.map(Some)
}

/// What the agent reads, and what else it has to be allowed.
pub fn what(node: &str) -> What {
    let mut what = What::agent(node);
    what.owner = Some(ObjectRef::cluster("AgentConfig", node));
    what
}

/// Follows a directory, and tells the control thread.
///
/// # Errors
/// It can't be read.
pub fn follow_directory(
    root: PathBuf,
    mailbox: Mailbox,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(), SourceError> {
    let place = root.display().to_string();
    let (directory, deliveries) = Directory::open(root, Pace::default())?;
    mailbox.source(SourceStatus {
        kind: "manifests".to_owned(),
        place,
        connected: true,
        error: None,
    });
    tasks.spawn(directory.run(stop.clone()));
    tasks.spawn(forward(deliveries, mailbox, stop.clone()));
    Ok(())
}

/// Follows the API, and tells the control thread.
pub fn follow_cluster(
    cluster: &Cluster,
    node: &str,
    mailbox: Mailbox,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) {
    let pace = cluster::watch::Pace::default();
    let client = cluster.client.clone();
    let mut watching = cluster::watch::start(client, what(node), pace, tasks, stop.clone());
    let place = cluster.server.clone();
    let (mut state, told) = (watching.state.clone(), mailbox.clone());
    let ended = stop.clone();
    tasks.spawn(async move {
        loop {
            let now = Arc::clone(&state.borrow_and_update());
            told.source(SourceStatus {
                kind: "kubernetes".to_owned(),
                place: place.clone(),
                connected: now.connected,
                error: now.last_error.clone(),
            });
            tokio::select! {
                () = ended.cancelled() => return,
                changed = state.changed() => if changed.is_err() { return },
            }
        }
    });
    let stop = stop.clone();
    tasks.spawn(async move {
        // Nothing is put in force before all has been listed once, but for what was kept where
        // that takes long.
        let late = async {
            let answers = watching.answers(ANSWER).await.is_ok();
            if !answers || tokio::time::timeout(ALL, watching.first()).await.is_err() {
                mailbox.fall_back();
            }
            watching.first().await
        };
        tokio::select! {
            () = stop.cancelled() => return,
            synced = late => if !synced { return },
        }
        forward(watching.deliveries, mailbox, stop).await;
    });
}

async fn forward(
    mut deliveries: watch::Receiver<Arc<Delivery>>,
    mailbox: Mailbox,
    stop: CancellationToken,
) {
    loop {
        mailbox.deliver(Arc::clone(&deliveries.borrow_and_update()));
        tokio::select! {
            () = stop.cancelled() => return,
            changed = deliveries.changed() => if changed.is_err() { return },
        }
    }
}
