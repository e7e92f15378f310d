//! FAT through `fatfs`. A volume is opened anew for each question: that takes two small reads, and its types
//! cannot be shared by threads.

use std::collections::BTreeMap;
use std::error::Error;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln_words::{Class, Failure, Result};

use super::entry::{Attributes, Entry, Kind};
use super::{MOST_NAMES, MOST_PATH, MOST_PATHS};
use crate::window::{Cursor, Window};

/// Bytes of a file that are read at once: to get to a place, all of its clusters before it are counted.
const PIECE: usize = 4 << 20;

type System = fatfs::FileSystem<Cursor>;
type Folder<'a> = fatfs::Dir<'a, Cursor>;
type Name<'a> = fatfs::DirEntry<'a, Cursor>;

/// A FAT volume.
#[derive(Debug)]
pub(super) struct Fat {
    window: Arc<Window>,
}

/// What a path leads to.
enum Found<'a> {
    Root,
    Name(Box<Name<'a>>),
}

impl Fat {
    /// A volume, its label and its serial number.
    pub(super) fn open(window: &Arc<Window>) -> Result<(Self, String, u32)> {
        let fat = Self { window: Arc::clone(window) };
        let system = fat.system()?;
        let (label, serial) = (system.volume_label(), system.volume_id());
        drop(system);
        Ok((fat, label, serial))
    }

    fn system(&self) -> Result<System> {
        fatfs::FileSystem::new(Cursor::new(&self.window), fatfs::FsOptions::new())
            .map_err(|error| self.failed(error, "cannot read the FAT file system"))
    }

    /// That `what` was not possible: the file system is damaged, unless somebody asked to stop.
    fn failed(&self, error: impl Error + Send + Sync + 'static, what: &str) -> Failure {
        match self.window.check() {
            Err(interrupted) => interrupted,
            Ok(()) => Failure::input(what).with_source(error),
        }
    }

    /// The names in a folder but `.` and `..`, as they stand; they may be without end.
    fn names<'a>(&self, folder: &Folder<'a>) -> impl Iterator<Item = Result<Name<'a>>> {
        let names =
            folder.iter().map(|name| name.map_err(|error| self.failed(error, "damaged FAT")));
        let numbered = names.enumerate().map(|(number, name)| match number > MOST_NAMES {
            true => Err(too_many_names()),
            false => name,
        });
        numbered.filter(|name| {
            !name.as_ref().is_ok_and(|name| matches!(&*name.file_name(), "." | ".."))
        })
    }

    fn find<'a>(&self, system: &'a System, path: &str) -> Result<Option<Found<'a>>> {
        let mut found = Found::Root;
        for wanted in path.split('/').filter(|name| !matches!(*name, "" | ".")) {
            let folder = match &found {
                Found::Root => system.root_dir(),
                Found::Name(name) if name.is_dir() => name.to_dir(),
                Found::Name(_) => return Ok(None),
            };
            let is_wanted = |name: &Result<Name<'_>>| match name {
                Ok(name) => {
                    name.file_name().eq_ignore_ascii_case(wanted)
                        || name.short_file_name().eq_ignore_ascii_case(wanted)
                }
                Err(_) => true,
            };
            match self.names(&folder).find(is_wanted) {
                Some(name) => found = Found::Name(Box::new(name?)),
                None => return Ok(None),
            }
        }
        Ok(Some(found))
    }

    pub(super) fn attributes(&self, path: &str) -> Result<Option<Attributes>> {
        let system = self.system()?;
        Ok(self.find(&system, path)?.map(|found| match found {
            Found::Root => root(),
            Found::Name(name) => attributes(&name),
        }))
    }

    pub(super) fn list(&self, path: &str) -> Result<Vec<String>> {
        let system = self.system()?;
        let folder = match self.find(&system, path)? {
            Some(Found::Root) => system.root_dir(),
            Some(Found::Name(name)) if name.is_dir() => name.to_dir(),
            _ => return Ok(Vec::new()),
        };
        self.names(&folder).map(|name| Ok(name?.file_name())).collect()
    }

    pub(super) fn walk(&self, visit: &mut dyn FnMut(&Entry) -> Result<()>) -> Result<()> {
        let system = self.system()?;
        let mut entry = Entry { path: PathBuf::from("/"), attributes: root() };
        visit(&entry)?;
        let (mut pending, mut paths) = (0, 1);
        let mut levels = vec![self.sorted(&system.root_dir(), &entry.path, &mut pending)?];
        while let Some(level) = levels.last_mut() {
            let Some((name, found)) = level.pop() else {
                levels.pop();
                entry.path.pop();
                continue;
            };
            pending -= 1;
            paths += 1;
            entry.path.push(name);
            if entry.path.as_os_str().len() > MOST_PATH || paths > MOST_PATHS {
                let message = "a FAT that leads in circles, or has more than 4,194,304 paths";
                return Err(Failure::new(Class::Unsupported, message));
            }
            entry.attributes = attributes(&found);
            visit(&entry)?;
            if found.is_dir() {
                levels.push(self.sorted(&found.to_dir(), &entry.path, &mut pending)?);
            } else {
                entry.path.pop();
            }
        }
        Ok(())
    }

    /// The names in a folder, the first one at the end. `pending` counts those that are held.
    fn sorted<'a>(
        &self,
        folder: &Folder<'a>,
        path: &Path,
        pending: &mut usize,
    ) -> Result<Vec<(String, Name<'a>)>> {
        let here = |failure: Failure| failure.context(path.display().to_string());
        let mut names = Vec::new();
        for name in self.names(folder) {
            let name = name.map_err(here)?;
            *pending += 1;
            if *pending > MOST_NAMES {
                return Err(here(too_many_names()));
            }
            names.push((name.file_name(), name));
        }
        names.sort_by(|(one, _), (other, _)| other.cmp(one));
        match names.array_windows().find(|[one, other]| one.0 == other.0) {
            None => Ok(names),
            Some([(name, _), _]) => {
                let name = name.escape_debug();
                Err(here(Failure::input(format!("damaged FAT: `{name}` stands there twice"))))
            }
        }
    }

    /// Fills `buffer` with the content of the file at `path` from byte `at` on.
    fn read_at(&self, path: &str, at: u64, buffer: &mut [u8]) -> Result<()> {
        let system = self.system()?;
        let mut read = || {
            let mut file = match self.find(&system, path).map_err(io::Error::other)? {
                Some(Found::Name(name)) if name.is_file() => name.to_file(),
                _ => return Err(io::Error::from(io::ErrorKind::NotFound)),
            };
            file.seek(SeekFrom::Start(at))?;
            file.read_exact(buffer)
        };
        read().map_err(|error| self.failed(error, "a file of a FAT is cut off"))
    }
}

fn too_many_names() -> Failure {
    Failure::new(Class::Unsupported, format!("it has more than {MOST_NAMES} names"))
}

/// A file's content, the piece around where it was read last.
pub(super) struct Stream<'a> {
    fat: &'a Fat,
    path: String,
    start: u64,
    piece: Vec<u8>,
}

impl<'a> Stream<'a> {
    pub(super) fn new(fat: &'a Fat, path: &str) -> Self {
        Self { fat, path: path.to_owned(), start: 0, piece: Vec::new() }
    }

    /// Fills `buffer` with the bytes at `at` of the file, which is `size` bytes long.
    pub(super) fn read_at(&mut self, mut at: u64, buffer: &mut [u8], size: u64) -> Result<()> {
        let mut rest = buffer;
        while !rest.is_empty() {
            let within = at.checked_sub(self.start).and_then(|within| usize::try_from(within).ok());
            let found = within.and_then(|within| self.piece.get(within..));
            let Some(found) = found.filter(|found| !found.is_empty()) else {
                let start = at - at % PIECE as u64;
                let length = usize::try_from(size.saturating_sub(start)).unwrap_or(PIECE);
                let mut piece = vec![0; length.min(PIECE)];
                self.fat.read_at(&self.path, start, &mut piece)?;
                if piece.len() as u64 <= at - start {
                    return Err(Failure::input("a file of a FAT is cut off"));
                }
                (self.start, self.piece) = (start, piece);
                continue;
            };
            let length = found.len().min(rest.len());
            let (part, behind) = rest.split_at_mut(length);
            part.copy_from_slice(&found[..length]);
            (at, rest) = (at + length as u64, behind);
        }
        Ok(())
    }
}

fn root() -> Attributes {
    Attributes {
        kind: Kind::Folder,
        mode: 0o755,
        uid: 0,
        gid: 0,
        size: 0,
        modified: 0,
        inode: None,
        links: 1,
        target: None,
        xattrs: BTreeMap::new(),
    }
}

fn attributes(name: &Name<'_>) -> Attributes {
    let read_only = name.attributes().contains(fatfs::FileAttributes::READ_ONLY);
    let (kind, size) = if name.is_dir() { (Kind::Folder, 0) } else { (Kind::File, name.len()) };
    let mode = if read_only && kind == Kind::File { 0o555 } else { 0o755 };
    Attributes { kind, mode, size, modified: seconds(name.modified()), ..root() }
}

/// UTC seconds since 1970 of FAT's year, month, day and time of day. A month or day that is none is taken for the
/// nearest one.
fn seconds(moment: fatfs::DateTime) -> i64 {
    let fatfs::DateTime { date, time } = moment;
    let (month, day) = (date.month.clamp(1, 12), date.day.max(1));
    // Years that begin in March end with the day that comes every four years.
    let year = i64::from(date.year) - i64::from(month < 3);
    let from_march = i64::from((month + 9) % 12);
    let leap_days = year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    let days = year * 365 + leap_days + (153 * from_march + 2) / 5 + i64::from(day) - 1;
    const BEFORE_1970: i64 = 719_468; // days from 1 March of the year 0
    let of_day = i64::from(time.hour) * 3600 + i64::from(time.min) * 60 + i64::from(time.sec);
    (days - BEFORE_1970) * 86_400 + of_day
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_seconds_since_1970() {
        let at = |year, month, day, hour, min, sec| {
            let date = fatfs::Date { year, month, day };
            seconds(fatfs::DateTime { date, time: fatfs::Time { hour, min, sec, millis: 0 } })
        };
        assert_eq!(at(1980, 1, 1, 0, 0, 0), 315_532_800);
        assert_eq!(at(2000, 2, 29, 12, 30, 2), 951_827_402);
        assert_eq!(at(2000, 3, 1, 0, 0, 0), 951_868_800);
        assert_eq!(at(2107, 12, 31, 23, 59, 58), 4_354_819_198);
        assert_eq!(at(1980, 0, 0, 0, 0, 0), 315_532_800);
    }
}
