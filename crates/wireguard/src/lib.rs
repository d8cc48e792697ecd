//! WireGuard interfaces, and what an overlay plan puts around them.
//!
//! **What it is:** [`Interfaces`], which makes the interfaces of an [`plan::overlay::OverlayPlan`]
//! be there and be as it says: in the kernel by generic netlink, or in this process with a TUN
//! interface, where the kernel has no WireGuard ([`Backend`]).
//!
//! **What it is not:** decisions, which come from `plan`, or WireGuard's protocol, which
//! `overlay` has by way of boringtun.
//!
//! It rests on `linux/wireguard.h` and the WireGuard paper
//! (<https://www.wireguard.com/papers/wireguard.pdf>).

pub mod apply;
mod interfaces;
pub mod random;
mod user_space;

pub use apply::{Applier, ApplyError, Report, Scope};
pub use interfaces::{
    Backend, Fault, InterfaceStatistics, Interfaces, Keys, PeerStatistics, Settings, StartError,
    Wanted,
};
