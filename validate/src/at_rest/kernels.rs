//! The kernels of an image, what is built into them and what their modules need.

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_disk::files::FileSystem;
use nodekiln_words::{Cancel, Result};

use super::initrd;
use crate::tree::modules::module_of;

/// The kernels of an image.
#[derive(Debug, Default)]
pub(super) struct Kernels {
    /// Those whose drivers are known.
    pub(super) known: Vec<Kernel>,
    /// What their files are called by, of the others: the root file system says nothing of their drivers.
    pub(super) unknown: Vec<String>,
}

/// One kernel.
#[derive(Debug, Default)]
pub(super) struct Kernel {
    /// Its version, as in `6.1.0-30-amd64`.
    pub(super) version: String,
    /// Drivers that are part of it.
    built_in: BTreeSet<String>,
    /// Drivers that were asked for.
    wanted: BTreeSet<String>,
    /// Those modules on the root file system that were asked for.
    modules: BTreeMap<String, Module>,
    place: Place,
}

/// A module.
#[derive(Debug, Default)]
struct Module {
    /// Whether its file is there.
    there: bool,
    /// Modules that it needs, all of them, and whether their files are there.
    needs: BTreeMap<String, bool>,
}

/// Where a kernel and its initial RAM disk lie.
#[derive(Debug, Default)]
struct Place {
    /// Which of the file systems.
    system: usize,
    folder: &'static str,
}

/// The kernels that a boot loader could start, with what there is of the drivers `wanted`. They are in
/// `/boot`, which may be a file system of its own; `root` is the number of the one with their modules. Their
/// initial RAM disks are left alone.
///
/// Not all that is called like a kernel's version is one: there are Alpine's `vmlinuz-virt`, Arch's
/// `vmlinuz-linux`, dracut's `vmlinuz-0-rescue-…`, and kernels that came without `modules.builtin`. Of those
/// nothing is known.
///
/// # Errors
/// When a file system is damaged.
pub(super) fn of(
    systems: &[(u32, FileSystem)],
    root: usize,
    wanted: &BTreeSet<&str>,
) -> Result<Kernels> {
    let mut kernels = Kernels::default();
    let Some((_, modules)) = systems.get(root) else { return Ok(kernels) };
    let others = (0..systems.len()).filter(|system| *system != root).map(|system| (system, ""));
    for (system, folder) in std::iter::once((root, "/boot")).chain(others) {
        let Some((_, files)) = systems.get(system) else { continue };
        let names = files.list(if folder.is_empty() { "/" } else { folder })?;
        for version in names.iter().filter_map(|name| name.strip_prefix("vmlinuz-")) {
            match Kernel::read(version, modules, wanted)? {
                Some(kernel) => {
                    kernels.known.push(Kernel { place: Place { system, folder }, ..kernel });
                }
                None => kernels.unknown.push(version.to_owned()),
            }
        }
    }
    Ok(kernels)
}

impl Kernel {
    /// The kernel `version`; `None` where nothing tells what is built into it.
    fn read(version: &str, root: &FileSystem, wanted: &BTreeSet<&str>) -> Result<Option<Self>> {
        let place = format!("/lib/modules/{version}");
        let Some(built_in) = root.text(format!("{place}/modules.builtin"))? else {
            return Ok(None);
        };
        let built_in = built_in.lines().filter_map(module_of).collect();
        let wanted_here = wanted.iter().map(|name| (*name).to_owned()).collect();
        let mut kernel =
            Self { version: version.to_owned(), built_in, wanted: wanted_here, ..Self::default() };
        let needs = root.text(format!("{place}/modules.dep"))?.unwrap_or_default();
        for line in needs.lines() {
            let Some((path, needs)) = line.split_once(':') else { continue };
            let Some(name) = module_of(path).filter(|name| wanted.contains(&**name)) else {
                continue;
            };
            let mut module = Module { there: there(root, &place, path)?, ..Module::default() };
            for path in needs.split_whitespace() {
                if let Some(name) = module_of(path) {
                    module.needs.insert(name, there(root, &place, path)?);
                }
            }
            kernel.modules.insert(name, module);
        }
        Ok(Some(kernel))
    }

    /// Which modules that were asked for, or that those need, are in its initial RAM disk; `None` where it has
    /// none by a name that is known here.
    ///
    /// # Errors
    /// When a file system or the initial RAM disk is damaged, or somebody asked to stop.
    pub(super) fn early(
        &self,
        systems: &[(u32, FileSystem)],
        cancel: &Cancel,
    ) -> Result<Option<BTreeSet<String>>> {
        let Self { version, place, .. } = self;
        let Some((_, files)) = systems.get(place.system) else { return Ok(None) };
        // Debian's name for it, dracut's, and SUSE's.
        for name in [
            format!("initrd.img-{version}"),
            format!("initramfs-{version}.img"),
            format!("initrd-{version}"),
        ] {
            let path = format!("{}/{name}", place.folder);
            if let Some(bytes) = files.read(&path)? {
                let found = self.early_in(&bytes, cancel);
                return found.map(Some).map_err(|failure| failure.context(path));
            }
        }
        Ok(None)
    }

    /// As [`Kernel::early`], of an initial RAM disk with these bytes. No more names are kept than were asked for.
    fn early_in(&self, bytes: &[u8], cancel: &Cancel) -> Result<BTreeSet<String>> {
        let folder = format!("lib/modules/{}/", self.version);
        let mut found = BTreeSet::new();
        initrd::files(bytes, cancel, &mut |path| {
            let name = module_of(path).filter(|_| path.contains(&folder));
            found.extend(name.filter(|name| self.asked_for(name)));
        })?;
        Ok(found)
    }

    fn asked_for(&self, name: &str) -> bool {
        let needed = |module: &Module| module.needs.contains_key(name);
        self.wanted.contains(name) || self.modules.values().any(needed)
    }

    /// What keeps `driver` from being loaded before the root file system is there, if anything does: the initial
    /// RAM disk has the modules `early`.
    pub(super) fn lacks_early(&self, driver: &str, early: &BTreeSet<String>) -> Option<String> {
        self.lacks_where(driver, |name, _| early.contains(name))
    }

    /// What keeps `driver` from being loaded once the root file system is there, if anything does.
    pub(super) fn lacks(&self, driver: &str) -> Option<String> {
        self.lacks_where(driver, |_, there| there)
    }

    /// What of `driver` and the modules that it needs is neither built in nor `loadable`, which is told a name and
    /// whether its file is there.
    fn lacks_where(&self, driver: &str, loadable: impl Fn(&str, bool) -> bool) -> Option<String> {
        let has = |name: &str, there| self.built_in.contains(name) || loadable(name, there);
        let module = self.modules.get(driver);
        if !has(driver, module.is_some_and(|module| module.there)) {
            return Some(driver.to_owned());
        }
        let needs = module.into_iter().flat_map(|module| &module.needs);
        let lacking = needs.filter(|(name, there)| !has(name, **there));
        let lacking: Vec<&str> = lacking.map(|(name, _)| name.as_str()).collect();
        (!lacking.is_empty()).then(|| format!("{}, which {driver} needs", lacking.join(", ")))
    }
}

/// Whether a module's file is there. Its path is within the folder of its kernel's modules, or absolute.
fn there(root: &FileSystem, folder: &str, path: &str) -> Result<bool> {
    let within = || format!("{folder}/{path}");
    root.exists(&if path.starts_with('/') { path.to_owned() } else { within() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn kernel(built_in: &[&str]) -> Kernel {
        let needs = [("hv_vmbus".to_owned(), false), ("scsi_common".to_owned(), true)].into();
        Kernel {
            version: "6.1".to_owned(),
            built_in: set(built_in),
            wanted: set(&["hv_storvsc"]),
            modules: [("hv_storvsc".to_owned(), Module { there: true, needs })].into(),
            ..Kernel::default()
        }
    }

    #[test]
    fn a_driver_and_all_that_it_needs_have_to_be_early() {
        let kernel = kernel(&["scsi_common"]);
        let lacks = |driver, early: &[&str]| kernel.lacks_early(driver, &set(early));
        assert_eq!(lacks("hv_storvsc", &["hv_storvsc", "hv_vmbus"]), None);
        assert_eq!(lacks("scsi_common", &[]), None);
        assert_eq!(lacks("nvme", &["hv_storvsc"]).as_deref(), Some("nvme"));
        assert_eq!(
            lacks("hv_storvsc", &["hv_storvsc"]).as_deref(),
            Some("hv_vmbus, which hv_storvsc needs")
        );
    }

    #[test]
    fn a_driver_and_all_that_it_needs_have_to_be_on_the_root() {
        let lacks = |built_in: &[&str], driver| kernel(built_in).lacks(driver);
        assert_eq!(lacks(&["hv_vmbus"], "hv_storvsc"), None);
        assert_eq!(lacks(&[], "hv_storvsc").as_deref(), Some("hv_vmbus, which hv_storvsc needs"));
        assert_eq!(lacks(&[], "hv_netvsc").as_deref(), Some("hv_netvsc"));
    }

    #[test]
    fn only_modules_that_were_asked_for_are_kept_by_the_names_of_their_files() {
        let mut archive = Vec::new();
        for path in [
            "usr/lib/modules/6.1/kernel/drivers/scsi/hv-storvsc.ko",
            "usr/lib/modules/6.1/kernel/drivers/hv/hv_vmbus.ko.zst",
            "usr/lib/modules/6.1/kernel/drivers/nvme/host/nvme.ko",
            "usr/lib/modules/6.2/kernel/drivers/scsi/scsi_common.ko",
            "usr/lib/modules/6.1/modules.dep",
            "usr/bin/hv_vmbus.ko",
        ] {
            archive = cpio::newc::Builder::new(path).write(archive, 0).finish().unwrap();
        }
        let archive = cpio::newc::trailer(archive).unwrap();
        let early = kernel(&[]).early_in(&archive, &Cancel::default()).unwrap();
        assert_eq!(early, set(&["hv_storvsc", "hv_vmbus"]));
    }
}
