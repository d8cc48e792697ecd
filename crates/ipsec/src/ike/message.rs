//! IKEv2 messages (RFC 7296, 3).
//!
//! `ipsec-parser` reads them, checked before and after; the encoder is ours.

use std::fmt;

use crate::selector::TrafficSelector;

mod decode;
mod encode;
mod kind;
mod proposal;

pub use decode::{read, read_payloads};
pub use encode::{encode_payloads, sk_header, skf_header};
pub use proposal::{Chosen, accept, choose, describe, offer, without_key_exchange};

/// Exchange types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Exchange {
    /// IKE_SA_INIT
    SaInit = 34,
    /// IKE_AUTH
    Auth = 35,
    /// CREATE_CHILD_SA
    CreateChildSa = 36,
    /// INFORMATIONAL
    Informational = 37,
    /// IKE_INTERMEDIATE (RFC 9242)
    Intermediate = 43,
    /// IKE_FOLLOWUP_KE (RFC 9370)
    FollowupKe = 44,
}

/// The fixed header, 28 octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// The initiator's SPI.
    pub initiator_spi: u64,
    /// The responder's; 0 in the first message.
    pub responder_spi: u64,
    /// Of the exchange.
    pub exchange: Exchange,
    /// Whether the sender is the IKE SA's original initiator.
    pub from_initiator: bool,
    /// Whether it answers.
    pub response: bool,
    /// The message ID.
    pub message_id: u32,
}

/// A message whose payloads are known: one in the clear, or a decrypted one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The header.
    pub header: Header,
    /// The payloads, in order.
    pub payloads: Vec<Payload>,
}

/// A payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// SA: proposals.
    Sa(Vec<WireProposal>),
    /// KE: a group's number and the public value.
    KeyExchange {
        /// Its number.
        group: u16,
        /// The public value.
        data: Vec<u8>,
    },
    /// IDi
    IdInitiator(super::identity::Identity),
    /// IDr
    IdResponder(super::identity::Identity),
    /// CERT: encoding (4 is an X.509 certificate) and data.
    Certificate(u8, Vec<u8>),
    /// CERTREQ: encoding, and SHA-1 hashes of the authorities' public keys.
    CertificateRequest(u8, Vec<u8>),
    /// AUTH: method (1 RSA, 2 shared key, 9–11 ECDSA, 14 digital signature) and data.
    Auth(u8, Vec<u8>),
    /// Ni, Nr
    Nonce(Vec<u8>),
    /// N
    Notify(Notify),
    /// D
    Delete {
        /// 1 IKE, 2 AH, 3 ESP.
        protocol: u8,
        /// Empty for IKE; ESP's four octets each.
        spis: Vec<u32>,
    },
    /// V
    VendorId(Vec<u8>),
    /// TSi
    TsInitiator(Vec<TrafficSelector>),
    /// TSr
    TsResponder(Vec<TrafficSelector>),
    /// CP, EAP and whatever else: not read. With the critical bit an unknown type makes
    /// [`DecodeError::Critical`] instead.
    Other(u8, Vec<u8>),
}

/// A notification.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// 0, or 1 IKE, 2 AH, 3 ESP where `spi` is there.
    pub protocol: u8,
    /// Its type, see [`notify`].
    pub kind: u16,
    /// Empty or an SPI.
    pub spi: Vec<u8>,
    /// Its data.
    pub data: Vec<u8>,
}

/// A proposal as on the wire, with numbers that we may not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WireProposal {
    /// From 1 on.
    pub number: u8,
    /// 1 IKE, 2 AH, 3 ESP.
    pub protocol: u8,
    /// Empty, 4 octets (ESP) or 8 (IKE).
    pub spi: Vec<u8>,
    /// Its transforms, in order.
    pub transforms: Vec<Transform>,
}

/// A transform.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Transform {
    /// 1 encryption, 2 PRF, 3 integrity, 4 key exchange, 5 ESN, 6 to 12 additional key exchanges.
    pub kind: u8,
    /// IANA's number.
    pub id: u16,
    /// The key length attribute, in bits.
    pub key_bits: Option<u16>,
    /// Whether it has an attribute that we don't know: then it must not be chosen.
    pub unknown_attribute: bool,
}

/// What is wrong with a message. None of it may change any state.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is cut short, or lengths contradict each other.
    #[error("malformed: {0}")]
    Malformed(&'static str),
    /// IKEv1.
    #[error("IKE version {0}.{1}")]
    Version(u8, u8),
    /// An exchange that we don't know.
    #[error("exchange type {0}")]
    Exchange(u8),
    /// A payload of this type is critical and not known to us.
    #[error("unsupported critical payload {0}")]
    Critical(u8),
}

/// The largest message that is read, after reassembly.
pub const MAX_MESSAGE: usize = 65_535;

/// What a datagram is before anything is decrypted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Datagram<'a> {
    /// All in the clear: IKE_SA_INIT, or a notification about an unknown SPI.
    Clear(Message),
    /// Its payloads are in an SK payload, the last one; others stand before it rarely and are
    /// ignored.
    Encrypted {
        /// The header.
        header: Header,
        /// Type of the first payload inside.
        inner: u8,
        /// Everything before the SK payload's content: what is authenticated besides.
        associated: &'a [u8],
        /// IV, ciphertext and checksum.
        sealed: &'a [u8],
    },
    /// A piece of one (SKF, RFC 7383).
    Fragment {
        /// The header.
        header: Header,
        /// Type of the first payload inside; 0 but in the first fragment.
        inner: u8,
        /// Its number, from 1 on.
        number: u16,
        /// How many there are.
        total: u16,
        /// What is authenticated besides.
        associated: &'a [u8],
        /// IV, ciphertext and checksum.
        sealed: &'a [u8],
    },
}

impl Datagram<'_> {
    /// The header.
    pub fn header(&self) -> &Header {
        match self {
            Self::Clear(message) => &message.header,
            Self::Encrypted { header, .. } | Self::Fragment { header, .. } => header,
        }
    }
}

/// Numbers of notifications (RFC 7296, 3.10.1, and those of the RFCs named).
pub mod notify {
    #![allow(missing_docs)]
    pub const UNSUPPORTED_CRITICAL_PAYLOAD: u16 = 1;
    pub const INVALID_IKE_SPI: u16 = 4;
    pub const INVALID_MAJOR_VERSION: u16 = 5;
    pub const INVALID_SYNTAX: u16 = 7;
    pub const INVALID_MESSAGE_ID: u16 = 9;
    pub const INVALID_SPI: u16 = 11;
    pub const NO_PROPOSAL_CHOSEN: u16 = 14;
    pub const INVALID_KE_PAYLOAD: u16 = 17;
    pub const AUTHENTICATION_FAILED: u16 = 24;
    pub const SINGLE_PAIR_REQUIRED: u16 = 34;
    pub const NO_ADDITIONAL_SAS: u16 = 35;
    pub const INTERNAL_ADDRESS_FAILURE: u16 = 36;
    pub const FAILED_CP_REQUIRED: u16 = 37;
    pub const TS_UNACCEPTABLE: u16 = 38;
    pub const INVALID_SELECTORS: u16 = 39;
    pub const UNACCEPTABLE_ADDRESSES: u16 = 40;
    pub const TEMPORARY_FAILURE: u16 = 43;
    pub const CHILD_SA_NOT_FOUND: u16 = 44;
    /// RFC 9370
    pub const STATE_NOT_FOUND: u16 = 47;
    pub const INITIAL_CONTACT: u16 = 16384;
    pub const SET_WINDOW_SIZE: u16 = 16385;
    pub const ADDITIONAL_TS_POSSIBLE: u16 = 16386;
    pub const NAT_DETECTION_SOURCE_IP: u16 = 16388;
    pub const NAT_DETECTION_DESTINATION_IP: u16 = 16389;
    pub const COOKIE: u16 = 16390;
    pub const USE_TRANSPORT_MODE: u16 = 16391;
    pub const REKEY_SA: u16 = 16393;
    pub const ESP_TFC_PADDING_NOT_SUPPORTED: u16 = 16394;
    pub const NON_FIRST_FRAGMENTS_ALSO: u16 = 16395;
    /// RFC 4555
    pub const MOBIKE_SUPPORTED: u16 = 16396;
    pub const ADDITIONAL_IP4_ADDRESS: u16 = 16397;
    pub const ADDITIONAL_IP6_ADDRESS: u16 = 16398;
    pub const NO_ADDITIONAL_ADDRESSES: u16 = 16399;
    pub const UPDATE_SA_ADDRESSES: u16 = 16400;
    pub const COOKIE2: u16 = 16401;
    pub const NO_NATS_ALLOWED: u16 = 16402;
    /// RFC 6023
    pub const CHILDLESS_IKEV2_SUPPORTED: u16 = 16418;
    /// RFC 7383
    pub const IKEV2_FRAGMENTATION_SUPPORTED: u16 = 16430;
    /// RFC 7427
    pub const SIGNATURE_HASH_ALGORITHMS: u16 = 16431;
    /// RFC 8784
    pub const USE_PPK: u16 = 16435;
    pub const PPK_IDENTITY: u16 = 16436;
    pub const NO_PPK_AUTH: u16 = 16437;
    /// RFC 9242
    pub const INTERMEDIATE_EXCHANGE_SUPPORTED: u16 = 16438;
    /// RFC 9370
    pub const ADDITIONAL_KEY_EXCHANGE: u16 = 16441;
}

impl Notify {
    /// A status notification without SPI.
    pub fn new(kind: u16, data: Vec<u8>) -> Self {
        Self { protocol: 0, kind, spi: Vec::new(), data }
    }

    /// Whether it tells of an error (type below 16384).
    pub fn is_error(&self) -> bool {
        self.kind < 16384
    }
}

impl fmt::Display for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::SaInit => "IKE_SA_INIT",
            Self::Auth => "IKE_AUTH",
            Self::CreateChildSa => "CREATE_CHILD_SA",
            Self::Informational => "INFORMATIONAL",
            Self::Intermediate => "IKE_INTERMEDIATE",
            Self::FollowupKe => "IKE_FOLLOWUP_KE",
        })
    }
}

#[cfg(test)]
mod tests;
