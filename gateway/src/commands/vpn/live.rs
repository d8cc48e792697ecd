//! `gateway vpn status`, `up`, `down`, `rekey`, `diagnose` and `capture`: of a running gateway.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use base64::Engine as _;
use clap::Args;
use serde::Serialize;

use super::pcap;
use crate::admin::vpn::{Child, Connection, Sa, Vpn};
use crate::commands::client::{Running, find};
use crate::commands::{Output, table, write_json};
use crate::vpn::failure::length;

/// The arguments of `gateway vpn status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    /// One connection; all of them otherwise
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    running: Running,
    /// How it is written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The arguments of `gateway vpn up` and `down`.
#[derive(Args, Clone, Debug)]
pub struct ActArgs {
    /// The connection: NAMESPACE/NAME, or NAME if there is only one such
    #[arg(value_name = "NAME")]
    name: String,
    #[command(flatten)]
    running: Running,
    /// How the answer is written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The arguments of `gateway vpn rekey`.
#[derive(Args, Clone, Debug)]
pub struct RekeyArgs {
    #[command(flatten)]
    act: ActArgs,
    /// What is rekeyed: `ike`, or a child's name; all children otherwise
    #[arg(long, value_name = "ike|CHILD")]
    what: Option<String>,
}

/// The arguments of `gateway vpn capture`.
#[derive(Args, Clone, Debug)]
pub struct CaptureArgs {
    #[command(flatten)]
    act: ActArgs,
    /// For how long
    #[arg(long, value_name = "N", default_value_t = 30,
          value_parser = clap::value_parser!(u64).range(1..=crate::admin::vpn::LONGEST))]
    seconds: u64,
    /// Where to: a pcap file of IKE messages in the clear, for Wireshark or tcpdump
    #[arg(long, value_name = "FILE")]
    write: PathBuf,
}

/// Writes how connections are. Fails if one that is asked for by name is not up.
///
/// # Errors
/// If no gateway can be asked, or there is no such connection.
pub fn status(args: &StatusArgs, out: &mut impl Write) -> Result<ExitCode> {
    let vpn = args.running.client()?.vpn()?;
    let Some(name) = &args.name else {
        match args.output {
            Output::Json => write_json(out, &vpn)?,
            Output::Table => write_all(&vpn, out)?,
        }
        return Ok(ExitCode::SUCCESS);
    };
    let connection = find(&vpn, name)?;
    match args.output {
        Output::Json => write_json(out, connection)?,
        Output::Table => write_one(connection, out)?,
    }
    Ok(if connection.state == "up" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Does `up` or `down`.
///
/// # Errors
/// If no gateway can be asked, or it refuses.
pub fn act(args: &ActArgs, action: &str, out: &mut impl Write) -> Result<ExitCode> {
    let client = args.running.client()?;
    let vpn = client.vpn()?;
    let connection = find(&vpn, &args.name)?;
    client.act(&connection.name, action, Duration::ZERO)?;
    done(&connection.name, action, args.output, out)
}

/// Rekeys.
///
/// # Errors
/// As [`act`].
pub fn rekey(args: &RekeyArgs, out: &mut impl Write) -> Result<ExitCode> {
    let client = args.act.running.client()?;
    let vpn = client.vpn()?;
    let connection = find(&vpn, &args.act.name)?;
    let action = match &args.what {
        Some(what) => format!("rekey?what={what}"),
        None => "rekey".to_owned(),
    };
    client.act(&connection.name, &action, Duration::ZERO)?;
    done(&connection.name, "rekey", args.act.output, out)
}

#[derive(Serialize)]
struct Done<'a> {
    connection: &'a str,
    asked_for: &'a str,
}

fn done(name: &str, action: &str, output: Output, out: &mut impl Write) -> Result<ExitCode> {
    match output {
        Output::Json => write_json(out, &Done { connection: name, asked_for: action })?,
        Output::Table => {
            writeln!(out, "{name}: {action} is under way; `gateway vpn status` shows how it goes")?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

#[derive(Serialize)]
struct Diagnosis<'a> {
    connection: &'a str,
    state: &'a str,
    causes: &'a [crate::admin::vpn::OwnCause],
}

/// Writes what is wrong with a connection: each cause with what was seen and what to change. Fails
/// if it isn't up.
///
/// # Errors
/// If no gateway can be asked, or there is no such connection.
pub fn diagnose(args: &ActArgs, out: &mut impl Write) -> Result<ExitCode> {
    let vpn = args.running.client()?.vpn()?;
    let connection = find(&vpn, &args.name)?;
    let Connection { name, diagnosis, .. } = connection;
    let state = state(connection);
    match args.output {
        Output::Json => {
            write_json(out, &Diagnosis { connection: name, state, causes: diagnosis })?;
        }
        Output::Table => {
            writeln!(out, "{name}: {state}")?;
            for cause in diagnosis {
                let field = if cause.field.is_empty() {
                    String::new()
                } else {
                    format!(" ({})", cause.field)
                };
                writeln!(out, "\n{}{field}", cause.reason)?;
                writeln!(out, "  seen:   {}", cause.seen)?;
                writeln!(out, "  change: {}", cause.change)?;
            }
            if diagnosis.is_empty() {
                writeln!(out, "nothing is wrong that can be seen from here")?;
            }
        }
    }
    Ok(if state == "up" { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Writes decrypted IKE messages to a file.
///
/// # Errors
/// If no gateway can be asked, it refuses, or the file can't be written.
pub fn capture(args: &CaptureArgs, out: &mut impl Write) -> Result<ExitCode> {
    let client = args.act.running.client()?;
    let vpn = client.vpn()?;
    let connection = find(&vpn, &args.act.name)?;
    let action = format!("capture?seconds={}", args.seconds);
    let answer = client.act(&connection.name, &action, Duration::from_secs(args.seconds))?;
    let mut file = pcap::Pcap::new();
    for message in &answer.messages {
        let octets = base64::engine::general_purpose::STANDARD
            .decode(&message.message)
            .context("a message of the capture is not Base64")?;
        let at = Duration::new(message.seconds, message.nanoseconds);
        file.add(at, message.source, message.destination, &octets);
    }
    let shown = args.write.display();
    fs::write(&args.write, file.bytes())
        .with_context(|| format!("--write: {shown} can't be written"))?;
    let count = answer.messages.len();
    match args.act.output {
        Output::Json => {
            write_json(out, &serde_json::json!({"messages": count, "file": args.write}))?;
        }
        Output::Table => writeln!(out, "IKE messages of {}: {count}, in {shown}", connection.name)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn write_all(vpn: &Vpn, out: &mut impl Write) -> Result<()> {
    let rows: Vec<[String; 7]> = vpn
        .connections
        .iter()
        .map(|connection| {
            let sum =
                |pick: fn(&Child) -> u64| size(connection.children.iter().map(pick).sum::<u64>());
            let up = connection.children.iter().filter(|child| !child.sas.is_empty()).count();
            let remote: Vec<String> = connection.remote.iter().map(ToString::to_string).collect();
            let why = connection.last_failure.as_ref().map(|failed| failed.reason.clone());
            [
                connection.name.clone(),
                state(connection).to_owned(),
                if remote.is_empty() { "any".to_owned() } else { remote.join(" ") },
                format!("{up}/{}", connection.children.len()),
                sum(|child| child.counters.sent_bytes),
                sum(|child| child.counters.received_bytes),
                why.unwrap_or_else(|| "-".to_owned()),
            ]
        })
        .collect();
    writeln!(out, "CONNECTIONS: {}", rows.len())?;
    if !rows.is_empty() {
        let headings = ["NAME", "STATE", "REMOTE", "CHILDREN", "SENT", "RECEIVED", "FAILURE"];
        table::write(out, headings, &rows)?;
    }
    if vpn.desired_generation != vpn.applied_generation {
        writeln!(
            out,
            "\nthe latest objects (generation {}) are not in force yet ({} is)",
            vpn.desired_generation, vpn.applied_generation
        )?;
    }
    Ok(())
}

fn write_one(connection: &Connection, out: &mut impl Write) -> Result<()> {
    writeln!(out, "{}: {}", connection.name, state(connection))?;
    let id = |id: &Option<String>| id.clone().unwrap_or_else(|| "any".to_owned());
    let local = connection.local.map_or_else(|| "any".to_owned(), |local| local.to_string());
    let remote: Vec<String> = connection.remote.iter().map(ToString::to_string).collect();
    writeln!(out, "here:  {local} as {}", id(&connection.local_id))?;
    writeln!(out, "there: {} as {}", remote.join(" "), id(&connection.remote_id))?;
    writeln!(
        out,
        "rekeyed: {} IKE, {} child; lost and begun again: {}",
        connection.ike_rekeys, connection.child_rekeys, connection.restarts
    )?;
    if let Some(failed) = &connection.last_failure {
        writeln!(
            out,
            "last failure: {}: {} ({} times, {} ago)",
            failed.reason,
            failed.seen,
            failed.times,
            seconds(failed.ago)
        )?;
    }
    if let Some(next) = connection.next_try_in {
        writeln!(out, "tried again in {}", seconds(next))?;
    }
    let or_dash = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), seconds);
    let rows: Vec<[String; 6]> = connection
        .ike
        .iter()
        .map(|ike| {
            [
                if ike.initiator { "here" } else { "there" }.to_owned(),
                format!("{} - {}", ike.local, ike.remote),
                or_dash(ike.age),
                or_dash(ike.rekey_in),
                ike.round_trip.map_or_else(|| "-".to_owned(), |s| format!("{:.1}ms", s * 1e3)),
                ike.suite.clone().unwrap_or_else(|| "begins".to_owned()),
            ]
        })
        .collect();
    if !rows.is_empty() {
        writeln!(out, "\nIKE SAS: {}", rows.len())?;
        let headings = ["BEGUN", "BETWEEN", "AGE", "REKEY IN", "ROUND TRIP", "SUITE"];
        table::write(out, headings, &rows)?;
    }
    let mut rows: Vec<[String; 8]> = Vec::new();
    let mut narrowed = Vec::new();
    for child in &connection.children {
        let asked = format!("{} - {}", child.local.join(" "), child.remote.join(" "));
        let bytes = [size(child.counters.sent_bytes), size(child.counters.received_bytes)];
        let [sent, received] = bytes;
        let sa = child.sas.iter().find(|sa| sa.sending).or(child.sas.first());
        if sa.is_some_and(|sa| sa.narrowed) {
            narrowed.push(format!("{}: the other end agreed on less than {asked}", child.name));
        }
        let agreed = |sa: &Sa| format!("{} - {}", sa.local.join(" "), sa.remote.join(" "));
        let mtu = sa.and_then(|sa| sa.inner_mtu);
        rows.push([
            child.name.clone(),
            sa.map_or("down", |_| "up").to_owned(),
            sa.map_or_else(|| "-".to_owned(), |sa| seconds(sa.age)),
            or_dash(sa.and_then(|sa| sa.rekey_in)),
            sent,
            received,
            mtu.map_or_else(|| "-".to_owned(), |mtu| mtu.to_string()),
            sa.map_or(asked, agreed),
        ]);
    }
    writeln!(out, "\nCHILDREN: {}", rows.len())?;
    let headings = ["NAME", "STATE", "AGE", "REKEY IN", "SENT", "RECEIVED", "MTU", "SELECTORS"];
    table::write(out, headings, &rows)?;
    for narrowed in narrowed {
        writeln!(out, "{narrowed}")?;
    }
    Ok(())
}

/// Its state; what is told to be down may still be saying so to the other end.
fn state(connection: &Connection) -> &str {
    match connection.state.as_str() {
        "down" if !connection.ike.is_empty() => "going down",
        state => state,
    }
}

/// `1h02m`, `3m07s`, `12s`.
fn seconds(seconds: f64) -> String {
    length(Duration::from_secs(seconds.max(0.0) as u64))
}

/// `12`, `3.4 KiB`, …
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["", " KiB", " MiB", " GiB", " TiB"] {
        if value < 1024.0 || unit == " TiB" {
            return if unit.is_empty() { bytes.to_string() } else { format!("{value:.1}{unit}") };
        }
        value /= 1024.0;
    }
    bytes.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_sizes_are_short() {
        assert_eq!([12.4, 187.0, 3725.0].map(seconds), ["12s", "3m07s", "1h02m"]);
        assert_eq!([0, 1023, 1536, 3 << 30].map(size), ["0", "1023", "1.5 KiB", "3.0 GiB"]);
    }
}
