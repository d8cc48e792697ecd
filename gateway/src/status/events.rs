//! From findings to Events and to the condition Accepted.

use std::collections::BTreeMap;

use cluster::write::events::Regarding;
use cluster::write::{Author, Event, Written};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{Diagnostic, ObjectKey, ObjectRef, Severity};

use super::View;
use super::conditions::Conditions;

/// A condition's message has at most so many findings.
const IN_A_MESSAGE: usize = 5;

/// What is wrong, by object.
pub(super) struct Findings<'a>(BTreeMap<&'a ObjectRef, Vec<&'a Diagnostic>>);

impl<'a> Findings<'a> {
    pub(super) fn new(all: &'a [Diagnostic]) -> Self {
        let mut by_object: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for finding in all {
            by_object.entry(&finding.object).or_default().push(finding);
        }
        Self(by_object)
    }

    /// Adds the condition Accepted; answers whether something was refused.
    pub(super) fn accepted(&self, object: &ObjectRef, conditions: &mut Conditions<'_>) -> bool {
        self.accepted_as("Accepted", object, conditions)
    }

    /// The same by another name.
    pub(super) fn accepted_as(
        &self,
        name: &str,
        object: &ObjectRef,
        conditions: &mut Conditions<'_>,
    ) -> bool {
        let all = self.0.get(object).map_or(&[][..], Vec::as_slice);
        let errors: Vec<_> =
            all.iter().filter(|finding| finding.severity == Severity::Error).collect();
        if errors.is_empty() {
            conditions.add(name, Some(true), "Accepted", "");
            return false;
        }
        let mut message: Vec<String> =
            errors.iter().take(IN_A_MESSAGE).map(|finding| note(finding)).collect();
        if errors.len() > IN_A_MESSAGE {
            message.push(format!("and {} more", errors.len() - IN_A_MESSAGE));
        }
        conditions.add(name, Some(false), "Refused", message.join(". "));
        true
    }
}

impl View<'_> {
    /// Everything that is wrong, as Events on the objects concerned.
    pub(super) fn tell(&self, written: &mut Written) {
        let shared = self.facts.planned.iter().map(|finding| (finding, Author::Leader));
        let own = self.facts.own.iter().map(|finding| (finding, Author::Own));
        for (finding, author) in shared.chain(own) {
            if self.metadata(&finding.object).is_some_and(|one| one.deletion_timestamp.is_some())
                || (finding.severity == Severity::Warning && self.is_anothers(&finding.object))
            {
                continue;
            }
            written.events.push(Event {
                object: self.regarding(&finding.object),
                author,
                warning: true,
                reason: reason(finding).to_owned(),
                action: "Planning".to_owned(),
                note: note(finding),
            });
        }
    }

    /// Whether a Service's addresses are another controller's affair. What is refused of its
    /// NodePorts is told all the same.
    fn is_anothers(&self, object: &ObjectRef) -> bool {
        let key = ObjectKey::new(object.namespace.clone().unwrap_or_default(), &object.name);
        let services = &self.facts.delivery.objects.services;
        let spec = (object.kind == "Service").then(|| services.get(&key)?.spec.as_ref()).flatten();
        let class = spec.and_then(|spec| spec.load_balancer_class.as_deref());
        let ours = self.context.settings.l4.as_ref().map(|l4| l4.load_balancer_class.as_str());
        class.is_some_and(|class| Some(class) != ours)
    }

    /// An object as Events name it. What stands in no cluster is the edge's own affair.
    pub(super) fn regarding(&self, object: &ObjectRef) -> Regarding {
        let Some(api_version) = api_version(&object.kind) else {
            let edge = ObjectRef::cluster("EdgeGateway", &self.context.name);
            return self.regarding(&edge);
        };
        Regarding {
            api_version: api_version.to_owned(),
            kind: object.kind.clone(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            uid: self.metadata(object).and_then(|metadata| metadata.uid.clone()),
        }
    }

    fn metadata(&self, object: &ObjectRef) -> Option<&ObjectMeta> {
        let objects = &self.facts.delivery.objects;
        let name = &object.name;
        let key = || ObjectKey::new(object.namespace.clone().unwrap_or_default(), name);
        match object.kind.as_str() {
            "Ingress" => objects.ingresses.get(&key()).map(|one| &one.metadata),
            "IngressClass" => objects.ingress_classes.get(name).map(|one| &one.metadata),
            "Service" => objects.services.get(&key()).map(|one| &one.metadata),
            "EndpointSlice" => objects.endpoint_slices.get(&key()).map(|one| &one.metadata),
            "Secret" => objects.secrets.get(&key()).map(|one| &one.metadata),
            "Namespace" => objects.namespaces.get(name).map(|one| &one.metadata),
            "Node" => objects.nodes.get(name).map(|one| &one.metadata),
            "AddressPool" => objects.pools.get(name).map(|one| &one.metadata),
            "VpnConnection" => objects.vpn.get(&key()).map(|one| &one.metadata),
            "EdgeGateway" => objects.edges.get(name).map(|one| &one.metadata),
            "IPAMBlock" => objects.ipam_blocks.get(name).map(|one| &one.metadata),
            _ => None,
        }
    }
}

fn api_version(kind: &str) -> Option<&'static str> {
    Some(match kind {
        "Service" | "Secret" | "Namespace" | "Node" | "ConfigMap" => "v1",
        "EndpointSlice" => "discovery.k8s.io/v1",
        "Ingress" | "IngressClass" => "networking.k8s.io/v1",
        "AddressPool" | "VpnConnection" | "EdgeGateway" => ingest::crds::API_VERSION,
        "GlobalNetworkPolicy" | "HostEndpoint" | "GlobalNetworkSet" | "IPAMBlock" => {
            "crd.projectcalico.org/v1"
        }
        _ => return None,
    })
}

/// What an Event says, in one word.
fn reason(finding: &Diagnostic) -> &'static str {
    let (kind, field) = (finding.object.kind.as_str(), finding.field.as_str());
    match (kind, finding.severity) {
        ("Service", _) if field == "spec.type" => "AddressPending",
        ("Service", Severity::Warning) if field == "status.loadBalancer" => "AddressKept",
        ("GatewayConfig", _) if field == "source.kubernetes" => "NotAllowed",
        ("GatewayConfig", _) => "Configuration",
        (_, Severity::Error) if field.starts_with("metadata.annotations") => "AnnotationRefused",
        (_, Severity::Warning) if field.starts_with("metadata.annotations") => {
            "AnnotationNotHonoured"
        }
        (_, Severity::Error) => "Refused",
        (_, Severity::Warning) => "NotHonoured",
    }
}

/// What it says for people: field, value, why, and what to do.
fn note(finding: &Diagnostic) -> String {
    let mut text = String::new();
    // A configuration is no object that the Event stands at.
    if finding.object.kind == "GatewayConfig" {
        text = format!("{}: ", finding.object);
    }
    if !finding.field.is_empty() {
        text.push_str(&finding.field);
        if let Some(value) = &finding.value {
            text.push_str(&format!(" {value:?}"));
        }
        text.push_str(": ");
    }
    text.push_str(&finding.reason);
    if !finding.remedy.is_empty() {
        text.push_str("; ");
        text.push_str(&finding.remedy);
    }
    text
}
