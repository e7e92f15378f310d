//! Following a lock: nobody is asked what there is; what the lock names is fetched, and nothing else.

use nodekiln_recipes::lock::{Lock, LockedFile, LockedPackage};
use nodekiln_recipes::recipe::{KubernetesSource, Recipe};
use nodekiln_words::{Failure, Result, Sha256, SourceDate};

use super::images::ImageBlob;
use super::{Resolution, addressed, kubernetes, package_file, wanted_trees, warn_of_date_ahead};
use crate::debian::Mirrors;
use crate::fetch::{Fetcher, Wanted};
use crate::oci::Reference;
use crate::oci::registry::Registry;
use crate::store::Store;

/// What stands in the address of a snapshot archive for the moment.
const TIMESTAMP: &str = "{timestamp}";

/// Where the files of `lock` are to be had, if it is a lock of `recipe` for `providers`: packages from the mirrors and
/// then from the recipe's snapshot archives, images from their registries by digest. `now` (seconds since
/// 1970) decides nothing: where the source date lies ahead of it, the reader is warned.
///
/// # Errors
/// `Input` when the recipe asks for something that is not in the lock; when a folder's programs are
/// others than those locked; when an image's manifest cannot be had.
pub fn follow(
    recipe: &Recipe,
    providers: &[&str],
    lock: Lock,
    fetcher: &Fetcher,
    store: &Store,
    now: u64,
) -> Result<Resolution> {
    refuse_misfits(recipe, providers, &lock)?;
    warn_of_date_ahead(recipe, now, fetcher.progress());
    let mirrors = Mirrors::find(&recipe.os.mirrors)?;
    let mut resolution =
        Resolution { sources: addressed(&lock), image_blobs: Default::default(), lock };
    let lock = &resolution.lock;
    for package in lock.trees.values().flat_map(|tree| &tree.packages) {
        let LockedPackage { suite, path, .. } = package;
        let mut urls = mirrors.urls(package);
        urls.extend(snapshots(recipe, lock, suite, path));
        let wanted = package_file(package, &seen(lock, suite), urls);
        resolution.sources.insert(package.sha256, wanted);
    }
    for (name, file) in lock.files.iter().filter(|(name, _)| name.starts_with("source/")) {
        let wanted = locked_source(name, file, recipe, lock, &mirrors);
        resolution.sources.insert(file.sha256, wanted);
    }
    same_folder(recipe, lock, store)?;
    let base = registry_base(recipe);
    for (reference, image) in &lock.images {
        let extra = recipe.images.contains(reference);
        let base = base.filter(|_| !extra);
        let parsed: Reference = reference.parse()?;
        for digest in image.index.iter().chain([&image.manifest]) {
            keep_document(&parsed, *digest, base, fetcher, store)?;
        }
        for (digest, size) in &image.blobs {
            let blob = ImageBlob::new(parsed.clone(), base.map(str::to_owned), *size);
            resolution.image_blobs.insert(*digest, blob);
        }
    }
    Ok(resolution)
}

/// Fails where the recipe takes Kubernetes from a folder whose files are not those locked.
///
/// # Errors
/// `Input` with the first file that differs; when the folder cannot be read.
pub fn same_folder(recipe: &Recipe, lock: &Lock, store: &Store) -> Result<()> {
    match recipe.kubernetes.as_ref().map(|kubernetes| &kubernetes.source) {
        Some(KubernetesSource::Directory { path }) => {
            kubernetes::same_files(&kubernetes::files_of(path, store)?, &lock.files)
        }
        _ => Ok(()),
    }
}

fn refuse_misfits(recipe: &Recipe, providers: &[&str], lock: &Lock) -> Result<()> {
    let misfits = lock.misfits(recipe, &wanted_trees(recipe, providers));
    let Some(first) = misfits.first() else { return Ok(()) };
    let others = match misfits.len() - 1 {
        0 => String::new(),
        1 => " (and 1 other difference)".to_owned(),
        others => format!(" (and {others} other differences)"),
    };
    Err(Failure::input(format!("the lock does not fit the recipe: {first}{others}")).with_help(
        "run `nodekiln lock` with the same recipe and settings to bring the lock up to date, or build \
         with `--no-lock`",
    ))
}

fn locked_source(
    name: &str,
    file: &LockedFile,
    recipe: &Recipe,
    lock: &Lock,
    mirrors: &Mirrors,
) -> Wanted {
    // The lock does not say which suite listed the source; its path says which archive has it.
    let security = file.url.starts_with("pool/updates/");
    let release = match recipe.kubernetes.as_ref().map(|kubernetes| &kubernetes.source) {
        Some(KubernetesSource::Source { release, .. }) => release.as_str(),
        _ => "",
    };
    let of = |suite: &&String| {
        let mine = suite.strip_prefix(release).is_some_and(|r| r.is_empty() || r.starts_with('-'));
        mine && suite.ends_with("-security") == security
    };
    let suite = lock.archives.keys().find(of).map_or("", String::as_str);
    let mut urls = mirrors.urls_in(suite, &file.url);
    urls.extend(snapshots(recipe, lock, suite, &file.url));
    Wanted {
        what: name.trim_start_matches("source/").to_owned(),
        urls,
        sha256: file.sha256,
        size: file.size,
    }
}

/// A suite, and where and when the lock's maker saw it.
fn seen(lock: &Lock, suite: &str) -> String {
    match lock.archives.get(suite) {
        Some(locked) => format!("{suite} (last seen {} at {})", locked.date, locked.base),
        None => suite.to_owned(),
    }
}

/// How long after its index was made a package is looked for in snapshot archives, in hours.
///
/// Such an archive takes pictures of a mirror some times a day (snapshot.debian.org: four times) and answers
/// for a moment with the last picture before it, which at the index's own second is one without what that
/// index was the first to list. Later pictures lack what was replaced since, so the earliest comes first.
/// Whichever has the file is as good as any: its digest is locked.
const LATER: [u64; 4] = [0, 6, 12, 24];

/// The addresses of a file in the recipe's snapshot archives.
fn snapshots(recipe: &Recipe, lock: &Lock, suite: &str, path: &str) -> Vec<String> {
    let archive = if suite.ends_with("-security") { "debian-security" } else { "debian" };
    let moments: Vec<String> = lock.archives.get(suite).map_or(Vec::new(), |locked| {
        let later = LATER.map(|hours| SourceDate::from_unix(locked.date.unix() + hours * 3600));
        // As snapshot.debian.org writes moments: 20261101T000000Z.
        later.into_iter().flatten().map(|date| date.to_string().replace(['-', ':'], "")).collect()
    });
    let mut urls = Vec::new();
    for base in &recipe.os.snapshots {
        let base = base.trim_end_matches('/').replace("{archive}", archive);
        if !base.contains(TIMESTAMP) {
            urls.push(format!("{base}/{path}"));
            continue;
        }
        for moment in &moments {
            urls.push(format!("{}/{path}", base.replace(TIMESTAMP, moment)));
        }
    }
    urls
}

/// The address of the registry that a release's images come from, where it is not their own.
pub(super) fn registry_base(recipe: &Recipe) -> Option<&str> {
    match recipe.kubernetes.as_ref().map(|kubernetes| &kubernetes.source) {
        Some(KubernetesSource::Release { registry, .. }) => registry.as_deref(),
        _ => None,
    }
}

/// Brings an index or manifest into the store.
pub(super) fn keep_document(
    reference: &Reference,
    digest: Sha256,
    base: Option<&str>,
    fetcher: &Fetcher,
    store: &Store,
) -> Result<()> {
    if store.intact_place(&digest)?.is_some() {
        return Ok(());
    }
    let registry = Registry::new(&reference.registry, base, fetcher)?;
    let document = registry
        .document(&reference.repository, digest)
        .map_err(|failure| failure.context(format!("image {reference}")))?;
    let mut bytes = Vec::new();
    document.copy_to(&mut bytes)?;
    store.put_bytes(&bytes).map(drop)
}
