//! From facts to a packed record (on the worker) to a line of JSON (on the writer).

use std::io::Write;
use std::net::{IpAddr, SocketAddr};

use super::Entry;

/// How many texts a record has.
const TEXTS: usize = 7;
/// Bytes of a record before its texts: numbers, status, flags, two addresses, the texts' lengths.
const FIXED: usize = 5 * 8 + 2 + 1 + 2 * ADDRESS + 2 * TEXTS;
/// Bytes of an address: its family (0, 4 or 6), room for an IPv6 address, the port.
const ADDRESS: usize = 1 + 16 + 2;

/// Appends a record. Lengths are capped so that two bytes hold them.
#[inline]
pub(super) fn pack(entry: &Entry<'_>, unix_us: u64, out: &mut Vec<u8>) {
    let us = |d: std::time::Duration| u64::try_from(d.as_micros()).unwrap_or(u64::MAX);
    let cap = |text: &'_ [u8]| text.len().min(usize::from(u16::MAX));
    let texts: [&[u8]; TEXTS] = [
        entry.method,
        entry.host,
        entry.path,
        entry.labels.as_bytes(),
        entry.request_id,
        entry.user_agent,
        entry.error.as_bytes(),
    ];
    // Put together on the stack, so that the batch is grown once for all of it.
    let mut fixed = [0; FIXED];
    let mut rest = &mut fixed[..];
    let mut put = |bytes: &[u8]| {
        if let Some((room, after)) = std::mem::take(&mut rest).split_at_mut_checked(bytes.len()) {
            room.copy_from_slice(bytes);
            rest = after;
        }
    };
    put(&unix_us.to_le_bytes());
    put(&entry.received.to_le_bytes());
    put(&entry.sent.to_le_bytes());
    put(&us(entry.duration).to_le_bytes());
    put(&us(entry.upstream_duration).to_le_bytes());
    put(&entry.status.to_le_bytes());
    put(&[u8::from(entry.tls) | u8::from(entry.http10) << 1]);
    put(&address(Some(entry.client), 0));
    put(&address(entry.upstream.map(|u| u.ip()), entry.upstream.map_or(0, |u| u.port())));
    for text in texts {
        put(&(cap(text) as u16).to_le_bytes());
    }
    out.extend_from_slice(&fixed);
    for text in texts {
        out.extend_from_slice(&text[..cap(text)]);
    }
}

fn address(ip: Option<IpAddr>, port: u16) -> [u8; ADDRESS] {
    let mut packed = [0; ADDRESS];
    let [family, octets @ .., low, high] = &mut packed;
    [*low, *high] = port.to_le_bytes();
    match ip {
        None => {}
        Some(IpAddr::V4(ip)) => {
            *family = 4;
            octets[..4].copy_from_slice(&ip.octets());
        }
        Some(IpAddr::V6(ip)) => {
            *family = 6;
            *octets = ip.octets();
        }
    }
    packed
}

/// A position in packed records.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (head, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*head)
    }

    fn u64(&mut self) -> Option<u64> {
        self.take().map(u64::from_le_bytes)
    }

    fn u16(&mut self) -> Option<u16> {
        self.take().map(u16::from_le_bytes)
    }

    fn address(&mut self) -> Option<Option<SocketAddr>> {
        let [family] = self.take()?;
        let octets: [u8; 16] = self.take()?;
        let port = self.u16()?;
        let [a, b, c, d, ..] = octets;
        let ip: IpAddr = match family {
            4 => [a, b, c, d].into(),
            6 => octets.into(),
            _ => return Some(None),
        };
        Some(Some(SocketAddr::new(ip, port)))
    }

    fn text(&mut self, len: u16) -> Option<&'a [u8]> {
        let (text, rest) = self.0.split_at_checked(usize::from(len))?;
        self.0 = rest;
        Some(text)
    }
}

/// Turns packed records into lines of JSON.
pub(super) fn unpack(packed: &[u8], out: &mut Vec<u8>) {
    let mut reader = Reader(packed);
    let mut clock = Clock::default();
    while !reader.0.is_empty() {
        // `pack` is the only writer, so a record is always whole.
        if unpack_one(&mut reader, &mut clock, out).is_none() {
            return;
        }
    }
}

fn unpack_one(reader: &mut Reader<'_>, clock: &mut Clock, out: &mut Vec<u8>) -> Option<()> {
    let unix_us = reader.u64()?;
    let (received, sent) = (reader.u64()?, reader.u64()?);
    let (duration, upstream_duration) = (reader.u64()?, reader.u64()?);
    let status = reader.u16()?;
    let [flags] = reader.take::<1>()?;
    let client = reader.address()?;
    let upstream = reader.address()?;
    let mut lengths = [0; TEXTS];
    for length in &mut lengths {
        *length = reader.u16()?;
    }
    let [method, host, path, labels, request_id, user_agent, error] = lengths;
    out.extend_from_slice(b"{\"time\":\"");
    clock.put(unix_us, out);
    if let Some(client) = client {
        out.extend_from_slice(b"\",\"client\":\"");
        put_ip(client.ip(), out);
    }
    out.extend_from_slice(match flags & 1 {
        1 => b"\",\"scheme\":\"https\",\"protocol\":\"HTTP/1.".as_slice(),
        _ => b"\",\"scheme\":\"http\",\"protocol\":\"HTTP/1.",
    });
    out.extend_from_slice(if flags & 2 == 2 { b"0\"" } else { b"1\"" });
    for (name, length) in [("method", method), ("host", host), ("path", path)] {
        string(name, reader.text(length)?, true, out);
    }
    out.extend_from_slice(b",\"status\":");
    put_number(status.into(), out);
    out.extend_from_slice(b",\"received\":");
    put_number(received, out);
    out.extend_from_slice(b",\"sent\":");
    put_number(sent, out);
    out.extend_from_slice(b",\"duration_ms\":");
    put_milliseconds(duration, out);
    if let Some(upstream) = upstream {
        out.extend_from_slice(b",\"upstream\":\"");
        put_socket(upstream, out);
        out.extend_from_slice(b"\",\"upstream_ms\":");
        put_milliseconds(upstream_duration, out);
    }
    out.extend_from_slice(reader.text(labels)?);
    for (name, length) in [("request_id", request_id), ("user_agent", user_agent), ("error", error)]
    {
        string(name, reader.text(length)?, false, out);
    }
    out.extend_from_slice(b"}\n");
    Some(())
}

/// See [`super::labels`].
pub(super) fn labels(ingress: &str, service: &str) -> String {
    let mut out = Vec::new();
    string("ingress", ingress.as_bytes(), false, &mut out);
    string("service", service.as_bytes(), false, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

/// Adds a member; empty ones only where `always`.
fn string(name: &str, value: &[u8], always: bool, out: &mut Vec<u8>) {
    if value.is_empty() && !always {
        return;
    }
    out.extend_from_slice(b",\"");
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b"\":\"");
    // Written as a fold without early exit, so that it becomes vector code.
    let special = value
        .iter()
        .fold(false, |any, &b| any | !(0x20..0x7f).contains(&b) | (b == b'"') | (b == b'\\'));
    if special {
        escaped(value, out)
    } else {
        out.extend_from_slice(value)
    }
    out.push(b'"');
}

fn escaped(value: &[u8], out: &mut Vec<u8>) {
    for chunk in value.utf8_chunks() {
        for &b in chunk.valid().as_bytes() {
            match b {
                b'"' | b'\\' => out.extend_from_slice(&[b'\\', b]),
                0..=0x1f | 0x7f => {
                    // Writing to a Vec can't fail.
                    let _ = write!(out, "\\u{b:04x}");
                }
                _ => out.push(b),
            }
        }
        if !chunk.invalid().is_empty() {
            out.extend_from_slice("\u{fffd}".as_bytes());
        }
    }
}

fn put_number(mut number: u64, out: &mut Vec<u8>) {
    let mut digits = [0u8; 20];
    let mut at = digits.len();
    for slot in digits.iter_mut().rev() {
        *slot = b'0' + (number % 10) as u8;
        number /= 10;
        at -= 1;
        if number == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

/// Microseconds as milliseconds with three decimals.
fn put_milliseconds(us: u64, out: &mut Vec<u8>) {
    put_number(us / 1000, out);
    let rest = us % 1000;
    let decimals = [100, 10, 1].map(|unit| b'0' + (rest / unit % 10) as u8);
    out.push(b'.');
    out.extend_from_slice(&decimals);
}

fn put_ip(ip: IpAddr, out: &mut Vec<u8>) {
    match ip {
        IpAddr::V4(ip) => {
            for (i, octet) in ip.octets().into_iter().enumerate() {
                if i > 0 {
                    out.push(b'.');
                }
                put_number(octet.into(), out);
            }
        }
        IpAddr::V6(ip) => {
            // Writing to a Vec can't fail.
            let _ = write!(out, "{ip}");
        }
    }
}

fn put_socket(address: SocketAddr, out: &mut Vec<u8>) {
    let is_v6 = address.is_ipv6();
    if is_v6 {
        out.push(b'[');
    }
    put_ip(address.ip(), out);
    out.extend_from_slice(if is_v6 { b"]:" } else { b":" });
    put_number(address.port().into(), out);
}

/// Writes times; neighbours mostly share their second.
#[derive(Default)]
struct Clock {
    second: u64,
    text: Vec<u8>,
}

impl Clock {
    /// RFC 3339 in UTC with microseconds.
    fn put(&mut self, unix_us: u64, out: &mut Vec<u8>) {
        let (second, us) = (unix_us / 1_000_000, unix_us % 1_000_000);
        if second != self.second || self.text.is_empty() {
            self.second = second;
            self.text.clear();
            let at = crate::l7::date::Civil::from_unix(second);
            // Writing to a Vec can't fail.
            let _ = write!(
                self.text,
                "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}.",
                at.year, at.month, at.day, at.hour, at.minute, at.second
            );
        }
        out.extend_from_slice(&self.text);
        let decimals =
            [100_000, 10_000, 1000, 100, 10, 1].map(|unit| b'0' + (us / unit % 10) as u8);
        out.extend_from_slice(&decimals);
        out.push(b'Z');
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_record_becomes_one_line_of_valid_json() {
        let entry = Entry {
            client: "2001:db8::1".parse().unwrap(),
            tls: true,
            method: b"GET",
            host: b"a\"b",
            path: b"/x\\\x01\xff",
            http10: false,
            status: 200,
            received: 1,
            sent: 2,
            at: std::time::Instant::now(),
            duration: Duration::from_micros(1234),
            upstream: Some("127.0.0.1:80".parse().unwrap()),
            upstream_duration: Duration::from_micros(5),
            labels: &labels("a/b", ""),
            request_id: b"id",
            user_agent: b"curl",
            error: "",
        };
        let mut packed = Vec::new();
        pack(&entry, 1_700_000_000_000_001, &mut packed);
        pack(&entry, 1_700_000_000_000_001, &mut packed);
        let mut lines = Vec::new();
        unpack(&packed, &mut lines);
        let text = String::from_utf8(lines).unwrap();
        assert_eq!(text.lines().count(), 2);
        let json: serde_json::Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
        assert_eq!(json["time"], "2023-11-14T22:13:20.000001Z");
        assert_eq!(json["host"], "a\"b");
        assert_eq!(json["path"], "/x\\\u{1}\u{fffd}");
        assert_eq!(json["duration_ms"], 1.234);
        assert_eq!(json["upstream"], "127.0.0.1:80");
        assert_eq!(json["ingress"], "a/b");
        assert!(json.get("service").is_none());
    }
}
