//! Paths in the form that rules are matched against: one form for traffic and for `explain`.

use std::borrow::Cow;

/// A path that can't be read in one way: a broken escape, NUL, or one that climbs above the root.
#[derive(Debug, PartialEq, Eq)]
pub struct BadPath;

/// The path with escapes decoded, dot segments removed (RFC 3986, 6.2.2) and repeated slashes
/// merged, as nginx matches it: an endpoint may read the path this way too, so a rule about
/// `/admin` must hold for `//admin` and `/%61dmin`. What goes upstream stays as the client sent it.
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
    if is_plain(path) {
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
            "" if !last => {}
            _ => segments.push(part),
        }
    }
    Ok(Cow::Owned(format!("/{}", segments.join("/"))))
}

/// Whether the path stands for itself.
fn is_plain(path: &[u8]) -> bool {
    let mut before = 0;
    path.iter().all(|&b| {
        let plain = b != b'%' && !(before == b'/' && matches!(b, b'/' | b'.'));
        before = b;
        plain
    })
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

/// Whether the path has a `.` or `..` segment, written plainly or with escapes.
pub fn has_dot_segments(path: &[u8]) -> bool {
    if is_plain(path) {
        return false;
    }
    decode(path).is_ok_and(|decoded| {
        decoded.split(|&b| b == b'/').any(|segment| matches!(segment, b"." | b".."))
    })
}

/// A decoded path in the form in which it may stand in a request line: everything but `pchar` and
/// `/` is percent-encoded (RFC 3986, 3.3).
pub fn encode(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for &b in path.as_bytes() {
        match b {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => out.push(b as char),
            b'/' | b'-' | b'.' | b'_' | b'~' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*'
            | b'+' | b',' | b';' | b'=' | b':' | b'@' => out.push(b as char),
            _ => out.push_str(&format!("%{b:02X}")),
        }
    }
    out
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
            ("/a//b/", "/a/b/"),
            ("//a", "/a"),
            ("//", "/"),
            ("/a/%2F/b", "/a/b"),
            ("/a//../b", "/b"),
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
}
