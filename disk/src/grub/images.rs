//! The images of GRUB: `boot.img` and `core.img` for BIOS, the signed loaders for UEFI.
//!
//! `grub-install` wants a block device. On plain bytes three edits do its work: the sector of the
//! core image in the boot image, the sector of its remainder in the core image, and the two bytes
//! that make the boot image trust the drive number of the BIOS. The offsets are those of
//! `grub-core/boot/i386/pc/{boot,diskboot}.S` in GRUB 2.06 and 2.12; each is checked before it is
//! written, so that another GRUB fails here and not at boot.

use std::ffi::OsString;
use std::path::Path;

use nodekiln_words::{Class, Failure, Result};
use uuid::Uuid;

use crate::fields::{bytes, le16, le64};

/// Length of boot.img and of the first sector of core.img.
const IMAGE_SECTOR: usize = 512;
/// Bytes of boot.img that go to sector 0: what follows is the partition table.
const BOOT_CODE: usize = 440;

/// boot.img: the address to which the core image is loaded.
const BOOT_KERNEL_ADDRESS: usize = 0x5A;
/// boot.img: first sector of the core image, u64.
const BOOT_KERNEL_SECTOR: usize = 0x5C;
/// boot.img: the drive to boot from; 0xFF stands for the one that the BIOS names.
const BOOT_DRIVE: usize = 0x64;
/// boot.img: a jump over a fix for BIOSes that name a wrong drive.
const BOOT_DRIVE_CHECK: usize = 0x66;
/// core.img: the blocklist entry that names the remainder: u64 sector, u16 count, u16 segment.
const CORE_BLOCKLIST: usize = 0x1F4;
/// Segment at which the remainder is loaded.
const CORE_SEGMENT: u16 = 0x0820;
/// The core image must fit below the BIOS data at 0x80000, where it is moved from 0x8200.
const CORE_MAX: usize = 0x7_8000;

/// Modules of the BIOS core image: enough to read ext4 on GPT, show a menu on screen and serial
/// line and start Linux, so that no module has to be loaded from the root file system.
#[must_use]
pub fn bios_modules() -> &'static [&'static str] {
    &[
        "biosdisk",
        "boot",
        "cat",
        "configfile",
        "echo",
        "ext2",
        "gzio",
        "halt",
        "linux",
        "loadenv",
        "ls",
        "minicmd",
        "normal",
        "part_gpt",
        "reboot",
        "search",
        "search_fs_uuid",
        "serial",
        "sleep",
        "terminal",
        "test",
        "true",
    ]
}

/// The arguments of `grub-mkimage` that write the BIOS core image to `output`.
///
/// `modules` is the folder with GRUB's `i386-pc` modules; `root` is the number of the root
/// partition, on the drive that the BIOS booted from.
#[must_use]
pub fn core_image_arguments(modules: &Path, root: u32, output: &Path) -> Vec<OsString> {
    let prefix = format!("(,gpt{root})/boot/grub");
    let mut arguments: Vec<OsString> =
        ["--format=i386-pc", "--compression=xz"].map(Into::into).into();
    arguments.extend(["--directory".into(), modules.into()]);
    arguments.extend(["--prefix".into(), prefix.into()]);
    arguments.extend(["--output".into(), output.into()]);
    arguments.extend(bios_modules().iter().map(Into::into));
    arguments
}

/// The boot code for sector 0, from `image` (boot.img): 440 bytes that load the sector
/// `core_sector`.
///
/// # Errors
/// When the image is not that of a GRUB whose offsets are known.
pub fn patch_boot_image(image: &[u8], core_sector: u64) -> Result<Vec<u8>> {
    let known = image.len() == IMAGE_SECTOR
        && le16(image, BOOT_KERNEL_ADDRESS) == Some(0x8000)
        && le64(image, BOOT_KERNEL_SECTOR) == Some(1)
        && image.get(BOOT_DRIVE) == Some(&0xFF)
        && image.get(BOOT_DRIVE_CHECK) == Some(&0xEB);
    if !known {
        return Err(unknown_image("boot.img"));
    }
    let mut code = image.get(..BOOT_CODE).unwrap_or_default().to_vec();
    write(&mut code, BOOT_KERNEL_SECTOR, &core_sector.to_le_bytes());
    // Two NOPs in place of the jump, as grub-install writes for hard disks: some BIOSes pass a
    // floppy's drive number, and the code behind the jump corrects it.
    write(&mut code, BOOT_DRIVE_CHECK, &[0x90, 0x90]);
    Ok(code)
}

/// The core image in whole sectors, made to be loaded from `sector`; `image` is what grub-mkimage
/// wrote.
///
/// # Errors
/// When the image is not that of a GRUB whose offsets are known, or is too long to be loaded.
pub fn patch_core_image(image: &[u8], sector: u64) -> Result<Vec<u8>> {
    let sectors = image.len().div_ceil(IMAGE_SECTOR);
    let rest = u16::try_from(sectors.saturating_sub(1)).unwrap_or(0);
    let known = rest > 0
        && le64(image, CORE_BLOCKLIST) == Some(2)
        && le16(image, CORE_BLOCKLIST + 8) == Some(rest)
        && le16(image, CORE_BLOCKLIST + 10) == Some(CORE_SEGMENT);
    if !known {
        return Err(unknown_image("core.img"));
    }
    if image.len() > CORE_MAX {
        return Err(Failure::input(format!("core.img of {} bytes is too long", image.len()))
            .with_help("leave modules out"));
    }
    let mut core = image.to_vec();
    core.resize(sectors * IMAGE_SECTOR, 0);
    write(&mut core, CORE_BLOCKLIST, &(sector + 1).to_le_bytes());
    Ok(core)
}

fn write(image: &mut [u8], offset: usize, value: &[u8]) {
    if let Some(place) = image.get_mut(offset..offset + value.len()) {
        place.copy_from_slice(value);
    }
}

fn unknown_image(name: &str) -> Failure {
    Failure::new(Class::Unsupported, format!("{name} is not that of a known GRUB"))
        .with_help("GRUB 2.06 and 2.12 of Debian are known")
}

/// The signed programs that start a machine by UEFI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedLoader {
    /// shimx64.efi.signed of package shim-signed.
    pub shim: Vec<u8>,
    /// grubx64.efi.signed of package grub-efi-amd64-signed.
    pub grub: Vec<u8>,
    /// mmx64.efi.signed of package shim-helpers-amd64-signed.
    pub mok_manager: Vec<u8>,
}

/// The files of the EFI system partition, for a root file system with UUID `root`.
///
/// They stand at the fallback path, so that no firmware variable is needed. The signed GRUB has
/// `/EFI/debian` built in as its prefix and finds the stub there. shim's fallback program is left
/// out: beside `BOOTX64.EFI` it would reset the machine at every start with fresh variables.
///
/// # Errors
/// When one of the programs is no PE image.
pub fn esp_files(loader: SignedLoader, root: Uuid) -> Result<Vec<(String, Vec<u8>)>> {
    let programs = [
        ("EFI/BOOT/BOOTX64.EFI", "shimx64.efi.signed", loader.shim),
        ("EFI/BOOT/grubx64.efi", "grubx64.efi.signed", loader.grub),
        ("EFI/BOOT/mmx64.efi", "mmx64.efi.signed", loader.mok_manager),
    ];
    let mut files = Vec::new();
    for (path, name, program) in programs {
        if bytes(&program, 0) != Some(*b"MZ") {
            return Err(Failure::input(format!("{name} is no EFI program")));
        }
        files.push((path.to_owned(), program));
    }
    files.push(("EFI/debian/grub.cfg".to_owned(), stub(root).into_bytes()));
    Ok(files)
}

/// Finds the root file system and goes on with the configuration there.
fn stub(root: Uuid) -> String {
    format!(
        "search --no-floppy --fs-uuid --set=root {root}\n\
         set prefix=($root)/boot/grub\n\
         configfile $prefix/grub.cfg\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn boot_image() -> Vec<u8> {
        let mut image = vec![0x11; IMAGE_SECTOR];
        write(&mut image, BOOT_KERNEL_ADDRESS, &[0x00, 0x80]);
        write(&mut image, BOOT_KERNEL_SECTOR, &1_u64.to_le_bytes());
        write(&mut image, BOOT_DRIVE, &[0xFF]);
        write(&mut image, BOOT_DRIVE_CHECK, &[0xEB, 0x05]);
        image
    }

    fn core_image() -> Vec<u8> {
        let mut image = vec![0x22; 3 * IMAGE_SECTOR + 10];
        write(&mut image, CORE_BLOCKLIST, &2_u64.to_le_bytes());
        write(&mut image, CORE_BLOCKLIST + 8, &3_u16.to_le_bytes());
        write(&mut image, CORE_BLOCKLIST + 10, &CORE_SEGMENT.to_le_bytes());
        image
    }

    #[test]
    fn boot_image_names_the_sector_and_keeps_all_else() {
        let code = patch_boot_image(&boot_image(), 2048).unwrap();
        assert_eq!(code.len(), 440);
        assert_eq!(le64(&code, BOOT_KERNEL_SECTOR), Some(2048));
        let changed = code.iter().zip(boot_image()).filter(|(new, old)| **new != *old).count();
        assert_eq!(changed, 4); // two bytes of the sector number, two NOPs
    }

    #[test]
    fn core_image_is_padded_and_names_its_remainder() {
        let core = patch_core_image(&core_image(), 2048).unwrap();
        assert_eq!(core.len(), 4 * IMAGE_SECTOR);
        assert_eq!(le64(&core, CORE_BLOCKLIST), Some(2049));
        assert!(core.ends_with(&[0; 502]));
    }

    #[test]
    fn an_image_with_any_other_byte_at_a_checked_place_is_refused() {
        for place in [BOOT_KERNEL_ADDRESS, BOOT_KERNEL_SECTOR, BOOT_DRIVE, BOOT_DRIVE_CHECK] {
            let mut image = boot_image();
            image[place] ^= 0x40;
            assert!(patch_boot_image(&image, 1).is_err(), "{place:#x}");
        }
        for place in [CORE_BLOCKLIST, CORE_BLOCKLIST + 8, CORE_BLOCKLIST + 11] {
            let mut image = core_image();
            image[place] ^= 0x40;
            assert!(patch_core_image(&image, 1).is_err(), "{place:#x}");
        }
        assert!(patch_boot_image(&[], 1).is_err());
        assert!(patch_core_image(&[0; 100], 1).is_err());
    }

    #[test]
    fn what_is_no_program_does_not_reach_the_system_partition() {
        let program = || b"MZ rest".to_vec();
        let loader = SignedLoader { shim: program(), grub: program(), mok_manager: program() };
        assert_eq!(esp_files(loader.clone(), Uuid::nil()).unwrap().len(), 4);
        let broken = SignedLoader { grub: b"\x7fELF".to_vec(), ..loader };
        assert!(esp_files(broken, Uuid::nil()).is_err());
    }
}
