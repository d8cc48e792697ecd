//! One-to-one translation of networks.

use std::net::IpAddr;

use ipnet::IpNet;

use super::NatPair;

impl NatPair {
    /// What a network inside becomes outside; none if `inside` doesn't hold all of it.
    pub fn outward(&self, network: IpNet) -> Option<IpNet> {
        moved(network, self.inside, self.outside)
    }

    /// What a network outside becomes inside; none if `outside` doesn't hold all of it.
    pub fn inward(&self, network: IpNet) -> Option<IpNet> {
        moved(network, self.outside, self.inside)
    }

    /// The other way round.
    #[must_use]
    pub fn reversed(self) -> Self {
        Self { inside: self.outside, outside: self.inside }
    }
}

/// What networks are beyond a translation: a part that a pair has becomes what the pair makes of
/// it (the longest one that holds all of it, and those for parts of it), the rest stays. Sorted.
pub fn beyond(networks: &[IpNet], pairs: &[NatPair]) -> Vec<IpNet> {
    let mut all = Vec::with_capacity(networks.len());
    for &network in networks {
        let whole = pairs.iter().filter(|pair| pair.inside.contains(&network));
        let whole = whole.max_by_key(|pair| pair.inside.prefix_len());
        all.push(whole.and_then(|pair| pair.outward(network)).unwrap_or(network));
        let parts = pairs.iter().filter(|pair| {
            network.contains(&pair.inside) && network.prefix_len() < pair.inside.prefix_len()
        });
        all.extend(parts.map(|pair| pair.outside));
    }
    outermost(all)
}

/// Sorted, without those that lie in another one.
pub fn outermost(mut networks: Vec<IpNet>) -> Vec<IpNet> {
    networks.iter_mut().for_each(|network| *network = network.trunc());
    // A network comes before those within it.
    networks.sort_by_key(|network| (network.addr(), network.prefix_len()));
    let mut kept: Vec<IpNet> = Vec::with_capacity(networks.len());
    for network in networks {
        if !kept.last().is_some_and(|last| last.contains(&network)) {
            kept.push(network);
        }
    }
    kept
}

/// Whether two networks have an address in common.
pub fn overlap(one: &IpNet, other: &IpNet) -> bool {
    one.contains(other) || other.contains(one)
}

fn moved(network: IpNet, from: IpNet, to: IpNet) -> Option<IpNet> {
    if !from.contains(&network) || from.prefix_len() != to.prefix_len() {
        return None;
    }
    let address = match (network.network(), to.network(), to.hostmask()) {
        (IpAddr::V4(of), IpAddr::V4(to), IpAddr::V4(host)) => {
            IpAddr::V4((u32::from(to) | (u32::from(of) & u32::from(host))).into())
        }
        (IpAddr::V6(of), IpAddr::V6(to), IpAddr::V6(host)) => {
            IpAddr::V6((u128::from(to) | (u128::from(of) & u128::from(host))).into())
        }
        _ => return None,
    };
    IpNet::new(address, network.prefix_len()).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn pair(inside: &str, outside: &str) -> NatPair {
        NatPair { inside: inside.parse().unwrap(), outside: outside.parse().unwrap() }
    }

    #[test]
    fn the_host_part_stays_and_the_prefix_changes() {
        let pair = pair("172.30.0.0/16", "10.130.0.0/16");
        assert_eq!(pair.outward(nets(&["172.30.4.0/24"])[0]), Some(nets(&["10.130.4.0/24"])[0]));
        assert_eq!(pair.inward(nets(&["10.130.4.7/32"])[0]), Some(nets(&["172.30.4.7/32"])[0]));
        assert_eq!(pair.outward(nets(&["172.0.0.0/8"])[0]), None);
        assert_eq!(pair.outward(nets(&["fd00::/64"])[0]), None);
    }

    #[test]
    fn networks_beyond_a_translation_are_what_the_other_side_sees() {
        let whole = pair("172.30.0.0/16", "10.130.0.0/16");
        let host = pair("172.30.1.5/32", "192.0.2.5/32");
        let beyond = |networks: &[&str], pairs: &[NatPair]| super::beyond(&nets(networks), pairs);
        assert_eq!(beyond(&["172.30.0.0/16"], &[whole]), nets(&["10.130.0.0/16"]));
        assert_eq!(beyond(&["172.30.8.0/24"], &[whole]), nets(&["10.130.8.0/24"]));
        assert_eq!(beyond(&["172.30.0.0/16"], &[host]), nets(&["172.30.0.0/16", "192.0.2.5/32"]));
        let both = [whole, host];
        assert_eq!(beyond(&["172.30.0.0/16"], &both), nets(&["10.130.0.0/16", "192.0.2.5/32"]));
        assert_eq!(beyond(&["172.30.1.5/32"], &both), nets(&["192.0.2.5/32"]));
        assert_eq!(beyond(&["172.21.0.0/16"], &both), nets(&["172.21.0.0/16"]));
    }

    #[test]
    fn networks_within_others_are_left_out() {
        let all = nets(&["10.0.0.0/8", "fd00::/8", "10.1.0.0/16", "10.0.0.0/16", "10.0.0.0/8"]);
        assert_eq!(outermost(all), nets(&["10.0.0.0/8", "fd00::/8"]));
    }
}
