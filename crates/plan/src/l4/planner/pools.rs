//! Which addresses the pools have to give.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use model::snapshot::{AddressPool, AddressRange, Announce, Exposure, Machine};
use model::{Diagnostic, HostAddress, ObjectRef, Snapshot};

use super::super::Vip;
use super::span::{Span, address, number};

/// All pools, by name. No address is in two of them: where ranges overlap it is the older pool's.
pub(super) struct Pools<'a> {
    pub(super) list: Vec<Pool<'a>>,
    /// Whose each address is. Sorted, without overlaps.
    owners: Vec<(Span, usize)>,
    /// What of the machine's own subnets is no VIP.
    host: BTreeMap<IpAddr, Withheld<'a>>,
    /// Machines of this side. What is this edge's own is told by `host`.
    machines: &'a BTreeMap<IpAddr, Machine>,
}

/// One of them.
pub(super) struct Pool<'a> {
    pub(super) name: &'a str,
    pub(super) object: &'a AddressPool,
    /// What can be given to Services, IPv4 and IPv6, sorted.
    pub(super) usable: [Vec<Span>; 2],
    /// How many addresses that is; saturates.
    pub(super) capacity: u64,
}

/// Why an address of a pool is not for Services.
#[derive(Clone, Copy)]
pub(super) enum Withheld<'a> {
    Reserved,
    Alb,
    /// It stands for the routers of its CIDR.
    Routers,
    /// It is this machine's own, on this interface.
    Host(&'a str),
    /// It stands for all hosts of the subnet of this interface, or for the subnet.
    Subnet(&'a str),
    /// It is another machine's.
    Machine(&'a Machine),
}

impl<'a> Pools<'a> {
    pub(super) fn new(
        snapshot: &'a Snapshot,
        host: &'a [HostAddress],
        diagnostics: &mut Vec<Diagnostic>,
    ) -> Self {
        let list = snapshot
            .pools
            .iter()
            .map(|(name, object)| Pool { name, object, usable: Default::default(), capacity: 0 })
            .collect();
        // A single address is what a VIP looks like that was put there by the gateway itself.
        let subnets =
            host.iter().filter(|own| own.network.prefix_len() < own.network.max_prefix_len());
        let mut own = BTreeMap::new();
        for HostAddress { interface, network } in subnets.clone() {
            // RFC 1122, 3.2.1.3; RFC 4291, 2.6.1. Pairs have neither (RFC 3021, RFC 6164).
            if network.prefix_len() + 1 < network.max_prefix_len() {
                let both = [network.network(), network.broadcast()];
                let ends = if network.addr().is_ipv4() { &both[..] } else { &both[..1] };
                own.extend(ends.iter().map(|end| (*end, Withheld::Subnet(interface))));
            }
        }
        own.extend(subnets.clone().map(|own| (own.network.addr(), Withheld::Host(&own.interface))));
        let machines = &snapshot.machines;
        let mut all = Self { list, owners: Vec::new(), host: own, machines };
        all.divide(diagnostics);
        let subnets: Vec<&HostAddress> = subnets.collect();
        for pool in &all.list {
            pool.warn_of_subnets(&subnets, diagnostics);
            pool.warn_of_bgp(diagnostics);
        }
        for at in 0..all.list.len() {
            all.fill(at);
        }
        all
    }

    /// The pool whose address it is.
    pub(super) fn of(&self, address: IpAddr) -> Option<usize> {
        let (v6, bits) = number(address);
        let after = self.owners.partition_point(|(span, _)| (span.v6, span.first) <= (v6, bits));
        let (span, owner) = self.owners.get(after.checked_sub(1)?)?;
        (span.v6 == v6 && bits <= span.last).then_some(*owner)
    }

    pub(super) fn named(&self, name: &str) -> Option<usize> {
        self.list.binary_search_by(|pool| pool.name.cmp(name)).ok()
    }

    pub(super) fn get(&self, at: usize) -> Option<&Pool<'a>> {
        self.list.get(at)
    }

    /// Why Services don't get an address of a pool, if they don't.
    pub(super) fn withheld(&self, pool: &Pool<'_>, address: IpAddr) -> Option<Withheld<'a>> {
        if pool.object.alb.contains(&address) {
            Some(Withheld::Alb)
        } else if pool.object.reserved.binary_search(&address).is_ok() {
            Some(Withheld::Reserved)
        } else if pool.anycast().any(|anycast| anycast == address) {
            Some(Withheld::Routers)
        } else {
            self.host.get(&address).copied().or_else(|| self.machine(address))
        }
    }

    fn machine(&self, address: IpAddr) -> Option<Withheld<'a>> {
        self.machines.get(&address).filter(|one| **one != Machine::Own).map(Withheld::Machine)
    }

    /// Why nobody may have an address, not even who had it before as allocations say: those can be
    /// written by others. `known` is whether they say, too, what it was in a pool.
    ///
    /// What a pool has is taken from nobody because of what a Node tells of itself or is on this
    /// machine by now, nor because the API is there: that may be behind a VIP.
    pub(super) fn refused(&self, address: IpAddr, known: bool) -> Option<String> {
        let pooled = self.of(address).is_some();
        match self.machines.get(&address) {
            Some(machine @ Machine::Router) => return Some(format!("is that of {machine}")),
            Some(machine @ Machine::Object(object)) if object.kind == "EdgeGateway" => {
                return Some(format!("is that of {machine}"));
            }
            _ if pooled => return None,
            Some(Machine::Own) | None => {}
            Some(machine) => return Some(format!("is that of {machine}")),
        }
        match self.host.get(&address) {
            Some(Withheld::Host(interface)) => {
                Some(format!("is this machine's own (interface {interface})"))
            }
            _ if known => None,
            _ => Some("is in no AddressPool, and was in none as far as is known".to_owned()),
        }
    }

    /// Gives each range to its pool, without what an older pool has of it.
    fn divide(&mut self, diagnostics: &mut Vec<Diagnostic>) {
        let mut by_age: Vec<usize> = (0..self.list.len()).collect();
        by_age.sort_by_key(|&at| {
            let created = self.list.get(at).and_then(|pool| pool.object.created);
            (created.is_none(), created, at)
        });
        let mut taken: Vec<(Span, usize, usize)> = Vec::new();
        for at in by_age {
            let Some(pool) = self.list.get(at) else { continue };
            for range in &pool.object.ranges {
                let span = Span::from(range);
                for (other, owner, index) in &taken {
                    if let (Some(overlap), Some(owner)) =
                        (span.overlap(*other), self.list.get(*owner))
                    {
                        diagnostics.push(pool.overlaps(range, overlap, owner, *index));
                    }
                }
                let holes: Vec<Span> = taken.iter().map(|(span, ..)| *span).collect();
                let left = span.without(&holes).into_iter().map(|left| (left, at, range.index));
                taken.extend(left);
                taken.sort_unstable();
            }
        }
        self.owners = taken.into_iter().map(|(span, owner, _)| (span, owner)).collect();
    }

    /// Finds what a pool can give to Services.
    fn fill(&mut self, at: usize) {
        let own = self.owners.iter().filter(|(_, owner)| *owner == at);
        let ends = |span: &Span| (address(span.v6, span.first), address(span.v6, span.last));
        let machines = own.clone().map(|(span, _)| ends(span));
        let machines = machines.flat_map(|(first, last)| self.machines.range(first..=last));
        let machines = machines.map(|(address, _)| *address);
        let machines: Vec<IpAddr> =
            machines.filter(|address| self.machine(*address).is_some()).collect();
        let Some(pool) = self.list.get_mut(at) else { return };
        let withheld = pool.object.reserved.iter().chain(&pool.object.alb).chain(self.host.keys());
        let withheld = withheld.chain(&machines).copied().chain(pool.anycast());
        let holes: BTreeSet<Span> = withheld.map(Span::one).collect();
        let holes: Vec<Span> = holes.into_iter().collect();
        for span in own.flat_map(|(span, _)| span.without(&holes)) {
            let [v4, v6] = &mut pool.usable;
            pool.capacity = pool.capacity.saturating_add(span.count());
            if span.v6 { v6.push(span) } else { v4.push(span) }
        }
    }
}

impl Pool<'_> {
    pub(super) fn object(&self) -> ObjectRef {
        ObjectRef::cluster("AddressPool", self.name)
    }

    /// The subnet-router anycast addresses of its CIDRs (RFC 4291, 2.6.1).
    fn anycast(&self) -> impl Iterator<Item = IpAddr> {
        let spans = self.object.ranges.iter().map(Span::from);
        spans.filter(|span| span.v6 && span.is_subnet()).map(|span| address(true, span.first))
    }

    /// Whether its selectors let a Service take from it.
    pub(super) fn selects(&self, exposure: &Exposure) -> bool {
        self.object.service_selector.matches(&exposure.labels)
            && self.object.namespace_selector.matches(&exposure.namespace_labels)
    }

    /// Whether a Service that asks for no pool and no address may be given one of these.
    pub(super) fn assigns(&self, exposure: &Exposure) -> bool {
        self.object.auto_assign
            && self.object.visibility == exposure.visibility
            && self.selects(exposure)
    }

    pub(super) fn usable(&self, v6: bool) -> &[Span] {
        let [four, six] = &self.usable;
        if v6 { six } else { four }
    }

    pub(super) fn vip(&self, address: IpAddr) -> Vip {
        // BGP isn't spoken: nobody would learn of the address by itself.
        let announce = match self.object.announce {
            Announce::Bgp => Announce::None,
            other => other,
        };
        let visibility = self.object.visibility;
        Vip { address, pool: self.name.to_owned(), visibility, announce }
    }

    pub(super) fn error(&self, field: &str, reason: String) -> Diagnostic {
        Diagnostic::error(self.object(), field, reason).at(self.object.location.clone())
    }

    pub(super) fn warning(&self, field: &str, reason: String) -> Diagnostic {
        Diagnostic::warning(self.object(), field, reason).at(self.object.location.clone())
    }

    fn overlaps(
        &self,
        range: &AddressRange,
        overlap: Span,
        owner: &Pool<'_>,
        index: usize,
    ) -> Diagnostic {
        let field = place(range);
        if owner.name == self.name {
            let reason = format!("{overlap} stands in spec.addresses[{index}] already");
            return self
                .warning(&field, reason)
                .value(Span::from(range).to_string())
                .remedy("write each address once");
        }
        let age = match owner.object.created == self.object.created {
            true => "which is first by name",
            false => "which is older",
        };
        let owner = owner.name;
        self.error(
            &field,
            format!("{overlap} is AddressPool {owner}'s (spec.addresses[{index}]), {age}, and is not taken from here"),
        )
        .value(Span::from(range).to_string())
        .remedy("remove it from one of the two")
    }

    fn warn_of_subnets(&self, subnets: &[&HostAddress], diagnostics: &mut Vec<Diagnostic>) {
        for range in &self.object.ranges {
            let span = Span::from(range);
            for HostAddress { interface, network } in subnets {
                if span.overlap(Span::network(*network)).is_none() {
                    continue;
                }
                let (field, value) = (place(range), span.to_string());
                let own = network.addr();
                diagnostics.push(
                    self.warning(
                        &field,
                        format!(
                            "it is in {}, the subnet of interface {interface}, where other hosts \
                             may have these addresses",
                            network.trunc()
                        ),
                    )
                    .value(&value)
                    .remedy("make sure that no other host has them, or take a range of its own"),
                );
                let set_apart =
                    self.object.reserved.contains(&own) || self.object.alb.contains(&own);
                if range.contains(own) && !set_apart {
                    diagnostics.push(
                        self.warning(
                            &field,
                            format!("{own} is this machine's own (interface {interface}) and is never given away"),
                        )
                        .value(value)
                        .remedy("add it to spec.reserved"),
                    );
                }
            }
        }
    }

    fn warn_of_bgp(&self, diagnostics: &mut Vec<Diagnostic>) {
        if self.object.announce == Announce::Bgp {
            diagnostics.push(
                self.warning(
                    "spec.announce",
                    "BGP is not spoken by this version: its addresses are held but not announced"
                        .to_owned(),
                )
                .value("bgp")
                .remedy("write l2, or none and route the addresses to the edge"),
            );
        }
    }
}

fn place(range: &AddressRange) -> String {
    format!("spec.addresses[{}]", range.index)
}
