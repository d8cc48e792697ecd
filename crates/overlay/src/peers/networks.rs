//! What belongs to an address: of all networks that it is in, the longest prefix's.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;

/// Values by networks. There are few different prefix lengths in one table, so it is looked at
/// length by length.
#[derive(Clone, Debug)]
pub struct Networks<T> {
    /// The longest first.
    v4: Vec<Length<u32, T>>,
    v6: Vec<Length<u128, T>>,
}

#[derive(Clone, Debug)]
struct Length<B, T> {
    bits: u8,
    mask: B,
    by_network: BTreeMap<B, T>,
}

impl<T> Default for Networks<T> {
    fn default() -> Self {
        Self { v4: Vec::new(), v6: Vec::new() }
    }
}

impl<T> Networks<T> {
    /// Adds a network, or replaces its value.
    pub fn insert(&mut self, network: IpNet, value: T) {
        match network {
            IpNet::V4(net) => {
                let (mask, key) = (net.netmask().to_bits(), net.network().to_bits());
                insert(&mut self.v4, net.prefix_len(), mask, key, value);
            }
            IpNet::V6(net) => {
                let (mask, key) = (net.netmask().to_bits(), net.network().to_bits());
                insert(&mut self.v6, net.prefix_len(), mask, key, value);
            }
        }
    }

    /// What belongs to an address.
    #[inline]
    pub fn get(&self, address: IpAddr) -> Option<&T> {
        match address {
            IpAddr::V4(ip) => {
                let bits = ip.to_bits();
                self.v4.iter().find_map(|length| length.by_network.get(&(bits & length.mask)))
            }
            IpAddr::V6(ip) => {
                let bits = ip.to_bits();
                self.v6.iter().find_map(|length| length.by_network.get(&(bits & length.mask)))
            }
        }
    }
}

fn insert<B: Copy + Ord, T>(lengths: &mut Vec<Length<B, T>>, bits: u8, mask: B, key: B, value: T) {
    let place = match lengths.binary_search_by(|length| bits.cmp(&length.bits)) {
        Ok(place) => place,
        Err(place) => {
            lengths.insert(place, Length { bits, mask, by_network: BTreeMap::new() });
            place
        }
    };
    if let Some(length) = lengths.get_mut(place) {
        length.by_network.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(state: &mut u64) -> u64 {
        *state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        *state >> 33
    }

    #[test]
    fn the_longest_prefix_wins() {
        let mut state = 7;
        for _ in 0..200 {
            let mut all: Vec<(IpNet, usize)> = Vec::new();
            let mut networks = Networks::default();
            for number in 0..40 {
                // Of few bits, so that they lie within each other.
                let bits = next(&mut state) & 0xff;
                let net: IpNet = if next(&mut state).is_multiple_of(2) {
                    let length = (next(&mut state) % 9) as u8;
                    IpNet::new(IpAddr::from(((bits as u32) << 24).to_be_bytes()), length).unwrap()
                } else {
                    let length = (next(&mut state) % 9) as u8 * 16;
                    let ip = u128::from(bits) << 120 | u128::from(bits);
                    IpNet::new(IpAddr::from(ip.to_be_bytes()), length).unwrap()
                };
                let net = net.trunc();
                all.retain(|(other, _)| *other != net);
                all.push((net, number));
                networks.insert(net, number);
            }
            for bits in 0..=255_u128 {
                for address in [
                    IpAddr::from(((bits as u32) << 24).to_be_bytes()),
                    IpAddr::from((bits << 120 | bits).to_be_bytes()),
                ] {
                    let found = all.iter().filter(|(net, _)| net.contains(&address));
                    let longest = found.max_by_key(|(net, _)| net.prefix_len());
                    assert_eq!(networks.get(address), longest.map(|(_, number)| number));
                }
            }
        }
    }

    #[test]
    fn a_default_network_takes_what_is_nobodys_of_its_family() {
        let mut networks = Networks::default();
        networks.insert("0.0.0.0/0".parse().unwrap(), "all");
        networks.insert("10.0.0.0/8".parse().unwrap(), "ten");
        assert_eq!(networks.get("10.1.2.3".parse().unwrap()), Some(&"ten"));
        assert_eq!(networks.get("11.1.2.3".parse().unwrap()), Some(&"all"));
        assert_eq!(networks.get("2001:db8::1".parse().unwrap()), None);
    }
}
