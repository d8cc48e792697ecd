//! Ingresses: the addresses of their ALB.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use cluster::write::{Author, Kind, MANAGER, Patch, StatusChange, Target, Written};
use ingest::classes::ingresses_of_albs;
use k8s_openapi::api::networking::v1::Ingress;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use model::{AlbKind, ObjectKey};
use serde_json::json;

use super::View;

impl View<'_> {
    pub(super) fn ingresses(&self, written: &mut Written) {
        let objects = &self.facts.delivery.objects;
        let albs = &self.context.settings.albs;
        let ours = ingresses_of_albs(objects, albs);
        let addresses: BTreeMap<AlbKind, Vec<IpAddr>> =
            albs.iter().map(|alb| (alb.kind, self.alb(alb.kind))).collect();
        let all: BTreeSet<IpAddr> = addresses.values().flatten().copied().collect();
        for (key, object) in &objects.ingresses {
            if object.metadata.deletion_timestamp.is_some() {
                continue;
            }
            let present = present(object);
            let status = match ours.get(key).and_then(|kind| addresses.get(kind)) {
                Some(wanted) if is_same(&present, wanted) => continue,
                Some(wanted) => {
                    let ingress: Vec<_> = wanted.iter().map(|ip| json!({"ip": ip})).collect();
                    let fields = json!({"loadBalancer": {"ingress": ingress}});
                    StatusChange::Apply { fields, force: true }
                }
                // Another controller's: what stands there is its, unless it is what we have left.
                None if is_left(&object.metadata, &present, &all) => StatusChange::TakeBack,
                None => continue,
            };
            written.patches.push(patch(key, &object.metadata, Kind::Ingress, status));
        }
    }
}

fn present(object: &Ingress) -> Vec<&str> {
    let status = object.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let list = status.and_then(|status| status.ingress.as_deref()).unwrap_or_default();
    // A host name stands for an address that nobody has.
    list.iter().map(|one| one.ip.as_deref().unwrap_or_default()).collect()
}

fn is_same(present: &[&str], wanted: &[IpAddr]) -> bool {
    present.len() == wanted.len()
        && present.iter().zip(wanted).all(|(one, ip)| one.parse() == Ok(*ip))
}

/// Whether a status may be one that we have written. Whether it is, is found out when it is taken
/// back.
fn is_left(metadata: &ObjectMeta, present: &[&str], ours: &BTreeSet<IpAddr>) -> bool {
    let is_ours = |text: &&str| text.parse().is_ok_and(|ip: IpAddr| ours.contains(&ip));
    !present.is_empty() && (has_applied(metadata) || present.iter().any(is_ours))
}

/// Whether the field managers, where they are known, name us for the status.
pub(super) fn has_applied(metadata: &ObjectMeta) -> bool {
    let entries = metadata.managed_fields.as_deref().unwrap_or_default();
    entries.iter().any(|entry| {
        entry.manager.as_deref() == Some(MANAGER)
            && entry.subresource.as_deref() == Some("status")
            && entry.operation.as_deref() == Some("Apply")
    })
}

/// A change of an object of all edges'.
pub(super) fn patch(
    key: &ObjectKey,
    metadata: &ObjectMeta,
    kind: Kind,
    status: StatusChange,
) -> Patch {
    Patch {
        target: Target { kind, namespace: Some(key.namespace.clone()), name: key.name.clone() },
        uid: metadata.uid.clone(),
        author: Author::Leader,
        status,
        finalizer: None,
    }
}
