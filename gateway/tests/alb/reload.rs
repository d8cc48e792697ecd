//! Changes of manifests while requests go on.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use testkit::manifest::{Ingress, service};
use testkit::{Backend, eventually};

use crate::{builder, everything_to, gateway_to};

fn to(service: &str) -> String {
    Ingress::new("main").any_host().prefix("/", service).yaml()
}

#[test]
fn change_comes_into_force_and_open_connections_go_on() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let gateway = builder()
        .manifest("services.yaml", service("one", &[&one]) + &service("two", &[&two]))
        .manifest("ingress.yaml", to("one"))
        .start();
    let mut client = gateway.client();
    assert_eq!(client.get("a.test", "/").text(), "one");
    gateway.apply("ingress.yaml", to("two"));
    eventually("the change is in force", || {
        (client.get("a.test", "/").text() == "two").then_some(())
    });
    gateway.remove("ingress.yaml");
    eventually("the rule is gone", || (client.get("a.test", "/").status == 404).then_some(()));
    gateway.apply("ingress.yaml", to("one"));
    eventually("the rule is back", || (client.get("a.test", "/").text() == "one").then_some(()));
}

#[test]
fn response_under_way_is_finished_by_the_endpoint_that_began_it() {
    let (go, wait) = std::sync::mpsc::channel();
    let wait = std::sync::Mutex::new(wait);
    let slow = Backend::start(move |connection| {
        connection.request();
        if connection.number() > 0 {
            return connection.send_ok("slow");
        }
        connection.send("HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nhalf");
        wait.lock().unwrap().recv().unwrap();
        connection.send("done");
    });
    let other = Backend::named("other");
    let gateway = builder().manifest("all.yaml", everything_to(&[&slow])).start();
    let mut client = gateway.client();
    client.send_get("a.test", "/");
    assert_eq!(client.head().content_length(), Some(8));
    assert_eq!(client.read(4), b"half");
    gateway.apply("all.yaml", everything_to(&[&other]));
    eventually("the change is in force", || {
        (gateway.get("a.test", "/").text() == "other").then_some(())
    });
    go.send(()).unwrap();
    assert_eq!(client.read(4), b"done");
    assert_eq!(client.get("a.test", "/").text(), "other", "on the same connection");
}

#[test]
fn no_request_fails_while_endpoints_change_under_load() {
    let backends = [Backend::named("0"), Backend::named("1"), Backend::named("2")];
    let gateway = gateway_to(&backends[0]);
    let stop = AtomicBool::new(false);
    let answers = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = gateway.client();
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(client.get("a.test", "/").status, 200);
                    client.send("POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 1\r\n\r\nx");
                    assert_eq!(client.response().status, 200);
                    answers.fetch_add(2, Ordering::Relaxed);
                }
            });
        }
        for round in 1..10 {
            let (now, next) = (&backends[round % 3], &backends[(round + 1) % 3]);
            // Each second time there is just one endpoint, and another than before.
            let used: &[&Backend] = if round % 2 == 0 { &[now] } else { &[now, next] };
            gateway.apply("all.yaml", everything_to(used));
            let text = (round % 3).to_string();
            eventually("the change is in force", || {
                (gateway.get("a.test", "/").text() == text).then_some(())
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(answers.load(Ordering::Relaxed) > 50);
}

#[test]
fn unrelated_change_leaves_connections_to_endpoints_in_the_pool() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let gateway =
        builder().workers(1).manifest("one.yaml", service("one", &[&one]) + &to("one")).start();
    let mut client = gateway.client();
    assert_eq!(client.get("a.test", "/").text(), "one");
    let other = Ingress::new("other").host("two.test").prefix("/", "two").yaml();
    gateway.apply("two.yaml", service("two", &[&two]) + &other);
    eventually("the other rule is in force", || {
        (client.get("two.test", "/").text() == "two").then_some(())
    });
    assert_eq!(client.get("a.test", "/").text(), "one");
    assert_eq!(one.connections(), 1);
}

#[test]
fn json_and_lists_are_read_like_yaml() {
    let one = Backend::named("one");
    let gateway = gateway_to(&one);
    let ingress = serde_json::json!({
        "apiVersion": "v1",
        "kind": "List",
        "items": [{
            "apiVersion": "networking.k8s.io/v1",
            "kind": "Ingress",
            "metadata": {"name": "json", "namespace": "shop"},
            "spec": {
                "ingressClassName": "tidegate-public",
                "rules": [{"host": "json.test", "http": {"paths": [
                    {"path": "/only", "pathType": "Exact",
                     "backend": {"service": {"name": "none", "port": {"number": 80}}}}
                ]}}]
            }
        }]
    });
    gateway.apply("more.json", ingress.to_string());
    eventually("the rule from JSON is in force", || {
        (gateway.get("json.test", "/only").status == 503).then_some(())
    });
}

/// The two states differ in host A's Service and in host B's path at once. Each response alone
/// shows which state it came from, by its backend and by the path the backend saw.
#[test]
fn every_response_comes_from_exactly_one_snapshot_while_it_flips() {
    let tagged = |tag: &'static str| {
        Backend::start(move |connection| {
            while let Some(request) = connection.request() {
                let path = request.head.line.split(' ').nth(1).unwrap();
                connection
                    .send_ok(&format!("{tag} {path} {}", request.head.value("host").unwrap()));
            }
        })
    };
    let (one, two) = (tagged("one"), tagged("two"));
    // The upstream's Host and path are rewritten with the Service: all three must agree.
    let state = |name: &str| {
        Ingress::new("main")
            .annotation("nginx.ingress.kubernetes.io/use-regex", "true")
            .annotation("nginx.ingress.kubernetes.io/rewrite-target", &format!("/{name}/$1"))
            .annotation("nginx.ingress.kubernetes.io/upstream-vhost", &format!("{name}.internal"))
            .host("a.test")
            .path("ImplementationSpecific", "/(.*)", name)
            .yaml()
    };
    let gateway = builder()
        .manifest("services.yaml", service("one", &[&one]) + &service("two", &[&two]))
        .manifest("ingress.yaml", state("one"))
        .start();
    let stop = AtomicBool::new(false);
    let answers = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut client = gateway.client();
                while !stop.load(Ordering::Relaxed) {
                    let response = client.get("a.test", "/x");
                    let text = response.text();
                    assert!(
                        text == "one /one/x one.internal" || text == "two /two/x two.internal",
                        "{} {text:?}",
                        response.status
                    );
                    answers.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let mut seen = 0;
        for flip in 0..12 {
            let name = if flip % 2 == 0 { "two" } else { "one" };
            gateway.apply("ingress.yaml", state(name));
            let expected = format!("{name} /{name}/x {name}.internal");
            eventually("the flip is in force", || {
                (gateway.get("a.test", "/x").text() == expected).then_some(())
            });
            // Some load falls into every state.
            seen = eventually("requests go on", || {
                let now = answers.load(Ordering::Relaxed);
                (now > seen + 10).then_some(now)
            });
        }
        stop.store(true, Ordering::Relaxed);
    });
    assert!(answers.load(Ordering::Relaxed) > 120);
}

#[test]
fn torn_manifest_keeps_its_last_good_objects_and_is_named_with_its_place() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let gateway = builder().manifest("one.yaml", service("one", &[&one]) + &to("one")).start();
    assert_eq!(gateway.get("a.test", "/").text(), "one");
    let torn = "apiVersion: networking.k8s.io/v1\nkind: Ingress\nmetadata: {name: main, namespace: shop\nspec:";
    gateway.apply("one.yaml", torn);
    // A good file beside it comes into force: so the torn one has been looked at too.
    let beside = Ingress::new("beside").host("two.test").prefix("/", "two").yaml();
    gateway.apply("two.yaml", service("two", &[&two]) + &beside);
    eventually("the other file is in force", || {
        (gateway.get("two.test", "/").text() == "two").then_some(())
    });
    assert_eq!(gateway.get("a.test", "/").text(), "one");
    let (code, out, err) = gateway.run(&["check"]);
    assert_eq!(code, Some(1), "{out}{err}");
    let text = out + &err;
    assert!(text.contains("one.yaml"), "no file named: {text}");
    assert!(
        text.contains(":3")
            || text.contains(":4")
            || text.contains("line 3")
            || text.contains("line 4"),
        "no line named: {text}"
    );
    gateway.apply("one.yaml", service("one", &[&one]) + &to("two"));
    eventually("the mended file is in force", || {
        (gateway.get("a.test", "/").text() == "two").then_some(())
    });
}

#[test]
fn field_of_the_wrong_type_is_named_and_the_rest_of_the_file_serves() {
    let one = Backend::named("one");
    let broken = Ingress::new("broken").host("b.test").prefix("/", "one").yaml();
    let broken = broken.replace("number: 80", "number: eighty");
    let gateway = crate::gateway(&[&service("one", &[&one]), &broken, &to("one")]);
    assert_eq!(gateway.get("a.test", "/").text(), "one");
    let (code, out, err) = gateway.run(&["check"]);
    let text = out + &err;
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("broken") && text.contains("number"), "{text}");
}

#[test]
fn symlinked_folder_as_kubernetes_mounts_it_is_followed() {
    let (one, two) = (Backend::named("one"), Backend::named("two"));
    let services = service("one", &[&one]) + &service("two", &[&two]);
    let gateway = builder().manifest("services.yaml", services).start();
    let manifests = gateway.folder().join("manifests");
    // As the kubelet does: ..data points to a folder with a new name for each version, and the
    // file is a link through it.
    let version = |number: u32, text: String| {
        let folder = manifests.join(format!("..version{number}"));
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("ingress.yaml"), text).unwrap();
        let link = manifests.join("..data_tmp");
        std::os::unix::fs::symlink(format!("..version{number}"), &link).unwrap();
        std::fs::rename(link, manifests.join("..data")).unwrap();
    };
    version(1, to("one"));
    std::os::unix::fs::symlink("..data/ingress.yaml", manifests.join("ingress.yaml")).unwrap();
    eventually("the first version is in force", || {
        (gateway.get("a.test", "/").text() == "one").then_some(())
    });
    version(2, to("two"));
    eventually("the second version is in force", || {
        (gateway.get("a.test", "/").text() == "two").then_some(())
    });
}
