//! Whether the kernel forwards packets between hosts and tunnels.

use std::time::Instant;

use model::{Diagnostic, ObjectRef};
use plan::vpn::VpnPlan;

use super::kernel::Kernel;
use crate::l4::kernel::Fault;
use crate::l4::retry::Retry;

/// Of each family, IPv4 first, whether it has been seen to, and what was wrong with that.
#[derive(Debug, Default)]
pub(super) struct Forwarding {
    done: [bool; 2],
    faults: [Option<Fault>; 2],
    retry: [Retry; 2],
}

impl Forwarding {
    /// Turns it on for the families that there are tunnels for. The guard has to be there first.
    pub(super) fn ensure(&mut self, now: Instant, plan: &VpnPlan, kernel: &mut impl Kernel) {
        for (at, ipv6) in [false, true].into_iter().enumerate() {
            let needed = plan.routes.iter().any(|route| route.addr().is_ipv6() == ipv6);
            if !needed {
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

    /// When it is to be tried again.
    pub(super) fn next(&self) -> Option<Instant> {
        let failed = self.faults.iter().zip(&self.retry).filter(|(fault, _)| fault.is_some());
        failed.filter_map(|(_, retry)| retry.next()).min()
    }

    /// What is wrong.
    pub(super) fn diagnostics(&self) -> impl Iterator<Item = Diagnostic> {
        let faults = self.faults.iter().zip([false, true]);
        faults.filter_map(|(fault, ipv6)| Some((fault.as_ref()?, ipv6))).map(|(fault, ipv6)| {
            let reason =
                format!("{} packets are not forwarded to and from tunnels: {fault}", name(ipv6));
            let key = if ipv6 { "net.ipv6.conf.all.forwarding" } else { "net.ipv4.ip_forward" };
            Diagnostic::error(ObjectRef::cluster("GatewayConfig", "gateway"), "vpn", reason)
                .remedy(format!("set {key} = 1 on the machine"))
        })
    }
}

fn name(ipv6: bool) -> &'static str {
    if ipv6 { "IPv6" } else { "IPv4" }
}
