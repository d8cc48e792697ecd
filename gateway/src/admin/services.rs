//! Body of `/api/v1/services`: who is reached from outside, where, and how much.

use std::collections::BTreeMap;
use std::net::IpAddr;

use model::ObjectKey;
use model::net::Protocol;
use plan::l4::traffic::Traffic;
use plan::l4::{PoolUse, PortPlan, ServicePlan};
use serde::Serialize;

use crate::l4::view::{Report, VipState};

/// All of it.
#[derive(Serialize)]
pub(super) struct Services<'a> {
    /// The generation that is to be in force.
    desired_generation: u64,
    /// The last one that was in force as a whole.
    applied_generation: u64,
    pools: &'a BTreeMap<String, PoolUse>,
    vips: &'a BTreeMap<IpAddr, VipState>,
    services: Vec<Service<'a>>,
}

/// A Service, its ports with what went through them.
#[derive(Serialize)]
struct Service<'a> {
    service: &'a ObjectKey,
    load_balancer: bool,
    /// Those that it was given.
    addresses: &'a [IpAddr],
    #[serde(skip_serializing_if = "Option::is_none")]
    pending: Option<&'a str>,
    /// Those of its addresses that the machine holds.
    held: Vec<IpAddr>,
    ports: Vec<Port<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    health_check_node_port: Option<u16>,
    local_endpoints: usize,
}

#[derive(Serialize)]
struct Port<'a> {
    #[serde(flatten)]
    plan: &'a PortPlan,
    traffic: Traffic,
}

pub(super) fn of(report: &Report) -> Services<'_> {
    let Report { plan, view, .. } = report;
    Services {
        desired_generation: view.desired,
        applied_generation: view.applied,
        pools: &plan.pools,
        vips: &view.vips,
        services: plan.services.iter().map(|service| service_of(report, service)).collect(),
    }
}

fn service_of<'a>(report: &Report, plan: &'a ServicePlan) -> Service<'a> {
    let is_held =
        |address: &IpAddr| report.view.vips.get(address).is_some_and(|vip| vip.state == "held");
    let traffic = |protocol: Protocol, number| {
        let key = (plan.service.clone(), protocol, number);
        report.sums.ports.get(&key).copied().unwrap_or_default()
    };
    Service {
        service: &plan.service,
        load_balancer: plan.load_balancer,
        addresses: &plan.addresses,
        pending: plan.pending.as_deref(),
        held: plan.addresses.iter().copied().filter(is_held).collect(),
        ports: plan
            .ports
            .iter()
            .map(|port| Port { plan: port, traffic: traffic(port.protocol, port.number) })
            .collect(),
        health_check_node_port: plan.health_check_node_port,
        local_endpoints: plan.local_endpoints,
    }
}
