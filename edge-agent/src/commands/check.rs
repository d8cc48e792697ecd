//! `edge-agent check`: what is wrong with the configuration and what it leads to.

use std::io::Write;
use std::process::ExitCode;

use anyhow::{Result, bail};
use clap::Args;
use cluster::access;
use model::{Diagnostic, ObjectRef, Severity};

use super::{ConfigArgs, Output, block_on, json};
use crate::config::{Config, Source};
use crate::source;
use crate::view::Finding;

/// What is to be checked.
#[derive(Args, Clone, Debug)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// How the result is written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// Reads the configuration and, with a directory for a source, its objects; with the API for one,
/// asks what the agent may do there. 1 if something is refused or not allowed.
///
/// # Errors
/// If the configuration is wrong, or objects can't be had.
pub fn run(args: &CheckArgs, out: &mut impl Write) -> Result<ExitCode> {
    let config = Config::load(&args.config.config)?;
    let found = match &config.source {
        Source::Manifests(root) => of_directory(&config, root)?,
        Source::Kubernetes { .. } => block_on(of_cluster(&config))??,
    };
    let refused = found.iter().any(|found| found.severity == Severity::Error);
    match args.output {
        Output::Table => {
            for found in &found {
                writeln!(out, "{found}")?;
            }
            if !refused {
                writeln!(out, "the configuration holds for Node {}", config.overlay.name)?;
            }
        }
        Output::Json => {
            let found: Vec<Finding> = found.iter().map(Finding::of).collect();
            json(out, &found)?;
        }
    }
    Ok(if refused { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

fn of_directory(config: &Config, root: &std::path::Path) -> Result<Vec<Diagnostic>> {
    let delivery = ::source::directory::read(root)?;
    let (snapshot, ingested) = ingest::ingest(&delivery.objects, &config.settings());
    let mut found = delivery.diagnostics;
    let ours = |kind: &str| matches!(kind, "Node" | "EdgeGateway" | "IPAMBlock");
    found.extend(ingested.into_iter().filter(|found| ours(&found.object.kind)));
    let node = ObjectRef::cluster("Node", &config.overlay.name);
    if !snapshot.nodes.contains_key(&config.overlay.name) {
        let reason = format!("is not among the manifests in {}", root.display());
        found.push(
            Diagnostic::error(node, "", reason)
                .remedy("add it, or write another nodeName in the agent's configuration"),
        );
    }
    if snapshot.edges.is_empty() {
        let object = ObjectRef::cluster("AgentConfig", &config.overlay.name);
        let reason = "there is no EdgeGateway among the manifests, so there is nobody to reach";
        found.push(
            Diagnostic::warning(object, "source.manifests", reason)
                .remedy("add what `edgegateway.yaml` in the gateways' state directories says"),
        );
    }
    Ok(found)
}

async fn of_cluster(config: &Config) -> Result<Vec<Diagnostic>> {
    let Some(cluster) = source::connect(config).await? else {
        bail!("source.kubernetes is missing");
    };
    let what = source::what(&config.overlay.name);
    let mut needs = what.needs;
    for selected in &what.kinds {
        let place = selected.kind.place();
        for verb in ["list", "watch"] {
            needs.push(access::Need {
                verb,
                group: place.group,
                resource: place.resource,
                subresource: None,
                namespace: None,
                purpose: "the agent doesn't know what to reach without",
            });
        }
    }
    let missing = access::missing(&cluster.client, &needs).await;
    let missing = missing.map_err(|error| anyhow::anyhow!("{}: {error}", cluster.server))?;
    let object = ObjectRef::cluster("AgentConfig", &config.overlay.name);
    let told = missing.into_iter().map(|need| {
        let reason = format!("may not {} {}; {} it", need.verb, need.resource, need.purpose);
        Diagnostic::error(object.clone(), "source.kubernetes", reason)
            .remedy("add it to the ClusterRole of the agent's service account")
    });
    Ok(told.collect())
}
