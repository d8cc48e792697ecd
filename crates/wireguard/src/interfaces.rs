//! Interfaces as a plan wants them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::PublicKey;
use netdev::address::{self, Scope};
use netdev::{link, wireguard};
use overlay::PrivateKey;
use plan::overlay::Tunnel;

mod kernel;
mod local;
mod statistics;
mod types;

pub use statistics::{InterfaceStatistics, PeerStatistics};
pub use types::{Backend, Fault, Settings, StartError, Wanted};

use kernel::Kernel;
use local::Local;

/// Private keys by their public halves.
pub type Keys = BTreeMap<PublicKey, PrivateKey>;

/// Interfaces as a plan wants them. Those in this process go when it is dropped; those in the
/// kernel stay.
#[derive(Debug)]
pub struct Interfaces {
    settings: Settings,
    inner: Inner,
}

#[derive(Debug)]
enum Inner {
    Kernel(Kernel),
    UserSpace(Local),
}

impl Interfaces {
    /// In the network namespace of the calling thread. Nothing is made yet.
    ///
    /// # Errors
    /// [`StartError`]: the kernel is wanted, and has no WireGuard, or the caller isn't allowed.
    pub fn new(settings: Settings) -> Result<Self, StartError> {
        let inner = match settings.backend {
            Wanted::UserSpace => Inner::UserSpace(Local::default()),
            wanted => match wireguard::probe().map_err(|error| error.source) {
                Ok(()) => Inner::Kernel(Kernel::open().map_err(StartError::Kernel)?),
                Err(source) if wanted == Wanted::Kernel => return Err(StartError::Kernel(source)),
                Err(why) => {
                    tracing::info!(%why, "WireGuard in user space, since the kernel can't");
                    Inner::UserSpace(Local::default())
                }
            },
        };
        Ok(Self { settings, inner })
    }

    /// Where interfaces are.
    pub fn backend(&self) -> Backend {
        match &self.inner {
            Inner::Kernel(_) => Backend::Kernel,
            Inner::UserSpace(_) => Backend::UserSpace,
        }
    }

    /// Makes interfaces be as `tunnels` says and removes others; again if nothing has changed,
    /// which restores what others have changed. What is not in force afterwards. Blocks for
    /// milliseconds; must be called in the network namespace that it was made in.
    pub fn apply(&mut self, tunnels: &[Tunnel], keys: &Keys) -> Vec<Fault> {
        let mut faults = Vec::new();
        let settings = &self.settings;
        let good: Vec<(&Tunnel, &PrivateKey)> =
            tunnels.iter().filter_map(|tunnel| check(tunnel, keys, &mut faults)).collect();
        match &mut self.inner {
            Inner::Kernel(kernel) => kernel.apply(&good, settings, &mut faults),
            Inner::UserSpace(local) => local.apply(&good, settings, &mut faults),
        }
        finish(&good, &mut faults);
        faults
    }

    /// What each interface has done.
    pub fn statistics(&mut self) -> BTreeMap<String, InterfaceStatistics> {
        match &mut self.inner {
            Inner::Kernel(kernel) => kernel.statistics(),
            Inner::UserSpace(local) => local.statistics(),
        }
    }

    /// The UDP port of an interface, which is of interest where the plan left it open.
    pub fn port(&self, interface: &str) -> Option<u16> {
        match &self.inner {
            Inner::Kernel(kernel) => kernel.port(interface),
            Inner::UserSpace(local) => local.port(interface),
        }
    }

    /// Removes all interfaces, for an uninstallation.
    pub fn remove(&mut self) -> Vec<Fault> {
        self.apply(&[], &Keys::new())
    }
}

/// The tunnel with its key, if it can be made at all.
fn check<'a>(
    tunnel: &'a Tunnel,
    keys: &'a Keys,
    faults: &mut Vec<Fault>,
) -> Option<(&'a Tunnel, &'a PrivateKey)> {
    let found = keys.get(&tunnel.key);
    if found.is_none() {
        faults.push(Fault::new(tunnel, format!("there is no private key for {}", tunnel.key)));
    }
    found.map(|key| (tunnel, key))
}

/// Addresses, MTU, and that it is switched on: the same whatever the interface is.
fn finish(tunnels: &[(&Tunnel, &PrivateKey)], faults: &mut Vec<Fault>) {
    if tunnels.is_empty() {
        return;
    }
    let (links, addresses) = match (link::list(), address::list()) {
        (Ok(links), Ok(addresses)) => (links, addresses),
        (Err(error), _) => return refuse_all(tunnels, &error.to_string(), faults),
        (_, Err(error)) => return refuse_all(tunnels, &error.to_string(), faults),
    };
    for (tunnel, _) in tunnels {
        // One that is not there has a fault already.
        let Some(link) = links.iter().find(|link| link.name == tunnel.interface) else { continue };
        if (link.mtu != u32::from(tunnel.mtu) || !link.is_up)
            && let Err(error) = link::set_up(link, tunnel.mtu)
        {
            faults.push(Fault::new(tunnel, error.source.to_string()));
        }
        let own = addresses.iter().filter(|address| address.index == link.index);
        let there: BTreeSet<IpAddr> = own
            .clone()
            .filter(|address| address.network.prefix_len() == address.network.max_prefix_len())
            .map(|address| address.network.addr())
            .collect();
        for ip in tunnel.addresses.iter().filter(|ip| !there.contains(*ip)) {
            if let Err(error) = address::add_to_own(&tunnel.interface, *ip) {
                faults.push(Fault::new(tunnel, format!("address {ip}: {error}")));
            }
        }
        let has_v4 = tunnel.addresses.iter().any(IpAddr::is_ipv4);
        let dummy = IpAddr::from(address::DUMMY);
        if !has_v4
            && !there.contains(&dummy)
            && let Err(error) = address::add_dummy(&tunnel.interface)
        {
            faults.push(Fault::new(tunnel, format!("address {dummy}: {error}")));
        }
        let former = own.filter(|address| address.scope != Scope::Link);
        for ip in former.map(|address| address.network.addr()) {
            if !tunnel.addresses.contains(&ip)
                && (has_v4 || ip != dummy)
                && let Err(error) = address::remove(&tunnel.interface, ip)
            {
                faults.push(Fault::new(tunnel, format!("address {ip}: {error}")));
            }
        }
    }
}

fn refuse_all(tunnels: &[(&Tunnel, &PrivateKey)], reason: &str, faults: &mut Vec<Fault>) {
    faults.extend(tunnels.iter().map(|(tunnel, _)| Fault::new(tunnel, reason.to_owned())));
}
