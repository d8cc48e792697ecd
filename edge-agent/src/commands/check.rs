//! `edge-agent check`: what is wrong with the configuration and what it leads to.

use std::io::Write;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use clap::Args;
use cluster::access;
use cluster::watch::What;
use ingest::Delivery;
use model::{Diagnostic, ObjectRef, Severity};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{ConfigArgs, Output, block_on, json};
use crate::config::{Config, Source};
use crate::source;
use crate::view::Finding;

/// How long the API has to answer at all,
const ANSWER: Duration = Duration::from_millis(4_500);
/// and to tell all objects.
const ALL: Duration = Duration::from_secs(30);

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
/// asks what the agent may do there, and for them. 1 if something is refused or not allowed.
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
    let place = format!("among the manifests in {}", root.display());
    let remedies = [
        "add it, or write another nodeName in the agent's configuration",
        "add what `edgegateway.yaml` in the gateways' state directories says",
    ];
    Ok(of_objects(config, delivery, &place, remedies))
}

/// What is wrong with objects; what to do where the Node is missing, and all EdgeGateways.
fn of_objects(
    config: &Config,
    delivery: Delivery,
    place: &str,
    [for_node, for_edges]: [&str; 2],
) -> Vec<Diagnostic> {
    let (snapshot, ingested) = ingest::ingest(&delivery.objects, &config.settings());
    let mut found = delivery.diagnostics;
    let ours = |kind: &str| matches!(kind, "Node" | "EdgeGateway" | "IPAMBlock");
    found.extend(ingested.into_iter().filter(|found| ours(&found.object.kind)));
    let node = ObjectRef::cluster("Node", &config.overlay.name);
    if !snapshot.nodes.contains_key(&config.overlay.name) {
        let reason = format!("is not {place}");
        found.push(Diagnostic::error(node, "", reason).remedy(for_node));
    }
    if snapshot.edges.is_empty() {
        let object = ObjectRef::cluster("AgentConfig", &config.overlay.name);
        let reason = format!("there is no EdgeGateway {place}, so there is nobody to reach");
        found.push(Diagnostic::warning(object, "source", reason).remedy(for_edges));
    }
    found
}

async fn of_cluster(config: &Config) -> Result<Vec<Diagnostic>> {
    let Some(cluster) = source::connect(config).await? else {
        bail!("source.kubernetes is missing");
    };
    let what = source::what(&config.overlay.name);
    let at = |reason: String| anyhow!("source.kubernetes: {}: {reason}", cluster.server);
    let missing = access::missing(&cluster.client, &what.needs()).await;
    let missing = missing.map_err(|error| at(error.to_string()))?;
    let object = ObjectRef::cluster("AgentConfig", &config.overlay.name);
    let mut found: Vec<Diagnostic> = missing.iter().map(|need| need.finding(&object)).collect();
    let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
    // What is missing is told already.
    let what = What { needs: Vec::new(), owner: None, ..what };
    let pace = cluster::watch::Pace::default();
    let mut watching =
        cluster::watch::start(cluster.client.clone(), what, pace, &tasks, stop.clone());
    watching.answers(ANSWER).await.map_err(at)?;
    let told = tokio::time::timeout(ALL, watching.first()).await;
    if !matches!(told, Ok(true)) {
        bail!("{}", at(format!("it hasn't told all objects within {ALL:?}")));
    }
    let delivery = Delivery::clone(&watching.deliveries.borrow());
    stop.cancel();
    let remedies = [
        "write the Node's name as nodeName in the agent's configuration",
        "run a gateway with overlay.enabled: true that may write its EdgeGateway",
    ];
    found.extend(of_objects(config, delivery, "in the cluster", remedies));
    Ok(found)
}
