use super::*;

#[test]
fn what_nobody_reads_is_dropped() {
    let text = r#"{"metadata": {"name": "web", "namespace": "shop", "resourceVersion": "7",
        "managedFields": [{"manager": "kubectl", "fieldsV1": {"f:spec": {}}}],
        "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}"}},
        "addressType": "IPv4", "ports": [],
        "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "n",
            "targetRef": {"kind": "Pod", "name": "p"}}]}"#;
    let read = read(Kind::EndpointSlice, text.as_bytes()).unwrap();
    assert_eq!((read.key.to_string().as_str(), read.version.as_str()), ("shop/web", "7"));
    let Ok(Object::EndpointSlice(slice)) = read.object else { panic!("not a slice") };
    let meta = ObjectMeta {
        name: Some("web".to_owned()),
        namespace: Some("shop".to_owned()),
        ..ObjectMeta::default()
    };
    assert_eq!(slice.metadata, meta);
    assert_eq!(slice.endpoints[0].target_ref, None);
    assert_eq!(slice.endpoints[0].node_name.as_deref(), Some("n"));
}

#[test]
fn what_is_the_same_stays_the_same_in_memory() {
    let text = |version: u32, label: &str| {
        format!(
            r#"{{"metadata": {{"name": "n", "resourceVersion": "{version}",
                "labels": {{"a": "{label}"}}}},
                "status": {{"images": [{{"sizeBytes": {version}}}],
                    "conditions": [{{"type": "Ready", "status": "True",
                        "lastHeartbeatTime": "2026-01-01T00:00:{version:02}Z"}}]}}}}"#
        )
    };
    let mut set = ObjectSet::default();
    let mut put = |text: String| {
        let read = read(Kind::Node, text.as_bytes()).unwrap();
        let changed = read.object.unwrap().insert_into(&read.key, &mut set);
        (changed, Arc::clone(&set.nodes["n"]))
    };
    let (_, first) = put(text(1, "x"));
    let (changed, second) = put(text(2, "x"));
    assert!(!changed && Arc::ptr_eq(&first, &second));
    let (changed, third) = put(text(3, "y"));
    assert!(changed && !Arc::ptr_eq(&first, &third));
}

#[test]
fn what_can_not_be_read_is_named_by_its_field_and_secrets_are_not_shown() {
    let text = br#"{"metadata": {"name": "web", "namespace": "shop"},
        "spec": {"ports": [{"port": "http"}]}}"#;
    let service = read(Kind::Service, text).unwrap();
    assert_eq!(service.key.to_string(), "shop/web");
    let fault = service.object.unwrap_err();
    assert_eq!(fault.field, "spec.ports[0].port");
    assert!(fault.reason.contains("http") && !fault.reason.contains("column"), "{fault:?}");
    let text = br#"{"metadata": {"name": "key"}, "data": {"psk": "hunter2!"}}"#;
    let fault = read(Kind::Secret, text).unwrap().object.unwrap_err();
    assert!(!fault.reason.contains("hunter2"), "{fault:?}");
    assert!(read(Kind::Secret, b"{\"data\": 7}").is_none());
}

#[test]
fn policies_of_the_default_tier_have_its_name_left_out() {
    let policy = key_of(Kind::GlobalNetworkPolicy, None, "default.deny".to_owned());
    assert_eq!(policy, ObjectKey::new("", "deny"));
    assert_eq!(key_of(Kind::HostEndpoint, None, "default.h".to_owned()).name, "default.h");
}

#[test]
fn what_changes_nothing_leaves_the_map_the_same_in_memory() {
    let slice = r#"{"metadata": {"name": "web", "namespace": "shop"}, "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.0.0.1"]}]}"#;
    let policy = r#"{"apiVersion": "projectcalico.org/v3", "kind": "GlobalNetworkPolicy",
        "metadata": {"name": "deny"}, "spec": {"order": 1}}"#;
    let mut set = ObjectSet::default();
    let put = |set: &mut ObjectSet, kind, text: &str| {
        let read = read(kind, text.as_bytes()).unwrap();
        read.object.unwrap().insert_into(&read.key, set)
    };
    assert!(put(&mut set, Kind::EndpointSlice, slice));
    assert!(put(&mut set, Kind::GlobalNetworkPolicy, policy));
    let before = set.clone();
    assert!(!put(&mut set, Kind::EndpointSlice, slice));
    assert!(!put(&mut set, Kind::GlobalNetworkPolicy, policy));
    let other = ObjectKey::new("shop", "other");
    assert!(!remove(Kind::EndpointSlice, &other, &mut set));
    assert!(!remove(Kind::GlobalNetworkPolicy, &other, &mut set));
    assert!(set.endpoint_slices.is(&before.endpoint_slices));
    assert!(set.calico.policies.is(&before.calico.policies));
}
