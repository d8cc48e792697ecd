//! Server-side apply: owners, conflicts, removal.

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::Api;
use kube::ResourceExt;
use kube::api::{DynamicObject, Patch, PatchParams};
use serde_json::{Value, json};

use super::{client, double};

fn map(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map"}, "data": data})
}

fn data(map: &ConfigMap) -> Value {
    json!(map.data)
}

#[tokio::test]
async fn who_applies_another_value_conflicts_until_forced() {
    let double = double();
    let api: Api<ConfigMap> = Api::namespaced(client(&double), "default");
    let (one, two) = (PatchParams::apply("one"), PatchParams::apply("two"));
    api.patch("map", &one, &Patch::Apply(map(json!({"a": "1", "b": "1"})))).await.unwrap();
    // The same value is shared.
    api.patch("map", &two, &Patch::Apply(map(json!({"b": "1", "c": "2"})))).await.unwrap();
    let refused = api.patch("map", &two, &Patch::Apply(map(json!({"a": "2"})))).await;
    let Err(kube::Error::Api(status)) = refused else { panic!("{refused:?}") };
    assert_eq!((status.code, status.reason.as_str()), (409, "Conflict"));
    let causes = &status.details.as_ref().unwrap().causes;
    assert_eq!(causes.len(), 1);
    assert_eq!(causes[0].reason, "FieldManagerConflict");
    assert_eq!(causes[0].field, ".data.a");
    assert!(causes[0].message.contains("\"one\""), "{}", causes[0].message);

    let taken = api
        .patch("map", &two.clone().force(), &Patch::Apply(map(json!({"a": "2"}))))
        .await
        .unwrap();
    // c is nobody's any more; b is still the first's.
    assert_eq!(data(&taken), json!({"a": "2", "b": "1"}));
    // The first has lost a, so that leaving it out takes nothing away.
    let left = api.patch("map", &one, &Patch::Apply(map(json!({"b": "1"})))).await.unwrap();
    assert_eq!(data(&left), json!({"a": "2", "b": "1"}));
}

#[tokio::test]
async fn applying_the_same_again_makes_no_new_version() {
    let double = double();
    let api: Api<ConfigMap> = Api::namespaced(client(&double), "default");
    let params = PatchParams::apply("one");
    let first = api.patch("map", &params, &Patch::Apply(map(json!({"a": "1"})))).await.unwrap();
    let again = api.patch("map", &params, &Patch::Apply(map(json!({"a": "1"})))).await.unwrap();
    assert_eq!(first.resource_version(), again.resource_version());
    let entries = again.managed_fields();
    assert_eq!(entries.len(), 1);
    assert_eq!(
        serde_json::to_value(&entries[0].fields_v1).unwrap(),
        json!({"f:data": {"f:a": {}}})
    );
}

#[tokio::test]
async fn an_update_takes_a_field_away_from_who_applied_it() {
    let double = double();
    let api: Api<ConfigMap> = Api::namespaced(client(&double), "default");
    let params = PatchParams::apply("one");
    api.patch("map", &params, &Patch::Apply(map(json!({"a": "1", "b": "1"})))).await.unwrap();
    let other = PatchParams { field_manager: Some("other".to_owned()), ..PatchParams::default() };
    let patch = Patch::Merge(json!({"data": {"a": "2"}}));
    api.patch("map", &other, &patch).await.unwrap();
    let refused = api.patch("map", &params, &Patch::Apply(map(json!({"a": "1"})))).await;
    assert!(matches!(refused, Err(kube::Error::Api(status)) if status.code == 409));
}

#[tokio::test]
async fn ports_and_conditions_have_owners_of_their_own() {
    let double = double();
    let api: Api<Service> = Api::namespaced(client(&double), "default");
    let service = |ports: Value| {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "spec": {"type": "LoadBalancer", "ports": ports},
        })
    };
    let one = PatchParams::apply("one");
    let two = PatchParams::apply("two");
    let http = json!({"name": "http", "port": 80, "protocol": "TCP"});
    let dns = json!({"name": "dns", "port": 53, "protocol": "UDP"});
    api.patch("web", &one, &Patch::Apply(service(json!([http])))).await.unwrap();
    let both = api.patch("web", &two, &Patch::Apply(service(json!([dns])))).await.unwrap();
    assert_eq!(both.spec.unwrap().ports.unwrap().len(), 2);

    let condition = |kind: &str| {
        json!({
            "type": kind, "status": "True", "reason": "Test", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z",
        })
    };
    let status = |conditions: Value, ingress: Value| {
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": "web"},
            "status": {"conditions": conditions, "loadBalancer": {"ingress": ingress}},
        })
    };
    let address = json!([{"ip": "203.0.113.1", "ipMode": "VIP"}]);
    let first = status(json!([condition("A")]), address.clone());
    api.patch_status("web", &one, &Patch::Apply(first)).await.unwrap();
    let second = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web"},
        "status": {"conditions": [condition("B")]},
    });
    let now = api.patch_status("web", &two, &Patch::Apply(second)).await.unwrap();
    let now = serde_json::to_value(now.status.unwrap()).unwrap();
    assert_eq!(now["conditions"].as_array().unwrap().len(), 2);
    assert_eq!(now["loadBalancer"]["ingress"], address);
    // Applied without what it had, the status loses it; the spec stays.
    let none = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}});
    let now = api.patch_status("web", &one, &Patch::Apply(none)).await.unwrap();
    let status = serde_json::to_value(now.status.unwrap()).unwrap();
    assert_eq!(status["conditions"].as_array().unwrap().len(), 1);
    assert_eq!(status["conditions"][0]["type"], "B");
    assert!(status["loadBalancer"]["ingress"].is_null());
    assert_eq!(now.spec.unwrap().ports.unwrap().len(), 2);
    // And so does the spec.
    let now = api.patch("web", &one, &Patch::Apply(service(json!([])))).await.unwrap();
    let ports = now.spec.unwrap().ports.unwrap();
    assert_eq!(ports.iter().map(|port| port.port).collect::<Vec<_>>(), [53]);
}

#[tokio::test]
async fn a_custom_kinds_status_is_applied_with_an_own_manager() {
    let double = double();
    double
        .put_yaml(
            "apiVersion: tidegate.io/v1alpha1\nkind: AddressPool\nmetadata: {name: pool}\n\
             spec: {addresses: [203.0.113.0/29]}\n",
        )
        .unwrap();
    let kind = kube::core::GroupVersionKind::gvk("tidegate.io", "v1alpha1", "AddressPool");
    let resource = kube::core::discovery::ApiResource::from_gvk(&kind);
    let api: Api<DynamicObject> = Api::all_with(client(&double), &resource);
    let status = json!({
        "apiVersion": "tidegate.io/v1alpha1",
        "kind": "AddressPool",
        "metadata": {"name": "pool"},
        "status": {"used": 3},
    });
    let params = PatchParams::apply("tidegate").force();
    let now = api.patch_status("pool", &params, &Patch::Apply(&status)).await.unwrap();
    assert_eq!(now.data["status"]["used"], 3);
    assert_eq!(now.data["spec"]["addresses"][0], "203.0.113.0/29");
    let own = |name: &str| {
        now.managed_fields().iter().find(|entry| entry.manager.as_deref() == Some(name))
    };
    assert_eq!(own("tidegate").unwrap().subresource.as_deref(), Some("status"));
    // What nobody had applied before is not for the taking.
    assert!(own("before-first-apply").is_some());
}
