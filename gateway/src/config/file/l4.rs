//! The `l4` section.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::OnStop;
use crate::config::values::{OwnPort, Ports};

/// The `spec.loadBalancerClass` that is the gateway's if nothing else is said.
const CLASS: &str = "tidegate.io/edge";

/// Services of type LoadBalancer and NodePort, and policies.
#[derive(Clone, Debug, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct L4 {
    /// Whether Services are served at all. Takes root and nftables.
    pub enabled: bool,
    /// Which interfaces face which network.
    pub interfaces: Interfaces,
    /// The ports that NodePort Services may have.
    pub node_port_range: Ports,
    /// Whether endpoints see the edge's address in place of the client's: needed where they don't
    /// answer by way of the edge. A Service's annotation comes first.
    pub snat: bool,
    /// The spec.loadBalancerClass of the Services that get addresses from pools.
    pub load_balancer_class: String,
    /// Whether LoadBalancer Services without a class get addresses too.
    pub default_class: bool,
    /// Ports that no host endpoint policy closes.
    pub fail_safe: FailSafe,
    /// What becomes of the kernel's rules and addresses when the gateway is told to stop.
    pub on_stop: OnStop,
}

impl Default for L4 {
    fn default() -> Self {
        Self {
            enabled: false,
            interfaces: Interfaces::default(),
            node_port_range: Ports::DEFAULT_NODE_PORTS,
            snat: false,
            load_balancer_class: CLASS.to_owned(),
            default_class: true,
            fail_safe: FailSafe::default(),
            on_stop: OnStop::default(),
        }
    }
}

/// Which interfaces face which network.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct Interfaces {
    /// The internet. VIPs are put on the first one unless another one's subnet holds them.
    pub public: Vec<String>,
    /// The private network.
    pub private: Vec<String>,
}

/// Ports that no host endpoint policy closes.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default, deny_unknown_fields)]
pub struct FailSafe {
    /// Of this machine: unless written, SSH, DHCP, BGP, IKE, WireGuard, and the admin side's port
    /// where it isn't on loopback.
    pub inbound: Option<Vec<OwnPort>>,
    /// Of others: unless written, DNS, DHCP, BGP, IKE, WireGuard and the Kubernetes API.
    pub outbound: Option<Vec<OwnPort>>,
}
