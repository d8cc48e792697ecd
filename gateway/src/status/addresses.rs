//! Where the ALBs are reached.

use std::net::IpAddr;

use model::AlbKind;
use model::net::Visibility;

use super::View;

impl View<'_> {
    /// The addresses of an ALB, as Ingresses have them: those out of pools, which move from edge to
    /// edge; without any those at which the edges that are ready listen.
    pub(super) fn alb(&self, kind: AlbKind) -> Vec<IpAddr> {
        let of_pools = self.facts.l4.as_ref().and_then(|plan| plan.albs.get(&kind));
        let mut addresses = match of_pools.filter(|addresses| !addresses.is_empty()) {
            Some(addresses) => addresses.clone(),
            None => self.of_edges(kind),
        };
        sort(&mut addresses);
        addresses
    }

    fn of_edges(&self, kind: AlbKind) -> Vec<IpAddr> {
        let mut addresses: Vec<IpAddr> =
            if self.facts.stopping { Vec::new() } else { self.own_alb(kind) };
        let edges = self.facts.delivery.objects.edges.iter();
        for (_, edge) in edges.filter(|(name, _)| **name != self.context.name) {
            let Some(status) = &edge.status else { continue };
            let conditions = status.conditions.as_deref().unwrap_or_default();
            let ready = conditions.iter().any(|one| one.kind == "Ready" && one.status == "True");
            if !ready || edge.spec.drain == Some(true) || !self.lives(&edge.metadata.name) {
                continue;
            }
            let listed = match kind {
                AlbKind::Public => &status.public_addresses,
                AlbKind::Private => &status.private_addresses,
            };
            addresses
                .extend(listed.iter().flatten().filter_map(|text| text.parse::<IpAddr>().ok()));
        }
        addresses
    }

    /// Whether an edge lives, as far as that is known.
    fn lives(&self, name: &Option<String>) -> bool {
        match (&self.facts.holders, name) {
            (Some(holders), Some(name)) => holders.live.contains(name),
            _ => true,
        }
    }

    /// Where this edge's ALB listens besides addresses out of pools.
    pub(super) fn own_alb(&self, kind: AlbKind) -> Vec<IpAddr> {
        let listen = self.context.listen.get(&kind).map_or(&[][..], Vec::as_slice);
        let mut addresses = Vec::new();
        for &address in listen {
            if address.is_unspecified() {
                // "::" takes IPv4, too.
                let all = self.of_machine(kind);
                addresses.extend(all.filter(|one| address.is_ipv6() || one.is_ipv4()));
            } else if is_reachable(address) {
                addresses.push(address);
            }
        }
        sort(&mut addresses);
        addresses
    }

    /// The machine's addresses on that side, or without interfaces for sides those towards nodes.
    fn of_machine(&self, kind: AlbKind) -> impl Iterator<Item = IpAddr> {
        let side = match kind {
            AlbKind::Public => Visibility::Public,
            AlbKind::Private => Visibility::Private,
        };
        let interfaces = match &self.context.settings.l4 {
            Some(l4) => l4.interfaces(side),
            None => &[],
        };
        let host = self.facts.host.iter().filter(|host| interfaces.contains(&host.interface));
        let host: Vec<IpAddr> =
            host.map(|host| host.network.addr()).filter(|one| is_reachable(*one)).collect();
        match host.is_empty() {
            true => self.facts.overlay.underlay.clone(),
            false => host,
        }
        .into_iter()
    }
}

/// Whether others may reach an address.
fn is_reachable(address: IpAddr) -> bool {
    let link_local = match address {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.is_unicast_link_local(),
    };
    !address.is_loopback() && !address.is_unspecified() && !link_local
}

fn sort(addresses: &mut Vec<IpAddr>) {
    addresses.sort_unstable();
    addresses.dedup();
}
