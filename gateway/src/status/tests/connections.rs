use super::*;

const CONNECTION: &str = "
---
apiVersion: tidegate.io/v1alpha1
kind: VpnConnection
metadata: {name: site, namespace: shop, generation: 3}
spec:
  remote: {gateway: 198.51.100.1, subnets: [10.20.0.0/16]}
  local: {addressPool: public}
  auth: {psk: {secretName: site}}
---
apiVersion: v1
kind: Secret
metadata: {name: site, namespace: shop}
stringData: {psk: 0123456789abcdef0123456789abcdef}
";

fn key() -> ObjectKey {
    ObjectKey::new("shop", "site")
}

fn world() -> World {
    let world = World::new(&format!("{POOL}{CONNECTION}"));
    let errors: Vec<String> = world.facts.planned.iter().map(ToString::to_string).collect();
    assert_eq!(world.facts.l4.as_ref().unwrap().vpn.len(), 1, "{errors:?}");
    world
}

fn established() -> Connection {
    Connection {
        state: "Established",
        since: Some(Timestamp::from_second(1_799_999_000).unwrap()),
        selectors: vec![SelectorsStatus {
            child: "default".to_owned(),
            local: Some(vec!["10.244.0.0/16".to_owned()]),
            remote: Some(vec!["10.20.0.0/16".to_owned()]),
        }],
        reason: "Established".to_owned(),
        message: String::new(),
    }
}

#[test]
fn who_holds_a_connection_tells_how_it_is() {
    let mut world = world();
    world.hold("192.0.2.2", "edge-a");
    world.connections.insert(key(), established());
    let patch = world.patch(Kind::VpnConnection, "site").unwrap();
    assert_eq!((patch.author, patch.finalizer), (Author::Own, Some(FinalizerChange::Add)));
    let fields = world.fields(Kind::VpnConnection, "site");
    assert_eq!((&fields["state"], &fields["edge"]), (&json!("Established"), &json!("edge-a")));
    assert_eq!(fields["since"], "2027-01-15T07:43:20Z");
    assert_eq!(fields["selectors"][0]["remote"], json!(["10.20.0.0/16"]));
    let conditions = fields["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 2);
    assert!(conditions.iter().all(|one| one["status"] == "True" && one["observedGeneration"] == 3));
    let events = world.written().events;
    assert!(events.iter().any(|one| one.reason == "Established" && !one.warning));
    world.settle();
    // A second look a moment later: nothing new.
    let later = Timestamp::from_second(1_799_999_002).unwrap();
    world.connections.get_mut(&key()).unwrap().since = Some(later);
    assert_eq!(world.patch(Kind::VpnConnection, "site"), None);
    let down = Connection {
        state: "Connecting",
        since: None,
        reason: "NoAnswer".to_owned(),
        message: "the other end does not answer".to_owned(),
        ..Connection::default()
    };
    world.connections.insert(key(), down);
    let fields = world.fields(Kind::VpnConnection, "site");
    assert_eq!(fields["since"], "2027-01-15T08:00:00Z");
    let events = world.written().events;
    let lost = events.iter().find(|one| one.reason == "Lost").unwrap();
    assert_eq!(lost.note, "the tunnel is down: the other end does not answer");
}

#[test]
fn what_another_edge_holds_that_one_tells_of() {
    let mut world = world();
    world.hold("192.0.2.2", "edge-b");
    world.connections.insert(key(), established());
    let patch = world.patch(Kind::VpnConnection, "site").unwrap();
    assert_eq!((patch.status, patch.author), (StatusChange::Keep, Author::Leader));
    // Held by nobody, it is the leading edge's to tell.
    Arc::make_mut(world.facts.holders.as_mut().unwrap()).vips.clear();
    let patch = world.patch(Kind::VpnConnection, "site").unwrap();
    assert_eq!(patch.author, Author::Leader);
    let fields = world.fields(Kind::VpnConnection, "site");
    assert_eq!((&fields["state"], &fields["edge"]), (&json!("Down"), &Value::Null));
}

#[test]
fn a_refused_connection_says_why() {
    let mut world = World::new(&CONNECTION.replace("10.20.0.0/16", "10.20.0.1/16"));
    world.facts.vips = Arc::default();
    let fields = world.fields(Kind::VpnConnection, "site");
    assert_eq!(fields["state"], "Refused");
    let conditions: Vec<ConditionStatus> =
        serde_json::from_value(fields["conditions"].clone()).unwrap();
    let accepted = conditions.iter().find(|one| one.kind == "Accepted").unwrap();
    assert_eq!((accepted.status.as_str(), accepted.reason.as_deref()), ("False", Some("Refused")));
    assert!(accepted.message.as_ref().unwrap().contains("10.20.0.1/16"), "{accepted:?}");
    let events = world.written().events;
    assert!(events.iter().any(|one| one.warning && one.object.kind == "VpnConnection"));
}

#[test]
fn a_deleted_connection_is_kept_until_its_address_is_given_up() {
    let mut world = world();
    world.hold("192.0.2.2", "edge-b");
    world.settle();
    let object = Arc::make_mut(world.objects().vpn.get_mut(&key()).unwrap());
    let at = serde_json::from_value(json!("2026-01-02T00:00:00Z")).unwrap();
    object.metadata.deletion_timestamp = Some(at);
    world.plan();
    let plan = world.facts.l4.clone().unwrap();
    assert_eq!((plan.vpn.len(), plan.allocations.of_connection(&key()).len()), (0, 1));
    assert_eq!(world.patch(Kind::VpnConnection, "site"), None);
    Arc::make_mut(world.facts.holders.as_mut().unwrap()).vips.clear();
    let patch = world.patch(Kind::VpnConnection, "site").unwrap();
    assert_eq!(patch.finalizer, Some(FinalizerChange::Remove));
}
