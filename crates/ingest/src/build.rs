//! From objects to the snapshot.

use std::collections::BTreeMap;

use model::snapshot::Snapshot;
use model::{Diagnostic, ObjectRef, Settings};

use crate::ObjectSet;
use crate::calico;
use crate::classes::Classes;
use crate::ingresses::{self, IngressMemo};
use crate::overlay;
use crate::pools;
use crate::report::Report;
use crate::secrets::{Certificates, Lookup, TlsMemo};
use crate::services::{self, ServiceMemo};
use crate::vpn::{self, VpnMemo};

/// What carries over from one snapshot to the next.
#[derive(Debug, Default)]
pub struct Memo {
    /// Secrets that haven't changed need not be checked again.
    pub tls: TlsMemo,
    /// VpnConnections as they were last accepted.
    pub vpn: VpnMemo,
    /// Services and EndpointSlices that are the same in memory.
    pub services: ServiceMemo,
    /// Ingresses that are the same in memory.
    pub ingresses: IngressMemo,
}

/// Parses all objects that the planes need. Pure: the same objects and settings always give the
/// same snapshot and diagnostics.
///
/// What can't be parsed is left out or marked, and named by a diagnostic; everything else is in
/// the snapshot. Ingresses of another controller's class are left alone without a word.
pub fn ingest(objects: &ObjectSet, settings: &Settings) -> (Snapshot, Vec<Diagnostic>) {
    ingest_with(objects, settings, &mut Memo::default())
}

/// The same, for a caller that ingests again and again: Secrets that haven't changed since the
/// last call are not checked again, and one that is broken now keeps its last good pair in use; so
/// does a VpnConnection.
/// The same objects, settings and memo always give the same outcome.
pub fn ingest_with(
    objects: &ObjectSet,
    settings: &Settings,
    memo: &mut Memo,
) -> (Snapshot, Vec<Diagnostic>) {
    let albs = &settings.albs;
    let mut report = Report::new(&objects.origins);
    let classes = Classes::new(objects, albs, &mut report);
    let mut certificates = Certificates::new(objects, &mut memo.tls);
    let (services, bare) =
        services::services(objects, settings, &mut memo.services, &mut certificates, &mut report);
    let mut snapshot = Snapshot {
        services,
        pools: pools::pools(objects, settings, &mut report),
        ..Snapshot::default()
    };
    snapshot.ingresses = ingresses::ingresses(
        objects,
        &classes,
        &mut memo.ingresses,
        &mut certificates,
        &mut report,
    );
    services::without_slices(&bare, albs, &snapshot, &mut report);
    for alb in albs {
        let Some(secret) = &alb.default_certificate else { continue };
        if certificates.look_up(secret, &mut report) == Lookup::Missing {
            report.push(
                Diagnostic::error(
                    ObjectRef::cluster("GatewayConfig", "gateway"),
                    format!("alb.{}.defaultCertificate", alb.kind),
                    "there is no such Secret that could be read; a self-made certificate is used \
                     instead",
                )
                .value(secret.to_string())
                .remedy(
                    "mend it if there is a finding about it, or create it, of type \
                     kubernetes.io/tls",
                ),
            );
        }
    }
    snapshot.policies = calico::policies(objects, settings, &mut report);
    snapshot.certificates = certificates.finish();
    let pods = match &settings.overlay {
        Some(overlay) => overlay::by_node(objects, overlay.pod_cidrs, &mut report),
        None => overlay::all_written(objects),
    };
    if let Some(overlay) = &settings.overlay {
        let mut keys = BTreeMap::new();
        snapshot.edges = overlay::edges(objects, &mut keys, &mut report);
        snapshot.nodes = overlay::nodes(objects, overlay, &pods, &mut keys, &mut report);
        snapshot.connections = overlay::connections(objects, overlay, &snapshot.edges);
    }
    if let Some(vpn) = &settings.vpn {
        let found = vpn::connections(objects, (settings, vpn), &mut memo.vpn, &mut report);
        (snapshot.vpn, snapshot.vpn_refused) = found;
        snapshot.zones = vpn::zones(objects, &pods);
        snapshot.machines = vpn::machines(objects);
    } else {
        vpn::not_enabled(objects, &mut report);
    }
    (snapshot, report.finish())
}
