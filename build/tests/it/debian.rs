//! Trees of Debian packages for tests: downloaded by the machine's own apt, unpacked, not
//! configured.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

/// One download at a time: apt-get would write the same files.
static DOWNLOADS: Mutex<()> = Mutex::new(());

/// Unpacks `packages` into `tree`. Downloads are kept for further runs.
pub(crate) fn unpack(packages: &[&str], tree: &Path) {
    std::fs::create_dir_all(tree).unwrap();
    for package in packages {
        let deb = download(package);
        let status = Command::new("dpkg-deb").arg("-x").arg(&deb).arg(tree).status();
        assert!(status.expect("dpkg-deb of the package dpkg").success(), "{}", deb.display());
    }
    // From Debian 13 on packages ship these below /usr alone; base-files brings the links.
    for name in ["bin", "lib", "lib64", "sbin"] {
        if tree.join("usr").join(name).exists() && !tree.join(name).exists() {
            std::os::unix::fs::symlink(format!("usr/{name}"), tree.join(name)).unwrap();
        }
    }
}

fn download(package: &str) -> PathBuf {
    let _one = DOWNLOADS.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("debs");
    std::fs::create_dir_all(&folder).unwrap();
    if let Some(deb) = find(&folder, package) {
        return deb;
    }
    let output = Command::new("apt-get").args(["download", package]).current_dir(&folder).output();
    let output = output.expect("apt-get of the package apt");
    let text = String::from_utf8_lossy(&output.stderr);
    find(&folder, package).unwrap_or_else(|| panic!("apt-get download {package}: {text}"))
}

fn find(folder: &Path, package: &str) -> Option<PathBuf> {
    let prefix = format!("{package}_");
    std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).find(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        name.starts_with(&prefix) && name.ends_with(".deb")
    })
}
