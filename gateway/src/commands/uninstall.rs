//! `gateway uninstall`: takes away what a gateway has put on this machine, and may have left there.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result};
use clap::Args;
use netdev::nft::Nft;
use wireguard::{Applier, Interfaces, Scope};

use crate::config::{Config, OnStop};
use crate::l4::sole::Sole;
use crate::metrics::Metrics;
use crate::{l4, overlay, vpn};

/// The arguments of `gateway uninstall`.
#[derive(Args, Clone, Debug)]
pub struct UninstallArgs {
    /// The gateway's configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Removes nftables tables, VIPs, routes, rules and interfaces of each plane that is configured. It
/// goes on past what fails, and answers 1 then. The state directory stays.
///
/// # Errors
/// The configuration is wrong, or a gateway is running.
pub fn run(args: &UninstallArgs, out: &mut impl Write) -> Result<ExitCode> {
    let config = Config::load(&args.config)?;
    for plane in ["l4", "vpn", "overlay"] {
        let _alone = Sole::claim(plane)?;
    }
    let mut failed = Vec::new();
    // The overlay first: what comes over it ends before the guard of remote networks goes.
    if let Some(overlay) = &config.overlay {
        let _alone = Sole::claim("overlay")?;
        let removed = remove_overlay(overlay);
        report(out, "overlay: tunnels, routes, rules and table", removed, &mut failed)?;
    }
    let metrics = Arc::new(Metrics::new(1));
    if let Some(of_l4) = &config.l4 {
        let remove = crate::config::L4 { on_stop: OnStop::Remove, ..of_l4.clone() };
        let plane = l4::Plane::start(&remove, config.alb_ports(), &config.state, &metrics);
        let removed = plane.map(l4::Plane::stop).map_err(|error| vec![error.to_string()]);
        report(out, "l4: VIPs and table", removed, &mut failed)?;
    }
    if let Some(of_vpn) = &config.vpn {
        let remove = crate::config::Vpn { on_stop: OnStop::Remove, ..of_vpn.clone() };
        let plane = vpn::Plane::start(&remove, &metrics);
        let removed = plane.map(vpn::Plane::stop).map_err(|error| vec![error.to_string()]);
        report(out, "vpn: routes and rules", removed, &mut failed)?;
        let removed = remove_guard().map_err(|error| vec![format!("{error:#}")]);
        report(out, "vpn: table; remote networks are no longer guarded", removed, &mut failed)?;
    }
    writeln!(out, "state {}: left there; it has keys and addresses", config.state.display())?;
    if config.source.kubernetes.is_some()
        && let Some(name) = &config.node_name
    {
        writeln!(out, "when the edge is gone for good: kubectl delete edgegateway {name}")?;
    }
    for reason in &failed {
        tracing::error!("not removed: {reason}");
    }
    Ok(if failed.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn report(
    out: &mut impl Write,
    what: &str,
    removed: Result<(), Vec<String>>,
    failed: &mut Vec<String>,
) -> Result<()> {
    match removed {
        Ok(()) => writeln!(out, "{what}: removed")?,
        Err(reasons) => failed.extend(reasons),
    }
    Ok(())
}

fn remove_overlay(config: &crate::config::Overlay) -> Result<(), Vec<String>> {
    let mut failed = Vec::new();
    match Applier::open(Scope::edge()) {
        Ok(mut applier) => {
            failed.extend(applier.remove_all().faults.iter().map(ToString::to_string));
        }
        Err(error) => failed.push(error.to_string()),
    }
    match Interfaces::new(overlay::interfaces(config)) {
        Ok(mut interfaces) => {
            failed.extend(interfaces.remove().iter().map(ToString::to_string));
        }
        Err(error) => failed.push(error.to_string()),
    }
    if failed.is_empty() { Ok(()) } else { Err(failed) }
}

fn remove_guard() -> Result<()> {
    let nft = Nft::find()?;
    nft.apply(&plan::vpn::table::removal()).context("the nftables table inet tidegate-vpn")
}
