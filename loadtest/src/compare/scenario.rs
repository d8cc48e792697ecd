//! What is measured, and what the gateway has to reach.

use crate::cli::Suite;
use crate::lab::{ANSWER, Key};
use crate::load::Reuse;

/// One line of the comparison.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Scenario {
    /// The name on the command line and in JSON; never changes its meaning.
    pub(crate) id: &'static str,
    /// The group it belongs to.
    pub(crate) suite: Suite,
    /// What it is, for people.
    pub(crate) title: &'static str,
    /// How it is measured.
    pub(crate) measure: Measure,
    /// What has to be reached, if anything has.
    pub(crate) goal: Option<Goal>,
}

/// How a scenario is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measure {
    /// Requests; the figure is CPU time of the target for each.
    Traffic(Traffic),
    /// Requests at a constant rate below what the target can take; the figures are latencies, and
    /// CPU time of the target for each request.
    Latency {
        /// What is asked for.
        traffic: Traffic,
        /// Whose capacity the rate is [`LATENCY_SHARE`] of.
        of: Capacity,
    },
    /// Connections held idle; the figure is the target's memory for each.
    Idle {
        /// Whether they speak TLS.
        tls: bool,
        /// How many; those of `--idle` if it is not said.
        connections: Option<usize>,
    },
    /// The gateway with a large table of routes against itself with a small one.
    Routes {
        /// Routes in the large table.
        many: usize,
        /// Routes in the small one.
        few: usize,
    },
    /// The L4 plane, in network namespaces.
    L4(L4),
    /// Tunnels between two gateways, in network namespaces.
    Vpn(Vpn),
    /// A large cluster's objects from its API, and changes to them.
    Cluster(Estate),
    /// Many objects, and changes to them.
    Control {
        /// Apps: a Service, an EndpointSlice and an Ingress each.
        apps: usize,
    },
}

/// What is measured of the L4 plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum L4 {
    /// A connection with one request through a VIP, by CPU time of all parties.
    Connection {
        /// Beside plain routing; else beside HAProxy in TCP mode.
        beside_routing: bool,
        /// How many at once.
        at_once: usize,
    },
    /// How long a connection takes to come about, with many Services and with few.
    Services {
        /// Services of one gateway.
        many: u16,
        /// Services of the other.
        few: u16,
    },
    /// How long Services take to load, and one endpoint's change with them there.
    Changes {
        /// How many Services.
        services: u16,
        /// Endpoints of each.
        endpoints: u8,
    },
    /// Large answers through user space, beside HAProxy in TCP mode.
    Bulk,
}

/// How many objects a cluster has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Estate {
    /// Services, each with an EndpointSlice.
    pub(crate) services: u16,
    /// Of these, so many have a VIP.
    pub(crate) vips: u16,
    /// Endpoints of each.
    pub(crate) endpoints: u8,
    /// Ingresses, each for a Service of its own.
    pub(crate) ingresses: u16,
    /// Secrets with certificates, each for an Ingress of its own.
    pub(crate) secrets: u16,
}

/// What is measured of tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Vpn {
    /// One TCP stream, by CPU time of the gateways for a packet.
    Bulk,
    /// Small datagrams there and back, many under way.
    Small,
    /// One octet there and back.
    Latency,
    /// How soon many connections are up, and what they hold.
    Tunnels {
        /// How many.
        connections: u16,
    },
}

/// A kind of request traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    /// Whether, and how, TLS is spoken.
    pub(crate) tls: Tls,
    /// The key behind the target's certificate.
    pub(crate) key: Key,
    /// Connections at once.
    pub(crate) connections: usize,
    /// What a connection is good for.
    pub(crate) reuse: Reuse,
    /// Bytes of each answer.
    pub(crate) body: u64,
}

/// Whose capacity a rate is derived from. A capacity is the rate of a closed loop with as many
/// connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Capacity {
    /// The least of the gateway's and of those of the peers that goals are held against: all
    /// targets get the same rate.
    Least,
    /// Each target's own.
    Own,
}

/// The share of a capacity at which latencies are measured.
pub(crate) const LATENCY_SHARE: f64 = 0.7;

/// Whether, and how, TLS is spoken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tls {
    /// Not at all.
    Off,
    /// With a full handshake on each connection.
    Full,
    /// Resuming sessions.
    Resumed,
}

/// What the gateway has to reach.
#[derive(Clone, Copy, Debug, PartialEq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Goal {
    /// At most so many times the better peer's figure.
    Ratio(f64),
    /// At most so many KiB.
    Kibibytes(f64),
    /// At most so many MiB.
    Mebibytes(f64),
    /// At most so many milliseconds.
    Milliseconds(f64),
    /// At most so many microseconds.
    Microseconds(f64),
    /// At most so many seconds.
    Seconds(f64),
    /// At least so many times the other's throughput for a CPU second.
    Times(f64),
}

impl Goal {
    /// Its name in JSON, and its limit.
    pub(crate) fn parts(self) -> (&'static str, f64) {
        match self {
            Self::Ratio(limit) => ("ratio", limit),
            Self::Kibibytes(limit) => ("kibibytes", limit),
            Self::Mebibytes(limit) => ("mebibytes", limit),
            Self::Milliseconds(limit) => ("milliseconds", limit),
            Self::Microseconds(limit) => ("microseconds", limit),
            Self::Seconds(limit) => ("seconds", limit),
            Self::Times(limit) => ("times", limit),
        }
    }
}

const fn traffic(tls: Tls, connections: usize, reuse: Reuse, body: u64) -> Measure {
    Measure::Traffic(Traffic { tls, key: Key::Ecdsa, connections, reuse, body })
}

const fn latency(tls: Tls, reuse: Reuse, of: Capacity) -> Measure {
    let traffic = Traffic { tls, key: Key::Ecdsa, connections: 64, reuse, body: ANSWER };
    Measure::Latency { traffic, of }
}

const MEBIBYTE: u64 = 1 << 20;
const MANY_IDLE: usize = 50_000;

/// All scenarios, in the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "h1-64",
        suite: Suite::L7,
        title: "HTTP/1.1 keep-alive, 1 KiB, 64 connections",
        measure: traffic(Tls::Off, 64, Reuse::KeepAlive, ANSWER),
        goal: Some(Goal::Ratio(0.85)),
    },
    Scenario {
        id: "h1-512",
        suite: Suite::L7,
        title: "HTTP/1.1 keep-alive, 1 KiB, 512 connections",
        measure: traffic(Tls::Off, 512, Reuse::KeepAlive, ANSWER),
        goal: Some(Goal::Ratio(0.85)),
    },
    Scenario {
        id: "h1-70",
        suite: Suite::L7,
        title: "HTTP/1.1 keep-alive at 70 % of the slowest one's capacity, open loop",
        measure: latency(Tls::Off, Reuse::KeepAlive, Capacity::Least),
        goal: None,
    },
    Scenario {
        id: "h1-70-own",
        suite: Suite::L7,
        title: "HTTP/1.1 keep-alive at 70 % of each one's own capacity, open loop",
        measure: latency(Tls::Off, Reuse::KeepAlive, Capacity::Own),
        goal: None,
    },
    Scenario {
        id: "h1-1mib",
        suite: Suite::L7,
        title: "HTTP/1.1 keep-alive, 1 MiB, 16 connections",
        measure: traffic(Tls::Off, 16, Reuse::KeepAlive, MEBIBYTE),
        goal: Some(Goal::Ratio(1.0)),
    },
    Scenario {
        id: "h1-idle",
        suite: Suite::L7,
        title: "Idle HTTP/1.1 connections",
        measure: Measure::Idle { tls: false, connections: None },
        goal: Some(Goal::Kibibytes(2.0)),
    },
    Scenario {
        id: "h1-idle-50k",
        suite: Suite::L7,
        title: "50,000 idle HTTP/1.1 connections",
        measure: Measure::Idle { tls: false, connections: Some(MANY_IDLE) },
        goal: Some(Goal::Kibibytes(2.0)),
    },
    Scenario {
        id: "routes",
        suite: Suite::L7,
        title: "The gateway's 10,000 routes against 10",
        measure: Measure::Routes { many: 10_000, few: 10 },
        goal: Some(Goal::Ratio(1.05)),
    },
    Scenario {
        id: "tls-64",
        suite: Suite::Tls,
        title: "HTTPS keep-alive, 1 KiB, 64 connections",
        measure: traffic(Tls::Full, 64, Reuse::KeepAliveSameRequest, ANSWER),
        goal: Some(Goal::Ratio(0.85)),
    },
    Scenario {
        id: "tls-512",
        suite: Suite::Tls,
        title: "HTTPS keep-alive, 1 KiB, 512 connections",
        measure: traffic(Tls::Full, 512, Reuse::KeepAliveSameRequest, ANSWER),
        goal: Some(Goal::Ratio(0.85)),
    },
    Scenario {
        id: "tls-70",
        suite: Suite::Tls,
        title: "HTTPS keep-alive at 70 % of the slowest one's capacity, open loop",
        measure: latency(Tls::Full, Reuse::KeepAliveSameRequest, Capacity::Least),
        goal: None,
    },
    Scenario {
        id: "tls-70-own",
        suite: Suite::Tls,
        title: "HTTPS keep-alive at 70 % of each one's own capacity, open loop",
        measure: latency(Tls::Full, Reuse::KeepAliveSameRequest, Capacity::Own),
        goal: None,
    },
    Scenario {
        id: "tls-full",
        suite: Suite::Tls,
        title: "Full ECDSA handshake and one request, 32 connections",
        measure: traffic(Tls::Full, 32, Reuse::Never, ANSWER),
        goal: Some(Goal::Ratio(0.45)),
    },
    Scenario {
        id: "tls-full-rsa",
        suite: Suite::Tls,
        title: "Full RSA-2048 handshake and one request, 32 connections",
        measure: Measure::Traffic(Traffic {
            tls: Tls::Full,
            key: Key::Rsa,
            connections: 32,
            reuse: Reuse::Never,
            body: ANSWER,
        }),
        goal: Some(Goal::Ratio(0.75)),
    },
    Scenario {
        id: "tls-resumed",
        suite: Suite::Tls,
        title: "Resumed handshake and one request, 32 connections",
        measure: traffic(Tls::Resumed, 32, Reuse::Never, ANSWER),
        goal: Some(Goal::Ratio(0.7)),
    },
    Scenario {
        id: "tls-1mib",
        suite: Suite::Tls,
        title: "HTTPS keep-alive, 1 MiB, 16 connections",
        measure: traffic(Tls::Full, 16, Reuse::KeepAliveSameRequest, MEBIBYTE),
        goal: Some(Goal::Ratio(1.0)),
    },
    Scenario {
        id: "tls-idle",
        suite: Suite::Tls,
        title: "Idle HTTPS connections",
        measure: Measure::Idle { tls: true, connections: None },
        goal: Some(Goal::Kibibytes(12.0)),
    },
    Scenario {
        id: "tls-idle-50k",
        suite: Suite::Tls,
        title: "50,000 idle HTTPS connections",
        measure: Measure::Idle { tls: true, connections: Some(MANY_IDLE) },
        goal: Some(Goal::Kibibytes(12.0)),
    },
    Scenario {
        id: "l4-routing",
        suite: Suite::L4,
        title: "TCP connections with a request each through a VIP, beside plain routing",
        measure: Measure::L4(L4::Connection { beside_routing: true, at_once: 1 }),
        goal: Some(Goal::Ratio(1.3)),
    },
    Scenario {
        id: "l4-haproxy",
        suite: Suite::L4,
        title: "TCP connections with a request each through a VIP, beside HAProxy in TCP mode",
        measure: Measure::L4(L4::Connection { beside_routing: false, at_once: 1 }),
        goal: Some(Goal::Ratio(0.55)),
    },
    Scenario {
        id: "l4-routing-32",
        suite: Suite::L4,
        title: "The same, 32 at once, beside plain routing",
        measure: Measure::L4(L4::Connection { beside_routing: true, at_once: 32 }),
        goal: None,
    },
    Scenario {
        id: "l4-haproxy-32",
        suite: Suite::L4,
        title: "The same, 32 at once, beside HAProxy in TCP mode",
        measure: Measure::L4(L4::Connection { beside_routing: false, at_once: 32 }),
        goal: None,
    },
    Scenario {
        id: "l4-services",
        suite: Suite::L4,
        title: "Connecting with 10,000 Services of 10 endpoints, and with 10",
        measure: Measure::L4(L4::Services { many: 10_000, few: 10 }),
        goal: Some(Goal::Ratio(1.03)),
    },
    Scenario {
        id: "l4-10000",
        suite: Suite::L4,
        title: "10,000 Services of 10 endpoints",
        measure: Measure::L4(L4::Changes { services: 10_000, endpoints: 10 }),
        goal: None,
    },
    Scenario {
        id: "l4-bulk",
        suite: Suite::L4,
        title: "TCP through user space, answers of 1 MiB, 16 connections",
        measure: Measure::L4(L4::Bulk),
        goal: Some(Goal::Ratio(1.0)),
    },
    Scenario {
        id: "vpn-bulk",
        suite: Suite::Vpn,
        title: "One TCP stream through a tunnel, packets of 1,400 octets",
        measure: Measure::Vpn(Vpn::Bulk),
        // Each of its tables has its own.
        goal: None,
    },
    Scenario {
        id: "vpn-small",
        suite: Suite::Vpn,
        title: "Datagrams of 64 octets there and back, 64 under way",
        measure: Measure::Vpn(Vpn::Small),
        goal: None,
    },
    Scenario {
        id: "vpn-latency",
        suite: Suite::Vpn,
        title: "One octet there and back over TCP, the median",
        measure: Measure::Vpn(Vpn::Latency),
        goal: None,
    },
    Scenario {
        id: "vpn-tunnels",
        suite: Suite::Vpn,
        title: "1,000 connections between two gateways",
        measure: Measure::Vpn(Vpn::Tunnels { connections: 1_000 }),
        // Each of its figures has its own.
        goal: None,
    },
    Scenario {
        id: "overlay-bulk",
        suite: Suite::Overlay,
        title: "One TCP stream through WireGuard, packets of 1,400 octets",
        measure: Measure::Vpn(Vpn::Bulk),
        // Each of its tables has its own.
        goal: None,
    },
    Scenario {
        id: "overlay-small",
        suite: Suite::Overlay,
        title: "Datagrams of 64 octets through WireGuard there and back, 64 under way",
        measure: Measure::Vpn(Vpn::Small),
        goal: None,
    },
    Scenario {
        id: "overlay-latency",
        suite: Suite::Overlay,
        title: "One octet there and back over TCP through WireGuard, the median",
        measure: Measure::Vpn(Vpn::Latency),
        goal: None,
    },
    Scenario {
        id: "cluster-10000",
        suite: Suite::Cluster,
        title: "10,000 Services of 10 endpoints, 5,000 Ingresses, 2,000 Secrets from the API",
        measure: Measure::Cluster(Estate {
            services: 10_000,
            vips: 1_000,
            endpoints: 10,
            ingresses: 5_000,
            secrets: 2_000,
        }),
        // Each of its figures has its own.
        goal: None,
    },
    Scenario {
        id: "control-1000",
        suite: Suite::Control,
        title: "1,000 apps",
        measure: Measure::Control { apps: 1_000 },
        goal: None,
    },
    Scenario {
        id: "control-5000",
        suite: Suite::Control,
        title: "5,000 apps",
        measure: Measure::Control { apps: 5_000 },
        goal: None,
    },
    Scenario {
        id: "control-10000",
        suite: Suite::Control,
        title: "10,000 apps",
        measure: Measure::Control { apps: 10_000 },
        goal: None,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scenario_ids_are_unique() {
        let mut ids: Vec<_> = SCENARIOS.iter().map(|scenario| scenario.id).collect();
        ids.sort_unstable();
        ids.dedup();
        assert_eq!(ids.len(), SCENARIOS.len());
    }
}
