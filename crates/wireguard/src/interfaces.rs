//! Interfaces as a plan wants them.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use model::PublicKey;
use overlay::PrivateKey;
use plan::overlay::Tunnel;
use thiserror::Error;

/// Private keys by their public halves.
pub type Keys = BTreeMap<PublicKey, PrivateKey>;

/// Where interfaces are to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Wanted {
    /// In the kernel if it has WireGuard, otherwise in this process.
    #[default]
    Auto,
    /// In the kernel.
    Kernel,
    /// In this process.
    UserSpace,
}

/// Where interfaces are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backend {
    /// In the kernel: they stay over a restart of this process.
    Kernel,
    /// In this process: they go with it.
    UserSpace,
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kernel => "kernel",
            Self::UserSpace => "userspace",
        })
    }
}

/// How interfaces are made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Where.
    pub backend: Wanted,
    /// What the names of all interfaces begin with. Others of WireGuard's that do so, and that no
    /// plan has, are removed.
    pub prefix: String,
    /// The mark of what is sent over the underlay, if not zero.
    pub mark: u32,
    /// In this process: threads of each interface.
    pub workers: usize,
    /// In this process: whether the kernel is asked for segmentation offloads.
    pub offloads: bool,
}

impl Default for Settings {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Self {
            backend: Wanted::Auto,
            prefix: "tidegate-wg".to_owned(),
            mark: 0,
            workers: cores.min(4),
            offloads: true,
        }
    }
}

/// No interface can be made at all.
#[derive(Debug, Error)]
pub enum StartError {}

/// What of a plan is not in force.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("WireGuard interface `{interface}`: {reason}")]
pub struct Fault {
    /// The interface.
    pub interface: String,
    /// The peer, if it is one's.
    pub peer: Option<PublicKey>,
    /// What is wrong, and what to do.
    pub reason: String,
}

/// What a peer has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PeerStatistics {
    /// Where it is, as far as known; it may have roamed.
    pub endpoint: Option<SocketAddr>,
    /// How long ago the last handshake was.
    pub last_handshake: Option<Duration>,
    /// Octets received, as they were in the tunnel (the kernel counts datagrams).
    pub received_bytes: u64,
    /// Octets sent.
    pub sent_bytes: u64,
    /// Packets received; the kernel doesn't count them.
    pub received_packets: u64,
    /// Packets sent.
    pub sent_packets: u64,
}

/// Packets that were not passed on; the kernel doesn't say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Drops(pub BTreeMap<&'static str, u64>);

/// What an interface has done.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InterfaceStatistics {
    /// By key.
    pub peers: BTreeMap<PublicKey, PeerStatistics>,
    /// By reason.
    pub drops: Drops,
}

/// Interfaces as a plan wants them. Those in this process go when it is dropped; those in the
/// kernel stay.
#[derive(Debug)]
pub struct Interfaces {
    backend: Backend,
}

impl Interfaces {
    /// In the network namespace of the calling thread. Nothing is made yet.
    ///
    /// # Errors
    /// [`StartError`]: the kernel has neither WireGuard nor TUN, or it isn't allowed.
    pub fn new(_settings: Settings) -> Result<Self, StartError> {
        Ok(Self { backend: Backend::UserSpace })
    }

    /// Where interfaces are.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Makes interfaces be as `tunnels` says and removes others; again if nothing has changed,
    /// which restores what others have changed. What is not in force afterwards. Blocks for
    /// milliseconds; must be called in the network namespace that it was made in.
    pub fn apply(&mut self, _tunnels: &[Tunnel], _keys: &Keys) -> Vec<Fault> {
        Vec::new()
    }

    /// What each interface has done.
    pub fn statistics(&self) -> BTreeMap<String, InterfaceStatistics> {
        BTreeMap::new()
    }

    /// Removes all interfaces, for an uninstallation.
    pub fn remove(&mut self) -> Vec<Fault> {
        self.apply(&[], &Keys::new())
    }
}
