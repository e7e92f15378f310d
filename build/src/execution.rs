//! What the executor of one node has to work with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nodekiln_words::{Cancel, Progress, Result, SourceDate};

use crate::layer::Root;
use crate::sandbox::{Sandbox, SandboxCommand};
use crate::store::{Store, StoredNode};

/// What the executor of one node has to work with. It fills `<scratch>/output`.
pub struct Execution<'a> {
    /// The content store.
    pub store: &'a Store,
    /// Where commands run.
    pub sandbox: &'a Sandbox,
    /// Who watches.
    pub progress: &'a dyn Progress,
    /// Who may stop it.
    pub cancel: &'a Cancel,
    /// The one moment that the image knows.
    pub source_date: SourceDate,
    /// The node's own folder, on a file system that can hold a layer.
    pub scratch: &'a Path,
    /// File that the output of commands is appended to.
    pub log: &'a Path,
    /// Folders of the layers below, bottom first.
    pub below: Vec<PathBuf>,
    /// What the nodes below found out.
    pub below_facts: &'a BTreeMap<String, String>,
    /// Results of further nodes, by name.
    pub uses: BTreeMap<String, StoredNode>,
    /// Open a shell in the sandbox of a command that fails.
    pub shell_on_failure: bool,
}

impl Execution<'_> {
    /// The tree below with the new layer on top.
    ///
    /// # Errors
    /// Those of [`Root::assemble`].
    pub fn root(&self) -> Result<Root> {
        Root::assemble(&self.below, self.scratch)
    }

    /// A command in `root` that writes to this node's log.
    pub fn command<A: Into<std::ffi::OsString>>(
        &self,
        title: impl Into<String>,
        root: &Root,
        argv: impl IntoIterator<Item = A>,
    ) -> SandboxCommand {
        let mut command = SandboxCommand::new(title, root.path(), argv, self.log, self.source_date);
        command.shell_on_failure = self.shell_on_failure;
        command
    }

    /// Runs a command to its end and returns its standard output.
    ///
    /// # Errors
    /// Those of [`Sandbox::run`].
    pub fn run(&self, command: &SandboxCommand) -> Result<Vec<u8>> {
        Ok(self.sandbox.run(command, self.cancel)?.stdout)
    }
}
