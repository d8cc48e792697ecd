//! The Huffman code of header strings (RFC 7541, section 5.2 and appendix B).
//!
//! The code is canonical: codes of one length follow each other in the order of their symbols, and
//! shorter ones come before longer ones. So the lengths say it all, and the tables are computed.

/// Bits of each byte's code, and behind them those of the end-of-string symbol.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28,
    28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11,
    10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8,
    15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5,
    6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7,
    7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23,
    23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21,
    23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25,
    26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26,
    28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23,
    26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26, 30,
];
/// Bytes, and the end of a string, of which only the first bits may appear, as padding.
const SYMBOLS: usize = 257;
/// Bits of the longest code.
const LONGEST: usize = 30;
/// Bits looked up at once.
const SHORT: u32 = 8;

/// Codes of one length.
#[derive(Clone, Copy)]
struct Range {
    /// The first of them.
    first: u32,
    /// How many there are.
    count: u32,
    /// Where their symbols begin in [`Tables::symbols`].
    at: u16,
}

struct Tables {
    /// Each symbol's code.
    codes: [u32; SYMBOLS],
    /// Symbols in the order of their codes.
    symbols: [u16; SYMBOLS],
    /// Codes by their length.
    ranges: [Range; LONGEST + 1],
    /// What eight bits begin with: a symbol and its length, or length 0 if the code is longer.
    short: [(u8, u8); 1 << SHORT],
}

static TABLES: Tables = tables();

const fn tables() -> Tables {
    let mut codes = [0; SYMBOLS];
    let mut symbols = [0; SYMBOLS];
    let mut ranges = [Range { first: 0, count: 0, at: 0 }; LONGEST + 1];
    let mut short = [(0, 0); 1 << SHORT];
    let (mut code, mut at, mut length) = (0_u32, 0, 1);
    while length <= LONGEST {
        ranges[length].first = code;
        ranges[length].at = at as u16;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                codes[symbol] = code;
                symbols[at] = symbol as u16;
                if length <= SHORT as usize {
                    let free = SHORT as usize - length;
                    let mut rest = 0;
                    while rest < 1 << free {
                        short[((code as usize) << free) + rest] = (symbol as u8, length as u8);
                        rest += 1;
                    }
                }
                code += 1;
                at += 1;
            }
            symbol += 1;
        }
        ranges[length].count = code - ranges[length].first;
        code <<= 1;
        length += 1;
    }
    Tables { codes, symbols, ranges, short }
}

/// Appends the decoded string; false if it is no proper code.
pub(super) fn decode(input: &[u8], out: &mut Vec<u8>) -> bool {
    let (mut bits, mut held) = (0_u64, 0_u32);
    let mut input = input.iter();
    loop {
        while held <= 56 {
            let Some(byte) = input.next() else { break };
            bits = (bits << 8) | u64::from(*byte);
            held += 8;
        }
        if held < SHORT {
            return finish(bits, held, out);
        }
        let next = (bits >> (held - SHORT)) as u8;
        let (symbol, length) = TABLES.short.get(usize::from(next)).copied().unwrap_or_default();
        if length > 0 {
            out.push(symbol);
            held -= u32::from(length);
            continue;
        }
        let Some((symbol, length)) = long(bits, held) else { return false };
        out.push(symbol);
        held -= length;
    }
}

/// The symbol of more than eight bits at the front of the held ones.
fn long(bits: u64, held: u32) -> Option<(u8, u32)> {
    for length in SHORT + 1..=held.min(LONGEST as u32) {
        let code = ((bits >> (held - length)) & ((1 << length) - 1)) as u32;
        let range = TABLES.ranges.get(length as usize)?;
        let offset = code.wrapping_sub(range.first);
        if offset < range.count {
            let symbol = *TABLES.symbols.get(usize::from(range.at) + offset as usize)?;
            // The end of the string itself must not appear, and fits no byte.
            return u8::try_from(symbol).ok().map(|symbol| (symbol, length));
        }
    }
    None
}

/// The last bits, fewer than eight: one more short symbol perhaps, and padding of ones.
fn finish(bits: u64, mut held: u32, out: &mut Vec<u8>) -> bool {
    while held > 0 {
        let ones = (1_u64 << held) - 1;
        if bits & ones == ones {
            return true;
        }
        let next = (((bits & ones) << (SHORT - held)) | ((1 << (SHORT - held)) - 1)) as u8;
        let (symbol, length) = TABLES.short.get(usize::from(next)).copied().unwrap_or_default();
        if length == 0 || u32::from(length) > held {
            return false;
        }
        out.push(symbol);
        held -= u32::from(length);
    }
    true
}

/// Bytes of a string once it is encoded.
pub(super) fn encoded_length(input: &[u8]) -> usize {
    let bits: usize = input
        .iter()
        .map(|byte| usize::from(LENGTHS.get(usize::from(*byte)).copied().unwrap_or_default()))
        .sum();
    bits.div_ceil(8)
}

/// Appends the encoded string.
pub(super) fn encode(input: &[u8], out: &mut Vec<u8>) {
    let (mut bits, mut held) = (0_u64, 0_u32);
    for byte in input {
        let symbol = usize::from(*byte);
        let length = u32::from(LENGTHS.get(symbol).copied().unwrap_or_default());
        let code = TABLES.codes.get(symbol).copied().unwrap_or_default();
        bits = (bits << length) | u64::from(code);
        held += length;
        while held >= 8 {
            held -= 8;
            out.push((bits >> held) as u8);
        }
    }
    if held > 0 {
        out.push(((bits << (8 - held)) | ((1 << (8 - held)) - 1)) as u8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_examples_of_the_specification_are_coded_as_printed_there() {
        // RFC 7541, C.4.1 and C.6.1.
        for (text, coded) in [
            ("www.example.com", &b"\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff"[..]),
            ("302", b"\x64\x02"),
            ("https://www.example.com", {
                b"\x9d\x29\xad\x17\x18\x63\xc7\x8f\x0b\x97\xc8\xe9\xae\x82\xae\x43\xd3"
            }),
        ] {
            let (mut encoded, mut decoded) = (Vec::new(), Vec::new());
            encode(text.as_bytes(), &mut encoded);
            assert_eq!(encoded, coded, "{text}");
            assert_eq!(encoded_length(text.as_bytes()), coded.len());
            assert!(decode(coded, &mut decoded), "{text}");
            assert_eq!(decoded, text.as_bytes());
        }
    }

    #[test]
    fn every_byte_survives_at_every_offset() {
        for before in 0..8 {
            for byte in 0..=255 {
                let text: Vec<u8> = [vec![b'0'; before], vec![byte, b'!', byte]].concat();
                let (mut encoded, mut decoded) = (Vec::new(), Vec::new());
                encode(&text, &mut encoded);
                assert!(decode(&encoded, &mut decoded), "{text:?}");
                assert_eq!(decoded, text);
            }
        }
    }

    #[test]
    fn wrong_padding_and_the_end_symbol_are_refused() {
        for coded in [
            &b"\x00"[..],                    // "0" and three bits of zero
            b"\xff",                         // eight bits of padding
            b"\x1f\xff",                     // "a" and more than seven bits of padding
            b"\xff\xff\xff\xff",             // the end of the string, and two bits
            b"\xff\xff\xff\xfa\xff\xff\xff", // a long code, then too much padding
        ] {
            assert!(!decode(coded, &mut Vec::new()), "{coded:x?}");
        }
    }
}
