//! The step `disk`: one sparse file `disk.raw` with partition table, boot loader and file systems.
//!
//! mke2fs, from the tools tree, fills the root file system at its place within the file with the lower
//! layers, and debugfs makes the changes of those above, layer by layer: mke2fs would write file behind
//! file in the order of names, so that another kubelet, a few blocks longer, or a provider's one file
//! would move half of the disk, and nothing that was compressed, sent or compared before, or for another
//! provider, could be used again. GRUB's core image is made by the tree's own `grub-mkimage`, so that it
//! fits the modules of that tree. All else is written by the disk room. No loop device, no mount of the
//! disk, no `grub-install`.

mod changes;
mod debugfs;

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln_disk::ext4::{self, Totals};
use nodekiln_disk::grub::{self, SignedLoader};
use nodekiln_disk::{self as disk, BiosBoot, Disk, Ids, Layout, Parts, Role, esp};
use nodekiln_recipes::inventory::{Entry, EntryKind};
use nodekiln_recipes::recipe::BootMode;
use nodekiln_recipes::{Inventory, tree_name};
use nodekiln_words::{Bytes, Failure, Result, ResultExt as _, Sha256, SourceDate};
use uuid::Uuid;

use self::changes::Changes;
use self::debugfs::Debugfs;
use super::Made;
use super::boot::{BIOS_MODULES, MOK_MANAGER, SHIM, SIGNED_GRUB};
use crate::execution::Execution;
use crate::layer::Root;
use crate::sandbox::{Bind, SandboxCommand};
use crate::store::StoredNode;

/// The file that this step makes.
const FILE: &str = "disk.raw";
/// Where the file's folder and the tree are seen in the sandbox.
const OUTPUT: &str = "/mnt/output";
const TREE: &str = "/mnt/tree";
/// Label of the root file system.
const LABEL: &str = "root";

/// Makes the disk of `size` bytes over the tree below, whose `base` lowest layers change least often.
///
/// # Errors
/// `Input` when the tree does not fit, with what is missing; `Verdict` when a program fails.
pub fn run(
    size: Bytes,
    boot: Option<BootMode>,
    seed: Uuid,
    base: usize,
    execution: &Execution<'_>,
) -> Result<Made> {
    let layout = Layout::plan(size, mode(boot))?; // 1. where everything goes
    let ids = Ids::derive(seed);
    let output = folder(execution, "output")?;
    let tree = Root::read_only(&execution.below, &folder(execution, "tree")?)?;
    let tools = tools(execution)?;
    let root = RootFileSystem { layout: &layout, ids: &ids, tree: &tree, tools: &tools };
    let needed = survey(&tree, execution)?;
    layout.require_root(ext4::estimate_size(needed))?; // 2. whether it fits
    let (base, changes) = root.divide(base, needed, execution)?;
    let file = create(&output.join(FILE), size)?;
    root.make(&base, &output, execution)?; // 3. the root file system, in place
    root.change(&changes, &file, &output, execution)?;
    let parts = Parts {
        bios: bios(&layout, &tree, execution)?, // 4. what boots it
        esp: esp(&layout, &ids, &tree, execution)?,
        root_offset: layout.root()?.start,
        root: Arc::new(file.try_clone().or_io(|| "cannot reopen the disk".to_owned())?),
        layout,
        ids,
    };
    disk::assemble(parts)?.write_memory_into(&file)?; // 5. table, loader, ESP around it
    tools.finish(execution.source_date)?;
    base.finish(execution.source_date)?;
    tree.finish(execution.source_date)?;
    let file = Arc::new(file);
    let map = Disk::over_file(&file, size.get());
    let blocks = flushed_digest(&map, &file, execution)?; // 6. what the store compares it with
    made(size, blocks, &output, execution.source_date)
}

/// The digest of the disk's content; meanwhile the file is flushed, which its commit would wait for.
fn flushed_digest(map: &Disk, file: &File, execution: &Execution<'_>) -> Result<Sha256> {
    std::thread::scope(|scope| {
        let flush = scope.spawn(|| file.sync_all());
        let digest = map.block_digest(execution.cancel);
        let flushed = flush.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()));
        flushed.or_io(|| "cannot flush the disk".to_owned())?;
        digest
    })
}

/// The block map of a disk that this step made.
///
/// # Errors
/// When the file cannot be read.
pub fn open(disk: &StoredNode) -> Result<Disk> {
    let path = disk.output().join(FILE);
    let file = File::open(&path).or_io(|| format!("cannot open {}", path.display()))?;
    let size = file.metadata().or_io(|| format!("cannot read {}", path.display()))?.len();
    Ok(Disk::over_file(&Arc::new(file), size))
}

fn mode(boot: Option<BootMode>) -> disk::BootMode {
    match boot {
        None => disk::BootMode::Nothing,
        Some(BootMode::Hybrid) => disk::BootMode::Hybrid,
        Some(BootMode::Bios) => disk::BootMode::Bios,
        Some(BootMode::Uefi) => disk::BootMode::Uefi,
    }
}

fn folder(execution: &Execution<'_>, name: &str) -> Result<PathBuf> {
    let folder = execution.scratch.join(name);
    fs_err::create_dir_all(&folder).or_io(|| format!("cannot make the working folder {name}"))?;
    Ok(folder)
}

/// A sparse file of `size` bytes.
fn create(path: &Path, size: Bytes) -> Result<File> {
    let cannot = || format!("cannot make a disk of {size} at {}", path.display());
    let file = File::options().read(true).write(true).create_new(true).open(path).or_io(cannot)?;
    file.set_len(size.get()).or_io(cannot)?;
    Ok(file)
}

/// How much there is in the tree. Files with several names count once for each.
fn survey(tree: &Root, execution: &Execution<'_>) -> Result<Totals> {
    let cannot = || "cannot read the tree".to_owned();
    let mut totals = Totals::default();
    let mut folders = vec![tree.path().to_owned()];
    while let Some(folder) = folders.pop() {
        execution.cancel.check()?;
        for entry in fs_err::read_dir(folder).or_io(cannot)? {
            let entry = entry.or_io(cannot)?;
            let metadata = entry.metadata().or_io(cannot)?;
            if metadata.is_dir() {
                totals.directories += 1;
                folders.push(entry.path());
                continue;
            }
            totals.files += 1;
            totals.bytes += if metadata.is_file() { metadata.len() } else { 0 };
        }
    }
    Ok(totals)
}

/// The root file system to be made.
struct RootFileSystem<'a> {
    layout: &'a Layout,
    ids: &'a Ids,
    tree: &'a Root,
    /// Has the programs that make it.
    tools: &'a Root,
}

impl RootFileSystem<'_> {
    /// The tree that mke2fs fills in, about `base` layers, and what is changed in it afterwards. It has more
    /// where debugfs cannot make a change, and all where the tree, which has `needed`, fits but not
    /// together with what is removed from it.
    fn divide(
        &self,
        base: usize,
        needed: Totals,
        execution: &Execution<'_>,
    ) -> Result<(Root, Changes)> {
        let cannot = || "cannot compare the layers".to_owned();
        let mut base = debugfs::base_of(&execution.below, base).or_io(cannot)?;
        loop {
            let (lower, upper) = execution.below.split_at(base);
            let root = Root::read_only(lower, &folder(execution, "base")?)?;
            let changes = changes::between(root.path(), self.tree.path(), upper, execution.cancel);
            execution.cancel.check()?;
            let changes = changes.or_io(cannot)?;
            let fits =
                self.layout.require_root(ext4::estimate_size(needed + changes.removed)).is_ok();
            match changes.topmost(|change| !debugfs::can_make(change)) {
                Some(layer) => base += layer + 1,
                None if !fits => base = execution.below.len(),
                None => return Ok((root, changes)),
            }
            root.finish(execution.source_date)?;
        }
    }

    /// Runs mke2fs over the tree `base`, into the root partition's place in the disk.
    fn make(&self, base: &Root, output: &Path, execution: &Execution<'_>) -> Result<()> {
        let (image, root) = (Path::new(OUTPUT).join(FILE), self.layout.root()?);
        let arguments = ext4::mke2fs_arguments(&ext4::Request {
            image: &image,
            offset: root.start,
            size: root.length,
            tree: Some(Path::new(TREE)),
            label: LABEL,
            ids: self.ids,
        })?;
        let argv = std::iter::once(OsString::from("mke2fs")).chain(arguments);
        let mut command = self.command("fill the root file system", argv, execution);
        command.binds = vec![bind(output, OUTPUT, false), bind(base.path(), TREE, true)];
        execution.run(&command).map(drop)
    }

    /// Runs debugfs for what the layers above the base change, and takes out what it leaves of files
    /// that are gone. `file` is the disk.
    fn change(
        &self,
        changes: &Changes,
        file: &File,
        output: &Path,
        execution: &Execution<'_>,
    ) -> Result<()> {
        if changes.list.is_empty() {
            return Ok(());
        }
        let (image, offset) = (Path::new(OUTPUT).join(FILE), self.layout.root()?.start);
        let debugfs = Debugfs::new(&changes.list, TREE, &image, offset, execution)?;
        let title = format!("change {} entries of the root file system", changes.list.len());
        let mut command = self.command(&title, &debugfs.argv, execution);
        command.binds = vec![bind(output, OUTPUT, false), bind(self.tree.path(), TREE, true)];
        command.binds.push(debugfs.folder.clone());
        debugfs.check(&execution.sandbox.run(&command, execution.cancel)?)?;
        ext4::clear_free(file, offset, execution.cancel)
    }

    /// A command of e2fsprogs at the source date.
    fn command(
        &self,
        title: &str,
        argv: impl IntoIterator<Item = impl Into<OsString>>,
        execution: &Execution<'_>,
    ) -> SandboxCommand {
        let mut command = execution.command(title, self.tools, argv);
        let environment = ext4::mke2fs_environment(execution.source_date);
        let environment = environment.into_iter().map(|(key, value)| (key.to_owned(), value));
        command.environment.extend(environment);
        command
    }
}

/// The programs that make file systems.
fn tools(execution: &Execution<'_>) -> Result<Root> {
    let tools = execution.uses.get(tree_name::DISK).ok_or_else(|| {
        Failure::io(format!("the node `{}` is not among the inputs", tree_name::DISK))
    })?;
    Root::assemble(&[tools.output()], &folder(execution, "tools")?)
}

fn bind(host: &Path, guest: &str, read_only: bool) -> Bind {
    Bind { host: host.to_owned(), guest: guest.to_owned(), read_only }
}

/// GRUB for BIOS: the tree's boot sector, and a core image that its own `grub-mkimage` makes.
fn bios(layout: &Layout, tree: &Root, execution: &Execution<'_>) -> Result<Option<BiosBoot>> {
    if layout.find(Role::BiosBoot).is_none() {
        return Ok(None);
    }
    let core = folder(execution, "core")?;
    let guest = Path::new("/tmp/core");
    let number = layout.root()?.number;
    let arguments =
        grub::core_image_arguments(Path::new(BIOS_MODULES), number, &guest.join("core.img"));
    let argv = std::iter::once(OsString::from("grub-mkimage")).chain(arguments);
    let mut command = execution.command("make GRUB's core image", tree, argv);
    command.binds = vec![bind(&core, "/tmp/core", false)];
    execution.run(&command)?;
    let core_image = fs_err::read(core.join("core.img"))
        .or_io(|| "grub-mkimage left no core image".to_owned())?;
    let boot_image = required(tree, &format!("{BIOS_MODULES}/boot.img"))?;
    Ok(Some(BiosBoot { boot_image, core_image }))
}

/// The EFI system partition with the tree's signed programs at the fallback path.
fn esp(
    layout: &Layout,
    ids: &Ids,
    tree: &Root,
    execution: &Execution<'_>,
) -> Result<Option<Vec<u8>>> {
    let Some(partition) = layout.find(Role::Esp) else { return Ok(None) };
    let loader = SignedLoader {
        shim: required(tree, SHIM)?,
        grub: required(tree, SIGNED_GRUB)?,
        mok_manager: required(tree, MOK_MANAGER)?,
    };
    let files = grub::esp_files(loader, ids.root)?;
    esp::build(&files, partition.length, ids.fat_serial, execution.source_date).map(Some)
}

fn required(tree: &Root, path: &str) -> Result<Vec<u8>> {
    tree.read_file(path)?.ok_or_else(|| Failure::input(format!("the tree has no {path}")))
}

/// The record of a disk in `output` with the digest of its `blocks`, so that nothing is read again.
/// Bits and times are set to what is recorded.
fn made(size: Bytes, blocks: Sha256, output: &Path, source_date: SourceDate) -> Result<Made> {
    super::settle(output, source_date)?;
    let entry = |kind, mode| Entry {
        kind,
        mode,
        uid: 0,
        gid: 0,
        mtime: source_date.unix().cast_signed(),
        xattrs: BTreeMap::new(),
    };
    let file = EntryKind::Disk { size: size.get(), blocks };
    let entries = BTreeMap::from([
        ("/".to_owned(), entry(EntryKind::Directory { opaque: false }, 0o755)),
        (format!("/{FILE}"), entry(file, 0o644)),
    ]);
    Ok(Made { facts: BTreeMap::new(), inventory: Inventory { entries } })
}
