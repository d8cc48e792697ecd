//! How fast the double is with a large cluster: lists, and changes under a watch.

use std::time::{Duration, Instant};

use apiserver::{Double, Options};
use futures_util::{StreamExt, TryStreamExt};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{Patch, PatchParams, WatchEvent, WatchParams};
use kube::{Api, Client, Config, ResourceExt};
use serde_json::{Value, json};

const CHANGES: usize = 2_500;
const EACH: Duration = Duration::from_millis(2);

fn slice(number: usize) -> Value {
    let endpoints: Vec<Value> = (0..10)
        .map(|endpoint| {
            json!({
                "addresses": [format!("10.{}.{}.{endpoint}", number / 256 % 256, number % 256)],
                "conditions": {"ready": true, "serving": true, "terminating": false},
                "nodeName": format!("node-{}", endpoint % 5),
            })
        })
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("service-{number}-abcde"),
            "labels": {"kubernetes.io/service-name": format!("service-{number}")},
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{"name": "http", "port": 8080, "protocol": "TCP"}],
    })
}

fn service(number: usize) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": format!("service-{number}")},
        "spec": {
            "clusterIP": format!("10.96.{}.{}", number / 256, number % 256),
            "ports": [{"name": "http", "port": 80, "targetPort": 8080, "protocol": "TCP"}],
            "selector": {"app": format!("service-{number}")},
        },
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let double = Double::start(Options::default())?;
    let start = Instant::now();
    for number in 0..10_000 {
        double.put(service(number))?;
        double.put(slice(number))?;
    }
    report(&format!("filled in {:?}", start.elapsed()));
    let client = Client::try_from(Config::new(double.url().parse()?))?;
    for path in ["/api/v1/services", "/apis/discovery.k8s.io/v1/endpointslices"] {
        let start = Instant::now();
        let body = client.request_text(http::Request::get(path).body(Vec::new())?).await?;
        report(&format!("{path}: {} KiB in {:?}", body.len() / 1024, start.elapsed()));
    }

    let api: Api<EndpointSlice> = Api::namespaced(client, "default");
    let changer = &api;
    let params = WatchParams::default().disable_bookmarks();
    let mut events = api.watch(&params, &double.version().to_string()).await?.boxed();
    let begin = Instant::now();
    let watching = async {
        let mut arrived = Vec::new();
        while arrived.len() < CHANGES {
            match events.try_next().await? {
                Some(WatchEvent::Modified(slice)) => {
                    let sent: u64 = slice.annotations()["sent"].parse().unwrap_or(0);
                    arrived.push(begin.elapsed().saturating_sub(Duration::from_micros(sent)));
                }
                other => return Err(format!("{other:?}").into()),
            }
        }
        arrived.sort();
        Ok::<_, Box<dyn std::error::Error>>(arrived)
    };
    let changing = async {
        let ticks = futures_util::stream::unfold(tokio::time::interval(EACH), async |mut next| {
            next.tick().await;
            Some(((), next))
        });
        let change = |number: usize| async move {
            let sent = begin.elapsed().as_micros().to_string();
            let patch = json!({"metadata": {"annotations": {"sent": sent}}});
            let name = format!("service-{}-abcde", number * 4);
            changer.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await
        };
        let changes = ticks.take(CHANGES).enumerate().map(|(number, ())| change(number));
        changes.buffer_unordered(8).try_for_each(async |_| Ok(())).await?;
        Ok::<_, Box<dyn std::error::Error>>(begin.elapsed())
    };
    let (arrived, took) = tokio::try_join!(watching, changing)?;
    report(&format!(
        "{CHANGES} changes in {took:?}; seen after {:?} (median), {:?} (p99)",
        arrived[CHANGES / 2],
        arrived[CHANGES * 99 / 100]
    ));
    Ok(())
}

#[expect(clippy::print_stdout, reason = "its figures are what it is for")]
fn report(line: &str) {
    println!("{line}");
}
