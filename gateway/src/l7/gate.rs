//! Answers before new requests: a thread begins only so many requests a turn of its event loop.
//!
//! With hundreds of clients ready at once, the event loop would read all their requests before it
//! looked at a single answer: as many connections to endpoints would be in use, as many buffers
//! filled, and all of it cold in the cache when its turn comes. So after [`ROUND`] requests the
//! others wait, unread, until the sockets have been asked for news. Nothing waits for an endpoint:
//! each turn lets the next round in, however slow the answers are.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::poll_fn;
use std::task::{Context, Poll, Waker};

/// Requests begun in one turn. From measurements: 16 to 64 cost the same, 8 and 512 more.
const ROUND: usize = 32;

/// With so few left to begin, they are counted anew in the next turn.
const LOW: usize = ROUND / 2;

struct Gate {
    /// How many may still begin in this turn.
    left: Cell<usize>,
    /// Those that wait for the next ones, in order.
    waiting: RefCell<VecDeque<Waker>>,
    /// [`keep`], while it sleeps.
    keeper: RefCell<Option<Waker>>,
}

thread_local! {
    static GATE: Gate = const {
        Gate {
            left: Cell::new(ROUND),
            waiting: RefCell::new(VecDeque::new()),
            keeper: RefCell::new(None),
        }
    };
}

impl Gate {
    /// Whether one more may begin in this turn.
    fn enter(&self) -> bool {
        let left = self.left.get();
        // The keeper runs behind all tasks that are ready now, and counts anew then. It costs a
        // look at the sockets, so it is not woken for every few requests.
        if left <= LOW
            && let Some(keeper) = self.keeper.borrow_mut().take()
        {
            keeper.wake();
        }
        if left == 0 || !self.waiting.borrow().is_empty() {
            return false;
        }
        self.left.set(left - 1);
        true
    }

    /// Lets the next round in. Answers whether there is nothing to do for the next turn.
    fn turn(&self) -> bool {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.is_empty() && self.left.get() > LOW {
            return true;
        }
        let admitted = waiting.len().min(ROUND);
        self.left.set(ROUND - admitted);
        waiting.drain(..admitted).for_each(Waker::wake);
        false
    }
}

/// Waits until a request may begin.
pub(crate) async fn admit() {
    let mut waited = false;
    poll_fn(|cx: &mut Context<'_>| {
        GATE.with(|gate| {
            // Whoever wakes it, it has let the turn pass.
            if waited || gate.enter() {
                return Poll::Ready(());
            }
            waited = true;
            gate.waiting.borrow_mut().push_back(cx.waker().clone());
            Poll::Pending
        })
    })
    .await;
}

/// Lets the rounds in, for ever: a task on each thread that calls [`admit`].
pub(crate) async fn keep() {
    loop {
        poll_fn(|cx: &mut Context<'_>| {
            GATE.with(|gate| {
                if !gate.turn() {
                    return Poll::Ready(());
                }
                *gate.keeper.borrow_mut() = Some(cx.waker().clone());
                Poll::Pending
            })
        })
        .await;
        // Comes back after the event loop has asked the sockets for news.
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use super::*;

    #[tokio::test]
    async fn a_turn_lets_one_round_in_and_all_come_in_within_as_many_turns_as_it_takes() {
        let begun = Cell::new(0);
        let mut all: Vec<_> = (0..ROUND * 3 + 1)
            .map(|_| {
                Box::pin(async {
                    admit().await;
                    begun.set(begun.get() + 1);
                })
            })
            .collect();
        let mut keeper = pin!(keep());
        let mut rounds = Vec::new();
        for _ in 0..10 {
            poll_fn(|cx| {
                all.retain_mut(|one| one.as_mut().poll(cx).is_pending());
                Poll::Ready(())
            })
            .await;
            rounds.push(begun.get());
            poll_fn(|cx| {
                // Polled anew whether it was woken or not: its yield is over by then.
                let _ = keeper.as_mut().poll(cx);
                Poll::Ready(())
            })
            .await;
        }
        assert_eq!(begun.get(), ROUND * 3 + 1, "{rounds:?}");
        assert_eq!(rounds.first(), Some(&ROUND), "{rounds:?}");
    }
}
