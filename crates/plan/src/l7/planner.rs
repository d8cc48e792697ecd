//! From the snapshot to the ALBs' plan.
//!
//! Ingresses are laid down from the oldest to the youngest, and what lies there first stays: of
//! two rules for the same host and path the older one's is in force. (Of two of the same age, or
//! of none, as in hand-written manifests, the first by namespace and name.)

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::snapshot::{Ingress, IngressTarget, Rule, SslRedirect};
use model::{AlbKind, AlbSettings, Diagnostic, ObjectKey, ObjectRef, Snapshot};

use super::{AlbPlan, HostMatch, L7Plan, PathMatch, Route, RoutePolicy, Target};

pub(super) mod backends;
mod certificates;

use backends::{BackendKey, Backends};
use certificates::TlsHosts;

/// Plans every ALB of `settings`. Pure: the same snapshot and settings always give the same plan.
///
/// A diagnostic tells of every rule that is not in force as it is written; those that `ingest`
/// has made already are not repeated.
pub fn plan(snapshot: &Snapshot, settings: &[AlbSettings]) -> (L7Plan, Vec<Diagnostic>) {
    let mut diagnostics = Vec::new();
    let mut backends = Backends::new(snapshot);
    let mut drafts = BTreeMap::new();
    for alb in settings {
        let draft = AlbDraft::new(snapshot, alb, &mut backends, &mut diagnostics);
        drafts.insert(alb.kind, draft.finish());
    }
    let (backends, ids) = backends.finish();
    let albs = drafts
        .into_iter()
        .map(|(kind, (drafts, certificates))| {
            let routes = drafts.into_iter().map(|draft| draft.finish(&ids)).collect();
            (kind, Arc::new(AlbPlan { routes, certificates }))
        })
        .collect();
    diagnostics.sort();
    diagnostics.dedup();
    let backends = backends.into_iter().map(Arc::new).collect();
    (L7Plan { albs, backends }, diagnostics)
}

/// A route whose backend has no number yet.
struct Draft {
    route: Route,
    backend: Option<BackendKey>,
}

impl Draft {
    fn finish(mut self, ids: &backends::Ids) -> Route {
        if let Some(id) = self.backend.as_ref().and_then(|key| ids.get(key)) {
            self.route.target = Target::Backend(*id);
        }
        self.route
    }
}

/// Everything about an Ingress that its routes share.
struct Source<'a> {
    key: &'a ObjectKey,
    ingress: &'a Ingress,
}

impl Source<'_> {
    fn object(&self) -> ObjectRef {
        ObjectRef::namespaced("Ingress", self.key)
    }
}

/// Where the next route lies, before it is known whether it will be in force.
struct Place<'a> {
    host: &'a HostMatch,
    path: &'a PathMatch,
    field: &'a str,
}

struct AlbDraft<'a, 'b> {
    snapshot: &'a Snapshot,
    settings: &'a AlbSettings,
    /// Oldest first.
    ingresses: Vec<Source<'a>>,
    tls: TlsHosts<'a>,
    routes: BTreeMap<(HostMatch, PathMatch), Draft>,
    backends: &'b mut Backends<'a>,
    diagnostics: &'b mut Vec<Diagnostic>,
    certificates: super::Certificates,
}

impl<'a, 'b> AlbDraft<'a, 'b> {
    fn new(
        snapshot: &'a Snapshot,
        settings: &'a AlbSettings,
        backends: &'b mut Backends<'a>,
        diagnostics: &'b mut Vec<Diagnostic>,
    ) -> Self {
        let ingresses = oldest_first(snapshot, settings.kind);
        let certificates = certificates::plan(
            snapshot,
            &ingresses,
            settings.default_certificate.as_ref(),
            diagnostics,
        );
        let tls = TlsHosts::new(&ingresses);
        let routes = BTreeMap::new();
        Self { snapshot, settings, ingresses, tls, routes, backends, diagnostics, certificates }
    }

    fn finish(mut self) -> (Vec<Draft>, super::Certificates) {
        let ingresses = std::mem::take(&mut self.ingresses);
        for source in &ingresses {
            for rule in &source.ingress.rules {
                self.add_paths(source, rule);
            }
        }
        // A default backend that can't serve doesn't keep the requests from one that can: unlike
        // a path, it takes what nobody asked it to take.
        let (able, unable): (Vec<_>, Vec<_>) =
            ingresses.iter().partition(|source| self.fault_of_default(source).is_none());
        for source in able.into_iter().chain(unable) {
            self.add_default_backend(source);
        }
        for source in &ingresses {
            self.add_app_root(source);
        }
        self.add_albs_default_backend();
        (self.routes.into_values().collect(), self.certificates)
    }

    fn add_paths(&mut self, source: &Source<'_>, rule: &Rule) {
        for path in &rule.paths {
            let place = Place { host: &rule.host, path: &path.path, field: &path.field };
            if self.is_free(source, &place) {
                self.add(source, &place, &path.target);
            }
        }
    }

    /// An Ingress' default backend takes what no rule matches: on the hosts of its own rules and
    /// on all that have no default backend of their own.
    fn add_default_backend(&mut self, source: &Source<'_>) {
        let Some(target) = &source.ingress.default_backend else { return };
        let mut hosts: BTreeSet<&HostMatch> =
            source.ingress.rules.iter().map(|rule| &rule.host).collect();
        hosts.insert(&HostMatch::Any);
        for host in hosts {
            let place = Place { host, path: &PathMatch::Default, field: "spec.defaultBackend" };
            if self.is_free(source, &place) {
                self.add(source, &place, target);
            }
        }
    }

    /// Why an Ingress' default backend can't serve, if it can't. One of an Ingress that is refused
    /// has no such fault: it must keep its place, since the protection that it lacks was meant
    /// for it.
    fn fault_of_default(&self, source: &Source<'_>) -> Option<String> {
        let Ingress { default_backend, policy, refused, .. } = source.ingress;
        if refused.is_some() || policy.redirect.is_some() {
            return None;
        }
        match default_backend.as_ref()? {
            IngressTarget::Service(wanted) => {
                self.backends.find(wanted).err().map(|unresolved| unresolved.to_string())
            }
            IngressTarget::Broken(reason) => Some(reason.clone()),
        }
    }

    /// An application's root is redirected to also where none of the Ingress' own paths is `/`.
    fn add_app_root(&mut self, source: &Source<'_>) {
        let Some(location) = &source.ingress.policy.app_root else { return };
        if source.ingress.refused.is_some() || source.ingress.policy.redirect.is_some() {
            return;
        }
        let root = PathMatch::Exact("/".to_owned());
        for rule in &source.ingress.rules {
            let key = (rule.host.clone(), root.clone());
            if rule.paths.iter().any(|path| is_root(&path.path)) || self.routes.contains_key(&key) {
                continue;
            }
            let place = Place { host: &rule.host, path: &root, field: &rule.field };
            let target = Target::Redirect { status: 302, location: location.clone() };
            let route = self.route(source, &place, target);
            self.routes.insert(key, Draft { route, backend: None });
        }
    }

    fn add_albs_default_backend(&mut self) {
        let key = (HostMatch::Any, PathMatch::Default);
        let Some((service, port)) = &self.settings.default_backend else { return };
        if self.routes.contains_key(&key) {
            return;
        }
        let field = format!("alb.{}.defaultBackend", self.settings.kind);
        let mut draft = Draft {
            route: Route {
                host: HostMatch::Any,
                path: PathMatch::Default,
                ingress: None,
                field: field.clone(),
                target: Target::Unavailable { reason: String::new() },
                policy: RoutePolicy::default(),
            },
            backend: None,
        };
        match self.backends.resolve_text(service, port) {
            Ok(backend) => draft.backend = Some(backend),
            Err(unresolved) => {
                let object = ObjectRef::cluster("GatewayConfig", "gateway");
                draft.route.target = Target::Unavailable { reason: unresolved.to_string() };
                self.diagnostics.push(unresolved.diagnostic(object, &field));
            }
        }
        self.routes.insert(key, draft);
    }

    /// Whether no older Ingress, and no earlier rule of this one, has the place.
    fn is_free(&mut self, source: &Source<'_>, place: &Place<'_>) -> bool {
        let key = (place.host.clone(), place.path.clone());
        let Some(Draft { route: winner, .. }) = self.routes.get(&key) else { return true };
        let what = match place.path {
            PathMatch::Default => format!("a default backend for host {}", place.host),
            path => format!("{path} on host {}", place.host),
        };
        let (reason, remedy) = match &winner.ingress {
            Some(ingress) if ingress == source.key => (
                format!("{what} stands in {} already, which comes first", winner.field),
                "remove one of the two".to_owned(),
            ),
            Some(ingress) => (
                format!("{what} belongs to {}", self.winner(source, ingress, winner)),
                format!("choose another host or path, or remove it from Ingress {ingress}"),
            ),
            None => return true,
        };
        self.diagnostics.push(
            Diagnostic::warning(source.object(), place.field, reason)
                .remedy(remedy)
                .at(source.ingress.location.clone()),
        );
        false
    }

    /// The Ingress whose rule is in force in place of one of `loser`'s, and why it is.
    fn winner(&self, loser: &Source<'_>, key: &ObjectKey, route: &Route) -> String {
        let Some(ingress) = self.snapshot.ingresses.get(key) else {
            return format!("Ingress {key} ({})", route.field);
        };
        let place = match &ingress.location {
            Some(location) => format!("{}, {location}", route.field),
            None => route.field.clone(),
        };
        if route.path == PathMatch::Default
            && let Some(fault) = self.fault_of_default(loser)
            && self.fault_of_default(&Source { key, ingress }).is_none()
        {
            format!("Ingress {key} ({place}), since here {fault}")
        } else if ingress.created == loser.ingress.created {
            format!("Ingress {key} ({place}), which is first by name")
        } else {
            format!("the older Ingress {key} ({place})")
        }
    }

    fn add(&mut self, source: &Source<'_>, place: &Place<'_>, target: &IngressTarget) {
        let (target, backend) = self.target(source, place, target);
        let route = self.route(source, place, target);
        self.routes.insert((route.host.clone(), route.path.clone()), Draft { route, backend });
    }

    fn target(
        &mut self,
        source: &Source<'_>,
        place: &Place<'_>,
        target: &IngressTarget,
    ) -> (Target, Option<BackendKey>) {
        let ingress = source.ingress;
        if let Some(reason) = &ingress.refused {
            return (Target::Unavailable { reason: reason.clone() }, None);
        }
        if let Some(redirect) = &ingress.policy.redirect {
            let location = redirect.location.clone();
            return (Target::Redirect { status: redirect.status, location }, None);
        }
        let service = match target {
            IngressTarget::Broken(reason) => {
                return (Target::Unavailable { reason: reason.clone() }, None);
            }
            IngressTarget::Service(service) => service,
        };
        match self.backends.resolve(service) {
            // The number is put in at the end, when all backends are known.
            Ok(key) => (Target::Unavailable { reason: String::new() }, Some(key)),
            Err(unresolved) => {
                let field = match place.path {
                    PathMatch::Default => place.field.to_owned(),
                    _ => format!("{}.backend", place.field),
                };
                let reason = unresolved.to_string();
                let diagnostic = unresolved.diagnostic(source.object(), &field);
                self.diagnostics.push(diagnostic.at(ingress.location.clone()));
                (Target::Unavailable { reason }, None)
            }
        }
    }

    fn route(&self, source: &Source<'_>, place: &Place<'_>, target: Target) -> Route {
        let policy = &source.ingress.policy;
        let ssl_redirect = match policy.ssl_redirect {
            SslRedirect::Off => false,
            SslRedirect::Force => true,
            SslRedirect::On => self.tls.contains(place.host),
            SslRedirect::Inherit => self.settings.ssl_redirect && self.tls.contains(place.host),
        };
        Route {
            host: place.host.clone(),
            path: place.path.clone(),
            ingress: Some(source.key.clone()),
            field: place.field.to_owned(),
            target,
            policy: RoutePolicy {
                ssl_redirect,
                app_root: policy.app_root.clone(),
                rewrite: policy.rewrite.clone(),
                upstream_host: policy.upstream_host.clone(),
                allow: policy.allow.clone(),
                deny: policy.deny.clone(),
                max_body: policy.max_body,
                timeouts: policy.timeouts.clone(),
                balance: policy.balance,
            },
        }
    }
}

/// Whether a path takes requests for `/`.
fn is_root(path: &PathMatch) -> bool {
    match path {
        PathMatch::Exact(path) | PathMatch::Prefix(path) => path == "/",
        PathMatch::Regex(_) | PathMatch::Default => false,
    }
}

/// An ALB's Ingresses by creation time, those without one last, then by namespace and name.
fn oldest_first(snapshot: &Snapshot, kind: AlbKind) -> Vec<Source<'_>> {
    let mut ingresses: Vec<Source<'_>> = snapshot
        .ingresses
        .iter()
        .filter(|(_, ingress)| ingress.alb == kind)
        .map(|(key, ingress)| Source { key, ingress })
        .collect();
    ingresses.sort_by_key(|source| {
        (source.ingress.created.is_none(), source.ingress.created, source.key)
    });
    ingresses
}
