//! The archive as `resolvo`, a solver for boolean satisfiability, wants to see it.
//!
//! A package version is a solvable. A group of alternatives is a union of version sets in order of
//! preference; providers of a virtual package take part in it with exactly those versions that
//! provide it. A conflict is a constraint that leaves all versions but the conflicting ones. The
//! solver takes packages in only where something requires them, tries the first of a union first and
//! goes back only where that cannot be; it finds a solution wherever there is one.

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::fmt::Display;

use nodekiln_words::{Cancel, Class, Failure, Result};
use resolvo::{
    Candidates, Condition, ConditionId, ConditionalRequirement, Dependencies, DependencyProvider,
    HintDependenciesAvailable, Interner, KnownDependencies, NameId, Problem, SolvableId, Solver,
    SolverCache, StringId, UnsolvableOrCancelled, VersionSetId, VersionSetUnionId,
};

use super::dependency::Relation;
use super::universe::{Choice, Id, Universe};

/// Finds packages that fulfil one relation of each group and can be installed together: of each the
/// version in `prefer` where that fits, else the newest that does.
///
/// # Errors
/// When there are none, with the reasons; or when asked to stop.
pub(super) fn solve<'a>(
    universe: &'a Universe<'a>,
    groups: &[Vec<Relation<'a>>],
    prefer: &'a BTreeMap<String, String>,
    cancel: &'a Cancel,
) -> Result<Vec<Id>> {
    let provider = Provider { universe, prefer, cancel, tables: RefCell::default() };
    let requirements = groups.iter().map(|group| provider.requirement(group)).collect();
    let mut solver = Solver::new(provider);
    match solver.solve(Problem::new().requirements(requirements)) {
        Ok(solvables) => Ok(solvables.into_iter().map(SolvableId::into_raw).collect()),
        Err(UnsolvableOrCancelled::Unsolvable(conflict)) => {
            let reasons = conflict.display_user_friendly(&solver).to_string();
            let reasons = reasons.trim_end().to_owned();
            Err(Failure::input("these packages cannot be installed together")
                .with_source(reasons)
                .with_help("leave out one of those named, or add an alternative that fits"))
        }
        Err(UnsolvableOrCancelled::Cancelled(reason)) => Err(match reason.downcast::<Failure>() {
            Ok(failure) => *failure,
            Err(_) => Failure::interrupted(),
        }),
    }
}

struct Provider<'a> {
    universe: &'a Universe<'a>,
    /// Versions to try first, by name.
    prefer: &'a BTreeMap<String, String>,
    cancel: &'a Cancel,
    tables: RefCell<Tables<'a>>,
}

/// What the solver knows by number.
#[derive(Default)]
struct Tables<'a> {
    names: Vec<&'a str>,
    name_ids: HashMap<&'a str, u32>,
    sets: Vec<Set>,
    set_ids: HashMap<Set, u32>,
    unions: Vec<Vec<VersionSetId>>,
    /// The first malformed relation met; the solver's calls cannot return it.
    failure: Option<Failure>,
}

/// Some versions of one package, and how messages describe them.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Set {
    name: u32,
    members: Vec<Id>,
    label: String,
}

impl<'a> Provider<'a> {
    fn name_id(&self, name: &'a str) -> u32 {
        let tables = &mut *self.tables.borrow_mut();
        *tables.name_ids.entry(name).or_insert_with(|| {
            tables.names.push(name);
            last_index(&tables.names)
        })
    }

    fn set(&self, name: &'a str, members: Vec<Id>, label: String) -> VersionSetId {
        let set = Set { name: self.name_id(name), members, label };
        let tables = &mut *self.tables.borrow_mut();
        VersionSetId(*tables.set_ids.entry(set).or_insert_with_key(|set| {
            tables.sets.push(set.clone());
            last_index(&tables.sets)
        }))
    }

    /// One of the relations of `group` must hold.
    fn requirement(&self, group: &[Relation<'a>]) -> ConditionalRequirement {
        let set = |choice: Choice<'a>| {
            let label = label(&choice, group);
            self.set(choice.name, choice.ids, label)
        };
        let sets: Vec<VersionSetId> = self.universe.choices(group).into_iter().map(set).collect();
        if let [one] = sets[..] {
            return one.into();
        }
        let tables = &mut *self.tables.borrow_mut();
        tables.unions.push(sets);
        VersionSetUnionId(last_index(&tables.unions)).into()
    }

    /// The version sets that remain beside the package `id`, which excludes `relation`.
    fn constraints(&self, id: Id, relation: &Relation<'a>) -> Vec<VersionSetId> {
        let own = self.universe.package(id).name();
        let excluded = self.universe.choices(std::slice::from_ref(relation));
        // A package may exclude what it provides itself: then it is the only one to provide it.
        let excluded = excluded.into_iter().filter(|choice| choice.name != own);
        let remaining = |choice: Choice<'a>| {
            let versions = self.universe.versions(choice.name).iter();
            let members = versions.filter(|version| !choice.ids.contains(version));
            self.set(choice.name, members.copied().collect(), format!("other than {relation}"))
        };
        excluded.filter(|choice| !choice.ids.is_empty()).map(remaining).collect()
    }

    fn known_dependencies(&self, id: Id) -> Result<KnownDependencies> {
        let groups = self.universe.dependencies(id)?;
        let exclusions = self.universe.exclusions(id)?;
        Ok(KnownDependencies {
            requirements: groups.iter().map(|group| self.requirement(group)).collect(),
            constrains: exclusions.iter().flat_map(|one| self.constraints(id, one)).collect(),
        })
    }

    fn members(&self, set: VersionSetId) -> Vec<Id> {
        let tables = self.tables.borrow();
        tables.sets.get(set.0 as usize).map(|set| set.members.clone()).unwrap_or_default()
    }
}

fn last_index<T>(items: &[T]) -> u32 {
    // Names, sets and unions come from indexes of less than 4 GiB, which bounds their number.
    u32::try_from(items.len() - 1).unwrap_or(u32::MAX)
}

fn label(choice: &Choice<'_>, group: &[Relation<'_>]) -> String {
    match group.iter().find(|relation| relation.name == choice.name) {
        Some(Relation { version: Some((operator, version)), .. }) => {
            format!("{operator} {version}")
        }
        Some(_) => String::new(),
        None => "as a provider".to_owned(),
    }
}

impl Interner for Provider<'_> {
    type NameId = NameId;
    type SolvableId = SolvableId;

    fn display_solvable(&self, solvable: SolvableId) -> impl Display + '_ {
        let package = self.universe.package(solvable.into_raw());
        format!("{} {}", package.name(), package.version())
    }

    fn display_merged_solvables(&self, solvables: &[SolvableId]) -> impl Display + '_ {
        let shown = solvables.iter().map(|solvable| self.display_solvable(*solvable).to_string());
        shown.collect::<Vec<_>>().join(" | ")
    }

    fn display_name(&self, name: NameId) -> impl Display + '_ {
        let tables = self.tables.borrow();
        tables.names.get(name.into_raw() as usize).copied().unwrap_or_default()
    }

    fn display_version_set(&self, set: VersionSetId) -> impl Display + '_ {
        let tables = self.tables.borrow();
        tables.sets.get(set.0 as usize).map(|set| set.label.clone()).unwrap_or_default()
    }

    fn display_string(&self, _: StringId) -> impl Display + '_ {
        // No string is ever given to the solver.
        ""
    }

    fn version_set_name(&self, set: VersionSetId) -> NameId {
        let tables = self.tables.borrow();
        NameId::from_raw(tables.sets.get(set.0 as usize).map_or(0, |set| set.name))
    }

    fn solvable_name(&self, solvable: SolvableId) -> NameId {
        NameId::from_raw(self.name_id(self.universe.package(solvable.into_raw()).name()))
    }

    fn version_sets_in_union(
        &self,
        union: VersionSetUnionId,
    ) -> impl Iterator<Item = VersionSetId> {
        let tables = self.tables.borrow();
        tables.unions.get(union.0 as usize).cloned().unwrap_or_default().into_iter()
    }

    fn resolve_condition(&self, _: ConditionId) -> Condition {
        // Debian's relations have no conditions: the solver is given none to ask for. An empty set
        // is one that never holds.
        Condition::Requirement(self.set("", Vec::new(), String::new()))
    }
}

impl DependencyProvider for Provider<'_> {
    async fn filter_candidates(
        &self,
        candidates: &[SolvableId],
        set: VersionSetId,
        inverse: bool,
    ) -> Vec<SolvableId> {
        let members = self.members(set);
        let wanted = |id: &&SolvableId| members.contains(&id.into_raw()) != inverse;
        candidates.iter().filter(wanted).copied().collect()
    }

    async fn get_candidates(&self, name: NameId) -> Option<Candidates> {
        let name = self.tables.borrow().names.get(name.into_raw() as usize).copied()?;
        let versions = self.universe.versions(name);
        let candidates = versions.iter().map(|id| SolvableId::from_raw(*id)).collect();
        let hint_dependencies_available = HintDependenciesAvailable::None;
        (!versions.is_empty()).then_some(Candidates {
            candidates,
            hint_dependencies_available,
            ..Candidates::default()
        })
    }

    /// What is preferred, then newest first, the order in which the universe lists them.
    async fn sort_candidates(&self, _: &SolverCache<Self>, solvables: &mut [SolvableId]) {
        let Some(first) = solvables.first() else { return };
        let name = self.universe.package(first.into_raw()).name();
        let versions = self.universe.versions(name);
        let preferred = self.prefer.get(name).map(String::as_str);
        solvables.sort_by_key(|id| {
            let id = id.into_raw();
            let other = Some(self.universe.package(id).version()) != preferred;
            (other, versions.iter().position(|known| *known == id))
        });
    }

    async fn get_dependencies(&self, solvable: SolvableId) -> Dependencies {
        match self.known_dependencies(solvable.into_raw()) {
            Ok(known) => Dependencies::Known(known),
            Err(failure) => {
                self.tables.borrow_mut().failure.get_or_insert(failure);
                Dependencies::Known(KnownDependencies::default())
            }
        }
    }

    fn should_cancel_with_value(&self) -> Option<Box<dyn std::any::Any>> {
        if self.cancel.is_cancelled() {
            return Some(Box::new(Failure::new(Class::Interrupted, "interrupted")));
        }
        let failure = self.tables.borrow_mut().failure.take()?;
        Some(Box::new(failure))
    }
}
