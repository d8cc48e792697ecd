//! Interfaces in user space against wireguard-go, in network namespaces. Needs root, iproute2,
//! wireguard-go, wg, ping and iperf3.

#![allow(clippy::unwrap_used, clippy::panic)]

#[path = "interop/flood.rs"]
mod flood;
#[path = "interop/lab.rs"]
mod lab;
#[path = "interop/life.rs"]
mod life;
#[path = "interop/traffic.rs"]
mod traffic;
