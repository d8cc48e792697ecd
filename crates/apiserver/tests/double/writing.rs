//! Writes: locking, the status apart, finalizers, preconditions, allocation.

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{
    ApiResource, DeleteParams, DynamicObject, Patch, PatchParams, PostParams, Preconditions,
};
use kube::core::params::ValidationDirective;
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{client, double, refused, service};

#[tokio::test]
async fn only_one_of_two_takes_a_lease() {
    let double = double();
    let api: Api<Lease> = Api::namespaced(client(&double), "default");
    let lease: Lease = serde_json::from_value(json!({
        "metadata": {"name": "leader"},
        "spec": {"holderIdentity": "a", "leaseTransitions": 1},
    }))
    .unwrap();
    let made = api.create(&PostParams::default(), &lease).await.unwrap();
    assert_eq!(
        refused(api.create(&PostParams::default(), &lease).await),
        (409, "AlreadyExists".to_owned())
    );
    let take = |holder: &str| {
        let mut lease = made.clone();
        lease.spec.as_mut().unwrap().holder_identity = Some(holder.to_owned());
        lease
    };
    let params = PostParams::default();
    let (b, c) = (take("b"), take("c"));
    let (first, second) =
        tokio::join!(api.replace("leader", &params, &b), api.replace("leader", &params, &c));
    let (won, lost) = if first.is_ok() { (first, second) } else { (second, first) };
    assert_eq!(refused(lost), (409, "Conflict".to_owned()));
    let now = api.get("leader").await.unwrap();
    assert_eq!(now.spec, won.unwrap().spec);

    let mut blind = now;
    blind.metadata.resource_version = None;
    assert_eq!(refused(api.replace("leader", &params, &blind).await), (422, "Invalid".to_owned()));
}

#[tokio::test]
async fn what_belongs_to_a_services_former_type_goes_with_it() {
    let double = double();
    let api: Api<Service> = Api::namespaced(client(&double), "default");
    let mut wanted = service("web", 80);
    let spec = wanted.spec.as_mut().unwrap();
    spec.type_ = Some("LoadBalancer".to_owned());
    spec.external_traffic_policy = Some("Local".to_owned());
    let made = api.create(&PostParams::default(), &wanted).await.unwrap();
    let spec = made.spec.as_ref().unwrap();
    assert!(spec.health_check_node_port.is_some());
    assert!(spec.ports.as_ref().unwrap()[0].node_port.is_some());
    let params = PatchParams::default();
    let address = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}});
    api.patch_status("web", &params, &Patch::Merge(&address)).await.unwrap();

    let change = json!({"spec": {"type": "ClusterIP"}});
    let now = api.patch("web", &params, &Patch::Merge(&change)).await.unwrap();
    assert_eq!(now.status.unwrap().load_balancer.unwrap().ingress, None);
    let after = now.spec.unwrap();
    assert_eq!(after.cluster_ip, spec.cluster_ip);
    assert_eq!(after.ports.unwrap()[0].node_port, None);
    assert_eq!((after.health_check_node_port, after.external_traffic_policy), (None, None));
    assert_eq!(after.allocate_load_balancer_node_ports, None);
}

#[tokio::test]
async fn defaults_of_a_custom_kinds_schema_are_filled_in() {
    let double = double();
    let crds = concat!(env!("CARGO_MANIFEST_DIR"), "/../../helm/tidegate/crds");
    double.load(format!("{crds}/edgegateways.yaml").as_ref()).unwrap();
    let kind = ApiResource {
        group: "tidegate.io".to_owned(),
        version: "v1alpha1".to_owned(),
        api_version: "tidegate.io/v1alpha1".to_owned(),
        kind: "EdgeGateway".to_owned(),
        plural: "edgegateways".to_owned(),
    };
    let api: Api<DynamicObject> = Api::all_with(client(&double), &kind);
    for (name, spec) in [("a", json!({})), ("b", json!({"drain": null}))] {
        let object = DynamicObject::new(name, &kind).data(json!({"spec": spec}));
        let made = api.create(&PostParams::default(), &object).await.unwrap();
        assert_eq!(made.data["spec"], json!({"drain": false}), "{name}");
    }
}

fn ingress(host: &str) -> Ingress {
    serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"rules": [{"host": host}]},
    }))
    .unwrap()
}

#[tokio::test]
async fn status_and_spec_are_written_apart() {
    let double = double();
    let api: Api<Ingress> = Api::namespaced(client(&double), "default");
    let made = api.create(&PostParams::default(), &ingress("a.example")).await.unwrap();
    assert_eq!(made.metadata.generation, Some(1));

    let address = json!({"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}});
    let both = json!({"status": address, "spec": {"rules": [{"host": "b.example"}]}});
    let params = PatchParams::default();
    let status = api.patch_status("web", &params, &Patch::Merge(&both)).await.unwrap();
    assert_eq!(serde_json::to_value(&status.status).unwrap(), address);
    assert_eq!(status.spec, made.spec);
    assert_eq!(status.metadata.generation, Some(1));
    assert_ne!(status.resource_version(), made.resource_version());

    let both = json!({"status": null, "spec": {"rules": [{"host": "b.example"}]}});
    let main = api.patch("web", &params, &Patch::Merge(&both)).await.unwrap();
    assert_eq!(main.status, status.status);
    assert_eq!(main.metadata.generation, Some(2));

    let again = api.patch("web", &params, &Patch::Merge(&both)).await.unwrap();
    assert_eq!(again.resource_version(), main.resource_version(), "nothing changed");
}

#[tokio::test]
async fn an_object_goes_with_its_last_finalizer() {
    let double = double();
    let api: Api<Service> = Api::namespaced(client(&double), "default");
    let mut guarded = service("web", 80);
    guarded.metadata.finalizers = Some(vec!["tidegate.io/address".to_owned()]);
    api.create(&PostParams::default(), &guarded).await.unwrap();
    api.delete("web", &DeleteParams::default()).await.unwrap();
    let marked = api.get("web").await.unwrap();
    assert!(marked.metadata.deletion_timestamp.is_some());

    let params = PatchParams::default();
    let more = json!({"metadata": {"finalizers": ["tidegate.io/address", "more"]}});
    assert_eq!(refused(api.patch("web", &params, &Patch::Merge(&more)).await).0, 422);
    let none = json!({"metadata": {"finalizers": null}});
    api.patch("web", &params, &Patch::Merge(&none)).await.unwrap();
    assert!(api.get_opt("web").await.unwrap().is_none());
}

#[tokio::test]
async fn a_delete_can_be_bound_to_one_object_and_version() {
    let double = double();
    let api: Api<Service> = Api::namespaced(client(&double), "default");
    let made = api.create(&PostParams::default(), &service("web", 80)).await.unwrap();
    let delete = |uid: Option<String>, resource_version: Option<String>| DeleteParams {
        preconditions: Some(Preconditions { uid, resource_version }),
        ..DeleteParams::default()
    };
    let other = delete(Some("other".to_owned()), None);
    assert_eq!(refused(api.delete("web", &other).await), (409, "Conflict".to_owned()));
    let older = delete(None, Some("1".to_owned()));
    assert_eq!(refused(api.delete("web", &older).await), (409, "Conflict".to_owned()));
    api.delete("web", &delete(made.uid(), made.resource_version())).await.unwrap();
}

#[tokio::test]
async fn services_get_addresses_and_ports_of_their_own() {
    let double = double();
    let api: Api<Service> = Api::namespaced(client(&double), "default");
    let mut seen = Vec::new();
    for name in ["a", "b"] {
        let mut outside = service(name, 80);
        outside.spec.as_mut().unwrap().type_ = Some("LoadBalancer".to_owned());
        let made = api.create(&PostParams::default(), &outside).await.unwrap();
        let spec = made.spec.unwrap();
        let port = spec.ports.unwrap()[0].node_port.unwrap();
        assert!((30_000..=32_767).contains(&port));
        seen.push((spec.cluster_ip.unwrap(), port));
    }
    assert_ne!(seen[0].0, seen[1].0);
    assert_ne!(seen[0].1, seen[1].1);
}

#[tokio::test]
async fn a_dry_run_changes_nothing() {
    let double = double();
    let api: Api<ConfigMap> = Api::namespaced(client(&double), "default");
    let map: ConfigMap =
        serde_json::from_value(json!({"metadata": {"generateName": "map-"}})).unwrap();
    let before = double.version();
    let params = PostParams { dry_run: true, ..PostParams::default() };
    let made = api.create(&params, &map).await.unwrap();
    assert!(made.name_any().starts_with("map-") && made.uid().is_some());
    assert_eq!(double.version(), before);
    assert!(double.list("configmaps").is_empty());
}

#[tokio::test]
async fn what_does_not_fit_its_schema_is_refused() {
    let double = double();
    let kind = kube::core::GroupVersionKind::gvk("tidegate.io", "v1alpha1", "AddressPool");
    let resource = kube::core::discovery::ApiResource::from_gvk(&kind);
    let api: Api<kube::api::DynamicObject> = Api::all_with(client(&double), &resource);
    let mut params = PatchParams::apply("test");
    params.field_validation = Some(ValidationDirective::Strict);
    let apply = async |spec: Value| {
        let object = json!({
            "apiVersion": "tidegate.io/v1alpha1",
            "kind": "AddressPool",
            "metadata": {"name": "pool"},
            "spec": spec,
        });
        api.patch("pool", &params, &Patch::Apply(&object)).await
    };
    let wrong_type = apply(json!({"addresses": "203.0.113.0/29"})).await;
    assert_eq!(refused(wrong_type), (422, "Invalid".to_owned()));
    let wrong_word = apply(json!({"addresses": ["203.0.113.0/29"], "visibility": "hidden"})).await;
    assert_eq!(refused(wrong_word), (422, "Invalid".to_owned()));
    let missing = apply(json!({"visibility": "public"})).await;
    assert_eq!(refused(missing), (422, "Invalid".to_owned()));
    let unknown = apply(json!({"addresses": ["203.0.113.0/29"], "colour": "red"})).await;
    assert_eq!(refused(unknown), (400, "BadRequest".to_owned()));
    apply(json!({"addresses": ["203.0.113.0/29"], "visibility": "public"})).await.unwrap();
}

#[tokio::test]
async fn a_namespace_takes_its_objects_along() {
    let double = double();
    let api: Api<Service> = Api::namespaced(client(&double), "team");
    assert_eq!(
        refused(api.create(&PostParams::default(), &service("web", 80)).await),
        (404, "NotFound".to_owned())
    );
    double
        .put(json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "team"}}))
        .unwrap();
    api.create(&PostParams::default(), &service("web", 80)).await.unwrap();
    let spaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(client(&double));
    spaces.delete("team", &DeleteParams::default()).await.unwrap();
    assert!(double.get("services", "team", "web").is_none());
    assert!(double.get("namespaces", "", "team").is_none());
}

#[tokio::test]
async fn statuses_and_leases_that_the_api_would_not_take_are_refused() {
    let double = double();
    let services: Api<Service> = Api::namespaced(client(&double), "default");
    services.create(&PostParams::default(), &service("inside", 80)).await.unwrap();
    let status = json!({"status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}}});
    let params = PatchParams::default();
    let answer = services.patch_status("inside", &params, &Patch::Merge(&status)).await;
    assert_eq!(refused(answer), (422, "Invalid".to_owned()), "it is no LoadBalancer");

    let leases: Api<Lease> = Api::namespaced(client(&double), "default");
    let lease = |name: &str, seconds: i32| -> Lease {
        serde_json::from_value(json!({
            "metadata": {"name": name},
            "spec": {"holderIdentity": "", "leaseDurationSeconds": seconds},
        }))
        .unwrap()
    };
    let create = async |lease: Lease| leases.create(&PostParams::default(), &lease).await;
    assert_eq!(refused(create(lease("vip-203.0.113.1", 0)).await).0, 422);
    assert_eq!(refused(create(lease("vip-2001:db8::1", 2)).await).0, 422);
    create(lease("vip-203.0.113.1", 2)).await.unwrap();
}
