//! The name in a TLS ClientHello (RFC 8446, 4.1.2; RFC 6066, 3), without taking part in the
//! handshake.
//!
//! Pure: bytes in, a name out. The hello may be torn over records and segments.

use std::net::IpAddr;

/// The most bytes that are waited for, records' headers included.
pub(crate) const MOST: usize = 16 * 1024;

/// A fatal `unrecognized_name` alert (RFC 8446, 6.2), for names that nobody serves.
pub(crate) const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

const HANDSHAKE: u8 = 22;
const CLIENT_HELLO: u8 = 1;
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;
/// Plaintext of a record (RFC 8446, 5.1).
const RECORD_MOST: usize = 1 << 14;

/// A piece, and what follows it.
type Split<'a> = (&'a [u8], &'a [u8]);

/// What the bytes hold so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hello {
    /// Not all of it.
    More,
    /// The name that is asked for, lower-case, without a final dot; none where there is none.
    Name(Option<String>),
}

/// Why bytes are no ClientHello.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HelloError {
    #[error("no TLS handshake")]
    NotTls,
    #[error("the ClientHello is longer than 16 KiB")]
    TooLong,
    #[error("broken ClientHello")]
    Broken,
}

/// Reads on from the first byte.
///
/// # Errors
/// As soon as the bytes can't become a ClientHello.
pub(crate) fn read(bytes: &[u8]) -> Result<Hello, HelloError> {
    // Nearly always it is one record, and nothing is copied.
    let mut message: Vec<u8> = Vec::new();
    let mut rest = bytes;
    while let Some((payload, after)) = record(rest)? {
        if message.is_empty() && whole(payload)?.is_some() {
            return name(payload);
        }
        message.extend_from_slice(payload);
        if whole(&message)?.is_some() {
            return name(&message);
        }
        rest = after;
    }
    // What is known of the length already must fit.
    whole(&message)?;
    if bytes.len() >= MOST { Err(HelloError::TooLong) } else { Ok(Hello::More) }
}

/// The first record's payload and what follows; none while it isn't all there.
fn record(bytes: &[u8]) -> Result<Option<Split<'_>>, HelloError> {
    // Refused by the first bytes that are wrong, so that other protocols don't wait.
    if bytes.first().is_some_and(|kind| *kind != HANDSHAKE)
        || bytes.get(1).is_some_and(|major| *major != 3)
    {
        return Err(HelloError::NotTls);
    }
    let Some((header, rest)) = bytes.split_first_chunk::<5>() else { return Ok(None) };
    let len = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if len == 0 || len > RECORD_MOST {
        return Err(HelloError::Broken);
    }
    Ok(rest.split_at_checked(len))
}

/// The message's length if all of it is there.
fn whole(message: &[u8]) -> Result<Option<usize>, HelloError> {
    let Some(kind) = message.first() else { return Ok(None) };
    if *kind != CLIENT_HELLO {
        return Err(HelloError::NotTls);
    }
    let Some(&[_, a, b, c]) = message.first_chunk::<4>() else { return Ok(None) };
    let len = 4 + u32::from_be_bytes([0, a, b, c]) as usize;
    if len > MOST {
        return Err(HelloError::TooLong);
    }
    Ok((message.len() >= len).then_some(len))
}

/// The name in a message that is whole.
fn name(message: &[u8]) -> Result<Hello, HelloError> {
    let len = whole(message)?.ok_or(HelloError::Broken)?;
    let body = message.get(4..len).ok_or(HelloError::Broken)?;
    server_name(body).ok_or(HelloError::Broken).map(Hello::Name)
}

/// The outer none is a broken hello, the inner one a hello without a name.
#[allow(clippy::option_option)] // reason: the two say different things, and no caller keeps them
fn server_name(body: &[u8]) -> Option<Option<String>> {
    // legacy_version, random
    let mut rest = body.get(2 + 32..)?;
    let (_session, after) = vector::<1>(rest)?;
    let (_suites, after) = vector::<2>(after)?;
    let (_compression, after) = vector::<1>(after)?;
    if after.is_empty() {
        return Some(None);
    }
    let (mut extensions, end) = vector::<2>(after)?;
    if !end.is_empty() {
        return None;
    }
    while !extensions.is_empty() {
        let (kind, after) = extensions.split_first_chunk::<2>()?;
        let (data, after) = vector::<2>(after)?;
        extensions = after;
        if u16::from_be_bytes(*kind) != SERVER_NAME {
            continue;
        }
        (rest, _) = vector::<2>(data)?;
        while let Some((kind, after)) = rest.split_first() {
            let (name, after) = vector::<2>(after)?;
            if *kind == HOST_NAME {
                return host(name).map(Some);
            }
            rest = after;
        }
    }
    Some(None)
}

/// A DNS name; an address is none (RFC 6066, 3).
fn host(name: &[u8]) -> Option<String> {
    let name = std::str::from_utf8(name).ok()?;
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
    let valid = !name.is_empty()
        && name.len() <= 253
        && name.bytes().all(fits)
        && name.parse::<IpAddr>().is_err();
    valid.then(|| name.to_ascii_lowercase())
}

/// A vector behind a length of `N` bytes, and what follows it.
fn vector<const N: usize>(bytes: &[u8]) -> Option<Split<'_>> {
    let (len, rest) = bytes.split_first_chunk::<N>()?;
    let len = len.iter().fold(0, |len, byte| len << 8 | usize::from(*byte));
    rest.split_at_checked(len)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A real client's hello for the name.
    fn hello(name: &str) -> Vec<u8> {
        let config = rustls::ClientConfig::builder_with_provider(
            rustls::crypto::aws_lc_rs::default_provider().into(),
        )
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth();
        let name = name.to_owned().try_into().unwrap();
        let mut client = rustls::ClientConnection::new(config.into(), name).unwrap();
        let mut bytes = Vec::new();
        client.write_tls(&mut bytes).unwrap();
        bytes
    }

    fn named(name: &str) -> Result<Hello, HelloError> {
        Ok(Hello::Name(Some(name.to_owned())))
    }

    /// The same message in records of so many bytes.
    fn torn(bytes: &[u8], size: usize) -> Vec<u8> {
        let pieces = bytes[5..].chunks(size);
        pieces.flat_map(|p| [&[22, 3, 1, 0, p.len() as u8][..], p].concat()).collect()
    }

    #[test]
    fn the_name_of_a_real_hello_is_found_once_all_of_it_is_there() {
        let bytes = hello("Shop.Example.org");
        assert_eq!(read(&bytes), named("shop.example.org"));
        assert_eq!(read(&[&bytes[..], b"more"].concat()), named("shop.example.org"));
        for cut in 0..bytes.len() {
            assert_eq!(read(&bytes[..cut]), Ok(Hello::More), "cut at {cut}");
        }
    }

    #[test]
    fn a_hello_torn_over_many_records_is_put_together() {
        let bytes = hello("shop.example.org");
        for size in [1, 3, 4, 100, 255] {
            let torn = torn(&bytes, size);
            assert_eq!(read(&torn), named("shop.example.org"), "records of {size}");
            for cut in (0..torn.len()).step_by(7) {
                assert_eq!(read(&torn[..cut]), Ok(Hello::More), "records of {size} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_hello_to_an_address_has_no_name() {
        assert_eq!(read(&hello("192.0.2.1")), Ok(Hello::Name(None)));
    }

    #[test]
    fn other_protocols_are_refused_by_their_first_byte() {
        assert_eq!(read(b"G"), Err(HelloError::NotTls));
        assert_eq!(read(b"\x16\x02"), Err(HelloError::NotTls));
        assert_eq!(read(b"\x16\x03\x01\x00\x04\x02\x00\x00\x00"), Err(HelloError::NotTls));
    }

    #[test]
    fn a_hello_beyond_the_bound_is_refused_by_its_length() {
        assert_eq!(
            read(b"\x16\x03\x01\x00\x04\x01\x01\x00\x00"),
            Err(HelloError::TooLong),
            "65,540 bytes are announced"
        );
        // Empty records would never end.
        assert_eq!(read(b"\x16\x03\x01\x00\x00"), Err(HelloError::Broken));
    }

    #[test]
    fn no_bytes_make_it_fail_and_more_bytes_never_change_what_was_found() {
        let mut random = fastrand::Rng::with_seed(7);
        let seeds = [hello("shop.example.org"), torn(&hello("a.b"), 50), hello("192.0.2.1")];
        for _ in 0..20_000 {
            let mut bytes = seeds[random.usize(..seeds.len())].clone();
            for _ in 0..random.usize(..4) {
                let at = random.usize(..bytes.len());
                match random.u8(..3) {
                    0 => bytes[at] = random.u8(..),
                    1 => bytes.insert(at, random.u8(..)),
                    _ => drop(bytes.remove(at)),
                }
            }
            let whole = read(&bytes);
            let cut = random.usize(..=bytes.len());
            match read(&bytes[..cut]) {
                Ok(Hello::More) => {}
                Err(_) => assert!(whole.is_err(), "{bytes:?} cut at {cut}"),
                found => assert_eq!(found, whole, "{bytes:?} cut at {cut}"),
            }
        }
    }
}
