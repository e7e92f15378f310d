//! The names of a folder.

use std::ops::Range;

use nodekiln_words::{Class, Failure, Result};

/// Most names of a folder that are listed.
const MOST_NAMES: usize = 1 << 17;

/// The names of a folder but `.` and `..`, sorted by their bytes, with their inodes.
#[derive(Debug)]
pub(crate) struct Listing {
    bytes: Vec<u8>,
    entries: Vec<(Range<usize>, u64)>,
    /// What kind of file system it is of, and the folder's inode: for what is told of damage.
    system: &'static str,
    folder: u64,
}

impl Listing {
    /// No names yet, of the folder of inode `folder` of a file system called `system`.
    pub(crate) fn of(system: &'static str, folder: u64) -> Self {
        Self { bytes: Vec::new(), entries: Vec::new(), system, folder }
    }

    /// Bytes of memory that it takes.
    pub(crate) fn weight(&self) -> usize {
        self.bytes.len() + self.entries.len() * size_of::<(Range<usize>, u64)>()
    }

    /// The name at `index` and its inode.
    pub(crate) fn get(&self, index: usize) -> Option<(&[u8], u64)> {
        let (range, inode) = self.entries.get(index)?;
        Some((self.name(range), *inode))
    }

    /// The names in their order.
    pub(crate) fn names(&self) -> impl Iterator<Item = &[u8]> {
        self.entries.iter().map(|(range, _)| self.name(range))
    }

    /// The inode of a name.
    pub(crate) fn find(&self, name: &[u8]) -> Option<u64> {
        let found = self.entries.binary_search_by(|(range, _)| self.name(range).cmp(name)).ok()?;
        self.entries.get(found).map(|(_, inode)| *inode)
    }

    fn name(&self, range: &Range<usize>) -> &[u8] {
        self.bytes.get(range.clone()).unwrap_or_default()
    }

    /// That the folder is damaged: that it has `what`.
    pub(crate) fn damaged(&self, what: &str) -> Failure {
        let Self { system, folder, .. } = self;
        Failure::input(format!("damaged {system}: the folder of inode {folder} has {what}"))
    }

    /// Adds a name, unless it is `.` or `..`.
    ///
    /// # Errors
    /// When no file can be called so, or there are 131,072 names already.
    pub(crate) fn push(&mut self, name: &[u8], inode: u64) -> Result<()> {
        if name == b"." || name == b".." {
            return Ok(());
        }
        if name.is_empty() || name.len() > 255 || name.iter().any(|c| matches!(c, 0 | b'/')) {
            return Err(self.damaged("a name that is none"));
        }
        if self.entries.len() == MOST_NAMES {
            let message = format!("it has more than {MOST_NAMES} names");
            return Err(Failure::new(Class::Unsupported, message));
        }
        let start = self.bytes.len();
        self.bytes.extend_from_slice(name);
        self.entries.push((start..self.bytes.len(), inode));
        Ok(())
    }

    /// The same with its names in their order, which finding one needs.
    ///
    /// # Errors
    /// When a name is there twice.
    pub(crate) fn sorted(mut self) -> Result<Self> {
        let bytes = &self.bytes;
        let name = |range: &Range<usize>| bytes.get(range.clone()).unwrap_or_default();
        self.entries.sort_unstable_by(|(one, _), (other, _)| name(one).cmp(name(other)));
        let twice = self.entries.array_windows().find(|[a, b]| name(&a.0) == name(&b.0));
        match twice.map(|[(range, _), _]| name(range).escape_ascii().to_string()) {
            None => Ok(self),
            Some(name) => Err(self.damaged(&format!("`{name}` twice"))),
        }
    }
}
