//! What is wrong with a message.

use thiserror::Error;

/// Why a head is refused. The sender is to blame, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeadError {
    /// The request line is not `method SP target SP version` (RFC 9112, 3).
    #[error("malformed request line")]
    RequestLine,
    /// The method is not a token (RFC 9110, 9.1).
    #[error("invalid method")]
    Method,
    /// The target has bytes outside visible ASCII, a fragment, or a form that its method doesn't
    /// allow (RFC 9112, 3.2).
    #[error("invalid request target")]
    Target,
    /// The target is longer than the limit.
    #[error("request target too long")]
    TargetTooLong,
    /// The status line is malformed (RFC 9112, 4).
    #[error("malformed status line")]
    StatusLine,
    /// Not HTTP/1.x.
    #[error("unsupported protocol version")]
    Version,
    /// The head is longer than the limit.
    #[error("head too large")]
    TooLarge,
    /// More field lines than the limit.
    #[error("too many header fields")]
    TooManyFields,
    /// A line ends in LF without CR (RFC 9112, 2.2).
    #[error("line without CR")]
    BareLf,
    /// A field line starts with white space (RFC 9112, 5.2).
    #[error("obsolete line folding")]
    ObsFold,
    /// A field's name is empty or not a token, or white space stands before the colon
    /// (RFC 9112, 5.1).
    #[error("invalid header field name")]
    FieldName,
    /// A field's value has a control character: NUL, bare CR, … (RFC 9110, 5.5).
    #[error("invalid header field value")]
    FieldValue,
    /// A Content-Length is not a plain decimal number, or there are several (RFC 9112, 6.3).
    #[error("invalid Content-Length")]
    ContentLength,
    /// Content-Length and Transfer-Encoding together (RFC 9112, 6.1).
    #[error("Content-Length with Transfer-Encoding")]
    LengthWithCoding,
    /// Transfer-Encoding in an HTTP/1.0 message (RFC 9112, 6.1).
    #[error("Transfer-Encoding in HTTP/1.0")]
    CodingInHttp10,
    /// Transfer-Encoding whose last coding isn't chunked, or that has chunked twice
    /// (RFC 9112, 6.3).
    #[error("invalid Transfer-Encoding")]
    Coding,
    /// A transfer coding other than chunked (RFC 9112, 6.1).
    #[error("unsupported transfer coding")]
    UnknownCoding,
    /// No Host, several, or one that is no valid authority (RFC 9112, 3.2).
    #[error("missing or invalid Host")]
    Host,
    /// The target's authority and Host differ.
    #[error("Host differs from the request target")]
    HostMismatch,
    /// More options in Connection than any honest sender lists.
    #[error("too many Connection options")]
    Connection,
}

impl HeadError {
    /// The status that tells a client so.
    pub fn status(self) -> u16 {
        match self {
            Self::TargetTooLong => 414,
            Self::TooLarge | Self::TooManyFields => 431,
            Self::Version => 505,
            Self::UnknownCoding => 501,
            _ => 400,
        }
    }
}

/// Why a body is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum BodyError {
    /// A chunk size that is empty, not hexadecimal, or too large (RFC 9112, 7.1).
    #[error("invalid chunk size")]
    ChunkSize,
    /// Chunk extensions with control characters, or too long (RFC 9112, 7.1.1).
    #[error("invalid chunk extension")]
    ChunkExtension,
    /// A chunk's line or data does not end in CRLF.
    #[error("chunk without CRLF")]
    ChunkEnd,
}
