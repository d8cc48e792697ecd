//! Service networks, spread over nodes.

use ipnet::IpNet;

use crate::l4::hash::fnv;

/// A service network has 2 to the power of this many parts, or one for each address.
const BITS: u8 = 8;

/// Which of the nodes has which parts of the networks: rendezvous hashing, so that only the parts
/// of a node that comes or goes move. Parts are joined where they can be. Nothing without nodes.
pub(super) fn spread<'n>(networks: &[IpNet], nodes: &[&'n str]) -> Vec<(&'n str, Vec<IpNet>)> {
    let mut parts: Vec<(&str, Vec<IpNet>)> = nodes.iter().map(|node| (*node, Vec::new())).collect();
    for network in networks {
        let length = network.max_prefix_len().min(network.prefix_len().saturating_add(BITS));
        let Ok(slices) = network.subnets(length) else { continue };
        for slice in slices {
            let name = slice.to_string();
            let weight = |node: &str| fnv(format!("{node} {name}").as_bytes(), 0);
            let best = parts.iter_mut().max_by_key(|(node, _)| (weight(node), *node));
            if let Some((_, slices)) = best {
                slices.push(slice);
            }
        }
    }
    for (_, slices) in &mut parts {
        *slices = IpNet::aggregate(slices);
        slices.sort_unstable();
    }
    parts.retain(|(_, slices)| !slices.is_empty());
    parts
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn owners(nodes: &[&str]) -> BTreeMap<IpNet, String> {
        let network: IpNet = "172.21.0.0/16".parse().unwrap();
        let parts = spread(&[network], nodes);
        let all = parts.iter().flat_map(|(node, slices)| {
            let small = slices.iter().flat_map(|slice| slice.subnets(24).unwrap());
            small.map(|slice| (slice, (*node).to_owned()))
        });
        all.collect()
    }

    #[test]
    fn every_part_has_one_node_and_only_a_lost_nodes_parts_move() {
        let all = owners(&["a", "b", "c"]);
        assert_eq!(all.len(), 256);
        let less = owners(&["a", "c"]);
        for (slice, owner) in &all {
            assert!(owner == "b" || less[slice] == *owner, "{slice} moved from {owner}");
        }
        for name in ["a", "b", "c"] {
            let count = all.values().filter(|owner| *owner == name).count();
            assert!((45..130).contains(&count), "{name} has {count}");
        }
        assert!(spread(&["172.21.0.0/16".parse().unwrap()], &[]).is_empty());
        let one =
            spread(&["172.21.0.0/16".parse().unwrap(), "fd00::/126".parse().unwrap()], &["a"]);
        assert_eq!(one[0].1.len(), 2);
    }
}
