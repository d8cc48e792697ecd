//! Which claims there are, and which of them this edge is able to hold.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use holding::{Claim, Wanted};
use model::Settings;
use model::net::Visibility;
use model::snapshot::Announce;
use plan::l4::L4Plan;
use plan::vpn::VpnPlan;

const VPN: &str = "vpn";

/// What follows from plans: the lead, the VIPs, the VpnConnections without one. What carries most
/// comes first: connections and the ALBs.
pub fn wanted(l4: Option<&L4Plan>, vpn: Option<&VpnPlan>) -> BTreeMap<Claim, Wanted> {
    let mut wanted = BTreeMap::new();
    wanted.insert(Claim::Leader, Wanted::default());
    if let Some(plan) = l4 {
        let first: BTreeSet<IpAddr> = plan
            .vpn
            .iter()
            .map(|one| one.address)
            .chain(plan.albs.values().flatten().copied())
            .collect();
        for vip in plan.vips.iter() {
            let mut needs = BTreeSet::new();
            if vip.announce == Announce::L2 {
                needs.insert(side(vip.visibility));
            }
            if plan.vpn.iter().any(|one| one.address == vip.address) {
                needs.insert(VPN.to_owned());
            }
            let order = if first.contains(&vip.address) { 1 } else { 2 };
            wanted.insert(Claim::Vip(vip.address), Wanted { needs, order });
        }
    }
    for (key, plan) in vpn.iter().flat_map(|plan| &plan.connections) {
        let claim = crate::vpn::claim(key, plan);
        if matches!(claim, Claim::Vpn(_)) {
            wanted.insert(claim, Wanted { needs: [VPN.to_owned()].into(), order: 1 });
        }
    }
    wanted
}

/// What this edge is able to hold.
pub fn offers(settings: &Settings) -> BTreeSet<String> {
    let mut offers = BTreeSet::new();
    if let Some(l4) = &settings.l4 {
        for visibility in [Visibility::Public, Visibility::Private] {
            if !l4.interfaces(visibility).is_empty() {
                offers.insert(side(visibility));
            }
        }
    }
    if settings.vpn.is_some() {
        offers.insert(VPN.to_owned());
    }
    offers
}

/// What it is able to hold now that only these sides have an interface that works.
pub(super) fn at_present(offers: &BTreeSet<String>, sides: &[Visibility]) -> BTreeSet<String> {
    let works = |offer: &&String| {
        let all = [Visibility::Public, Visibility::Private];
        !all.iter().any(|one| side(*one) == **offer && !sides.contains(one))
    };
    offers.iter().filter(works).cloned().collect()
}

fn side(visibility: Visibility) -> String {
    visibility.to_string()
}
