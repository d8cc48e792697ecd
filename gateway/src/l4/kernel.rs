//! What the driver asks of the kernel, so that its decisions can be tested without one.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::Instant;

use model::HostAddress;
use model::net::Protocol;
use plan::l4::traffic::Listing;

use super::state::Taken;

/// The interface for addresses that nobody asks the network for.
pub(super) const LOOPBACK: &str = "lo";

/// Why the kernel, or a program that speaks to it, did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fault(pub String);

impl Fault {
    /// From any error's text.
    pub fn of(error: impl fmt::Display) -> Self {
        Self(error.to_string())
    }
}

/// The machine's interfaces and their addresses.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// The interfaces' names.
    pub interfaces: BTreeSet<String>,
    /// Those of them that are switched on and whose link works.
    pub up: BTreeSet<String>,
    /// All addresses, VIPs among them. Sorted.
    pub addresses: Vec<HostAddress>,
    /// Those that bear the gateway's mark.
    pub marked: BTreeSet<Taken>,
}

/// How a probe for an address ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probed {
    /// The address, and where it was asked for.
    pub taken: Taken,
    /// The hardware address of a machine that has it; none: nobody has it.
    pub found: Result<Option<String>, Fault>,
}

/// What has happened in the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Events {
    /// Somebody else has changed the gateway's table: who, as far as it is known.
    pub foreign: Option<String>,
    /// Interfaces or their addresses have changed.
    pub links: bool,
    /// Probes that have ended.
    pub probed: Vec<Probed>,
}

/// A tracked connection, as far as this depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its protocol.
    pub protocol: Protocol,
    /// Where the client sends to.
    pub destination: SocketAddr,
    /// Who answers: the destination itself, or the endpoint that it was translated to.
    pub answers: SocketAddr,
}

/// The kernel.
pub trait Kernel {
    /// Waits until something has happened, the mailbox's bell rings, or the time has come.
    fn wait(&mut self, until: Option<Instant>) -> Events;

    /// Interfaces and addresses as they are now.
    ///
    /// # Errors
    /// [`Fault`]
    fn host(&mut self) -> Result<Host, Fault>;

    /// Puts the address on the interface, alone in its subnet. That it is there already is fine.
    /// On `LOOPBACK` it may be there only after [`Kernel::settle`].
    ///
    /// # Errors
    /// [`Fault`]
    fn add_address(&mut self, interface: &str, address: IpAddr) -> Result<(), Fault>;

    /// Takes it off, at the latest with [`Kernel::settle`]. That it isn't there is fine.
    ///
    /// # Errors
    /// [`Fault`]
    fn remove_address(&mut self, interface: &str, address: IpAddr) -> Result<(), Fault>;

    /// Has the kernel take it off by itself after so many seconds, unless it is told so again.
    ///
    /// # Errors
    /// [`Fault`]
    fn limit_address(
        &mut self,
        interface: &str,
        address: IpAddr,
        seconds: u32,
    ) -> Result<(), Fault>;

    /// Does what was put off. Returns the addresses that are not on `LOOPBACK` though they were
    /// put there.
    fn settle(&mut self) -> Vec<(IpAddr, Fault)>;

    /// Begins to ask the network who has the addresses. [`Events::probed`] tells how it ended.
    fn probe(&mut self, addresses: Vec<Taken>);

    /// Tells the network that the addresses are here. Returns the failures.
    fn announce(&mut self, addresses: &[Taken]) -> Vec<(Taken, Fault)>;

    /// One transaction of nftables.
    ///
    /// # Errors
    /// [`Fault`]: then nothing of it is in force.
    fn transaction(&mut self, text: &str) -> Result<(), Fault>;

    /// A set or map of the gateway's table, with its elements; none where there is no such thing.
    ///
    /// # Errors
    /// [`Fault`]
    fn listing(&mut self, kind: &str, name: &str) -> Result<Option<Listing>, Fault>;

    /// Deletes tracked connections of UDP and SCTP, and returns how many.
    ///
    /// # Errors
    /// [`Fault`]
    fn forget(&mut self, stale: &dyn Fn(&Entry) -> bool) -> Result<usize, Fault>;

    /// Lets the kernel forward packets of a family; returns whether that had to be changed.
    ///
    /// # Errors
    /// [`Fault`]
    fn forward(&mut self, ipv6: bool) -> Result<bool, Fault>;
}
