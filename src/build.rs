//! `nodekiln build`: from a recipe to artifacts, bill of materials and manifest.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use nodekiln_build::account::Account;
use nodekiln_build::graph::{Ran, Run, needs, run_graph};
use nodekiln_build::layer::private_mounts;
use nodekiln_build::remote::{Moved, Remote, Shared, Traffic};
use nodekiln_build::sandbox::{OtherClock, Sandbox};
use nodekiln_build::steps;
use nodekiln_build::store::StoredNode;
use nodekiln_disk::qcow2::Clusters;
use nodekiln_disk::{Disk, Payload};
use nodekiln_providers::{Artifact, ArtifactRequest, Compression};
use nodekiln_recipes::Inventory;
use nodekiln_words::{Bytes, Cancel, Failure, Progress, Result, ResultExt as _, Sha256};

use serde::Serialize;

use crate::Context;
use crate::arguments;
use crate::clusters;
use crate::evidence;
use crate::exit::{print, print_json};
use crate::output::{Manifest, Staging, refuse_foreign};
use crate::plan::targets;
use crate::progress::renderer;
use crate::resolve::{Access, Resolved, resolve};

/// Builds a recipe.
pub(crate) fn build(verb: &arguments::Build, context: &Context) -> Result<ExitCode> {
    private_mounts()?; // 1. no mount of ours is seen outside, and none outlives us
    let progress = renderer(context.global.progress);
    let remote = Some((&verb.remote, Access::Write));
    let resolved = resolve(&verb.target, remote, context, &progress)?; // 2. recipe, lock, plan
    let name = resolved.loaded.recipe.name.clone();
    let target = verb.out.join(&name);
    let old = Manifest::read(&target.join(crate::output::MANIFEST));
    let old = if verb.force { old.unwrap_or_default() } else { old? };
    if let Some(old) = old.as_ref().filter(|old| is_current(old, &resolved, verb, &target)) {
        share_stored(&resolved)?; // 3. nothing to do is the usual case
        return say_unchanged(old, &resolved, &target, verb.json);
    }
    refuse_foreign(&target, old.as_ref(), verb.force)?;
    let staging = Staging::beside(&target)?;
    let ran = match layers(&resolved, verb, &staging, context, &progress) {
        Ok(ran) => ran, // 4. the layers and the disk
        Err(failure) => return Err(with_logs(failure, &staging)),
    };
    let made = match emit(&resolved, &ran, verb, &staging, context, &progress) {
        Ok(made) => made, // 5. artifacts, BOM, plan
        Err(failure) => return Err(with_logs(failure, &staging)),
    };
    staging.publish(&made, old.as_ref())?; // 6. all in place, the manifest last
    share(&resolved, ran.nodes.values())?; // 7. for other machines
    say_done(&made, &resolved, &target, &ran, verb.json)?;
    Ok(ExitCode::SUCCESS)
}

/// Runs the graph as far as it takes to have every provider's disk.
fn layers(
    resolved: &Resolved,
    verb: &arguments::Build,
    staging: &Staging,
    context: &Context,
    progress: &Arc<dyn Progress>,
) -> Result<Ran> {
    let clock = verb.other_clock.then(OtherClock::ahead).transpose()?;
    let sandbox = Sandbox { clock, ..Sandbox::new() };
    let logs = staging.folder().join("logs");
    let fetch = |nodes: &[&nodekiln_recipes::plan::Node]| {
        if let Some(remote) = &resolved.remote {
            remote.pull_inputs(&resolved.resolution.sized_inputs(nodes))?;
        }
        resolved.resolution.fetch(nodes, &resolved.fetcher)
    };
    let run = Run {
        store: &resolved.store,
        remote: resolved.remote.as_ref(),
        sandbox: &sandbox,
        fetch: &fetch,
        progress: &**progress,
        cancel: &context.cancel,
        logs: &logs,
        keep_failed: verb.keep_failed,
        shell_on_failure: verb.shell_on_failure,
        jobs: std::thread::available_parallelism().map_or(1, usize::from).min(4),
    };
    run_graph(&resolved.plan, &targets(&resolved.plan, &resolved.providers), &run)
}

/// Gives the remote store what it lacks of `nodes` and of what they were made from. The output is
/// complete by now, so that nobody waits for this but whoever watches.
fn share<'a>(resolved: &Resolved, nodes: impl Iterator<Item = &'a StoredNode>) -> Result<()> {
    let Some(remote) = resolved.remote.as_ref().filter(|remote| !remote.is_read_only()) else {
        return Ok(());
    };
    let shared = nodes.filter_map(|stored| {
        let node = resolved.plan.nodes.iter().find(|node| node.id == stored.id)?;
        let inputs = resolved.resolution.inputs(&[node]);
        Some(Shared { node: stored.clone(), inputs })
    });
    remote.push(&shared.collect::<Vec<_>>())
}

/// As [`share`], of what the store has although this run did not need it.
fn share_stored(resolved: &Resolved) -> Result<()> {
    if resolved.remote.is_none() {
        return Ok(());
    }
    let targets = targets(&resolved.plan, &resolved.providers);
    let needs = needs(&resolved.plan, &targets, &resolved.store, None)?;
    share(resolved, needs.iter().filter_map(|need| need.found.as_ref()))
}

/// Writes artifacts, bill of materials and plan into the staging folder.
fn emit(
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
    let clusters = clusters::known(&resolved.store, compression(verb))?;
    let write = Writing {
        resolved,
        disks: &disks,
        payloads: &payloads,
        staging,
        verb,
        clusters: &clusters,
    };
    let first = resolved.providers.first().map_or("", String::as_str);
    let tree = || {
        let account = Account::of(&resolved.plan, first, &ran.nodes)?;
        let draft = nodekiln_bom::draft(&bom_input(resolved, &account)?, &account)?;
        Ok((account, draft))
    };
    // What the tree says is gathered while artifacts are written, which takes longer.
    let (tree, artifacts) = std::thread::scope(|scope| {
        let tree = scope.spawn(tree);
        let artifacts = write.artifacts(progress, &context.cancel);
        (tree.join().unwrap_or_else(stopped), artifacts)
    });
    let (artifacts, (account, draft)) = (artifacts?, tree?);
    if let Some(clusters) = &clusters {
        let of = (recipe.name.as_str(), compression(verb));
        let (folder, store) = (staging.folder(), &resolved.store);
        clusters::keep(clusters, &artifacts, of, folder, store, &**progress);
    }
    let payload = write.disk(first)?.1.digest(&**progress, &context.cancel)?;
    let task = progress.start("bill of materials", None, "");
    let bom = draft.with(&shipped(&artifacts, payload))?;
    let summary = nodekiln_bom::summary(&bom)?;
    progress.finish(task, &summary.to_string());
    let plan =
        serde_json::to_vec_pretty(&resolved.plan).or_io(|| "cannot write JSON".to_owned())?;
    let lock = serde_json::to_vec_pretty(&resolved.resolution.lock)
        .or_io(|| "cannot write JSON".to_owned())?;
    let mut files = BTreeMap::new();
    for (name, bytes) in [("bom.cdx.json", &bom), ("plan.json", &plan), ("lock.json", &lock)] {
        fs_err::write(staging.folder().join(name), bytes)
            .or_io(|| format!("cannot write {name}"))?;
        files.insert(name.to_owned(), Sha256::of(bytes));
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
        payload,
        disk_size: recipe.disk.size.get(),
        compression: compression(verb),
        artifacts,
        files,
        nodes: node_ids(resolved),
        machine: nodekiln_providers::by_name(first)?.machine(),
        expect: evidence::expectations(recipe, &account)?,
    })
}

/// What the bill of materials is made from: the first provider's tree.
fn bom_input<'a>(
    resolved: &'a Resolved,
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
        trees: vec![nodekiln_recipes::tree_name::IMAGE.to_owned()],
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

fn shipped(artifacts: &[Artifact], payload: Sha256) -> nodekiln_bom::Shipped {
    let artifact = |artifact: &Artifact| nodekiln_bom::Artifact {
        name: artifact.file.clone(),
        format: artifact.format.clone(),
        size: Bytes(artifact.size),
        sha256: artifact.sha256,
    };
    nodekiln_bom::Shipped {
        artifacts: artifacts.iter().map(artifact).collect(),
        payload: Some(payload),
    }
}

/// What a thread that panicked comes to.
fn stopped<T>(_: Box<dyn std::any::Any + Send>) -> Result<T> {
    Err(Failure::io("a thread stopped unexpectedly")
        .with_help("this is a fault of nodekiln: report it with what was printed before"))
}

/// Names the manifest's format; raised when a field changes its meaning.
const SCHEMA: &str = "nodekiln manifest 1";

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

/// What all artifacts of a build are written from, and where.
struct Writing<'a> {
    resolved: &'a Resolved,
    disks: &'a BTreeMap<&'a str, Disk>,
    payloads: &'a BTreeMap<&'a str, Payload<'a>>,
    staging: &'a Staging,
    verb: &'a arguments::Build,
    clusters: &'a Option<Arc<Clusters>>,
}

impl Writing<'_> {
    /// A provider's disk, which several may share, and its digest.
    fn disk(&self, provider: &str) -> Result<(&Disk, &Payload<'_>)> {
        let node = self.resolved.plan.disk_for(provider).map(|node| node.name.as_str());
        node.and_then(|node| Some((self.disks.get(node)?, self.payloads.get(node)?)))
            .ok_or_else(|| Failure::io(format!("the plan made no disk for `{provider}`")))
    }

    /// Writes every provider's artifact, all at the same time.
    fn artifacts(&self, progress: &Arc<dyn Progress>, cancel: &Cancel) -> Result<Vec<Artifact>> {
        let write = |name: &str| self.artifact(name, progress, cancel);
        std::thread::scope(|scope| {
            // The manifest wants every disk's digest, also where no writer asks for it. A failure is
            // met again by whoever asks next.
            for payload in self.payloads.values() {
                scope.spawn(|| payload.digest(&**progress, cancel).ok());
            }
            let threads: Vec<_> =
                self.resolved.providers.iter().map(|name| scope.spawn(|| write(name))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap_or_else(stopped)).collect()
        })
    }

    fn artifact(
        &self,
        provider: &str,
        progress: &Arc<dyn Progress>,
        cancel: &Cancel,
    ) -> Result<Artifact> {
        let (disk, payload) = self.disk(provider)?;
        let provider = nodekiln_providers::by_name(provider)?;
        let request = ArtifactRequest {
            name: self.resolved.loaded.recipe.name.clone(),
            folder: self.staging.folder().to_owned(),
            compression: compression(self.verb),
            clusters: self.clusters.clone(),
        };
        let task = progress.start(&provider.file_name(&request.name), None, "");
        let artifact = provider.write(disk, payload, &request, &**progress, cancel);
        match &artifact {
            Ok(artifact) => progress.finish(task, &Bytes(artifact.size).to_string()),
            Err(_) => progress.fail(task),
        }
        artifact
    }
}

fn compression(verb: &arguments::Build) -> Compression {
    match verb.compression {
        arguments::Compression::Zlib => Compression::Zlib,
        arguments::Compression::Zstd => Compression::Zstd,
        arguments::Compression::None => Compression::None,
    }
}

fn recipe_digest(resolved: &Resolved) -> Sha256 {
    Sha256::of(nodekiln_recipes::to_yaml(&resolved.loaded.recipe))
}

fn node_ids(resolved: &Resolved) -> BTreeMap<String, String> {
    resolved.plan.nodes.iter().map(|node| (node.name.clone(), node.id.to_string())).collect()
}

/// Whether the output folder already holds just this build.
fn is_current(old: &Manifest, resolved: &Resolved, verb: &arguments::Build, target: &Path) -> bool {
    let formats: Vec<&str> = old.artifacts.iter().map(|a| a.provider.as_str()).collect();
    old.schema == SCHEMA
        && old.compression == compression(verb)
        && old.nodekiln == env!("CARGO_PKG_VERSION")
        && old.recipe == recipe_digest(resolved)
        && old.nodes == node_ids(resolved)
        && formats == resolved.providers
        && old.stands_in(target)
}

/// What `--json` prints: the manifest, and what went to and from the remote store.
#[derive(Serialize)]
struct Told<'a> {
    #[serde(flatten)]
    manifest: &'a Manifest,
    #[serde(skip_serializing_if = "Option::is_none")]
    remote: Option<Traffic>,
}

impl<'a> Told<'a> {
    fn of(manifest: &'a Manifest, resolved: &Resolved) -> Self {
        Self { manifest, remote: resolved.remote.as_ref().map(Remote::traffic) }
    }
}

/// What went to and from the remote store, in a line.
fn remote_line(resolved: &Resolved) -> String {
    let Some(remote) = &resolved.remote else { return String::new() };
    let Traffic { pulled, pushed } = remote.traffic();
    let moved = |word: &str, moved: &Moved| {
        let (nodes, inputs, bytes) = (moved.nodes.len(), moved.inputs, Bytes(moved.bytes));
        format!("{nodes} nodes and {inputs} inputs {word}, {bytes}")
    };
    format!("  remote store: {}; {}\n", moved("pulled", &pulled), moved("pushed", &pushed))
}

fn say_unchanged(
    manifest: &Manifest,
    resolved: &Resolved,
    target: &Path,
    json: bool,
) -> Result<ExitCode> {
    if json {
        print_json(&Told::of(manifest, resolved))?;
    } else {
        print(&format!(
            "{}: nothing to do; {} holds this very build\n{}",
            manifest.name,
            target.display(),
            remote_line(resolved)
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn say_done(
    manifest: &Manifest,
    resolved: &Resolved,
    target: &Path,
    ran: &Ran,
    json: bool,
) -> Result<()> {
    if json {
        return print_json(&Told::of(manifest, resolved));
    }
    let (built, pulled) = (ran.executed.len(), ran.pulled.len());
    let hits = ran.nodes.len() - built - pulled;
    let pulled = match &resolved.remote {
        Some(_) => format!(" {pulled} pulled,"),
        None => String::new(),
    };
    let mut text = format!("{}: {built} nodes built,{pulled} {hits} reused\n", manifest.name);
    text.push_str(&remote_line(resolved));
    if let Some(kubernetes) = &manifest.kubernetes {
        text.push_str(&format!("  Kubernetes {kubernetes}\n"));
    }
    for artifact in &manifest.artifacts {
        text.push_str(&format!(
            "  {}  {}  sha256 {}\n",
            target.join(&artifact.file).display(),
            Bytes(artifact.size),
            artifact.sha256
        ));
    }
    for name in manifest.files.keys() {
        text.push_str(&format!("  {}\n", target.join(name).display()));
    }
    text.push_str(&format!("  {}\n", target.join(crate::output::MANIFEST).display()));
    print(&text)
}

/// The failure, with the place of the logs in its remedy.
fn with_logs(failure: Failure, staging: &Staging) -> Failure {
    let Some(logs) = staging.keep_logs() else { return failure };
    let note = format!("logs: {}", logs.display());
    let help = failure.help().map_or(note.clone(), |help| format!("{help}\n{note}"));
    failure.with_help(help)
}
