//! `nodekiln report`: what several validations found, in one place.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nodekiln_validate::report::{self as room, Kept};
use nodekiln_words::{Result, ResultExt as _};

use crate::arguments::Report;
use crate::exit::{print, print_json};

/// Renders reports that earlier runs left. What they say of their images is no failure of this verb.
pub(crate) fn report(verb: &Report) -> Result<ExitCode> {
    let kept = verb.folders.iter().map(|folder| Kept::read(folder)).collect::<Result<Vec<_>>>()?;
    let put = |path: &Option<PathBuf>, text: fn(&[Kept]) -> String| match path {
        None => Ok(()),
        Some(path) => write(path, &text(&kept)),
    };
    put(&verb.html, room::page)?;
    put(&verb.markdown, room::summary)?;
    put(&verb.junit, room::junit)?;
    if verb.json {
        let reports: Vec<_> = kept.iter().map(|kept| &kept.report).collect();
        print_json(&reports)?;
    } else {
        print(&room::overview(&kept))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes `text` to `path` whole or not at all.
pub(crate) fn write(path: &Path, text: &str) -> Result<()> {
    let cannot = || format!("write {}", path.display());
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    fs_err::create_dir_all(folder).or_io(cannot)?;
    let mut file =
        tempfile::Builder::new().prefix(".nodekiln-report-").tempfile_in(folder).or_io(cannot)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).or_io(cannot)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    file.as_file().set_permissions(mode).or_io(cannot)?;
    file.persist(path).map(drop).or_io(cannot)
}
