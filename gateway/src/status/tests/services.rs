use super::*;

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

fn delete(world: &mut World, name: &str) {
    let service = world.objects().services.get_mut(&key(name)).unwrap();
    let at = serde_json::from_value(json!("2026-01-02T00:00:00Z")).unwrap();
    Arc::make_mut(service).metadata.deletion_timestamp = Some(at);
    world.plan();
}

#[test]
fn a_service_gets_its_finalizer_with_its_address() {
    let world = World::new(&format!("{POOL}{}", service("web")));
    let patch = world.patch(Kind::Service, "web").unwrap();
    assert_eq!(patch.finalizer, Some(FinalizerChange::Add));
    let fields = world.fields(Kind::Service, "web");
    let list = json!([{"ip": "192.0.2.2", "ipMode": "VIP"}]);
    assert_eq!(fields["loadBalancer"]["ingress"], list);
    // It has no class, so that another controller may write here, too.
    assert!(matches!(patch.status, StatusChange::Apply { force: false, .. }));
    let events = world.written().events;
    let event = events.iter().find(|event| event.reason == "AddressAssigned").unwrap();
    assert_eq!((event.warning, event.note.as_str()), (false, "192.0.2.2 of AddressPool public"));
}

#[test]
fn a_deleted_service_is_kept_until_its_address_is_given_up() {
    let mut world = World::new(&format!("{POOL}{}", service("web")));
    world.settle();
    world.hold("192.0.2.2", "edge-b");
    delete(&mut world, "web");
    // It gives its VIP up at once, and nobody else gets it.
    let plan = world.facts.l4.clone().unwrap();
    assert!(plan.vips.iter().all(|vip| vip.address != ip("192.0.2.2")));
    assert_eq!(plan.allocations.of_service(&key("web")), [ip("192.0.2.2")]);
    assert_eq!(world.patch(Kind::Service, "web"), None);
    Arc::make_mut(world.facts.holders.as_mut().unwrap()).vips.clear();
    // This machine has it still.
    world.facts.vips = Arc::new([ip("192.0.2.2")].into());
    assert_eq!(world.patch(Kind::Service, "web"), None);
    world.facts.vips = Arc::default();
    let patch = world.patch(Kind::Service, "web").unwrap();
    assert_eq!(patch.finalizer, Some(FinalizerChange::Remove));
    assert_eq!(patch.status, StatusChange::Keep);
    // As long as nobody knows who holds what nothing is released.
    world.facts.holders = None;
    assert_eq!(world.patch(Kind::Service, "web"), None);
}

#[test]
fn a_service_that_is_being_deleted_gets_no_address() {
    let mut world = World::new(&service("web"));
    delete(&mut world, "web");
    world.apply(POOL);
    let plan = world.facts.l4.clone().unwrap();
    assert_eq!(plan.allocations.services.get("shop/web"), None);
    assert_eq!(world.patch(Kind::Service, "web"), None);
}

#[test]
fn who_shares_an_address_keeps_nobody_from_going() {
    let shared = |name: &str, port: u16| {
        format!(
            "
---
apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: shop
  annotations: {{tidegate.io/sharing-key: one}}
spec: {{type: LoadBalancer, ports: [{{port: {port}}}]}}
"
        )
    };
    let mut world = World::new(&format!("{POOL}{}{}", shared("a", 80), shared("b", 81)));
    world.settle();
    world.hold("192.0.2.2", "edge-b");
    delete(&mut world, "a");
    let patch = world.patch(Kind::Service, "a").unwrap();
    assert_eq!(patch.finalizer, Some(FinalizerChange::Remove));
    assert_eq!(world.patch(Kind::Service, "b"), None);
}

#[test]
fn a_service_that_is_no_load_balancer_any_more_loses_status_and_finalizer() {
    let mut world = World::new(&format!("{POOL}{}", service("web")));
    world.settle();
    world.hold("192.0.2.2", "edge-a");
    let object = Arc::make_mut(world.objects().services.get_mut(&key("web")).unwrap());
    object.spec.as_mut().unwrap().type_ = Some("ClusterIP".to_owned());
    world.plan();
    let patch = world.patch(Kind::Service, "web").unwrap();
    assert_eq!((patch.status, patch.finalizer), (StatusChange::TakeBack, None));
    Arc::make_mut(world.facts.holders.as_mut().unwrap()).vips.clear();
    let patch = world.patch(Kind::Service, "web").unwrap();
    assert_eq!(patch.finalizer, Some(FinalizerChange::Remove));
    world.settle();
    assert_eq!(world.patch(Kind::Service, "web"), None);
}

#[test]
fn services_of_other_classes_are_left_alone() {
    let theirs = service("web")
        .replace("type: LoadBalancer", "type: LoadBalancer, loadBalancerClass: other.io/lb");
    let mut world = World::new(&format!("{POOL}{theirs}"));
    let object = Arc::make_mut(world.objects().services.get_mut(&key("web")).unwrap());
    let status = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}]}});
    object.status = serde_json::from_value(status).unwrap();
    object.metadata.finalizers = Some(vec!["other.io/lb".to_owned()]);
    world.plan();
    assert_eq!(world.patch(Kind::Service, "web"), None);
}

#[test]
fn what_only_the_edge_does_is_not_short_cut_in_the_cluster() {
    let proxied = service("web").replace(
        "namespace: shop,",
        "namespace: shop, annotations: {tidegate.io/send-proxy-protocol: v2},",
    );
    let world = World::new(&format!("{POOL}{proxied}"));
    let fields = world.fields(Kind::Service, "web");
    assert_eq!(fields["loadBalancer"]["ingress"][0]["ipMode"], "Proxy");
}

#[test]
fn lost_allocations_are_made_anew_from_what_services_have() {
    let mut world = World::new(&format!("{POOL}{}{}", service("a"), service("b")));
    world.settle();
    world.objects().services.remove(&key("a"));
    world.plan();
    let before = world.basis.allocations.clone();
    assert_eq!(before.of_service(&key("b")), [ip("192.0.2.3")]);
    world.basis.allocations = Arc::default();
    world.plan();
    assert_eq!(world.basis.allocations.of_service(&key("b")), [ip("192.0.2.3")]);
}

#[test]
fn only_the_leading_edge_gives_out_addresses() {
    let mut world = World::new(&format!("{POOL}{}", service("a")));
    world.apply(&service("b").replace("2026-01-01", "2025-01-01"));
    let agreed = world.basis.allocations.clone();
    let mut planner = Planner::new(world.context.settings.clone(), Allocations::default());
    planner.share(Basis { allocations: Arc::default(), giving: Giving::Nothing });
    let planned = planner.plan(&world.facts.delivery, &world.facts.host);
    let (plan, _) = planned.l4.unwrap();
    assert!(plan.vips.iter().all(|vip| vip.address == ip("192.0.2.1")), "{:?}", plan.vips);
    assert_eq!(planned.proposal, None);
    let pending = plan.services.iter().map(|service| service.pending.as_deref());
    let waits = Some("waits for the leading edge to give it an address");
    assert_eq!(pending.collect::<Vec<_>>(), [waits, waits]);
    // What was agreed on it has, as the leading edge.
    planner.share(Basis { allocations: agreed, giving: Giving::Nothing });
    let (plan, _) = planner.plan(&world.facts.delivery, &world.facts.host).l4.unwrap();
    assert_eq!(plan.vips, world.facts.l4.as_ref().unwrap().vips);
    assert_eq!(plan.services, world.facts.l4.as_ref().unwrap().services);
    // The leading one serves nothing that isn't agreed on, either.
    planner.share(Basis { allocations: Arc::default(), giving: Giving::New });
    let planned = planner.plan(&world.facts.delivery, &world.facts.host);
    assert_eq!(planned.proposal.map(|proposal| proposal.services.len()), Some(2));
    assert!(planned.l4.unwrap().0.services.iter().all(|service| service.addresses.is_empty()));
}

#[test]
fn services_of_another_class_are_told_only_what_is_refused() {
    let mut world = World::new(&format!("{POOL}{}", service("web")));
    let key = ObjectKey::new("shop", "web");
    let object = ObjectRef::namespaced("Service", &key);
    let warning = Diagnostic::warning(object.clone(), "spec.ports[0]", "looks like a mistake");
    let error = Diagnostic::error(object, "spec.ports[0].nodePort", "is taken");
    world.facts.planned = Arc::new(vec![warning, error]);
    let reasons = |world: &World| -> Vec<String> {
        let events = world.written().events;
        let told = events.into_iter().filter(|event| event.action == "Planning");
        told.map(|event| event.reason).collect()
    };
    assert_eq!(reasons(&world), ["NotHonoured", "Refused"]);
    let web = world.objects().services.get_mut(&key).unwrap();
    let spec = Arc::make_mut(web).spec.as_mut().unwrap();
    spec.load_balancer_class = Some("example.com/other".to_owned());
    assert_eq!(reasons(&world), ["Refused"]);
}
