//! The step `boot`: the boot loader's menu, `/etc/fstab`, and what else names the disk's ids.

use std::collections::BTreeMap;

use nodekiln_disk::Ids;
use nodekiln_disk::grub::{self, Menu};
use nodekiln_recipes::recipe::BootMode;
use nodekiln_words::{Failure, Result};
use uuid::Uuid;

use crate::debian::compare_versions;
use crate::execution::Execution;
use crate::layer::{Attributes, Root};

/// GRUB's own modules for BIOS machines, as `grub-pc-bin` ships them.
pub(super) const BIOS_MODULES: &str = "/usr/lib/grub/i386-pc";
/// The signed first stage for UEFI, as `shim-signed` ships it.
pub(super) const SHIM: &str = "/usr/lib/shim/shimx64.efi.signed";
/// The signed GRUB, as `grub-efi-amd64-signed` ships it.
pub(super) const SIGNED_GRUB: &str = "/usr/lib/grub/x86_64-efi-signed/grubx64.efi.signed";
/// The program that enrols keys, as `shim-helpers-amd64-signed` ships it.
pub(super) const MOK_MANAGER: &str = "/usr/lib/shim/mmx64.efi.signed";

/// Number of the serial line that shows the menu: the first one, as on every provider.
const SERIAL: u8 = 0;

/// Writes `/boot/grub/grub.cfg`, `/boot/grub/grubenv`, `/etc/fstab` and `/etc/kernel/cmdline`.
///
/// Facts: `boot.kernel`, the release that is booted, and `boot.arguments`.
///
/// # Errors
/// `Input` when the tree lacks a kernel, its initial RAM disk, or the boot loader's files for a
/// firmware that the recipe asks for.
pub fn run(
    boot: BootMode,
    kernel_args: &[String],
    seed: Uuid,
    execution: &Execution<'_>,
) -> Result<BTreeMap<String, String>> {
    let root = execution.root()?;
    let ids = Ids::derive(seed);
    require_loader(&root, boot)?;
    let kernels = kernels(&root)?;
    let arguments = kernel_args.join(" ");
    let facts = BTreeMap::from([
        ("boot.kernel".to_owned(), kernels.first().cloned().unwrap_or_default()),
        ("boot.arguments".to_owned(), arguments.clone()),
    ]);
    let menu = Menu {
        title: "Debian GNU/Linux".to_owned(),
        kernels,
        root: ids.root,
        arguments: kernel_args.to_vec(),
        serial: Some(SERIAL),
        timeout: 0,
    };
    let readable = Attributes::root(0o644);
    root.make_directory("/boot/grub", Attributes::root(0o755))?;
    root.write_file("/boot/grub/grub.cfg", grub::grub_cfg(&menu)?.as_bytes(), readable)?;
    root.write_file("/boot/grub/grubenv", &grub::environment_block(), readable)?;
    root.write_file("/etc/fstab", fstab(&ids, boot).as_bytes(), readable)?;
    let command_line = format!("root=UUID={} ro {arguments}\n", ids.root);
    root.write_file("/etc/kernel/cmdline", command_line.as_bytes(), readable)?;
    root.finish(execution.source_date)?;
    Ok(facts)
}

/// Refuses a tree without the boot loader files that `boot` needs, and names the packages.
fn require_loader(root: &Root, boot: BootMode) -> Result<()> {
    let bios = matches!(boot, BootMode::Hybrid | BootMode::Bios);
    let uefi = matches!(boot, BootMode::Hybrid | BootMode::Uefi);
    let needs = [
        (bios, BIOS_MODULES, "grub-pc-bin"),
        (uefi, SHIM, "shim-signed"),
        (uefi, SIGNED_GRUB, "grub-efi-amd64-signed"),
        (uefi, MOK_MANAGER, "shim-helpers-amd64-signed"),
    ];
    for (needed, path, package) in needs {
        if needed && !root.exists(path)? {
            return Err(Failure::input(format!("the tree has no {path} to boot by")).with_help(
                format!("add `{package}` to the recipe's packages, or change `disk.boot`"),
            ));
        }
    }
    Ok(())
}

/// Releases of the kernels in `/boot` that have an initial RAM disk, newest first.
fn kernels(root: &Root) -> Result<Vec<String>> {
    let files = root.list("/boot")?;
    let mut kernels: Vec<String> = files
        .iter()
        .filter_map(|file| file.strip_prefix("vmlinuz-"))
        .filter(|release| files.iter().any(|file| *file == format!("initrd.img-{release}")))
        .map(str::to_owned)
        .collect();
    kernels.sort_by(|a, b| compare_versions(b, a));
    if kernels.is_empty() {
        return Err(Failure::input("the tree has no kernel with an initial RAM disk in /boot")
            .with_help("name a kernel package under `kernel.package`"));
    }
    Ok(kernels)
}

/// The file systems of the disk by UUID. The EFI system partition is mounted by hand only, since a
/// node never writes to it.
fn fstab(ids: &Ids, boot: BootMode) -> String {
    let mut text = format!(
        "# <file system> <mount point> <type> <options> <dump> <pass>\n\
         UUID={} / ext4 defaults,errors=remount-ro 0 1\n",
        ids.root
    );
    if boot != BootMode::Bios {
        let (high, low) = (ids.fat_serial >> 16, ids.fat_serial & 0xffff);
        text.push_str(&format!("UUID={high:04X}-{low:04X} /boot/efi vfat umask=0077,noauto 0 0\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn file_systems_are_named_by_uuid() {
        let ids = Ids::derive(Uuid::from_u128(1));
        let text = fstab(&ids, BootMode::Hybrid);
        assert!(text.contains(&format!("UUID={} / ext4", ids.root)));
        assert!(text.contains("/boot/efi"));
        assert!(!text.contains("/dev/"));
        assert!(!fstab(&ids, BootMode::Bios).contains("/boot/efi"));
    }
}
