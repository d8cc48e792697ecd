//! Reading messages.
//!
//! `ipsec-parser` takes the header and the payloads' frames apart, and proposals; lengths that it
//! takes on trust are checked here. It reads notifications, deletions, vendor IDs, AUTH and
//! traffic selectors wrongly or leniently, so those are read here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipsec_parser::{
    IkeV2GenericPayload, IkeV2Proposal, IkeV2RawTransform, parse_ikev2_header,
    parse_ikev2_payload_generic, parse_ikev2_proposal,
};

use super::kind;
use super::{
    Datagram, DecodeError, Exchange, Header, MAX_MESSAGE, Message, Notify, Payload, Transform,
    WireProposal,
};
use crate::ike::identity::Identity;
use crate::selector::TrafficSelector;

/// More payloads than any real message has.
const MAX_PAYLOADS: usize = 512;

const FLAG_INITIATOR: u8 = 0x08;
const FLAG_RESPONSE: u8 = 0x20;

type Read<T> = Result<T, DecodeError>;

/// What a datagram is (without the marker of port 4500). Nothing is decrypted.
///
/// # Errors
/// [`DecodeError`]; the sender is unknown then, so nothing may follow from it.
pub fn read(datagram: &[u8]) -> Read<Datagram<'_>> {
    if datagram.len() > MAX_MESSAGE {
        return Err(DecodeError::Malformed("the message is too long"));
    }
    let Ok((body, raw)) = parse_ikev2_header(datagram) else {
        return Err(DecodeError::Malformed("the header is cut short"));
    };
    if raw.maj_ver != 2 {
        return Err(DecodeError::Version(raw.maj_ver, raw.min_ver));
    }
    if usize::try_from(raw.length) != Ok(datagram.len()) {
        return Err(DecodeError::Malformed("the header's length is not the message's"));
    }
    if raw.init_spi == 0 {
        return Err(DecodeError::Malformed("the initiator's SPI is 0"));
    }
    let exchange = raw.exch_type.0;
    let header = Header {
        initiator_spi: raw.init_spi,
        responder_spi: raw.resp_spi,
        exchange: Exchange::from_number(exchange).ok_or(DecodeError::Exchange(exchange))?,
        from_initiator: raw.flags & FLAG_INITIATOR != 0,
        response: raw.flags & FLAG_RESPONSE != 0,
        message_id: raw.msg_id,
    };

    let mut frames = Frames { next: raw.next_payload.0, rest: body, seen: 0 };
    let mut payloads = Vec::new();
    while let Some(frame) = frames.next()? {
        if !matches!(frame.kind, kind::ENCRYPTED | kind::FRAGMENT) {
            payloads.push(frame);
            continue;
        }
        if !frames.rest.is_empty() {
            return Err(DecodeError::Malformed("something follows the encrypted payload"));
        }
        return sealed(datagram, header, frame);
    }
    let payloads = payloads.into_iter().map(payload).collect::<Read<_>>()?;
    Ok(Datagram::Clear(Message { header, payloads }))
}

/// The payloads inside an SK payload, or those of all fragments together.
///
/// # Errors
/// [`DecodeError`]; the sender is known, so it is answered (INVALID_SYNTAX,
/// UNSUPPORTED_CRITICAL_PAYLOAD).
pub fn read_payloads(first: u8, octets: &[u8]) -> Read<Vec<Payload>> {
    if octets.len() > MAX_MESSAGE {
        return Err(DecodeError::Malformed("the message is too long"));
    }
    let mut frames = Frames { next: first, rest: octets, seen: 0 };
    let mut payloads = Vec::new();
    while let Some(frame) = frames.next()? {
        if matches!(frame.kind, kind::ENCRYPTED | kind::FRAGMENT) {
            return Err(DecodeError::Malformed("an encrypted payload inside another"));
        }
        payloads.push(payload(frame)?);
    }
    Ok(payloads)
}

/// A message that ends in SK or SKF.
fn sealed<'a>(datagram: &'a [u8], header: Header, frame: Frame<'a>) -> Read<Datagram<'a>> {
    let inner = frame.inner;
    if frame.kind == kind::ENCRYPTED {
        let associated = before(datagram, frame.content);
        return Ok(Datagram::Encrypted { header, inner, associated, sealed: frame.content });
    }
    let mut octets = Octets(frame.content);
    let (number, total) = (octets.u16()?, octets.u16()?);
    if number == 0 || number > total {
        return Err(DecodeError::Malformed("a fragment's number is not within their count"));
    }
    let sealed = octets.rest();
    let associated = before(datagram, sealed);
    Ok(Datagram::Fragment { header, inner, number, total, associated, sealed })
}

/// All but the tail.
fn before<'a>(all: &'a [u8], tail: &[u8]) -> &'a [u8] {
    all.get(..all.len().saturating_sub(tail.len())).unwrap_or_default()
}

/// A payload's frame.
struct Frame<'a> {
    kind: u8,
    critical: bool,
    /// The generic header's next payload; of SK and SKF the type of the first one inside.
    inner: u8,
    content: &'a [u8],
}

/// The chain of payloads.
struct Frames<'a> {
    next: u8,
    rest: &'a [u8],
    seen: usize,
}

impl<'a> Frames<'a> {
    fn next(&mut self) -> Read<Option<Frame<'a>>> {
        if self.next == kind::NONE {
            return match self.rest {
                [] => Ok(None),
                _ => Err(DecodeError::Malformed("something follows the last payload")),
            };
        }
        self.seen += 1;
        if self.seen > MAX_PAYLOADS {
            return Err(DecodeError::Malformed("too many payloads"));
        }
        let Ok((rest, generic)) = parse_ikev2_payload_generic(self.rest) else {
            return Err(DecodeError::Malformed("a payload's length is wrong"));
        };
        let IkeV2GenericPayload { hdr, payload: content } = generic;
        let inner = hdr.next_payload_type.0;
        let frame = Frame { kind: self.next, critical: hdr.critical, inner, content };
        self.rest = rest;
        self.next = match frame.kind {
            kind::ENCRYPTED | kind::FRAGMENT => kind::NONE,
            _ => inner,
        };
        Ok(Some(frame))
    }
}

/// A payload's content.
fn payload(frame: Frame<'_>) -> Read<Payload> {
    let mut octets = Octets(frame.content);
    Ok(match frame.kind {
        kind::SA => Payload::Sa(proposals(frame.content)?),
        kind::KEY_EXCHANGE => {
            let group = octets.u16()?;
            octets.take(2)?;
            Payload::KeyExchange { group, data: octets.some("an empty key exchange")?.to_vec() }
        }
        kind::ID_INITIATOR => Payload::IdInitiator(identity(octets)?),
        kind::ID_RESPONDER => Payload::IdResponder(identity(octets)?),
        kind::CERTIFICATE => Payload::Certificate(octets.u8()?, octets.rest().to_vec()),
        kind::CERTIFICATE_REQUEST => {
            Payload::CertificateRequest(octets.u8()?, octets.rest().to_vec())
        }
        kind::AUTH => {
            let method = octets.u8()?;
            octets.take(3)?;
            Payload::Auth(method, octets.rest().to_vec())
        }
        kind::NONCE => {
            if !(16..=256).contains(&frame.content.len()) {
                return Err(DecodeError::Malformed("a nonce has 16 to 256 octets"));
            }
            Payload::Nonce(frame.content.to_vec())
        }
        kind::NOTIFY => Payload::Notify(notification(octets)?),
        kind::DELETE => deletion(octets)?,
        kind::VENDOR_ID => Payload::VendorId(frame.content.to_vec()),
        kind::TS_INITIATOR => Payload::TsInitiator(selectors(octets)?),
        kind::TS_RESPONDER => Payload::TsResponder(selectors(octets)?),
        // What the critical bit of a type says that RFC 7296 has is ignored.
        kind::CONFIGURATION | kind::EAP => Payload::Other(frame.kind, frame.content.to_vec()),
        unknown if frame.critical => return Err(DecodeError::Critical(unknown)),
        unknown => Payload::Other(unknown, frame.content.to_vec()),
    })
}

fn identity(mut octets: Octets<'_>) -> Read<Identity> {
    let kind = octets.u8()?;
    octets.take(3)?;
    let data = octets.rest();
    match (kind, data.len()) {
        (1, 4) | (5, 16) => {}
        (1 | 5, _) => return Err(DecodeError::Malformed("an address's identity is not as long")),
        _ => {}
    }
    Ok(Identity { kind, data: data.to_vec() })
}

fn notification(mut octets: Octets<'_>) -> Read<Notify> {
    let (protocol, size, kind) = (octets.u8()?, octets.u8()?, octets.u16()?);
    match (protocol, size) {
        (_, 0) | (1, 8) | (2 | 3, 4) => {}
        (1..=3, _) => return Err(DecodeError::Malformed("a notification's SPI is not as long")),
        _ => {}
    }
    let spi = octets.take(usize::from(size))?.to_vec();
    Ok(Notify { protocol, kind, spi, data: octets.rest().to_vec() })
}

fn deletion(mut octets: Octets<'_>) -> Read<Payload> {
    let (protocol, size, count) = (octets.u8()?, octets.u8()?, octets.u16()?);
    let rest = octets.rest();
    let spis = match (protocol, size) {
        (1, 0) if rest.is_empty() => Vec::new(),
        (2 | 3, 4) if rest.len() == usize::from(count) * 4 => rest
            .chunks_exact(4)
            .filter_map(|spi| spi.try_into().ok().map(u32::from_be_bytes))
            .collect(),
        _ => return Err(DecodeError::Malformed("a deletion's SPIs are not as long or many")),
    };
    Ok(Payload::Delete { protocol, spis })
}

/// Selectors of types that we don't know are left out: nothing of theirs can be agreed on.
fn selectors(mut octets: Octets<'_>) -> Read<Vec<TrafficSelector>> {
    let count = usize::from(octets.u8()?);
    octets.take(3)?;
    let mut selectors = Vec::new();
    for _ in 0..count {
        let (kind, protocol) = (octets.u8()?, octets.u8()?);
        let Some(length) = usize::from(octets.u16()?).checked_sub(4) else {
            return Err(DecodeError::Malformed("a traffic selector's length is wrong"));
        };
        let mut inside = Octets(octets.take(length)?);
        if !matches!(kind, 7 | 8) {
            continue;
        }
        let (first_port, last_port) = (inside.u16()?, inside.u16()?);
        let (first, last) = match kind {
            7 => (inside.v4()?, inside.v4()?),
            _ => (inside.v6()?, inside.v6()?),
        };
        if !inside.0.is_empty() {
            return Err(DecodeError::Malformed("a traffic selector's length is wrong"));
        }
        if first > last {
            return Err(DecodeError::Malformed("a traffic selector's addresses are reversed"));
        }
        if first_port > last_port && (first_port, last_port) != (u16::MAX, 0) {
            return Err(DecodeError::Malformed("a traffic selector's ports are reversed"));
        }
        selectors.push(TrafficSelector { protocol, first_port, last_port, first, last });
    }
    if count == 0 || !octets.0.is_empty() {
        return Err(DecodeError::Malformed("a traffic selector payload's count is wrong"));
    }
    Ok(selectors)
}

fn proposals(mut rest: &[u8]) -> Read<Vec<WireProposal>> {
    let mut proposals: Vec<WireProposal> = Vec::new();
    while !rest.is_empty() {
        let Ok((after, raw)) = parse_ikev2_proposal(rest) else {
            return Err(DecodeError::Malformed("a proposal's length is wrong"));
        };
        rest = after;
        if (raw.last, rest.is_empty()) != (0, true) && (raw.last, rest.is_empty()) != (2, false) {
            return Err(DecodeError::Malformed("the last proposal is not marked so"));
        }
        let proposal = proposal(&raw)?;
        // A single one may be an answer, which keeps the number that it had.
        let follows = match proposals.last() {
            None if rest.is_empty() => proposal.number != 0,
            None => proposal.number == 1,
            Some(previous) => previous.number.checked_add(1) == Some(proposal.number),
        };
        if !follows {
            return Err(DecodeError::Malformed("proposals are not numbered from 1 on"));
        }
        proposals.push(proposal);
    }
    if proposals.is_empty() {
        return Err(DecodeError::Malformed("an SA payload without proposals"));
    }
    Ok(proposals)
}

fn proposal(raw: &IkeV2Proposal<'_>) -> Read<WireProposal> {
    let protocol = raw.protocol_id.0;
    match (protocol, raw.spi_size) {
        (1, 0 | 8) | (2 | 3, 4) => {}
        (1..=3, _) => return Err(DecodeError::Malformed("a proposal's SPI is not as long")),
        _ => {}
    }
    // What `ipsec-parser` takes on trust: that the transforms fill the proposal.
    let filled = raw.transforms.iter().map(|one| usize::from(one.transform_length)).sum::<usize>();
    if filled + 8 + usize::from(raw.spi_size) != usize::from(raw.proposal_length) {
        return Err(DecodeError::Malformed("transforms do not fill their proposal"));
    }
    let last = raw.transforms.len();
    let transforms = raw
        .transforms
        .iter()
        .enumerate()
        .map(|(index, raw)| transform(raw, index + 1 == last))
        .collect::<Read<_>>()?;
    let spi = raw.spi.unwrap_or_default().to_vec();
    Ok(WireProposal { number: raw.proposal_num, protocol, spi, transforms })
}

fn transform(raw: &IkeV2RawTransform<'_>, is_last: bool) -> Read<Transform> {
    if raw.transform_length < 8 {
        return Err(DecodeError::Malformed("a transform's length is wrong"));
    }
    if raw.last != if is_last { 0 } else { 3 } {
        return Err(DecodeError::Malformed("the last transform is not marked so"));
    }
    let mut transform = Transform {
        kind: raw.transform_type.0,
        id: raw.transform_id,
        key_bits: None,
        unknown_attribute: false,
    };
    let mut attributes = Octets(raw.attributes.unwrap_or_default());
    while !attributes.0.is_empty() {
        // The highest bit: a value of two octets follows in place of a length.
        let (kind, value) = (attributes.u16()?, attributes.u16()?);
        if kind & 0x8000 == 0 {
            attributes.take(usize::from(value))?;
        }
        match kind {
            0x800e if transform.key_bits.is_none() => transform.key_bits = Some(value),
            0x800e => return Err(DecodeError::Malformed("a transform with two key lengths")),
            _ => transform.unknown_attribute = true,
        }
    }
    Ok(transform)
}

/// Octets that are read from the front.
#[derive(Clone, Copy)]
struct Octets<'a>(&'a [u8]);

impl<'a> Octets<'a> {
    fn take(&mut self, count: usize) -> Read<&'a [u8]> {
        let Some((head, tail)) = self.0.split_at_checked(count) else {
            return Err(DecodeError::Malformed("a payload is cut short"));
        };
        self.0 = tail;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Read<[u8; N]> {
        let Some((head, tail)) = self.0.split_first_chunk() else {
            return Err(DecodeError::Malformed("a payload is cut short"));
        };
        self.0 = tail;
        Ok(*head)
    }

    fn u8(&mut self) -> Read<u8> {
        self.array().map(u8::from_be_bytes)
    }

    fn u16(&mut self) -> Read<u16> {
        self.array().map(u16::from_be_bytes)
    }

    fn v4(&mut self) -> Read<IpAddr> {
        self.array::<4>().map(|octets| Ipv4Addr::from(octets).into())
    }

    fn v6(&mut self) -> Read<IpAddr> {
        self.array::<16>().map(|octets| Ipv6Addr::from(octets).into())
    }

    fn rest(self) -> &'a [u8] {
        self.0
    }

    fn some(self, otherwise: &'static str) -> Read<&'a [u8]> {
        if self.0.is_empty() { Err(DecodeError::Malformed(otherwise)) } else { Ok(self.0) }
    }
}
