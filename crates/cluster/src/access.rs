//! What the API lets this program do, asked of it beforehand (SelfSubjectAccessReview).

use std::fmt;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt, stream};
use http::Request;
use kube::Client;
use model::{Diagnostic, ObjectRef};
use serde::Deserialize;
use serde_json::json;

use crate::connect;
use crate::kind::{Kind, Owner};
use crate::watch::Selected;

mod needs;

pub use needs::{of_agent, of_gateway};

const PATH: &str = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
/// The field selector of one object.
const NAME: &str = "metadata.name=";
/// How many questions are asked at once.
const AT_ONCE: usize = 8;
const ANSWER: Duration = Duration::from_secs(4);

/// One thing that has to be allowed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Need {
    /// `list`, `watch`, `patch`, …
    pub verb: &'static str,
    /// The group, empty for the core's.
    pub group: &'static str,
    /// The plural.
    pub resource: &'static str,
    /// `status`, for one.
    pub subresource: Option<&'static str>,
    /// None for all namespaces.
    pub namespace: Option<String>,
    /// None for all objects: a role may be for some by their names.
    pub name: Option<String>,
    /// What isn't done without it, such as "no Ingress is served".
    pub purpose: &'static str,
}

/// The API can't be asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("what is allowed can't be asked of the API: {0}")]
pub struct ReviewError(pub String);

/// Those of the needs that aren't allowed, in their order.
///
/// # Errors
/// If the API doesn't answer.
pub async fn missing(client: &Client, needs: &[Need]) -> Result<Vec<Need>, ReviewError> {
    let asked = stream::iter(needs.iter().cloned().map(|need| async move {
        let allowed = tokio::time::timeout(ANSWER, is_allowed(client, &need)).await;
        let allowed = allowed.map_err(|_| ReviewError("it doesn't answer".to_owned()))??;
        Ok((!allowed).then_some(need))
    }));
    let answers: Vec<Option<Need>> = asked.buffered(AT_ONCE).try_collect().await?;
    Ok(answers.into_iter().flatten().collect())
}

async fn is_allowed(client: &Client, need: &Need) -> Result<bool, ReviewError> {
    #[derive(Deserialize)]
    struct Review {
        status: Status,
    }
    #[derive(Deserialize)]
    struct Status {
        #[serde(default)]
        allowed: bool,
    }
    let mut attributes = json!({"verb": need.verb, "group": need.group, "resource": need.resource});
    if let Some(subresource) = need.subresource {
        attributes["subresource"] = subresource.into();
    }
    if let Some(namespace) = &need.namespace {
        attributes["namespace"] = namespace.as_str().into();
    }
    if let Some(name) = &need.name {
        attributes["name"] = name.as_str().into();
    }
    let body = json!({
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SelfSubjectAccessReview",
        "spec": {"resourceAttributes": attributes},
    });
    let request = Request::post(PATH)
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(body.to_string().into_bytes())
        .map_err(|error| ReviewError(error.to_string()))?;
    let review: Review =
        client.request(request).await.map_err(|error| ReviewError(connect::chain(&error)))?;
    Ok(review.status.allowed)
}

impl Need {
    /// To list or watch these objects, where they are asked for first.
    pub fn to_read(selected: &Selected, verb: &'static str) -> Self {
        let kind = selected.kind;
        let place = kind.place();
        // The API server takes a selector of one name for that name.
        let name = selected.fields.as_ref().and_then(|fields| fields.strip_prefix(NAME));
        let name = name.filter(|name| !name.contains(',')).map(str::to_owned);
        Self {
            verb,
            group: place.group,
            resource: place.resource,
            subresource: None,
            namespace: selected.namespace.clone(),
            name,
            purpose: purpose(kind),
        }
    }

    /// The rule to add to a Role or ClusterRole, in YAML.
    pub fn rule(&self) -> String {
        let resource = match self.subresource {
            Some(subresource) => format!("{}/{subresource}", self.resource),
            None => self.resource.to_owned(),
        };
        let Self { group, verb, .. } = self;
        let names = match &self.name {
            Some(name) => format!(" resourceNames: [\"{name}\"],"),
            None => String::new(),
        };
        format!(
            "{{apiGroups: [\"{group}\"], resources: [\"{resource}\"],{names} verbs: [\"{verb}\"]}}"
        )
    }

    /// Says that it isn't allowed, and what to do about it.
    pub fn finding(&self, owner: &ObjectRef) -> Diagnostic {
        let calicos =
            |kind: &Kind| kind.owner() == Owner::Calico && kind.place().resource == self.resource;
        let reason = format!("the API doesn't allow to {self}; {}", self.purpose);
        let mut finding = Diagnostic::error(owner.clone(), "source.kubernetes", reason);
        if Kind::ALL.iter().any(calicos) {
            // Nothing is lacking where there is no Calico.
            finding = Diagnostic::warning(owner.clone(), "source.kubernetes", finding.reason);
        }
        let role = match &self.namespace {
            Some(namespace) => format!("a Role of the namespace {namespace}"),
            None => "its ClusterRole".to_owned(),
        };
        finding.remedy(format!("add to {role}: {}", self.rule()))
    }
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.verb, self.resource)?;
        if let Some(subresource) = self.subresource {
            write!(f, "/{subresource}")?;
        }
        if !self.group.is_empty() {
            write!(f, ".{}", self.group)?;
        }
        if let Some(name) = &self.name {
            write!(f, " {name}")?;
        }
        match &self.namespace {
            Some(namespace) => write!(f, " in the namespace {namespace}"),
            None => Ok(()),
        }
    }
}

/// What isn't done while a kind can't be read.
pub(crate) fn purpose(kind: Kind) -> &'static str {
    match kind {
        Kind::Ingress | Kind::IngressClass => "no Ingress is served without",
        Kind::Service | Kind::EndpointSlice => "nothing has an endpoint without",
        Kind::Secret => "certificates and keys aren't known without",
        Kind::Namespace => "pools with a namespaceSelector give no addresses without",
        Kind::Node => "the overlay and VPN zones know no nodes without",
        Kind::AddressPool => "no VIP is given without",
        Kind::VpnConnection => "no VpnConnection is used without",
        Kind::EdgeGateway => "other edges aren't known without",
        Kind::IpamBlock => "where there is Calico, pods' networks aren't known without",
        Kind::GlobalNetworkPolicy | Kind::HostEndpoint | Kind::GlobalNetworkSet => {
            "where there is Calico, no policy is in force without"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_missing_is_named_with_the_rule_to_add() {
        let owner = ObjectRef::cluster("GatewayConfig", "gateway");
        let all = Selected::all;
        let need = Need::to_read(&all(Kind::EndpointSlice), "watch");
        assert_eq!(
            need.finding(&owner).to_string(),
            "error: GatewayConfig gateway: source.kubernetes: the API doesn't allow to watch \
             endpointslices.discovery.k8s.io; nothing has an endpoint without; add to its \
             ClusterRole: {apiGroups: [\"discovery.k8s.io\"], resources: [\"endpointslices\"], \
             verbs: [\"watch\"]}"
        );
        let need = Need {
            verb: "patch",
            subresource: Some("status"),
            namespace: Some("shop".to_owned()),
            ..Need::to_read(&all(Kind::Service), "patch")
        };
        let text = need.finding(&owner).to_string();
        assert!(text.contains("patch services/status in the namespace shop"), "{text}");
        assert!(text.contains("a Role of the namespace shop: {apiGroups: [\"\"]"), "{text}");
        let own = Selected { fields: Some("metadata.name=mine".to_owned()), ..all(Kind::Node) };
        let text = Need::to_read(&own, "list").finding(&owner).to_string();
        assert!(text.contains("list nodes mine") && text.contains("resourceNames: [\"mine\"]"));
    }
}
