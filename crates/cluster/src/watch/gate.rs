//! One at a time asks whether the API is back.

use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::Instant;

use super::Pace;

/// What all who ask the API share.
///
/// As long as it answers, everybody asks as they like. Once it doesn't, they queue up: the first
/// asks now and then, and when it gets an answer the others go on, not all in one moment.
pub(super) struct Gate {
    pace: Pace,
    /// Why it doesn't answer; none while it does.
    failing: watch::Sender<Option<String>>,
    turn: Mutex<Turn>,
}

struct Turn {
    failures: u32,
    last: Option<Instant>,
}

/// Delays grow from this one.
const FIRST: Duration = Duration::from_millis(100);

impl Gate {
    pub(super) fn new(pace: Pace) -> Self {
        let turn = Mutex::new(Turn { failures: 0, last: None });
        Self { pace, failing: watch::Sender::new(None), turn }
    }

    /// Why the API doesn't answer; none while it does.
    pub(super) fn failing(&self) -> watch::Receiver<Option<String>> {
        self.failing.subscribe()
    }

    /// Asks the API, when it is time to. `is_outage` says whether an error means that others
    /// needn't ask either, and names it.
    pub(super) async fn pass<T, E>(
        &self,
        ask: impl Future<Output = Result<T, E>>,
        is_outage: impl Fn(&E) -> Option<String>,
    ) -> Result<T, E> {
        if self.is_failing() {
            let mut turn = self.turn.lock().await;
            if self.is_failing() {
                if let Some(last) = turn.last {
                    tokio::time::sleep_until(last + self.delay(turn.failures)).await;
                }
                turn.last = Some(Instant::now());
                let result = ask.await;
                match result.as_ref().err().and_then(&is_outage) {
                    Some(reason) => {
                        turn.failures = turn.failures.saturating_add(1);
                        self.set(Some(reason));
                    }
                    None => {
                        *turn = Turn { failures: 0, last: None };
                        self.set(None);
                    }
                }
                return result;
            }
            drop(turn);
            tokio::time::sleep(self.pace.jitter.mul_f64(fastrand::f64())).await;
        }
        let result = ask.await;
        match result.as_ref().err().and_then(&is_outage) {
            Some(reason) => {
                // The first one to wait waits from now on.
                if let Ok(mut turn) = self.turn.try_lock() {
                    turn.last.get_or_insert_with(Instant::now);
                }
                self.set(Some(reason));
            }
            // Of an outage that begins meanwhile this says nothing.
            None if result.is_ok() => self.set(None),
            None => {}
        }
        result
    }

    fn is_failing(&self) -> bool {
        self.failing.borrow().is_some()
    }

    fn set(&self, reason: Option<String>) {
        self.failing.send_if_modified(|failing| {
            let changed = *failing != reason;
            *failing = reason;
            changed
        });
    }

    /// From one question to the next.
    fn delay(&self, failures: u32) -> Duration {
        let grown = FIRST.saturating_mul(2u32.saturating_pow(failures.min(16)));
        grown.min(self.pace.outage).mul_f64(0.75 + fastrand::f64() / 4.0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn in_an_outage_one_asks_and_then_all_go_on() {
        let pace = Pace::default();
        let gate = Arc::new(Gate::new(pace));
        let (up, asked, done) = <(Arc<AtomicBool>, Arc<AtomicU32>, Arc<AtomicU32>)>::default();
        for _ in 0..16 {
            let (gate, up, asked, done) =
                (Arc::clone(&gate), Arc::clone(&up), Arc::clone(&asked), Arc::clone(&done));
            tokio::spawn(async move {
                let ask = || async {
                    asked.fetch_add(1, Ordering::Relaxed);
                    up.load(Ordering::Relaxed).then_some(()).ok_or("gone")
                };
                while gate.pass(ask(), |reason| Some((*reason).to_owned())).await.is_err() {}
                done.fetch_add(1, Ordering::Relaxed);
            });
        }
        tokio::time::sleep(Duration::from_secs(3600)).await;
        let during = asked.load(Ordering::Relaxed);
        // Each once at first, and then one a second.
        assert!((3600..=4900).contains(&during), "{during}");
        up.store(true, Ordering::Relaxed);
        tokio::time::sleep(pace.outage + pace.jitter).await;
        assert_eq!(done.load(Ordering::Relaxed), 16);
        assert!(asked.load(Ordering::Relaxed) <= during + 18);
        assert_eq!(*gate.failing().borrow(), None);
    }
}
