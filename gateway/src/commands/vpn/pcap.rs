//! Capture files (pcap, with nanoseconds, of raw IP packets) of UDP datagrams.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A file under construction.
pub(super) struct Pcap(Vec<u8>);

/// The magic number of files with nanoseconds.
const MAGIC: u32 = 0xa1b2_3c4d;
/// LINKTYPE_RAW: packets begin with the IP header.
const RAW: u32 = 101;
const UDP: u8 = 17;

impl Pcap {
    pub(super) fn new() -> Self {
        let mut file = Vec::new();
        file.extend(MAGIC.to_le_bytes());
        file.extend(2_u16.to_le_bytes());
        file.extend(4_u16.to_le_bytes());
        for number in [0, 0, 0x4_0000, RAW] {
            file.extend(u32::to_le_bytes(number));
        }
        Self(file)
    }

    /// Adds an IKE message as a datagram. Its ports are 500, for it has no non-ESP marker here;
    /// longer ones than UDP allows are cut.
    pub(super) fn add(
        &mut self,
        at: Duration,
        source: SocketAddr,
        destination: SocketAddr,
        message: &[u8],
    ) {
        let message = message.get(..message.len().min(65_000)).unwrap_or(message);
        let length = message.len() as u16 + 8;
        let mut packet = match (source.ip(), destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let mut header = vec![0x45, 0];
                header.extend((length + 20).to_be_bytes());
                header.extend([0, 0, 0x40, 0, 64, UDP, 0, 0]);
                header.extend(source.octets());
                header.extend(destination.octets());
                let sum = checksum(&header);
                header.iter_mut().skip(10).zip(sum.to_be_bytes()).for_each(|(to, from)| *to = from);
                header
            }
            (source, destination) => {
                let octets = |address: IpAddr| match address {
                    IpAddr::V4(v4) => v4.to_ipv6_mapped().octets(),
                    IpAddr::V6(v6) => v6.octets(),
                };
                let mut header = vec![0x60, 0, 0, 0];
                header.extend(length.to_be_bytes());
                header.extend([UDP, 64]);
                header.extend(octets(source));
                header.extend(octets(destination));
                header
            }
        };
        for number in [500, 500, length, 0] {
            packet.extend(u16::to_be_bytes(number));
        }
        packet.extend(message);
        let size = packet.len() as u32;
        for number in [at.as_secs() as u32, at.subsec_nanos(), size, size] {
            self.0.extend(number.to_le_bytes());
        }
        self.0.extend(packet);
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

/// RFC 1071.
fn checksum(header: &[u8]) -> u16 {
    let words = header.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    });
    let sum: u32 = words.sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tcpdump_reads_the_file() {
        let mut file = Pcap::new();
        let (a, b) = ("192.0.2.1:500".parse().unwrap(), "192.0.2.2:4500".parse().unwrap());
        // An IKE header alone: IKE_SA_INIT.
        let mut message = vec![1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0, 0, 0, 0, 0];
        message.extend([0, 0x20, 34, 8, 0, 0, 0, 0, 0, 0, 0, 28]);
        file.add(Duration::new(1_700_000_000, 5), a, b, &message);
        let six = ("[2001:db8::1]:500".parse().unwrap(), "[2001:db8::2]:500".parse().unwrap());
        file.add(Duration::new(1_700_000_001, 0), six.0, six.1, &message);
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ike.pcap");
        std::fs::write(&path, file.bytes()).unwrap();
        let output = std::process::Command::new("tcpdump").args(["-nn", "-r"]).arg(&path).output();
        let output = output.expect("tcpdump is needed by this test");
        let text = String::from_utf8_lossy(&output.stdout);
        assert_eq!(text.matches("isakmp: parent_sa ikev2_init[I]").count(), 2, "{text}");
        assert!(text.contains("192.0.2.1.500 > 192.0.2.2.500"), "{text}");
    }
}
