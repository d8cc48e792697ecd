//! Two sites with a tunnel between their gateways, or nothing but a route, in network namespaces.
//!
//! ```text
//!  host A          gateway A                gateway B          host B
//!    h0 ───────── lan0   wan0 ───────────── wan0   lan0 ───────── h0
//!  10.1.0.2   10.1.0.1   192.0.2.1   192.0.2.2   10.2.0.1   10.2.0.2
//! ```
//! Each party has four namespaces of its own, so that what one does to packets costs the others
//! nothing, and all have the same addresses.

mod libipsec;
pub(crate) mod overlay;
mod tidegate;
pub(crate) mod wireguard;
pub(crate) mod wireguard_go;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use nix::unistd::Pid;

use super::network::Namespace;
use super::{Cores, START};
use crate::system::child::Supervised;
use crate::system::interrupt;
pub(crate) use tidegate::{Offloads, Tunnels, tunnels_up};

/// Octets of the largest packet between a host and its gateway: what goes into the tunnels is as
/// long with every party, and none has to cut it up.
pub(crate) const PACKET: u16 = 1400;
/// For one attempt to connect.
const ATTEMPT: Duration = Duration::from_millis(200);
/// Where hosts listen while it is looked whether they are reached.
const PROBE: u16 = 5000;

/// One of the two sites.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Site {
    /// 10.1.0.0/24: its gateway begins, and its host sends.
    A,
    /// 10.2.0.0/24
    B,
}

impl Site {
    /// Both, the one that begins last.
    pub(crate) const BOTH: [Self; 2] = [Self::B, Self::A];

    /// The other one.
    pub(crate) fn other(self) -> Self {
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

    fn letter(self) -> char {
        match self {
            Self::A => 'a',
            Self::B => 'b',
        }
    }

    /// Who its gateway is.
    fn id(self) -> String {
        format!("{}.test", self.letter())
    }

    /// The gateway's address towards the other one.
    fn outside(self) -> Ipv4Addr {
        Ipv4Addr::new(192, 0, 2, self.number())
    }

    /// The host's address.
    pub(crate) fn host(self) -> IpAddr {
        Ipv4Addr::new(10, self.number(), 0, 2).into()
    }

    /// The network behind the gateway.
    fn network(self) -> String {
        format!("10.{}.0.0/24", self.number())
    }

    /// Where its gateway runs: the two don't wait for each other.
    fn core(self, cores: Cores) -> usize {
        match self {
            Self::A => cores.target,
            Self::B => cores.load,
        }
    }
}

/// The namespaces of two sites.
#[derive(Debug)]
pub(crate) struct Sites {
    hosts: [Namespace; 2],
    gateways: [Namespace; 2],
}

impl Sites {
    /// Two sites of this name, wired. Nothing leads from one to the other yet.
    fn set_up(name: &str) -> anyhow::Result<Self> {
        let create = |role: &str| Namespace::create(&format!("{name}-{role}"));
        let sites = Self {
            hosts: [create("ha")?, create("hb")?],
            gateways: [create("ga")?, create("gb")?],
        };
        let (a, b) = (sites.gateway(Site::A), sites.gateway(Site::B));
        a.ip(&format!("link add wan0 type veth peer name wan0 netns {}\n", b.name()))?;
        for site in Site::BOTH {
            let (host, gateway) = (sites.host(site), sites.gateway(site));
            let (n, outside) = (site.number(), site.outside());
            gateway.ip(&format!(
                "link add lan0 mtu {PACKET} type veth peer name h0 mtu {PACKET} netns {}
addr add {outside}/24 dev wan0\naddr add 10.{n}.0.1/24 dev lan0
link set lo up\nlink set lan0 up\nlink set wan0 up\n",
                host.name()
            ))?;
            host.ip(&format!(
                "addr add 10.{n}.0.2/24 dev h0\nlink set lo up\nlink set h0 up
route add default via 10.{n}.0.1\n"
            ))?;
            gateway.set("ipv4/ip_forward", "1")?;
        }
        Ok(sites)
    }

    /// The host of a site.
    pub(crate) fn host(&self, site: Site) -> &Namespace {
        let [a, b] = &self.hosts;
        if site == Site::A { a } else { b }
    }

    /// The gateway of a site.
    fn gateway(&self, site: Site) -> &Namespace {
        let [a, b] = &self.gateways;
        if site == Site::A { a } else { b }
    }
}

/// What leads from one site to the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Two of ours.
    Gateway(Offloads),
    /// Two strongSwan with ESP in user space.
    Libipsec,
    /// WireGuard in user space.
    Boringtun,
    /// The interface of our edges and nodes, in user space.
    Overlay(Offloads),
    /// WireGuard in user space, in Go.
    WireguardGo,
    /// A route, and no tunnel.
    Routing,
}

impl Kind {
    /// The name in tables.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Gateway(Offloads::On) => "gateway",
            Self::Gateway(Offloads::Off) => "gateway-plain",
            Self::Libipsec => "libipsec",
            Self::Boringtun => "boringtun",
            Self::Overlay(Offloads::On) => "overlay",
            Self::Overlay(Offloads::Off) => "overlay-plain",
            Self::WireguardGo => "wireguard-go",
            Self::Routing => "routing",
        }
    }

    /// The version of another's program; nothing for what is our own.
    ///
    /// # Errors
    /// It is not there; the error says how to get it.
    pub(crate) fn version(self) -> anyhow::Result<Option<String>> {
        Ok(match self {
            Self::Gateway(_) | Self::Overlay(_) | Self::Routing => None,
            Self::Libipsec => Some(libipsec::version()?),
            Self::Boringtun => Some(wireguard::version().to_owned()),
            Self::WireguardGo => Some(wireguard_go::version()?),
        })
    }
}

/// Two sites, and who stands between them.
#[derive(Debug)]
pub(crate) struct Party {
    /// Its kind.
    pub(crate) kind: Kind,
    // Processes end before their namespaces do.
    gateways: Vec<(Site, Supervised)>,
    /// The namespaces.
    pub(crate) sites: Sites,
}

/// What parties are made with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Workshop<'a> {
    /// The gateway's binary, if it takes part.
    pub(crate) gateway: Option<&'a Path>,
    /// Where configurations and logs go.
    pub(crate) folder: &'a Path,
    /// Who runs where.
    pub(crate) cores: Cores,
}

impl Workshop<'_> {
    /// Starts a party; packets go from host to host when it returns.
    pub(crate) fn start(&self, kind: Kind) -> anyhow::Result<Party> {
        let sites = Sites::set_up(kind.name())?;
        let gateways = match kind {
            Kind::Gateway(offloads) => {
                Site::BOTH.map(|site| self.gateway(&sites, site, offloads)).into_iter().collect()
            }
            Kind::Libipsec => self.libipsec(&sites),
            Kind::Boringtun | Kind::Overlay(_) => self.wireguard(&sites, kind),
            Kind::WireguardGo => self.wireguard_go(&sites),
            Kind::Routing => route(&sites),
        };
        let gateways = gateways.with_context(|| kind.name())?;
        let party = Party { kind, gateways, sites };
        party.wait_until_through().with_context(|| format!("{}: no tunnel", kind.name()))?;
        Ok(party)
    }

    /// A folder for one site's gateway.
    fn own_folder(&self, name: &str, site: Site) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join(format!("{name}-{}", site.letter()));
        fs::create_dir(&folder).with_context(|| format!("{}", folder.display()))?;
        Ok(folder)
    }
}

/// Routes and nothing else.
fn route(sites: &Sites) -> anyhow::Result<Vec<(Site, Supervised)>> {
    for site in Site::BOTH {
        let other = site.other();
        let line = format!("route add {} via {}\n", other.network(), other.outside());
        sites.gateway(site).ip(&line)?;
    }
    Ok(Vec::new())
}

impl Party {
    /// The processes of a site's gateway.
    pub(crate) fn processes(&self, site: Site) -> anyhow::Result<Vec<Pid>> {
        let own = self.gateways.iter().filter(|(whose, _)| *whose == site);
        let mut all = Vec::new();
        for (_, process) in own {
            all.extend(process.processes()?);
        }
        Ok(all)
    }

    /// Something that listens on the host of site B.
    pub(crate) fn listener(&self, port: u16) -> anyhow::Result<TcpListener> {
        let _inside = self.sites.host(Site::B).enter()?;
        TcpListener::bind((Site::B.host(), port)).context("a port of host B")
    }

    fn wait_until_through(&self) -> anyhow::Result<()> {
        let _listener = self.listener(PROBE)?;
        let _inside = self.sites.host(Site::A).enter()?;
        let to = SocketAddr::new(Site::B.host(), PROBE);
        let deadline = Instant::now() + START;
        loop {
            interrupt::check()?;
            let error = match TcpStream::connect_timeout(&to, ATTEMPT) {
                Ok(_) => return Ok(()),
                Err(error) => error,
            };
            if Instant::now() >= deadline {
                bail!("host B is not reached from host A within {START:?}: {error}");
            }
            std::thread::sleep(ATTEMPT / 10);
        }
    }

    /// Ends the programs.
    pub(crate) fn finish(mut self) -> anyhow::Result<()> {
        for (_, process) in self.gateways.iter_mut().rev() {
            process.stop()?;
        }
        Ok(())
    }
}
