//! The kernel's networking, as far as the gateway changes it.
//!
//! **What it is:** nftables transactions, interfaces' addresses, conntrack entries, ARP and
//! neighbour discovery.
//!
//! **What it is not:** decisions. What is to be applied comes from `plan`.
