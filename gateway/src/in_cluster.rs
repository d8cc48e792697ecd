//! What there is besides where objects come from the Kubernetes API: the edges' Leases, the
//! allocations that they share, and what is written back.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result};
use holding::Sight;
use model::{AlbKind, Diagnostic, ObjectRef};
use plan::l4::{Allocations, L4Plan};
use plan::vpn::VpnPlan;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::edges::{self, mail};
use crate::l4::Plane;
use crate::l4::view::View;
use crate::source::Delivery;
use crate::source::kubernetes::Kubernetes;
use crate::status::shared::{Basis, Shared};
use crate::status::{self, Elsewhere, Facts};
use crate::vpn;

/// How long the own Lease may go without a renewal before somebody is told.
const LEASE_LATE: Duration = Duration::from_secs(5);

/// The gateway's part in the cluster.
pub struct InCluster {
    name: String,
    namespace: String,
    started: Instant,
    edges: edges::Handle,
    shared: Shared,
    status: status::Handle,
    l4: Option<watch::Receiver<Arc<View>>>,
    /// The edge that this one gives way to.
    elsewhere: Option<Elsewhere>,
    /// The plans that were told last.
    last: Option<(Arc<L4Plan>, Option<Arc<VpnPlan>>)>,
}

/// How an edge's own Lease is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Standing {
    /// It should have been renewed long ago.
    pub late: bool,
    /// It is there.
    pub joined: bool,
    /// What the edge holds counts.
    pub holds: bool,
}

/// What it is made of.
pub struct Parts<'a> {
    /// The configuration.
    pub config: &'a Config,
    /// The API.
    pub kubernetes: &'a Kubernetes,
    /// The L4 plane.
    pub l4: Option<&'a Plane>,
    /// The VPN plane.
    pub vpn: Option<&'a vpn::Plane>,
    /// To the other edges, where there is a way.
    pub mail: Option<mail::Mail>,
}

impl InCluster {
    /// Joins the other edges. From now on the planes hold only what is this edge's.
    ///
    /// # Errors
    /// The machine lacks the means.
    pub fn start(parts: Parts<'_>, tasks: &TaskTracker, stop: &CancellationToken) -> Result<Self> {
        let Parts { config, kubernetes, l4, vpn, mail } = parts;
        let api = config.source.kubernetes.clone().unwrap_or_default();
        let settings = config.settings();
        let name =
            config.node_name.clone().context("invariant: an edge in a cluster has a name")?;
        let born = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let edges = edges::start(edges::Options {
            api,
            namespace: kubernetes.cluster.namespace.clone(),
            settings: holding::Settings::new(name.clone(), born, fastrand::u64(..)),
            offers: edges::offers(&settings),
            sight: match (&config.overlay, &mail) {
                (None, _) => Sight::Clear,
                (Some(_), Some(_)) => Sight::Blind,
                // It couldn't be started.
                (Some(_), None) => Sight::CutOff,
            },
            l4: l4.map(Plane::view),
            mail,
        })
        .context("starting the edges thread")?;
        if let Some(l4) = l4 {
            tasks.spawn(ring(
                edges.holdings.clone(),
                l4.hold(edges.holdings.clone()),
                stop.clone(),
            ));
        }
        if let Some(vpn) = vpn {
            let bell = vpn.hold(edges.holdings.clone());
            tasks.spawn(ring(edges.holdings.clone(), bell, stop.clone()));
        }
        let client = kubernetes.cluster.client.clone();
        let remembered = l4.map(|plane| plane.remembered().clone()).unwrap_or_default();
        let namespace = kubernetes.cluster.namespace.clone();
        let leader = edges.leader.clone();
        let shared =
            Shared::start(client.clone(), namespace, remembered, leader.clone(), stop.clone());
        let listen: BTreeMap<AlbKind, _> =
            config.enabled_albs().map(|(kind, alb)| (kind, alb.listen.addresses.clone())).collect();
        let namespace = kubernetes.cluster.namespace.clone();
        let context = status::Context { name: name.clone(), namespace, settings, listen };
        let vpn = vpn.map(vpn::Plane::handle);
        let status = status::start(status::Options { client, context, leader, vpn });
        let told = (edges.holders.clone(), edges.report.clone());
        tasks.spawn(tell_holders(told, status.facts(), stop.clone()));
        Ok(Self {
            name,
            namespace: kubernetes.cluster.namespace.clone(),
            started: Instant::now(),
            edges,
            shared,
            status,
            l4: l4.map(Plane::view),
            elsewhere: None,
            last: None,
        })
    }

    /// Who holds what, for people, now and later.
    pub fn report(&self) -> (watch::Receiver<Arc<edges::Report>>, Arc<edges::Counts>) {
        (self.edges.report.clone(), Arc::clone(&self.edges.counts))
    }

    /// What planning goes by.
    pub fn basis(&mut self) -> Basis {
        self.shared.basis()
    }

    /// What this edge holds, now and later.
    pub fn holdings(&self) -> watch::Receiver<Arc<edges::Holdings>> {
        self.edges.holdings.clone()
    }

    /// Waits until [`Self::basis`] may say something else.
    ///
    /// # Errors
    /// Who watches has ended.
    pub async fn changed(&mut self) -> Result<(), watch::error::RecvError> {
        self.shared.changed().await
    }

    /// What is wrong with what is shared and what is written.
    pub fn findings(&self) -> Vec<Diagnostic> {
        let written = self.status.findings();
        let written = Arc::clone(&written.borrow());
        let elsewhere = self.elsewhere.iter().map(Elsewhere::diagnostic);
        let own = self.shared.finding().into_iter().chain(self.lease_finding()).chain(elsewhere);
        own.chain(written.iter().cloned()).collect()
    }

    /// Without its Lease an edge holds nothing, or only what the others leave it.
    fn lease_finding(&self) -> Option<Diagnostic> {
        let standing = self.standing();
        let object = || ObjectRef::cluster("GatewayConfig", "gateway");
        let finding = match (standing.late, standing.holds) {
            (false, _) => return None,
            (true, true) => Diagnostic::warning(
                object(),
                "source.kubernetes.namespace",
                "this edge's Lease can't be renewed in this namespace; it goes on holding what it \
                 holds for as long as all other edges promise to leave it that",
            ),
            (true, false) => Diagnostic::error(
                object(),
                "source.kubernetes.namespace",
                "this edge's Lease can't be renewed in this namespace, so it holds no VIPs and no \
                 VPN connections; others may",
            ),
        };
        Some(finding.value(self.namespace.clone()).remedy(
            "see that the API answers, that the namespace exists, and that the gateway may get, \
             create and update Leases in it",
        ))
    }

    /// How this edge's Lease is.
    pub fn standing(&self) -> Standing {
        let holds = self.edges.holdings.borrow().until.is_none_or(|until| Instant::now() < until);
        let report = self.edges.report.borrow();
        let renewed = report.renewed_ms_ago.map(Duration::from_millis);
        Standing {
            late: renewed.unwrap_or_else(|| self.started.elapsed()) > LEASE_LATE,
            joined: report.incarnation != 0,
            holds,
        }
    }

    /// Everything was planned anew.
    pub fn planned(&mut self, planned: Planned<'_>) {
        let Planned { delivery, l4, vpn, diagnostics, proposal } = planned;
        if let Some(proposal) = proposal {
            self.shared.propose(proposal);
        }
        let joined = !self.edges.wanted.borrow().is_empty();
        let elsewhere = Elsewhere::find(delivery, &self.name, &self.namespace, joined);
        if self.elsewhere != elsewhere {
            (self.elsewhere, self.last) = (elsewhere, None);
        }
        self.want(l4, vpn);
        let edge = delivery.objects.edges.get(&self.name);
        let drain = edge.is_some_and(|edge| edge.spec.drain == Some(true));
        self.edges.drain.send_if_modified(|before| std::mem::replace(before, drain) != drain);
        self.status.update(|facts| {
            facts.delivery = Arc::clone(delivery);
            facts.l4 = l4.cloned();
            facts.elsewhere.clone_from(&self.elsewhere);
            facts.planned = Arc::clone(diagnostics);
        });
    }

    /// What is to be held, where that may be something else than before: of all that changes,
    /// endpoints change most often, and they have no part in it.
    fn want(&mut self, l4: Option<&Arc<L4Plan>>, vpn: Option<&Arc<VpnPlan>>) {
        let same = self.last.as_ref().is_some_and(|(before, of_vpn)| {
            let same_vpn = match (of_vpn, vpn) {
                (Some(one), Some(other)) => Arc::ptr_eq(one, other),
                (one, other) => one.is_none() && other.is_none(),
            };
            let same_l4 = |plan: &Arc<L4Plan>| {
                before.vips == plan.vips && before.vpn == plan.vpn && before.albs == plan.albs
            };
            same_vpn && l4.is_some_and(same_l4)
        });
        self.last = l4.map(|l4| (Arc::clone(l4), vpn.cloned()));
        if same {
            return;
        }
        let wanted = match &self.elsewhere {
            None => edges::wanted(l4.map(|plan| &**plan), vpn.map(|plan| &**plan)),
            Some(_) => BTreeMap::new(),
        };
        self.edges.wanted.send_if_modified(|before| {
            let changed = *before != wanted;
            *before = wanted;
            changed
        });
    }

    /// The L4 plane has done something.
    pub fn follow_l4(&self, view: &View) {
        self.status.update(|facts| {
            facts.vips = Arc::clone(&view.on);
            facts.host = Arc::clone(&view.host);
        });
    }

    /// What the overlay tells of this edge.
    pub fn follow_overlay(&self, overlay: &status::Overlay) {
        let sight = overlay.nodes.as_ref().map(|nodes| nodes.sight).unwrap_or_default();
        let before = *self.edges.sight.borrow();
        if self.edges.sight.send_if_modified(|last| std::mem::replace(last, sight) != sight) {
            match (before, sight) {
                (_, Sight::CutOff) => {
                    tracing::warn!("no node answers: other edges may take what this one holds");
                }
                (Sight::Blind, Sight::Clear) => tracing::info!("nodes answer"),
                _ => {}
            }
        }
        self.status.update(|facts| {
            if *facts.overlay != *overlay {
                facts.overlay = Arc::new(overlay.clone());
            }
        });
    }

    /// What is wrong on this machine, and whether everything is in force.
    pub fn tell(&self, own: &[Diagnostic], ready: bool) {
        let own: Vec<_> = own.iter().cloned().chain(self.lease_finding()).collect();
        // Once it has been, a lapse changes nothing: nobody else has the name meanwhile.
        let joined = self.standing().joined;
        self.status.update(|facts| {
            facts.joined |= joined;
            facts.own = Arc::new(own);
            facts.ready = ready;
        });
    }

    /// Whether its threads are there.
    pub fn is_whole(&self) -> bool {
        self.edges.is_whole()
    }

    /// Gives everything up to the other edges; returns what goes on being written.
    pub async fn give_up(self) -> (status::Handle, Shared) {
        self.status.update(|facts| facts.ready = false);
        let holders = self.edges.holders.clone();
        self.edges.stop().await;
        // There may be no other edge that would say so.
        let vips = self.l4.map(|view| view.borrow().on.clone()).unwrap_or_default();
        self.status.update(|facts| {
            facts.stopping = true;
            facts.vips = vips;
            facts.holders.clone_from(&holders.borrow());
        });
        (self.status, self.shared)
    }
}

/// What was planned.
pub struct Planned<'a> {
    /// The objects.
    pub delivery: &'a Arc<Delivery>,
    /// For the L4 plane.
    pub l4: Option<&'a Arc<L4Plan>>,
    /// For the VPN plane.
    pub vpn: Option<&'a Arc<VpnPlan>>,
    /// What is wrong with the objects.
    pub diagnostics: &'a Arc<Vec<Diagnostic>>,
    /// Who is to be given which address.
    pub proposal: Option<&'a Allocations>,
}

/// Has a plane look whenever what is held changes.
async fn ring(
    mut holdings: watch::Receiver<Arc<edges::Holdings>>,
    bell: impl Fn() + Send,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            changed = holdings.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
        bell();
    }
}

async fn tell_holders(
    (mut holders, report): (
        watch::Receiver<Option<Arc<status::Holders>>>,
        watch::Receiver<Arc<edges::Report>>,
    ),
    facts: watch::Sender<Facts>,
    stop: CancellationToken,
) {
    loop {
        tokio::select! {
            changed = holders.changed() => if changed.is_err() { return },
            () = stop.cancelled() => return,
        }
        let now = holders.borrow_and_update().clone();
        let joined = report.borrow().incarnation != 0;
        facts.send_modify(|facts| {
            facts.holders = now;
            facts.joined |= joined;
        });
    }
}
