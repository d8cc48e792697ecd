//! A lab of two sites, each a gateway with a host behind it.
//!
//! ```text
//!  host A          gateway A                gateway B          host B
//!    h0 ───────── lan0   wan0 ───────────── wan0   lan0 ───────── h0
//!  10.1.0.2   10.1.0.1   192.0.2.1   192.0.2.2   10.2.0.1   10.2.0.2
//! fd01::2      fd01::1   2001:db8::1 2001:db8::2  fd02::1    fd02::2
//! ```
//! The hosts send everything to their gateway. The gateways know of each other's site only that
//! it lies beyond the other gateway (a route over `wan0`): a packet that isn't kept back would
//! arrive in the clear, and [`VpnLab::clear`] would show it. They don't forward until somebody
//! makes them.
//!
//! It needs root. Namespaces are named and deleted as those of [`crate::Lab`].

use std::net::{IpAddr, Ipv4Addr};

use crate::lab::{Capture, Namespace, Pings};

/// One of the two sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Site {
    /// 10.1.0.0/24
    A,
    /// 10.2.0.0/24
    B,
}

impl Site {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::A, Self::B];

    /// The other one.
    pub fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::A => 1,
            Self::B => 2,
        }
    }

    /// The gateway's address on the way to the other one.
    pub fn gateway_address(self) -> IpAddr {
        Ipv4Addr::new(192, 0, 2, self.number()).into()
    }

    /// The host's address.
    pub fn host_address(self) -> IpAddr {
        Ipv4Addr::new(10, self.number(), 0, 2).into()
    }

    /// The gateway's address towards its host.
    pub fn inner_address(self) -> IpAddr {
        Ipv4Addr::new(10, self.number(), 0, 1).into()
    }

    /// The network behind the gateway.
    pub fn network(self) -> String {
        format!("10.{}.0.0/24", self.number())
    }
}

/// Both sites, wired.
#[derive(Debug)]
pub struct VpnLab {
    hosts: [Namespace; 2],
    gateways: [Namespace; 2],
}

impl VpnLab {
    /// Two sites.
    #[allow(clippy::new_without_default)] // reason: it does a lot more than a default value
    #[track_caller]
    pub fn new() -> Self {
        let lab = Self {
            hosts: ["ha", "hb"].map(Namespace::alone),
            gateways: ["ga", "gb"].map(Namespace::alone),
        };
        let [a, b] = &lab.gateways;
        a.ip(&format!("link add wan0 type veth peer name wan0 netns {}\n", b.name()));
        for site in Site::BOTH {
            let (host, gateway, n) = (lab.host(site), lab.gateway(site), site.number());
            let other = site.other().number();
            gateway.ip(&format!(
                "link add lan0 type veth peer name h0 netns {}\n\
                 addr add 192.0.2.{n}/24 dev wan0\n\
                 addr add 2001:db8::{n}/64 dev wan0 nodad\n\
                 addr add 10.{n}.0.1/24 dev lan0\n\
                 addr add fd0{n}::1/64 dev lan0 nodad\n\
                 link set lo up\nlink set lan0 up\nlink set wan0 up\n",
                host.name()
            ));
            host.ip(&format!(
                "addr add 10.{n}.0.2/24 dev h0\n\
                 addr add fd0{n}::2/64 dev h0 nodad\n\
                 link set lo up\nlink set h0 up\n\
                 route add default via 10.{n}.0.1\n\
                 route add default via fd0{n}::1\n"
            ));
            gateway.ip(&format!(
                "route add 10.{other}.0.0/24 via 192.0.2.{other}\n\
                 route add fd0{other}::/64 via 2001:db8::{other}\n"
            ));
        }
        lab
    }

    /// The host of a site.
    pub fn host(&self, site: Site) -> &Namespace {
        let [a, b] = &self.hosts;
        if site == Site::A { a } else { b }
    }

    /// The gateway of a site.
    pub fn gateway(&self, site: Site) -> &Namespace {
        let [a, b] = &self.gateways;
        if site == Site::A { a } else { b }
    }

    /// Whether one echo request from a site's host to the other's is answered within half a
    /// second.
    #[track_caller]
    pub fn pings(&self, from: Site) -> bool {
        let to = from.other().host_address().to_string();
        self.host(from).try_command("ping", &["-n", "-c1", "-W0.5", &to], "").is_ok()
    }

    /// Echo requests from a site's host to the other's, one every `interval` seconds, until
    /// [`Pings::stop`].
    #[track_caller]
    pub fn ping_on(&self, from: Site, interval: &str) -> Pings {
        Pings::start(self.host(from), from.other().host_address(), interval)
    }

    /// Loses so many of a hundred packets that come over the link between the gateways, on both
    /// ends; 0 for none.
    #[track_caller]
    pub fn lose(&self, percent: u8) {
        let mut text = "add table ip lab-loss\ndelete table ip lab-loss\n".to_owned();
        let some = match percent {
            100.. => "drop".to_owned(),
            _ => format!("numgen random mod 100 < {percent} drop"),
        };
        if percent > 0 {
            text.push_str(&format!(
                "table ip lab-loss {{\n chain c {{\n  type filter hook input priority -300\n  \
                 iifname wan0 {some}\n }}\n}}\n"
            ));
        }
        for gateway in &self.gateways {
            gateway.command_with("nft", &["-f", "-"], &text);
        }
    }

    /// Packets of the hosts' networks that are on the link between the gateways in the clear,
    /// from now on.
    #[track_caller]
    pub fn clear(&self) -> Capture {
        let filter = "net 10.1.0.0/24 or net 10.2.0.0/24 or net fd01::/64 or net fd02::/64";
        Capture::start(self.gateway(Site::A), "wan0", filter)
    }
}
