//! The VIPs on their way onto interfaces and off them.
//!
//! A VIP is taken once nobody else in the network has it, and it stays with the machine until no
//! plan wants it. What goes wrong with one of them holds up none of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use derived::Derived;
use model::net::Visibility;
use model::snapshot::Announce;
use model::{Diagnostic, HostAddress, L4Settings, ObjectRef};
use plan::l4::Vip;

use super::kernel::{Fault, Host, Kernel, LOOPBACK, Probed};
use super::retry::Retry;
use super::state::Taken;

mod derived;

/// How long after it is taken an address is announced.
const ANNOUNCE: [Duration; 5] = [
    Duration::ZERO,
    Duration::from_secs(1),
    Duration::from_secs(2),
    Duration::from_secs(4),
    Duration::from_secs(8),
];
/// How soon an address that another machine has is asked for again: twice as late each time,
const ASK_AGAIN: Duration = Duration::from_secs(5);
/// and at most after this.
const ASK_AGAIN_LAST: Duration = Duration::from_secs(30);

/// How far a VIP has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Nothing has been done yet.
    New,
    /// The network is being asked.
    Probing,
    /// Nobody else has it: it can be taken.
    Free,
    /// It is on its interface.
    Held,
    /// This hardware address has answered for it.
    Duplicate(String),
    /// Something has failed.
    Failed(Fault),
    /// There is no interface for it.
    Homeless(String),
    /// It is another edge's.
    Elsewhere,
}

#[derive(Clone, Debug)]
struct Entry {
    vip: Vip,
    interface: String,
    stage: Stage,
    /// When something is to be tried again, and how often that was in vain.
    retry: Retry,
    /// How often in a row another machine had it.
    conflicts: u32,
    /// When it was taken, and how often it has been announced since.
    announced: Option<(Instant, usize)>,
}

/// All of them.
#[derive(Debug, Default)]
pub(super) struct Vips {
    entries: BTreeMap<IpAddr, Entry>,
    /// What the gateway has put on interfaces, wanted or not.
    ours: BTreeSet<Taken>,
    /// No others are taken any more.
    only: Option<BTreeSet<IpAddr>>,
    host: Host,
    /// Of the machine's addresses, where they are, and those that stand for a subnet.
    present: BTreeSet<Taken>,
    subnets: Vec<HostAddress>,
    /// What was wanted last.
    wanted: Arc<Vec<Vip>>,
    /// Begun anew with every change of what stands above.
    derived: Derived,
}

impl Vips {
    /// With what the gateway may have put on interfaces before it was started.
    pub(super) fn new(before: &BTreeSet<Taken>) -> Self {
        Self { ours: before.clone(), ..Self::default() }
    }

    /// What the machine looks like now. Returns the VIPs that somebody has taken off.
    pub(super) fn look(&mut self, now: Instant, host: Host) -> Vec<IpAddr> {
        self.derived = Derived::default();
        let place = |own: &HostAddress| Taken {
            interface: own.interface.clone(),
            address: own.network.addr(),
        };
        self.present = host.addresses.iter().map(place).collect();
        self.subnets = host.addresses.iter().filter(|own| !is_single(own)).cloned().collect();
        self.host = host;
        let (present, ours) = (&self.present, &mut self.ours);
        let mut lost = Vec::new();
        for (address, entry) in &mut self.entries {
            let there = present.contains(&entry.taken(*address));
            if entry.stage == Stage::Held && !there {
                // Nobody else had it until now, so it is put back without asking.
                entry.stage = Stage::Free;
                entry.retry.soon(now);
                lost.push(*address);
            }
        }
        ours.extend(self.host.marked.iter().cloned());
        ours.retain(|taken| present.contains(taken));
        lost
    }

    /// What a plan wants.
    pub(super) fn want(&mut self, wanted: &Arc<Vec<Vip>>, settings: &L4Settings) {
        if self.derived.is_placed && Arc::ptr_eq(wanted, &self.wanted) {
            return;
        }
        self.wanted = Arc::clone(wanted);
        self.derived = Derived::begin(true);
        let addresses: BTreeSet<IpAddr> = wanted.iter().map(|vip| vip.address).collect();
        self.entries.retain(|address, _| addresses.contains(address));
        for vip in wanted.iter() {
            let place = self.place(vip, settings);
            let (interface, stage) = match place {
                Ok(interface) => (interface, Stage::New),
                Err(reason) => (String::new(), Stage::Homeless(reason)),
            };
            let taken = Taken { interface: interface.clone(), address: vip.address };
            let is_there = self.ours.contains(&taken) && self.present.contains(&taken);
            match self.entries.get_mut(&vip.address) {
                Some(entry) if entry.interface == interface => {
                    entry.vip = vip.clone();
                    if let (Stage::Homeless(_), Stage::Homeless(_)) = (&entry.stage, &stage) {
                        entry.stage = stage;
                    }
                }
                _ => {
                    let stage = if is_there { Stage::Free } else { stage };
                    let entry = Entry {
                        vip: vip.clone(),
                        interface,
                        stage,
                        retry: Retry::default(),
                        conflicts: 0,
                        announced: None,
                    };
                    self.entries.insert(vip.address, entry);
                }
            }
        }
    }

    /// Takes note of which VIPs this edge holds, of several: none if it isn't, else whether the
    /// network needs no asking since whoever had it has surely let go of it.
    pub(super) fn hold(&mut self, held: impl Fn(IpAddr) -> Option<bool>) {
        let mut changed = false;
        for (address, entry) in &mut self.entries {
            match (held(*address), &entry.stage) {
                (_, Stage::Homeless(_)) | (None, Stage::Elsewhere) => continue,
                (None, _) => {
                    entry.stage = Stage::Elsewhere;
                    entry.announced = None;
                    entry.retry = Retry::default();
                }
                (Some(true), Stage::Elsewhere | Stage::New) => entry.stage = Stage::Free,
                (Some(false), Stage::Elsewhere) => entry.stage = Stage::New,
                (Some(_), _) => continue,
            }
            changed = true;
        }
        if changed {
            self.change();
        }
    }

    /// Takes those off that are another edge's. This waits for nothing.
    pub(super) fn let_go(&mut self, kernel: &mut impl Kernel) {
        let entries = &self.entries;
        let elsewhere = |taken: &Taken| {
            entries.get(&taken.address).is_some_and(|entry| entry.stage == Stage::Elsewhere)
        };
        let (mut removed, mut failed) = (false, false);
        self.ours.retain(|taken| {
            if !elsewhere(taken) {
                return true;
            }
            let Taken { interface, address } = taken;
            match kernel.remove_address(interface, *address) {
                Ok(()) => {
                    tracing::info!(vip = %address, interface, "let go");
                    removed = true;
                    false
                }
                Err(fault) => {
                    tracing::warn!(vip = %address, interface, %fault, "can't be taken off");
                    failed = true;
                    true
                }
            }
        });
        if removed {
            self.change();
            self.settle(Instant::now(), kernel);
        } else if failed {
            // To be tried again.
            self.change();
        }
    }

    /// Something has changed that others follow from.
    fn change(&mut self) {
        self.derived = Derived::begin(self.derived.is_placed);
    }

    /// Whether nothing has changed since this was asked last.
    pub(super) fn is_unchanged(&mut self) -> bool {
        std::mem::replace(&mut self.derived.is_seen, true)
    }

    /// Has the kernel take all off by itself, should nobody come to it in time; never with
    /// `u32::MAX`.
    pub(super) fn limit(&self, seconds: u32, kernel: &mut impl Kernel) {
        for (address, entry) in &self.entries {
            if entry.stage == Stage::Held
                && let Err(fault) = kernel.limit_address(&entry.interface, *address, seconds)
            {
                tracing::warn!(vip = %address, %fault, "its time can't be limited");
            }
        }
    }

    /// The interface for a VIP: of its side, the one whose subnet holds it, or else the first.
    fn place(&self, vip: &Vip, settings: &L4Settings) -> Result<String, String> {
        if vip.announce != Announce::L2 {
            return Ok(LOOPBACK.to_owned());
        }
        let field = format!("l4.interfaces.{}", vip.visibility);
        let interfaces = settings.interfaces(vip.visibility);
        let holds = |interface: &&String| {
            let mut subnets = self.subnets.iter();
            subnets.any(|own| own.interface == **interface && own.network.contains(&vip.address))
        };
        let Some(interface) = interfaces.iter().find(holds).or(interfaces.first()) else {
            return Err(format!("{field} names no interface"));
        };
        if !self.host.interfaces.contains(interface) {
            return Err(format!("{field} names {interface:?}, and there is no such interface"));
        }
        Ok(interface.clone())
    }

    /// The sides of which an interface works.
    pub(super) fn sides(&self, settings: &L4Settings) -> Vec<Visibility> {
        let works = |side: &Visibility| {
            settings.interfaces(*side).iter().any(|interface| self.host.up.contains(interface))
        };
        [Visibility::Public, Visibility::Private].into_iter().filter(works).collect()
    }

    /// What is wrong with the interfaces that are written, each with its field.
    pub(super) fn unusable(&self, settings: &L4Settings) -> Vec<Diagnostic> {
        let mut found = Vec::new();
        for side in [Visibility::Public, Visibility::Private] {
            for interface in settings.interfaces(side) {
                let (reason, remedy) = if !self.host.interfaces.contains(interface) {
                    ("this machine has no such interface", "name one that `ip link` shows")
                } else if !self.host.up.contains(interface) {
                    ("its link is down", "see to the cable, the switch or `ip link set … up`")
                } else {
                    continue;
                };
                let object = ObjectRef::cluster("GatewayConfig", "gateway");
                let reason = format!("{reason}, so no VIP is reached there");
                let finding = Diagnostic::warning(object, format!("l4.interfaces.{side}"), reason);
                found.push(finding.value(interface.clone()).remedy(remedy));
            }
        }
        found
    }

    /// From now on only what is held is kept.
    pub(super) fn take_no_more(&mut self) {
        let held = self.entries.iter().filter(|(address, entry)| {
            entry.stage == Stage::Held || self.ours.contains(&entry.taken(**address))
        });
        self.only = Some(held.map(|(address, _)| *address).collect());
    }

    /// Begins to ask for those that are allowed and not asked for yet.
    pub(super) fn ask(
        &mut self,
        now: Instant,
        allowed: impl Fn(&Taken) -> bool,
        kernel: &mut impl Kernel,
    ) {
        let (mut asked, mut changed) = (Vec::new(), false);
        for (address, entry) in &mut self.entries {
            let again = match entry.stage {
                Stage::New => true,
                Stage::Duplicate(_) | Stage::Failed(_) => entry.retry.is_due(now),
                _ => false,
            };
            if !again || !may_take(&self.only, address) || !allowed(&entry.taken(*address)) {
                continue;
            }
            changed = true;
            if entry.interface == LOOPBACK {
                entry.stage = Stage::Free;
                continue;
            }
            match entry.stage {
                // A duplicate stays one until the contrary is known.
                Stage::Duplicate(_) => entry.retry.after(now, ASK_AGAIN_LAST),
                _ => entry.stage = Stage::Probing,
            }
            asked.push(entry.taken(*address));
        }
        if changed {
            self.change();
        }
        if !asked.is_empty() {
            kernel.probe(asked);
        }
    }

    /// Takes note of how a probe has ended.
    pub(super) fn probed(&mut self, now: Instant, probed: Probed) {
        self.change();
        let Probed { taken, found } = probed;
        let Some(entry) = self.entries.get_mut(&taken.address) else { return };
        if !matches!(entry.stage, Stage::Probing | Stage::Duplicate(_))
            || entry.interface != taken.interface
        {
            return;
        }
        match found {
            Ok(None) => {
                entry.stage = Stage::Free;
                entry.retry = Retry::default();
                entry.conflicts = 0;
            }
            Ok(Some(mac)) => {
                entry.conflicts += 1;
                let rest = ASK_AGAIN.saturating_mul(2u32.saturating_pow(entry.conflicts - 1));
                entry.retry.after(now, rest.min(ASK_AGAIN_LAST));
                entry.stage = Stage::Duplicate(mac);
            }
            Err(fault) => entry.fail(now, fault),
        }
    }

    /// Puts those that are free onto their interfaces.
    pub(super) fn take(
        &mut self,
        now: Instant,
        allowed: impl Fn(&Taken) -> bool,
        kernel: &mut impl Kernel,
    ) {
        let mut changed = false;
        for (address, entry) in &mut self.entries {
            if entry.stage != Stage::Free
                || !entry.retry.is_due(now)
                || !may_take(&self.only, address)
            {
                continue;
            }
            let taken = entry.taken(*address);
            if !allowed(&taken) {
                continue;
            }
            changed = true;
            match kernel.add_address(&entry.interface, *address) {
                Ok(()) => {
                    entry.stage = Stage::Held;
                    entry.announced = (entry.vip.announce == Announce::L2).then_some((now, 0));
                    tracing::info!(vip = %address, interface = entry.interface, "taken");
                    self.ours.insert(taken);
                }
                Err(fault) => entry.fail(now, fault),
            }
        }
        if changed {
            self.change();
        }
    }

    /// Takes those that nobody wants off their interfaces.
    pub(super) fn leave(&mut self, kernel: &mut impl Kernel) {
        if self.derived.is_left {
            return;
        }
        let (mut changed, mut failed) = (false, false);
        let entries = &self.entries;
        self.ours.retain(|taken| {
            let Taken { interface, address } = taken;
            let moved = |entry: &Entry| entry.interface != *interface && entry.stage != Stage::Held;
            match entries.get(address) {
                Some(entry) if entry.stage == Stage::Elsewhere => {}
                Some(entry) if entry.interface == *interface => return true,
                // It stays where it is until it is where it should be.
                Some(entry) if moved(entry) => return true,
                _ => {}
            }
            match kernel.remove_address(interface, *address) {
                Ok(()) => {
                    tracing::info!(vip = %address, interface, "given up");
                    changed = true;
                    false
                }
                Err(fault) => {
                    tracing::warn!(vip = %address, interface, %fault, "can't be taken off");
                    failed = true;
                    true
                }
            }
        });
        if changed {
            self.change();
        }
        self.derived.is_left = !failed;
    }

    /// Ends a round of taking and leaving.
    pub(super) fn settle(&mut self, now: Instant, kernel: &mut impl Kernel) {
        let failed = kernel.settle();
        if !failed.is_empty() {
            self.change();
        }
        for (address, fault) in failed {
            match self.entries.get_mut(&address) {
                Some(entry) if entry.interface == LOOPBACK && entry.stage == Stage::Held => {
                    entry.fail(now, fault);
                }
                _ => tracing::warn!(vip = %address, %fault, "not on {LOOPBACK}"),
            }
        }
    }

    /// Announces those whose time has come.
    pub(super) fn announce(&mut self, now: Instant, kernel: &mut impl Kernel) {
        let mut due = Vec::new();
        for (address, entry) in &mut self.entries {
            let Some((since, times)) = entry.announced else { continue };
            let passed = now.saturating_duration_since(since);
            let reached = ANNOUNCE.iter().filter(|offset| **offset <= passed).count();
            if reached > times {
                due.push(entry.taken(*address));
                entry.announced = (reached < ANNOUNCE.len()).then_some((since, reached));
            }
        }
        if due.is_empty() {
            return;
        }
        for (Taken { interface, address }, fault) in kernel.announce(&due) {
            tracing::warn!(vip = %address, interface, %fault, "not announced");
        }
    }

    /// Has all announced again.
    pub(super) fn announce_again(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            if entry.stage == Stage::Held && entry.vip.announce == Announce::L2 {
                entry.announced = Some((now, 0));
            }
        }
    }

    /// When something is to be done next.
    pub(super) fn next(&self) -> Option<Instant> {
        let of = |(address, entry): (&IpAddr, &Entry)| {
            let retry = match entry.stage {
                _ if !may_take(&self.only, address) => None,
                Stage::Duplicate(_) | Stage::Failed(_) | Stage::Free => entry.retry.next(),
                _ => None,
            };
            let announce =
                entry.announced.and_then(|(since, times)| Some(since + *ANNOUNCE.get(times)?));
            retry.into_iter().chain(announce).min()
        };
        self.entries.iter().filter_map(of).min()
    }

    /// All, with their interfaces and how far they have come.
    pub(super) fn all(&self) -> impl Iterator<Item = (&Vip, &str, &Stage)> {
        self.entries.values().map(|entry| (&entry.vip, entry.interface.as_str(), &entry.stage))
    }

    /// Takes off everything that the gateway has put on interfaces.
    pub(super) fn give_up(&mut self, kernel: &mut impl Kernel) {
        self.entries.clear();
        self.change();
        self.leave(kernel);
        self.settle(Instant::now(), kernel);
    }
}

impl Entry {
    fn taken(&self, address: IpAddr) -> Taken {
        Taken { interface: self.interface.clone(), address }
    }

    fn fail(&mut self, now: Instant, fault: Fault) {
        self.stage = Stage::Failed(fault);
        self.retry.failed(now);
    }
}

fn may_take(only: &Option<BTreeSet<IpAddr>>, address: &IpAddr) -> bool {
    only.as_ref().is_none_or(|only| only.contains(address))
}

fn is_single(own: &HostAddress) -> bool {
    own.network.prefix_len() == own.network.max_prefix_len()
}
