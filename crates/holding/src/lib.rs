//! Who holds what, where there are several edges.
//!
//! **What it is:** a state machine without I/O. Each edge keeps a Lease of its own alive; what an
//! edge holds (the lead, a VIP, a VpnConnection) are claims, each a Lease with an epoch that names
//! its holder's incarnation. A claim counts for as long as that incarnation's own Lease does.
//! Another edge takes claims over only after it has fenced the incarnation: by a write to the
//! incarnation's Lease that succeeds only if it was not renewed since, and only once it has seen it
//! unrenewed for longer than the holder may go on without renewing it. So there are never two
//! holders, whatever clocks say, as long as they run at about the same rate.
//!
//! **What it is not:** the Leases' transport (`cluster`), or what follows from holding something.
//!
//! It follows client-go's leader election in measuring time only locally; the Leases are those of
//! coordination.k8s.io/v1.

use std::fmt;
use std::net::IpAddr;

use model::ObjectKey;

/// Something that one edge at a time may hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Claim {
    /// To write back what all edges know: statuses, Events, allocations.
    Leader,
    /// A VIP: to have it on an interface, and to announce it.
    Vip(IpAddr),
    /// A VpnConnection that has no VIP of its own.
    Vpn(ObjectKey),
}

impl fmt::Display for Claim {
    /// As in names of Leases: `leader`, `vip-192.0.2.1`, `vpn-namespace-name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader => f.write_str("leader"),
            Self::Vip(address) => write!(f, "vip-{address}"),
            Self::Vpn(key) => write!(f, "vpn-{}-{}", key.namespace, key.name),
        }
    }
}
