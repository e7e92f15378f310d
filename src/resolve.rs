//! From the command line to a plan: load the recipe, resolve it, lay out the nodes.

use std::sync::Arc;

use nodekiln_build::fetch::{FetchSettings, Fetcher};
use nodekiln_build::resolve::{Resolution, digest_of, resolve as resolve_recipe};
use nodekiln_build::sandbox::Sandbox;
use nodekiln_build::store::Store;
use nodekiln_recipes::load::Loaded;
use nodekiln_recipes::{Plan, plan_of};
use nodekiln_words::{Progress, Result};

use crate::Context;
use crate::arguments::Selection;

/// A recipe with everything decided that a build needs.
pub(crate) struct Resolved {
    /// The recipe and the texts that it was read from.
    pub(crate) loaded: Loaded,
    /// The store.
    pub(crate) store: Arc<Store>,
    /// What brings files into the store.
    pub(crate) fetcher: Fetcher,
    /// The lock, and where its files are to be had.
    pub(crate) resolution: Resolution,
    /// The plan.
    pub(crate) plan: Plan,
    /// Providers asked for, each once, in the order given.
    pub(crate) providers: Vec<String>,
}

/// Loads and resolves the recipe that `selection` names.
pub(crate) fn resolve(
    selection: &Selection,
    context: &Context,
    progress: &Arc<dyn Progress>,
) -> Result<Resolved> {
    let providers = providers(selection)?;
    let mut loaded = crate::recipe::load(&selection.recipe, &selection.sets, context)?;
    if !selection.mirror.is_empty() {
        loaded.recipe.os.mirrors.clone_from(&selection.mirror);
    }
    let store = Arc::new(crate::cache::open(context, progress)?);
    let settings = FetchSettings {
        ca_file: selection.ca_file.clone(),
        offline: selection.offline,
        ..FetchSettings::default()
    };
    let fetcher =
        Fetcher::new(Arc::clone(&store), Arc::clone(progress), context.cancel.clone(), settings)?;
    let resolution =
        resolve_recipe(&loaded.recipe, &fetcher, &store, &Sandbox::new(), crate::cache::now())?;
    let names: Vec<&str> = providers.iter().map(String::as_str).collect();
    let plan =
        plan_of(&loaded.recipe, &resolution.lock, &names, &|content| digest_of(content, &store))?;
    Ok(Resolved { loaded, store, fetcher, resolution, plan, providers })
}

fn providers(selection: &Selection) -> Result<Vec<String>> {
    let mut names: Vec<String> = Vec::new();
    for name in &selection.provider {
        nodekiln_providers::by_name(name)?;
        if !names.contains(name) {
            names.push(name.clone());
        }
    }
    Ok(names)
}
