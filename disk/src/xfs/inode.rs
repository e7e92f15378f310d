//! An inode as it is stored.

use nodekiln_words::Result;

use super::damaged;
use super::geometry::Geometry;
use super::head::is_sound;
use crate::fields::{be16, be32, be64, bytes};
use crate::files::Kind;
use crate::pages::Slice;

/// What an inode begins with.
const MAGIC: &[u8] = b"IN";
/// Bytes in front of the forks: of versions 1 and 2, and of version 3.
const OLD: usize = 100;
const NEW: usize = 176;
/// Where the checksum of version 3 stands.
const SUM: usize = 100;
/// Seconds by which the count of long times begins before 1970.
const LONG_TIMES_BEGIN: i64 = 1 << 31;

/// Flags of version 3 (`flags2`).
mod flags2 {
    pub(super) const LONG_TIMES: u64 = 0x8;
    pub(super) const LONG_COUNTS: u64 = 0x10;
}
/// The flag of a file whose content is on the realtime device.
const REALTIME: u16 = 0x1;

/// How a fork holds what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// A device's numbers.
    Device,
    /// The content itself.
    Local,
    /// A list of extents.
    Extents,
    /// The root of a tree of extents.
    Tree,
}

/// Which of an inode's two forks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fork {
    /// Content, names or a target.
    Content,
    /// Extended attributes.
    Attributes,
}

/// An inode that is in use.
#[derive(Clone, Debug)]
pub(crate) struct Inode {
    pub(super) number: u64,
    pub(super) kind: Kind,
    /// Bytes of what it holds.
    pub(super) size: u64,
    /// Bytes in front of the forks.
    head: usize,
    /// The forms of the two forks; the second has none where there are no extended attributes.
    forms: (Form, Option<Form>),
    raw: Slice,
}

impl Inode {
    /// Takes the inode of this number from its bytes.
    ///
    /// # Errors
    /// When it is free, or its checksum or a field is wrong.
    pub(super) fn decode(number: u64, raw: Slice, geometry: &Geometry) -> Result<Self> {
        let bad = |what: &str| damaged(format!("inode {number} {what}"));
        if !raw.starts_with(MAGIC) {
            return Err(bad("is none"));
        }
        let head = match (raw.get(4), geometry.is_sealed) {
            (Some(3), true) => NEW,
            (Some(1 | 2), false) => OLD,
            _ => return Err(bad("is of another version")),
        };
        if geometry.is_sealed && !is_sound(&raw, SUM) {
            return Err(bad("has a wrong checksum"));
        }
        if geometry.is_sealed
            && (be64(&raw, 152), bytes(&raw, 160)) != (Some(number), Some(geometry.seal))
        {
            return Err(bad("says that it is another one"));
        }
        let mode = be16(&raw, 2).unwrap_or(0);
        if mode == 0 {
            return Err(bad("is free and in use"));
        }
        let room = raw.len() - head;
        let split = raw.get(82).map_or(0, |eights| usize::from(*eights) * 8);
        if split > room {
            return Err(bad("has a fork outside of it"));
        }
        let form = |at: usize| match raw.get(at) {
            Some(0) => Ok(Form::Device),
            Some(1) => Ok(Form::Local),
            Some(2) => Ok(Form::Extents),
            Some(3) => Ok(Form::Tree),
            _ => Err(bad("has a fork of no known form")),
        };
        let attributes = if split == 0 { None } else { Some(form(83)?) };
        let forms = (form(5)?, attributes);
        let device = be32(&raw, head).unwrap_or(0);
        let kind = kind(mode, device).ok_or_else(|| bad("is of no known type"))?;
        let is_device = !matches!(kind, Kind::File | Kind::Folder | Kind::Link);
        if is_device != (forms.0 == Form::Device) || attributes == Some(Form::Device) {
            return Err(bad("has a fork that its type cannot have"));
        }
        let size = be64(&raw, 56).unwrap_or(0);
        if i64::try_from(size).is_err() {
            return Err(bad("is larger than any file"));
        }
        Ok(Self { number, kind, size, head, forms, raw })
    }

    fn long(&self, at: usize) -> u32 {
        be32(&self.raw, at).unwrap_or(0)
    }

    fn has(&self, flag: u64) -> bool {
        self.head == NEW && be64(&self.raw, 120).unwrap_or(0) & flag != 0
    }

    /// Permissions with set-user-id, set-group-id and sticky.
    pub(super) fn mode(&self) -> u16 {
        be16(&self.raw, 2).unwrap_or(0) & 0o7777
    }

    pub(super) fn uid(&self) -> u32 {
        self.long(8)
    }

    pub(super) fn gid(&self) -> u32 {
        self.long(12)
    }

    pub(super) fn links(&self) -> u32 {
        match self.raw.get(4) {
            Some(1) => u32::from(be16(&self.raw, 6).unwrap_or(0)),
            _ => self.long(16),
        }
    }

    /// When its content changed, in UTC seconds.
    pub(super) fn modified(&self) -> i64 {
        let stored: [u8; 8] = bytes(&self.raw, 40).unwrap_or_default();
        if self.has(flags2::LONG_TIMES) {
            let seconds = u64::from_be_bytes(stored) / 1_000_000_000;
            return i64::try_from(seconds).unwrap_or(i64::MAX) - LONG_TIMES_BEGIN;
        }
        i64::from(i32::from_be_bytes(bytes(&stored, 0).unwrap_or_default()))
    }

    /// Whether its content is on the realtime device.
    pub(super) fn is_realtime(&self) -> bool {
        self.kind == Kind::File && be16(&self.raw, 90).unwrap_or(0) & REALTIME != 0
    }

    /// The form of a fork; `None` where there is none.
    pub(super) fn form(&self, fork: Fork) -> Option<Form> {
        match fork {
            Fork::Content => Some(self.forms.0),
            Fork::Attributes => self.forms.1,
        }
    }

    /// The bytes of a fork.
    pub(super) fn bytes(&self, fork: Fork) -> &[u8] {
        let split = self.raw.get(82).map_or(0, |eights| usize::from(*eights) * 8);
        let forks = self.raw.get(self.head..).unwrap_or_default();
        match (fork, split) {
            (Fork::Content, 0) => forks,
            (Fork::Content, split) => forks.get(..split).unwrap_or_default(),
            (Fork::Attributes, 0) => &[],
            (Fork::Attributes, split) => forks.get(split..).unwrap_or_default(),
        }
    }

    /// How many extents a fork has.
    pub(super) fn extents(&self, fork: Fork) -> u64 {
        match (fork, self.has(flags2::LONG_COUNTS)) {
            (Fork::Content, true) => be64(&self.raw, 24).unwrap_or(0),
            (Fork::Content, false) | (Fork::Attributes, true) => u64::from(self.long(76)),
            (Fork::Attributes, false) => u64::from(be16(&self.raw, 80).unwrap_or(0)),
        }
    }
}

/// What an inode of this mode is; `device` has 14 bits of a driver's number and 18 of its device's.
fn kind(mode: u16, device: u32) -> Option<Kind> {
    let (major, minor) = (device >> 18, device & 0x3_FFFF);
    Some(match mode >> 12 {
        0x1 => Kind::Pipe,
        0x2 => Kind::CharacterDevice { major, minor },
        0x4 => Kind::Folder,
        0x6 => Kind::BlockDevice { major, minor },
        0x8 => Kind::File,
        0xA => Kind::Link,
        0xC => Kind::Socket,
        _ => return None,
    })
}
