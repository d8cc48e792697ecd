//! The ConfigMap that says which Service has which address: read by all edges, written by the
//! leading one by compare-and-swap.

use std::collections::BTreeMap;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use http::Method;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch_objects};
use kube::{Api, Client};
use serde_json::json;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::request::{Ask, Body};
use super::{MANAGER, Outcome};

/// The ConfigMap's name, in the gateway's namespace.
pub const NAME: &str = "tidegate-allocations";
/// The key in its `data`.
pub const KEY: &str = "allocations.json";
/// What the API server takes at most, in bytes: below a ConfigMap's 1 MiB.
pub const LARGEST: usize = 1_000_000;
/// The rest after a write that failed.
const REST: Duration = Duration::from_millis(500);

/// What is known of it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Known {
    /// Not read yet.
    #[default]
    Unknown,
    /// It isn't there: it was never written, or is lost.
    Absent,
    /// It is there.
    There {
        /// What stands in it; empty if that is missing.
        text: Arc<str>,
        /// Its `metadata.resourceVersion`.
        version: String,
    },
}

/// What is to stand in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// The version that it was made from; none where there was no ConfigMap. Only that one is
    /// replaced.
    pub version: Option<String>,
    /// What is to stand in it.
    pub text: Arc<str>,
}

/// The ConfigMap, followed.
#[derive(Debug)]
pub struct Followed {
    /// What is known of it.
    pub known: watch::Receiver<Known>,
    /// Why it couldn't be written when that was tried last.
    pub failure: watch::Receiver<Option<Outcome>>,
    /// What follows it. Ends with `stop`.
    pub task: tokio::task::JoinHandle<()>,
}

/// Reads and watches it, and writes what is proposed for as long as `leader` says so. What was
/// overtaken by another version isn't written: there has to be a new proposal for that one.
pub fn start(
    client: Client,
    namespace: String,
    proposals: watch::Receiver<Option<Arc<Proposal>>>,
    leader: watch::Receiver<bool>,
    stop: CancellationToken,
) -> Followed {
    let (sender, known) = watch::channel(Known::Unknown);
    let (failures, failure) = watch::channel(None);
    let task = tokio::spawn(async move {
        let to = (&sender, &failures);
        let writes = write(client.clone(), namespace.clone(), (proposals, leader), to);
        tokio::select! {
            () = stop.cancelled() => {}
            () = follow(client, &namespace, &sender) => {}
            () = writes => {}
        }
    });
    Followed { known, failure, task }
}

async fn follow(client: Client, namespace: &str, known: &watch::Sender<Known>) {
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let config = watcher::Config::default().fields(&format!("metadata.name={NAME}"));
    let mut events = pin!(watch_objects(api, config).default_backoff());
    let mut listed = Known::Absent;
    while let Some(event) = events.next().await {
        match event {
            Ok(Event::Init) => listed = Known::Absent,
            Ok(Event::InitApply(object)) => listed = of(&object),
            Ok(Event::InitDone) => tell(known, std::mem::take(&mut listed)),
            Ok(Event::Apply(object)) => {
                let now = of(&object);
                // What was written here is known before the watch tells of what was there before.
                if !is_older(&now, &known.borrow()) {
                    tell(known, now);
                }
            }
            Ok(Event::Delete(_)) => tell(known, Known::Absent),
            Err(error) => tracing::warn!(%error, "the ConfigMap of allocations can't be watched"),
        }
    }
}

/// Whether something is known to come before what is known already.
fn is_older(now: &Known, known: &Known) -> bool {
    let number = |known: &Known| match known {
        Known::There { version, .. } => version.parse::<u64>().ok(),
        Known::Unknown | Known::Absent => None,
    };
    number(now).zip(number(known)).is_some_and(|(now, known)| now < known)
}

fn of(object: &ConfigMap) -> Known {
    let text = object.data.as_ref().and_then(|data| data.get(KEY)).cloned().unwrap_or_default();
    Known::There {
        text: text.into(),
        version: object.metadata.resource_version.clone().unwrap_or_default(),
    }
}

fn tell(sender: &watch::Sender<Known>, now: Known) {
    sender.send_if_modified(|known| {
        let changed = *known != now;
        if changed {
            *known = now;
        }
        changed
    });
}

async fn write(
    client: Client,
    namespace: String,
    (mut proposals, mut leader): (watch::Receiver<Option<Arc<Proposal>>>, watch::Receiver<bool>),
    (known, failures): (&watch::Sender<Known>, &watch::Sender<Option<Outcome>>),
) {
    loop {
        let proposal = proposals.borrow_and_update().clone();
        let leads = *leader.borrow_and_update();
        let mut rest = None;
        if let (Some(proposal), true) = (proposal, leads)
            && is_current(&proposal, &known.borrow())
        {
            match put(&client, &namespace, &proposal).await {
                Ok(now) => {
                    failures.send_replace(None);
                    tell(known, now);
                }
                Err(Outcome::Raced | Outcome::Gone) => {
                    tracing::info!("the allocations were changed by another edge meanwhile");
                    match get(&client, &namespace).await {
                        Ok(now) => tell(known, now),
                        Err(_) => rest = Some(REST),
                    }
                }
                Err(outcome) => {
                    tracing::warn!(?outcome, "the allocations can't be written");
                    failures.send_replace(Some(outcome));
                    rest = Some(REST.mul_f64(1.0 + fastrand::f64()));
                }
            }
        }
        let ended = tokio::select! {
            changed = proposals.changed() => changed.is_err(),
            changed = leader.changed() => changed.is_err(),
            () = resting(rest) => false,
        };
        if ended {
            return std::future::pending().await;
        }
    }
}

/// Whether a proposal was made from what is known, and says something else.
fn is_current(proposal: &Proposal, known: &Known) -> bool {
    match known {
        Known::Unknown => false,
        Known::Absent => proposal.version.is_none(),
        Known::There { text, version } => {
            proposal.version.as_ref() == Some(version) && *text != proposal.text
        }
    }
}

async fn put(client: &Client, namespace: &str, proposal: &Proposal) -> Result<Known, Outcome> {
    let collection = format!("/api/v1/namespaces/{namespace}/configmaps");
    let mut metadata = json!({
        "name": NAME,
        "namespace": namespace,
        "labels": {"app.kubernetes.io/name": "tidegate"},
    });
    let (method, path, verb) = match &proposal.version {
        None => (Method::POST, format!("{collection}?fieldManager={MANAGER}"), "create"),
        Some(version) => {
            metadata["resourceVersion"] = json!(version);
            (Method::PUT, format!("{collection}/{NAME}?fieldManager={MANAGER}"), "update")
        }
    };
    let data = BTreeMap::from([(KEY, &*proposal.text)]);
    let body = json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata,
        "data": data,
    });
    let answer =
        Ask::new(method, path, verb, "configmaps").body(Body::Json, body).send(client).await?;
    Ok(of_json(&answer))
}

async fn get(client: &Client, namespace: &str) -> Result<Known, Outcome> {
    let path = format!("/api/v1/namespaces/{namespace}/configmaps/{NAME}");
    match Ask::new(Method::GET, path, "get", "configmaps").send(client).await {
        Ok(object) => Ok(of_json(&object)),
        Err(Outcome::Gone) => Ok(Known::Absent),
        Err(outcome) => Err(outcome),
    }
}

fn of_json(object: &serde_json::Value) -> Known {
    Known::There {
        text: object["data"][KEY].as_str().unwrap_or_default().into(),
        version: object["metadata"]["resourceVersion"].as_str().unwrap_or_default().to_owned(),
    }
}

async fn resting(rest: Option<Duration>) {
    match rest {
        Some(rest) => tokio::time::sleep(rest).await,
        None => std::future::pending().await,
    }
}
