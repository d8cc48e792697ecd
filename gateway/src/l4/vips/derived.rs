//! What follows from how far the VIPs have come: found out when it is asked for, and once for as
//! long as none of them goes on. Nearly every change of the plan is one of endpoints.

use std::cell::OnceCell;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use model::HostAddress;

use super::super::state::Taken;
use super::super::view::VipState;
use super::{Entry, Stage, Vips, is_single};

/// Of one moment.
#[derive(Debug, Default)]
pub(super) struct Derived {
    /// What is wanted has its interfaces.
    pub(super) is_placed: bool,
    /// Nothing is left to be taken off.
    pub(super) is_left: bool,
    /// It was asked whether something has changed.
    pub(super) is_seen: bool,
    on: OnceCell<Arc<BTreeSet<IpAddr>>>,
    remembered: OnceCell<Arc<BTreeSet<Taken>>>,
    duplicates: OnceCell<Arc<BTreeSet<IpAddr>>>,
    absent: OnceCell<Arc<BTreeSet<IpAddr>>>,
    own: OnceCell<Arc<Vec<HostAddress>>>,
    states: OnceCell<Arc<BTreeMap<IpAddr, VipState>>>,
    is_under_way: OnceCell<bool>,
    is_undecided: OnceCell<bool>,
}

impl Derived {
    /// Nothing is known yet but whether what is wanted has its interfaces.
    pub(super) fn begin(is_placed: bool) -> Self {
        Self { is_placed, ..Self::default() }
    }
}

impl Vips {
    /// The addresses that the gateway has on interfaces.
    pub(in super::super) fn on(&self) -> &Arc<BTreeSet<IpAddr>> {
        let addresses = || self.ours.iter().map(|taken| taken.address).collect();
        self.derived.on.get_or_init(|| Arc::new(addresses()))
    }

    /// What has to be on the disk before anything is done: what is wanted, and what is still there.
    pub(in super::super) fn to_remember(&self) -> &Arc<BTreeSet<Taken>> {
        self.derived.remembered.get_or_init(|| {
            let wanted = self.entries.iter().filter(|(_, entry)| !entry.interface.is_empty());
            let wanted = wanted.map(|(address, entry)| entry.taken(*address));
            Arc::new(self.ours.iter().cloned().chain(wanted).collect())
        })
    }

    /// The VIPs that another machine has.
    pub(in super::super) fn duplicates(&self) -> &Arc<BTreeSet<IpAddr>> {
        let is = |entry: &Entry| matches!(entry.stage, Stage::Duplicate(_));
        self.derived.duplicates.get_or_init(|| self.those(is))
    }

    /// The VIPs that are not on an interface.
    pub(in super::super) fn absent(&self) -> &Arc<BTreeSet<IpAddr>> {
        self.derived.absent.get_or_init(|| self.those(|entry| entry.stage != Stage::Held))
    }

    fn those(&self, are: impl Fn(&Entry) -> bool) -> Arc<BTreeSet<IpAddr>> {
        let those = self.entries.iter().filter(|(_, entry)| are(entry));
        Arc::new(those.map(|(address, _)| *address).collect())
    }

    /// Whether some are still on their way, or have failed.
    pub(in super::super) fn is_under_way(&self) -> bool {
        let is = |entry: &Entry| {
            matches!(entry.stage, Stage::New | Stage::Probing | Stage::Free | Stage::Failed(_))
        };
        *self.derived.is_under_way.get_or_init(|| self.entries.values().any(is))
    }

    /// Whether it isn't known of some yet how they will end.
    pub(in super::super) fn is_undecided(&self) -> bool {
        let is = |entry: &Entry| matches!(entry.stage, Stage::New | Stage::Probing | Stage::Free);
        *self.derived.is_undecided.get_or_init(|| self.entries.values().any(is))
    }

    /// The addresses that are the machine's own: none that the gateway has put there.
    pub(in super::super) fn own_addresses(&self) -> &Arc<Vec<HostAddress>> {
        let ours = |own: &&HostAddress| {
            let taken = Taken { interface: own.interface.clone(), address: own.network.addr() };
            !(is_single(own) && self.ours.contains(&taken))
        };
        let own = || self.host.addresses.iter().filter(ours).cloned().collect();
        self.derived.own.get_or_init(|| Arc::new(own()))
    }

    /// How far each has come, as it is told.
    pub(in super::super) fn states(&self) -> &Arc<BTreeMap<IpAddr, VipState>> {
        let state = |(address, entry): (&IpAddr, &Entry)| {
            let (state, reason) = match &entry.stage {
                Stage::New | Stage::Probing | Stage::Free => ("probing", None),
                Stage::Held => ("held", None),
                Stage::Duplicate(mac) => ("duplicate", Some(format!("{mac} has it"))),
                Stage::Failed(fault) => ("failed", Some(fault.to_string())),
                Stage::Homeless(reason) => ("homeless", Some(reason.clone())),
                Stage::Elsewhere => ("elsewhere", None),
            };
            let (pool, interface) = (entry.vip.pool.clone(), entry.interface.clone());
            (*address, VipState { pool, interface, state, reason })
        };
        let states = || Arc::new(self.entries.iter().map(state).collect());
        self.derived.states.get_or_init(states)
    }
}
