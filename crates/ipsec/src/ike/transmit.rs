//! Messages of an IKE SA: sealed, sent, opened.

use std::time::Instant;

use zeroize::Zeroizing;

use super::engine::{Captured, Engine};
use super::fragment;
use super::message::{self, Datagram, DecodeError, Exchange, Header, Message, Payload};
use super::sa::IkeSa;
use crate::sa::Path;

/// Why a message is not read.
pub(super) enum OpenError {
    /// It is not authentic.
    Unauthentic,
    /// A fragment; others are still to come.
    Incomplete,
}

/// The inside of a message: type of the first payload, and all payloads' octets.
pub(super) type Inside = (u8, Zeroizing<Vec<u8>>);

/// Seals a message of an IKE SA: one datagram, or fragments (RFC 7383).
pub(super) fn seal(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    header: &Header,
    payloads: &[Payload],
) -> Vec<Vec<u8>> {
    let (inner, plain) = message::encode_payloads(payloads);
    let plain = Zeroizing::new(plain);
    capture(engine, now, sa.path, true, header, inner, &plain);
    let Some(keys) = &sa.keys else { return Vec::new() };
    let cipher = if sa.initiator { &keys.initiator } else { &keys.responder };
    let content = |plain: usize| plain + cipher.overhead(plain);
    let associated = message::sk_header(header, inner, content(plain.len()));
    let remote = sa.path.remote.ip();
    let size = engine.settings.fragment_size;
    let length = associated.len() + content(plain.len());
    let pieces = (sa.peer.fragmentation && fragment::is_too_large(remote, size, length))
        .then(|| fragment::capacity(remote, size, |plain| cipher.overhead(plain)))
        .and_then(|capacity| fragment::cut(&plain, capacity));
    let rng = engine.rng.as_mut();
    let Some(pieces) = pieces else {
        return vec![join(&associated, &cipher.seal(rng, &associated, &plain))];
    };
    let total = u16::try_from(pieces.len()).unwrap_or(u16::MAX);
    (1..=total)
        .zip(pieces)
        .map(|(number, piece)| {
            let inner = if number == 1 { inner } else { 0 };
            let associated =
                message::skf_header(header, inner, number, total, content(piece.len()));
            join(&associated, &cipher.seal(rng, &associated, piece))
        })
        .collect()
}

fn join(associated: &[u8], sealed: &[u8]) -> Vec<u8> {
    let mut datagram = Vec::with_capacity(associated.len() + sealed.len());
    datagram.extend_from_slice(associated);
    datagram.extend_from_slice(sealed);
    datagram
}

/// Opens what has come for an IKE SA.
///
/// # Errors
/// It can't be read, or not yet.
pub(super) fn open(sa: &mut IkeSa, datagram: &Datagram<'_>) -> Result<Inside, OpenError> {
    let keys = sa.keys.as_ref().ok_or(OpenError::Unauthentic)?;
    let cipher = if sa.initiator { &keys.responder } else { &keys.initiator };
    match datagram {
        Datagram::Encrypted { inner, associated, sealed, .. } => {
            let plain = cipher.open(associated, sealed).map_err(|_| OpenError::Unauthentic)?;
            Ok((*inner, plain))
        }
        Datagram::Fragment { header, inner, number, total, associated, sealed } => {
            // One reassembly for each direction: requests and responses have IDs of their own.
            let reassembly =
                if header.response { &mut sa.response_pieces } else { &mut sa.request_pieces };
            if !reassembly.wants(header.message_id, *number, *total) {
                return Err(OpenError::Incomplete);
            }
            let plain = cipher.open(associated, sealed).map_err(|_| OpenError::Unauthentic)?;
            reassembly
                .add(header.message_id, *number, *total, *inner, plain)
                .map(|whole| (whole.inner, whole.plain))
                .ok_or(OpenError::Incomplete)
        }
        Datagram::Clear(_) => Err(OpenError::Unauthentic),
    }
}

/// Whether a datagram of an IKE SA, a message or a fragment, is authentic.
///
/// # Errors
/// It isn't.
pub(super) fn authenticate(sa: &IkeSa, datagram: &Datagram<'_>) -> Result<(), OpenError> {
    let keys = sa.keys.as_ref().ok_or(OpenError::Unauthentic)?;
    let cipher = if sa.initiator { &keys.responder } else { &keys.initiator };
    match datagram {
        Datagram::Encrypted { associated, sealed, .. }
        | Datagram::Fragment { associated, sealed, .. } => {
            cipher.open(associated, sealed).map(drop).map_err(|_| OpenError::Unauthentic)
        }
        Datagram::Clear(_) => Err(OpenError::Unauthentic),
    }
}

/// Sends datagrams of an IKE SA on its path.
pub(super) fn send(engine: &mut Engine, now: Instant, sa: &mut IkeSa, datagrams: &[Vec<u8>]) {
    send_to(engine, now, sa, sa.path, datagrams);
}

/// Sends datagrams of an IKE SA to where a message has come from.
pub(super) fn send_to(
    engine: &mut Engine,
    now: Instant,
    sa: &mut IkeSa,
    path: Path,
    datagrams: &[Vec<u8>],
) {
    sa.last_sent = now;
    for datagram in datagrams {
        engine.transmit(path, datagram.clone());
    }
}

/// Sends a message in the clear that belongs to no IKE SA.
pub(super) fn send_clear(engine: &mut Engine, now: Instant, path: Path, message: &Message) {
    let datagram = message.encode();
    capture_clear(engine, now, path, true, &datagram);
    engine.transmit(path, datagram);
}

/// Shows a message in the clear to the debug capture.
pub(super) fn capture_clear(
    engine: &mut Engine,
    at: Instant,
    path: Path,
    outbound: bool,
    datagram: &[u8],
) {
    if engine.captures() {
        engine.capture(Captured { path, at, outbound, plain: datagram.to_vec() });
    }
}

/// Shows a message's inside to the debug capture, as if it had been sent in the clear.
pub(super) fn capture(
    engine: &mut Engine,
    at: Instant,
    path: Path,
    outbound: bool,
    header: &Header,
    inner: u8,
    plain: &[u8],
) {
    if !engine.captures() {
        return;
    }
    // The header of an empty message, with the type of the first payload and the length put in.
    let mut datagram = Message { header: *header, payloads: Vec::new() }.encode();
    datagram.truncate(28);
    datagram.extend_from_slice(plain);
    let length = u32::try_from(datagram.len()).unwrap_or(u32::MAX).to_be_bytes();
    if let Some(next) = datagram.get_mut(16) {
        *next = inner;
    }
    for (octet, value) in datagram.iter_mut().skip(24).zip(length) {
        *octet = value;
    }
    engine.capture(Captured { path, at, outbound, plain: datagram });
}

/// Reads what was opened.
///
/// # Errors
/// Of the codec.
pub(super) fn read_inside(inside: &Inside) -> Result<Vec<Payload>, DecodeError> {
    message::read_payloads(inside.0, &inside.1)
}

/// The header of an IKE SA's message.
pub(super) fn header(sa: &IkeSa, exchange: Exchange, message_id: u32, response: bool) -> Header {
    Header {
        initiator_spi: sa.spi_i,
        responder_spi: sa.spi_r,
        exchange,
        from_initiator: sa.initiator,
        response,
        message_id,
    }
}
