//! The ids on a disk, all derived from the image's seed.

use nodekiln_words::derive_uuid;
use uuid::Uuid;

/// GUIDs, UUIDs and the FAT serial of one disk. Two images with different seeds share none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ids {
    /// GUID of the disk.
    pub disk: Uuid,
    /// GUID of the BIOS boot partition.
    pub bios_boot: Uuid,
    /// GUID of the EFI system partition.
    pub esp: Uuid,
    /// GUID of the root partition.
    pub root_partition: Uuid,
    /// UUID of the root file system, by which the boot loader and the kernel find it.
    pub root: Uuid,
    /// Seed of ext4's directory hashes.
    pub hash_seed: Uuid,
    /// Serial of the FAT volume.
    pub fat_serial: u32,
}

impl Ids {
    /// Derives all ids from `seed`.
    #[must_use]
    pub fn derive(seed: Uuid) -> Self {
        let role = |role| derive_uuid(seed, role);
        let [a, b, c, d, ..] = *role("disk/esp/serial").as_bytes();
        Self {
            disk: role("disk"),
            bios_boot: role("disk/bios-boot"),
            esp: role("disk/esp"),
            root_partition: role("disk/root"),
            root: role("disk/root/file-system"),
            hash_seed: role("disk/root/hash-seed"),
            fat_serial: u32::from_be_bytes([a, b, c, d]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_differ_by_role_and_by_seed_and_never_move() {
        let ids = Ids::derive(Uuid::from_u128(1));
        let all = [ids.disk, ids.bios_boot, ids.esp, ids.root_partition, ids.root, ids.hash_seed];
        for (index, id) in all.iter().enumerate() {
            assert!(!all[..index].contains(id));
        }
        assert_ne!(ids, Ids::derive(Uuid::from_u128(2)));
        assert_eq!(ids.root.to_string(), "bfeaea3c-5e45-53f8-8576-f8d317815c74");
    }
}
