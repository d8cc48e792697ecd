//! Faults, denials and counters.

use std::time::{Duration, Instant};

use apiserver::{Denial, Double, Effect, Fault, Options, User};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::{Secret, Service};
use kube::Api;
use kube::Client;
use kube::api::{ListParams, PostParams};
use serde_json::json;

use super::{client, client_named, config, double, eventually, refused, service};

#[tokio::test]
async fn statuses_come_as_often_as_asked_for() {
    let double = double();
    let api: Api<Service> = Api::all(client(&double));
    let busy = Effect::Status { code: 429, retry_after: Some(1) };
    let fault = Fault { times: Some(2), ..Fault::new(busy) };
    double.fault(fault);
    for _ in 0..2 {
        let answer = api.list(&ListParams::default()).await;
        assert_eq!(refused(answer), (429, "TooManyRequests".to_owned()));
    }
    api.list(&ListParams::default()).await.unwrap();

    let broken = Effect::Status { code: 500, retry_after: None };
    double.fault(Fault {
        every: Some(3),
        resource: Some("services".to_owned()),
        ..Fault::new(broken)
    });
    let mut codes = Vec::new();
    for _ in 0..6 {
        codes.push(api.list(&ListParams::default()).await.is_ok());
    }
    assert_eq!(codes, [true, true, false, true, true, false]);
    double.lift_all();
    assert_eq!(double.count("list", "services"), 9);
}

#[tokio::test]
async fn a_lost_answer_is_not_a_lost_write() {
    let double = double();
    let api: Api<Service> = Api::namespaced(client(&double), "default");
    let lost =
        Fault { verb: Some("write".to_owned()), times: Some(1), ..Fault::new(Effect::LoseAnswer) };
    double.fault(lost);
    let answer = api.create(&PostParams::default(), &service("web", 80)).await;
    assert!(answer.is_err() && !matches!(answer, Err(kube::Error::Api(_))), "{answer:?}");
    assert!(double.get("services", "default", "web").is_some());

    let lost = Fault { times: Some(1), ..Fault::new(Effect::LoseRequest) };
    double.fault(lost);
    assert!(api.create(&PostParams::default(), &service("other", 80)).await.is_err());
    assert!(double.get("services", "default", "other").is_none());
}

#[tokio::test]
async fn one_client_is_cut_off_and_the_others_are_not() {
    let double = double();
    let one: Api<Service> = Api::namespaced(client_named(&double, "edge-one"), "default");
    let two: Api<Service> = Api::namespaced(client_named(&double, "edge-two"), "default");
    double.fault(Fault::partition("edge-one"));
    let hanging =
        tokio::spawn(async move { one.create(&PostParams::default(), &service("one", 1)).await });
    two.create(&PostParams::default(), &service("two", 2)).await.unwrap();
    assert!(double.get("services", "default", "one").is_none());
    assert!(!hanging.is_finished());
    double.lift_all();
    hanging.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_late_answer_is_late() {
    let double = double();
    let api: Api<Service> = Api::all(client(&double));
    api.list(&ListParams::default()).await.unwrap();
    double.delay(Duration::from_millis(200));
    let start = Instant::now();
    api.list(&ListParams::default()).await.unwrap();
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn connections_are_refused_for_a_while() {
    let double = double();
    let api: Api<Service> = Api::all(client(&double));
    api.list(&ListParams::default()).await.unwrap();
    double.go_away(Some(Duration::from_millis(300)));
    eventually("the API goes", async || {
        std::net::TcpStream::connect(double.address())
            .is_err_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused)
    })
    .await;
    assert!(api.list(&ListParams::default()).await.is_err());
    eventually("the API is back", async || api.list(&ListParams::default()).await.is_ok()).await;
}

#[tokio::test]
async fn what_is_denied_is_refused_and_told_by_reviews() {
    let double = double();
    let mut config = config(&double);
    config.auth_info.token = Some("secret".to_owned().into());
    let gateway = Client::try_from(config).unwrap();
    double.deny(Denial {
        user: "gateway".to_owned(),
        verbs: vec!["list".to_owned(), "watch".to_owned()],
        resource: "secrets".to_owned(),
        ..Denial::default()
    });
    let secrets: Api<Secret> = Api::all(gateway.clone());
    let Err(kube::Error::Api(status)) = secrets.list(&ListParams::default()).await else {
        panic!("it is denied")
    };
    assert_eq!(
        status.message,
        "secrets is forbidden: User \"gateway\" cannot list resource \"secrets\" in API group \
         \"\" at the cluster scope"
    );
    Api::<Secret>::all(client(&double)).list(&ListParams::default()).await.unwrap();

    let reviews: Api<SelfSubjectAccessReview> = Api::all(gateway);
    let allowed = async |verb: &str, resource: &str| {
        let review = SelfSubjectAccessReview {
            spec: SelfSubjectAccessReviewSpec {
                resource_attributes: Some(ResourceAttributes {
                    verb: Some(verb.to_owned()),
                    resource: Some(resource.to_owned()),
                    ..ResourceAttributes::default()
                }),
                ..SelfSubjectAccessReviewSpec::default()
            },
            ..SelfSubjectAccessReview::default()
        };
        let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
        answer.status.unwrap().allowed
    };
    assert!(!allowed("watch", "secrets").await);
    assert!(allowed("get", "secrets").await);
    assert!(allowed("list", "services").await);
    double.allow_all();
    assert!(allowed("watch", "secrets").await);
}

#[tokio::test]
async fn roles_are_enforced_where_that_is_wanted() {
    let user = "system:serviceaccount:tidegate:gateway";
    let double = Double::start(Options {
        users: vec![User { name: user.to_owned(), token: "secret".to_owned() }],
        rbac: true,
        ..Options::default()
    })
    .unwrap();
    let mut config = config(&double);
    config.auth_info.token = Some("secret".to_owned().into());
    let gateway = Client::try_from(config).unwrap();
    let services: Api<Service> = Api::all(gateway.clone());
    assert_eq!(refused(services.list(&ListParams::default()).await).0, 403);
    double
        .put_yaml(
            "
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: tidegate}
rules:
- {apiGroups: [''], resources: [services], verbs: [list, watch]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: tidegate}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: tidegate}
subjects: [{kind: ServiceAccount, namespace: tidegate, name: gateway}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: tidegate, namespace: tidegate}
rules:
- {apiGroups: [''], resources: [secrets], verbs: [get, list], resourceNames: [psk]}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: RoleBinding
metadata: {name: tidegate, namespace: tidegate}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: Role, name: tidegate}
subjects: [{kind: Group, name: 'system:serviceaccounts:tidegate'}]
---
apiVersion: v1
kind: Secret
metadata: {name: psk, namespace: tidegate}
",
        )
        .unwrap();
    services.list(&ListParams::default()).await.unwrap();
    let own: Api<Service> = Api::namespaced(gateway.clone(), "default");
    assert_eq!(refused(own.create(&PostParams::default(), &service("web", 80)).await).0, 403);
    let secrets: Api<Secret> = Api::namespaced(gateway.clone(), "tidegate");
    secrets.get("psk").await.unwrap();
    secrets.list(&ListParams::default().fields("metadata.name=psk")).await.unwrap();
    assert_eq!(refused(secrets.list(&ListParams::default()).await).0, 403);
    let elsewhere: Api<Secret> = Api::namespaced(gateway, "default");
    assert_eq!(refused(elsewhere.get("psk").await).0, 403);
}

#[tokio::test]
async fn faults_are_asked_for_by_http() {
    let double = double();
    let client = client(&double);
    let send = async |method: &str, path: &str, body: serde_json::Value| -> serde_json::Value {
        let uri = format!("/_double/{path}");
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let request = http::Request::builder().method(method).uri(uri).body(body).unwrap();
        client.request(request).await.unwrap()
    };
    let services: Api<Service> = Api::all(client.clone());
    let busy = json!({
        "effect": {"status": {"code": 503, "retryAfter": null}},
        "resource": "services",
        "verb": "list",
    });
    let id = send("POST", "faults", busy.clone()).await["id"].clone();
    assert_eq!(refused(services.list(&ListParams::default()).await).0, 503);
    let listed = send("GET", "faults", json!(null)).await;
    assert_eq!(listed[0]["id"], id);
    assert_eq!(listed[0]["fault"]["effect"], busy["effect"]);
    send("DELETE", &format!("faults/{id}"), json!(null)).await;
    services.list(&ListParams::default()).await.unwrap();

    send("POST", "denials", json!({"verbs": ["list"], "resource": "services"})).await;
    assert_eq!(refused(services.list(&ListParams::default()).await).0, 403);
    send("DELETE", "denials", json!(null)).await;

    let counters = send("GET", "counters", json!(null)).await;
    let of = |code: u64| counters.as_array().unwrap().iter().find(|one| one["code"] == code);
    assert_eq!(of(403).unwrap()["count"], 1);
    assert_eq!(of(503).unwrap()["verb"], "list");
    assert_eq!(of(200).unwrap()["resource"], "services");

    let before = double.version();
    send("POST", "compact", json!(null)).await;
    let exact = ListParams::default().at(&(before - 1).to_string());
    let exact = ListParams { version_match: Some(kube::api::VersionMatch::Exact), ..exact };
    assert_eq!(refused(services.list(&exact).await).0, 410);
    send("POST", "refuse?milliseconds=200", json!(null)).await;
    eventually("the API goes", async || services.list(&ListParams::default()).await.is_err()).await;
    eventually("it is back", async || services.list(&ListParams::default()).await.is_ok()).await;
}
