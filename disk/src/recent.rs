//! What was used last, kept in memory within a bound: tables and decompressed clusters of images, blocks of file
//! systems.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use nodekiln_words::Result;

/// Values by number, of which those used longest ago are dropped when all together weigh more than they may.
/// The one used last stays, whatever it weighs.
pub(crate) struct Recent<T> {
    most: usize,
    weigh: fn(&T) -> usize,
    kept: Mutex<Kept<T>>,
}

struct Kept<T> {
    /// The one used last is in front.
    values: VecDeque<(u64, Arc<T>)>,
    weight: usize,
}

impl<T> Recent<T> {
    /// Keeps what weighs `most` together, as `weigh` has it.
    pub(crate) fn new(most: usize, weigh: fn(&T) -> usize) -> Self {
        let kept = Kept { values: VecDeque::new(), weight: 0 };
        Self { most, weigh, kept: Mutex::new(kept) }
    }

    /// The value of `number`, which `make` makes where it is not kept. Others are not kept waiting meanwhile: two
    /// threads may make the same.
    ///
    /// # Errors
    /// What `make` fails with; nothing is kept of that.
    pub(crate) fn get_or(&self, number: u64, make: impl FnOnce() -> Result<T>) -> Result<Arc<T>> {
        if let Some(found) = self.found(number) {
            return Ok(found);
        }
        let made = Arc::new(make()?);
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if !kept.values.iter().any(|(other, _)| *other == number) {
            kept.weight += (self.weigh)(&made);
            kept.values.push_front((number, Arc::clone(&made)));
        }
        while kept.weight > self.most && kept.values.len() > 1 {
            if let Some((_, dropped)) = kept.values.pop_back() {
                kept.weight -= (self.weigh)(&dropped);
            }
        }
        Ok(made)
    }

    fn found(&self, number: u64) -> Option<Arc<T>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let place = kept.values.iter().position(|(other, _)| *other == number)?;
        let value = kept.values.remove(place)?;
        let found = Arc::clone(&value.1);
        kept.values.push_front(value);
        Some(found)
    }
}

impl<T> fmt::Debug for Recent<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recent").field("most", &self.most).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use nodekiln_words::Failure;

    use super::*;

    /// The value of a number is as long as the number, and so heavy.
    fn get(recent: &Recent<Vec<u8>>, number: u64, made: &mut Vec<u64>) -> usize {
        let make = || {
            made.push(number);
            Ok(vec![7; usize::try_from(number).unwrap()])
        };
        recent.get_or(number, make).unwrap().len()
    }

    #[test]
    fn what_was_used_longest_ago_is_dropped_first() {
        let (recent, mut made) = (Recent::new(10, Vec::len), Vec::new());
        for number in [3, 4, 3, 5, 3, 4] {
            assert_eq!(get(&recent, number, &mut made) as u64, number);
        }
        // 3 was used after 4, so 4 made room for 5.
        assert_eq!(made, [3, 4, 5, 4]);
    }

    #[test]
    fn one_that_is_too_heavy_stays_until_the_next() {
        let (recent, mut made) = (Recent::new(10, Vec::len), Vec::new());
        for number in [1, 99, 99, 2, 99] {
            get(&recent, number, &mut made);
        }
        assert_eq!(made, [1, 99, 2, 99]);
    }

    #[test]
    fn a_failure_is_not_kept() {
        let recent = Recent::new(10, Vec::len);
        assert!(recent.get_or(1, || Err(Failure::io("no"))).is_err());
        assert_eq!(*recent.get_or(1, || Ok(vec![1])).unwrap(), [1]);
    }
}
