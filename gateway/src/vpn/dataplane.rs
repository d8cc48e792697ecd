//! The data path of the tunnels, as the IKE side sees it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ipsec::ike::event::Transmit;
use ipsec::sa::{ChildName, ChildSa, ChildSaId, ConnectionName, Path, Spi};
use plan::vpn::Policy;

mod auto;
mod child;
mod control;
mod inbound;
mod limit;
mod mapping;
mod nothing;
mod outbound;
mod pending;
mod policies;
mod prefix;
mod sa;
mod settings;
mod shared;
mod tally;
mod user_space;
mod worker;
mod xfrm;

pub use auto::Auto;
pub use nothing::Nothing;
pub use settings::{Settings, StartError};
pub use user_space::UserSpace;
pub use xfrm::Xfrm;

/// The name of the kernel's data path.
pub const XFRM: &str = "xfrm";

/// What carries packets: the user-space workers, or the kernel's XFRM.
pub trait Dataplane: Send {
    /// Its name: `userspace` or `xfrm`.
    fn name(&self) -> &'static str;

    /// Which packets go where; in place of what was said before. Connections whose SAs aren't
    /// there hold their packets back: they are dropped and counted, and asked for by
    /// [`FromNetwork::Acquire`].
    fn set_policies(&mut self, policies: BTreeMap<ConnectionName, Vec<Policy>>);

    /// After how much an SA of a connection is worn ([`FromNetwork::Worn`]); for those that are
    /// installed from now on.
    fn set_limits(&mut self, limits: BTreeMap<ConnectionName, Limits>) {
        let _ = limits;
    }

    /// Takes packets on this SA; sends on it only if `send`.
    ///
    /// # Errors
    /// What can't be done, for people. The SA is not there then.
    fn install(
        &mut self,
        sa: &Arc<ChildSa>,
        send: bool,
        replaces: Option<ChildSaId>,
    ) -> Result<(), String>;

    /// Sends on this SA from now on.
    fn send(&mut self, sa: ChildSaId);

    /// Sends nothing more on it, and forgets it after `linger`.
    fn remove(&mut self, sa: ChildSaId, linger: Duration);

    /// Datagrams of these SAs go another way.
    fn set_path(&mut self, sas: &[ChildSaId], path: Path, udp: bool);

    /// Sends an IKE message (with the non-ESP marker where the path's local port is the NAT port)
    /// or a NAT keepalive.
    fn transmit(&mut self, message: &Transmit);

    /// Whether it can't carry packets any more, as when its interface was removed; it has to be
    /// started anew.
    fn is_broken(&self) -> bool {
        false
    }

    /// Whether there is a data path at all. Without one, remote networks are only guarded.
    fn carries(&self) -> bool {
        true
    }

    /// What was counted, since the start.
    fn counters(&self) -> Counters;
}

/// What the data path tells the IKE side. Bounded: where the IKE side is behind, IKE datagrams
/// are dropped and counted.
#[derive(Clone, Debug)]
pub enum FromNetwork {
    /// Nothing from the network: the IKE side is to look at what else it was told.
    Wake,
    /// An IKE message, without the non-ESP marker.
    Ike {
        /// From where to where it came: `local` is this end.
        path: Path,
        /// It.
        datagram: Vec<u8>,
        /// When.
        at: Instant,
    },
    /// A packet for a child SA that isn't there. At most once a second for each child.
    Acquire {
        /// Of which connection.
        connection: ConnectionName,
        /// Which child.
        child: ChildName,
    },
    /// An SA is nearly used up: its sequence numbers, or the limits of its connection.
    Worn {
        /// Which.
        sa: ChildSaId,
    },
    /// ESP with an unknown SPI. At most once a second for each source.
    UnknownSpi {
        /// From where to where.
        path: Path,
        /// What stood in it.
        spi: Spi,
    },
    /// Authentic ESP on another path than before.
    Moved {
        /// Which SA.
        sa: ChildSaId,
        /// From where to where now.
        path: Path,
    },
    /// Authentic ESP has come: the first on this SA, and then at most once a second.
    Alive {
        /// Which SA.
        sa: ChildSaId,
    },
}

/// After how much an SA is worn.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Inner octets of one direction.
    pub bytes: Option<u64>,
    /// Packets that were sent.
    pub packets: Option<u64>,
}

/// What was counted.
#[derive(Clone, Debug, Default)]
pub struct Counters {
    /// Of SAs that are there.
    pub sas: BTreeMap<ChildSaId, SaCounters>,
    /// Of all there were, by connection and child, without loss at a rekeying.
    pub children: BTreeMap<(ConnectionName, ChildName), SaCounters>,
    /// The largest inner packets (of IPv4) of SAs that are there, in octets.
    pub largest: BTreeMap<ChildSaId, usize>,
    /// Packets that were dropped for no SA's sake, by reason (bounded: `no-policy`, `no-sa`,
    /// `unknown-spi`, `malformed`, …).
    pub dropped: BTreeMap<&'static str, u64>,
}

/// What was counted of an SA, or a child.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SaCounters {
    /// Inner octets that were sent.
    pub sent_bytes: u64,
    /// Inner packets that were sent.
    pub sent_packets: u64,
    /// Inner octets that have come and were good.
    pub received_bytes: u64,
    /// Inner packets.
    pub received_packets: u64,
    /// Seen before, or too old.
    pub replayed: u64,
    /// Not authentic.
    pub unauthentic: u64,
    /// That came, and were not within the selectors.
    pub selector_drops: u64,
    /// That were to go out, and were not within the selectors that the other end agreed on.
    pub outside_selectors: u64,
    /// Malformed inside.
    pub malformed: u64,
    /// Answered with "packet too big".
    pub too_big: u64,
    /// Dropped since no SA was there.
    pub held_back: u64,
}

impl SaCounters {
    /// What has been counted since it was `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            sent_bytes: self.sent_bytes.saturating_sub(before.sent_bytes),
            sent_packets: self.sent_packets.saturating_sub(before.sent_packets),
            received_bytes: self.received_bytes.saturating_sub(before.received_bytes),
            received_packets: self.received_packets.saturating_sub(before.received_packets),
            replayed: self.replayed.saturating_sub(before.replayed),
            unauthentic: self.unauthentic.saturating_sub(before.unauthentic),
            selector_drops: self.selector_drops.saturating_sub(before.selector_drops),
            outside_selectors: self.outside_selectors.saturating_sub(before.outside_selectors),
            malformed: self.malformed.saturating_sub(before.malformed),
            too_big: self.too_big.saturating_sub(before.too_big),
            held_back: self.held_back.saturating_sub(before.held_back),
        }
    }
}
