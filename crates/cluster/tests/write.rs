//! Writing back, against the double of the API server.

#![allow(clippy::unwrap_used, clippy::panic)] // reason: a test fails by panicking

use std::sync::Arc;
use std::time::{Duration, Instant};

use apiserver::{Denial, Double, Effect, Fault};
use cluster::write::events::{Limits, Regarding};
use cluster::write::{
    Author, Event, FINALIZER, FinalizerChange, Kind, Options, Patch, StatusChange, Target, Writer,
    Written, allocations,
};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// A double, and somebody who writes to it.
struct World {
    double: Double,
    client: Client,
    written: watch::Sender<Arc<Written>>,
    leader: watch::Sender<bool>,
    stop: CancellationToken,
    writer: Writer,
}

async fn client(double: &Double, agent: &str) -> Client {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("config");
    double.write_kubeconfig(&path, None).unwrap();
    let options = cluster::Options {
        kubeconfig: Some(path),
        agent: agent.to_owned(),
        ..cluster::Options::default()
    };
    cluster::connect(&options).await.unwrap().client
}

impl World {
    async fn new() -> Self {
        Self::with(Double::start(apiserver::Options::default()).unwrap(), true).await
    }

    async fn with(double: Double, leads: bool) -> Self {
        let client = client(&double, "edge-a").await;
        let (written, receiver) = watch::channel(Arc::default());
        let (leader, leads) = watch::channel(leads);
        let stop = CancellationToken::new();
        let options = Options { seed: 1, ..Options::new("edge-a") };
        let writer = cluster::write::start(client.clone(), options, receiver, leads, stop.clone());
        Self { double, client, written, leader, stop, writer }
    }

    fn write(&self, patches: Vec<Patch>, events: Vec<Event>) {
        self.written.send_replace(Arc::new(Written { patches, events }));
    }

    fn put(&self, manifest: Value) -> String {
        let object = self.double.put(manifest).unwrap();
        object["metadata"]["uid"].as_str().unwrap().to_owned()
    }

    fn ingress(&self, name: &str) -> Patch {
        let uid = self.put(json!({
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"defaultBackend": {"service": {"name": "web", "port": {"number": 80}}}},
        }));
        patch(Kind::Ingress, name, &uid, json!([{"ip": "192.0.2.1"}]))
    }

    fn service(&self, name: &str) -> Patch {
        let uid = self.put(json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {"name": name, "namespace": "default"},
            "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]},
        }));
        patch(Kind::Service, name, &uid, json!([{"ip": "192.0.2.1", "ipMode": "VIP"}]))
    }

    fn status_of(&self, resource: &str, name: &str) -> Value {
        let object = self.double.get(resource, "default", name).unwrap_or_default();
        object["status"]["loadBalancer"]["ingress"][0]["ip"].clone()
    }

    fn findings(&self) -> Vec<String> {
        self.writer.findings.borrow().iter().map(ToString::to_string).collect()
    }
}

fn patch(kind: Kind, name: &str, uid: &str, ingress: Value) -> Patch {
    Patch {
        target: Target { kind, namespace: Some("default".to_owned()), name: name.to_owned() },
        uid: Some(uid.to_owned()),
        author: Author::Leader,
        status: StatusChange::Apply {
            fields: json!({"loadBalancer": {"ingress": ingress}}),
            force: true,
        },
        finalizer: None,
    }
}

fn event(n: usize) -> Event {
    Event {
        object: Regarding {
            api_version: "v1".to_owned(),
            kind: "Service".to_owned(),
            namespace: Some("default".to_owned()),
            name: format!("web-{n}"),
            uid: Some(format!("uid-{n}")),
        },
        author: Author::Leader,
        warning: true,
        reason: "Refused".to_owned(),
        action: "Planning".to_owned(),
        note: "spec.ports: no".to_owned(),
    }
}

async fn until(what: &str, mut is: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is() {
        assert!(Instant::now() < deadline, "not in time: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn statuses_are_written_once_with_a_field_manager_of_their_own() {
    let world = World::new().await;
    let patches = vec![world.ingress("a"), world.ingress("b"), world.service("c")];
    for _ in 0..5 {
        world.write(patches.clone(), Vec::new());
        tokio::task::yield_now().await;
    }
    until("all written", || {
        ["a", "b"]
            .iter()
            .all(|name| world.status_of("ingresses.networking.k8s.io", name) == "192.0.2.1")
            && world.status_of("services", "c") == "192.0.2.1"
    })
    .await;
    world.write(patches, Vec::new());
    world.stop.cancel();
    world.writer.ended().await;
    assert_eq!(world.double.count("patch", "ingresses/status"), 2);
    let object = world.double.get("ingresses.networking.k8s.io", "default", "a").unwrap();
    let managed = object["metadata"]["managedFields"].as_array().unwrap();
    assert!(managed.iter().any(|one| one["manager"] == "tidegate"
        && one["operation"] == "Apply"
        && one["subresource"] == "status"));
}

#[tokio::test]
async fn what_fails_is_tried_again_and_keeps_nothing_else() {
    let world = World::new().await;
    let code = |code| Effect::Status { code, retry_after: (code == 429).then_some(1) };
    for (effect, resource) in [
        (code(500), "services/status"),
        (code(429), "ingresses/status"),
        (code(503), "services"),
        (Effect::LoseAnswer, "ingresses"),
    ] {
        let fault = Fault {
            verb: Some("patch".to_owned()),
            resource: Some(resource.trim_end_matches("/status").to_owned()),
            times: Some(2),
            ..Fault::new(effect)
        };
        world.double.fault(fault);
    }
    let mut service = world.service("c");
    service.finalizer = Some(FinalizerChange::Add);
    let patches = vec![world.ingress("a"), world.ingress("b"), service];
    world.write(patches, Vec::new());
    until("all written in the end", || {
        ["a", "b"]
            .iter()
            .all(|name| world.status_of("ingresses.networking.k8s.io", name) == "192.0.2.1")
            && world.status_of("services", "c") == "192.0.2.1"
    })
    .await;
    assert!(world.double.count("patch", "ingresses/status") < 10);
}

#[tokio::test]
async fn others_fields_are_left_alone_unless_they_are_ours_alone() {
    let world = World::new().await;
    let mut service = world.service("c");
    let cloud = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "c", "namespace": "default"},
        "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.1"}]}},
    });
    let request = http::Request::patch(
        "/api/v1/namespaces/default/services/c/status?fieldManager=cloud&force=true",
    )
    .header("content-type", "application/apply-patch+yaml")
    .body(serde_json::to_vec(&cloud).unwrap())
    .unwrap();
    world.client.request::<Value>(request).await.unwrap();
    if let StatusChange::Apply { force, .. } = &mut service.status {
        *force = false;
    }
    world.write(vec![service.clone()], Vec::new());
    until("told", || !world.findings().is_empty()).await;
    let findings = world.findings();
    assert!(
        findings[0].contains("Service default/c: status: cloud writes the same"),
        "{findings:?}"
    );
    assert_eq!(world.status_of("services", "c"), "203.0.113.1");
    // Once it has a class of ours.
    if let StatusChange::Apply { force, .. } = &mut service.status {
        *force = true;
    }
    world.write(Vec::new(), Vec::new());
    until("forgotten", || world.findings().is_empty()).await;
    world.write(vec![service], Vec::new());
    until("taken", || world.status_of("services", "c") == "192.0.2.1").await;
}

#[tokio::test]
async fn a_missing_verb_is_named_and_the_rest_goes_on() {
    let world = World::new().await;
    world.double.deny(Denial {
        verbs: vec!["patch".to_owned()],
        group: "core".to_owned(),
        resource: "services/status".to_owned(),
        ..Denial::default()
    });
    world.double.deny(Denial {
        verbs: vec!["create".to_owned()],
        group: "events.k8s.io".to_owned(),
        resource: "events".to_owned(),
        ..Denial::default()
    });
    world.write(vec![world.service("c"), world.ingress("a")], vec![event(0)]);
    until("the ingress written", || {
        world.status_of("ingresses.networking.k8s.io", "a") == "192.0.2.1"
    })
    .await;
    until("both verbs named", || world.findings().len() == 2).await;
    let findings = world.findings().join("\n");
    assert!(findings.contains("patch of services/status"), "{findings}");
    assert!(findings.contains("create of events.events.k8s.io"), "{findings}");
}

#[tokio::test]
async fn only_the_leading_edge_writes_what_is_everybodys() {
    let double = Double::start(apiserver::Options::default()).unwrap();
    let world = World::with(double, false).await;
    let own = Patch {
        target: Target { kind: Kind::EdgeGateway, namespace: None, name: "edge-a".to_owned() },
        uid: None,
        author: Author::Own,
        status: StatusChange::Apply { fields: json!({"version": "1"}), force: true },
        finalizer: None,
    };
    let ingress = world.ingress("a");
    world.write(vec![own, ingress.clone()], vec![event(0)]);
    until("its own EdgeGateway made and told of", || {
        let edge = world.double.get("edgegateways.tidegate.io", "", "edge-a");
        edge.is_some_and(|edge| edge["status"]["version"] == "1")
    })
    .await;
    assert_eq!(world.double.count("patch", "ingresses/status"), 0);
    assert_eq!(world.double.list("events").len(), 0);
    world.leader.send_replace(true);
    until("led", || world.status_of("ingresses.networking.k8s.io", "a") == "192.0.2.1").await;
    until("told", || world.double.list("events").len() == 1).await;
    // What is under way when another one leads is broken off.
    let fault = world
        .double
        .fault(Fault { resource: Some("ingresses".to_owned()), ..Fault::new(Effect::Hang) });
    let mut other = ingress;
    other.status = StatusChange::Apply {
        fields: json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.2"}]}}),
        force: true,
    };
    world.write(vec![other], Vec::new());
    tokio::time::sleep(Duration::from_millis(50)).await;
    world.leader.send_replace(false);
    world.double.lift(fault);
    world.stop.cancel();
    world.writer.ended().await;
    assert!(world.double.count("patch", "ingresses/status") <= 2);
}

#[tokio::test]
async fn an_object_made_anew_under_the_same_name_is_not_meant() {
    let world = World::new().await;
    let service = world.service("c");
    world.double.remove("services", "default", "c");
    let mut finalizer = service.clone();
    finalizer.finalizer = Some(FinalizerChange::Add);
    world.write(vec![finalizer], Vec::new());
    until("asked", || world.double.count("get", "services") > 0).await;
    // It isn't made by being applied to, either.
    assert_eq!(world.double.get("services", "default", "c"), None);
    world.service("c");
    world.write(vec![service], Vec::new());
    until("tried", || world.double.count("patch", "services/status") > 0).await;
    assert_eq!(world.status_of("services", "c"), Value::Null);
    assert_eq!(world.findings(), Vec::<String>::new());
}

#[tokio::test]
async fn only_what_was_written_here_is_taken_back() {
    let world = World::new().await;
    let ours = world.ingress("ours");
    world.write(vec![ours.clone()], Vec::new());
    until("written", || world.status_of("ingresses.networking.k8s.io", "ours") == "192.0.2.1")
        .await;
    let theirs = world.ingress("theirs");
    world.double.change("ingresses.networking.k8s.io", "default", "theirs", |object| {
        object["status"] = json!({"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}});
    });
    let back = |patch: Patch| Patch { status: StatusChange::TakeBack, ..patch };
    world.write(vec![back(ours), back(theirs)], Vec::new());
    until("taken back", || world.status_of("ingresses.networking.k8s.io", "ours").is_null()).await;
    until("looked at both", || world.double.count("get", "ingresses") >= 2).await;
    assert_eq!(world.status_of("ingresses.networking.k8s.io", "theirs"), "192.0.2.1");
}

#[tokio::test]
async fn a_service_is_kept_until_its_finalizer_goes_and_others_finalizers_stay() {
    let world = World::new().await;
    let mut service = world.service("c");
    world.double.change("services", "default", "c", |object| {
        object["metadata"]["finalizers"] = json!(["example.org/other"]);
    });
    service.finalizer = Some(FinalizerChange::Add);
    world.write(vec![service.clone()], Vec::new());
    until("written", || world.status_of("services", "c") == "192.0.2.1").await;
    let finalizers = |world: &World| {
        let object = world.double.get("services", "default", "c").unwrap_or_default();
        object["metadata"]["finalizers"].clone()
    };
    assert_eq!(finalizers(&world), json!(["example.org/other", FINALIZER]));
    let request = http::Request::delete("/api/v1/namespaces/default/services/c");
    world.client.request::<Value>(request.body(Vec::new()).unwrap()).await.unwrap();
    assert_eq!(finalizers(&world), json!(["example.org/other", FINALIZER]));
    let gone =
        Patch { status: StatusChange::Keep, finalizer: Some(FinalizerChange::Remove), ..service };
    world.write(vec![gone], Vec::new());
    until("ours gone", || finalizers(&world) == json!(["example.org/other"])).await;
    world.double.change("services", "default", "c", |object| {
        object["metadata"]["finalizers"] = json!([]);
    });
}

#[tokio::test]
async fn the_same_event_of_two_edges_is_one_and_is_raised_later() {
    let world = World::new().await;
    world.write(Vec::new(), vec![event(0)]);
    until("told", || world.double.list("events").len() == 1).await;
    // Another edge leads now.
    let (_written, receiver) =
        watch::channel(Arc::new(Written { patches: Vec::new(), events: vec![event(0), event(1)] }));
    let (_leader, leads) = watch::channel(true);
    let stop = CancellationToken::new();
    let options = Options::new("edge-b");
    let other = client(&world.double, "edge-b").await;
    let writer = cluster::write::start(other, options, receiver, leads, stop.clone());
    until("told by the other", || world.double.list("events").len() == 2).await;
    until("looked at", || world.double.count("get", "events") > 0).await;
    // Just told: not raised. After a while it is.
    assert_eq!(world.double.list("events").len(), 2);
    stop.cancel();
    writer.ended().await;
    let events = world.double.list("events");
    let name = events[0]["metadata"]["name"].as_str().unwrap().to_owned();
    world.double.change("events", "default", &name, |event| {
        event["eventTime"] = "2020-01-01T00:00:00.000000Z".into();
    });
    let (_written, receiver) =
        watch::channel(Arc::new(Written { patches: Vec::new(), events: vec![event(0), event(1)] }));
    let (_leader, leads) = watch::channel(true);
    let client = client(&world.double, "edge-c").await;
    let stop = CancellationToken::new();
    let writer =
        cluster::write::start(client, Options::new("edge-c"), receiver, leads, stop.clone());
    until("raised", || {
        let event = world.double.get("events", "default", &name).unwrap();
        event["series"]["count"] == 2
    })
    .await;
    stop.cancel();
    writer.ended().await;
}

#[tokio::test]
async fn a_flood_of_events_keeps_no_status_waiting() {
    let world = World::new().await;
    let events: Vec<Event> = (0..10_000).map(event).collect();
    let started = Instant::now();
    world.write(Vec::new(), events.clone());
    world.write(vec![world.ingress("a")], events);
    until("the status written", || {
        world.status_of("ingresses.networking.k8s.io", "a") == "192.0.2.1"
    })
    .await;
    until("the first told", || world.double.list("events").len() >= 50).await;
    let most = 50.0 + started.elapsed().as_secs_f64() * 10.0 + 5.0;
    let count = world.double.list("events").len() as f64;
    assert!(count <= most, "{count} events in {:?}", started.elapsed());
    assert_eq!(Limits::default().burst, 50);
}

#[tokio::test]
async fn the_end_takes_no_longer_than_its_deadline() {
    let world = World::new().await;
    let ingress = world.ingress("a");
    world.double.fault(Fault::new(Effect::Hang));
    world.write(vec![ingress], Vec::new());
    let started = Instant::now();
    world.stop.cancel();
    world.writer.ended().await;
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
}

#[tokio::test]
async fn what_is_told_last_is_still_written() {
    let world = World::new().await;
    let ingress = world.ingress("a");
    world.write(vec![ingress], Vec::new());
    world.stop.cancel();
    world.writer.ended().await;
    let object = world.double.get("ingresses.networking.k8s.io", "default", "a").unwrap();
    assert_eq!(object["status"]["loadBalancer"]["ingress"][0]["ip"], "192.0.2.1");
}

#[tokio::test]
async fn of_two_that_write_the_allocations_one_wins_and_the_other_reads_again() {
    let double = Double::start(apiserver::Options::default()).unwrap();
    let stop = CancellationToken::new();
    let mut edges = Vec::new();
    for name in ["edge-a", "edge-b"] {
        let (proposals, proposed) = watch::channel(None);
        // Both believe that they lead.
        let (leader, leads) = watch::channel(true);
        let client = client(&double, name).await;
        let followed =
            allocations::start(client, "default".to_owned(), proposed, leads, stop.clone());
        edges.push((proposals, followed.known, leader));
    }
    for (_, known, _) in &mut edges {
        tokio::time::timeout(
            PATIENCE,
            known.wait_for(|known| *known == allocations::Known::Absent),
        )
        .await
        .unwrap()
        .unwrap();
    }
    for (n, (proposals, ..)) in edges.iter().enumerate() {
        let text = format!("{{\"by\":{n}}}").into();
        proposals.send_replace(Some(Arc::new(allocations::Proposal { version: None, text })));
    }
    let mut seen = Vec::new();
    for (_, known, _) in &mut edges {
        let there = |known: &allocations::Known| matches!(known, allocations::Known::There { .. });
        let known = tokio::time::timeout(PATIENCE, known.wait_for(there)).await.unwrap().unwrap();
        seen.push(known.clone());
    }
    assert_eq!(seen[0], seen[1]);
    let allocations::Known::There { version, text } = &seen[0] else { unreachable!() };
    let object = double.get("configmaps", "default", allocations::NAME).unwrap();
    assert_eq!(object["data"][allocations::KEY], **text);
    // A proposal from an old version is not written.
    let old = allocations::Proposal { version: Some("1".to_owned()), text: "{}".into() };
    edges[0].0.send_replace(Some(Arc::new(old)));
    let new = allocations::Proposal { version: Some(version.clone()), text: "{\"by\":2}".into() };
    edges[1].0.send_replace(Some(Arc::new(new)));
    until("replaced", || {
        let object = double.get("configmaps", "default", allocations::NAME).unwrap();
        object["data"][allocations::KEY] == "{\"by\":2}"
    })
    .await;
    double.remove("configmaps", "default", allocations::NAME);
    for (_, known, _) in &mut edges {
        tokio::time::timeout(
            PATIENCE,
            known.wait_for(|known| *known == allocations::Known::Absent),
        )
        .await
        .unwrap()
        .unwrap();
    }
    stop.cancel();
}
