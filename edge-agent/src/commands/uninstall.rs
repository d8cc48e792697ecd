//! `edge-agent uninstall`: takes away what the agent has put on this machine and its Node.

use std::io::Write;
use std::process::ExitCode;

use anyhow::Result;
use clap::Args;
use wireguard::{Applier, Interfaces, Scope};

use super::{ConfigArgs, block_on};
use crate::config::Config;
use crate::state::State;
use crate::{publish, source};

/// What is to be taken away.
#[derive(Args, Clone, Debug)]
pub struct UninstallArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Leave the node's keys and what else is in the state directory
    #[arg(long)]
    keep_state: bool,
}

/// Removes rules, routes, the nftables table, interfaces, the Node's annotations and the state. It
/// goes on past what fails, and answers 1 then.
///
/// # Errors
/// The configuration is wrong, or an agent is running.
pub fn run(args: &UninstallArgs, out: &mut impl Write) -> Result<ExitCode> {
    let config = Config::load(&args.config.config)?;
    let state = State::open(&config.state)?;
    let mut failed = Vec::new();
    match Applier::open(Scope::node()) {
        Ok(mut applier) => {
            let report = applier.remove_all();
            writeln!(out, "routes, rules and table: {} changes", report.changes)?;
            failed.extend(report.faults.iter().map(ToString::to_string));
        }
        Err(error) => failed.push(error.to_string()),
    }
    match Interfaces::new(config.interfaces.clone()) {
        Ok(mut interfaces) => {
            failed.extend(interfaces.remove().iter().map(ToString::to_string));
            writeln!(out, "interfaces {}…: removed", config.interfaces.prefix)?;
        }
        Err(error) => failed.push(error.to_string()),
    }
    let node = &config.overlay.name;
    match block_on(withdraw(&config))? {
        Ok(true) => writeln!(out, "annotations of Node {node}: removed")?,
        Ok(false) => {}
        Err(error) => failed.push(format!(
            "annotations of Node {node}: {error}; remove them by hand: kubectl annotate node \
             {node} {}- {}- {}-",
            ingest::overlay::KEYS,
            ingest::overlay::MODE,
            ingest::overlay::AGENT_VERSION
        )),
    }
    if !args.keep_state {
        match state.remove() {
            Ok(()) => writeln!(out, "state {}: removed", config.state.display())?,
            Err(error) => failed.push(error.to_string()),
        }
    }
    for reason in &failed {
        tracing::error!("not removed: {reason}");
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn withdraw(config: &Config) -> Result<bool, String> {
    match source::connect(config).await {
        Ok(None) => Ok(false),
        Ok(Some(cluster)) => {
            publish::withdraw(&cluster.client, &config.overlay.name).await.map(|()| true)
        }
        Err(error) => Err(error.to_string()),
    }
}
