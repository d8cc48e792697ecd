//! The L4 plane's part of `gateway plan`.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;

use ::plan::l4::{Frontend, L4Plan, Path, PoolUse, PortPlan, ServicePlan, Stream, StreamTls, Vip};
use anyhow::Result;
use model::snapshot::{Algorithm, Announce, Endpoint, ProxyVersion};

use super::super::{Loaded, table};

/// The kernel's table as text, if there is one: what the gateway gives to `nft -f -` at its start.
pub(super) fn nftables(loaded: &Loaded) -> Option<String> {
    let (l4, settings) = (loaded.l4.as_ref()?, loaded.settings.l4.as_ref()?);
    let mut table = ::plan::l4::table(&l4.plan, settings, &l4.alb_ports);
    table.merge(l4.compiled.table.clone());
    Some(table.load())
}

pub(super) fn write_tables(plan: &L4Plan, out: &mut impl Write) -> Result<()> {
    writeln!(out, "\nPOOLS: {}", plan.pools.len())?;
    let rows: Vec<[String; 3]> = plan.pools.iter().map(pool_row).collect();
    if !rows.is_empty() {
        table::write(out, ["POOL", "IN USE", "OF"], &rows)?;
    }
    writeln!(out, "\nVIPS: {}", plan.vips.len())?;
    let holders = holders(plan);
    let rows: Vec<[String; 5]> = plan.vips.iter().map(|vip| vip_row(vip, &holders)).collect();
    if !rows.is_empty() {
        table::write(out, ["ADDRESS", "POOL", "SIDE", "ANNOUNCE", "HELD BY"], &rows)?;
    }
    writeln!(out, "\nSERVICES: {}", plan.services.len())?;
    let rows: Vec<[String; 6]> = plan
        .services
        .iter()
        .flat_map(|service| service.ports.iter().map(move |port| port_row(service, port)))
        .collect();
    if !rows.is_empty() {
        let headings = ["SERVICE", "PORT", "FRONTENDS", "WAY", "ENDPOINTS", "NOTE"];
        table::write(out, headings, &rows)?;
    }
    Ok(())
}

fn pool_row((name, usage): (&String, &PoolUse)) -> [String; 3] {
    let capacity = match usage.capacity {
        u64::MAX => "2^64 or more".to_owned(),
        capacity => capacity.to_string(),
    };
    [name.clone(), usage.used.to_string(), capacity]
}

/// Who has each address.
fn holders(plan: &L4Plan) -> BTreeMap<IpAddr, Vec<String>> {
    let mut holders: BTreeMap<IpAddr, Vec<String>> = BTreeMap::new();
    for (kind, addresses) in &plan.albs {
        for address in addresses {
            holders.entry(*address).or_default().push(format!("the {kind} ALB"));
        }
    }
    for (service, addresses) in &plan.allocations.services {
        for address in addresses {
            holders.entry(*address).or_default().push(service.clone());
        }
    }
    holders
}

fn vip_row(vip: &Vip, holders: &BTreeMap<IpAddr, Vec<String>>) -> [String; 5] {
    let announce = match vip.announce {
        Announce::L2 => "l2",
        Announce::Bgp => "bgp",
        Announce::None => "none",
    };
    let pool = if vip.pool.is_empty() { "-" } else { &vip.pool };
    let held_by = holders.get(&vip.address).map_or_else(String::new, |names| names.join(", "));
    let visibility = vip.visibility.to_string();
    [vip.address.to_string(), pool.to_owned(), visibility, announce.to_owned(), held_by]
}

fn port_row(service: &ServicePlan, port: &PortPlan) -> [String; 6] {
    let name = match port.name.as_str() {
        "" => format!("{} {}", port.protocol, port.number),
        name => format!("{} {} ({name})", port.protocol, port.number),
    };
    [
        service.service.to_string(),
        name,
        frontends(&port.frontends),
        way(port),
        endpoints(port),
        note(service),
    ]
}

fn frontends(all: &[Frontend]) -> String {
    let one = |frontend: &Frontend| match frontend {
        Frontend::Vip(socket) => socket.to_string(),
        Frontend::External(socket) => format!("{socket} (external)"),
        Frontend::NodePort(number) => format!("*:{number}"),
    };
    if all.is_empty() { "none".to_owned() } else { joined(all.iter().map(one), " ") }
}

fn way(port: &PortPlan) -> String {
    let algorithm = match port.algorithm {
        Algorithm::Random => "random",
        Algorithm::RoundRobin => "round-robin",
        Algorithm::SourceHash => "source-hash",
        Algorithm::Maglev => "maglev",
        Algorithm::LeastConnections => "least-connections",
    };
    let (path, options) = match &port.path {
        Path::Kernel => ("kernel", Vec::new()),
        Path::UserSpace(stream) => ("user space", stream_options(stream)),
    };
    let parts = [path.to_owned(), algorithm.to_owned()].into_iter().chain(options);
    joined(parts, ", ")
}

fn stream_options(stream: &Stream) -> Vec<String> {
    let mut options = Vec::new();
    match &stream.tls {
        StreamTls::Off => {}
        StreamTls::Terminate { secret, pair: Some(_) } => options.push(format!("TLS by {secret}")),
        StreamTls::Terminate { secret, pair: None } => {
            options.push(format!("TLS refused for want of {secret}"));
        }
        StreamTls::Passthrough { hosts } => options.push(format!("TLS for {}", hosts.join(" "))),
    }
    if stream.accept_proxy {
        options.push("PROXY header in".to_owned());
    }
    options.extend(stream.send_proxy.map(|version| match version {
        ProxyVersion::V1 => "PROXY header v1 out".to_owned(),
        ProxyVersion::V2 => "PROXY header v2 out".to_owned(),
    }));
    options.extend(stream.idle_ms.map(|period| format!("idle {period} ms")));
    options
}

fn endpoints(port: &PortPlan) -> String {
    let one = |endpoint: &Endpoint| {
        let mut text = endpoint.address.to_string();
        if endpoint.weight != 1 {
            text += &format!("*{}", endpoint.weight);
        }
        if endpoint.terminating {
            text += " (terminating)";
        }
        text
    };
    match (port.endpoints.is_empty(), port.only_remote) {
        (true, true) => "none on this node".to_owned(),
        (true, false) => "none".to_owned(),
        _ => joined(port.endpoints.iter().map(one), " "),
    }
}

/// What else is to be known of a Service.
fn note(service: &ServicePlan) -> String {
    let mut parts = Vec::new();
    parts.extend(service.pending.clone());
    parts.extend(service.affinity.map(|seconds| format!("same client {seconds} s")));
    if !service.source_ranges.is_empty() {
        parts.push(format!("only from {}", joined(service.source_ranges.iter(), " ")));
    }
    if service.local_only {
        parts.push("local endpoints only".to_owned());
    }
    parts.extend(service.health_check_node_port.map(|port| format!("health on *:{port}")));
    if service.snat {
        parts.push("client's address replaced".to_owned());
    }
    if parts.is_empty() { "-".to_owned() } else { parts.join(", ") }
}

fn joined(all: impl Iterator<Item = impl ToString>, separator: &str) -> String {
    all.map(|one| one.to_string()).collect::<Vec<_>>().join(separator)
}
