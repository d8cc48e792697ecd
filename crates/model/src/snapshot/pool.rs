//! AddressPools, and the label selectors that they use.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use crate::diagnostic::Location;
use crate::net::Visibility;

/// One AddressPool: portable addresses for VIPs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AddressPool {
    /// Which side its addresses face.
    pub visibility: Visibility,
    /// Its addresses, in the object's order, without ranges that were refused.
    pub ranges: Vec<AddressRange>,
    /// Addresses of its ranges that are never given away. Sorted.
    pub reserved: Vec<IpAddr>,
    /// Addresses that the ALB of this visibility takes: none, one, or one of each family.
    pub alb: Vec<IpAddr>,
    /// Whether a Service that asks for no pool and no address may be given one of these.
    pub auto_assign: bool,
    /// How the network learns where an address is.
    pub announce: Announce,
    /// The Services that may take from it; all if empty.
    pub service_selector: LabelSelector,
    /// The namespaces whose Services may take from it; all if empty.
    pub namespace_selector: LabelSelector,
    /// `metadata.creationTimestamp`, in seconds since the epoch; none in hand-written manifests.
    pub created: Option<i64>,
    /// Where it was read, for the planners' diagnostics.
    pub location: Option<Location>,
}

/// Addresses of one family from the first to the last, both included.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AddressRange {
    /// The lowest.
    pub first: IpAddr,
    /// The highest, of the same family, not below the lowest.
    pub last: IpAddr,
    /// Where it stands: the index in `spec.addresses`.
    pub index: usize,
}

impl AddressRange {
    /// Whether the address is one of them.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.first.is_ipv4() == address.is_ipv4() && (self.first..=self.last).contains(&address)
    }

    /// Whether an address is in both.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.first) || other.contains(self.first)
    }
}

/// How the network learns where an address is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Announce {
    /// By ARP (RFC 826) and neighbour discovery (RFC 4861) on an interface.
    #[default]
    L2,
    /// By BGP.
    Bgp,
    /// Not at all: it is routed to the edge.
    None,
}

/// A Kubernetes label selector (meta/v1 LabelSelector), parsed. All requirements must hold; with
/// none it selects everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector {
    /// What must hold, `matchLabels` as `In` with one value.
    pub requirements: Vec<Requirement>,
}

/// One requirement on a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label.
    pub key: String,
    /// What about it.
    pub operator: Operator,
}

/// What must hold for a label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// It has one of these values.
    In(Vec<String>),
    /// It hasn't one of these values, or isn't there.
    NotIn(Vec<String>),
    /// It is there.
    Exists,
    /// It isn't there.
    DoesNotExist,
}

impl LabelSelector {
    /// Whether all requirements hold.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.requirements.iter().all(|requirement| {
            let value = labels.get(&requirement.key);
            match &requirement.operator {
                Operator::In(values) => value.is_some_and(|value| values.contains(value)),
                Operator::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
                Operator::Exists => value.is_some(),
                Operator::DoesNotExist => value.is_none(),
            }
        })
    }
}
