//! The kinds that are watched, and where the API has them.

use std::fmt;

use serde::{Serialize, Serializer};

/// A kind of object that can be watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "they are the kinds' own names")]
pub enum Kind {
    Ingress,
    IngressClass,
    Service,
    EndpointSlice,
    Secret,
    Namespace,
    Node,
    AddressPool,
    VpnConnection,
    EdgeGateway,
    IpamBlock,
    GlobalNetworkPolicy,
    HostEndpoint,
    GlobalNetworkSet,
}

/// Where the API has a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The group, empty for the core's.
    pub group: &'static str,
    /// Its version.
    pub version: &'static str,
    /// The plural, as it stands in paths and in RBAC rules.
    pub resource: &'static str,
}

/// Who defines a kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner {
    /// Every cluster has it.
    Kubernetes,
    /// Tidegate's CustomResourceDefinitions.
    Tidegate,
    /// Calico: many a cluster hasn't got it.
    Calico,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 14] = [
        Self::Ingress,
        Self::IngressClass,
        Self::Service,
        Self::EndpointSlice,
        Self::Secret,
        Self::Namespace,
        Self::Node,
        Self::AddressPool,
        Self::VpnConnection,
        Self::EdgeGateway,
        Self::IpamBlock,
        Self::GlobalNetworkPolicy,
        Self::HostEndpoint,
        Self::GlobalNetworkSet,
    ];

    /// Its name, as it stands in `kind`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ingress => "Ingress",
            Self::IngressClass => "IngressClass",
            Self::Service => "Service",
            Self::EndpointSlice => "EndpointSlice",
            Self::Secret => "Secret",
            Self::Namespace => "Namespace",
            Self::Node => "Node",
            Self::AddressPool => "AddressPool",
            Self::VpnConnection => "VpnConnection",
            Self::EdgeGateway => "EdgeGateway",
            Self::IpamBlock => "IPAMBlock",
            Self::GlobalNetworkPolicy => "GlobalNetworkPolicy",
            Self::HostEndpoint => "HostEndpoint",
            Self::GlobalNetworkSet => "GlobalNetworkSet",
        }
    }

    /// Where the API may have it, the place to be asked first in front: Calico's objects are served
    /// by its own API where that runs, and else can be had as they are stored.
    pub fn places(self) -> &'static [Place] {
        const fn place(
            group: &'static str,
            version: &'static str,
            resource: &'static str,
        ) -> Place {
            Place { group, version, resource }
        }
        const STORED: &str = "crd.projectcalico.org";
        const SERVED: &str = "projectcalico.org";
        match self {
            Self::Ingress => const { &[place("networking.k8s.io", "v1", "ingresses")] },
            Self::IngressClass => const { &[place("networking.k8s.io", "v1", "ingressclasses")] },
            Self::Service => const { &[place("", "v1", "services")] },
            Self::EndpointSlice => const { &[place("discovery.k8s.io", "v1", "endpointslices")] },
            Self::Secret => const { &[place("", "v1", "secrets")] },
            Self::Namespace => const { &[place("", "v1", "namespaces")] },
            Self::Node => const { &[place("", "v1", "nodes")] },
            Self::AddressPool => const { &[place("tidegate.io", "v1alpha1", "addresspools")] },
            Self::VpnConnection => const { &[place("tidegate.io", "v1alpha1", "vpnconnections")] },
            Self::EdgeGateway => const { &[place("tidegate.io", "v1alpha1", "edgegateways")] },
            Self::IpamBlock => const { &[place(STORED, "v1", "ipamblocks")] },
            Self::GlobalNetworkPolicy => {
                const {
                    &[
                        place(SERVED, "v3", "globalnetworkpolicies"),
                        place(STORED, "v1", "globalnetworkpolicies"),
                    ]
                }
            }
            Self::HostEndpoint => {
                const { &[place(SERVED, "v3", "hostendpoints"), place(STORED, "v1", "hostendpoints")] }
            }
            Self::GlobalNetworkSet => {
                const {
                    &[
                        place(SERVED, "v3", "globalnetworksets"),
                        place(STORED, "v1", "globalnetworksets"),
                    ]
                }
            }
        }
    }

    /// The place to be asked first.
    pub fn place(self) -> Place {
        self.places().first().copied().expect("invariant: every kind has a place")
    }

    /// Who defines it.
    pub fn owner(self) -> Owner {
        match self {
            Self::AddressPool | Self::VpnConnection | Self::EdgeGateway => Owner::Tidegate,
            Self::IpamBlock
            | Self::GlobalNetworkPolicy
            | Self::HostEndpoint
            | Self::GlobalNetworkSet => Owner::Calico,
            _ => Owner::Kubernetes,
        }
    }

    /// Whether its objects are in namespaces.
    pub fn is_namespaced(self) -> bool {
        matches!(
            self,
            Self::Ingress
                | Self::Service
                | Self::EndpointSlice
                | Self::Secret
                | Self::VpnConnection
        )
    }
}

impl Place {
    /// The path of all its objects, or of those in a namespace.
    pub fn path(self, namespace: Option<&str>) -> String {
        let Self { group, version, resource } = self;
        let api = if group.is_empty() { "/api".to_owned() } else { format!("/apis/{group}") };
        match namespace {
            Some(namespace) => format!("{api}/{version}/namespaces/{namespace}/{resource}"),
            None => format!("{api}/{version}/{resource}"),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl Serialize for Kind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api() {
        assert_eq!(Kind::Service.place().path(None), "/api/v1/services");
        let slices = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
        assert_eq!(Kind::EndpointSlice.place().path(Some("shop")), slices);
    }
}
