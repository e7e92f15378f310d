//! `nodekiln build`: from a recipe to artifacts, bill of materials and manifest.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use nodekiln_build::graph::{Ran, Run, needs, run_graph};
use nodekiln_build::layer::private_mounts;
use nodekiln_build::remote::{Moved, Remote, Shared, Traffic};
use nodekiln_build::sandbox::{OtherClock, Sandbox};
use nodekiln_build::store::StoredNode;
use nodekiln_words::{Bytes, Cancel, Failure, Progress, Result};
use serde::Serialize;

use crate::Context;
use crate::arguments;
use crate::emit::{SCHEMA, compression, emit, node_ids, recipe_digest};
use crate::exit::{end_with_parent, print, print_json};
use crate::output::{LOGS, Manifest, Staging, refuse_foreign};
use crate::plan::targets;
use crate::progress::renderer;
use crate::registry::Known;
use crate::resolve::{Access, Resolved, resolve};

/// Builds a recipe.
pub(crate) fn build(verb: &arguments::Build, context: &Context) -> Result<ExitCode> {
    if verb.end_with_parent {
        end_with_parent()?;
    }
    private_mounts()?; // 1. no mount of ours is seen outside, and none outlives us
    let progress = renderer(context.global.progress);
    let remote = Some((&verb.remote, Access::Write));
    let resolved = resolve(&verb.target, remote, context, &progress)?; // 2. recipe, lock, plan
    let name = resolved.loaded.recipe.name.clone();
    let target = verb.out.join(&name);
    let old = Manifest::read(&target.join(crate::output::MANIFEST));
    let old = if verb.force { old.unwrap_or_default() } else { old? };
    if let Some(old) =
        old.as_ref().filter(|old| is_current(old, &resolved, verb, &target, &context.cancel))
    {
        share_stored(&resolved)?; // 3. nothing to do is the usual case
        return say_unchanged(old, &resolved, &target, verb.json);
    }
    context.cancel.check()?; // an artifact that was not read to its end is not known to be another
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
    let logs = staging.folder().join(LOGS);
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

/// Whether the output folder already holds just this build.
fn is_current(
    old: &Manifest,
    resolved: &Resolved,
    verb: &arguments::Build,
    target: &Path,
    cancel: &Cancel,
) -> bool {
    let mut written: Vec<&str> = old.artifacts.iter().map(|a| a.provider.as_str()).collect();
    written.dedup(); // a plugin may write several files
    let by_the_same = |known: &Known| {
        old.providers.get(known.name()).is_some_and(|one| one.plugin == known.plugin())
    };
    old.schema == SCHEMA
        && old.compression == compression(verb.compression)
        && old.nodekiln == env!("CARGO_PKG_VERSION")
        && old.recipe == recipe_digest(resolved)
        && old.nodes == node_ids(resolved)
        && written == resolved.providers
        && resolved.chosen.iter().all(by_the_same)
        && old.stands_in(target, cancel)
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
