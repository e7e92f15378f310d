//! What an image file is, told from its bytes alone: no boot, no mount, no root, whoever made it.

mod foreign;
mod system;
mod text;

use std::path::Path;

use nodekiln_disk::files::{Content, FileSystem};
use nodekiln_disk::{Depth, Disk, Image, Partitions, TableKind, Unpacking};
use nodekiln_words::{Cancel, Class, Progress, Result, ResultExt as _, Sha256};
use serde::Serialize;

pub(crate) use system::data_sources;
pub use system::{Boot, Package, System};
pub use text::text;

use crate::digest::digest_file;

/// What to find out, and where an image may be unpacked.
#[derive(Clone, Copy)]
pub struct Looking<'a> {
    /// Whether to digest the file and the disk inside and to check all of the container, which takes as long as
    /// reading them.
    pub digests: bool,
    /// Folder for a nameless file as large as the disk's data, for images that have to be unpacked.
    pub scratch: &'a Path,
    /// Told how far it is.
    pub progress: &'a dyn Progress,
    /// Asked whether to stop.
    pub cancel: &'a Cancel,
}

/// What an image file is.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// Format in the field's word: `raw`, `qcow2`, `vhd`, `vmdk`, `ova`, `tar.gz`, or one that qemu-img
    /// knows.
    pub format: String,
    /// Length of the file in bytes.
    pub file_size: u64,
    /// Its digest, where it was asked for.
    pub sha256: Option<Sha256>,
    /// Digest of the disk's bytes, the same in every format, where it was asked for and all of them can be read.
    pub payload: Option<Sha256>,
    /// Size of the disk in bytes.
    pub disk_size: u64,
    /// Bytes of the disk that the file stores; all else is zeros.
    pub stored: u64,
    /// What is wrong with the container, the partition table or a file system, or cannot be read.
    pub problems: Vec<String>,
    /// Kind of partition table: `gpt` or `mbr`; `unknown` where it cannot be read.
    pub table: &'static str,
    /// The disk's GUID, where its table has one.
    pub disk_guid: Option<String>,
    /// Its partitions.
    pub partitions: Vec<Partition>,
    /// What starts from it.
    pub boot: Boot,
    /// The operating system, where its root file system can be read.
    pub system: Option<System>,
    /// The OVF package around the disk.
    pub package: Option<Package>,
}

/// A partition and what stands in it.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Partition {
    /// Its number, from 1.
    pub number: u32,
    /// Where it begins, in bytes.
    pub start: u64,
    /// Its length in bytes.
    pub length: u64,
    /// Its type: a GUID, or an MBR's byte.
    pub kind: String,
    /// What the type is called.
    pub kind_name: Option<&'static str>,
    /// Its GUID.
    pub guid: Option<String>,
    /// Its name in the table.
    pub name: String,
    /// Its file system, or what else is known of its content.
    pub content: Option<String>,
    /// The file system's label.
    pub label: Option<String>,
    /// The file system's UUID or serial number.
    pub id: Option<String>,
}

/// Says what the image file at `path` is.
///
/// # Errors
/// When it cannot be read or is no disk image, or its format needs qemu-img and that is missing. Damage of
/// a container, a table or a file system that leaves the rest readable is among
/// [`Inspection::problems`].
pub fn inspect(path: &Path, looking: Looking<'_>) -> Result<Inspection> {
    let Looking { progress, cancel, .. } = looking;
    let image = open(path, looking)?; // 1. the container
    let file_size = fs_err::metadata(path).or_io(|| "look at the image".to_owned())?.len();
    let format = foreign::format(path)?.unwrap_or(image.format().name());
    let depth = if looking.digests { Depth::Bytes } else { Depth::Tables };
    let mut problems = image.check(depth, cancel)?;
    let disk = image.disk();
    let table = or_problem(Partitions::read(disk), &mut problems)?; // 2. the table
    let kind = match &table {
        None => "unknown",
        Some(Partitions { table: TableKind::Gpt, .. }) => "gpt",
        Some(Partitions { table: TableKind::Mbr, .. }) => "mbr",
    };
    let table =
        table.unwrap_or(Partitions { table: TableKind::Mbr, disk: None, entries: Vec::new() });
    let (partitions, systems) = contents(disk, &table, &mut problems, cancel)?; // 3. the file systems
    let boot = Boot::of(disk, &table, &systems, &mut problems)?; // 4. what starts
    let system = System::of(&systems, &mut problems)?; // 5. what runs
    let (sha256, payload) = match looking.digests {
        false => (None, None),
        true => (
            Some(digest_file(path, "digest of the file", progress, cancel)?),
            or_problem(disk.digest(progress, cancel), &mut problems)?,
        ),
    }; // 6. the digests
    Ok(Inspection {
        format: format.to_owned(),
        file_size,
        sha256,
        payload,
        disk_size: disk.size(),
        stored: disk.extents().iter().map(|extent| extent.length).sum(),
        problems,
        table: kind,
        disk_guid: table.disk.map(|guid| guid.to_string()),
        partitions,
        boot,
        system,
        package: package(&image),
    })
}

/// A value; where there is none because the image is damaged, or is something that is not read, why is one
/// of the problems.
///
/// # Errors
/// When somebody asked to stop.
fn or_problem<T>(result: Result<T>, problems: &mut Vec<String>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(failure) if failure.class() == Class::Interrupted => Err(failure),
        Err(failure) => {
            let problem = failure.chain().join(": ");
            // What hides all of a disk is met at each look.
            if !problems.contains(&problem) {
                problems.push(problem);
            }
            Ok(None)
        }
    }
}

/// As [`or_problem`], of the partition with this number.
fn or_problem_in<T>(
    partition: u32,
    result: Result<T>,
    problems: &mut Vec<String>,
) -> Result<Option<T>> {
    let told = result.map_err(|failure| failure.context(format!("partition {partition}")));
    or_problem(told, problems)
}

/// Opens an image file of any format that is known.
///
/// # Errors
/// When it cannot be read or is no disk image, or its format needs qemu-img and that is missing.
pub fn open(path: &Path, looking: Looking<'_>) -> Result<Image> {
    let Looking { scratch: folder, progress, cancel, .. } = looking;
    match foreign::format(path)? {
        Some(format) => foreign::open(path, format, looking),
        None => nodekiln_disk::open_with(path, Some(Unpacking { folder, progress, cancel })),
    }
}

/// What starts from `disk`, and the operating system on it, as far as they can be read.
///
/// # Errors
/// When somebody asked to stop.
pub fn boot_and_system(disk: &Disk, cancel: &Cancel) -> Result<(Boot, Option<System>)> {
    let mut problems = Vec::new();
    let Some(table) = or_problem(Partitions::read(disk), &mut problems)? else {
        return Ok((Boot::default(), None));
    };
    let (_, systems) = contents(disk, &table, &mut problems, cancel)?;
    let boot = Boot::of(disk, &table, &systems, &mut problems)?;
    Ok((boot, System::of(&systems, &mut problems)?))
}

/// The partitions of `disk` and those file systems that can be read; why there are no more is added to `problems`.
///
/// # Errors
/// When somebody asked to stop.
pub(crate) fn file_systems(
    disk: &Disk,
    problems: &mut Vec<String>,
    cancel: &Cancel,
) -> Result<(Vec<Partition>, FileSystems)> {
    match or_problem(Partitions::read(disk), problems)? {
        None => Ok((Vec::new(), Vec::new())),
        Some(table) => contents(disk, &table, problems, cancel),
    }
}

/// File systems that can be read, by the numbers of their partitions.
pub(crate) type FileSystems = Vec<(u32, FileSystem)>;

/// The partitions, and those file systems that can be read, by the number of their partition.
fn contents(
    disk: &Disk,
    table: &Partitions,
    problems: &mut Vec<String>,
    cancel: &Cancel,
) -> Result<(Vec<Partition>, FileSystems)> {
    let (mut partitions, mut systems) = (Vec::new(), Vec::new());
    for part in &table.entries {
        let mut partition = Partition {
            number: part.number,
            start: part.start,
            length: part.length,
            kind: part.kind.clone(),
            kind_name: part.kind_name(),
            guid: part.guid.map(|guid| guid.to_string()),
            name: part.name.clone(),
            content: None,
            label: None,
            id: None,
        };
        match or_problem_in(part.number, Content::of(disk, part, cancel), problems)? {
            Some(Content::Files(files)) => {
                partition.content = Some(files.name().to_owned());
                partition.label = Some(files.label().to_owned()).filter(|label| !label.is_empty());
                partition.id = Some(files.id().to_owned());
                systems.push((part.number, files));
            }
            Some(Content::Named(name)) => partition.content = Some(name.to_owned()),
            Some(Content::Empty) => partition.content = Some("zeros".to_owned()),
            Some(Content::Unknown) | None => {}
        }
        partitions.push(partition);
    }
    Ok((partitions, systems))
}

fn package(image: &Image) -> Option<Package> {
    image.package().map(Package::of)
}
