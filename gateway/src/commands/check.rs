//! `gateway check`: what is wrong with the configuration and the objects.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;
use std::process::ExitCode;

use ::plan::overlay::{OverlayPlan, Target};
use anyhow::Result;
use clap::Args;
use model::snapshot::overlay::Node;
use model::{Diagnostic, Severity};
use serde::Serialize;

use super::{Input, Loaded, Output, write_json};

/// The arguments of `gateway check`.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    input: Input,
    /// Let warnings fail too
    #[arg(long)]
    strict: bool,
    /// How findings are written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

#[derive(Serialize)]
struct Report<'a> {
    objects: usize,
    /// Objects of other kinds, left alone.
    ignored: &'a BTreeMap<String, usize>,
    errors: usize,
    warnings: usize,
    /// VpnConnections that are good, and that are refused.
    #[serde(skip_serializing_if = "Option::is_none")]
    vpn: Option<Connections>,
    /// Nodes that the overlay reaches, and all others but this machine.
    #[serde(skip_serializing_if = "Option::is_none")]
    overlay: Option<Nodes>,
    diagnostics: &'a [Diagnostic],
}

#[derive(Serialize)]
struct Connections {
    good: Vec<String>,
    refused: Vec<String>,
}

#[derive(Serialize)]
struct Nodes {
    tunnels: Vec<String>,
    direct: Vec<String>,
}

impl Nodes {
    fn new(plan: &OverlayPlan, nodes: &BTreeMap<String, Node>) -> Self {
        let via: Vec<IpAddr> = plan
            .routes
            .iter()
            .filter_map(|route| match &route.target {
                Target::Via { address, .. } => Some(*address),
                _ => None,
            })
            .collect();
        let is_direct = |node: &Node| node.addresses.iter().any(|address| via.contains(address));
        let direct = nodes.iter().filter(|(_, node)| is_direct(node));
        let direct: Vec<String> = direct.map(|(name, _)| name.clone()).collect();
        let peers = plan.tunnels.iter().flat_map(|tunnel| &tunnel.peers);
        let mut tunnels: Vec<String> =
            peers.map(|peer| peer.name.clone()).filter(|name| !direct.contains(name)).collect();
        tunnels.sort();
        tunnels.dedup();
        Self { tunnels, direct }
    }
}

/// Writes what is wrong. Fails if anything is refused, or with `--strict` at warnings too.
///
/// # Errors
/// If the configuration or the manifests' directory can't be read.
pub fn run(args: &CheckArgs, out: &mut impl Write) -> Result<ExitCode> {
    let loaded = Loaded::from(&args.input)?;
    let report = Report {
        objects: loaded.delivery.objects.len(),
        ignored: &loaded.delivery.ignored,
        errors: loaded.count(Severity::Error),
        warnings: loaded.count(Severity::Warning),
        vpn: loaded.vpn.as_ref().map(|plan| Connections {
            good: plan.connections.keys().map(ToString::to_string).collect(),
            refused: loaded.refused_connections().iter().map(ToString::to_string).collect(),
        }),
        overlay: loaded.overlay.as_ref().map(|plan| Nodes::new(plan, &loaded.nodes)),
        diagnostics: &loaded.diagnostics,
    };
    match args.output {
        Output::Json => write_json(out, &report)?,
        Output::Table => write_table(&report, out)?,
    }
    let failed = report.errors > 0 || (args.strict && report.warnings > 0);
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn write_table(report: &Report<'_>, out: &mut impl Write) -> Result<()> {
    for finding in report.diagnostics {
        writeln!(out, "{finding}")?;
    }
    if !report.ignored.is_empty() {
        let kinds: Vec<String> =
            report.ignored.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        writeln!(out, "left alone: {}", kinds.join(", "))?;
    }
    if let Some(Connections { good, refused }) = &report.vpn {
        let (well, refusals) = (good.len(), refused.len());
        writeln!(out, "vpn connections: {well} good, {refusals} refused")?;
    }
    if let Some(Nodes { tunnels, direct }) = &report.overlay {
        let (tunnels, direct) = (tunnels.len(), direct.len());
        writeln!(out, "overlay: nodes by tunnels {tunnels}, directly {direct}")?;
    }
    let Report { objects, errors, warnings, .. } = report;
    writeln!(out, "objects: {objects}, errors: {errors}, warnings: {warnings}")?;
    Ok(())
}
