//! Which policies and SAs there are, and bringing the kernel to that.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use ipsec::ike::event::Transmit;
use ipsec::sa::{ChildName, ChildSa, ChildSaId, ConnectionName, EspKeys, Path};
use netdev::xfrm::{
    self, Action, Direction, Encap, Event, Policy, Replay, Sa, SaId, Selector, State, Template,
};

use super::selectors::{self, Pair};
use super::suite::Keyed;
use super::{IF_ID, lacking_one, statistics};
use crate::vpn::dataplane::settings::Settings;
use crate::vpn::dataplane::shared::Sockets;
use crate::vpn::dataplane::tally::add;
use crate::vpn::dataplane::{Counters, FromNetwork, Limits, SaCounters};

type Key = (ConnectionName, ChildName);

/// How often the same is told.
const SECOND: Duration = Duration::from_secs(1);
/// The first number that SAs and policies of a child have in common.
const FIRST_REQID: u32 = 0x5447_0001;
/// Short sequence numbers wear out here; beyond the last the kernel sends nothing.
const SHORT_NUMBERS: u64 = 0xf000_0000;
/// Where ESP would go that has no SA yet: nowhere.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Which policies and SAs there are.
pub(super) struct Control {
    kernel: xfrm::Xfrm,
    sender: SyncSender<FromNetwork>,
    sockets: Arc<Sockets>,
    nat_port: u16,
    mark: u32,
    copy_dscp: bool,
    dont_fragment: bool,
    children: BTreeMap<Key, Child>,
    limits: BTreeMap<ConnectionName, Limits>,
    sas: BTreeMap<ChildSaId, Installed>,
    /// What the kernel has.
    policies: BTreeMap<(Direction, Selector), Policy>,
    next_reqid: u32,
    /// Counts what was sent on.
    sent: u64,
    looked: Instant,
    ike_behind: u64,
    /// What had been dropped before.
    dropped: BTreeMap<&'static str, u64>,
    stopping: bool,
}

/// A child of a connection.
struct Child {
    /// What it leads into the tunnel; none that the kernel can't do.
    wanted: Vec<Pair>,
    /// Why the kernel can't do it.
    lacking: Option<&'static str>,
    /// What its SAs have in common.
    reqid: u32,
    /// What its policies have in common while there is no SA. Another one each time, so that the
    /// kernel asks anew.
    trap: u32,
    acquired: Option<Instant>,
    /// What SAs that are gone have counted.
    closed: SaCounters,
}

struct Installed {
    sa: Arc<ChildSa>,
    key: Key,
    reqid: u32,
    path: Path,
    udp: bool,
    pairs: Vec<Pair>,
    limits: Limits,
    /// The kernel has the SA that seals.
    seals: bool,
    /// Since when it is sent on: the newest counts.
    send: Option<u64>,
    /// When it is forgotten.
    until: Option<Instant>,
    counted: SaCounters,
    /// How many packets had come when it was last told.
    alive: u64,
    moved: Option<Instant>,
    worn: bool,
}

impl Control {
    pub(super) fn new(
        kernel: xfrm::Xfrm,
        settings: &Settings,
        sender: SyncSender<FromNetwork>,
        sockets: Arc<Sockets>,
    ) -> Self {
        Self {
            kernel,
            sender,
            sockets,
            nat_port: settings.nat_port,
            mark: settings.mark,
            copy_dscp: settings.copy_dscp,
            dont_fragment: settings.dont_fragment,
            children: BTreeMap::new(),
            limits: BTreeMap::new(),
            sas: BTreeMap::new(),
            policies: BTreeMap::new(),
            next_reqid: FIRST_REQID,
            sent: 0,
            looked: Instant::now(),
            ike_behind: 0,
            dropped: statistics::dropped(),
            stopping: false,
        }
    }

    pub(super) fn set_policies(
        &mut self,
        policies: BTreeMap<ConnectionName, Vec<plan::vpn::Policy>>,
    ) {
        let mut wanted = BTreeSet::new();
        for (connection, policies) in policies {
            for policy in policies {
                let key: Key = (Arc::clone(&connection), policy.child.as_str().into());
                let child = self.child(&key);
                child.wanted = selectors::of_policy(&policy);
                child.lacking = lacking_one(&policy);
                wanted.insert(key);
            }
        }
        let sas = &self.sas;
        self.children.retain(|key, child| {
            let is_wanted = wanted.contains(key);
            if !is_wanted {
                child.wanted.clear();
            }
            is_wanted || sas.values().any(|installed| installed.key == *key)
        });
        self.reconcile_or_log();
    }

    pub(super) fn set_limits(&mut self, limits: BTreeMap<ConnectionName, Limits>) {
        self.limits = limits;
    }

    fn child(&mut self, key: &Key) -> &mut Child {
        let next = &mut self.next_reqid;
        self.children.entry(key.clone()).or_insert_with(|| Child {
            wanted: Vec::new(),
            lacking: None,
            reqid: following(next),
            trap: following(next),
            acquired: None,
            closed: SaCounters::default(),
        })
    }

    pub(super) fn install(&mut self, sa: &Arc<ChildSa>, send: bool) -> Result<(), String> {
        let key: Key = (Arc::clone(&sa.connection), Arc::clone(&sa.child));
        let child = self.child(&key);
        if let Some(lacking) = child.lacking {
            return Err(format!(
                "it {lacking}, which the kernel doesn't do: write `vpn.dataplane: auto` or \
                 `userspace`"
            ));
        }
        let reqid = child.reqid;
        let pairs = selectors::of_sa(&sa.local, &sa.remote)?;
        self.refuse_shared(&pairs, reqid)?;
        let limits = self.limits.get(&sa.connection).copied().unwrap_or_default();
        let installed = Installed {
            sa: Arc::clone(sa),
            key,
            reqid,
            path: sa.path,
            udp: sa.udp,
            pairs,
            limits,
            seals: false,
            send: None,
            until: None,
            counted: SaCounters::default(),
            alive: 0,
            moved: None,
            worn: false,
        };
        self.put(&installed, Way::In, None)?;
        self.sas.insert(sa.id, installed);
        let done = match send {
            true => self.try_send(sa.id),
            false => self.reconcile(),
        };
        if done.is_err() {
            self.forget(sa.id);
            self.reconcile_or_log();
        }
        done
    }

    /// Of packets that come the kernel knows only by their addresses which SA they may come by.
    fn refuse_shared(&self, pairs: &[Pair], reqid: u32) -> Result<(), String> {
        for pair in pairs {
            let there = self.policies.get(&(Direction::In, pair.inward()));
            let other = there.and_then(|policy| match policy.action {
                Action::Protect(template) if template.reqid != reqid => {
                    let found =
                        self.children.iter().find(|(_, child)| child.reqid == template.reqid);
                    Some(found.map_or_else(String::new, |((name, child), _)| {
                        format!("{name}, child {child}")
                    }))
                }
                _ => None,
            });
            if let Some(other) = other {
                return Err(format!(
                    "its selectors {} are those of {other} too, which the kernel can't tell \
                     apart: write `vpn.dataplane: userspace`",
                    pair.outward()
                ));
            }
        }
        Ok(())
    }

    pub(super) fn send(&mut self, id: ChildSaId) {
        if let Err(reason) = self.try_send(id) {
            tracing::error!(reason, "vpn: the kernel doesn't send on an SA");
        }
    }

    fn try_send(&mut self, id: ChildSaId) -> Result<(), String> {
        let Some(mut installed) = self.sas.remove(&id) else { return Ok(()) };
        let put = if installed.seals { Ok(()) } else { self.put(&installed, Way::Out, None) };
        if put.is_ok() {
            self.sent += 1;
            (installed.seals, installed.send) = (true, Some(self.sent));
        }
        self.sas.insert(id, installed);
        put.and_then(|()| self.reconcile())
    }

    pub(super) fn remove(&mut self, id: ChildSaId, linger: Duration, now: Instant) {
        let Some(installed) = self.sas.get_mut(&id) else { return };
        installed.send = None;
        installed.until = Some(now + linger);
        let seals = installed.out_id();
        self.reconcile_or_log();
        // No policy names it any more.
        self.refresh();
        if let Some(installed) = self.sas.get_mut(&id)
            && std::mem::take(&mut installed.seals)
        {
            log(self.kernel.remove(&seals));
        }
        if linger.is_zero() {
            self.forget(id);
            self.reconcile_or_log();
        }
    }

    /// Takes an SA out of the kernel; what it has counted stays.
    fn forget(&mut self, id: ChildSaId) {
        let Some(gone) = self.sas.remove(&id) else { return };
        log(self.kernel.remove(&gone.in_id()));
        if gone.seals {
            log(self.kernel.remove(&gone.out_id()));
        }
        if let Some(child) = self.children.get_mut(&gone.key) {
            add(&mut child.closed, &gone.counted);
        }
    }

    pub(super) fn set_path(&mut self, ids: &[ChildSaId], path: Path, udp: bool) {
        for id in ids {
            let Some(mut installed) = self.sas.remove(id) else { continue };
            if let Err(reason) = self.change_path(&mut installed, path, udp) {
                tracing::error!(reason, "vpn: an SA stays on its old path");
            }
            self.sas.insert(*id, installed);
        }
        self.reconcile_or_log();
    }

    fn change_path(
        &mut self,
        installed: &mut Installed,
        path: Path,
        udp: bool,
    ) -> Result<(), String> {
        let before = (installed.path, installed.udp);
        let same_ends =
            |a: &Path, b: &Path| (a.local.ip(), a.remote.ip()) == (b.local.ip(), b.remote.ip());
        if same_ends(&before.0, &path) && before.1 == udp {
            (installed.path, installed.udp) = (path, udp);
            if before.0 != path && udp {
                for way in installed.ways() {
                    let made = Made::new(self, installed, way, Replay::New(0))?;
                    made.with(|sa| self.kernel.update(sa))?;
                }
            }
            return Ok(());
        }
        // The kernel knows SAs by their addresses. Sequence numbers go on where they were.
        let states = self.kernel.list(IF_ID).map_err(|error| error.to_string())?;
        for way in installed.ways() {
            (installed.path, installed.udp) = before;
            let old = installed.id(way);
            let replay = states.iter().find(|state| state.id == old);
            let replay = replay.and_then(|state| state.replay.clone());
            self.kernel.remove(&old).map_err(|error| error.to_string())?;
            (installed.path, installed.udp) = (path, udp);
            self.put(installed, way, replay)?;
        }
        // The kernel's IVs begin at another random number; new keys make that of no account.
        if !installed.worn {
            installed.worn = self.tell(FromNetwork::Worn { sa: installed.sa.id });
        }
        Ok(())
    }

    pub(super) fn transmit(&self, message: &Transmit) {
        self.sockets.transmit(message, self.nat_port);
    }

    /// Puts an SA of one direction into the kernel.
    fn put(
        &mut self,
        installed: &Installed,
        way: Way,
        replay: Option<Replay>,
    ) -> Result<(), String> {
        let window = match way {
            Way::In => installed.sa.replay_window,
            // Of no meaning, but the kernel has no long numbers without.
            Way::Out => u32::from(installed.sa.suite.esn),
        };
        let replay = replay.unwrap_or(Replay::New(window));
        let made = Made::new(self, installed, way, replay)?;
        made.with(|sa| self.kernel.add(sa))
    }

    /// Which policies there are to be.
    fn wanted(&self) -> BTreeMap<(Direction, Selector), Policy> {
        let mut all = BTreeMap::new();
        let mut put = |direction, selector, pair: &Pair, action| {
            // Of equals the first connection's counts.
            if let Entry::Vacant(entry) = all.entry((direction, selector)) {
                let priority = pair.priority();
                entry.insert(Policy { direction, selector, priority, action, if_id: IF_ID });
            }
        };
        for (key, child) in &self.children {
            let sas = || self.sas.values().filter(|installed| installed.key == *key);
            if child.lacking.is_some() {
                for pair in &child.wanted {
                    put(Direction::Out, pair.outward(), pair, Action::Block);
                }
                continue;
            }
            let sending = sas().filter(|sa| sa.send.is_some()).max_by_key(|sa| sa.send);
            let rest = match sending {
                Some(sending) => {
                    let action = Action::Protect(Template {
                        source: sending.path.local.ip(),
                        destination: sending.path.remote.ip(),
                        spi: sending.sa.outbound_spi.get(),
                        reqid: child.reqid,
                    });
                    for pair in selectors::agreed(&child.wanted, &sending.pairs) {
                        put(Direction::Out, pair.outward(), &pair, action);
                    }
                    // What was not agreed on.
                    Action::Block
                }
                None => Action::Protect(Template {
                    source: NOWHERE,
                    destination: NOWHERE,
                    spi: 0,
                    reqid: child.trap,
                }),
            };
            for pair in &child.wanted {
                put(Direction::Out, pair.outward(), pair, rest);
            }
            for installed in sas() {
                let any: IpAddr = match installed.path.local.is_ipv4() {
                    true => Ipv4Addr::UNSPECIFIED.into(),
                    false => Ipv6Addr::UNSPECIFIED.into(),
                };
                let reqid = child.reqid;
                let template = Template { source: any, destination: any, spi: 0, reqid };
                for pair in &installed.pairs {
                    for direction in [Direction::In, Direction::Forward] {
                        put(direction, pair.inward(), pair, Action::Protect(template));
                    }
                }
            }
        }
        all
    }

    /// Brings the kernel's policies to what they are to be: first what is new, in the place of
    /// what was there, then what is too much.
    fn reconcile(&mut self) -> Result<(), String> {
        let wanted = if self.stopping { BTreeMap::new() } else { self.wanted() };
        let mut failed = None;
        for (key, policy) in &wanted {
            if self.policies.get(key) == Some(policy) {
                continue;
            }
            match self.kernel.put_policy(policy) {
                Ok(()) => _ = self.policies.insert(*key, *policy),
                Err(error) => failed = failed.or(Some(error.to_string())),
            }
        }
        let surplus: Vec<_> =
            self.policies.keys().filter(|key| !wanted.contains_key(key)).copied().collect();
        for (direction, selector) in surplus {
            match self.kernel.remove_policy(direction, &selector, IF_ID) {
                Ok(()) => _ = self.policies.remove(&(direction, selector)),
                Err(error) => failed = failed.or(Some(error.to_string())),
            }
        }
        failed.map_or(Ok(()), Err)
    }

    fn reconcile_or_log(&mut self) {
        if let Err(reason) = self.reconcile() {
            tracing::error!(reason, "vpn: the kernel's policies are not as they should be");
        }
    }

    /// What the kernel tells.
    pub(super) fn event(&mut self, event: Event, now: Instant) {
        match event {
            Event::Acquire { reqid, if_id: IF_ID } => self.acquire(reqid, now),
            Event::Expire { id, .. } => {
                let sa = self.sas.values_mut().find(|sa| sa.in_id() == id || sa.out_id() == id);
                let Some(installed) = sa.filter(|sa| !sa.worn) else { return };
                installed.worn = true;
                let told = FromNetwork::Worn { sa: installed.sa.id };
                self.tell(told);
            }
            Event::Moved { id, from } => {
                let Some(sa) = self.sas.values_mut().find(|sa| sa.in_id() == id) else { return };
                if sa.moved.is_some_and(|last| now < last + SECOND) || sa.path.remote == from {
                    return;
                }
                sa.moved = Some(now);
                let path = Path { local: sa.path.local, remote: from };
                let told = FromNetwork::Moved { sa: sa.sa.id, path };
                self.tell(told);
            }
            Event::Acquire { .. } | Event::Lost => {}
        }
    }

    fn acquire(&mut self, reqid: u32, now: Instant) {
        let next = &mut self.next_reqid;
        let mut children = self.children.iter_mut();
        let Some((key, child)) = children.find(|(_, child)| child.trap == reqid) else { return };
        // The kernel asks once; the next packet is to be asked for as well, a second later.
        child.trap = following(next);
        if child.acquired.is_none_or(|last| now >= last + SECOND) {
            child.acquired = Some(now);
            let (connection, child) = key.clone();
            self.tell(FromNetwork::Acquire { connection, child });
        }
    }

    fn tell(&self, told: FromNetwork) -> bool {
        self.sender.try_send(told).is_ok()
    }

    pub(super) fn count_ike_behind(&mut self) {
        self.ike_behind += 1;
    }

    /// What is to be done from time to time.
    pub(super) fn tick(&mut self, now: Instant) {
        let over = |installed: &Installed| installed.until.is_some_and(|until| until <= now);
        if self.sas.values().any(over) {
            self.refresh();
            let all = self.sas.iter().filter(|(_, installed)| over(installed));
            for id in all.map(|(id, _)| *id).collect::<Vec<_>>() {
                self.forget(id);
            }
        }
        if now < self.looked + SECOND {
            return;
        }
        self.looked = now;
        self.refresh();
        let sender = &self.sender;
        for (id, installed) in &mut self.sas {
            let received = installed.counted.received_packets;
            if received > installed.alive && sender.try_send(FromNetwork::Alive { sa: *id }).is_ok()
            {
                installed.alive = received;
            }
        }
        // Traps that have asked; and what has failed is tried again.
        self.reconcile_or_log();
    }

    /// Reads what the kernel has counted.
    fn refresh(&mut self) {
        if self.sas.is_empty() {
            return;
        }
        let states = match self.kernel.list(IF_ID) {
            Ok(states) => states,
            Err(error) => return tracing::debug!(%error, "vpn: counters of SAs"),
        };
        let states: BTreeMap<SaId, &State> = states.iter().map(|state| (state.id, state)).collect();
        for installed in self.sas.values_mut() {
            let (inbound, outbound) = (installed.in_id(), installed.out_id());
            let counted = &mut installed.counted;
            // An SA that was made anew has begun at zero: numbers never go back.
            if let Some(state) = states.get(&inbound) {
                raise(&mut counted.received_bytes, state.bytes);
                raise(&mut counted.received_packets, state.packets);
                raise(&mut counted.replayed, state.replayed.into());
                raise(&mut counted.unauthentic, state.unauthentic.into());
            }
            if let Some(state) = states.get(&outbound) {
                let header = if outbound.destination.is_ipv4() { 20 } else { 40 };
                raise(&mut counted.sent_bytes, state.bytes.saturating_sub(header * state.packets));
                raise(&mut counted.sent_packets, state.packets);
            }
        }
    }

    pub(super) fn counters(&mut self) -> Counters {
        self.refresh();
        let mut counters = Counters::default();
        for (reason, number) in statistics::dropped() {
            let before = self.dropped.get(reason).copied().unwrap_or_default();
            counters.dropped.insert(reason, number.saturating_sub(before));
        }
        counters.dropped.insert("ike-behind", self.ike_behind);
        for (key, child) in &self.children {
            counters.children.insert(key.clone(), child.closed);
        }
        for (id, installed) in &self.sas {
            add(counters.children.entry(installed.key.clone()).or_default(), &installed.counted);
            counters.sas.insert(*id, installed.counted);
        }
        counters
    }

    /// No policy is made from now on.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
    }

    /// Takes everything out of the kernel.
    pub(super) fn clear(&mut self) {
        self.sas.clear();
        self.policies.clear();
        log(self.kernel.flush(IF_ID));
    }
}

/// One of a pair of SAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    In,
    Out,
}

impl Installed {
    fn in_id(&self) -> SaId {
        SaId { destination: self.path.local.ip(), spi: self.sa.inbound_spi.get() }
    }

    fn out_id(&self) -> SaId {
        SaId { destination: self.path.remote.ip(), spi: self.sa.outbound_spi.get() }
    }

    fn id(&self, way: Way) -> SaId {
        match way {
            Way::In => self.in_id(),
            Way::Out => self.out_id(),
        }
    }

    /// What the kernel has of it.
    fn ways(&self) -> impl Iterator<Item = Way> + use<> {
        [Way::In, Way::Out].into_iter().take(if self.seals { 2 } else { 1 })
    }

    /// The most packets before it wears out.
    fn most_packets(&self) -> Option<u64> {
        let short = (!self.sa.suite.esn).then_some(SHORT_NUMBERS);
        self.limits.packets.into_iter().chain(short).min()
    }
}

/// What an SA in the kernel is made of.
struct Made<'a> {
    keyed: Keyed<'a>,
    installed: &'a Installed,
    way: Way,
    replay: Replay,
    mark: u32,
    copy_dscp: bool,
    fragments: bool,
}

impl<'a> Made<'a> {
    fn new(
        control: &Control,
        installed: &'a Installed,
        way: Way,
        replay: Replay,
    ) -> Result<Self, String> {
        let keys: &EspKeys = match way {
            Way::In => &installed.sa.inbound,
            Way::Out => &installed.sa.outbound,
        };
        let Path { local, remote } = installed.path;
        if local.ip().is_unspecified() || local.is_ipv4() != remote.is_ipv4() {
            return Err(format!("no SA goes from {local} to {remote}"));
        }
        Ok(Self {
            keyed: Keyed::new(installed.sa.suite, keys),
            installed,
            way,
            replay,
            // What has been opened is routed as it is.
            mark: if way == Way::Out { control.mark } else { 0 },
            copy_dscp: control.copy_dscp,
            fragments: !control.dont_fragment,
        })
    }

    fn with(self, put: impl FnOnce(&Sa<'_>) -> Result<(), xfrm::XfrmError>) -> Result<(), String> {
        let installed = self.installed;
        let algorithms =
            self.keyed.algorithms().ok_or("its cipher comes without authentication")?;
        let Path { local, remote } = installed.path;
        let (from, to) = match self.way {
            Way::In => (remote, local),
            Way::Out => (local, remote),
        };
        let limits = match self.way {
            Way::In => xfrm::Limits { bytes: installed.limits.bytes, packets: None },
            Way::Out => {
                xfrm::Limits { bytes: installed.limits.bytes, packets: installed.most_packets() }
            }
        };
        let sa = Sa {
            id: installed.id(self.way),
            source: from.ip(),
            reqid: installed.reqid,
            if_id: IF_ID,
            algorithms,
            esn: installed.sa.suite.esn,
            replay: self.replay,
            encap: installed.udp.then_some(Encap { source: from.port(), destination: to.port() }),
            mark: self.mark,
            limits,
            copy_dscp: self.copy_dscp,
            fragments: self.fragments,
        };
        put(&sa).map_err(|error| error.to_string())
    }
}

/// The next number.
fn following(next: &mut u32) -> u32 {
    let number = *next;
    *next = next.wrapping_add(1).max(FIRST_REQID);
    number
}

fn raise(counter: &mut u64, to: u64) {
    *counter = (*counter).max(to);
}

fn log(done: Result<(), xfrm::XfrmError>) {
    if let Err(error) = done {
        tracing::warn!(%error, "vpn");
    }
}
