use model::ObjectKey;
use plan::l7::{AlbPlan, Backend as Planned, BackendId, Balance, HostMatch, PathMatch, Route};

use super::*;

/// Numbers that look random and are always the same ones.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695);
        (self.0 >> 33) % bound
    }
}

fn endpoints(random: &mut Random) -> Endpoints {
    if random.below(6) == 0 {
        return Endpoints::Dns { host: format!("h{}", random.below(3)), port: 80 };
    }
    let endpoint = |last| plan::l7::Endpoint {
        address: ([10, 0, 0, last], 80).into(),
        weight: 1,
        terminating: last == 3,
        local: true,
    };
    Endpoints::Static((0..random.below(5) as u8).map(endpoint).collect())
}

fn route(random: &mut Random, path: u64, backends: u64) -> Route {
    let target = match random.below(5) {
        0 => Target::Unavailable { reason: format!("r{}", random.below(2)) },
        _ => Target::Backend(BackendId(random.below(backends) as u32)),
    };
    Route {
        host: HostMatch::Exact("a.example.com".to_owned()),
        path: PathMatch::Exact(format!("/{path}")),
        ingress: Some(ObjectKey::new("shop", format!("i{}", random.below(3)))),
        field: String::new(),
        target,
        policy: RoutePolicy {
            ssl_redirect: random.below(4) == 0,
            balance: [Balance::LeastRequests, Balance::RoundRobin][random.below(2) as usize],
            ..RoutePolicy::default()
        },
    }
}

fn fresh(random: &mut Random) -> L7Plan {
    let backends = 1 + random.below(4);
    let routes = random.below(8);
    let routes = (0..routes).map(|path| route(random, path, backends)).collect();
    let alb = AlbPlan { routes, ..AlbPlan::default() };
    let backends = (0..backends).map(|n| {
        Arc::new(Planned {
            service: ObjectKey::new("shop", format!("s{n}")),
            port: "80".to_owned(),
            endpoints: endpoints(random),
        })
    });
    L7Plan { backends: backends.collect(), albs: [(AlbKind::Public, alb.into())].into() }
}

fn change(plan: &mut L7Plan, random: &mut Random) {
    let at = random.below(plan.backends.len() as u64) as usize;
    match random.below(8) {
        0 => *plan = fresh(random),
        1 => Arc::make_mut(&mut plan.backends[at]).port = random.below(100).to_string(),
        2 => {
            let backends = plan.backends.len() as u64;
            let alb = Arc::make_mut(plan.albs.entry(AlbKind::Public).or_default());
            let path = alb.routes.len() as u64;
            alb.routes.push(route(random, path, backends));
        }
        3 => drop(plan.albs.insert(AlbKind::Private, Arc::default())),
        4 => drop(plan.albs.remove(&AlbKind::Private)),
        _ => Arc::make_mut(&mut plan.backends[at]).endpoints = endpoints(random),
    }
}

/// What becomes of requests for each path.
fn shown(table: &Table) -> Vec<String> {
    let mut shown = Vec::new();
    for kind in [AlbKind::Public, AlbKind::Private] {
        let Some(alb) = table.alb(kind) else {
            shown.push("none".to_owned());
            continue;
        };
        for path in 0..20 {
            let position = alb.router.find("a.example.com", &format!("/{path}"));
            let Some(entry) = position.and_then(|at| alb.entry(at)) else { continue };
            let to = table.backend(entry).map(Backend::addresses);
            let (policy, answer) = (alb.policy(entry), alb.answer(entry));
            shown.push(format!("{path} {to:?} {policy:?} {answer:?} {:?}", entry.metrics.labels));
        }
        shown.push(format!("{:?}", alb.unmatched.labels));
    }
    shown
}

#[test]
fn a_table_that_keeps_what_has_not_changed_serves_as_a_new_one() {
    for seed in 0..30 {
        let mut random = Random(seed);
        let mut plan = fresh(&mut random);
        let metrics = || Arc::new(Metrics::new(1));
        let (mut keeping, mut forgetful) =
            (Builder::new(metrics()).unwrap(), Builder::new(metrics()).unwrap());
        for _ in 0..60 {
            change(&mut plan, &mut random);
            let address = std::net::IpAddr::from([10, 1, 0, 1]);
            let known = (0..random.below(3)).map(|n| (format!("h{n}"), vec![address]));
            let dns: Resolved = known.collect();
            let (kept, refused) = keeping.build(Arc::new(plan.clone()), &dns);
            forgetful.last = None;
            let (new, as_refused) = forgetful.build(Arc::new(plan.clone()), &dns);
            assert_eq!((shown(&kept), refused), (shown(&new), as_refused), "seed {seed}");
            let in_use = |builder: &Builder| {
                let times = builder.endpoints.iter().map(|(address, one)| (*address, one.times));
                times.collect::<BTreeMap<_, _>>()
            };
            assert_eq!(in_use(&keeping), in_use(&forgetful));
            let mut counted = BTreeMap::new();
            for endpoint in kept.backends.iter().flat_map(Backend::endpoints) {
                *counted.entry(endpoint.address).or_default() += 1;
                assert!(!endpoint.retired.load(Ordering::Relaxed));
            }
            assert_eq!(in_use(&keeping), counted);
            keeping.metrics.prune();
            forgetful.metrics.prune();
        }
    }
}

#[test]
fn routes_stay_the_same_in_memory_while_only_endpoints_change() {
    let mut builder = Builder::new(Arc::new(Metrics::new(1))).unwrap();
    let mut random = Random(7);
    let mut plan = fresh(&mut random);
    let (first, _) = builder.build(Arc::new(plan.clone()), &Resolved::new());
    Arc::make_mut(&mut plan.backends[0]).endpoints = Endpoints::Static(Vec::new());
    let (second, _) = builder.build(Arc::new(plan.clone()), &Resolved::new());
    let same = |one: &Table, other: &Table| {
        let routes = |table: &Table| table.albs[0].clone().unwrap();
        Arc::ptr_eq(&routes(one), &routes(other))
    };
    assert!(same(&first, &second));
    Arc::make_mut(&mut plan.backends[0]).port = "81".to_owned();
    let (third, _) = builder.build(Arc::new(plan), &Resolved::new());
    assert!(!same(&second, &third));
}
