//! Where a test works: a temporary folder, a sandbox, and a small tree that borrows this machine's
//! `/usr` read-only, so that it has programs without being one of a distribution.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use nodekiln_build::sandbox::{Bind, Output, Sandbox, SandboxCommand};
use nodekiln_words::{Cancel, Result, SourceDate};

pub(crate) struct Place {
    pub(crate) folder: tempfile::TempDir,
    pub(crate) sandbox: Sandbox,
}

pub(crate) fn source_date() -> SourceDate {
    SourceDate::from_unix(1_700_000_000).unwrap()
}

impl Place {
    pub(crate) fn new() -> Self {
        let place = Self {
            folder: tempfile::tempdir().unwrap(),
            sandbox: Sandbox {
                launcher: PathBuf::from(env!("CARGO_BIN_EXE_nodekiln-sandbox")),
                clock: None,
            },
        };
        make_tree(&place.tree());
        place
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(crate) fn tree(&self) -> PathBuf {
        self.path("tree")
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.path("log")).unwrap_or_default()
    }

    /// A command in the tree, with this machine's `/usr`.
    pub(crate) fn command(&self, argv: &[&str]) -> SandboxCommand {
        let mut command =
            SandboxCommand::new("the test", self.tree(), argv, self.path("log"), source_date());
        command.binds.push(Bind { host: "/usr".into(), guest: "/usr".into(), read_only: true });
        command
    }

    pub(crate) fn shell(&self, script: &str) -> SandboxCommand {
        self.command(&["/bin/sh", "-euc", script])
    }

    pub(crate) fn run(&self, command: &SandboxCommand) -> Result<Output> {
        self.sandbox.run(command, &Cancel::default())
    }

    /// Standard output of a script that ends well.
    pub(crate) fn says(&self, script: &str) -> String {
        String::from_utf8(self.run(&self.shell(script)).unwrap().stdout).unwrap()
    }
}

fn make_tree(tree: &Path) {
    for folder in ["etc", "usr", "var"] {
        fs::create_dir_all(tree.join(folder)).unwrap();
    }
    for name in ["bin", "sbin", "lib", "lib64"] {
        symlink(format!("usr/{name}"), tree.join(name)).unwrap();
    }
}
