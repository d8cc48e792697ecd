//! Frames on the wire (RFC 9113, sections 4 and 6).

/// Bytes before each frame's payload.
pub(super) const HEAD: usize = 9;
/// What a client begins with (section 3.4).
pub(super) const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The largest payload that this side takes: the protocol's default.
pub(super) const MAX_PAYLOAD: usize = 16_384;
/// The largest flow-control window.
pub(super) const MAX_WINDOW: i64 = (1 << 31) - 1;
/// The window that everything begins with.
pub(super) const DEFAULT_WINDOW: i64 = 65_535;

/// Kinds of frames.
pub(super) mod kind {
    /// Content.
    pub(crate) const DATA: u8 = 0;
    /// A block of fields, or its beginning.
    pub(crate) const HEADERS: u8 = 1;
    /// Of no meaning any more.
    pub(crate) const PRIORITY: u8 = 2;
    /// One stream ends at once.
    pub(crate) const RST_STREAM: u8 = 3;
    /// What a side takes.
    pub(crate) const SETTINGS: u8 = 4;
    /// An answer without a request.
    pub(crate) const PUSH_PROMISE: u8 = 5;
    /// Is anybody there?
    pub(crate) const PING: u8 = 6;
    /// No further streams.
    pub(crate) const GOAWAY: u8 = 7;
    /// More may be sent.
    pub(crate) const WINDOW_UPDATE: u8 = 8;
    /// More of a block of fields.
    pub(crate) const CONTINUATION: u8 = 9;
}

/// Flags of frames.
pub(super) mod flag {
    /// The answer to SETTINGS or PING.
    pub(crate) const ACK: u8 = 1;
    /// The sender's side of the stream is over.
    pub(crate) const END_STREAM: u8 = 1;
    /// The block of fields is complete.
    pub(crate) const END_HEADERS: u8 = 4;
    /// There is padding.
    pub(crate) const PADDED: u8 = 8;
    /// Five bytes of priority stand before the fields.
    pub(crate) const PRIORITY: u8 = 0x20;
}

/// Identifiers of settings.
pub(super) mod setting {
    /// Bytes of the peer's dynamic table.
    pub(crate) const HEADER_TABLE_SIZE: u16 = 1;
    /// Whether answers may come without a request.
    pub(crate) const ENABLE_PUSH: u16 = 2;
    /// Streams at once.
    pub(crate) const MAX_CONCURRENT_STREAMS: u16 = 3;
    /// The window that a stream begins with.
    pub(crate) const INITIAL_WINDOW_SIZE: u16 = 4;
    /// The largest payload.
    pub(crate) const MAX_FRAME_SIZE: u16 = 5;
}

/// Error codes (section 7).
pub(super) mod code {
    /// Something malformed.
    pub(crate) const PROTOCOL_ERROR: u32 = 1;
    /// Not begun, so it may be tried again.
    pub(crate) const REFUSED_STREAM: u32 = 7;
    /// No longer needed.
    pub(crate) const CANCEL: u32 = 8;
}

/// What stands before a frame's payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Head {
    /// Bytes of payload.
    pub(super) length: usize,
    /// One of [`kind`], or unknown.
    pub(super) kind: u8,
    /// Some of [`flag`].
    pub(super) flags: u8,
    /// The stream, 0 for the connection.
    pub(super) stream: u32,
}

impl Head {
    /// Reads it.
    pub(super) fn parse(bytes: [u8; HEAD]) -> Self {
        let [l2, l1, l0, kind, flags, s3, s2, s1, s0] = bytes;
        Self {
            length: u32::from_be_bytes([0, l2, l1, l0]) as usize,
            kind,
            flags,
            stream: u32::from_be_bytes([s3 & 0x7f, s2, s1, s0]),
        }
    }

    /// Whether a flag is set.
    pub(super) fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }
}

/// Appends the head of a frame.
pub(super) fn put_head(length: usize, kind: u8, flags: u8, stream: u32, out: &mut Vec<u8>) {
    let [_, l2, l1, l0] = (length as u32).to_be_bytes();
    let [s3, s2, s1, s0] = stream.to_be_bytes();
    out.extend_from_slice(&[l2, l1, l0, kind, flags, s3, s2, s1, s0]);
}

/// Appends a frame with one number: RST_STREAM or WINDOW_UPDATE.
pub(super) fn put_number(kind: u8, stream: u32, number: u32, out: &mut Vec<u8>) {
    put_head(4, kind, 0, stream, out);
    out.extend_from_slice(&number.to_be_bytes());
}

/// Appends SETTINGS.
pub(super) fn put_settings(settings: &[(u16, u32)], out: &mut Vec<u8>) {
    put_head(settings.len() * 6, kind::SETTINGS, 0, 0, out);
    for (id, value) in settings {
        out.extend_from_slice(&id.to_be_bytes());
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// An error code in words.
pub(super) fn code_name(code: u32) -> String {
    const NAMES: [&str; 14] = [
        "NO_ERROR",
        "PROTOCOL_ERROR",
        "INTERNAL_ERROR",
        "FLOW_CONTROL_ERROR",
        "SETTINGS_TIMEOUT",
        "STREAM_CLOSED",
        "FRAME_SIZE_ERROR",
        "REFUSED_STREAM",
        "CANCEL",
        "COMPRESSION_ERROR",
        "CONNECT_ERROR",
        "ENHANCE_YOUR_CALM",
        "INADEQUATE_SECURITY",
        "HTTP_1_1_REQUIRED",
    ];
    match NAMES.get(code as usize) {
        Some(name) => (*name).to_owned(),
        None => format!("error code {code}"),
    }
}
