//! A lab of network namespaces: client, edge, backends.
//!
//! ```text
//!  client            edge                 backend 1, 2, 3
//!    c0 ── public ── pub0   priv0 ── private ── p0
//!         (bridge)                   (bridge)
//! ```
//! The bridges stand in a namespace of their own, so that there can be several edges. Addresses:
//!
//! | who | IPv4 | IPv6 |
//! |---|---|---|
//! | client | 203.0.113.10 and .11 /24 | 2001:db8:1::10 and ::11 /64 |
//! | edge 1, `pub0` | 203.0.113.1/24 | 2001:db8:1::1/64 |
//! | edge 1, `priv0` | 10.0.0.1/24 | fd00:10::1/64 |
//! | backend 1 | 10.0.0.11/32 | fd00:10::11/128 |
//!
//! The client's second addresses are used only where a test binds to them.
//!
//! 198.51.100.0/24 and 2001:db8:2::/64 are for pools: the client takes them to be on its link, as
//! a router does with a portable subnet, and asks for them by ARP or neighbour discovery. All
//! else it sends to the first edge, which does not forward until the gateway makes it to. The
//! backends are reached as pods are: each has its address alone, and sends everything to the edge.
//!
//! It needs root. Namespaces are named `tg-PID-NUMBER-ROLE`, deleted with the lab, and those that
//! a process which is no more has left behind are deleted by the next one.

mod capture;
mod flow;
mod namespace;
mod pings;
mod sctp;
mod server;
mod tls_server;

use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};

pub use capture::Capture;
pub use flow::{Answer, Datagrams, Flow};
pub use namespace::Namespace;
pub use pings::Pings;
pub use sctp::{SctpInit, SctpListener};
pub use server::Server;
pub use tls_server::TlsServer;

use crate::gateway::{Gateway, GatewayBuilder};

/// How many backends there are.
const BACKENDS: u8 = 3;

/// What every namespace is told before it has interfaces: no waiting for duplicate address
/// detection, no filter by source, no redirects past the edge.
const SETTINGS: [(&str, &str); 12] = [
    ("ipv4/ip_forward", "0"),
    ("ipv6/conf/all/forwarding", "0"),
    ("ipv4/conf/all/rp_filter", "0"),
    ("ipv4/conf/default/rp_filter", "0"),
    ("ipv4/conf/all/send_redirects", "0"),
    ("ipv4/conf/default/send_redirects", "0"),
    ("ipv4/conf/all/accept_redirects", "0"),
    ("ipv4/conf/default/accept_redirects", "0"),
    ("ipv6/conf/default/accept_redirects", "0"),
    ("ipv6/conf/all/accept_dad", "0"),
    ("ipv6/conf/default/accept_dad", "0"),
    ("ipv6/conf/default/accept_ra", "0"),
];

/// A number that no other lab of this process has.
fn number() -> u32 {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Client, edges and backends, wired.
#[derive(Debug)]
pub struct Lab {
    client: Namespace,
    edges: Vec<Namespace>,
    backends: Vec<Namespace>,
    /// Where the bridges are.
    switch: Namespace,
}

impl Lab {
    /// A client, an edge, and three backends.
    #[allow(clippy::new_without_default)] // reason: it does a lot more than a default value
    #[track_caller]
    pub fn new() -> Self {
        Self::with_edges(1)
    }

    /// The same with several edges on both links: 203.0.113.1 and 10.0.0.1, .2, ….
    #[track_caller]
    pub fn with_edges(edges: u8) -> Self {
        namespace::remove_leftovers();
        let lab = number();
        let make = |role: &str| Namespace::configured(lab, role);
        let lab = Self {
            client: make("client"),
            edges: (1..=edges).map(|n| make(&format!("edge{n}"))).collect(),
            backends: (1..=BACKENDS).map(|n| make(&format!("backend{n}"))).collect(),
            switch: make("switch"),
        };
        lab.wire();
        lab
    }

    #[track_caller]
    fn wire(&self) {
        self.switch.set("bridge/bridge-nf-call-iptables", "0");
        self.switch.set("bridge/bridge-nf-call-ip6tables", "0");
        self.switch.set("bridge/bridge-nf-call-arptables", "0");
        let mut switch = String::new();
        for bridge in ["public", "private"] {
            let _ = writeln!(switch, "link add {bridge} type bridge mcast_snooping 0");
            let _ = writeln!(switch, "link set {bridge} up");
        }
        let mut port = 0;
        let mut plug = |bridge: &str, namespace: &Namespace, interface: &str| {
            port += 1;
            let name = namespace.name();
            let _ = writeln!(
                switch,
                "link add port{port} type veth peer name {interface} netns {name}\n\
                 link set port{port} master {bridge} up"
            );
        };
        plug("public", &self.client, "c0");
        for edge in &self.edges {
            plug("public", edge, "pub0");
            plug("private", edge, "priv0");
        }
        for backend in &self.backends {
            plug("private", backend, "p0");
        }
        self.switch.ip(&switch);

        // A neighbour that isn't there is given up after 0.3 s, not 3.
        self.client.set("ipv4/neigh/c0/retrans_time_ms", "100");
        self.client.set("ipv6/neigh/c0/retrans_time_ms", "100");
        self.client.ip("link set lo up\nlink set c0 up
addr add 203.0.113.10/24 dev c0
addr add 203.0.113.11/24 dev c0
addr add 2001:db8:1::10/64 dev c0 nodad
addr add 2001:db8:1::11/64 dev c0 nodad preferred_lft 0
route add 198.51.100.0/24 dev c0 src 203.0.113.10
route add 2001:db8:2::/64 dev c0 src 2001:db8:1::10
route add default via 203.0.113.1 src 203.0.113.10
route add default via 2001:db8:1::1 src 2001:db8:1::10
");
        for (number, edge) in (1..).zip(&self.edges) {
            edge.ip(&format!(
                "link set lo up\nlink set pub0 up\nlink set priv0 up
addr add 203.0.113.{number}/24 dev pub0
addr add 2001:db8:1::{number}/64 dev pub0 nodad
addr add 10.0.0.{number}/24 dev priv0
addr add fd00:10::{number}/64 dev priv0 nodad
"
            ));
        }
        for (number, backend) in (1..).zip(&self.backends) {
            let (v4, v6) = (Self::backend_address(number), Self::backend_address_v6(number));
            backend.ip(&format!(
                "link set lo up\nlink set p0 up
addr add {v4}/32 dev p0
addr add {v6}/128 dev p0 nodad
route add 10.0.0.1 dev p0
route add default via 10.0.0.1
route add fd00:10::1 dev p0
route add default via fd00:10::1
"
            ));
        }
    }

    /// Where clients are.
    pub fn client(&self) -> &Namespace {
        &self.client
    }

    /// The first edge.
    #[track_caller]
    pub fn edge(&self) -> &Namespace {
        self.edge_number(1)
    }

    /// One of several edges, from 1.
    #[track_caller]
    pub fn edge_number(&self, number: u8) -> &Namespace {
        self.edges.get(usize::from(number) - 1).expect("there are not as many edges")
    }

    /// A backend, from 1.
    #[track_caller]
    pub fn backend(&self, number: u8) -> &Namespace {
        self.backends.get(usize::from(number) - 1).expect("there are three backends")
    }

    /// A backend's address.
    pub fn backend_address(number: u8) -> IpAddr {
        Ipv4Addr::new(10, 0, 0, 10 + number).into()
    }

    /// A backend's IPv6 address.
    pub fn backend_address_v6(number: u8) -> IpAddr {
        // Read as hexadecimal, 0x10 + 1 is `11` too.
        Ipv6Addr::new(0xfd00, 0x10, 0, 0, 0, 0, 0, 0x10 + u16::from(number)).into()
    }

    /// The edge's address on `pub0`.
    pub fn edge_address() -> IpAddr {
        Ipv4Addr::new(203, 0, 113, 1).into()
    }

    /// The edge's IPv6 address on `pub0`.
    pub fn edge_address_v6() -> IpAddr {
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 1).into()
    }

    /// The client's first (0) and second (1) address.
    pub fn client_address(number: u8) -> IpAddr {
        Ipv4Addr::new(203, 0, 113, 10 + number).into()
    }

    /// The client's first (0) and second (1) IPv6 address.
    pub fn client_address_v6(number: u8) -> IpAddr {
        Ipv6Addr::new(0x2001, 0xdb8, 1, 0, 0, 0, 0, 0x10 + u16::from(number)).into()
    }

    /// Servers on a port of all backends, TCP and UDP, named `one`, `two`, `three`.
    #[track_caller]
    pub fn serve(&self, port: u16) -> Vec<Server> {
        let names = ["one", "two", "three"];
        names.iter().zip(&self.backends).map(|(name, at)| Server::start(at, port, name)).collect()
    }

    /// Starts a gateway on the first edge and waits until it is ready.
    #[track_caller]
    pub fn start(&self, builder: GatewayBuilder) -> Gateway {
        builder.within(self.edge()).start()
    }
}

#[cfg(test)]
mod tests;
