//! Resolving Kubernetes: the files of its source, and the images that its kubeadm asks for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nodekiln_recipes::lock::LockedFile;
use nodekiln_recipes::plan::NodeId;
use nodekiln_recipes::recipe::{Kubernetes, KubernetesSource, ReleaseImages};
use nodekiln_words::{Class, Failure, Result, ResultExt as _, Sha256};
use serde::Serialize;

use super::Resolving;
use crate::fetch::Wanted;
use crate::kubernetes::images::KUBERNETES_IMAGES;
use crate::kubernetes::{elf, images, release};
use crate::layer::scan;
use crate::oci::Reference;
use crate::store::{Begun, NodeInProgress, NodeRecord, Store, unless_gone};

/// kubeadm's name in a lock of prebuilt files.
const KUBEADM: &str = "kubernetes/bin/kubeadm";
/// The fact in which kubeadm's answer is kept.
const ANSWER: &str = "images";

/// What kubeadm's answer depends on; its digest is the id under which the answer is kept.
#[derive(Serialize)]
struct Asked {
    schema: &'static str,
    kubeadm: Sha256,
    version: String,
    image_repository: String,
}

impl Resolving<'_> {
    pub(super) fn kubernetes(&mut self, kubernetes: &Kubernetes) -> Result<()> {
        let listed = match &kubernetes.source {
            KubernetesSource::Source { package, release } => {
                self.source_package(package, release)?;
                // There is no kubeadm yet. What is expected of it here, it is asked when it is there.
                images::listed(kubernetes.version, &kubernetes.image_repository)?
            }
            KubernetesSource::Directory { path } => {
                self.lock.files.extend(files_of(path, self.store)?);
                self.kubeadm_images(kubernetes)?
            }
            KubernetesSource::Release { url, registry, sha256, images } => {
                let files = release::resolve(
                    kubernetes.version,
                    self.recipe.os.architecture,
                    url,
                    sha256,
                    &|url| self.fetcher.fetch_text(url),
                )?;
                self.lock.files.extend(files);
                let listed = self.kubeadm_images(kubernetes)?;
                let pulled = match images {
                    ReleaseImages::Registry => listed.clone(),
                    ReleaseImages::Archives => self.image_archives(kubernetes, url, &listed)?,
                };
                self.registry_images(&pulled, registry.as_deref())?;
                listed
            }
        };
        self.lock.kubeadm_images = listed.iter().map(ToString::to_string).collect();
        Ok(())
    }

    /// Locks the archives of Kubernetes' own images, and returns those that the release server does
    /// not have.
    fn image_archives(
        &mut self,
        kubernetes: &Kubernetes,
        url: &str,
        listed: &[Reference],
    ) -> Result<Vec<Reference>> {
        let architecture = self.recipe.os.architecture;
        let files =
            release::resolve_image_archives(kubernetes.version, architecture, url, &|url| {
                self.fetcher.fetch_text(url)
            })?;
        self.lock.files.extend(files);
        let others = listed.iter().filter(|image| !KUBERNETES_IMAGES.contains(&image.short_name()));
        Ok(others.cloned().collect())
    }

    /// The images that the locked kubeadm asks for. Its answer is kept in the store, so that it is
    /// asked once.
    fn kubeadm_images(&self, kubernetes: &Kubernetes) -> Result<Vec<Reference>> {
        let Some(kubeadm) = self.lock.files.get(KUBEADM) else {
            return Err(Failure::new(
                Class::Missing,
                "there is no kubeadm among Kubernetes' files",
            )
            .with_help("put it into the folder as bin/kubeadm"));
        };
        let asked = Asked {
            schema: "nodekiln kubeadm images 1",
            kubeadm: kubeadm.sha256,
            version: kubernetes.version.to_string(),
            image_repository: kubernetes.image_repository.clone(),
        };
        let preimage = serde_json::to_string(&asked).or_io(|| "cannot write JSON".to_owned())?;
        let id = NodeId(Sha256::of(&preimage));
        let node = match self.store.begin_node(id, self.fetcher.cancel())? {
            Begun::AlreadyThere(node) => node,
            Begun::Mine(place) => {
                self.fetch_kubeadm(kubeadm)?;
                let begun = std::time::Instant::now();
                let answer = self.ask(kubernetes, kubeadm.sha256, &place).map_err(|failure| {
                    let version = kubernetes.version;
                    failure.context(format!("cannot ask kubeadm {version} which images it needs"))
                })?;
                let inventory = scan(&place.dir().join("output"), false, self.fetcher.cancel())?;
                let record = NodeRecord {
                    name: format!("kubeadm {} images", kubernetes.version),
                    preimage,
                    output: inventory.digest(),
                    files: 0,
                    bytes: 0,
                    seconds: begun.elapsed().as_secs_f64(),
                    facts: BTreeMap::from([(ANSWER.to_owned(), answer.join(" "))]),
                };
                place.commit(record, &inventory)?
            }
        };
        let answer = node.record.facts.get(ANSWER).map(String::as_str).unwrap_or_default();
        answer.split(' ').map(str::parse).collect()
    }

    /// A release's kubeadm is not in the store yet; a folder's is.
    fn fetch_kubeadm(&self, kubeadm: &LockedFile) -> Result<()> {
        if self.store.intact_place(&kubeadm.sha256)?.is_some() {
            return Ok(());
        }
        self.fetcher.fetch(&[Wanted {
            what: KUBEADM.to_owned(),
            urls: vec![kubeadm.url.clone()],
            sha256: kubeadm.sha256,
            size: kubeadm.size,
        }])
    }

    fn ask(
        &self,
        kubernetes: &Kubernetes,
        kubeadm: Sha256,
        place: &NodeInProgress,
    ) -> Result<Vec<String>> {
        let binary = self.store.blob_path(&kubeadm)?;
        elf::check_executable("kubeadm", &binary)?;
        fs_err::create_dir_all(place.dir().join("output"))
            .or_io(|| "cannot make a scratch folder".to_owned())?;
        let log = place.lasting_log();
        remove_log(&log)?; // of an earlier try
        let question = images::BinaryQuestion {
            binary: &binary,
            scratch: &place.dir().join("tree"),
            log: &log,
            version: kubernetes.version,
            repository: &kubernetes.image_repository,
            source_date: self.recipe.source_date,
        };
        let answer = images::ask_binary(self.sandbox, &question, self.fetcher.cancel())?;
        remove_log(&log)?; // nobody is to read it
        Ok(answer.iter().map(ToString::to_string).collect())
    }

    pub(super) fn source_package(&mut self, package: &str, release: &str) -> Result<()> {
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
}

fn remove_log(log: &Path) -> Result<()> {
    unless_gone(fs_err::remove_file(log)).or_io(|| "cannot remove a log".to_owned()).map(drop)
}

/// Puts `bin/*` and `images/*.tar` of a folder into the store; returns them by their names in a lock.
pub(super) fn files_of(folder: &Path, store: &Store) -> Result<BTreeMap<String, LockedFile>> {
    let mut files = BTreeMap::new();
    for (below, suffix) in [("bin", ""), ("images", ".tar")] {
        for path in files_in(&folder.join(below))? {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if !name.ends_with(suffix) {
                continue;
            }
            let sha256 = store.put_file(&path)?;
            let size = fs_err::metadata(&path).or_io(|| format!("cannot read {name}"))?.len();
            let file = LockedFile { url: format!("{below}/{name}"), sha256, size: Some(size) };
            files.insert(format!("kubernetes/{below}/{name}"), file);
        }
    }
    Ok(files)
}

/// Fails unless the folder's files are just those that are locked.
pub(super) fn same_files(
    found: &BTreeMap<String, LockedFile>,
    locked: &BTreeMap<String, LockedFile>,
) -> Result<()> {
    let locked = locked.iter().filter(|(name, _)| name.starts_with("kubernetes/"));
    let locked: BTreeMap<&String, Sha256> =
        locked.map(|(name, file)| (name, file.sha256)).collect();
    let found: BTreeMap<&String, Sha256> =
        found.iter().map(|(name, file)| (name, file.sha256)).collect();
    let names = locked.keys().chain(found.keys());
    let Some(name) = names.into_iter().find(|name| locked.get(*name) != found.get(*name)) else {
        return Ok(());
    };
    let told = |digest: Option<&Sha256>| digest.map_or("none".to_owned(), Sha256::to_string);
    let (expected, found) = (told(locked.get(*name)), told(found.get(*name)));
    Err(Failure::input(format!(
        "{name} is another file than the one locked: expected sha256 {expected}, found {found}"
    ))
    .with_help("run `nodekiln lock` to lock the folder as it is, or put the file back"))
}

/// The regular files of a folder, sorted.
fn files_in(folder: &Path) -> Result<Vec<PathBuf>> {
    let cannot = || format!("cannot read the Kubernetes folder {}", folder.display());
    let mut files = Vec::new();
    for entry in fs_err::read_dir(folder).or_fail(Class::Input, cannot)? {
        let path = entry.or_io(cannot)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
