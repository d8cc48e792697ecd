//! The double before the real kube client and the real kubectl.

#![allow(clippy::unwrap_used, clippy::panic)] // reason: a test fails by panicking

mod applying;
mod faults;
mod kubectl;
mod listing;
mod watching;
mod writing;

use std::time::{Duration, Instant};

use apiserver::{Double, Options, User};
use k8s_openapi::api::core::v1::{Service, ServicePort, ServiceSpec};
use kube::api::ObjectMeta;
use kube::{Client, Config};

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(30);

fn double() -> Double {
    let users = vec![User { name: "gateway".to_owned(), token: "secret".to_owned() }];
    let bookmark_every = Duration::from_millis(200);
    Double::start(Options { users, bookmark_every, ..Options::default() }).unwrap()
}

fn config(double: &Double) -> Config {
    let mut config = Config::new(double.url().parse().unwrap());
    config.default_retry = false;
    config
}

fn client(double: &Double) -> Client {
    Client::try_from(config(double)).unwrap()
}

/// A client that is known by its User-Agent.
fn client_named(double: &Double, agent: &str) -> Client {
    let mut config = config(double);
    config.headers.push((http::header::USER_AGENT, agent.parse().unwrap()));
    Client::try_from(config).unwrap()
}

fn service(name: &str, port: i32) -> Service {
    Service {
        metadata: ObjectMeta { name: Some(name.to_owned()), ..ObjectMeta::default() },
        spec: Some(ServiceSpec {
            ports: Some(vec![ServicePort { port, ..ServicePort::default() }]),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

/// Polls until it holds.
async fn eventually(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !holds().await {
        assert!(Instant::now() < deadline, "{what} within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// The Status that a request was refused with.
fn refused<T: std::fmt::Debug>(result: kube::Result<T>) -> (u16, String) {
    match result {
        Err(kube::Error::Api(status)) => (status.code, status.reason.clone()),
        other => panic!("a refusal was expected: {other:?}"),
    }
}
