//! What of a connection that is refused must not leave in the clear: as much as can be read.

use ipnet::IpNet;
use model::snapshot::vpn::NatPair;
use model::snapshot::vpn::nat::{beyond, outermost};
use serde_json::Value;

use super::reader::values;
use crate::crds::VpnConnection;

/// Pairs that are read: more make the connection refused anyway.
const MOST_PAIRS: usize = 1024;

/// The remote networks as this side's hosts see them, from whatever can be read of an object.
/// Networks that hold one of this side's own are left out: they would be cut off themselves.
pub(super) fn networks(object: &VpnConnection, cluster: &[IpNet]) -> Vec<IpNet> {
    let spec = &object.spec;
    let children = spec["children"].as_array();
    let mut real = parsed(&spec["remote"]["subnets"]);
    for child in children.into_iter().flatten() {
        real.extend(parsed(&child["remote"]));
    }
    let own = outermost(own(object).into_iter().chain(cluster.iter().copied()).collect());
    let pairs: Vec<NatPair> = texts(&spec["remoteSubnetNAT"])
        .take(MOST_PAIRS)
        .filter_map(|text| values::pair(text).ok())
        .map(NatPair::reversed)
        .collect();
    real.retain(|network| network.prefix_len() > 0);
    let mut seen = beyond(&outermost(real), &pairs);
    // They are sorted and apart, so only the last one before it may hold it.
    seen.retain(|network| {
        let before = own.partition_point(|own| {
            (own.addr(), own.prefix_len()) <= (network.addr(), network.prefix_len())
        });
        !own.get(..before).and_then(<[IpNet]>::last).is_some_and(|own| own.contains(network))
    });
    seen
}

/// The local networks, from whatever can be read of an object.
pub(super) fn own(object: &VpnConnection) -> Vec<IpNet> {
    let spec = &object.spec;
    let children = spec["children"].as_array().into_iter().flatten();
    let children = children.flat_map(|child| parsed(&child["local"]));
    outermost(parsed(&spec["local"]["subnets"]).into_iter().chain(children).collect())
}

fn texts(value: &Value) -> impl Iterator<Item = &str> {
    let list = value.as_array().into_iter().flatten();
    // One where a list belongs is a slip that is easily made.
    list.chain(value.is_string().then_some(value)).filter_map(Value::as_str)
}

fn parsed(value: &Value) -> Vec<IpNet> {
    let one = |text: &str| match text.trim().parse::<IpNet>() {
        Ok(network) => Some(network.trunc()),
        Err(_) => values::network(text).ok(),
    };
    texts(value).flat_map(|text| text.split(',')).filter_map(one).collect()
}
