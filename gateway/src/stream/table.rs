//! From a plan to what listeners and connections look things up in.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use foldhash::{HashMap, HashSet};
use model::net::Protocol;
use model::snapshot::TlsPair;
use model::{Diagnostic, ObjectKey, ObjectRef};
use plan::l4::{Frontend, L4Plan, Path, PortPlan, ServicePlan, Stream, StreamTls};
use rustls::ServerConfig;
use rustls::sign::SingleCertAndKey;

use super::affinity::Affinity;
use super::choice::Choice;
use super::counters::StreamCounters;
use super::port::{Port, Tls};
use crate::l7::tls;
use crate::l7::upstream::Endpoint;

/// How long a TCP connection may be silent unless its Service says otherwise.
const IDLE_TCP: Duration = Duration::from_secs(600);
/// How long a UDP session may be.
const IDLE_UDP: Duration = Duration::from_secs(30);

/// Where one listener's connections go: looked up by each connection, swapped on a change.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) routes: ArcSwap<Routes>,
}

type Names = HashMap<String, Arc<Port>>;

/// Where connections go.
#[derive(Debug, Default)]
pub(crate) struct Routes {
    /// The one Service, or the first of those that share the listener by names. Failures before
    /// the name is known are counted there.
    pub(crate) first: Option<Arc<Port>>,
    /// By SNI, if it is shared or asks for names: names, and wildcards' suffixes.
    names: Option<(Names, Names)>,
    /// Addresses of the machine that are not meant, although the listener takes them: VIPs, on a
    /// NodePort.
    pub(crate) except: Option<Arc<HashSet<IpAddr>>>,
}

impl Routes {
    pub(crate) fn by_name(&self) -> bool {
        self.names.is_some()
    }

    /// The Service for a name: an exact one before a wildcard, which stands for one label.
    pub(crate) fn named(&self, name: &str) -> Option<&Arc<Port>> {
        let (exact, suffixes) = self.names.as_ref()?;
        let suffix = || suffixes.get(name.split_once('.')?.1);
        exact.get(name).or_else(suffix)
    }

    /// Of the ports that share a listener.
    pub(crate) fn new(ports: &[Arc<Port>], except: Option<Arc<HashSet<IpAddr>>>) -> Self {
        let mut names = (Names::default(), Names::default());
        let mut by_name = false;
        for port in ports {
            let Tls::Passthrough(hosts) = &port.tls else { continue };
            by_name = true;
            for host in hosts {
                let (map, name) = match host.strip_prefix("*.") {
                    Some(suffix) => (&mut names.1, suffix),
                    None => (&mut names.0, host.as_str()),
                };
                map.entry(name.to_owned()).or_insert_with(|| Arc::clone(port));
            }
        }
        Self { first: ports.first().cloned(), names: by_name.then_some(names), except }
    }
}

/// A listener that Services want.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// In the plan's order; more than one only with passthrough.
    pub(crate) ports: Vec<Arc<Port>>,
    /// For diagnostics: the first Service and its port's position.
    pub(crate) object: ObjectRef,
    pub(crate) field: String,
    /// Any of the edge's addresses will do, except VIPs.
    pub(crate) node_port: bool,
}

/// By protocol and address.
pub(crate) type WantedSet = BTreeMap<(Protocol, SocketAddr), Wanted>;

/// What one port of a Service is known by.
pub(crate) type PortId = (ObjectKey, Protocol, u16);

/// What a [`Port`] was made of: as long as it is the same, the port stays.
#[derive(Debug, PartialEq, Eq)]
struct Made {
    plan: PortPlan,
    affinity: Option<u32>,
}

#[derive(Debug)]
struct Known {
    made: Made,
    port: Arc<Port>,
    endpoints: HashMap<SocketAddr, Arc<Endpoint>>,
    affinity: Arc<Affinity>,
}

/// Builds ports one after the other and carries over what outlives a change: endpoints with their
/// counts and health, affinity, counters, TLS configurations with their tickets.
#[derive(Debug)]
pub(crate) struct Builder {
    workers: usize,
    known: HashMap<PortId, Known>,
    tls: HashMap<ObjectKey, (TlsPair, Arc<ServerConfig>)>,
    next_endpoint: u64,
}

impl Builder {
    pub(crate) fn new(workers: usize) -> Self {
        Self { workers, known: HashMap::default(), tls: HashMap::default(), next_endpoint: 0 }
    }

    /// Counters by port.
    pub(crate) fn counters(&self) -> Vec<(PortId, Arc<StreamCounters>)> {
        let mut all: Vec<_> = self
            .known
            .iter()
            .map(|(id, known)| (id.clone(), Arc::clone(&known.port.counters)))
            .collect();
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The listeners of a plan, and what of it can't be.
    pub(crate) fn build(&mut self, plan: &L4Plan) -> (WantedSet, Vec<Diagnostic>) {
        let mut diagnostics = Vec::new();
        let mut wanted = WantedSet::new();
        let mut before = std::mem::take(&mut self.known);
        let mut secrets = HashSet::default();
        for service in &plan.services {
            for (position, planned) in service.ports.iter().enumerate() {
                let Path::UserSpace(stream) = &planned.path else { continue };
                let at = At { service, position, planned };
                if planned.protocol == Protocol::Sctp {
                    diagnostics.push(at.error("SCTP does not go through user space").remedy(
                        "take away what asks for it (annotations such as \
                         tidegate.io/user-space or the least-connections algorithm)",
                    ));
                    continue;
                }
                if let StreamTls::Terminate { secret, .. } = &stream.tls {
                    secrets.insert(secret.clone());
                }
                if planned.protocol == Protocol::Udp && *stream.as_ref() != plain(stream) {
                    diagnostics.push(
                        at.warning("TLS and the PROXY protocol are for TCP; UDP passes as it is")
                            .remedy("give TCP ports a Service of their own"),
                    );
                }
                let id = (service.service.clone(), planned.protocol, planned.number);
                let known = self.port(&at, stream, before.remove(&id), &mut diagnostics);
                let port = Arc::clone(&known.port);
                self.known.insert(id, known);
                for frontend in &planned.frontends {
                    for address in addresses(*frontend) {
                        let node_port = matches!(frontend, Frontend::NodePort(_));
                        add(&mut wanted, address, node_port, &at, &port, &mut diagnostics);
                    }
                }
            }
        }
        for known in before.values() {
            known.endpoints.values().for_each(retire);
        }
        self.tls.retain(|secret, _| secrets.contains(secret));
        (wanted, diagnostics)
    }

    fn port(
        &mut self,
        at: &At<'_>,
        stream: &Stream,
        before: Option<Known>,
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Known {
        let made = Made { plan: at.planned.clone(), affinity: at.service.affinity };
        let (mut old, affinity, counters) = match before {
            // A pair that can't be used is reported each time.
            Some(known) if known.made == made && !known.port.is_broken() => return known,
            Some(known) => (known.endpoints, known.affinity, Arc::clone(&known.port.counters)),
            None => {
                (HashMap::default(), Arc::default(), Arc::new(StreamCounters::new(self.workers)))
            }
        };
        let mut endpoints = HashMap::default();
        let weighted = made.plan.endpoints.iter().map(|planned| {
            let endpoint = old.remove(&planned.address).unwrap_or_else(|| {
                self.next_endpoint += 1;
                Arc::new(Endpoint::new(planned.address, self.next_endpoint))
            });
            endpoints.insert(planned.address, Arc::clone(&endpoint));
            (endpoint, planned.weight)
        });
        let choice = Choice::new(weighted.collect(), made.plan.algorithm);
        old.values().for_each(retire);
        let is_tcp = at.planned.protocol == Protocol::Tcp;
        let tls = if is_tcp { self.tls_of(at, &stream.tls, diagnostics) } else { Tls::Off };
        let default_idle = if is_tcp { IDLE_TCP } else { IDLE_UDP };
        let port = Port {
            service: at.service.service.clone(),
            number: at.planned.number,
            tls,
            accept_proxy: stream.accept_proxy && is_tcp,
            send_proxy: stream.send_proxy.filter(|_| is_tcp),
            idle: stream.idle_ms.map_or(default_idle, Duration::from_millis),
            choice,
            affinity: made.affinity.map(|s| (u64::from(s) * 1000, Arc::clone(&affinity))),
            counters,
        };
        Known { made, port: Arc::new(port), endpoints, affinity }
    }

    fn tls_of(&mut self, at: &At<'_>, tls: &StreamTls, diagnostics: &mut Vec<Diagnostic>) -> Tls {
        let (secret, pair) = match tls {
            StreamTls::Off => return Tls::Off,
            StreamTls::Passthrough { hosts } => return Tls::Passthrough(hosts.clone()),
            StreamTls::Terminate { pair: None, .. } => return Tls::Terminate(None),
            StreamTls::Terminate { secret, pair: Some(pair) } => (secret, pair),
        };
        if let Some((known, config)) = self.tls.get(secret)
            && known == pair
        {
            return Tls::Terminate(Some(Arc::clone(config)));
        }
        let config = tls::certified(pair)
            .map_err(tls::TlsError::from)
            .and_then(|key| tls::config(Arc::new(SingleCertAndKey::from(key))));
        match config {
            Ok(config) => {
                let config = Arc::new(config);
                self.tls.insert(secret.clone(), (pair.clone(), Arc::clone(&config)));
                Tls::Terminate(Some(config))
            }
            Err(error) => {
                let object = ObjectRef::namespaced("Secret", secret);
                diagnostics.push(
                    Diagnostic::error(object, "data", error.to_string())
                        .value(at.service.service.to_string())
                        .remedy("store a PEM certificate chain and its unencrypted key"),
                );
                Tls::Terminate(None)
            }
        }
    }
}

/// What of a stream UDP has.
fn plain(stream: &Stream) -> Stream {
    Stream { idle_ms: stream.idle_ms, ..Stream::default() }
}

fn retire(endpoint: &Arc<Endpoint>) {
    endpoint.retired.store(true, Ordering::Relaxed);
}

/// A port of a Service in the plan.
struct At<'a> {
    service: &'a ServicePlan,
    position: usize,
    planned: &'a PortPlan,
}

impl At<'_> {
    fn object(&self) -> ObjectRef {
        ObjectRef::namespaced("Service", &self.service.service)
    }

    fn field(&self) -> String {
        format!("spec.ports[{}]", self.position)
    }

    fn error(&self, reason: &str) -> Diagnostic {
        Diagnostic::error(self.object(), self.field(), reason)
    }

    fn warning(&self, reason: &str) -> Diagnostic {
        Diagnostic::warning(self.object(), self.field(), reason)
    }
}

/// Where a frontend listens.
fn addresses(frontend: Frontend) -> Vec<SocketAddr> {
    match frontend {
        Frontend::Vip(address) | Frontend::External(address) => vec![address],
        Frontend::NodePort(port) => {
            vec![(Ipv4Addr::UNSPECIFIED, port).into(), (Ipv6Addr::UNSPECIFIED, port).into()]
        }
    }
}

fn add(
    wanted: &mut WantedSet,
    address: SocketAddr,
    node_port: bool,
    at: &At<'_>,
    port: &Arc<Port>,
    diagnostics: &mut Vec<Diagnostic>,
) {
    let entry = wanted.entry((at.planned.protocol, address)).or_insert_with(|| Wanted {
        ports: Vec::new(),
        object: at.object(),
        field: at.field(),
        node_port,
    });
    let by_name = |port: &Port| matches!(port.tls, Tls::Passthrough(_));
    let refused = match entry.ports.first() {
        None => None,
        Some(first) if !by_name(first) || !by_name(port) => {
            Some(format!("{address} is taken by Service {}", first.service))
        }
        Some(first) if first.accept_proxy != port.accept_proxy => Some(format!(
            "{address} is shared with Service {}, which differs in whether clients begin with a \
             PROXY protocol header",
            first.service
        )),
        Some(_) => None,
    };
    match refused {
        None => {
            diagnostics.extend(same_names(&entry.ports, port, address, at));
            entry.ports.push(Arc::clone(port));
        }
        Some(reason) => diagnostics.push(at.error(&reason).value(address.to_string()).remedy(
            "give it another port or address, or give both Services tidegate.io/sni-hosts and \
             the same tidegate.io/accept-proxy-protocol",
        )),
    }
}

/// Names of a port that another one on the same listener has already: the first keeps them.
fn same_names(
    others: &[Arc<Port>],
    port: &Port,
    address: SocketAddr,
    at: &At<'_>,
) -> Vec<Diagnostic> {
    let Tls::Passthrough(hosts) = &port.tls else { return Vec::new() };
    let mut found = Vec::new();
    for other in others {
        let Tls::Passthrough(theirs) = &other.tls else { continue };
        found.extend(hosts.iter().filter(|host| theirs.contains(host)).map(|host| {
            let reason = format!("on {address} this name is Service {}'s already", other.service);
            Diagnostic::error(at.object(), "metadata.annotations[tidegate.io/sni-hosts]", reason)
                .value(host.as_str())
                .remedy("give each Service names of its own, or addresses of their own")
        }));
    }
    found
}

impl Port {
    /// TLS ends here, and there is nothing to end it with.
    fn is_broken(&self) -> bool {
        matches!(self.tls, Tls::Terminate(None))
    }
}
