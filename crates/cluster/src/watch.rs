//! Objects as the API has them, followed.
//!
//! Each kind is listed once (as a stream where the server can, by pages where it can't) and then
//! watched from there. A watch that ends is taken up again where it stood; only where the server
//! has forgotten that place (410) the kind is listed again. With the API gone what is known stays
//! in force, and one request at a time asks whether it is back: then all go on at once.

use std::sync::Arc;
use std::time::Duration;

use ingest::Delivery;
use kube::Client;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::{self, Need};
use crate::kind::Kind;

mod ask;
mod collect;
mod follow;
mod gate;
mod lines;
mod object;
mod secrets;
mod state;

use collect::{Collector, Known};
use gate::Gate;

pub use state::{KindState, SourceState};

/// A kind to be watched, or some of its objects.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selected {
    /// The kind.
    pub kind: Kind,
    /// None for all namespaces.
    pub namespace: Option<String>,
    /// A field selector, such as `type=kubernetes.io/tls`.
    pub fields: Option<String>,
    /// A label selector.
    pub labels: Option<String>,
}

/// What is to be watched.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct What {
    /// These: each kind once, or once for each of some namespaces.
    pub kinds: Vec<Selected>,
    /// Whether Secrets that VpnConnections name are watched too, one by one.
    pub secrets_of_connections: bool,
    /// What else has to be allowed, for [`crate::access`].
    pub needs: Vec<Need>,
    /// The configuration's object for findings: `GatewayConfig/gateway`.
    pub owner: Option<model::ObjectRef>,
}

/// When things are done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Changes are handed on once none has come for so long,
    pub quiet: Duration,
    /// or so long after the first.
    pub longest: Duration,
    /// With the API gone, it is asked at most so often; sooner at first.
    pub outage: Duration,
    /// How often a kind that is absent or not allowed is asked for again.
    pub again: Duration,
    /// How far apart at most those are who begin at once.
    pub jitter: Duration,
    /// How often it is asked what is allowed.
    pub review: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            quiet: Duration::from_millis(5),
            longest: Duration::from_millis(25),
            outage: Duration::from_secs(1),
            again: Duration::from_secs(30),
            jitter: Duration::from_millis(200),
            review: Duration::from_secs(300),
        }
    }
}

/// Objects being watched.
#[derive(Clone, Debug)]
pub struct Watching {
    /// What is known. Empty until all kinds have been listed once: see [`Watching::first`].
    pub deliveries: watch::Receiver<Arc<Delivery>>,
    /// How it goes.
    pub state: watch::Receiver<Arc<SourceState>>,
}

/// Begins to watch, until `stop`.
pub fn start(
    client: Client,
    what: What,
    pace: Pace,
    tasks: &TaskTracker,
    stop: CancellationToken,
) -> Watching {
    let (deliveries, delivered) = watch::channel(Arc::default());
    let kinds = what.kinds.iter().map(|selected| (selected.kind, KindState::default()));
    let state = SourceState { kinds: kinds.collect(), ..SourceState::default() };
    let (states, state) = watch::channel(Arc::new(state));
    let collector = Collector {
        client,
        what,
        pace,
        gate: Arc::new(Gate::new(pace)),
        tasks: tasks.clone(),
        stop,
        deliveries,
        state: states,
        known: Known::default(),
    };
    tasks.spawn(collector.run());
    Watching { deliveries: delivered, state }
}

impl Selected {
    /// All objects of a kind.
    pub fn all(kind: Kind) -> Self {
        Self { kind, namespace: None, fields: None, labels: None }
    }
}

impl What {
    /// What a gateway reads; Secrets of these namespaces alone, of all if there are none.
    pub fn gateway(secrets: &[String]) -> Self {
        let mut kinds: Vec<Selected> = Kind::ALL.map(Selected::all).into();
        kinds.retain(|selected| selected.kind != Kind::Secret);
        let fields = Some("type=kubernetes.io/tls".to_owned());
        let certificates = Selected { fields, ..Selected::all(Kind::Secret) };
        let of = |namespace: &String| Selected {
            namespace: Some(namespace.clone()),
            ..certificates.clone()
        };
        kinds.extend(secrets.iter().map(of));
        if secrets.is_empty() {
            kinds.push(certificates);
        }
        Self { kinds, secrets_of_connections: true, ..Self::default() }
    }

    /// What the agent of a node reads, and has to be allowed to write.
    pub fn agent(node: &str) -> Self {
        let fields = Some(format!("metadata.name={node}"));
        let own = Selected { fields, ..Selected::all(Kind::Node) };
        // Where Calico gives pods their addresses, by IPAMBlocks.
        let others = [Kind::EdgeGateway, Kind::VpnConnection, Kind::IpamBlock];
        let kinds = [own].into_iter().chain(others.map(Selected::all)).collect();
        Self { kinds, needs: access::of_agent(node), ..Self::default() }
    }
}

impl What {
    /// Everything that has to be allowed.
    pub fn needs(&self) -> Vec<Need> {
        let kinds = self
            .kinds
            .iter()
            .flat_map(|selected| ["list", "watch"].map(|verb| Need::to_read(selected, verb)));
        kinds.chain(self.needs.iter().cloned()).collect()
    }
}

impl Watching {
    /// Waits until the API answers.
    ///
    /// # Errors
    /// Why it can't be used, as soon as that is known, or when it has been silent for so long.
    pub async fn answers(&mut self, patience: Duration) -> Result<(), String> {
        let known = |state: &Arc<SourceState>| state.synced || state.since.is_some();
        let told = tokio::time::timeout(patience, self.state.wait_for(known)).await;
        match told {
            Ok(Ok(state)) if state.synced || state.connected => Ok(()),
            Ok(Ok(state)) => {
                Err(state.last_error.clone().unwrap_or_else(|| "it doesn't answer".to_owned()))
            }
            Ok(Err(_)) => Err("it isn't asked any more".to_owned()),
            Err(_) => Err("it doesn't answer; see that it is well".to_owned()),
        }
    }

    /// Waits until all kinds have been listed once; false if the watching ends before.
    pub async fn first(&mut self) -> bool {
        self.state.wait_for(|state| state.synced).await.is_ok()
    }
}
