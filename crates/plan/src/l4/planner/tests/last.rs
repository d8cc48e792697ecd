//! Planning with a memory is planning without one.

use super::super::Planner;
use super::property::{Random, step_at_random};
use super::*;

const STEPS: usize = 1500;

#[test]
fn what_is_planned_with_a_memory_is_the_whole_plan() {
    for seed in 1..=4 {
        let mut random = Random(0x9e37_79b9_7f4a_7c15_u64.wrapping_mul(seed));
        let mut world = World::with_pool(&["192.0.2.0/28"]);
        let (mut planner, mut kept) = (Planner::default(), 0);
        let (mut previous, mut last) = (Arc::<Allocations>::default(), Arc::<L4Plan>::default());
        for step in 0..STEPS {
            if random.one_in(12) {
                step_at_random(&mut world, &mut random);
            } else {
                endpoints_at_random(&mut world, &mut random);
            }
            let giving = if random.one_in(10) { Giving::Nothing } else { Giving::New };
            let World { snapshot, settings, host, .. } = &world;
            let whole = plan_giving(snapshot, settings, host, &previous, giving);
            let (plan, found) = planner.plan(snapshot, settings, host, (&previous, giving));
            assert_eq!(*plan, whole.0, "seed {seed}, step {step}");
            assert_eq!(texts(found), texts(&whole.1), "seed {seed}, step {step}");
            let mut pairs = plan.services.iter().zip(&last.services);
            kept += usize::from(pairs.any(|(is, was)| Arc::ptr_eq(is, was)));
            // With what it came to, with the same again, or with the same read again.
            match random.below(6) {
                0 => {}
                1 => previous = Arc::new(Allocations::clone(&plan.allocations)),
                _ => previous = Arc::clone(&plan.allocations),
            }
            last = plan;
        }
        assert!(kept > STEPS / 3, "hardly ever quick: {kept}");
    }
}

#[test]
fn a_plan_of_which_nothing_has_changed_is_the_same_in_memory() {
    let mut world = World::with_pool(&["192.0.2.0/28"]);
    world.service("a");
    world.service("b");
    let mut planner = Planner::default();
    let mut plan = |world: &World, previous: &Arc<Allocations>| {
        let World { snapshot, settings, host, .. } = world;
        planner.plan(snapshot, settings, host, (previous, Giving::New)).0
    };
    let first = plan(&world, &Arc::default());
    let again = plan(&world, &first.allocations);
    assert!(Arc::ptr_eq(&first, &again));
    world.service("b").ports[0].endpoints = vec![endpoint("10.0.0.9:8080")];
    let other = plan(&world, &first.allocations);
    assert!(Arc::ptr_eq(&first.services[0], &other.services[0]));
    assert_eq!(other.services[1].ports[0].endpoints[..], [endpoint("10.0.0.9:8080")]);
    assert!(Arc::ptr_eq(&first.allocations, &other.allocations));
    assert!(Arc::ptr_eq(&first.vips, &other.vips));
}

/// Changes the endpoints of some Service, also of one that nothing reaches from outside.
fn endpoints_at_random(world: &mut World, random: &mut Random) {
    let key = ObjectKey::new("shop", format!("s{}", random.below(16)));
    let Some(service) = world.snapshot.services.get_mut(&key).map(Arc::make_mut) else { return };
    for port in &mut service.ports {
        port.endpoints = (0..random.below(4))
            .map(|n| Endpoint {
                address: format!("10.0.{}.{n}:80", random.below(3)).parse().unwrap(),
                weight: 1,
                terminating: random.one_in(3),
                local: random.one_in(2),
            })
            .collect();
        port.endpoints.sort();
    }
}
