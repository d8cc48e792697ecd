//! The VPN plane at work: IKE and ESP follow the plan.
//!
//! **What it is:** the thread that owns the IKE engine, and the data path ([`dataplane`]).
//!
//! **What it is not:** the protocols (`ipsec`), or decisions which networks go where
//! (`plan::vpn`).

pub mod dataplane;
