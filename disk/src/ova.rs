//! An OVA: the tar archive (POSIX ustar) of an OVF package, as DMTF DSP0243, section 5.3 orders it: the
//! descriptor, the manifest of digests, the disks.
//!
//! The extent is written straight to its place in the archive; descriptor and manifest, which tell of
//! its length and digest, are written before it once these are known, into room whose length is known
//! from the start.

use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;

use nodekiln_words::{Bytes, Cancel, Class, Failure, Result, ResultExt as _, Sha256, Silent};
use tar::{Archive, EntryType, Header};

use crate::disk::{Disk, file_extents};
use crate::fields::bytes;
use crate::flushed::Deflate;
use crate::image::Depth;
use crate::metered::Metered;
use crate::output::{Output, Written};
use crate::vmdk;

const BLOCK: u64 = 512;

/// Names of the members, and how much room the descriptor is given.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Members {
    /// The OVF descriptor.
    pub descriptor: String,
    /// Bytes that the descriptor takes at most; it is filled up with line ends, which XML ignores.
    pub room: u64,
    /// The manifest.
    pub manifest: String,
    /// The disk.
    pub extent: String,
    /// Time of all members, in seconds since 1970.
    pub created: u64,
}

/// What is known of the extent once it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// Its length in bytes.
    pub length: u64,
    /// Bytes of the disk that it stores: clusters that are not zero.
    pub populated: u64,
}

/// An OVA being written.
#[derive(Debug)]
pub struct Writer {
    output: Arc<Output>,
    members: Members,
    /// The disk's part.
    pub extent: vmdk::Writer,
}

impl Writer {
    /// Creates the file at `path`; the blocks of `disk` go to [`Writer::extent`], which compresses them at
    /// a level of 1 to 9.
    ///
    /// # Errors
    /// When the file cannot be made, a name is too long for a member, or the disk does not suit VMDK.
    pub fn create(disk: &Disk, path: &Path, members: Members, deflate: Deflate) -> Result<Self> {
        for name in [&members.descriptor, &members.manifest, &members.extent] {
            member(name, 0, 0)?; // before hours are spent on a disk that has no name
        }
        let output = Arc::new(Output::create(path)?);
        let extent = vmdk::Writer::new(disk, &output, members.extent_at(), deflate)?;
        Ok(Self { output, members, extent })
    }

    /// Ends the extent, writes the descriptor that `describe` makes and the manifest, flushes the file and
    /// takes its digest.
    ///
    /// # Errors
    /// When the descriptor needs more than its room, the file cannot be written or read back, or somebody
    /// asked to stop.
    pub fn finish(
        self,
        payload: &Sha256,
        describe: impl FnOnce(&Extent) -> Result<String>,
        cancel: &Cancel,
    ) -> Result<Written> {
        let Self { output, members, extent } = self;
        let populated = extent.populated();
        let length = extent.finish(&members.extent, payload)?;
        let at = members.extent_at();
        let digest = output.digest_of(at..at + length, cancel)?;
        let mut descriptor = describe(&Extent { length, populated })?;
        let used = descriptor.len() as u64;
        if used > members.room {
            let message =
                format!("the OVF descriptor takes {} of {}", Bytes(used), Bytes(members.room));
            return Err(Failure::input(message));
        }
        descriptor.extend((used..members.room).map(|_| '\n'));
        let manifest = manifest(&members, &Sha256::of(&descriptor), &digest);
        let mut head = member(&members.descriptor, members.room, members.created)?;
        head.extend_from_slice(descriptor.as_bytes());
        pad(&mut head);
        head.extend(member(&members.manifest, manifest.len() as u64, members.created)?);
        head.extend_from_slice(manifest.as_bytes());
        pad(&mut head);
        head.extend(member(&members.extent, length, members.created)?);
        if head.len() as u64 != at {
            return Err(Failure::io("the members of an OVA do not fit their places"));
        }
        output.write_at(0, &head)?;
        let end = at + length.next_multiple_of(BLOCK) + 2 * BLOCK; // two blocks of zeros
        output.set_length(end)?;
        let sha256 = output.sync_and_digest(cancel)?;
        Ok(Written { sha256, bytes: end, allocated: output.written() })
    }
}

impl Members {
    /// Where the extent's bytes begin.
    fn extent_at(&self) -> u64 {
        let manifest = manifest(self, &Sha256::of(""), &Sha256::of("")).len() as u64;
        3 * BLOCK + self.room.next_multiple_of(BLOCK) + manifest.next_multiple_of(BLOCK)
    }
}

/// Digests of the other members; its length does not depend on them.
fn manifest(members: &Members, descriptor: &Sha256, extent: &Sha256) -> String {
    let (first, second) = (&members.descriptor, &members.extent);
    format!("SHA256({first})= {descriptor}\nSHA256({second})= {extent}\n")
}

/// The header of a member.
fn member(name: &str, length: u64, created: u64) -> Result<Vec<u8>> {
    let mut header = Header::new_ustar();
    header.set_path(name).map_err(|error| {
        Failure::input(format!("`{name}` cannot be the name of a member of an OVA"))
            .with_source(error)
            .with_help("give it a name of at most 100 bytes")
    })?;
    header.set_mode(0o644);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(created);
    header.set_entry_type(EntryType::Regular);
    header.set_size(length);
    header.set_cksum();
    Ok(header.as_bytes().to_vec())
}

fn pad(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(BLOCK as usize), 0);
}

/// Whether a file starts as a tar archive whose first member is an OVF descriptor.
pub(crate) fn looks_like(start: &[u8]) -> bool {
    let name = start.get(..100).unwrap_or_default();
    let end = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
    let name = String::from_utf8_lossy(name.get(..end).unwrap_or_default()).to_lowercase();
    bytes::<5>(start, 257) == Some(*b"ustar") && name.ends_with(".ovf")
}

/// What an OVA holds.
#[derive(Clone, Debug)]
pub struct Contents {
    file: Arc<File>,
    /// Name of the descriptor, and its text.
    pub descriptor: (String, String),
    /// The manifest's text, where there is one.
    pub manifest: Option<String>,
    /// Name of the extent: the only VMDK.
    pub extent_name: String,
    /// Where in the file the extent lies, in bytes.
    pub extent: Range<u64>,
}

/// Largest descriptor or manifest that is read.
const MOST_TEXT: u64 = 4 << 20;

impl Contents {
    /// Reads the members of an archive.
    ///
    /// # Errors
    /// When the archive is damaged, or has no descriptor or not one VMDK.
    pub fn read(file: &Arc<File>) -> Result<Self> {
        let damaged = || "damaged OVA: its tar archive cannot be read".to_owned();
        // Names and attributes come in members of their own, which are taken into memory whole.
        let (members, _) = Metered::new(&**file);
        let mut archive = Archive::new(members);
        let (mut descriptor, mut manifest, mut extent) = (None, None, None);
        for member in archive.entries_with_seek().or_fail(Class::Input, damaged)? {
            let mut member = member.or_fail(Class::Input, damaged)?;
            if !member.header().entry_type().is_file() {
                continue;
            }
            let name = String::from_utf8_lossy(&member.path_bytes()).into_owned();
            let start = member.raw_file_position();
            let place = start..start.saturating_add(member.size());
            let mut text = || {
                let mut text = String::new();
                let read = (&mut member).take(MOST_TEXT).read_to_string(&mut text);
                let shown = name.escape_debug();
                read.or_fail(Class::Input, || format!("damaged OVA: `{shown}` is no text"))?;
                Ok::<_, Failure>(text)
            };
            match name.rsplit_once('.').map(|(_, ending)| ending.to_lowercase()).as_deref() {
                Some("ovf") if descriptor.is_none() => descriptor = Some((name.clone(), text()?)),
                Some("mf") => manifest = Some(text()?),
                Some("vmdk") if extent.is_none() => extent = Some((name, place)),
                Some("vmdk") => {
                    let message = "an OVA of several disks";
                    return Err(Failure::new(Class::Unsupported, message));
                }
                _ => {}
            }
        }
        let lacks = |what: &str| Failure::input(format!("damaged OVA: it has no {what}"));
        let (extent_name, extent) = extent.ok_or_else(|| lacks("VMDK disk"))?;
        let descriptor = descriptor.ok_or_else(|| lacks("OVF descriptor"))?;
        let length = file.metadata().or_io(|| "cannot look at the OVA".to_owned())?.len();
        if extent.end > length {
            let name = extent_name.escape_debug();
            let message = format!("damaged OVA: `{name}` is cut off at {length} bytes");
            return Err(Failure::input(message));
        }
        Ok(Self { file: Arc::clone(file), descriptor, manifest, extent_name, extent })
    }

    /// What the manifest says that does not hold; SHA-256 only. The extent's digest is taken where `depth`
    /// says so.
    ///
    /// # Errors
    /// When the file cannot be read or somebody asked to stop.
    pub fn problems(&self, depth: Depth, cancel: &Cancel) -> Result<Vec<String>> {
        let Some(manifest) = &self.manifest else {
            return Ok(vec!["the OVA has no manifest".to_owned()]);
        };
        let mut problems = Vec::new();
        let extent = match depth {
            Depth::Tables => None,
            Depth::Bytes => Some((&self.extent_name, self.extent_digest(cancel)?)),
        };
        let descriptor = (&self.descriptor.0, Sha256::of(&self.descriptor.1));
        for (name, digest) in [descriptor].into_iter().chain(extent) {
            let line = manifest.lines().find_map(|line| {
                let (file, hex) = line.strip_prefix("SHA256(")?.split_once(")=")?;
                (file == name).then(|| hex.trim())
            });
            match line.map(str::parse::<Sha256>) {
                Some(Ok(expected)) if expected == digest => {}
                Some(_) => problems.push(format!(
                    "the manifest gives another digest for `{name}` than {digest}, which it has"
                )),
                None => problems.push(format!("the manifest has no SHA-256 of `{name}`")),
            }
        }
        Ok(problems)
    }

    fn extent_digest(&self, cancel: &Cancel) -> Result<Sha256> {
        let length = self.extent.end - self.extent.start;
        let extents = file_extents(&self.file, self.extent.start, length, 0);
        Disk::new(length, extents)?.digest(&Silent, cancel)
    }
}
