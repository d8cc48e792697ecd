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

/// How many prefixes a record holds; a host with more has a tree.
const FEW: usize = 32;
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

/// A record's numbers: lengths of the host, of the entries and of the texts, the default, the
/// rare part.
const HEADER: usize = 20;
/// A prefix' numbers: the last bytes of its text, its length, its value.
const ENTRY: usize = 12;

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
        let at = u32::try_from(self.bytes.len()).ok().filter(|at| *at != NONE)?;
        let mut prefixes: Vec<(&str, u32)> = prefixes.into_iter().collect();
        if prefixes.len() > FEW {
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
        let numbers = [host.len(), prefixes.len() * ENTRY, texts];
        for number in numbers {
            self.put(u32::try_from(number).ok()?);
        }
        self.put(default.unwrap_or(NONE));
        self.put(rare);
        self.bytes.extend_from_slice(host.as_bytes());
        for (text, value) in &prefixes {
            self.put(tail(text.as_bytes()).unwrap_or(0));
            self.put(u32::try_from(text.len()).ok()?);
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

    /// The record that begins there.
    #[inline]
    pub(super) fn get(&self, at: u32) -> Option<Record<'_>> {
        let (header, rest) = self.bytes.get(at as usize..)?.split_first_chunk::<HEADER>()?;
        let number = |n: usize| number(header, n);
        let (host, rest) = rest.split_at_checked(number(0)? as usize)?;
        let (entries, rest) = rest.split_at_checked(number(1)? as usize)?;
        let texts = rest.get(..number(2)? as usize)?;
        let some = |n: usize| number(n).filter(|number| *number != NONE);
        Some(Record { host, default: some(3), rare: some(4), entries, texts })
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
            let (tag, length) = (number(entry, 0)?, number(entry, 1)? as usize);
            let end = start + length;
            // Prefixes of one length mostly differ at their ends: the others' texts stay unread.
            if matches!(path.get(length), None | Some(b'/'))
                && let Some(head) = path.get(..length)
                && tail(head).is_none_or(|tail| tail == tag)
                && self.texts.get(start..end) == Some(head)
            {
                return Some((number(entry, 2)?, length.max(1)));
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

/// The last four bytes as a number, where there are so many.
#[inline]
fn tail(text: &[u8]) -> Option<u32> {
    text.last_chunk().copied().map(u32::from_le_bytes)
}

/// The number at a place in a row of numbers.
#[inline]
fn number<const N: usize>(row: &[u8; N], place: usize) -> Option<u32> {
    row.get(4 * place..)?.first_chunk().copied().map(u32::from_le_bytes)
}
