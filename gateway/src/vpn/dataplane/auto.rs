//! The kernel's data path for as long as it can do what connections need, and then user space.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use ipsec::ike::event::Transmit;
use ipsec::sa::{ChildSa, ChildSaId, ConnectionName, Path};
use plan::vpn::Policy;

use super::{
    Counters, Dataplane, FromNetwork, Limits, Settings, StartError, UserSpace, Xfrm, xfrm,
};

/// One data path, and then perhaps the other. It never goes back: that would cost a rekeying of
/// everything once more.
pub struct Auto {
    settings: Settings,
    sender: SyncSender<FromNetwork>,
    current: Current,
    limits: BTreeMap<ConnectionName, Limits>,
    /// SAs that the IKE side has installed and not removed.
    sas: BTreeSet<ChildSaId>,
}

enum Current {
    Kernel(Xfrm),
    UserSpace(UserSpace),
    /// Neither, and why.
    Nothing(String),
}

impl Auto {
    /// Starts in the kernel, which has to be able to ([`netdev::xfrm::probe`]).
    ///
    /// # Errors
    /// [`StartError`]. Nothing is left then.
    pub fn start(settings: Settings, sender: SyncSender<FromNetwork>) -> Result<Self, StartError> {
        let current = Current::Kernel(Xfrm::start(&settings, sender.clone())?);
        let (limits, sas) = (BTreeMap::new(), BTreeSet::new());
        Ok(Self { settings, sender, current, limits, sas })
    }

    fn now(&mut self) -> Result<&mut dyn Dataplane, String> {
        match &mut self.current {
            Current::Kernel(kernel) => Ok(kernel),
            Current::UserSpace(user_space) => Ok(user_space),
            Current::Nothing(why) => Err(why.clone()),
        }
    }

    /// Goes to user space. Its SAs are not the kernel's: sequence numbers must not be used twice.
    /// So all are said to be worn, and what comes until they are replaced is held back.
    fn leave_kernel(&mut self, why: &str) {
        // Interface and ports have to be free.
        self.current = Current::Nothing(String::new());
        self.current = match UserSpace::start(&self.settings, self.sender.clone()) {
            Ok(started) => {
                tracing::info!(dataplane = "userspace", why, "VPN data path");
                Current::UserSpace(started)
            }
            Err(error) => {
                tracing::error!(%error, why, "the user-space data path can't be started");
                Current::Nothing(error.to_string())
            }
        };
        let limits = self.limits.clone();
        if let Ok(now) = self.now() {
            now.set_limits(limits);
        }
        for sa in &self.sas {
            // Where the IKE side is behind, dead peer detection does it.
            let _ = self.sender.try_send(FromNetwork::Worn { sa: *sa });
        }
    }
}

impl Dataplane for Auto {
    fn name(&self) -> &'static str {
        match &self.current {
            Current::Kernel(kernel) => kernel.name(),
            Current::UserSpace(user_space) => user_space.name(),
            Current::Nothing(_) => "none",
        }
    }

    fn set_policies(&mut self, policies: BTreeMap<ConnectionName, Vec<Policy>>) {
        let lacking = xfrm::lacking(&policies);
        match (&self.current, lacking) {
            (Current::Kernel(_), Some((connection, why))) => {
                self.leave_kernel(&format!("connection {connection} {why}"));
            }
            (Current::Nothing(_), _) => self.leave_kernel("another attempt"),
            _ => {}
        }
        if let Ok(now) = self.now() {
            now.set_policies(policies);
        }
    }

    fn set_limits(&mut self, limits: BTreeMap<ConnectionName, Limits>) {
        self.limits.clone_from(&limits);
        if let Ok(now) = self.now() {
            now.set_limits(limits);
        }
    }

    fn install(
        &mut self,
        sa: &Arc<ChildSa>,
        send: bool,
        replaces: Option<ChildSaId>,
    ) -> Result<(), String> {
        self.now()?.install(sa, send, replaces)?;
        self.sas.insert(sa.id);
        Ok(())
    }

    fn send(&mut self, sa: ChildSaId) {
        if let Ok(now) = self.now() {
            now.send(sa);
        }
    }

    fn remove(&mut self, sa: ChildSaId, linger: Duration) {
        self.sas.remove(&sa);
        if let Ok(now) = self.now() {
            now.remove(sa, linger);
        }
    }

    fn set_path(&mut self, sas: &[ChildSaId], path: Path, udp: bool) {
        if let Ok(now) = self.now() {
            now.set_path(sas, path, udp);
        }
    }

    fn transmit(&mut self, message: &Transmit) {
        if let Ok(now) = self.now() {
            now.transmit(message);
        }
    }

    fn is_broken(&self) -> bool {
        match &self.current {
            Current::Kernel(kernel) => kernel.is_broken(),
            Current::UserSpace(user_space) => user_space.is_broken(),
            // To begin anew would end the same way.
            Current::Nothing(_) => false,
        }
    }

    fn counters(&self) -> Counters {
        match &self.current {
            Current::Kernel(kernel) => kernel.counters(),
            Current::UserSpace(user_space) => user_space.counters(),
            Current::Nothing(_) => Counters::default(),
        }
    }
}
