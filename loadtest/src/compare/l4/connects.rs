//! How long a connection takes to come about, with many Services and with few.

use std::net::{IpAddr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::Context;
use socket2::{Domain, Socket, Type};

use super::{Ground, finish, reported};
use crate::compare::passes::{Passes, there_and_back};
use crate::compare::report::ScenarioReport;
use crate::compare::scenario::Scenario;
use crate::compare::trial::{Detail, Trial};
use crate::lab::l4::{Path4, Services, Station};

/// Connections to each in a pass.
const CONNECTIONS: usize = 10_000;
/// In a quick run.
const QUICK_CONNECTIONS: usize = 500;
/// A quick run has this share of the Services.
const QUICK_SHARE: u16 = 10;
/// Connections to one before it is the other's turn: both have to see the same moment.
const TURN: usize = 250;
/// For each.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) fn measure(
    ground: &mut Ground<'_>,
    scenario: &'static Scenario,
    many: u16,
    few: u16,
    passes: &mut Passes,
) -> anyhow::Result<ScenarioReport> {
    let quick = ground.settings.quick;
    let many_services = if quick { many / QUICK_SHARE } else { many };
    let all = if quick { QUICK_CONNECTIONS } else { CONNECTIONS };
    let services = |name, services| Services { name, services, endpoints: 10, path: Path4::Kernel };
    let stations = vec![
        ground.gateway(services("many services", many_services))?,
        ground.gateway(services("few services", few))?,
    ];
    let mut trials = Vec::new();
    for pass in 0..ground.settings.passes {
        passes.next("pass", pass, ground.settings.passes, "both in turn");
        let mut latencies = [Vec::with_capacity(all), Vec::with_capacity(all)];
        let _inside = ground.network.client.enter()?;
        for turn in 0..all.div_ceil(TURN) {
            let both = stations.iter().zip(&mut latencies);
            for (station, latencies) in there_and_back(both, u32::try_from(turn)?) {
                one_turn(station, latencies)?;
            }
        }
        for (station, each) in stations.iter().zip(latencies) {
            let median = median(each).context("invariant: there were connections")?;
            trials.push(Trial {
                target: station.name.clone(),
                pass,
                cost: median,
                operations: all as u64,
                all_requests: 0,
                detail: Detail::Control { each: Vec::new(), clients: None },
            });
        }
    }
    let mut report = reported(scenario, &stations, trials, ground.settings);
    if quick {
        report.notes.push(format!("{many_services} Services only: a quick run"));
    }
    finish(stations)?;
    Ok(report)
}

/// Connects, one after the other, from different addresses.
fn one_turn(station: &Station, latencies: &mut Vec<f64>) -> anyhow::Result<()> {
    let sources = station.edge.sources();
    for number in 0..TURN {
        let source = sources.get(number % sources.len()).context("invariant: there are some")?;
        latencies.push(connect(*source, station.address)?.as_secs_f64() * 1e6);
    }
    Ok(())
}

fn connect(source: IpAddr, address: SocketAddr) -> anyhow::Result<Duration> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    // Closed by RST, so that neither side keeps its port.
    socket.set_linger(Some(Duration::ZERO))?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    socket.set_write_timeout(Some(TIMEOUT))?;
    let start = Instant::now();
    socket.connect(&address.into()).with_context(|| format!("{address}"))?;
    let elapsed = start.elapsed();
    drop(TcpStream::from(socket));
    Ok(elapsed)
}

fn median(mut figures: Vec<f64>) -> Option<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied()
}
