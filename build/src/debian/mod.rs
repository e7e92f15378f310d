//! A client of Debian's archives: signed indexes, verified and read, and packages chosen from them.
//!
//! Trust goes from a key to a signature on `InRelease`, from there by digest to `Packages` and
//! `Sources`, and from there by digest to each file; nothing is used before its link in this chain
//! was checked.

mod dependency;
mod openpgp;
mod packages;
mod paragraph;
mod release;
mod resolve;
mod seen;
mod solver;
mod sources;
mod sources_index;
mod suite;
mod universe;
pub(crate) mod version;

use nodekiln_recipes::lock::{LockedFile, LockedPackage};
use nodekiln_recipes::recipe::Os;
use nodekiln_words::{Class, Event, Failure, Result, ResultExt, Sha256};
use rayon::prelude::*;

use self::packages::{Kind, PackageIndex, cut_down, kept};
use self::suite::{Lookup, Opening, Suite};
use crate::fetch::Fetcher;
use crate::store::Store;

pub use dependency::{Operator, Relation, parse as parse_relations};
pub use openpgp::{Keyring, Signed};
pub use resolve::ResolveOptions;
pub use sources::{MIRROR_VARIABLE, Mirrors};
pub use version::compare as compare_versions;

/// What Debian calls the releases that it supports, in the field `Suite` of their signed indexes.
const SUPPORTED: [&str; 3] = ["stable", "oldstable", "oldoldstable"];

/// Which archive to open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchiveSpec {
    /// Code name or moving name of the release.
    pub release: String,
    /// Machine architecture.
    pub architecture: String,
    /// Archive components.
    pub components: Vec<String>,
    /// Base URLs; empty for those that the environment or this machine's apt names.
    pub mirrors: Vec<String>,
    /// A keyring to trust instead of the built-in one.
    pub keyring: Option<std::path::PathBuf>,
    /// The time at which indexes must be valid, in seconds since 1970.
    pub now: u64,
}

impl ArchiveSpec {
    /// The archive of a recipe's operating system, at the time `now` (seconds since 1970).
    #[must_use]
    pub fn of(os: &Os, now: u64) -> Self {
        Self {
            release: os.release.clone(),
            architecture: os.architecture.as_str().to_owned(),
            components: os.components.clone(),
            mirrors: os.mirrors.clone(),
            keyring: os.keyring.clone(),
            now,
        }
    }
}

/// A release's archive: its suites, verified, and the packages that they list.
pub struct Archive {
    spec: ArchiveSpec,
    mirrors: Mirrors,
    suites: Vec<Suite>,
    /// In the order of suites, then of components.
    indexes: Vec<PackageIndex>,
    fetcher: Fetcher,
    store: Store,
}

/// What vouches for a suite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SuiteInfo<'a> {
    /// Its name, such as `bookworm-updates`.
    pub name: &'a str,
    /// Base URL that served its signed index.
    pub base: &'a str,
    /// When the index was made, in seconds since 1970.
    pub date: i64,
    /// Fingerprint of the key, or subkey, that signed it.
    pub fingerprint: &'a str,
    /// Digest of the signed index.
    pub sha256: Sha256,
}

impl Archive {
    /// Opens the archive: asks for the signed indexes of `RELEASE`, `RELEASE-updates` and
    /// `RELEASE-security`, verifies them, and reads the package indexes that they name.
    ///
    /// The latter two suites may be missing where the release is in development, or where somebody
    /// named mirrors that do not have them; the reader is told.
    ///
    /// # Errors
    /// When no mirror has the release, or the updates of one that Debian supports; when a signature
    /// is not good, an index has expired or is older than the one before it, or a file is not what
    /// the signed index says.
    pub fn open(spec: &ArchiveSpec, fetcher: &Fetcher, store: &Store) -> Result<Self> {
        Self::open_at(&Mirrors::find(&spec.mirrors)?, spec, fetcher, store)
    }

    /// As [`Archive::open`], at these mirrors whatever `spec` says.
    ///
    /// # Errors
    /// As [`Archive::open`].
    pub fn open_at(
        mirrors: &Mirrors,
        spec: &ArchiveSpec,
        fetcher: &Fetcher,
        store: &Store,
    ) -> Result<Self> {
        check_words(spec)?;
        let keyring = match &spec.keyring {
            Some(path) => {
                let bytes = fs_err::read(path)
                    .or_fail(Class::Input, || "cannot read the keyring".into())?;
                Keyring::read(&path.display().to_string(), &bytes)?
            }
            None => Keyring::debian()?,
        };
        let opening = Opening { keyring: &keyring, now: spec.now, fetcher };
        let (suites, mirrors) = open_suites(&spec.release, mirrors, &opening)?;
        let indexes = read_indexes(spec, &suites, fetcher, store)?;
        let (fetcher, store) = (fetcher.clone(), store.clone());
        Ok(Self { spec: spec.clone(), mirrors, suites, indexes, fetcher, store })
    }

    /// Chooses the packages that `requested` needs: dependencies and pre-dependencies, no
    /// recommendations, the newest versions that fit together. A name may carry a version,
    /// `NAME=VERSION`. The result is sorted by name.
    ///
    /// # Errors
    /// When a package is not there (naming those whose names are near), or not everything can be
    /// installed together (naming the conflict).
    pub fn resolve(
        &self,
        requested: &[String],
        options: &ResolveOptions,
    ) -> Result<Vec<LockedPackage>> {
        let suites: Vec<&str> = self.suites.iter().map(|suite| suite.name.as_str()).collect();
        resolve::resolve(&self.indexes, &suites, &self.spec.architecture, requested, options)
    }

    /// The files of the newest version of a source package, by file name; their `url` is the path
    /// below the archive's base, for [`Archive::urls`].
    ///
    /// # Errors
    /// When no suite has the source package, or the indexes cannot be had.
    pub fn source(&self, package: &str) -> Result<Vec<(String, LockedFile)>> {
        let stem = |component: &String| format!("{component}/source/Sources");
        let stems: Vec<String> = self.spec.components.iter().map(stem).collect();
        let texts = texts(Kind::Source, &self.suites, &stems, &self.fetcher, &self.store)?;
        let texts: Vec<String> = texts.into_iter().map(|(_, _, text)| text).collect();
        sources_index::files(&texts, package)?.ok_or_else(|| {
            let suites: Vec<&str> = self.suites.iter().map(|suite| suite.name.as_str()).collect();
            Failure::input(format!("no source package `{package}` in {}", suites.join(", ")))
                .with_help("name a source package, not a binary one, or another release")
        })
    }

    /// The addresses of a file below the archive's base, the likeliest first.
    #[must_use]
    pub fn urls(&self, path_below_base: &str) -> Vec<String> {
        // The security archive has a pool of its own below this folder since it has existed.
        let security = path_below_base.starts_with("pool/updates/");
        let suite = if security { "x-security" } else { "x" };
        self.mirrors.urls_in(suite, path_below_base)
    }

    /// The package of this name and version, as the verified indexes list it.
    #[must_use]
    pub fn listed(&self, name: &str, version: &str) -> Option<(Sha256, u64)> {
        let packages = self.indexes.iter().flat_map(PackageIndex::packages);
        let mut same = packages.filter(|p| p.name() == name && p.version() == version);
        same.find_map(|package| package.file().ok())
    }

    /// The mirrors in use.
    #[must_use]
    pub fn mirrors(&self) -> &Mirrors {
        &self.mirrors
    }

    /// The suites in use, in the order in which they are searched.
    pub fn suites(&self) -> impl Iterator<Item = SuiteInfo<'_>> {
        self.suites.iter().map(|suite| SuiteInfo {
            name: &suite.name,
            base: &suite.base,
            date: suite.release.date,
            fingerprint: &suite.fingerprint,
            sha256: suite.sha256,
        })
    }

    /// The number of packages in all indexes.
    #[must_use]
    pub fn package_count(&self) -> usize {
        self.indexes.iter().map(|index| index.packages().count()).sum()
    }
}

/// Refuses names that would lead to other paths than they should.
fn check_words(spec: &ArchiveSpec) -> Result<()> {
    let is_word = |word: &String| {
        !word.is_empty()
            && !word.starts_with('.')
            && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
    };
    let words = [&spec.release, &spec.architecture].into_iter().chain(&spec.components);
    match words.into_iter().find(|word| !is_word(word)) {
        Some(word) => {
            Err(Failure::input(format!("`{word}` names no release, architecture or component")))
        }
        None => Ok(()),
    }
}

/// Opens the suites, and tells which mirrors they have proven to be good.
fn open_suites(
    release: &str,
    mirrors: &Mirrors,
    opening: &Opening<'_>,
) -> Result<(Vec<Suite>, Mirrors)> {
    let names = [release.to_owned(), format!("{release}-updates"), format!("{release}-security")];
    let lookups = names.map(|name| Lookup { bases: mirrors.bases(&name), name });
    let first = lookups.iter().filter_map(|lookup| Some(lookup.url(lookup.bases.first()?)));
    let mut answers = opening.fetcher.fetch_texts(&first.collect::<Vec<_>>()).into_iter();
    let mut suites: Vec<Suite> = Vec::new();
    for lookup in &lookups {
        let answer =
            if lookup.bases.is_empty() { Ok(None) } else { answers.next().unwrap_or(Ok(None)) };
        match (lookup.open(answer, opening)?, suites.first()) {
            (Some(suite), _) => suites.push(suite),
            (None, None) => return Err(no_release(release, mirrors)),
            (None, Some(main)) => {
                opening.fetcher.progress().event(without(lookup, main, mirrors.named)?);
            }
        }
    }
    if !mirrors.named {
        suites.iter_mut().for_each(|suite| suite.others.clear());
    }
    let mirrors = mirrors.proven(&suites);
    Ok((suites, mirrors))
}

/// What to tell when no mirror has the suite that `lookup` looked for, beside the release `main`.
///
/// # Errors
/// When Debian has that suite. A status is not signed: whoever is on the path of http could say that
/// there are no security updates. Only the one who named the mirrors can know better.
fn without(lookup: &Lookup<'_>, main: &Suite, named: bool) -> Result<Event> {
    let (suite, release) = (&lookup.name, &main.name);
    if !SUPPORTED.contains(&main.release.suite.as_str()) {
        return Ok(Event::Note(format!("{release} is used without {suite}, which no mirror has")));
    }
    if named {
        return Ok(Event::Warning(format!(
            "{release} is used without {suite}, which Debian has and the named mirrors have not: \
             the image lacks its updates"
        )));
    }
    let asked = match lookup.bases {
        [] => "apt's sources name no archive for it".to_owned(),
        bases => format!("asked were {}", bases.join(", ")),
    };
    let state = &main.release.suite;
    let text = format!("there is no {suite}, which Debian has for {state}; {asked}");
    Err(Failure::new(Class::Missing, text).with_help(format!(
        "name mirrors that have it in os.mirrors or {MIRROR_VARIABLE}, best by https; a mirror named \
         there may also do without"
    )))
}

fn no_release(release: &str, mirrors: &Mirrors) -> Failure {
    Failure::input(format!("no Debian release `{release}` at {}", mirrors.main.join(", "))).with_help(
        "check os.release; releases that are no longer supported move to another archive, which \
         os.mirrors can name",
    )
}

fn read_indexes(
    spec: &ArchiveSpec,
    suites: &[Suite],
    fetcher: &Fetcher,
    store: &Store,
) -> Result<Vec<PackageIndex>> {
    let stem = |component| format!("{component}/binary-{}/Packages", spec.architecture);
    let stems: Vec<String> = spec.components.iter().map(stem).collect();
    texts(Kind::Binary, suites, &stems, fetcher, store)?
        .into_par_iter()
        .map(|(suite, stem, text)| {
            let component = stem.split_once('/').map_or("", |(component, _)| component);
            PackageIndex::read(suite, component, text)
        })
        .collect()
}

/// The cut-down texts of the indexes `stems` of all suites, with suite and stem. What is not in the
/// store is fetched.
fn texts<'a>(
    kind: Kind,
    suites: &'a [Suite],
    stems: &'a [String],
    fetcher: &Fetcher,
    store: &Store,
) -> Result<Vec<(&'a str, &'a str, String)>> {
    let mut indexes = Vec::new();
    for suite in suites {
        for stem in stems {
            indexes.push((suite.name.as_str(), stem.as_str(), suite.index(stem)?));
        }
    }
    let known: Vec<Option<String>> =
        indexes.par_iter().map(|(_, _, (_, digest, _))| kept(store, kind, digest)).collect();
    let lacking = indexes.iter().zip(&known).filter(|(_, text)| text.is_none());
    let wanted: Vec<_> = lacking.map(|((_, _, (_, _, wanted)), _)| wanted.clone()).collect();
    fetcher.fetch(&wanted)?;
    indexes
        .into_par_iter()
        .zip(known)
        .map(|((suite, stem, (path, digest, _)), text)| {
            let text = text.map_or_else(|| cut_down(store, kind, &path, &digest), Ok)?;
            Ok((suite, stem, text))
        })
        .collect()
}
