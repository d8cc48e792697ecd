//! Pooled buffers: a connection holds memory only while bytes are on their way.
//!
//! The pool belongs to the thread. It gives out the buffer that came back last, which is the one
//! still in the cache. What has lain there unused since the last [`tidy`] is freed by the next one,
//! so that a peak's memory does not stay.

use std::cell::RefCell;

/// For what is written and mostly short: heads, small answers.
const HEAD: usize = 2 * 1024;
/// Holds a largest TLS record (RFC 5246, 6.2.3) and any head.
pub(crate) const SMALL: usize = 18 * 1024 + 512;
/// For bodies: fewer system calls.
pub(crate) const LARGE: usize = 128 * 1024;
/// How many free buffers of each size a thread keeps.
const KEEP_HEAD: usize = 1024;
const KEEP_SMALL: usize = 512;
const KEEP_LARGE: usize = 64;

/// Free buffers of one size; the one that came back last is at the end.
struct Shelf {
    free: Vec<Box<[u8]>>,
    /// The fewest that were free at any moment since the last [`tidy`]: so many were not needed.
    spare: usize,
}

impl Shelf {
    const EMPTY: Self = Self { free: Vec::new(), spare: 0 };

    #[inline]
    fn pop(&mut self) -> Option<Box<[u8]>> {
        let memory = self.free.pop();
        self.spare = self.spare.min(self.free.len());
        memory
    }

    fn tidy(&mut self) {
        self.free.drain(..self.spare);
        self.free.shrink_to(self.free.len() * 2);
        self.spare = self.free.len();
    }
}

struct Pool {
    head: Shelf,
    small: Shelf,
    large: Shelf,
}

thread_local! {
    static POOL: RefCell<Pool> = const {
        RefCell::new(Pool { head: Shelf::EMPTY, small: Shelf::EMPTY, large: Shelf::EMPTY })
    };
}

/// Frees the thread's buffers that have not been needed since the last call. To be called now and
/// then; once a second is often enough, and seldom enough not to free what the next burst needs.
pub(crate) fn tidy() {
    POOL.with_borrow_mut(|pool| {
        pool.head.tidy();
        pool.small.tidy();
        pool.large.tidy();
    });
}

fn take(size: usize) -> Box<[u8]> {
    let pooled = POOL.with_borrow_mut(|pool| match size {
        HEAD => pool.head.pop(),
        SMALL => pool.small.pop(),
        LARGE => pool.large.pop(),
        _ => None,
    });
    pooled.unwrap_or_else(|| vec![0; size].into_boxed_slice())
}

fn give_back(memory: Box<[u8]>) {
    if memory.is_empty() {
        return;
    }
    // A thread that ends has no pool any more; the memory is then simply freed.
    let _ = POOL.try_with(|pool| {
        let Ok(mut pool) = pool.try_borrow_mut() else { return };
        match memory.len() {
            HEAD if pool.head.free.len() < KEEP_HEAD => pool.head.free.push(memory),
            SMALL if pool.small.free.len() < KEEP_SMALL => pool.small.free.push(memory),
            LARGE if pool.large.free.len() < KEEP_LARGE => pool.large.free.push(memory),
            _ => {}
        }
    });
}

/// A byte queue in one pooled piece of memory; none while it is empty and released.
#[derive(Debug, Default)]
pub(crate) struct Buf {
    memory: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Drop for Buf {
    fn drop(&mut self) {
        give_back(std::mem::take(&mut self.memory));
    }
}

impl Buf {
    /// The bytes in the queue.
    #[inline]
    pub(crate) fn filled(&self) -> &[u8] {
        &self.memory[self.start..self.end]
    }

    /// The bytes in the queue.
    #[inline]
    pub(crate) fn filled_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.end]
    }

    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.end - self.start
    }

    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.end == self.start
    }

    /// Drops `n` bytes from the front.
    #[inline]
    pub(crate) fn consume(&mut self, n: usize) {
        debug_assert!(n <= self.len());
        self.start += n;
        if self.start == self.end {
            self.start = 0;
            self.end = 0;
        }
    }

    /// Room behind the bytes: at least one byte, more after [`Buf::reserve`]; in an empty buffer,
    /// enough to read whatever comes.
    #[inline]
    pub(crate) fn spare(&mut self) -> &mut [u8] {
        if self.memory.is_empty() {
            self.reserve(SMALL);
        } else if self.end == self.memory.len() {
            self.reserve(1);
        }
        &mut self.memory[self.end..]
    }

    /// Whether the memory is full to its end, so that a reader may have left something.
    pub(crate) fn is_full(&self) -> bool {
        self.end == self.memory.len() && self.end > 0
    }

    /// Counts `n` bytes that were written into [`Buf::spare`].
    #[inline]
    pub(crate) fn fill(&mut self, n: usize) {
        debug_assert!(self.end + n <= self.memory.len());
        self.end += n;
    }

    /// Makes room for `n` more bytes, by moving what is there or by a larger piece of memory.
    pub(crate) fn reserve(&mut self, n: usize) {
        if self.memory.len() - self.end >= n {
            return;
        }
        let len = self.len();
        if self.start > 0 && self.memory.len() - len >= n {
            self.memory.copy_within(self.start..self.end, 0);
        } else {
            let size = match len + n {
                needed if needed <= HEAD => HEAD,
                needed if needed <= SMALL => SMALL,
                needed if needed <= LARGE => LARGE,
                needed => needed.next_power_of_two(),
            };
            let mut memory = take(size);
            memory[..len].copy_from_slice(self.filled());
            give_back(std::mem::replace(&mut self.memory, memory));
        }
        self.start = 0;
        self.end = len;
    }

    /// Adds bytes at the end.
    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.reserve(bytes.len());
        self.memory[self.end..self.end + bytes.len()].copy_from_slice(bytes);
        self.end += bytes.len();
    }

    /// Gives the memory back if nothing is in it.
    #[inline]
    pub(crate) fn release_if_empty(&mut self) {
        if self.is_empty() && !self.memory.is_empty() {
            give_back(std::mem::take(&mut self.memory));
            self.start = 0;
            self.end = 0;
        }
    }

    /// Whether it has no memory at present.
    #[cfg(test)]
    pub(crate) fn is_released(&self) -> bool {
        self.memory.is_empty()
    }

    /// Empties it and gives the memory back.
    pub(crate) fn clear(&mut self) {
        self.start = 0;
        self.end = 0;
        self.release_if_empty();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_in_order_over_growth() {
        let mut buf = Buf::default();
        let all: Vec<u8> = (0..40_000u32).map(|i| i as u8).collect();
        buf.put(&all[..100]);
        buf.consume(60);
        buf.put(&all[100..]);
        assert_eq!(buf.filled(), &all[60..]);
    }

    #[test]
    fn an_empty_buffer_holds_no_memory_after_release() {
        let mut buf = Buf::default();
        buf.put(b"x");
        buf.consume(1);
        buf.release_if_empty();
        assert!(buf.is_released());
    }

    fn free() -> (usize, usize) {
        POOL.with_borrow(|pool| (pool.head.free.len(), pool.large.free.len()))
    }

    #[test]
    fn buffers_that_nobody_needs_are_freed() {
        // A test's thread has a pool of its own.
        let use_at_once = |count: usize| {
            let mut bufs: Vec<Buf> = (0..count).map(|_| Buf::default()).collect();
            bufs.iter_mut().for_each(|buf| buf.put(b"x"));
        };
        use_at_once(100);
        assert_eq!(free(), (100, 0));
        tidy();
        assert_eq!(free(), (100, 0), "all were needed since the thread's start");
        (0..3).for_each(|_| use_at_once(30));
        Buf::default().reserve(LARGE);
        tidy();
        assert_eq!(free(), (30, 1));
        tidy();
        assert_eq!(free(), (0, 0));
    }
}
