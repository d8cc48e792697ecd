//! One reading of objects and one planning of everything.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ingest::Memo;
use ipnet::IpNet;
use model::snapshot::{Machine, Service};
use model::{
    Diagnostic, HostAddress, ObjectKey, ObjectRef, Settings, Severity, SharedMap, Snapshot,
};
use plan::l4::{Allocations, Giving, L4Plan, plan_giving};
use plan::l7::L7Plan;
use plan::machines::Machines;
use plan::policy;
use plan::vpn::VpnPlan;

use crate::source::Delivery;
use crate::status::shared::Basis;

/// Plans, and what carries over from one plan to the next.
pub struct Planner {
    settings: Settings,
    memo: Memo,
    l7: plan::l7::Planner,
    /// Plans the L4 plane.
    l4_planner: plan::l4::Planner,
    /// Who was given which address, where no other edge gives out any.
    allocations: Arc<Allocations>,
    /// Who was given which address, where edges share that.
    shared: Option<Basis>,
    /// The machine's addresses that were planned for.
    host: Vec<HostAddress>,
    /// The last plan for the L4 plane.
    l4: (Arc<L4Plan>, Arc<policy::Compiled>),
    /// The last plan for the VPN plane.
    vpn: Arc<VpnPlan>,
    /// The last objects for the overlay.
    overlay: Arc<Snapshot>,
    /// The last findings.
    diagnostics: Arc<Vec<Diagnostic>>,
    /// Remote networks that a former run has guarded. They stay so until all could be read.
    former: Vec<IpNet>,
    /// What no VpnConnection may lead away, and no VIP be.
    machines: Arc<Machines>,
    /// What came of them last.
    joined: Joined,
}

/// All machines, and what they came of.
#[derive(Default)]
struct Joined {
    told: SharedMap<IpAddr, Machine>,
    api: Option<Arc<Service>>,
    found: Arc<Machines>,
    all: SharedMap<IpAddr, Machine>,
}

/// Everything that is to be in force.
pub struct Planned {
    /// For the ALBs.
    pub l7: Arc<L7Plan>,
    /// For the L4 plane, if there is one, and the policies.
    pub l4: Option<(Arc<L4Plan>, Arc<policy::Compiled>)>,
    /// For the VPN plane, if there is one.
    pub vpn: Option<Arc<VpnPlan>>,
    /// What the overlay has to know of the objects, if there is one: it depends on probes, too.
    pub overlay: Option<Arc<Snapshot>>,
    /// Who is to be given which address, where edges share that and it isn't agreed on yet. Until
    /// it is, it isn't in the plans.
    pub proposal: Option<Arc<Allocations>>,
    /// What is wrong with the objects.
    pub diagnostics: Arc<Vec<Diagnostic>>,
    /// How long all that took.
    pub took: Duration,
}

impl Planner {
    /// Which Service had which address at the last end is remembered elsewhere.
    pub fn new(settings: Settings, allocations: Allocations) -> Self {
        Self {
            settings,
            memo: Memo::default(),
            l7: plan::l7::Planner::default(),
            l4_planner: plan::l4::Planner::default(),
            allocations: Arc::new(allocations),
            shared: None,
            host: Vec::new(),
            l4: Default::default(),
            vpn: Arc::default(),
            overlay: Arc::default(),
            diagnostics: Arc::default(),
            former: Vec::new(),
            machines: Arc::default(),
            joined: Joined::default(),
        }
    }

    /// With the remote networks that a former run has guarded: where a manifest can't be read, one
    /// of a VpnConnection may be among what is missing, and must not be let out in the clear.
    pub fn with_former(self, former: Vec<IpNet>) -> Self {
        Self { former, ..self }
    }

    /// From now on these are machines of this side, besides those that objects tell of.
    pub fn keep(&mut self, machines: Arc<Machines>) {
        self.machines = machines;
    }

    /// From now on edges share who has which address; that is the last word of it.
    pub fn share(&mut self, basis: Basis) {
        self.shared = Some(basis);
    }

    /// The machine's addresses that were planned for last.
    pub fn host(&self) -> &Vec<HostAddress> {
        &self.host
    }

    /// Adds the machines that were found to those that objects tell of. What is as it was is the
    /// same in memory.
    fn join(&mut self, snapshot: &mut Snapshot) {
        let api = snapshot.services.get(&ObjectKey::new("default", "kubernetes")).cloned();
        let last = &mut self.joined;
        let same_api = match (&api, &last.api) {
            (Some(now), Some(before)) => Arc::ptr_eq(now, before),
            (None, None) => true,
            _ => false,
        };
        let same = snapshot.machines.is(&last.told) && Arc::ptr_eq(&self.machines, &last.found);
        if same && same_api {
            snapshot.machines = last.all.clone();
            return;
        }
        (last.told, last.api) = (snapshot.machines.clone(), api);
        last.found = Arc::clone(&self.machines);
        self.machines.join(snapshot);
        if snapshot.machines == last.all {
            snapshot.machines = last.all.clone();
        } else {
            last.all = snapshot.machines.clone();
        }
    }

    /// Plans everything.
    pub fn plan(&mut self, delivery: &Delivery, host: &[HostAddress]) -> Planned {
        let started = Instant::now();
        let mut diagnostics = delivery.diagnostics.clone();
        let (mut snapshot, found) =
            ingest::ingest_with(&delivery.objects, &self.settings, &mut self.memo);
        diagnostics.extend(found);
        self.join(&mut snapshot);
        let (l7, found) = self.l7.plan(&snapshot, &self.settings.albs);
        diagnostics.extend(found);
        self.host = host.to_vec();
        let mut proposal = None;
        let l4 = self.settings.l4.as_ref().map(|l4| {
            let (before, giving) = match &self.shared {
                Some(basis) => (&basis.allocations, basis.giving),
                None => (&self.allocations, Giving::New),
            };
            let (mut plan, found) =
                self.l4_planner.plan(&snapshot, &self.settings, host, (before, giving));
            diagnostics.extend_from_slice(found);
            if self.shared.is_some() && giving == Giving::New && plan.allocations != *before {
                // It counts once all edges can read it.
                proposal = Some(Arc::clone(&plan.allocations));
                let (agreed, _) =
                    plan_giving(&snapshot, &self.settings, host, before, Giving::Nothing);
                plan = Arc::new(agreed);
            }
            let (policy, found) = plan::policy::compile(&snapshot.policies, l4, host);
            diagnostics.extend(found);
            // An address that was given once stays given, whether or not the plan has reached the
            // kernel meanwhile.
            if self.shared.is_none() {
                self.allocations = Arc::clone(&plan.allocations);
            }
            // What stays the same stays the same in memory: then nobody looks further.
            let (before, before_policy) = &self.l4;
            let plan = if **before == *plan { Arc::clone(before) } else { plan };
            self.l4 = (plan, same_or(before_policy, policy));
            self.l4.clone()
        });
        let unread = delivery.unread.contains("VpnConnection");
        if !unread && !delivery.diagnostics.iter().any(may_hide_connections) {
            self.former.clear();
        } else if self.settings.vpn.is_some() && !self.former.is_empty() {
            // Of no object.
            snapshot.vpn_refused.insert(ObjectKey::new("", ""), self.former.clone());
            let networks: Vec<String> = self.former.iter().map(IpNet::to_string).collect();
            let object = ObjectRef::cluster("GatewayConfig", "gateway");
            let reason = format!(
                "some manifests can't be read, so remote networks stay guarded that were before \
                 the start: {}",
                networks.join(", ")
            );
            diagnostics.push(Diagnostic::warning(object, "vpn", reason).remedy("mend those"));
        }
        let vpn = self.settings.vpn.is_some().then(|| {
            let vips = l4.as_ref().map(|(l4, _)| l4.vpn_addresses()).unwrap_or_default();
            let (plan, found) = plan::vpn::plan(&snapshot, &self.settings, &vips);
            diagnostics.extend(found);
            self.vpn = same_or(&self.vpn, plan);
            Arc::clone(&self.vpn)
        });
        let overlay = self.settings.overlay.is_some().then(|| {
            self.overlay = same_or(&self.overlay, crate::overlay::part(&snapshot));
            Arc::clone(&self.overlay)
        });
        self.diagnostics = same_or(&self.diagnostics, diagnostics);
        Planned {
            l7,
            l4,
            vpn,
            overlay,
            proposal,
            diagnostics: Arc::clone(&self.diagnostics),
            took: started.elapsed(),
        }
    }
}

/// Whether a VpnConnection may be missing for that reason.
fn may_hide_connections(finding: &Diagnostic) -> bool {
    finding.severity == Severity::Error
        && matches!(finding.object.kind.as_str(), "File" | "VpnConnection")
}

fn same_or<T: PartialEq>(before: &Arc<T>, new: T) -> Arc<T> {
    if **before == new { Arc::clone(before) } else { Arc::new(new) }
}

#[cfg(test)]
mod tests {
    use model::VpnSettings;

    use super::*;

    #[test]
    fn what_was_guarded_before_stays_so_until_all_manifests_can_be_read() {
        let settings = Settings { vpn: Some(VpnSettings::default()), ..Settings::default() };
        let former: Vec<IpNet> = vec!["10.2.0.0/16".parse().unwrap()];
        let mut planner =
            Planner::new(settings, Allocations::default()).with_former(former.clone());
        let file = ObjectRef::cluster("File", "site.yaml");
        let torn = Delivery {
            diagnostics: vec![Diagnostic::error(file, "", "can't be read")],
            ..Delivery::default()
        };
        let mut plan = |delivery: &Delivery| planner.plan(delivery, &[]).vpn.unwrap();
        assert_eq!(plan(&torn).routes, former);
        assert!(plan(&torn).table.contains("10.2.0.0/16"));
        assert_eq!(plan(&Delivery::default()).routes, []);
        assert_eq!(plan(&torn).routes, []);
    }
}
