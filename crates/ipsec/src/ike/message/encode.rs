//! Writing messages.

use std::net::IpAddr;

use super::kind;
use super::{Exchange, Header, Message, Payload, Transform, WireProposal};
use crate::ike::identity::Identity;
use crate::selector::TrafficSelector;

/// Octets of the fixed header.
const HEADER: usize = 28;
/// Octets of a payload's generic header.
const GENERIC: usize = 4;

impl Message {
    /// The message in the clear.
    pub fn encode(&self) -> Vec<u8> {
        let (first, payloads) = encode_payloads(&self.payloads);
        let mut octets = header(&self.header, first, HEADER + payloads.len());
        octets.extend_from_slice(&payloads);
        octets
    }
}

impl Exchange {
    /// Its number.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// What a number means.
    pub fn from_number(number: u8) -> Option<Self> {
        Some(match number {
            34 => Self::SaInit,
            35 => Self::Auth,
            36 => Self::CreateChildSa,
            37 => Self::Informational,
            43 => Self::Intermediate,
            44 => Self::FollowupKe,
            _ => return None,
        })
    }
}

/// The type of the first payload (0 without any) and all of them: what is put into SK.
pub fn encode_payloads(payloads: &[Payload]) -> (u8, Vec<u8>) {
    let mut octets = Vec::with_capacity(512);
    for (index, payload) in payloads.iter().enumerate() {
        let next = payloads.get(index + 1).map_or(kind::NONE, Payload::kind);
        let start = octets.len();
        octets.extend_from_slice(&[next, 0, 0, 0]);
        payload.write(&mut octets);
        patch_length(&mut octets, start, 2);
    }
    (payloads.first().map_or(kind::NONE, Payload::kind), octets)
}

/// The header and SK's generic header, before `content` octets of IV, ciphertext and checksum: all
/// that is authenticated besides.
pub fn sk_header(header: &Header, inner: u8, content: usize) -> Vec<u8> {
    let mut octets = self::header(header, kind::ENCRYPTED, HEADER + GENERIC + content);
    octets.extend_from_slice(&[inner, 0]);
    octets.extend_from_slice(&length(GENERIC + content));
    octets
}

/// The same of a fragment (RFC 7383): `number` of `total`, from 1 on. `inner` is written into the
/// first alone.
pub fn skf_header(header: &Header, inner: u8, number: u16, total: u16, content: usize) -> Vec<u8> {
    let mut octets = self::header(header, kind::FRAGMENT, HEADER + GENERIC + 4 + content);
    octets.extend_from_slice(&[if number == 1 { inner } else { kind::NONE }, 0]);
    octets.extend_from_slice(&length(GENERIC + 4 + content));
    octets.extend_from_slice(&number.to_be_bytes());
    octets.extend_from_slice(&total.to_be_bytes());
    octets
}

fn header(header: &Header, first: u8, total: usize) -> Vec<u8> {
    let mut octets = Vec::with_capacity(total);
    octets.extend_from_slice(&header.initiator_spi.to_be_bytes());
    octets.extend_from_slice(&header.responder_spi.to_be_bytes());
    let flags = u8::from(header.from_initiator) << 3 | u8::from(header.response) << 5;
    octets.extend_from_slice(&[first, 0x20, header.exchange.number(), flags]);
    octets.extend_from_slice(&header.message_id.to_be_bytes());
    octets.extend_from_slice(&u32::try_from(total).unwrap_or(u32::MAX).to_be_bytes());
    octets
}

/// A length. What is too long for it (no configuration makes that) gets one that no receiver
/// accepts.
fn length(octets: usize) -> [u8; 2] {
    u16::try_from(octets).unwrap_or(0).to_be_bytes()
}

/// Writes the length of what begins at `start` to `offset` from there.
fn patch_length(octets: &mut [u8], start: usize, offset: usize) {
    let field = length(octets.len() - start);
    if let Some(place) = octets.get_mut(start + offset..start + offset + 2) {
        place.copy_from_slice(&field);
    }
}

impl Payload {
    /// Its type's number.
    pub fn kind(&self) -> u8 {
        match self {
            Self::Sa(_) => kind::SA,
            Self::KeyExchange { .. } => kind::KEY_EXCHANGE,
            Self::IdInitiator(_) => kind::ID_INITIATOR,
            Self::IdResponder(_) => kind::ID_RESPONDER,
            Self::Certificate(..) => kind::CERTIFICATE,
            Self::CertificateRequest(..) => kind::CERTIFICATE_REQUEST,
            Self::Auth(..) => kind::AUTH,
            Self::Nonce(_) => kind::NONCE,
            Self::Notify(_) => kind::NOTIFY,
            Self::Delete { .. } => kind::DELETE,
            Self::VendorId(_) => kind::VENDOR_ID,
            Self::TsInitiator(_) => kind::TS_INITIATOR,
            Self::TsResponder(_) => kind::TS_RESPONDER,
            Self::Other(kind, _) => *kind,
        }
    }

    fn write(&self, octets: &mut Vec<u8>) {
        match self {
            Self::Sa(proposals) => write_proposals(proposals, octets),
            Self::KeyExchange { group, data } => {
                octets.extend_from_slice(&group.to_be_bytes());
                octets.extend_from_slice(&[0, 0]);
                octets.extend_from_slice(data);
            }
            Self::IdInitiator(Identity { kind, data })
            | Self::IdResponder(Identity { kind, data })
            | Self::Auth(kind, data) => {
                octets.extend_from_slice(&[*kind, 0, 0, 0]);
                octets.extend_from_slice(data);
            }
            Self::Certificate(encoding, data) | Self::CertificateRequest(encoding, data) => {
                octets.push(*encoding);
                octets.extend_from_slice(data);
            }
            Self::Notify(notify) => {
                let spi = notify.spi.get(..255).unwrap_or(&notify.spi);
                octets.extend_from_slice(&[notify.protocol, u8::try_from(spi.len()).unwrap_or(0)]);
                octets.extend_from_slice(&notify.kind.to_be_bytes());
                octets.extend_from_slice(spi);
                octets.extend_from_slice(&notify.data);
            }
            Self::Delete { protocol, spis } => {
                let size = if *protocol == 1 { 0 } else { 4 };
                octets.extend_from_slice(&[*protocol, size]);
                octets.extend_from_slice(&length(spis.len()));
                for spi in spis {
                    octets.extend_from_slice(&spi.to_be_bytes());
                }
            }
            Self::TsInitiator(selectors) | Self::TsResponder(selectors) => {
                write_selectors(selectors, octets);
            }
            Self::Nonce(data) | Self::VendorId(data) | Self::Other(_, data) => {
                octets.extend_from_slice(data);
            }
        }
    }
}

/// No more than 255, the most that the count can say.
fn write_selectors(selectors: &[TrafficSelector], octets: &mut Vec<u8>) {
    let selectors = selectors.get(..255).unwrap_or(selectors);
    octets.extend_from_slice(&[u8::try_from(selectors.len()).unwrap_or(0), 0, 0, 0]);
    for selector in selectors {
        let (kind, size) = if selector.first.is_ipv4() { (7, 16u16) } else { (8, 40) };
        octets.extend_from_slice(&[kind, selector.protocol]);
        octets.extend_from_slice(&size.to_be_bytes());
        octets.extend_from_slice(&selector.first_port.to_be_bytes());
        octets.extend_from_slice(&selector.last_port.to_be_bytes());
        for address in [selector.first, selector.last] {
            match address {
                IpAddr::V4(address) => octets.extend_from_slice(&address.octets()),
                IpAddr::V6(address) => octets.extend_from_slice(&address.octets()),
            }
        }
    }
}

fn write_proposals(proposals: &[WireProposal], octets: &mut Vec<u8>) {
    for (index, proposal) in proposals.iter().enumerate() {
        let start = octets.len();
        let more = if index + 1 < proposals.len() { 2 } else { 0 };
        let spi = proposal.spi.get(..255).unwrap_or(&proposal.spi);
        let transforms = proposal.transforms.get(..255).unwrap_or(&proposal.transforms);
        octets.extend_from_slice(&[more, 0, 0, 0, proposal.number, proposal.protocol]);
        octets.push(u8::try_from(spi.len()).unwrap_or(0));
        octets.push(u8::try_from(transforms.len()).unwrap_or(0));
        octets.extend_from_slice(spi);
        for (index, transform) in transforms.iter().enumerate() {
            write_transform(transform, index + 1 < transforms.len(), octets);
        }
        patch_length(octets, start, 2);
    }
}

fn write_transform(transform: &Transform, more: bool, octets: &mut Vec<u8>) {
    let size = if transform.key_bits.is_some() { 12 } else { 8 };
    octets.extend_from_slice(&[if more { 3 } else { 0 }, 0, 0, size, transform.kind, 0]);
    octets.extend_from_slice(&transform.id.to_be_bytes());
    if let Some(bits) = transform.key_bits {
        octets.extend_from_slice(&0x800e_u16.to_be_bytes());
        octets.extend_from_slice(&bits.to_be_bytes());
    }
}
