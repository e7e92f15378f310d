//! Checking that a qcow2 file is consistent: every reference counted, every count referred to,
//! every compressed cluster readable.

use std::cmp::Ordering;
use std::collections::BTreeSet;

use nodekiln_words::{Cancel, Class, Failure, Result};

use super::read::{Reader, check_host, read_range};
use super::table::{COPIED, Mapping, entries, l2_offset, refcount};

/// Host clusters beyond which a file is not checked: 16 TiB at 64 KiB.
const MAX_HOST_CLUSTERS: u64 = 1 << 28;
/// Problems beyond which no more are collected.
const MAX_PROBLEMS: usize = 100;

/// What a check found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Clusters stored plainly.
    pub plain: u64,
    /// Clusters stored compressed.
    pub compressed: u64,
    /// What is wrong, each naming structure and offset; empty when the file is sound.
    pub problems: Vec<String>,
    /// Clusters counted more often than they are used: room lost in the file, and no harm to the
    /// disk inside.
    pub leaks: Vec<String>,
}

/// Counts references while tables are walked.
struct Walk<'a> {
    reader: &'a Reader,
    /// References by host cluster.
    counts: Vec<u32>,
    report: Report,
}

impl Reader {
    /// Walks all tables, decompresses every compressed cluster and compares the refcounts.
    ///
    /// # Errors
    /// When the file cannot be read, has internal snapshots or bitmaps, is too large to check, or
    /// somebody asked to stop. What is wrong with the file itself is in the report.
    pub fn check(&self, cancel: &Cancel) -> Result<Report> {
        self.refuse_what_is_not_walked()?;
        let clusters = self.length.div_ceil(self.header.cluster());
        let room = usize::try_from(clusters).ok().filter(|_| clusters <= MAX_HOST_CLUSTERS);
        let room = room.ok_or_else(|| {
            Failure::new(Class::Unsupported, format!("checking {clusters} host clusters"))
        })?;
        let mut walk = Walk { reader: self, counts: vec![0; room], report: Report::default() };
        walk.count(0, 1, "header");
        walk.count(self.header.l1_offset, self.header.l1_bytes(), "L1 table");
        for (number, entry) in self.l1.iter().enumerate() {
            cancel.check()?;
            if l2_offset(*entry) != 0 {
                walk.table(number, l2_offset(*entry), cancel)?;
            }
        }
        let blocks = walk.refcount_blocks()?;
        walk.compare(&blocks, cancel)?;
        walk.copied_flags(&blocks, cancel)?;
        if self.header.dirty {
            walk.problem("header: dirty bit is set".to_owned());
        }
        Ok(walk.report)
    }

    /// Snapshots and bitmaps have tables of their own, whose clusters would be taken for leaks.
    fn refuse_what_is_not_walked(&self) -> Result<()> {
        let parts =
            [(self.header.snapshots, "internal snapshots"), (self.header.bitmaps, "bitmaps")];
        match parts.into_iter().find(|(count, _)| *count > 0) {
            None => Ok(()),
            Some((count, noun)) => {
                let what = format!("checking a qcow2 file with {count} {noun} is not supported");
                Err(Failure::new(Class::Unsupported, what)
                    .with_help("flatten it with `qemu-img convert -O qcow2`, and use the new file"))
            }
        }
    }
}

impl Walk<'_> {
    fn problem(&mut self, text: String) {
        if self.report.problems.len() < MAX_PROBLEMS {
            self.report.problems.push(text);
        }
    }

    /// Counts a reference to each host cluster that `length` bytes at `offset` touch.
    fn count(&mut self, offset: u64, length: u64, what: &str) {
        let cluster = self.reader.header.cluster();
        if length == 0 {
            return;
        }
        for host in offset / cluster..=offset.saturating_add(length - 1) / cluster {
            match usize::try_from(host).ok().and_then(|host| self.counts.get_mut(host)) {
                Some(count) => *count = count.saturating_add(1),
                None => return self.problem(format!("{what} at {offset} is behind the end")),
            }
        }
    }

    /// Walks one L2 table.
    fn table(&mut self, number: usize, offset: u64, cancel: &Cancel) -> Result<()> {
        let cluster = self.reader.header.cluster();
        self.count(offset, cluster, &format!("L2 table {number}"));
        let table = self.reader.table(offset)?;
        for (index, entry) in table.iter().enumerate() {
            cancel.check()?;
            let what = format!("L2 table {number} entry {index}");
            let mapping = Mapping::decode(*entry, self.reader.header.cluster_bits);
            if let Err(failure) = self.reader.check_mapping(mapping) {
                self.problem(format!("{what}: {failure}"));
                continue;
            }
            match mapping {
                Mapping::Absent | Mapping::Zero { host: 0 } => {}
                Mapping::Zero { host } => self.count(host, cluster, &what),
                Mapping::Plain { host } => {
                    self.report.plain += 1;
                    self.count(host, cluster, &what);
                }
                Mapping::Compressed { host, length } => {
                    self.report.compressed += 1;
                    let length = length.min(self.reader.length - host);
                    self.count(host, length, &what);
                    if let Err(failure) = self.reader.decompressed(host, length) {
                        self.problem(format!("{what}: {}", failure.chain().join(": ")));
                    }
                }
            }
        }
        Ok(())
    }

    /// Reads the refcount table and counts it and its blocks; returns the blocks' offsets.
    fn refcount_blocks(&mut self) -> Result<Vec<u64>> {
        let header = &self.reader.header;
        let bytes = u64::from(header.refcount_clusters) * header.cluster();
        let blocks = entries(&read_range(&self.reader.file, header.refcount_offset, bytes)?);
        self.count(header.refcount_offset, bytes, "refcount table");
        let mut sound = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, offset) in blocks.into_iter().enumerate() {
            let what = format!("refcount table entry {index}");
            let cluster = self.reader.header.cluster();
            match check_host(offset, cluster, self.reader.length, cluster) {
                // Each block is read whole, so one that is named often would be hours of work.
                Ok(()) if offset != 0 && !seen.insert(offset) => {
                    self.problem(format!("{what}: the block at {offset} is another entry's"));
                    sound.push(0);
                }
                Ok(()) => {
                    if offset != 0 {
                        self.count(offset, cluster, &what);
                    }
                    sound.push(offset);
                }
                Err(failure) => {
                    self.problem(format!("{what}: {failure}"));
                    sound.push(0);
                }
            }
        }
        Ok(sound)
    }

    /// Calls `visit` with each host cluster and the refcount stored for it.
    fn stored(
        &self,
        blocks: &[u64],
        cancel: &Cancel,
        mut visit: impl FnMut(u64, u64),
    ) -> Result<()> {
        let header = &self.reader.header;
        let per_block = (header.cluster() * 8) >> header.refcount_order;
        for (number, offset) in (0_u64..).zip(blocks) {
            cancel.check()?;
            let block = match offset {
                0 => Vec::new(),
                offset => read_range(&self.reader.file, *offset, header.cluster())?,
            };
            if block.is_empty() && number * per_block >= self.counts.len() as u64 {
                continue;
            }
            for index in 0..per_block {
                let position = usize::try_from(index).unwrap_or(usize::MAX);
                let count = refcount(&block, position, header.refcount_order).unwrap_or(0);
                visit(number * per_block + index, count);
            }
        }
        Ok(())
    }

    /// Compares references with stored refcounts.
    fn compare(&mut self, blocks: &[u64], cancel: &Cancel) -> Result<()> {
        let (mut low, mut leaks) = (Vec::new(), Vec::new());
        let mut seen = 0;
        let counts = &self.counts;
        self.stored(blocks, cancel, |host, stored| {
            let referred = usize::try_from(host).ok().and_then(|host| counts.get(host));
            let referred = u64::from(referred.copied().unwrap_or(0));
            seen = seen.max(host + 1);
            let (list, kind) = match stored.cmp(&referred) {
                Ordering::Equal => return,
                Ordering::Greater => (&mut leaks, "leaked"),
                Ordering::Less => (&mut low, "counted too low"),
            };
            if list.len() < MAX_PROBLEMS {
                let counted = format!("refcount {stored}, {referred} references");
                list.push(format!("host cluster {host} is {kind}: {counted}"));
            }
        })?;
        self.report.leaks = leaks;
        low.into_iter().for_each(|problem| self.problem(problem));
        let beyond = (0_u64..).zip(&self.counts).find(|(host, count)| *host >= seen && **count > 0);
        if let Some((host, count)) = beyond {
            self.problem(format!("host cluster {host} has no refcount, {count} references"));
        }
        Ok(())
    }

    /// The "copied" bit says that the refcount is exactly one.
    fn copied_flags(&mut self, blocks: &[u64], cancel: &Cancel) -> Result<()> {
        let mut single = vec![false; self.counts.len()];
        self.stored(blocks, cancel, |host, count| {
            if let Some(flag) = usize::try_from(host).ok().and_then(|host| single.get_mut(host)) {
                *flag = count == 1;
            }
        })?;
        let cluster = self.reader.header.cluster();
        let wrong = |entry: u64, host: u64| {
            let index = usize::try_from(host / cluster).unwrap_or(usize::MAX);
            (entry & COPIED != 0) != single.get(index).copied().unwrap_or(false)
        };
        for (number, l1_entry) in self.reader.l1.iter().enumerate() {
            let offset = l2_offset(*l1_entry);
            if offset == 0 {
                continue;
            }
            cancel.check()?;
            if wrong(*l1_entry, offset) {
                self.problem(format!("L1 entry {number}: copied flag disagrees with the refcount"));
            }
            for (index, entry) in self.reader.table(offset)?.iter().enumerate() {
                let what = format!("L2 table {number} entry {index}");
                match Mapping::decode(*entry, self.reader.header.cluster_bits) {
                    Mapping::Plain { host } if wrong(*entry, host) => {
                        self.problem(format!("{what}: copied flag disagrees with the refcount"));
                    }
                    Mapping::Compressed { .. } if entry & COPIED != 0 => {
                        self.problem(format!("{what}: copied flag on a compressed cluster"));
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }
}
