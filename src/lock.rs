//! `nodekiln lock`: make, move, check and verify the lock of a recipe.

use std::collections::BTreeSet;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nodekiln_build::resolve::{Finding, Keep, same_folder, verify as verify_lock, wanted_trees};
use nodekiln_recipes::lock::{Lock, LockFile, Moved, moved};
use nodekiln_recipes::provider::ForProvider;
use nodekiln_recipes::recipe::Recipe;
use nodekiln_words::{Cancel, Class, Failure, Progress, Result};
use serde::Serialize;

use crate::Context;
use crate::arguments;
use crate::exit::{print, print_json};
use crate::progress::renderer;
use crate::registry;
use crate::resolve::{Setting, newest};

/// What stands behind the recipe's name in the file's.
const ENDING: &str = ".lock.yaml";

/// Makes, moves, checks or verifies a lock.
pub(crate) fn lock(verb: &arguments::Lock, context: &Context) -> Result<ExitCode> {
    let progress = renderer(context.global.progress);
    let providers = providers(&verb.provider, &*progress, &context.cancel)?;
    let setting = Setting::of(&verb.selection, &providers, context, &progress)?;
    let recipe = &setting.loaded.recipe;
    let path = path_of(&verb.selection, recipe);
    if verb.check {
        return check(&path, &setting, verb.json);
    }
    if verb.verify {
        return verify(&path, &setting, verb.json);
    }
    let earlier = existing(&path, recipe)?; // 1. what is locked
    let names: BTreeSet<String> = verb.update.iter().flatten().cloned().collect();
    refuse_unknown(&names, earlier.as_ref())?;
    let keep = earlier
        .as_ref()
        .filter(|_| verb.update.as_ref().is_none_or(|names| !names.is_empty()))
        .map(|lock| Keep { lock, but: &names });
    let resolution = newest(&setting, keep)?; // 2. what there is now
    let moved = moved(earlier.as_ref().unwrap_or(&Lock::default()), &resolution.lock);
    let written = earlier.as_ref() != Some(&resolution.lock);
    if written {
        write(&path, recipe, resolution.lock)?; // 3. the file
    }
    say(&path, earlier.is_none(), written, &moved, verb.json)?; // 4. what moved
    Ok(ExitCode::SUCCESS)
}

/// The providers whose layers are locked: those named, or all in the tree. Who names one means to build for it,
/// so that it has to take the recipe's disk.
fn providers(
    named: &[String],
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Vec<ForProvider>> {
    if !named.is_empty() {
        return Ok(registry::terms(&registry::chosen(named, progress, cancel)?));
    }
    let mut all = registry::terms(&registry::in_tree());
    all.iter_mut().for_each(|provider| provider.disk = None);
    Ok(all)
}

/// Where the lock of a recipe stands: where the command line says, else beside the recipe's file, and
/// for one of the library in the current folder.
pub(crate) fn path_of(selection: &arguments::Selection, recipe: &Recipe) -> PathBuf {
    if let Some(path) = &selection.lock {
        return path.clone();
    }
    let file = Path::new(&selection.recipe);
    let name = format!("{}{ENDING}", recipe.name);
    match file.parent() {
        Some(folder) if file.is_file() => folder.join(name),
        _ => PathBuf::from(name),
    }
}

/// The lock at `path`, if it is there and one of this recipe.
///
/// # Errors
/// When it cannot be read, or is for another recipe or architecture.
pub(crate) fn existing(path: &Path, recipe: &Recipe) -> Result<Option<Lock>> {
    let Some(file) = LockFile::read(path)? else { return Ok(None) };
    let architecture = recipe.os.architecture.as_str();
    let (shown, help) = (path.display(), "name the lock of this recipe with `--lock`");
    if file.recipe != recipe.name {
        let message = format!("{shown} is the lock of `{}`, not `{}`", file.recipe, recipe.name);
        return Err(Failure::input(message).with_help(help));
    }
    if file.architecture != architecture {
        let message =
            format!("{shown} is for {}, the recipe for {architecture}", file.architecture);
        return Err(Failure::input(message).with_help(help));
    }
    Ok(Some(file.lock))
}

/// The lock at `path`, which has to be there.
pub(crate) fn required(path: &Path, recipe: &Recipe) -> Result<Lock> {
    existing(path, recipe)?.ok_or_else(|| {
        Failure::input(format!("there is no lock at {}", path.display()))
            .with_help("`nodekiln lock RECIPE` makes one")
    })
}

/// Refuses packages to be moved that are not locked.
fn refuse_unknown(names: &BTreeSet<String>, lock: Option<&Lock>) -> Result<()> {
    let known = |name: &&String| {
        let trees = lock.iter().flat_map(|lock| lock.trees.values());
        trees.flat_map(|tree| &tree.packages).any(|package| package.name == **name)
            || lock.is_some_and(|lock| lock.images.contains_key(*name))
    };
    match names.iter().find(|name| !known(name)) {
        None => Ok(()),
        Some(name) => Err(Failure::input(format!("no package or image `{name}` is locked"))
            .with_help("`--update` without names moves everything; put RECIPE before it")),
    }
}

fn check(path: &Path, setting: &Setting, json: bool) -> Result<ExitCode> {
    let recipe = &setting.loaded.recipe;
    let lock = required(path, recipe)?;
    let mut misfits = lock.misfits(recipe, &wanted_trees(recipe, &setting.provider_names()));
    if let Err(failure) = same_folder(recipe, &lock, &setting.store) {
        match failure.class() {
            Class::Input => misfits.push(failure.to_string()),
            _ => return Err(failure),
        }
    }
    if json {
        print_json(&misfits)?;
    } else if misfits.is_empty() {
        print(&format!("{} fits the recipe\n", path.display()))?;
    } else {
        let lines: String = misfits.iter().map(|misfit| format!("{misfit}\n")).collect();
        print(&lines)?;
    }
    Ok(if misfits.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

fn verify(path: &Path, setting: &Setting, json: bool) -> Result<ExitCode> {
    let recipe = &setting.loaded.recipe;
    let lock = required(path, recipe)?;
    let now = crate::cache::now();
    let findings = verify_lock(recipe, &lock, &setting.fetcher, &setting.store, now)?;
    if json {
        print_json(&findings)?;
    } else {
        print(&told(&findings, &lock))?;
    }
    let wrong = findings.iter().any(|finding| finding.contradicts);
    Ok(if wrong { ExitCode::from(1) } else { ExitCode::SUCCESS })
}

fn told(findings: &[Finding], lock: &Lock) -> String {
    let packages: usize = lock.trees.values().map(|tree| tree.packages.len()).sum();
    // What a recipe takes from a URL it pins itself.
    let files = lock.files.keys().filter(|name| !name.starts_with("url/")).count();
    let images = lock.images.len();
    let mut text = String::new();
    for Finding { what, how, contradicts } in findings {
        let word = if *contradicts { "contradicted" } else { "gone" };
        text.push_str(&format!("{word}: {what}: {how}\n"));
    }
    let gone = findings.iter().filter(|finding| !finding.contradicts).count();
    text.push_str(&format!(
        "{packages} packages, {files} files and {images} images verified: {gone} gone, {} contradicted\n",
        findings.len() - gone
    ));
    text
}

/// Writes the file beside its place and renames it: whatever happens, there is the old one or the new one.
pub(crate) fn write(path: &Path, recipe: &Recipe, lock: Lock) -> Result<()> {
    let file = LockFile {
        recipe: recipe.name.clone(),
        architecture: recipe.os.architecture.as_str().to_owned(),
        nodekiln: env!("CARGO_PKG_VERSION").to_owned(),
        lock,
    };
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let written = || -> io::Result<()> {
        let mut new = tempfile::NamedTempFile::new_in(folder)?;
        new.write_all(file.text().as_bytes())?;
        new.as_file().sync_all()?;
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        new.as_file().set_permissions(readable)?;
        new.persist(path)?;
        Ok(())
    };
    written().map_err(|error| unwritten(path, error))
}

/// A lock that could not be written: the place was named wrongly, or the disk has no room.
fn unwritten(path: &Path, error: io::Error) -> Failure {
    let (class, help) = match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            (Class::Io, "free some space, or name a place on another disk with `--lock`")
        }
        io::ErrorKind::NotFound
        | io::ErrorKind::NotADirectory
        | io::ErrorKind::IsADirectory
        | io::ErrorKind::PermissionDenied
        | io::ErrorKind::ReadOnlyFilesystem => {
            (Class::Input, "name a file in a folder that can be written to with `--lock`")
        }
        _ => (Class::Io, "look at the disk, or name another place with `--lock`"),
    };
    let message = format!("cannot write the lock {}", path.display());
    Failure::new(class, message).with_source(error).with_help(help)
}

/// What is told as JSON.
#[derive(Serialize)]
struct Told<'a> {
    file: &'a Path,
    written: bool,
    #[serde(flatten)]
    moved: &'a Moved,
}

fn say(path: &Path, new: bool, written: bool, moved: &Moved, json: bool) -> Result<()> {
    if json {
        return print_json(&Told { file: path, written, moved });
    }
    let shown = path.display();
    match (new, written) {
        (true, _) => print(&format!("{shown}: {} entries locked\n", moved.changes.len())),
        (_, false) => print(&format!("{shown}: nothing moved\n")),
        (_, true) if moved.is_empty() => {
            print(&format!("{shown}: written anew; no version or digest moved\n"))
        }
        (_, true) => print(&format!("{moved}{shown}: {} entries moved\n", moved.changes.len())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe() -> Recipe {
        nodekiln_recipes::load::load("quickstart", &[]).unwrap_or_else(|_| panic!()).recipe
    }

    /// A whole lock with this name and architecture in its head.
    fn locked(folder: &Path, recipe: &str, architecture: &str) -> PathBuf {
        let file = LockFile {
            recipe: recipe.to_owned(),
            architecture: architecture.to_owned(),
            nodekiln: "0".to_owned(),
            lock: Lock::default(),
        };
        let path = folder.join("x.lock.yaml");
        fs_err::write(&path, file.text()).unwrap();
        path
    }

    #[test]
    fn a_lock_of_another_recipe_or_architecture_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let recipe = recipe();
        let own = locked(folder.path(), "quickstart", "amd64");
        assert!(existing(&own, &recipe).unwrap().is_some());
        for (name, architecture, text) in [
            ("quickstart", "arm64", "x.lock.yaml is for arm64, the recipe for amd64"),
            ("other", "amd64", "x.lock.yaml is the lock of `other`, not `quickstart`"),
        ] {
            let failure =
                existing(&locked(folder.path(), name, architecture), &recipe).unwrap_err();
            assert_eq!(failure.class(), Class::Input);
            assert!(failure.to_string().ends_with(text), "{failure}");
            assert!(failure.help().unwrap().contains("--lock"), "{failure:?}");
        }
    }

    #[test]
    fn a_lock_that_cannot_be_written_tells_why_and_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let (recipe, file) = (recipe(), folder.path().join("file"));
        fs_err::write(&file, "").unwrap();
        for path in [folder.path().join("absent/x.lock.yaml"), file.join("x.lock.yaml")] {
            let failure = write(&path, &recipe, Lock::default()).unwrap_err();
            assert_eq!(failure.class(), Class::Input, "{failure:?}");
            assert!(failure.to_string().contains("x.lock.yaml"), "{failure}");
            assert!(failure.help().unwrap().contains("--lock"), "{failure:?}");
        }
        let full = unwritten(&file, io::ErrorKind::StorageFull.into());
        assert_eq!(full.class(), Class::Io);
        assert!(full.help().unwrap().contains("free some space"), "{full:?}");
        let left: Vec<_> = fs_err::read_dir(folder.path()).unwrap().collect();
        assert_eq!(left.len(), 1, "{left:?}");
    }
}
