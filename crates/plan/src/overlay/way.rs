//! Which way an edge and a node reach each other.

use std::net::IpAddr;

use model::HostAddress;
use model::snapshot::overlay::OverlayMode;

use super::Target;

/// What both ends want together: who wants packets encrypted gets his way.
pub(super) fn agreed(one: OverlayMode, other: OverlayMode) -> OverlayMode {
    match (one, other) {
        (OverlayMode::Wireguard, _) | (_, OverlayMode::Wireguard) => OverlayMode::Wireguard,
        (OverlayMode::Direct, _) | (_, OverlayMode::Direct) => OverlayMode::Direct,
        (OverlayMode::Auto, OverlayMode::Auto) => OverlayMode::Auto,
    }
}

/// A neighbour: another machine on a link that this one is on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Neighbour {
    /// Its addresses there, with the interfaces that lead to them; one for each family at most.
    pub(super) addresses: Vec<(IpAddr, String)>,
}

impl Neighbour {
    /// The machine with these addresses, if one of them lies in a network of an own interface,
    /// those of tunnels excepted.
    pub(super) fn find(
        host: &[HostAddress],
        addresses: &[IpAddr],
        is_tunnel: impl Fn(&str) -> bool,
    ) -> Option<Self> {
        let mut found: Vec<(IpAddr, String)> = Vec::new();
        for address in addresses {
            if found.iter().any(|(other, _)| other.is_ipv4() == address.is_ipv4()) {
                continue;
            }
            let links = host.iter().filter(|own| {
                let is_link = own.network.prefix_len() < own.network.max_prefix_len();
                is_link && !is_tunnel(&own.interface) && own.interface != "lo"
            });
            let links =
                links.filter(|own| own.network.contains(address) && own.network.addr() != *address);
            // The smallest network is the one that the kernel would take.
            let link = links.max_by_key(|own| own.network.prefix_len());
            found.extend(link.map(|own| (*address, own.interface.clone())));
        }
        (!found.is_empty()).then_some(Self { addresses: found })
    }

    /// The route's target for a family.
    pub(super) fn target(&self, v4: bool) -> Option<Target> {
        let mut of_family = self.addresses.iter().filter(|(address, _)| address.is_ipv4() == v4);
        of_family.next().map(|(address, interface)| Target::Via {
            address: *address,
            interface: interface.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_are_on_a_link_and_not_behind_a_tunnel() {
        let host: Vec<HostAddress> = [
            ("lo", "10.9.0.0/16"),
            ("tidegate-wg", "192.0.2.0/24"),
            ("eth0", "198.51.100.7/24"),
            ("eth1", "198.51.100.9/28"),
            ("eth2", "203.0.113.1/32"),
        ]
        .iter()
        .map(|(interface, network)| HostAddress {
            interface: (*interface).to_owned(),
            network: network.parse().unwrap(),
        })
        .collect();
        let find = |address: &str| {
            let address: IpAddr = address.parse().unwrap();
            let found = Neighbour::find(&host, &[address], |name| name.starts_with("tidegate-wg"));
            found.map(|found| found.addresses[0].1.clone())
        };
        assert_eq!(find("198.51.100.1").as_deref(), Some("eth1"));
        assert_eq!(find("198.51.100.99").as_deref(), Some("eth0"));
        for none in ["10.9.0.1", "192.0.2.1", "203.0.113.1", "2001:db8::1"] {
            assert_eq!(find(none), None, "{none}");
        }
    }
}
