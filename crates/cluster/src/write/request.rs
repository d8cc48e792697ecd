//! Requests to the API server.

use std::time::Duration;

use http::{Method, Request};
use kube::Client;
use serde_json::Value;

use super::{Outcome, Target};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a body is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Body {
    /// A whole object.
    Json,
    /// A JSON merge patch (RFC 7396).
    Merge,
    /// A server-side apply.
    Apply,
}

/// One request.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub(super) method: Method,
    /// From the root, with its query.
    pub(super) path: String,
    /// The verb and resource that RBAC has to allow.
    pub(super) verb: &'static str,
    pub(super) resource: String,
    pub(super) body: Option<(Body, Value)>,
}

impl Ask {
    pub(super) fn new(method: Method, path: String, verb: &'static str, resource: &str) -> Self {
        Self { method, path, verb, resource: resource.to_owned(), body: None }
    }

    pub(super) fn body(mut self, kind: Body, body: Value) -> Self {
        self.body = Some((kind, body));
        self
    }

    /// Sends it.
    pub(super) async fn send(self, client: &Client) -> Result<Value, Outcome> {
        let Self { method, path, verb, resource, body } = self;
        let mut request = Request::builder().method(method).uri(path);
        let bytes = match body {
            Some((kind, body)) => {
                let kind = match kind {
                    Body::Json => "application/json",
                    Body::Merge => "application/merge-patch+json",
                    Body::Apply => "application/apply-patch+yaml",
                };
                request = request.header(http::header::CONTENT_TYPE, kind);
                serde_json::to_vec(&body).map_err(|error| Outcome::Refused(error.to_string()))?
            }
            None => Vec::new(),
        };
        let request = request.body(bytes).map_err(|error| Outcome::Refused(error.to_string()))?;
        match tokio::time::timeout(PATIENCE, client.request::<Value>(request)).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(error)) => {
                tracing::debug!(%error, verb, resource, "request refused");
                Err(Outcome::of(&error, verb, &resource))
            }
            Err(_) => Err(Outcome::Busy(None)),
        }
    }
}

impl Target {
    /// Where it is, from the root.
    pub(super) fn path(&self) -> String {
        let version = self.kind.api_version();
        let root = if version.contains('/') { "/apis" } else { "/api" };
        let plural = self.kind.plural();
        match &self.namespace {
            Some(namespace) => {
                format!("{root}/{version}/namespaces/{namespace}/{plural}/{}", self.name)
            }
            None => format!("{root}/{version}/{plural}/{}", self.name),
        }
    }
}
