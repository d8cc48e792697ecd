//! Edges whose Leases are in another namespace: neither knows what the other holds.

use std::fmt;

use ingest::crds::EdgeGateway;
use model::{Diagnostic, ObjectRef};

use crate::source::Delivery;

/// An edge that this one can't share anything with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elsewhere {
    /// Its name.
    pub edge: String,
    /// Where its Leases are.
    pub namespace: String,
    /// Where the own ones are.
    own: String,
}

impl fmt::Display for Elsewhere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { edge, namespace, own } = self;
        write!(
            f,
            "edge {edge} serves with its Leases in namespace {namespace}, and this one has its own in \
             {own}, so neither would know what the other holds: this one leads and holds nothing"
        )
    }
}

impl Elsewhere {
    /// The edge that an edge called `name` gives way to. One that has not `joined` yet gives way to
    /// all that serve, later only to older ones: of two that began at once one goes on.
    pub fn find(delivery: &Delivery, name: &str, namespace: &str, joined: bool) -> Option<Self> {
        let edges = &delivery.objects.edges;
        let age = |edge: &EdgeGateway| edge.metadata.creation_timestamp.as_ref().map(|at| at.0);
        let own = (edges.get(name).and_then(|own| age(own)), name);
        let found = edges.iter().find(|(other, edge)| {
            let is_older = (age(edge), other.as_str()) < own;
            *other != name && serves_outside(edge, namespace) && (!joined || is_older)
        });
        let (edge, object) = found?;
        let namespace_of = object.status.as_ref()?.lease_namespace.clone()?;
        Some(Self { edge: edge.clone(), namespace: namespace_of, own: namespace.to_owned() })
    }

    /// What there is to be done.
    pub fn diagnostic(&self) -> Diagnostic {
        let object = ObjectRef::cluster("GatewayConfig", "gateway");
        Diagnostic::error(object, "source.kubernetes.namespace", self.to_string())
            .value(self.own.clone())
            .remedy(format!(
                "write the same namespace for all edges, and grant them Leases there; if edge {0} is \
                 gone for good, kubectl delete edgegateway {0}",
                self.edge
            ))
    }
}

fn serves_outside(edge: &EdgeGateway, namespace: &str) -> bool {
    let Some(status) = &edge.status else { return false };
    let conditions = status.conditions.as_deref().unwrap_or_default();
    let ready = conditions.iter().any(|one| one.kind == "Ready" && one.status == "True");
    ready && status.lease_namespace.as_ref().is_some_and(|other| other != namespace)
}
