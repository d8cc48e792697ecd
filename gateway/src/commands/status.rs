//! `gateway status`: how the running gateway is.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;

use super::client::Running;
use super::{Output, table, write_json};
use crate::admin::status::{Edge, Status};

/// The arguments of `gateway status`.
#[derive(Args, Clone, Debug)]
pub struct StatusArgs {
    #[command(flatten)]
    running: Running,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
    /// The same as --output json
    #[arg(long, conflicts_with = "output")]
    json: bool,
}

/// Asks the gateway. 1 if it isn't ready, or holds nothing among other edges.
///
/// # Errors
/// It doesn't answer.
pub fn run(args: &StatusArgs, out: &mut impl Write) -> Result<ExitCode> {
    let status = args.running.client()?.status()?;
    match args.output {
        _ if args.json => write_json(out, &status)?,
        Output::Json => write_json(out, &status)?,
        Output::Table => write(&status, out)?,
    }
    let holds = status.edge.as_ref().is_none_or(|edge| edge.holds_for_ms > 0);
    Ok(if status.ready && holds { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn write(status: &Status, out: &mut impl Write) -> Result<()> {
    let ready = if status.ready { "ready" } else { "not ready" };
    let mut rows = vec![row("gateway", format!("{ready}, version {}", status.version))];
    if let Some(answers) = status.api {
        let answers = if answers { "answers" } else { "doesn't answer" };
        rows.push(row("api", answers.to_owned()));
    }
    if let Some(edge) = &status.edge {
        rows.extend(edge_rows(edge));
    }
    rows.push(row("vips", listed(&status.vips)));
    let connections: Vec<String> =
        status.vpn_connections.iter().map(|(key, state)| format!("{key} ({state})")).collect();
    rows.push(row("vpn", listed(&connections)));
    if let Some(nodes) = &status.nodes {
        rows.push(row("nodes heard", listed(&nodes.heard)));
        rows.push(row("nodes lost", listed(&nodes.lost)));
    }
    rows.push(row("findings", format!("{} errors, {} warnings", status.errors, status.warnings)));
    table::write(out, ["WHAT", "HOW"], &rows)?;
    for finding in &status.findings {
        writeln!(out, "{finding}")?;
    }
    if status.errors + status.warnings > status.findings.len() {
        writeln!(out, "…; /api/v1/diagnostics has all")?;
    }
    Ok(())
}

fn edge_rows(edge: &Edge) -> Vec<[String; 2]> {
    let leader = match &edge.leader {
        Some(leader) if *leader == edge.name => "this edge".to_owned(),
        Some(leader) => leader.clone(),
        None => "none".to_owned(),
    };
    let seconds = |millis: u64| format!("{}.{} s", millis / 1000, millis % 1000 / 100);
    let renewed = match edge.renewed_ms_ago {
        Some(ago) => format!("renewed {} ago", seconds(ago)),
        None => "not renewed".to_owned(),
    };
    let holds = match edge.holds_for_ms {
        0 => "holds nothing".to_owned(),
        left => format!("counts for {}", seconds(left)),
    };
    let others: Vec<String> =
        edge.others.iter().map(|(name, state)| format!("{name} ({state})")).collect();
    vec![
        row("edge", edge.name.clone()),
        row("leader", leader),
        row("lease", format!("{renewed}, {holds}")),
        row("other edges", listed(&others)),
    ]
}

fn row(what: &str, how: String) -> [String; 2] {
    [what.to_owned(), how]
}

fn listed(all: &[String]) -> String {
    if all.is_empty() { "none".to_owned() } else { all.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::admin::status::Nodes;

    #[test]
    fn a_status_is_told_in_lines() {
        let edge = Edge {
            name: "edge-1".to_owned(),
            leader: Some("edge-2".to_owned()),
            holds_for_ms: 1_400,
            renewed_ms_ago: Some(100),
            others: [("edge-2".to_owned(), "cut off".to_owned())].into(),
        };
        let status = Status {
            version: "1".to_owned(),
            ready: true,
            edge: Some(edge),
            api: Some(false),
            vips: vec!["192.0.2.1".to_owned()],
            nodes: Some(Nodes { heard: vec!["n1".to_owned()], lost: Vec::new() }),
            errors: 2,
            findings: vec!["error: one".to_owned()],
            ..Status::default()
        };
        let mut out = Vec::new();
        write(&status, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        for line in [
            "gateway      ready, version 1",
            "api          doesn't answer",
            "leader       edge-2",
            "lease        renewed 0.1 s ago, counts for 1.4 s",
            "other edges  edge-2 (cut off)",
            "vips         192.0.2.1",
            "vpn          none",
            "nodes lost   none",
            "error: one",
        ] {
            assert!(text.lines().any(|one| one == line), "{line}\n{text}");
        }
        assert!(text.ends_with("has all\n"), "{text}");
    }
}
