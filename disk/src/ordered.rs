//! Work on all cores whose results are taken in order, with bounded memory.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use nodekiln_words::{Cancel, Failure, Result};

/// Jobs that may be begun or done before their turn, for each thread.
pub(crate) const AHEAD: usize = 4;

/// What the threads share.
struct Board<T> {
    /// The next job that nobody has begun.
    next: usize,
    /// The job whose result is consumed next.
    turn: usize,
    /// Results that wait for their turn.
    ready: BTreeMap<usize, Result<T>>,
    /// Threads still at work.
    threads: usize,
    /// Nobody begins another job.
    stop: bool,
}

/// The board and the bell rung at each change of it.
struct Shop<T> {
    board: Mutex<Board<T>>,
    changed: Condvar,
}

/// Signs a thread off when it ends, be it by a panic, so that nobody waits for it.
struct Shift<'a, T>(&'a Shop<T>);

/// Stops the shop when the consumer ends, be it by a panic: threads that wait for their turn would
/// wait for ever, and the scope for them.
struct Closing<'a, T>(&'a Shop<T>);

impl<T> Shop<T> {
    fn lock(&self) -> MutexGuard<'_, Board<T>> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, board: MutexGuard<'a, Board<T>>) -> MutexGuard<'a, Board<T>> {
        self.changed.wait(board).unwrap_or_else(PoisonError::into_inner)
    }

    /// The next job to work on, once it is not too far ahead; `None` when there is none.
    fn take(&self, jobs: usize, window: usize) -> Option<usize> {
        let mut board = self.lock();
        while !board.stop && board.next < jobs && board.next >= board.turn + window {
            board = self.wait(board);
        }
        if board.stop || board.next >= jobs {
            return None;
        }
        board.next += 1;
        Some(board.next - 1)
    }

    fn deliver(&self, job: usize, result: Result<T>) {
        let mut board = self.lock();
        board.stop |= result.is_err();
        board.ready.insert(job, result);
        self.changed.notify_all();
    }

    /// Waits for the result of `job`.
    fn collect(&self, job: usize) -> Result<T> {
        let mut board = self.lock();
        loop {
            if let Some(result) = board.ready.remove(&job) {
                board.turn = job + 1;
                self.changed.notify_all();
                return result;
            }
            // A failure further on stops the others, and may leave this job without a worker.
            if board.threads == 0 {
                let failed = board.ready.values().position(Result::is_err);
                let first = failed.and_then(|index| board.ready.keys().nth(index).copied());
                return match first.and_then(|key| board.ready.remove(&key)) {
                    Some(result) => result,
                    None => Err(Failure::io(format!("job {job} was left undone"))),
                };
            }
            board = self.wait(board);
        }
    }
}

impl<T> Drop for Shift<'_, T> {
    fn drop(&mut self) {
        let mut board = self.0.lock();
        board.threads -= 1;
        // The job in hand is never delivered, so the others would wait for its turn to pass.
        board.stop |= std::thread::panicking();
        drop(board);
        self.0.changed.notify_all();
    }
}

impl<T> Drop for Closing<'_, T> {
    fn drop(&mut self) {
        self.0.lock().stop = true;
        self.0.changed.notify_all();
    }
}

/// Runs jobs `0..jobs` on as many threads as the current rayon pool has, and hands each result to
/// `consume` on the calling thread, in ascending order.
///
/// Each thread keeps a state made by `state` (a compressor, say) and passes it to `work`. At most a
/// few results for each thread wait at any time. As the order is fixed, what `consume` sees does
/// not depend on the number of threads.
///
/// # Errors
/// The first failure of `work` or `consume`, and [`Failure::interrupted`] once `cancel` is set.
///
/// # Panics
/// When `state`, `work` or `consume` does, once all threads have ended.
pub fn ordered<T: Send, S>(
    jobs: usize,
    cancel: &Cancel,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<T> + Sync,
    consume: impl FnMut(usize, T) -> Result<()>,
) -> Result<()> {
    ordered_on((rayon::current_num_threads(), AHEAD), jobs, cancel, state, work, consume)
}

/// As [`ordered`], on so many threads, with so many jobs for each that may be begun or done before their turn.
pub(crate) fn ordered_on<T: Send, S>(
    (threads, ahead): (usize, usize),
    jobs: usize,
    cancel: &Cancel,
    state: impl Fn() -> S + Sync,
    work: impl Fn(&mut S, usize) -> Result<T> + Sync,
    mut consume: impl FnMut(usize, T) -> Result<()>,
) -> Result<()> {
    let threads = threads.min(jobs);
    let window = threads * ahead.max(1);
    let board = Board { next: 0, turn: 0, ready: BTreeMap::new(), threads, stop: false };
    let shop = Shop { board: Mutex::new(board), changed: Condvar::new() };
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let shift = Shift(&shop);
                let mut state = state();
                while let Some(job) = shift.0.take(jobs, window) {
                    let result = cancel.check().and_then(|()| work(&mut state, job));
                    shift.0.deliver(job, result);
                }
            });
        }
        let _closing = Closing(&shop);
        (0..jobs).try_for_each(|job| consume(job, shop.collect(job)?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_pool<T: Send>(threads: usize, run: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(run)
    }

    #[test]
    fn results_come_in_order_with_any_number_of_threads() {
        for threads in [1, 2, 7] {
            let mut seen = Vec::new();
            let square = |(): &mut (), job: usize| Ok(job * job);
            in_pool(threads, || {
                ordered(
                    100,
                    &Cancel::default(),
                    || (),
                    square,
                    |job, result| {
                        seen.push((job, result));
                        Ok(())
                    },
                )
            })
            .unwrap();
            assert_eq!(seen, (0..100).map(|job| (job, job * job)).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_failure_of_a_job_ends_the_work_and_is_returned() {
        let fail = |(): &mut (), job: usize| {
            if job == 13 { Err(Failure::io("job 13")) } else { Ok(job) }
        };
        for threads in [1, 3] {
            let result =
                in_pool(threads, || ordered(1000, &Cancel::default(), || (), fail, |_, _| Ok(())));
            assert_eq!(result.unwrap_err().to_string(), "job 13");
        }
    }

    #[test]
    fn a_failing_consumer_stops_the_workers() {
        let result = ordered(
            100_000,
            &Cancel::default(),
            || (),
            |(), job| Ok(job),
            |job, _| if job == 5 { Err(Failure::io("full")) } else { Ok(()) },
        );
        assert_eq!(result.unwrap_err().to_string(), "full");
    }

    /// Whether `run` panics; fails the test where it hangs instead.
    #[track_caller]
    fn panics(run: impl FnOnce() + Send + 'static) -> bool {
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || {
            let run = std::panic::AssertUnwindSafe(run);
            sender.send(std::panic::catch_unwind(run).is_err())
        });
        receiver.recv_timeout(std::time::Duration::from_secs(60)).expect("the threads hang")
    }

    #[test]
    fn a_worker_that_panics_takes_the_caller_down_and_nobody_waits_for_it() {
        for threads in [1, 2, 5] {
            let work = |(): &mut (), job: usize| if job == 13 { panic!("job 13") } else { Ok(job) };
            assert!(panics(move || in_pool(threads, || {
                let _ = ordered(1000, &Cancel::default(), || (), work, |_, _| Ok(()));
            })));
        }
    }

    #[test]
    fn a_consumer_that_panics_sends_the_workers_home() {
        for threads in [1, 2, 5] {
            let consume = |job: usize, _| if job == 5 { panic!("job 5") } else { Ok(()) };
            assert!(panics(move || in_pool(threads, || {
                let _ = ordered(1000, &Cancel::default(), || (), |(), job| Ok(job), consume);
            })));
        }
    }

    #[test]
    fn cancelling_is_noticed() {
        let cancel = Cancel::default();
        let result = ordered(
            100,
            &cancel,
            || (),
            |(), job| Ok(job),
            |job, _| {
                if job == 3 {
                    cancel.cancel();
                }
                Ok(())
            },
        );
        assert!(result.is_err());
    }
}
