//! The `vpn` section.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::values::{Network, Period, Workers, within, within_if_any};
use crate::config::{Dataplane, OnStop};

/// Site-to-site connections.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Vpn {
    /// Whether VpnConnections are held up at all. Takes root and nftables.
    pub enabled: bool,
    /// Where packets are encrypted: in the kernel (xfrm) where it can, in user space, or auto for
    /// the better one of those that work here.
    pub dataplane: Dataplane,
    /// The tunnel interface's name.
    pub interface: String,
    /// How many threads carry packets.
    pub workers: Workers,
    /// Whether many packets go through one system call where the kernel can do that (TSO, GSO and
    /// GRO). Off for measurements, or where the kernel's are broken.
    pub offloads: bool,
    /// The largest packet on the way to the other end; none for the one that its route has.
    #[serde(deserialize_with = "within_if_any::<_, _, 576, 65535>")]
    #[schemars(range(min = 576, max = 65535))]
    pub mtu: Option<u16>,
    /// The UDP port for IKE.
    #[serde(deserialize_with = "within::<_, _, 1, 65535>")]
    #[schemars(range(min = 1, max = 65535))]
    pub port: u16,
    /// The UDP port for IKE and ESP behind NAT.
    #[serde(deserialize_with = "within::<_, _, 1, 65535>")]
    #[schemars(range(min = 1, max = 65535))]
    pub nat_port: u16,
    /// Pod and service networks: local.subnets of connections that write none. By default the pod
    /// networks that Nodes have.
    pub cluster_subnets: Vec<Network>,
    /// Networks of this side that never lie behind a tunnel, even where a remote network holds
    /// them, such as those that the edge itself is on.
    pub exempt: Vec<Network>,
    /// What becomes of tunnel interface and routes when the gateway is told to stop. What keeps
    /// remote networks from leaving in the clear stays in any case.
    pub on_stop: OnStop,
    /// Whether ESP goes in UDP even where no NAT is seen, for connections that don't say.
    pub force_encapsulation: bool,
    /// Limits on connections that others begin (RFC 8019).
    pub half_open: HalfOpen,
    /// How messages are repeated that nobody answers.
    pub retransmit: Retransmit,
}

impl Default for Vpn {
    fn default() -> Self {
        Self {
            enabled: false,
            dataplane: Dataplane::default(),
            interface: "tidegate-vpn".to_owned(),
            workers: Workers::default(),
            offloads: true,
            mtu: None,
            port: 500,
            nat_port: 4500,
            cluster_subnets: Vec::new(),
            exempt: Vec::new(),
            on_stop: OnStop::default(),
            force_encapsulation: false,
            half_open: HalfOpen::default(),
            retransmit: Retransmit::default(),
        }
    }
}

/// Limits on connections that others begin and haven't proved themselves for.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct HalfOpen {
    /// With so many, cookies are asked for.
    #[serde(deserialize_with = "within::<_, _, 0, 1000000>")]
    #[schemars(range(min = 0, max = 1_000_000))]
    pub cookie_threshold: u32,
    /// With so many, new ones get no answer.
    #[serde(deserialize_with = "within::<_, _, 1, 1000000>")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub limit: u32,
    /// The same for one source: an address, or the /64 of an IPv6 one.
    #[serde(deserialize_with = "within::<_, _, 1, 1000000>")]
    #[schemars(range(min = 1, max = 1_000_000))]
    pub per_source: u32,
    /// How long one is kept.
    pub lifetime: Period,
}

impl Default for HalfOpen {
    fn default() -> Self {
        Self { cookie_threshold: 30, limit: 1000, per_source: 10, lifetime: Period::from_secs(30) }
    }
}

/// How messages are repeated that nobody answers.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Retransmit {
    /// For the first time after this,
    pub first: Period,
    /// each further time after so many times as long as the last time,
    #[schemars(range(min = 1.0, max = 10.0))]
    pub base: f64,
    /// at most this.
    pub max: Period,
    /// After so many the other end is dead, unless dpd.timeout says so before.
    #[serde(deserialize_with = "within::<_, _, 1, 100>")]
    #[schemars(range(min = 1, max = 100))]
    pub tries: u32,
}

impl Default for Retransmit {
    fn default() -> Self {
        Self { first: Period::from_millis(500), base: 1.8, max: Period::from_secs(20), tries: 6 }
    }
}
