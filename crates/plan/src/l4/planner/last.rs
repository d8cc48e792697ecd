//! Planning again and again.
//!
//! Nearly every change is one of endpoints: a pod comes or goes. It moves no address and no
//! frontend, so the last plan holds but for the Services whose endpoints these are.

use std::net::IpAddr;
use std::sync::Arc;

use ipnet::IpNet;
use model::snapshot::vpn::VpnConnection;
use model::snapshot::{AddressPool, Machine, Service, TlsPair};
use model::{Diagnostic, HostAddress, ObjectKey, Settings, SharedMap, Snapshot};

use super::super::{Allocations, Giving, L4Plan};
use super::services::with_endpoints;

/// Plans, and remembers the last plan: only what has changed since is planned anew. What comes of
/// it is what [`super::plan_giving`] says.
#[derive(Debug, Default)]
pub struct Planner {
    last: Option<Last>,
}

/// A plan, and what it was made of.
#[derive(Debug)]
struct Last {
    settings: Settings,
    host: Vec<HostAddress>,
    giving: Giving,
    previous: Arc<Allocations>,
    pools: SharedMap<String, AddressPool>,
    machines: SharedMap<IpAddr, Machine>,
    vpn: SharedMap<ObjectKey, VpnConnection>,
    vpn_refused: SharedMap<ObjectKey, Vec<IpNet>>,
    /// The certificates that Services name.
    certificates: Vec<(ObjectKey, Option<TlsPair>)>,
    /// Every Service, in the snapshot's order.
    services: Vec<Known>,
    plan: Arc<L4Plan>,
    diagnostics: Vec<Diagnostic>,
}

#[derive(Debug)]
struct Known {
    key: ObjectKey,
    service: Arc<Service>,
    /// Where it stands in the plan, if it does.
    at: Option<usize>,
}

impl Planner {
    /// As [`super::plan_giving`]. What stays the same is the same in memory: the whole plan if
    /// nothing has changed, else its Services, and the allocations if they are `previous`.
    pub fn plan(
        &mut self,
        snapshot: &Snapshot,
        settings: &Settings,
        host: &[HostAddress],
        (previous, giving): (&Arc<Allocations>, Giving),
    ) -> (Arc<L4Plan>, &[Diagnostic]) {
        let quick = self.last.take().and_then(|mut last| {
            let fits = last.fits(snapshot, settings, host, (previous, giving));
            (fits && last.follow(snapshot)).then_some(last)
        });
        let last = quick.unwrap_or_else(|| Last::new(snapshot, settings, host, (previous, giving)));
        let last = self.last.insert(last);
        last.previous = Arc::clone(previous);
        (Arc::clone(&last.plan), &last.diagnostics)
    }
}

impl Last {
    /// All of it anew.
    fn new(
        snapshot: &Snapshot,
        settings: &Settings,
        host: &[HostAddress],
        (previous, giving): (&Arc<Allocations>, Giving),
    ) -> Self {
        let (mut plan, diagnostics) =
            super::plan_giving(snapshot, settings, host, previous, giving);
        if plan.allocations == *previous {
            plan.allocations = Arc::clone(previous);
        }
        let exposures = snapshot.services.values().filter_map(|one| one.exposure.as_deref());
        let secrets = exposures.filter_map(|exposure| exposure.stream.tls_secret.as_ref());
        let certificate =
            |secret: &ObjectKey| (secret.clone(), snapshot.certificates.get(secret).cloned());
        let place = |key: &ObjectKey| plan.services.binary_search_by(|one| one.service.cmp(key));
        let known = |(key, service): (&ObjectKey, &Arc<Service>)| Known {
            key: key.clone(),
            service: Arc::clone(service),
            at: service.exposure.as_ref().and_then(|_| place(key).ok()),
        };
        Self {
            settings: settings.clone(),
            host: host.to_vec(),
            giving,
            previous: Arc::clone(previous),
            pools: snapshot.pools.clone(),
            machines: snapshot.machines.clone(),
            vpn: snapshot.vpn.clone(),
            vpn_refused: snapshot.vpn_refused.clone(),
            certificates: secrets.map(certificate).collect(),
            services: snapshot.services.iter().map(known).collect(),
            plan: Arc::new(plan),
            diagnostics,
        }
    }

    /// Whether all but the Services is as it was.
    fn fits(
        &self,
        snapshot: &Snapshot,
        settings: &Settings,
        host: &[HostAddress],
        (previous, giving): (&Arc<Allocations>, Giving),
    ) -> bool {
        // Planning with what the last plan has come to gives that plan.
        let own = || giving == Giving::New && Arc::ptr_eq(previous, &self.plan.allocations);
        let same_certificate = |(secret, pair): &(ObjectKey, Option<TlsPair>)| {
            snapshot.certificates.get(secret) == pair.as_ref()
        };
        self.giving == giving
            && (own() || self.previous == *previous)
            && self.host == host
            && self.pools == snapshot.pools
            && self.machines == snapshot.machines
            && self.vpn == snapshot.vpn
            && self.vpn_refused == snapshot.vpn_refused
            && self.certificates.iter().all(same_certificate)
            && self.settings == *settings
    }

    /// Follows the Services. False where more has changed than endpoints: then this is of no use
    /// any more.
    fn follow(&mut self, snapshot: &Snapshot) -> bool {
        if self.services.len() != snapshot.services.len() {
            return false;
        }
        let mut changed = Vec::new();
        for (known, (key, service)) in self.services.iter_mut().zip(snapshot.services.iter()) {
            if known.key != *key {
                return false;
            }
            if Arc::ptr_eq(&known.service, service) {
                continue;
            }
            if !is_same_but_for_endpoints(&known.service, service) {
                return false;
            }
            known.service = Arc::clone(service);
            if let Some(planned) = known.at.and_then(|at| Some((at, self.plan.services.get(at)?))) {
                let (at, before) = planned;
                let plan = with_endpoints(before, service);
                if plan != **before {
                    changed.push((at, plan));
                }
            }
        }
        if changed.is_empty() {
            return true;
        }
        let mut plan = L4Plan::clone(&self.plan);
        for (at, service) in changed {
            if let Some(place) = plan.services.get_mut(at) {
                *place = Arc::new(service);
            }
        }
        self.plan = Arc::new(plan);
        true
    }
}

/// Whether nothing of a Service has changed that decides on addresses, frontends or diagnostics.
fn is_same_but_for_endpoints(was: &Service, is: &Service) -> bool {
    let outside = |service: &Service| service.exposure.is_some() || service.broken.is_some();
    if !outside(was) && !outside(is) {
        return true;
    }
    let ports = || {
        was.ports.iter().zip(&is.ports).all(|(was, is)| {
            (&was.name, was.protocol, was.number, was.node_port)
                == (&is.name, is.protocol, is.number, is.node_port)
        })
    };
    was.broken == is.broken
        && was.ports.len() == is.ports.len()
        && was.exposure == is.exposure
        && ports()
}
