//! Futures in recycled memory: what a connection needs only while it is at work.
//!
//! The future of a request is several times as large as what an idle connection has to remember.
//! It is part of a worker, a boxed future that does one job after the other, and goes back to its
//! thread's pool in between: so idle connections don't hold it, busy ones get the memory that is
//! still in the cache, and nothing large is ever moved.

use std::cell::RefCell;
use std::convert::Infallible;
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread::LocalKey;

/// How many free workers a thread keeps.
const KEEP: usize = 256;

pub(crate) type Worker = Pin<Box<dyn Future<Output = Infallible> + Send>>;

/// A thread's workers for one kind of job.
pub(crate) struct Workers<J: 'static, D: 'static> {
    free: RefCell<Vec<Worker>>,
    /// The job for the worker that is polled next.
    job: RefCell<Option<J>>,
    /// What the worker that was polled last has done.
    done: RefCell<Option<D>>,
}

impl<J, D> Workers<J, D> {
    pub(crate) const fn new() -> Self {
        Self { free: RefCell::new(Vec::new()), job: RefCell::new(None), done: RefCell::new(None) }
    }
}

/// What a worker is: `job` for each job that comes, for ever.
pub(crate) async fn work<J, D, F>(
    workers: &'static LocalKey<Workers<J, D>>,
    job: impl Fn(J) -> F,
) -> Infallible
where
    F: Future<Output = D>,
{
    loop {
        let next = poll_fn(|_| match workers.with(|workers| workers.job.take()) {
            Some(job) => Poll::Ready(job),
            None => Poll::Pending,
        });
        let done = job(next.await).await;
        workers.with(|workers| workers.done.replace(Some(done)));
    }
}

/// A job, until it is done: `job` is taken at the first poll. `hire` makes a worker if none is free.
pub(crate) async fn run<J, D>(
    workers: &'static LocalKey<Workers<J, D>>,
    job: &mut Option<J>,
    hire: fn() -> Worker,
) -> D {
    let mut worker: Option<Worker> = None;
    poll_fn(|cx: &mut Context<'_>| {
        workers.with(|workers| {
            let at_work = worker.get_or_insert_with(|| {
                workers.job.replace(job.take());
                workers.free.borrow_mut().pop().unwrap_or_else(hire)
            });
            let Poll::Pending = at_work.as_mut().poll(cx);
            let Some(done) = workers.done.take() else { return Poll::Pending };
            // Only a worker that has done its job goes back: another one holds what it works on.
            let mut free = workers.free.borrow_mut();
            if let Some(idle) = worker.take()
                && free.len() < KEEP
            {
                free.push(idle);
            }
            Poll::Ready(done)
        })
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    thread_local! {
        static WORKERS: Workers<u32, u32> = const { Workers::new() };
    }

    async fn one_more(number: u32) -> u32 {
        let large = [number; 400];
        tokio::task::yield_now().await;
        large[7] + 1
    }

    fn hire() -> Worker {
        Box::pin(work(&WORKERS, one_more))
    }

    fn free() -> usize {
        WORKERS.with(|workers| workers.free.borrow().len())
    }

    #[tokio::test]
    async fn a_worker_goes_back_when_its_job_is_done_and_not_before() {
        assert_eq!(run(&WORKERS, &mut Some(1), hire).await, 2);
        assert_eq!(free(), 1);
        {
            let mut job = Some(2);
            let mut under_way = std::pin::pin!(run(&WORKERS, &mut job, hire));
            let first = poll_fn(|cx| Poll::Ready(under_way.as_mut().poll(cx).is_pending())).await;
            assert!(first);
            assert_eq!(free(), 0);
        }
        assert_eq!(free(), 0);
        let (mut three, mut four) = (Some(3), Some(4));
        let both = tokio::join!(run(&WORKERS, &mut three, hire), run(&WORKERS, &mut four, hire));
        assert_eq!((both, free()), ((4, 5), 2));
    }

    #[test]
    fn who_waits_holds_a_pointer_and_not_the_future() {
        let mut job = Some(1);
        let running = run(&WORKERS, &mut job, hire);
        assert!(size_of_val(&running) <= 96, "{}", size_of_val(&running));
    }
}
