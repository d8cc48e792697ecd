//! What is in force, in the form that requests need: built from a plan, then never changed.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use arc_swap::ArcSwap;
use foldhash::HashMap;
use model::{AlbKind, Diagnostic};
use plan::l7::{Endpoints, L7Plan, Route, Router, Target};
use rustls::sign::CertifiedKey;

use super::balance::Backend;
use super::tls::{CertCache, CertTable};
use super::upstream::Endpoint;
use crate::metrics::{Metrics, RouteLabels, RouteMetrics};

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
    albs: [Option<AlbTable>; 2],
}

/// One ALB's part.
#[derive(Debug)]
pub struct AlbTable {
    pub(crate) router: Router,
    pub(crate) routes: Vec<RouteEntry>,
    pub(crate) certificates: CertTable,
    /// Counters for requests that no rule takes.
    pub(crate) unmatched: Arc<RouteMetrics>,
}

/// One route, ready for use.
#[derive(Debug)]
pub(crate) struct RouteEntry {
    pub(crate) route: Route,
    /// Where its requests go, if they go anywhere.
    pub(crate) backend: Option<Arc<Backend>>,
    pub(crate) metrics: Arc<RouteMetrics>,
}

impl Table {
    /// The ALB's part, where it is enabled.
    #[inline]
    pub(crate) fn alb(&self, kind: AlbKind) -> Option<&AlbTable> {
        self.albs[usize::from(kind == AlbKind::Private)].as_ref()
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
    endpoints: HashMap<SocketAddr, Arc<Endpoint>>,
    certificates: CertCache,
    generation: u64,
    next_endpoint: u64,
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
        })
    }

    /// The next generation's table.
    pub fn build(&mut self, plan: Arc<L7Plan>, dns: &Resolved) -> (Table, Vec<Diagnostic>) {
        self.generation += 1;
        let mut diagnostics = Vec::new();
        let mut in_use: HashMap<SocketAddr, Arc<Endpoint>> = HashMap::default();
        // Routes over one backend with one way to choose share its state.
        let mut made: HashMap<(u32, plan::l7::Balance), Arc<Backend>> = HashMap::default();
        let mut albs = [None, None];
        for (kind, alb) in &plan.albs {
            let certificates =
                self.certificates.table(&alb.certificates, &self.self_made, &mut diagnostics);
            let routes = alb
                .routes
                .iter()
                .map(|route| {
                    let mut service = String::new();
                    let mut backend = None;
                    if let Target::Backend(id) = &route.target {
                        let planned = &plan.backends[id.0 as usize];
                        let balance = route.policy.balance;
                        service = format!("{}:{}", planned.service, planned.port);
                        backend =
                            Some(Arc::clone(made.entry((id.0, balance)).or_insert_with(|| {
                                let endpoints = self.endpoints_of(planned, dns, &mut in_use);
                                Arc::new(Backend::new(endpoints, balance))
                            })));
                    }
                    let ingress = route.ingress.as_ref().map(ToString::to_string);
                    let labels =
                        RouteLabels { alb: *kind, ingress: ingress.unwrap_or_default(), service };
                    RouteEntry {
                        route: route.clone(),
                        backend,
                        metrics: self.metrics.route(labels),
                    }
                })
                .collect();
            let unmatched = self.metrics.route(RouteLabels {
                alb: *kind,
                ingress: String::new(),
                service: String::new(),
            });
            albs[usize::from(*kind == AlbKind::Private)] = Some(AlbTable {
                router: Router::new(&alb.routes),
                routes,
                certificates,
                unmatched,
            });
        }
        for (address, endpoint) in &self.endpoints {
            if !in_use.contains_key(address) {
                endpoint.retired.store(true, Ordering::Relaxed);
            }
        }
        self.endpoints = in_use;
        self.certificates.retain(|secret| {
            plan.albs.values().any(|alb| {
                alb.certificates.pairs.binary_search_by(|p| p.secret.cmp(secret)).is_ok()
            })
        });
        self.count(&plan);
        (Table { generation: self.generation, plan, albs }, diagnostics)
    }

    fn endpoints_of(
        &mut self,
        backend: &plan::l7::Backend,
        dns: &Resolved,
        in_use: &mut HashMap<SocketAddr, Arc<Endpoint>>,
    ) -> Vec<(Arc<Endpoint>, u16)> {
        let mut get = |address: SocketAddr| {
            let endpoint = in_use.entry(address).or_insert_with(|| {
                self.endpoints.get(&address).cloned().unwrap_or_else(|| {
                    self.next_endpoint += 1;
                    Arc::new(Endpoint::new(address, self.next_endpoint))
                })
            });
            Arc::clone(endpoint)
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
    /// The route at a position that this table's router gave.
    #[inline]
    pub(crate) fn entry(&self, kind: AlbKind, position: Option<usize>) -> Option<&RouteEntry> {
        self.table.alb(kind)?.routes.get(position?)
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
