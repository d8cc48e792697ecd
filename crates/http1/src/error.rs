//! What is wrong with a message.

use thiserror::Error;

/// Why a head is refused. The sender is to blame, always.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
#[error("{}", self.text())]
#[non_exhaustive]
pub enum HeadError {
    /// The request line is not `method SP target SP version` (RFC 9112, 3).
    RequestLine,
    /// The method is not a token (RFC 9110, 9.1).
    Method,
    /// The target has bytes outside visible ASCII, a fragment, or a form that its method doesn't
    /// allow (RFC 9112, 3.2).
    Target,
    /// The target is longer than the limit.
    TargetTooLong,
    /// The status line is malformed (RFC 9112, 4).
    StatusLine,
    /// Not HTTP/1.x.
    Version,
    /// The head is longer than the limit.
    TooLarge,
    /// More field lines than the limit.
    TooManyFields,
    /// A line ends in LF without CR (RFC 9112, 2.2).
    BareLf,
    /// A field line starts with white space (RFC 9112, 5.2).
    ObsFold,
    /// A field's name is empty or not a token, or white space stands before the colon
    /// (RFC 9112, 5.1).
    FieldName,
    /// A field's value has a control character: NUL, bare CR, … (RFC 9110, 5.5).
    FieldValue,
    /// A Content-Length is not a plain decimal number, or there are several (RFC 9112, 6.3).
    ContentLength,
    /// Content-Length and Transfer-Encoding together (RFC 9112, 6.1).
    LengthWithCoding,
    /// Transfer-Encoding in an HTTP/1.0 message (RFC 9112, 6.1).
    CodingInHttp10,
    /// Transfer-Encoding whose last coding isn't chunked, or that has chunked twice
    /// (RFC 9112, 6.3).
    Coding,
    /// A transfer coding other than chunked (RFC 9112, 6.1).
    UnknownCoding,
    /// No Host, several, or one that is no valid authority (RFC 9112, 3.2).
    Host,
    /// The target's authority and Host differ.
    HostMismatch,
    /// More options in Connection than any honest sender lists.
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

    /// The same in words, for a log.
    pub const fn text(self) -> &'static str {
        match self {
            Self::RequestLine => "malformed request line",
            Self::Method => "invalid method",
            Self::Target => "invalid request target",
            Self::TargetTooLong => "request target too long",
            Self::StatusLine => "malformed status line",
            Self::Version => "unsupported protocol version",
            Self::TooLarge => "head too large",
            Self::TooManyFields => "too many header fields",
            Self::BareLf => "line without CR",
            Self::ObsFold => "obsolete line folding",
            Self::FieldName => "invalid header field name",
            Self::FieldValue => "invalid header field value",
            Self::ContentLength => "invalid Content-Length",
            Self::LengthWithCoding => "Content-Length with Transfer-Encoding",
            Self::CodingInHttp10 => "Transfer-Encoding in HTTP/1.0",
            Self::Coding => "invalid Transfer-Encoding",
            Self::UnknownCoding => "unsupported transfer coding",
            Self::Host => "missing or invalid Host",
            Self::HostMismatch => "Host differs from the request target",
            Self::Connection => "too many Connection options",
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
