//! Selectors and policies of a child, as the kernel has them: networks and blocks of ports.

use ipnet::{IpNet, Ipv4Subnets, Ipv6Subnets};
use ipsec::selector::TrafficSelector;
use netdev::xfrm::{Ports, Selector};
use plan::vpn::Policy;
use std::net::IpAddr;

/// How many pairs a child may have in the kernel.
const MOST: usize = 4096;
/// ICMP, and that of IPv6.
const ICMP: [u8; 2] = [1, 58];

/// Packets between this side and the other one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Pair {
    pub(super) local: IpNet,
    pub(super) remote: IpNet,
    pub(super) protocol: u8,
    pub(super) local_ports: Ports,
    pub(super) remote_ports: Ports,
}

impl Pair {
    fn networks(local: IpNet, remote: IpNet) -> Self {
        let ports = Ports::default();
        Self { local, remote, protocol: 0, local_ports: ports, remote_ports: ports }
    }

    /// Of packets that leave.
    pub(super) fn outward(&self) -> Selector {
        Selector {
            source: self.local,
            destination: self.remote,
            protocol: self.protocol,
            source_ports: self.local_ports,
            destination_ports: self.remote_ports,
        }
    }

    /// Of packets that come.
    pub(super) fn inward(&self) -> Selector {
        Selector {
            source: self.remote,
            destination: self.local,
            protocol: self.protocol,
            source_ports: self.remote_ports,
            destination_ports: self.local_ports,
        }
    }

    /// The lowest counts: the longest remote network first, of equal ones the longest local one,
    /// then those with protocol and ports.
    pub(super) fn priority(&self) -> u32 {
        let shortness = |network: IpNet| u32::from(network.max_prefix_len() - network.prefix_len());
        let narrow = [
            self.protocol != 0,
            self.local_ports != Ports::default(),
            self.remote_ports != Ports::default(),
        ];
        let wide = narrow.into_iter().filter(|narrow| !narrow).count() as u32;
        1000 + (shortness(self.remote) * 129 + shortness(self.local)) * 4 + wide
    }

    /// What is in both, if the networks have something in common.
    fn within(&self, local: IpNet, remote: IpNet) -> Option<Self> {
        let local = common(self.local, local)?;
        Some(Self { local, remote: common(self.remote, remote)?, ..*self })
    }
}

/// Of two networks one lies in the other, or they have nothing in common.
fn common(one: IpNet, other: IpNet) -> Option<IpNet> {
    if one.contains(&other) { Some(other) } else { other.contains(&one).then_some(one) }
}

/// What a policy leads into its tunnel.
pub(super) fn of_policy(policy: &Policy) -> Vec<Pair> {
    let mut locals: Vec<IpNet> = policy.local.iter().map(IpNet::trunc).collect();
    if let Some(sources) = &policy.sources {
        let both = |local: &IpNet| {
            let local = *local;
            sources.iter().filter_map(move |source| common(local, source.trunc()))
        };
        locals = locals.iter().flat_map(both).collect();
    }
    let mut pairs: Vec<Pair> = locals
        .iter()
        .flat_map(|local| policy.remote.iter().map(|remote| (*local, remote.trunc())))
        .filter(|(local, remote)| local.addr().is_ipv4() == remote.addr().is_ipv4())
        .map(|(local, remote)| Pair::networks(local, remote))
        .collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

/// What was agreed on.
///
/// # Errors
/// What the kernel can't say, for people.
pub(super) fn of_sa(
    local: &[TrafficSelector],
    remote: &[TrafficSelector],
) -> Result<Vec<Pair>, String> {
    let mut pairs = Vec::new();
    for local in local {
        for remote in remote {
            let protocol = match (local.protocol, remote.protocol) {
                (0, protocol) | (protocol, 0) => protocol,
                (one, other) if one == other => one,
                _ => continue,
            };
            if local.first.is_ipv4() != remote.first.is_ipv4() {
                continue;
            }
            let (local_ports, remote_ports) = (ports(local, protocol)?, ports(remote, protocol)?);
            for local in networks(local) {
                for remote in networks(remote) {
                    for local_ports in &local_ports {
                        let pair = |remote_ports: &Ports| Pair {
                            local,
                            remote,
                            protocol,
                            local_ports: *local_ports,
                            remote_ports: *remote_ports,
                        };
                        pairs.extend(remote_ports.iter().map(pair));
                    }
                    if pairs.len() > MOST {
                        return Err(format!(
                            "its selectors are more than {MOST} policies of the kernel; agree on \
                             networks in place of ranges, or write `vpn.dataplane: userspace`"
                        ));
                    }
                }
            }
        }
    }
    pairs.sort_unstable();
    pairs.dedup();
    Ok(pairs)
}

/// What a policy leads into its tunnel, as far as it was agreed on.
pub(super) fn agreed(wanted: &[Pair], agreed: &[Pair]) -> Vec<Pair> {
    let mut pairs: Vec<Pair> = wanted
        .iter()
        .flat_map(|wanted| {
            agreed.iter().filter_map(|pair| pair.within(wanted.local, wanted.remote))
        })
        .collect();
    pairs.sort_unstable();
    pairs.dedup();
    pairs
}

fn ports(selector: &TrafficSelector, protocol: u8) -> Result<Vec<Ports>, String> {
    let all = (0, u16::MAX);
    match (selector.first_port, selector.last_port) {
        range if range == all => Ok(vec![Ports::default()]),
        (first, last) if first <= last && !ICMP.contains(&protocol) => {
            Ok(Ports::range(first, last))
        }
        _ => Err(format!(
            "the kernel has no policy for the selector {selector}: it knows neither opaque ports \
             nor ranges of ICMP types; write `vpn.dataplane: userspace`"
        )),
    }
}

fn networks(selector: &TrafficSelector) -> Vec<IpNet> {
    match (selector.first, selector.last) {
        (IpAddr::V4(first), IpAddr::V4(last)) => {
            Ipv4Subnets::new(first, last, 0).map(IpNet::V4).collect()
        }
        (IpAddr::V6(first), IpAddr::V6(last)) => {
            Ipv6Subnets::new(first, last, 0).map(IpNet::V6).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn nets(texts: &[&str]) -> Vec<IpNet> {
        texts.iter().map(|text| net(text)).collect()
    }

    fn policy(local: &[&str], remote: &[&str], sources: Option<&[&str]>) -> Policy {
        Policy {
            child: "c".to_owned(),
            local: nets(local),
            remote: nets(remote),
            local_nat: Vec::new(),
            remote_nat: Vec::new(),
            sources: sources.map(nets),
            local_selectors: nets(local),
            remote_selectors: nets(remote),
        }
    }

    fn shown(pairs: &[Pair]) -> Vec<String> {
        pairs.iter().map(|pair| pair.outward().to_string()).collect()
    }

    #[test]
    fn a_policy_has_pairs_of_one_family_and_only_its_sources() {
        let policy = policy(
            &["10.0.0.0/8", "fd00::/8"],
            &["192.168.0.0/16", "2001:db8::/32"],
            Some(&["10.1.0.0/16", "11.0.0.0/8", "::/0"]),
        );
        let pairs = shown(&of_policy(&policy));
        assert_eq!(pairs, ["10.1.0.0/16 to 192.168.0.0/16", "fd00::/8 to 2001:db8::/32"]);
    }

    #[test]
    fn what_was_agreed_on_narrows_what_is_wanted() {
        let wanted = of_policy(&policy(&["10.0.0.0/8"], &["192.168.0.0/16"], None));
        let mut remote = TrafficSelector::network(net("192.168.7.0/24"));
        (remote.protocol, remote.first_port, remote.last_port) = (6, 443, 443);
        let local = TrafficSelector::network(net("0.0.0.0/0"));
        let other = TrafficSelector::network(net("172.16.0.0/12"));
        let pairs = agreed(&wanted, &of_sa(&[local], &[remote, other]).unwrap());
        assert_eq!(shown(&pairs), ["10.0.0.0/8 to 192.168.7.0/24, protocol 6"]);
        let inward = pairs[0].inward();
        assert_eq!(inward.source_ports, Ports { bits: 443, mask: u16::MAX });
        assert_eq!(inward.destination_ports, Ports::default());
        assert!(pairs[0].priority() < wanted[0].priority());
    }

    #[test]
    fn the_longest_remote_network_and_then_the_longest_local_one_counts() {
        let pair = |local, remote| Pair::networks(net(local), net(remote)).priority();
        let host = pair("10.1.1.1/32", "192.168.7.0/24");
        let narrow = pair("10.0.0.0/8", "192.168.7.0/24");
        let wide = pair("10.1.1.1/32", "192.168.0.0/16");
        assert!(host < narrow && narrow < wide);
    }

    #[test]
    fn ranges_become_networks_and_what_cannot_be_said_is_refused() {
        let mut local = TrafficSelector::network(net("10.0.0.0/24"));
        local.first = "10.0.0.1".parse().unwrap();
        let remote = TrafficSelector::network(net("10.9.0.0/24"));
        // .1, .2/31, .4/30, and so on.
        assert_eq!(of_sa(&[local], &[remote]).unwrap().len(), 8);
        (local.first_port, local.last_port) = (u16::MAX, 0);
        assert!(of_sa(&[local], &[remote]).unwrap_err().contains("opaque"));
        (local.protocol, local.first_port, local.last_port) = (1, 0x800, 0x8ff);
        assert!(of_sa(&[local], &[remote]).unwrap_err().contains("userspace"));
    }
}
