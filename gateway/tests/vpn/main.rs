//! The VPN plane of the whole binary: two gateways with a host behind each, in network
//! namespaces, and packets that really go from one host to the other.

#![allow(clippy::unwrap_used, clippy::panic)] // reason: a test fails by panicking

use serde_json::Value;
use testkit::vpn_lab::Site;
use testkit::{Gateway, GatewayBuilder, VpnLab, eventually};

mod clear;
mod commands;
mod drift;
mod reach;
mod rekey;
mod restart;
mod site;

use site::Connection;

/// Two sites whose gateways have a connection `default/site` between them.
struct Pair {
    // Dropped in this order.
    gateways: [Gateway; 2],
    lab: VpnLab,
}

impl Pair {
    /// A begins, B waits. With what connections have by default.
    #[track_caller]
    fn start() -> Self {
        Self::start_with(Connection::new)
    }

    /// With connections of one's own, by the site.
    #[track_caller]
    fn start_with(connection: impl Fn(Site) -> Connection) -> Self {
        Self::configured("", connection)
    }

    /// And with further keys of the section `vpn`.
    #[track_caller]
    fn configured(keys: &str, connection: impl Fn(Site) -> Connection) -> Self {
        let lab = VpnLab::new();
        let [b, a] = [Site::B, Site::A].map(|site| {
            let builder = configured(keys).manifest("site.yaml", connection(site).yaml());
            builder.within(lab.gateway(site)).start()
        });
        Self { gateways: [a, b], lab }
    }

    /// The same, once the connection is up on both ends.
    #[track_caller]
    fn up() -> Self {
        let pair = Self::start();
        pair.wait_up();
        pair
    }

    fn gateway(&self, site: Site) -> &Gateway {
        let [a, b] = &self.gateways;
        if site == Site::A { a } else { b }
    }

    fn gateway_mut(&mut self, site: Site) -> &mut Gateway {
        let [a, b] = &mut self.gateways;
        if site == Site::A { a } else { b }
    }

    #[track_caller]
    fn wait_up(&self) {
        for site in Site::BOTH {
            self.wait_state(site, "up");
        }
    }

    /// Waits for the state of `default/site`.
    #[track_caller]
    fn wait_state(&self, site: Site, state: &str) {
        eventually(&format!("{site:?} is {state}"), || {
            (self.connection(site).get("state")? == state).then_some(())
        });
    }

    /// What the API says of `default/site`.
    #[track_caller]
    fn connection(&self, site: Site) -> Value {
        let text = self.gateway(site).admin_get("/api/v1/vpn").text();
        let value: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let all = value.get("connections").and_then(Value::as_array).unwrap();
        let is_it = |one: &&Value| one.get("name").is_some_and(|name| name == "default/site");
        all.iter().find(is_it).cloned().unwrap_or_default()
    }

    /// A number of what the API says of `default/site`.
    #[track_caller]
    fn number(&self, site: Site, pointer: &str) -> u64 {
        let connection = self.connection(site);
        let number = connection.pointer(pointer).and_then(Value::as_u64);
        number.unwrap_or_else(|| panic!("{pointer} in {connection:#}"))
    }

    /// Waits until an echo request comes back.
    #[track_caller]
    fn wait_ping(&self, from: Site) {
        eventually("a ping is answered", || self.lab.pings(from).then_some(()));
    }
}

/// A gateway with the VPN plane alone.
fn builder() -> GatewayBuilder {
    configured("")
}

/// The same with further keys of the section `vpn`.
fn configured(keys: &str) -> GatewayBuilder {
    Gateway::builder(env!("CARGO_BIN_EXE_gateway"))
        .alb("enabled: false")
        .config(&format!("vpn:\n  enabled: true\n  dataplane: userspace\n  workers: 1\n  {keys}"))
}
