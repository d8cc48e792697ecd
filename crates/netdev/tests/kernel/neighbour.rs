use std::net::IpAddr;
use std::time::{Duration, Instant};

use netdev::address::{add, interface};
use netdev::neighbour::{NeighbourError, announce, announce_all, probe, probe_all};

use crate::lab::{Peer, alone, eventually, run, with_peer};

const TIMEOUT: Duration = Duration::from_millis(600);
const ADDRESSES: [&str; 2] = ["192.0.2.9", "2001:db8::9"];

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn mac_of(peer: &Peer) -> String {
    peer.run("cat /sys/class/net/peer0/address").trim().to_owned()
}

#[test]
fn a_neighbour_that_has_the_address_is_found() {
    with_peer(|peer| {
        peer.run("ip addr add 192.0.2.9/24 dev peer0");
        peer.run("ip addr add 2001:db8::9/64 dev peer0 nodad");
        for address in ADDRESSES {
            let start = Instant::now();
            let found = probe("edge0", ip(address), Duration::from_secs(5)).unwrap();
            assert_eq!(found.map(|mac| mac.to_string()), Some(mac_of(peer)), "{address}");
            assert!(start.elapsed() < Duration::from_secs(4), "it waits no longer than it must");
        }
    });
}

#[test]
fn an_address_that_nobody_has_is_free() {
    with_peer(|peer| {
        peer.run("ip addr add 192.0.2.1/24 dev peer0");
        peer.run("ip addr add 2001:db8::1/64 dev peer0 nodad");
        for address in ADDRESSES {
            let start = Instant::now();
            assert_eq!(probe("edge0", ip(address), TIMEOUT).unwrap(), None);
            assert!(start.elapsed() >= TIMEOUT);
        }
    });
}

#[test]
fn own_addresses_are_no_duplicates() {
    with_peer(|_| {
        for address in ADDRESSES {
            add("edge0", ip(address)).unwrap();
            assert_eq!(probe("edge0", ip(address), TIMEOUT).unwrap(), None, "{address}");
        }
    });
}

#[test]
fn of_two_that_are_about_to_take_an_address_one_at_most_does() {
    with_peer(|peer| {
        let own = interface("edge0").unwrap().mac.unwrap().to_string();
        for address in ADDRESSES {
            let other = peer.spawn(move || probe("peer0", ip(address), TIMEOUT));
            let here = probe("edge0", ip(address), TIMEOUT).unwrap().map(|mac| mac.to_string());
            let there = other.join().unwrap().unwrap().map(|mac| mac.to_string());
            assert!(here.is_some() || there.is_some(), "{address}");
            assert!(here.is_none_or(|mac| mac == mac_of(peer)), "{address}");
            assert!(there.is_none_or(|mac| mac == own), "{address}");
        }
    });
}

#[test]
fn many_addresses_take_no_longer_than_one() {
    with_peer(|peer| {
        peer.run("ip addr add 198.18.2.7/15 dev peer0");
        peer.run("ip addr add 2001:db8::2:7/64 dev peer0 nodad");
        let texts = (0..1_000).flat_map(|n| {
            let (high, low) = (n / 250, n % 250);
            [format!("198.18.{high}.{low}"), format!("2001:db8::{high}:{low}")]
        });
        let addresses: Vec<(&str, IpAddr)> = texts.map(|text| ("edge0", ip(&text))).collect();
        let start = Instant::now();
        let answers = probe_all(&addresses, TIMEOUT);
        assert!(start.elapsed() < TIMEOUT * 4, "{:?}", start.elapsed());
        println!("{} addresses in {:?}", addresses.len(), start.elapsed());
        assert_eq!(answers.len(), addresses.len());
        for ((_, address), answer) in addresses.iter().zip(answers) {
            let taken = [ip("198.18.2.7"), ip("2001:db8::2:7")].contains(address);
            assert_eq!(answer.unwrap().is_some(), taken, "{address}");
        }
    });
}

#[test]
fn announcing_moves_an_address_to_us_in_the_neighbours_table() {
    with_peer(|peer| {
        peer.run("ip addr add 192.0.2.1/24 dev peer0");
        peer.run("ip addr add 2001:db8::1/64 dev peer0 nodad");
        let own = interface("edge0").unwrap().mac.unwrap().to_string();
        for address in ADDRESSES {
            peer.run(&format!(
                "ip neigh replace {address} lladdr 02:00:00:00:00:99 dev peer0 nud stale"
            ));
            // The kernel doesn't believe another one within its locktime of a second.
            let neighbour = || peer.run(&format!("ip neigh show {address} dev peer0"));
            assert!(neighbour().contains("02:00:00:00:00:99"));
            add("edge0", ip(address)).unwrap();
            eventually("the peer knows", || {
                announce("edge0", ip(address)).unwrap();
                neighbour().contains(&own)
            });
        }
    });
}

#[test]
fn interfaces_without_neighbours_have_no_duplicates() {
    alone(|| {
        for address in ADDRESSES {
            assert_eq!(probe("lo", ip(address), TIMEOUT).unwrap(), None);
            announce("lo", ip(address)).unwrap();
        }
    });
}

#[test]
fn a_link_that_is_down_or_missing_is_named_and_the_others_are_asked() {
    with_peer(|peer| {
        peer.run("ip addr add 192.0.2.9/24 dev peer0");
        run("ip link add down0 type veth peer name down1");
        let addresses =
            [("eth7", ip("192.0.2.1")), ("down0", ip("192.0.2.2")), ("edge0", ip("192.0.2.9"))];
        let answers = probe_all(&addresses, Duration::from_secs(5));
        let [Err(missing), Err(down), Ok(Some(_))] = answers.as_slice() else {
            panic!("{answers:?}");
        };
        assert!(missing.to_string().contains("`eth7`"), "{missing}");
        assert!(matches!(down, NeighbourError::Down { interface } if interface == "down0"));
        let told = announce_all(&addresses);
        assert!(told[0].is_err() && told[1].is_err() && told[2].is_ok(), "{told:?}");
    });
}

#[test]
fn known_neighbours_are_told_with_their_addresses() {
    with_peer(|_| {
        run("ip addr add 192.0.2.1/24 dev edge0");
        run("ip neigh add 192.0.2.9 lladdr 02:00:00:00:00:09 dev edge0 nud reachable");
        run("ip neigh add fe80::9 lladdr 02:00:00:00:00:0a dev edge0 nud stale");
        run("ip neigh add 192.0.2.8 dev edge0 nud failed");
        let known = netdev::neighbour::known().unwrap();
        let mac = |last| netdev::address::MacAddr([2, 0, 0, 0, 0, last]);
        for (address, mac) in [("192.0.2.9", mac(9)), ("fe80::9", mac(10))] {
            assert!(known.contains(&(address.parse().unwrap(), mac)), "{known:?}");
        }
        assert!(!known.iter().any(|(address, _)| address.to_string() == "192.0.2.8"));
    });
}
