//! The output folder: staged under a temporary name, renamed when whole, the manifest last.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use nodekiln_providers::{Artifact, Compression, MachineProfile, Parameters, Plugin};
use nodekiln_validate::Expectations;
use nodekiln_words::{Cancel, Class, Failure, Result, ResultExt as _, Sha256};
use serde::{Deserialize, Serialize};

/// Name of the manifest within an output folder.
pub(crate) const MANIFEST: &str = "manifest.json";
/// Name of the plan, the lock and the first bill of materials there.
pub(crate) const PLAN: &str = "plan.json";
pub(crate) const LOCK: &str = "lock.json";
pub(crate) const BOM: &str = "bom.cdx.json";
/// Folders there: logs of the nodes that were executed, those of a build that failed, and what `validate` found.
pub(crate) const LOGS: &str = "logs";
const FAILED_LOGS: &str = "logs.failed";
pub(crate) const EVIDENCE: &str = "evidence";

/// Name of the bill of materials of the tree of `provider`, where another one's is the first.
pub(crate) fn bom_of(provider: &str) -> String {
    format!("bom.{provider}.cdx.json")
}

/// What nodekiln itself may write into an output folder of `providers`; a recipe called `plan` might have a
/// provider write such a file, too.
pub(crate) fn own_names<'a>(providers: impl Iterator<Item = &'a str>) -> Vec<String> {
    let fixed = [MANIFEST, PLAN, LOCK, BOM, LOGS, FAILED_LOGS, EVIDENCE];
    fixed.map(str::to_owned).into_iter().chain(providers.map(bom_of)).collect()
}

/// What a build made, and what its artifacts should turn out to be.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    /// Names this format.
    pub(crate) schema: String,
    /// The image.
    pub(crate) name: String,
    /// The nodekiln that wrote it.
    pub(crate) nodekiln: String,
    /// Digest of the resolved recipe.
    pub(crate) recipe: Sha256,
    /// The recipe's source date.
    pub(crate) source_date: String,
    /// Kubernetes version and where it came from, in words.
    pub(crate) kubernetes: Option<String>,
    /// Virtual size of the disk in bytes.
    pub(crate) disk_size: u64,
    /// Compression of artifacts that have any.
    pub(crate) compression: Compression,
    /// The artifacts.
    pub(crate) artifacts: Vec<Artifact>,
    /// Other files, by name.
    pub(crate) files: BTreeMap<String, Sha256>,
    /// Ids of the plan's nodes, by name.
    pub(crate) nodes: BTreeMap<String, String>,
    /// What holds for the artifact of one provider, by the provider's name.
    pub(crate) providers: BTreeMap<String, ForOne>,
    /// What `validate` should find, whoever the image is for.
    pub(crate) expect: Expectations,
}

/// What a manifest says of one provider's artifact. Providers that share a disk have the same payload and
/// bill of materials.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct ForOne {
    /// Digest of the disk's content.
    pub(crate) payload: Sha256,
    /// File with the bill of materials.
    pub(crate) bom: String,
    /// The machine that `validate` boots it on.
    pub(crate) machine: MachineProfile,
    /// What it takes to register it where it is to run, in the words of the service that takes it.
    #[serde(default)]
    pub(crate) registration: Parameters,
    /// The program that wrote it, where that was none of nodekiln's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) plugin: Option<Plugin>,
}

impl Manifest {
    /// Reads the manifest at `path`; `None` where there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>> {
        let text = match fs_err::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).or_io(|| "cannot read the manifest".to_owned()),
        };
        let manifest = serde_json::from_slice(&text).map_err(|error| {
            Failure::input(format!("{} is no manifest of this version", path.display()))
                .with_source(error)
                .with_help("build the image again, with `--force` to replace what is there")
        })?;
        Ok(Some(manifest))
    }

    /// Whether every file that the manifest names stands in `folder` as it was written. An artifact is
    /// read again only where somebody wrote to it after the manifest, by booting it for instance.
    pub(crate) fn stands_in(&self, folder: &Path, cancel: &Cancel) -> bool {
        let written = |path: &Path| fs_err::metadata(path).and_then(|m| m.modified());
        let whole = written(&folder.join(MANIFEST)).ok();
        let sized = |artifact: &Artifact| {
            let path = folder.join(&artifact.file);
            let size = fs_err::metadata(&path).map(|metadata| metadata.len()).ok();
            let untouched = written(&path).ok() <= whole;
            size == Some(artifact.size)
                && (untouched || digest(&path, cancel).is_ok_and(|found| found == artifact.sha256))
        };
        let read = |(name, digest): (&String, &Sha256)| {
            fs_err::read(folder.join(name)).is_ok_and(|bytes| Sha256::of(bytes) == *digest)
        };
        self.artifacts.iter().all(sized) && self.files.iter().all(read)
    }
}

fn digest(path: &Path, cancel: &Cancel) -> Result<Sha256> {
    let cannot = || format!("cannot read {}", path.display());
    let file = fs_err::File::open(path).or_io(cannot)?;
    Sha256::of_stream(file, cancel, cannot)
}

/// An output folder while it is being filled.
///
/// Its hidden folder is locked as long as this process lives, so that what a killed build left behind
/// is told from what another build is filling.
pub(crate) struct Staging {
    target: PathBuf,
    folder: tempfile::TempDir,
    _lock: fs_err::File,
}

/// What hidden folders of unfinished builds begin with; random letters follow.
const PREFIX: &str = ".nodekiln-build-";

/// How many letters `tempfile` draws.
const DRAWN: usize = 6;

impl Staging {
    /// Makes a hidden folder beside `target` to write into.
    pub(crate) fn beside(target: &Path) -> Result<Self> {
        let parent = target.parent().unwrap_or_else(|| Path::new("."));
        let unwritable = || format!("cannot write to the output folder {}", parent.display());
        let help = "choose another one with `--out FOLDER`";
        fs_err::create_dir_all(parent).or_io(unwritable).map_err(|f| f.with_help(help))?;
        sweep(parent, PREFIX, Path::is_dir);
        loop {
            let made =
                tempfile::Builder::new().prefix(PREFIX).tempdir_in(parent).and_then(|made| {
                    let lock = fs_err::File::open(made.path())?;
                    lock.file().lock()?;
                    Ok((made, lock))
                });
            let (folder, lock) =
                made.or_io(unwritable).map_err(|failure| failure.with_help(help))?;
            // Somebody who swept between making and locking took it for abandoned.
            if folder.path().exists() {
                return Ok(Self { target: target.to_owned(), folder, _lock: lock });
            }
        }
    }

    /// The folder to write into.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Moves everything to its place, the manifest last. What `old` names and this build does not
    /// make is removed first; files that nodekiln did not write are left alone.
    pub(crate) fn publish(self, manifest: &Manifest, old: Option<&Manifest>) -> Result<()> {
        let cannot = || format!("cannot put the output into {}", self.target.display());
        fs_err::create_dir_all(&self.target).or_io(cannot)?;
        remove_if_there(&self.target.join(MANIFEST))?;
        for name in old.map(file_names).unwrap_or_default() {
            remove_if_there(&self.target.join(name))?;
        }
        for name in file_names(manifest) {
            fs_err::rename(self.folder.path().join(&name), self.target.join(&name))
                .or_io(cannot)?;
        }
        // What was found out about the build that stood here says nothing about this one.
        for stale in [EVIDENCE, FAILED_LOGS] {
            if self.target.join(stale).is_dir() {
                fs_err::remove_dir_all(self.target.join(stale)).or_io(cannot)?;
            }
        }
        let logs = self.target.join(LOGS);
        if self.folder.path().join(LOGS).is_dir() {
            if logs.is_dir() {
                fs_err::remove_dir_all(&logs).or_io(cannot)?;
            }
            fs_err::rename(self.folder.path().join(LOGS), &logs).or_io(cannot)?;
        }
        let text = serde_json::to_string_pretty(manifest).or_io(cannot)? + "\n";
        let staged = self.folder.path().join(MANIFEST);
        fs_err::write(&staged, text).or_io(cannot)?;
        fs_err::File::open(&staged).and_then(|file| file.sync_all()).or_io(cannot)?;
        fs_err::rename(&staged, self.target.join(MANIFEST)).or_io(cannot)?;
        fs_err::File::open(&self.target).and_then(|folder| folder.sync_all()).or_io(cannot)
    }

    /// Keeps the logs of a build that failed in the output folder, beside those of the build that
    /// stands there, and says where.
    pub(crate) fn keep_logs(&self) -> Option<PathBuf> {
        let from = self.folder.path().join(LOGS);
        let to = self.target.join(FAILED_LOGS);
        let _ = fs_err::remove_dir_all(&to); // of an earlier failure
        if !from.is_dir() || fs_err::create_dir_all(&to).is_err() {
            return None;
        }
        for entry in fs_err::read_dir(&from).ok()?.flatten() {
            let _ = fs_err::rename(entry.path(), to.join(entry.file_name()));
        }
        Some(to)
    }
}

/// Removes what builds or conversions left in `parent` when they were killed: what is called `prefix` and the
/// random letters that `tempfile` adds, is of the right kind, and which nobody has locked. Anything else with
/// a dot may be the user's. What cannot be removed is left: it is in nobody's way.
pub(crate) fn sweep(parent: &Path, prefix: &str, is_kind: fn(&Path) -> bool) {
    let entries = parent.read_dir().into_iter().flatten().flatten();
    for entry in entries.filter(|entry| is_unfinished(&entry.file_name(), prefix)) {
        let path = entry.path();
        if path.is_symlink() || !is_kind(&path) {
            continue;
        }
        // The lock is held until it is gone.
        if let Ok(abandoned) = fs_err::File::open(&path)
            && abandoned.file().try_lock().is_ok()
        {
            let _ = match path.is_dir() {
                true => fs_err::remove_dir_all(&path),
                false => fs_err::remove_file(&path),
            };
        }
    }
}

/// Whether `tempfile` made the name from `prefix`.
fn is_unfinished(name: &OsStr, prefix: &str) -> bool {
    let drawn = name.to_str().and_then(|name| name.strip_prefix(prefix));
    drawn.is_some_and(|drawn| {
        drawn.len() == DRAWN && drawn.bytes().all(|byte| byte.is_ascii_alphanumeric())
    })
}

/// Names of the files that a manifest speaks of.
fn file_names(manifest: &Manifest) -> Vec<String> {
    let artifacts = manifest.artifacts.iter().map(|artifact| artifact.file.clone());
    artifacts.chain(manifest.files.keys().cloned()).collect()
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs_err::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).or_io(|| "cannot replace what is in the output folder".to_owned())
        }
        _ => Ok(()),
    }
}

/// Refuses to go on where the output folder holds something else than this build.
pub(crate) fn refuse_foreign(target: &Path, old: Option<&Manifest>, force: bool) -> Result<()> {
    let occupied = target.read_dir().is_ok_and(|mut entries| {
        entries.any(|entry| entry.is_ok_and(|entry| entry.file_name() != FAILED_LOGS))
    });
    if force || !occupied {
        return Ok(());
    }
    let what = if old.is_some() { "another build" } else { "something that is no build" };
    Err(Failure::new(Class::Input, format!("{} holds {what}", target.display()))
        .with_help("pass `--force` to replace it, or `--out FOLDER` to write elsewhere"))
}
