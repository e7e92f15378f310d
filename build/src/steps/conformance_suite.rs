//! Compiles the suite for node conformance and the programs of its images, and lists its specs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use nodekiln_kit::{junit, suite};
use nodekiln_recipes::lock::LockedFile;
use nodekiln_recipes::recipe::Version;
use nodekiln_words::{Cancel, Failure, Result, ResultExt as _, SourceDate};

use super::kubernetes_compile::Compiler;
use crate::execution::Execution;
use crate::kubernetes::compile::{self, FOLDER, Step, Target, conformance};
use crate::kubernetes::{elf, images};
use crate::layer::{Attributes, Root};
use crate::sandbox::{Sandbox, SandboxCommand};

/// The list of specs, a JSON array of texts, below the node's output.
pub const SPECS: &str = "specs.json";
/// Where the suite reports, in the sandbox and below the scratch folder.
const REPORTS: &str = "reports";

/// Compiles [`conformance::TARGETS`] and asks the suite for its specs.
///
/// Facts: `version.kubernetes`, `specs`.
///
/// # Errors
/// When the version cannot be built this way, a source file is missing, a step fails, or the suite tells of no
/// specs.
pub fn run(
    version: Version,
    sources: &BTreeMap<String, LockedFile>,
    execution: &Execution<'_>,
) -> Result<BTreeMap<String, String>> {
    compile::supports(version)?;
    let tarball = compile::upstream_tarball(sources.keys().map(String::as_str))?;
    let pause = images::pause(version, "k8s.gcr.io")?;
    let pause_tag = pause.tag.as_deref().unwrap_or_default();
    let compiler = Compiler::new(version, sources, execution)?;
    let jobs = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let targets = &conformance::TARGETS;
    let builds =
        targets.iter().map(|target: &Target| compile::build(*target, version, pause_tag, jobs));
    let flags = suite::listing(version.minor, &format!("{FOLDER}/{REPORTS}"))?;
    let mut steps: Vec<Step> = compile::preparation(tarball).into_iter().chain(builds).collect();
    steps.push(conformance::list_specs(&flags));
    compiler.run_all(&format!("compile the suite of Kubernetes {version}"), &steps)?;
    let specs = specs(&compiler.work().join(REPORTS))?;
    compiler.finish(targets)?;
    let text = serde_json::to_vec_pretty(&specs).or_io(|| "write JSON".to_owned())?;
    fs_err::write(execution.scratch.join("output").join(SPECS), text)
        .or_io(|| "write the list of specs".to_owned())?;
    Ok(BTreeMap::from([
        ("version.kubernetes".to_owned(), version.to_string()),
        ("specs".to_owned(), specs.len().to_string()),
    ]))
}

/// The specs of the report that the suite left: each once, sorted.
fn specs(folder: &Path) -> Result<BTreeSet<String>> {
    let reading = || "read the suite's list of specs".to_owned();
    let mut specs = BTreeSet::new();
    for entry in fs_err::read_dir(folder).or_io(reading)? {
        let path = entry.or_io(reading)?.path();
        if path.extension().is_some_and(|ending| ending == "xml") {
            let text = fs_err::read_to_string(path).or_io(reading)?;
            specs.extend(junit::read(&text)?.into_iter().map(|case| case.name));
        }
    }
    if specs.is_empty() {
        return Err(Failure::io("the suite that was compiled tells of no specs"));
    }
    Ok(specs)
}

/// A suite that was built elsewhere.
#[derive(Clone, Copy, Debug)]
pub struct Suite<'a> {
    /// The program, which must need no library.
    pub binary: &'a Path,
    /// Minor version of its Kubernetes.
    pub minor: u32,
    /// An empty or missing folder, for a tree of the program's own.
    pub scratch: &'a Path,
    /// Where its output is logged.
    pub log: &'a Path,
    /// The source date.
    pub source_date: SourceDate,
}

/// The specs that a suite tells of, in a tree of its own.
///
/// # Errors
/// When its flags are not known, it cannot be run, or it tells of no specs.
pub fn list(sandbox: &Sandbox, asked: &Suite<'_>, cancel: &Cancel) -> Result<BTreeSet<String>> {
    let Suite { binary, minor, scratch, log, source_date } = *asked;
    elf::check_executable(conformance::SUITE, binary)?;
    fs_err::create_dir_all(scratch).or_io(|| "cannot make a scratch folder".to_owned())?;
    let root = Root::assemble(&[], scratch)?;
    let program = format!("/{}", conformance::SUITE);
    root.copy_file(&program, binary, Attributes::root(0o755))?;
    let mut argv = vec![program];
    argv.extend(suite::listing(minor, &format!("/{REPORTS}"))?);
    let mut command =
        SandboxCommand::new("list the suite's specs", root.path(), argv, log, source_date);
    command.environment.insert("USER".to_owned(), "root".to_owned());
    sandbox.run(&command, cancel)?;
    specs(&root.path().join(REPORTS))
}
