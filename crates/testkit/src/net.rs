//! Addresses and waiting.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// How long any single step of a test may take before the test fails.
pub const DEADLINE: Duration = Duration::from_secs(10);

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
