//! Resolving: from a recipe to its lock, and to where each locked file is to be had.

mod conformance;
mod follow;
mod images;
mod kubernetes;
mod verify;

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_recipes::lock::{
    Lock, LockedFile, LockedKubernetes, LockedPackage, LockedSuite, LockedTree, WantedTree,
    url_name, urls,
};
use nodekiln_recipes::plan::{Node, PlannedFileNode, Work};
use nodekiln_recipes::recipe::{Content, KubernetesSource, Recipe};
use nodekiln_recipes::tree_name;
use nodekiln_words::{Event, Failure, Progress, Result, Sha256, SourceDate};

use crate::debian::{Archive, ArchiveSpec, ResolveOptions, SuiteInfo};
use crate::fetch::{Fetcher, Wanted};
use crate::kubernetes::{compile, images as images_made};
use crate::sandbox::Sandbox;
use crate::store::Store;

use self::images::ImageBlob;

/// Release whose packages make file systems: the oldest with mke2fs 1.47.2, which honours the source
/// date.
const TOOLS_RELEASE: &str = "trixie";
/// What makes the root file system.
const DISK_PACKAGES: [&str; 1] = ["e2fsprogs"];

pub use conformance::resolve_conformance;
pub use follow::{follow, same_folder};
pub use verify::{Finding, verify};

/// A lock to keep to where that can be: what is not to move.
#[derive(Clone, Copy)]
pub struct Keep<'a> {
    /// The lock.
    pub lock: &'a Lock,
    /// Packages that may move all the same.
    pub but: &'a BTreeSet<String>,
}

/// A lock, and where its files are to be had.
pub struct Resolution {
    /// The lock.
    pub lock: Lock,
    /// How to fetch each file that is not in the store by its nature, by digest.
    sources: BTreeMap<Sha256, Wanted>,
    /// Where each blob of a container image is to be had, by digest.
    image_blobs: BTreeMap<Sha256, ImageBlob>,
}

impl Resolution {
    /// Digests of everything that `nodes` take in from the store's blobs.
    #[must_use]
    pub fn inputs(&self, nodes: &[&Node]) -> BTreeSet<Sha256> {
        nodes.iter().flat_map(|node| inputs(&node.work)).collect()
    }

    /// Digests of everything that `nodes` take in, with lengths in bytes where the lock has them.
    #[must_use]
    pub fn sized_inputs(&self, nodes: &[&Node]) -> BTreeMap<Sha256, Option<u64>> {
        let size = |digest: &Sha256| {
            let file = self.sources.get(digest).and_then(|wanted| wanted.size);
            file.or_else(|| self.image_blobs.get(digest).map(ImageBlob::size))
        };
        self.inputs(nodes).into_iter().map(|digest| (digest, size(&digest))).collect()
    }

    /// Brings into the store what `nodes` take in: files by their addresses, images' blobs from their
    /// registries. What is there already is not asked for.
    ///
    /// # Errors
    /// When a file cannot be had, or is not what the lock says.
    pub fn fetch(&self, nodes: &[&Node], fetcher: &Fetcher) -> Result<()> {
        let digests = self.inputs(nodes);
        let wanted: Vec<Wanted> =
            digests.iter().filter_map(|digest| self.sources.get(digest).cloned()).collect();
        fetcher.fetch(&wanted)?;
        let blobs =
            digests.iter().filter_map(|digest| Some((*digest, self.image_blobs.get(digest)?)));
        images::fetch(blobs.collect(), fetcher)
    }
}

/// Digests of the blobs that a piece of work reads.
fn inputs(work: &Work) -> Vec<Sha256> {
    match work {
        Work::Packages { packages, .. }
        | Work::AddedPackages { packages }
        | Work::ToolsTree { packages } => packages.iter().map(|package| package.sha256).collect(),
        Work::Files { files } => files
            .iter()
            .filter_map(|file| match &file.node {
                PlannedFileNode::File(digest) => Some(*digest),
                _ => None,
            })
            .collect(),
        Work::Script { content, .. } => vec![*content],
        Work::KubernetesCompile { sources, .. } | Work::ConformanceSuite { sources, .. } => {
            sources.values().map(|file| file.sha256).collect()
        }
        Work::KubernetesFiles { files, .. } => files.values().copied().collect(),
        Work::FetchedImages { images } => images
            .values()
            .flat_map(|image| {
                image.blobs.keys().copied().chain([image.manifest]).chain(image.index)
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// The digest of a content; inline text and local files are put into the store on the way.
///
/// # Errors
/// When a local file cannot be read, or the store cannot be written.
pub fn digest_of(content: &Content, store: &Store) -> Result<Sha256> {
    match content {
        Content::Inline(text) => store.put_bytes(text.as_bytes()),
        Content::Local(path) => store.put_file(path),
        Content::Url { sha256, .. } => Ok(*sha256),
    }
}

/// Resolves `recipe` for `providers`, whose layers it has: package sets of every tree, files and images,
/// each by digest. `now` (seconds
/// since 1970) is the time at which archives' indexes must be valid. In `sandbox` a prebuilt kubeadm
/// is asked which images it needs. With `keep`, packages stay at the versions of that lock as long as
/// the archive has them and they fit together.
///
/// # Errors
/// When an archive cannot be reached or trusted, a package does not exist or conflicts, or a file that
/// the recipe names is missing.
pub fn resolve(
    recipe: &Recipe,
    providers: &[&str],
    fetcher: &Fetcher,
    store: &Store,
    sandbox: &Sandbox,
    now: u64,
    keep: Option<Keep<'_>>,
) -> Result<Resolution> {
    let progress = fetcher.progress();
    warn_of_date_ahead(recipe, now, progress);
    let task = progress.start("resolve", None, "");
    let mut resolving = Resolving {
        recipe,
        providers,
        fetcher,
        store,
        sandbox,
        now,
        keep,
        archives: BTreeMap::new(),
        lock: Lock::default(),
        sources: BTreeMap::new(),
        image_blobs: BTreeMap::new(),
    };
    match resolving.all() {
        Ok(()) => {
            let packages: usize =
                resolving.lock.trees.values().map(|tree| tree.packages.len()).sum();
            let trees = resolving.lock.trees.len();
            progress.finish(task, &format!("{packages} packages in {trees} trees"));
            let Resolving { lock, sources, image_blobs, .. } = resolving;
            Ok(Resolution { lock, sources, image_blobs })
        }
        Err(failure) => {
            progress.fail(task);
            Err(failure)
        }
    }
}

struct Resolving<'a> {
    recipe: &'a Recipe,
    providers: &'a [&'a str],
    fetcher: &'a Fetcher,
    store: &'a Store,
    sandbox: &'a Sandbox,
    now: u64,
    keep: Option<Keep<'a>>,
    archives: BTreeMap<String, Archive>,
    lock: Lock,
    sources: BTreeMap<Sha256, Wanted>,
    image_blobs: BTreeMap<Sha256, ImageBlob>,
}

impl Resolving<'_> {
    fn all(&mut self) -> Result<()> {
        for wanted in wanted_trees(self.recipe, self.providers) {
            self.tree(&wanted)?;
        }
        if let Some(kubernetes) = &self.recipe.kubernetes {
            self.kubernetes(kubernetes)?;
            self.lock.kubernetes = Some(LockedKubernetes::from(kubernetes));
        }
        self.extra_images()?;
        for (url, sha256) in urls(self.recipe) {
            let file = LockedFile { url: url.to_owned(), sha256, size: None };
            self.lock.files.insert(url_name(url), file);
        }
        self.sources.extend(addressed(&self.lock));
        self.lock.archives = self.archives.values().flat_map(suites).collect();
        Ok(())
    }

    /// The archive of `release`, opened once.
    fn archive(&mut self, release: &str) -> Result<&Archive> {
        if !self.archives.contains_key(release) {
            let mut spec = ArchiveSpec::of(&self.recipe.os, self.now);
            spec.release = release.to_owned();
            let archive = Archive::open(&spec, self.fetcher, self.store)?;
            self.archives.insert(release.to_owned(), archive);
        }
        self.archives.get(release).ok_or_else(|| Failure::io("an archive was not opened"))
    }

    fn tree(&mut self, wanted: &WantedTree) -> Result<()> {
        let WantedTree { name, release, asked, essential, over } = wanted;
        let cancel = self.fetcher.cancel().clone();
        let kept = self.keep.and_then(|keep| Some((keep.lock.trees.get(name)?, keep.but)));
        let prefer = kept.map(|(tree, but)| preferred(tree, but)).unwrap_or_default();
        let below = over.as_ref().and_then(|over| self.lock.trees.get(over));
        let installed = below.map(|tree| versions(&tree.packages)).unwrap_or_default();
        let options = ResolveOptions {
            essential: *essential,
            required: *essential,
            prefer,
            installed,
            cancel,
        };
        let archive = self.archive(release)?;
        let packages = archive.resolve(asked, &options).map_err(|failure| {
            failure.context(format!("cannot resolve the packages of `{name}`"))
        })?;
        let file = |package| {
            let urls = archive.mirrors().urls(package);
            (package.sha256, package_file(package, &package.suite, urls))
        };
        let sources: Vec<(Sha256, Wanted)> = packages.iter().map(file).collect();
        self.sources.extend(sources);
        let asked: BTreeSet<String> = asked.iter().cloned().collect();
        let tree =
            LockedTree { release: release.clone(), asked: asked.into_iter().collect(), packages };
        self.lock.trees.insert(name.clone(), tree);
        Ok(())
    }
}

/// Every package set that a build of `recipe` for `providers` needs, each after the one that it is
/// installed over.
#[must_use]
pub fn wanted_trees(recipe: &Recipe, providers: &[&str]) -> Vec<WantedTree> {
    let wanted = |name: &str, release: &str, asked: &[&str], essential| WantedTree {
        name: name.to_owned(),
        release: release.to_owned(),
        asked: asked.iter().map(|package| (*package).to_owned()).collect(),
        essential,
        over: None,
    };
    let image = recipe.packages.iter().chain(&recipe.kernel.package).map(String::as_str);
    let mut trees = vec![
        wanted(tree_name::IMAGE, &recipe.os.release, &image.collect::<Vec<_>>(), true),
        wanted(tree_name::DISK, TOOLS_RELEASE, &DISK_PACKAGES, false),
    ];
    for provider in providers {
        let spec = recipe.providers.get(*provider).filter(|spec| !spec.packages.is_empty());
        trees.extend(spec.map(|spec| WantedTree {
            name: tree_name::of_provider(provider),
            release: recipe.os.release.clone(),
            asked: spec.packages.clone(),
            essential: false,
            over: Some(tree_name::IMAGE.to_owned()),
        }));
    }
    let source = recipe.kubernetes.as_ref().map(|kubernetes| &kubernetes.source);
    if let Some(KubernetesSource::Source { release, .. }) = source {
        trees.push(wanted(tree_name::COMPILER, release, &compile::PACKAGES, true));
        trees.push(wanted(tree_name::CONTROL_PLANE, release, &images_made::PACKAGES, false));
    }
    trees
}

/// The file of a package that `origin` listed.
fn package_file(package: &LockedPackage, origin: &str, urls: Vec<String>) -> Wanted {
    let LockedPackage { name, version, sha256, size, .. } = package;
    let what = format!("{name} {version} of {origin}");
    Wanted { what, urls, sha256: *sha256, size: Some(*size) }
}

/// Tells where a build's bytes depend on when it runs.
fn warn_of_date_ahead(recipe: &Recipe, now: u64, progress: &dyn Progress) {
    if recipe.source_date.unix() > now {
        progress.event(Event::Warning(format!(
            "the source date {} lies ahead: times between now and then stay in the image, so a later \
             build will have other bytes",
            recipe.source_date
        )));
    }
}

/// The versions of a locked tree that are to stay.
fn preferred(tree: &LockedTree, but: &BTreeSet<String>) -> BTreeMap<String, String> {
    versions(tree.packages.iter().filter(|package| !but.contains(&package.name)))
}

fn versions<'a>(packages: impl IntoIterator<Item = &'a LockedPackage>) -> BTreeMap<String, String> {
    let version = |package: &LockedPackage| (package.name.clone(), package.version.clone());
    packages.into_iter().map(version).collect()
}

/// What vouched for an archive's packages.
fn suites(archive: &Archive) -> Vec<(String, LockedSuite)> {
    let locked = |suite: SuiteInfo<'_>| {
        // An index from before 1980 would be a lie of its maker; the earliest date stands for it.
        let date = u64::try_from(suite.date).ok().and_then(SourceDate::from_unix);
        let locked = LockedSuite {
            base: suite.base.to_owned(),
            date: date.or_else(|| SourceDate::from_unix(315_532_800))?,
            sha256: suite.sha256,
            signed_by: suite.fingerprint.to_owned(),
        };
        Some((suite.name.to_owned(), locked))
    };
    archive.suites().filter_map(locked).collect()
}

/// The locked files that have an address of their own, by digest.
fn addressed(lock: &Lock) -> BTreeMap<Sha256, Wanted> {
    let files = lock.files.iter().filter(|(_, file)| file.url.contains("://"));
    files
        .map(|(name, file)| {
            let wanted = Wanted {
                what: name.strip_prefix("url/").unwrap_or(name).to_owned(),
                urls: vec![file.url.clone()],
                sha256: file.sha256,
                size: file.size,
            };
            (file.sha256, wanted)
        })
        .collect()
}
