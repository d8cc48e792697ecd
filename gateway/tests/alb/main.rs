//! The whole binary under test: real sockets, real manifests, backends that record each byte.

#![allow(clippy::unwrap_used, clippy::panic)] // reason: a test fails by panicking

use testkit::{Backend, Gateway, GatewayBuilder, manifest};

mod admin;
mod bodies;
mod forwarding;
mod framing;
mod paths;
mod pools;
mod reload;
mod routing;
mod shutdown;
mod smuggling;
mod startup;
mod timeouts;
mod tls;
mod upgrade;
mod uploads;

/// A gateway to be configured.
fn builder() -> GatewayBuilder {
    Gateway::builder(env!("CARGO_BIN_EXE_gateway"))
}

/// A gateway with these manifests.
#[track_caller]
fn gateway(manifests: &[&str]) -> Gateway {
    Gateway::start(env!("CARGO_BIN_EXE_gateway"), manifests)
}

/// Manifests by which everything goes to these backends.
fn everything_to(backends: &[&Backend]) -> String {
    let ingress = manifest::Ingress::new("all").any_host().prefix("/", "app").yaml();
    manifest::service("app", backends) + &ingress
}

/// A gateway that sends everything to one backend.
#[track_caller]
fn gateway_to(backend: &Backend) -> Gateway {
    gateway(&[&everything_to(&[backend])])
}
