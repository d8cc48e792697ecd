//! The kernel itself, by way of `netdev`.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use ipnet::{IpNet, Ipv4Net};
use model::HostAddress;
use model::net::Protocol;
use netdev::nft::{self, Nft};
use netdev::wait::Waker;
use netdev::{address, conntrack, neighbour, route, sysctl, wait};
use plan::l4::traffic::Listing;
use plan::nft::TABLE;
use serde::de::DeserializeOwned;

use super::kernel::{Entry, Events, Fault, Host, Kernel, LOOPBACK, Probed};
use super::local::{Local, Routes};
use super::mailbox::Mailbox;
use super::state::Taken;

/// How long other machines have to answer for an address.
const PROBE: Duration = Duration::from_secs(1);
/// A rest where something can't be waited for.
const REST: Duration = Duration::from_millis(100);

/// Who it was, where notifications were lost.
const UNKNOWN: &str = "unknown: too many changes at once";

/// The kernel.
pub(super) struct Linux {
    nft: Nft,
    tables: nft::Monitor,
    /// Who has changed the table while something was being applied.
    meanwhile: Option<String>,
    links: address::Monitor,
    local: Local,
    mailbox: Arc<Mailbox>,
    probed: Arc<Mutex<Vec<Probed>>>,
    done: Waker,
}

impl Linux {
    /// Looks for what is needed.
    ///
    /// # Errors
    /// [`Fault`] saying what is missing.
    pub(super) fn open(mailbox: Arc<Mailbox>) -> Result<Self, Fault> {
        let nft = Nft::find().map_err(Fault::of)?;
        nft.probe().map_err(Fault::of)?;
        Ok(Self {
            tables: nft.monitor(TABLE).map_err(Fault::of)?,
            meanwhile: None,
            links: address::Monitor::open().map_err(Fault::of)?,
            local: Local::default(),
            nft,
            mailbox,
            probed: Arc::default(),
            done: Waker::new().map_err(Fault::of)?,
        })
    }

    /// The program that changes rules, which may also be asked what they count.
    pub(super) fn nft(&self) -> Nft {
        self.nft.clone()
    }

    /// Who has changed the table, and whether notifications were lost.
    fn foreign(&mut self) -> (Option<String>, bool) {
        let (mut who, mut lost) = (None, false);
        loop {
            match self.tables.wait(Duration::ZERO) {
                Ok(Some(nft::Event::Changed { by_pid, by_name, .. })) => {
                    who = Some(format!("{by_name} (process {by_pid})"));
                }
                Ok(Some(nft::Event::Overrun)) => lost = true,
                Ok(None) => return (who, lost),
                Err(error) => {
                    tracing::error!(%error, "changes of nftables by others are not seen");
                    std::thread::sleep(REST);
                    return (who, lost);
                }
            }
        }
    }

    fn links(&mut self) -> bool {
        let mut changed = false;
        loop {
            match self.links.wait(Duration::ZERO) {
                Ok(Some(_)) => changed = true,
                Ok(None) => return changed,
                Err(error) => {
                    tracing::error!(%error, "changes of interfaces are not seen");
                    std::thread::sleep(REST);
                    return changed;
                }
            }
        }
    }
}

impl Kernel for Linux {
    fn wait(&mut self, until: Option<Instant>) -> Events {
        let mut timeout = until.map(|until| until.saturating_duration_since(Instant::now()));
        if self.meanwhile.is_some() {
            timeout = Some(Duration::ZERO);
        }
        let sources = [
            self.mailbox.bell().as_fd(),
            self.done.as_fd(),
            self.tables.as_fd(),
            self.links.as_fd(),
        ];
        let readable = wait::any(&sources, timeout).unwrap_or_else(|error| {
            tracing::error!(%error, "waiting");
            std::thread::sleep(REST);
            vec![true; sources.len()]
        });
        let is = |at: usize| readable.get(at).copied().unwrap_or(false);
        let mut events = Events { foreign: self.meanwhile.take(), ..Events::default() };
        if is(1) {
            self.done.clear();
            let mut probed = self.probed.lock().unwrap_or_else(PoisonError::into_inner);
            events.probed = std::mem::take(&mut *probed);
        }
        if is(2) {
            let (who, lost) = self.foreign();
            let unknown = lost.then(|| UNKNOWN.to_owned());
            events.foreign = who.or(unknown).or(events.foreign);
        }
        if is(3) {
            events.links = self.links();
        }
        events
    }

    fn host(&mut self) -> Result<Host, Fault> {
        let found = address::interfaces().map_err(Fault::of)?;
        let up = found.iter().filter(|interface| interface.up && interface.carrier);
        let up = up.map(|interface| interface.name.clone()).collect();
        let interfaces = found.into_iter().map(|interface| interface.name).collect();
        let mut host = Host { interfaces, up, ..Host::default() };
        let mut loopback = BTreeMap::new();
        for found in address::list().map_err(Fault::of)? {
            if found.scope == address::Scope::Link {
                continue;
            }
            if found.ours {
                let (interface, address) = (found.interface.clone(), found.network.addr());
                host.marked.insert(Taken { interface, address });
            }
            if let IpNet::V4(network) = found.network
                && network.prefix_len() == 32
                && found.interface == LOOPBACK
            {
                loopback.insert(network.addr(), found.ours);
            }
            host.addresses.push(HostAddress { interface: found.interface, network: found.network });
        }
        self.local.look(route::list().map_err(Fault::of)?, loopback);
        for address in self.local.addresses().map(IpAddr::from) {
            let interface = LOOPBACK.to_owned();
            host.marked.insert(Taken { interface: interface.clone(), address });
            host.addresses.push(HostAddress { interface, network: address.into() });
        }
        host.addresses.sort();
        host.addresses.dedup();
        Ok(host)
    }

    fn add_address(&mut self, interface: &str, address: IpAddr) -> Result<(), Fault> {
        match address {
            IpAddr::V4(address) if interface == LOOPBACK => {
                self.local.add(address);
                Ok(())
            }
            _ => address::add(interface, address).map(drop).map_err(Fault::of),
        }
    }

    fn remove_address(&mut self, interface: &str, address: IpAddr) -> Result<(), Fault> {
        match address {
            IpAddr::V4(address) if interface == LOOPBACK => {
                self.local.remove(&mut KernelRoutes, address)
            }
            _ => address::remove(interface, address).map(drop).map_err(Fault::of),
        }
    }

    fn limit_address(
        &mut self,
        interface: &str,
        address: IpAddr,
        seconds: u32,
    ) -> Result<(), Fault> {
        if interface == LOOPBACK {
            return Ok(());
        }
        address::limit(interface, address, seconds).map_err(Fault::of)
    }

    fn settle(&mut self) -> Vec<(IpAddr, Fault)> {
        let failed = self.local.settle(&mut KernelRoutes);
        failed.into_iter().map(|(address, fault)| (address.into(), fault)).collect()
    }

    fn probe(&mut self, addresses: Vec<Taken>) {
        let (probed, done) = (Arc::clone(&self.probed), self.done.clone());
        let finish = move |results: Vec<Probed>| {
            probed.lock().unwrap_or_else(PoisonError::into_inner).extend(results);
            done.wake();
        };
        let failed = finish.clone();
        let asked = addresses.clone();
        // It ends by itself, within the time that others have to answer.
        let thread = std::thread::Builder::new().name("l4-probe".to_owned()).spawn(move || {
            let pairs: Vec<(&str, IpAddr)> =
                asked.iter().map(|taken| (taken.interface.as_str(), taken.address)).collect();
            let answers = neighbour::probe_all(&pairs, PROBE);
            let of = |(taken, answer): (&Taken, Result<Option<address::MacAddr>, _>)| Probed {
                taken: taken.clone(),
                found: answer.map(|mac| mac.map(|mac| mac.to_string())).map_err(Fault::of),
            };
            finish(asked.iter().zip(answers).map(of).collect());
        });
        if let Err(error) = thread {
            let fault = Fault(format!("no thread can be started: {error}"));
            let of = |taken| Probed { taken, found: Err(fault.clone()) };
            failed(addresses.into_iter().map(of).collect());
        }
    }

    fn announce(&mut self, addresses: &[Taken]) -> Vec<(Taken, Fault)> {
        let pairs: Vec<(&str, IpAddr)> =
            addresses.iter().map(|taken| (taken.interface.as_str(), taken.address)).collect();
        let results = addresses.iter().zip(neighbour::announce_all(&pairs));
        results
            .filter_map(|(taken, result)| Some((taken.clone(), Fault::of(result.err()?))))
            .collect()
    }

    fn transaction(&mut self, text: &str) -> Result<(), Fault> {
        let before = nft::current_generation().ok();
        let applied = self.nft.apply(text).map_err(Fault::of);
        // A large transaction's own notifications may be too many. Where it was the only one, no
        // other was among them.
        let (who, lost) = self.foreign();
        let alone = before
            .zip(nft::current_generation().ok())
            .is_some_and(|(before, after)| after.wrapping_sub(before) <= 1);
        let unknown = (lost && !alone).then(|| UNKNOWN.to_owned());
        self.meanwhile = who.or(unknown).or(self.meanwhile.take());
        applied
    }

    fn listing(&mut self, kind: &str, name: &str) -> Result<Option<Listing>, Fault> {
        listing(&self.nft, kind, name)
    }

    fn forget(&mut self, stale: &dyn Fn(&Entry) -> bool) -> Result<usize, Fault> {
        conntrack::delete_if(|found| entry(found).is_some_and(|entry| stale(&entry)))
            .map_err(Fault::of)
    }

    fn forward(&mut self, ipv6: bool) -> Result<bool, Fault> {
        let key = if ipv6 { sysctl::forwarding_v6() } else { sysctl::forwarding_v4() };
        if ipv6 && sysctl::read(&key).map_err(Fault::of)? != "1" {
            keep_router_advertisements();
        }
        sysctl::set(&key, "1").map(|before| before != "1").map_err(Fault::of)
    }
}

/// The kernel's local routes.
struct KernelRoutes;

impl Routes for KernelRoutes {
    fn add(&mut self, networks: &[Ipv4Net]) -> Vec<Result<(), Fault>> {
        route::add(networks).into_iter().map(|result| result.map_err(Fault::of)).collect()
    }

    fn remove(&mut self, networks: &[Ipv4Net]) -> Vec<Result<(), Fault>> {
        route::remove(networks).into_iter().map(|result| result.map_err(Fault::of)).collect()
    }

    fn remove_address(&mut self, address: Ipv4Addr) -> Result<(), Fault> {
        address::remove(LOOPBACK, address.into()).map(drop).map_err(Fault::of)
    }
}

/// A machine that forwards IPv6 no longer takes a default route from routers unless told to; one
/// that had its route that way must not lose it.
pub(crate) fn keep_router_advertisements() {
    let Ok(interfaces) = address::interfaces() else { return };
    for interface in interfaces {
        let key = sysctl::Key::of_interface(sysctl::Family::V6, &interface.name, "accept_ra");
        if sysctl::read(&key).is_ok_and(|value| value == "1") {
            match sysctl::set(&key, "2") {
                Ok(_) => tracing::info!(%key, "set to 2, so that routes from routers stay"),
                Err(error) => tracing::warn!(%error, "routes from routers may be lost"),
            }
        }
    }
}

fn entry(found: &conntrack::Entry) -> Option<Entry> {
    let protocols = [Protocol::Udp, Protocol::Sctp];
    Some(Entry {
        protocol: protocols.into_iter().find(|p| p.number() == found.protocol)?,
        destination: found.original.destination_socket()?,
        answers: found.reply.source_socket()?,
    })
}

/// A set or map of the gateway's table.
pub(super) fn listing<T: DeserializeOwned>(
    nft: &Nft,
    kind: &str,
    name: &str,
) -> Result<Option<T>, Fault> {
    let (family, table) = TABLE.split_once(' ').unwrap_or(("inet", TABLE));
    match nft.list_json(&[kind, family, table, name]) {
        Ok(value) => serde_json::from_value(value).map(Some).map_err(Fault::of),
        Err(error) if error.is_not_there() => Ok(None),
        Err(error) => Err(Fault::of(error)),
    }
}
