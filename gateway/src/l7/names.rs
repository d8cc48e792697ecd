//! Names and addresses in the form that rules are matched against.

use std::net::{IpAddr, SocketAddr};

/// A host in lower case and without a trailing dot; empty where it is longer than any name.
pub(crate) fn host_for_matching<'a>(host: &[u8], space: &'a mut [u8; 256]) -> &'a str {
    let host = host.strip_suffix(b".").unwrap_or(host);
    let Some(space) = space.get_mut(..host.len()) else { return "" };
    for (to, from) in space.iter_mut().zip(host) {
        *to = from.to_ascii_lowercase();
    }
    std::str::from_utf8(space).unwrap_or_default()
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
