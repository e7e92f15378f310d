//! Dependencies as they are met in this tree.

use std::collections::{BTreeMap, BTreeSet};

use super::model::Dependency;
use crate::dpkg::Relation;
use crate::packages::Known;

/// What the packages of a tree need of each other.
pub(super) struct Resolved {
    /// References needed, by the reference that needs them.
    pub(super) needs: BTreeMap<String, BTreeSet<String>>,
    /// Groups of possibilities of which none is installed, by the reference that asks for them.
    pub(super) unmet: BTreeMap<String, Vec<String>>,
}

/// Who is there under a name, really or by providing it, and in which version.
struct Offer<'a> {
    package: &'a str,
    /// `None` for a name provided without a version, which no versioned relation accepts.
    version: Option<&'a str>,
}

/// Resolves `Pre-Depends` and `Depends` of all packages: of each group the first possibility that
/// is met, with every package that meets it.
pub(super) fn resolve(packages: &[Known<'_>]) -> Resolved {
    let offers = offers(packages);
    let mut resolved = Resolved { needs: BTreeMap::new(), unmet: BTreeMap::new() };
    for known in packages {
        let needs = resolved.needs.entry(known.purl.clone()).or_default();
        for group in &known.installed().depends {
            match group.iter().map(|relation| met(relation, &offers)).find(|met| !met.is_empty()) {
                Some(met) => needs.extend(met.into_iter().filter(|met| *met != known.purl)),
                None => resolved.unmet.entry(known.purl.clone()).or_default().push(names(group)),
            }
        }
    }
    resolved
}

fn offers<'a>(packages: &'a [Known<'a>]) -> BTreeMap<&'a str, Vec<Offer<'a>>> {
    let mut offers: BTreeMap<&str, Vec<Offer<'_>>> = BTreeMap::new();
    for known in packages {
        let (package, installed) = (known.purl.as_str(), known.installed());
        let real = Offer { package, version: Some(&installed.version) };
        offers.entry(&installed.name).or_default().push(real);
        for provided in &installed.provides {
            let version = provided.version.as_ref().map(|(_, version)| version.as_str());
            offers.entry(&provided.name).or_default().push(Offer { package, version });
        }
    }
    offers
}

fn met(relation: &Relation, offers: &BTreeMap<&str, Vec<Offer<'_>>>) -> Vec<String> {
    let accepts = |offer: &&Offer<'_>| match offer.version {
        Some(version) => relation.accepts(version),
        None => relation.version.is_none(),
    };
    let offers = offers.get(relation.name.as_str()).map(Vec::as_slice).unwrap_or_default();
    offers.iter().filter(accepts).map(|offer| offer.package.to_owned()).collect()
}

fn names(group: &[Relation]) -> String {
    group.iter().map(|relation| relation.name.as_str()).collect::<Vec<_>>().join(" | ")
}

/// Turns needs into the document's list, sorted by reference.
pub(super) fn list(needs: BTreeMap<String, BTreeSet<String>>) -> Vec<Dependency> {
    let dependency = |(reference, needs): (String, BTreeSet<String>)| Dependency {
        depends_on: needs.into_iter().collect(),
        reference,
    };
    needs.into_iter().map(dependency).collect()
}
