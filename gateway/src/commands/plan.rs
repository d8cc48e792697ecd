//! `gateway plan`: what would be in force.

use std::io::{self, Write};
use std::process::ExitCode;

use ::plan::l4::L4Plan;
use ::plan::l7::{AlbPlan, Backend, Certificates, Endpoints, L7Plan, Route, RoutePolicy, Target};
use ::plan::overlay::OverlayPlan;
use anyhow::Result;
use clap::Args;
use serde::Serialize;

use super::{Input, Loaded, Output, table, write_json};

mod l4;
mod overlay;
mod vpn;

/// The arguments of `gateway plan`.
#[derive(Args, Clone, Debug)]
pub struct PlanArgs {
    #[command(flatten)]
    input: Input,
    /// How the plan is written
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

/// The plan as JSON: the ALBs' part as it is, and the L4 plane's beside it.
#[derive(Serialize)]
struct Document<'a> {
    #[serde(flatten)]
    l7: &'a L7Plan,
    #[serde(skip_serializing_if = "Option::is_none")]
    l4: Option<&'a L4Plan>,
    /// The text that brings the kernel's table up whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    nftables: Option<String>,
    /// The VPN plane's part.
    #[serde(skip_serializing_if = "Option::is_none")]
    vpn: Option<vpn::Document>,
    /// The overlay's part, as if all nodes' agents were heard.
    #[serde(skip_serializing_if = "Option::is_none")]
    overlay: Option<&'a OverlayPlan>,
}

/// Writes the plan, and on standard error how much is wrong with the objects. Objects that are
/// refused are no failure here: the rest is the plan.
///
/// # Errors
/// If the configuration or the manifests' directory can't be read.
pub fn run(args: &PlanArgs, out: &mut impl Write) -> Result<ExitCode> {
    let loaded = Loaded::from(&args.input)?;
    if let Some(hint) = loaded.hint() {
        writeln!(io::stderr(), "{hint}")?;
    }
    let nftables = l4::nftables(&loaded);
    let (vpn, refused) = (loaded.vpn.as_ref(), loaded.refused_connections());
    match args.output {
        Output::Json => {
            let document = Document {
                l7: &loaded.plan,
                l4: loaded.l4.as_ref().map(|l4| &l4.plan),
                nftables,
                vpn: vpn.map(|plan| vpn::Document::new(plan, &refused)),
                overlay: loaded.overlay.as_ref(),
            };
            write_json(out, &document)?;
        }
        Output::Table => {
            write_tables(&loaded.plan, out)?;
            if let Some(l4) = &loaded.l4 {
                l4::write_tables(&l4.plan, out)?;
            }
            if let Some(text) = nftables {
                writeln!(out, "\nNFTABLES\n{}", text.trim_end())?;
            }
            if let Some(plan) = vpn {
                vpn::write_tables(plan, &refused, out)?;
            }
            if let Some(plan) = &loaded.overlay {
                overlay::write_tables(plan, out)?;
            }
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write_tables(plan: &L7Plan, out: &mut impl Write) -> Result<()> {
    for (kind, alb) in &plan.albs {
        writeln!(out, "ALB {kind}, routes: {}", alb.routes.len())?;
        let rows: Vec<[String; 5]> =
            alb.routes.iter().map(|route| route_row(plan, route)).collect();
        if !rows.is_empty() {
            table::write(out, ["HOST", "PATH", "TO", "TREATMENT", "FROM"], &rows)?;
        }
        writeln!(out)?;
        write_certificates(alb, out)?;
        writeln!(out)?;
    }
    writeln!(out, "BACKENDS: {}", plan.backends.len())?;
    let rows: Vec<[String; 3]> = plan
        .backends
        .iter()
        .map(|backend| {
            [backend.service.to_string(), backend.port.clone(), endpoints(&backend.endpoints)]
        })
        .collect();
    if !rows.is_empty() {
        table::write(out, ["SERVICE", "PORT", "ENDPOINTS"], &rows)?;
    }
    Ok(())
}

fn write_certificates(alb: &AlbPlan, out: &mut impl Write) -> Result<()> {
    let certificates = &alb.certificates;
    writeln!(out, "CERTIFICATES: {}", certificates.pairs.len())?;
    let rows: Vec<[String; 2]> = certificates
        .pairs
        .iter()
        .enumerate()
        .map(|(index, pair)| [pair.secret.to_string(), names(certificates, index)])
        .collect();
    if !rows.is_empty() {
        table::write(out, ["SECRET", "FOR"], &rows)?;
    }
    Ok(())
}

/// The names for which a certificate is shown.
fn names(certificates: &Certificates, index: usize) -> String {
    let of = |(name, pair): (&String, &usize)| (*pair == index).then(|| name.clone());
    let exact = certificates.exact.iter().filter_map(of);
    let wildcard = certificates.wildcard.iter().filter_map(of).map(|name| format!("*.{name}"));
    let default = (certificates.default == Some(index)).then(|| "any other name".to_owned());
    exact.chain(wildcard).chain(default).collect::<Vec<_>>().join(", ")
}

fn route_row(plan: &L7Plan, route: &Route) -> [String; 5] {
    let to = match &route.target {
        Target::Backend(id) => {
            plan.backends.get(id.0 as usize).map_or_else(String::new, |backend| {
                let Backend { service, port, .. } = &**backend;
                format!("{service}:{port}")
            })
        }
        Target::Redirect { status, location } => format!("{status} {location}"),
        Target::Unavailable { reason } => format!("503 {reason}"),
    };
    let from = match &route.ingress {
        Some(ingress) => format!("Ingress {ingress} {}", route.field),
        None => "the ALB's default backend".to_owned(),
    };
    [route.host.to_string(), route.path.to_string(), to, treatment(&route.policy), from]
}

/// What differs from handing the request on as it is.
fn treatment(policy: &RoutePolicy) -> String {
    let mut parts = Vec::new();
    if policy.ssl_redirect {
        parts.push("https only".to_owned());
    }
    parts.extend(policy.app_root.as_ref().map(|path| format!("/ to {path}")));
    parts.extend(policy.rewrite.as_ref().map(|path| format!("path {path}")));
    parts.extend(policy.upstream_host.as_ref().map(|host| format!("host {host}")));
    if !policy.allow.is_empty() || !policy.deny.is_empty() {
        parts.push("some clients only".to_owned());
    }
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

fn endpoints(endpoints: &Endpoints) -> String {
    match endpoints {
        Endpoints::Dns { host, port } => format!("{host}:{port} by DNS"),
        Endpoints::Static(all) if all.is_empty() => "none".to_owned(),
        Endpoints::Static(all) => {
            let one = |endpoint: &::plan::l7::Endpoint| match endpoint.terminating {
                true => format!("{} (terminating)", endpoint.address),
                false => endpoint.address.to_string(),
            };
            all.iter().map(one).collect::<Vec<_>>().join(" ")
        }
    }
}
