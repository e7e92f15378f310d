//! Compiles Kubernetes in the sandbox: files of a source package in, `bin/*` out.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nodekiln_recipes::lock::LockedFile;
use nodekiln_recipes::recipe::Version;
use nodekiln_words::{Result, ResultExt};

use crate::execution::Execution;
use crate::kubernetes::compile::{self, FOLDER, SOURCES, Step, TARGETS, Target};
use crate::kubernetes::images;
use crate::layer::Root;
use crate::sandbox::{Bind, SandboxCommand};

/// Compiles all targets.
///
/// Fact: `version.kubernetes`.
///
/// # Errors
/// When the version cannot be built this way, a source file is missing, or a step fails.
pub fn run(
    version: Version,
    sources: &BTreeMap<String, LockedFile>,
    execution: &Execution<'_>,
) -> Result<BTreeMap<String, String>> {
    targets(version, sources, &TARGETS, execution)
}

/// Compiles some targets.
///
/// # Errors
/// As [`run`].
pub fn targets(
    version: Version,
    sources: &BTreeMap<String, LockedFile>,
    targets: &[Target],
    execution: &Execution<'_>,
) -> Result<BTreeMap<String, String>> {
    compile::supports(version)?;
    let tarball = compile::upstream_tarball(sources.keys().map(String::as_str))?;
    let pause = images::pause(version, "k8s.gcr.io")?;
    let pause_tag = pause.tag.as_deref().unwrap_or_default();
    let compiler = Compiler::new(version, sources, execution)?;
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let builds = targets.iter().map(|target| compile::build(*target, version, pause_tag, jobs));
    let steps: Vec<Step> = compile::preparation(tarball).into_iter().chain(builds).collect();

    compiler.run_all(&format!("compile Kubernetes {version}"), &steps)?;
    compiler.finish(targets)?;
    Ok(BTreeMap::from([("version.kubernetes".to_owned(), version.to_string())]))
}

/// The tree that compiles, with the scratch folder and the sources shown in it.
pub(super) struct Compiler<'a> {
    execution: &'a Execution<'a>,
    root: Root,
    binds: Vec<Bind>,
    environment: BTreeMap<String, String>,
}

/// Scratch folders of this step, below the node's own.
const WORK: &str = "work";
const TREE: &str = "tree";

impl<'a> Compiler<'a> {
    /// The tree below, ready to compile `sources`.
    pub(super) fn new(
        version: Version,
        sources: &BTreeMap<String, LockedFile>,
        execution: &'a Execution<'a>,
    ) -> Result<Self> {
        let work = execution.scratch.join(WORK);
        let tree = execution.scratch.join(TREE);
        for folder in [&work, &tree, &execution.scratch.join("output")] {
            fs_err::create_dir_all(folder).or_io(|| "making scratch folders".to_owned())?;
        }
        let bind = |host: &Path, guest: &str, read_only| Bind {
            host: host.to_owned(),
            guest: guest.to_owned(),
            read_only,
        };
        let mut binds = vec![bind(&work, FOLDER, false)];
        for (name, file) in sources {
            let path = execution.store.blob_path(&file.sha256)?;
            binds.push(bind(&path, &format!("{SOURCES}/{name}"), true));
        }
        let root = Root::assemble(&execution.below, &tree)?;
        Ok(Self { execution, root, binds, environment: compile::environment(version) })
    }

    /// The folder that is shown as [`FOLDER`].
    pub(super) fn work(&self) -> PathBuf {
        self.execution.scratch.join(WORK)
    }

    /// Runs `steps` in turn as one task called `title`.
    pub(super) fn run_all(&self, title: &str, steps: &[Step]) -> Result<()> {
        let progress = self.execution.progress;
        let task = progress.start(title, Some(steps.len() as u64), "steps");
        for (done, step) in (0..).zip(steps) {
            let detail = Some(step.title.clone());
            progress.event(nodekiln_words::Event::Advanced { task, done, detail });
            self.run(step).inspect_err(|_| progress.fail(task))?;
        }
        progress.finish(task, &format!("{} steps", steps.len()));
        Ok(())
    }

    fn run(&self, step: &Step) -> Result<()> {
        let Execution { log, source_date, sandbox, cancel, .. } = self.execution;
        let mut command = SandboxCommand::new(
            step.title.clone(),
            self.root.path(),
            step.argv.iter().cloned(),
            *log,
            *source_date,
        );
        command.environment = self.environment.clone();
        command.binds = self.binds.clone();
        command.folder = step.folder.to_owned();
        sandbox.run(&command, cancel).map(drop)
    }

    /// Moves the programs to the output and drops everything else.
    pub(super) fn finish(self, targets: &[Target]) -> Result<()> {
        let scratch = self.execution.scratch;
        let (work, bin) = (scratch.join(WORK), scratch.join("output/bin"));
        fs_err::create_dir_all(&bin).or_io(|| "making the output".to_owned())?;
        for Target { name, .. } in targets {
            fs_err::rename(work.join("bin").join(name), bin.join(name))
                .or_io(|| format!("the compilation left no {name}"))?;
        }
        drop(self.root);
        for folder in [work, scratch.join(TREE)] {
            remove_all(&folder)?;
        }
        Ok(())
    }
}

fn remove_all(folder: &Path) -> Result<()> {
    fs_err::remove_dir_all(folder).or_io(|| format!("removing {}", folder.display()))
}
