//! What the cluster is told of the node: annotations on its Node object, or, where there is no
//! API, a file that holds the Node with them.

use std::sync::Arc;
use std::time::Duration;

use ingest::overlay::{AGENT_VERSION, KEYS, MODE};
use k8s_openapi::api::core::v1::Node;
use kube::api::{Api, Patch, PatchParams};
use model::snapshot::overlay::OverlayMode;
use model::{Diagnostic, ObjectRef, PublicKey};
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::control::Mailbox;
use crate::state::{NODE, State, StateError};

/// Who writes these annotations, as the API has it.
pub const MANAGER: &str = "tidegate-agent";
/// How long one request may take.
const ANSWER: Duration = Duration::from_secs(10);
/// The first wait after a request that failed; it doubles.
const FIRST: Duration = Duration::from_millis(500);
/// The longest one.
const LONGEST: Duration = Duration::from_secs(30);

/// What is to be known.
#[derive(Clone, Debug, PartialEq)]
pub struct Announcement {
    /// The Node's name.
    pub node: String,
    /// Its keys, the newest first.
    pub keys: Vec<PublicKey>,
    /// How it wants to be reached.
    pub mode: OverlayMode,
    /// The Node as it was last seen.
    pub object: Option<Arc<Node>>,
}

impl Announcement {
    /// The annotations; null for one that is not to be.
    fn annotations(&self) -> [(&'static str, Option<String>); 3] {
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        let mode = match self.mode {
            OverlayMode::Auto => None,
            OverlayMode::Direct => Some("direct".to_owned()),
            OverlayMode::Wireguard => Some("wireguard".to_owned()),
        };
        [
            (KEYS, Some(keys.join(","))),
            (MODE, mode),
            (AGENT_VERSION, Some(env!("CARGO_PKG_VERSION").to_owned())),
        ]
    }

    /// Whether the Node has them.
    fn is_told(&self, object: &Node) -> bool {
        let there = object.metadata.annotations.as_ref();
        let value = |name: &str| there.and_then(|there| there.get(name)).cloned();
        self.annotations().into_iter().all(|(name, wanted)| value(name) == wanted)
    }
}

/// Writes the Node with its annotations to the state directory, for people to bring to the edges'
/// manifests. Nothing changes where it is so already.
///
/// # Errors
/// [`StateError::Unwritable`].
pub fn to_file(state: &State, wanted: &Announcement) -> Result<(), StateError> {
    let mut metadata = json!({"name": wanted.node});
    let mut annotations = serde_json::Map::new();
    for (name, value) in wanted.annotations() {
        if let Some(value) = value {
            annotations.insert(name.to_owned(), Value::String(value));
        }
    }
    metadata["annotations"] = Value::Object(annotations);
    let mut document = json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata});
    if let Some(object) = &wanted.object {
        if let Some(labels) = &object.metadata.labels {
            document["metadata"]["labels"] = json!(labels);
        }
        if let Some(spec) = &object.spec {
            document["spec"] = json!(spec);
        }
        let addresses = object.status.as_ref().and_then(|status| status.addresses.as_ref());
        if let Some(addresses) = addresses {
            document["status"] = json!({"addresses": addresses});
        }
    }
    // JSON is YAML.
    let mut text = serde_json::to_string_pretty(&document).unwrap_or_default();
    text.push('\n');
    if std::fs::read_to_string(state.path(NODE)).is_ok_and(|there| there == text) {
        return Ok(());
    }
    state.write(NODE, text.as_bytes())
}

/// Brings the Node in the API to what is wanted, now and later, until `stop`.
pub async fn to_api(
    client: kube::Client,
    mut wanted: watch::Receiver<Option<Announcement>>,
    mailbox: Mailbox,
    stop: CancellationToken,
) {
    let mut wait = FIRST;
    let mut complained = false;
    loop {
        let told = wanted.borrow_and_update().clone();
        let missing = told.filter(|told| {
            // One that was not seen can't be changed: the name may be wrong.
            told.object.as_ref().is_some_and(|object| !told.is_told(object))
        });
        let mut rest = None;
        if let Some(told) = missing {
            match patch(&client, &told.node, &told.annotations()).await {
                Ok(()) => {
                    wait = FIRST;
                    if std::mem::take(&mut complained) {
                        mailbox.complain(Vec::new());
                    }
                }
                Err(error) => {
                    tracing::warn!(%error, "the Node's annotations can't be written");
                    mailbox.complain(vec![complaint(&told.node, &error)]);
                    complained = true;
                    rest = Some(wait);
                    wait = (wait * 2).min(LONGEST);
                }
            }
        }
        tokio::select! {
            () = stop.cancelled() => return,
            changed = wanted.changed() => if changed.is_err() { return },
            () = sleep(rest) => {}
        }
    }
}

async fn sleep(rest: Option<Duration>) {
    match rest {
        Some(rest) => tokio::time::sleep(rest).await,
        None => std::future::pending().await,
    }
}

/// Takes the annotations away, for an uninstallation.
///
/// # Errors
/// What the API says. That there is no such Node is fine.
pub async fn withdraw(client: &kube::Client, node: &str) -> Result<(), String> {
    let none = [KEYS, MODE, AGENT_VERSION].map(|name| (name, None));
    match patch(client, node, &none).await {
        Err(PatchError::Api(kube::Error::Api(status))) if status.code == 404 => Ok(()),
        other => other.map_err(|error| error.to_string()),
    }
}

#[derive(Debug, thiserror::Error)]
enum PatchError {
    #[error("{}", cluster::connect::reason(.0))]
    Api(kube::Error),
    #[error("the API doesn't answer in time")]
    Late,
}

/// Merged, so that a Node which isn't there is never made.
async fn patch(
    client: &kube::Client,
    node: &str,
    annotations: &[(&'static str, Option<String>)],
) -> Result<(), PatchError> {
    let annotations: serde_json::Map<String, Value> =
        annotations.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let change = json!({"metadata": {"annotations": annotations}});
    let nodes: Api<Node> = Api::all(client.clone());
    let options = PatchParams { field_manager: Some(MANAGER.to_owned()), ..PatchParams::default() };
    let change = Patch::Merge(change);
    let request = nodes.patch(node, &options, &change);
    match tokio::time::timeout(ANSWER, request).await {
        Ok(answer) => answer.map(drop).map_err(PatchError::Api),
        Err(_) => Err(PatchError::Late),
    }
}

fn complaint(node: &str, error: &PatchError) -> Diagnostic {
    let reason = format!("its key can't be told to the edges: {error}");
    let remedy = match error {
        PatchError::Api(kube::Error::Api(status)) if status.code == 403 => {
            "let the agent's service account patch nodes"
        }
        PatchError::Api(_) => "it is tried again",
        PatchError::Late => "see that the API can be reached from this node; it is tried again",
    };
    Diagnostic::error(ObjectRef::cluster("Node", node), "metadata.annotations", reason)
        .remedy(remedy)
}
