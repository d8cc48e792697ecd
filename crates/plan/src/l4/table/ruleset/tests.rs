//! Plans change at random; whatever way the table goes, it comes to the same.

use std::net::{IpAddr, SocketAddr};

use model::ObjectKey;
use model::net::{PortRange, Protocol, Visibility};
use model::settings::FailSafe;
use model::snapshot::{Algorithm, Announce, Endpoint};

use super::super::super::{Frontend, Path, Vip};
use super::*;

const STEPS: usize = 1200;
const SERVICES: usize = 8;

#[test]
fn the_elements_of_what_has_changed_make_the_whole_table() {
    let mut quick = 0;
    for seed in 1..=4 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut plan = Arc::new(random_plan(&mut random));
        let mut ruleset = whole(&plan);
        for step in 0..STEPS {
            let mut next = L4Plan::clone(&plan);
            for _ in 0..=random.below(2) {
                change(&mut next, &mut random);
            }
            plan = Arc::new(next);
            let anew = whole(&plan);
            let text = anew.table.change_from(&ruleset.table);
            match ruleset.step(&plan) {
                Some(step) => {
                    quick += 1;
                    assert_eq!(step.text(), text);
                    ruleset.take(step);
                }
                None => ruleset = anew.clone(),
            }
            assert!(ruleset == anew, "seed {seed}, step {step}: {text:?}");
        }
    }
    assert!(quick > STEPS * 2, "hardly ever quick: {quick}");
}

#[test]
fn an_endpoint_s_change_needs_no_whole_table() {
    let mut plan = random_plan(&mut Random(7));
    for port in plan.services.iter_mut().flat_map(|service| &mut Arc::make_mut(service).ports) {
        port.endpoints = [endpoint("10.0.0.1:80")].into();
    }
    let plan = Arc::new(plan);
    let ruleset = whole(&plan);
    let mut next = L4Plan::clone(&plan);
    let service = Arc::make_mut(&mut next.services[2]);
    service.ports[0].endpoints = [endpoint("10.9.9.9:80")].into();
    let step = ruleset.step(&Arc::new(next)).unwrap();
    assert!(step.text().unwrap().contains("10.9.9.9"));
    assert!(ruleset.step(&plan).unwrap().text().is_none());
}

#[test]
fn other_services_ports_or_addresses_need_the_whole_table() {
    let mut random = Random(7);
    let plan = Arc::new(random_plan(&mut random));
    let ruleset = whole(&plan);
    let step = |change: &dyn Fn(&mut L4Plan)| {
        let mut next = L4Plan::clone(&plan);
        change(&mut next);
        ruleset.step(&Arc::new(next)).is_some()
    };
    assert!(step(&|_| {}));
    assert!(!step(&|plan| drop(plan.services.pop())));
    assert!(!step(&|plan| drop(Arc::make_mut(&mut plan.vips).pop())));
    assert!(!step(&|plan| Arc::make_mut(&mut plan.services[0]).ports[0].number = 7));
    assert!(!step(&|plan| Arc::make_mut(&mut plan.services[0]).ports[0].frontends.clear()));
    assert!(!step(&|plan| {
        let service = Arc::make_mut(&mut plan.services[0]);
        service.service = ObjectKey::new(service.service.namespace.as_str(), "another");
    }));
}

fn whole(plan: &Arc<L4Plan>) -> Ruleset {
    let settings = L4Settings {
        node_name: "edge".to_owned(),
        public: Vec::new(),
        private: Vec::new(),
        node_ports: PortRange { first: 30_000, last: 32_767 },
        snat: false,
        load_balancer_class: String::new(),
        default_class: true,
        fail_safe: FailSafe::default(),
    };
    let mut policies = Table::default();
    policies.chains.insert("policy".to_owned(), Default::default());
    Ruleset::new(plan, &settings, &AlbPorts::new(), policies)
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn endpoint(address: &str) -> Endpoint {
    Endpoint { address: address.parse().unwrap(), weight: 1, terminating: false, local: true }
}

fn random_plan(random: &mut Random) -> L4Plan {
    let vip = |address: &str| Vip {
        address: ip(address),
        pool: "p".to_owned(),
        visibility: Visibility::Public,
        announce: Announce::L2,
    };
    let vips = vec![vip("192.0.2.1"), vip("192.0.2.2"), vip("2001:db8::1")];
    let services = (0..SERVICES).map(|n| Arc::new(random_service(n, random))).collect();
    L4Plan { vips: Arc::new(vips), services, ..L4Plan::default() }
}

/// All have an address of their own and two that they share; the last two share their frontends.
fn random_service(n: usize, random: &mut Random) -> ServicePlan {
    let streams = n >= SERVICES - 2;
    let number = |nth: usize| {
        let number = if streams { 443 } else { 80 + n * 4 + nth };
        u16::try_from(number).unwrap()
    };
    let ports = (0..if streams { 1 } else { 1 + n % 2 }).map(|nth| {
        let number = number(nth);
        let protocol = if n == 1 { Protocol::Udp } else { Protocol::Tcp };
        let at = |address: &str| SocketAddr::new(ip(address), number);
        let mut frontends = vec![
            Frontend::Vip(at("192.0.2.1")),
            Frontend::Vip(at("2001:db8::1")),
            Frontend::External(at("203.0.113.1")),
        ];
        if !streams {
            frontends.push(Frontend::NodePort(30_000 + number));
        }
        PortPlan {
            name: String::new(),
            protocol,
            number,
            frontends,
            endpoints: random_endpoints(random),
            only_remote: random.one_in(2),
            algorithm: random_algorithm(random),
            path: if streams { Path::UserSpace(Box::default()) } else { Path::Kernel },
        }
    });
    ServicePlan {
        service: ObjectKey::new("shop", format!("s{n}")),
        load_balancer: true,
        addresses: Vec::new(),
        pending: None,
        ports: ports.collect(),
        source_ranges: Vec::new(),
        affinity: random.one_in(3).then_some(60),
        snat: random.one_in(3),
        local_only: false,
        health_check_node_port: None,
        local_endpoints: 0,
    }
}

fn random_algorithm(random: &mut Random) -> Algorithm {
    let all = [Algorithm::Random, Algorithm::RoundRobin, Algorithm::SourceHash, Algorithm::Maglev];
    // Of the hashed ones the tables are large.
    let usual = if random.one_in(20) { 4 } else { 2 };
    all[random.below(usual)]
}

fn random_endpoints(random: &mut Random) -> Arc<[Endpoint]> {
    let mut endpoints = Vec::new();
    for n in 0..random.below(4) {
        let pool = ["10.0.0", "10.0.1", "10.0.2", "10.1.0"][random.below(4)];
        endpoints.push(endpoint(&format!("{pool}.{n}:80")));
    }
    if random.one_in(4) {
        endpoints.push(endpoint(&format!("[fd00::{}:1]:80", random.below(2))));
    }
    for endpoint in &mut endpoints {
        // Beyond the usual number of slots, too.
        endpoint.weight = [1, 1, 1, 2, 19][random.below(5)];
    }
    endpoints.into()
}

fn change(plan: &mut L4Plan, random: &mut Random) {
    let at = random.below(plan.services.len());
    let what = random.below(30);
    if what == 0 {
        if plan.services.len() > 4 {
            plan.services.remove(at);
        } else {
            *plan = random_plan(random);
        }
        return;
    }
    let service = Arc::make_mut(&mut plan.services[at]);
    let nth = random.below(service.ports.len());
    let port = &mut service.ports[nth];
    match what {
        1 => service.affinity = [None, Some(60), Some(90)][random.below(3)],
        2 => service.snat = !service.snat,
        3 => port.algorithm = random_algorithm(random),
        4 => port.only_remote = !port.only_remote,
        5 => {
            let ranges = [&[][..], &["198.51.100.0/24", "2001:db8:1::/48"]][random.below(2)];
            service.source_ranges = ranges.iter().map(|text| text.parse().unwrap()).collect();
        }
        6 => {
            let user_space = port.path == Path::Kernel;
            port.path = if user_space { Path::UserSpace(Box::default()) } else { Path::Kernel };
        }
        7 => drop(port.frontends.pop()),
        8 => port.endpoints = Arc::default(),
        _ => port.endpoints = random_endpoints(random),
    }
}

/// xorshift64*, so that a failure comes again.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % limit
    }

    fn one_in(&mut self, limit: usize) -> bool {
        self.below(limit) == 0
    }
}
