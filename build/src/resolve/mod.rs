//! Resolving: from a recipe to its lock, and to where each locked file is to be had.

mod images;
mod kubernetes;

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_recipes::lock::{Lock, LockedTree};
use nodekiln_recipes::plan::{Node, PlannedFileNode, Work};
use nodekiln_recipes::recipe::{Content, Recipe};
use nodekiln_recipes::tree_name;
use nodekiln_words::{Event, Failure, Result, Sha256};

use crate::debian::{Archive, ArchiveSpec, ResolveOptions};
use crate::fetch::{Fetcher, Wanted};
use crate::sandbox::Sandbox;
use crate::store::Store;

use self::images::ImageBlob;

/// Release whose packages make file systems: the oldest with mke2fs 1.47.2, which honours the source
/// date.
const TOOLS_RELEASE: &str = "trixie";
/// What makes the root file system.
const DISK_PACKAGES: [&str; 1] = ["e2fsprogs"];

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
    /// Brings into the store what `nodes` take in: files by their addresses, images' blobs from their
    /// registries. What is there already is not asked for.
    ///
    /// # Errors
    /// When a file cannot be had, or is not what the lock says.
    pub fn fetch(&self, nodes: &[&Node], fetcher: &Fetcher) -> Result<()> {
        let digests: BTreeSet<Sha256> = nodes.iter().flat_map(|node| inputs(&node.work)).collect();
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
        Work::Packages { packages, .. } | Work::ToolsTree { packages } => {
            packages.iter().map(|package| package.sha256).collect()
        }
        Work::Files { files } => files
            .iter()
            .filter_map(|file| match &file.node {
                PlannedFileNode::File(digest) => Some(*digest),
                _ => None,
            })
            .collect(),
        Work::Script { content, .. } => vec![*content],
        Work::KubernetesCompile { sources, .. } => sources.values().map(|f| f.sha256).collect(),
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

/// Resolves `recipe`: package sets of every tree, files and images, each by digest. `now` (seconds
/// since 1970) is the time at which archives' indexes must be valid. In `sandbox` a prebuilt kubeadm
/// is asked which images it needs.
///
/// # Errors
/// When an archive cannot be reached or trusted, a package does not exist or conflicts, or a file that
/// the recipe names is missing.
pub fn resolve(
    recipe: &Recipe,
    fetcher: &Fetcher,
    store: &Store,
    sandbox: &Sandbox,
    now: u64,
) -> Result<Resolution> {
    let progress = fetcher.progress();
    if recipe.source_date.unix() > now {
        progress.event(Event::Warning(format!(
            "the source date {} lies ahead: times between now and then stay in the image, so a later \
             build will have other bytes",
            recipe.source_date
        )));
    }
    let task = progress.start("resolve", None, "");
    let mut resolving = Resolving {
        recipe,
        fetcher,
        store,
        sandbox,
        now,
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
    fetcher: &'a Fetcher,
    store: &'a Store,
    sandbox: &'a Sandbox,
    now: u64,
    archives: BTreeMap<String, Archive>,
    lock: Lock,
    sources: BTreeMap<Sha256, Wanted>,
    image_blobs: BTreeMap<Sha256, ImageBlob>,
}

impl Resolving<'_> {
    fn all(&mut self) -> Result<()> {
        let recipe = self.recipe;
        let mut packages = recipe.packages.clone();
        packages.extend(recipe.kernel.package.clone());
        self.tree(tree_name::IMAGE, &recipe.os.release, &packages, true)?;
        let disk: Vec<String> = DISK_PACKAGES.map(str::to_owned).to_vec();
        self.tree(tree_name::DISK, TOOLS_RELEASE, &disk, false)?;
        if let Some(kubernetes) = &recipe.kubernetes {
            self.kubernetes(kubernetes)?;
        }
        self.extra_images()?;
        self.urls();
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

    fn tree(
        &mut self,
        name: &str,
        release: &str,
        wanted: &[String],
        essential: bool,
    ) -> Result<()> {
        let cancel = self.fetcher.cancel().clone();
        let options = ResolveOptions { essential, required: essential, cancel };
        let archive = self.archive(release)?;
        let packages = archive.resolve(wanted, &options).map_err(|failure| {
            failure.context(format!("cannot resolve the packages of `{name}`"))
        })?;
        let sources: Vec<(Sha256, Wanted)> = packages
            .iter()
            .map(|package| {
                let wanted = Wanted {
                    what: format!("{} {}", package.name, package.version),
                    urls: archive.mirrors().urls(package),
                    sha256: package.sha256,
                    size: Some(package.size),
                };
                (package.sha256, wanted)
            })
            .collect();
        self.sources.extend(sources);
        let tree = LockedTree { release: release.to_owned(), packages };
        self.lock.trees.insert(name.to_owned(), tree);
        Ok(())
    }

    /// Files and scripts that the recipe takes from a URL, and upstream's binaries.
    fn urls(&mut self) {
        for (name, file) in &self.lock.files {
            if file.url.contains("://") {
                let wanted = Wanted {
                    what: name.clone(),
                    urls: vec![file.url.clone()],
                    sha256: file.sha256,
                    size: file.size,
                };
                self.sources.insert(file.sha256, wanted);
            }
        }
        let files = self.recipe.files.iter().filter_map(|step| match &step.node {
            nodekiln_recipes::recipe::FileNode::File(content) => Some(content),
            _ => None,
        });
        let scripts = self.recipe.scripts.values().flatten().map(|script| &script.content);
        for content in files.chain(scripts) {
            if let Content::Url { url, sha256 } = content {
                let wanted = Wanted {
                    what: url.clone(),
                    urls: vec![url.clone()],
                    sha256: *sha256,
                    size: None,
                };
                self.sources.insert(*sha256, wanted);
            }
        }
    }
}
