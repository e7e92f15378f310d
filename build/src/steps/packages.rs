//! Debian packages unpacked and configured: an operating system tree from nothing.
//!
//! The essential packages are unpacked into an empty tree, their `preinst` scripts run, and the dpkg
//! that is now in the tree configures them. The others follow as a system's packages do: `preinst`,
//! unpacking, configuring; see [`crate::deb::Schedule`]. More packages may be added to such a tree later,
//! in a layer of their own.

mod added;
mod configure;
mod deferred;
mod preinst;
mod stand_ins;
mod tidy;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::path::Path;

pub use added::run as run_added;
use deferred::Deferred;
use nodekiln_recipes::plan::PlannedPackage;
use nodekiln_words::{Cancel, Failure, Progress, Result, SourceDate};
use rayon::prelude::*;
use stand_ins::StandIns;

use crate::deb::{Conffiles, Control, Database, Parcel, Schedule, Unpacker, decompress};
use crate::execution::Execution;
use crate::layer::Root;
use crate::sandbox::{Sandbox, SandboxCommand};
use crate::store::Store;

/// Makes a tree of `packages` in `<scratch>/output` and marks `holds`.
///
/// Facts: `packages`, their number, and `version.NAME` for each.
///
/// # Errors
/// Of a damaged package, of two packages with the same file, of a maintainer script that fails.
pub fn run(
    release: &str,
    packages: &[PlannedPackage],
    holds: &[String],
    execution: &Execution<'_>,
) -> Result<BTreeMap<String, String>> {
    if !execution.below.is_empty() {
        return Err(Failure::input("packages are installed into an empty tree, not over a layer"));
    }
    let parcels = open(packages, execution.store)?;
    let essential = packages.iter().filter(|package| package.essential);
    let essential = essential.map(|package| package.name.as_str()).collect();
    let root = execution.root()?;
    let installation = Installation::of(execution, &root, essential);
    installation.install(release, &parcels, holds)?;
    root.finish(execution.source_date)?;
    Ok(facts(packages))
}

/// Opens the packages' blobs and checks that each is the package that the lock says it is.
pub(crate) fn open(packages: &[PlannedPackage], store: &Store) -> Result<Vec<Parcel>> {
    let open = |package: &PlannedPackage| {
        let PlannedPackage { name, version, architecture, .. } = package;
        let label = format!("{name}_{version}_{architecture}.deb");
        let parcel = Parcel::open(&store.blob_path(&package.sha256)?, &label)?;
        let Control { name, version, architecture, .. } = &parcel.control;
        let same = *name == package.name
            && *version == package.version
            && *architecture == package.architecture;
        if same {
            return Ok(parcel);
        }
        let locked = format!("{} {} {}", package.name, package.version, package.architecture);
        Err(Failure::input(format!(
            "package {label} is {name} {version} {architecture}, locked is {locked}"
        ))
        .with_help("build again: the archive's indexes are read anew, and the package with them"))
    };
    // All first, then the failure of the first in the list, whichever was found first.
    let opened: Vec<Result<Parcel>> = packages.par_iter().map(open).collect();
    opened.into_iter().collect()
}

fn facts(packages: &[PlannedPackage]) -> BTreeMap<String, String> {
    let version =
        |package: &PlannedPackage| (format!("version.{}", package.name), package.version.clone());
    let mut facts: BTreeMap<_, _> = packages.iter().map(version).collect();
    facts.insert("packages".to_owned(), packages.len().to_string());
    facts
}

/// A tree in the making and what it is made with.
pub struct Installation<'a> {
    /// The tree.
    pub root: &'a Root,
    /// A folder for what is no part of the tree.
    pub scratch: &'a Path,
    /// Packages to be there before all others, besides those marked so.
    pub essential: BTreeSet<&'a str>,
    /// Where maintainer scripts run.
    pub sandbox: &'a Sandbox,
    /// Where their output goes.
    pub log: &'a Path,
    /// Open a shell where one fails.
    pub shell_on_failure: bool,
    /// What they take for the time.
    pub source_date: SourceDate,
    /// Who is told.
    pub progress: &'a dyn Progress,
    /// Who may stop it.
    pub cancel: &'a Cancel,
}

impl<'a> Installation<'a> {
    /// One in `root`, with what the executor of a node has.
    fn of(execution: &'a Execution<'_>, root: &'a Root, essential: BTreeSet<&'a str>) -> Self {
        Self {
            root,
            scratch: execution.scratch,
            essential,
            sandbox: execution.sandbox,
            log: execution.log,
            shell_on_failure: execution.shell_on_failure,
            source_date: execution.source_date,
            progress: execution.progress,
            cancel: execution.cancel,
        }
    }

    /// Installs `parcels` into the empty tree and marks `holds`.
    ///
    /// # Errors
    /// As [`run`].
    pub fn install(&self, release: &str, parcels: &[Parcel], holds: &[String]) -> Result<()> {
        let controls: Vec<_> = parcels.iter().map(|parcel| parcel.control.clone()).collect();
        let essential = |control: &Control| {
            control.essential() || self.essential.contains(control.name.as_str())
        };
        let schedule = Schedule::plan(&controls, essential);
        let mut unpacker = Unpacker::new(self.root.path(), Conffiles::Pending)?;
        if merges_usr(release) {
            unpacker.merge_usr()?;
        }
        let stand_ins = StandIns::new(self.scratch)?;
        let deferred = Deferred::new(self.scratch, &stand_ins)?;
        let waves = schedule.waves.into_iter();
        let mut waves: VecDeque<Vec<Parcel>> = waves
            .map(|wave| wave.packages.iter().map(|&index| parcels[index].clone()).collect())
            .collect();
        // There is no shell yet that could run a script before the first files are there.
        if let Some(parcels) = waves.pop_front() {
            self.unpack(&mut unpacker, &parcels)?;
            self.run_preinsts(&parcels)?;
            let all = waves.is_empty();
            self.decompressing(waves.front_mut(), || {
                self.configure(&parcels, all, &deferred, &stand_ins)
            })?;
        }
        self.install_waves(waves, &mut unpacker, &deferred, &stand_ins)?;
        deferred.make(self)?;
        let database = Database::open(self.root.path())?;
        configure::all_installed(&database)?;
        database.hold(holds)?;
        tidy::tidy(self.root)
    }

    /// Installs packages over those that are there, wave by wave.
    fn install_waves(
        &self,
        mut waves: VecDeque<Vec<Parcel>>,
        unpacker: &mut Unpacker,
        deferred: &Deferred<'_>,
        stand_ins: &StandIns,
    ) -> Result<()> {
        while let Some(parcels) = waves.pop_front() {
            self.run_preinsts(&parcels)?;
            self.unpack(unpacker, &parcels)?;
            let all = waves.is_empty();
            self.decompressing(waves.front_mut(), || {
                self.configure(&parcels, all, deferred, stand_ins)
            })?;
        }
        Ok(())
    }

    /// Does `work`; meanwhile the file trees of `next` are decompressed as far as time allows.
    fn decompressing<T>(
        &self,
        next: Option<&mut Vec<Parcel>>,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        let stop = self.cancel.child();
        std::thread::scope(|scope| {
            if let Some(next) = next {
                scope.spawn(|| decompress(next, self.scratch, &stop));
            }
            let done = work();
            stop.cancel();
            done
        })
    }

    /// A command in the tree for running maintainer scripts.
    fn command(&self, title: &str, argv: Vec<String>) -> SandboxCommand {
        let mut command =
            SandboxCommand::new(title, self.root.path(), argv, self.log, self.source_date);
        command.shell_on_failure = self.shell_on_failure;
        command.environment.extend([
            // Hooks of the kernel packages read it: the initrd is made once, by a later step.
            ("INITRD".to_owned(), "No".to_owned()),
            // Scripts start thousands of small programs, each of which would load another locale's
            // files; Debian's own builders run them like this as well.
            ("LC_ALL".to_owned(), "C".to_owned()),
            // Python writes a .pyc with the source's time wherever it imports a module. Packages
            // compile their modules themselves, with the source's digest in place of its time.
            ("PYTHONDONTWRITEBYTECODE".to_owned(), "1".to_owned()),
        ]);
        command
    }

    fn unpack(&self, unpacker: &mut Unpacker, parcels: &[Parcel]) -> Result<()> {
        let unpacked = unpacker.unpack(parcels, self.progress, self.cancel)?;
        Database::open(self.root.path())?.enter(parcels, &unpacked)
    }
}

/// Whether the release's packages expect the links of a merged `/usr` to be there before them. Since
/// trixie base-files ships them; making them first is right there, too, as other packages' files may
/// be written before that package's.
fn merges_usr(release: &str) -> bool {
    !matches!(release, "jessie" | "stretch" | "buster" | "bullseye")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The first one is found last: it is large, and its digest is computed before it is opened.
    #[test]
    fn of_many_packages_that_cannot_be_opened_the_first_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let package = |number: usize| PlannedPackage {
            name: format!("p{number}"),
            version: "1".to_owned(),
            architecture: "all".to_owned(),
            sha256: {
                let length = if number == 0 { 64 << 20 } else { 100 + number };
                store.put_bytes(&vec![b'x'; length]).unwrap()
            },
            essential: false,
        };
        let packages: Vec<PlannedPackage> = (0..64).map(package).collect();
        // Another opening of the store has compared no blob with its digest yet.
        let store = Store::open(folder.path()).unwrap();
        let text = open(&packages, &store).unwrap_err().chain().join(" ");
        assert!(text.contains("p0_1_all.deb"), "{text}");
    }
}
