//! All packages that can be chosen from, by name and by what they provide.

use std::collections::{BTreeMap, HashMap};

use super::dependency::{Operator, Relation, parse};
use super::packages::{Package, PackageIndex};
use super::version::compare;
use nodekiln_words::{Failure, Result};

/// A package by its place in the universe.
pub(super) type Id = u32;

/// The packages of all indexes. A version that several suites have counts once, for the first.
pub(super) struct Universe<'a> {
    packages: Vec<Package<'a>>,
    /// Newest version first.
    by_name: HashMap<&'a str, Vec<Id>>,
    /// Who provides a name, and in which version, most important providers first.
    providers: HashMap<&'a str, Vec<(Id, Option<&'a str>)>>,
    architecture: &'a str,
}

/// A package name and those of its versions that fulfil some relation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Choice<'a> {
    pub(super) name: &'a str,
    pub(super) ids: Vec<Id>,
}

impl<'a> Universe<'a> {
    pub(super) fn new(indexes: &'a [PackageIndex], architecture: &'a str) -> Result<Self> {
        let mut universe = Self {
            packages: Vec::new(),
            by_name: HashMap::new(),
            providers: HashMap::new(),
            architecture,
        };
        for package in indexes.iter().flat_map(PackageIndex::packages) {
            universe.add(package)?;
        }
        universe.sort();
        Ok(universe)
    }

    fn add(&mut self, package: Package<'a>) -> Result<()> {
        if ![self.architecture, "all"].contains(&package.architecture()) {
            return Ok(());
        }
        let known = self.by_name.entry(package.name()).or_default();
        let version = package.version();
        if known.iter().any(|id| self.packages[*id as usize].version() == version) {
            return Ok(());
        }
        let too_many = |_| Failure::io("the archive has more packages than can be counted");
        let id = Id::try_from(self.packages.len()).map_err(too_many)?;
        known.push(id);
        self.packages.push(package);
        if package.provides().is_empty() {
            return Ok(());
        }
        for provided in self.relations(id, package.provides())?.into_iter().flatten() {
            let version = provided.version.filter(|(operator, _)| *operator == Operator::Equal);
            let version = version.map(|(_, version)| version);
            self.providers.entry(provided.name).or_default().push((id, version));
        }
        Ok(())
    }

    fn sort(&mut self) {
        let packages = &self.packages;
        let newer = |a: &Id, b: &Id| {
            compare(packages[*b as usize].version(), packages[*a as usize].version())
                .then_with(|| a.cmp(b))
        };
        for ids in self.by_name.values_mut() {
            ids.sort_by(newer);
        }
        for providers in self.providers.values_mut() {
            providers.sort_by(|(a, _), (b, _)| {
                let key = |id: &Id| {
                    let package = packages[*id as usize];
                    (importance(package.priority()), package.name())
                };
                key(a).cmp(&key(b)).then_with(|| newer(a, b))
            });
        }
    }

    pub(super) fn package(&self, id: Id) -> Package<'a> {
        self.packages[id as usize]
    }

    /// All versions of `name`, newest first; empty if there is no such package.
    pub(super) fn versions(&self, name: &str) -> &[Id] {
        self.by_name.get(name).map_or(&[], Vec::as_slice)
    }

    pub(super) fn ids(&self) -> impl Iterator<Item = Id> + use<> {
        0..Id::try_from(self.packages.len()).unwrap_or(Id::MAX)
    }

    /// Names of packages, and names that packages provide.
    pub(super) fn names(&self) -> impl Iterator<Item = &'a str> {
        self.by_name.keys().chain(self.providers.keys()).copied()
    }

    /// Reads the relations in a field of the package `id`.
    pub(super) fn relations(&self, id: Id, field: &'a str) -> Result<Vec<Vec<Relation<'a>>>> {
        parse(field, self.architecture).map_err(|wrong| {
            let package = self.package(id);
            Failure::io(format!(
                "the index entry of `{}` {} has the relation `{wrong}`, which cannot be read",
                package.name(),
                package.version()
            ))
        })
    }

    /// The groups of `Pre-Depends` and `Depends`, of each of which one relation must hold.
    pub(super) fn dependencies(&self, id: Id) -> Result<Vec<Vec<Relation<'a>>>> {
        let package = self.package(id);
        let mut groups = self.relations(id, package.pre_depends())?;
        groups.append(&mut self.relations(id, package.depends())?);
        Ok(groups)
    }

    /// What the package `id` cannot be installed beside: `Conflicts` and `Breaks`.
    pub(super) fn exclusions(&self, id: Id) -> Result<Vec<Relation<'a>>> {
        let package = self.package(id);
        let mut groups = self.relations(id, package.conflicts())?;
        groups.append(&mut self.relations(id, package.breaks())?);
        Ok(groups.into_iter().flatten().collect())
    }

    /// Whether the package `id` fulfils `relation`, as itself or by what it provides.
    pub(super) fn fulfils(&self, id: Id, relation: &Relation<'_>) -> bool {
        let package = self.package(id);
        (package.name() == relation.name && relation.accepts(package.version()))
            || self.providers.get(relation.name).is_some_and(|providers| {
                providers.iter().any(|(provider, version)| {
                    *provider == id && relation.accepts_provided(*version)
                })
            })
    }

    /// Everything that fulfils a group of alternatives, in the order in which it is preferred:
    /// alternatives as written, for each the package of that name before its providers. A name that
    /// nothing fulfils stays as an empty choice, so that messages can name it.
    pub(super) fn choices(&self, group: &[Relation<'a>]) -> Vec<Choice<'a>> {
        let mut choices: Vec<Choice<'a>> = Vec::new();
        for relation in group {
            let real = self.versions(relation.name);
            let real = real.iter().filter(|id| relation.accepts(self.package(**id).version()));
            add_choice(&mut choices, relation.name, real.copied());
            let mut provided: BTreeMap<usize, Choice<'a>> = BTreeMap::new();
            let mut order: Vec<&str> = Vec::new();
            for (id, version) in self.providers.get(relation.name).into_iter().flatten() {
                if relation.accepts_provided(*version) {
                    let name = self.package(*id).name();
                    let at = order.iter().position(|known| *known == name).unwrap_or_else(|| {
                        order.push(name);
                        order.len() - 1
                    });
                    let empty = || Choice { name, ids: Vec::new() };
                    provided.entry(at).or_insert_with(empty).ids.push(*id);
                }
            }
            for choice in provided.into_values() {
                add_choice(&mut choices, choice.name, choice.ids.into_iter());
            }
        }
        choices
    }
}

/// Adds what is not among the choices yet.
fn add_choice<'a>(choices: &mut Vec<Choice<'a>>, name: &'a str, ids: impl Iterator<Item = Id>) {
    let is_new =
        |id: &Id| !choices.iter().any(|choice| choice.name == name && choice.ids.contains(id));
    let ids: Vec<Id> = ids.filter(is_new).collect();
    if !ids.is_empty() || !choices.iter().any(|choice| choice.name == name) {
        choices.push(Choice { name, ids });
    }
}

/// Rank of a priority (policy, section 2.5); among providers of one name the most important wins.
fn importance(priority: &str) -> usize {
    const PRIORITIES: [&str; 5] = ["required", "important", "standard", "optional", "extra"];
    PRIORITIES.iter().position(|known| *known == priority).unwrap_or(PRIORITIES.len())
}
