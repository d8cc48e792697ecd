//! From the snapshot to the L4 plan.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::snapshot::Exposure;
use model::{AlbKind, Diagnostic, HostAddress, L4Settings, Settings, Snapshot};

use super::{Allocations, Asked, Giving, L4Plan, Path, PoolUse, Vip, VpnAddress};

mod allocate;
mod frontends;
mod last;
mod pools;
mod services;
mod sharing;
mod span;
mod subject;

use allocate::Holdings;
pub(super) use allocate::connection_name;
use frontends::Frontends;
pub use last::Planner;
use pools::Pools;
use subject::Subject;

/// Plans the L4 plane; nothing where it isn't enabled. Pure: the same input always gives the same
/// plan.
///
/// `host` are the machine's own addresses, single ones (`/32`, `/128`) left aside: those are what
/// VIPs look like. `previous` is what the last plan had in [`L4Plan::allocations`], empty at the
/// first start.
///
/// A diagnostic tells of everything that is not in force as it is written; those that `ingest`
/// has made already are not repeated.
pub fn plan(
    snapshot: &Snapshot,
    settings: &Settings,
    host: &[HostAddress],
    previous: &Allocations,
) -> (L4Plan, Vec<Diagnostic>) {
    plan_giving(snapshot, settings, host, previous, Giving::New)
}

/// The same, for one of several edges: only the leading one gives out addresses that nobody has,
/// the others wait until they are in `previous`.
pub fn plan_giving(
    snapshot: &Snapshot,
    settings: &Settings,
    host: &[HostAddress],
    previous: &Allocations,
    giving: Giving,
) -> (L4Plan, Vec<Diagnostic>) {
    let Some(l4) = &settings.l4 else { return Default::default() };
    let mut diagnostics = Vec::new();
    let subjects = Subject::all(snapshot);
    let pools = Pools::new(snapshot, host, &mut diagnostics);
    let mut holdings =
        allocate::allocate(snapshot, &subjects, &pools, (previous, giving), &mut diagnostics);
    let albs = albs(&pools, settings, &holdings, &mut diagnostics);
    let services =
        services((snapshot, l4, host), &subjects, &pools, &mut holdings, &mut diagnostics);
    let vpn = holdings.connections(snapshot, settings.vpn.as_ref());
    let vips = vips(&pools, &holdings, &albs, &vpn);
    let plan = L4Plan {
        allocations: Arc::new(allocations(
            &subjects,
            holdings.of,
            holdings.absent,
            &vips,
            previous,
        )),
        vips: Arc::new(vips),
        services,
        albs,
        vpn,
        pools: pools
            .list
            .iter()
            .zip(holdings.used)
            .map(|(pool, used)| (pool.name.to_owned(), PoolUse { capacity: pool.capacity, used }))
            .collect(),
    };
    diagnostics.sort();
    diagnostics.dedup();
    (plan, diagnostics)
}

/// The addresses out of pools that the ALBs get: those that are set apart for them, unless a
/// Service had one before that was done.
fn albs(
    pools: &Pools<'_>,
    settings: &Settings,
    holdings: &Holdings,
    diagnostics: &mut Vec<Diagnostic>,
) -> BTreeMap<AlbKind, Vec<IpAddr>> {
    let mut albs: BTreeMap<AlbKind, Vec<IpAddr>> = BTreeMap::new();
    for (at, pool) in pools.list.iter().enumerate() {
        let kind = AlbKind::from(pool.object.visibility);
        let enabled = settings.albs.iter().any(|alb| alb.kind == kind);
        for &address in &pool.object.alb {
            let mut refuse = |reason: &str, remedy: &str| {
                let finding = pool.error("spec.alb", reason.to_owned());
                diagnostics.push(finding.value(address.to_string()).remedy(remedy));
            };
            if pools.of(address) != Some(at) {
                refuse("it is none of the pool's addresses", "write one of spec.addresses");
            } else if holdings.holders.contains_key(&address)
                || holdings.reserved.contains_key(&address)
            {
                refuse(
                    "a Service had it before, and keeps it for as long as it exists",
                    "write another address of the pool, or make the Service anew",
                );
            } else if enabled {
                albs.entry(kind).or_default().push(address);
            } else {
                diagnostics.push(
                    pool.warning("spec.alb", format!("the {kind} ALB is not enabled"))
                        .value(address.to_string())
                        .remedy(format!("set alb.{kind}.enabled in the configuration")),
                );
            }
        }
    }
    albs.values_mut().for_each(|addresses| addresses.sort_unstable());
    albs
}

fn services(
    (snapshot, settings, host): (&Snapshot, &L4Settings, &[HostAddress]),
    subjects: &[Subject<'_>],
    pools: &Pools<'_>,
    holdings: &mut Holdings,
    diagnostics: &mut Vec<Diagnostic>,
) -> Vec<Arc<super::ServicePlan>> {
    let mut frontends = Frontends::new(pools, (settings, host), subjects.len());
    let mut plans = Vec::with_capacity(subjects.len());
    for (index, subject) in subjects.iter().enumerate() {
        let Some(exposure) = subject.exposure.filter(|_| subject.service.broken.is_none()) else {
            continue;
        };
        let addresses = holdings.of.get(index).map_or(&[][..], Vec::as_slice);
        let pending = holdings.pending.get_mut(index).and_then(Option::take);
        frontends.check_externals(subject, exposure, addresses, diagnostics);
        let has = (addresses, pending);
        let context = (snapshot, settings);
        let plan = services::plan(subject, exposure, has, context, &mut frontends, diagnostics);
        if plan.ports.iter().any(|port| matches!(port.path, Path::UserSpace(_))) {
            frontends.check_sockets(subject, exposure, host, diagnostics);
        }
        plans.push(Arc::new(plan));
    }
    plans.sort_by(|one, other| one.service.cmp(&other.service));
    plans
}

/// Every address that is in use, sorted.
fn vips(
    pools: &Pools<'_>,
    holdings: &Holdings,
    albs: &BTreeMap<AlbKind, Vec<IpAddr>>,
    vpn: &[VpnAddress],
) -> Vec<Vip> {
    let others = albs.values().flatten().chain(vpn.iter().map(|one| &one.address));
    let addresses: BTreeSet<IpAddr> = holdings.holders.keys().chain(others).copied().collect();
    let vip = |address: IpAddr| match pools.of(address).and_then(|at| pools.get(at)) {
        Some(pool) => Some(pool.vip(address)),
        None => holdings.strays.get(&address).cloned(),
    };
    addresses.into_iter().filter_map(vip).collect()
}

fn allocations(
    subjects: &[Subject<'_>],
    of: Vec<Vec<IpAddr>>,
    absent: BTreeMap<String, Vec<IpAddr>>,
    vips: &[Vip],
    previous: &Allocations,
) -> Allocations {
    let mut allocations = Allocations { vips: vips.to_vec(), ..Allocations::default() };
    for (subject, addresses) in subjects.iter().zip(of) {
        if addresses.is_empty() {
            continue;
        }
        let asked = match subject.exposure {
            Some(exposure) if !subject.is_unclear() => Asked::of(exposure),
            _ => previous.asked.get(&subject.name).cloned().unwrap_or_default(),
        };
        if asked != Asked::default() {
            allocations.asked.insert(subject.name.clone(), asked);
        }
        allocations.services.insert(subject.name.clone(), addresses);
    }
    for (name, addresses) in absent {
        if let Some(asked) = previous.asked.get(&name) {
            allocations.asked.insert(name.clone(), asked.clone());
        }
        allocations.services.entry(name).or_default().extend(addresses);
    }
    allocations
}

impl Asked {
    fn of(exposure: &Exposure) -> Self {
        let (pool, sharing_key) = (exposure.pool.clone(), exposure.sharing_key.clone());
        Self { pool, visibility: exposure.visibility, sharing_key }
    }

    fn is_of(&self, exposure: &Exposure) -> bool {
        self.pool == exposure.pool
            && self.visibility == exposure.visibility
            && self.sharing_key == exposure.sharing_key
    }
}

#[cfg(test)]
mod tests;
