use super::*;

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
        nodes: Some(Nodes { all: 3, silent: vec!["node-2".to_owned()] }),
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
