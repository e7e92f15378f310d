//! Where partitions lie: BIOS boot partition, EFI system partition, root as the last one.

use nodekiln_words::{Bytes, Failure, Result};

/// Bytes of a sector (logical block).
pub const SECTOR: u64 = 512;

/// Every partition begins at a multiple of this, so that no two share a cluster of an image or an
/// erase block of a device.
const ALIGNMENT: u64 = Bytes::MIB;
/// GRUB's core image has to be below 512 KiB; the rest keeps the next partition aligned.
const BIOS_BOOT: u64 = Bytes::MIB;
/// FAT32 needs 65,525 clusters, that is 33 MiB; the rest is room for boot loader updates.
const ESP: u64 = 64 * Bytes::MIB;
/// What the backup table needs behind the last partition: 33 sectors, in whole MiB.
const TAIL: u64 = ALIGNMENT;
/// Less than this is no root file system.
const SMALLEST_ROOT: u64 = 32 * Bytes::MIB;
/// 1 PiB: more than any provider takes, and far from where sums of offsets could overflow.
const LARGEST_DISK: u64 = 1 << 50;

/// Firmware that a disk boots by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BootMode {
    /// BIOS and UEFI.
    Hybrid,
    /// BIOS alone.
    Bios,
    /// UEFI alone.
    Uefi,
    /// None: a disk that holds files and does not boot by itself.
    Nothing,
}

impl BootMode {
    /// Whether the disk has a BIOS boot partition.
    #[must_use]
    pub fn bios(self) -> bool {
        matches!(self, Self::Hybrid | Self::Bios)
    }

    /// Whether the disk has an EFI system partition.
    #[must_use]
    pub fn uefi(self) -> bool {
        matches!(self, Self::Hybrid | Self::Uefi)
    }
}

/// What a partition is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// GRUB's core image.
    BiosBoot,
    /// The EFI system partition.
    Esp,
    /// The root file system.
    Root,
}

/// One partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Partition {
    /// What it is for.
    pub role: Role,
    /// Its number in the table, from 1.
    pub number: u32,
    /// Where it begins, in bytes; whole MiB.
    pub start: u64,
    /// Its length in bytes; whole MiB.
    pub length: u64,
}

impl Partition {
    /// Its first sector.
    #[must_use]
    pub fn first_sector(&self) -> u64 {
        self.start / SECTOR
    }

    /// Its last sector, which still belongs to it.
    #[must_use]
    pub fn last_sector(&self) -> u64 {
        (self.start + self.length) / SECTOR - 1
    }
}

/// The partitions of a disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layout {
    /// Size of the disk in bytes; whole MiB.
    pub size: u64,
    /// Firmware that it boots by.
    pub boot: BootMode,
    /// The partitions in the order in which they lie; root is last.
    pub partitions: Vec<Partition>,
}

impl Layout {
    /// Plans the partitions of a disk of `size` bytes. Root takes all that is left, and is last, so
    /// that a machine can grow it.
    ///
    /// # Errors
    /// When the size is not whole MiB, exceeds 1 PiB, or leaves no room for root.
    pub fn plan(size: Bytes, boot: BootMode) -> Result<Self> {
        let size = size.get();
        if size > LARGEST_DISK {
            return Err(Failure::input(format!("a disk of {} is too large", Bytes(size)))
                .with_help(format!("use at most {}", Bytes(LARGEST_DISK))));
        }
        if !size.is_multiple_of(Bytes::MIB) {
            return Err(Failure::input(format!("a disk of {size} bytes is not whole MiB"))
                .with_help(format!("use {} MiB", size.div_ceil(Bytes::MIB))));
        }
        let fixed = [
            boot.bios().then_some((Role::BiosBoot, BIOS_BOOT)),
            boot.uefi().then_some((Role::Esp, ESP)),
        ];
        let mut start = ALIGNMENT;
        let mut partitions = Vec::new();
        for (number, (role, length)) in (1..).zip(fixed.into_iter().flatten()) {
            partitions.push(Partition { role, number, start, length });
            start += length;
        }
        let smallest = start + SMALLEST_ROOT + TAIL;
        if size < smallest {
            return Err(Failure::input(format!("a disk of {} is too small", Bytes(size)))
                .with_help(format!("use at least {}", Bytes(smallest))));
        }
        let number = u32::try_from(partitions.len() + 1).unwrap_or(u32::MAX);
        let length = size - TAIL - start;
        partitions.push(Partition { role: Role::Root, number, start, length });
        Ok(Self { size, boot, partitions })
    }

    /// The partition of `role`, if this boot mode has one.
    #[must_use]
    pub fn find(&self, role: Role) -> Option<&Partition> {
        self.partitions.iter().find(|partition| partition.role == role)
    }

    /// The root partition.
    ///
    /// # Errors
    /// When the layout was put together by hand and has none.
    pub fn root(&self) -> Result<&Partition> {
        self.find(Role::Root).ok_or_else(|| Failure::input("the layout has no root partition"))
    }

    /// Fails unless a root file system of `required` bytes fits, and says how much is missing.
    ///
    /// # Errors
    /// When the root partition is shorter.
    pub fn require_root(&self, required: u64) -> Result<()> {
        let room = self.root()?.length;
        let Some(missing) = required.checked_sub(room).filter(|missing| *missing > 0) else {
            return Ok(());
        };
        let enough = (self.size + missing).div_ceil(Bytes::MIB);
        Err(Failure::input(format!(
            "the disk of {} is too small: root has {}, its files need {}, {} are missing",
            Bytes(self.size),
            Bytes(room),
            Bytes(required),
            Bytes(missing),
        ))
        .with_help(format!("set disk.size to {enough}MiB or more, or leave packages out")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn partitions_are_aligned_and_fill_the_disk_but_for_the_backup_table() {
        for boot in [BootMode::Hybrid, BootMode::Bios, BootMode::Uefi] {
            let layout = Layout::plan(Bytes(2 << 30), boot).unwrap();
            let mut free = ALIGNMENT;
            for (number, partition) in (1..).zip(&layout.partitions) {
                assert_eq!((partition.start, partition.number), (free, number));
                free += partition.length;
            }
            assert_eq!(free, (2 << 30) - TAIL);
            assert_eq!(layout.partitions.last(), Some(layout.root().unwrap()));
            assert_eq!(layout.find(Role::BiosBoot).is_some(), boot.bios());
            assert_eq!(layout.find(Role::Esp).is_some(), boot.uefi());
        }
    }

    #[test]
    fn a_root_that_does_not_fit_says_what_is_missing_and_the_size_that_does() {
        let layout = Layout::plan(Bytes(1 << 30), BootMode::Hybrid).unwrap();
        let room = layout.root().unwrap().length;
        assert!(layout.require_root(room).is_ok());
        let failure = layout.require_root(room + 1).unwrap_err();
        assert!(failure.to_string().contains("1 B are missing"), "{failure}");
        assert_eq!(failure.help(), Some("set disk.size to 1025MiB or more, or leave packages out"));
        let larger = Layout::plan(Bytes(1025 << 20), BootMode::Hybrid).unwrap();
        assert!(larger.require_root(room + 1).is_ok());
    }

    #[test]
    fn sizes_that_are_no_disk_are_refused_for_what_is_wrong_with_them() {
        for (size, why, help) in [
            (0, "too small", "use at least 99 MiB"),
            (1 << 20, "too small", "use at least 99 MiB"),
            ((1 << 30) + 512, "not whole MiB", "use 1025 MiB"),
            (LARGEST_DISK + Bytes::MIB, "too large", "use at most 1024 TiB"),
            (u64::MAX, "too large", "use at most 1024 TiB"),
        ] {
            let failure = Layout::plan(Bytes(size), BootMode::Hybrid).unwrap_err();
            assert!(failure.to_string().contains(why), "{failure:?}");
            assert_eq!(failure.help(), Some(help));
        }
        assert!(Layout::plan(Bytes(LARGEST_DISK), BootMode::Hybrid).is_ok());
    }
}
