//! Authorities: `host[:port]` (RFC 9110, 4.2; RFC 3986, 3.2.2).

/// A valid authority's parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Authority<'a> {
    /// The name or address as sent; an IPv6 address with its brackets.
    pub host: &'a [u8],
    /// The port, where one is given.
    pub port: Option<u16>,
}

/// Reads an authority without user information; none where it is not valid or empty.
pub fn authority(value: &[u8]) -> Option<Authority<'_>> {
    let host_end = match value {
        [b'[', rest @ ..] => {
            let close = memchr::memchr(b']', rest)?;
            let address = std::str::from_utf8(rest.get(..close)?).ok()?;
            address.parse::<std::net::Ipv6Addr>().ok()?;
            close + 2
        }
        _ => value.iter().position(|&b| b == b':').unwrap_or(value.len()),
    };
    let (host, rest) = value.split_at_checked(host_end)?;
    let port = match rest {
        [] | [b':'] => None,
        [b':', digits @ ..] => {
            let port = crate::bytes::decimal(digits)?;
            Some(u16::try_from(port).ok()?)
        }
        _ => return None,
    };
    if host.is_empty() || host.len() > 255 {
        return None;
    }
    if !matches!(host, [b'[', ..]) && !host.iter().all(|&b| is_reg_name(b)) {
        return None;
    }
    Some(Authority { host, port })
}

/// What may stand in a registered name: unreserved and sub-delims. Percent-encoding is left out:
/// no host rule can match it, and parties differ in whether they decode it.
fn is_reg_name(b: u8) -> bool {
    b.is_ascii_alphanumeric()
        || matches!(
            b,
            b'-' | b'.'
                | b'_'
                | b'~'
                | b'!'
                | b'$'
                | b'&'
                | b'\''
                | b'('
                | b')'
                | b'*'
                | b'+'
                | b','
                | b';'
                | b'='
        )
}
