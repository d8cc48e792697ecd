//! One measurement of one target.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::bail;
use serde::Serialize;

use super::scenario::{Tls, Traffic};
use super::{FAILURES_ALLOWED, Settings};
use crate::lab::site::Site;
use crate::lab::{ANSWER, Instance, Lab};
use crate::load::outcome::Distribution;
use crate::load::pace::Profile;
use crate::load::plan::{Pace, Plan};
use crate::load::tls::{Offer, Trust, client_config};
use crate::load::{Generator, Load, Request, Reuse};
use crate::system::{self, Memory};

/// Time allowed for a request.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time allowed for every connection to have carried a request.
const WARM_WITHIN: Duration = Duration::from_secs(30);
/// The share of handshakes that must resume where that is what is measured.
const RESUMED_AT_LEAST: f64 = 0.99;
/// The share of its core from which on the load, and not the target, sets the pace.
const SATURATED: f64 = 0.95;
/// The share of its core that the busier side has where nobody else takes part.
const UNDISTURBED: f64 = 0.85;
/// The share of requests that the generator may begin late: more would show in the 99th percentile.
const LATE_AT_MOST: f64 = 0.005;
/// The share of the requests due that has to be answered: with less, the target can't take the rate.
pub(super) const ANSWERED_AT_LEAST: f64 = 0.99;
/// Time that memory is left to settle before it is read.
const SETTLE: Duration = Duration::from_millis(1500);

/// What one measurement found.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Trial {
    /// The target.
    pub(crate) target: String,
    /// In which pass over all targets.
    pub(crate) pass: u32,
    /// The figure that is compared: CPU µs a request, or KiB a connection.
    pub(crate) cost: f64,
    /// Requests or connections behind it.
    pub(crate) operations: u64,
    /// All requests answered, those before the measurement too.
    #[serde(skip)]
    pub(crate) all_requests: u64,
    /// What else there is to say.
    #[serde(flatten)]
    pub(crate) detail: Detail,
}

/// What depends on what was measured.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
pub(crate) enum Detail {
    /// Request traffic.
    Traffic(TrafficDetail),
    /// Idle connections.
    Idle {
        /// Before the connections came.
        before: Memory,
        /// With all of them idle.
        after: Memory,
    },
    /// Packets through a tunnel.
    Tunnel(TunnelDetail),
    /// Control: the figure is the median of some changes.
    Control {
        /// Each of them; none for what is measured once.
        each: Vec<f64>,
        /// What clients saw meanwhile, where there were any.
        #[serde(skip_serializing_if = "Option::is_none")]
        clients: Option<super::control::Seen>,
    },
}

/// What traffic showed beside the target's cost.
#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct TrafficDetail {
    /// Requests answered as expected, a second.
    pub(crate) requests_per_second: f64,
    /// Median latency, µs.
    pub(crate) p50_us: f64,
    /// The latency that one request in a hundred exceeds, µs.
    pub(crate) p99_us: f64,
    /// The share of its core that the target used.
    pub(crate) target_busy: f64,
    /// The share of their core that generator and backend used.
    pub(crate) load_busy: f64,
    /// Whether the load's core was full while the target's was not, so that the rate and the
    /// latencies are the generator's and not the target's.
    pub(crate) limited_by_load: bool,
    /// CPU µs a request of the generator.
    pub(crate) generator_us: f64,
    /// CPU µs a request of the backend.
    pub(crate) backend_us: f64,
    /// Connections that the target made to the backend, for each request.
    pub(crate) upstream_connections: f64,
    /// Requests due a second, and the share of them that the generator began more than a
    /// millisecond late, in an open loop.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) open_loop: Option<OpenLoop>,
    /// The whole distribution of latency.
    pub(crate) latency: Distribution,
    /// The target's memory when the window was over.
    pub(crate) memory: Memory,
    /// Failed requests by kind.
    pub(crate) failures: BTreeMap<&'static str, u64>,
    /// What the handshakes agreed on.
    pub(crate) tls: Vec<String>,
}

/// What packets through a tunnel showed.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct TunnelDetail {
    /// Packets a second.
    pub(crate) requests_per_second: f64,
    /// What hosts received in them, Gb a second.
    pub(crate) gigabits_per_second: f64,
    /// The same for a CPU second of both gateways; none where nothing has any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) gigabits_per_cpu_second: Option<f64>,
    /// Octets of a packet.
    pub(crate) packet: u32,
    /// CPU µs a packet of A's gateway, and of B's.
    pub(crate) sides_us: [f64; 2],
    /// CPU µs a packet of both hosts.
    pub(crate) hosts_us: f64,
    /// CPU µs a packet of the kernel's own threads.
    pub(crate) kernel_us: f64,
    /// CPU time of both gateways, as a share of one core.
    pub(crate) target_busy: f64,
}

/// How an open loop went.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct OpenLoop {
    /// Requests due a second.
    pub(crate) rate: f64,
    /// The share of them that was answered in the window.
    pub(crate) answered: f64,
    /// The share of them that the generator itself began more than a millisecond late: as if the
    /// target had been slow.
    pub(crate) late: f64,
}

impl Trial {
    /// What traffic showed, if it was traffic.
    pub(crate) fn traffic(&self) -> Option<&TrafficDetail> {
        match &self.detail {
            Detail::Traffic(detail) => Some(detail),
            Detail::Idle { .. } | Detail::Tunnel(_) | Detail::Control { .. } => None,
        }
    }

    /// What packets showed, if it was a tunnel.
    pub(crate) fn tunnel(&self) -> Option<&TunnelDetail> {
        match &self.detail {
            Detail::Tunnel(detail) => Some(detail),
            _ => None,
        }
    }
}

impl TrafficDetail {
    /// Whether somebody else took time of the cores: a closed loop leaves one of them no rest, and
    /// an open one is late only then.
    pub(crate) fn is_disturbed(&self) -> bool {
        match self.open_loop {
            None => self.target_busy.max(self.load_busy) < UNDISTURBED,
            Some(OpenLoop { late, .. }) => late > LATE_AT_MOST,
        }
    }
}

/// CPU clocks of all parties at one moment.
struct Clocks {
    at: Instant,
    target: Duration,
    backend: Duration,
    generator: Duration,
}

/// Puts traffic on a target: at a constant rate of requests a second, or as fast as it answers.
pub(crate) fn traffic(
    lab: &Lab,
    instance: &Instance,
    site: &Site,
    traffic: &Traffic,
    rate: Option<f64>,
    settings: &Settings,
) -> anyhow::Result<Trial> {
    let tls = match traffic.tls {
        Tls::Off => None,
        tls => Some(client(instance, tls == Tls::Resumed)?),
    };
    let mut plan = Plan::from(Load {
        address: if tls.is_some() { instance.https } else { instance.http },
        tls,
        requests: requests(site, traffic.body)?,
        connections: traffic.connections,
        reuse: traffic.reuse,
        timeout: TIMEOUT,
    });
    if let Some(rate) = rate {
        // The same connections as in the closed loop: what finds none free waits, and that counts.
        let (connections, rate) = (traffic.connections, Profile::constant(rate));
        plan.pace = Pace::Open { rate, connections, max_connections: connections };
    }
    let mut generator = Generator::new(plan)?;
    let target = instance.process.processes()?;
    let backend = lab.backend().processes()?;
    let clocks = || -> anyhow::Result<Clocks> {
        Ok(Clocks {
            at: Instant::now(),
            target: system::cpu_time(&target)?,
            backend: system::cpu_time(&backend)?,
            generator: system::own_cpu_time()?,
        })
    };

    // Connections that are kept belong to no request: all of them stand, and their handshakes are
    // over on both sides, before the window opens.
    generator.drive_until_warm(WARM_WITHIN)?;
    generator.drive(settings.warm_up)?;
    let warm_up = generator.stats.requests;
    let (_, connections_before) = lab.backend_counts()?;
    generator.stats.reset();
    let punctual_before = generator.punctuality;
    let before = clocks()?;
    generator.drive(settings.window)?;
    let after = clocks()?;
    let memory = system::memory(&target)?;
    let (_, connections_after) = lab.backend_counts()?;

    let stats = &generator.stats;
    if stats.failure_share() > FAILURES_ALLOWED {
        bail!("{}: too many failures: {}", instance.name, stats.failure_text());
    }
    if stats.requests == 0 {
        bail!("{}: no request was answered within {:?}", instance.name, settings.window);
    }
    let resumed = stats.resumed as f64 / stats.connections.max(1) as f64;
    if traffic.tls == Tls::Resumed && resumed < RESUMED_AT_LEAST {
        bail!("{}: only {:.1} % of the handshakes resumed", instance.name, resumed * 100.0);
    }
    if traffic.tls == Tls::Full && stats.resumed > 0 {
        bail!("{}: {} handshakes resumed where none may", instance.name, stats.resumed);
    }
    let elapsed = (after.at - before.at).as_secs_f64();
    let requests = stats.requests as f64;
    let each = |time: Duration| time.as_secs_f64() * 1e6 / requests;
    let open_loop = rate.map(|rate| {
        let due = generator.punctuality.operations - punctual_before.operations;
        let late = generator.punctuality.late - punctual_before.late;
        let due = due.max(1) as f64;
        OpenLoop { rate, answered: requests / due, late: late as f64 / due }
    });
    let target_time = after.target - before.target;
    let (generator_time, backend_time) =
        (after.generator - before.generator, after.backend - before.backend);
    let target_busy = target_time.as_secs_f64() / elapsed;
    let load_busy = (generator_time + backend_time).as_secs_f64() / elapsed;
    // The second question to the backend came on a connection of its own.
    let upstream = connections_after.saturating_sub(connections_before + 1) as f64;
    Ok(Trial {
        target: instance.name.clone(),
        pass: 0,
        cost: each(target_time),
        operations: stats.requests,
        all_requests: warm_up + stats.requests,
        detail: Detail::Traffic(TrafficDetail {
            requests_per_second: requests / elapsed,
            p50_us: stats.latency_us(0.5),
            p99_us: stats.latency_us(0.99),
            open_loop,
            latency: Distribution::of(&stats.latency),
            memory,
            target_busy,
            load_busy,
            limited_by_load: match open_loop {
                None => load_busy > SATURATED && target_busy < SATURATED,
                Some(OpenLoop { late, .. }) => late > LATE_AT_MOST,
            },
            generator_us: each(generator_time),
            backend_us: each(backend_time),
            upstream_connections: upstream / requests,
            failures: stats.failures.iter().map(|(kind, count)| (kind.name(), *count)).collect(),
            tls: generator.tls_seen().keys().cloned().collect(),
        }),
    })
}

/// Holds idle connections at a target that has served nothing before.
pub(crate) fn idle(
    instance: &Instance,
    site: &Site,
    tls: bool,
    connections: usize,
) -> anyhow::Result<Trial> {
    let tls = if tls { Some(client(instance, false)?) } else { None };
    let mut plan = Plan::from(Load {
        address: if tls.is_some() { instance.https } else { instance.http },
        tls,
        requests: requests(site, ANSWER)?,
        connections,
        reuse: Reuse::Hold,
        timeout: TIMEOUT,
    });
    plan.sources = sources(connections, system::local_ports()?);
    let mut generator = Generator::new(plan)?;
    let processes = instance.process.processes()?;
    let before = system::memory(&processes)?;
    generator.drive_until_held(idle_limit(connections))?;
    generator.drive(SETTLE)?;
    let stats = &generator.stats;
    if generator.held() < connections || stats.failure_count() > 0 {
        bail!("{}: idle connections were lost: {}", instance.name, stats.failure_text());
    }
    let after = system::memory(&processes)?;
    let connections = connections as u64;
    Ok(Trial {
        target: instance.name.clone(),
        pass: 0,
        cost: (after.pss as f64 - before.pss as f64) / 1024.0 / connections as f64,
        operations: connections,
        all_requests: stats.requests,
        detail: Detail::Idle { before, after },
    })
}

/// Loopback addresses for so many connections, each good for half of the ports: others are in use
/// here and there. Never one alone, so that every run shows that several work.
fn sources(connections: usize, ports: u64) -> Vec<IpAddr> {
    let each = usize::try_from(ports / 2).unwrap_or(usize::MAX).max(1);
    let addresses = connections.div_ceil(each).clamp(2, 200);
    (1..=addresses as u8).map(|last| IpAddr::from([127, 0, 0, last])).collect()
}

/// Time allowed for opening so many idle connections.
fn idle_limit(connections: usize) -> Duration {
    let connections = u32::try_from(connections).unwrap_or(u32::MAX);
    Duration::from_secs(20) + Duration::from_millis(4) * connections
}

fn client(
    instance: &Instance,
    resume: bool,
) -> anyhow::Result<std::sync::Arc<rustls::ClientConfig>> {
    client_config(Trust::Exactly(instance.certificate.clone()), Offer::OneSuite, resume)
}

/// One request for each route, in an order in which neighbours don't follow each other.
fn requests(site: &Site, body: u64) -> anyhow::Result<Vec<Request>> {
    /// Prime, so that its multiples reach every place of a table of any size it does not divide.
    const STRIDE: usize = 7919;
    let routes: Vec<_> = site.routes().collect();
    (0..routes.len())
        .filter_map(|place| routes.get(place * STRIDE % routes.len()))
        .map(|route| {
            let path = if body == ANSWER { route.path.clone() } else { format!("/bytes/{body}") };
            Request::get(route.host, &path, Some(body))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn idle_connections_begin_at_as_many_addresses_as_ports_demand() {
        assert_eq!(sources(500, 28_000).len(), 2);
        assert_eq!(sources(50_000, 28_000).len(), 4);
        assert_eq!(sources(50_000, 28_000)[3], IpAddr::from([127, 0, 0, 4]));
    }

    #[test]
    fn every_route_is_requested_once_a_turn() {
        for routes in [10, 10_000] {
            let all = requests(&Site::with_routes(routes), ANSWER).expect("requests");
            let different: BTreeSet<_> = all.iter().map(|request| &request.bytes).collect();
            assert_eq!((all.len(), different.len()), (routes, routes));
        }
    }
}
