//! The Services that the L4 plane has to do with.

use std::net::IpAddr;

use model::snapshot::{Dual, Exposure, Service};
use model::{Diagnostic, Location, ObjectKey, ObjectRef, Protocol, Snapshot};

/// One of them.
pub(super) struct Subject<'a> {
    pub(super) key: &'a ObjectKey,
    /// The key as allocations have it.
    pub(super) name: String,
    pub(super) service: &'a Service,
    /// None for a broken one of which it isn't known.
    pub(super) exposure: Option<&'a Exposure>,
}

impl<'a> Subject<'a> {
    /// All of them, from the oldest to the youngest; those without an age last, by name.
    pub(super) fn all(snapshot: &'a Snapshot) -> Vec<Self> {
        let mut all: Vec<Self> = snapshot
            .services
            .iter()
            .filter(|(_, service)| service.exposure.is_some() || service.broken.is_some())
            .map(|(key, service)| Self {
                key,
                name: key.to_string(),
                service,
                exposure: service.exposure.as_deref(),
            })
            .collect();
        all.sort_by_key(|subject| {
            let created = subject.exposure.and_then(|exposure| exposure.created);
            (created.is_none(), created, subject.key)
        });
        all
    }

    /// Whether nobody knows which addresses it wants, since it is broken: it has what it had.
    pub(super) fn is_unclear(&self) -> bool {
        self.exposure.is_none_or(|exposure| exposure.refused.is_some())
    }

    /// How it is reached, if it gets VIPs.
    pub(super) fn load_balancer(&self) -> Option<&'a Exposure> {
        self.exposure.filter(|exposure| exposure.load_balancer)
    }

    pub(super) fn error(&self, field: &str, reason: String) -> Diagnostic {
        Diagnostic::error(self.object(), field, reason).at(self.location())
    }

    pub(super) fn warning(&self, field: &str, reason: String) -> Diagnostic {
        Diagnostic::warning(self.object(), field, reason).at(self.location())
    }

    fn object(&self) -> ObjectRef {
        ObjectRef::namespaced("Service", self.key)
    }

    fn location(&self) -> Option<Location> {
        self.exposure.and_then(|exposure| exposure.location.clone())
    }

    /// The names for which TLS passes through on ports of a protocol; none where any connection is
    /// taken.
    pub(super) fn sni_hosts(&self, protocol: Protocol) -> &'a [String] {
        match self.exposure {
            Some(exposure) if protocol == Protocol::Tcp => &exposure.stream.sni_hosts,
            _ => &[],
        }
    }
}

/// The families of addresses that a Service wants, and how many.
pub(super) struct Wanted {
    /// Whether IPv6, in the order in which they are tried.
    pub(super) order: Vec<bool>,
    /// How many it gets at most.
    pub(super) most: usize,
    /// With fewer it gets none.
    pub(super) least: usize,
}

impl Wanted {
    pub(super) fn of(exposure: &Exposure) -> Self {
        let families = exposure.families;
        let first = families.ipv6_first;
        let (order, most, least) = match families.dual {
            Dual::Single if families.named => (vec![first], 1, 1),
            Dual::Single => (vec![first, !first], 1, 1),
            Dual::Prefer => (vec![first, !first], 2, 1),
            Dual::Require => (vec![first, !first], 2, 2),
        };
        Self { order, most, least }
    }

    /// Whether it would take one more address of the family, besides those that it has.
    pub(super) fn takes(&self, v6: bool, has: &[IpAddr]) -> bool {
        self.order.contains(&v6)
            && has.len() < self.most
            && has.iter().all(|address| address.is_ipv6() != v6)
    }

    /// Brings addresses into the order of the families.
    pub(super) fn sort(&self, addresses: &mut [IpAddr]) {
        addresses.sort_by_key(|address| self.order.iter().position(|&v6| v6 == address.is_ipv6()));
    }
}

/// The path of an annotation.
pub(super) fn annotation(name: &str) -> String {
    format!("metadata.annotations[\"tidegate.io/{name}\"]")
}
