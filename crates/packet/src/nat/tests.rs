use proptest::prelude::*;

use super::*;
use crate::sample;

fn rules(pairs: &[(&str, &str)]) -> Vec<Rule> {
    let rule = |(from, to): &(&str, &str)| Rule::new(from.parse().unwrap(), to.parse().unwrap());
    pairs.iter().map(|pair| rule(pair).unwrap()).collect()
}

fn translated(packet: &[u8], side: Side, rules: &[Rule]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    let mut parsed = Parsed::new(&packet).unwrap();
    assert!(translate(&mut packet, &mut parsed, side, rules));
    assert_eq!(Parsed::new(&packet), Some(parsed));
    packet
}

fn packets() -> Vec<Vec<u8>> {
    let tcp = sample::tcp(1, 0x10, &[], b"odd");
    let udp = sample::udp(b"datagram");
    let echo = sample::icmp(8, 0, &[5; 32]);
    let plain = [
        sample::v4(protocol::TCP, &[1; 4], &tcp),
        sample::v4(protocol::UDP, &[], &udp),
        sample::v4(protocol::ICMP, &[], &echo),
        sample::v6(protocol::TCP, &tcp),
        sample::v6(protocol::UDP, &udp),
        sample::v6(protocol::ICMPV6, &sample::icmp(128, 0, &[5; 32])),
    ];
    plain.into_iter().map(sample::completed).collect()
}

#[test]
fn host_bits_stay_and_the_longest_prefix_counts() {
    let rules = rules(&[
        ("10.1.0.0/16", "172.16.0.0/16"),
        ("10.1.0.7/32", "192.0.2.9/32"),
        ("fd01::/64", "fd99:1::/64"),
    ]);
    let address = |text: &str| text.parse::<IpAddr>().unwrap();
    for (from, to) in [
        ("10.1.2.3", Some("172.16.2.3")),
        ("10.1.0.7", Some("192.0.2.9")),
        ("10.2.0.7", None),
        ("fd01::abcd:1", Some("fd99:1::abcd:1")),
        ("fd01:0:0:1::1", None),
    ] {
        assert_eq!(mapped(&rules, address(from)), to.map(address), "{from}");
    }
    let net = |text: &str| text.parse::<IpNet>().unwrap();
    assert!(Rule::new(net("10.0.0.0/8"), net("10.0.0.0/9")).is_err());
    assert!(Rule::new(net("0.0.0.0/0"), net("::/0")).is_err());
    let all = Rule::new(net("::/0"), net("::/0")).unwrap();
    assert_eq!(all.map(address("fd01::1")), Some(address("fd01::1")));
}

#[test]
fn checksums_follow_and_the_way_back_restores_the_packet() {
    let there = rules(&[("10.1.0.0/24", "198.18.77.0/24"), ("fd01::/16", "2001::/16")]);
    let back = rules(&[("198.18.77.0/24", "10.1.0.0/24"), ("2001::/16", "fd01::/16")]);
    let far = rules(&[("10.2.0.0/16", "203.0.0.0/16"), ("fd02::/32", "2002:1::/32")]);
    for packet in packets() {
        let out = translated(&packet, Side::Source, &there);
        sample::assert_good(&out);
        assert_ne!(out, packet);
        let parsed = Parsed::new(&out).unwrap();
        let expected = if parsed.source.is_ipv4() { "198.18.77.1" } else { "2001::1" };
        assert_eq!(parsed.source, expected.parse::<IpAddr>().unwrap());
        assert_eq!(translated(&out, Side::Source, &back), packet);
        sample::assert_good(&translated(&packet, Side::Destination, &far));
    }
}

#[test]
fn a_udp_checksum_of_zero_stays_zero() {
    let there = rules(&[("10.1.0.0/24", "198.18.77.0/24")]);
    let packet = sample::v4(protocol::UDP, &[], &sample::udp(b"x"));
    let out = translated(&packet, Side::Source, &there);
    assert_eq!(out[26..28], [0, 0]);
}

#[test]
fn sums_that_are_zero_are_updated_for_tcp_and_written_otherwise_for_udp() {
    let there = rules(&[("10.1.0.0/24", "198.18.77.0/24")]);
    let back = rules(&[("198.18.77.0/24", "10.1.0.0/24")]);
    for (protocol, segment, field) in [
        (protocol::TCP, sample::tcp(1, 0x10, &[], &[0; 2]), 36),
        (protocol::UDP, sample::udp(&[0; 2]), 26),
    ] {
        let packet = sample::completed(sample::v4(protocol, &[], &segment));
        let mut zero = translated(&packet, Side::Source, &there);
        // What is left of the sum becomes payload.
        let sum = [zero[field], zero[field + 1]];
        let end = zero.len();
        zero[end - 2..].copy_from_slice(&sum);
        let zero = sample::completed(zero);
        let expected = if protocol == protocol::TCP { [0, 0] } else { [0xff, 0xff] };
        assert_eq!(zero[field..field + 2], expected);
        let before = translated(&zero, Side::Source, &back);
        sample::assert_good(&before);
        let again = translated(&before, Side::Source, &there);
        sample::assert_good(&again);
        assert_ne!(again[26..28], [0, 0]);
    }
}

#[test]
fn of_a_later_fragment_only_the_ip_header_changes() {
    let there = rules(&[("10.1.0.0/24", "198.18.77.0/24")]);
    let mut packet = sample::v4(protocol::TCP, &[], &[0xab; 40]);
    packet[7] = 5;
    packet[10..12].fill(0);
    let sum = crate::checksum::Sum::default().with(&packet[..20]).finish();
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let out = translated(&packet, Side::Source, &there);
    sample::assert_good(&out);
    assert_eq!(out[20..], packet[20..]);
}

#[test]
fn quotes_in_icmp_errors_follow_both_ways() {
    // From 10.2.0.2 (or fd02::2) to 10.1.0.1: the source is translated on its way out, and the
    // quoted packet had gone the other way.
    let pairs = [("10.1.0.0/24", "198.18.77.0/24"), ("fd01::/16", "2001::/16")];
    let reversed = pairs.map(|(inside, outside)| (outside, inside));
    for quoted in packets() {
        let is_v4 = quoted[0] >> 4 == 4;
        let mut quoted_back = quoted.clone();
        if is_v4 {
            quoted_back[12..16].copy_from_slice(&quoted[16..20]);
            quoted_back[16..20].copy_from_slice(&quoted[12..16]);
        } else {
            quoted_back[8..24].copy_from_slice(&quoted[24..40]);
            quoted_back[24..40].copy_from_slice(&quoted[8..24]);
        }
        for cut in [0, 9, 30] {
            let length = (quoted_back.len() - cut).max(if is_v4 { 24 } else { 48 });
            let quote = &quoted_back[..length.min(quoted_back.len())];
            let error = if is_v4 {
                sample::v4(protocol::ICMP, &[], &sample::icmp(3, 4, quote))
            } else {
                sample::v6(protocol::ICMPV6, &sample::icmp(2, 0, quote))
            };
            let error = sample::completed(error);
            let out = translated(&error, Side::Source, &rules(&pairs));
            sample::assert_good(&out);
            let parsed = Parsed::new(&out).unwrap();
            let inner = Parsed::quoted(&parsed.transport(&out)[8..]).unwrap();
            assert_eq!(inner.destination, parsed.source);
            if cut == 0 {
                sample::assert_good(&parsed.transport(&out)[8..]);
            }
            assert_eq!(translated(&out, Side::Source, &rules(&reversed)), error);

            // The other direction: an error that comes for a packet that went out.
            let incoming = if is_v4 {
                sample::v4(protocol::ICMP, &[], &sample::icmp(11, 0, &quoted))
            } else {
                sample::v6(protocol::ICMPV6, &sample::icmp(3, 0, &quoted))
            };
            let incoming = sample::completed(incoming);
            let quoted_source =
                rules(&[("10.1.0.0/24", "192.168.3.0/24"), ("fd01::/16", "fd0a::/16")]);
            // A router in between sent it to somebody else: only the quote changes.
            let inside = translated(&incoming, Side::Destination, &quoted_source);
            sample::assert_good(&inside);
            let parsed = Parsed::new(&inside).unwrap();
            let quote = &parsed.transport(&inside)[8..];
            sample::assert_good(quote);
            let expected = if is_v4 { "192.168.3.1" } else { "fd0a::1" };
            let source = Parsed::new(quote).unwrap().source;
            assert_eq!(source, expected.parse::<IpAddr>().unwrap());
        }
    }
}

proptest! {
    #[test]
    fn junk_does_no_harm(mut packet in sample::junk(), source: bool) {
        let rules = rules(&[("0.0.0.0/1", "128.0.0.0/1"), ("8000::/1", "::/1")]);
        let side = if source { Side::Source } else { Side::Destination };
        if let Some(mut parsed) = Parsed::new(&packet) {
            translate(&mut packet, &mut parsed, side, &rules);
        }
    }
}
