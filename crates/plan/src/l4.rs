//! The L4 plane: which addresses the edge holds, and where connections to them go.
//!
//! **What it is:** pure functions from the snapshot to an [`L4Plan`], and from that to the
//! nftables table. The meaning of every field is Kubernetes' (core/v1 Service).
//!
//! **What it is not:** what applies it (the gateway's `l4` and the `netdev` crate).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use model::net::{Protocol, Visibility};
use model::snapshot::{Algorithm, Announce, Endpoint, ProxyVersion};
use model::{AlbKind, ObjectKey};
use serde::{Deserialize, Serialize, Serializer};

pub mod affinity;
pub mod explain;
pub mod hash;
mod planner;
pub mod slots;
pub mod table;
pub mod traffic;

pub use planner::{Planner, plan, plan_giving};
pub use table::{AlbPorts, Ruleset, table};

/// What the L4 plane is to do.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct L4Plan {
    /// The addresses that the edge takes from pools, sorted.
    #[serde(serialize_with = "shared")]
    pub vips: Arc<Vec<Vip>>,
    /// The Services that are reached from outside, sorted by name. One that stays as it is is the
    /// same in memory from plan to plan.
    #[serde(serialize_with = "all")]
    pub services: Vec<Arc<ServicePlan>>,
    /// The addresses out of pools that each ALB listens on besides its configured ones.
    pub albs: BTreeMap<AlbKind, Vec<IpAddr>>,
    /// The addresses out of pools that VpnConnections have, sorted by name.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub vpn: Vec<VpnAddress>,
    /// Which Service has which addresses: kept over restarts, an input of the next planning.
    #[serde(serialize_with = "shared")]
    pub allocations: Arc<Allocations>,
    /// How many addresses each pool has and has given away, by pool.
    pub pools: BTreeMap<String, PoolUse>,
}

/// An address out of a pool that something uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Vip {
    /// The address.
    pub address: IpAddr,
    /// Its pool; empty for one that a Service still holds after its pool has gone, if it isn't known.
    pub pool: String,
    /// Which side it faces, and so which interfaces may hold it.
    pub visibility: Visibility,
    /// How the network learns where it is.
    pub announce: Announce,
}

/// An address out of a pool that a VpnConnection has.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VpnAddress {
    /// Its name.
    pub connection: ObjectKey,
    /// The address.
    pub address: IpAddr,
    /// The UDP ports for IKE and ESP.
    pub ports: [u16; 2],
}

impl L4Plan {
    /// The addresses that VpnConnections have out of pools.
    pub fn vpn_addresses(&self) -> BTreeMap<ObjectKey, IpAddr> {
        self.vpn.iter().map(|one| (one.connection.clone(), one.address)).collect()
    }

    /// Whether only Services differ.
    pub fn is_same_but_for_services(&self, other: &Self) -> bool {
        let Self { vips, services: _, albs, vpn, allocations, pools } = self;
        (vips, albs, vpn) == (&other.vips, &other.albs, &other.vpn)
            && (allocations, pools) == (&other.allocations, &other.pools)
    }

    /// The Services that are not the same in memory as before: where each stands, as it was and as
    /// it is. None where there are others than before.
    pub fn changes<'a>(&'a self, before: &'a Self) -> Option<Vec<Change<'a>>> {
        if self.services.len() != before.services.len() {
            return None;
        }
        let both = before.services.iter().zip(&self.services).enumerate();
        let differs = |(_, (was, is)): &(usize, (&Arc<ServicePlan>, &Arc<ServicePlan>))| {
            !Arc::ptr_eq(was, is)
        };
        let changes = both.filter(differs).map(|(at, (was, is))| (at, &**was, &**is));
        let changes: Vec<Change<'_>> = changes.collect();
        changes.iter().all(|(_, was, is)| was.service == is.service).then_some(changes)
    }
}

/// Where a Service stands, as it was and as it is.
pub type Change<'a> = (usize, &'a ServicePlan, &'a ServicePlan);

/// How full a pool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct PoolUse {
    /// Addresses that can be given away, reserved ones and the ALB's not counted; saturates.
    pub capacity: u64,
    /// Of those, the ones that Services hold.
    pub used: u64,
}

/// Which Service holds which addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Allocations {
    /// By Service, displayed as `namespace/name`, in the order of its families; by VpnConnection,
    /// displayed as `VpnConnection namespace/name`.
    pub services: BTreeMap<String, Vec<IpAddr>>,
    /// The addresses as they were last planned: for one whose pool vanishes while it is held.
    #[serde(default)]
    pub vips: Vec<Vip>,
    /// What Services asked for when they were last planned, if not for any public address of their
    /// own: one that asks for something else now moves. By Service.
    #[serde(default)]
    pub asked: BTreeMap<String, Asked>,
}

impl Allocations {
    /// What a Service has.
    pub fn of_service(&self, service: &ObjectKey) -> &[IpAddr] {
        self.services.get(&service.to_string()).map_or(&[], Vec::as_slice)
    }

    /// What a VpnConnection has.
    pub fn of_connection(&self, connection: &ObjectKey) -> &[IpAddr] {
        self.services.get(&planner::connection_name(connection)).map_or(&[], Vec::as_slice)
    }
}

/// Whether planning gives out addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Giving {
    /// Whoever lacks an address is given one.
    #[default]
    New,
    /// Everybody has what they have: another edge gives out addresses.
    Nothing,
}

/// What kind of address a Service asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// The pool that it names.
    #[serde(default)]
    pub pool: Option<String>,
    /// Which side its address is to face, if it names none.
    #[serde(default)]
    pub visibility: Visibility,
    /// With whom it shares.
    #[serde(default)]
    pub sharing_key: Option<String>,
}

/// One Service that is reached from outside.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ServicePlan {
    /// Its name.
    pub service: ObjectKey,
    /// It is of type LoadBalancer.
    pub load_balancer: bool,
    /// Its VIPs.
    pub addresses: Vec<IpAddr>,
    /// Why it has no address, or lacks one, where it should have.
    pub pending: Option<String>,
    /// Its ports, in the object's order.
    pub ports: Vec<PortPlan>,
    /// The clients that may reach its VIPs; all if empty.
    pub source_ranges: Vec<IpNet>,
    /// Seconds that a client stays with its endpoint.
    pub affinity: Option<u32>,
    /// Whether endpoints see the edge's address in place of the client's.
    pub snat: bool,
    /// `externalTrafficPolicy: Local`.
    pub local_only: bool,
    /// The port of the edge that answers over HTTP whether there are local endpoints.
    pub health_check_node_port: Option<u16>,
    /// Endpoints over all ports, by address, that are local and ready: what the health port tells.
    pub local_endpoints: usize,
}

/// One port of a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PortPlan {
    /// Its name.
    pub name: String,
    /// Its protocol.
    pub protocol: Protocol,
    /// Its number on the Service.
    pub number: u16,
    /// Where connections to it come in, sorted.
    pub frontends: Vec<Frontend>,
    /// The endpoints that take new connections: the ready ones, or if there is none those that
    /// still serve while they terminate; with `local_only`, of the local ones. Sorted by address.
    #[serde(serialize_with = "slice")]
    pub endpoints: Arc<[Endpoint]>,
    /// There are endpoints, and it is only `externalTrafficPolicy: Local` that leaves none:
    /// connections are dropped, not rejected, as by kube-proxy.
    pub only_remote: bool,
    /// How one of them is chosen.
    pub algorithm: Algorithm,
    /// How its connections go.
    pub path: Path,
}

/// Where connections to a port of a Service come in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Frontend {
    /// On a VIP: source ranges hold.
    Vip(SocketAddr),
    /// On one of `spec.externalIPs`.
    External(SocketAddr),
    /// On any of the edge's own addresses that is no VIP.
    NodePort(u16),
}

/// How a port's connections go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Path {
    /// The kernel translates and forwards.
    Kernel,
    /// A process takes and makes connections.
    UserSpace(Box<Stream>),
}

/// What the way through user space does.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stream {
    /// What it does about TLS.
    pub tls: StreamTls,
    /// Clients begin with a PROXY protocol header.
    pub accept_proxy: bool,
    /// Endpoints are sent one.
    pub send_proxy: Option<ProxyVersion>,
    /// How long a connection or session may be silent, in milliseconds; none for the default.
    pub idle_ms: Option<u64>,
}

/// What a stream does about TLS.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StreamTls {
    /// Nothing: bytes are bytes.
    #[default]
    Off,
    /// It ends here, with the pair of this Secret.
    Terminate {
        /// The `kubernetes.io/tls` Secret.
        secret: ObjectKey,
        /// What stands in it; none where it is missing or broken: connections are refused.
        #[serde(skip)]
        pair: Option<model::snapshot::TlsPair>,
    },
    /// It passes through; only connections for these names (exact, or `*.suffix`) come here.
    /// Several Services may have the same frontend with different names.
    Passthrough {
        /// Lower-case.
        hosts: Vec<String>,
    },
}

fn slice<S: Serializer>(endpoints: &Arc<[Endpoint]>, serializer: S) -> Result<S::Ok, S::Error> {
    endpoints.as_ref().serialize(serializer)
}

fn shared<T: Serialize, S: Serializer>(value: &Arc<T>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().serialize(serializer)
}

fn all<T: Serialize, S: Serializer>(list: &[Arc<T>], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(list.iter().map(AsRef::as_ref))
}
