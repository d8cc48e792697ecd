//! Which Service gets which address.
//!
//! What a Service has it keeps: over changes of its ports and of the pools, over restarts and
//! whatever the order of the objects. It gives an address back when it is gone, or asks for another
//! address, pool, visibility or family. While it is not of type LoadBalancer its address is reserved
//! for it, and nobody's. A pool that shrinks
//! or vanishes therefore moves nobody: an address that no pool has any more stays where it is, and
//! a diagnostic says so. Services that want one are served in this order: those that ask for an
//! address, the older ones, by name; each gets the lowest free address of the first pool by name.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::snapshot::{Announce, Dual, Exposure};
use model::{Diagnostic, Snapshot};

use super::super::{Allocations, Asked, Giving, Vip};
use super::pools::{Pools, Withheld};
use super::sharing::{Obstacle, obstacle, same_key};
use super::span::{address, family};
use super::subject::{Subject, Wanted, annotation};

mod connections;
mod requested;
mod reserved;

pub(in super::super) use connections::name as connection_name;

/// Of one namespace and sharing key, so many addresses are looked at for room.
const SHARED_ADDRESSES_TRIED: usize = 64;

/// What Services hold, by their position in the list of subjects.
pub(super) struct Holdings {
    /// In the order of each one's families.
    pub(super) of: Vec<Vec<IpAddr>>,
    /// Why one has no address, or lacks one.
    pub(super) pending: Vec<Option<String>>,
    /// Who has an address, the oldest first.
    pub(super) holders: BTreeMap<IpAddr, Vec<usize>>,
    /// Addresses that are in no pool, as they were when they were.
    pub(super) strays: BTreeMap<IpAddr, Vip>,
    /// What Services that exist but get no VIPs have reserved, by Service as in allocations.
    pub(super) absent: BTreeMap<String, Vec<IpAddr>>,
    /// Reserved addresses that nobody holds, and for whom.
    pub(super) reserved: BTreeMap<IpAddr, String>,
    /// How many addresses of each pool are held or reserved, of those that it can give.
    pub(super) used: Vec<u64>,
}

/// Finds who has which address.
pub(super) fn allocate(
    snapshot: &Snapshot,
    subjects: &[Subject<'_>],
    pools: &Pools<'_>,
    (previous, giving): (&Allocations, Giving),
    diagnostics: &mut Vec<Diagnostic>,
) -> Holdings {
    let mut absent = reserved::absent(snapshot, previous);
    connections::keep(snapshot, pools, previous, &mut absent);
    let awaited = reserved::awaited(&absent, previous);
    let holdings = Holdings {
        of: vec![Vec::new(); subjects.len()],
        pending: vec![None; subjects.len()],
        holders: BTreeMap::new(),
        strays: BTreeMap::new(),
        absent,
        reserved: BTreeMap::new(),
        used: vec![0; pools.list.len()],
    };
    let cursors = vec![[(0, 0); 2]; pools.list.len()];
    let mut allocator = Allocator {
        subjects,
        pools,
        holdings,
        cursors,
        shared: BTreeMap::new(),
        awaited,
        diagnostics,
    };
    allocator.keep_all(previous);
    // Told at the end, when it is settled who has what: the next plan then tells the same.
    let steps = match giving {
        Giving::New => &[Step::Requested, Step::Free, Step::Tell][..],
        Giving::Nothing => {
            allocator.wait_for_the_leader();
            &[]
        }
    };
    for &step in steps {
        if step == Step::Tell {
            allocator.give_to_connections(snapshot);
        }
        for (index, subject) in subjects.iter().enumerate() {
            let Some(exposure) = subject.load_balancer() else { continue };
            match (step, exposure.requested.is_empty()) {
                (Step::Requested | Step::Tell, false) => {
                    allocator.give_requested(index, subject, exposure, step);
                }
                (Step::Free | Step::Tell, true) => {
                    allocator.give_free(index, subject, exposure, step);
                }
                _ => {}
            }
        }
    }
    allocator.tell_who_does_not_share();
    let mut holdings = allocator.holdings;
    for (has, subject) in holdings.of.iter_mut().zip(subjects) {
        if let Some(exposure) = subject.exposure {
            Wanted::of(exposure).sort(has);
        }
    }
    holdings
}

/// What is done with the Services, one after the other.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Those that ask for addresses get them.
    Requested,
    /// The others get what is free.
    Free,
    /// Whoever lacks one is told why.
    Tell,
}

struct Allocator<'a, 'b> {
    subjects: &'a [Subject<'a>],
    pools: &'a Pools<'a>,
    holdings: Holdings,
    /// Of each pool and family, the span and number before which nothing is free: while planning,
    /// no address is given back any more.
    cursors: Vec<[(usize, u128); 2]>,
    /// Addresses that can be shared, by namespace and key.
    shared: BTreeMap<(&'a str, &'a str), BTreeSet<IpAddr>>,
    /// What is reserved, and the sharing key of those for whom.
    awaited: BTreeMap<IpAddr, Option<String>>,
    diagnostics: &'b mut Vec<Diagnostic>,
}

impl<'a> Allocator<'a, '_> {
    fn keep_all(&mut self, previous: &Allocations) {
        let usual = Asked::default();
        let strays: BTreeMap<IpAddr, &Vip> =
            previous.vips.iter().map(|vip| (vip.address, vip)).collect();
        let before = |subject: &Subject<'_>| {
            let has = previous.services.get(&subject.name)?;
            Some((has, previous.asked.get(&subject.name).unwrap_or(&usual)))
        };
        // Of two who no longer share, it moves who asks for something else now.
        let (same, other): (Vec<usize>, Vec<usize>) = (0..self.subjects.len()).partition(|index| {
            let subject = self.subjects.get(*index);
            subject.is_none_or(|subject| match (before(subject), subject.exposure) {
                (Some((_, asked)), Some(exposure)) => subject.is_unclear() || asked.is_of(exposure),
                _ => true,
            })
        });
        for index in same.into_iter().chain(other) {
            let Some(subject) = self.subjects.get(index) else { continue };
            let Some((has, asked)) = before(subject) else { continue };
            for &address in has {
                let last = strays.get(&address).copied();
                if let Some(exposure) = subject.load_balancer() {
                    self.keep(index, exposure, address, Some(asked), last);
                } else if subject.is_unclear()
                    && !self.holdings.is_absent(&subject.name)
                    && !self.refuses(subject, address, last)
                {
                    let vip = self.stray(address, subject.exposure, last);
                    self.give(index, address, vip);
                }
            }
        }
        self.reserve();
        for (index, subject) in self.subjects.iter().enumerate() {
            let Some(exposure) = subject.load_balancer() else { continue };
            for &address in &exposure.held {
                if self.holdings.reserved.contains_key(&address) {
                    continue;
                }
                let usable = self.pools.of(address).and_then(|at| self.pools.get(at));
                if usable.is_some_and(|pool| self.pools.withheld(pool, address).is_none()) {
                    self.keep(index, exposure, address, None, None);
                }
            }
        }
    }

    /// Lets a Service keep an address, unless it wants another one or somebody else has it.
    /// `asked` is what it asked for when it was last planned, `last` what the address was then.
    fn keep(
        &mut self,
        index: usize,
        exposure: &Exposure,
        address: IpAddr,
        asked: Option<&Asked>,
        last: Option<&Vip>,
    ) {
        let Some(subject) = self.subjects.get(index) else { return };
        let has = self.has(index);
        let wanted = Wanted::of(exposure);
        let requested = exposure.requested.is_empty()
            || exposure.requested.iter().any(|requested| requested.address == address);
        if !requested || !wanted.takes(address.is_ipv6(), has) {
            return;
        }
        if self.refuses(subject, address, last) {
            return;
        }
        // What the pools have become is nothing that the Service asked for.
        if asked.is_none_or(|asked| *asked != Asked::of(exposure))
            && (!self.fits(exposure, address) || self.is_awaited(exposure, address))
        {
            return;
        }
        let holders = self.holdings.holders.get(&address).into_iter().flatten();
        let others = holders.filter_map(|&other| self.subjects.get(other));
        // Ports that clash are sorted out port by port, and nobody loses an address over them.
        if others.into_iter().any(|other| !same_key(subject, other)) {
            return;
        }
        self.warn_of_keeping(subject, exposure, address);
        let vip = self.stray(address, Some(exposure), last);
        self.give(index, address, vip);
    }

    /// Whether nobody may have an address that allocations give to a Service; tells why.
    fn refuses(&mut self, subject: &Subject<'_>, address: IpAddr, last: Option<&Vip>) -> bool {
        let Some(reason) = self.pools.refused(address, last.is_some()) else { return false };
        let reason = format!("the Service isn't given the address that it had: it {reason}");
        let finding = subject.warning("status.loadBalancer", reason).value(address.to_string());
        self.diagnostics.push(finding.remedy(
            "find out who else writes allocations (the ConfigMap tidegate-allocations); the \
             Service gets another address",
        ));
        true
    }

    /// Whether an address is of a pool that the Service asks for.
    fn fits(&self, exposure: &Exposure, address: IpAddr) -> bool {
        let pool = self.pools.of(address).and_then(|at| self.pools.get(at));
        pool.is_some_and(|pool| match &exposure.pool {
            Some(wanted) => pool.name == wanted,
            None => !exposure.requested.is_empty() || pool.object.visibility == exposure.visibility,
        })
    }

    /// What an address is that no pool has; none if one has it.
    fn stray(
        &self,
        address: IpAddr,
        exposure: Option<&Exposure>,
        last: Option<&Vip>,
    ) -> Option<Vip> {
        if self.pools.of(address).is_some() {
            return None;
        }
        let visibility = exposure.map(|exposure| exposure.visibility).unwrap_or_default();
        let unknown = Vip { address, pool: String::new(), visibility, announce: Announce::L2 };
        Some(last.cloned().unwrap_or(unknown))
    }

    fn warn_of_keeping(&mut self, subject: &Subject<'_>, exposure: &Exposure, address: IpAddr) {
        let pool = self.pools.of(address).and_then(|at| self.pools.get(at));
        let reason = match pool {
            None => "is in no AddressPool any more".to_owned(),
            Some(pool) => match self.pools.withheld(pool, address) {
                Some(Withheld::Reserved) => {
                    format!("is now in spec.reserved of AddressPool {}", pool.name)
                }
                Some(Withheld::Alb) => format!("is now in spec.alb of AddressPool {}", pool.name),
                Some(Withheld::Routers) => {
                    format!(
                        "is the anycast address of the routers of its subnet in AddressPool {}",
                        pool.name
                    )
                }
                Some(Withheld::Host(interface)) => {
                    format!("is this machine's own (interface {interface})")
                }
                Some(Withheld::Machine(machine)) => format!("is that of {machine}"),
                Some(Withheld::Subnet(interface)) => {
                    format!("is the first or last of the subnet of interface {interface}")
                }
                None if !pool.selects(exposure) => {
                    format!("is of AddressPool {}, whose selectors no longer match", pool.name)
                }
                None if !self.fits(exposure, address) => {
                    format!("is now of AddressPool {} ({})", pool.name, pool.object.visibility)
                }
                None => return,
            },
        };
        self.diagnostics.push(
            subject
                .warning(
                    "status.loadBalancer",
                    format!("{reason}; the Service keeps it all the same"),
                )
                .value(address.to_string())
                .remedy(
                    "put the AddressPool right, name another address in tidegate.io/addresses, \
                     or make the Service anew",
                ),
        );
    }

    fn has(&self, index: usize) -> &[IpAddr] {
        self.holdings.of.get(index).map_or(&[], Vec::as_slice)
    }

    fn give(&mut self, index: usize, address: IpAddr, stray: Option<Vip>) {
        let holders = self.holdings.holders.entry(address).or_default();
        let is_new = holders.is_empty();
        let at = holders.partition_point(|holder| *holder < index);
        holders.insert(at, index);
        if is_new {
            self.count(address);
        }
        if let Some(stray) = stray {
            self.holdings.strays.entry(address).or_insert(stray);
        }
        if let Some(has) = self.holdings.of.get_mut(index) {
            has.push(address);
        }
        let subject = self.subjects.get(index);
        let key =
            subject.and_then(|subject| Some((subject, subject.exposure?.sharing_key.as_ref()?)));
        if let Some((subject, key)) = key {
            self.shared.entry((&subject.key.namespace, key)).or_default().insert(address);
        }
    }

    /// An address begins to be in use.
    fn count(&mut self, address: IpAddr) {
        let at = self.pools.of(address);
        if let Some((at, pool)) = at.and_then(|at| Some((at, self.pools.get(at)?)))
            && self.pools.withheld(pool, address).is_none()
            && let Some(used) = self.holdings.used.get_mut(at)
        {
            *used += 1;
        }
    }

    /// Finds addresses for a Service that asks for none in particular.
    fn give_free(
        &mut self,
        index: usize,
        subject: &Subject<'a>,
        exposure: &'a Exposure,
        step: Step,
    ) {
        let wanted = Wanted::of(exposure);
        if self.has(index).len() >= wanted.most {
            return;
        }
        let pools = match self.candidates(subject, exposure) {
            Ok(pools) => pools,
            Err(finding) => {
                if step == Step::Tell && self.has(index).len() < wanted.least {
                    self.tell(index, *finding);
                }
                return;
            }
        };
        let mut found = Vec::new();
        let mut lacking = Vec::new();
        for &v6 in &wanted.order {
            let all: Vec<IpAddr> = self.has(index).iter().chain(&found).copied().collect();
            if !wanted.takes(v6, &all) {
                continue;
            }
            match self.find(subject, exposure, &pools, v6) {
                Some(address) => found.push(address),
                None => lacking.push(v6),
            }
        }
        let enough = self.has(index).len() + found.len() >= wanted.least;
        match step {
            Step::Tell if !enough => self.tell_lack(index, subject, exposure, &pools, &lacking),
            Step::Free if enough => {
                for address in found {
                    self.give(index, address, None);
                }
            }
            _ => {}
        }
    }

    /// The pools that a Service may take from.
    fn candidates(
        &self,
        subject: &Subject<'_>,
        exposure: &Exposure,
    ) -> Result<Vec<usize>, Box<Diagnostic>> {
        let Some(name) = &exposure.pool else {
            let all = self.pools.list.iter().enumerate();
            return Ok(all.filter(|(_, pool)| pool.assigns(exposure)).map(|(at, _)| at).collect());
        };
        let error = |reason: String, remedy: String| {
            Box::new(subject.error(&annotation("pool"), reason).value(name).remedy(remedy))
        };
        match self.pools.named(name).and_then(|at| Some((at, self.pools.get(at)?))) {
            Some((at, pool)) if pool.selects(exposure) => Ok(vec![at]),
            Some(_) => Err(error(
                format!("AddressPool {name} doesn't select this Service"),
                "change its spec.serviceSelector or spec.namespaceSelector, or name another pool"
                    .to_owned(),
            )),
            None => {
                let names: Vec<&str> = self.pools.list.iter().map(|pool| pool.name).collect();
                let remedy = match names.is_empty() {
                    true => "make an AddressPool of this name".to_owned(),
                    false => format!("make it, or name one of {}", names.join(", ")),
                };
                Err(error(format!("there is no AddressPool {name}"), remedy))
            }
        }
    }

    /// An address for a Service: one that it can share, or else the lowest free one.
    fn find(
        &mut self,
        subject: &Subject<'_>,
        exposure: &Exposure,
        pools: &[usize],
        v6: bool,
    ) -> Option<IpAddr> {
        if let Some(key) = &exposure.sharing_key {
            let shared = self.shared.get(&(subject.key.namespace.as_str(), key.as_str()));
            let found = shared.into_iter().flatten().take(SHARED_ADDRESSES_TRIED).find(|address| {
                address.is_ipv6() == v6
                    && self.pools.of(**address).is_some_and(|at| {
                        let pool = self.pools.get(at).filter(|_| pools.contains(&at));
                        pool.is_some_and(|pool| self.pools.withheld(pool, **address).is_none())
                    })
                    && self.obstacle(subject, **address).is_none()
            });
            if let Some(address) = found {
                return Some(*address);
            }
        }
        pools.iter().find_map(|&at| self.lowest_free(at, v6))
    }

    fn lowest_free(&mut self, at: usize, v6: bool) -> Option<IpAddr> {
        let usable = self.pools.get(at)?.usable(v6);
        let [four, six] = self.cursors.get_mut(at)?;
        let (span, next) = if v6 { six } else { four };
        while let Some(current) = usable.get(*span) {
            let candidate = current.first.max(*next);
            if candidate > current.last {
                *span += 1;
                continue;
            }
            let candidate_address = address(v6, candidate);
            if !self.holdings.holders.contains_key(&candidate_address)
                && !self.holdings.reserved.contains_key(&candidate_address)
            {
                *next = candidate;
                return Some(candidate_address);
            }
            match candidate.checked_add(1) {
                Some(after) => *next = after,
                None => *span += 1,
            }
        }
        None
    }

    /// Why a Service can't have an address besides those who have it, and which of them it is.
    fn obstacle(
        &self,
        subject: &Subject<'_>,
        address: IpAddr,
    ) -> Option<(Obstacle, &'a Subject<'a>)> {
        let holders = self.holdings.holders.get(&address)?;
        holders.iter().find_map(|&holder| {
            let other = self.subjects.get(holder)?;
            Some((obstacle(subject, other)?, other))
        })
    }

    /// A Service lacks an address, and this is why.
    fn tell(&mut self, index: usize, finding: Diagnostic) {
        if let Some(pending) = self.holdings.pending.get_mut(index) {
            *pending = Some(finding.reason.clone());
        }
        self.diagnostics.push(finding);
    }

    /// Whoever lacks an address is given one by another edge.
    fn wait_for_the_leader(&mut self) {
        for (index, subject) in self.subjects.iter().enumerate() {
            let Some(exposure) = subject.load_balancer() else { continue };
            if self.has(index).len() < Wanted::of(exposure).least
                && let Some(pending) = self.holdings.pending.get_mut(index)
            {
                *pending = Some("waits for the leading edge to give it an address".to_owned());
            }
        }
    }

    fn tell_lack(
        &mut self,
        index: usize,
        subject: &Subject<'_>,
        exposure: &Exposure,
        pools: &[usize],
        lacking: &[bool],
    ) {
        let lack = match lacking {
            [one] => format!("no {} address", family(*one)),
            _ => "no address".to_owned(),
        };
        let pools: Vec<String> = pools
            .iter()
            .filter_map(|&at| {
                let (pool, used) = (self.pools.get(at)?, self.holdings.used.get(at)?);
                Some(match lacking.iter().any(|&v6| !pool.usable(v6).is_empty()) {
                    true => format!("{} ({used} of {} in use)", pool.name, pool.capacity),
                    false => format!("{} (has none of that family)", pool.name),
                })
            })
            .collect();
        let visibility = exposure.visibility;
        let both = match exposure.families.dual {
            Dual::Require => ", and both families are required",
            _ => "",
        };
        let (reason, remedy) = match pools.as_slice() {
            [] => (
                format!("{lack}: no {visibility} AddressPool that assigns addresses selects it"),
                format!(
                    "make an AddressPool with visibility {visibility}, or name one in \
                     tidegate.io/pool"
                ),
            ),
            [pool] => (
                format!("{lack} is free in AddressPool {pool}{both}"),
                "give the pool more addresses, or delete a Service that holds one".to_owned(),
            ),
            several => (
                format!("{lack} is free in AddressPools {}{both}", several.join(", ")),
                "give one of them more addresses, or delete a Service that holds one".to_owned(),
            ),
        };
        let finding = subject.warning("spec.type", reason).value("LoadBalancer").remedy(remedy);
        self.tell(index, finding);
    }

    /// Sharing is allowed, not promised: who has an address of its own for want of room is told why.
    fn tell_who_does_not_share(&mut self) {
        for addresses in self.shared.values().filter(|addresses| addresses.len() > 1) {
            for own in addresses {
                let alone = self.holdings.holders.get(own).map(Vec::as_slice);
                let Some(&[index]) = alone else { continue };
                let Some(subject) = self.subjects.get(index) else { continue };
                if subject.exposure.is_some_and(|exposure| !exposure.requested.is_empty()) {
                    continue;
                }
                let obstacle = addresses
                    .iter()
                    .filter(|other| *other != own && other.is_ipv6() == own.is_ipv6())
                    .filter(|other| self.is_held_before(index, **other))
                    .take(SHARED_ADDRESSES_TRIED)
                    .find_map(|address| Some((address, self.obstacle(subject, *address)?)));
                if let Some((address, (obstacle, other))) = obstacle {
                    let remedy = format!("{}, or remove the sharing key", obstacle.way_out());
                    let reason = format!(
                        "{address} can't be shared: Service {} {obstacle}; this one has {own} of \
                         its own",
                        other.key
                    );
                    self.diagnostics
                        .push(subject.warning(&obstacle.field(), reason).remedy(remedy));
                }
            }
        }
    }

    /// Whether somebody older than a Service has the address.
    fn is_held_before(&self, index: usize, address: IpAddr) -> bool {
        let holders = self.holdings.holders.get(&address);
        holders.is_some_and(|holders| holders.iter().any(|holder| *holder < index))
    }
}
