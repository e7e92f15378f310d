//! Takes prebuilt Kubernetes files from the store: `bin/*` as they are, `images/*` as archives in
//! the form that the preload reads.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nodekiln_recipes::recipe::Version;
use nodekiln_words::{Failure, Result, ResultExt, Sha256};

use super::uses::{ARCHITECTURE, write_archives};
use crate::execution::Execution;
use crate::kubernetes::elf;
use crate::oci::read;

/// Places `files`, blobs by path below the output.
///
/// Fact: `version.kubernetes`. That the binaries report it is checked when they are installed.
///
/// # Errors
/// When a path is neither `bin/NAME` nor `images/NAME.tar`, a binary is no ELF executable, or an
/// archive cannot be read.
pub fn run(
    version: Version,
    files: &BTreeMap<String, Sha256>,
    execution: &Execution<'_>,
) -> Result<BTreeMap<String, String>> {
    let output = execution.scratch.join("output");
    let bin = output.join("bin");
    fs_err::create_dir_all(&bin).or_io(|| "making the output".to_owned())?;
    let mut images = Vec::new();
    for (path, digest) in files {
        execution.cancel.check()?;
        let blob = execution.store.blob_path(digest)?;
        match path.split_once('/') {
            Some(("bin", name)) if is_name(name) => place_binary(path, &blob, &bin.join(name))?,
            Some(("images", name)) if is_name(name) => {
                let read = read::archive(&blob, ARCHITECTURE);
                images.extend(read.map_err(|failure| failure.context(path.clone()))?);
            }
            _ => {
                return Err(Failure::input(format!(
                    "`{path}` has no place among Kubernetes' files"
                ))
                .with_help("binaries go into bin/, image archives (.tar) into images/"));
            }
        }
    }
    write_archives(&images, execution)?;
    Ok(BTreeMap::from([("version.kubernetes".to_owned(), version.to_string())]))
}

fn is_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && !matches!(name, "." | "..")
}

fn place_binary(path: &str, blob: &Path, out: &Path) -> Result<()> {
    let placing = || format!("placing {path}");
    elf::check_executable(path, blob)?;
    fs_err::copy(blob, out).or_io(placing)?;
    fs_err::set_permissions(out, std::fs::Permissions::from_mode(0o755)).or_io(placing)
}
