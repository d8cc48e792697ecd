//! ESP packets that wait to be sent in one system call.

use std::sync::Arc;

use netdev::udp::Unsent;

use super::sa::{Sa, Way};
use super::shared::Sockets;

/// The kernel's limit on segments.
const SEGMENTS: usize = 64;
/// What the length field of UDP over IPv4 leaves, rounded down.
const OCTETS: usize = 65_000;

/// ESP packets of one size for one other end.
#[derive(Debug, Default)]
pub(super) struct Pending {
    way: Option<Arc<Way>>,
    tos: u8,
    /// The length of each.
    segment: usize,
    count: usize,
    /// The last one is shorter, so that it is the last.
    closed: bool,
    contents: Vec<u8>,
}

impl Pending {
    /// Whether one more of this length can be added.
    #[inline]
    pub(super) fn fits(&self, way: &Arc<Way>, tos: u8, length: usize) -> bool {
        match &self.way {
            None => true,
            Some(same) => {
                !self.closed
                    && (Arc::ptr_eq(same, way) || (same.path, same.udp) == (way.path, way.udp))
                    && tos == self.tos
                    && length <= self.segment
                    && self.count < SEGMENTS
                    && self.contents.len() + length <= OCTETS
            }
        }
    }

    /// Seals a packet behind the others. It has to fit.
    #[inline]
    pub(super) fn seal(
        &mut self,
        sa: &Sa,
        way: &Arc<Way>,
        tos: u8,
        sequence: u64,
        next_header: u8,
        parts: &[&[u8]],
    ) {
        let start = self.contents.len();
        sa.outbound.seal(sequence, next_header, parts, &mut self.contents);
        let length = self.contents.len() - start;
        if self.way.is_none() {
            self.way = Some(Arc::clone(way));
            (self.tos, self.segment) = (tos, length);
        }
        self.closed = length < self.segment;
        self.count += 1;
    }

    /// Sends what waits. Tells what could not be sent.
    pub(super) fn flush(&mut self, sockets: &Sockets) -> Result<(), Unsent> {
        let Some(way) = self.way.take() else { return Ok(()) };
        let result = sockets.send(&way, self.tos, &self.contents, self.segment);
        if result.as_ref().is_err_and(Unsent::is_too_big) {
            way.stale.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        self.contents.clear();
        self.count = 0;
        self.closed = false;
        result
    }
}
