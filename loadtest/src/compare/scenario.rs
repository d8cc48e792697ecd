//! What is measured, and what the gateway has to reach.

use crate::cli::Suite;
use crate::lab::ANSWER;
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
    /// What has to be reached.
    pub(crate) goal: Goal,
}

/// How a scenario is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Measure {
    /// Requests; the figure is CPU time of the target for each.
    Traffic(Traffic),
    /// Connections held idle; the figure is the target's memory for each.
    Idle {
        /// Whether they speak TLS.
        tls: bool,
    },
    /// The gateway with a large table of routes against itself with a small one.
    Routes {
        /// Routes in the large table.
        many: usize,
        /// Routes in the small one.
        few: usize,
    },
}

/// A kind of request traffic.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    /// Whether, and how, TLS is spoken.
    pub(crate) tls: Tls,
    /// Connections at once.
    pub(crate) connections: usize,
    /// What a connection is good for.
    pub(crate) reuse: Reuse,
    /// Bytes of each answer.
    pub(crate) body: u64,
}

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
}

const fn traffic(tls: Tls, connections: usize, reuse: Reuse, body: u64) -> Measure {
    Measure::Traffic(Traffic { tls, connections, reuse, body })
}

const MEBIBYTE: u64 = 1 << 20;

/// All scenarios, in the order in which they run.
pub(crate) const SCENARIOS: &[Scenario] = &[
    Scenario {
        id: "h1-64",
        suite: Suite::L7,
        title: "HTTP/1.1 keep-alive, 1 KiB, 64 connections",
        measure: traffic(Tls::Off, 64, Reuse::KeepAlive, ANSWER),
        goal: Goal::Ratio(0.85),
    },
    Scenario {
        id: "h1-512",
        suite: Suite::L7,
        title: "HTTP/1.1 keep-alive, 1 KiB, 512 connections",
        measure: traffic(Tls::Off, 512, Reuse::KeepAlive, ANSWER),
        goal: Goal::Ratio(0.85),
    },
    Scenario {
        id: "h1-1mib",
        suite: Suite::L7,
        title: "HTTP/1.1 keep-alive, 1 MiB, 16 connections",
        measure: traffic(Tls::Off, 16, Reuse::KeepAlive, MEBIBYTE),
        goal: Goal::Ratio(1.0),
    },
    Scenario {
        id: "h1-idle",
        suite: Suite::L7,
        title: "Idle HTTP/1.1 connections",
        measure: Measure::Idle { tls: false },
        goal: Goal::Kibibytes(4.0),
    },
    Scenario {
        id: "routes",
        suite: Suite::L7,
        title: "The gateway's 10,000 routes against 10",
        measure: Measure::Routes { many: 10_000, few: 10 },
        goal: Goal::Ratio(1.05),
    },
    Scenario {
        id: "tls-64",
        suite: Suite::Tls,
        title: "HTTPS keep-alive, 1 KiB, 64 connections",
        measure: traffic(Tls::Full, 64, Reuse::KeepAliveSameRequest, ANSWER),
        goal: Goal::Ratio(0.85),
    },
    Scenario {
        id: "tls-512",
        suite: Suite::Tls,
        title: "HTTPS keep-alive, 1 KiB, 512 connections",
        measure: traffic(Tls::Full, 512, Reuse::KeepAliveSameRequest, ANSWER),
        goal: Goal::Ratio(0.85),
    },
    Scenario {
        id: "tls-full",
        suite: Suite::Tls,
        title: "Full ECDSA handshake and one request, 32 connections",
        measure: traffic(Tls::Full, 32, Reuse::Never, ANSWER),
        goal: Goal::Ratio(0.45),
    },
    Scenario {
        id: "tls-resumed",
        suite: Suite::Tls,
        title: "Resumed handshake and one request, 32 connections",
        measure: traffic(Tls::Resumed, 32, Reuse::Never, ANSWER),
        goal: Goal::Ratio(0.7),
    },
    Scenario {
        id: "tls-1mib",
        suite: Suite::Tls,
        title: "HTTPS keep-alive, 1 MiB, 16 connections",
        measure: traffic(Tls::Full, 16, Reuse::KeepAliveSameRequest, MEBIBYTE),
        goal: Goal::Ratio(1.0),
    },
    Scenario {
        id: "tls-idle",
        suite: Suite::Tls,
        title: "Idle HTTPS connections",
        measure: Measure::Idle { tls: true },
        goal: Goal::Kibibytes(16.0),
    },
];
