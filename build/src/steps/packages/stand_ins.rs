//! Scripts that packages' scripts meet in place of a program of the tree.

use std::fs::Permissions;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nodekiln_words::{Result, ResultExt as _};

use crate::layer::Root;
use crate::sandbox::Bind;

/// Tells scripts whether they run in a chroot (ischroot(1)).
const ISCHROOT: &str = "/usr/bin/ischroot";

/// A sandbox is one to them, but has a process 1 of its own, so that the program would say no. libc's
/// script then asks process 1 to start anew, which nobody there can do, and sleeps for a second.
const IN_A_CHROOT: &str = "#!/bin/sh\nexit 0\n";

/// A folder of scripts on this machine.
pub(super) struct StandIns {
    folder: PathBuf,
}

impl StandIns {
    /// Those of ischroot(1), in a new folder of `scratch`.
    pub(super) fn new(scratch: &Path) -> Result<Self> {
        let stand_ins = Self { folder: scratch.join("stand-ins") };
        fs_err::create_dir_all(&stand_ins.folder).or_io(writing)?;
        stand_ins.add(ISCHROOT, IN_A_CHROOT)?;
        Ok(stand_ins)
    }

    /// Adds `script` for the program at `path`.
    pub(super) fn add(&self, path: &str, script: &str) -> Result<()> {
        let file = self.file(path);
        fs_err::write(&file, script).or_io(writing)?;
        fs_err::set_permissions(&file, Permissions::from_mode(0o755)).or_io(writing)
    }

    /// The script in the place of the program at `path`, if `root` has that program.
    pub(super) fn bind(&self, root: &Root, path: &str) -> Result<Option<Bind>> {
        let bind = || Bind { host: self.file(path), guest: path.to_owned(), read_only: true };
        Ok(root.exists(path)?.then(bind))
    }

    /// The script for ischroot(1), where the tree has it.
    pub(super) fn ischroot(&self, root: &Root) -> Result<Option<Bind>> {
        self.bind(root, ISCHROOT)
    }

    fn file(&self, path: &str) -> PathBuf {
        self.folder.join(path.trim_start_matches('/').replace('/', "-"))
    }
}

fn writing() -> String {
    "cannot write to the scratch folder".to_owned()
}
