//! What is in force, in the form that requests need: built from a plan, then never changed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use foldhash::HashMap;
use model::{AlbKind, Diagnostic};
use plan::l7::{Endpoints, L7Plan, RoutePolicy, Router, Target};
use rustls::sign::CertifiedKey;

use super::balance::Backend;
use super::tls::{CertCache, CertTable};
use super::upstream::Endpoint;
use crate::metrics::{Metrics, RouteLabels, RouteMetrics, Tally};

/// What all threads share: the table in force, and the counters.
#[derive(Debug)]
pub struct Shared {
    /// The one thing that a change swaps.
    pub table: ArcSwap<Table>,
    /// All counters.
    pub metrics: Arc<Metrics>,
}

/// One generation of everything that requests need.
#[derive(Debug, Default)]
pub struct Table {
    /// Counted up with every change.
    pub generation: u64,
    /// The plan that it was built from.
    pub plan: Arc<L7Plan>,
    albs: [Option<Arc<AlbTable>>; 2],
    backends: Arc<[Backend]>,
}

/// One ALB's part.
///
/// With thousands of routes, what a request needs of its own route has to come from memory. So
/// that is kept small, and what routes have in common stands apart, where it stays in the cache.
#[derive(Debug)]
pub struct AlbTable {
    /// From host and path to a position in `entries`.
    pub(crate) router: Router,
    entries: Vec<RouteEntry>,
    policies: Vec<RoutePolicy>,
    /// What the gateway answers itself.
    answers: Vec<Target>,
    pub(crate) certificates: CertTable,
    /// Counters for requests that no rule takes.
    unmatched: Arc<RouteMetrics>,
}

/// One route, ready for use: one cache line. Routes that are served and counted alike share it.
#[derive(Debug)]
#[repr(align(64))]
pub(crate) struct RouteEntry {
    destination: Destination,
    /// Position in [`AlbTable::policies`].
    policy: u32,
    /// As `metrics` has it, one step nearer.
    tally: Tally,
    metrics: Arc<RouteMetrics>,
}

/// Where a route's requests go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Destination {
    /// Position in [`Table::backends`].
    Backend(u32),
    /// Position in [`AlbTable::answers`].
    Answer(u32),
}

impl AlbTable {
    /// The route at a position that the router gave.
    #[inline]
    pub(crate) fn entry(&self, position: usize) -> Option<&RouteEntry> {
        self.entries.get(position)
    }

    /// How the route's requests are treated.
    #[inline]
    pub(crate) fn policy(&self, entry: &RouteEntry) -> Option<&RoutePolicy> {
        self.policies.get(entry.policy as usize)
    }

    /// What the gateway itself answers the route's requests with, if they go nowhere.
    #[inline]
    pub(crate) fn answer(&self, entry: &RouteEntry) -> Option<&Target> {
        match entry.destination {
            Destination::Backend(_) => None,
            Destination::Answer(at) => self.answers.get(at as usize),
        }
    }
}

impl Table {
    /// The ALB's part, where it is enabled.
    #[inline]
    pub(crate) fn alb(&self, kind: AlbKind) -> Option<&AlbTable> {
        self.albs[usize::from(kind == AlbKind::Private)].as_deref()
    }

    /// Where the route's requests go, if they go anywhere.
    #[inline]
    pub(crate) fn backend(&self, entry: &RouteEntry) -> Option<&Backend> {
        match entry.destination {
            Destination::Backend(at) => self.backends.get(at as usize),
            Destination::Answer(_) => None,
        }
    }
}

/// Addresses of DNS names, as far as they are known.
pub type Resolved = BTreeMap<String, Vec<IpAddr>>;

/// Builds tables one after the other and carries over what outlives a change: endpoints with their
/// health, counters, parsed keys.
#[derive(Debug)]
pub struct Builder {
    metrics: Arc<Metrics>,
    self_made: Arc<CertifiedKey>,
    endpoints: HashMap<SocketAddr, InUse>,
    certificates: CertCache,
    generation: u64,
    next_endpoint: u64,
    last: Option<Last>,
    /// As they stand in the last table.
    backends: Arc<[Backend]>,
}

/// An endpoint, and how often it stands in backends.
#[derive(Debug)]
struct InUse {
    endpoint: Arc<Endpoint>,
    times: usize,
}

/// What the last table was made of, without its endpoints: as long as nothing else changes, it
/// stays.
#[derive(Debug)]
struct Last {
    plan: Arc<L7Plan>,
    albs: [Option<Arc<AlbTable>>; 2],
    /// Of each of [`Table::backends`], the plan's backend and the way to choose.
    backends: Vec<(u32, plan::l7::Balance)>,
    diagnostics: Vec<Diagnostic>,
}

impl Last {
    /// Whether a plan differs in nothing but what serves its backends.
    fn holds(&self, plan: &L7Plan) -> bool {
        let (one, other) = (&self.plan.backends, &plan.backends);
        let same = |(one, other): (&Arc<plan::l7::Backend>, &Arc<plan::l7::Backend>)| {
            Arc::ptr_eq(one, other) || one.service == other.service && one.port == other.port
        };
        one.len() == other.len()
            && one.iter().zip(other).all(same)
            && self.plan.albs.len() == plan.albs.len()
            && self.plan.albs.iter().zip(&plan.albs).all(|((one, before), (other, now))| {
                one == other && (Arc::ptr_eq(before, now) || before == now)
            })
    }
}

impl Builder {
    /// A builder whose tables count in `metrics`.
    ///
    /// # Errors
    /// Where the default certificate can't be made.
    pub fn new(metrics: Arc<Metrics>) -> Result<Self, super::tls::TlsError> {
        Ok(Self {
            metrics,
            self_made: super::tls::self_made_certificate()?,
            endpoints: HashMap::default(),
            certificates: CertCache::default(),
            generation: 0,
            next_endpoint: 0,
            last: None,
            backends: Arc::default(),
        })
    }

    /// The next generation's table.
    pub fn build(&mut self, plan: Arc<L7Plan>, dns: &Resolved) -> (Table, Vec<Diagnostic>) {
        self.generation += 1;
        let (last, former) = match self.last.take().filter(|last| last.holds(&plan)) {
            Some(last) => {
                let former = Arc::clone(&last.plan);
                (Last { plan: Arc::clone(&plan), ..last }, Some(former))
            }
            None => (self.routes(&plan), None),
        };
        let before = std::mem::take(&mut self.backends);
        let mut gone: Vec<&Backend> = Vec::new();
        let mut backends = Vec::with_capacity(last.backends.len());
        for (at, &(id, balance)) in last.backends.iter().enumerate() {
            let planned = &plan.backends[id as usize];
            let former = former.as_ref().and_then(|plan| plan.backends.get(id as usize));
            let known = before.get(at).filter(|_| former.is_some());
            let stays = former.is_some_and(|former| Arc::ptr_eq(former, planned))
                && matches!(planned.endpoints, Endpoints::Static(_));
            backends.push(match known.filter(|_| stays) {
                Some(known) => known.again(),
                None => {
                    gone.extend(known);
                    Backend::new(self.endpoints_of(planned, dns), balance)
                }
            });
        }
        if former.is_none() {
            gone.extend(&*before);
        }
        gone.into_iter().flat_map(Backend::endpoints).for_each(|endpoint| self.leave(endpoint));
        self.backends = backends.into();
        self.count(&plan);
        let (albs, diagnostics) = (last.albs.clone(), last.diagnostics.clone());
        self.last = Some(last);
        let backends = Arc::clone(&self.backends);
        (Table { generation: self.generation, plan, albs, backends }, diagnostics)
    }

    /// All of a plan but its endpoints.
    fn routes(&mut self, plan: &Arc<L7Plan>) -> Last {
        let mut diagnostics = Vec::new();
        let mut backends = Vec::new();
        // Routes over one backend with one way to choose share its state.
        let mut made: HashMap<(u32, plan::l7::Balance), u32> = HashMap::default();
        let mut albs = [None, None];
        for (kind, alb) in &plan.albs {
            let certificates =
                self.certificates.table(&alb.certificates, &self.self_made, &mut diagnostics);
            let mut parts = Parts::default();
            let positions: Vec<u32> = alb
                .routes
                .iter()
                .map(|route| {
                    let mut service = String::new();
                    let destination = match &route.target {
                        Target::Backend(id) => {
                            let planned = &plan.backends[id.0 as usize];
                            let balance = route.policy.balance;
                            service = format!("{}:{}", planned.service, planned.port);
                            let at = made.entry((id.0, balance)).or_insert_with(|| {
                                backends.push((id.0, balance));
                                (backends.len() - 1) as u32
                            });
                            Destination::Backend(*at)
                        }
                        answer => parts.answer(answer),
                    };
                    let ingress = route.ingress.as_ref().map(ToString::to_string);
                    let labels =
                        RouteLabels { alb: *kind, ingress: ingress.unwrap_or_default(), service };
                    parts.entry(destination, &route.policy, self.metrics.route(labels))
                })
                .collect();
            let unmatched = self.metrics.route(RouteLabels {
                alb: *kind,
                ingress: String::new(),
                service: String::new(),
            });
            let Parts { entries, policies, answers, .. } = parts;
            let router = Router::with_values(&alb.routes, |route| positions[route] as usize);
            albs[usize::from(*kind == AlbKind::Private)] = Some(Arc::new(AlbTable {
                router,
                entries,
                policies,
                answers,
                certificates,
                unmatched,
            }));
        }
        self.certificates.retain(|secret| {
            plan.albs.values().any(|alb| {
                alb.certificates.pairs.binary_search_by(|p| p.secret.cmp(secret)).is_ok()
            })
        });
        Last { plan: Arc::clone(plan), albs, backends, diagnostics }
    }

    /// A backend's endpoints, each counted once more.
    fn endpoints_of(
        &mut self,
        backend: &plan::l7::Backend,
        dns: &Resolved,
    ) -> Vec<(Arc<Endpoint>, u16)> {
        let mut get = |address: SocketAddr| {
            let in_use = self.endpoints.entry(address).or_insert_with(|| {
                self.next_endpoint += 1;
                InUse { endpoint: Arc::new(Endpoint::new(address, self.next_endpoint)), times: 0 }
            });
            in_use.times += 1;
            Arc::clone(&in_use.endpoint)
        };
        match &backend.endpoints {
            Endpoints::Static(all) => {
                let ready = all.iter().any(|endpoint| !endpoint.terminating);
                all.iter()
                    .filter(|endpoint| endpoint.terminating != ready)
                    .map(|endpoint| (get(endpoint.address), endpoint.weight))
                    .collect()
            }
            Endpoints::Dns { host, port } => dns
                .get(host)
                .into_iter()
                .flatten()
                .map(|ip| (get(SocketAddr::new(*ip, *port)), 1))
                .collect(),
        }
    }

    /// A backend that had this endpoint is gone. One that nobody has any more is no longer known.
    fn leave(&mut self, endpoint: &Endpoint) {
        let Some(in_use) = self.endpoints.get_mut(&endpoint.address) else { return };
        in_use.times -= 1;
        if in_use.times == 0 {
            in_use.endpoint.retired.store(true, Ordering::Relaxed);
            self.endpoints.remove(&endpoint.address);
        }
    }

    fn count(&self, plan: &L7Plan) {
        let control = &self.metrics.control;
        let routes = plan.albs.values().map(|alb| alb.routes.len() as u64).sum();
        control.routes.set(routes);
        control.endpoints.set(self.endpoints.len() as u64);
        let expiry = plan
            .albs
            .values()
            .flat_map(|alb| &alb.certificates.pairs)
            .map(|entry| u64::try_from(entry.pair.validity.1).unwrap_or(0))
            .min();
        control.certificate_expiry.set(expiry.unwrap_or(0));
    }
}

/// An ALB's routes while its table is built.
#[derive(Default)]
struct Parts {
    entries: Vec<RouteEntry>,
    policies: Vec<RoutePolicy>,
    answers: Vec<Target>,
    /// Positions of the policies so far.
    known: HashMap<RoutePolicy, u32>,
    /// Positions of the entries so far, by all that makes them up.
    alike: HashMap<(Destination, u32, *const RouteMetrics), u32>,
}

impl Parts {
    fn answer(&mut self, target: &Target) -> Destination {
        // Neighbours are mostly paths of one host, with one answer.
        if self.answers.last() != Some(target) {
            self.answers.push(target.clone());
        }
        Destination::Answer((self.answers.len() - 1) as u32)
    }

    /// The position of an entry that serves the route.
    fn entry(
        &mut self,
        destination: Destination,
        policy: &RoutePolicy,
        metrics: Arc<RouteMetrics>,
    ) -> u32 {
        let policies = &mut self.policies;
        let rewrites = policy.rewrite.is_some();
        let policy = match self.known.get(policy) {
            Some(at) => *at,
            None => {
                policies.push(policy.clone());
                let at = (policies.len() - 1) as u32;
                self.known.insert(policy.clone(), at);
                at
            }
        };
        let next = self.entries.len() as u32;
        let key = (destination, policy, Arc::as_ptr(&metrics));
        // The router knows rewrites by the entry, and each route has its own.
        if !rewrites && let Some(at) = self.alike.insert(key, next) {
            self.alike.insert(key, at);
            return at;
        }
        self.entries.push(RouteEntry {
            destination,
            policy,
            tally: metrics.tally.clone(),
            metrics,
        });
        next
    }
}

thread_local! {
    static CURRENT: RefCell<Option<Arc<Local>>> = const { RefCell::new(None) };
}

/// A thread's own hold on the table. Requests count their use here, so that threads don't write to
/// one shared counter at every request.
#[derive(Debug)]
pub(crate) struct Local {
    pub(crate) table: Arc<Table>,
}

impl Local {
    /// The route at a position that this table's router gave, and the ALB's part that it is in.
    #[inline]
    pub(crate) fn entry(
        &self,
        kind: AlbKind,
        position: Option<u32>,
    ) -> Option<(&AlbTable, &RouteEntry)> {
        let alb = self.table.alb(kind)?;
        Some((alb, alb.entry(position? as usize)?))
    }

    /// The counters of the route at a position, or those for requests that no rule takes.
    #[inline]
    pub(crate) fn tally(&self, kind: AlbKind, position: Option<u32>) -> Option<&Tally> {
        match self.entry(kind, position) {
            Some((_, entry)) => Some(&entry.tally),
            None => Some(&self.table.alb(kind)?.unmatched.tally),
        }
    }

    /// As [`Local::tally`], to be held beyond the table's life.
    pub(crate) fn metrics(
        &self,
        kind: AlbKind,
        position: Option<u32>,
    ) -> Option<&Arc<RouteMetrics>> {
        match self.entry(kind, position) {
            Some((_, entry)) => Some(&entry.metrics),
            None => Some(&self.table.alb(kind)?.unmatched),
        }
    }
}

impl Shared {
    /// The table in force, for one request from its beginning to its end.
    #[inline]
    pub(crate) fn current(&self) -> Arc<Local> {
        let latest = self.table.load();
        CURRENT.with_borrow_mut(|current| match current {
            Some(local) if Arc::ptr_eq(&local.table, &latest) => Arc::clone(local),
            _ => {
                let local = Arc::new(Local { table: Arc::clone(&latest) });
                *current = Some(Arc::clone(&local));
                local
            }
        })
    }

    /// Lets go of a table that is no longer in force, in a thread without requests.
    pub(crate) fn refresh(&self) {
        drop(self.current());
    }
}

#[cfg(test)]
mod tests;
