//! Watches, raw and through kube's watcher in both of its list modes.

use std::collections::BTreeMap;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::core::v1::{Event, Secret, Service};
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher;
use kube::{Api, ResourceExt};
use serde_json::json;
use tokio::sync::watch;

use super::{PATIENCE, client, double, eventually, service};

/// Follows all Services with kube's watcher: their names and first ports.
fn follow(api: Api<Service>, config: watcher::Config) -> watch::Receiver<BTreeMap<String, i32>> {
    let (sender, receiver) = watch::channel(BTreeMap::new());
    let port = |service: &Service| service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0].port;
    tokio::spawn(async move {
        let mut fresh = BTreeMap::new();
        let mut events = watcher(api, config).default_backoff().boxed();
        while let Some(event) = events.next().await {
            match event {
                Ok(watcher::Event::Init) => fresh.clear(),
                Ok(watcher::Event::InitApply(object)) => {
                    fresh.insert(object.name_any(), port(&object));
                }
                Ok(watcher::Event::InitDone) => drop(sender.send_replace(fresh.clone())),
                Ok(watcher::Event::Apply(object)) => {
                    sender.send_modify(|all| {
                        all.insert(object.name_any(), port(&object));
                    });
                }
                Ok(watcher::Event::Delete(object)) => {
                    sender.send_modify(|all| {
                        all.remove(&object.name_any());
                    });
                }
                Err(_) => {}
            }
        }
    });
    receiver
}

async fn reaches(followed: &mut watch::Receiver<BTreeMap<String, i32>>, wanted: &[(&str, i32)]) {
    let wanted: BTreeMap<String, i32> =
        wanted.iter().map(|&(name, port)| (name.to_owned(), port)).collect();
    let reached = followed.wait_for(|all| *all == wanted);
    tokio::time::timeout(PATIENCE, reached).await.expect("it is followed in time").unwrap();
}

async fn kubes_watcher_follows(config: watcher::Config) {
    let double = double();
    let api: Api<Service> = Api::namespaced(client(&double), "default");
    api.create(&Default::default(), &service("first", 1)).await.unwrap();
    let mut followed = follow(Api::all(client(&double)), config);
    reaches(&mut followed, &[("first", 1)]).await;

    api.create(&Default::default(), &service("second", 2)).await.unwrap();
    reaches(&mut followed, &[("first", 1), ("second", 2)]).await;
    let patch = json!({"spec": {"ports": [{"port": 3}]}});
    api.patch("first", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
    reaches(&mut followed, &[("first", 3), ("second", 2)]).await;
    api.delete("second", &Default::default()).await.unwrap();
    reaches(&mut followed, &[("first", 3)]).await;

    // Watches that end, with changes before the next begins.
    double.drop_watches();
    api.create(&Default::default(), &service("third", 3)).await.unwrap();
    reaches(&mut followed, &[("first", 3), ("third", 3)]).await;

    // The API is gone, and what happens meanwhile is compacted away.
    double.go_away(None);
    assert!(api.get("first").await.is_err());
    assert!(double.remove("services", "default", "third"));
    double.compact();
    double.come_back();
    reaches(&mut followed, &[("first", 3)]).await;
}

#[tokio::test]
async fn kubes_watcher_follows_with_lists() {
    kubes_watcher_follows(watcher::Config::default()).await;
}

#[tokio::test]
async fn kubes_watcher_follows_with_pages() {
    kubes_watcher_follows(watcher::Config::default().page_size(1)).await;
}

#[tokio::test]
async fn kubes_watcher_follows_with_streaming_lists() {
    kubes_watcher_follows(watcher::Config::default().streaming_lists()).await;
}

#[tokio::test]
async fn what_leaves_the_selection_is_deleted() {
    let double = double();
    let api: Api<Secret> = Api::namespaced(client(&double), "default");
    let secret = |label: &str| {
        serde_json::from_value(json!({
            "metadata": {"name": "pair", "labels": {"use": label}},
            "type": "kubernetes.io/tls",
            "data": {"tls.crt": "", "tls.key": ""},
        }))
        .unwrap()
    };
    let params = WatchParams::default().labels("use=edge").fields("type=kubernetes.io/tls");
    let mut events = api.watch(&params, "0").await.unwrap().boxed();
    api.create(&Default::default(), &secret("other")).await.unwrap();
    let mut seen = Vec::new();
    for label in ["edge", "edge ", "other"] {
        let patch =
            json!({"metadata": {"labels": {"use": label.trim()}, "annotations": {"n": label}}});
        let patched =
            api.patch("pair", &PatchParams::default(), &Patch::Merge(&patch)).await.unwrap();
        let event = tokio::time::timeout(PATIENCE, events.try_next()).await.unwrap().unwrap();
        let (kind, object): (_, Secret) = match event.unwrap() {
            WatchEvent::Added(object) => ("added", object),
            WatchEvent::Modified(object) => ("modified", object),
            WatchEvent::Deleted(object) => ("deleted", object),
            other => panic!("{other:?}"),
        };
        assert_eq!(object.resource_version(), patched.resource_version());
        seen.push((kind, object.labels()["use"].clone()));
    }
    // What is deleted is told as it was while it was selected.
    let own = str::to_owned;
    assert_eq!(seen, [("added", own("edge")), ("modified", own("edge")), ("deleted", own("edge"))]);
}

#[tokio::test]
async fn an_idle_watch_gets_bookmarks_with_the_version_of_everything() {
    let double = double();
    let api: Api<Service> = Api::all(client(&double));
    let from = double.version();
    let mut events = api.watch(&WatchParams::default(), &from.to_string()).await.unwrap().boxed();
    let elsewhere = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}});
    double.put(elsewhere).unwrap();
    let deadline = tokio::time::timeout(PATIENCE, async {
        loop {
            match events.try_next().await.unwrap().unwrap() {
                WatchEvent::Bookmark(bookmark) => {
                    let version: u64 = bookmark.metadata.resource_version.parse().unwrap();
                    if version > from {
                        return;
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    });
    deadline.await.expect("a bookmark comes in time");
}

#[tokio::test]
async fn a_watch_from_a_compacted_version_is_told_so() {
    let double = double();
    let api: Api<Service> = Api::namespaced(client(&double), "default");
    let from = double.version();
    api.create(&Default::default(), &service("one", 1)).await.unwrap();
    double.compact();
    let mut events = api.watch(&WatchParams::default(), &from.to_string()).await.unwrap().boxed();
    match events.try_next().await.unwrap() {
        Some(WatchEvent::Error(status)) => {
            assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
        }
        other => panic!("{other:?}"),
    }
    assert!(events.try_next().await.unwrap().is_none());
}

#[tokio::test]
async fn a_watch_under_way_is_not_ended_by_compaction() {
    let double = double();
    let api: Api<Service> = Api::namespaced(client(&double), "default");
    let params = WatchParams::default().disable_bookmarks();
    let mut events = api.watch(&params, &double.version().to_string()).await.unwrap().boxed();
    for (name, port) in [("one", 1), ("two", 2), ("three", 3)] {
        api.create(&Default::default(), &service(name, port)).await.unwrap();
        match tokio::time::timeout(PATIENCE, events.try_next()).await.unwrap().unwrap() {
            Some(WatchEvent::Added(object)) => assert_eq!(object.name_any(), name),
            other => panic!("{other:?}"),
        }
        double.compact();
    }
}

#[tokio::test]
async fn events_of_the_new_group_are_events_of_the_old() {
    use kube::runtime::events::{EventType, Recorder, Reporter};
    let double = double();
    let client = client(&double);
    let services: Api<Service> = Api::namespaced(client.clone(), "default");
    let about = services.create(&Default::default(), &service("web", 80)).await.unwrap();
    let reporter = Reporter { controller: "tidegate".to_owned(), instance: None };
    let recorder = Recorder::new(client.clone(), reporter);
    let event = kube::runtime::events::Event {
        type_: EventType::Warning,
        reason: "Refused".to_owned(),
        note: Some("the pool is exhausted".to_owned()),
        action: "Allocate".to_owned(),
        secondary: None,
    };
    let reference = kube::Resource::object_ref(&about, &());
    recorder.publish(&event, &reference).await.unwrap();
    recorder.publish(&event, &reference).await.unwrap();

    let events: Api<Event> = Api::namespaced(client, "default");
    let fields = "involvedObject.name=web,type=Warning";
    let found = events.list(&kube::api::ListParams::default().fields(fields)).await.unwrap();
    let [found] = found.items.as_slice() else { panic!("{:?}", found.items) };
    assert_eq!(found.message.as_deref(), Some("the pool is exhausted"));
    assert_eq!(found.involved_object.name.as_deref(), Some("web"));
    assert_eq!(found.series.as_ref().and_then(|series| series.count), Some(2));
}

#[tokio::test]
async fn a_watcher_that_is_cut_off_sees_nothing_until_it_is_back() {
    use apiserver::Fault;
    let double = double();
    let agent = "edge-one";
    let api: Api<Service> = Api::all(super::client_named(&double, agent));
    let mut followed = follow(api, watcher::Config::default());
    double
        .put(json!({
            "apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"},
            "spec": {"ports": [{"port": 1}]},
        }))
        .unwrap();
    reaches(&mut followed, &[("a", 1)]).await;
    let cut = double.fault(Fault::partition(agent));
    double.change("services", "default", "a", |service| {
        service["spec"]["ports"][0]["port"] = 2.into();
    });
    let early = tokio::time::timeout(Duration::from_millis(300), followed.changed()).await;
    assert!(early.is_err(), "nothing comes through");
    double.lift(cut);
    reaches(&mut followed, &[("a", 2)]).await;
    eventually("one list was enough", async || double.count("list", "services") == 1).await;
}

#[tokio::test]
async fn a_watch_that_is_too_slow_is_cut() {
    use apiserver::{Double, Fault, Options};
    let double = Double::start(Options { history: 10, ..Options::default() }).unwrap();
    let api: Api<Service> = Api::all(super::client_named(&double, "slow"));
    let params = WatchParams::default().disable_bookmarks();
    let from = double.version().to_string();
    let mut events = api.watch(&params, &from).await.unwrap().boxed();
    let stalled = double.fault(Fault::partition("slow"));
    // What it holds up is no more than the history.
    for number in 0..100 {
        double
            .put(json!({
                "apiVersion": "v1", "kind": "Service",
                "metadata": {"name": format!("s-{number}")},
            }))
            .unwrap();
    }
    double.lift(stalled);
    let ended = async { while events.try_next().await.is_ok_and(|event| event.is_some()) {} };
    tokio::time::timeout(PATIENCE, ended).await.expect("it ends");
    let mut again = api.watch(&params, &from).await.unwrap().boxed();
    let first = again.try_next().await.unwrap();
    assert!(matches!(first, Some(WatchEvent::Error(status)) if status.code == 410));
}
