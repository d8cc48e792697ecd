//! The `overlay` section.

use std::net::IpAddr;

use model::OverlaySettings;
use model::settings::PodCidrs as Where;
use model::snapshot::overlay::OverlayMode as Mode;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::OnStop;
use crate::config::values::{Network, Period, Workers, addresses, within, within_if_any};

/// The overlay to the cluster's nodes.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Overlay {
    /// Whether pods are reached over it at all. Takes root and nftables.
    pub enabled: bool,
    /// How nodes are reached.
    pub mode: OverlayMode,
    /// Where pod networks stand.
    #[serde(rename = "podCIDRs")]
    pub pod_cidrs: PodCidrs,
    /// Service networks that are reached over the nodes, each part of them over one that lives.
    pub service_subnets: Vec<Network>,
    /// What pods reach through this edge besides the remote networks of VpnConnections.
    pub egress: Egress,
    /// The WireGuard interface's name; while keys are changed there is a second one.
    pub interface: String,
    /// The first UDP port for WireGuard; a change of keys takes the next one, too.
    #[serde(deserialize_with = "within::<_, _, 1, 65534>")]
    #[schemars(range(min = 1, max = 65534))]
    pub port: u16,
    /// The UDP port for probes.
    #[serde(deserialize_with = "within::<_, _, 1, 65535>")]
    #[schemars(range(min = 1, max = 65535))]
    pub probe_port: u16,
    /// The largest packet in a tunnel; null for what the way to the nodes leaves.
    #[serde(deserialize_with = "within_if_any::<_, _, 1280, 65455>")]
    #[schemars(range(min = 1280, max = 65455))]
    pub mtu: Option<u16>,
    /// Where packets are encrypted.
    pub backend: Backend,
    /// How many threads carry packets in user space.
    pub workers: Workers,
    /// Whether many packets go through one system call in user space (TSO, GSO and GRO).
    pub offloads: bool,
    /// How the edge is reached by the nodes.
    pub underlay: Underlay,
    /// Interfaces that face the internet, from which nothing is forwarded to pods and nodes but what is
    /// translated; null for l4.interfaces.public.
    pub outside: Option<Vec<String>>,
    /// How old a key becomes before another one takes its place, without a gap; null for as old as
    /// it may.
    pub key_rotation: Option<Period>,
    /// What becomes of tunnels and routes when the gateway is told to stop.
    pub on_stop: OnStop,
}

impl Default for Overlay {
    fn default() -> Self {
        let settings = OverlaySettings::default();
        Self {
            enabled: false,
            mode: OverlayMode::default(),
            pod_cidrs: PodCidrs::default(),
            service_subnets: Vec::new(),
            egress: Egress::default(),
            interface: settings.interface,
            port: settings.port,
            probe_port: settings.probe_port,
            mtu: None,
            backend: Backend::default(),
            workers: Workers::default(),
            offloads: true,
            underlay: Underlay::default(),
            outside: None,
            key_rotation: None,
            on_stop: OnStop::default(),
        }
    }
}

/// What pods reach through an edge.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Egress {
    /// The networks.
    pub networks: Vec<Network>,
    /// Whether packets leave with the edge's own address.
    pub masquerade: bool,
}

impl Default for Egress {
    fn default() -> Self {
        Self { networks: Vec::new(), masquerade: true }
    }
}

/// How the edge is reached by the nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Underlay {
    /// Its addresses towards them, the preferred one first; none for those of the interface that
    /// leads to them.
    #[serde(deserialize_with = "addresses")]
    pub addresses: Vec<IpAddr>,
}

/// How nodes are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum OverlayMode {
    /// In the clear where edge and node share a link, by WireGuard elsewhere.
    #[default]
    Auto,
    /// In the clear, by plain routes.
    Direct,
    /// By WireGuard.
    Wireguard,
}

impl From<OverlayMode> for Mode {
    fn from(mode: OverlayMode) -> Self {
        match mode {
            OverlayMode::Auto => Self::Auto,
            OverlayMode::Direct => Self::Direct,
            OverlayMode::Wireguard => Self::Wireguard,
        }
    }
}

/// Where pod networks stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum PodCidrs {
    /// In Calico's IPAMBlocks if there are any, otherwise in Nodes.
    #[default]
    Auto,
    /// In spec.podCIDRs of Nodes.
    Node,
    /// In Calico's IPAMBlocks.
    Calico,
}

impl From<PodCidrs> for Where {
    fn from(from: PodCidrs) -> Self {
        match from {
            PodCidrs::Auto => Self::Auto,
            PodCidrs::Node => Self::Node,
            PodCidrs::Calico => Self::Calico,
        }
    }
}

/// Where packets are encrypted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// In the kernel if it has WireGuard, in user space if not.
    #[default]
    Auto,
    /// In the kernel.
    Kernel,
    /// In user space.
    Userspace,
}
