//! Frames on the wire (RFC 6455, section 5).

/// Kinds of frames.
pub(super) mod opcode {
    /// More of a message.
    pub(crate) const CONTINUATION: u8 = 0;
    /// A message of text, or its beginning.
    pub(crate) const TEXT: u8 = 1;
    /// A message of bytes, or its beginning.
    pub(crate) const BINARY: u8 = 2;
    /// The end.
    pub(crate) const CLOSE: u8 = 8;
    /// Is anybody there?
    pub(crate) const PING: u8 = 9;
    /// The answer to it.
    pub(crate) const PONG: u8 = 10;

    /// Whether frames of the kind stand between those of messages.
    pub(crate) fn is_control(opcode: u8) -> bool {
        opcode & 8 != 0
    }
}

/// What stands before the payload of a server's frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Whether it is the message's last.
    pub(super) last: bool,
    /// One of [`opcode`].
    pub(super) opcode: u8,
    /// Bytes of payload.
    pub(super) length: u64,
}

impl Head {
    /// Reads it from exactly its bytes; nothing if there are fewer, an error in words if it is
    /// none that a server may send.
    pub(super) fn parse(bytes: &[u8]) -> Result<Option<Self>, &'static str> {
        let &[first, second, ref rest @ ..] = bytes else { return Ok(None) };
        let opcode = first & 0x0f;
        let last = first & 0x80 != 0;
        let length = match (second & 0x7f, rest) {
            (126, &[a, b]) => u64::from(u16::from_be_bytes([a, b])),
            (127, rest) => match rest.try_into() {
                Ok(length) => u64::from_be_bytes(length),
                Err(_) => return Ok(None),
            },
            (126, _) => return Ok(None),
            (short, _) => u64::from(short),
        };
        if first & 0x70 != 0 {
            return Err("reserved bits set, though no extension was agreed upon");
        }
        if !matches!(opcode, 0..=2 | 8..=10) {
            return Err("unknown kind of frame");
        }
        if second & 0x80 != 0 {
            return Err("a masked frame from the server");
        }
        if opcode::is_control(opcode) && (length > 125 || !last) {
            return Err("control frame too long or in pieces");
        }
        if length > u64::MAX / 2 {
            return Err("length beyond 63 bits");
        }
        Ok(Some(Self { last, opcode, length }))
    }
}

/// Appends a whole frame, masked.
pub(super) fn put(opcode: u8, payload: &[u8], mask: [u8; 4], out: &mut Vec<u8>) {
    put_head(opcode, payload.len(), mask, out);
    put_masked(payload, mask, 0, out);
}

/// Appends the head of a frame that is its message's last.
pub(super) fn put_head(opcode: u8, length: usize, mask: [u8; 4], out: &mut Vec<u8>) {
    out.push(0x80 | opcode);
    match length {
        0..=125 => out.push(0x80 | length as u8),
        126..=0xffff => {
            out.push(0x80 | 126);
            out.extend_from_slice(&(length as u16).to_be_bytes());
        }
        _ => {
            out.push(0x80 | 127);
            out.extend_from_slice(&(length as u64).to_be_bytes());
        }
    }
    out.extend_from_slice(&mask);
}

/// Appends masked payload that begins `offset` bytes into its frame.
pub(super) fn put_masked(payload: &[u8], mut mask: [u8; 4], offset: usize, out: &mut Vec<u8>) {
    mask.rotate_left(offset % 4);
    let wide = u64::from_ne_bytes({
        let [a, b, c, d] = mask;
        [a, b, c, d, a, b, c, d]
    });
    let start = out.len();
    out.extend_from_slice(payload);
    let (words, rest) = out.get_mut(start..).unwrap_or_default().as_chunks_mut::<8>();
    for word in words {
        *word = (u64::from_ne_bytes(*word) ^ wide).to_ne_bytes();
    }
    for (byte, mask) in rest.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
}

/// A new mask for each frame. They hide nothing here, so a plain xorshift generator is enough.
#[derive(Debug)]
pub(super) struct Masks(u64);

impl Default for Masks {
    fn default() -> Self {
        Self(1)
    }
}

impl Masks {
    /// Begins anew from random bytes.
    pub(super) fn seed(&mut self, bytes: [u8; 16]) {
        self.0 = (u128::from_ne_bytes(bytes) as u64) | 1;
    }

    /// The next mask.
    pub(super) fn next(&mut self) -> [u8; 4] {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        ((self.0 >> 32) as u32).to_ne_bytes()
    }
}
