//! Several transfers at the same time, each on a thread of its own that mostly waits.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use nodekiln_words::{Failure, Progress, Result, TaskId};

/// Calls `work` for all items, at most `width` at a time, and gives the results in the items' order.
/// After a failure no further item is begun.
pub(super) fn parallel<T: Sync, R: Send>(
    items: &[T],
    width: usize,
    work: impl Fn(&T) -> Result<R> + Sync,
) -> Result<Vec<R>> {
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let results: Mutex<Vec<(usize, R)>> = Mutex::default();
    let worker = || {
        while !stop.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { break };
            match work(item) {
                Ok(result) => {
                    results.lock().unwrap_or_else(PoisonError::into_inner).push((index, result));
                }
                Err(failure) => {
                    stop.store(true, Ordering::Relaxed);
                    return Err(failure);
                }
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..width.min(items.len())).map(|_| scope.spawn(worker)).collect();
        let ended = |_| Err(Failure::io("a transfer ended unexpectedly"));
        // All of them, so that the failure is the first one by number and nothing goes on behind.
        let ends: Vec<Result<()>> =
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(ended)).collect();
        ends.into_iter().collect::<Result<()>>()
    })?;
    let mut results = results.into_inner().unwrap_or_else(PoisonError::into_inner);
    results.sort_unstable_by_key(|(index, _)| *index);
    Ok(results.into_iter().map(|(_, result)| result).collect())
}

/// Adds up what several transfers of one task have moved.
pub(super) struct Meter<'a> {
    progress: &'a dyn Progress,
    task: TaskId,
    done: AtomicU64,
}

impl<'a> Meter<'a> {
    pub(super) fn new(progress: &'a dyn Progress, title: &str, total: Option<u64>) -> Self {
        Self { progress, task: progress.start(title, total, "B"), done: AtomicU64::new(0) }
    }

    pub(super) fn add(&self, bytes: u64) {
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        self.progress.advance(self.task, done);
    }

    /// Ends the task as `outcome` says, with `note` where it went well.
    pub(super) fn end<T>(&self, outcome: &Result<T>, note: &str) {
        match outcome {
            Ok(_) => self.progress.finish(self.task, note),
            Err(_) => self.progress.fail(self.task),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_come_in_order_and_a_failure_ends_the_rest() {
        let items: Vec<usize> = (0..100).collect();
        let doubled = parallel(&items, 7, |item| Ok(item * 2)).unwrap();
        assert!(doubled.iter().enumerate().all(|(index, result)| *result == index * 2));
        let begun = AtomicUsize::new(0);
        let outcome = parallel(&items, 2, |_| {
            begun.fetch_add(1, Ordering::Relaxed);
            Err::<(), _>(Failure::io("no"))
        });
        assert!(outcome.is_err() && begun.into_inner() <= 2);
        assert!(parallel(&[0], 1, |_| -> Result<()> { panic!("a fault") }).is_err());
    }
}
