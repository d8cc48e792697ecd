//! The part of the configuration that ingest and the planners need.

use std::fmt;

use ipnet::{IpNet, Ipv4Net};
use serde::{Deserialize, Serialize};

use crate::names::ObjectKey;
use crate::net::{PortRange, Protocol, Visibility};
use crate::snapshot::overlay::OverlayMode;

/// Which of the gateway's two ALBs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AlbKind {
    /// Faces the internet.
    Public,
    /// Faces the private network.
    Private,
}

impl fmt::Display for AlbKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Public => "public",
            Self::Private => "private",
        })
    }
}

impl From<Visibility> for AlbKind {
    fn from(visibility: Visibility) -> Self {
        match visibility {
            Visibility::Public => Self::Public,
            Visibility::Private => Self::Private,
        }
    }
}

/// One ALB that is enabled, as far as rules depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AlbSettings {
    /// Which one.
    pub kind: AlbKind,
    /// The IngressClass whose objects it serves.
    pub ingress_class: String,
    /// Whether hosts with TLS have their HTTP requests redirected unless an annotation says
    /// otherwise.
    pub ssl_redirect: bool,
    /// The Secret of the default certificate, none for a self-made one.
    pub default_certificate: Option<ObjectKey>,
    /// The Service and port (name or number) for requests that no rule matches, none for 404.
    pub default_backend: Option<(ObjectKey, String)>,
}

/// All of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Settings {
    /// The ALBs that are enabled.
    pub albs: Vec<AlbSettings>,
    /// The L4 plane, if it is enabled.
    pub l4: Option<L4Settings>,
    /// The VPN plane, if it is enabled.
    pub vpn: Option<VpnSettings>,
    /// The overlay, if it is enabled.
    pub overlay: Option<OverlaySettings>,
}

/// The overlay, enabled, as far as rules depend on it. Of a gateway, or of a node's agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OverlaySettings {
    /// The EdgeGateway's name, or the Node's.
    pub name: String,
    /// Whether packets are encrypted.
    pub mode: OverlayMode,
    /// Where pod networks stand.
    pub pod_cidrs: PodCidrs,
    /// An edge's: service networks that it sends to nodes.
    pub services: Vec<IpNet>,
    /// An edge's: networks that pods reach through an edge, besides those of VpnConnections.
    pub egress: Vec<IpNet>,
    /// An edge's: whether pods' packets to `egress` leave with the edge's own address.
    pub masquerade: bool,
    /// Interfaces' names: an edge's one, or what a node's ones begin with.
    pub interface: String,
    /// An edge's first UDP port for WireGuard; changing keys takes the next one, too.
    pub port: u16,
    /// An edge's UDP port for probes.
    pub probe_port: u16,
    /// What a tunnel's packets may have at most; none for 1,420 or what the underlay leaves.
    pub mtu: Option<u16>,
    /// A node's: the bits of packet and connection marks that tell which edge.
    pub mark_mask: u32,
}

impl Default for OverlaySettings {
    fn default() -> Self {
        Self {
            name: String::new(),
            mode: OverlayMode::Auto,
            pod_cidrs: PodCidrs::Auto,
            services: Vec::new(),
            egress: Vec::new(),
            masquerade: true,
            interface: "tidegate-wg".to_owned(),
            port: 51_821,
            probe_port: 51_820,
            mtu: None,
            mark_mask: 0x70,
        }
    }
}

/// Where pod networks stand.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PodCidrs {
    /// In Calico's IPAMBlocks if there are any, otherwise in Nodes.
    #[default]
    Auto,
    /// In `spec.podCIDRs` of Nodes.
    Node,
    /// In Calico's IPAMBlocks.
    Calico,
}

/// The VPN plane, enabled, as far as rules depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct VpnSettings {
    /// The tunnel interface.
    pub interface: String,
    /// Pod and service networks: `local.subnets` of connections that write none.
    pub cluster_subnets: Vec<IpNet>,
    /// Networks of this side that never lie behind a tunnel, even where a remote one holds them.
    pub exempt: Vec<IpNet>,
    /// The port for IKE.
    pub port: u16,
    /// The port for IKE and ESP behind NAT.
    pub nat_port: u16,
    /// Whether ESP goes in UDP even where no NAT is seen, for connections that don't say.
    pub force_udp: bool,
}

impl Default for VpnSettings {
    fn default() -> Self {
        Self {
            interface: "tidegate-vpn".to_owned(),
            cluster_subnets: Vec::new(),
            exempt: Vec::new(),
            port: 500,
            nat_port: 4500,
            force_udp: false,
        }
    }
}

/// The L4 plane, enabled, as far as rules depend on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct L4Settings {
    /// The name of the gateway's own machine, as HostEndpoints and EndpointSlices have it.
    pub node_name: String,
    /// The interfaces that face the internet, the first one for VIPs unless another one's subnet
    /// holds them.
    pub public: Vec<String>,
    /// The same, towards the private network.
    pub private: Vec<String>,
    /// The NodePorts that may be opened.
    pub node_ports: PortRange,
    /// Whether endpoints see the edge's address in place of the client's.
    pub snat: bool,
    /// The `spec.loadBalancerClass` that is the gateway's, besides none.
    pub load_balancer_class: String,
    /// Whether Services without a class are the gateway's.
    pub default_class: bool,
    /// Ports of the edge's own that no host endpoint policy closes.
    pub fail_safe: FailSafe,
}

impl L4Settings {
    /// The interfaces of one side.
    pub fn interfaces(&self, visibility: Visibility) -> &[String] {
        match visibility {
            Visibility::Public => &self.public,
            Visibility::Private => &self.private,
        }
    }
}

/// Ports that stay open whatever the host endpoint policies say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FailSafe {
    /// Of this machine, for others.
    pub inbound: Vec<(Protocol, u16)>,
    /// Of others, for this machine.
    pub outbound: Vec<(Protocol, u16)>,
}

/// One of the machine's own addresses: an input of planning, since pools must not hold them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct HostAddress {
    /// The interface that has it.
    pub interface: String,
    /// The address with its prefix.
    pub network: IpNet,
}

/// A network of IPv4 addresses mapped into IPv6 (RFC 4291, 2.5.5.2) as the IPv4 network that it
/// is: clients' addresses are compared in that form. Others stay as they are.
pub fn canonical_network(network: IpNet) -> IpNet {
    match network {
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.addr().to_ipv4_mapped() {
            Some(v4) => Ipv4Net::new(v4, v6.prefix_len() - 96).map_or(network, IpNet::V4),
            None => network,
        },
        _ => network,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mapped_networks_are_the_ipv4_networks_that_they_are() {
        for (network, expected) in [
            ("::ffff:127.0.0.0/104", "127.0.0.0/8"),
            ("::ffff:192.0.2.1/128", "192.0.2.1/32"),
            ("::ffff:0:0/96", "0.0.0.0/0"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("10.0.0.0/8", "10.0.0.0/8"),
        ] {
            let canonical = canonical_network(network.parse().unwrap());
            assert_eq!(canonical.to_string(), expected, "{network}");
        }
    }
}
