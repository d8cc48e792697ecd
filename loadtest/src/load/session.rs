//! What connections speak: protocols without I/O, so that all share transport, pacing and accounts.
//!
//! The transport (socket, TLS) gives a session the bytes that came and sends what it leaves in
//! `out`. The session knows nothing of time: whoever drives it notes when an operation started and
//! when its [`Event`] came.

pub(crate) mod digest;
pub(crate) mod http1;
pub(crate) mod http2;
#[cfg(test)]
pub(crate) mod pump;
pub(crate) mod tcp;
pub(crate) mod websocket;

use super::connection::Failed;
use super::stats::Failure;

/// Bytes of answers to a peer's pings and settings that may wait to be sent.
const MAX_OWED: usize = 64 * 1024;

/// Names one operation under way on a connection; unique on it for as long as it is under way.
pub(crate) type Ticket = u32;

/// Something to do once: a request, a message, a transfer. Made once, done often.
#[derive(Clone, Debug)]
pub(crate) struct Operation {
    /// What is sent.
    pub(crate) prepared: Prepared,
    /// What has to come back; [`Received`] is held against it by whoever drives the session.
    pub(crate) expect: Expect,
}

/// What an operation sends, in the form that its protocol needs.
#[derive(Clone, Debug)]
pub(crate) enum Prepared {
    /// HTTP/1.1: the whole message, head and body.
    Http1 {
        /// The message.
        bytes: Vec<u8>,
        /// Whether the answer has no content by definition.
        is_head: bool,
    },
    /// HTTP/2: one HEADERS block and the content behind it.
    Http2 {
        /// The fields, HPACK-encoded without reference to a dynamic table (RFC 7541).
        block: Vec<u8>,
        /// Content for DATA frames; none if empty.
        body: Vec<u8>,
        /// Whether the answer has no content by definition.
        is_head: bool,
    },
    /// WebSocket: one message; the answer is the next message.
    WebSocket {
        /// The message's payload.
        payload: Vec<u8>,
        /// Whether it is binary, and not text.
        binary: bool,
    },
    /// TCP: bytes to send, and how many to wait for. `receive: None` waits for as many as were
    /// sent (an echo).
    Tcp {
        /// A piece that is sent over and over until `send` bytes are out.
        pattern: Vec<u8>,
        /// Bytes to send.
        send: u64,
        /// Bytes to wait for.
        receive: Option<u64>,
    },
}

/// What has to come back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Expect {
    /// The status, where the protocol has one.
    pub(crate) status: Option<u16>,
    /// Bytes of content.
    pub(crate) length: Option<u64>,
    /// SHA-256 of the content. Sessions hash only if this is set.
    pub(crate) sha256: Option<[u8; 32]>,
    /// A header field by whose value answers are counted: which backend answered. In lower case.
    pub(crate) counted_header: Option<String>,
}

/// What a complete answer was.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Received {
    /// Status, 0 where the protocol has none.
    pub(crate) status: u16,
    /// Bytes of content, without any framing.
    pub(crate) length: u64,
    /// SHA-256 of the content, if it was asked for.
    pub(crate) sha256: Option<[u8; 32]>,
    /// The value of the header field by which answers are counted.
    pub(crate) counted: Option<Box<str>>,
}

/// What happened on a connection.
#[derive(Debug)]
pub(crate) enum Event {
    /// Operations may be started: once a connection, for some protocols right at the start.
    Ready,
    /// An operation's answer is complete.
    Done(Ticket, Received),
    /// One operation failed; others on the connection go on.
    Failed(Ticket, Failed),
    /// No further operation may be started here; those under way may still complete.
    Closing,
}

/// A protocol's client side on one connection.
pub(crate) trait Session: std::fmt::Debug {
    /// The transport stands (with TLS: the handshake is over). Leaves what the client begins with
    /// in `out`, and says [`Event::Ready`] at once if nothing has to come back first.
    fn open(&mut self, out: &mut Vec<u8>, events: &mut Vec<Event>);

    /// How many operations may be started now, on top of those under way.
    fn capacity(&self) -> usize;

    /// Starts an operation; its bytes, or their beginning, go to `out`.
    fn start(&mut self, ticket: Ticket, operation: &Operation, out: &mut Vec<u8>);

    /// Called when all of `out` has been taken by the socket: leaves the next piece, if there is
    /// one. Keeps each piece to some 256 KiB.
    fn refill(&mut self, out: &mut Vec<u8>);

    /// Called when [`Session::refill`] left nothing: all that was to be sent has been taken by the
    /// socket. Says so of operations that end with that.
    fn sent(&mut self, _events: &mut Vec<Event>) {}

    /// Takes bytes that came. An error is the whole connection's, with all operations under way.
    fn receive(
        &mut self,
        input: &[u8],
        out: &mut Vec<u8>,
        events: &mut Vec<Event>,
    ) -> Result<(), Failed>;

    /// The peer has closed its side. An error if that cuts something off.
    fn closed(&mut self, events: &mut Vec<Event>) -> Result<(), Failed>;
}

/// A failure in a session's words.
fn failed(kind: Failure, detail: String) -> Failed {
    Failed { kind, detail }
}
