//! Numbers of payloads (RFC 7296, 3.2).

pub(super) const NONE: u8 = 0;
pub(super) const SA: u8 = 33;
pub(super) const KEY_EXCHANGE: u8 = 34;
pub(super) const ID_INITIATOR: u8 = 35;
pub(super) const ID_RESPONDER: u8 = 36;
pub(super) const CERTIFICATE: u8 = 37;
pub(super) const CERTIFICATE_REQUEST: u8 = 38;
pub(super) const AUTH: u8 = 39;
pub(super) const NONCE: u8 = 40;
pub(super) const NOTIFY: u8 = 41;
pub(super) const DELETE: u8 = 42;
pub(super) const VENDOR_ID: u8 = 43;
pub(super) const TS_INITIATOR: u8 = 44;
pub(super) const TS_RESPONDER: u8 = 45;
/// SK
pub(super) const ENCRYPTED: u8 = 46;
pub(super) const CONFIGURATION: u8 = 47;
pub(super) const EAP: u8 = 48;
/// SKF (RFC 7383)
pub(super) const FRAGMENT: u8 = 53;
