//! Another data path in the place of one whose interface was taken away.

use std::time::{Duration, Instant};

use ipsec::ike::event::Command;

use super::Driver;
use crate::vpn::dataplane::Nothing;
use crate::vpn::kernel::Kernel;

/// Who takes it away again this soon is left to whatever starts this process.
const AGAIN: Duration = Duration::from_secs(10);

impl<K: Kernel> Driver<K> {
    /// Makes the data path anew. Its SAs are not carried over, since their sequence numbers have
    /// gone with it: all are replaced, and what comes until then is held back or dropped. Routes
    /// into the interface have gone with it, too, and those behind them drop. False if it can't be.
    pub(super) fn renew(&mut self, now: Instant) -> bool {
        tracing::error!("the data path of the VPN has ended: was its interface removed?");
        if self.renewed.is_some_and(|at| now.saturating_duration_since(at) < AGAIN) {
            return false;
        }
        self.renewed = Some(now);
        // Interface and ports have to be free.
        self.parts.dataplane = Box::new(Nothing);
        match (self.parts.renewal)() {
            Ok(dataplane) => self.parts.dataplane = dataplane,
            Err(error) => {
                tracing::error!(%error, "the data path of the VPN can't be made anew");
                return false;
            }
        }
        self.parts.metrics.vpn.drift_repairs.increment();
        // Policies and limits are told anew, and what is counted begins anew.
        self.in_force = None;
        self.before.clear();
        if let Some(desired) = self.desired.clone() {
            self.pass(now, &desired, true);
        }
        for sa in self.sas.clone() {
            self.parts.engine.command(now, Command::Worn { sa });
        }
        self.pump(now);
        self.publish();
        tracing::warn!(sas = self.sas.len(), "the data path of the VPN is made anew");
        true
    }
}
