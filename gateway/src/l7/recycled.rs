//! Futures in recycled memory: what a connection needs only while it is at work.
//!
//! The future of a request is ten times as large as what an idle connection has to remember. It
//! lives in a box that goes back to its thread's pool afterwards, so that idle connections don't
//! hold it, and busy ones get the memory that is still in the cache.

use std::cell::RefCell;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::thread::LocalKey;

use tokio_util::sync::ReusableBoxFuture;

/// How many free boxes a thread keeps.
const KEEP: usize = 256;

/// A thread's free boxes for futures of one type.
pub(crate) struct Boxes<T: 'static>(RefCell<Vec<ReusableBoxFuture<'static, T>>>);

impl<T: 'static> Boxes<T> {
    pub(crate) const fn new() -> Self {
        Self(RefCell::new(Vec::new()))
    }

    /// A box with this future in it.
    fn fill(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> ReusableBoxFuture<'static, T> {
        match self.0.borrow_mut().pop() {
            Some(mut recycled) => {
                recycled.set(future);
                recycled
            }
            None => ReusableBoxFuture::new(future),
        }
    }

    /// Takes back a box whose future has ended.
    fn give_back(&self, ended: ReusableBoxFuture<'static, T>) {
        let mut free = self.0.borrow_mut();
        if free.len() < KEEP {
            free.push(ended);
        }
    }
}

/// A future at work in one of the thread's boxes.
pub(crate) struct Running<T: 'static> {
    boxes: &'static LocalKey<Boxes<T>>,
    boxed: Option<ReusableBoxFuture<'static, T>>,
}

/// Puts a future into one of the thread's boxes. Not an async function: that would hold room for
/// the future itself.
pub(crate) fn run<T>(
    boxes: &'static LocalKey<Boxes<T>>,
    future: impl Future<Output = T> + Send + 'static,
) -> Running<T> {
    Running { boxes, boxed: Some(boxes.with(|boxes| boxes.fill(future))) }
}

impl<T> Future for Running<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        let Some(boxed) = &mut self.boxed else { return Poll::Pending };
        let output = ready!(boxed.poll(cx));
        let boxes = self.boxes;
        // Only a future that has ended gives its box back: another one holds what it works on.
        if let Some(ended) = self.boxed.take() {
            boxes.with(|boxes| boxes.give_back(ended));
        }
        Poll::Ready(output)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static BOXES: Boxes<u32> = const { Boxes::new() };
    }

    async fn one_more(number: u32) -> u32 {
        let large = [number; 400];
        tokio::task::yield_now().await;
        large[7] + 1
    }

    fn free() -> usize {
        BOXES.with(|boxes| boxes.0.borrow().len())
    }

    #[tokio::test]
    async fn a_box_goes_back_when_its_future_has_ended_and_not_before() {
        assert_eq!(run(&BOXES, one_more(1)).await, 2);
        assert_eq!(free(), 1);
        let under_way = run(&BOXES, one_more(2));
        assert_eq!(free(), 0);
        drop(under_way);
        assert_eq!(free(), 0);
        let both = tokio::join!(run(&BOXES, one_more(3)), run(&BOXES, one_more(4)));
        assert_eq!((both, free()), ((4, 5), 2));
    }

    #[test]
    fn who_waits_holds_a_pointer_and_not_the_future() {
        let running = run(&BOXES, one_more(1));
        assert!(size_of_val(&running) <= 32, "{}", size_of_val(&running));
    }
}
