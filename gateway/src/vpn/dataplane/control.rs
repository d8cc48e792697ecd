//! The side of the data path that the IKE side acts on: which policies and SAs there are.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use ipsec::crypto::rng::Rng;
use ipsec::ike::event::Transmit;
use ipsec::sa::{ChildName, ChildSa, ChildSaId, ConnectionName, Path};
use netdev::udp::path_mtu;
use plan::vpn::Policy;

use super::child::Child;
use super::mapping::Mapping;
use super::policies::Policies;
use super::sa::{Sa, Way};
use super::shared::{BySpi, Shared, Sockets};
use super::tally::add;
use super::{Counters, Limits, SaCounters};

/// What a path's MTU is taken for where the kernel knows no route.
const USUAL_MTU: usize = 1500;
/// How often it is asked about the MTU of all paths.
const LOOK: Duration = Duration::from_secs(60);
/// How often about one that was too small.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// Which policies and SAs there are.
pub(super) struct Control {
    shared: Arc<Shared>,
    /// Those of the first worker.
    sockets: Arc<Sockets>,
    workers: usize,
    mark: u32,
    /// Of outer packets.
    largest: Option<usize>,
    rng: Box<dyn Rng>,
    children: BTreeMap<(ConnectionName, ChildName), Kept>,
    limits: BTreeMap<ConnectionName, Limits>,
    sas: BTreeMap<ChildSaId, Installed>,
    /// SAs that are gone, but a worker may still be counting on them.
    departing: Vec<Arc<Sa>>,
    /// Counts what was sent on.
    sent: u64,
    looked: Instant,
    looked_again: Instant,
}

/// A child, and what its SAs that are gone have counted.
struct Kept {
    child: Arc<Child>,
    closed: SaCounters,
}

struct Installed {
    sa: Arc<Sa>,
    /// Since when it is sent on: the newest counts.
    send: Option<u64>,
    /// When it is forgotten.
    until: Option<Instant>,
}

impl Control {
    pub(super) fn new(
        shared: Arc<Shared>,
        sockets: Arc<Sockets>,
        workers: usize,
        mark: u32,
        rng: Box<dyn Rng>,
    ) -> Self {
        let now = Instant::now();
        Self {
            shared,
            sockets,
            workers,
            mark,
            largest: None,
            rng,
            children: BTreeMap::new(),
            limits: BTreeMap::new(),
            sas: BTreeMap::new(),
            departing: Vec::new(),
            sent: 0,
            looked: now,
            looked_again: now,
        }
    }

    pub(super) fn set_policies(&mut self, policies: &BTreeMap<ConnectionName, Vec<Policy>>) {
        let mut all = Vec::new();
        for (connection, policies) in policies {
            for policy in policies {
                let child = self.child(connection, &policy.child.as_str().into());
                let mapping = Mapping::new(policy);
                if **child.mapping.load() != mapping {
                    child.mapping.store(Arc::new(mapping));
                }
                all.push((child, policy));
            }
        }
        self.shared.policies.store(Arc::new(Policies::new(all.into_iter())));
        let sas = &self.sas;
        self.children.retain(|(connection, name), kept| {
            let is_wanted = policies.get(connection).is_some_and(|policies| {
                policies.iter().any(|policy| policy.child.as_str() == &**name)
            });
            is_wanted || sas.values().any(|installed| Arc::ptr_eq(&installed.sa.child, &kept.child))
        });
    }

    pub(super) fn set_limits(&mut self, limits: BTreeMap<ConnectionName, Limits>) {
        self.limits = limits;
    }

    fn child(&mut self, connection: &ConnectionName, name: &ChildName) -> Arc<Child> {
        let key = (Arc::clone(connection), Arc::clone(name));
        let workers = self.workers;
        let kept = self.children.entry(key).or_insert_with(|| Kept {
            child: Arc::new(Child::new(Arc::clone(connection), Arc::clone(name), workers)),
            closed: SaCounters::default(),
        });
        Arc::clone(&kept.child)
    }

    pub(super) fn install(&mut self, sa: &Arc<ChildSa>, send: bool) -> Result<(), String> {
        let spi = sa.inbound_spi;
        let mut by_spi: BySpi = BySpi::clone(&self.shared.by_spi.load());
        if by_spi.contains_key(&spi.get()) {
            return Err(format!(
                "connection {}: child {}: an SA with the inbound SPI {spi} is there already",
                sa.connection, sa.child
            ));
        }
        let child = self.child(&sa.connection, &sa.child);
        let mtu = self.mtu(&sa.path);
        let limits = self.limits.get(&sa.connection).copied().unwrap_or_default();
        let made = Sa::new(sa, child, mtu, limits, self.workers, &mut *self.rng);
        let made = Arc::new(made.map_err(|error| {
            format!(
                "connection {}: child {}: its SA can't be used: {error}",
                sa.connection, sa.child
            )
        })?);
        by_spi.insert(spi.get(), Arc::clone(&made));
        self.shared.by_spi.store(Arc::new(by_spi));
        self.sas.insert(sa.id, Installed { sa: made, send: None, until: None });
        if send {
            self.send(sa.id);
        }
        Ok(())
    }

    pub(super) fn send(&mut self, id: ChildSaId) {
        self.sent += 1;
        if let Some(installed) = self.sas.get_mut(&id) {
            installed.send = Some(self.sent);
            installed.sa.child.sending.store(Some(Arc::clone(&installed.sa)));
        }
    }

    pub(super) fn remove(&mut self, id: ChildSaId, linger: Duration, now: Instant) {
        let Some(installed) = self.sas.get_mut(&id) else { return };
        installed.send = None;
        installed.until = Some(now + linger);
        let child = Arc::clone(&installed.sa.child);
        let is_sending = child.sending.load().as_ref().is_some_and(|sa| sa.sa.id == id);
        if is_sending {
            let others = self.sas.values().filter(|other| Arc::ptr_eq(&other.sa.child, &child));
            let newest = others.filter(|other| other.send.is_some()).max_by_key(|sa| sa.send);
            child.sending.store(newest.map(|newest| Arc::clone(&newest.sa)));
        }
        if linger.is_zero() {
            self.forget(now);
        }
    }

    pub(super) fn set_path(&mut self, ids: &[ChildSaId], path: Path, udp: bool) {
        let mtu = self.mtu(&path);
        for installed in ids.iter().filter_map(|id| self.sas.get(id)) {
            let way = Way::new(&installed.sa.outbound, path, udp, mtu);
            installed.sa.way.store(Arc::new(way));
        }
    }

    pub(super) fn transmit(&self, message: &Transmit) {
        self.sockets.transmit(message, self.shared.nat_port);
    }

    pub(super) fn counters(&self) -> Counters {
        let mut counters = Counters { dropped: self.shared.drops.sum(), ..Counters::default() };
        for (key, kept) in &self.children {
            let mut sum = kept.closed;
            add(&mut sum, &kept.child.tally.sum());
            counters.children.insert(key.clone(), sum);
        }
        let departing = self.departing.iter();
        for sa in self.sas.values().map(|installed| &installed.sa).chain(departing) {
            let key = (Arc::clone(&sa.child.connection), Arc::clone(&sa.child.name));
            let sum = sa.tally.sum();
            add(counters.children.entry(key).or_default(), &sum);
            if self.sas.contains_key(&sa.sa.id) {
                counters.sas.insert(sa.sa.id, sum);
                counters.largest.insert(sa.sa.id, sa.way.load().largest(true));
            }
        }
        counters
    }

    /// What is to be done from time to time.
    pub(super) fn tick(&mut self, now: Instant) {
        self.forget(now);
        for installed in self.sas.values() {
            let sa = &installed.sa;
            let Some(limit) = sa.byte_limit else { continue };
            let sum = sa.tally.sum();
            let is_worn = sum.sent_bytes.max(sum.received_bytes) >= limit;
            if is_worn && installed.until.is_none() && !sa.worn.swap(true, Ordering::Relaxed) {
                self.shared.tell_worn(sa);
            }
        }
        let all = now >= self.looked + LOOK;
        if all || now >= self.looked_again + LOOK_AGAIN {
            self.looked_again = now;
            if all {
                self.looked = now;
            }
            for installed in self.sas.values() {
                let way = installed.sa.way.load();
                if !(all || way.stale.swap(false, Ordering::Relaxed)) {
                    continue;
                }
                let mtu = self.mtu(&way.path);
                let new = Way::new(&installed.sa.outbound, way.path, way.udp, mtu);
                if new.largest != way.largest {
                    installed.sa.way.store(Arc::new(new));
                }
            }
        }
    }

    /// Forgets SAs whose time is over.
    fn forget(&mut self, now: Instant) {
        let over: Vec<ChildSaId> = self
            .sas
            .iter()
            .filter(|(_, installed)| installed.until.is_some_and(|until| until <= now))
            .map(|(id, _)| *id)
            .collect();
        if !over.is_empty() {
            let mut by_spi: BySpi = BySpi::clone(&self.shared.by_spi.load());
            for id in over {
                if let Some(gone) = self.sas.remove(&id) {
                    by_spi.remove(&gone.sa.sa.inbound_spi.get());
                    self.departing.push(gone.sa);
                }
            }
            self.shared.by_spi.store(Arc::new(by_spi));
        }
        let children = &mut self.children;
        self.departing.retain(|sa| {
            // Nobody else counts on it any more.
            let is_last = Arc::strong_count(sa) == 1;
            if is_last {
                let key = (Arc::clone(&sa.child.connection), Arc::clone(&sa.child.name));
                if let Some(kept) = children.get_mut(&key) {
                    add(&mut kept.closed, &sa.tally.sum());
                }
            }
            !is_last
        });
    }

    /// Holds outer packets this small, whatever the kernel knows of their paths.
    pub(super) fn limit_packets(&mut self, largest: Option<u16>) {
        self.largest = largest.map(usize::from);
    }

    /// The largest packet on a path, as far as the kernel knows.
    fn mtu(&self, path: &Path) -> usize {
        let from: Option<IpAddr> = Some(path.local.ip()).filter(|ip| !ip.is_unspecified());
        let known = path_mtu(from, path.remote.ip(), self.mark).unwrap_or(USUAL_MTU);
        self.largest.map_or(known, |largest| known.min(largest))
    }

    /// Lets go of all SAs.
    pub(super) fn clear(&mut self) {
        for kept in self.children.values() {
            kept.child.sending.store(None);
        }
        self.shared.by_spi.store(Arc::default());
        self.shared.policies.store(Arc::default());
        self.sas.clear();
        self.departing.clear();
    }
}
