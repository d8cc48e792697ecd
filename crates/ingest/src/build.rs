//! From objects to the snapshot.

use std::collections::BTreeMap;

use model::snapshot::Snapshot;
use model::{Diagnostic, ObjectRef, Settings, Shared};

use crate::ObjectSet;
use crate::calico;
use crate::classes::Classes;
use crate::ingresses::{self, IngressMemo};
use crate::machines;
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
    /// How often everything was looked at, and not just what has changed.
    pub whole: u64,
    last: Option<Last>,
}

/// What was read last, and what came of it.
#[derive(Debug)]
struct Last {
    objects: ObjectSet,
    settings: Settings,
    snapshot: Snapshot,
    findings: Vec<Diagnostic>,
}

impl Last {
    /// What comes of objects that differ in their EndpointSlices at most, and these only in a way
    /// that changes nothing but endpoints.
    fn with_other_slices(
        mut self,
        objects: &ObjectSet,
        settings: &Settings,
        services: &mut ServiceMemo,
        tls: &mut TlsMemo,
    ) -> Option<Self> {
        if *settings != self.settings || !objects.is_but_for_slices(&self.objects) {
            return None;
        }
        let mut certificates = Certificates::new(objects, tls);
        let slices = (objects, &self.objects.endpoint_slices);
        let of = &mut self.snapshot.services;
        let l4 = settings.l4.as_ref();
        let changed = services.with_other_slices(slices, of, l4, &mut certificates)?;
        if !changed.is_empty() {
            of.extend(changed);
        }
        self.objects = objects.clone();
        Some(self)
    }
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
/// does a VpnConnection. What is as it was before stays the same in memory.
/// The same objects, settings and memo always give the same outcome.
pub fn ingest_with(
    objects: &ObjectSet,
    settings: &Settings,
    memo: &mut Memo,
) -> (Snapshot, Vec<Diagnostic>) {
    let last = memo.last.take();
    let before = last.as_ref().map(|last| last.snapshot.clone());
    let (services, tls) = (&mut memo.services, &mut memo.tls);
    let again = last.and_then(|last| last.with_other_slices(objects, settings, services, tls));
    let last = again.unwrap_or_else(|| {
        memo.whole += 1;
        let (mut snapshot, findings) = whole(objects, settings, memo);
        if let Some(before) = &before {
            stay(&mut snapshot, before);
        }
        Last { objects: objects.clone(), settings: settings.clone(), snapshot, findings }
    });
    let outcome = (last.snapshot.clone(), last.findings.clone());
    memo.last = Some(last);
    outcome
}

/// Lets what is as it was before be the same in memory, too.
fn stay(snapshot: &mut Snapshot, before: &Snapshot) {
    fn same_or<T: PartialEq>(now: &mut Shared<T>, before: &Shared<T>) {
        if now == before {
            *now = before.clone();
        }
    }
    let Snapshot {
        ingresses,
        services,
        pools,
        policies,
        certificates,
        vpn,
        vpn_refused,
        zones,
        machines,
        nodes,
        edges,
        connections,
    } = snapshot;
    same_or(ingresses, &before.ingresses);
    same_or(services, &before.services);
    same_or(pools, &before.pools);
    same_or(policies, &before.policies);
    same_or(certificates, &before.certificates);
    same_or(vpn, &before.vpn);
    same_or(vpn_refused, &before.vpn_refused);
    same_or(zones, &before.zones);
    same_or(machines, &before.machines);
    same_or(nodes, &before.nodes);
    same_or(edges, &before.edges);
    same_or(connections, &before.connections);
}

fn whole(objects: &ObjectSet, settings: &Settings, memo: &mut Memo) -> (Snapshot, Vec<Diagnostic>) {
    let albs = &settings.albs;
    let mut report = Report::new(&objects.origins);
    let classes = Classes::new(objects, albs, &mut report);
    let mut certificates = Certificates::new(objects, &mut memo.tls);
    let (services, bare) =
        services::services(objects, settings, &mut memo.services, &mut certificates, &mut report);
    let mut snapshot = Snapshot {
        services: services.into(),
        pools: pools::pools(objects, settings, &mut report).into(),
        ..Snapshot::default()
    };
    let ingresses = ingresses::ingresses(
        objects,
        &classes,
        &mut memo.ingresses,
        &mut certificates,
        &mut report,
    );
    snapshot.ingresses = ingresses.into();
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
    snapshot.policies = calico::policies(objects, settings, &mut report).into();
    snapshot.certificates = certificates.finish().into();
    snapshot.machines = machines::machines(objects).into();
    let pods = match &settings.overlay {
        Some(overlay) => overlay::by_node(objects, overlay.pod_cidrs, &mut report),
        None => overlay::all_written(objects),
    };
    if let Some(overlay) = &settings.overlay {
        let mut keys = BTreeMap::new();
        snapshot.edges = overlay::edges(objects, &mut keys, &mut report).into();
        snapshot.nodes = overlay::nodes(objects, overlay, &pods, &mut keys, &mut report).into();
        snapshot.connections = overlay::connections(objects, overlay, &snapshot.edges).into();
    }
    if let Some(vpn) = &settings.vpn {
        let found = vpn::connections(objects, (settings, vpn), &mut memo.vpn, &mut report);
        (snapshot.vpn, snapshot.vpn_refused) = (found.0.into(), found.1.into());
        snapshot.zones = vpn::zones(objects, &pods).into();
    } else {
        vpn::not_enabled(objects, &mut report);
    }
    (snapshot, report.finish())
}
