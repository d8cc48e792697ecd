//! Writing the head that goes upstream (RFC 9110, 7.6; RFC 7239).

use std::io::Write;
use std::net::IpAddr;

use http1::{Field, FieldId, Framing, Method, Version};

use super::{Facts, Original, Received, Request};
use crate::l7::buffer::Buf;
use crate::l7::table::Local;

/// A range of a [`Buf`]'s bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct OpenSpan {
    start: u32,
    end: u32,
}

impl OpenSpan {
    fn new(start: usize, end: usize) -> Self {
        Self { start: start as u32, end: end as u32 }
    }

    /// The bytes in the buffer that it was made for.
    pub(crate) fn of(self, buf: &[u8]) -> &[u8] {
        buf.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

fn put_span(out: &mut Buf, bytes: &[u8]) -> OpenSpan {
    let start = out.len();
    out.put(bytes);
    OpenSpan::new(start, out.len())
}

/// Formats into a small stack space, so that the buffer is touched once.
fn put_display(out: &mut Buf, value: impl std::fmt::Display) {
    let mut space = [0u8; 64];
    let mut rest = &mut space[..];
    // 64 bytes hold an address or a number, the only things formatted here.
    let _ = write!(rest, "{value}");
    let left = rest.len();
    out.put(&space[..64 - left]);
}

/// Notes what the log needs of a request that does not go upstream.
pub(super) fn write_facts(received: &Received<'_>, request: &mut Request) {
    let Received { buf, head, fields, .. } = received;
    let agent = fields.iter().find(|field| field.id == FieldId::UserAgent);
    let out = &mut request.head;
    request.facts = Facts {
        method: put_span(out, head.method_span.of(buf)),
        host: put_span(out, head.authority.of(buf)),
        path: put_span(out, head.path_and_query.of(buf)),
        user_agent: put_span(out, agent.map(|field| field.value.of(buf)).unwrap_or_default()),
        request_id: OpenSpan::default(),
    };
}

/// Which incoming fields about the way here are trusted and there.
#[derive(Default)]
struct Seen {
    forwarded_for: bool,
    proto: bool,
    host: bool,
    port: bool,
    forwarded: bool,
    request_id: bool,
}

/// Writes the upstream's head into `request.head`.
pub(super) fn write(
    received: &Received<'_>,
    local: &Local,
    request: &mut Request,
    trusted: bool,
    rewritten: Option<&str>,
) {
    let Received { context, buf, head, .. } = received;
    let upgrade = head.upgrade.filter(|span| may_upgrade(span.of(buf)));
    request.upgrade = upgrade.is_some() && head.framing == Framing::Empty;
    let entry = local.entry(context.kind, request.route);
    let policy = entry.and_then(|(alb, entry)| alb.policy(entry));
    let upstream_host = policy.and_then(|policy| policy.upstream_host.as_deref());
    let mut facts = Facts::default();
    let out = &mut request.head;
    out.reserve(head.len + 512);
    facts.method = put_span(out, head.method_span.of(buf));
    out.put(b" ");
    facts.path = put_target(received, rewritten, out);
    out.put(b" HTTP/1.1\r\nHost: ");
    facts.host = match upstream_host {
        Some(host) => put_span(out, host.as_bytes()),
        None => put_span(out, head.authority.of(buf)),
    };
    out.put(b"\r\n");
    let seen = put_fields(received, trusted, request.upgrade, out, &mut facts);
    put_framing(received, request.upgrade.then_some(upgrade).flatten(), out);
    put_forwarded(received, trusted, &seen, out, &mut facts);
    out.put(b"\r\n");
    if rewritten.is_some() || upstream_host.is_some() {
        request.original = Some(Box::new(Original {
            host: head.authority.of(buf).to_vec(),
            path: head.path_and_query.of(buf).to_vec(),
        }));
    }
    request.facts = facts;
}

/// A protocol change that may be asked for over a proxy. Not h2c: a server that accepts it would
/// carry requests that no rule here has seen.
fn may_upgrade(protocols: &[u8]) -> bool {
    let mut any = false;
    for protocol in http1::tokens(protocols) {
        any = true;
        if protocol.len() >= 2 && protocol[..2].eq_ignore_ascii_case(b"h2") {
            return false;
        }
    }
    any
}

fn put_target(received: &Received<'_>, rewritten: Option<&str>, out: &mut Buf) -> OpenSpan {
    let Received { buf, head, .. } = received;
    let target = head.path_and_query.of(buf);
    let start = out.len();
    match rewritten {
        Some(path) => {
            out.put(path.as_bytes());
            out.put(&target[head.path.len().min(target.len())..]);
        }
        None if target.is_empty() && head.method == Method::Options => out.put(b"*"),
        None => {
            // An absolute form may have a query without a path, or neither.
            if !matches!(target, [b'/' | b'*', ..]) {
                out.put(b"/");
            }
            out.put(target);
        }
    }
    OpenSpan::new(start, out.len())
}

/// Copies the fields that go on as they are, in runs of neighbours.
fn put_fields(
    received: &Received<'_>,
    trusted: bool,
    upgrade: bool,
    out: &mut Buf,
    facts: &mut Facts,
) -> Seen {
    let Received { buf, head, fields, .. } = received;
    let mut seen = Seen::default();
    let mut run: Option<usize> = None;
    for field in *fields {
        let start = field.name.start as usize;
        let single = matches!(
            field.id,
            FieldId::XForwardedProto | FieldId::XForwardedHost | FieldId::XForwardedPort
        );
        // Of several, the one that stands last is the nearest proxy's.
        let superseded = single && !last(fields, field.id).is_some_and(|f| std::ptr::eq(f, field));
        if superseded || !keeps(field, head.version, head.method, trusted, upgrade, &mut seen) {
            if let Some(from) = run.take() {
                out.put(&buf[from..start]);
            }
            continue;
        }
        let from = *run.get_or_insert(start);
        let value_at = |out: &Buf| {
            let offset = out.len() + field.value.start as usize - from;
            OpenSpan::new(offset, offset + field.value.len())
        };
        match field.id {
            FieldId::UserAgent => facts.user_agent = value_at(out),
            FieldId::XRequestId => facts.request_id = value_at(out),
            _ => {}
        }
    }
    if let Some(from) = run {
        // Up to the empty line.
        out.put(&buf[from..head.len - 2]);
    }
    seen
}

fn keeps(
    field: &Field,
    version: Version,
    method: Method,
    trusted: bool,
    upgrade: bool,
    seen: &mut Seen,
) -> bool {
    match field.id {
        FieldId::Other | FieldId::UserAgent | FieldId::Date | FieldId::Trailer => true,
        FieldId::Expect => version == Version::Http11 && !upgrade,
        // Written anew, with what is known here.
        FieldId::XForwardedFor => {
            seen.forwarded_for |= trusted;
            false
        }
        FieldId::Forwarded => {
            seen.forwarded |= trusted;
            false
        }
        FieldId::XForwardedProto => keep(trusted, &mut seen.proto),
        FieldId::XForwardedHost => keep(trusted, &mut seen.host),
        FieldId::XForwardedPort => keep(trusted, &mut seen.port),
        FieldId::XRequestId if trusted && !seen.request_id => {
            seen.request_id = true;
            true
        }
        FieldId::MaxForwards => method != Method::Options,
        FieldId::Host
        | FieldId::Connection
        | FieldId::ContentLength
        | FieldId::TransferEncoding
        | FieldId::KeepAlive
        | FieldId::ProxyConnection
        | FieldId::Te
        | FieldId::Upgrade
        | FieldId::Http2Settings
        | FieldId::XRealIp
        | FieldId::XRequestId
        | FieldId::Nominated
        | FieldId::Alias => false,
    }
}

/// A trusted incoming value is passed on as it came.
fn keep(trusted: bool, seen: &mut bool) -> bool {
    *seen |= trusted;
    trusted
}

/// The last field of that name.
pub(super) fn last(fields: &[Field], id: FieldId) -> Option<&Field> {
    fields.iter().rfind(|field| field.id == id)
}

/// Framing and connection, as they are between here and the endpoint.
fn put_framing(received: &Received<'_>, upgrade: Option<http1::Span>, out: &mut Buf) {
    let Received { buf, head, fields, .. } = received;
    match head.framing {
        Framing::Length(length) => {
            out.put(b"Content-Length: ");
            put_display(out, length);
            out.put(b"\r\n");
        }
        Framing::Chunked => out.put(b"Transfer-Encoding: chunked\r\n"),
        Framing::Empty | Framing::UntilClose => {}
    }
    if let Some(protocols) = upgrade {
        out.put(b"Connection: Upgrade\r\nUpgrade: ");
        out.put(protocols.of(buf));
        out.put(b"\r\n");
    } else if head.te_trailers {
        out.put(b"Connection: TE\r\nTE: trailers\r\n");
    }
    if head.method == Method::Options
        && let Some(field) = fields.iter().find(|f| f.id == FieldId::MaxForwards)
        && let Ok(text) = std::str::from_utf8(field.value.of(buf))
        && let Ok(hops) = text.parse::<u32>()
    {
        out.put(b"Max-Forwards: ");
        put_display(out, hops.saturating_sub(1));
        out.put(b"\r\n");
    }
}

/// Tells the endpoint who is behind the gateway.
fn put_forwarded(
    received: &Received<'_>,
    trusted: bool,
    seen: &Seen,
    out: &mut Buf,
    facts: &mut Facts,
) {
    let Received { context, peer, buf, head, fields } = received;
    let scheme: &[u8] = if context.tls.is_some() { b"https" } else { b"http" };
    let mut ip_space = [0u8; 64];
    let ip = ip_text(*peer, &mut ip_space);
    let values = |id: FieldId| fields.iter().filter(move |field| field.id == id);
    out.put(b"X-Forwarded-For: ");
    if trusted && seen.forwarded_for {
        for field in values(FieldId::XForwardedFor) {
            out.put(field.value.of(buf));
            out.put(b", ");
        }
    }
    out.put(ip);
    out.put(b"\r\nX-Real-IP: ");
    put_real_ip(received, trusted, ip, out);
    if !seen.proto {
        out.put(b"\r\nX-Forwarded-Proto: ");
        out.put(scheme);
    }
    let host = head.authority.of(buf);
    if !seen.host {
        out.put(b"\r\nX-Forwarded-Host: ");
        out.put(host);
    }
    if !seen.port {
        out.put(b"\r\nX-Forwarded-Port: ");
        out.put(&context.port_text);
    }
    out.put(b"\r\nForwarded: ");
    if trusted && seen.forwarded {
        for field in values(FieldId::Forwarded) {
            out.put(field.value.of(buf));
            out.put(b", ");
        }
    }
    put_forwarded_element(*peer, ip, scheme, host, out);
    if !seen.request_id {
        out.put(b"\r\nX-Request-ID: ");
        facts.request_id = put_span(out, &request_id());
    }
    out.put(b"\r\n");
}

fn put_real_ip(received: &Received<'_>, trusted: bool, peer: &[u8], out: &mut Buf) {
    if !trusted {
        return out.put(peer);
    }
    let Received { context, peer, buf, fields, .. } = received;
    put_display(out, super::client_behind(context, *peer, buf, fields));
}

/// RFC 7239, 4 and 6: IPv6 in brackets and quotes, ports quoted.
fn put_forwarded_element(peer: IpAddr, ip: &[u8], scheme: &[u8], host: &[u8], out: &mut Buf) {
    match peer {
        IpAddr::V4(_) => {
            out.put(b"for=");
            out.put(ip);
        }
        IpAddr::V6(_) => {
            out.put(b"for=\"[");
            out.put(ip);
            out.put(b"]\"");
        }
    }
    if !host.is_empty() {
        out.put(b";host=\"");
        out.put(host);
        out.put(b"\"");
    }
    out.put(b";proto=");
    out.put(scheme);
}

/// An address as text.
fn ip_text(ip: IpAddr, space: &mut [u8; 64]) -> &[u8] {
    let mut length = 0;
    match ip {
        IpAddr::V4(ip) => {
            let mut put = |byte| {
                if let Some(place) = space.get_mut(length) {
                    *place = byte;
                    length += 1;
                }
            };
            for (i, octet) in ip.octets().into_iter().enumerate() {
                if i > 0 {
                    put(b'.');
                }
                if octet >= 100 {
                    put(b'0' + octet / 100);
                }
                if octet >= 10 {
                    put(b'0' + octet / 10 % 10);
                }
                put(b'0' + octet % 10);
            }
        }
        IpAddr::V6(ip) => {
            let mut rest = &mut space[..];
            // There is room for the longest address.
            let _ = write!(rest, "{ip}");
            length = 64 - rest.len();
        }
    }
    space.get(..length).unwrap_or_default()
}

/// 32 hexadecimal digits. Unique, not secret.
fn request_id() -> [u8; 32] {
    let mut id = [0; 32];
    for eight in id.as_chunks_mut().0 {
        *eight = hex(fastrand::u32(..));
    }
    id
}

/// A number's eight hexadecimal digits.
fn hex(number: u32) -> [u8; 8] {
    const ONES: u64 = 0x0101_0101_0101_0101;
    // Each half byte into a byte of its own, the upper one first.
    let mut digits = u64::from(number);
    digits = (digits | digits << 16) & 0x0000_ffff_0000_ffff;
    digits = (digits | digits << 8) & 0x00ff_00ff_00ff_00ff;
    digits = (digits | digits << 4) & 0x0f0f_0f0f_0f0f_0f0f;
    // Bytes above nine get to 16 or more with six added; those are letters.
    let letters = (digits + 6 * ONES) >> 4 & ONES;
    (digits + u64::from(b'0') * ONES + letters * u64::from(b'a' - b'9' - 1)).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_written_as_they_are_displayed() {
        for ip in ["0.0.0.0", "9.10.99.100", "255.254.1.0", "2001:db8::1", "::ffff:1.2.3.4"] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(ip_text(ip, &mut [0; 64]), ip.to_string().as_bytes());
        }
        let longest: IpAddr = "1111:2222:3333:4444:5555:6666:7777:8888".parse().unwrap();
        assert_eq!(ip_text(longest, &mut [0; 64]), longest.to_string().as_bytes());
    }

    #[test]
    fn hexadecimal_digits_are_those_of_the_number() {
        for number in [0, 9, 10, 0x0123_4567, 0x89ab_cdef, u32::MAX, 0xf0e1_9a0b] {
            assert_eq!(hex(number), *format!("{number:08x}").as_bytes());
        }
    }

    #[test]
    fn request_ids_are_32_digits_and_differ() {
        let (one, other) = (request_id(), request_id());
        assert!(one.iter().all(u8::is_ascii_hexdigit));
        assert_ne!(one, other);
    }
}
