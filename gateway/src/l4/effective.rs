//! The part of a plan that may be in force now.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use plan::l4::{Allocations, Frontend, L4Plan, ServicePlan};

/// The VIPs of a plan that must not be used.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// For nobody: another machine has them, or they aren't on an interface.
    pub(super) addresses: Arc<BTreeSet<IpAddr>>,
    /// For these Services, as `namespace/name`: they have been given them, but that isn't on the
    /// disk.
    pub(super) services: BTreeSet<(String, IpAddr)>,
}

impl Held {
    /// The addresses that a plan gives to Services without the disk knowing.
    pub(super) fn unsaved(plan: &L4Plan, saved: &Arc<Allocations>) -> BTreeSet<(String, IpAddr)> {
        if Arc::ptr_eq(&plan.allocations, saved) {
            return BTreeSet::new();
        }
        let known = |service: &str, address| {
            saved.services.get(service).is_some_and(|addresses| addresses.contains(address))
        };
        plan.allocations
            .services
            .iter()
            .flat_map(|(service, addresses)| addresses.iter().map(move |a| (service, a)))
            .filter(|(service, address)| !known(service, address))
            .map(|(service, address)| (service.clone(), *address))
            .collect()
    }

    /// The plan without what must not be used.
    pub(super) fn apply(&self, plan: &Arc<L4Plan>) -> Arc<L4Plan> {
        if self.is_empty() {
            return Arc::clone(plan);
        }
        let mut plan = L4Plan::clone(plan);
        let mut used = BTreeSet::new();
        for service in &mut plan.services {
            *service = self.of_service(service);
            used.extend(service.addresses.iter().copied());
        }
        for addresses in plan.albs.values_mut() {
            addresses.retain(|address| !self.addresses.contains(address));
            used.extend(addresses.iter().copied());
        }
        Arc::make_mut(&mut plan.vips).retain(|vip| used.contains(&vip.address));
        Arc::new(plan)
    }

    fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.services.is_empty()
    }

    /// One Service without what must not be used.
    fn of_service(&self, service: &Arc<ServicePlan>) -> Arc<ServicePlan> {
        // Only those that are held back are asked for by name.
        let name =
            if self.services.is_empty() { String::new() } else { service.service.to_string() };
        let usable = |address: &IpAddr| {
            !self.addresses.contains(address)
                && (self.services.is_empty() || !self.services.contains(&(name.clone(), *address)))
        };
        let has = |frontend: &Frontend| match frontend {
            Frontend::Vip(socket) => usable(&socket.ip()),
            Frontend::External(_) | Frontend::NodePort(_) => true,
        };
        if service.addresses.iter().all(usable)
            && service.ports.iter().all(|port| port.frontends.iter().all(has))
        {
            return Arc::clone(service);
        }
        let mut service = ServicePlan::clone(service);
        service.addresses.retain(usable);
        for port in &mut service.ports {
            port.frontends.retain(has);
        }
        Arc::new(service)
    }
}

/// The part of the last plan, so that the next one's is made of the Services that have changed.
#[derive(Debug, Default)]
pub(super) struct Part {
    held: Held,
    whole: Arc<L4Plan>,
    part: Arc<L4Plan>,
}

impl Part {
    /// As [`Held::apply`]; what stays the same is the same in memory.
    pub(super) fn of(&mut self, whole: &Arc<L4Plan>, held: Held) -> Arc<L4Plan> {
        let same = self.held == held;
        if !(same && Arc::ptr_eq(&self.whole, whole)) {
            let quick = if same { self.follow(whole) } else { None };
            self.part = quick.unwrap_or_else(|| held.apply(whole));
            (self.held, self.whole) = (held, Arc::clone(whole));
        }
        Arc::clone(&self.part)
    }

    fn follow(&self, whole: &Arc<L4Plan>) -> Option<Arc<L4Plan>> {
        if self.held.is_empty() {
            return None;
        }
        let before = &self.whole;
        if !whole.is_same_but_for_services(before) {
            return None;
        }
        let mut part = L4Plan::clone(&self.part);
        for (at, _, _) in whole.changes(before)? {
            *part.services.get_mut(at)? = self.held.of_service(whole.services.get(at)?);
        }
        Some(Arc::new(part))
    }
}

#[cfg(test)]
mod tests {
    use model::net::{Protocol, Visibility};
    use model::snapshot::{Algorithm, Announce};
    use model::{AlbKind, ObjectKey};
    use plan::l4::{Path, PortPlan, ServicePlan, Vip};

    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn service(name: &str, vip: &str) -> ServicePlan {
        let vip = address(vip);
        ServicePlan {
            service: ObjectKey::new("shop", name),
            load_balancer: true,
            addresses: vec![vip],
            pending: None,
            ports: vec![PortPlan {
                name: String::new(),
                protocol: Protocol::Tcp,
                number: 80,
                frontends: vec![Frontend::Vip((vip, 80).into()), Frontend::NodePort(30080)],
                endpoints: Arc::default(),
                only_remote: false,
                algorithm: Algorithm::Random,
                path: Path::Kernel,
            }],
            source_ranges: Vec::new(),
            affinity: None,
            snat: false,
            local_only: false,
            health_check_node_port: None,
            local_endpoints: 0,
        }
    }

    fn plan() -> Arc<L4Plan> {
        let vip = |text| Vip {
            address: address(text),
            pool: "p".into(),
            visibility: Visibility::Public,
            announce: Announce::L2,
        };
        Arc::new(L4Plan {
            vips: Arc::new(vec![vip("192.0.2.1"), vip("192.0.2.2"), vip("192.0.2.3")]),
            services: vec![
                service("a", "192.0.2.1").into(),
                service("b", "192.0.2.1").into(),
                service("c", "192.0.2.2").into(),
            ],
            albs: [(AlbKind::Public, vec![address("192.0.2.3")])].into(),
            allocations: Arc::new(Allocations {
                services: [
                    ("shop/a".into(), vec![address("192.0.2.1")]),
                    ("shop/b".into(), vec![address("192.0.2.1")]),
                    ("shop/c".into(), vec![address("192.0.2.2")]),
                ]
                .into(),
                ..Allocations::default()
            }),
            ..L4Plan::default()
        })
    }

    fn vips(plan: &L4Plan) -> Vec<String> {
        plan.vips.iter().map(|vip| vip.address.to_string()).collect()
    }

    #[test]
    fn a_plan_that_is_free_of_trouble_stays_itself() {
        let plan = plan();
        assert!(Arc::ptr_eq(&Held::default().apply(&plan), &plan));
    }

    #[test]
    fn a_refused_address_is_nobodys() {
        let held = Held {
            addresses: Arc::new([address("192.0.2.1"), address("192.0.2.3")].into()),
            ..Held::default()
        };
        let plan = held.apply(&plan());
        assert_eq!(vips(&plan), ["192.0.2.2"]);
        assert!(plan.services[0].addresses.is_empty());
        assert_eq!(plan.services[1].ports[0].frontends, [Frontend::NodePort(30080)]);
        assert_eq!(plan.services[2].ports[0].frontends.len(), 2);
        assert!(plan.albs[&AlbKind::Public].is_empty());
    }

    #[test]
    fn an_address_that_isnt_on_the_disk_is_not_its_services_but_may_be_anothers() {
        let plan = plan();
        let mut saved = Allocations::clone(&plan.allocations);
        saved.services.remove("shop/b");
        saved.services.remove("shop/c");
        let held = Held { services: Held::unsaved(&plan, &Arc::new(saved)), ..Held::default() };
        let plan = held.apply(&plan);
        assert_eq!(vips(&plan), ["192.0.2.1", "192.0.2.3"]);
        assert_eq!(plan.services[0].ports[0].frontends.len(), 2);
        assert_eq!(plan.services[1].ports[0].frontends.len(), 1);
        assert_eq!(plan.services[2].ports[0].frontends.len(), 1);
    }

    #[test]
    fn the_part_of_the_next_plan_is_what_it_would_be_without_the_last() {
        let held = || Held {
            addresses: Arc::new([address("192.0.2.1")].into()),
            services: [("shop/c".to_owned(), address("192.0.2.2"))].into(),
        };
        let first = plan();
        let mut part = Part::default();
        let before = part.of(&first, held());
        assert_eq!(before, held().apply(&first));
        assert!(Arc::ptr_eq(&before, &part.of(&first, held())));
        let mut next = L4Plan::clone(&first);
        Arc::make_mut(&mut next.services[0]).ports[0].only_remote = true;
        let next = Arc::new(next);
        let after = part.of(&next, held());
        assert_eq!(after, held().apply(&next));
        assert!(Arc::ptr_eq(&before.services[1], &after.services[1]));
        let mut fewer = L4Plan::clone(&next);
        fewer.services.pop();
        Arc::make_mut(&mut fewer.vips).pop();
        let fewer = Arc::new(fewer);
        assert_eq!(part.of(&fewer, held()), held().apply(&fewer));
        assert!(Arc::ptr_eq(&part.of(&fewer, Held::default()), &fewer));
    }
}
