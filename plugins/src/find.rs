//! Where plugins are: executables of a name on PATH.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use nodekiln_plugin_protocol::PREFIX;
use nodekiln_words::{Cancel, Class, Failure, Result, ResultExt as _, Sha256};

/// Longest name of a provider, as recipes have them.
const LONGEST_NAME: usize = 32;

/// A plugin's executable file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Executable {
    /// The provider's name, which is the end of the file's.
    pub name: String,
    /// Absolute path.
    pub path: PathBuf,
    /// Digest of the file when it was looked at.
    pub sha256: Sha256,
}

impl Executable {
    /// The executable at `path`, whose name tells the provider's.
    ///
    /// # Errors
    /// When it is called otherwise, is no executable file or cannot be read.
    pub fn at(path: &Path) -> Result<Self> {
        let shown = path.display();
        let called = path.file_name().and_then(OsStr::to_str).unwrap_or_default();
        let name = called.strip_prefix(PREFIX).filter(|name| is_name(name)).ok_or_else(|| {
            Failure::input(format!("{shown} is not called as a provider plugin is")).with_help(
                format!("call it `{PREFIX}NAME`, with at most {LONGEST_NAME} lower-case letters, digits and `-` for NAME"),
            )
        })?;
        if !is_executable(path) {
            return Err(Failure::input(format!("{shown} is no executable file"))
                .with_help(format!("make it one: chmod +x {shown}")));
        }
        let path = std::path::absolute(path).or_io(|| format!("cannot find {shown}"))?;
        let sha256 = digest(&path, &Cancel::default())?;
        Ok(Self { name: name.to_owned(), sha256, path })
    }

    /// Fails where the file is no longer what it was: a build does not mix two versions of a plugin.
    ///
    /// # Errors
    /// When it cannot be read, or has another digest, or somebody asked to stop.
    pub(crate) fn verify(&self, cancel: &Cancel) -> Result<()> {
        if digest(&self.path, cancel)? == self.sha256 {
            return Ok(());
        }
        let text = format!("{} was replaced while it was in use", self.path.display());
        Err(Failure::io(text).with_help("run the same command once more"))
    }
}

/// The digest of the file at `path`.
pub(crate) fn digest(path: &Path, cancel: &Cancel) -> Result<Sha256> {
    let cannot = || format!("cannot read {}", path.display());
    let file = fs_err::File::open(path).or_fail(Class::Input, cannot)?;
    Sha256::of_stream(file, cancel, cannot)
}

/// Whether `name` may be that of a provider, as under `providers:` in recipes.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let mut letters = name.chars();
    letters.next().is_some_and(|first| first.is_ascii_lowercase())
        && name.len() <= LONGEST_NAME
        && letters.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-')
}

fn is_executable(path: &Path) -> bool {
    path.metadata().is_ok_and(|kind| kind.is_file() && kind.permissions().mode() & 0o111 != 0)
}

/// The folders of PATH. One that is not absolute is passed over: what lies in the folder where somebody
/// happens to be is not run.
fn folders(path: &OsStr) -> impl Iterator<Item = PathBuf> {
    std::env::split_paths(path).filter(|folder| folder.is_absolute())
}

/// Where the plugin of the provider `name` is, in the first folder of `path` (the value of PATH) that has
/// one. Nothing else is looked at, and nothing is run.
#[must_use]
pub fn find(name: &str, path: &OsStr) -> Option<PathBuf> {
    if !is_name(name) {
        return None;
    }
    folders(path)
        .map(|folder| folder.join(format!("{PREFIX}{name}")))
        .find(|path| is_executable(path))
}

/// All plugins in the folders of `path` by the names of their providers. Nothing is run.
#[must_use]
pub fn list(path: &OsStr) -> BTreeMap<String, PathBuf> {
    let mut found = BTreeMap::new();
    for entry in folders(path).filter_map(|folder| folder.read_dir().ok()).flatten().flatten() {
        let called = entry.file_name();
        let name = called.to_str().and_then(|called| called.strip_prefix(PREFIX));
        if let Some(name) = name.filter(|name| is_name(name))
            && is_executable(&entry.path())
        {
            // The first one is the one that would be run.
            found.entry(name.to_owned()).or_insert_with(|| entry.path());
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(folder: &Path, file: &str, mode: u32) -> PathBuf {
        fs_err::create_dir_all(folder).unwrap();
        let path = folder.join(file);
        fs_err::write(&path, "#!/bin/sh\n").unwrap();
        fs_err::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn the_first_executable_of_the_name_is_found() {
        let work = tempfile::tempdir().unwrap();
        let (one, two) = (work.path().join("one"), work.path().join("two"));
        place(&one, "nodekiln-provider-x", 0o644);
        let second = place(&two, "nodekiln-provider-x", 0o755);
        fs_err::create_dir(one.join("nodekiln-provider-folder")).unwrap();
        let path = std::env::join_paths([&one, &two]).unwrap();
        assert_eq!(find("x", &path), Some(second.clone()));
        assert_eq!(find("folder", &path), None);
        assert_eq!(list(&path), [("x".to_owned(), second)].into());
        let first = place(&one, "nodekiln-provider-x", 0o755);
        assert_eq!(find("x", &path), Some(first.clone()));
        assert_eq!(list(&path)["x"], first);
    }

    #[test]
    fn folders_that_depend_on_where_one_is_are_passed_over() {
        let work = tempfile::tempdir().unwrap();
        place(work.path(), "nodekiln-provider-x", 0o755);
        let here = std::env::current_dir().unwrap();
        let up: PathBuf = here.components().skip(1).map(|_| "..").collect();
        let relative = up.join(work.path().strip_prefix("/").unwrap());
        assert!(relative.join("nodekiln-provider-x").exists());
        assert_eq!(find("x", relative.as_os_str()), None);
        assert_eq!(find("x", OsStr::new("")), None);
    }

    #[test]
    fn names_are_those_that_recipes_have() {
        for good in ["x", "kubevirt", "my-cloud2"] {
            assert!(is_name(good), "{good}");
        }
        let long = "a".repeat(33);
        for bad in ["", "-x", "2x", "X", "a/b", "a.b", "../x", long.as_str()] {
            assert!(!is_name(bad), "{bad}");
        }
    }

    #[test]
    fn an_executable_is_known_by_name_and_digest() {
        let work = tempfile::tempdir().unwrap();
        let path = place(work.path(), "nodekiln-provider-x", 0o755);
        let executable = Executable::at(&path).unwrap();
        assert_eq!((executable.name.as_str(), executable.sha256), ("x", Sha256::of("#!/bin/sh\n")));
        executable.verify(&Cancel::default()).unwrap();
        fs_err::write(&path, "#!/bin/sh\ntrue\n").unwrap();
        let failure = executable.verify(&Cancel::default()).unwrap_err();
        assert!(failure.to_string().contains("replaced"), "{failure}");
        let other = Executable::at(&place(work.path(), "x", 0o755)).unwrap_err();
        assert!(other.help().unwrap().contains("nodekiln-provider-NAME"), "{other:?}");
        let plain = Executable::at(&place(work.path(), "nodekiln-provider-y", 0o644)).unwrap_err();
        assert!(plain.help().unwrap().contains("chmod"), "{plain:?}");
    }
}
