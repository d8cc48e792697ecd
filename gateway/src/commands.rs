//! The commands. Those that need no running gateway read the same objects and make the same plan as
//! `gateway run`, and say what they find; others ask a running one.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use ::plan::l4::{AlbPorts, L4Plan};
use ::plan::l7::L7Plan;
use ::plan::overlay::{EdgeInput, Heard, OverlayPlan};
use ::plan::policy::Compiled;
use ::plan::vpn::VpnPlan;
use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};
use model::snapshot::overlay::Node;
use model::snapshot::policy::Policies;
use model::{Diagnostic, HostAddress, Location, ObjectKey, ObjectRef, Settings, Severity};
use serde::Serialize;

use crate::access_log::Target;
use crate::config::{self, Config};
use crate::source::{Delivery, directory, kubernetes};

pub mod check;
mod client;
pub mod crds;
pub mod explain;
mod machine;
pub mod plan;
pub mod schema;
pub mod status;
mod table;
pub mod uninstall;
pub mod vpn;

/// Where a command finds the objects.
#[derive(Args, Clone, Debug)]
#[group(required = true, multiple = true)]
pub struct Input {
    /// The gateway's configuration
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// A directory of manifests, instead of the configuration's; without a configuration, both
    /// ALBs serve their default classes
    #[arg(long, value_name = "DIR")]
    manifests: Option<PathBuf>,
}

/// How a command writes its result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    #[default]
    Table,
    /// For programs.
    Json,
}

/// What the L4 plane is to do, and what that depends on.
struct L4 {
    plan: L4Plan,
    /// The policies, and what becomes of them.
    policies: Policies,
    compiled: Compiled,
    /// This machine's addresses, if it is the edge.
    host: Vec<HostAddress>,
    /// The ports of ALBs on addresses from pools.
    alb_ports: AlbPorts,
}

/// Everything up to the plan.
struct Loaded {
    settings: Settings,
    delivery: Delivery,
    plan: L7Plan,
    /// Of the L4 plane, if it is enabled.
    l4: Option<L4>,
    /// Of the VPN plane, if it is enabled.
    vpn: Option<VpnPlan>,
    /// Of the overlay, if it is enabled: as if all agents were heard.
    overlay: Option<OverlayPlan>,
    /// The cluster's Nodes, if it is.
    nodes: BTreeMap<String, Node>,
    /// Of every step.
    diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    fn from(input: &Input) -> Result<Self> {
        let config = input.config.as_deref().map(Config::load).transpose()?;
        let source = config.as_ref().map(|config| &config.source);
        let from_config = source.and_then(|source| source.manifests.clone());
        let settings = config.as_ref().map_or_else(config::default_settings, Config::settings);
        let api = source.and_then(|source| source.kubernetes.as_ref());
        let delivery = match (input.manifests.clone().or(from_config), api) {
            (Some(manifests), _) => directory::read(&manifests)?,
            (None, Some(options)) => kubernetes::read(options)?,
            (None, None) => {
                bail!("there are no manifests to read; name their directory with --manifests");
            }
        };
        let (snapshot, found) = ingest::ingest(&delivery.objects, &settings);
        let (plan, more) = ::plan::l7::plan(&snapshot, &settings.albs);
        let mut diagnostics = Vec::new();
        let l4 = settings.l4.as_ref().map(|l4| {
            let state = config.as_ref().map(|config| config.state.as_path());
            let (previous, unreadable) = machine::remembered(state);
            let host = machine::host_addresses(l4);
            let (plan, found) = ::plan::l4::plan(&snapshot, &settings, &host, &previous);
            diagnostics.extend(unreadable.into_iter().chain(found));
            let (compiled, found) = ::plan::policy::compile(&snapshot.policies, l4, &host);
            diagnostics.extend(found);
            let alb_ports = config.as_ref().map(Config::alb_ports).unwrap_or_default();
            L4 { plan, policies: (*snapshot.policies).clone(), compiled, host, alb_ports }
        });
        let is_asked_for = config.is_some() || !delivery.objects.vpn.is_empty();
        let vpn = settings.vpn.as_ref().filter(|_| is_asked_for).map(|_| {
            let vips = l4.as_ref().map(|l4| l4.plan.vpn_addresses()).unwrap_or_default();
            let (plan, found) = ::plan::vpn::plan(&snapshot, &settings, &vips);
            diagnostics.extend(found);
            plan
        });
        let overlay = settings.overlay.as_ref().map(|overlay| {
            let state = config.as_ref().map(|config| config.state.as_path());
            let heard = Heard { live: true, ..Heard::default() };
            let input = EdgeInput {
                keys: machine::overlay_keys(state, overlay.port),
                host: netdev::address::host_addresses().unwrap_or_default(),
                nodes: snapshot.nodes.keys().map(|name| (name.clone(), heard)).collect(),
                vpn_interface: settings.vpn.as_ref().map(|vpn| vpn.interface.clone()),
                outside: config
                    .as_ref()
                    .and_then(crate::overlay::follower::outside)
                    .unwrap_or_default(),
                ..EdgeInput::default()
            };
            let (plan, found) = ::plan::overlay::edge(&snapshot, overlay, &input);
            diagnostics.extend(found);
            plan
        });
        if let (Some(config), Some(path)) = (&config, &input.config) {
            diagnostics.extend(Self::missing_on_disk(config, path));
        }
        diagnostics.extend(delivery.diagnostics.iter().cloned());
        diagnostics.extend(found);
        diagnostics.extend(more);
        Ok(Self {
            settings,
            delivery,
            plan,
            l4,
            vpn,
            overlay,
            nodes: (*snapshot.nodes).clone(),
            diagnostics,
        })
    }

    /// What the configuration names and this machine hasn't.
    fn missing_on_disk(config: &Config, path: &Path) -> Option<Diagnostic> {
        let Some(Target::File(log)) = config.access_log.target() else { return None };
        // A file's name alone has an empty parent: the current folder, which is there.
        let folder = log.parent().filter(|folder| !folder.as_os_str().is_empty())?;
        if folder.is_dir() {
            return None;
        }
        let location = Location { file: path.to_string_lossy().into_owned(), line: 0 };
        Some(
            Diagnostic::error(
                ObjectRef::cluster("GatewayConfig", "gateway"),
                "accessLog.path",
                "its folder does not exist, so `gateway run` could not start",
            )
            .value(log.to_string_lossy())
            .remedy("make the folder, or write \"-\" for standard output")
            .at(Some(location)),
        )
    }

    /// One line about what is wrong, for a command whose result is something else.
    fn hint(&self) -> Option<String> {
        let (errors, warnings) = (self.count(Severity::Error), self.count(Severity::Warning));
        (errors + warnings > 0)
            .then(|| format!("errors: {errors}, warnings: {warnings}; `gateway check` prints them"))
    }

    /// The VpnConnections that are refused.
    fn refused_connections(&self) -> Vec<&ObjectKey> {
        let Some(plan) = &self.vpn else { return Vec::new() };
        let all = self.delivery.objects.vpn.keys();
        all.filter(|key| !plan.connections.contains_key(key)).collect()
    }

    fn count(&self, severity: Severity) -> usize {
        self.diagnostics.iter().filter(|finding| finding.severity == severity).count()
    }
}

/// Turns a command's end into the process's: errors go to standard error. A reader that has had
/// enough (`| head`) is no error.
pub fn finish(result: Result<ExitCode>) -> ExitCode {
    let error = match result {
        Ok(code) => return code,
        Err(error) => error,
    };
    let pipe = |cause: &io::Error| cause.kind() == io::ErrorKind::BrokenPipe;
    if error.chain().any(|cause| cause.downcast_ref().is_some_and(pipe)) {
        return ExitCode::SUCCESS;
    }
    // Nothing is left to be done if even this can't be written.
    let _ = writeln!(io::stderr(), "error: {error:#}");
    ExitCode::FAILURE
}

fn write_json(out: &mut impl Write, value: &impl Serialize) -> Result<()> {
    let text = serde_json::to_string_pretty(value).context("writing JSON")?;
    writeln!(out, "{text}")?;
    Ok(())
}

#[cfg(test)]
mod tests;
