//! An SA pair as the workers see it.

use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
use ipsec::crypto::CryptoError;
use ipsec::crypto::rng::Rng;
use ipsec::esp::{Inbound, Outbound, Replay};
use ipsec::packet::header::Parsed;
use ipsec::sa::{ChildSa, Path};
use ipsec::selector::TrafficSelector;

use super::Limits;
use super::child::{Child, Seldom};
use super::tally::Tally;

/// A pair of SAs.
#[derive(Debug)]
pub(super) struct Sa {
    pub(super) sa: Arc<ChildSa>,
    pub(super) child: Arc<Child>,
    pub(super) outbound: Outbound,
    pub(super) inbound: Inbound,
    /// All packets of an SA come to one worker, unless the other end moves.
    pub(super) replay: Mutex<Replay>,
    pub(super) way: ArcSwap<Way>,
    pub(super) tally: Tally,
    pub(super) alive: Seldom,
    pub(super) moved: Seldom,
    /// That it is nearly used up has been told.
    pub(super) worn: AtomicBool,
    /// Packets after which it is, if there is such a limit.
    pub(super) packet_limit: Option<u64>,
    /// Octets after which it is.
    pub(super) byte_limit: Option<u64>,
}

/// Where its packets go, and how big they may be.
#[derive(Debug)]
pub(super) struct Way {
    pub(super) path: Path,
    pub(super) udp: bool,
    /// The largest inner packet.
    pub(super) largest: usize,
    /// The kernel has fragmented what was sent: it is to be asked for the path's MTU again.
    pub(super) stale: AtomicBool,
}

const IPV4_HEADER: usize = 20;
const IPV6_HEADER: usize = 40;
const UDP_HEADER: usize = 8;
/// IPv4 packets of this size and IPv6 ones of that have to pass; if their ESP packets don't, those
/// are fragmented.
const LEAST_IPV4: usize = 576;
const LEAST_IPV6: usize = 1280;

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
const ICMP_HEADER: usize = 8;

impl Way {
    /// On a path whose packets may have so many octets.
    pub(super) fn new(outbound: &Outbound, path: Path, udp: bool, mtu: usize) -> Self {
        let header = match path.remote.ip() {
            IpAddr::V4(_) => IPV4_HEADER,
            IpAddr::V6(_) => IPV6_HEADER,
        };
        let overhead = header + if udp { UDP_HEADER } else { 0 };
        let largest = outbound.largest_inner(mtu.saturating_sub(overhead));
        Self { path, udp, largest, stale: AtomicBool::new(false) }
    }

    /// The largest inner packet of a family.
    #[inline]
    pub(super) fn largest(&self, is_ipv4: bool) -> usize {
        self.largest.max(if is_ipv4 { LEAST_IPV4 } else { LEAST_IPV6 })
    }
}

impl Sa {
    pub(super) fn new(
        sa: &Arc<ChildSa>,
        child: Arc<Child>,
        mtu: usize,
        limits: Limits,
        workers: usize,
        rng: &mut dyn Rng,
    ) -> Result<Self, CryptoError> {
        let outbound = Outbound::new(sa.suite, &sa.outbound, sa.outbound_spi, rng)?;
        let inbound = Inbound::new(sa.suite, &sa.inbound, sa.inbound_spi, sa.replay_window)?;
        let way = Way::new(&outbound, sa.path, sa.udp, mtu);
        Ok(Self {
            child,
            replay: Mutex::new(inbound.replay()),
            inbound,
            outbound,
            way: ArcSwap::new(Arc::new(way)),
            tally: Tally::new(workers),
            alive: Seldom::default(),
            moved: Seldom::default(),
            worn: AtomicBool::new(false),
            packet_limit: limits.packets,
            byte_limit: limits.bytes,
            sa: Arc::clone(sa),
        })
    }

    /// Whether it has become nearly used up, which is said once.
    #[inline]
    pub(super) fn wears_out(&self) -> bool {
        let worn = self.outbound.is_worn()
            || self.packet_limit.is_some_and(|limit| self.outbound.used() >= limit);
        worn && !self.worn.swap(true, Ordering::Relaxed)
    }

    /// Whether its selectors have a packet that goes out, as it is in the tunnel.
    #[inline]
    pub(super) fn takes(&self, packet: &Parsed) -> bool {
        let (source, destination) = ports(packet);
        matches(&self.sa.local, packet.source, packet.protocol, source)
            && matches(&self.sa.remote, packet.destination, packet.protocol, destination)
    }

    /// Whether its selectors have a packet that has come, as it was in the tunnel.
    #[inline]
    pub(super) fn gives(&self, packet: &Parsed) -> bool {
        let (source, destination) = ports(packet);
        matches(&self.sa.remote, packet.source, packet.protocol, source)
            && matches(&self.sa.local, packet.destination, packet.protocol, destination)
    }

    /// Whether a packet that has come is an ICMP error about one that went out. Such errors come
    /// from routers, whose addresses are in no selector (RFC 4301, 6.2).
    #[cold]
    pub(super) fn gives_error(&self, packet: &Parsed, octets: &[u8]) -> bool {
        let kind = packet.ports.map(|(kind, _)| kind >> 8);
        let is_error = match (packet.protocol, kind) {
            _ if packet.fragment.is_some() => false,
            (ICMP, Some(3 | 4 | 11 | 12)) | (ICMPV6, Some(1..=4)) => true,
            _ => false,
        };
        let quote = packet.transport(octets).get(ICMP_HEADER..).filter(|_| is_error);
        let is_local = |ip| self.sa.local.iter().any(|selector| selector.has_address(ip));
        is_local(packet.destination)
            && quote.and_then(Parsed::quoted).is_some_and(|quoted| self.takes(&quoted))
    }
}

#[inline]
fn ports(packet: &Parsed) -> (Option<u16>, Option<u16>) {
    (packet.ports.map(|(source, _)| source), packet.ports.map(|(_, destination)| destination))
}

#[inline]
fn matches(
    selectors: &[TrafficSelector],
    address: IpAddr,
    protocol: u8,
    port: Option<u16>,
) -> bool {
    selectors.iter().any(|selector| selector.matches(address, protocol, port))
}

#[cfg(test)]
mod tests {
    use ipsec::crypto::rng::SeededRng;
    use ipsec::sa::{EspKeys, EspSuite, Spi};
    use model::suite::{Encryption, Integrity};

    use super::*;

    fn outbound(encryption: Encryption, integrity: Option<Integrity>) -> Outbound {
        let salt = if encryption.is_aead() { vec![2; 4] } else { Vec::new() };
        let proof = if integrity.is_some() { vec![3; 32] } else { Vec::new() };
        let keys = EspKeys { encryption: vec![1; 32], salt, integrity: proof };
        let suite = EspSuite { encryption, integrity, esn: false };
        let spi = Spi::new(0x1000).unwrap();
        Outbound::new(suite, &keys, spi, &mut SeededRng::new(1)).unwrap()
    }

    #[test]
    fn outer_packets_are_as_large_as_allowed_and_no_larger() {
        let suites = [
            (Encryption::Aes256Gcm16, None),
            (Encryption::ChaCha20Poly1305, None),
            (Encryption::Aes256Cbc, Some(Integrity::HmacSha256)),
        ];
        for (encryption, integrity) in suites {
            let outbound = outbound(encryption, integrity);
            for (ends, header) in [(["192.0.2.1", "192.0.2.2"], 20), (["fd00::1", "fd00::2"], 40)] {
                let [local, remote] = ends.map(|ip| (ip.parse::<IpAddr>().unwrap(), 4500).into());
                for udp in [false, true] {
                    for mtu in [1400, 1436, 1500, 9000] {
                        let way = Way::new(&outbound, Path { local, remote }, udp, mtu);
                        let overhead = header + if udp { 8 } else { 0 };
                        let outer = |inner| overhead + outbound.sealed_len(inner);
                        assert!(outer(way.largest) <= mtu, "{encryption} {udp} {mtu}");
                        assert!(outer(way.largest + 1) > mtu, "{encryption} {udp} {mtu}");
                    }
                }
            }
        }
    }
}
