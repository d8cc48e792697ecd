//! What others may know of the L4 plane.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::net::Visibility;
use model::{Diagnostic, HostAddress};
use plan::l4::{L4Plan, Path, ServicePlan};
use serde::Serialize;

use super::traffic::Sums;

/// What is in force, and what isn't.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct View {
    /// The generation that is to be in force.
    pub desired: u64,
    /// The last one that was in force as a whole.
    pub applied: u64,
    /// The first objects are in force, or have been found to be impossible.
    pub settled: bool,
    /// The part of the plan that the kernel holds: without addresses that are not on an interface.
    pub plan: Arc<L4Plan>,
    /// How far the VIPs have come.
    pub vips: Arc<BTreeMap<IpAddr, VipState>>,
    /// What is wrong.
    pub diagnostics: Vec<Diagnostic>,
    /// The revision of what is held that was acted on last, where several edges share the VIPs.
    pub acted: u64,
    /// The VIPs that are on interfaces.
    pub on: Arc<BTreeSet<IpAddr>>,
    /// The machine's own addresses, VIPs not among them.
    pub host: Arc<Vec<HostAddress>>,
    /// The sides of which an interface works; none before that is known.
    pub sides: Option<Vec<Visibility>>,
}

/// How far a VIP has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct VipState {
    /// Its pool.
    pub pool: String,
    /// Its interface; empty without one.
    pub interface: String,
    /// One word: `probing`, `held`, `duplicate`, `failed`, `homeless`, `elsewhere`.
    pub state: &'static str,
    /// More about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// All that is told to people and to Prometheus.
#[derive(Clone, Debug)]
pub struct Report {
    /// What is to be done.
    pub plan: Arc<L4Plan>,
    /// What is done.
    pub view: Arc<View>,
    /// What went through.
    pub sums: Sums,
}

/// Whether who listens may have something else to do than before: not if all that differs is where
/// the kernel sends connections.
pub fn concerns_listeners(plan: &L4Plan, before: &L4Plan) -> bool {
    let listens = |service: &ServicePlan| {
        service.health_check_node_port.is_some()
            || service.ports.iter().any(|port| port.path != Path::Kernel)
    };
    let changes = plan.changes(before);
    !plan.is_same_but_for_services(before)
        || changes.is_none_or(|all| all.iter().any(|(_, was, is)| listens(was) || listens(is)))
}

#[cfg(test)]
mod tests {
    use model::ObjectKey;
    use model::net::Protocol;
    use model::snapshot::Algorithm;
    use plan::l4::PortPlan;

    use super::*;

    fn service(path: Path, health: Option<u16>) -> Arc<ServicePlan> {
        Arc::new(ServicePlan {
            service: ObjectKey::new("shop", "web"),
            load_balancer: true,
            addresses: Vec::new(),
            pending: None,
            ports: vec![PortPlan {
                name: String::new(),
                protocol: Protocol::Tcp,
                number: 80,
                frontends: Vec::new(),
                endpoints: Arc::default(),
                only_remote: false,
                algorithm: Algorithm::Random,
                path,
            }],
            source_ranges: Vec::new(),
            affinity: None,
            snat: false,
            local_only: false,
            health_check_node_port: health,
            local_endpoints: 0,
        })
    }

    #[test]
    fn listeners_have_nothing_to_do_with_what_the_kernel_sends_on() {
        let plan = |service| L4Plan { services: vec![service], ..L4Plan::default() };
        let kernel = plan(service(Path::Kernel, None));
        let process = plan(service(Path::UserSpace(Box::default()), None));
        let health = plan(service(Path::Kernel, Some(32_000)));
        assert!(!concerns_listeners(&kernel, &kernel));
        assert!(!concerns_listeners(&plan(service(Path::Kernel, None)), &kernel));
        for other in [&process, &health, &L4Plan::default()] {
            assert!(concerns_listeners(other, &kernel) && concerns_listeners(&kernel, other));
        }
        let other = plan(service(Path::UserSpace(Box::default()), None));
        assert!(concerns_listeners(&other, &process));
        let albs = [(model::AlbKind::Public, Vec::new())].into();
        assert!(concerns_listeners(&L4Plan { albs, ..kernel.clone() }, &kernel));
    }
}
