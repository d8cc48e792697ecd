//! Leases over the API.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use holding::{Answer, Lease, Request};
use k8s_openapi::api::coordination::v1::{Lease as Object, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta};
use k8s_openapi::jiff::Timestamp;
use kube::api::{ListParams, PostParams, WatchEvent, WatchParams};
use kube::{Api, Client};
use tokio::sync::mpsc;

/// How long an answer is waited for.
const TIMEOUT: Duration = Duration::from_millis(700);
/// How long all Leases may take.
const LIST: Duration = Duration::from_secs(5);
/// How long nothing may come: Leases are renewed all the time, the own one too.
const SILENCE: Duration = Duration::from_secs(3);
/// The rest before a watch is begun anew.
const REST: Duration = Duration::from_millis(200);

const MANAGED_BY: &str = "app.kubernetes.io/managed-by";
const TIDEGATE: &str = "tidegate";
const OURS: &str = "tidegate.io/";

/// What a watch tells.
#[derive(Debug)]
pub(super) enum News {
    /// All there are.
    Listed(Vec<Lease>),
    /// One as it is now.
    Seen(Lease),
    /// One was deleted: its name, and the version of that.
    Gone(String, String),
}

/// The Leases of a namespace.
#[derive(Clone, Debug)]
pub(super) struct Leases {
    api: Api<Object>,
    /// Why the last one was refused.
    said: Arc<Mutex<String>>,
}

impl Leases {
    pub(super) fn new(client: Client, namespace: &str) -> Self {
        Self { api: Api::namespaced(client, namespace), said: Arc::default() }
    }

    /// Does what the engine asks for.
    pub(super) async fn perform(&self, request: Request) -> Answer {
        tokio::time::timeout(TIMEOUT, self.ask(request)).await.unwrap_or(Answer::Unknown)
    }

    /// What is refused again and again is said once.
    fn say(&self, reason: &str) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if *said != reason {
            tracing::warn!(reason, "a Lease is not written");
            reason.clone_into(&mut said);
        }
    }

    async fn ask(&self, request: Request) -> Answer {
        let params = PostParams::default();
        let done = match &request {
            Request::Create(lease) => self.api.create(&params, &object(lease)).await,
            Request::Update(lease) => self.api.replace(&lease.name, &params, &object(lease)).await,
            Request::Read(name) => {
                return match self.api.get_opt(name).await {
                    Ok(Some(object)) => Answer::Read(lease(object)),
                    Ok(None) => Answer::Gone,
                    Err(_) => Answer::Unknown,
                };
            }
        };
        match done {
            Ok(written) => Answer::Written(written.metadata.resource_version.unwrap_or_default()),
            Err(kube::Error::Api(status)) => match status.code {
                404 | 409 => Answer::Conflict,
                400..500 => {
                    self.say(&status.message);
                    Answer::Failed
                }
                _ => Answer::Unknown,
            },
            Err(error) => {
                tracing::debug!(%error, "a Lease may not be written");
                Answer::Unknown
            }
        }
    }

    /// Tells all, then what changes, for as long as somebody listens.
    pub(super) async fn follow(self, news: mpsc::Sender<News>) {
        while !news.is_closed() {
            if let Err(error) = self.watch(&news).await {
                tracing::debug!(error, "Leases are not watched");
            }
            tokio::time::sleep(REST).await;
        }
    }

    async fn watch(&self, news: &mpsc::Sender<News>) -> Result<(), String> {
        let label = format!("{MANAGED_BY}={TIDEGATE}");
        let params = ListParams::default().labels(&label);
        let listing = tokio::time::timeout(LIST, self.api.list(&params)).await;
        let list = listing.map_err(|_| "no answer")?.map_err(|error| error.to_string())?;
        let version = list.metadata.resource_version.clone().unwrap_or_default();
        let leases = list.items.into_iter().map(lease).collect();
        let ended = |_| "nobody listens".to_owned();
        news.send(News::Listed(leases)).await.map_err(ended)?;
        let params = WatchParams::default().labels(&label);
        let opening = tokio::time::timeout(LIST, self.api.watch(&params, &version)).await;
        let stream = opening.map_err(|_| "no answer")?.map_err(|error| error.to_string())?;
        self.read(stream, news).await
    }

    async fn read(
        &self,
        stream: impl Stream<Item = kube::Result<WatchEvent<Object>>>,
        news: &mpsc::Sender<News>,
    ) -> Result<(), String> {
        let mut stream = std::pin::pin!(stream);
        loop {
            let next = tokio::time::timeout(SILENCE, stream.next()).await;
            let Some(event) = next.map_err(|_| "nothing comes any more")? else { return Ok(()) };
            let told = match event.map_err(|error| error.to_string())? {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    News::Seen(lease(object))
                }
                WatchEvent::Deleted(object) => {
                    let lease = lease(object);
                    News::Gone(lease.name, lease.version)
                }
                WatchEvent::Bookmark(_) => continue,
                WatchEvent::Error(error) => return Err(error.message),
            };
            news.send(told).await.map_err(|_| "nobody listens".to_owned())?;
        }
    }
}

fn lease(object: Object) -> Lease {
    let ObjectMeta { name, resource_version, annotations, .. } = object.metadata;
    let spec = object.spec.unwrap_or_default();
    let unsigned = |number: Option<i32>| number.and_then(|number| u32::try_from(number).ok());
    Lease {
        name: name.unwrap_or_default(),
        version: resource_version.unwrap_or_default(),
        holder: spec.holder_identity.unwrap_or_default(),
        transitions: unsigned(spec.lease_transitions).unwrap_or(0),
        duration_seconds: unsigned(spec.lease_duration_seconds),
        annotations: annotations
            .unwrap_or_default()
            .into_iter()
            .filter(|(key, _)| key.starts_with(OURS))
            .collect(),
    }
}

fn object(lease: &Lease) -> Object {
    let signed = |number: u32| i32::try_from(number).unwrap_or(i32::MAX);
    let version = Some(lease.version.clone()).filter(|version| !version.is_empty());
    Object {
        metadata: ObjectMeta {
            name: Some(lease.name.clone()),
            resource_version: version,
            labels: Some(BTreeMap::from([(MANAGED_BY.to_owned(), TIDEGATE.to_owned())])),
            annotations: Some(lease.annotations.clone()),
            ..ObjectMeta::default()
        },
        spec: Some(LeaseSpec {
            holder_identity: Some(lease.holder.clone()).filter(|holder| !holder.is_empty()),
            lease_duration_seconds: lease.duration_seconds.map(signed),
            lease_transitions: Some(signed(lease.transitions)),
            // For people: nobody here reads it.
            renew_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        }),
    }
}
