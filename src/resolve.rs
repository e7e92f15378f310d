//! From the command line to a plan: load the recipe, follow its lock or resolve it, lay out the nodes.

use std::collections::BTreeMap;
use std::sync::Arc;

use nodekiln_build::fetch::{FetchSettings, Fetcher};
use nodekiln_build::remote::{Remote, RemoteSettings};
use nodekiln_build::resolve::{Keep, Resolution, digest_of, follow, resolve as resolve_recipe};
use nodekiln_build::sandbox::Sandbox;
use nodekiln_build::store::Store;
use nodekiln_recipes::load::Loaded;
use nodekiln_recipes::lock::Lock;
use nodekiln_recipes::provider::ForProvider;
use nodekiln_recipes::{Plan, plan_of};
use nodekiln_words::{Event, Failure, Progress, Result, Sha256};

use crate::Context;
use crate::arguments::{RemoteStore, Selection, Target};
use crate::registry::Known;
use crate::{lock, registry};

/// A recipe, and what it takes to resolve it.
pub(crate) struct Setting {
    /// The recipe and the texts that it was read from.
    pub(crate) loaded: Loaded,
    /// The store.
    pub(crate) store: Arc<Store>,
    /// What brings files into the store.
    pub(crate) fetcher: Fetcher,
    /// The providers whose layers the recipe has.
    pub(crate) providers: Vec<String>,
}

/// A recipe with everything decided that a build needs.
pub(crate) struct Resolved {
    /// The recipe and the texts that it was read from.
    pub(crate) loaded: Loaded,
    /// The store.
    pub(crate) store: Arc<Store>,
    /// What brings files into the store.
    pub(crate) fetcher: Fetcher,
    /// The store that machines share, where one was named.
    pub(crate) remote: Option<Remote>,
    /// The lock, and where its files are to be had.
    pub(crate) resolution: Resolution,
    /// The plan.
    pub(crate) plan: Plan,
    /// Providers asked for, each once, in the order given.
    pub(crate) chosen: Vec<Known>,
    /// Their names.
    pub(crate) providers: Vec<String>,
}

impl Resolved {
    /// The provider called `name`, which was asked for.
    ///
    /// # Errors
    /// When it was not.
    pub(crate) fn provider(&self, name: &str) -> Result<&Known> {
        self.chosen
            .iter()
            .find(|known| known.name() == name)
            .ok_or_else(|| Failure::input(format!("nobody asked for the provider `{name}`")))
    }
}

impl Setting {
    /// Loads the recipe that `selection` names, for `providers`, and opens the store.
    pub(crate) fn of(
        selection: &Selection,
        providers: &[ForProvider],
        context: &Context,
        progress: &Arc<dyn Progress>,
    ) -> Result<Self> {
        let mut loaded =
            crate::recipe::load(&selection.recipe, &selection.sets, providers, context)?;
        if !selection.mirror.is_empty() {
            loaded.recipe.os.mirrors.clone_from(&selection.mirror);
        }
        let store = Arc::new(crate::cache::open(context, progress)?);
        let settings = FetchSettings {
            ca_file: selection.ca_file.clone(),
            offline: selection.offline,
            ..FetchSettings::default()
        };
        let (kept, progress) = (Arc::clone(&store), Arc::clone(progress));
        let fetcher = Fetcher::new(kept, progress, context.cancel.clone(), settings)?;
        let providers = providers.iter().map(|provider| provider.name.clone()).collect();
        Ok(Self { loaded, store, fetcher, providers })
    }

    /// The names of its providers.
    pub(crate) fn provider_names(&self) -> Vec<&str> {
        self.providers.iter().map(String::as_str).collect()
    }
}

/// Loads and resolves the recipe of `target`, by its lock where it has one. `remote` is what is said of
/// a remote store, and whether the verb may write there.
pub(crate) fn resolve(
    target: &Target,
    remote: Option<(&RemoteStore, Access)>,
    context: &Context,
    progress: &Arc<dyn Progress>,
) -> Result<Resolved> {
    let chosen = registry::chosen(&target.provider, &**progress, &context.cancel)?;
    let selection = &target.selection;
    let setting = Setting::of(selection, &registry::terms(&chosen), context, progress)?;
    let remote = remote.and_then(|(remote, access)| remote_settings(remote, access, selection));
    let remote =
        remote.map(|settings| connect(&settings, &setting, context, progress)).transpose()?;
    let recipe = &setting.loaded.recipe;
    registry::refuse_collisions(&chosen, &recipe.name)?;
    let names = setting.provider_names();
    let path = lock::path_of(selection, recipe);
    let locked = match (&selection.lock, target.no_lock) {
        (_, true) => None,
        (Some(_), _) => Some(lock::required(&path, recipe)?),
        (None, _) => lock::existing(&path, recipe)?,
    };
    let resolution = match locked {
        Some(locked) => {
            progress.event(Event::Note(format!("following the lock {}", path.display())));
            if let Some(remote) = &remote {
                remote.pull_inputs(&documents(&locked))?;
            }
            follow(recipe, &names, locked, &setting.fetcher, &setting.store, crate::cache::now())?
        }
        None => newest(&setting, None)?,
    };
    let store = &setting.store;
    let plan = plan_of(recipe, &resolution.lock, &names, &|content| digest_of(content, store))?;
    let Setting { loaded, store, fetcher, providers } = setting;
    Ok(Resolved { loaded, store, fetcher, remote, resolution, plan, chosen, providers })
}

/// What a verb may do with a remote store.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Look.
    Read,
    /// Look and write, unless the command line forbids it.
    Write,
}

/// The remote store that the command line or the environment names.
fn remote_settings(
    remote: &RemoteStore,
    access: Access,
    selection: &Selection,
) -> Option<RemoteSettings> {
    let address = remote.cache_remote.clone().filter(|address| !address.is_empty())?;
    Some(RemoteSettings {
        address,
        read_only: remote.cache_remote_read_only || access == Access::Read,
        key: remote.cache_remote_key.clone(),
        trust: remote.cache_remote_trust.clone(),
        ca_file: selection.ca_file.clone(),
    })
}

fn connect(
    settings: &RemoteSettings,
    setting: &Setting,
    context: &Context,
    progress: &Arc<dyn Progress>,
) -> Result<Remote> {
    Remote::connect(settings, &setting.store, Arc::clone(progress), context.cancel.clone())
}

/// The images' manifests and indexes, which are read before there is a plan.
fn documents(lock: &Lock) -> BTreeMap<Sha256, Option<u64>> {
    let images = lock.images.values();
    let documents = images.flat_map(|image| image.index.iter().chain([&image.manifest]));
    documents.map(|digest| (*digest, None)).collect()
}

/// Resolves a recipe by what archives, servers and registries have now.
pub(crate) fn newest(setting: &Setting, keep: Option<Keep<'_>>) -> Result<Resolution> {
    let Setting { loaded, store, fetcher, .. } = setting;
    let (now, providers) = (crate::cache::now(), setting.provider_names());
    resolve_recipe(&loaded.recipe, &providers, fetcher, store, &Sandbox::new(), now, keep)
}
