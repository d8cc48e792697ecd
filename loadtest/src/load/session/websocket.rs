//! WebSocket's client side (RFC 6455) over an HTTP/1.1 upgrade.
//!
//! An operation sends one message; the next message that comes is its answer. The text of answers
//! is not checked to be UTF-8, and no extension is asked for.

mod frame;
#[cfg(test)]
mod tests;

use std::collections::VecDeque;

use anyhow::{Context, bail};
use aws_lc_rs::{digest, rand};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::digest::Digest;
use super::{Event, MAX_OWED, Operation, Prepared, Received, Session, Ticket, failed};
use crate::load::connection::Failed;
use crate::load::stats::Failure;
use frame::{Head, Masks, opcode};

/// What the server's proof is made of, beside the key (section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";
/// Bytes of the answer to the upgrade.
const MAX_HEAD: usize = 64 * 1024;
const MAX_HEADERS: usize = 128;
/// Bytes of a control frame's head, its mask with it.
const CONTROL_HEAD: usize = 6;
/// Bytes left in `out` at once.
const PIECE: usize = 256 * 1024;

/// What connections ask for; made once, and used for each of them.
#[derive(Clone, Debug)]
pub(crate) struct Upgrade {
    /// The request up to the key.
    head: String,
    /// Messages under way at once.
    pipelining: usize,
}

impl Upgrade {
    /// A request for `path` at `host` with further header fields, and how many messages may be
    /// under way at once on a connection.
    pub(crate) fn new(
        host: &str,
        path: &str,
        headers: &[(String, String)],
        pipelining: usize,
    ) -> anyhow::Result<Self> {
        for (name, value) in [("host", host), ("path", path)] {
            if value.is_empty() || value.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
                bail!("{name} {value:?}: must not be empty or have spaces or control characters");
            }
        }
        if pipelining == 0 {
            bail!("pipelining 0: at least one message must be allowed to be under way");
        }
        let mut head = format!(
            "GET {path} HTTP/1.1\r\nHost: {host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
             Sec-WebSocket-Version: 13\r\n"
        );
        for (name, value) in headers {
            let lower = name.to_ascii_lowercase();
            let ours = ["host", "upgrade", "connection", "content-length", "transfer-encoding"];
            if ours.contains(&lower.as_str())
                || (lower.starts_with("sec-websocket-") && lower != "sec-websocket-protocol")
            {
                bail!("header {name}: the upgrade sets it itself or can't have it; leave it out");
            }
            http::HeaderName::from_bytes(name.as_bytes())
                .with_context(|| format!("header {name:?}: not a field name"))?;
            http::HeaderValue::from_str(value)
                .with_context(|| format!("header {name}: {value:?}: not a field value"))?;
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        Ok(Self { head, pipelining })
    }

    /// The session of a new connection.
    pub(crate) fn session(&self) -> WebSocket {
        WebSocket {
            upgrade: self.clone(),
            accept: String::new(),
            state: State::Upgrading,
            partial: Vec::new(),
            reading: Reading::Head,
            within: false,
            answer: Received::default(),
            digest: Digest::default(),
            pending: VecDeque::new(),
            sending: VecDeque::new(),
            controls: Vec::new(),
            owed: 0,
            masks: Masks::default(),
        }
    }
}

/// A connection's client side.
#[derive(Debug)]
pub(crate) struct WebSocket {
    upgrade: Upgrade,
    /// The proof that the server has to show.
    accept: String,
    state: State,
    /// Bytes of a head whose end has not come, or of a control frame.
    partial: Vec<u8>,
    reading: Reading,
    /// Whether a message has begun whose last frame has not.
    within: bool,
    answer: Received,
    digest: Digest,
    pending: VecDeque<Pending>,
    /// Messages on their way out, the first perhaps in part.
    sending: VecDeque<Outgoing>,
    /// Control frames that wait for the end of the message that is being sent.
    controls: Vec<u8>,
    /// Bytes of answers to pings since all that was to be sent had been.
    owed: usize,
    masks: Masks,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Upgrading,
    Open,
    Closed,
}

#[derive(Clone, Copy, Debug)]
enum Reading {
    Head,
    Payload { left: u64, last: bool },
    Control { opcode: u8, length: usize },
}

#[derive(Debug)]
struct Pending {
    ticket: Ticket,
    hashed: bool,
}

#[derive(Debug)]
struct Outgoing {
    payload: Vec<u8>,
    binary: bool,
    sent: usize,
    mask: [u8; 4],
}

impl WebSocket {
    /// Takes bytes of the answer to the upgrade; what is behind its head is returned.
    fn upgraded<'a>(
        &mut self,
        input: &'a [u8],
        events: &mut Vec<Event>,
    ) -> Result<&'a [u8], Failed> {
        let before = self.partial.len();
        self.partial.extend_from_slice(input.get(..MAX_HEAD).unwrap_or(input));
        let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
        let mut response = httparse::Response::new(&mut headers);
        let size = match response.parse(&self.partial) {
            Ok(httparse::Status::Complete(size)) => size,
            Ok(httparse::Status::Partial) if self.partial.len() < MAX_HEAD => return Ok(&[]),
            Ok(httparse::Status::Partial) => return Err(protocol("head of the answer too long")),
            Err(error) => return Err(protocol(format!("answer to the upgrade: {error}"))),
        };
        let status = response.code.unwrap_or_default();
        if status != 101 {
            let detail = format!("WebSocket: the upgrade was answered with {status}, not 101");
            return Err(failed(Failure::Status, detail));
        }
        let field = |name: &str| {
            let mut all = response.headers.iter().filter(|h| h.name.eq_ignore_ascii_case(name));
            all.next().map(|header| String::from_utf8_lossy(header.value).into_owned())
        };
        let has = |name: &str, token: &str| {
            let value = field(name).unwrap_or_default();
            value.split(',').any(|part| part.trim().eq_ignore_ascii_case(token))
        };
        if !has("upgrade", "websocket") || !has("connection", "upgrade") {
            return Err(protocol("101 without `Upgrade: websocket` and `Connection: Upgrade`"));
        }
        let accept = field("sec-websocket-accept").unwrap_or_default();
        if accept != self.accept {
            let expected = &self.accept;
            return Err(protocol(format!("Sec-WebSocket-Accept {accept:?}, not {expected:?}")));
        }
        if let Some(extension) = field("sec-websocket-extensions") {
            return Err(protocol(format!("extension {extension} that nobody asked for")));
        }
        if let Some(chosen) = field("sec-websocket-protocol") {
            let asked = self.upgrade.head.lines().filter_map(|line| line.split_once(':'));
            let mut asked = asked
                .filter(|(name, _)| name.eq_ignore_ascii_case("sec-websocket-protocol"))
                .flat_map(|(_, value)| value.split(','));
            if !asked.any(|protocol| protocol.trim() == chosen) {
                return Err(protocol(format!("subprotocol {chosen} that nobody asked for")));
            }
        }
        self.partial.clear();
        self.state = State::Open;
        events.push(Event::Ready);
        // What was kept was no whole head, so the end lies in the new bytes.
        Ok(input.get(size.saturating_sub(before)..).unwrap_or_default())
    }

    /// Takes a frame's head, if it is complete.
    fn head(&mut self, input: &mut &[u8]) -> Result<Option<Head>, Failed> {
        while let Some((byte, rest)) = input.split_first() {
            *input = rest;
            self.partial.push(*byte);
            if let Some(head) = Head::parse(&self.partial).map_err(protocol)? {
                self.partial.clear();
                return Ok(Some(head));
            }
        }
        Ok(None)
    }

    fn begin(&mut self, head: Head) -> Result<Reading, Failed> {
        if opcode::is_control(head.opcode) {
            // The head says at most 125.
            return Ok(Reading::Control { opcode: head.opcode, length: head.length as usize });
        }
        match (head.opcode, self.within) {
            (opcode::CONTINUATION, true) => {}
            (opcode::CONTINUATION, false) => {
                return Err(protocol("a continuation frame, and nothing to continue"));
            }
            (_, true) => return Err(protocol("a message within a message")),
            (_, false) => {
                let Some(pending) = self.pending.front() else {
                    return Err(protocol("a message that nobody asked for"));
                };
                self.within = true;
                self.answer = Received::default();
                self.digest = Digest::new(pending.hashed);
            }
        }
        Ok(Reading::Payload { left: head.length, last: head.last })
    }

    fn complete(&mut self, events: &mut Vec<Event>) {
        self.within = false;
        if let Some(pending) = self.pending.pop_front() {
            let mut answer = std::mem::take(&mut self.answer);
            answer.sha256 = std::mem::take(&mut self.digest).finish();
            events.push(Event::Done(pending.ticket, answer));
        }
    }

    fn control(
        &mut self,
        kind: u8,
        payload: &[u8],
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), Failed> {
        match kind {
            opcode::PING => {
                if out.is_empty() {
                    self.owed = self.controls.len();
                }
                self.owed += payload.len() + CONTROL_HEAD;
                if self.owed > MAX_OWED {
                    return Err(protocol(format!(
                        "ping floods: more than {MAX_OWED} bytes of pongs wait unsent"
                    )));
                }
                self.put_control(opcode::PONG, payload, out);
            }
            opcode::CLOSE => {
                let reason = match payload.split_first_chunk() {
                    Some((code, reason)) => {
                        let (code, reason) =
                            (u16::from_be_bytes(*code), String::from_utf8_lossy(reason));
                        format!("{code} {reason}").trim_end().to_owned()
                    }
                    None if payload.is_empty() => "no code".to_owned(),
                    None => return Err(protocol("close frame of one byte")),
                };
                let code = payload.get(..2).unwrap_or_default();
                self.put_control(opcode::CLOSE, code, out);
                self.state = State::Closed;
                // An unfinished message stays unfinished: nothing may follow the close frame.
                self.sending.truncate(usize::from(self.is_mid_message()));
                for pending in self.pending.drain(..) {
                    let detail = format!("WebSocket: closed by the target: {reason}");
                    events.push(Event::Failed(pending.ticket, failed(Failure::Closed, detail)));
                }
                events.push(Event::Closing);
            }
            _ => {}
        }
        Ok(())
    }

    fn is_mid_message(&self) -> bool {
        self.sending.front().is_some_and(|message| message.sent > 0)
    }

    fn put_control(&mut self, kind: u8, payload: &[u8], out: &mut Vec<u8>) {
        let mask = self.masks.next();
        if self.is_mid_message() {
            frame::put(kind, payload, mask, &mut self.controls);
        } else {
            frame::put(kind, payload, mask, out);
        }
    }

    /// Sends messages, and control frames between them, up to the size of a piece.
    fn send(&mut self, out: &mut Vec<u8>) {
        while out.len() < PIECE {
            let Some(message) = self.sending.front_mut() else { break };
            if message.sent == 0 {
                let kind = if message.binary { opcode::BINARY } else { opcode::TEXT };
                frame::put_head(kind, message.payload.len(), message.mask, out);
            }
            let end = message.payload.len().min(message.sent + PIECE);
            let piece = message.payload.get(message.sent..end).unwrap_or_default();
            frame::put_masked(piece, message.mask, message.sent, out);
            message.sent = end;
            if end == message.payload.len() {
                self.sending.pop_front();
                out.append(&mut self.controls);
            }
        }
    }
}

impl Session for WebSocket {
    fn open(&mut self, out: &mut Vec<u8>, _: &mut Vec<Event>) {
        let mut key = [0; 16];
        // Without randomness the key is a poor one; the proof is checked all the same.
        let _ = rand::fill(&mut key);
        self.masks.seed(key);
        let key = STANDARD.encode(key);
        let mut proof = digest::Context::new(&digest::SHA1_FOR_LEGACY_USE_ONLY);
        proof.update(key.as_bytes());
        proof.update(GUID);
        self.accept = STANDARD.encode(proof.finish());
        out.extend_from_slice(self.upgrade.head.as_bytes());
        out.extend_from_slice(format!("Sec-WebSocket-Key: {key}\r\n\r\n").as_bytes());
    }

    fn capacity(&self) -> usize {
        match self.state {
            State::Open => self.upgrade.pipelining.saturating_sub(self.pending.len()),
            State::Upgrading | State::Closed => 0,
        }
    }

    fn start(&mut self, ticket: Ticket, operation: &Operation, out: &mut Vec<u8>) {
        let Prepared::WebSocket { payload, binary } = &operation.prepared else {
            debug_assert!(false, "another protocol's operation");
            return;
        };
        self.pending.push_back(Pending { ticket, hashed: operation.expect.sha256.is_some() });
        let mask = self.masks.next();
        if self.sending.is_empty() && out.len() + payload.len() <= PIECE {
            let kind = if *binary { opcode::BINARY } else { opcode::TEXT };
            frame::put(kind, payload, mask, out);
        } else {
            let payload = payload.clone();
            self.sending.push_back(Outgoing { payload, binary: *binary, sent: 0, mask });
            self.send(out);
        }
    }

    fn refill(&mut self, out: &mut Vec<u8>) {
        self.send(out);
    }

    fn receive(
        &mut self,
        mut input: &[u8],
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), Failed> {
        if self.state == State::Upgrading {
            input = self.upgraded(input, events)?;
        }
        while self.state == State::Open {
            match self.reading {
                Reading::Head => {
                    let Some(head) = self.head(&mut input)? else { break };
                    self.reading = self.begin(head)?;
                }
                Reading::Payload { left, last } => {
                    if left > 0 && input.is_empty() {
                        break;
                    }
                    let size = usize::try_from(left).unwrap_or(usize::MAX).min(input.len());
                    let (content, rest) = input.split_at(size);
                    input = rest;
                    self.answer.length += size as u64;
                    self.digest.update(content);
                    let left = left - size as u64;
                    if left > 0 {
                        self.reading = Reading::Payload { left, last };
                        continue;
                    }
                    self.reading = Reading::Head;
                    if last {
                        self.complete(events);
                    }
                }
                Reading::Control { opcode, length } => {
                    let missing = length.saturating_sub(self.partial.len()).min(input.len());
                    let (now, rest) = input.split_at(missing);
                    input = rest;
                    self.partial.extend_from_slice(now);
                    if self.partial.len() < length {
                        break;
                    }
                    self.reading = Reading::Head;
                    let mut payload = std::mem::take(&mut self.partial);
                    self.control(opcode, &payload, out, events)?;
                    payload.clear();
                    self.partial = payload;
                }
            }
        }
        Ok(())
    }

    fn closed(&mut self, events: &mut Vec<Event>) -> Result<(), Failed> {
        let detail = match (self.state, self.pending.len()) {
            (State::Closed, _) => return Ok(()),
            (State::Open, 0) => {
                self.state = State::Closed;
                events.push(Event::Closing);
                return Ok(());
            }
            (State::Open, some) => format!("with {some} messages unanswered"),
            (State::Upgrading, _) => "before the upgrade was answered".to_owned(),
        };
        Err(failed(Failure::Closed, format!("WebSocket: connection ended {detail}")))
    }
}

fn protocol(detail: impl Into<String>) -> Failed {
    failed(Failure::Protocol, format!("WebSocket: {}", detail.into()))
}
