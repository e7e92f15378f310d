//! Where a file's content stands.

use nodekiln_words::Result;

/// Blocks that follow each other, in the file and on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Run {
    /// The first block's number within the file.
    pub(crate) logical: u64,
    /// The first block's number within the file system.
    pub(crate) physical: u64,
    pub(crate) count: u64,
}

impl Run {
    /// The number of the block behind its last one, within the file.
    pub(crate) fn end(&self) -> u64 {
        self.logical.saturating_add(self.count)
    }

    /// Whether `next` goes on where it ends, in the file and on the disk.
    pub(crate) fn goes_on_in(&self, next: &Self) -> bool {
        self.end() == next.logical && self.physical.saturating_add(self.count) == next.physical
    }

    /// The block within the file system of block `logical` of a file of these runs; `None` in a hole.
    pub(crate) fn find(runs: &[Self], logical: u64) -> Option<u64> {
        let run = runs.get(runs.partition_point(|run| run.end() <= logical))?;
        Some(run.physical + logical.checked_sub(run.logical)?)
    }
}

/// Fills `buffer` with the content from byte `at` on of a file of these ascending runs of blocks of `block` bytes.
/// `read` reads what stands at a byte of the file system; holes are zeros, of whose count `zeros` is told.
///
/// # Errors
/// What the two fail with.
pub(crate) fn fill(
    runs: &[Run],
    block: u64,
    at: u64,
    buffer: &mut [u8],
    mut read: impl FnMut(u64, &mut [u8]) -> Result<()>,
    mut zeros: impl FnMut(u64) -> Result<()>,
) -> Result<()> {
    let end = at.saturating_add(buffer.len() as u64);
    let behind = |run: &Run| run.end().saturating_mul(block);
    let first = runs.partition_point(|run| behind(run) <= at);
    let (mut at, mut rest) = (at, buffer);
    for run in runs.iter().skip(first) {
        let start = run.logical.saturating_mul(block).clamp(at, end);
        let stop = behind(run).min(end);
        let length = |from: u64, to: u64| usize::try_from(to - from).unwrap_or(usize::MAX);
        let (gap, behind) = rest.split_at_mut(length(at, start).min(rest.len()));
        zeros(gap.len() as u64)?;
        gap.fill(0);
        if start >= end {
            return Ok(());
        }
        let (part, behind) = behind.split_at_mut(length(start, stop).min(behind.len()));
        read(run.physical * block + (start - run.logical * block), part)?;
        (at, rest) = (stop, behind);
    }
    zeros(rest.len() as u64)?;
    rest.fill(0);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_read_and_holes_are_not() {
        let run = |logical, physical, count| Run { logical, physical, count };
        let runs = [run(1, 10, 2), run(3, 20, 1), run(5, 4, 1)];
        assert_eq!([0, 1, 2, 3, 4, 5, 6].map(|logical| Run::find(&runs, logical)), {
            [None, Some(10), Some(11), Some(20), None, Some(4), None]
        });
        assert!(run(1, 10, 2).goes_on_in(&run(3, 12, 9)) && !runs[0].goes_on_in(&runs[1]));
        for (at, length) in [(0, 28), (3, 10), (4, 0), (16, 4), (17, 9), (23, 1), (24, 99)] {
            let (mut bytes, mut holes) = (vec![0xFF; length], 0);
            let read = |at: u64, bytes: &mut [u8]| {
                (at..).zip(bytes).for_each(|(at, byte)| *byte = u8::try_from(at).unwrap());
                Ok(())
            };
            let zeros = |count| {
                holes += count;
                Ok(())
            };
            fill(&runs, 4, at, &mut bytes, read, zeros).unwrap();
            let expected = (at..at + length as u64).map(|at| match Run::find(&runs, at / 4) {
                Some(block) => u8::try_from(block * 4 + at % 4).unwrap(),
                None => 0,
            });
            let expected: Vec<u8> = expected.collect();
            assert_eq!(bytes, expected, "{length} bytes at {at}");
            assert_eq!(holes, expected.iter().filter(|byte| **byte == 0).count() as u64);
        }
    }
}
