//! Gives every file of a tree an owner, or says that it has none.
//!
//! Order of precedence: containerd's store, the package that lists the file, what generators make
//! for a package, binaries, generators' own records, the recipe step that wrote the file last,
//! generators' other files, state, unknown.

mod claims;
mod content;
mod glob;
mod rules;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use nodekiln_recipes::inventory::{Entry, EntryKind, TreeReader};
use nodekiln_words::{Class, Failure, Result};

use crate::dpkg::Database;
use crate::input::{BomInput, NodeRole};
use crate::packages::Known;
use claims::{Claim, Claims};
pub(crate) use content::{BLOBS, image_refs};
use content::{Blobs, digest_of};
pub(crate) use rules::RULES;
use rules::{Kind, Rule, rule};

/// Kinds of ownership, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ownership {
    /// As the package brought it.
    Package,
    /// Of a package, but changed since.
    PackageModified,
    /// Written by a step of the recipe.
    Recipe,
    /// Of containerd's store.
    Image,
    /// Made by a program from other files.
    Generated,
    /// Belongs to the machine; allowed to exist.
    State,
    /// Nobody is known to have made it.
    Unknown,
}

impl Ownership {
    /// All kinds, strongest first.
    pub const ALL: [Self; 7] = [
        Self::Package,
        Self::PackageModified,
        Self::Recipe,
        Self::Image,
        Self::Generated,
        Self::State,
        Self::Unknown,
    ];

    /// The word used in documents.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Package => "package",
            Self::PackageModified => "package-modified",
            Self::Recipe => "recipe",
            Self::Image => "image",
            Self::Generated => "generated",
            Self::State => "state",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Ownership {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Who owns one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owned {
    /// In which way.
    pub ownership: Ownership,
    /// The owner's reference in the document: a package URL, `step:NODE`, `generator:NAME`,
    /// `state:NAME` or `unknown`.
    pub owner: Arc<str>,
    /// The program that made the file, where its owner is not that program.
    pub generator: Option<&'static str>,
    /// The step of the recipe that wrote the file last, where its owner is not that step.
    pub step: Option<Arc<str>>,
}

/// Owners of all files of a tree. Directories are shared and have no owner.
#[derive(Clone, Debug, Default)]
pub struct Attribution {
    /// The owner by path.
    pub files: BTreeMap<String, Owned>,
    /// Files that a package lists and the tree lacks: their number by the package's reference.
    pub missing: BTreeMap<String, u64>,
}

impl Attribution {
    /// The number of files by kind of ownership, each kind included.
    #[must_use]
    pub fn counts(&self) -> BTreeMap<Ownership, u64> {
        let mut counts: BTreeMap<_, _> = Ownership::ALL.map(|kind| (kind, 0)).into();
        for owned in self.files.values() {
            *counts.entry(owned.ownership).or_default() += 1;
        }
        counts
    }

    /// Paths without a known owner, sorted.
    pub fn unknown(&self) -> impl Iterator<Item = &str> {
        self.files
            .iter()
            .filter(|(_, owned)| owned.ownership == Ownership::Unknown)
            .map(|(path, _)| path.as_str())
    }
}

/// Attributes every file of the input's inventory.
///
/// Fails where a file is not what its package shipped and neither a step of the recipe nor a
/// generator nor the configuration of a package explains that, or where the tree cannot be read.
pub(crate) fn attribute(
    input: &BomInput<'_>,
    database: &Database,
    packages: &[Known<'_>],
    binaries: &BTreeMap<&str, String>,
    tree: &dyn TreeReader,
) -> Result<Attribution> {
    let claims = Claims::gather(input.inventory, database, packages, tree)?;
    let court = Court { input, claims: &claims, binaries, blobs: Blobs::of(input)?, tree };
    let mut files = BTreeMap::new();
    let mut altered = Vec::new();
    for (path, entry) in &input.inventory.entries {
        if !matches!(entry.kind, EntryKind::Directory { .. } | EntryKind::Whiteout) {
            let owned = court.decide(path, entry, &mut altered)?;
            files.insert(path.clone(), owned);
        }
    }
    if !altered.is_empty() {
        return Err(unexplained(&altered));
    }
    Ok(Attribution { files, missing: claims.missing })
}

fn unexplained(altered: &[&str]) -> Failure {
    let shown = altered.iter().take(10).copied().collect::<Vec<_>>().join(", ");
    Failure::new(
        Class::Verdict,
        format!(
            "{} files differ from what their packages shipped and no step claims them: {shown}",
            altered.len()
        ),
    )
    .with_help("change files of packages in a step of the recipe only")
}

/// What a decision about a file is based on.
struct Court<'a> {
    input: &'a BomInput<'a>,
    claims: &'a Claims<'a>,
    binaries: &'a BTreeMap<&'a str, String>,
    blobs: Blobs,
    tree: &'a dyn TreeReader,
}

impl<'a> Court<'a> {
    fn decide(&self, path: &'a str, entry: &Entry, altered: &mut Vec<&'a str>) -> Result<Owned> {
        if let Some(owned) = self.blobs.owner(path) {
            return Ok(owned);
        }
        let node = self.node(path)?;
        let target = match &entry.kind {
            EntryKind::Link { target } => Some(target.as_str()),
            _ => None,
        };
        let rule = rule(path, target);
        if let Some(claim) = self.claims.of(path) {
            return self.claimed(path, entry, claim, (node, rule), altered);
        }
        let step = node.filter(|(_, role)| **role != NodeRole::Packages).map(|(name, _)| name);
        if let Some((package, generator)) = self.claims.derived(path) {
            let owned = Owned::new(Ownership::Generated, package).by(generator);
            return Ok(owned.changed_in(step));
        }
        Ok(self.unclaimed(path, node, rule))
    }

    /// The node that wrote a path last, and what it does.
    fn node(&self, path: &str) -> Result<Option<(&'a str, &'a NodeRole)>> {
        let Some(name) = self.input.owners.get(path) else { return Ok(None) };
        let role = self.input.roles.get(name).ok_or_else(|| {
            Failure::input(format!("{path} belongs to node `{name}`, whose role is not given"))
        })?;
        Ok(Some((name, role)))
    }

    /// A file that a package lists: the content is looked at where something could have changed it.
    fn claimed(
        &self,
        path: &'a str,
        entry: &Entry,
        claim: &Claim<'_>,
        (node, rule): (Option<(&'a str, &'a NodeRole)>, Option<&Rule>),
        altered: &mut Vec<&'a str>,
    ) -> Result<Owned> {
        let step = node.filter(|(_, role)| **role != NodeRole::Packages).map(|(name, _)| name);
        let as_shipped = match claim.digest {
            Some(digest) if matches!(entry.kind, EntryKind::File { .. }) => {
                let look = step.is_some() || claim.conffile || self.input.verify_files;
                !look || digest_of(self.tree, path)? == digest
            }
            _ => step.is_none(),
        };
        if as_shipped {
            return Ok(Owned::new(Ownership::Package, claim.package));
        }
        if step.is_none() && !claim.conffile && rule.is_none() {
            altered.push(path);
        }
        Ok(Owned::new(Ownership::PackageModified, claim.package).changed_in(step))
    }

    /// A file that no package lists.
    fn unclaimed(
        &self,
        path: &str,
        node: Option<(&str, &NodeRole)>,
        rule: Option<&'static Rule>,
    ) -> Owned {
        let step = node.filter(|(_, role)| **role != NodeRole::Packages).map(|(name, _)| name);
        if let Some(binary) = self.binaries.get(path) {
            return Owned::new(Ownership::Recipe, binary).changed_in(step);
        }
        match (node, rule) {
            (_, Some(rule)) if rule.kind == Kind::Record => by_rule(rule).changed_in(step),
            (Some((name, NodeRole::Recipe | NodeRole::Images)), _) => {
                Owned::new(Ownership::Recipe, &format!("step:{name}"))
            }
            (Some((_, NodeRole::Generator(program))), _) => {
                Owned::new(Ownership::Generated, &format!("generator:{program}")).changed_in(step)
            }
            (_, Some(rule)) => by_rule(rule).changed_in(step),
            (Some((name, NodeRole::State)), None) => {
                Owned::new(Ownership::State, &format!("state:{name}"))
            }
            _ => Owned::new(Ownership::Unknown, "unknown"),
        }
    }
}

fn by_rule(rule: &Rule) -> Owned {
    match rule.kind {
        Kind::Record | Kind::Generated => {
            Owned::new(Ownership::Generated, &format!("generator:{}", rule.generator))
        }
        Kind::State => Owned::new(Ownership::State, &format!("state:{}", rule.generator)),
    }
}

impl Owned {
    fn new(ownership: Ownership, owner: &str) -> Self {
        Self { ownership, owner: owner.into(), generator: None, step: None }
    }

    fn by(self, generator: &'static str) -> Self {
        Self { generator: Some(generator), ..self }
    }

    fn changed_in(self, step: Option<&str>) -> Self {
        Self { step: step.map(Into::into), ..self }
    }
}
