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
//! **With the API gone** an edge may go on past the end of its Lease only with promises ("I won't
//! fence you for so long") of all edges that its Lease names as known to it, asked for again and
//! again without a gap; one that knows of no other goes on by itself. An edge fences another only
//! if that one's Lease names it, for then it would have been asked. One that isn't named (it came
//! after the other was cut off) asks the other directly, leaves the fencing to edges that are
//! named, and fences only after a long silence, with none of those alive. Only there two edges may
//! hold the same: if they share the VIP's link, but one reaches neither the API nor the other. Who
//! takes over in that way is told ([`Former::Silent`]), and asks on the link first.
//! An edge that dies while the API is gone can promise nothing: those that know it give up what
//! they hold. Once an edge has let its time lapse, only a renewal brings its claims back.
//!
//! **What it is not:** the Leases' transport (`cluster`), or what follows from holding something.
//!
//! It follows client-go's leader election in measuring time only locally; the Leases are those of
//! coordination.k8s.io/v1. Two processes with one edge's name must be kept apart by other means.

pub mod engine;
pub mod lease;
pub mod message;
mod rank;
mod settings;

use std::fmt;
use std::net::IpAddr;

use model::ObjectKey;

pub use engine::{Answer, EdgeView, Engine, Event, Former, Held, Holding, Request, Sight, Wanted};
pub use lease::{Lease, LeaseFault};
pub use message::Message;
pub use settings::Settings;

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
    /// `leader`, `vip-192.0.2.1`, `vpn-namespace-name`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Leader => f.write_str("leader"),
            Self::Vip(address) => write!(f, "vip-{address}"),
            Self::Vpn(key) => write!(f, "vpn-{}-{}", key.namespace, key.name),
        }
    }
}
