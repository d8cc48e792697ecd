//! From a host to its prefixes, in as few pieces of memory as can be.
//!
//! With thousands of hosts, what a request needs of its own is no longer in the processor's cache
//! when its turn comes, so a lookup costs what it waits for memory. Therefore the table holds
//! numbers only, eight hosts to a cache line, and all that is to be known of one host stands in
//! one record: its name, its prefixes and where they lead.

use std::collections::BTreeMap;
use std::hash::BuildHasher;

use foldhash::fast::FixedState;

use super::Rare;
use super::prefixes::Tree;

/// How many prefixes a record holds, and how long they may be; a host with more or longer ones
/// has a tree.
const FEW: usize = 32;
const SHORT: usize = u16::MAX as usize;
/// Records begin with a cache line of this size.
const LINE: usize = 64;
/// Stands for no value, in records and in slots.
const NONE: u32 = u32::MAX;

/// One host's routes while the index is built.
#[derive(Debug, Default)]
pub(super) struct Paths<'a> {
    prefixes: BTreeMap<&'a str, u32>,
    pub(super) default: Option<u32>,
    pub(super) rare: Option<Rare>,
}

/// All hosts' records, one after the other.
#[derive(Debug, Default)]
pub(super) struct Records {
    bytes: Vec<u8>,
    /// Where the first one begins.
    start: usize,
    pub(super) rare: Vec<Rare>,
}

/// From hosts to records: open addressing, at most half full.
#[derive(Debug, Default)]
pub(super) struct Slots(Box<[Slot]>);

#[derive(Clone, Copy, Debug)]
struct Slot {
    /// Upper half of the host's hash.
    tag: u32,
    /// Where its record begins, or [`NONE`].
    at: u32,
}

/// One host's record, taken apart.
#[derive(Clone, Copy, Debug)]
pub(super) struct Record<'a> {
    host: &'a [u8],
    /// The route for what no path takes.
    pub(super) default: Option<u32>,
    /// Position in [`Records::rare`].
    rare: Option<u32>,
    /// Prefixes from the longest to the shortest, [`ENTRY`] bytes each.
    entries: &'a [u8],
    /// Their texts one after the other, without their trailing slashes.
    texts: &'a [u8],
}

/// A record's numbers: the host's length, how many entries, the texts' length, the default, the
/// rare part. The first two have two bytes, the others four.
const HEADER: usize = 16;
/// A prefix' numbers: the last two bytes of its text, its length in two bytes, its value in four.
const ENTRY: usize = 8;

impl<'a> Paths<'a> {
    /// Adds a prefix such as `/a/b`; a trailing slash makes no difference. The first with the
    /// same elements counts.
    pub(super) fn insert(&mut self, prefix: &'a str, value: u32) {
        self.prefixes.entry(prefix.trim_end_matches('/')).or_insert(value);
    }
}

impl Records {
    /// Appends a host's record and answers where it begins; none where four gigabytes are full.
    pub(super) fn push(&mut self, host: &str, paths: Paths<'_>) -> Option<u32> {
        let Paths { prefixes, default, mut rare } = paths;
        let host_length = u16::try_from(host.len()).ok()?;
        self.bytes.resize(self.bytes.len().next_multiple_of(LINE), 0);
        let at = u32::try_from(self.bytes.len()).ok().filter(|at| *at != NONE)?;
        let mut prefixes: Vec<(&str, u32)> = prefixes.into_iter().collect();
        if prefixes.len() > FEW || prefixes.iter().any(|(text, _)| text.len() > SHORT) {
            let mut tree = Tree::default();
            for (prefix, value) in prefixes.drain(..) {
                tree.insert(prefix, value);
            }
            rare.get_or_insert_default().tree = Some(tree);
        }
        prefixes.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        let texts: usize = prefixes.iter().map(|(text, _)| text.len()).sum();
        let rare = match rare {
            Some(rare) => {
                self.rare.push(rare);
                u32::try_from(self.rare.len() - 1).ok()?
            }
            None => NONE,
        };
        self.bytes.extend_from_slice(&host_length.to_le_bytes());
        self.bytes.extend_from_slice(&(prefixes.len() as u16).to_le_bytes());
        self.put(u32::try_from(texts).ok()?);
        self.put(default.unwrap_or(NONE));
        self.put(rare);
        self.bytes.extend_from_slice(host.as_bytes());
        for (text, value) in &prefixes {
            let tag = tail(text.as_bytes()).unwrap_or(0);
            self.bytes.extend_from_slice(&tag.to_le_bytes());
            self.bytes.extend_from_slice(&(text.len() as u16).to_le_bytes());
            self.put(*value);
        }
        for (text, _) in &prefixes {
            self.bytes.extend_from_slice(text.as_bytes());
        }
        Some(at)
    }

    fn put(&mut self, number: u32) {
        self.bytes.extend_from_slice(&number.to_le_bytes());
    }

    /// Moves the records so that each one's beginning is a cache line's. To be called last.
    pub(super) fn align(&mut self) {
        let mut bytes: Vec<u8> = Vec::with_capacity(self.bytes.len() + LINE);
        // Where this can't be told the records lie as they may.
        self.start = bytes.as_ptr().align_offset(LINE).min(LINE);
        bytes.resize(self.start, 0);
        bytes.extend_from_slice(&self.bytes);
        self.bytes = bytes;
    }

    /// The record that begins there.
    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<Record<'_>> {
        let record = self.bytes.get(self.start + at as usize..)?;
        let (header, rest) = record.split_first_chunk::<HEADER>()?;
        let (host, rest) = rest.split_at_checked(short(header, 0)?.into())?;
        let (entries, rest) = rest.split_at_checked(usize::from(short(header, 2)?) * ENTRY)?;
        let texts = rest.get(..number(header, 4)? as usize)?;
        let some = |at: usize| number(header, at).filter(|number| *number != NONE);
        Some(Record { host, default: some(8), rare: some(12), entries, texts })
    }

    /// What few hosts have, where this one has it.
    #[inline]
    pub(super) fn rare(&self, record: &Record<'_>) -> Option<&Rare> {
        self.rare.get(record.rare? as usize)
    }
}

impl Record<'_> {
    /// The value of the longest prefix of `path`, which starts with `/`, and that prefix's
    /// length, at least 1.
    #[inline]
    pub(super) fn longest(&self, path: &str) -> Option<(u32, usize)> {
        let path = path.as_bytes();
        let mut start = 0;
        for entry in self.entries.as_chunks::<ENTRY>().0 {
            let (tag, length) = (short(entry, 0)?, usize::from(short(entry, 2)?));
            let end = start + length;
            // Prefixes of one length mostly differ at their ends: the others' texts stay unread.
            if matches!(path.get(length), None | Some(b'/'))
                && let Some(head) = path.get(..length)
                && tail(head).is_none_or(|tail| tail == tag)
                && self.texts.get(start..end) == Some(head)
            {
                return Some((number(entry, 4)?, length.max(1)));
            }
            start = end;
        }
        None
    }
}

impl Slots {
    /// A table over records; of two for one host the first counts.
    pub(super) fn new(hosts: &[(&str, u32)]) -> Self {
        if hosts.is_empty() {
            return Self::default();
        }
        let free = Slot { tag: 0, at: NONE };
        let mut slots = vec![free; (hosts.len() * 2).next_power_of_two()];
        let mask = slots.len() - 1;
        for &(host, at) in hosts {
            let hash = hash(host);
            let mut place = hash as usize & mask;
            while slots[place].at != NONE {
                place = (place + 1) & mask;
            }
            slots[place] = Slot { tag: tag(hash), at };
        }
        Self(slots.into())
    }

    /// Whether no host is in it.
    #[inline]
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The host's record.
    #[inline]
    pub(super) fn get<'a>(&self, records: &'a Records, host: &str) -> Option<Record<'a>> {
        let mask = self.0.len().checked_sub(1)?;
        let hash = hash(host);
        let mut place = hash as usize & mask;
        loop {
            // Half of the slots are free, so the search ends.
            let slot = self.0.get(place).filter(|slot| slot.at != NONE)?;
            if slot.tag == tag(hash)
                && let Some(record) = records.get(slot.at)
                && record.host == host.as_bytes()
            {
                return Some(record);
            }
            place = (place + 1) & mask;
        }
    }
}

/// Hashes alike in every run. The table's hosts come from the configuration and never from a
/// client, so nobody can choose them to collide.
fn hash(host: &str) -> u64 {
    FixedState::default().hash_one(host)
}

fn tag(hash: u64) -> u32 {
    (hash >> 32) as u32
}

/// The last two bytes as a number, where there are so many.
#[inline]
fn tail(text: &[u8]) -> Option<u16> {
    text.last_chunk().copied().map(u16::from_le_bytes)
}

/// The number of two bytes that begins there.
#[inline]
fn short<const N: usize>(row: &[u8; N], at: usize) -> Option<u16> {
    row.get(at..)?.first_chunk().copied().map(u16::from_le_bytes)
}

/// The number of four bytes that begins there.
#[inline]
fn number<const N: usize>(row: &[u8; N], at: usize) -> Option<u32> {
    row.get(at..)?.first_chunk().copied().map(u32::from_le_bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_host_is_found_in_a_record_that_begins_with_a_cache_line() {
        let names: Vec<String> = (0..300).map(|n| format!("host-{n}.example.com")).collect();
        let mut records = Records::default();
        let mut hosts = Vec::new();
        for (name, value) in names.iter().zip(0..) {
            let mut paths = Paths { default: Some(value), ..Paths::default() };
            for prefix in ["/", "/a", "/b", "/long/prefix"].iter().take(value as usize % 5) {
                paths.insert(prefix, value);
            }
            hosts.push((name.as_str(), records.push(name, paths).unwrap()));
        }
        records.align();
        let slots = Slots::new(&hosts);
        for ((name, at), value) in hosts.iter().zip(0..) {
            let record = slots.get(&records, name).unwrap();
            assert_eq!((record.default, record.host), (Some(value), name.as_bytes()));
            let found = record.longest("/b/c").map(|(value, _)| value);
            assert_eq!(found, (value % 5 > 0).then_some(value), "{name}");
            let first = &raw const records.bytes[records.start + *at as usize];
            assert_eq!(first.addr() % LINE, 0);
        }
        assert!(slots.get(&records, "host-300.example.com").is_none());
        assert!(Slots::default().get(&records, "").is_none());
    }
}
