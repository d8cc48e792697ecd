//! Coarse deadlines: one timer per connection, a store to set it, one sweep per tick.
//!
//! tokio's own timers cost an insertion and a removal each time; a request sets four. Here a
//! deadline is a number in a table of the thread, and a tick every [`TICK`] looks through the
//! table. A deadline therefore strikes up to two ticks late, and never early.

use std::cell::{Cell, RefCell};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

/// How often deadlines are looked at.
pub(crate) const TICK: Duration = Duration::from_millis(50);

const NONE: u64 = u64::MAX;

struct Table {
    /// Milliseconds since the thread's start, as of the last tick.
    now: Cell<u64>,
    deadlines: RefCell<Vec<u64>>,
    wakers: RefCell<Vec<Option<Waker>>>,
    free: RefCell<Vec<u32>>,
    /// Every deadline has passed.
    expired: Cell<bool>,
}

thread_local! {
    static TABLE: Table = const {
        Table {
            now: Cell::new(0),
            deadlines: RefCell::new(Vec::new()),
            wakers: RefCell::new(Vec::new()),
            free: RefCell::new(Vec::new()),
            expired: Cell::new(false),
        }
    };
}

/// The deadline of one task. The task must stay on the thread that made it.
#[derive(Debug)]
pub(crate) struct Timer {
    slot: u32,
}

/// The deadline has passed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Elapsed;

impl Timer {
    /// A timer that is not set, for the task that is being polled.
    pub(crate) fn new(waker: &Waker) -> Self {
        let slot = TABLE.with(|table| {
            let mut wakers = table.wakers.borrow_mut();
            if let Some(slot) = table.free.borrow_mut().pop() {
                wakers[slot as usize] = Some(waker.clone());
                return slot;
            }
            wakers.push(Some(waker.clone()));
            table.deadlines.borrow_mut().push(NONE);
            (wakers.len() - 1) as u32
        });
        Self { slot }
    }

    /// Sets the deadline: not before `timeout` has passed, and up to two ticks later.
    #[inline]
    pub(crate) fn set(&self, timeout: Duration) {
        let ms = u64::try_from((timeout + TICK).as_millis()).unwrap_or(NONE / 2);
        TABLE.with(|table| {
            let at = table.now.get().saturating_add(ms).min(NONE - 1);
            table.deadlines.borrow_mut()[self.slot as usize] = at;
        });
    }

    /// Takes the deadline away.
    #[inline]
    pub(crate) fn clear(&self) {
        TABLE.with(|table| table.deadlines.borrow_mut()[self.slot as usize] = NONE);
    }

    /// Whether the deadline has passed.
    #[inline]
    pub(crate) fn is_elapsed(&self) -> bool {
        TABLE.with(|table| {
            table.deadlines.borrow()[self.slot as usize] <= table.now.get() || table.expired.get()
        })
    }

    /// Waits for `poll` no longer than `timeout`.
    pub(crate) async fn within<T>(
        &self,
        timeout: Duration,
        mut poll: impl FnMut(&mut Context<'_>) -> Poll<T>,
    ) -> Result<T, Elapsed> {
        self.set(timeout);
        let result = std::future::poll_fn(|cx| match poll(cx) {
            Poll::Ready(value) => Poll::Ready(Ok(value)),
            Poll::Pending if self.is_elapsed() => Poll::Ready(Err(Elapsed)),
            Poll::Pending => Poll::Pending,
        })
        .await;
        self.clear();
        result
    }
}

impl Drop for Timer {
    fn drop(&mut self) {
        // At the thread's end the table may be gone before the last task.
        let _ = TABLE.try_with(|table| {
            table.deadlines.borrow_mut()[self.slot as usize] = NONE;
            table.wakers.borrow_mut()[self.slot as usize] = None;
            table.free.borrow_mut().push(self.slot);
        });
    }
}

/// A timer for the current task.
pub(crate) async fn timer() -> Timer {
    std::future::poll_fn(|cx| Poll::Ready(Timer::new(cx.waker()))).await
}

/// Whether all deadlines have been made to strike.
pub(crate) fn are_expired() -> bool {
    TABLE.with(|table| table.expired.get())
}

/// Milliseconds since the thread's start, as of the last tick.
pub(crate) fn coarse_now() -> u64 {
    TABLE.with(|table| table.now.get())
}

/// Wakes every task whose deadline has passed, every tick, for ever. `each_tick` runs after it.
pub(crate) async fn run(mut each_tick: impl FnMut()) {
    let start = Instant::now();
    let mut interval = tokio::time::interval(TICK);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        interval.tick().await;
        sweep(u64::try_from(start.elapsed().as_millis()).unwrap_or(NONE - 1));
        each_tick();
    }
}

fn sweep(now: u64) {
    TABLE.with(|table| {
        table.now.set(now);
        let wakers = table.wakers.borrow();
        for (slot, _) in table.deadlines.borrow().iter().enumerate().filter(|(_, at)| **at <= now) {
            // Waking only queues the task, so the table isn't touched under us.
            if let Some(waker) = &wakers[slot] {
                waker.wake_by_ref();
            }
        }
    });
}

/// Wakes every task that has a timer, so that it looks at what has changed.
pub(crate) fn wake_all() {
    TABLE.with(|table| {
        for waker in table.wakers.borrow().iter().flatten() {
            waker.wake_by_ref();
        }
    });
}

/// Makes every deadline strike, whatever is set from now on.
pub(crate) fn expire_all() {
    TABLE.with(|table| table.expired.set(true));
    wake_all();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deadlines_hold_after_two_months() {
        let days = 60 * 24 * 3600 * 1000;
        sweep(days);
        let timer = Timer::new(Waker::noop());
        timer.set(Duration::from_secs(10));
        assert!(!timer.is_elapsed());
        sweep(days + 9_999);
        assert!(!timer.is_elapsed());
        sweep(days + 10_000 + TICK.as_millis() as u64);
        assert!(timer.is_elapsed());
    }
}
