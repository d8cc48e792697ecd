use super::*;
use holding::Sight;

fn condition(fields: &Value, kind: &str) -> (String, String) {
    let all: Vec<ConditionStatus> = serde_json::from_value(fields["conditions"].clone()).unwrap();
    let one = all.into_iter().find(|one| one.kind == kind).unwrap();
    (one.status, one.reason.unwrap())
}

#[test]
fn an_edge_tells_of_itself_whoever_leads() {
    let mut world = World::new(POOL);
    world.facts.vips = Arc::new([ip("192.0.2.1")].into());
    world.facts.overlay = Arc::new(Overlay {
        underlay: vec![ip("10.0.0.1")],
        wireguard: Some(WireguardStatus {
            public_keys: vec!["key".to_owned()],
            ports: vec![51821],
        }),
        probe_port: Some(51820),
        mode: Some("auto".to_owned()),
        nodes: Some(Nodes { all: 3, silent: vec!["node-2".to_owned()], sight: Sight::Clear }),
    });
    let patch = world.patch(Kind::EdgeGateway, "edge-a").unwrap();
    assert_eq!((patch.author, patch.uid), (Author::Own, None));
    let fields = world.fields(Kind::EdgeGateway, "edge-a");
    assert_eq!(fields["vips"], json!(["192.0.2.1"]));
    assert_eq!(fields["underlayAddresses"], json!(["10.0.0.1"]));
    assert_eq!(fields["publicAddresses"], json!(["203.0.113.5"]));
    assert_eq!(fields["wireguard"], json!({"publicKeys": ["key"], "ports": [51821]}));
    assert_eq!(condition(&fields, "Ready"), ("True".to_owned(), "Serving".to_owned()));
    let silent = ("False".to_owned(), "NodesSilent".to_owned());
    assert_eq!(condition(&fields, "NodesReachable"), silent);
    assert_eq!(condition(&fields, "SourceReachable").0, "True");
    world.settle();
    assert_eq!(world.patch(Kind::EdgeGateway, "edge-a"), None);
    world.facts.stopping = true;
    let fields = world.fields(Kind::EdgeGateway, "edge-a");
    assert_eq!(condition(&fields, "Ready"), ("False".to_owned(), "Stopping".to_owned()));
}

#[test]
fn of_a_lost_edge_the_leading_one_tells() {
    let mut world = World::new(POOL);
    let other = json!({
        "metadata": {"name": "edge-b", "uid": "b"},
        "status": {
            "version": "1",
            "vips": ["192.0.2.2"],
            "conditions": [{"type": "Ready", "status": "True", "reason": "Serving"}],
        },
    });
    let other = Arc::new(serde_json::from_value(other).unwrap());
    world.objects().edges.insert("edge-b".to_owned(), other);
    let patch = world.patch(Kind::EdgeGateway, "edge-b").unwrap();
    assert_eq!(patch.author, Author::Leader);
    assert!(matches!(patch.status, StatusChange::Lost { .. }));
    let fields = world.fields(Kind::EdgeGateway, "edge-b");
    assert_eq!(condition(&fields, "Ready"), ("Unknown".to_owned(), "LeaseExpired".to_owned()));
    assert_eq!((&fields["vips"], &fields["version"]), (&json!([]), &Value::Null));
    world.settle();
    assert_eq!(world.patch(Kind::EdgeGateway, "edge-b"), None);
    let holders = Arc::make_mut(world.facts.holders.as_mut().unwrap());
    holders.live.insert("edge-b".to_owned());
    assert_eq!(world.patch(Kind::EdgeGateway, "edge-b"), None);
}

#[test]
fn an_edge_that_no_node_answers_says_where_its_vips_go() {
    let mut world = World::new(POOL);
    let silent = vec!["node-1".to_owned()];
    world.facts.overlay = Arc::new(Overlay {
        nodes: Some(Nodes { all: 1, silent, sight: Sight::CutOff }),
        ..Overlay::default()
    });
    let fields = world.fields(Kind::EdgeGateway, "edge-a");
    assert_eq!(condition(&fields, "Ready"), ("True".to_owned(), "CutOff".to_owned()));
}

#[test]
fn an_edge_gives_way_to_one_whose_leases_are_in_another_namespace() {
    let mut world = World::new(POOL);
    let put = |world: &mut World, name: &str, namespace: &str, ready: &str, created: &str| {
        let edge = json!({
            "metadata": {"name": name, "uid": name, "creationTimestamp": created},
            "status": {
                "leaseNamespace": namespace,
                "conditions": [{"type": "Ready", "status": ready, "reason": "Serving"}],
            },
        });
        let edge = Arc::new(serde_json::from_value(edge).unwrap());
        world.objects().edges.insert(name.to_owned(), edge);
    };
    let find = |world: &World, joined| {
        Elsewhere::find(&world.facts.delivery, "edge-a", "tidegate", joined).map(|one| one.edge)
    };
    put(&mut world, "edge-a", "tidegate", "True", "2026-01-02T00:00:00Z");
    put(&mut world, "edge-b", "tidegate", "True", "2026-01-01T00:00:00Z");
    put(&mut world, "edge-c", "other", "False", "2026-01-01T00:00:00Z");
    assert_eq!(find(&world, false), None);
    put(&mut world, "edge-c", "other", "True", "2026-01-03T00:00:00Z");
    assert_eq!((find(&world, false), find(&world, true)), (Some("edge-c".to_owned()), None));
    put(&mut world, "edge-c", "other", "True", "2026-01-01T00:00:00Z");
    assert_eq!(find(&world, true), Some("edge-c".to_owned()));
    // It says so itself, too, and so isn't in the other one's way.
    let delivery = &world.facts.delivery;
    world.facts.elsewhere = Elsewhere::find(delivery, "edge-a", "tidegate", true);
    let fields = world.fields(Kind::EdgeGateway, "edge-a");
    assert_eq!(condition(&fields, "Ready"), ("False".to_owned(), "OtherNamespace".to_owned()));
    let finding = world.facts.elsewhere.unwrap().diagnostic().to_string();
    assert!(finding.contains("tidegate") && finding.contains("edge-c"), "{finding}");
}
