//! The values of annotations. Every error is a reason in words for a diagnostic.

use std::net::IpAddr;
use std::time::Duration;

use ipnet::IpNet;
use model::settings::canonical_network;
use model::snapshot::Balance;

use super::Value;
use crate::names;

/// The longest time-out that is taken: a year.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 3600);

/// A boolean in the spellings of Go's `strconv.ParseBool`, which ingress-nginx uses.
pub(crate) fn boolean(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("neither true nor false".to_owned()),
    }
}

/// A time-out: seconds, and under our own prefix also with a unit.
pub(super) fn timeout(value: Value<'_>) -> Result<Duration, String> {
    let digits = value.text.trim_end_matches(|char: char| char.is_ascii_alphabetic());
    let unit = &value.text[digits.len()..];
    let number: u64 = digits.parse().map_err(|_| "not a number of seconds".to_owned())?;
    let duration = match unit {
        "" => Some(Duration::from_secs(number)),
        _ if !value.own => return Err("not a number of seconds".to_owned()),
        "ms" => Some(Duration::from_millis(number)),
        "s" => Some(Duration::from_secs(number)),
        "m" => number.checked_mul(60).map(Duration::from_secs),
        "h" => number.checked_mul(3600).map(Duration::from_secs),
        _ => return Err("not a duration".to_owned()),
    };
    duration
        .filter(|duration| !duration.is_zero() && *duration <= LONGEST)
        .ok_or_else(|| "not more than 0 and at most a year".to_owned())
}

/// A time-out under our own prefix.
pub(crate) fn own_timeout(text: &str) -> Result<Duration, String> {
    timeout(Value { text, own: true })
}

/// A size as nginx writes it; 0 means no limit and becomes `u64::MAX`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let wrong = || "not a size".to_owned();
    let (digits, factor) = match text.char_indices().last() {
        Some((at, 'k' | 'K')) => (&text[..at], 1 << 10),
        Some((at, 'm' | 'M')) => (&text[..at], 1 << 20),
        Some((at, 'g' | 'G')) => (&text[..at], 1 << 30),
        _ => (text, 1),
    };
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(wrong());
    }
    let number: u64 = digits.parse().map_err(|_| wrong())?;
    match number.checked_mul(factor).ok_or_else(wrong)? {
        0 => Ok(u64::MAX),
        size => Ok(size),
    }
}

/// A list of networks and addresses, sorted, not empty.
pub(super) fn networks(text: &str) -> Result<Vec<IpNet>, String> {
    let mut networks = Vec::new();
    for item in text.split(',').map(str::trim) {
        let network = item
            .parse::<IpNet>()
            .or_else(|_| item.parse::<IpAddr>().map(IpNet::from))
            .map_err(|_| format!("{item:?} is not an address or network"))?;
        networks.push(canonical_network(network.trunc()));
    }
    networks.sort();
    networks.dedup();
    Ok(networks)
}

/// A choice of endpoint.
pub(super) fn balance(text: &str) -> Result<Balance, String> {
    match text {
        "round_robin" => Ok(Balance::RoundRobin),
        // ingress-nginx's peak EWMA also draws two and takes the one less busy.
        "ewma" | "least_requests" => Ok(Balance::LeastRequests),
        _ => Err("not a known way to choose an endpoint, so least_requests is used".to_owned()),
    }
}

/// The status code of a redirect that keeps or drops the method.
pub(super) fn redirect_code(text: &str) -> Result<u16, String> {
    match text.parse() {
        Ok(code @ (301 | 302 | 303 | 307 | 308)) => Ok(code),
        _ => Err("not a redirect's status code, so the usual one is used".to_owned()),
    }
}

/// A Location header's value: an absolute URL or a path, without nginx's variables.
pub(super) fn location(text: &str) -> Result<String, String> {
    visible(text)?;
    no_variables(text)?;
    let absolute = ["http://", "https://"]
        .iter()
        .filter_map(|scheme| text.strip_prefix(scheme))
        .any(|rest| !rest.starts_with('/') && !rest.is_empty());
    let relative = text.starts_with('/') && !text.starts_with("//");
    if absolute || relative {
        Ok(text.to_owned())
    } else {
        Err("neither an http or https URL nor a path".to_owned())
    }
}

/// A path on the same host.
pub(super) fn local_path(text: &str) -> Result<String, String> {
    let path = location(text)?;
    if path.starts_with('/') { Ok(path) } else { Err("not a path".to_owned()) }
}

/// A template for the upstream's path.
pub(super) fn rewrite(text: &str) -> Result<String, String> {
    visible(text)?;
    if text.contains(['?', '#']) {
        return Err("a query or fragment can't be rewritten".to_owned());
    }
    let mut rest = text;
    while let Some((_, after)) = rest.split_once('$') {
        if !after.starts_with(|char: char| ('1'..='9').contains(&char)) {
            return Err("only $1 to $9 have a meaning here".to_owned());
        }
        rest = after;
    }
    if text.starts_with(['/', '$']) {
        Ok(text.to_owned())
    } else {
        Err("the path does not start with '/'".to_owned())
    }
}

/// Whether a template refers to a regular expression's groups.
pub(crate) fn has_groups(template: &str) -> bool {
    template.contains('$')
}

/// A Host header's value: a name or address, and a port if need be.
pub(super) fn authority(text: &str) -> Result<String, String> {
    no_variables(text)?;
    let wrong = |reason: &str| format!("not a host: {reason}");
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((ipv6, port)) => {
            let ipv6 = ipv6.parse::<std::net::Ipv6Addr>();
            ipv6.map_err(|_| wrong("the brackets hold no IPv6 address"))?;
            (None, port)
        }
        None => {
            let end = text.find(':').unwrap_or(text.len());
            (Some(&text[..end]), &text[end..])
        }
    };
    if let Some(host) = host {
        names::subdomain(&host.to_ascii_lowercase()).map_err(wrong)?;
    }
    if let Some(port) = port.strip_prefix(':') {
        let number = port.parse().ok().and_then(names::port_number);
        number.ok_or_else(|| wrong("the port is not a number from 1 to 65535"))?;
    } else if !port.is_empty() {
        return Err(wrong("something follows the address"));
    }
    Ok(text.to_owned())
}

/// Refuses anything that could end a header field or a request line.
fn visible(text: &str) -> Result<(), String> {
    if text.is_empty() {
        return Err("the value is empty".to_owned());
    }
    if text.bytes().any(|byte| !(0x21..=0x7e).contains(&byte)) {
        return Err("the value has spaces, control or non-ASCII characters".to_owned());
    }
    Ok(())
}

fn no_variables(text: &str) -> Result<(), String> {
    if text.contains('$') {
        return Err("nginx's variables are not known here".to_owned());
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_seconds_and_take_units_under_our_own_prefix_only() {
        let nginx = |text| timeout(Value { text, own: false });
        let own = |text| timeout(Value { text, own: true });
        assert_eq!(nginx("60"), Ok(Duration::from_secs(60)));
        assert_eq!(own("60"), Ok(Duration::from_secs(60)));
        assert_eq!(own("500ms"), Ok(Duration::from_millis(500)));
        assert_eq!(own("5m"), Ok(Duration::from_secs(300)));
        assert_eq!(own("1h"), Ok(Duration::from_secs(3600)));
        for text in ["", "0", "-1", "30s", "1.5", "31536001", "99999999999999999999"] {
            assert!(nginx(text).is_err(), "{text:?} was accepted");
        }
        for text in ["s", "0ms", "1d", "9000h", "18446744073709551615h", "1 s"] {
            assert!(own(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn sizes_are_nginxs_and_zero_means_no_limit() {
        assert_eq!(size("1024"), Ok(1024));
        assert_eq!(size("8k"), Ok(8 << 10));
        assert_eq!(size("8M"), Ok(8 << 20));
        assert_eq!(size("1g"), Ok(1 << 30));
        assert_eq!(size("0"), Ok(u64::MAX));
        assert_eq!(size("0m"), Ok(u64::MAX));
        for text in ["", "m", "-1", "+1", "1t", "8 m", "8mb", "1.5m", "18446744073709551615k", "8µ"]
        {
            assert!(size(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn networks_are_sorted_and_cut_to_their_mask() {
        let parsed = networks("192.0.2.7, 10.1.2.3/8,2001:db8::/32 , 10.0.0.0/8").unwrap();
        let shown: Vec<String> = parsed.iter().map(IpNet::to_string).collect();
        assert_eq!(shown, ["10.0.0.0/8", "192.0.2.7/32", "2001:db8::/32"]);
        for text in ["", "10.0.0.0/8,", "10.0.0.0/33", "10.0.0", "office", "10.0.0.0/8;10.1.0.0/16"]
        {
            assert!(networks(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn nothing_that_could_end_a_header_gets_into_one() {
        for text in ["/a\r\nSet-Cookie: x", "/a\n", "/a\0", "/a b", "/a\t", "/ä", "/a\u{7f}"] {
            assert!(location(text).is_err(), "{text:?} was accepted as a location");
            assert!(local_path(text).is_err(), "{text:?} was accepted as a path");
            assert!(rewrite(text).is_err(), "{text:?} was accepted as a rewrite");
            let host = text.replacen('/', "", 1);
            assert!(authority(&host).is_err(), "{host:?} was accepted as a host");
        }
    }

    #[test]
    fn locations_are_urls_or_paths_without_variables() {
        for text in ["https://a.test", "http://a.test/x?y=z#f", "/", "/x?y"] {
            assert_eq!(location(text).as_deref(), Ok(text));
        }
        let refused = ["", "a.test", "//a.test", "https://", "https:///x", "javascript:x", "/$uri"];
        for text in refused {
            assert!(location(text).is_err(), "{text:?} was accepted");
        }
        assert!(local_path("https://a.test").is_err());
    }

    #[test]
    fn rewrites_know_groups_and_nothing_else() {
        for text in ["/", "/$1", "/a/$2$3", "$1"] {
            assert_eq!(rewrite(text).as_deref(), Ok(text));
        }
        for text in ["", "a", "/$", "/$0", "/$uri", "/$$1", "/a?b", "/${1}"] {
            assert!(rewrite(text).is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn authorities_are_hosts_with_a_port_if_need_be() {
        for text in ["a.test", "A.test", "a.test:8080", "10.0.0.1", "[::1]", "[::1]:80"] {
            assert_eq!(authority(text).as_deref(), Ok(text));
        }
        let refused = [
            "", ":80", "a.test:", "a.test:0", "a.test:x", "::1", "[::1", "[a]", "[::1]x", "$host",
            "a/b", "a@b",
        ];
        for text in refused {
            assert!(authority(text).is_err(), "{text:?} was accepted");
        }
    }
}
