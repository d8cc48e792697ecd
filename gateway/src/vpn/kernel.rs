//! What the driver asks of the kernel, so that its decisions can be tested without one.

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::Instant;

use ipnet::IpNet;
use netdev::nft::Nft;
use netdev::route::table::{self, Route};
use netdev::rule::{self, Rule};
use netdev::{address, sysctl};
use plan::vpn::table::MARK;
use socket2::{Domain, Socket, Type};

use crate::l4::kernel::Fault;

/// The kernel.
pub(super) trait Kernel: Send {
    /// One transaction of nftables.
    ///
    /// # Errors
    /// [`Fault`]: then nothing of it is in force.
    fn transaction(&mut self, text: &str) -> Result<(), Fault>;

    /// The routing rules that bear the gateway's mark.
    ///
    /// # Errors
    /// [`Fault`]
    fn rules(&mut self) -> Result<Vec<Rule>, Fault>;

    /// Adds a routing rule.
    ///
    /// # Errors
    /// [`Fault`]
    fn add_rule(&mut self, rule: &Rule) -> Result<(), Fault>;

    /// Removes a routing rule.
    ///
    /// # Errors
    /// [`Fault`]
    fn remove_rule(&mut self, rule: &Rule) -> Result<(), Fault>;

    /// The routes of a table that bear the gateway's mark.
    ///
    /// # Errors
    /// [`Fault`]
    fn routes(&mut self, table: u32) -> Result<Vec<Route>, Fault>;

    /// Adds routes to a table, in place of those that are there. Returns what failed.
    fn add_routes(&mut self, table: u32, routes: &[Route]) -> Vec<Fault>;

    /// Removes routes from a table. Returns what failed.
    fn remove_routes(&mut self, table: u32, routes: &[Route]) -> Vec<Fault>;

    /// The number of an interface; none if there is no such.
    fn interface(&mut self, name: &str) -> Option<u32>;

    /// The machine's own addresses.
    ///
    /// # Errors
    /// [`Fault`]
    fn addresses(&mut self) -> Result<Vec<IpNet>, Fault>;

    /// From which address packets to another one leave.
    ///
    /// # Errors
    /// [`Fault`]: there is no route.
    fn source_to(&mut self, remote: IpAddr) -> Result<IpAddr, Fault>;

    /// Lets the kernel forward packets of a family; returns whether that had to be changed.
    ///
    /// # Errors
    /// [`Fault`]
    fn forward(&mut self, ipv6: bool) -> Result<bool, Fault>;

    /// The time.
    fn now(&self) -> Instant {
        Instant::now()
    }
}

/// The kernel itself, by way of `netdev`.
#[derive(Debug)]
pub(super) struct Linux {
    nft: Nft,
}

impl Linux {
    /// Looks for what is needed.
    ///
    /// # Errors
    /// [`Fault`] saying what is missing.
    pub(super) fn open() -> Result<Self, Fault> {
        let nft = Nft::find().map_err(Fault::of)?;
        nft.probe().map_err(Fault::of)?;
        Ok(Self { nft })
    }

    /// The program that changes rules.
    pub(super) fn nft(&self) -> &Nft {
        &self.nft
    }
}

impl Kernel for Linux {
    fn transaction(&mut self, text: &str) -> Result<(), Fault> {
        self.nft.apply(text).map_err(Fault::of)
    }

    fn rules(&mut self) -> Result<Vec<Rule>, Fault> {
        rule::list().map_err(Fault::of)
    }

    fn add_rule(&mut self, rule: &Rule) -> Result<(), Fault> {
        rule::add(rule).map_err(Fault::of)
    }

    fn remove_rule(&mut self, rule: &Rule) -> Result<(), Fault> {
        rule::remove(rule).map_err(Fault::of)
    }

    fn routes(&mut self, table: u32) -> Result<Vec<Route>, Fault> {
        table::list(table).map_err(Fault::of)
    }

    fn add_routes(&mut self, table: u32, routes: &[Route]) -> Vec<Fault> {
        table::add(table, routes).into_iter().filter_map(Result::err).map(Fault::of).collect()
    }

    fn remove_routes(&mut self, table: u32, routes: &[Route]) -> Vec<Fault> {
        table::remove(table, routes).into_iter().filter_map(Result::err).map(Fault::of).collect()
    }

    fn interface(&mut self, name: &str) -> Option<u32> {
        address::interface(name).ok().map(|interface| interface.index)
    }

    fn addresses(&mut self) -> Result<Vec<IpNet>, Fault> {
        let all = address::list().map_err(Fault::of)?;
        Ok(all.into_iter().map(|address| address.network).collect())
    }

    fn source_to(&mut self, remote: IpAddr) -> Result<IpAddr, Fault> {
        // Connecting a UDP socket sends nothing; it looks the route up, past the tunnels.
        let look = || {
            let remote = SocketAddr::new(remote, 500);
            let socket = Socket::new(Domain::for_address(remote), Type::DGRAM, None)?;
            socket.set_mark(MARK)?;
            socket.connect(&remote.into())?;
            UdpSocket::from(socket).local_addr()
        };
        look().map(|address| address.ip()).map_err(Fault::of)
    }

    fn forward(&mut self, ipv6: bool) -> Result<bool, Fault> {
        let key = if ipv6 { sysctl::forwarding_v6() } else { sysctl::forwarding_v4() };
        if ipv6 && sysctl::read(&key).map_err(Fault::of)? != "1" {
            crate::l4::keep_router_advertisements();
        }
        sysctl::set(&key, "1").map(|before| before != "1").map_err(Fault::of)
    }
}
