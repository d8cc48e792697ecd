//! `loadtest run`: load on one URL.

use std::io::{self, Write};
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::cli;
use crate::compare::FAILURES_ALLOWED;
use crate::load::tls::{Offer, Trust, client_config};
use crate::load::{Generator, Load, Request, Reuse};
use crate::system;

/// Time allowed for a request.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Runs the load and prints what came of it; false if too much failed.
pub(crate) fn run(arguments: &cli::Run) -> anyhow::Result<bool> {
    system::require_open_files(u64::from(arguments.connections) + 64)?;
    if let Some(core) = arguments.core {
        system::pin(core)?;
    }
    let mut generator = Generator::new(load(arguments)?)?;
    let (start, cpu) = (Instant::now(), system::own_cpu_time()?);
    generator.drive(Duration::from_secs_f64(arguments.seconds))?;
    generator.drain(TIMEOUT)?;
    let (time, cpu) = (start.elapsed(), system::own_cpu_time()? - cpu);
    print(&generator, time, cpu).context("standard output")?;
    Ok(generator.stats.failure_share() <= FAILURES_ALLOWED)
}

fn load(arguments: &cli::Run) -> anyhow::Result<Load> {
    let url = &arguments.url;
    let is_tls = match url.scheme_str() {
        Some("http") => false,
        Some("https") => true,
        _ => bail!("{url}: begin it with http:// or https://"),
    };
    let host = url.authority().with_context(|| format!("{url}: has no host"))?;
    let path = url.path_and_query().map_or("/", |path| path.as_str());
    let mut request = Request::get(host.as_str(), path, arguments.length)?;
    request.status = arguments.status;
    let tls = match (is_tls, &arguments.ca) {
        (false, _) => None,
        (true, Some(file)) => Some(Trust::from_pem_file(file)?),
        (true, None) if arguments.insecure => Some(Trust::Anyone),
        (true, None) => bail!("{url}: say whom to believe: --ca FILE, or --insecure for anybody"),
    };
    let tls = tls.map(|trust| client_config(trust, Offer::All, arguments.resume)).transpose()?;
    let address = match arguments.connect {
        Some(address) => address,
        None => resolve(url.host().unwrap_or_default(), host.port_u16(), is_tls)?,
    };
    Ok(Load {
        address,
        tls,
        requests: vec![request],
        connections: arguments.connections as usize,
        reuse: if arguments.no_keepalive { Reuse::Never } else { Reuse::KeepAlive },
        timeout: TIMEOUT,
    })
}

fn resolve(host: &str, port: Option<u16>, is_tls: bool) -> anyhow::Result<SocketAddr> {
    let port = port.unwrap_or(if is_tls { 443 } else { 80 });
    let host = host.trim_start_matches('[').trim_end_matches(']');
    (host, port)
        .to_socket_addrs()
        .with_context(|| format!("{host}: can't be resolved"))?
        .next()
        .with_context(|| format!("{host}: has no address"))
}

fn print(generator: &Generator, time: Duration, cpu: Duration) -> io::Result<()> {
    let stats = &generator.stats;
    let seconds = time.as_secs_f64();
    let each = |total: f64| total / (stats.requests.max(1) as f64);
    let mut out = io::stdout().lock();
    writeln!(out, "requests     {} ({:.0}/s)", stats.requests, stats.requests as f64 / seconds)?;
    writeln!(out, "content      {:.1} MiB/s", stats.body_bytes as f64 / seconds / 1_048_576.0)?;
    let [p50, p90, p99, p999] = [0.5, 0.9, 0.99, 0.999].map(|quantile| stats.latency_us(quantile));
    let most = stats.latency.max() as f64 / 1_000.0;
    writeln!(
        out,
        "latency µs   p50 {p50:.0}  p90 {p90:.0}  p99 {p99:.0}  p99.9 {p999:.0}  max {most:.0}"
    )?;
    writeln!(out, "connections  {} made, {} resumed", stats.connections, stats.resumed)?;
    for (parameters, count) in generator.tls_seen() {
        writeln!(out, "tls          {parameters} ({count} handshakes)")?;
    }
    writeln!(out, "failures     {}", stats.failure_text())?;
    writeln!(
        out,
        "generator    {:.2} µs CPU a request, {:.0} % of a core",
        each(cpu.as_secs_f64() * 1e6),
        cpu.as_secs_f64() / seconds * 100.0
    )
}
