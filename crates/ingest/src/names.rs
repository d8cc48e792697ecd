//! Host names and port names, as Kubernetes allows them.

use std::net::IpAddr;

use model::snapshot::HostMatch;

/// Parses an Ingress host: an RFC 1123 subdomain in lower case, or `*.` and one.
///
/// # Errors
/// The reason, in words for a diagnostic.
pub(crate) fn host(text: &str) -> Result<HostMatch, &'static str> {
    if text.parse::<IpAddr>().is_ok() {
        return Err("an address is not a host name");
    }
    match text.strip_prefix("*.") {
        Some(suffix) => subdomain(suffix).map(|()| HostMatch::Wildcard(suffix.to_owned())),
        None if text.contains('*') => Err("a wildcard may only stand for the whole first label"),
        None => subdomain(text).map(|()| HostMatch::Exact(text.to_owned())),
    }
}

/// Checks an RFC 1123 subdomain: labels of lower-case letters, digits and inner hyphens.
pub(crate) fn subdomain(text: &str) -> Result<(), &'static str> {
    if text.is_empty() {
        return Err("the name is empty");
    }
    if text.len() > 253 {
        return Err("the name is longer than 253 characters");
    }
    for label in text.split('.') {
        if label.is_empty() {
            return Err("the name has an empty label");
        }
        if label.len() > 63 {
            return Err("a label is longer than 63 characters");
        }
        if label.bytes().any(|byte| byte.is_ascii_uppercase()) {
            return Err("the name has upper-case letters");
        }
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
        if !label.bytes().all(allowed) {
            return Err("the name has characters other than a-z, 0-9, '-' and '.'");
        }
        if label.starts_with('-') || label.ends_with('-') {
            return Err("a label starts or ends with '-'");
        }
    }
    Ok(())
}

/// Checks a Service port's name (RFC 6335, section 5.1, in lower case).
pub(crate) fn port_name(text: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    if text.is_empty() || text.len() > 15 {
        return Err("a port's name has 1 to 15 characters");
    }
    if !text.bytes().all(allowed) {
        return Err("a port's name has only a-z, 0-9 and '-'");
    }
    if !text.bytes().any(|byte| byte.is_ascii_lowercase()) {
        return Err("a port's name has at least one letter");
    }
    if text.starts_with('-') || text.ends_with('-') || text.contains("--") {
        return Err("a port's name has '-' only between other characters, and singly");
    }
    Ok(())
}

/// Checks a port's number.
pub(crate) fn port_number(number: i32) -> Option<u16> {
    u16::try_from(number).ok().filter(|&number| number != 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_are_names_or_a_wildcard_over_a_name() {
        assert_eq!(host("a.b"), Ok(HostMatch::Exact("a.b".into())));
        assert_eq!(host("*.a.b"), Ok(HostMatch::Wildcard("a.b".into())));
        let refused = [
            "", "*", "*.", "a.*.b", "*a.b", "A.b", "a b", "a..b", "a.b.", ".a", "-a.b", "a-.b",
            "10.0.0.1", "::1", "a.b:80", "a_b.c", "ä.b", "*.*.a",
        ];
        for text in refused {
            assert!(host(text).is_err(), "{text:?} was accepted");
        }
        assert!(host(&format!("{}.b", "a".repeat(63))).is_ok());
        assert!(host(&format!("{}.b", "a".repeat(64))).is_err());
        assert!(host(&["a"; 128].join(".")).is_err());
    }

    #[test]
    fn port_names_follow_rfc_6335() {
        for text in ["http", "h2", "a-b", "123456789012345a".get(1..).unwrap()] {
            assert!(port_name(text).is_ok(), "{text:?} was refused");
        }
        for text in ["", "80", "HTTP", "-a", "a-", "a--b", "a.b", "abcdefghijklmnop"] {
            assert!(port_name(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn port_numbers_are_1_to_65535() {
        assert_eq!(port_number(65535), Some(65535));
        for number in [0, -1, 65536] {
            assert_eq!(port_number(number), None);
        }
    }
}
