//! Resolving a kit for node conformance: the compiler, the sources, and the packages whose programs its images
//! have.

use std::collections::BTreeMap;

use nodekiln_recipes::lock::{Lock, WantedTree};
use nodekiln_recipes::recipe::{KubernetesSource, Recipe};
use nodekiln_recipes::tree_name;
use nodekiln_words::{Class, Failure, Result};

use super::{Keep, Resolution, Resolving};
use crate::fetch::Fetcher;
use crate::kubernetes::compile;
use crate::sandbox::Sandbox;
use crate::steps::conformance_images::PACKAGES;
use crate::store::Store;

/// Resolves what a kit takes in for the Kubernetes that `recipe` builds from source. With `keep`, the lock of
/// the recipe itself for instance, packages stay at its versions as long as the archive has them.
///
/// # Errors
/// When the recipe does not build Kubernetes from source; those of [`super::resolve`].
pub fn resolve_conformance(
    recipe: &Recipe,
    fetcher: &Fetcher,
    store: &Store,
    sandbox: &Sandbox,
    now: u64,
    keep: Option<Keep<'_>>,
) -> Result<Resolution> {
    let source = recipe.kubernetes.as_ref().map(|kubernetes| &kubernetes.source);
    let Some(KubernetesSource::Source { package, release }) = source else {
        let text = format!("the recipe `{}` does not build Kubernetes from source", recipe.name);
        return Err(Failure::new(Class::Unsupported, text)
            .with_help("give a suite that was built elsewhere: `--suite FILE`"));
    };
    let wanted = |name: &str, asked: &[&str], essential| WantedTree {
        name: name.to_owned(),
        release: release.clone(),
        asked: asked.iter().map(|package| (*package).to_owned()).collect(),
        essential,
        over: None,
    };
    let mut resolving = Resolving {
        recipe,
        providers: &[],
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
    let task = fetcher.progress().start("resolve", None, "");
    let mut all = || {
        resolving.tree(&wanted(tree_name::COMPILER, &compile::PACKAGES, true))?;
        resolving.tree(&wanted(tree_name::CONFORMANCE, &PACKAGES, false))?;
        resolving.source_package(package, release)
    };
    if let Err(failure) = all() {
        fetcher.progress().fail(task);
        return Err(failure);
    }
    let packages: usize = resolving.lock.trees.values().map(|tree| tree.packages.len()).sum();
    fetcher.progress().finish(task, &format!("{packages} packages in 2 trees"));
    let Resolving { lock, sources, image_blobs, .. } = resolving;
    Ok(Resolution { lock, sources, image_blobs })
}
