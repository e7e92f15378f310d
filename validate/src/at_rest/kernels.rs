//! The kernels of an image, what is built into them and what their modules need.

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_disk::files::FileSystem;
use nodekiln_words::Result;

use super::initrd;

/// Endings of a module's file, compressed or not.
const MODULE: [&str; 4] = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"];

/// One kernel.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    /// Its version, as in `6.1.0-30-amd64`.
    pub(super) version: String,
    /// Drivers that are part of it.
    pub(super) built_in: BTreeSet<String>,
    /// Those modules on the root file system that were asked for.
    pub(super) modules: BTreeMap<String, Module>,
    /// Modules in its initial RAM disk; `None` where it has none, or nobody looked.
    pub(super) early: Option<BTreeSet<String>>,
}

/// A module.
#[derive(Debug, Default)]
pub(super) struct Module {
    /// Whether its file is there.
    pub(super) there: bool,
    /// Modules that it needs, all of them.
    pub(super) needs: Vec<String>,
}

/// The kernels that a boot loader could start, with what there is of the drivers `wanted`. They are in
/// `/boot`, which may be a file system of its own. Their initial RAM disks are left alone.
///
/// # Errors
/// When a file system is damaged.
pub(super) fn of(
    systems: &[(u32, FileSystem)],
    root: &FileSystem,
    wanted: &BTreeSet<&str>,
) -> Result<Vec<Kernel>> {
    Ok(found(systems, root, wanted)?.into_iter().map(|(kernel, _)| kernel).collect())
}

/// As [`of`], and what is in their initial RAM disks.
///
/// # Errors
/// When a file system or an initial RAM disk is damaged.
pub(super) fn with_early(
    systems: &[(u32, FileSystem)],
    root: &FileSystem,
    wanted: &BTreeSet<&str>,
) -> Result<Vec<Kernel>> {
    let mut kernels = found(systems, root, wanted)?;
    for (kernel, place) in &mut kernels {
        kernel.early = place.early(&kernel.version)?;
    }
    Ok(kernels.into_iter().map(|(kernel, _)| kernel).collect())
}

/// Where a kernel and its initial RAM disk lie.
struct Place<'a> {
    files: &'a FileSystem,
    folder: &'static str,
}

fn found<'a>(
    systems: &'a [(u32, FileSystem)],
    root: &'a FileSystem,
    wanted: &BTreeSet<&str>,
) -> Result<Vec<(Kernel, Place<'a>)>> {
    let others = systems.iter().filter(|(_, files)| !std::ptr::eq(files, root));
    let others = others.map(|(_, files)| (files, ""));
    let mut kernels = Vec::new();
    for (files, folder) in std::iter::once((root, "/boot")).chain(others) {
        let names = files.list(if folder.is_empty() { "/" } else { folder })?;
        for version in names.iter().filter_map(|name| name.strip_prefix("vmlinuz-")) {
            kernels.push((Kernel::read(version, root, wanted)?, Place { files, folder }));
        }
    }
    Ok(kernels)
}

impl Place<'_> {
    /// The modules in the initial RAM disk of the kernel `version`; `None` where it has none.
    fn early(&self, version: &str) -> Result<Option<BTreeSet<String>>> {
        // Debian's name for it, and dracut's.
        for name in [format!("initrd.img-{version}"), format!("initramfs-{version}.img")] {
            let path = format!("{}/{name}", self.folder);
            if let Some(bytes) = self.files.read(&path)? {
                let names = initrd::files(&bytes).map_err(|failure| failure.context(path))?;
                return Ok(Some(early(&names, version)));
            }
        }
        Ok(None)
    }
}

impl Kernel {
    fn read(version: &str, root: &FileSystem, wanted: &BTreeSet<&str>) -> Result<Self> {
        let place = format!("/lib/modules/{version}");
        let built_in = root.text(&format!("{place}/modules.builtin"))?.unwrap_or_default();
        let mut kernel = Self {
            version: version.to_owned(),
            built_in: built_in.lines().filter_map(module_of).collect(),
            ..Self::default()
        };
        let needs = root.text(&format!("{place}/modules.dep"))?.unwrap_or_default();
        for line in needs.lines() {
            let Some((path, needs)) = line.split_once(':') else { continue };
            let Some(name) = module_of(path).filter(|name| wanted.contains(&**name)) else {
                continue;
            };
            let there = root.exists(&format!("{place}/{path}"))?;
            let needs = needs.split_whitespace().filter_map(module_of).collect();
            kernel.modules.insert(name, Module { there, needs });
        }
        Ok(kernel)
    }

    /// What keeps `driver` from being loaded before the root file system is there, if anything does.
    pub(super) fn missing_early(&self, driver: &str) -> Option<String> {
        let early = |name: &str| {
            self.built_in.contains(name)
                || self.early.as_ref().is_some_and(|early| early.contains(name))
        };
        if !early(driver) {
            return Some(driver.to_owned());
        }
        let needs = self.modules.get(driver).map_or(&[][..], |module| &module.needs);
        let lacking: Vec<&str> =
            needs.iter().map(String::as_str).filter(|name| !early(name)).collect();
        (!lacking.is_empty()).then(|| format!("{}, which {driver} needs", lacking.join(", ")))
    }

    /// Whether `driver` can be loaded once the root file system is there.
    pub(super) fn has(&self, driver: &str) -> bool {
        self.built_in.contains(driver)
            || self.modules.get(driver).is_some_and(|module| module.there)
    }
}

/// The modules of a kernel among the paths of its initial RAM disk.
fn early(paths: &[String], version: &str) -> BTreeSet<String> {
    let folder = format!("lib/modules/{version}/");
    paths.iter().filter(|path| path.contains(&folder)).filter_map(|path| module_of(path)).collect()
}

/// The name of the module in the file at `path`. The kernel takes a dash for an underscore.
fn module_of(path: &str) -> Option<String> {
    let name = path.trim().rsplit('/').next()?;
    let name = MODULE.iter().find_map(|ending| name.strip_suffix(ending))?;
    Some(name.replace('-', "_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn needy() -> Module {
        Module { there: true, needs: vec!["hv_vmbus".into(), "scsi_common".into()] }
    }

    #[test]
    fn a_driver_and_all_that_it_needs_have_to_be_early() {
        let kernel = |early: &[&str], built_in: &[&str]| Kernel {
            early: Some(set(early)),
            built_in: set(built_in),
            modules: [("hv_storvsc".to_owned(), needy())].into(),
            ..Kernel::default()
        };
        let whole = kernel(&["hv_storvsc", "hv_vmbus"], &["scsi_common"]);
        assert_eq!(whole.missing_early("hv_storvsc"), None);
        assert_eq!(whole.missing_early("scsi_common"), None);
        assert_eq!(whole.missing_early("nvme").as_deref(), Some("nvme"));
        let cut = kernel(&["hv_storvsc"], &["scsi_common"]);
        assert_eq!(
            cut.missing_early("hv_storvsc").as_deref(),
            Some("hv_vmbus, which hv_storvsc needs")
        );
        assert!(whole.has("hv_storvsc") && whole.has("scsi_common") && !whole.has("hv_vmbus"));
    }

    #[test]
    fn modules_are_told_by_the_names_of_their_files() {
        let paths = [
            "usr/lib/modules/6.1/kernel/drivers/scsi/virtio-scsi.ko",
            "usr/lib/modules/6.1/kernel/drivers/nvme/host/nvme.ko.zst",
            "usr/lib/modules/6.2/kernel/fs/ext4.ko",
            "usr/lib/modules/6.1/modules.dep",
            "usr/bin/nvme.ko",
        ]
        .map(str::to_owned);
        assert_eq!(early(&paths, "6.1"), set(&["nvme", "virtio_scsi"]));
    }
}
