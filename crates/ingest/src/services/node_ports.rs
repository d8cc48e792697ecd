//! NodePorts that several Services want.

use std::collections::BTreeMap;
use std::sync::Arc;

use model::snapshot::Service;
use model::{Diagnostic, ObjectKey, ObjectRef, Protocol};

use crate::report::Report;

/// What a Service wants a port of the edge for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Use {
    /// The Service's port of this index.
    Port(usize),
    /// `spec.healthCheckNodePort`
    HealthCheck,
}

/// Gives each NodePort to one Service: the older, then the one whose name comes first. The others
/// go without, and are told.
pub(super) fn settle(services: &mut BTreeMap<ObjectKey, Arc<Service>>, report: &mut Report<'_>) {
    let mut claims = Vec::new();
    for (key, service) in services.iter() {
        let Some(exposure) = &service.exposure else { continue };
        let age = (exposure.created.is_none(), exposure.created);
        let ports = service.ports.iter().enumerate();
        let ports = ports
            .filter_map(|(index, port)| Some((port.protocol, port.node_port?, Use::Port(index))));
        let health = exposure.health_check_node_port;
        let health = health.map(|port| (Protocol::Tcp, port, Use::HealthCheck));
        let all = ports.chain(health);
        claims.extend(all.map(|(protocol, port, what)| (protocol, port, age, key, what)));
    }
    claims.sort_unstable();
    let losers: Vec<_> = claims
        .chunk_by(|a, b| (a.0, a.1) == (b.0, b.1))
        .flat_map(|same| {
            let winner = same.first().map(|(.., key, _)| (*key).clone());
            let losers = same.iter().skip(1);
            losers.filter_map(move |(protocol, port, _, key, what)| {
                Some((winner.clone()?, *protocol, *port, (*key).clone(), *what))
            })
        })
        .collect();
    for (winner, protocol, port, key, what) in losers {
        let Some(service) = services.get_mut(&key).map(Arc::make_mut) else { continue };
        let field = match what {
            Use::Port(index) => {
                let Some(lost) = service.ports.get_mut(index) else { continue };
                lost.node_port = None;
                format!("spec.ports[{index}].nodePort")
            }
            Use::HealthCheck => {
                let Some(exposure) = &mut service.exposure else { continue };
                exposure.health_check_node_port = None;
                "spec.healthCheckNodePort".to_owned()
            }
        };
        let reason = format!("is {winner}'s already for {protocol}, so it isn't opened here");
        report.push(
            Diagnostic::error(ObjectRef::namespaced("Service", &key), field, reason)
                .value(port.to_string())
                .remedy("write another port"),
        );
    }
}
