//! Security associations.

use std::net::IpAddr;

use super::ESP;
use super::layout::{address_at, family, family_at, push_address, push_lifetime, u64_at};
use crate::netlink::message::{Message, be32, push_attribute, u32_at};

pub(super) const NEW: u16 = 0x10;
pub(super) const DELETE: u16 = 0x11;
pub(super) const GET: u16 = 0x12;
pub(super) const UPDATE: u16 = 0x1a;

const XFRMA_ALG_AUTH_TRUNC: u16 = 20;
const XFRMA_ALG_CRYPT: u16 = 2;
const XFRMA_ENCAP: u16 = 4;
const XFRMA_REPLAY_VAL: u16 = 10;
const XFRMA_ALG_AEAD: u16 = 18;
const XFRMA_REPLAY_ESN_VAL: u16 = 23;
const XFRMA_SA_EXTRA_FLAGS: u16 = 24;
const XFRMA_SET_MARK: u16 = 29;
const XFRMA_SET_MARK_MASK: u16 = 30;
pub(super) const XFRMA_IF_ID: u16 = 31;

const MODE_TUNNEL: u8 = 1;
const STATE_NOPMTUDISC: u8 = 4;
/// IPv4 and IPv6 within, whichever is outside.
const STATE_AF_UNSPEC: u8 = 32;
const STATE_ESN: u8 = 128;
/// `XFRM_SA_XFLAG_DONT_ENCAP_DSCP`.
const DONT_ENCAP_DSCP: u32 = 1;
const UDP_ENCAP_ESPINUDP: u16 = 2;

/// `struct xfrm_usersa_info`.
pub(super) const INFO: usize = 224;
/// Where it has things.
pub(super) const AT_DESTINATION: usize = 56;
pub(super) const AT_SPI: usize = 72;
const AT_BYTES: usize = 160;
const AT_PACKETS: usize = 168;
const AT_REPLAYED: usize = 196;
const AT_UNAUTHENTIC: usize = 200;
pub(super) const AT_FAMILY: usize = 212;
/// The kernel's limit on windows.
const WINDOW: u32 = 4096;

/// What an SA is known by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SaId {
    /// Where its packets go.
    pub destination: IpAddr,
    /// What stands in them.
    pub spi: u32,
}

impl SaId {
    /// `struct xfrm_usersa_id`.
    pub(super) fn payload(&self) -> Vec<u8> {
        let mut payload = Vec::new();
        push_address(&mut payload, self.destination);
        payload.extend_from_slice(&self.spi.to_be_bytes());
        payload.extend_from_slice(&u16::from(family(self.destination)).to_ne_bytes());
        payload.extend_from_slice(&[ESP, 0]);
        payload
    }
}

/// How packets are kept secret and unchanged. Names are the kernel's (`/proc/crypto`).
#[derive(Clone, Copy)]
pub enum Algorithms<'a> {
    /// Both in one.
    Aead {
        /// Such as `rfc4106(gcm(aes))`.
        name: &'a str,
        /// With the salt behind.
        key: &'a [u8],
        /// Octets of the tag.
        tag: u32,
    },
    /// One after the other.
    Both {
        /// Such as `cbc(aes)`.
        cipher: &'a str,
        /// Its key.
        key: &'a [u8],
        /// Such as `hmac(sha256)`.
        integrity: &'a str,
        /// Its key.
        integrity_key: &'a [u8],
        /// Octets of the checksum that are sent.
        tag: u32,
    },
}

impl std::fmt::Debug for Algorithms<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Aead { name, .. } => f.write_str(name),
            Self::Both { cipher, integrity, .. } => write!(f, "{cipher} {integrity}"),
        }
    }
}

/// ESP in UDP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Encap {
    /// The port of where packets come from.
    pub source: u16,
    /// The port of where they go.
    pub destination: u16,
}

/// After how much the kernel says that an SA wears out ([`super::Event::Expire`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// Octets.
    pub bytes: Option<u64>,
    /// Packets.
    pub packets: Option<u64>,
}

/// Sequence numbers: which ones were sent and seen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Replay {
    /// None yet. How many the window is to span.
    New(u32),
    /// As another SA had them.
    Continued {
        /// Which attribute it is.
        kind: u16,
        /// It.
        value: Vec<u8>,
    },
}

/// An SA, in tunnel mode.
#[derive(Clone, Debug)]
pub struct Sa<'a> {
    /// What it is known by.
    pub id: SaId,
    /// Where its packets come from.
    pub source: IpAddr,
    /// What policies know it by.
    pub reqid: u32,
    /// Of which interface.
    pub if_id: u32,
    /// Its algorithms and keys.
    pub algorithms: Algorithms<'a>,
    /// Sequence numbers of 64 bits.
    pub esn: bool,
    /// Which ones there were.
    pub replay: Replay,
    /// In UDP.
    pub encap: Option<Encap>,
    /// The mark of packets that it has sealed, if not zero.
    pub mark: u32,
    /// When it wears out.
    pub limits: Limits,
    /// Outer headers have the DSCP of inner ones.
    pub copy_dscp: bool,
    /// Outer packets may be fragmented, whatever inner ones say.
    pub fragments: bool,
}

impl Sa<'_> {
    /// `struct xfrm_usersa_info` and attributes.
    pub(super) fn payload(&self) -> Vec<u8> {
        let mut payload = Vec::with_capacity(2048);
        // No selector of its own: policies have them.
        payload.resize(AT_DESTINATION, 0);
        push_address(&mut payload, self.id.destination);
        payload.extend_from_slice(&self.id.spi.to_be_bytes());
        payload.extend_from_slice(&[ESP, 0, 0, 0]);
        push_address(&mut payload, self.source);
        push_lifetime(&mut payload, self.limits.bytes, self.limits.packets);
        // What it has carried, its statistics, and no sequence number of a request.
        payload.resize(208, 0);
        payload.extend_from_slice(&self.reqid.to_ne_bytes());
        payload.extend_from_slice(&u16::from(family(self.id.destination)).to_ne_bytes());
        let mut flags = STATE_AF_UNSPEC;
        if self.esn {
            flags |= STATE_ESN;
        }
        if self.fragments {
            flags |= STATE_NOPMTUDISC;
        }
        payload.extend_from_slice(&[MODE_TUNNEL, 0, flags]);
        payload.resize(INFO, 0);
        self.push_algorithms(&mut payload);
        self.push_replay(&mut payload);
        if let Some(encap) = self.encap {
            let mut value = UDP_ENCAP_ESPINUDP.to_ne_bytes().to_vec();
            value.extend_from_slice(&encap.source.to_be_bytes());
            value.extend_from_slice(&encap.destination.to_be_bytes());
            value.resize(24, 0);
            push_attribute(&mut payload, XFRMA_ENCAP, &value);
        }
        if self.mark != 0 {
            push_attribute(&mut payload, XFRMA_SET_MARK, &self.mark.to_ne_bytes());
            push_attribute(&mut payload, XFRMA_SET_MARK_MASK, &u32::MAX.to_ne_bytes());
        }
        if !self.copy_dscp {
            push_attribute(&mut payload, XFRMA_SA_EXTRA_FLAGS, &DONT_ENCAP_DSCP.to_ne_bytes());
        }
        push_attribute(&mut payload, XFRMA_IF_ID, &self.if_id.to_ne_bytes());
        payload
    }

    fn push_algorithms(&self, payload: &mut Vec<u8>) {
        match self.algorithms {
            Algorithms::Aead { name, key, tag } => {
                algorithm(payload, XFRMA_ALG_AEAD, name, key, Some(tag));
            }
            Algorithms::Both { cipher, key, integrity, integrity_key, tag } => {
                algorithm(payload, XFRMA_ALG_AUTH_TRUNC, integrity, integrity_key, Some(tag));
                algorithm(payload, XFRMA_ALG_CRYPT, cipher, key, None);
            }
        }
    }

    /// `struct xfrm_replay_state_esn`, which serves short sequence numbers as well.
    fn push_replay(&self, payload: &mut Vec<u8>) {
        let window = match &self.replay {
            Replay::Continued { kind, value } => return push_attribute(payload, *kind, value),
            // The kernel has no long sequence numbers without a window.
            Replay::New(0) if self.esn => WINDOW,
            Replay::New(0) => return,
            Replay::New(window) => (*window).min(WINDOW),
        };
        let words = window.div_ceil(32);
        let mut value = words.to_ne_bytes().to_vec();
        value.resize(20, 0);
        value.extend_from_slice(&window.to_ne_bytes());
        value.resize(value.len() + 4 * words as usize, 0);
        push_attribute(payload, XFRMA_REPLAY_ESN_VAL, &value);
    }
}

/// `struct xfrm_algo`, or with a tag's length `xfrm_algo_auth` and `xfrm_algo_aead`.
fn algorithm(payload: &mut Vec<u8>, kind: u16, name: &str, key: &[u8], tag: Option<u32>) {
    let mut value = Vec::with_capacity(72 + key.len());
    value.extend_from_slice(name.as_bytes());
    value.resize(64, 0);
    value.extend_from_slice(&(8 * key.len() as u32).to_ne_bytes());
    if let Some(tag) = tag {
        value.extend_from_slice(&(8 * tag).to_ne_bytes());
    }
    value.extend_from_slice(key);
    push_attribute(payload, kind, &value);
    zeroize::Zeroize::zeroize(&mut value);
}

/// An SA as the kernel has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What it is known by.
    pub id: SaId,
    /// Of which interface.
    pub if_id: u32,
    /// Octets: of an SA that seals with the outer IP header, of one that opens without.
    pub bytes: u64,
    /// Packets.
    pub packets: u64,
    /// Packets that had been seen before, or were too old.
    pub replayed: u32,
    /// Packets that were not authentic.
    pub unauthentic: u32,
    /// Its sequence numbers, for an SA that goes on in its place.
    pub replay: Option<Replay>,
}

/// The SA of a message.
pub(super) fn read(message: &Message<'_>) -> Option<State> {
    if message.kind != NEW {
        return None;
    }
    let payload = message.payload;
    let id = id_of(payload)?;
    let (mut if_id, mut replay) = (0, None);
    for (kind, value) in message.attributes(INFO) {
        match kind {
            XFRMA_IF_ID => if_id = u32_at(value, 0)?,
            XFRMA_REPLAY_VAL | XFRMA_REPLAY_ESN_VAL => {
                replay = Some(Replay::Continued { kind, value: value.to_vec() });
            }
            _ => {}
        }
    }
    Some(State {
        id,
        if_id,
        bytes: u64_at(payload, AT_BYTES)?,
        packets: u64_at(payload, AT_PACKETS)?,
        replayed: u32_at(payload, AT_REPLAYED)?,
        unauthentic: u32_at(payload, AT_UNAUTHENTIC)?,
        replay,
    })
}

/// What the SA of a `struct xfrm_usersa_info` is known by.
pub(super) fn id_of(payload: &[u8]) -> Option<SaId> {
    let family = family_at(payload, AT_FAMILY)?;
    let destination = address_at(payload, AT_DESTINATION, family)?;
    Some(SaId { destination, spi: be32(payload.get(AT_SPI..)?)? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::netlink::message::{Messages, push};

    fn sa<'a>(replay: Replay) -> Sa<'a> {
        Sa {
            id: SaId { destination: "192.0.2.2".parse().unwrap(), spi: 0xc0ff_ee01 },
            source: "192.0.2.1".parse().unwrap(),
            reqid: 7,
            if_id: 9,
            algorithms: Algorithms::Aead { name: "rfc4106(gcm(aes))", key: &[1; 20], tag: 16 },
            esn: true,
            replay,
            encap: Some(Encap { source: 4500, destination: 4501 }),
            mark: 5,
            limits: Limits { bytes: Some(0), packets: Some(10) },
            copy_dscp: false,
            fragments: true,
        }
    }

    #[test]
    fn what_is_written_is_what_is_read() {
        let mut bytes = Vec::new();
        push(&mut bytes, NEW, 0, 1, &sa(Replay::New(100)).payload());
        let message = Messages::new(&bytes).next().unwrap();
        let state = read(&message).unwrap();
        assert_eq!(state.id, sa(Replay::New(1)).id);
        assert_eq!((state.if_id, state.bytes, state.packets), (9, 0, 0));
        let Some(Replay::Continued { kind, value }) = state.replay else { panic!() };
        // 24 octets, and four words for a window of 100.
        assert_eq!((kind, value.len()), (XFRMA_REPLAY_ESN_VAL, 24 + 16));
        assert_eq!((u32_at(&value, 0), u32_at(&value, 20)), (Some(4), Some(100)));
    }

    #[test]
    fn a_limit_of_nothing_is_not_written_as_reached_at_the_start() {
        let payload = sa(Replay::New(0)).payload();
        let limits: Vec<u64> = (0..4).filter_map(|at| u64_at(&payload, 96 + 8 * at)).collect();
        assert_eq!(limits, [1, u64::MAX, 10, u64::MAX]);
    }

    #[test]
    fn no_key_is_shown() {
        assert!(!format!("{:?}", sa(Replay::New(0))).contains("[1, 1"));
    }
}
