//! How much went through: the kernel's counters, by where connections came in.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use model::net::Protocol;
use serde::{Deserialize, Serialize};

use super::Frontend;

/// The sets and maps whose elements count: `nft -j list set|map inet tidegate NAME` of each.
/// `frontends*` and `node_ports` count connections, `traffic*` packets and bytes both ways.
pub const COUNTED: [(&str, &str); 6] = [
    ("map", "frontends4"),
    ("map", "frontends6"),
    ("map", "node_ports"),
    ("set", "traffic4"),
    ("set", "traffic6"),
    ("set", "traffic_ports"),
];

/// What went through a frontend since its element was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// Connections that were translated.
    pub connections: u64,
    /// Packets, both ways.
    pub packets: u64,
    /// Bytes of them, from the network header on.
    pub bytes: u64,
}

/// The document that `nft -j list` prints, as far as counters and affinities need it.
#[derive(Clone, Debug, Deserialize)]
pub struct Listing {
    /// One a set or map, and others.
    pub nftables: Vec<Listed>,
}

/// One object of a [`Listing`].
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Listed {
    /// A set.
    pub set: Option<ListedSet>,
    /// A map.
    pub map: Option<ListedSet>,
}

/// A set or map of a [`Listing`].
#[derive(Clone, Debug, Deserialize)]
pub struct ListedSet {
    /// Its name.
    pub name: String,
    /// Its elements; of a map, pairs of element and value.
    #[serde(default)]
    pub elem: Vec<ListedItem>,
}

/// An element, with a value if it is of a map.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum ListedItem {
    /// Of a map.
    Pair(ListedKey, Scalar),
    /// Of a set.
    Key(ListedKey),
    /// Of other sets than those that are read here.
    Other(serde::de::IgnoredAny),
}

/// An element's key.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum ListedKey {
    /// With something about it.
    Element {
        /// The rest.
        elem: ListedElement,
    },
    /// Several fields.
    Concat {
        /// In the set's order.
        concat: Vec<Scalar>,
    },
}

/// An element with what nft says about it.
#[derive(Clone, Debug, Deserialize)]
pub struct ListedElement {
    /// The key.
    pub val: ListedValue,
    /// What it counted.
    pub counter: Option<ListedCounter>,
    /// Seconds that it stays after it was last used.
    pub timeout: Option<u64>,
    /// Seconds that it stays from now on.
    pub expires: Option<u64>,
}

/// A key of several fields.
#[derive(Clone, Debug, Deserialize)]
pub struct ListedValue {
    /// In the set's order.
    pub concat: Vec<Scalar>,
}

/// A counter.
#[derive(Clone, Copy, Debug, Deserialize)]
pub struct ListedCounter {
    /// Packets.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// A word or a number.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Scalar {
    /// A number.
    Number(u64),
    /// Anything else.
    Text(String),
}

impl Listing {
    /// Every set and map.
    pub fn sets(&self) -> impl Iterator<Item = &ListedSet> {
        self.nftables.iter().filter_map(|listed| listed.set.as_ref().or(listed.map.as_ref()))
    }

    /// What the counters of the [`COUNTED`] sets in it say, added to `traffic`.
    pub fn read_traffic(&self, traffic: &mut BTreeMap<(Protocol, Frontend), Traffic>) {
        for set in self.sets() {
            let connections = match set.name.as_str() {
                "frontends4" | "frontends6" | "node_ports" => true,
                "traffic4" | "traffic6" | "traffic_ports" => false,
                _ => continue,
            };
            for (key, counter) in set.elem.iter().filter_map(counted) {
                let Some(frontend) = frontend(key) else { continue };
                let entry = traffic.entry(frontend).or_default();
                if connections {
                    entry.connections += counter.packets;
                } else {
                    entry.packets += counter.packets;
                    entry.bytes += counter.bytes;
                }
            }
        }
    }
}

impl ListedItem {
    /// The element, and its value if it is of a map.
    pub fn parts(&self) -> Option<(&ListedElement, Option<&Scalar>)> {
        match self {
            Self::Pair(ListedKey::Element { elem }, value) => Some((elem, Some(value))),
            Self::Key(ListedKey::Element { elem }) => Some((elem, None)),
            _ => None,
        }
    }
}

impl Scalar {
    /// The word, if it is one.
    pub fn text(&self) -> Option<&str> {
        if let Self::Text(text) = self { Some(text) } else { None }
    }
}

fn counted(item: &ListedItem) -> Option<(&[Scalar], ListedCounter)> {
    let (element, _) = item.parts()?;
    Some((&element.val.concat, element.counter?))
}

/// A VIP's and an external address's frontend are not told apart in the kernel: both are read as
/// [`Frontend::Vip`].
fn frontend(key: &[Scalar]) -> Option<(Protocol, Frontend)> {
    let port = |scalar: &Scalar| match scalar {
        Scalar::Number(number) => u16::try_from(*number).ok(),
        Scalar::Text(_) => None,
    };
    match key {
        [address, protocol, number] => {
            let address: IpAddr = address.text()?.parse().ok()?;
            let at = SocketAddr::new(address, port(number)?);
            Some((protocol_of(protocol)?, Frontend::Vip(at)))
        }
        [protocol, number] => Some((protocol_of(protocol)?, Frontend::NodePort(port(number)?))),
        _ => None,
    }
}

fn protocol_of(scalar: &Scalar) -> Option<Protocol> {
    Protocol::ALL.into_iter().find(|protocol| match scalar {
        Scalar::Text(text) => text == protocol.lower(),
        Scalar::Number(number) => *number == u64::from(protocol.number()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_read_from_nft_s_json() {
        // As nft 1.0.6 prints it.
        let text = r#"{"nftables": [{"metainfo": {"version": "1.0.6", "release_name": "Lester Gooch #5", "json_schema_version": 1}},
        {"map": {"family": "inet", "name": "node_ports", "table": "tidegate", "type": ["inet_proto", "inet_service"], "handle": 6, "map": "classid", "elem": [[{"elem": {"val": {"concat": ["tcp", 30080]}, "counter": {"packets": 3, "bytes": 180}}}, "8000:123"]], "stmt": [{"counter": null}]}},
        {"set": {"family": "inet", "name": "traffic4", "table": "tidegate", "type": ["ipv4_addr", "inet_proto", "inet_service"], "handle": 3, "elem": [{"elem": {"val": {"concat": ["10.9.0.0", "sctp", 80]}, "counter": {"packets": 5, "bytes": 700}}}]}},
        {"set": {"family": "inet", "name": "other", "table": "tidegate", "type": "ipv4_addr", "handle": 3, "elem": ["10.0.0.1", {"prefix": {"addr": "10.0.0.0", "len": 8}}]}}]}"#;
        let listing: Listing = serde_json::from_str(text).unwrap();
        let mut traffic = BTreeMap::new();
        listing.read_traffic(&mut traffic);
        let port = (Protocol::Tcp, Frontend::NodePort(30_080));
        let vip = (Protocol::Sctp, Frontend::Vip("10.9.0.0:80".parse().unwrap()));
        assert_eq!(traffic.len(), 2);
        assert_eq!(traffic[&port], Traffic { connections: 3, packets: 0, bytes: 0 });
        assert_eq!(traffic[&vip], Traffic { connections: 0, packets: 5, bytes: 700 });
    }
}
