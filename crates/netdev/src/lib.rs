//! The kernel's networking, as far as the gateway changes it.
//!
//! **What it is:** nftables transactions and who made them ([`nft`]), interfaces and their
//! addresses ([`address`], [`link`]), local routes and those of a table of our own ([`route`]), rules that
//! lead to such a table ([`rule`]), duplicate address detection and announcing ([`neighbour`]),
//! conntrack entries ([`conntrack`]), kernel settings ([`sysctl`]), TUN interfaces ([`tun`]), and
//! the sockets that tunnels end in ([`udp`], [`esp_socket`]), and IPsec and WireGuard in the kernel
//! ([`xfrm`], [`wireguard`]).
//! All of it blocks, with bounds, and acts in the network namespace of the thread that calls; what several parts tell is
//! awaited together with [`wait`].
//!
//! **What it is not:** decisions. What is to be applied comes from `plan`.
//!
//! It rests on nft(8) of version 1.0.6 or later; netlink (RFC 3549, `linux/netlink.h`) with the
//! families of `linux/rtnetlink.h`, `linux/if_addr.h`, `linux/if_link.h`,
//! `linux/xfrm.h`, `linux/genetlink.h`, `linux/wireguard.h`, `linux/netfilter/nfnetlink.h`, `nf_tables.h` and `nfnetlink_conntrack.h`, spoken by
//! a codec of a page for all of them; packet(7); ARP (RFC 826) and IPv4 address conflict
//! detection (RFC 5227); neighbour discovery (RFC 4861) and duplicate address detection of IPv6
//! (RFC 4862).

pub mod address;
pub mod conntrack;
pub mod esp_socket;
pub mod link;
pub mod neighbour;
mod netlink;
pub mod nft;
pub mod route;
pub mod rule;
pub mod sysctl;
pub mod tun;
pub mod udp;
pub mod wait;
pub mod wireguard;
pub mod xfrm;

pub use netlink::NetlinkError;
