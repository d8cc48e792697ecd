use super::*;

#[test]
fn huge_pools_are_not_enumerated() {
    let mut world = World::with_pool(&["2001:db8::/32", "::/0"]);
    world.service("a");
    let (plan, _) = world.plan();
    assert_eq!(plan.services[0].addresses, [ip("::")]);
    assert_eq!(plan.pools["public"].capacity, u64::MAX);
}
