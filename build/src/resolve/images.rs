//! Container images: what their references stand for, and where their blobs are to be had.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use nodekiln_recipes::lock::LockedImage;
use nodekiln_words::{Bytes, Class, Failure, Result, ResultExt as _, Sha256};

use super::Resolving;
use super::follow::keep_document;
use crate::fetch::Fetcher;
use crate::oci::Reference;
use crate::oci::registry::Registry;
use crate::store::Store;

/// Blobs fetched at the same time.
const CONNECTIONS: usize = 4;
/// How often a blob is fetched before its failure counts.
const ATTEMPTS: u32 = 3;
/// Folder of the index in which the meaning of references is kept.
const INDEX: &str = "references";

/// A config or layer of an image in a registry.
#[derive(Clone)]
pub(super) struct ImageBlob {
    reference: Reference,
    /// Address of the registry, where it is not `https://HOST`.
    base: Option<String>,
    /// Length in bytes.
    size: u64,
}

impl ImageBlob {
    /// A blob of `size` bytes of the image `reference`, whose registry is reached at `base` where that
    /// is given.
    pub(super) fn new(reference: Reference, base: Option<String>, size: u64) -> Self {
        Self { reference, base, size }
    }

    /// Length in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }
}

impl Resolving<'_> {
    pub(super) fn extra_images(&mut self) -> Result<()> {
        let extra: Vec<Reference> =
            self.recipe.images.iter().map(|text| text.parse()).collect::<Result<_>>()?;
        self.registry_images(&extra, None)
    }

    /// Asks registries what `references` stand for; index and manifest go into the store at once, the
    /// blobs are fetched when they are needed. Offline, what they stood for last time.
    pub(super) fn registry_images(
        &mut self,
        references: &[Reference],
        base: Option<&str>,
    ) -> Result<()> {
        for reference in references {
            let name = Sha256::of(format!("{} {reference}", base.unwrap_or_default())).to_string();
            let locked = if let Some(kept) = self.kept_image(reference, base)? {
                kept
            } else if self.fetcher.is_offline() {
                remembered(reference, &name, self.store)?
            } else {
                let locked = self.ask_registry(reference, base)?;
                let kept = serde_json::to_vec(&locked).or_io(|| "cannot write JSON".to_owned())?;
                self.store.write_index(INDEX, &name, &kept)?;
                locked
            };
            for (digest, size) in &locked.blobs {
                let (reference, base) = (reference.clone(), base.map(str::to_owned));
                self.image_blobs.insert(*digest, ImageBlob::new(reference, base, *size));
            }
            self.lock.images.insert(reference.to_string(), locked);
        }
        Ok(())
    }

    /// What `reference` is to stay, with index and manifest in the store.
    fn kept_image(&self, reference: &Reference, base: Option<&str>) -> Result<Option<LockedImage>> {
        let name = reference.to_string();
        let keep = self.keep.filter(|keep| !keep.but.contains(&name));
        let Some(locked) = keep.and_then(|keep| keep.lock.images.get(&name)) else {
            return Ok(None);
        };
        for digest in locked.index.iter().chain([&locked.manifest]) {
            keep_document(reference, *digest, base, self.fetcher, self.store)?;
        }
        Ok(Some(locked.clone()))
    }

    fn ask_registry(&self, reference: &Reference, base: Option<&str>) -> Result<LockedImage> {
        let registry = Registry::new(&reference.registry, base, self.fetcher)?;
        let resolved = registry.resolve(reference, self.recipe.os.architecture.as_str())?;
        for document in &resolved.documents {
            let mut bytes = Vec::new();
            document.copy_to(&mut bytes)?;
            self.store.put_bytes(&bytes)?;
        }
        Ok(resolved.locked)
    }
}

/// What `reference` stood for when its registry was last asked.
fn remembered(reference: &Reference, name: &str, store: &Store) -> Result<LockedImage> {
    let kept = store.read_index(INDEX, name);
    let locked = kept.and_then(|bytes| serde_json::from_slice::<LockedImage>(&bytes).ok());
    let intact = |digest: &Sha256| store.intact_place(digest).is_ok_and(|place| place.is_some());
    let whole = locked.filter(|locked| locked.index.iter().chain([&locked.manifest]).all(intact));
    whole.ok_or_else(|| {
        let text = format!("what {reference} stands for is not known, and this is offline");
        Failure::new(Class::Missing, text).with_help("build once without `--offline`")
    })
}

/// Fetches the blobs that the store lacks, several at a time.
pub(super) fn fetch(blobs: Vec<(Sha256, &ImageBlob)>, fetcher: &Fetcher) -> Result<()> {
    let store = fetcher.store();
    let mut missing = Vec::new();
    for (digest, blob) in blobs {
        if store.intact_place(&digest)?.is_none() {
            missing.push((digest, blob));
        }
    }
    let threads = missing.len().min(CONNECTIONS);
    let missing = Mutex::new(missing);
    let next = || missing.lock().unwrap_or_else(PoisonError::into_inner).pop();
    let work = || {
        let mut registries = BTreeMap::new();
        while let Some((digest, blob)) = next() {
            let outcome = fetch_one(digest, blob, &mut registries, fetcher);
            if outcome.is_err() {
                missing.lock().unwrap_or_else(PoisonError::into_inner).clear();
                return outcome;
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        let ended = |_| Err(Failure::io("a transfer ended unexpectedly"));
        threads.into_iter().try_for_each(|thread| thread.join().unwrap_or_else(ended))
    })
}

/// A thread's connections, by registry and address.
type Registries = BTreeMap<(String, Option<String>), Registry>;

fn fetch_one(
    digest: Sha256,
    blob: &ImageBlob,
    registries: &mut Registries,
    fetcher: &Fetcher,
) -> Result<()> {
    let ImageBlob { reference, base, size } = blob;
    let key = (reference.registry.clone(), base.clone());
    if !registries.contains_key(&key) {
        let registry = Registry::new(&reference.registry, base.as_deref(), fetcher)?;
        registries.insert(key.clone(), registry);
    }
    let Some(registry) = registries.get(&key) else { return Ok(()) };
    let title = format!("fetch {reference} {}", digest.short());
    let task = fetcher.progress().start(&title, None, "");
    let mut attempt = 1;
    loop {
        let outcome = fetcher.store().blob_writer().and_then(|mut writer| {
            registry.blob(&reference.repository, digest, *size, &mut writer)?;
            writer.commit(Some(digest))
        });
        match outcome {
            Ok(_) => {
                fetcher.progress().finish(task, &Bytes(*size).to_string());
                return Ok(());
            }
            Err(failure) if attempt < ATTEMPTS && failure.class() != Class::Interrupted => {
                attempt += 1;
                let text = format!("{title} once more: {failure}");
                fetcher.progress().event(nodekiln_words::Event::Note(text));
            }
            Err(failure) => {
                fetcher.progress().fail(task);
                return Err(failure.context(format!("image {reference}")));
            }
        }
    }
}
