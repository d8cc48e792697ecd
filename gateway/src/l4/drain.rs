//! Which entries of the kernel's connection tracking lead to where nothing serves any more.
//!
//! Connections of TCP go on to an endpoint that has left its Service until they end. Of UDP and
//! SCTP, clients would send into the void for as long as they go on sending: their entries are
//! deleted, so that the next packet finds an endpoint that is there.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use model::net::Protocol;
use plan::l4::{Frontend, L4Plan, Path, ServicePlan};

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

    /// Whether plans may differ in these: whether any Service differs that has some.
    pub(super) fn may_differ(plan: &L4Plan, before: &L4Plan) -> bool {
        let has =
            |service: &ServicePlan| service.ports.iter().any(|port| port.protocol != Protocol::Tcp);
        let changes = plan.changes(before);
        changes.is_none_or(|changes| changes.iter().any(|(_, was, is)| has(was) || has(is)))
    }

    /// Whether there may be entries that lead nowhere after a change from `before`: not if all
    /// that has changed is that more serve what was served.
    pub(super) fn leave_behind(&self, before: &Self) -> bool {
        let kept = |was: &Answers, is: &Answers| match (was, is) {
            (Answers::Endpoints(was), Answers::Endpoints(is)) => {
                was == is || !was.is_empty() && was.iter().all(|one| is.binary_search(one).is_ok())
            }
            _ => was == is,
        };
        let same = self.0.len() == before.0.len();
        !same || before.0.iter().any(|(key, was)| self.0.get(key).is_none_or(|is| !kept(was, is)))
    }

    /// Adds the frontends of others: those that have been there since.
    pub(super) fn also(&mut self, others: Self) {
        for (key, answers) in others.0 {
            self.0.entry(key).or_insert(answers);
        }
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
