//! Header compression (RFC 7541): decoding with the dynamic table, encoding without it.

use std::collections::VecDeque;

use thiserror::Error;

use super::fields::STATIC;
use super::huffman;

/// Bytes of the dynamic table that the peer may use: the protocol's default.
pub(super) const TABLE_SIZE: usize = 4096;
/// What an entry counts on top of its name and value (section 4.1).
const OVERHEAD: usize = 32;

/// Why a block of header fields can't be decoded. The connection can't go on after it.
#[derive(Clone, Copy, Debug, Error, PartialEq, Eq)]
pub(super) enum HpackError {
    /// It ends within a field.
    #[error("ends within a field")]
    Cut,
    /// A number too large for any use.
    #[error("number too large")]
    Number,
    /// An index of no entry.
    #[error("index {0} names no entry of the tables")]
    Index(usize),
    /// A wrong Huffman code.
    #[error("wrong Huffman code")]
    Huffman,
    /// The table is made larger than allowed, or behind a field.
    #[error("table resized to {0}, or behind a field")]
    Resize(usize),
}

/// A decoder: one a connection, as blocks build upon those before them.
#[derive(Debug, Default)]
pub(super) struct Decoder {
    table: Table,
    name: Vec<u8>,
    value: Vec<u8>,
}

impl Decoder {
    /// Decodes one block, and calls `each` with the name and value of each field, in order.
    pub(super) fn decode(
        &mut self,
        mut block: &[u8],
        mut each: impl FnMut(&[u8], &[u8]),
    ) -> Result<(), HpackError> {
        let mut fields_seen = false;
        while let Some(&first) = block.first() {
            if first & 0x80 != 0 {
                let index = number(&mut block, 7)?;
                let (name, value) = self.table.get(index)?;
                each(name, value);
            } else if first & 0xe0 == 0x20 {
                let size = number(&mut block, 5)?;
                if fields_seen || size > TABLE_SIZE {
                    return Err(HpackError::Resize(size));
                }
                self.table.resize(size);
                continue;
            } else {
                let indexed = first & 0x40 != 0;
                let index = number(&mut block, if indexed { 6 } else { 4 })?;
                self.name.clear();
                if index == 0 {
                    string(&mut block, &mut self.name)?;
                } else {
                    self.name.extend_from_slice(self.table.get(index)?.0);
                }
                self.value.clear();
                string(&mut block, &mut self.value)?;
                each(&self.name, &self.value);
                if indexed {
                    self.table.insert(&self.name, &self.value);
                }
            }
            fields_seen = true;
        }
        Ok(())
    }
}

/// An integer whose first `prefix` bits stand in the first byte (section 5.1).
fn number(block: &mut &[u8], prefix: u32) -> Result<usize, HpackError> {
    let (&first, mut rest) = block.split_first().ok_or(HpackError::Cut)?;
    let most = (1_usize << prefix) - 1;
    let mut value = usize::from(first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (&byte, behind) = rest.split_first().ok_or(HpackError::Cut)?;
            rest = behind;
            // Three bytes reach beyond anything that fits a block.
            if shift > 21 {
                return Err(HpackError::Number);
            }
            value += usize::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                break;
            }
        }
    }
    *block = rest;
    Ok(value)
}

/// Appends a string literal, decoded.
fn string(block: &mut &[u8], out: &mut Vec<u8>) -> Result<(), HpackError> {
    let coded = block.first().is_some_and(|first| first & 0x80 != 0);
    let length = number(block, 7)?;
    let (text, rest) = block.split_at_checked(length).ok_or(HpackError::Cut)?;
    *block = rest;
    if !coded {
        out.extend_from_slice(text);
    } else if !huffman::decode(text, out) {
        return Err(HpackError::Huffman);
    }
    Ok(())
}

/// The dynamic table. Its strings lie behind each other in one buffer, the oldest first.
#[derive(Debug)]
struct Table {
    bytes: Vec<u8>,
    /// The newest last.
    entries: VecDeque<Entry>,
    /// The sum of the entries' sizes as the specification counts them.
    size: usize,
    most: usize,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    at: usize,
    name: usize,
    value: usize,
}

impl Entry {
    fn size(self) -> usize {
        self.name + self.value + OVERHEAD
    }
}

impl Default for Table {
    fn default() -> Self {
        Self { bytes: Vec::new(), entries: VecDeque::new(), size: 0, most: TABLE_SIZE }
    }
}

impl Table {
    fn get(&self, index: usize) -> Result<(&[u8], &[u8]), HpackError> {
        let wrong = HpackError::Index(index);
        let at = index.checked_sub(1).ok_or(wrong)?;
        if let Some((name, value)) = STATIC.get(at) {
            return Ok((name.as_bytes(), value.as_bytes()));
        }
        let age = at - STATIC.len();
        let position = self.entries.len().checked_sub(age + 1).ok_or(wrong)?;
        let entry = self.entries.get(position).ok_or(wrong)?;
        let end = entry.at + entry.name;
        let name = self.bytes.get(entry.at..end).ok_or(wrong)?;
        Ok((name, self.bytes.get(end..end + entry.value).ok_or(wrong)?))
    }

    fn insert(&mut self, name: &[u8], value: &[u8]) {
        let entry = Entry { at: self.bytes.len(), name: name.len(), value: value.len() };
        self.evict(self.most.saturating_sub(entry.size()));
        // One that is larger than the table only empties it (section 4.4).
        if entry.size() <= self.most {
            let at = self.bytes.len();
            self.bytes.extend_from_slice(name);
            self.bytes.extend_from_slice(value);
            self.entries.push_back(Entry { at, ..entry });
            self.size += entry.size();
        }
    }

    fn resize(&mut self, most: usize) {
        self.most = most;
        self.evict(most);
    }

    /// Drops the oldest entries until the rest fits.
    fn evict(&mut self, fits: usize) {
        while self.size > fits {
            let Some(entry) = self.entries.pop_front() else { break };
            self.size -= entry.size();
        }
        let used_from = self.entries.front().map_or(self.bytes.len(), |entry| entry.at);
        if self.entries.is_empty() {
            self.bytes.clear();
        } else if used_from > TABLE_SIZE {
            self.bytes.drain(..used_from);
            for entry in &mut self.entries {
                entry.at -= used_from;
            }
        }
    }
}

/// Appends a field, from the static table where it has it, and else as a literal that no table
/// keeps.
pub(super) fn encode(name: &str, value: &str, out: &mut Vec<u8>) {
    if let Some(at) = STATIC.iter().position(|entry| *entry == (name, value)) {
        put_number(0x80, 7, at + 1, out);
        return;
    }
    match STATIC.iter().position(|entry| entry.0 == name) {
        Some(at) => put_number(0, 4, at + 1, out),
        None => {
            out.push(0);
            put_string(name.as_bytes(), out);
        }
    }
    put_string(value.as_bytes(), out);
}

/// The instruction to a decoder that this side uses no dynamic table.
pub(super) const NO_TABLE: u8 = 0x20;

fn put_number(flags: u8, prefix: u32, value: usize, out: &mut Vec<u8>) {
    let most = (1 << prefix) - 1;
    if value < most {
        out.push(flags | value as u8);
        return;
    }
    out.push(flags | most as u8);
    let mut rest = value - most;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn put_string(text: &[u8], out: &mut Vec<u8>) {
    let coded = huffman::encoded_length(text);
    if coded < text.len() {
        put_number(0x80, 7, coded, out);
        huffman::encode(text, out);
    } else {
        put_number(0, 7, text.len(), out);
        out.extend_from_slice(text);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, HpackError> {
        let mut all = Vec::new();
        decoder.decode(block, |name, value| {
            all.push(format!(
                "{}: {}",
                String::from_utf8_lossy(name),
                String::from_utf8_lossy(value)
            ));
        })?;
        Ok(all)
    }

    /// RFC 7541, C.5: responses without Huffman code, a table of 256 bytes that evicts.
    #[test]
    fn the_responses_of_the_specification_are_decoded_with_evictions() {
        let mut decoder = Decoder::default();
        decoder.table.resize(256);
        let first = b"\x48\x03302\x58\x07private\x61\x1dMon, 21 Oct 2013 20:13:21 GMT\
            \x6e\x17https://www.example.com";
        let expected = [
            ":status: 302",
            "cache-control: private",
            "date: Mon, 21 Oct 2013 20:13:21 GMT",
            "location: https://www.example.com",
        ];
        assert_eq!(decoded(&mut decoder, first).expect("a block"), expected);
        assert_eq!(decoder.table.size, 222);
        let second = decoded(&mut decoder, b"\x48\x03307\xc1\xc0\xbf").expect("a block");
        assert_eq!(second[0], ":status: 307");
        assert_eq!(second[1..], expected[1..]);
        assert_eq!(decoder.table.size, 222);
        let third = b"\x88\xc1\x61\x1dMon, 21 Oct 2013 20:13:22 GMT\xc0\x5a\x04gzip\
            \x77\x38foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
        assert_eq!(
            decoded(&mut decoder, third).expect("a block"),
            [
                ":status: 200",
                "cache-control: private",
                "date: Mon, 21 Oct 2013 20:13:22 GMT",
                "location: https://www.example.com",
                "content-encoding: gzip",
                "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ]
        );
        assert_eq!((decoder.table.size, decoder.table.entries.len()), (215, 3));
    }

    #[test]
    fn what_is_encoded_is_decoded_again() {
        let long = "x".repeat(300) + "\u{1}\u{2}";
        let fields = [
            (":method", "GET"),
            (":path", "/a/path?with=query"),
            ("x-own", "\u{7f}"),
            ("user-agent", long.as_str()),
            ("empty", ""),
        ];
        let mut block = vec![NO_TABLE];
        for (name, value) in fields {
            encode(name, value, &mut block);
        }
        let expected: Vec<_> =
            fields.iter().map(|(name, value)| format!("{name}: {value}")).collect();
        assert_eq!(decoded(&mut Decoder::default(), &block), Ok(expected));
    }

    #[test]
    fn broken_blocks_are_named() {
        for (block, expected) in [
            (&b"\x80"[..], HpackError::Index(0)),
            (b"\xbe", HpackError::Index(62)),
            (b"\x3f", HpackError::Cut),
            (b"\x40\x05ab", HpackError::Cut),
            (b"\xff\xff\xff\xff\xff\xff\x0f", HpackError::Number),
            (b"\x3f\xe2\x1f", HpackError::Resize(4097)),
            (b"\x88\x20", HpackError::Resize(0)),
            (b"\x00\x81\x00\x01a", HpackError::Huffman),
        ] {
            assert_eq!(decoded(&mut Decoder::default(), block), Err(expected), "{block:x?}");
        }
    }

    #[test]
    fn random_blocks_neither_panic_nor_outgrow_the_table() {
        let mut state = 0x9e37_79b9_7f4a_7c15_u64;
        let mut random = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state
        };
        let mut decoder = Decoder::default();
        let (mut fields, mut failures) = (0, 0);
        for _ in 0..100_000 {
            let length = random() % 64;
            let mut block: Vec<u8> = (0..length).map(|_| random() as u8).collect();
            // Half of them begin like a proper literal that the table keeps.
            if random() % 2 == 0 {
                let text = random() % 64;
                let mut proper = vec![0x40, 1, b'n', text as u8];
                proper.extend((0..text).map(|_| random() as u8));
                proper.append(&mut block);
                block = proper;
            }
            failures += u64::from(decoder.decode(&block, |_, _| fields += 1).is_err());
            let table = &decoder.table;
            assert!(table.size <= table.most && table.most <= TABLE_SIZE);
            assert!(table.bytes.len() <= 3 * TABLE_SIZE, "{}", table.bytes.len());
            let sizes: usize = table.entries.iter().map(|entry| entry.size()).sum();
            assert_eq!(sizes, table.size);
        }
        assert!(fields > 10_000 && failures > 10_000, "{fields} {failures}");
    }
}
