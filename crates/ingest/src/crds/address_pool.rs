//! AddressPool: portable addresses for VIPs.

use std::fmt;
use std::net::IpAddr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::{ClusterResourceScope, Metadata, Resource};
use model::Visibility;
use model::snapshot::Announce;
use schemars::JsonSchema;
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::label_selector::LabelSelector;
use super::span::Span;
use super::vpn_connection::ConditionStatus;
use super::{API_VERSION, GROUP, VERSION};

// What the API server refuses at once, in CEL with Kubernetes' library of IP functions (1.31).
const ADDRESSES: &str = "self.all(a, isIP(a) || isCIDR(a) || (a.split('-').size() == 2 && \
                         a.split('-').all(b, isIP(b.trim()))))";
const NETWORKS: &str = "self.all(a, !isCIDR(a) || cidr(a) == cidr(a).masked())";
const FAMILIES: &str = "self.all(a, a.split('-').size() != 2 || !a.split('-').all(b, \
                        isIP(b.trim())) || ip(a.split('-')[0].trim()).family() == \
                        ip(a.split('-')[1].trim()).family())";
const WRITE: &str = "each is an address, a range such as 198.51.100.18-198.51.100.22, or a \
                     network such as 198.51.100.16/29";

/// An AddressPool object.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct AddressPool {
    /// tidegate.io/v1alpha1, where it is written.
    pub api_version: Option<String>,
    /// AddressPool, where it is written.
    pub kind: Option<String>,
    /// Its name and the like.
    #[serde(default)]
    pub metadata: ObjectMeta,
    /// What it says.
    pub spec: AddressPoolSpec,
    /// What the gateway writes.
    pub status: Option<AddressPoolStatus>,
}

/// What the gateway writes about a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressPoolStatus {
    /// How many addresses are given away.
    pub used: Option<i64>,
    /// How many can still be given away: a number, or more than 4294967296.
    pub free: Option<String>,
    /// Accepted and Exhausted, each with its reason.
    pub conditions: Option<Vec<ConditionStatus>>,
}

/// Portable addresses for VIPs: for Services of type LoadBalancer, and for an ALB.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AddressPoolSpec {
    /// Networks (198.51.100.16/29), ranges (198.51.100.18-198.51.100.22) and single addresses,
    /// IPv4 and IPv6. All addresses of a network are given away but those that are reserved.
    #[schemars(length(min = 1, max = 256), inner(length(min = 2, max = 91)))]
    #[schemars(extend("x-kubernetes-validations" = [
        {"rule": ADDRESSES, "message": WRITE},
        {"rule": NETWORKS, "message": "a network has no bits set behind its prefix"},
        {"rule": FAMILIES, "message": "a range begins and ends in one family"},
    ]))]
    pub addresses: Vec<String>,
    /// The side that the addresses face: public or private. A Service takes from public pools
    /// unless its annotation tidegate.io/visibility says private.
    #[schemars(with = "Option<String>", extend("enum" = ["public", "private"], "default" = "public"))]
    pub visibility: Option<Visibility>,
    /// Addresses that are never given away, such as the network's own, the router's and the
    /// broadcast address: written as addresses are.
    #[schemars(length(max = 256))]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": ADDRESSES, "message": WRITE}]))]
    pub reserved: Option<Vec<Span>>,
    /// The address that the ALB of this visibility takes, or a list of one for each family.
    #[schemars(with = "Option<serde_json::Value>", extend("x-kubernetes-preserve-unknown-fields" = true))]
    pub alb: Option<Addresses>,
    /// Whether Services that ask for no pool and no address may be given one of these.
    #[schemars(with = "Option<bool>", extend("default" = true))]
    pub auto_assign: Option<bool>,
    /// How the network learns where an address is: l2 for ARP and neighbour discovery, bgp, or
    /// none where the addresses are routed to the edge.
    #[schemars(with = "Option<String>", extend("enum" = ["l2", "bgp", "none"], "default" = "l2"))]
    pub announce: Option<Announce>,
    /// The Services that may take from the pool; without it, all.
    pub service_selector: Option<LabelSelector>,
    /// The namespaces whose Services may take from the pool; without it, all.
    pub namespace_selector: Option<LabelSelector>,
}

impl Resource for AddressPool {
    const API_VERSION: &'static str = API_VERSION;
    const GROUP: &'static str = GROUP;
    const KIND: &'static str = "AddressPool";
    const VERSION: &'static str = VERSION;
    const URL_PATH_SEGMENT: &'static str = "addresspools";
    type Scope = ClusterResourceScope;
}

impl Metadata for AddressPool {
    type Ty = ObjectMeta;

    fn metadata(&self) -> &ObjectMeta {
        &self.metadata
    }

    fn metadata_mut(&mut self) -> &mut ObjectMeta {
        &mut self.metadata
    }
}

/// One address, or a list of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Addresses(pub Vec<IpAddr>);

impl<'de> Deserialize<'de> for Addresses {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AddressesVisitor;

        impl<'de> Visitor<'de> for AddressesVisitor {
            type Value = Addresses;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an address, such as \"198.51.100.18\", or a list of addresses")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Addresses, E> {
                address(text).map(|address| Addresses(vec![address])).map_err(E::custom)
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Addresses, A::Error> {
                let mut addresses = Vec::new();
                while let Some(text) = items.next_element::<String>()? {
                    addresses.push(address(&text).map_err(A::Error::custom)?);
                }
                Ok(Addresses(addresses))
            }
        }

        deserializer.deserialize_any(AddressesVisitor)
    }
}

fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| format!("{text:?} is no address; write one such as \"198.51.100.18\""))
}
