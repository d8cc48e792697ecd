//! The PROXY protocol, versions 1 and 2: who the client of a forwarded connection really is.
//!
//! Pure: bytes in, addresses out. Strict: what is not exactly as specified
//! (haproxy's `proxy-protocol.txt`) is refused, since whoever sends it could otherwise choose
//! what the gateway believes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use model::snapshot::ProxyVersion;

use crate::l7::buffer::Buf;

/// Section 2.1: a line of version 1 with its end is no longer.
const V1_MOST: usize = 107;
/// Section 2.2: what a header of version 2 begins with.
const V2_SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";
const V2_FIXED: usize = 16;
/// Addresses and TLVs of a header of version 2 that are read past; longer ones are refused.
const V2_MOST: usize = 4096;

/// The most bytes that a header may take.
pub(crate) const MOST: usize = V2_FIXED + V2_MOST;

/// The two ends of a connection as the proxy before us saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ends {
    /// The client.
    pub(crate) source: SocketAddr,
    /// The address that it connected to.
    pub(crate) destination: SocketAddr,
}

/// A header that has been read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// None where the proxy speaks for itself (`LOCAL`) or doesn't know (`UNKNOWN`): the ends of
    /// the connection itself hold.
    pub(crate) ends: Option<Ends>,
    /// How many bytes it took.
    pub(crate) len: usize,
}

/// Why bytes are no PROXY header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ProxyError {
    #[error("no PROXY protocol header")]
    Signature,
    #[error("PROXY v1: the line is longer than 107 bytes")]
    LineLength,
    #[error("PROXY v1: not `PROXY TCP4|TCP6|UNKNOWN` with addresses and ports in canonical form")]
    Line,
    #[error("PROXY v2: unknown version, command, family or protocol")]
    Kind,
    #[error("PROXY v2: the length doesn't fit the family, or is more than 4096")]
    Length,
}

/// Reads a header of either version; none while it isn't all there.
///
/// # Errors
/// As soon as the bytes can't become one.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    const V1_START: &[u8] = b"PROXY ";
    let begins = |with: &[u8]| {
        let n = bytes.len().min(with.len());
        bytes[..n] == with[..n]
    };
    if begins(&V2_SIGNATURE) {
        return if bytes.len() < V2_FIXED { early_v2(bytes) } else { v2(bytes) };
    }
    if !begins(V1_START) {
        return Err(ProxyError::Signature);
    }
    let line = &bytes[..bytes.len().min(V1_MOST)];
    match line.windows(2).position(|pair| pair == b"\r\n") {
        Some(end) => {
            Ok(Some(Header { ends: v1(&line[..end]).ok_or(ProxyError::Line)?, len: end + 2 }))
        }
        None if bytes.len() >= V1_MOST => Err(ProxyError::LineLength),
        // A line feed never stands alone, and a carriage return only before one.
        None if line.contains(&b'\n') => Err(ProxyError::Line),
        None => Ok(None),
    }
}

/// A line without its end. The inner none is `UNKNOWN`.
#[allow(clippy::option_option)] // reason: the two say different things, and no caller keeps them
fn v1(line: &[u8]) -> Option<Option<Ends>> {
    let text = std::str::from_utf8(line).ok()?;
    let mut words = text.split(' ');
    if words.next() != Some("PROXY") {
        return None;
    }
    let family = words.next()?;
    if family == "UNKNOWN" {
        // What follows is to be ignored.
        return text.is_ascii().then_some(None);
    }
    let (source, destination) = (words.next()?, words.next()?);
    let ports = (port(words.next()?)?, port(words.next()?)?);
    if words.next().is_some() {
        return None;
    }
    let ips: (IpAddr, IpAddr) = match family {
        "TCP4" => {
            (source.parse::<Ipv4Addr>().ok()?.into(), destination.parse::<Ipv4Addr>().ok()?.into())
        }
        "TCP6" => {
            (source.parse::<Ipv6Addr>().ok()?.into(), destination.parse::<Ipv6Addr>().ok()?.into())
        }
        _ => return None,
    };
    Some(Some(Ends {
        source: SocketAddr::new(ips.0, ports.0),
        destination: SocketAddr::new(ips.1, ports.1),
    }))
}

/// Decimal, without sign or leading zeros.
fn port(text: &str) -> Option<u16> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit())
        && (text.len() == 1 || !text.starts_with('0'));
    plain.then(|| text.parse().ok()).flatten()
}

/// The first bytes of version 2: refused as soon as they can be.
fn early_v2(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    match (bytes.get(12), bytes.get(13)) {
        (Some(command), _) if !matches!(command, 0x20 | 0x21) => Err(ProxyError::Kind),
        _ => Ok(None),
    }
}

fn v2(bytes: &[u8]) -> Result<Option<Header>, ProxyError> {
    let [command, kind, high, low] = [bytes[12], bytes[13], bytes[14], bytes[15]];
    let len = usize::from(u16::from_be_bytes([high, low]));
    let local = match command {
        0x20 => true,
        0x21 => false,
        _ => return Err(ProxyError::Kind),
    };
    // Family in the upper half, protocol in the lower.
    let needed = match kind {
        0x00 => 0,
        0x11 | 0x12 => 12,
        0x21 | 0x22 => 36,
        0x31 | 0x32 => 216,
        _ => return Err(ProxyError::Kind),
    };
    if len > V2_MOST || len < needed && !local {
        return Err(ProxyError::Length);
    }
    let Some(body) = bytes.get(V2_FIXED..V2_FIXED + len) else { return Ok(None) };
    let ends = match kind {
        _ if local => None,
        0x11 => v2_ends::<4>(body, IpAddr::from),
        0x21 => v2_ends::<16>(body, IpAddr::from),
        // Datagrams and Unix sockets don't come over TCP; the connection's own ends hold.
        _ => None,
    };
    Ok(Some(Header { ends, len: V2_FIXED + len }))
}

fn v2_ends<const N: usize>(body: &[u8], ip: impl Fn([u8; N]) -> IpAddr) -> Option<Ends> {
    let (source, rest) = body.split_first_chunk::<N>()?;
    let (destination, rest) = rest.split_first_chunk::<N>()?;
    let (ports, _) = rest.split_first_chunk::<4>()?;
    Some(Ends {
        source: SocketAddr::new(ip(*source), u16::from_be_bytes([ports[0], ports[1]])),
        destination: SocketAddr::new(ip(*destination), u16::from_be_bytes([ports[2], ports[3]])),
    })
}

/// Adds a header to `out`. Ends of two families are written as IPv6, mapped where they are IPv4.
pub(crate) fn write(version: ProxyVersion, ends: &Ends, out: &mut Buf) {
    let source = SocketAddr::new(ends.source.ip().to_canonical(), ends.source.port());
    let destination =
        SocketAddr::new(ends.destination.ip().to_canonical(), ends.destination.port());
    let ports = [source.port().to_be_bytes(), destination.port().to_be_bytes()].concat();
    let (family, addresses) = match (source.ip(), destination.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            if version == ProxyVersion::V1 {
                return v1_line("TCP4", from, to, (source.port(), destination.port()), out);
            }
            (0x11, [from.octets(), to.octets()].concat())
        }
        (from, to) => {
            let (from, to) = (as_v6(from), as_v6(to));
            if version == ProxyVersion::V1 {
                return v1_line("TCP6", from, to, (source.port(), destination.port()), out);
            }
            (0x21, [from.octets(), to.octets()].concat())
        }
    };
    let len = (addresses.len() + ports.len()) as u16;
    out.put(&V2_SIGNATURE);
    out.put(&[0x21, family]);
    out.put(&len.to_be_bytes());
    out.put(&addresses);
    out.put(&ports);
}

fn v1_line<A: std::fmt::Display>(family: &str, from: A, to: A, ports: (u16, u16), out: &mut Buf) {
    out.put(format!("PROXY {family} {from} {to} {} {}\r\n", ports.0, ports.1).as_bytes());
}

fn as_v6(ip: IpAddr) -> Ipv6Addr {
    match ip {
        IpAddr::V4(v4) => v4.to_ipv6_mapped(),
        IpAddr::V6(v6) => v6,
    }
}

#[cfg(test)]
mod tests;
