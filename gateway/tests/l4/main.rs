//! The L4 plane of the whole binary: a client, an edge and three backends in network namespaces,
//! and packets that really go from one to the other.

#![allow(clippy::unwrap_used, clippy::panic)] // reason: a test fails by panicking

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use testkit::manifest::{Exposed, Slice, pool};
use testkit::{Gateway, GatewayBuilder, Lab, Namespace, eventually, lab};

mod affinity;
mod allocation;
mod announcing;
mod bad_input;
mod drift;
mod kubernetes;
mod local_policy;
mod policies;
mod reach;
mod replacement;
mod restart;
mod running;
mod unannounced;
mod user_space;

/// A lab whose first edge runs a gateway. The backends `one`, `two` and `three` serve on 8080.
struct Edge {
    // Dropped in this order.
    gateway: Gateway,
    servers: Vec<lab::Server>,
    lab: Lab,
}

impl Edge {
    /// With a pool and these manifests.
    #[track_caller]
    fn start(manifests: &[String]) -> Self {
        Self::start_with(builder(), manifests)
    }

    #[track_caller]
    fn start_with(builder: GatewayBuilder, manifests: &[String]) -> Self {
        let lab = Lab::new();
        let servers = lab.serve(8080);
        let builder =
            builder.manifest("pool.yaml", public_pool()).manifest("all.yaml", manifests.concat());
        let gateway = lab.start(builder);
        Self { gateway, servers, lab }
    }

    fn client(&self) -> &Namespace {
        self.lab.client()
    }

    fn edge(&self) -> &Namespace {
        self.lab.edge()
    }

    /// The kernel's rules.
    #[track_caller]
    fn rules(&self) -> String {
        self.edge()
            .try_command("nft", &["-nn", "list", "table", "inet", "tidegate"], "")
            .unwrap_or_default()
    }

    /// Waits until an endpoint can be chosen, or can't any more.
    #[track_caller]
    fn wait_for_endpoint(&self, address: IpAddr, port: u16, there: bool) {
        let text = format!("{address} . {port}");
        let what = format!("{text} in the rules: {there}");
        eventually(&what, || {
            let rules = self.rules();
            // 8080 must not be found in 80801.
            let found = rules.match_indices(&text).any(|(at, _)| {
                !rules.as_bytes().get(at + text.len()).is_some_and(u8::is_ascii_digit)
            });
            (!rules.is_empty() && found == there).then_some(())
        });
    }

    /// Waits until an endpoint is planned for a Service, or isn't any more, wherever its
    /// connections go.
    #[track_caller]
    fn wait_for_planned(&self, service: &str, address: IpAddr, port: u16, there: bool) {
        let wanted = SocketAddr::new(address, port).to_string();
        eventually(&format!("{wanted} is planned: {there}"), || {
            let ports = self.service(service).get("ports")?.to_string();
            (ports.contains(&format!("\"{wanted}\"")) == there).then_some(())
        });
    }

    /// What the API says of a Service.
    #[track_caller]
    fn service(&self, name: &str) -> serde_json::Value {
        let text = self.gateway.admin_get("/api/v1/services").text();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        let services = value.get("services").and_then(|services| services.as_array()).unwrap();
        let is_it = |service: &&serde_json::Value| {
            service.pointer("/service/name").is_some_and(|it| it == name)
        };
        services.iter().find(is_it).cloned().unwrap_or_default()
    }

    /// Waits for the address of a Service, the first if it has several.
    #[track_caller]
    fn address_of(&self, name: &str) -> IpAddr {
        eventually(&format!("{name} has an address"), || {
            let service = self.service(name);
            service.get("addresses")?.as_array()?.first()?.as_str()?.parse().ok()
        })
    }

    /// Waits for a finding about an object whose field contains this and whose text contains each
    /// of these words.
    #[track_caller]
    fn diagnostic(&self, object: &str, field: &str, words: &[&str]) -> serde_json::Value {
        let mut all = String::new();
        let deadline = std::time::Instant::now() + testkit::DEADLINE;
        while std::time::Instant::now() < deadline {
            all = self.gateway.admin_get("/api/v1/diagnostics").text();
            let findings: Vec<serde_json::Value> = serde_json::from_str(&all).unwrap();
            let matches = |finding: &serde_json::Value| {
                let text = finding.to_string();
                finding.get("object").is_some_and(|it| it.to_string().contains(object))
                    && finding.get("field").is_some_and(|it| it.to_string().contains(field))
                    && words.iter().all(|word| text.contains(word))
            };
            if let Some(found) = findings.into_iter().find(matches) {
                return found;
            }
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        panic!("no finding about {object} in {field:?} with {words:?}, but {all}");
    }
}

/// A gateway with the L4 plane, to be configured.
fn builder() -> GatewayBuilder {
    Gateway::builder(env!("CARGO_BIN_EXE_gateway")).config(
        "l4: {enabled: true, interfaces: {public: [pub0], private: [priv0]}}\nnodeName: edge-1",
    )
}

/// A portable /29 and as many IPv6 addresses.
fn public_pool() -> String {
    pool(
        "portable-public",
        &["198.51.100.16/29", "2001:db8:2::10-2001:db8:2::17"],
        "reserved: [198.51.100.16, 198.51.100.17, 198.51.100.23]",
    )
}

/// An IPv4 VIP of the pool.
fn vip(last: u8, port: u16) -> SocketAddr {
    (Ipv4Addr::new(198, 51, 100, last), port).into()
}

/// An IPv6 VIP of the pool.
fn vip_v6(last: u16, port: u16) -> SocketAddr {
    (Ipv6Addr::new(0x2001, 0xdb8, 2, 0, 0, 0, 0, last), port).into()
}

/// The edge's own address.
fn edge_at(port: u16) -> SocketAddr {
    (Lab::edge_address(), port).into()
}

/// The Service `web` of type LoadBalancer at .20, TCP port 80.
fn web() -> Exposed {
    Exposed::load_balancer("web").tcp(80).at(vip(20, 80).ip())
}

/// The slice of `web` without endpoints.
fn web_slice() -> Slice {
    Slice::of("web").tcp(80, 8080)
}

/// The slice of `web` with these backends.
fn web_on(backends: &[u8]) -> Slice {
    backends.iter().fold(web_slice(), |slice, number| slice.ready(Lab::backend_address(*number)))
}
