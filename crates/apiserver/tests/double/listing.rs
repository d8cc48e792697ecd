//! Lists: pages, versions, selection.

use k8s_openapi::api::core::v1::{ConfigMap, Service};
use kube::api::{DynamicObject, ListParams, ObjectList};
use kube::core::GroupVersionKind;
use kube::core::discovery::ApiResource;
use kube::{Api, ResourceExt};
use serde_json::json;

use super::{client, double, refused};

fn put_maps(double: &apiserver::Double, count: usize) {
    for number in 0..count {
        double
            .put(json!({
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "metadata": {
                    "name": format!("map-{number:02}"),
                    "labels": {"even": (number % 2 == 0).to_string()},
                },
            }))
            .unwrap();
    }
}

fn names(list: &ObjectList<ConfigMap>) -> Vec<String> {
    list.items.iter().map(ResourceExt::name_any).collect()
}

#[tokio::test]
async fn later_pages_are_of_the_first_ones_version() {
    let double = double();
    put_maps(&double, 6);
    let api: Api<ConfigMap> = Api::namespaced(client(&double), "default");
    let first = api.list(&ListParams::default().limit(4)).await.unwrap();
    assert_eq!(names(&first), ["map-00", "map-01", "map-02", "map-03"]);
    assert_eq!(first.metadata.remaining_item_count, Some(2));

    assert!(double.remove("configmaps", "default", "map-05"));
    put_maps(&double, 1);
    double
        .put(json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "map-99"}}))
        .unwrap();
    let token = first.metadata.continue_.unwrap();
    let params = ListParams::default().limit(4).continue_token(&token);
    let second = api.list(&params).await.unwrap();
    assert_eq!(names(&second), ["map-04", "map-05"]);
    assert_eq!(second.metadata.resource_version, first.metadata.resource_version);

    double.compact();
    assert_eq!(refused(api.list(&params).await), (410, "Expired".to_owned()));
}

#[tokio::test]
async fn lists_are_selected_by_labels_and_fields() {
    let double = double();
    put_maps(&double, 4);
    let api: Api<ConfigMap> = Api::all(client(&double));
    let list = |params: ListParams| {
        let api = api.clone();
        async move { names(&api.list(&params).await.unwrap()) }
    };
    let all = ListParams::default;
    assert_eq!(list(all().labels("even=true")).await, ["map-00", "map-02"]);
    assert_eq!(list(all().labels("even notin (true),even")).await, ["map-01", "map-03"]);
    assert_eq!(list(all().fields("metadata.name=map-03")).await, ["map-03"]);
    assert!(list(all().fields("metadata.namespace!=default")).await.is_empty());
    let wrong = api.list(&all().fields("data.x=1")).await;
    assert_eq!(refused(wrong), (400, "BadRequest".to_owned()));
}

#[tokio::test]
async fn a_version_that_is_not_there_yet_is_refused() {
    let double = double();
    let api: Api<Service> = Api::all(client(&double));
    let ahead = (double.version() + 1_000).to_string();
    let asked = api.list(&ListParams::default().at(&ahead)).await;
    assert_eq!(refused(asked), (504, "Timeout".to_owned()));
}

#[tokio::test]
async fn own_kinds_are_found_by_discovery_and_listed() {
    let double = double();
    double
        .put_yaml(
            "apiVersion: tidegate.io/v1alpha1\nkind: AddressPool\nmetadata: {name: pool}\n\
             spec: {addresses: [203.0.113.0/29]}\n",
        )
        .unwrap();
    let client = client(&double);
    let kind = GroupVersionKind::gvk("tidegate.io", "v1alpha1", "AddressPool");
    let (found, _) = kube::discovery::pinned_kind(&client, &kind).await.unwrap();
    assert_eq!(found, ApiResource::from_gvk(&kind));
    let api: Api<DynamicObject> = Api::all_with(client, &found);
    let list = api.list(&ListParams::default()).await.unwrap();
    assert_eq!(list.items[0].data["spec"]["addresses"][0], "203.0.113.0/29");
    let meta = api.get_metadata("pool").await.unwrap();
    assert_eq!(meta.name_any(), "pool");
}
