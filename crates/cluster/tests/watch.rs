//! Watching, against a double of the API server.

#![allow(clippy::unwrap_used, clippy::panic)] // reason: a test fails by panicking

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::{Denial, Double, Effect, Fault, Options};
use cluster::Kind;
use cluster::watch::{self, Pace, Watching, What};
use ingest::Delivery;
use model::{ObjectKey, ObjectRef};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Far over what anything takes; what may take how long is said where it matters.
const DEADLINE: Duration = Duration::from_secs(30);

struct World {
    double: Double,
    watching: Watching,
    stop: CancellationToken,
}

impl Drop for World {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

fn pace() -> Pace {
    Pace {
        again: Duration::from_millis(300),
        review: Duration::from_millis(300),
        jitter: Duration::from_millis(50),
        ..Pace::default()
    }
}

impl World {
    async fn new(double: Double) -> Self {
        Self::with(double, What::gateway(&[])).await
    }

    async fn with(double: Double, what: What) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("kubeconfig");
        double.write_kubeconfig(&path, None).unwrap();
        let options = cluster::Options {
            kubeconfig: Some(path),
            agent: "tidegate-test/0".to_owned(),
            field: "source.kubernetes".to_owned(),
            ..cluster::Options::default()
        };
        let cluster = cluster::connect(&options).await.unwrap();
        let owner = Some(ObjectRef::cluster("GatewayConfig", "gateway"));
        let stop = CancellationToken::new();
        let what = What { owner, ..what };
        let watching =
            watch::start(cluster.client, what, pace(), &TaskTracker::new(), stop.clone());
        Self { double, watching, stop }
    }

    async fn first(&mut self) -> Arc<Delivery> {
        assert!(tokio::time::timeout(DEADLINE, self.watching.first()).await.unwrap());
        Arc::clone(&self.watching.deliveries.borrow())
    }

    /// Waits for a delivery that has it.
    #[track_caller]
    fn until(&mut self, has: impl Fn(&Delivery) -> bool) -> impl Future<Output = Arc<Delivery>> {
        let what = std::panic::Location::caller();
        let mut deliveries = self.watching.deliveries.clone();
        let all = deliveries.clone();
        async move {
            let found = deliveries.wait_for(|delivery| has(delivery));
            match tokio::time::timeout(DEADLINE, found).await {
                Ok(found) => Arc::clone(&found.unwrap()),
                Err(_) => {
                    let last = all.borrow();
                    panic!("{what}: not within {DEADLINE:?}; findings: {:?}", last.diagnostics)
                }
            }
        }
    }

    fn lists(&self, kind: Kind) -> u64 {
        self.watching.state.borrow().kinds[&kind].lists
    }

    fn put(&self, value: Value) {
        self.double.put(value).unwrap();
    }
}

fn double() -> Double {
    Double::start(Options { bookmark_every: Duration::from_millis(200), ..Options::default() })
        .unwrap()
}

fn service(name: &str, port: impl Into<Value>) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"ports": [{"port": port.into()}]},
    })
}

fn slice(name: &str, address: &str) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "shop",
            "labels": {"kubernetes.io/service-name": name}},
        "addressType": "IPv4", "ports": [{"port": 80}],
        "endpoints": [{"addresses": [address]}],
    })
}

fn secret(name: &str, kind: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Secret", "type": kind,
        "metadata": {"name": name, "namespace": "shop"}, "data": {"psk": "c2VjcmV0"},
    })
}

fn connection(name: &str, secret: &str) -> Value {
    json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "VpnConnection",
        "metadata": {"name": name, "namespace": "shop"},
        "spec": {"remote": {"gateway": "203.0.113.1", "subnets": ["10.9.0.0/16"]},
            "auth": {"psk": {"secretName": secret}}},
    })
}

fn key(name: &str) -> ObjectKey {
    ObjectKey::new("shop", name)
}

fn has_service(name: &'static str) -> impl Fn(&Delivery) -> bool {
    move |delivery| delivery.objects.services.contains_key(&key(name))
}

#[tokio::test]
async fn all_kinds_are_known_at_once_and_changes_follow() {
    let double = double();
    for n in 0..700 {
        double.put(service(&format!("s{n}"), 80)).unwrap();
    }
    double.put(slice("s1", "10.0.0.1")).unwrap();
    for (api_version, kind) in [
        ("networking.k8s.io/v1", "IngressClass"),
        ("v1", "Node"),
        ("tidegate.io/v1alpha1", "EdgeGateway"),
        ("projectcalico.org/v3", "HostEndpoint"),
    ] {
        let spec = json!({"node": "n", "controller": "tidegate.io/alb"});
        let object = json!({"apiVersion": api_version, "kind": kind, "spec": spec,
            "metadata": {"name": "one"}});
        double.put(object).unwrap();
    }
    let mut world = World::new(double).await;
    let first = world.first().await;
    let objects = &first.objects;
    assert_eq!((objects.services.len(), objects.endpoint_slices.len()), (700, 1));
    assert!(objects.nodes.contains_key("one") && objects.edges.contains_key("one"));
    assert!(objects.ingress_classes.contains_key("one") && objects.namespaces.contains_key("shop"));
    assert!(objects.calico.endpoints.contains_key("one"));
    assert_eq!(first.diagnostics, []);
    world.put(slice("s1", "10.0.0.2"));
    let address = |delivery: &Delivery| {
        delivery.objects.endpoint_slices[&key("s1")].endpoints[0].addresses[0].clone()
    };
    let changed = world.until(|delivery| address(delivery) == "10.0.0.2").await;
    // What hasn't changed is the same in memory.
    let before = &first.objects.services[&key("s5")];
    assert!(Arc::ptr_eq(before, &changed.objects.services[&key("s5")]));
    assert!(world.double.remove("services", "shop", "s5"));
    world.until(|delivery| !has_service("s5")(delivery)).await;
    let state = world.watching.state.borrow().clone();
    assert!(state.connected && state.synced, "{state:?}");
    assert_eq!((state.kinds[&Kind::Service].objects, state.kinds[&Kind::Service].lists), (699, 1));
}

#[tokio::test]
async fn a_watch_that_ends_goes_on_where_it_stood() {
    let double = double();
    double.put(service("one", 80)).unwrap();
    let mut world = World::new(double).await;
    world.first().await;
    for name in ["two", "three", "four"] {
        world.double.drop_watches();
        world.put(service(name, 80));
        world.until(has_service(name)).await;
    }
    assert_eq!(world.lists(Kind::Service), 1);
}

#[tokio::test]
async fn what_the_server_has_forgotten_is_listed_again() {
    let double = double();
    for name in ["stays", "goes", "changes"] {
        double.put(service(name, 80)).unwrap();
    }
    let mut world = World::new(double).await;
    let first = world.first().await;
    world.double.go_away(None);
    let changes = |world: &mut World| world.double.drop_watches();
    changes(&mut world);
    world.double.remove("services", "shop", "goes");
    world.put(service("changes", 81));
    world.put(service("comes", 80));
    world.double.compact();
    world.double.come_back();
    let now = world.until(has_service("comes")).await;
    let port = |delivery: &Delivery| {
        let service = &delivery.objects.services[&key("changes")];
        service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].port
    };
    assert_eq!((port(&first), port(&now), has_service("goes")(&now)), (80, 81, false));
    let stays = |delivery: &Delivery| Arc::clone(&delivery.objects.services[&key("stays")]);
    assert!(Arc::ptr_eq(&stays(&first), &stays(&now)));
    assert_eq!(world.lists(Kind::Service), 2);
}

#[tokio::test]
async fn a_server_that_is_busy_or_ill_is_asked_again() {
    let double = double();
    double.put(service("one", 80)).unwrap();
    for (code, retry_after) in [(429, Some(1)), (500, None), (503, None)] {
        let times = Some(9);
        double.fault(Fault { times, ..Fault::new(Effect::Status { code, retry_after }) });
    }
    double.fault(Fault { times: Some(3), ..Fault::new(Effect::LoseRequest) });
    let mut world = World::new(double).await;
    let first = world.first().await;
    assert!(has_service("one")(&first));
    assert_eq!(first.diagnostics, []);
}

#[tokio::test]
async fn a_server_without_streaming_lists_is_asked_for_pages() {
    let double = double();
    for n in 0..1201 {
        double.put(service(&format!("s{n}"), 80)).unwrap();
    }
    double.fault(Fault {
        times: Some(1),
        verb: Some("watch".to_owned()),
        resource: Some("services".to_owned()),
        ..Fault::new(Effect::Status { code: 422, retry_after: None })
    });
    let mut world = World::new(double).await;
    assert_eq!(world.first().await.objects.services.len(), 1201);
    assert_eq!(world.double.count("list", "services"), 3);
    world.put(service("more", 80));
    world.until(has_service("more")).await;
}

#[tokio::test]
async fn with_the_api_gone_what_is_known_stays_and_soon_after_its_return_all_is_new() {
    let double = double();
    double.put(service("one", 80)).unwrap();
    let mut world = World::new(double).await;
    let first = world.first().await;
    world.double.go_away(None);
    let mut state = world.watching.state.clone();
    let gone = state.wait_for(|state| !state.connected);
    let said = tokio::time::timeout(DEADLINE, gone).await.unwrap().unwrap().clone();
    assert!(said.last_error.is_some() && said.synced, "{said:?}");
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert!(Arc::ptr_eq(&first, &world.watching.deliveries.borrow()));
    world.put(service("two", 80));
    world.double.reset_counters();
    let back = Instant::now();
    world.double.come_back();
    world.until(has_service("two")).await;
    assert!(back.elapsed() < Duration::from_secs(2), "{:?}", back.elapsed());
    let connected = state.wait_for(|state| state.connected);
    tokio::time::timeout(DEADLINE, connected).await.unwrap().unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let counters = world.double.counters();
    let asked: u64 = counters
        .iter()
        .filter(|one| one.verb == "list" || one.verb == "watch")
        .map(|one| one.count)
        .sum();
    // Each kind once, and whoever looked whether it was there.
    assert!(asked <= Kind::ALL.len() as u64 + 3, "{counters:?}");
    assert_eq!(world.lists(Kind::Service), 1);
}

#[tokio::test]
async fn what_is_not_allowed_is_named_verb_by_verb_and_the_rest_works() {
    let double = double();
    double.put(service("one", 80)).unwrap();
    double.put(slice("one", "10.0.0.1")).unwrap();
    for verb in ["list", "watch"] {
        double.deny(Denial {
            verbs: vec![verb.to_owned()],
            resource: "endpointslices".to_owned(),
            ..Denial::default()
        });
    }
    let mut world = World::new(double).await;
    let first = world.first().await;
    assert!(has_service("one")(&first) && first.objects.endpoint_slices.is_empty());
    assert_eq!(first.unread.iter().copied().collect::<Vec<_>>(), ["EndpointSlice"]);
    let named = |delivery: &Delivery| {
        let texts: Vec<String> = delivery.diagnostics.iter().map(ToString::to_string).collect();
        ["list", "watch"].iter().all(|verb| {
            let what = format!("allow to {verb} endpointslices.discovery.k8s.io");
            let rule = format!(
                "{{apiGroups: [\"discovery.k8s.io\"], resources: [\"endpointslices\"], verbs: \
                 [\"{verb}\"]}}"
            );
            texts.iter().any(|text| text.contains(&what) && text.contains(&rule))
        }) && texts.len() == 2
    };
    world.until(named).await;
    world.double.allow_all();
    world
        .until(|delivery| {
            delivery.objects.endpoint_slices.len() == 1
                && delivery.diagnostics.is_empty()
                && delivery.unread.is_empty()
        })
        .await;
}

#[tokio::test]
async fn a_kind_that_may_no_longer_be_read_stays_as_it_was() {
    let double = double();
    double.put(service("one", 80)).unwrap();
    let mut world = World::new(double).await;
    world.first().await;
    world.double.deny(Denial { resource: "services".to_owned(), ..Denial::default() });
    world.double.drop_watches();
    let told = world.until(|delivery| !delivery.diagnostics.is_empty()).await;
    assert!(has_service("one")(&told) && told.unread.is_empty());
}

#[tokio::test]
async fn an_object_that_can_not_be_read_is_a_finding_and_its_last_good_version_stays() {
    let double = double();
    double.put(service("good", 80)).unwrap();
    double.put(service("bad", "http")).unwrap();
    let mut world = World::new(double).await;
    let first = world.first().await;
    assert!(has_service("good")(&first) && !has_service("bad")(&first));
    let text = first.diagnostics[0].to_string();
    assert!(text.starts_with("error: Service shop/bad: spec.ports[0].port: "), "{text}");
    world.put(service("good", "https"));
    let second = world.until(|delivery| delivery.diagnostics.len() == 2).await;
    let good = |delivery: &Delivery| Arc::clone(&delivery.objects.services[&key("good")]);
    assert!(Arc::ptr_eq(&good(&first), &good(&second)));
    assert!(second.diagnostics[1].to_string().contains("stays in force"), "{second:?}");
    world.put(service("good", 443));
    world.double.remove("services", "shop", "bad");
    world.until(|delivery| delivery.diagnostics.is_empty()).await;
}

#[tokio::test]
async fn secrets_are_read_in_some_namespaces_alone_where_it_is_said_so() {
    let elsewhere = |name: &str, namespace: &str| {
        let mut secret = secret(name, "kubernetes.io/tls");
        secret["metadata"]["namespace"] = namespace.into();
        secret
    };
    let double = double();
    double.put(secret("certificate", "kubernetes.io/tls")).unwrap();
    double.put(elsewhere("theirs", "other")).unwrap();
    double.put(elsewhere("nobodys", "third")).unwrap();
    let denied = Denial {
        resource: "secrets".to_owned(),
        namespace: "third".to_owned(),
        ..Denial::default()
    };
    double.deny(denied);
    let namespaces = ["other".to_owned(), "shop".to_owned()];
    let mut world = World::with(double, What::gateway(&namespaces)).await;
    let names = |delivery: &Delivery| {
        let all = delivery.objects.secrets.keys().map(|key| key.name.clone());
        all.collect::<Vec<_>>()
    };
    let first = world.first().await;
    assert_eq!(names(&first), ["theirs", "certificate"]);
    assert_eq!(first.diagnostics, []);
    // All of one namespace listed anew leaves those of the other.
    world.double.remove("secrets", "shop", "certificate");
    world.until(|delivery| names(delivery) == ["theirs"]).await;
    world.put(secret("another", "kubernetes.io/tls"));
    world.until(|delivery| names(delivery) == ["theirs", "another"]).await;
    world.double.drop_watches();
    world.double.compact();
    world.put(elsewhere("more", "other"));
    world.until(|delivery| names(delivery) == ["more", "theirs", "another"]).await;
    assert!(world.watching.state.borrow().kinds[&Kind::Secret].synced);

    // What may not be read any more is named with its namespace.
    world.double.deny(Denial {
        resource: "secrets".to_owned(),
        namespace: "other".to_owned(),
        ..Denial::default()
    });
    world.double.drop_watches();
    let told = world.until(|delivery| !delivery.diagnostics.is_empty()).await;
    let text = told.diagnostics[0].to_string();
    assert!(text.contains("other") && text.contains("a Role of the namespace other"), "{text}");
    assert_eq!(names(&told), ["more", "theirs", "another"], "it stays in force");
}

#[tokio::test]
async fn only_secrets_that_are_of_use_are_known() {
    let double = double();
    double.put(secret("certificate", "kubernetes.io/tls")).unwrap();
    double.put(secret("named", "Opaque")).unwrap();
    double.put(secret("nobodys", "Opaque")).unwrap();
    double.put(connection("site", "named")).unwrap();
    let mut world = World::new(double).await;
    let names = |delivery: &Delivery| {
        let all = delivery.objects.secrets.keys().map(|key| key.name.clone());
        all.collect::<Vec<_>>()
    };
    // Those that are named are there from the first.
    let first = world.first().await;
    assert_eq!(names(&first), ["certificate", "named"]);
    world.put(connection("site", "other"));
    world.put(secret("other", "Opaque"));
    world.until(|delivery| names(delivery) == ["certificate", "other"]).await;
    world.double.remove("vpnconnections.tidegate.io", "shop", "site");
    world.until(|delivery| names(delivery) == ["certificate"]).await;
    let gets = world.double.counters();
    assert!(gets.iter().all(|one| one.resource != "secrets" || one.verb == "watch"), "{gets:?}");
}

#[tokio::test]
async fn a_kind_that_the_cluster_has_not_got_is_told_and_comes_later() {
    let double = double();
    let definitions = "customresourcedefinitions.apiextensions.k8s.io";
    let definition = double.get(definitions, "", "addresspools.tidegate.io").unwrap();
    for name in ["addresspools.tidegate.io", "ipamblocks.crd.projectcalico.org"] {
        assert!(double.remove(definitions, "", name));
    }
    let mut world = World::new(double).await;
    let first = world.first().await;
    let texts: Vec<String> = first.diagnostics.iter().map(ToString::to_string).collect();
    // Where there is no Calico, nothing is lacking.
    assert_eq!(texts.len(), 1, "{texts:?}");
    assert!(texts[0].contains("AddressPool") && texts[0].contains("gateway crds"), "{texts:?}");
    world.put(definition);
    world.put(json!({
        "apiVersion": "tidegate.io/v1alpha1", "kind": "AddressPool",
        "metadata": {"name": "pool"}, "spec": {"addresses": ["203.0.113.0/29"]},
    }));
    world
        .until(|delivery| {
            delivery.objects.pools.contains_key("pool") && delivery.diagnostics.is_empty()
        })
        .await;
}

#[tokio::test]
async fn many_changes_come_together() {
    let double = double();
    let mut world = World::new(double).await;
    world.first().await;
    let mut deliveries = world.watching.deliveries.clone();
    deliveries.mark_unchanged();
    let count = tokio::spawn(async move {
        let mut count = 0;
        while deliveries.changed().await.is_ok() {
            count += 1;
            if deliveries.borrow_and_update().objects.services.len() == 500 {
                return count;
            }
        }
        count
    });
    for n in 0..500 {
        world.put(service(&format!("s{n}"), 80));
    }
    let count = tokio::time::timeout(DEADLINE, count).await.unwrap().unwrap();
    assert!(count <= 250, "{count} deliveries");
}

#[tokio::test]
async fn an_agent_sees_its_own_node_alone() {
    let double = double();
    for name in ["mine", "other"] {
        double
            .put(json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name}}))
            .unwrap();
    }
    double.put(service("one", 80)).unwrap();
    let mut world = World::with(double, What::agent("mine")).await;
    let first = world.first().await;
    assert_eq!(first.objects.nodes.keys().collect::<Vec<_>>(), ["mine"]);
    assert!(first.objects.services.is_empty());
    assert_eq!(world.double.count("watch", "services"), 0);
}
