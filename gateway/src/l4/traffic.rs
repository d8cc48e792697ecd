//! How much the kernel has forwarded, by Service port and by policy rule.
//!
//! The kernel counts by frontend and rule, and begins anew whenever one of these is made anew.
//! Here the differences are summed, so that no sum ever goes down.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use model::ObjectKey;
use model::net::Protocol;
use netdev::nft::Nft;
use plan::l4::traffic::{COUNTED, Listing, Traffic as Counts};
use plan::l4::{Frontend, L4Plan};
use plan::nft::TABLE;
use plan::policy::{self, Compiled, Counted, Counter};

use super::kernel::Fault;
use super::linux::listing;

/// What was read is good for this long.
const FRESH: Duration = Duration::from_secs(1);

/// A Service's port: protocol and number.
pub type PortKey = (ObjectKey, Protocol, u16);

/// As the kernel counts.
type ByFrontend = BTreeMap<(Protocol, Frontend), Counts>;

/// The sums.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    /// By Service port.
    pub ports: BTreeMap<PortKey, Counts>,
    /// Packets by policy rule.
    pub rules: BTreeMap<Counted, u64>,
}

/// Reads and sums.
#[derive(Debug)]
pub struct Traffic {
    nft: Nft,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    read: Option<Instant>,
    /// As the kernel had it the last time.
    frontends: ByFrontend,
    rules: BTreeMap<Counted, u64>,
    sums: Sums,
}

impl Traffic {
    pub(super) fn new(nft: Nft) -> Self {
        Self { nft, state: Mutex::default() }
    }

    /// The sums, not older than a second. Blocks while the kernel is asked; the plans say which
    /// Service a frontend belongs to, and what rules stand for. Those that are no longer planned
    /// are forgotten.
    pub fn sums(&self, plan: &L4Plan, policy: &Compiled) -> Sums {
        // Who comes meanwhile waits for the same answer.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.read.is_none_or(|read| read.elapsed() >= FRESH) {
            match self.read() {
                Ok((frontends, rules)) => {
                    state.add(plan, frontends, policy.counters(&rules));
                }
                Err(fault) => tracing::warn!(%fault, "the kernel's counters can't be read"),
            }
            state.read = Some(Instant::now());
        }
        state.sums.clone()
    }

    fn read(&self) -> Result<(ByFrontend, policy::Listing), Fault> {
        let mut frontends = BTreeMap::new();
        for (kind, name) in COUNTED {
            if let Some(listing) = listing::<Listing>(&self.nft, kind, name)? {
                listing.read_traffic(&mut frontends);
            }
        }
        let (family, table) = TABLE.split_once(' ').unwrap_or(("inet", TABLE));
        let rules = match self.nft.list_rules(family, table) {
            Ok(value) => serde_json::from_value(value).map_err(Fault::of)?,
            Err(error) if error.is_not_there() => policy::Listing::default(),
            Err(error) => return Err(Fault::of(error)),
        };
        Ok((frontends, rules))
    }
}

impl State {
    fn add(&mut self, plan: &L4Plan, frontends: ByFrontend, rules: BTreeMap<Counted, Counter>) {
        let mut ports = BTreeMap::new();
        for service in &plan.services {
            for port in &service.ports {
                let key = (service.service.clone(), port.protocol, port.number);
                let mut sum = self.sums.ports.get(&key).copied().unwrap_or_default();
                for frontend in &port.frontends {
                    // The kernel doesn't tell an external address from a VIP.
                    let frontend = match *frontend {
                        Frontend::External(at) => Frontend::Vip(at),
                        other => other,
                    };
                    let key = (port.protocol, frontend);
                    let Some(now) = frontends.get(&key) else { continue };
                    let before = self.frontends.get(&key).copied().unwrap_or_default();
                    sum.connections += grown(before.connections, now.connections);
                    sum.packets += grown(before.packets, now.packets);
                    sum.bytes += grown(before.bytes, now.bytes);
                }
                ports.insert(key, sum);
            }
        }
        let rules: BTreeMap<Counted, u64> =
            rules.into_iter().map(|(rule, counter)| (rule, counter.packets)).collect();
        let sum = |(rule, now): (&Counted, &u64)| {
            let before = self.rules.get(rule).copied().unwrap_or_default();
            let sum = self.sums.rules.get(rule).copied().unwrap_or_default();
            (rule.clone(), sum + grown(before, *now))
        };
        self.sums = Sums { ports, rules: rules.iter().map(sum).collect() };
        (self.frontends, self.rules) = (frontends, rules);
    }
}

/// How much was counted since, where a counter that is smaller has begun anew.
fn grown(before: u64, now: u64) -> u64 {
    if now >= before { now - before } else { now }
}

#[cfg(test)]
mod tests {
    use model::snapshot::Algorithm;
    use plan::l4::{Path, PortPlan, ServicePlan};

    use super::*;

    fn plan(vip: &str) -> L4Plan {
        let port = PortPlan {
            name: String::new(),
            protocol: Protocol::Tcp,
            number: 80,
            frontends: vec![Frontend::External(vip.parse().unwrap()), Frontend::NodePort(30080)],
            endpoints: Default::default(),
            only_remote: false,
            algorithm: Algorithm::Random,
            path: Path::Kernel,
        };
        let service = ServicePlan {
            service: ObjectKey::new("shop", "web"),
            load_balancer: true,
            addresses: Vec::new(),
            pending: None,
            ports: vec![port],
            source_ranges: Vec::new(),
            affinity: None,
            snat: false,
            local_only: false,
            health_check_node_port: None,
            local_endpoints: 0,
        };
        L4Plan { services: vec![service.into()], ..L4Plan::default() }
    }

    #[test]
    fn sums_never_go_down_whatever_becomes_of_the_kernels_counters() {
        let mut state = State::default();
        let (first, second) = ("192.0.2.1:80", "192.0.2.2:80");
        let counted = |all: &[(Frontend, u64)]| {
            let of = |(frontend, connections): &(Frontend, u64)| {
                let counts = Counts { connections: *connections, ..Counts::default() };
                ((Protocol::Tcp, *frontend), counts)
            };
            all.iter().map(of).collect::<BTreeMap<_, _>>()
        };
        let vip = |text: &str| Frontend::Vip(text.parse().unwrap());
        let port = Frontend::NodePort(30080);
        let mut connections = Vec::new();
        for (at, kernel) in [
            (first, vec![(vip(first), 5), (port, 1)]),
            (first, vec![(vip(first), 7), (port, 1)]),
            // Loaded anew.
            (first, vec![(vip(first), 2), (port, 0)]),
            // Somebody has flushed it.
            (first, vec![]),
            (first, vec![(vip(first), 1), (port, 0)]),
            // Another address.
            (second, vec![(vip(second), 4), (port, 0)]),
        ] {
            state.add(&plan(at), counted(&kernel), BTreeMap::new());
            let key = (ObjectKey::new("shop", "web"), Protocol::Tcp, 80);
            connections.push(state.sums.ports[&key].connections);
        }
        assert_eq!(connections, [6, 8, 10, 10, 11, 15]);
        state.add(&L4Plan::default(), BTreeMap::new(), BTreeMap::new());
        assert!(state.sums.ports.is_empty());
    }
}
