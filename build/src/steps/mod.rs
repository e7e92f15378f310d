//! Executors: one module for each kind of a plan's work. Each fills `<scratch>/output` and returns
//! facts that later nodes want to know.

pub mod boot;
pub mod conformance_images;
pub mod conformance_suite;
pub mod containerd;
pub mod control_plane_images;
pub mod disk;
pub mod fetched_images;
pub mod files;
pub mod initramfs;
pub mod kubernetes_compile;
pub mod kubernetes_files;
pub mod kubernetes_install;
pub mod packages;
pub mod preload;
pub mod remove;
pub mod script;
pub mod sysprep;
pub mod tools_tree;
pub mod units;
pub mod users;
mod uses;

use std::collections::BTreeMap;
use std::fs::Permissions;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use nodekiln_recipes::Inventory;
use nodekiln_recipes::plan::Work;
use nodekiln_words::{Result, ResultExt as _, SourceDate};
use rustix::fs::{AtFlags, CWD, Timespec, Timestamps};

use crate::execution::Execution;
use crate::layer::scan;

/// What an executor left behind, besides the files themselves.
pub struct Made {
    /// What later nodes want to know.
    pub facts: BTreeMap<String, String>,
    /// What stands in the output.
    pub inventory: Inventory,
}

/// Executes a piece of work and takes stock of its output.
///
/// # Errors
/// Those of the executor, and of reading what it left.
pub fn run(work: &Work, execution: &Execution<'_>) -> Result<Made> {
    if let Work::Disk { size, boot, seed, base } = work {
        return disk::run(*size, *boot, *seed, *base, execution);
    }
    let facts = execute(work, execution)?;
    let output = execution.scratch.join("output");
    fs_err::create_dir_all(&output).or_io(|| "cannot make the output".to_owned())?;
    if !work.makes_layer() {
        settle(&output, execution.source_date)?; // layers have settled theirs
    }
    let inventory = std::thread::scope(|scope| {
        scope.spawn(|| flush_ahead(&output)); // while the files are read once more
        scan(&output, work.makes_layer(), execution.cancel)
    })?;
    Ok(Made { facts, inventory })
}

/// Begins to flush the file system that the output lies on, so that its commit, which must wait until
/// all is on the disk, finds little left. What goes wrong here goes wrong there again, and is told.
fn flush_ahead(output: &Path) {
    if let Ok(folder) = fs_err::File::open(output) {
        let _ = rustix::fs::syncfs(folder.file());
    }
}

/// Gives all in `folder`, and itself, the source date, and the bits that do not depend on anybody's umask:
/// 0755 for a folder and for what its owner may execute, else 0644.
pub(crate) fn settle(folder: &Path, source_date: SourceDate) -> Result<()> {
    let settling = || format!("cannot set bits and times in {}", folder.display());
    for entry in fs_err::read_dir(folder).or_io(settling)? {
        let entry = entry.or_io(settling)?;
        let (path, metadata) = (entry.path(), entry.metadata().or_io(settling)?);
        if metadata.is_dir() {
            settle(&path, source_date)?;
            continue;
        }
        if metadata.is_file() {
            let mode = if metadata.mode() & 0o100 == 0 { 0o644 } else { 0o755 };
            fs_err::set_permissions(&path, Permissions::from_mode(mode)).or_io(settling)?;
        }
        settle_time(&path, source_date)?;
    }
    fs_err::set_permissions(folder, Permissions::from_mode(0o755)).or_io(settling)?;
    settle_time(folder, source_date)
}

fn settle_time(path: &Path, source_date: SourceDate) -> Result<()> {
    let moment = Timespec { tv_sec: source_date.unix().cast_signed(), tv_nsec: 0 };
    let times = Timestamps { last_access: moment, last_modification: moment };
    rustix::fs::utimensat(CWD, path, &times, AtFlags::SYMLINK_NOFOLLOW)
        .or_io(|| format!("cannot set the time of {}", path.display()))
}

/// The executor of each kind of work.
fn execute(work: &Work, execution: &Execution<'_>) -> Result<BTreeMap<String, String>> {
    match work {
        Work::Packages { release, packages, holds } => {
            packages::run(release, packages, holds, execution)
        }
        Work::AddedPackages { packages } => packages::run_added(packages, execution),
        Work::ToolsTree { packages } => tools_tree::run(packages, execution),
        Work::Files { files } => files::run(files, execution),
        Work::Users { users } => users::run(users, execution),
        Work::Units { units } => units::run(units, execution),
        Work::Script { hook, name, content, environment } => {
            script::run(*hook, name, content, environment, execution)
        }
        Work::Containerd { kubernetes, cgroup_driver, sandbox_image } => {
            let request = containerd::Request {
                kubernetes: *kubernetes,
                cgroup_driver: *cgroup_driver,
                sandbox_image: sandbox_image.as_deref(),
            };
            containerd::run(&request, execution)
        }
        Work::KubernetesCompile { version, sources } => {
            kubernetes_compile::run(*version, sources, execution)
        }
        Work::KubernetesFiles { version, files } => {
            kubernetes_files::run(*version, files, execution)
        }
        Work::KubernetesInstall { version } => kubernetes_install::run(*version, execution),
        Work::ControlPlaneImages { version, images } => {
            control_plane_images::run(*version, images, execution)
        }
        Work::ConformanceSuite { version, sources } => {
            conformance_suite::run(*version, sources, execution)
        }
        Work::ConformanceImages { images } => conformance_images::run(images, execution),
        Work::FetchedImages { images } => fetched_images::run(images, execution),
        Work::Preload { kubernetes, source, image_repository, kubeadm_images, images } => {
            let request = preload::Request {
                kubernetes: *kubernetes,
                source,
                image_repository,
                kubeadm_images,
                images,
            };
            preload::run(&request, execution)
        }
        Work::Initramfs => initramfs::run(execution),
        Work::Remove { packages, paths } => remove::run(packages, paths, execution),
        Work::Boot { boot, kernel_args, seed } => boot::run(*boot, kernel_args, *seed, execution),
        Work::Sysprep { keep } => sysprep::run(keep, execution),
        // Taken care of by the caller: its inventory comes from the digest that it computes.
        Work::Disk { .. } => Ok(BTreeMap::new()),
    }
}

/// The names in `known` that are spelt much like `name`, the nearest first, for a remedy.
fn near(name: &str, known: impl IntoIterator<Item = String>) -> Vec<String> {
    /// Below this, two names only have letters in common.
    const LIKENESS: f64 = 0.8;
    let likeness = |other: &String| strsim::jaro_winkler(name, other);
    let mut names: Vec<(f64, String)> = known
        .into_iter()
        .map(|other| (likeness(&other), other))
        .filter(|(likeness, _)| *likeness >= LIKENESS)
        .collect();
    names.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
    names.dedup();
    names.into_iter().map(|(_, name)| name).take(3).collect()
}
