//! Reading one HTTP/1.1 response, from whatever pieces the socket gives (RFC 9112 section 6).
//!
//! The body's bytes are counted, and hashed where that is asked for, never kept.

use std::mem::MaybeUninit;

use aws_lc_rs::digest;
use thiserror::Error;

/// Most header fields that a response may have.
const MAX_HEADERS: usize = 64;
/// Longest head that is waited for.
const MAX_HEAD: usize = 64 * 1024;
/// Longest line with a chunk's size.
const MAX_SIZE_LINE: usize = 256;

/// Most interim answers (100 to 199) before the final one.
const MAX_INTERIM: u32 = 32;
/// Bytes of all trailers together.
const MAX_TRAILERS: usize = 64 * 1024;

/// Why bytes from the target are no HTTP/1.1 response.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum ResponseError {
    /// The head does not parse.
    #[error("malformed response head: {0}")]
    Head(httparse::Error),
    /// The head is longer than this client waits for.
    #[error("response head longer than {MAX_HEAD} bytes")]
    HeadTooLong,
    /// Interim answers without end.
    #[error("more than {MAX_INTERIM} interim responses, the last with status {0}")]
    Interim(u16),
    /// Trailers without end.
    #[error("trailers of more than {MAX_TRAILERS} bytes")]
    Trailers,
    /// Content-Length is no number, or there are several.
    #[error("bad Content-Length")]
    ContentLength,
    /// A chunk's size line does not parse.
    #[error("bad chunk size")]
    ChunkSize,
    /// A chunk is not followed by CRLF.
    #[error("chunk without its CRLF")]
    ChunkEnd,
}

/// What a complete response was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Received {
    /// Status code.
    pub(crate) status: u16,
    /// Bytes of content, without any framing.
    pub(crate) length: u64,
    /// Whether the connection carries another request.
    pub(crate) keep_alive: bool,
}

/// What became of the bytes given to [`ResponseReader::feed`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Progress {
    /// All bytes are taken, the response goes on.
    More,
    /// The response is complete after this many of the bytes given.
    Done(usize, Received),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Head,
    Length { left: u64 },
    ChunkSize,
    Chunk { left: u64 },
    ChunkEnd,
    Trailers,
    UntilClose,
}

/// The state of one response under way.
#[derive(Debug)]
pub(crate) struct ResponseReader {
    phase: Phase,
    status: u16,
    /// Interim answers so far.
    interim: u32,
    /// Bytes of trailers so far.
    trailers: usize,
    length: u64,
    keep_alive: bool,
    head_request: bool,
    /// The start of a head or of a chunk's line whose rest is still to come.
    partial: Vec<u8>,
    /// The header field whose value is kept, in lower case.
    counted: Option<Box<str>>,
    counted_value: Option<Box<str>>,
    hash: Option<Box<Hash>>,
}

impl ResponseReader {
    /// A reader for the answer to one request; `head_request` if its method was HEAD.
    pub(crate) fn new(head_request: bool) -> Self {
        Self {
            phase: Phase::Head,
            status: 0,
            interim: 0,
            trailers: 0,
            length: 0,
            keep_alive: true,
            head_request,
            partial: Vec::new(),
            counted: None,
            counted_value: None,
            hash: None,
        }
    }

    /// Makes the reader ready for the next answer, keeping its buffer. The answer's content is
    /// hashed if that is asked for, and the value of one header field, named in lower case, kept.
    pub(crate) fn restart(&mut self, head_request: bool, hashed: bool, counted: Option<&str>) {
        self.phase = Phase::Head;
        self.status = 0;
        (self.interim, self.trailers) = (0, 0);
        self.length = 0;
        self.keep_alive = true;
        self.head_request = head_request;
        self.partial.clear();
        if self.counted.as_deref() != counted {
            self.counted = counted.map(Box::from);
        }
        self.counted_value = None;
        self.hash = hashed.then(|| Box::new(Hash(digest::Context::new(&digest::SHA256))));
    }

    /// SHA-256 of a complete answer's content, if it was asked for; only once.
    pub(crate) fn take_sha256(&mut self) -> Option<[u8; 32]> {
        self.hash.take()?.0.finish().as_ref().try_into().ok()
    }

    /// The value of the header field that is kept, if the answer had it; only once.
    pub(crate) fn take_counted(&mut self) -> Option<Box<str>> {
        self.counted_value.take()
    }

    /// Takes bytes of content.
    fn content(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        if let Some(hash) = &mut self.hash {
            hash.0.update(bytes);
        }
    }

    /// Whether nothing of the response has come yet.
    pub(crate) fn is_untouched(&self) -> bool {
        self.phase == Phase::Head && self.partial.is_empty() && self.status == 0
    }

    /// Takes the next bytes from the connection.
    pub(crate) fn feed(&mut self, input: &[u8]) -> Result<Progress, ResponseError> {
        let mut at = 0;
        loop {
            let rest = input.get(at..).unwrap_or_default();
            let step = match self.phase {
                Phase::Head => self.head(rest)?,
                Phase::Length { left } => {
                    let taken = left.min(rest.len() as u64);
                    self.content(rest.get(..taken as usize).unwrap_or_default());
                    self.phase = Phase::Length { left: left - taken };
                    Step { taken: taken as usize, done: left == taken }
                }
                Phase::Chunk { left } => {
                    let taken = left.min(rest.len() as u64);
                    self.content(rest.get(..taken as usize).unwrap_or_default());
                    self.phase = match left - taken {
                        0 => Phase::ChunkEnd,
                        left => Phase::Chunk { left },
                    };
                    Step { taken: taken as usize, done: false }
                }
                Phase::ChunkSize | Phase::ChunkEnd | Phase::Trailers => self.chunk_line(rest)?,
                Phase::UntilClose => {
                    self.content(rest);
                    Step { taken: rest.len(), done: false }
                }
            };
            at += step.taken;
            if step.done {
                return Ok(Progress::Done(at, self.received()));
            }
            if at >= input.len() {
                return Ok(Progress::More);
            }
        }
    }

    /// The response that ends because the connection does, if it may end so here.
    pub(crate) fn closed(&self) -> Option<Received> {
        (self.phase == Phase::UntilClose).then(|| self.received())
    }

    fn received(&self) -> Received {
        Received { status: self.status, length: self.length, keep_alive: self.keep_alive }
    }

    fn head(&mut self, input: &[u8]) -> Result<Step, ResponseError> {
        if self.partial.is_empty() {
            if let Some(size) = self.parse_head(input)? {
                return Ok(Step { taken: size, done: self.is_complete() });
            }
            self.partial.extend_from_slice(input);
            return Ok(Step { taken: input.len(), done: false });
        }
        let before = self.partial.len();
        let mut joined = std::mem::take(&mut self.partial);
        joined.extend_from_slice(input.get(..MAX_HEAD).unwrap_or(input));
        match self.parse_head(&joined)? {
            Some(size) => {
                joined.clear();
                self.partial = joined;
                // What was kept was no whole head, so the end lies in the new bytes; an interim
                // response leaves none of them over that an earlier call did not see.
                Ok(Step { taken: size.saturating_sub(before), done: self.is_complete() })
            }
            None if joined.len() > MAX_HEAD => Err(ResponseError::HeadTooLong),
            None => {
                self.partial = joined;
                Ok(Step { taken: input.len(), done: false })
            }
        }
    }

    /// The head's size, or nothing if its end has not come.
    fn parse_head(&mut self, input: &[u8]) -> Result<Option<usize>, ResponseError> {
        let mut headers = [MaybeUninit::uninit(); MAX_HEADERS];
        let mut response = httparse::Response::new(&mut []);
        let parsed = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut response,
            input,
            &mut headers,
        );
        let size = match parsed.map_err(ResponseError::Head)? {
            httparse::Status::Complete(size) => size,
            httparse::Status::Partial => return Ok(None),
        };
        let status = response.code.unwrap_or_default();
        if (100..200).contains(&status) && status != 101 {
            self.interim += 1;
            if self.interim > MAX_INTERIM {
                return Err(ResponseError::Interim(status));
            }
            return Ok(Some(size)); // interim: the phase stays Head for the final one
        }
        let mut content_length = None;
        let mut chunked = false;
        let mut keep_alive = response.version == Some(1);
        for header in response.headers.iter() {
            if header.name.eq_ignore_ascii_case("content-length") {
                let value = std::str::from_utf8(header.value).ok().and_then(|v| v.parse().ok());
                if value.is_none() || content_length.is_some() {
                    return Err(ResponseError::ContentLength);
                }
                content_length = value;
            } else if header.name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = header.value.to_ascii_lowercase().ends_with(b"chunked");
            } else if header.name.eq_ignore_ascii_case("connection") {
                let value = header.value.to_ascii_lowercase();
                let has =
                    |token: &[u8]| value.split(|b| *b == b',').any(|t| t.trim_ascii() == token);
                keep_alive = (keep_alive || has(b"keep-alive")) && !has(b"close");
            }
            if self.counted.as_deref().is_some_and(|name| header.name.eq_ignore_ascii_case(name)) {
                let value = String::from_utf8_lossy(header.value).into_owned();
                self.counted_value = Some(value.into_boxed_str());
            }
        }
        let bodiless = self.head_request || matches!(status, 101 | 204 | 304);
        self.status = status;
        self.phase = match content_length {
            _ if bodiless => Phase::Length { left: 0 },
            _ if chunked => Phase::ChunkSize,
            Some(left) => Phase::Length { left },
            None => Phase::UntilClose,
        };
        self.keep_alive = keep_alive && self.phase != Phase::UntilClose && status != 101;
        Ok(Some(size))
    }

    fn is_complete(&self) -> bool {
        self.phase == Phase::Length { left: 0 }
    }

    /// One line of the chunked framing: a size, the CRLF behind a chunk, or a trailer.
    fn chunk_line(&mut self, input: &[u8]) -> Result<Step, ResponseError> {
        let Some(newline) = memchr::memchr(b'\n', input) else {
            self.partial.extend_from_slice(input);
            if self.partial.len() > MAX_SIZE_LINE {
                return Err(ResponseError::ChunkSize);
            }
            return Ok(Step { taken: input.len(), done: false });
        };
        self.partial.extend_from_slice(input.get(..newline).unwrap_or_default());
        let line = self.partial.strip_suffix(b"\r").ok_or(ResponseError::ChunkSize)?;
        let mut done = false;
        self.phase = match self.phase {
            Phase::ChunkSize => {
                let digits = line.split(|b| *b == b';').next().unwrap_or_default().trim_ascii();
                let size = std::str::from_utf8(digits).ok();
                match size.and_then(|size| u64::from_str_radix(size, 16).ok()) {
                    Some(0) => Phase::Trailers,
                    Some(left) => Phase::Chunk { left },
                    None => return Err(ResponseError::ChunkSize),
                }
            }
            Phase::ChunkEnd if line.is_empty() => Phase::ChunkSize,
            Phase::ChunkEnd => return Err(ResponseError::ChunkEnd),
            phase => {
                self.trailers += line.len() + 2;
                if self.trailers > MAX_TRAILERS {
                    return Err(ResponseError::Trailers);
                }
                done = line.is_empty();
                phase
            }
        };
        self.partial.clear();
        Ok(Step { taken: newline + 1, done })
    }
}

/// A digest under way.
struct Hash(digest::Context);

impl std::fmt::Debug for Hash {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hash")
    }
}

struct Step {
    taken: usize,
    done: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_in_pieces(bytes: &[u8], piece: usize) -> Result<Vec<Received>, ResponseError> {
        let mut reader = ResponseReader::new(false);
        let mut all = Vec::new();
        for mut part in bytes.chunks(piece) {
            while !part.is_empty() {
                match reader.feed(part)? {
                    Progress::More => break,
                    Progress::Done(used, received) => {
                        all.push(received);
                        reader.restart(false, false, None);
                        part = &part[used..];
                    }
                }
            }
        }
        all.extend(reader.closed());
        Ok(all)
    }

    #[track_caller]
    fn assert_reads(bytes: &[u8], expected: &[Received]) {
        for piece in 1..=bytes.len() {
            let got = read_in_pieces(bytes, piece);
            assert_eq!(got.as_deref(), Ok(expected), "in pieces of {piece}");
        }
    }

    fn received(status: u16, length: u64, keep_alive: bool) -> Received {
        Received { status, length, keep_alive }
    }

    #[test]
    fn content_length_frames_the_body_in_any_pieces() {
        assert_reads(
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 404 No\r\ncontent-length: 0\r\n\r\n",
            &[received(200, 5, true), received(404, 0, true)],
        );
    }

    #[test]
    fn chunks_are_counted_without_their_framing() {
        assert_reads(
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA;x=y\r\n0123456789\r\n0\r\nT: v\r\n\r\n",
            &[received(200, 15, true)],
        );
    }

    #[test]
    fn interim_responses_are_passed_over() {
        assert_reads(
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            &[received(204, 0, true)],
        );
    }

    #[test]
    fn interim_responses_and_trailers_without_end_are_told() {
        let interim = b"HTTP/1.1 100 Continue\r\n\r\n".repeat(33);
        assert_eq!(read_in_pieces(&interim, 10), Err(ResponseError::Interim(100)));
        let head: &[u8] = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n";
        let trailers = [head, &b"a: b\r\n".repeat(20_000)].concat();
        assert_eq!(read_in_pieces(&trailers, 1000), Err(ResponseError::Trailers));
    }

    #[test]
    fn connection_close_ends_keep_alive() {
        assert_reads(
            b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 1\r\n\r\nx",
            &[received(200, 1, false)],
        );
    }

    #[test]
    fn a_body_without_framing_ends_with_the_connection() {
        assert_reads(b"HTTP/1.1 200 OK\r\n\r\nabc", &[received(200, 3, false)]);
    }

    #[test]
    fn the_answer_to_head_has_no_body() {
        let mut reader = ResponseReader::new(true);
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n";
        assert_eq!(reader.feed(head), Ok(Progress::Done(head.len(), received(200, 0, true))));
    }

    #[test]
    fn content_is_hashed_and_the_backends_name_kept() {
        for piece in 1..100 {
            let bytes: &[u8] = b"HTTP/1.1 200 OK\r\nX-Backend: b7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n";
            let mut reader = ResponseReader::new(false);
            reader.restart(false, true, Some("x-backend"));
            for part in bytes.chunks(piece) {
                reader.feed(part).expect("well-formed");
            }
            let expected = digest::digest(&digest::SHA256, b"hello");
            assert_eq!(reader.take_sha256().as_ref().map(|h| &h[..]), Some(expected.as_ref()));
            assert_eq!(reader.take_counted().as_deref(), Some("b7"));
        }
    }

    #[test]
    fn broken_framing_is_named() {
        let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        for (bytes, expected) in [
            (
                "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n".to_owned(),
                ResponseError::ContentLength,
            ),
            (
                "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\n".to_owned(),
                ResponseError::ContentLength,
            ),
            (format!("{chunked}zz\r\n"), ResponseError::ChunkSize),
            (format!("{chunked}1\r\nab\r\n"), ResponseError::ChunkEnd),
            ("SMTP ready\r\n".to_owned(), ResponseError::Head(httparse::Error::Version)),
        ] {
            assert_eq!(read_in_pieces(bytes.as_bytes(), 7), Err(expected), "{bytes:?}");
        }
    }
}
