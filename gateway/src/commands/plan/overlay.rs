//! The overlay's part of `gateway plan`.

use std::io::Write;

use ::plan::overlay::{OverlayPlan, Selector, Target};
use anyhow::Result;

use super::super::table;

pub(super) fn write_tables(plan: &OverlayPlan, out: &mut impl Write) -> Result<()> {
    writeln!(out, "\nOVERLAY TUNNELS: {}", plan.tunnels.len())?;
    let mut rows: Vec<[String; 4]> = Vec::new();
    for tunnel in &plan.tunnels {
        let what = format!("port {}, MTU {}", tunnel.port, tunnel.mtu);
        rows.push([tunnel.interface.clone(), "this edge".to_owned(), shown(tunnel.key), what]);
        rows.extend(tunnel.peers.iter().map(|peer| {
            let name = format!("Node {}", peer.name);
            [tunnel.interface.clone(), name, shown(peer.key), joined(&peer.allowed)]
        }));
    }
    if !rows.is_empty() {
        table::write(out, ["INTERFACE", "WHO", "KEY", "WHAT"], &rows)?;
    }
    writeln!(out, "\nOVERLAY ROUTES: {}", plan.routes.len())?;
    let rows = plan.routes.iter().map(|route| {
        let target = match &route.target {
            Target::Device(interface) => format!("into {interface}"),
            Target::Via { address, interface } => format!("via {address} on {interface}"),
            Target::Unreachable => "refused".to_owned(),
            Target::Throw => "as without the overlay".to_owned(),
        };
        [route.table.to_string(), route.network.to_string(), target]
    });
    let rows: Vec<[String; 3]> = rows.collect();
    if !rows.is_empty() {
        table::write(out, ["TABLE", "TO", "WHERE"], &rows)?;
        writeln!(out)?;
    }
    let rows = plan.rules.iter().map(|rule| {
        let which = match &rule.selector {
            Selector::All => "all".to_owned(),
            Selector::Mark { value, mask } => format!("mark {value:#x}/{mask:#x}"),
            Selector::From(network) => format!("from {network}"),
            Selector::Incoming(interface) => format!("in through {interface}"),
        };
        let family = if rule.v6 { "IPv6" } else { "IPv4" };
        [rule.priority.to_string(), family.to_owned(), which, rule.table.to_string()]
    });
    let rows: Vec<[String; 4]> = rows.collect();
    if !rows.is_empty() {
        table::write(out, ["RULE", "FAMILY", "PACKETS", "TABLE"], &rows)?;
    }
    if !plan.table.is_empty() {
        writeln!(out, "\nOVERLAY NFTABLES\n{}", plan.table.trim_end())?;
    }
    Ok(())
}

/// A key; that of zeros stands for one that isn't made yet.
fn shown(key: model::PublicKey) -> String {
    if key.0 == [0; 32] { "not made yet".to_owned() } else { key.to_string() }
}

fn joined(networks: &[ipnet::IpNet]) -> String {
    networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
