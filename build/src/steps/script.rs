//! A script of a recipe, run as root in the sandbox, without a network.

use fs_err::os::unix::fs::OpenOptionsExt as _;
use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::path::Path;

use nodekiln_recipes::recipe::Hook;
use nodekiln_words::{Result, ResultExt as _, Sha256};

use crate::execution::Execution;
use crate::sandbox::Bind;

/// Where the script stands in the sandbox: scratch space that is no part of the layer.
const PLACE: &str = "/run/nodekiln/script";

/// Runs the script with blob `content`. Its working directory is `/`.
///
/// # Errors
/// When it fails: the message has hook, name and status, the help its last lines.
pub fn run(
    hook: Hook,
    name: &str,
    content: &Sha256,
    environment: &BTreeMap<String, String>,
    execution: &Execution<'_>,
) -> Result<BTreeMap<String, String>> {
    let root = execution.root()?;
    let copy = execution.scratch.join("script");
    let starts_with_interpreter = copy_executable(&execution.store.blob_path(content)?, &copy)?;
    let argv: &[&str] = if starts_with_interpreter { &[PLACE] } else { &["/bin/sh", "-eu", PLACE] };
    let title = format!("script {name} (hook {})", hook.as_str());
    let mut command = execution.command(title, &root, argv.iter().copied());
    command.environment.clone_from(environment);
    command.binds.push(Bind { host: copy.clone(), guest: PLACE.to_owned(), read_only: true });
    execution.run(&command)?;
    fs_err::remove_file(&copy).or_io(|| "cannot remove the script's copy".to_owned())?;
    root.finish(execution.source_date)?;
    Ok(BTreeMap::new())
}

/// Copies a blob to a file with mode 0755; returns whether it starts with `#!`.
fn copy_executable(blob: &Path, copy: &Path) -> Result<bool> {
    let reading = || "cannot copy the script".to_owned();
    let mut text = Vec::new();
    fs_err::File::open(blob).or_io(reading)?.read_to_end(&mut text).or_io(reading)?;
    let mut options = fs_err::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o755);
    options.open(copy).or_io(reading)?.write_all(&text).or_io(reading)?;
    Ok(text.starts_with(b"#!"))
}
