//! One disk out of its parts: partition table, boot code, EFI system partition, root.

use std::fs::File;
use std::sync::Arc;

use nodekiln_words::{Failure, Result};

use crate::disk::{Disk, Extent, data_runs, file_extents};
use crate::gpt::Table;
use crate::grub::{patch_boot_image, patch_core_image};
use crate::ids::Ids;
use crate::layout::{Layout, Partition, Role, SECTOR};

/// GRUB's images for BIOS, as its package and `grub-mkimage` deliver them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BiosBoot {
    /// boot.img.
    pub boot_image: Vec<u8>,
    /// core.img.
    pub core_image: Vec<u8>,
}

/// What a disk is put together from.
#[derive(Clone, Debug)]
pub struct Parts {
    /// Where partitions lie.
    pub layout: Layout,
    /// The ids of disk and partitions.
    pub ids: Ids,
    /// GRUB for BIOS, if the layout has a BIOS boot partition.
    pub bios: Option<BiosBoot>,
    /// The EFI system partition, if the layout has one; exactly as long.
    pub esp: Option<Vec<u8>>,
    /// The file that holds the root file system.
    pub root: Arc<File>,
    /// Byte in that file at which the root file system begins; it is as long as its partition.
    pub root_offset: u64,
}

/// Puts the parts together. No byte of root is read: the disk refers to the file.
///
/// # Errors
/// When a part is missing or superfluous for the layout's boot mode, or has another length than
/// its partition.
pub fn assemble(parts: Parts) -> Result<Disk> {
    let Parts { layout, ids, bios, esp, root, root_offset } = parts;
    let mut extents = Vec::new();
    let mut boot_code = Vec::new();
    match (layout.find(Role::BiosBoot), bios) {
        (Some(partition), Some(images)) => {
            let sector = partition.first_sector();
            boot_code = patch_boot_image(&images.boot_image, sector)?;
            let core = patch_core_image(&images.core_image, sector)?;
            if core.len() as u64 > partition.length {
                return Err(wrong_length("core.img", core.len() as u64, partition));
            }
            extents.push(Extent::memory(partition.start, core));
        }
        (partition, images) => same_presence("BIOS boot images", partition, images.is_some())?,
    }
    match (layout.find(Role::Esp), esp) {
        (Some(partition), Some(volume)) => {
            if volume.len() as u64 != partition.length {
                let length = volume.len() as u64;
                return Err(wrong_length("EFI system partition", length, partition));
            }
            extents.extend(memory_extents(partition.start, &volume));
        }
        (partition, volume) => same_presence("EFI system partition", partition, volume.is_some())?,
    }
    let partition = layout.root()?;
    let length = root.metadata().map_err(|error| Failure::io("root").with_source(error))?.len();
    if length < root_offset + partition.length {
        let length = length.saturating_sub(root_offset);
        return Err(wrong_length("root file system", length, partition));
    }
    extents.extend(file_extents(&root, root_offset, partition.length, partition.start));
    let table = Table::of(&layout, &ids).encode(layout.size / SECTOR, &boot_code)?;
    let tail = layout.size - table.tail.len() as u64;
    extents.push(Extent::memory(0, table.head));
    extents.push(Extent::memory(tail, table.tail));
    Disk::new(layout.size, extents)
}

/// Extents over the clusters of `bytes` that are not zero, for a disk on which they begin at
/// `start`: most of an EFI system partition is empty.
fn memory_extents(start: u64, bytes: &[u8]) -> Vec<Extent> {
    let extent = |run: std::ops::Range<usize>| {
        Extent::memory(start + run.start as u64, bytes.get(run).unwrap_or_default())
    };
    data_runs(bytes).into_iter().map(extent).collect()
}

fn same_presence(what: &str, partition: Option<&Partition>, given: bool) -> Result<()> {
    match (partition, given) {
        (Some(partition), false) => {
            let number = partition.number;
            Err(Failure::input(format!("{what} for partition {number} are missing")))
        }
        (None, true) => {
            Err(Failure::input(format!("{what}: the boot mode has no partition for it")))
        }
        _ => Ok(()),
    }
}

fn wrong_length(what: &str, length: u64, partition: &Partition) -> Failure {
    let Partition { number, length: room, .. } = partition;
    Failure::input(format!("{what} has {length} bytes, partition {number} has {room}"))
}
