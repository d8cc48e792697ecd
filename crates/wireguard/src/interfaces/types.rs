//! What is asked of interfaces, and what may be wrong.

use std::fmt;

use model::PublicKey;
use plan::overlay::Tunnel;
use thiserror::Error;

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
pub enum StartError {
    /// The kernel was asked for, and can't.
    #[error(
        "the kernel makes no WireGuard interface ({0}); load the module `wireguard`, or let the \
             backend be `auto`"
    )]
    Kernel(netdev::NetlinkError),
}

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

impl Fault {
    pub(crate) fn new(tunnel: &Tunnel, reason: String) -> Self {
        Self { interface: tunnel.interface.clone(), peer: None, reason }
    }

    pub(crate) fn of(tunnel: &Tunnel, peer: Option<PublicKey>, reason: String) -> Self {
        Self { interface: tunnel.interface.clone(), peer, reason }
    }
}
