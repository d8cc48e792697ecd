//! Whether the kernel forwards packets at all.

use std::sync::Arc;
use std::time::Instant;

use model::{Diagnostic, ObjectRef};
use plan::l4::{L4Plan, Path, ServicePlan};

use super::kernel::{Fault, Kernel};
use super::retry::Retry;

/// Of each family, IPv4 first, whether it has been seen to, and what was wrong with that.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    done: [bool; 2],
    faults: [Option<Fault>; 2],
    retry: [Retry; 2],
    /// The plan that was looked at last, and which families it needed.
    looked: (Arc<L4Plan>, [bool; 2]),
}

impl Forwarding {
    /// Turns it on for the families that have endpoints to forward to.
    pub(super) fn ensure(&mut self, now: Instant, plan: &Arc<L4Plan>, kernel: &mut impl Kernel) {
        self.look(plan);
        let needed = self.looked.1;
        for (at, ipv6) in [false, true].into_iter().enumerate() {
            if !needed[at] {
                self.faults[at] = None;
                continue;
            }
            if self.done[at] || !self.retry[at].is_due(now) {
                continue;
            }
            match kernel.forward(ipv6) {
                Ok(changed) => {
                    if changed {
                        tracing::info!(family = name(ipv6), "forwarding was off and is on now");
                    }
                    (self.done[at], self.faults[at]) = (true, None);
                }
                Err(fault) => {
                    self.retry[at].failed(now);
                    self.faults[at] = Some(fault);
                }
            }
        }
    }

    /// Sees which families a plan needs.
    fn look(&mut self, plan: &Arc<L4Plan>) {
        let (before, needed) = &self.looked;
        if Arc::ptr_eq(before, plan) {
            return;
        }
        let all = |ipv6| plan.services.iter().any(|service| needs(service, ipv6));
        let needed = match plan.changes(before) {
            // Those that are as they were have not begun to need it.
            Some(changes) => [(needed[0], false), (needed[1], true)].map(|(was, ipv6)| {
                changes.iter().any(|(_, _, is)| needs(is, ipv6)) || was && all(ipv6)
            }),
            None => [all(false), all(true)],
        };
        self.looked = (Arc::clone(plan), needed);
    }

    /// When it is to be tried again.
    pub(super) fn next(&self) -> Option<Instant> {
        let failed = self.faults.iter().zip(&self.retry).filter(|(fault, _)| fault.is_some());
        failed.filter_map(|(_, retry)| retry.next()).min()
    }

    /// What is wrong.
    pub(super) fn diagnostics(&self) -> impl Iterator<Item = Diagnostic> {
        let faults = self.faults.iter().zip([false, true]);
        faults.filter_map(|(fault, ipv6)| Some((fault.as_ref()?, ipv6))).map(|(fault, ipv6)| {
            let reason = format!("{} packets are not forwarded to endpoints: {fault}", name(ipv6));
            let key = if ipv6 { "net.ipv6.conf.all.forwarding" } else { "net.ipv4.ip_forward" };
            Diagnostic::error(ObjectRef::cluster("GatewayConfig", "gateway"), "l4", reason)
                .remedy(format!("set {key} = 1 on the machine"))
        })
    }
}

fn name(ipv6: bool) -> &'static str {
    if ipv6 { "IPv6" } else { "IPv4" }
}

fn needs(service: &ServicePlan, ipv6: bool) -> bool {
    service.ports.iter().any(|port| {
        port.path == Path::Kernel
            && port.endpoints.iter().any(|endpoint| endpoint.address.is_ipv6() == ipv6)
    })
}
