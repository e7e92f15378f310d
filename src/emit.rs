//! From a finished tree and its disks to artifacts, bill of materials and manifest.

use std::any::Any;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use nodekiln_build::account::Account;
use nodekiln_build::graph::Ran;
use nodekiln_build::steps;
use nodekiln_disk::{Disk, Payload};
use nodekiln_providers::{Artifact, ArtifactRequest, Compression, MachineProfile, Parameters};
use nodekiln_recipes::recipe::Recipe;
use nodekiln_recipes::{Inventory, tree_name};
use nodekiln_validate::Expectations;
use nodekiln_words::{Bytes, Cancel, Failure, Progress, Result, ResultExt as _, Sha256};

use crate::Context;
use crate::arguments;
use crate::clusters::KnownClusters;
use crate::evidence;
use crate::output::{self, ForOne, Manifest, Staging};
use crate::registry::Known;
use crate::resolve::Resolved;
use crate::writing::Writing;

/// Writes artifacts, bill of materials and plan into the staging folder.
pub(crate) fn emit(
    resolved: &Resolved,
    ran: &Ran,
    verb: &arguments::Build,
    staging: &Staging,
    context: &Context,
    progress: &Arc<dyn Progress>,
) -> Result<Manifest> {
    let recipe = &resolved.loaded.recipe;
    let disks = disks(resolved, ran, context)?;
    let payloads: BTreeMap<&str, Payload> =
        disks.iter().map(|(node, disk)| (*node, Payload::of(disk))).collect();
    let clusters = match has_clusters(&resolved.chosen) {
        true => KnownClusters::of(&resolved.store, &recipe.name, compression(verb.compression))?,
        false => None,
    };
    let request = ArtifactRequest {
        name: recipe.name.clone(),
        folder: staging.folder().to_owned(),
        compression: compression(verb.compression),
        clusters: clusters.as_ref().map(KnownClusters::share),
        created: recipe.source_date.unix(),
        boot: recipe.disk.boot,
        facts: evidence::image_facts(recipe, &resolved.resolution.lock),
    };
    let write = Writing { plan: &resolved.plan, disks: &disks, payloads: &payloads, request };
    let groups = groups(resolved);
    // What the trees say is gathered while artifacts are written, which takes longer.
    let (trees, made) = std::thread::scope(|scope| {
        let trees = scope.spawn(|| {
            groups.iter().map(|group| Tree::of(resolved, ran, group)).collect::<Result<Vec<_>>>()
        });
        let made = write.artifacts(&resolved.chosen, &**progress, &context.cancel);
        (trees.join().unwrap_or_else(stopped), made)
    });
    let (made, trees) = (made?, trees?);
    let artifacts: Vec<Artifact> = made.iter().flat_map(|made| made.files.clone()).collect();
    if let Some(clusters) = &clusters {
        // What a plugin calls qcow2 need not be the file that the clusters went into.
        let own = |artifact: &&Artifact| {
            resolved.provider(&artifact.provider).is_ok_and(|known| known.plugin().is_none())
        };
        let own: Vec<Artifact> = artifacts.iter().filter(own).cloned().collect();
        clusters.keep(&own, staging.folder(), &**progress);
    }
    let plan =
        serde_json::to_vec_pretty(&resolved.plan).or_io(|| "cannot write JSON".to_owned())?;
    let lock = serde_json::to_vec_pretty(&resolved.resolution.lock)
        .or_io(|| "cannot write JSON".to_owned())?;
    let mut texts = vec![(output::PLAN.to_owned(), plan), (output::LOCK.to_owned(), lock)];
    texts.extend(made.iter().flat_map(|made| made.documents.clone()));
    let registrations = made.iter().map(|made| made.registration.clone());
    let mut registrations: BTreeMap<&str, Parameters> =
        resolved.providers.iter().map(String::as_str).zip(registrations).collect();
    let mut providers = BTreeMap::new();
    // Versions, settings and images come from below the layers.
    let expect = trees.first().map(|tree| tree.expect.clone()).unwrap_or_default();
    for tree in trees {
        let first = tree.providers.first().copied().unwrap_or_default();
        let payload = write.disk(first)?.1.digest(&**progress, &context.cancel)?;
        let task = progress.start(&format!("bill of materials of {first}"), None, "");
        let own = artifacts.iter().filter(|made| tree.providers.contains(&made.provider.as_str()));
        let bom = tree.draft.with(&shipped(own, payload))?;
        progress.finish(task, &nodekiln_bom::summary(&bom)?.to_string());
        for provider in tree.providers {
            let known = resolved.provider(provider)?;
            let one = ForOne {
                payload,
                bom: tree.bom.clone(),
                machine: machine(known, recipe),
                registration: registrations.remove(provider).unwrap_or_default(),
                plugin: known.plugin(),
            };
            providers.insert(provider.to_owned(), one);
        }
        texts.push((tree.bom, bom));
    }
    let mut files = BTreeMap::new();
    for (name, bytes) in texts {
        if files.contains_key(&name) || artifacts.iter().any(|artifact| artifact.file == name) {
            let text = format!("two files of the output would be called {name}");
            return Err(Failure::input(text).with_help("leave one of the providers out"));
        }
        fs_err::write(staging.folder().join(&name), &bytes)
            .or_io(|| format!("cannot write {name}"))?;
        files.insert(name, Sha256::of(&bytes));
    }
    Ok(Manifest {
        schema: SCHEMA.to_owned(),
        name: recipe.name.clone(),
        nodekiln: env!("CARGO_PKG_VERSION").to_owned(),
        recipe: recipe_digest(resolved),
        source_date: recipe.source_date.to_string(),
        kubernetes: recipe
            .kubernetes
            .as_ref()
            .map(|k| format!("{} from {}", k.version, k.source.as_str())),
        disk_size: recipe.disk.size.get(),
        compression: compression(verb.compression),
        artifacts,
        files,
        nodes: node_ids(resolved),
        providers,
        expect,
    })
}

/// Whether an artifact of `providers` is compressed cluster by cluster.
fn has_clusters(providers: &[Known]) -> bool {
    let own = providers.iter().filter(|provider| provider.plugin().is_none());
    own.flat_map(|provider| provider.files("")).any(|file| file.format == "qcow2")
}

/// The machine that `provider` boots the image on: a disk that is made for one firmware needs that one.
fn machine(provider: &Known, recipe: &Recipe) -> MachineProfile {
    provider.machine().starting(recipe.disk.boot)
}

/// Providers by the disk that they share, in the order in which they were asked for.
fn groups(resolved: &Resolved) -> Vec<Vec<&str>> {
    let mut groups: Vec<(Option<&str>, Vec<&str>)> = Vec::new();
    for provider in &resolved.providers {
        let disk = resolved.plan.disk_for(provider).map(|node| node.name.as_str());
        match groups.iter_mut().find(|(known, _)| *known == disk) {
            Some((_, providers)) => providers.push(provider),
            None => groups.push((disk, vec![provider])),
        }
    }
    groups.into_iter().map(|(_, providers)| providers).collect()
}

/// What is told of a tree that a disk was made from.
struct Tree<'a> {
    /// Those whose disk it is.
    providers: Vec<&'a str>,
    expect: Expectations,
    draft: nodekiln_bom::Draft,
    /// Name of the file for its bill of materials.
    bom: String,
}

impl<'a> Tree<'a> {
    fn of(resolved: &'a Resolved, ran: &Ran, providers: &[&'a str]) -> Result<Self> {
        let first = providers.first().copied().unwrap_or_default();
        let account = Account::of(&resolved.plan, first, &ran.nodes)?;
        let draft = nodekiln_bom::draft(&bom_input(resolved, first, &account)?, &account)?;
        let expect = evidence::expectations(&resolved.loaded.recipe, &account)?;
        let bom = match resolved.providers.first() {
            Some(asked_first) if asked_first != first => output::bom_of(first),
            _ => output::BOM.to_owned(),
        };
        Ok(Self { providers: providers.to_vec(), expect, draft, bom })
    }
}

/// What the bill of materials of `provider`'s tree is made from.
fn bom_input<'a>(
    resolved: &'a Resolved,
    provider: &str,
    account: &'a Account,
) -> Result<nodekiln_bom::BomInput<'a>> {
    let recipe = &resolved.loaded.recipe;
    Ok(nodekiln_bom::BomInput {
        image: recipe.name.clone(),
        recipe: recipe.name.clone(),
        architecture: recipe.os.architecture,
        recipe_digest: recipe_digest(resolved),
        seed: resolved.plan.seed,
        source_date: recipe.source_date,
        lock: &resolved.resolution.lock,
        trees: trees(recipe, provider),
        removed: evidence::removed(recipe),
        inventory: &account.inventory,
        owners: &account.owners,
        roles: nodekiln_bom::roles(&resolved.plan),
        binaries: evidence::binaries(recipe, &resolved.resolution.lock),
        images: evidence::images(account)?,
        with_files: true,
        verify_files: false,
    })
}

/// The lock's trees whose packages make up the tree of `provider`. A lock may have packages for a provider
/// that the recipe, with this build's settings, asks for no more.
fn trees(recipe: &Recipe, provider: &str) -> Vec<String> {
    let asks = recipe.providers.get(provider).is_some_and(|spec| !spec.packages.is_empty());
    let own = asks.then(|| tree_name::of_provider(provider));
    [tree_name::IMAGE.to_owned()].into_iter().chain(own).collect()
}

fn shipped<'a>(
    artifacts: impl Iterator<Item = &'a Artifact>,
    payload: Sha256,
) -> nodekiln_bom::Shipped {
    let artifact = |artifact: &Artifact| nodekiln_bom::Artifact {
        name: artifact.file.clone(),
        format: artifact.format.clone(),
        size: Bytes(artifact.size),
        sha256: artifact.sha256,
    };
    nodekiln_bom::Shipped { artifacts: artifacts.map(artifact).collect(), payload: Some(payload) }
}

/// What a thread that panicked comes to.
pub(crate) fn stopped<T>(_: Box<dyn Any + Send>) -> Result<T> {
    Err(Failure::io("a thread stopped unexpectedly")
        .with_help("this is a fault of nodekiln: report it with what was printed before"))
}

/// Names the manifest's format; raised when a field changes its meaning.
pub(crate) const SCHEMA: &str = "nodekiln manifest 2";

/// The providers' disks by their nodes' names, those from earlier builds verified: they may have lain
/// in the store for months.
fn disks<'a>(
    resolved: &'a Resolved,
    ran: &Ran,
    context: &Context,
) -> Result<BTreeMap<&'a str, Disk>> {
    let mut disks = BTreeMap::new();
    for provider in &resolved.providers {
        let node = resolved.plan.disk_for(provider);
        let found = node.and_then(|node| Some((node.name.as_str(), ran.nodes.get(&node.name)?)));
        let (name, stored) =
            found.ok_or_else(|| Failure::io(format!("the plan made no disk for `{provider}`")))?;
        if !disks.contains_key(name) {
            let scan = |folder: &Path, expected: &Inventory, cancel: &Cancel| {
                nodekiln_build::layer::scan_as(folder, expected, false, cancel)
            };
            stored.verify(&scan, &context.cancel)?; // those of this build are known to be intact
            disks.insert(name, steps::disk::open(stored)?);
        }
    }
    Ok(disks)
}

/// What was typed in the providers' words.
pub(crate) fn compression(typed: arguments::Compression) -> Compression {
    match typed {
        arguments::Compression::Fast => Compression::Fast,
        arguments::Compression::Default => Compression::Default,
        arguments::Compression::Small => Compression::Small,
        arguments::Compression::Zstd => Compression::Zstd,
        arguments::Compression::None => Compression::None,
    }
}

pub(crate) fn recipe_digest(resolved: &Resolved) -> Sha256 {
    Sha256::of(nodekiln_recipes::to_yaml(&resolved.loaded.recipe))
}

pub(crate) fn node_ids(resolved: &Resolved) -> BTreeMap<String, String> {
    resolved.plan.nodes.iter().map(|node| (node.name.clone(), node.id.to_string())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::registry;
    use nodekiln_providers::Firmware;
    use nodekiln_recipes::recipe::BootMode;

    fn known(name: &str) -> Known {
        let mut all = registry::in_tree().into_iter();
        all.find(|provider| provider.name() == name).expect("a provider in the tree")
    }

    /// The library's `quickstart`, with these settings, for all providers.
    fn recipe(sets: &[&str]) -> Recipe {
        let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
        let terms = registry::terms(&registry::in_tree());
        let loaded = nodekiln_recipes::load::load_for("quickstart", &sets, &terms);
        loaded.unwrap_or_else(|_| panic!("quickstart does not load")).recipe
    }

    #[test]
    fn every_provider_has_a_machine_that_starts_the_disks_it_takes() {
        for boot in [BootMode::Hybrid, BootMode::Bios, BootMode::Uefi] {
            let recipe = recipe(&[&format!("disk.boot={}", boot.as_str())]);
            for provider in registry::in_tree() {
                let firmware = machine(&provider, &recipe).firmware;
                assert!(!firmware.is_empty(), "{} {boot:?}", provider.name());
                assert!(firmware.iter().all(|firmware| firmware.starts(boot)), "{firmware:?}");
            }
        }
        assert_eq!(machine(&known("gce"), &recipe(&["disk.boot=bios"])).firmware, [Firmware::Bios]);
    }

    /// Azure's layer asks for packages; a lock that was made with them serves a build without.
    #[test]
    fn a_tree_has_the_packages_that_the_recipe_asks_for() {
        assert_eq!(trees(&recipe(&[]), "azure"), ["image", "image@azure"]);
        assert_eq!(trees(&recipe(&["providers.azure.packages="]), "azure"), ["image"]);
        assert_eq!(trees(&recipe(&[]), "raw"), ["image"]);
    }

    #[test]
    fn earlier_clusters_are_read_for_qcow2_alone() {
        let has = |names: &[&str]| {
            has_clusters(&names.iter().map(|name| known(name)).collect::<Vec<_>>())
        };
        assert!(has(&["raw", "qemu"]) && has(&["openstack"]));
        assert!(!has(&["raw", "aws", "azure", "gce", "vsphere"]));
    }
}
