//! From names to locked packages: what was asked for, its dependencies and the essential set.

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_recipes::lock::LockedPackage;
use nodekiln_words::{Cancel, Class, Failure, Result};

use super::dependency::{Operator, Relation};
use super::packages::PackageIndex;
use super::solver::solve;
use super::universe::{Id, Universe};

/// Names nearer than this by Jaro-Winkler similarity are worth offering for a misspelt one.
const NEAR: f64 = 0.85;

/// What to choose besides the packages asked for.
#[derive(Clone, Debug, Default)]
pub struct ResolveOptions {
    /// Take the packages marked `Essential: yes`.
    pub essential: bool,
    /// Take the packages of priority `required`.
    pub required: bool,
    /// Versions to take, by package, as long as the archive has them and they fit together; else the
    /// newest.
    pub prefer: BTreeMap<String, String>,
    /// What is installed already, by package: these versions stay, and are no part of the result.
    pub installed: BTreeMap<String, String>,
    /// Stops the work.
    pub cancel: Cancel,
}

/// See [`super::Archive::resolve`].
pub(super) fn resolve(
    indexes: &[PackageIndex],
    suites: &[&str],
    architecture: &str,
    requested: &[String],
    options: &ResolveOptions,
) -> Result<Vec<LockedPackage>> {
    let universe = Universe::new(indexes, architecture)?;
    let asked: Vec<Relation<'_>> =
        requested.iter().map(|text| asked_for(&universe, suites, text)).collect::<Result<_>>()?;
    let mut groups: Vec<Vec<Relation<'_>>> =
        base_set(&universe, options).into_iter().map(|name| vec![any_version(name)]).collect();
    groups.extend(options.installed.iter().map(|(name, version)| vec![exactly(name, version)]));
    groups.extend(asked.iter().map(|relation| vec![*relation]));
    let solved = solve(&universe, &groups, &options.prefer, &options.cancel);
    let mut chosen = solved.map_err(|failure| match failure.class() {
        Class::Input if !options.installed.is_empty() => failure.with_help(
            "the image's own packages stay as they are; what has to be in another version, or not there \
             at all, is for the recipe's `packages:` to say",
        ),
        _ => failure,
    })?;
    chosen.sort_by_key(|id| universe.package(*id).name());
    let chosen = Chosen::new(&universe, chosen);
    chosen.check(&groups)?;
    let early = chosen.early()?;
    let new = |id: &&Id| !options.installed.contains_key(universe.package(**id).name());
    chosen.ids.iter().filter(new).map(|id| locked(&universe, *id, &asked, &early)).collect()
}

const fn exactly<'a>(name: &'a str, version: &'a str) -> Relation<'a> {
    Relation { name, qualifier: None, version: Some((Operator::Equal, version)) }
}

const fn any_version(name: &str) -> Relation<'_> {
    Relation { name, qualifier: None, version: None }
}

/// Names of the packages that are taken without being asked for, sorted.
fn base_set<'a>(universe: &Universe<'a>, options: &ResolveOptions) -> BTreeSet<&'a str> {
    let wanted = |id: &Id| {
        let package = universe.package(*id);
        (options.essential && package.is_essential())
            || (options.required && package.priority() == "required")
    };
    universe.ids().filter(wanted).map(|id| universe.package(id).name()).collect()
}

/// The relation that a request `NAME` or `NAME=VERSION` stands for.
fn asked_for<'a>(universe: &Universe<'a>, suites: &[&str], text: &'a str) -> Result<Relation<'a>> {
    let (name, version) = match text.split_once('=') {
        Some((name, version)) => (name, Some((Operator::Equal, version))),
        None => (text, None),
    };
    let relation = Relation { name, qualifier: None, version };
    let versions = universe.versions(name);
    if versions.iter().any(|id| relation.accepts(universe.package(*id).version())) {
        return Ok(relation);
    }
    if !versions.is_empty() {
        let known = versions.iter().map(|id| universe.package(*id).version());
        let known = known.collect::<Vec<_>>().join(", ");
        return Err(Failure::input(format!("no package `{name}` in version {text}"))
            .with_help(format!("{} has {known}", suites.join(", "))));
    }
    let providers: Vec<&str> = universe
        .choices(&[relation])
        .iter()
        .filter(|choice| !choice.ids.is_empty())
        .map(|choice| choice.name)
        .collect();
    match providers[..] {
        [one] => Ok(any_version(one)),
        [] => Err(unknown(universe, suites, name)),
        _ => Err(Failure::input(format!("`{name}` is a virtual package: several provide it"))
            .with_help(format!("name one of {}", providers.join(", ")))),
    }
}

fn unknown(universe: &Universe<'_>, suites: &[&str], name: &str) -> Failure {
    let mut near: Vec<(f64, &str)> = universe
        .names()
        .map(|known| (strsim::jaro_winkler(name, known), known))
        .filter(|(likeness, _)| *likeness >= NEAR)
        .collect();
    near.sort_by(|a, b| b.0.total_cmp(&a.0).then_with(|| a.1.cmp(b.1)));
    near.dedup_by_key(|(_, known)| *known);
    let near: Vec<&str> = near.into_iter().take(3).map(|(_, known)| known).collect();
    let help = if near.is_empty() {
        "check the name, the release (os.release) and the components (os.components)".to_owned()
    } else {
        format!("did you mean {}?", near.join(", "))
    };
    Failure::input(format!("no package `{name}` in {}", suites.join(", "))).with_help(help)
}

/// A set of packages that should be complete and free of conflicts.
struct Chosen<'a> {
    universe: &'a Universe<'a>,
    /// Sorted by name.
    ids: Vec<Id>,
    by_name: BTreeMap<&'a str, Id>,
}

impl<'a> Chosen<'a> {
    fn new(universe: &'a Universe<'a>, ids: Vec<Id>) -> Self {
        let by_name = ids.iter().map(|id| (universe.package(*id).name(), *id)).collect();
        Self { universe, ids, by_name }
    }

    /// The first in order of preference that fulfils a group.
    fn fulfilling(&self, group: &[Relation<'a>]) -> Option<Id> {
        self.universe.choices(group).into_iter().find_map(|choice| {
            let id = self.by_name.get(choice.name)?;
            choice.ids.contains(id).then_some(*id)
        })
    }

    /// Checks every relation again, independently of the solver: what is locked must install.
    fn check(&self, groups: &[Vec<Relation<'a>>]) -> Result<()> {
        let wrong = |text: String| Failure::io(format!("the chosen packages do not fit: {text}"));
        if self.by_name.len() != self.ids.len() {
            return Err(wrong("two versions of one package".to_owned()));
        }
        if let Some(group) = groups.iter().find(|group| self.fulfilling(group).is_none()) {
            return Err(wrong(format!("{} is missing", described(group))));
        }
        for id in &self.ids {
            let name = self.universe.package(*id).name();
            for group in self.universe.dependencies(*id)? {
                if self.fulfilling(&group).is_none() {
                    return Err(wrong(format!("{name} needs {}", described(&group))));
                }
            }
            for relation in self.universe.exclusions(*id)? {
                let excluded =
                    |other: &&Id| *other != id && self.universe.fulfils(**other, &relation);
                if let Some(other) = self.ids.iter().find(excluded) {
                    let other = self.universe.package(*other).name();
                    return Err(wrong(format!("{name} excludes {other} ({relation})")));
                }
            }
        }
        Ok(())
    }

    /// The packages to configure before all others: essential ones, what any package pre-depends on,
    /// and everything that these need.
    fn early(&self) -> Result<BTreeSet<Id>> {
        let essential = |id: &&Id| self.universe.package(**id).is_essential();
        let mut next: Vec<Id> = self.ids.iter().filter(essential).copied().collect();
        for id in &self.ids {
            let field = self.universe.package(*id).pre_depends();
            for group in self.universe.relations(*id, field)? {
                next.extend(self.fulfilling(&group));
            }
        }
        let mut early = BTreeSet::new();
        while let Some(id) = next.pop() {
            if early.insert(id) {
                for group in self.universe.dependencies(id)? {
                    next.extend(self.fulfilling(&group));
                }
            }
        }
        Ok(early)
    }
}

fn described(group: &[Relation<'_>]) -> String {
    group.iter().map(ToString::to_string).collect::<Vec<_>>().join(" | ")
}

fn locked(
    universe: &Universe<'_>,
    id: Id,
    asked: &[Relation<'_>],
    early: &BTreeSet<Id>,
) -> Result<LockedPackage> {
    let package = universe.package(id);
    let (sha256, size) = package.file()?;
    let (source, source_version) = package.source();
    let path = package.path();
    if path.is_empty() || path.starts_with('/') || path.split('/').any(|part| part == "..") {
        let text = format!("the index entry of `{}` has the path `{path}`", package.name());
        return Err(Failure::io(text));
    }
    Ok(LockedPackage {
        name: package.name().to_owned(),
        version: package.version().to_owned(),
        architecture: package.architecture().to_owned(),
        sha256,
        size,
        suite: package.suite().to_owned(),
        component: package.component().to_owned(),
        path: path.to_owned(),
        source: source.to_owned(),
        source_version: source_version.to_owned(),
        essential: early.contains(&id),
        requested: asked.iter().any(|relation| relation.name == package.name()),
    })
}
