//! The crate against the kernel, in network namespaces. Needs root, iproute2, nft, and util-linux' and
//! procps' tools.

#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout)]

#[path = "kernel/address.rs"]
mod address;
#[path = "kernel/conntrack.rs"]
mod conntrack;
#[path = "kernel/datagrams.rs"]
mod datagrams;
#[path = "kernel/lab.rs"]
mod lab;
#[path = "kernel/neighbour.rs"]
mod neighbour;
#[path = "kernel/nft.rs"]
mod nft;
#[path = "kernel/rights.rs"]
mod rights;
#[path = "kernel/route.rs"]
mod route;
#[path = "kernel/rule.rs"]
mod rule;
#[path = "kernel/tun.rs"]
mod tun;
#[path = "kernel/xfrm.rs"]
mod xfrm;
