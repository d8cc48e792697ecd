//! Planning again and again.

use std::sync::Arc;

use model::snapshot::{Ingress, Service, ServicePort, TlsPair};
use model::{AlbSettings, Diagnostic, ObjectKey, SharedMap, Snapshot};

use super::planner::backends::{port_label, tcp};
use super::{Backend, Endpoints, L7Plan, plan};

/// Plans as [`plan`] does, and lets what stays the same be the same in memory. Where only endpoints
/// have changed since the last time, only their backends are planned.
#[derive(Debug, Default)]
pub struct Planner {
    last: Option<Last>,
    /// How often everything was planned.
    pub whole: u64,
}

/// What was planned last, and from what.
#[derive(Debug)]
struct Last {
    settings: Vec<AlbSettings>,
    ingresses: SharedMap<ObjectKey, Arc<Ingress>>,
    certificates: SharedMap<ObjectKey, TlsPair>,
    services: SharedMap<ObjectKey, Arc<Service>>,
    plan: Arc<L7Plan>,
    diagnostics: Vec<Diagnostic>,
}

impl Planner {
    /// Plans every ALB of `settings`.
    pub fn plan(
        &mut self,
        snapshot: &Snapshot,
        settings: &[AlbSettings],
    ) -> (Arc<L7Plan>, Vec<Diagnostic>) {
        let again = self.last.as_ref().and_then(|last| last.again(snapshot, settings));
        let (plan, diagnostics) = again.unwrap_or_else(|| {
            self.whole += 1;
            let (plan, diagnostics) = plan(snapshot, settings);
            let plan = match &self.last {
                Some(last) => stay(&last.plan, plan),
                None => Arc::new(plan),
            };
            (plan, diagnostics)
        });
        self.last = Some(Last {
            settings: settings.to_vec(),
            ingresses: snapshot.ingresses.clone(),
            certificates: snapshot.certificates.clone(),
            services: snapshot.services.clone(),
            plan: Arc::clone(&plan),
            diagnostics: diagnostics.clone(),
        });
        (plan, diagnostics)
    }
}

impl Last {
    /// The plan where nothing but endpoints has changed.
    fn again(
        &self,
        snapshot: &Snapshot,
        settings: &[AlbSettings],
    ) -> Option<(Arc<L7Plan>, Vec<Diagnostic>)> {
        if self.settings != settings
            || !snapshot.ingresses.is(&self.ingresses)
            || !snapshot.certificates.is(&self.certificates)
        {
            return None;
        }
        let mut plan = Arc::clone(&self.plan);
        for (key, was, is) in snapshot.services.changes_from(&self.services) {
            let (was, is) = (was?, is?);
            if !is_alike(was, is) {
                return None;
            }
            let first = plan.backends.partition_point(|backend| backend.service < *key);
            let of = plan.backends.get(first..).unwrap_or_default().iter();
            let last = first + of.take_while(|backend| backend.service == *key).count();
            for at in first..last {
                let before = plan.backends.get(at)?;
                let Endpoints::Static(known) = &before.endpoints else { continue };
                let ports = is.ports.iter().filter(tcp);
                let mut ports =
                    ports.filter(|port| port_label(&port.name, port.number) == before.port);
                let port = ports.next()?;
                if ports.next().is_some() {
                    // It takes the rules to tell which of two that are called the same it is.
                    return None;
                }
                if port.endpoints != *known {
                    let endpoints = Endpoints::Static(port.endpoints.clone());
                    let (service, port) = (before.service.clone(), before.port.clone());
                    let backend = Arc::new(Backend { service, port, endpoints });
                    *Arc::make_mut(&mut plan).backends.get_mut(at)? = backend;
                }
            }
        }
        Some((plan, self.diagnostics.clone()))
    }
}

/// Whether rules find the same ports in both. How they are reached from outside is no matter here.
fn is_alike(was: &Service, is: &Service) -> bool {
    let same = |(was, is): (&ServicePort, &ServicePort)| {
        (&was.name, was.protocol, was.number) == (&is.name, is.protocol, is.number)
    };
    was.external_name == is.external_name
        && was.broken == is.broken
        && was.ports.len() == is.ports.len()
        && was.ports.iter().zip(&is.ports).all(same)
}

/// The new plan, made of parts of the one before where they are alike.
fn stay(before: &Arc<L7Plan>, mut plan: L7Plan) -> Arc<L7Plan> {
    for (kind, alb) in &mut plan.albs {
        if let Some(same) = before.albs.get(kind).filter(|before| *before == alb) {
            *alb = Arc::clone(same);
        }
    }
    let mut known = before.backends.iter().peekable();
    for backend in &mut plan.backends {
        let place = (&backend.service, &backend.port);
        while known.next_if(|one| (&one.service, &one.port) < place).is_some() {}
        if let Some(same) = known.next_if(|one| *one == backend) {
            *backend = Arc::clone(same);
        }
    }
    match **before == plan {
        true => Arc::clone(before),
        false => Arc::new(plan),
    }
}
