//! Networks and pairs of them, as they are written.

use std::net::IpAddr;

use ipnet::IpNet;
use model::snapshot::vpn::NatPair;

/// Why a text can't be taken, and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::vpn) struct Fault {
    pub(in crate::vpn) reason: String,
    pub(in crate::vpn) remedy: String,
}

fn fault<T>(reason: impl Into<String>, remedy: impl Into<String>) -> Result<T, Fault> {
    Err(Fault { reason: reason.into(), remedy: remedy.into() })
}

/// A network, or an address for that one alone.
pub(in crate::vpn) fn network(text: &str) -> Result<IpNet, Fault> {
    let text = text.trim();
    if let Ok(address) = text.parse::<IpAddr>() {
        return usable(address.into());
    }
    let Ok(network) = text.parse::<IpNet>() else {
        return fault("is no network", "write one such as 10.20.0.0/16");
    };
    if network != network.trunc() {
        let (whole, host) = (network.trunc(), network.addr());
        return fault("has bits set behind its prefix", format!("write {whole} or {host}"));
    }
    usable(network)
}

fn usable(network: IpNet) -> Result<IpNet, Fault> {
    let address = network.addr();
    if network.prefix_len() > 0 && (address.is_loopback() || address.is_multicast()) {
        return fault("is no network that a tunnel can carry", "write the hosts' own network");
    }
    Ok(network)
}

/// `one=other`, both of one size: the first one as inside, the second one as outside.
pub(in crate::vpn) fn pair(text: &str) -> Result<NatPair, Fault> {
    let Some((inside, outside)) = text.split_once('=') else {
        let remedy = "write two networks of one size, such as 172.30.0.0/16=10.130.0.0/16";
        return fault("is no pair of networks", remedy);
    };
    let (inside, outside) = (network(inside)?, network(outside)?);
    if inside.addr().is_ipv4() != outside.addr().is_ipv4() {
        return fault("is a pair of IPv4 and IPv6", "write two networks of one family");
    }
    let (one, other) = (inside.prefix_len(), outside.prefix_len());
    if one != other {
        let remedy = match IpNet::new(outside.addr(), one) {
            Ok(same) => format!("write both with /{one}, such as {inside}={}", same.trunc()),
            Err(_) => "write two networks of one size".to_owned(),
        };
        return fault(format!("is a pair of different sizes, /{one} and /{other}"), remedy);
    }
    Ok(NatPair { inside, outside })
}

/// An address, or a network of one address alone.
pub(in crate::vpn) fn host(text: &str) -> Option<IpAddr> {
    let network = network(text).ok()?;
    is_host(&network).then(|| network.addr())
}

/// Whether a network is one address alone.
pub(in crate::vpn) fn is_host(network: &IpNet) -> bool {
    network.prefix_len() == network.max_prefix_len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_have_nothing_behind_their_prefix() {
        assert_eq!(network("10.20.0.0/16").unwrap().to_string(), "10.20.0.0/16");
        assert_eq!(network("10.20.0.1").unwrap().to_string(), "10.20.0.1/32");
        assert!(network("10.20.0.1/16").unwrap_err().remedy.contains("10.20.0.0/16"));
        for text in ["", "10.20.0.0/33", "a", "127.0.0.0/8", "224.0.0.0/4", "10.0.0.0-10.0.0.9"] {
            assert!(network(text).is_err(), "{text}");
        }
    }

    #[test]
    fn pairs_are_of_one_size_and_family() {
        let found = pair("172.30.0.0/16 = 10.130.0.0/16").unwrap();
        assert_eq!(found.outside.to_string(), "10.130.0.0/16");
        assert!(pair("1.2.3.4=5.6.7.8").is_ok());
        let uneven = pair("172.30.0.0/16=10.130.0.0/24").unwrap_err();
        assert!(uneven.reason.contains("/16 and /24"), "{uneven:?}");
        assert!(uneven.remedy.contains("172.30.0.0/16=10.130.0.0/16"), "{uneven:?}");
        for text in ["172.30.0.0/16", "10.0.0.0/16=fd00::/16", "=", "10.0.0.1/8=11.0.0.0/8"] {
            assert!(pair(text).is_err(), "{text}");
        }
    }
}
