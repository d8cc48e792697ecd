//! Writing chunk headers (RFC 9112, 7.1).

/// A chunk's size line, on the stack.
#[derive(Clone, Copy, Debug)]
pub struct ChunkHeader {
    bytes: [u8; 18],
    start: u8,
}

impl ChunkHeader {
    /// The line with its CRLF.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(usize::from(self.start)..).unwrap_or_default()
    }
}

/// The size line of a chunk of `len` bytes. 0 is the last chunk.
pub fn chunk_header(len: usize) -> ChunkHeader {
    let mut bytes = *b"0000000000000000\r\n";
    let mut start = 16u8;
    let mut left = len;
    for slot in bytes.iter_mut().take(16).rev() {
        let digit = (left & 0xf) as u8;
        *slot = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
        start -= 1;
        left >>= 4;
        if left == 0 {
            break;
        }
    }
    ChunkHeader { bytes, start }
}
