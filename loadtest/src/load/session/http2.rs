//! HTTP/2's client side (RFC 9113): many requests at once on one connection.
//!
//! Of an answer's fields only the status, the length of the content and the one by which answers
//! are counted are looked at. Requests come with their fields encoded once ([`operation`]), so the
//! peer's dynamic table is never used; this side keeps one, as the peer's encoder may use it.
//! Server push is switched off.

mod fields;
mod frame;
mod hpack;
mod huffman;
mod request;
mod stream;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};

use foldhash::fast::FixedState;

use super::digest::Digest;
use super::{Event, MAX_OWED, Operation, Prepared, Received, Session, Ticket, failed};
use crate::load::connection::Failed;
use crate::load::stats::Failure;
use frame::{DEFAULT_WINDOW, HEAD, Head, MAX_PAYLOAD, MAX_WINDOW, PREFACE, code, flag, kind};
use frame::{code_name, put_head, put_number, put_settings, setting};
pub(crate) use request::{Request, operation};
use stream::{Fields, Phase, Stream, Upload};

/// The window given to the peer, for a stream and for the connection: so large that giving it back
/// costs nothing worth mention.
const WINDOW: i64 = 1 << 30;
/// Streams at once until the peer has said how many it takes; the least that it should
/// (section 6.5.2).
const STREAMS_AT_FIRST: usize = 100;
/// Bytes of one block of fields, over all its frames.
const MAX_BLOCK: usize = 256 * 1024;
/// Frames in a row that bring nothing: empty DATA or CONTINUATION.
const MAX_EMPTY: u32 = 1000;
/// Most interim answers (100 to 199) before the final one.
const MAX_INTERIM: u32 = 32;
/// Bytes left in `out` at once.
const PIECE: usize = 256 * 1024;
/// The last stream that a client can open.
const LAST_STREAM: u32 = (1 << 31) - 1;

/// A connection's client side.
#[derive(Debug)]
pub(crate) struct Http2 {
    most_streams: usize,
    reading: Reading,
    /// A frame's beginning whose end has not come.
    partial: Vec<u8>,
    decoder: hpack::Decoder,
    /// A block of fields that goes on in the next frame: its stream, whether that ends with it,
    /// and its bytes.
    collecting: Option<(u32, bool)>,
    block: Vec<u8>,
    streams: HashMap<u32, Stream, FixedState>,
    /// Streams with content to send.
    uploads: VecDeque<u32>,
    next_stream: u32,
    /// Names of fields by which answers are counted.
    names: Vec<String>,
    peer: Peer,
    /// Bytes that may be sent on the connection.
    window: i64,
    /// Bytes that came and for which the peer has not got its window back.
    unreturned: i64,
    /// Whether the next block must say that this side uses no dynamic table.
    renounce_table: bool,
    closing: bool,
    /// Empty frames since one that brought something.
    empty: u32,
    /// Bytes of answers to PING and SETTINGS since all that was to be sent had been.
    owed: usize,
}

#[derive(Clone, Copy, Debug)]
enum Reading {
    Head,
    Content { stream: u32, left: usize, ends: bool },
    Payload(Head),
}

/// What the peer takes.
#[derive(Debug)]
struct Peer {
    settings_seen: bool,
    streams: usize,
    initial_window: i64,
    payload: usize,
}

impl Http2 {
    /// A client that keeps at most so many requests under way, however many the peer takes.
    pub(crate) fn new(most_streams: usize) -> Self {
        Self {
            most_streams,
            reading: Reading::Head,
            partial: Vec::new(),
            decoder: hpack::Decoder::default(),
            collecting: None,
            block: Vec::new(),
            streams: HashMap::default(),
            uploads: VecDeque::new(),
            next_stream: 1,
            names: Vec::new(),
            peer: Peer {
                settings_seen: false,
                streams: STREAMS_AT_FIRST,
                initial_window: DEFAULT_WINDOW,
                payload: MAX_PAYLOAD,
            },
            window: DEFAULT_WINDOW,
            unreturned: 0,
            renounce_table: false,
            closing: false,
            empty: 0,
            owed: 0,
        }
    }

    fn close(&mut self, events: &mut Vec<Event>) {
        if !self.closing {
            self.closing = true;
            events.push(Event::Closing);
        }
    }

    /// Acts on a frame's head, and says how its payload is to be read.
    fn begin(&mut self, head: Head, out: &mut Vec<u8>) -> Result<Reading, Failed> {
        let is_settings = head.kind == kind::SETTINGS && !head.has(flag::ACK);
        if !self.peer.settings_seen && !is_settings {
            return Err(protocol("does not begin with SETTINGS: not HTTP/2"));
        }
        if head.length > MAX_PAYLOAD {
            return Err(protocol(format!("frame of {} bytes, {MAX_PAYLOAD} allowed", head.length)));
        }
        if let Some((stream, _)) = self.collecting
            && (head.kind != kind::CONTINUATION || head.stream != stream)
        {
            return Err(protocol(format!("no CONTINUATION behind HEADERS of stream {stream}")));
        }
        self.count_empty(head)?;
        if head.kind != kind::DATA {
            return Ok(Reading::Payload(head));
        }
        self.must_be_opened("DATA", head.stream)?;
        self.unreturned += head.length as i64;
        if self.unreturned > WINDOW {
            return Err(protocol("more DATA than the connection's window"));
        }
        if self.unreturned > WINDOW / 2 {
            put_number(kind::WINDOW_UPDATE, 0, self.unreturned as u32, out);
            self.unreturned = 0;
        }
        if head.has(flag::PADDED) {
            return Ok(Reading::Payload(head));
        }
        let (stream, left) = (head.stream, head.length);
        Ok(Reading::Content { stream, left, ends: head.has(flag::END_STREAM) })
    }

    /// An error if frames without end bring nothing.
    fn count_empty(&mut self, head: Head) -> Result<(), Failed> {
        let (name, ends) = match head.kind {
            kind::DATA => ("DATA", flag::END_STREAM),
            kind::CONTINUATION => ("CONTINUATION", flag::END_HEADERS),
            kind::HEADERS => {
                self.empty = 0;
                return Ok(());
            }
            _ => return Ok(()),
        };
        if head.has(ends) || head.length > 0 {
            self.empty = 0;
            return Ok(());
        }
        self.empty += 1;
        match self.empty > MAX_EMPTY {
            true => Err(protocol(format!("more than {MAX_EMPTY} empty {name} frames in a row"))),
            false => Ok(()),
        }
    }

    /// An error if answers to the peer's frames wait unsent without end; `name` is what they are.
    fn owe(&mut self, name: &str, size: usize, out: &[u8]) -> Result<(), Failed> {
        if out.is_empty() {
            self.owed = 0;
        }
        self.owed += size;
        match self.owed > MAX_OWED {
            true => Err(protocol(format!(
                "{name} floods: more than {MAX_OWED} bytes of answers to it wait unsent"
            ))),
            false => Ok(()),
        }
    }

    /// An error unless this client has opened the stream, now or earlier.
    fn must_be_opened(&self, what: &str, stream: u32) -> Result<(), Failed> {
        if stream % 2 == 1 && stream < self.next_stream {
            return Ok(());
        }
        Err(protocol(format!("{what} for stream {stream}, which was never opened")))
    }

    fn frame(
        &mut self,
        head: Head,
        payload: &[u8],
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), Failed> {
        match head.kind {
            kind::DATA => {
                let content = unpadded(head, payload)?;
                let padding = payload.len() - content.len();
                self.content(head.stream, content, padding, head.has(flag::END_STREAM), out, events)
            }
            kind::HEADERS => {
                self.must_be_opened("HEADERS", head.stream)?;
                let mut fields = unpadded(head, payload)?;
                if head.has(flag::PRIORITY) {
                    fields = fields.get(5..).ok_or_else(|| protocol("HEADERS too short"))?;
                }
                let ends = head.has(flag::END_STREAM);
                if head.has(flag::END_HEADERS) {
                    return self.fields(head.stream, fields, ends, out, events);
                }
                self.block.clear();
                self.block.extend_from_slice(fields);
                self.collecting = Some((head.stream, ends));
                Ok(())
            }
            kind::CONTINUATION => {
                let Some((stream, ends)) = self.collecting else {
                    return Err(protocol("CONTINUATION without HEADERS before it"));
                };
                self.block.extend_from_slice(payload);
                if self.block.len() > MAX_BLOCK {
                    return Err(protocol(format!("fields of more than {MAX_BLOCK} bytes")));
                }
                if head.has(flag::END_HEADERS) {
                    self.collecting = None;
                    let block = std::mem::take(&mut self.block);
                    self.fields(stream, &block, ends, out, events)?;
                    self.block = block;
                }
                Ok(())
            }
            kind::SETTINGS => self.settings(head, payload, out),
            kind::RST_STREAM => {
                let [code] = numbers("RST_STREAM", payload)?;
                self.must_be_opened("RST_STREAM", head.stream)?;
                if let Some(stream) = self.streams.remove(&head.stream) {
                    let again =
                        if code == code::REFUSED_STREAM { "; it may be tried again" } else { "" };
                    let detail = format!("stream reset: {}{again}", code_name(code));
                    events.push(Event::Failed(stream.ticket, failed(Failure::Closed, detail)));
                }
                Ok(())
            }
            kind::PING if head.stream != 0 || payload.len() != 8 => Err(protocol("malformed PING")),
            kind::PING => {
                if !head.has(flag::ACK) {
                    self.owe("PING", HEAD + 8, out)?;
                    put_head(8, kind::PING, flag::ACK, 0, out);
                    out.extend_from_slice(payload);
                }
                Ok(())
            }
            kind::GOAWAY => self.go_away(head, payload, events),
            kind::WINDOW_UPDATE => self.window_update(head, payload, out),
            kind::PUSH_PROMISE => Err(protocol("PUSH_PROMISE, though push is switched off")),
            kind::PRIORITY if payload.len() != 5 => Err(protocol("malformed PRIORITY")),
            // Extensions are passed over (section 4.1).
            _ => Ok(()),
        }
    }

    fn settings(&mut self, head: Head, payload: &[u8], out: &mut Vec<u8>) -> Result<(), Failed> {
        let has_ack = head.has(flag::ACK);
        if head.stream != 0 || !payload.len().is_multiple_of(6) || (has_ack && !payload.is_empty())
        {
            return Err(protocol("malformed SETTINGS"));
        }
        if has_ack {
            return Ok(());
        }
        if !self.peer.settings_seen {
            self.peer.settings_seen = true;
            self.peer.streams = usize::MAX;
        }
        for entry in payload.as_chunks::<6>().0 {
            let [i1, i0, v3, v2, v1, v0] = *entry;
            let value = u32::from_be_bytes([v3, v2, v1, v0]);
            match u16::from_be_bytes([i1, i0]) {
                setting::HEADER_TABLE_SIZE => {
                    self.renounce_table |= (value as usize) < hpack::TABLE_SIZE;
                }
                setting::MAX_CONCURRENT_STREAMS => self.peer.streams = value as usize,
                setting::INITIAL_WINDOW_SIZE => {
                    let value = i64::from(value);
                    let more = value - self.peer.initial_window;
                    self.peer.initial_window = value;
                    for stream in self.streams.values_mut() {
                        stream.window += more;
                    }
                    if value > MAX_WINDOW || self.streams.values().any(|s| s.window > MAX_WINDOW) {
                        return Err(protocol("a window of 2 GiB or more"));
                    }
                }
                setting::MAX_FRAME_SIZE => {
                    if !(MAX_PAYLOAD..1 << 24).contains(&(value as usize)) {
                        return Err(protocol(format!("MAX_FRAME_SIZE of {value}")));
                    }
                    self.peer.payload = value as usize;
                }
                _ => {}
            }
        }
        self.owe("SETTINGS", HEAD, out)?;
        put_head(0, kind::SETTINGS, flag::ACK, 0, out);
        self.pump(out);
        Ok(())
    }

    fn go_away(
        &mut self,
        head: Head,
        payload: &[u8],
        events: &mut Vec<Event>,
    ) -> Result<(), Failed> {
        let fixed = payload.get(..8).filter(|_| head.stream == 0);
        let [last, code] = numbers("GOAWAY", fixed.unwrap_or_default())?;
        let last = last & LAST_STREAM;
        let mut refused: Vec<u32> = self.streams.keys().copied().filter(|id| *id > last).collect();
        refused.sort_unstable();
        for id in refused {
            let Some(stream) = self.streams.remove(&id) else { continue };
            let code = code_name(code);
            let detail = format!("GOAWAY ({code}) before it was begun; it may be tried again");
            events.push(Event::Failed(stream.ticket, failed(Failure::Closed, detail)));
        }
        self.close(events);
        Ok(())
    }

    fn window_update(
        &mut self,
        head: Head,
        payload: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(), Failed> {
        let [more] = numbers("WINDOW_UPDATE", payload)?;
        let more = i64::from(more & LAST_STREAM);
        let window = if head.stream == 0 {
            &mut self.window
        } else {
            self.must_be_opened("WINDOW_UPDATE", head.stream)?;
            match self.streams.get_mut(&head.stream) {
                Some(stream) => &mut stream.window,
                None => return Ok(()),
            }
        };
        *window += more;
        if more == 0 || *window > MAX_WINDOW {
            return Err(protocol(format!("WINDOW_UPDATE by {more} to {window}")));
        }
        self.pump(out);
        Ok(())
    }

    /// Acts on a complete block of fields.
    fn fields(
        &mut self,
        id: u32,
        block: &[u8],
        ends: bool,
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), Failed> {
        let stream = self.streams.get_mut(&id);
        let wanted = stream.as_ref().and_then(|stream| stream.counted_name);
        let wanted = wanted.and_then(|at| self.names.get(at)).map(String::as_str);
        let mut fields = Fields::default();
        // Also for a stream that is over: later blocks build upon this one.
        self.decoder
            .decode(block, |name, value| fields.take(name, value, wanted))
            .map_err(|error| protocol(format!("fields of stream {id}: {error}")))?;
        let Some(stream) = stream else { return Ok(()) };
        let wrong = match (stream.phase, fields.wrong, fields.status) {
            (_, Some(wrong), _) => Some(wrong),
            (Phase::Content, None, Some(_)) => Some(":status in the trailers"),
            (Phase::Content, None, None) if !ends => Some("trailers, and no end behind them"),
            (Phase::Content, None, None) => None,
            (Phase::Waiting, None, None) => Some("no :status"),
            (Phase::Waiting, None, Some(100..=199)) if ends => {
                Some("an interim answer is the last")
            }
            (Phase::Waiting, None, Some(100..=199)) => {
                stream.interim += 1;
                if stream.interim <= MAX_INTERIM {
                    return Ok(());
                }
                Some("too many interim answers")
            }
            (Phase::Waiting, None, Some(status)) => {
                stream.phase = Phase::Content;
                stream.received.status = status;
                stream.received.counted = fields.counted;
                if !stream.is_head && !matches!(status, 204 | 304) {
                    stream.promised = fields.content_length;
                }
                None
            }
        };
        if let Some(wrong) = wrong {
            self.malformed(id, wrong.to_owned(), out, events);
        } else if ends {
            self.finish(id, out, events);
        }
        Ok(())
    }

    /// Acts on content; `padding` counts only for the windows.
    fn content(
        &mut self,
        id: u32,
        content: &[u8],
        padding: usize,
        ends: bool,
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), Failed> {
        // What comes for a stream that was cancelled is passed over.
        let Some(stream) = self.streams.get_mut(&id) else { return Ok(()) };
        if stream.phase == Phase::Waiting {
            self.malformed(id, "content before the head".to_owned(), out, events);
            return Ok(());
        }
        stream.received.length += content.len() as u64;
        stream.digest.update(content);
        stream.unreturned += (content.len() + padding) as i64;
        if stream.unreturned > WINDOW / 2 && !ends {
            put_number(kind::WINDOW_UPDATE, id, stream.unreturned as u32, out);
            stream.unreturned = 0;
        }
        if stream.promised.is_some_and(|promised| stream.received.length > promised) {
            self.malformed(id, "more content than content-length says".to_owned(), out, events);
        } else if ends {
            self.finish(id, out, events);
        }
        Ok(())
    }

    fn finish(&mut self, id: u32, out: &mut Vec<u8>, events: &mut Vec<Event>) {
        let Some(mut stream) = self.streams.remove(&id) else { return };
        if stream.upload.is_some() {
            // The answer did not need all of the content; nobody wants the rest.
            put_number(kind::RST_STREAM, id, code::CANCEL, out);
        }
        let length = stream.received.length;
        match stream.promised {
            Some(promised) if promised != length => {
                let detail = format!("{length} bytes of content, content-length says {promised}");
                events.push(Event::Failed(stream.ticket, protocol(detail)));
            }
            _ => {
                stream.received.sha256 = stream.digest.finish();
                events.push(Event::Done(stream.ticket, stream.received));
            }
        }
    }

    /// Ends one stream for what is wrong with its answer (section 8.1.1).
    fn malformed(&mut self, id: u32, detail: String, out: &mut Vec<u8>, events: &mut Vec<Event>) {
        if let Some(stream) = self.streams.remove(&id) {
            put_number(kind::RST_STREAM, id, code::PROTOCOL_ERROR, out);
            events.push(Event::Failed(stream.ticket, protocol(detail)));
        }
    }

    /// Sends content as far as the windows and the size of a piece allow, a frame a stream in turn.
    fn pump(&mut self, out: &mut Vec<u8>) {
        let mut stuck = 0;
        while stuck < self.uploads.len() && out.len() < PIECE && self.window > 0 {
            let Some(id) = self.uploads.pop_front() else { break };
            let Some(stream) = self.streams.get_mut(&id) else { continue };
            let Some(upload) = &mut stream.upload else { continue };
            let rest = upload.body.get(upload.sent..).unwrap_or_default();
            let allowed = self.window.min(stream.window).max(0);
            let size = rest.len().min(self.peer.payload).min(PIECE).min(allowed as usize);
            if size == 0 {
                stuck += 1;
                self.uploads.push_back(id);
                continue;
            }
            stuck = 0;
            let ends = size == rest.len();
            let flags = if ends { flag::END_STREAM } else { 0 };
            put_head(size, kind::DATA, flags, id, out);
            out.extend_from_slice(rest.get(..size).unwrap_or_default());
            self.window -= size as i64;
            stream.window -= size as i64;
            upload.sent += size;
            if ends {
                stream.upload = None;
            } else {
                self.uploads.push_back(id);
            }
        }
    }

    fn counted_name(&mut self, name: Option<&String>) -> Option<usize> {
        let name = name?;
        self.names.iter().position(|known| known == name).or_else(|| {
            self.names.push(name.clone());
            Some(self.names.len() - 1)
        })
    }

    /// Takes a head or a payload of `wanted` bytes: from the input if it is there at once, and
    /// else collected in `partial`.
    fn collect(&mut self, wanted: usize, input: &mut &[u8]) -> bool {
        let missing = wanted.saturating_sub(self.partial.len()).min(input.len());
        let (now, rest) = input.split_at(missing);
        self.partial.extend_from_slice(now);
        *input = rest;
        self.partial.len() == wanted
    }
}

impl Session for Http2 {
    fn open(&mut self, out: &mut Vec<u8>, events: &mut Vec<Event>) {
        out.extend_from_slice(PREFACE);
        put_settings(
            &[(setting::ENABLE_PUSH, 0), (setting::INITIAL_WINDOW_SIZE, WINDOW as u32)],
            out,
        );
        put_number(kind::WINDOW_UPDATE, 0, (WINDOW - DEFAULT_WINDOW) as u32, out);
        events.push(Event::Ready);
    }

    fn capacity(&self) -> usize {
        if self.closing || self.next_stream > LAST_STREAM {
            return 0;
        }
        self.most_streams.min(self.peer.streams).saturating_sub(self.streams.len())
    }

    fn start(&mut self, ticket: Ticket, operation: &Operation, out: &mut Vec<u8>) {
        let Prepared::Http2 { block, body, is_head } = &operation.prepared else {
            debug_assert!(false, "another protocol's operation");
            return;
        };
        let id = self.next_stream;
        self.next_stream += 2;
        let mut stream = Stream {
            ticket,
            is_head: *is_head,
            counted_name: self.counted_name(operation.expect.counted_header.as_ref()),
            phase: Phase::Waiting,
            interim: 0,
            received: Received::default(),
            promised: None,
            digest: Digest::new(operation.expect.sha256.is_some()),
            unreturned: 0,
            window: self.peer.initial_window,
            upload: None,
        };
        let ends = if body.is_empty() { flag::END_STREAM } else { 0 };
        let renounce = std::mem::take(&mut self.renounce_table);
        let first_size = block.len().min(self.peer.payload - usize::from(renounce));
        let (first, rest) = block.split_at(first_size);
        let complete = if rest.is_empty() { flag::END_HEADERS } else { 0 };
        let length = first.len() + usize::from(renounce);
        put_head(length, kind::HEADERS, complete | ends, id, out);
        if renounce {
            out.push(hpack::NO_TABLE);
        }
        out.extend_from_slice(first);
        let mut pieces = rest.chunks(self.peer.payload).peekable();
        while let Some(piece) = pieces.next() {
            let complete = if pieces.peek().is_none() { flag::END_HEADERS } else { 0 };
            put_head(piece.len(), kind::CONTINUATION, complete, id, out);
            out.extend_from_slice(piece);
        }
        let size = body.len() as i64;
        let fits = size <= self.window.min(stream.window) && body.len() <= self.peer.payload;
        if body.is_empty() {
            self.streams.insert(id, stream);
        } else if fits && self.uploads.is_empty() && out.len() < PIECE {
            put_head(body.len(), kind::DATA, flag::END_STREAM, id, out);
            out.extend_from_slice(body);
            self.window -= size;
            stream.window -= size;
            self.streams.insert(id, stream);
        } else {
            stream.upload = Some(Upload { body: body.clone(), sent: 0 });
            self.streams.insert(id, stream);
            self.uploads.push_back(id);
            self.pump(out);
        }
    }

    fn refill(&mut self, out: &mut Vec<u8>) {
        self.pump(out);
    }

    fn receive(
        &mut self,
        mut input: &[u8],
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), Failed> {
        loop {
            match self.reading {
                Reading::Head => {
                    let head = match input.split_first_chunk() {
                        Some((head, rest)) if self.partial.is_empty() => {
                            input = rest;
                            *head
                        }
                        _ => {
                            self.collect(HEAD, &mut input);
                            let Ok(head) = self.partial.as_slice().try_into() else { break };
                            self.partial.clear();
                            head
                        }
                    };
                    self.reading = self.begin(Head::parse(head), out)?;
                }
                Reading::Content { stream, left, ends } => {
                    if left > 0 && input.is_empty() {
                        break;
                    }
                    let (content, rest) = input.split_at(left.min(input.len()));
                    input = rest;
                    let left = left - content.len();
                    self.reading = match left {
                        0 => Reading::Head,
                        left => Reading::Content { stream, left, ends },
                    };
                    self.content(stream, content, 0, ends && left == 0, out, events)?;
                }
                Reading::Payload(head) => {
                    match input.split_at_checked(head.length) {
                        Some((payload, rest)) if self.partial.is_empty() => {
                            input = rest;
                            self.reading = Reading::Head;
                            self.frame(head, payload, out, events)?;
                            continue;
                        }
                        _ if !self.collect(head.length, &mut input) => break,
                        _ => {}
                    }
                    self.reading = Reading::Head;
                    let mut payload = std::mem::take(&mut self.partial);
                    self.frame(head, &payload, out, events)?;
                    payload.clear();
                    self.partial = payload;
                }
            }
        }
        if self.next_stream > LAST_STREAM {
            self.close(events);
        }
        Ok(())
    }

    fn closed(&mut self, events: &mut Vec<Event>) -> Result<(), Failed> {
        match self.streams.len() {
            0 => {
                self.close(events);
                Ok(())
            }
            some => {
                Err(failed(Failure::Closed, format!("connection ended with {some} streams open")))
            }
        }
    }
}

/// A payload without its padding (sections 6.1 and 6.2).
fn unpadded(head: Head, payload: &[u8]) -> Result<&[u8], Failed> {
    if !head.has(flag::PADDED) {
        return Ok(payload);
    }
    let content = payload.split_first().and_then(|(padding, rest)| {
        rest.len().checked_sub(usize::from(*padding)).and_then(|size| rest.get(..size))
    });
    content.ok_or_else(|| protocol("more padding than payload"))
}

/// The numbers of which a payload consists.
fn numbers<const N: usize>(what: &str, payload: &[u8]) -> Result<[u32; N], Failed> {
    let (numbers, rest) = payload.as_chunks::<4>();
    let numbers: Option<&[[u8; 4]; N]> = numbers.try_into().ok().filter(|_| rest.is_empty());
    numbers
        .map(|numbers| numbers.map(u32::from_be_bytes))
        .ok_or_else(|| protocol(format!("malformed {what}")))
}

fn protocol(detail: impl Into<String>) -> Failed {
    failed(Failure::Protocol, format!("HTTP/2: {}", detail.into()))
}
