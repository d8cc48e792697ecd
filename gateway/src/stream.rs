//! L4 in user space, where the kernel can't: TLS, SNI, the PROXY protocol, least connections.
//!
//! It runs in the ALB's workers. A listener has a `table::Front` whose routes are swapped when
//! a Service changes, so that the listener stays; a connection looks them up once.
//!
//! Source ranges are not looked at here: nftables enforces them, on the address that packets
//! really come from. The address in a PROXY protocol header is a claim of whoever sends it: it
//! is handed on, and endpoints are chosen by it, but nothing is allowed by it.

mod affinity;
mod choice;
pub(crate) mod connection;
pub mod counters;
mod hello;
pub(crate) mod port;
mod proxy;
pub(crate) mod table;
pub(crate) mod udp;

pub use counters::{StreamCounters, StreamTotals};
