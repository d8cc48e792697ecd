//! Services and pools come and go at random over many steps; what must hold always is checked
//! after each.

use std::collections::BTreeSet;

use model::snapshot::{Dual, Families, Requested};
use model::{AlbKind, AlbSettings, Visibility};

use super::super::super::{Frontend, Path, PortPlan, StreamTls};
use super::*;

const STEPS: usize = 800;

#[test]
fn addresses_are_kept_and_never_given_twice() {
    for seed in 1..=6 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut world = World::new();
        world.settings.albs = vec![AlbSettings {
            kind: AlbKind::Public,
            ingress_class: "public".into(),
            ssl_redirect: false,
            default_certificate: None,
            default_backend: None,
        }];
        let mut given = 0;
        for step in 0..STEPS {
            let before = world.previous.clone();
            let changed = step_at_random(&mut world, &mut random);
            let plan = Checked::new(&mut world, &format!("seed {seed}, step {step}"));
            plan.no_address_is_given_twice();
            plan.no_frontend_is_given_twice();
            plan.new_addresses_are_a_pools_to_give(&before);
            plan.nobody_waits_while_an_address_is_free();
            for (name, had) in &before.services {
                if changed.as_ref() != Some(name) && plan.service(name).is_some() {
                    let has = plan.plan.allocations.services.get(name);
                    let kept = |had: &IpAddr| has.is_some_and(|has| has.contains(had));
                    let lost = had.iter().find(|had| !kept(had) && !plan.is_refused(&before, had));
                    assert_eq!(lost, None, "{}: {name} had {had:?} and has {has:?}", plan.at);
                }
            }
            given += plan.plan.allocations.services.len();
        }
        assert!(given > STEPS, "hardly anything was given away: {given}");
    }
}

/// Changes something. Returns the name of a Service that may lose an address by it.
pub(super) fn step_at_random(world: &mut World, random: &mut Random) -> Option<String> {
    let name = format!("s{}", random.below(16));
    let key = ObjectKey::new("shop", name.as_str());
    match random.below(13) {
        0 => {
            let name = format!("p{}", random.below(4));
            world.snapshot.pools.remove(&name);
        }
        1 | 2 => {
            let name = format!("p{}", random.below(4));
            let pool = random_pool(random);
            world.snapshot.pools.insert(name, pool);
        }
        3 | 4 => {
            world.snapshot.services.remove(&key);
        }
        5 => {
            let number = 80 + u16::try_from(random.below(4)).unwrap();
            if let Some(service) = world.snapshot.services.get_mut(&key).map(Arc::make_mut) {
                service.ports = vec![port(Protocol::Tcp, number), port(Protocol::Udp, number)];
            }
        }
        6 => {
            if let Some(service) = world.snapshot.services.get_mut(&key).map(Arc::make_mut) {
                service.broken = random.one_in(2).then(|| "broken".to_owned());
            }
        }
        7 => {
            let service = world.snapshot.services.get_mut(&key).map(Arc::make_mut);
            if let Some(exposure) = service.and_then(|all| all.exposure.as_mut()) {
                // Old and new traffic policies and labels move nobody.
                exposure.local_only = !exposure.local_only;
                exposure.labels.insert("tier".into(), "b".into());
            }
        }
        8 => {
            let service = world.snapshot.services.get_mut(&key).map(Arc::make_mut);
            if let Some(exposure) = service.and_then(|all| all.exposure.as_mut()) {
                exposure.load_balancer = !exposure.load_balancer;
                // One that was replaced while it had no VIPs may ask for something else now.
                let name = format!("shop/{name}");
                let asked = world.previous.asked.get(&name).cloned().unwrap_or_default();
                let other = !asked.is_of(exposure)
                    || !exposure.requested.is_empty()
                    || exposure.families != Families::default();
                return other.then_some(name);
            }
        }
        9 => {
            let network = ["192.0.2.9/28", "192.0.2.9/32"].get(random.below(3));
            world.host = network
                .map(|text| HostAddress {
                    interface: "eth0".into(),
                    network: text.parse().unwrap(),
                })
                .into_iter()
                .collect();
        }
        _ => {
            world.snapshot.services.remove(&key);
            let service = random_service(random);
            world.snapshot.services.insert(key, Arc::new(service));
            return Some(format!("shop/{name}"));
        }
    }
    None
}

fn random_pool(random: &mut Random) -> AddressPool {
    let networks = [
        &["192.0.2.0/29"][..],
        &["192.0.2.4/30", "2001:db8::/126"],
        &["192.0.2.8/29", "192.0.2.8/30"],
        &["198.51.100.0/30"],
        &["2001:db8::/64"],
    ];
    let mut pool = pool(networks[random.below(networks.len())]);
    if random.one_in(4) {
        pool.visibility = Visibility::Private;
    }
    pool.auto_assign = !random.one_in(5);
    if random.one_in(3) {
        pool.reserved = vec![ip("192.0.2.1"), ip("192.0.2.5")];
    }
    if random.one_in(3) {
        pool.alb = vec![pool.ranges[0].first];
    }
    pool.created = random.one_in(2).then(|| random.below(5).try_into().unwrap());
    pool
}

fn random_service(random: &mut Random) -> Service {
    let number = 80 + u16::try_from(random.below(3)).unwrap();
    let mut exposure = Exposure { load_balancer: !random.one_in(8), ..Exposure::default() };
    exposure.created = random.one_in(2).then(|| random.below(50).try_into().unwrap());
    if random.one_in(2) {
        exposure.sharing_key = Some(format!("key-{}", random.below(2)));
    }
    if random.one_in(4) {
        exposure.stream.sni_hosts = vec![format!("{}.test", random.below(3))];
    }
    if random.one_in(4) {
        exposure.visibility = Visibility::Private;
    }
    if random.one_in(5) {
        let dual = [Dual::Single, Dual::Prefer, Dual::Require][random.below(3)];
        let (ipv6_first, named) = (random.one_in(2), random.one_in(2));
        exposure.families = Families { ipv6_first, dual, named };
    }
    if random.one_in(5) {
        let address = format!("192.0.2.{}", random.below(16));
        exposure.requested =
            vec![Requested { address: ip(&address), field: "spec.loadBalancerIP".into() }];
    } else if random.one_in(6) {
        exposure.pool = Some(format!("p{}", random.below(4)));
    }
    if random.one_in(6) {
        exposure.external_ips = vec![ip("192.0.2.1"), ip("203.0.113.1")];
    }
    Service {
        ports: vec![port(Protocol::Tcp, number)],
        exposure: Some(Box::new(exposure)),
        ..Service::default()
    }
}

/// A plan with what it was made of.
struct Checked<'a> {
    world: &'a World,
    plan: L4Plan,
    at: String,
}

impl<'a> Checked<'a> {
    /// Plans, and once more as if after a restart: nothing may be different then.
    fn new(world: &'a mut World, at: &str) -> Self {
        let (plan, diagnostics) = world.plan();
        let text = serde_json::to_string(&*plan.allocations).unwrap();
        world.previous = serde_json::from_str(&text).unwrap();
        let again = world.plan();
        assert_eq!(again.0, plan, "{at}");
        // Told once: then somebody else's address isn't among allocations any more.
        let lasting = texts(&diagnostics).into_iter();
        let lasting = lasting.filter(|text| !text.contains("isn't given the address that it had"));
        assert_eq!(texts(&again.1), lasting.collect::<Vec<_>>(), "{at}");
        Self { world, plan, at: at.to_owned() }
    }

    fn service(&self, name: &str) -> Option<&Service> {
        let key = ObjectKey::new("shop", name.trim_start_matches("shop/"));
        self.world.snapshot.services.get(&key).map(|service| &**service)
    }

    /// Whether an address is no pool's, and the machine's own or nobody's VIP before: that was
    /// reserved.
    fn is_refused(&self, before: &Allocations, address: &IpAddr) -> bool {
        let pools = self.world.snapshot.pools.values();
        let mut ranges = pools.flat_map(|pool| &pool.ranges);
        let own = self.world.host.iter().any(|own| own.network.addr() == *address);
        let known = before.vips.iter().any(|vip| vip.address == *address);
        (own || !known) && !ranges.any(|range| range.contains(*address))
    }

    fn exposure(&self, name: &str) -> Option<&Exposure> {
        self.service(name)?.exposure.as_deref()
    }

    fn lives(&self, name: &str) -> bool {
        self.exposure(name).is_some_and(|exposure| exposure.load_balancer)
    }

    fn no_address_is_given_twice(&self) {
        let mut keys: BTreeMap<IpAddr, Option<&String>> = BTreeMap::new();
        let mut reserved: BTreeSet<IpAddr> = BTreeSet::new();
        for (name, addresses) in &self.plan.allocations.services {
            if !self.lives(name) {
                reserved.extend(addresses);
                continue;
            }
            let key = self.exposure(name).and_then(|exposure| exposure.sharing_key.as_ref());
            for address in addresses {
                if let Some(other) = keys.insert(*address, key) {
                    assert!(key.is_some() && key == other, "{}: {address} twice", self.at);
                }
            }
        }
        for address in self.plan.albs.values().flatten() {
            let used = keys.contains_key(address) || reserved.contains(address);
            assert!(!used, "{}: {address} is the ALB's too", self.at);
        }
        let vips: BTreeSet<IpAddr> = self.plan.vips.iter().map(|vip| vip.address).collect();
        assert_eq!(vips.len(), self.plan.vips.len(), "{}", self.at);
        let used = keys.keys().chain(self.plan.albs.values().flatten());
        assert_eq!(used.copied().collect::<BTreeSet<_>>(), vips, "{}", self.at);
    }

    fn no_frontend_is_given_twice(&self) {
        let mut taken: BTreeMap<(Protocol, IpAddr, u16), Vec<Vec<String>>> = BTreeMap::new();
        for port in self.plan.services.iter().flat_map(|service| &service.ports) {
            for frontend in &port.frontends {
                let (Frontend::Vip(at) | Frontend::External(at)) = frontend else { continue };
                let all = taken.entry((port.protocol, at.ip(), at.port())).or_default();
                let hosts = hosts(port);
                let apart = |others: &Vec<String>| {
                    !hosts.is_empty()
                        && !others.is_empty()
                        && hosts.iter().all(|host| !others.contains(host))
                };
                assert!(all.iter().all(apart), "{}: {frontend:?} twice", self.at);
                all.push(hosts);
            }
        }
    }

    fn new_addresses_are_a_pools_to_give(&self, before: &Allocations) {
        for (name, addresses) in &self.plan.allocations.services {
            let had = before.services.get(name);
            for address in addresses {
                if had.is_none_or(|had| !had.contains(address)) {
                    assert!(self.is_to_give(*address), "{}: {name} got {address}", self.at);
                }
            }
        }
    }

    /// Whether some pool has the address and none keeps it back.
    fn is_to_give(&self, address: IpAddr) -> bool {
        let pools = self.world.snapshot.pools.values();
        let having = pools.filter(|pool| pool.ranges.iter().any(|range| range.contains(address)));
        let cidr = |pool: &&AddressPool| {
            let first = |range: &AddressRange| range.first == address && range.last != address;
            address.is_ipv4() || !pool.ranges.iter().any(first)
        };
        let mut free = having
            .filter(cidr)
            .map(|pool| !pool.reserved.contains(&address) && !pool.alb.contains(&address));
        let host = self.world.host.iter();
        free.any(|free| free)
            && host.filter(|own| own.network.prefix_len() < own.network.max_prefix_len()).all(
                |own| {
                    let ends = [own.network.network(), own.network.broadcast()];
                    own.network.addr() != address && !ends.contains(&address)
                },
            )
    }

    fn nobody_waits_while_an_address_is_free(&self) {
        for service in &self.plan.services {
            let exposure = self.exposure(&service.service.name).unwrap();
            let simple = exposure.requested.is_empty()
                && exposure.pool.is_none()
                && exposure.families.dual == Dual::Single;
            if !simple || !service.load_balancer {
                continue;
            }
            assert_eq!(service.pending.is_some(), service.addresses.is_empty(), "{}", self.at);
            if service.pending.is_none() || exposure.families.named {
                continue;
            }
            for (name, usage) in &self.plan.pools {
                let pool = &self.world.snapshot.pools[name];
                let fits = pool.auto_assign && pool.visibility == exposure.visibility;
                assert!(!fits || usage.used == usage.capacity, "{}: {}", self.at, service.service);
            }
        }
    }
}

fn hosts(port: &PortPlan) -> Vec<String> {
    match &port.path {
        Path::UserSpace(stream) => match &stream.tls {
            StreamTls::Passthrough { hosts } => hosts.clone(),
            _ => Vec::new(),
        },
        Path::Kernel => Vec::new(),
    }
}

/// xorshift64*, so that a failure comes again.
pub(super) struct Random(pub(super) u64);

impl Random {
    pub(super) fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % limit
    }

    pub(super) fn one_in(&mut self, limit: usize) -> bool {
        self.below(limit) == 0
    }
}
