//! Names and paths in the form that rules are matched against.

use std::borrow::Cow;
use std::net::{IpAddr, SocketAddr};

/// A path that can't be read in one way: a broken escape, NUL, or one that climbs above the root.
#[derive(Debug, PartialEq, Eq)]
pub struct BadPath;

/// A host in lower case and without a trailing dot; empty where it is longer than any name.
pub(crate) fn host_for_matching<'a>(host: &[u8], space: &'a mut [u8; 256]) -> &'a str {
    let host = host.strip_suffix(b".").unwrap_or(host);
    let Some(space) = space.get_mut(..host.len()) else { return "" };
    for (to, from) in space.iter_mut().zip(host) {
        *to = from.to_ascii_lowercase();
    }
    std::str::from_utf8(space).unwrap_or_default()
}

/// The path with escapes decoded and dot segments removed (RFC 3986, 6.2.2), as nginx matches it.
/// The path that goes upstream stays as the client sent it.
///
/// # Errors
/// [`BadPath`], which deserves a 400.
pub fn for_matching(path: &[u8]) -> Result<Cow<'_, str>, BadPath> {
    match path {
        b"" => return Ok(Cow::Borrowed("/")),
        [b'/', ..] => {}
        // The asterisk form matches no path rule but the default backend's.
        _ => return std::str::from_utf8(path).map(Cow::Borrowed).map_err(|_| BadPath),
    }
    let plain = !path.contains(&b'%') && !path.windows(2).any(|w| w == b"/.");
    if plain {
        return std::str::from_utf8(path).map(Cow::Borrowed).map_err(|_| BadPath);
    }
    let decoded = decode(path)?;
    let decoded = String::from_utf8_lossy(&decoded);
    let mut segments: Vec<&str> = Vec::new();
    let mut parts = decoded.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." && segments.pop().is_none() {
                    return Err(BadPath);
                }
                if last {
                    segments.push("");
                }
            }
            _ => segments.push(part),
        }
    }
    Ok(Cow::Owned(format!("/{}", segments.join("/"))))
}

fn decode(path: &[u8]) -> Result<Vec<u8>, BadPath> {
    let mut out = Vec::with_capacity(path.len());
    let mut rest = path;
    loop {
        match rest {
            [] => return Ok(out),
            [b'%', high, low, tail @ ..] => {
                let digit = |b: u8| (b as char).to_digit(16).ok_or(BadPath);
                let byte = (digit(*high)? << 4 | digit(*low)?) as u8;
                if byte == 0 {
                    return Err(BadPath);
                }
                out.push(byte);
                rest = tail;
            }
            [b'%', ..] => return Err(BadPath),
            [b, tail @ ..] => {
                out.push(*b);
                rest = tail;
            }
        }
    }
}

/// An address as a member of X-Forwarded-For has it: bare, or with a port.
pub(crate) fn parse_forwarded_for(member: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(member).ok()?.trim();
    text.parse().ok().or_else(|| {
        text.parse::<SocketAddr>().ok().map(|a| a.ip()).or_else(|| {
            text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).and_then(|t| t.parse().ok())
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_decoded_and_without_dot_segments() {
        for (path, expected) in [
            ("/", "/"),
            ("", "/"),
            ("/a/b", "/a/b"),
            ("/a%2Fb", "/a/b"),
            ("/%61", "/a"),
            ("/a/./b/../c", "/a/c"),
            ("/a/..", "/"),
            ("/a/.", "/a/"),
            ("/a/.b", "/a/.b"),
            ("/a//b/", "/a//b/"),
            ("/%2e%2e/", "!"),
            ("/..", "!"),
            ("/%", "!"),
            ("/%4", "!"),
            ("/%zz", "!"),
            ("/a%00", "!"),
        ] {
            let got = for_matching(path.as_bytes());
            assert_eq!(got.as_deref().unwrap_or("!"), expected, "{path}");
        }
    }

    #[test]
    fn hosts_are_matched_in_lower_case_without_the_last_dot() {
        assert_eq!(host_for_matching(b"Foo.COM.", &mut [0; 256]), "foo.com");
        assert_eq!(host_for_matching(&[b'a'; 300], &mut [0; 256]), "");
    }

    #[test]
    fn forwarded_for_members_may_have_ports() {
        for text in ["192.0.2.1", " 192.0.2.1:80 "] {
            assert_eq!(parse_forwarded_for(text.as_bytes()), "192.0.2.1".parse().ok());
        }
        assert_eq!(parse_forwarded_for(b"[2001:db8::1]"), "2001:db8::1".parse().ok());
        assert_eq!(parse_forwarded_for(b"unknown"), None);
    }
}
