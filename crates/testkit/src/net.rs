//! Addresses, sockets and waiting.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long any single step of a test may take before the test fails.
pub const DEADLINE: Duration = Duration::from_secs(10);

/// SO_RCVBUF of those who are to take little at a time.
pub(crate) const SMALL_WINDOW: usize = 4096;

/// TCP_MAXSEG of the same: as over Ethernet. Loopback's own 64 KiB would have the sender's kernel
/// buffer megabytes from the start.
pub(crate) const SMALL_SEGMENT: u32 = 1400;

/// A TCP connection's end as the kernel sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Socket {
    /// Its own address.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// Bytes written that the peer's kernel has not acknowledged.
    pub unsent: usize,
    /// Bytes received that the process has not read.
    pub unread: usize,
}

/// All TCP sockets over IPv4, as they are now. For waiting until a process has read what was sent
/// to it, or can write no more.
pub fn sockets() -> Vec<Socket> {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).filter_map(parse_socket).collect()
}

/// A line of /proc/net/tcp: number, local, remote, state, `unsent:unread`, ….
fn parse_socket(line: &str) -> Option<Socket> {
    let mut words = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (parse_address(words.next()?)?, parse_address(words.next()?)?);
    let (unsent, unread) = words.nth(1)?.split_once(':')?;
    let number = |hex| usize::from_str_radix(hex, 16).ok();
    Some(Socket { local, remote, unsent: number(unsent)?, unread: number(unread)? })
}

/// An address in the machine's byte order, then the port.
fn parse_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let ip = Ipv4Addr::from(u32::from_str_radix(ip, 16).ok()?.to_ne_bytes());
    Some(SocketAddr::from((ip, u16::from_str_radix(port, 16).ok()?)))
}

/// A loopback address that nobody else uses: two bytes from the process id, one counted.
pub fn unique_address() -> IpAddr {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    assert!(number < 250 * 64, "addresses of this process are used up");
    let [_, _, high, low] = std::process::id().to_be_bytes();
    // Past 250, change a byte that other processes' addresses are far from.
    let high = high.wrapping_add((number / 250) as u8 * 4);
    IpAddr::V4(Ipv4Addr::new(127, 1 + (number % 250) as u8, high, low))
}

/// Polls until there is an answer, and fails the test with `what` when the deadline has passed.
#[track_caller]
pub fn eventually<T>(what: &str, mut poll: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        if let Some(found) = poll() {
            return found;
        }
        assert!(Instant::now() < deadline, "not within {DEADLINE:?}: {what}");
        thread::sleep(Duration::from_millis(2));
    }
}
