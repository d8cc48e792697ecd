//! One octet to host B and back, again and again.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hdrhistogram::Histogram;

use super::{Meter, Spent, Window};
use crate::compare::Settings;
use crate::compare::trial::TrafficDetail;
use crate::lab::vpn::{Party, Site};
use crate::load::outcome::Distribution;
use crate::system::{self, interrupt};

const PORT: u16 = 5002;
/// An answer that takes so long doesn't come.
const LOST: Duration = Duration::from_secs(10);

/// What a window of it showed.
pub(super) fn window(party: &Party, settings: &Settings) -> anyhow::Result<Window> {
    let listener = party.listener(PORT)?;
    let mut asking = {
        let _inside = party.sites.host(Site::A).enter()?;
        TcpStream::connect_timeout(&SocketAddr::new(Site::B.host(), PORT), LOST)
            .context("host A connects to host B")?
    };
    let (mut answering, _) = listener.accept().context("host B accepts")?;
    for stream in [&asking, &answering] {
        stream.set_nodelay(true).context("a host's connection")?;
        stream.set_read_timeout(Some(LOST)).context("a host's connection")?;
    }
    let meter = Meter::of(party)?;
    std::thread::scope(|scope| {
        let echo = scope.spawn(|| echo(&mut answering, settings.cores.target));
        let mut measured = || -> anyhow::Result<Window> {
            ask(&mut asking, settings.warm_up)?;
            let before = meter.read()?;
            let latency = ask(&mut asking, settings.window)?;
            let after = meter.read()?;
            Ok(Window {
                kind: party.kind,
                pass: 0,
                packets: latency.len() as f64 * 2.0,
                bits: latency.len() as f64 * 16.0,
                packet: 1,
                spent: Meter::spent(&before, &after),
                latency: Some(latency),
            })
        };
        let measured = measured();
        // The echo ends with the connection.
        drop(asking);
        match echo.join() {
            Ok(ended) => ended.context("host B")?,
            Err(_) => bail!("host B: its thread panicked"),
        }
        measured
    })
}

/// Asks for so long; what each answer took, in nanoseconds.
fn ask(stream: &mut TcpStream, time: Duration) -> anyhow::Result<Histogram<u64>> {
    let longest = u64::try_from(LOST.as_nanos()).unwrap_or(u64::MAX) * 2;
    let mut latency = Histogram::new_with_bounds(1_000, longest, 3).context("a histogram")?;
    let until = Instant::now() + time;
    let mut octet = [0x55];
    loop {
        let start = Instant::now();
        if start >= until && !latency.is_empty() {
            return Ok(latency);
        }
        interrupt::check()?;
        stream.write_all(&octet).context("host A asks")?;
        stream.read_exact(&mut octet).context("host A waits for the answer")?;
        latency.saturating_record(u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }
}

fn echo(stream: &mut TcpStream, core: usize) -> anyhow::Result<()> {
    system::pin(core)?;
    let mut octet = [0];
    while stream.read(&mut octet).context("waiting for a question")? > 0 {
        stream.write_all(&octet).context("answering")?;
    }
    Ok(())
}

/// The same as any other traffic has it: a request is a round trip.
pub(super) fn detail(window: &Window, latency: &Histogram<u64>) -> TrafficDetail {
    let Spent { elapsed, hosts, .. } = window.spent;
    let trips = latency.len() as f64;
    let at = |quantile| latency.value_at_quantile(quantile) as f64 / 1e3;
    TrafficDetail {
        requests_per_second: trips / elapsed,
        p50_us: at(0.5),
        p99_us: at(0.99),
        target_busy: window.spent.gateways() / elapsed,
        load_busy: hosts / elapsed,
        generator_us: hosts / trips * 1e6,
        latency: Distribution::of(latency),
        ..TrafficDetail::default()
    }
}
