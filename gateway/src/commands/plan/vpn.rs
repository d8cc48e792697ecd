//! The VPN plane's part of `gateway plan`.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::IpAddr;

use ::plan::vpn::{ConnectionPlan, Policy, VpnPlan};
use anyhow::Result;
use ipnet::IpNet;
use model::ObjectKey;
use model::snapshot::vpn::{Auto, LocalAddress, NatPair, RemoteGateway, VpnAuth};
use model::suite::Proposal;
use serde::Serialize;

use super::super::table;

/// The plan as JSON. Never holds a key.
#[derive(Serialize)]
pub(super) struct Document {
    connections: BTreeMap<String, Connection>,
    /// What is refused; its remote networks are among the routes.
    refused: Vec<String>,
    routes: Vec<IpNet>,
    exempt: Vec<IpNet>,
    /// The text that brings the guard table up whole.
    nftables: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Connection {
    gateway: String,
    local: String,
    vip: Option<IpAddr>,
    auto: &'static str,
    auth: &'static str,
    zone: Option<String>,
    ike: Vec<String>,
    single_source: Option<IpAddr>,
    children: Vec<Child>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Child {
    name: String,
    local: Vec<IpNet>,
    remote: Vec<IpNet>,
    local_nat: Vec<String>,
    remote_nat: Vec<String>,
    sources: Option<Vec<IpNet>>,
    local_selectors: Vec<IpNet>,
    remote_selectors: Vec<IpNet>,
    esp: Vec<String>,
}

impl Document {
    pub(super) fn new(plan: &VpnPlan, refused: &[&ObjectKey]) -> Self {
        let connections = plan.connections.iter();
        Self {
            connections: connections
                .map(|(key, plan)| (key.to_string(), Connection::from(plan)))
                .collect(),
            refused: refused.iter().map(ToString::to_string).collect(),
            routes: plan.routes.clone(),
            exempt: plan.exempt.clone(),
            nftables: plan.table.clone(),
        }
    }
}

impl From<&ConnectionPlan> for Connection {
    fn from(plan: &ConnectionPlan) -> Self {
        let connection = &plan.connection;
        let children = connection.children.iter().zip(&plan.policies);
        Self {
            gateway: gateway(&connection.remote.gateway),
            local: local(plan),
            vip: plan.vip,
            auto: auto(connection.auto),
            auth: auth(&connection.auth),
            zone: connection.zone.clone(),
            ike: texts(&connection.ike),
            single_source: connection.single_source,
            children: children
                .map(|(child, policy)| Child {
                    name: policy.child.clone(),
                    local: policy.local.clone(),
                    remote: policy.remote.clone(),
                    local_nat: policy.local_nat.iter().map(pair).collect(),
                    remote_nat: policy.remote_nat.iter().map(pair).collect(),
                    sources: policy.sources.clone(),
                    local_selectors: policy.local_selectors.clone(),
                    remote_selectors: policy.remote_selectors.clone(),
                    esp: texts(if child.esp.is_empty() { &connection.esp } else { &child.esp }),
                })
                .collect(),
        }
    }
}

pub(super) fn write_tables(
    plan: &VpnPlan,
    refused: &[&ObjectKey],
    out: &mut impl Write,
) -> Result<()> {
    writeln!(out, "\nVPN CONNECTIONS: {}", plan.connections.len())?;
    let good = plan.connections.iter();
    let mut rows: Vec<[String; 7]> =
        good.map(|(key, plan)| connection_row(&key.to_string(), plan)).collect();
    rows.extend(refused.iter().map(|key| {
        let [a, b, c, d, e] = std::array::from_fn(|_| "-".to_owned());
        [key.to_string(), "refused".to_owned(), a, b, c, d, e]
    }));
    rows.sort();
    if !rows.is_empty() {
        let headings = ["CONNECTION", "STATE", "GATEWAY", "LOCAL", "AUTO", "AUTH", "ZONE"];
        table::write(out, headings, &rows)?;
    }
    if !plan.connections.is_empty() {
        writeln!(out)?;
        let rows: Vec<[String; 6]> = plan
            .connections
            .iter()
            .flat_map(|(key, plan)| {
                let rows = plan.policies.iter();
                rows.map(move |policy| child_row(&key.to_string(), plan, policy))
            })
            .collect();
        let headings = ["CHILD", "PODS SEE", "FROM", "SELECTORS HERE", "SELECTORS THERE", "NAT"];
        table::write(out, headings, &rows)?;
    }
    writeln!(out, "\nGUARDED: {}", listed(&plan.routes))?;
    if !plan.exempt.is_empty() {
        writeln!(out, "EXEMPT: {}", listed(&plan.exempt))?;
    }
    if !plan.table.is_empty() {
        writeln!(out, "\nVPN NFTABLES\n{}", plan.table.trim_end())?;
    }
    Ok(())
}

fn connection_row(name: &str, plan: &ConnectionPlan) -> [String; 7] {
    let connection = &plan.connection;
    [
        name.to_owned(),
        "good".to_owned(),
        gateway(&connection.remote.gateway),
        local(plan),
        auto(connection.auto).to_owned(),
        auth(&connection.auth).to_owned(),
        connection.zone.clone().unwrap_or_else(|| "-".to_owned()),
    ]
}

fn child_row(name: &str, plan: &ConnectionPlan, policy: &Policy) -> [String; 6] {
    let mut nat: Vec<String> = Vec::new();
    nat.extend(plan.connection.single_source.map(|address| format!("all from {address}")));
    nat.extend(policy.local_nat.iter().map(|one| format!("local {}", pair(one))));
    nat.extend(policy.remote_nat.iter().map(|one| format!("remote {}", pair(one))));
    if nat.is_empty() {
        nat.push("-".to_owned());
    }
    [
        format!("{name} {}", policy.child),
        listed(&policy.remote),
        listed(policy.sources.as_ref().unwrap_or(&policy.local)),
        listed(&policy.local_selectors),
        listed(&policy.remote_selectors),
        nat.join(", "),
    ]
}

fn gateway(gateway: &RemoteGateway) -> String {
    match gateway {
        RemoteGateway::Any => "%any".to_owned(),
        RemoteGateway::Address(address) => address.to_string(),
        RemoteGateway::Name(name) => name.clone(),
    }
}

fn local(plan: &ConnectionPlan) -> String {
    match (&plan.connection.local.address, plan.vip) {
        (LocalAddress::Route, _) => "by route".to_owned(),
        (LocalAddress::Address(address), _) => address.to_string(),
        (LocalAddress::Pool(pool), Some(vip)) => format!("{vip} ({pool})"),
        (LocalAddress::Pool(pool), None) => format!("none yet ({pool})"),
    }
}

fn auto(auto: Auto) -> &'static str {
    match auto {
        Auto::Add => "add",
        Auto::Start => "start",
        Auto::Route => "route",
    }
}

fn auth(auth: &VpnAuth) -> &'static str {
    match auth {
        VpnAuth::Psk(_) => "psk",
        VpnAuth::Certificate { .. } => "certificate",
    }
}

fn pair(pair: &NatPair) -> String {
    format!("{}={}", pair.inside, pair.outside)
}

fn texts(proposals: &[Proposal]) -> Vec<String> {
    proposals.iter().map(ToString::to_string).collect()
}

fn listed(networks: &[IpNet]) -> String {
    if networks.is_empty() {
        return "none".to_owned();
    }
    networks.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ")
}
