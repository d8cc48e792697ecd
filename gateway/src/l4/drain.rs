//! Which entries of the kernel's connection tracking lead to where nothing serves any more.
//!
//! Connections of TCP go on to an endpoint that has left its Service until they end. Of UDP and
//! SCTP, clients would send into the void for as long as they go on sending: their entries are
//! deleted, so that the next packet finds an endpoint that is there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use model::net::Protocol;
use plan::l4::{Frontend, L4Plan, Path};

use super::kernel::Entry;

/// Who may answer behind a frontend.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Answers {
    /// The process that takes connections.
    Itself,
    /// These, sorted.
    Endpoints(Vec<SocketAddr>),
}

/// Where UDP's and SCTP's connections may lead.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Flows(BTreeMap<(Protocol, Frontend), Answers>);

impl Flows {
    /// Those of a plan.
    pub(super) fn of(plan: &L4Plan) -> Self {
        let ports = plan.services.iter().flat_map(|service| &service.ports);
        let mut flows = BTreeMap::new();
        for port in ports.filter(|port| port.protocol != Protocol::Tcp) {
            for frontend in &port.frontends {
                let answers = match port.path {
                    Path::UserSpace(_) => Answers::Itself,
                    Path::Kernel => {
                        Answers::Endpoints(port.endpoints.iter().map(|e| e.address).collect())
                    }
                };
                flows.insert((port.protocol, *frontend), answers);
            }
        }
        Self(flows)
    }

    /// Whether the entry leads elsewhere than these do, and is one of theirs or was one of
    /// `before`'s. `is_local` tells the machine's own addresses, VIPs not among them.
    pub(super) fn is_stale(
        &self,
        before: &Self,
        is_local: impl Fn(IpAddr) -> bool,
        entry: &Entry,
    ) -> bool {
        let (protocol, destination) = (entry.protocol, entry.destination);
        let frontends = [
            Some(Frontend::Vip(destination)),
            Some(Frontend::External(destination)),
            is_local(destination.ip()).then_some(Frontend::NodePort(destination.port())),
        ];
        let find = |flows: &Self| {
            let keys = frontends.iter().flatten();
            keys.filter_map(|frontend| flows.0.get(&(protocol, *frontend)).cloned()).next()
        };
        match find(self) {
            Some(Answers::Itself) => entry.answers != destination,
            Some(Answers::Endpoints(endpoints)) => endpoints.binary_search(&entry.answers).is_err(),
            None => find(before).is_some(),
        }
    }
}

#[cfg(test)]
mod tests;
