//! Sets and maps whose elements are typed: those that grow with the number of Services.
//!
//! A hundred thousand elements are compared and written many times, so they are no text before
//! it is asked for, and a Service's slots are one entry that plans share.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use ipnet::IpNet;
use model::net::Protocol;

/// A set or map with typed elements.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flat {
    /// Whether its elements have values.
    pub is_map: bool,
    /// What stands in it before the elements: `type ipv4_addr . inet_proto . inet_service;`.
    pub head: String,
    /// Sorted by key, each key once.
    entries: Vec<(Key, Value)>,
}

/// What an element is found by.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// An address.
    Address(IpAddr),
    /// Address, protocol and port.
    Frontend(IpAddr, Protocol, u16),
    /// Protocol and port.
    Port(Protocol, u16),
    /// A number, as [`id`] writes it.
    Id(u32),
    /// Address, protocol, port and a network of clients.
    Source(IpAddr, Protocol, u16, IpNet),
}

/// What an element leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Nothing: of a set.
    None,
    /// A number.
    Id(u32),
    /// A verdict, as nft writes it.
    Verdict(Arc<str>),
    /// An address and port.
    Endpoint(SocketAddr),
    /// As many elements as there are addresses: the key is followed by the position.
    Slots(Arc<[SocketAddr]>),
}

/// Collects a [`Flat`]'s elements.
#[derive(Clone, Debug, Default)]
pub struct FlatBuilder(Vec<(Key, Value)>);

impl FlatBuilder {
    /// Takes an element; of several with the same key the first stays.
    pub fn add(&mut self, key: Key, value: Value) {
        self.0.push((key, value));
    }

    /// The keys that were added more than once, and how often.
    pub(crate) fn repeated(&mut self) -> Vec<(Key, usize)> {
        self.0.sort_by(|(a, _), (b, _)| a.cmp(b));
        let same = self.0.chunk_by(|(a, _), (b, _)| a == b).filter(|same| same.len() > 1);
        same.filter_map(|same| Some((same.first()?.0.clone(), same.len()))).collect()
    }

    /// What each key leads to, and how often it was added.
    pub(crate) fn counted(self) -> BTreeMap<Key, (Value, usize)> {
        let mut counted = BTreeMap::new();
        for (key, value) in self.0 {
            counted.entry(key).or_insert((value, 0)).1 += 1;
        }
        counted
    }

    /// The set or map.
    pub fn build(mut self, is_map: bool, head: impl Into<String>) -> Flat {
        self.0.sort_by(|(a, _), (b, _)| a.cmp(b));
        self.0.dedup_by(|(later, _), (earlier, _)| later == earlier);
        Flat { is_map, head: head.into(), entries: self.0 }
    }
}

impl Flat {
    /// Its elements, slots of one port together.
    pub fn entries(&self) -> &[(Key, Value)] {
        &self.entries
    }

    /// What a key leads to.
    pub fn get(&self, key: &Key) -> Option<&Value> {
        let at = self.entries.binary_search_by(|(own, _)| own.cmp(key)).ok()?;
        self.entries.get(at).map(|(_, value)| value)
    }

    /// How many elements it has for the kernel.
    pub fn len(&self) -> usize {
        self.entries.iter().map(|(_, value)| value.len()).sum()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Without an element, but of the same kind.
    pub(crate) fn emptied(&self) -> Self {
        Self { is_map: self.is_map, head: self.head.clone(), entries: Vec::new() }
    }

    /// How many keys it has: slots of one port together.
    pub(crate) fn keys(&self) -> usize {
        self.entries.len()
    }

    /// The elements `before` go, those `after` come.
    pub(crate) fn replace(&mut self, before: &Self, after: Self) {
        let place =
            |entries: &[(Key, Value)], key: &Key| entries.binary_search_by(|(own, _)| own.cmp(key));
        for (key, _) in &before.entries {
            if after.get(key).is_none()
                && let Ok(at) = place(&self.entries, key)
            {
                self.entries.remove(at);
            }
        }
        for (key, value) in after.entries {
            match place(&self.entries, &key) {
                Ok(at) => {
                    if let Some((_, own)) = self.entries.get_mut(at) {
                        *own = value;
                    }
                }
                Err(at) => self.entries.insert(at, (key, value)),
            }
        }
    }

    /// Adds an element that comes after all others.
    pub(crate) fn push(&mut self, key: Key, value: Value) {
        self.entries.push((key, value));
    }

    pub(super) fn kind(&self) -> &'static str {
        if self.is_map { "map" } else { "set" }
    }

    /// Writes all elements.
    pub(super) fn write(&self, text: &mut String, separator: &'static str) {
        let mut list = List { text, separator, started: false };
        for (key, value) in &self.entries {
            list.entry(key, value, true);
        }
    }

    /// The keys of what goes, and the elements of what comes, as nft's lists; empty for none.
    pub(super) fn change_from(&self, old: &Self) -> (String, String) {
        let (mut gone, mut new) = (String::new(), String::new());
        let mut gone_list = List { text: &mut gone, separator: ", ", started: false };
        let mut new_list = List { text: &mut new, separator: ", ", started: false };
        let (mut before, mut after) =
            (old.entries.iter().peekable(), self.entries.iter().peekable());
        loop {
            let order = match (before.peek(), after.peek()) {
                (None, None) => break,
                (Some(_), None) => Ordering::Less,
                (None, Some(_)) => Ordering::Greater,
                (Some((was, _)), Some((is, _))) => was.cmp(is),
            };
            let was = if order.is_le() { before.next() } else { None };
            let is = if order.is_ge() { after.next() } else { None };
            match (was, is) {
                (Some((key, Value::Slots(was))), Some((_, Value::Slots(is)))) => {
                    if Arc::ptr_eq(was, is) {
                        continue;
                    }
                    for position in 0..was.len().max(is.len()) {
                        let (was, is) = (was.get(position), is.get(position));
                        if was == is {
                            continue;
                        }
                        if was.is_some() {
                            gone_list.slot(key, position, None);
                        }
                        if is.is_some() {
                            new_list.slot(key, position, is);
                        }
                    }
                }
                (Some((_, was)), Some((_, is))) if was == is => {}
                (was, is) => {
                    if let Some((key, value)) = was {
                        gone_list.entry(key, value, false);
                    }
                    if let Some((key, value)) = is {
                        new_list.entry(key, value, true);
                    }
                }
            }
        }
        (gone, new)
    }
}

impl Value {
    fn len(&self) -> usize {
        if let Self::Slots(slots) = self { slots.len() } else { 1 }
    }
}

/// A list of elements that is being written.
struct List<'a> {
    text: &'a mut String,
    separator: &'static str,
    started: bool,
}

impl List<'_> {
    fn entry(&mut self, key: &Key, value: &Value, with_value: bool) {
        if let Value::Slots(slots) = value {
            for (position, slot) in slots.iter().enumerate() {
                self.slot(key, position, with_value.then_some(slot));
            }
            return;
        }
        self.next();
        let _ = write!(self.text, "{key}");
        if with_value {
            let _ = match value {
                Value::None | Value::Slots(_) => Ok(()),
                Value::Id(number) => write!(self.text, " : {}", Id(*number)),
                Value::Verdict(verdict) => write!(self.text, " : {verdict}"),
                Value::Endpoint(address) => {
                    write!(self.text, " : {} . {}", address.ip(), address.port())
                }
            };
        }
    }

    fn slot(&mut self, key: &Key, position: usize, value: Option<&SocketAddr>) {
        self.next();
        let _ = write!(self.text, "{key} . {position}");
        if let Some(address) = value {
            let _ = write!(self.text, " : {} . {}", address.ip(), address.port());
        }
    }

    fn next(&mut self) {
        if self.started {
            self.text.push_str(self.separator);
        }
        self.started = true;
    }
}

/// A number as nft writes those of type `classid`.
struct Id(u32);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}:{:x}", self.0 >> 16, self.0 & 0xffff)
    }
}

/// A number as nft writes those of type `classid`: `8000:1f`.
pub fn id(number: u32) -> String {
    Id(number).to_string()
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Frontend(address, protocol, port) => {
                write!(f, "{address} . {} . {port}", protocol.lower())
            }
            Self::Port(protocol, port) => write!(f, "{} . {port}", protocol.lower()),
            Self::Id(number) => Id(*number).fmt(f),
            Self::Source(address, protocol, port, network) => {
                write!(f, "{address} . {} . {port} . {network}", protocol.lower())
            }
        }
    }
}
