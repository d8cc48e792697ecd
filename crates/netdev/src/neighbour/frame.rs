//! Ethernet frames of ARP and neighbour discovery, as bytes.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::MacAddr;

pub(super) const ETH_P_ARP: u16 = 0x0806;
pub(super) const ETH_P_IPV6: u16 = 0x86dd;
const BROADCAST: MacAddr = MacAddr([0xff; 6]);
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const REQUEST: u16 = 1;
const REPLY: u16 = 2;
const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
const ICMPV6: u8 = 58;
/// Flags of an advertisement (RFC 4861, 4.4).
const ROUTER: u8 = 0x80;
const OVERRIDE: u8 = 0x20;
/// Options that hold the link address (RFC 4861, 4.6.1).
const TARGET_LINK_ADDRESS: u8 = 2;
const SOURCE_LINK_ADDRESS: u8 = 1;

/// Asks whether anybody has the address, without claiming it.
pub(super) fn probe(own: MacAddr, ip: IpAddr) -> Vec<u8> {
    match ip {
        IpAddr::V4(ip) => arp(REQUEST, own, Ipv4Addr::UNSPECIFIED, MacAddr([0; 6]), ip),
        IpAddr::V6(ip) => {
            let group = solicited_node(ip);
            let mut body = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            body.extend_from_slice(&ip.octets());
            icmpv6(own, Ipv6Addr::UNSPECIFIED, group, body)
        }
    }
}

/// Says that the address is here, in the forms that are customary.
pub(super) fn announcements(own: MacAddr, ip: IpAddr, router: bool) -> Vec<Vec<u8>> {
    match ip {
        // RFC 5227, 2.3 and 3: the request is an ARP announcement; some take the reply alone.
        IpAddr::V4(ip) => {
            vec![arp(REQUEST, own, ip, MacAddr([0; 6]), ip), arp(REPLY, own, ip, BROADCAST, ip)]
        }
        // RFC 4861, 7.2.6
        IpAddr::V6(ip) => {
            let flags = OVERRIDE | if router { ROUTER } else { 0 };
            let mut body = vec![ADVERTISEMENT, 0, 0, 0, flags, 0, 0, 0];
            body.extend_from_slice(&ip.octets());
            body.extend_from_slice(&[TARGET_LINK_ADDRESS, 1]);
            body.extend_from_slice(&own.0);
            vec![icmpv6(own, ip, ALL_NODES, body)]
        }
    }
}

/// The address that a frame's sender has or is about to take, and the sender, if the frame says
/// so.
pub(super) fn claim(frame: &[u8]) -> Option<(IpAddr, MacAddr)> {
    let sender = MacAddr(*frame.get(6..)?.first_chunk()?);
    let ethertype = u16::from_be_bytes(*frame.get(12..)?.first_chunk()?);
    let payload = frame.get(14..)?;
    match ethertype {
        ETH_P_ARP => claim_by_arp(payload),
        ETH_P_IPV6 => claim_by_icmpv6(payload, sender),
        _ => None,
    }
}

/// The group that neighbours with that address listen to.
pub(super) fn solicited_node(ip: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = ip.octets();
    let last = u16::from_be_bytes([b, c]);
    Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, 0xff00 | u16::from(a), last)
}

/// RFC 5227, 2.1.1: any ARP packet with the address as its sender's, and another's probe for it.
fn claim_by_arp(arp: &[u8]) -> Option<(IpAddr, MacAddr)> {
    // Ethernet, IPv4, their lengths.
    if arp.get(..6)? != [0, 1, 8, 0, 6, 4] {
        return None;
    }
    let operation = u16::from_be_bytes(*arp.get(6..)?.first_chunk()?);
    let sender = MacAddr(*arp.get(8..)?.first_chunk()?);
    let sender_ip = Ipv4Addr::from(*arp.get(14..)?.first_chunk::<4>()?);
    let target_ip = Ipv4Addr::from(*arp.get(24..)?.first_chunk::<4>()?);
    match (sender_ip, operation) {
        (Ipv4Addr::UNSPECIFIED, REQUEST) => Some((target_ip.into(), sender)),
        (Ipv4Addr::UNSPECIFIED, _) => None,
        _ => Some((sender_ip.into(), sender)),
    }
}

/// RFC 4862, 5.4.3 and 5.4.4: an advertisement of the address, and another's solicitation for it
/// of the unspecified address.
fn claim_by_icmpv6(packet: &[u8], sender: MacAddr) -> Option<(IpAddr, MacAddr)> {
    let source = Ipv6Addr::from(*packet.get(8..)?.first_chunk::<16>()?);
    let (next, hops) = (*packet.get(6)?, *packet.get(7)?);
    let icmp = packet.get(40..)?;
    // What comes through a router has fewer hops left, and is no neighbour's.
    if next != ICMPV6 || hops != 255 || *icmp.get(1)? != 0 {
        return None;
    }
    let target = Ipv6Addr::from(*icmp.get(8..)?.first_chunk::<16>()?);
    let of_link = |kind| link_address(icmp.get(24..).unwrap_or_default(), kind);
    match *icmp.first()? {
        ADVERTISEMENT => Some((target.into(), of_link(TARGET_LINK_ADDRESS).unwrap_or(sender))),
        SOLICITATION if source.is_unspecified() => Some((target.into(), sender)),
        // Another asks for its neighbour: it has the address that it asks from.
        SOLICITATION => Some((source.into(), of_link(SOURCE_LINK_ADDRESS).unwrap_or(sender))),
        _ => None,
    }
}

fn link_address(mut options: &[u8], kind: u8) -> Option<MacAddr> {
    loop {
        let [found, length] = *options.first_chunk()?;
        if found == kind && length == 1 {
            return Some(MacAddr(*options.get(2..)?.first_chunk()?));
        }
        if length == 0 {
            return None;
        }
        options = options.get(usize::from(length) * 8..)?;
    }
}

fn arp(
    operation: u16,
    sender: MacAddr,
    sender_ip: Ipv4Addr,
    target: MacAddr,
    target_ip: Ipv4Addr,
) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, sender, ETH_P_ARP);
    frame.extend_from_slice(&[0, 1, 8, 0, 6, 4]);
    frame.extend_from_slice(&operation.to_be_bytes());
    frame.extend_from_slice(&sender.0);
    frame.extend_from_slice(&sender_ip.octets());
    frame.extend_from_slice(&target.0);
    frame.extend_from_slice(&target_ip.octets());
    frame
}

/// An ICMPv6 message, its checksum filled in, to a group.
fn icmpv6(own: MacAddr, source: Ipv6Addr, group: Ipv6Addr, mut body: Vec<u8>) -> Vec<u8> {
    let sum = checksum(source, group, &body);
    body[2..4].copy_from_slice(&sum.to_be_bytes());
    let [.., a, b, c, d] = group.octets();
    let mut frame = ethernet(MacAddr([0x33, 0x33, a, b, c, d]), own, ETH_P_IPV6);
    frame.extend_from_slice(&[0x60, 0, 0, 0]);
    frame.extend_from_slice(&(body.len() as u16).to_be_bytes());
    frame.extend_from_slice(&[ICMPV6, 255]);
    frame.extend_from_slice(&source.octets());
    frame.extend_from_slice(&group.octets());
    frame.extend_from_slice(&body);
    frame
}

fn ethernet(destination: MacAddr, source: MacAddr, ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(96);
    frame.extend_from_slice(&destination.0);
    frame.extend_from_slice(&source.0);
    frame.extend_from_slice(&ethertype.to_be_bytes());
    frame
}

/// RFC 8200, 8.1
fn checksum(source: Ipv6Addr, destination: Ipv6Addr, body: &[u8]) -> u16 {
    let mut pseudo = Vec::with_capacity(40 + body.len());
    pseudo.extend_from_slice(&source.octets());
    pseudo.extend_from_slice(&destination.octets());
    pseudo.extend_from_slice(&(body.len() as u32).to_be_bytes());
    pseudo.extend_from_slice(&[0, 0, 0, ICMPV6]);
    pseudo.extend_from_slice(body);
    let mut sum = 0_u32;
    for pair in pseudo.chunks(2) {
        let low = pair.get(1).copied().unwrap_or(0);
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);

    #[test]
    fn a_probe_for_ipv4_is_that_of_rfc_5227() {
        let frame = probe(OWN, "192.0.2.9".parse().unwrap());
        assert_eq!(frame[..6], [0xff; 6]);
        assert_eq!(frame[14..22], [0, 1, 8, 0, 6, 4, 0, 1]);
        assert_eq!(frame[28..32], [0; 4], "it claims nothing");
        assert_eq!(frame[32..38], [0; 6]);
        assert_eq!(frame[38..], [192, 0, 2, 9]);
    }

    #[test]
    fn a_solicitation_is_that_of_rfc_4862() {
        let frame = probe(OWN, "2001:db8::12:3456".parse().unwrap());
        assert_eq!(frame[..6], [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
        assert_eq!(frame[21], 255);
        assert_eq!(frame[22..38], [0; 16]);
        assert_eq!(frame.len(), 14 + 40 + 24, "without an option");
        // With its checksum in place the sum over all is zero.
        let group = solicited_node("2001:db8::12:3456".parse().unwrap());
        assert_eq!(group, "ff02::1:ff12:3456".parse::<Ipv6Addr>().unwrap());
        assert_eq!(checksum(Ipv6Addr::UNSPECIFIED, group, &frame[54..]), 0);
    }

    #[test]
    fn what_one_says_another_understands() {
        for ip in ["192.0.2.9", "2001:db8::9"] {
            let ip: IpAddr = ip.parse().unwrap();
            assert_eq!(claim(&probe(OWN, ip)), Some((ip, OWN)));
            for frame in announcements(OWN, ip, true) {
                assert_eq!(claim(&frame), Some((ip, OWN)));
                for cut in 0..frame.len() {
                    let _ = claim(&frame[..cut]);
                }
            }
        }
    }

    #[test]
    fn asking_for_an_address_is_no_claim_to_it() {
        let asked = Ipv4Addr::new(192, 0, 2, 9);
        let asker = Ipv4Addr::new(192, 0, 2, 1);
        let frame = arp(REQUEST, OWN, asker, MacAddr([0; 6]), asked);
        assert_eq!(claim(&frame), Some((asker.into(), OWN)));
    }
}
