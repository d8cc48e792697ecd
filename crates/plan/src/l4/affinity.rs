//! Which client stays with which endpoint: what the kernel remembers, and what of it still holds.
//!
//! The kernel keeps, by client and Service port, a number that stands for the endpoint
//! ([`endpoint_id`]). A connection goes by it only if the port still has that endpoint, so an
//! entry that is out of date does no harm; it is replaced when its client comes again.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use crate::nft::{Carried, id};

use super::hash::jhash_mod;
use super::slots::slots;
use super::table::{SEED, numbered};
use super::traffic::{Listing, Scalar};
use super::{L4Plan, Path};

/// The maps that hold it: `nft -j list map inet tidegate NAME` of each.
pub const MAPS: [&str; 2] = ["affinity4", "affinity6"];

/// One client's endpoint of one Service port, as the kernel remembers it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Affinity {
    /// Whether it came by IPv6.
    pub v6: bool,
    /// Who it is: the address, or of IPv6 a hash of it, since rules have no room for more. Clients
    /// that share one share an endpoint.
    pub client: String,
    /// The number of the Service's port ([`super::table::numbered`]).
    pub port: u32,
    /// The number of the endpoint.
    pub endpoint: u32,
    /// Seconds that it stays after the client's last connection.
    pub timeout: u64,
    /// Seconds that it stays from now on.
    pub expires: u64,
}

/// The number of an endpoint, as the kernel computes it: by
/// `jhash ip daddr . th dport . meta priority mod 0xffffffff`.
pub fn endpoint_id(port: u32, endpoint: SocketAddr) -> u32 {
    let mut key = match endpoint.ip() {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    };
    key.extend(endpoint.port().to_be_bytes());
    key.extend([0, 0]);
    key.extend(port.to_ne_bytes());
    jhash_mod(&key, u32::MAX, SEED)
}

/// What the kernel remembers, out of the listings of [`MAPS`].
pub fn read(listing: &Listing) -> Vec<Affinity> {
    let maps = listing.sets().filter(|set| MAPS.contains(&set.name.as_str()));
    let items = maps.flat_map(|map| map.elem.iter().map(|item| (map.name.ends_with('6'), item)));
    items
        .filter_map(|(v6, item)| {
            let (element, value) = item.parts()?;
            let [port, client] = element.val.concat.as_slice() else { return None };
            let client = match client {
                Scalar::Number(hash) => hash.to_string(),
                Scalar::Text(address) => address.clone(),
            };
            Some(Affinity {
                v6,
                client,
                port: number(port.text()?)?,
                endpoint: number(value?.text()?)?,
                timeout: element.timeout?,
                expires: element.expires?,
            })
        })
        .collect()
}

/// Which entries still hold, and which lead nowhere: to an endpoint that is gone or takes no new
/// connections, or of a port that has no affinity any more.
pub fn split<'a>(plan: &L4Plan, entries: &'a [Affinity]) -> (Vec<&'a Affinity>, Vec<&'a Affinity>) {
    let mut serving = BTreeSet::new();
    for (service, port, number) in numbered(plan) {
        if service.affinity.is_none() || port.path != Path::Kernel {
            continue;
        }
        for v6 in [false, true] {
            let endpoints = slots(port, v6).into_iter();
            serving.extend(endpoints.map(|endpoint| (number, v6, endpoint_id(number, endpoint))));
        }
    }
    entries.iter().partition(|entry| serving.contains(&(entry.port, entry.v6, entry.endpoint)))
}

/// What of the kernel's entries a table that is loaded anew begins with.
pub fn carried(plan: &L4Plan, entries: &[Affinity]) -> Carried {
    let mut carried = Carried::new();
    for entry in split(plan, entries).0.iter().filter(|entry| entry.expires > 0) {
        let Affinity { client, timeout, expires, .. } = entry;
        let (port, endpoint) = (id(entry.port), id(entry.endpoint));
        carried
            .entry(map_of(entry).to_owned())
            .or_default()
            .push(format!("{port} . {client} timeout {timeout}s expires {expires}s : {endpoint}"));
    }
    carried
}

/// The commands that delete the entries that lead nowhere; none if there are none. An entry that
/// has run out in the meantime is no failure only if it is deleted alone, so this is one command
/// an entry.
pub fn stale(plan: &L4Plan, entries: &[Affinity]) -> Vec<String> {
    let stale = split(plan, entries).1;
    let table = crate::nft::TABLE;
    stale
        .iter()
        .map(|entry| {
            let (map, client, port) = (map_of(entry), &entry.client, id(entry.port));
            format!("delete element {table} {map} {{ {port} . {client} }}")
        })
        .collect()
}

fn map_of(entry: &Affinity) -> &'static str {
    if entry.v6 { "affinity6" } else { "affinity4" }
}

/// A number of nft's type `classid`: `8000:1f`.
fn number(text: &str) -> Option<u32> {
    match text {
        // Its names for the two that have one (tc_core).
        "none" => return Some(0),
        "root" => return Some(u32::MAX),
        _ => {}
    }
    let (major, minor) = text.split_once(':')?;
    let half = |text: &str| {
        if text.is_empty() { Some(0) } else { u16::from_str_radix(text, 16).ok() }
    };
    Some(u32::from(half(major)?) << 16 | u32::from(half(minor)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_from_nft_s_json() {
        let text = r#"{"nftables": [{"map": {"family": "inet", "name": "affinity4", "table": "tidegate", "type": ["classid", "ipv4_addr"], "handle": 17, "map": "classid", "size": 65536, "flags": ["timeout"], "elem": [[{"elem": {"val": {"concat": ["8000:7", "10.0.0.2"]}, "timeout": 60, "expires": 58}}, "8a05:cf32"]]}}]}"#;
        let listing: Listing = serde_json::from_str(text).unwrap();
        let expected = Affinity {
            v6: false,
            client: "10.0.0.2".to_owned(),
            port: 0x8000_0007,
            endpoint: 0x8a05_cf32,
            timeout: 60,
            expires: 58,
        };
        assert_eq!(read(&listing), [expected]);
    }
}
