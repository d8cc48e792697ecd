//! Body framing (RFC 9112, 6 and 7).

use std::ops::Range;

use crate::Framing;
use crate::error::BodyError;

/// The most bytes of chunk extensions in a whole body: they carry nothing that is passed on.
const EXTENSION_BYTES: u32 = 16 * 1024;

/// Takes a body out of its framing.
#[derive(Clone, Debug)]
pub struct Decoder(State);

#[derive(Clone, Debug)]
enum State {
    Done,
    Length(u64),
    UntilClose,
    Chunked { part: Part, extension_budget: u32 },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    /// Size digits read so far.
    Size {
        value: u64,
        digits: u8,
    },
    Extension {
        size: u64,
    },
    SizeLf {
        size: u64,
    },
    Data {
        left: u64,
    },
    DataCr,
    DataLf,
    Trailers,
}

/// What one call took out of the buffer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decoded {
    /// How many bytes of the buffer are used up, framing included.
    pub consumed: usize,
    /// Where the body's bytes now stand in the buffer: always within the consumed part.
    pub data: Range<usize>,
}

impl Decoder {
    /// For a body with this framing.
    pub fn new(framing: Framing) -> Self {
        Self(match framing {
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::UntilClose => State::UntilClose,
            Framing::Chunked => State::Chunked {
                part: Part::Size { value: 0, digits: 0 },
                extension_budget: EXTENSION_BYTES,
            },
        })
    }

    /// Whether the whole body has been read. Never, for one that ends with the connection.
    pub fn is_done(&self) -> bool {
        matches!(self.0, State::Done)
    }

    /// Whether the last chunk has been read and the trailer section comes next: read that with
    /// [`crate::parse_trailers`], then call [`Decoder::finish`].
    pub fn at_trailers(&self) -> bool {
        matches!(self.0, State::Chunked { part: Part::Trailers, .. })
    }

    /// Whether the connection's end is the body's end.
    pub fn ends_with_connection(&self) -> bool {
        matches!(self.0, State::UntilClose)
    }

    /// The trailers have been read, or the connection has ended a body that ends so.
    pub fn finish(&mut self) {
        self.0 = State::Done;
    }

    /// Bytes still to come, where that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self.0 {
            State::Done => Some(0),
            State::Length(left) => Some(left),
            _ => None,
        }
    }

    /// Counts `n` bytes that have passed outside of any buffer. Only for bodies that are not
    /// chunked; more than [`Decoder::remaining`] is cut to it.
    pub fn skip(&mut self, n: u64) {
        if let State::Length(left) = &mut self.0 {
            *left = left.saturating_sub(n);
            if *left == 0 {
                self.0 = State::Done;
            }
        }
    }

    /// Takes as much as it can out of `buf`. Bytes of several chunks are moved together inside
    /// `buf`, so that they can be passed on as one piece.
    ///
    /// # Errors
    /// [`BodyError`] where the chunked coding is malformed; nothing more can be read then.
    pub fn decode(&mut self, buf: &mut [u8]) -> Result<Decoded, BodyError> {
        match &mut self.0 {
            State::Done => Ok(Decoded { consumed: 0, data: 0..0 }),
            State::UntilClose => Ok(Decoded { consumed: buf.len(), data: 0..buf.len() }),
            State::Length(left) => {
                let taken = usize::try_from(*left).map_or(buf.len(), |left| left.min(buf.len()));
                *left -= taken as u64;
                if *left == 0 {
                    self.0 = State::Done;
                }
                Ok(Decoded { consumed: taken, data: 0..taken })
            }
            State::Chunked { part, extension_budget } => decode_chunks(part, extension_budget, buf),
        }
    }
}

fn decode_chunks(
    part: &mut Part,
    extension_budget: &mut u32,
    buf: &mut [u8],
) -> Result<Decoded, BodyError> {
    let mut at = 0;
    let mut data = 0..0;
    while *part != Part::Trailers {
        if let Part::Data { left } = *part {
            let taken = usize::try_from(left).unwrap_or(usize::MAX).min(buf.len() - at);
            if taken == 0 {
                break;
            }
            if data.is_empty() {
                data = at..at + taken;
            } else {
                buf.copy_within(at..at + taken, data.end);
                data.end += taken;
            }
            at += taken;
            let left = left - taken as u64;
            *part = if left == 0 { Part::DataCr } else { Part::Data { left } };
            continue;
        }
        let Some(&b) = buf.get(at) else { break };
        at += 1;
        *part = next_part(*part, b, extension_budget)?;
    }
    Ok(Decoded { consumed: at, data })
}

/// The state after one byte of framing.
fn next_part(part: Part, b: u8, extension_budget: &mut u32) -> Result<Part, BodyError> {
    match part {
        Part::Size { value, digits } => match hex(b) {
            // 15 digits are 2^60 bytes.
            Some(digit) if digits < 15 => {
                Ok(Part::Size { value: value << 4 | u64::from(digit), digits: digits + 1 })
            }
            Some(_) => Err(BodyError::ChunkSize),
            None if digits == 0 => Err(BodyError::ChunkSize),
            None => match b {
                b'\r' => Ok(Part::SizeLf { size: value }),
                b';' => Ok(Part::Extension { size: value }),
                _ => Err(BodyError::ChunkSize),
            },
        },
        Part::Extension { size } => {
            *extension_budget = extension_budget.checked_sub(1).ok_or(BodyError::ChunkExtension)?;
            match b {
                b'\r' => Ok(Part::SizeLf { size }),
                b'\t' | 0x20..=0x7e | 0x80..=0xff => Ok(Part::Extension { size }),
                _ => Err(BodyError::ChunkExtension),
            }
        }
        Part::SizeLf { size } => match (b, size) {
            (b'\n', 0) => Ok(Part::Trailers),
            (b'\n', left) => Ok(Part::Data { left }),
            _ => Err(BodyError::ChunkEnd),
        },
        Part::DataCr if b == b'\r' => Ok(Part::DataLf),
        Part::DataLf if b == b'\n' => Ok(Part::Size { value: 0, digits: 0 }),
        _ => Err(BodyError::ChunkEnd),
    }
}

fn hex(b: u8) -> Option<u8> {
    match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        b'A'..=b'F' => Some(b - b'A' + 10),
        _ => None,
    }
}
