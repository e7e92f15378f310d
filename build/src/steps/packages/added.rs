//! More packages over a tree that has an operating system already: what a provider has besides.
//!
//! The tree's own dpkg carries on from its database. Packages below stay as they are, but for triggers
//! that the new ones activate and files that the new ones replace.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use nodekiln_recipes::plan::PlannedPackage;
use nodekiln_words::{Event, Failure, Result};

use super::deferred::Deferred;
use super::stand_ins::StandIns;
use super::{Installation, configure, open, tidy};
use crate::deb::{Conffiles, Control, Database, Parcel, Schedule, Unpacker, is_gone};
use crate::execution::Execution;
use crate::steps::initramfs;

/// Called by scripts and triggers of packages that bring something for the initial RAM disk.
const UPDATE_INITRAMFS: &str = "/usr/sbin/update-initramfs";

/// Installs `packages` over the tree below.
///
/// The initial RAM disk is shared by all trees above it, and stays as it is unless a package asks for
/// another one, as dpkg's triggers and Debian's `update-initramfs` have it, or brings a kernel. Then it is
/// made anew here, once. Where the tree has none yet, a later step makes it.
///
/// Facts: `packages.added`, their number; `version.NAME` for each; those of the step `initramfs` where it
/// was made anew.
///
/// # Errors
/// Of a damaged package, of a file that belongs to another package, of a maintainer script that fails.
pub fn run(
    packages: &[PlannedPackage],
    execution: &Execution<'_>,
) -> Result<BTreeMap<String, String>> {
    if execution.below.is_empty() {
        return Err(Failure::input("packages are added to a tree, and there is none"));
    }
    let parcels = open(packages, execution.store)?;
    let root = execution.root()?;
    let asked = Installation::of(execution, &root, BTreeSet::new()).add(&parcels)?;
    let mut facts = super::facts(packages);
    let count = facts.remove("packages").unwrap_or_default();
    facts.insert("packages.added".to_owned(), count);
    let stale = initramfs::stale(&root, asked)?;
    if !stale.is_empty() {
        let text = "the initial RAM disk is made anew: an added package has something for it";
        execution.progress.event(Event::Note(text.to_owned()));
        facts.extend(initramfs::make(&root, &stale, execution)?);
    }
    root.finish(execution.source_date)?;
    Ok(facts)
}

impl Installation<'_> {
    /// Installs `parcels` over the packages that the tree has, and tells whether one of them, or a trigger
    /// that they set off, asked for another initial RAM disk.
    ///
    /// # Errors
    /// As [`run`].
    pub fn add(&self, parcels: &[Parcel]) -> Result<bool> {
        let controls: Vec<_> = parcels.iter().map(|parcel| parcel.control.clone()).collect();
        refuse_installed(&Database::open(self.root.path())?, &controls)?;
        // Whatever is essential is there.
        let schedule = Schedule::plan(&controls, |_| false);
        let mut unpacker = Unpacker::over(self.root.path(), Conffiles::Pending)?;
        let stand_ins = StandIns::new(self.scratch)?;
        let deferred = Deferred::new(self.scratch, &stand_ins)?.noting(UPDATE_INITRAMFS)?;
        let waves = schedule.waves.iter();
        let waves: VecDeque<Vec<Parcel>> = waves
            .map(|wave| wave.packages.iter().map(|&index| parcels[index].clone()).collect())
            .collect();
        self.install_waves(waves, &mut unpacker, &deferred, &stand_ins)?;
        deferred.make(self)?;
        configure::all_installed(&Database::open(self.root.path())?)?;
        tidy::tidy(self.root)?;
        deferred.was_called(UPDATE_INITRAMFS)
    }
}

/// A package that is there would have to be upgraded, which moves what others share.
fn refuse_installed(database: &Database, controls: &[Control]) -> Result<()> {
    let states = database.states()?;
    let there = states.iter().filter(|(_, status)| !is_gone(status));
    let known: BTreeSet<&str> = there.map(|(name, _)| name.as_str()).collect();
    match controls.iter().find(|control| known.contains(control.name.as_str())) {
        None => Ok(()),
        Some(control) => Err(Failure::input(format!(
            "package {} {} is to be added to a tree that has the package already",
            control.name, control.version
        ))
        .with_help("the lock is at fault: remove it and make a new one with `nodekiln lock`")),
    }
}
