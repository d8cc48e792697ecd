//! The Kubernetes API as a source.

use std::time::Duration;

use cluster::access;
use cluster::watch::{self, Pace, Watching, What};
use cluster::{Cluster, Options};
use model::ObjectRef;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Delivery;
use crate::config;

/// How long a command waits for all objects,
const PATIENCE: Duration = Duration::from_secs(60);
/// and for the API to answer at all.
const ANSWER: Duration = Duration::from_millis(4_500);

/// The API, being watched.
pub struct Kubernetes {
    /// The way to it, for who writes back.
    pub cluster: Cluster,
    /// Whether that is by its Service, as pods go.
    pub in_cluster: bool,
    /// What is known, and how it goes.
    pub watching: Watching,
}

/// The API can't be used as a source.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The configuration doesn't lead to it.
    #[error(transparent)]
    Connect(#[from] cluster::ConnectError),
    /// It can't be used.
    #[error("source.kubernetes: {server}: {reason}")]
    Unusable {
        /// Where it is.
        server: String,
        /// Why, and what to do.
        reason: String,
    },
    /// It hasn't told all in time.
    #[error(
        "source.kubernetes: {server} hasn't told all objects within {PATIENCE:?}: {reason}; see to \
         the API, or read manifests from a directory"
    )]
    Silent {
        /// Where it is.
        server: String,
        /// What is lacking, and why.
        reason: String,
    },
    /// The machine has no means for it.
    #[error("starting the event loop: {0}")]
    Runtime(#[from] std::io::Error),
}

impl Kubernetes {
    /// Makes a client and begins to watch, until `stop`.
    ///
    /// # Errors
    /// If the configuration doesn't lead to an API. One that doesn't answer is waited for.
    pub async fn open(
        options: &config::Kubernetes,
        tasks: &TaskTracker,
        stop: CancellationToken,
    ) -> Result<Self, cluster::ConnectError> {
        let cluster = connect(options).await?;
        let what = What {
            needs: access::of_gateway(&cluster.namespace),
            owner: Some(ObjectRef::cluster("GatewayConfig", "gateway")),
            ..What::gateway(&options.secret_namespaces)
        };
        let watching = watch::start(cluster.client.clone(), what, Pace::default(), tasks, stop);
        Ok(Self { cluster, in_cluster: options.kubeconfig.is_none(), watching })
    }
}

/// A client, as the configuration says.
///
/// # Errors
/// If the kubeconfig or the service account can't be used.
pub async fn connect(options: &config::Kubernetes) -> Result<Cluster, cluster::ConnectError> {
    let config::Kubernetes { kubeconfig, context, namespace, .. } = options.clone();
    cluster::connect(&Options {
        kubeconfig,
        context,
        namespace,
        agent: concat!("tidegate-gateway/", env!("CARGO_PKG_VERSION")).to_owned(),
        field: "source.kubernetes".to_owned(),
    })
    .await
}

/// Reads all objects once.
///
/// # Errors
/// If the API can't be reached or doesn't tell all.
pub fn read(options: &config::Kubernetes) -> Result<Delivery, SourceError> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let read = runtime.block_on(async {
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let mut source = Kubernetes::open(options, &tasks, stop.clone()).await?;
        let server = source.cluster.server.clone();
        if let Err(reason) = source.watching.answers(ANSWER).await {
            return Err(SourceError::Unusable { server, reason });
        }
        let told = tokio::time::timeout(PATIENCE, source.watching.first()).await;
        if !matches!(told, Ok(true)) {
            let state = source.watching.state.borrow().clone();
            let lacking = state.kinds.iter().filter(|(_, of)| !of.synced && !of.absent);
            let lacking: Vec<String> = lacking.map(|(kind, _)| kind.to_string()).collect();
            let why = state.last_error.as_deref().unwrap_or("no answer");
            let reason = format!("{why}; lacking: {}", lacking.join(", "));
            return Err(SourceError::Silent { server, reason });
        }
        let delivery = Delivery::clone(&source.watching.deliveries.borrow());
        stop.cancel();
        Ok(delivery)
    });
    // A name that is being looked up would be waited for.
    runtime.shutdown_background();
    read
}
