//! Request bodies in chunked coding (RFC 9112, section 7.1), passed over.

use std::io;

/// Bytes of a size line or a trailer.
const MAX_LINE: usize = 8192;

/// Where in a body the reading stands.
#[derive(Debug, Default)]
pub(super) struct Chunked {
    /// Bytes of the chunk, and of the line end behind it, that have not come.
    left: u64,
    /// A line whose end has not come.
    line: Vec<u8>,
    /// Whether the last chunk is over, and trailers follow.
    trailers: bool,
}

impl Chunked {
    /// Passes over what belongs to the body: how many bytes, and whether its end is among them.
    pub(super) fn skip(&mut self, bytes: &[u8]) -> io::Result<(usize, bool)> {
        let mut used = 0;
        loop {
            let rest = bytes.get(used..).unwrap_or_default();
            let skipped = self.left.min(rest.len() as u64);
            self.left -= skipped;
            used += skipped as usize;
            let rest = rest.get(skipped as usize..).unwrap_or_default();
            let Some(newline) = memchr::memchr(b'\n', rest) else {
                self.line.extend_from_slice(rest);
                if self.line.len() > MAX_LINE {
                    return Err(io::ErrorKind::InvalidData.into());
                }
                return Ok((bytes.len(), false));
            };
            self.line.extend_from_slice(rest.get(..newline).unwrap_or_default());
            used += newline + 1;
            let line = std::mem::take(&mut self.line);
            let line = line.trim_ascii();
            if self.trailers {
                if line.is_empty() {
                    return Ok((used, true));
                }
                continue;
            }
            let digits = line.split(|byte| *byte == b';').next().unwrap_or_default();
            let size = std::str::from_utf8(digits.trim_ascii()).ok();
            let size = size.and_then(|size| u64::from_str_radix(size, 16).ok());
            match size {
                Some(0) => self.trailers = true,
                Some(size) if size < u64::MAX / 2 => self.left = size + 2,
                _ => return Err(io::ErrorKind::InvalidData.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_ends_where_it_ends_in_pieces_of_every_size() {
        let body = b"5\r\nhello\r\nA;x=y\r\n01234\n6789\r\n0\r\nT: v\r\n\r\n";
        let bytes = [&body[..], b"GET"].concat();
        for piece in 1..=bytes.len() {
            let (mut chunked, mut used) = (Chunked::default(), 0);
            for part in bytes.chunks(piece) {
                let (size, over) = chunked.skip(part).expect("a body");
                used += size;
                if over {
                    break;
                }
            }
            assert_eq!(used, body.len(), "in pieces of {piece}");
        }
        assert!(Chunked::default().skip(b"x\r\n").is_err());
        assert!(Chunked::default().skip(&[b'1'; 9000]).is_err());
    }
}
