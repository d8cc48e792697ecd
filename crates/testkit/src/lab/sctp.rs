//! SCTP's first packet (RFC 9260, 3.3.2), by raw sockets: not every kernel speaks SCTP itself.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};

use crate::lab::Namespace;
use crate::net::eventually;

const SCTP: i32 = 132;
/// The INIT chunk's type.
const INIT: u8 = 1;
const HEADER: usize = 12;

/// An INIT as it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SctpInit {
    /// Who sent it.
    pub source: SocketAddr,
    /// The port that it was sent to.
    pub port: u16,
    /// Whether its checksum is right.
    pub checksum: bool,
}

/// Records every INIT that comes into a namespace over IPv4.
#[derive(Debug)]
pub struct SctpListener {
    stopping: Arc<AtomicBool>,
    seen: Arc<Mutex<Vec<SctpInit>>>,
}

impl SctpListener {
    /// Starts to listen.
    #[track_caller]
    pub fn start(namespace: &Namespace) -> Self {
        let socket = namespace.run(raw_socket);
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let stopping = Arc::new(AtomicBool::new(false));
        let seen = Arc::<Mutex<Vec<SctpInit>>>::default();
        let listener = Self { stopping: Arc::clone(&stopping), seen: Arc::clone(&seen) };
        thread::spawn(move || {
            let mut buf = vec![0; 2048];
            while !stopping.load(Ordering::SeqCst) {
                let Ok(len) = std::io::Read::read(&mut &socket, &mut buf) else { continue };
                seen.lock().unwrap().extend(parse(buf.get(..len).unwrap()));
            }
        });
        listener
    }

    /// What has come.
    pub fn seen(&self) -> Vec<SctpInit> {
        self.seen.lock().unwrap().clone()
    }
}

impl Drop for SctpListener {
    fn drop(&mut self) {
        self.stopping.store(true, Ordering::SeqCst);
    }
}

impl Namespace {
    /// Sends an INIT from a port to an IPv4 address.
    #[track_caller]
    pub fn send_sctp_init(&self, from: u16, to: SocketAddr) {
        let packet = init(from, to.port());
        self.run(|| {
            // To raw sockets, a port means nothing and may be refused.
            let address = SocketAddr::new(to.ip(), 0);
            raw_socket().send_to(&packet, &address.into()).unwrap();
        });
    }

    /// Sends INITs until one of the listeners has seen one from this port, and returns which.
    #[track_caller]
    pub fn sctp_reaches(
        &self,
        from: u16,
        to: SocketAddr,
        listeners: &[SctpListener],
    ) -> (usize, SctpInit) {
        eventually(&format!("an INIT to {to} comes through"), || {
            self.send_sctp_init(from, to);
            let find = || {
                listeners.iter().enumerate().find_map(|(number, listener)| {
                    let seen = listener.seen();
                    Some((number, *seen.iter().find(|init| init.source.port() == from)?))
                })
            };
            (0..50).find_map(|_| {
                find().or_else(|| {
                    thread::sleep(Duration::from_millis(2));
                    None
                })
            })
        })
    }
}

fn raw_socket() -> Socket {
    Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(SCTP))).unwrap()
}

/// Common header and INIT chunk.
fn init(from: u16, to: u16) -> Vec<u8> {
    let mut packet = Vec::new();
    packet.extend(from.to_be_bytes());
    packet.extend(to.to_be_bytes());
    packet.extend([0; 8]); // verification tag of an INIT, checksum
    packet.extend([INIT, 0, 0, 20]);
    packet.extend(0x0102_0304_u32.to_be_bytes()); // initiate tag
    packet.extend(65_536_u32.to_be_bytes()); // receiver window
    packet.extend([0, 1, 0, 1]); // streams outbound, inbound
    packet.extend(1_u32.to_be_bytes()); // initial TSN
    let sum = crc32c(&packet).to_le_bytes();
    packet.splice(8..HEADER, sum);
    packet
}

/// A packet with its IPv4 header.
fn parse(packet: &[u8]) -> Option<SctpInit> {
    let header = usize::from(packet.first()? & 0x0f) * 4;
    let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let mut sctp = packet.get(header..)?.to_vec();
    let port = |at: usize| Some(u16::from_be_bytes(sctp.get(at..at + 2)?.try_into().ok()?));
    let (from, to) = (port(0)?, port(2)?);
    if *sctp.get(HEADER)? != INIT {
        return None;
    }
    let sum: Vec<u8> = sctp.splice(8..HEADER, [0; 4]).collect();
    let checksum = sum == crc32c(&sctp).to_le_bytes();
    Some(SctpInit { source: (IpAddr::from(source), from).into(), port: to, checksum })
}

/// CRC-32C (RFC 9260, appendix A).
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = !0;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 * (crc & 1));
        }
    }
    !crc
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksum_is_that_of_the_rfc() {
        // RFC 3720, B.4: 32 bytes of zeros.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
    }
}
