//! Resolving: from a recipe to its lock, and to where each locked file is to be had.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use nodekiln_recipes::lock::{Lock, LockedFile, LockedTree};
use nodekiln_recipes::plan::{Node, PlannedFileNode, Work};
use nodekiln_recipes::recipe::{Content, Kubernetes, KubernetesSource, Recipe};
use nodekiln_recipes::tree_name;
use nodekiln_words::{Bytes, Failure, Result, ResultExt as _, Sha256};

use crate::debian::{Archive, ArchiveSpec, ResolveOptions};
use crate::fetch::{Fetcher, Wanted};
use crate::kubernetes;
use crate::oci::Reference;
use crate::oci::registry::Registry;
use crate::store::Store;

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

/// A config or layer of an image in a registry.
struct ImageBlob {
    reference: Reference,
    /// Address of the registry, where it is not `https://HOST`.
    base: Option<String>,
    /// Length in bytes.
    size: u64,
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
        let store = fetcher.store();
        let blobs =
            digests.iter().filter_map(|digest| Some((digest, self.image_blobs.get(digest)?)));
        for (digest, blob) in blobs.filter(|(digest, _)| !store.has_blob(digest)) {
            let ImageBlob { reference, base, size } = blob;
            let title = format!("fetch {reference} {}", digest.short());
            let task = fetcher.progress().start(&title, None, "");
            let registry = Registry::new(&reference.registry, base.as_deref(), fetcher)?;
            let mut writer = store.blob_writer()?;
            registry.blob(&reference.repository, *digest, *size, &mut writer)?;
            writer.commit(Some(*digest))?;
            fetcher.progress().finish(task, &Bytes(*size).to_string());
        }
        Ok(())
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
/// since 1970) is the time at which archives' indexes must be valid.
///
/// # Errors
/// When an archive cannot be reached or trusted, a package does not exist or conflicts, or a file that
/// the recipe names is missing.
pub fn resolve(recipe: &Recipe, fetcher: &Fetcher, store: &Store, now: u64) -> Result<Resolution> {
    let progress = fetcher.progress();
    let task = progress.start("resolve", None, "");
    let mut resolving = Resolving {
        recipe,
        fetcher,
        store,
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

    fn kubernetes(&mut self, kubernetes: &Kubernetes) -> Result<()> {
        match &kubernetes.source {
            KubernetesSource::Source { package, release } => {
                let owned = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
                let compiler: Vec<String> = owned(&kubernetes::compile::PACKAGES);
                self.tree(tree_name::COMPILER, release, &compiler, true)?;
                let images: Vec<String> = owned(&kubernetes::images::PACKAGES);
                self.tree(tree_name::CONTROL_PLANE, release, &images, false)?;
                self.source_package(package, release)
            }
            KubernetesSource::Directory { path } => self.directory(path),
            KubernetesSource::Release { url, registry, sha256 } => {
                let files = kubernetes::release::resolve(
                    kubernetes.version,
                    self.recipe.os.architecture,
                    url,
                    sha256,
                    &|url| self.fetcher.fetch_text(url),
                )?;
                self.lock.files.extend(files);
                let version = kubernetes.version;
                let references = kubernetes::images::listed(version, &kubernetes.image_repository)?;
                self.registry_images(&references, registry.as_deref())
            }
        }
    }

    fn source_package(&mut self, package: &str, release: &str) -> Result<()> {
        let archive = self.archive(release)?;
        let files = archive.source(package)?;
        let mut found = Vec::new();
        for (name, file) in files {
            let wanted = Wanted {
                what: name.clone(),
                urls: archive.urls(&file.url),
                sha256: file.sha256,
                size: file.size,
            };
            found.push((name, file, wanted));
        }
        for (name, file, wanted) in found {
            self.sources.insert(file.sha256, wanted);
            self.lock.files.insert(format!("source/{name}"), file);
        }
        Ok(())
    }

    /// Puts `bin/*` and `images/*.tar` of a folder into the store and the lock.
    fn directory(&mut self, folder: &Path) -> Result<()> {
        for (below, suffix) in [("bin", ""), ("images", ".tar")] {
            for path in files_in(&folder.join(below))? {
                let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
                if !name.ends_with(suffix) {
                    continue;
                }
                let sha256 = self.store.put_file(&path)?;
                let size = fs_err::metadata(&path).or_io(|| format!("cannot read {name}"))?.len();
                let file = LockedFile { url: format!("{below}/{name}"), sha256, size: Some(size) };
                self.lock.files.insert(format!("kubernetes/{below}/{name}"), file);
            }
        }
        Ok(())
    }

    fn extra_images(&mut self) -> Result<()> {
        let extra: Vec<Reference> =
            self.recipe.images.iter().map(|text| text.parse()).collect::<Result<_>>()?;
        self.registry_images(&extra, None)
    }

    /// Asks registries what `references` stand for; index and manifest go into the store at once, the
    /// blobs are fetched when they are needed.
    fn registry_images(&mut self, references: &[Reference], base: Option<&str>) -> Result<()> {
        let architecture = self.recipe.os.architecture.as_str();
        for reference in references {
            let registry = Registry::new(&reference.registry, base, self.fetcher)?;
            let resolved = registry.resolve(reference, architecture)?;
            for document in &resolved.documents {
                let mut bytes = Vec::new();
                document.copy_to(&mut bytes)?;
                self.store.put_bytes(&bytes)?;
            }
            for (digest, size) in &resolved.locked.blobs {
                let image = ImageBlob {
                    reference: reference.clone(),
                    base: base.map(str::to_owned),
                    size: *size,
                };
                self.image_blobs.insert(*digest, image);
            }
            self.lock.images.insert(reference.to_string(), resolved.locked);
        }
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

/// The regular files of a folder, sorted.
fn files_in(folder: &Path) -> Result<Vec<std::path::PathBuf>> {
    let cannot = || format!("cannot read the Kubernetes folder {}", folder.display());
    let mut files = Vec::new();
    for entry in fs_err::read_dir(folder).or_fail(nodekiln_words::Class::Input, cannot)? {
        let path = entry.or_io(cannot)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
