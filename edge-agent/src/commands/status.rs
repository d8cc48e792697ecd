//! `edge-agent status`: how the running agent is.

use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use clap::Args;

use super::{Output, columns, json};
use crate::config::Config;
use crate::view::{Status, seconds};

/// How long connecting, or an answer, may take.
const ANSWER: Duration = Duration::from_secs(5);
/// The longest answer.
const LONGEST: u64 = 16 << 20;

/// Which agent, and how its answer is written.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// The admin address of the running agent; by default the configuration's, or 127.0.0.1:9902
    #[arg(long, value_name = "ADDRESS")]
    admin: Option<SocketAddr>,
    /// Its configuration, for the admin address
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Asks the agent. 1 if it isn't ready or no edge can be reached.
///
/// # Errors
/// It doesn't answer.
pub fn run(args: &StatusArgs, out: &mut impl Write) -> Result<ExitCode> {
    let address = match (args.admin, &args.config) {
        (Some(address), _) => address,
        (None, Some(path)) => Config::load(path)?.admin.context(
            "admin.listen is null in the configuration, so the agent can't be asked; write an \
             address such as \"127.0.0.1:9902\" there",
        )?,
        (None, None) => SocketAddr::from((Ipv4Addr::LOCALHOST, 9902)),
    };
    let status = ask(reachable(address))?;
    match args.output {
        Output::Json => json(out, &status)?,
        Output::Table => table(out, &status)?,
    }
    let reaches = status.edges.values().any(|edge| edge.state == "alive");
    Ok(if status.ready && reaches { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// An address that listens everywhere is asked over loopback.
fn reachable(address: SocketAddr) -> SocketAddr {
    let ip: IpAddr = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
        other => other,
    };
    SocketAddr::new(ip, address.port())
}

fn ask(address: SocketAddr) -> Result<Status> {
    let mut stream = TcpStream::connect_timeout(&address, ANSWER).with_context(|| {
        format!(
            "no agent answers at {address}: start it (`edge-agent run`), or say where its admin \
             side is with --admin or --config"
        )
    })?;
    let failed = || format!("asking {address}");
    stream.set_read_timeout(Some(ANSWER)).with_context(failed)?;
    write!(stream, "GET /api/v1/status HTTP/1.0\r\nHost: {address}\r\nConnection: close\r\n\r\n")
        .with_context(failed)?;
    let mut answer = Vec::new();
    stream.take(LONGEST).read_to_end(&mut answer).with_context(failed)?;
    let text = String::from_utf8_lossy(&answer);
    match text.split_once("\r\n\r\n") {
        Some((head, body)) if head.split(' ').nth(1) == Some("200") => {
            serde_json::from_str(body).with_context(|| strange(address))
        }
        _ => bail!("{}", strange(address)),
    }
}

fn strange(address: SocketAddr) -> String {
    let version = env!("CARGO_PKG_VERSION");
    format!("{address} answers, but not as an agent of this version ({version}) does")
}

fn table(out: &mut impl Write, status: &Status) -> Result<()> {
    let ready = if status.ready { "ready" } else { "not ready" };
    let ago = |at: u64| seconds(SystemTime::now()).saturating_sub(at);
    writeln!(
        out,
        "node {}: {ready}, version {}, WireGuard in {}",
        status.node, status.version, status.backend
    )?;
    writeln!(
        out,
        "{}: {} ({})",
        status.source.kind,
        status.source.place,
        if status.source.connected { "answers" } else { "doesn't answer" }
    )?;
    let applied = &status.applied;
    writeln!(
        out,
        "{} routes ({} refuse), {} rules; mended {} times",
        applied.routes, applied.unreachable, applied.rules, applied.mended
    )?;
    for condition in &status.conditions {
        writeln!(out, "! {condition}")?;
    }
    let row = |cells: &[&str]| cells.iter().map(|cell| (*cell).to_owned()).collect::<Vec<_>>();
    writeln!(out)?;
    let mut rows = vec![row(&["EDGE", "STATE", "WAY", "ROUND TRIP", "ANSWERED", "ADDRESSES"])];
    for (name, edge) in &status.edges {
        let took = edge.round_trip_millis.map_or("-".to_owned(), |took| format!("{took:.2} ms"));
        let addresses: Vec<String> = edge.addresses.iter().map(ToString::to_string).collect();
        let state =
            if edge.drain { format!("{}, draining", edge.state) } else { edge.state.clone() };
        let answered = format!("{}/{}", edge.answers, edge.probes);
        let way = edge.path.as_deref().unwrap_or("-");
        rows.push(row(&[name, &state, way, &took, &answered, &addresses.join(",")]));
    }
    columns(out, &rows)?;
    if !status.tunnels.is_empty() {
        writeln!(out)?;
        let heads = ["INTERFACE", "EDGE", "ENDPOINT", "HANDSHAKE", "RECEIVED", "SENT", "MTU"];
        let mut rows = vec![row(&heads)];
        for (name, tunnel) in &status.tunnels {
            let endpoint = tunnel.endpoint.map_or("-".to_owned(), |at| at.to_string());
            let handshake = tunnel.last_handshake.map_or("-".to_owned(), |ago| format!("{ago}s"));
            rows.push(vec![
                name.clone(),
                tunnel.edge.clone(),
                endpoint,
                handshake,
                tunnel.received_bytes.to_string(),
                tunnel.sent_bytes.to_string(),
                tunnel.mtu.to_string(),
            ]);
        }
        columns(out, &rows)?;
    }
    if !status.connections.is_empty() || status.egress.is_some() {
        writeln!(out)?;
        let mut rows = vec![row(&["GOES BY", "EDGE"])];
        for (key, edge) in &status.connections {
            rows.push(row(&[key, edge.as_deref().unwrap_or("none: unreachable")]));
        }
        if let Some(edge) = &status.egress {
            rows.push(row(&["egress", edge]));
        }
        columns(out, &rows)?;
    }
    writeln!(out)?;
    let mut rows = vec![row(&["KEY", "GENERATION", "AGE"])];
    for key in &status.keys {
        rows.push(row(&[&key.key, &key.generation.to_string(), &format!("{}s", ago(key.made))]));
    }
    columns(out, &rows)?;
    for finding in &status.findings {
        writeln!(
            out,
            "{}: {} {}: {}",
            finding.severity, finding.object, finding.field, finding.message
        )?;
    }
    Ok(())
}
