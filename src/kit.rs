//! `nodekiln kit`: the suite for node conformance, its images and its specs in one file.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use nodekiln_build::graph::{Ran, Run, run_graph};
use nodekiln_build::layer::private_mounts;
use nodekiln_build::oci::read;
use nodekiln_build::resolve::{Keep, Resolution, resolve_conformance};
use nodekiln_build::sandbox::Sandbox;
use nodekiln_build::steps::conformance_suite::{self, SPECS, Suite};
use nodekiln_kit::{
    Draft, Image, Kit, Manifest, Origin, SCHEMA, Selected, Source, Wanted, images, release, suite,
};
use nodekiln_recipes::plan::Node;
use nodekiln_recipes::recipe::Version;
use nodekiln_recipes::{CONFORMANCE_IMAGES, CONFORMANCE_SUITE, Plan, conformance_plan_of};
use nodekiln_words::{
    Bytes, Class, Event, Failure, Progress, Result, ResultExt as _, Sha256, SourceDate,
};
use serde::Serialize;
use tempfile::TempDir;

use crate::Context;
use crate::arguments;
use crate::exit::{print, print_json};
use crate::inspect::scratch;
use crate::lock;
use crate::progress::renderer;
use crate::resolve::Setting;

/// Path of the suite in every kit.
const SUITE: &str = "bin/e2e_node.test";
/// What unfinished kits are called by.
const PREFIX: &str = ".nodekiln-kit-";
/// Time of a kit whose parts come from no recipe: 1980-01-01, the earliest that every format can tell.
const EARLIEST: u64 = 315_532_800;

/// Makes a kit, or lists one's specs.
pub(crate) fn kit(verb: &arguments::kit::Kit, context: &Context) -> Result<ExitCode> {
    if verb.list {
        return list(verb);
    }
    private_mounts()?;
    let progress = renderer(context.global.progress);
    let folder = tempfile::Builder::new().prefix(PREFIX).tempdir_in(scratch());
    let folder = folder.or_io(|| "make a folder for the parts of the kit".to_owned())?;
    let parts = match &verb.suite {
        None => from_source(verb, &folder, context, &progress)?, // 1. the parts
        Some(suite) => from_elsewhere(verb, suite, &folder, context, &*progress)?,
    };
    let out = verb.out.clone();
    let out = out.unwrap_or_else(|| format!("node-{}.kit", parts.draft.manifest.kubernetes).into());
    let written = write(parts, &out, context)?; // 2. the file
    say(&written, verb.json)
}

/// What a kit is made of.
struct Parts {
    draft: Draft,
    source_date: SourceDate,
}

/// What was written.
#[derive(Serialize)]
struct Written {
    file: PathBuf,
    size: u64,
    sha256: Sha256,
    kubernetes: Version,
    images: Vec<String>,
    specs: usize,
    run: usize,
    skipped: usize,
}

/// Compiles the suite of the Kubernetes that a recipe builds, and makes its images.
fn from_source(
    verb: &arguments::kit::Kit,
    folder: &TempDir,
    context: &Context,
    progress: &Arc<dyn Progress>,
) -> Result<Parts> {
    if verb.what.parse::<Version>().is_ok() {
        let text = format!("`{}` is a version, and no suite of it is given", verb.what);
        let help = "name the suite with `--suite FILE|FOLDER`, or a recipe that builds Kubernetes";
        return Err(Failure::input(text).with_help(help));
    }
    let selection = verb.selection();
    let setting = Setting::of(&selection, &[], context, progress)?;
    let recipe = &setting.loaded.recipe;
    let locked = lock::existing(&lock::path_of(&selection, recipe), recipe)?;
    let none = BTreeSet::new();
    let keep = locked.as_ref().map(|lock| Keep { lock, but: &none });
    let (sandbox, now) = (Sandbox::new(), crate::cache::now());
    let resolution =
        resolve_conformance(recipe, &setting.fetcher, &setting.store, &sandbox, now, keep)?;
    let version = recipe.kubernetes.as_ref().map(|kubernetes| kubernetes.version);
    let version = version.ok_or_else(|| Failure::input("the recipe has no Kubernetes"))?;
    let needed = images::of(version.minor);
    let references: Vec<String> = needed.iter().map(images::Needed::reference).collect();
    let plan = conformance_plan_of(recipe, &resolution.lock, &references)?;
    let ran = graph(&plan, &resolution, &setting, &sandbox, folder.path(), context, &**progress)?;
    let output = |name: &str| {
        let node = ran.nodes.get(name);
        node.ok_or_else(|| Failure::io(format!("the node `{name}` was not made")))
    };
    let (made_suite, made) = (output(CONFORMANCE_SUITE)?, output(CONFORMANCE_IMAGES)?);
    let text =
        fs_err::read(made_suite.output().join(SPECS)).or_io(|| "read the specs".to_owned())?;
    let specs: Vec<String> = serde_json::from_slice(&text).or_io(|| "read the specs".to_owned())?;
    let mut draft = draft(version, Origin::Source, specs);
    for program in [SUITE, suite::RUNNER] {
        draft.program(program, made_suite.output().join(program));
    }
    add_images(&mut draft, &made.output().join("images"))?;
    let stand_ins = made.record.facts.get("images.stand-ins").map_or("{}", String::as_str);
    let stand_ins: BTreeMap<String, String> =
        serde_json::from_str(stand_ins).or_io(|| "read what the images are".to_owned())?;
    for (reference, what) in stand_ins {
        if let Some(image) = draft.manifest.images.get_mut(&reference) {
            image.stand_in = Some(what);
        }
    }
    draft.manifest.repositories = images::repositories(&needed);
    Ok(Parts { draft, source_date: recipe.source_date })
}

fn graph(
    plan: &Plan,
    resolution: &Resolution,
    setting: &Setting,
    sandbox: &Sandbox,
    folder: &Path,
    context: &Context,
    progress: &dyn Progress,
) -> Result<Ran> {
    let fetch = |nodes: &[&Node]| resolution.fetch(nodes, &setting.fetcher);
    let run = Run {
        store: &setting.store,
        remote: None,
        sandbox,
        fetch: &fetch,
        progress,
        cancel: &context.cancel,
        logs: &folder.join("logs"),
        keep_failed: false,
        shell_on_failure: false,
        jobs: std::thread::available_parallelism().map_or(1, usize::from).min(4),
    };
    run_graph(plan, &[CONFORMANCE_SUITE, CONFORMANCE_IMAGES], &run)
}

/// Takes a suite that was built elsewhere, and asks it for its specs.
fn from_elsewhere(
    verb: &arguments::kit::Kit,
    suite: &Path,
    folder: &TempDir,
    context: &Context,
    progress: &dyn Progress,
) -> Result<Parts> {
    let version = verb.what.parse::<Version>().or_fail(Class::Input, || {
        format!("`{}` is no version of Kubernetes such as 1.31.2", verb.what)
    })?;
    fs_err::metadata(suite)
        .or_fail(Class::Input, || format!("there is no suite {}", suite.display()))?;
    let is_folder = suite.is_dir();
    let programs = if is_folder { suite.join("bin") } else { folder.path().join("bin") };
    if !is_folder {
        let digest = verb.sha512.as_deref().ok_or_else(|| {
            Failure::input(format!("{} is an archive whose digest is not told", suite.display()))
                .with_help("give the `--sha512` that the release's changelog has for it")
        })?;
        fs_err::create_dir(&programs).or_io(|| "make a folder".to_owned())?;
        release::unpack(suite, digest, &programs, &context.cancel)?;
    }
    let source_date = SourceDate::from_unix(EARLIEST);
    let source_date = source_date.ok_or_else(|| Failure::io("1980 is no source date"))?;
    let (scratch, log) = (folder.path().join("tree"), folder.path().join("suite.log"));
    let binary = programs.join("e2e_node.test");
    let asked =
        Suite { binary: &binary, minor: version.minor, scratch: &scratch, log: &log, source_date };
    let specs = conformance_suite::list(&Sandbox::new(), &asked, &context.cancel)?;
    let origin = if is_folder { Origin::Directory } else { Origin::Release };
    let mut draft = draft(version, origin, specs.into_iter().collect());
    for path in files_of(&programs)? {
        if let Some(name) = path.file_name().and_then(|name| name.to_str()) {
            draft.program(&format!("bin/{name}"), path.clone());
        }
    }
    let own = is_folder.then(|| suite.join("images")).filter(|folder| folder.is_dir());
    for archives in own.iter().chain(&verb.images) {
        add_images(&mut draft, archives)?;
    }
    for registry in &verb.registries {
        let parts = registry.split_once('=').ok_or_else(|| {
            Failure::input(format!("`{registry}` is no KEY=REGISTRY of KUBE_TEST_REPO_LIST"))
        })?;
        draft.manifest.repositories.insert(parts.0.to_owned(), parts.1.to_owned());
    }
    warn_of_missing(&draft, progress);
    Ok(Parts { draft, source_date })
}

/// A spec whose image is missing waits minutes for its own deadline and fails.
fn warn_of_missing(draft: &Draft, progress: &dyn Progress) {
    let minor = draft.manifest.kubernetes.minor;
    let needed = images::of(minor);
    if needed.is_empty() {
        let text = format!("which images the suite of 1.{minor} runs is not known: none is missed");
        progress.event(Event::Warning(text));
    }
    for reference in needed.iter().map(images::Needed::reference) {
        if !draft.manifest.images.contains_key(&reference) {
            let text = format!("the kit has no image {reference}: specs that run it will fail");
            progress.event(Event::Warning(text));
        }
    }
}

fn draft(kubernetes: Version, origin: Origin, specs: Vec<String>) -> Draft {
    let manifest = Manifest {
        schema: SCHEMA.to_owned(),
        kubernetes,
        origin,
        suite: SUITE.to_owned(),
        files: BTreeMap::new(),
        images: BTreeMap::new(),
        repositories: BTreeMap::new(),
        specs,
    };
    Draft { manifest, files: BTreeMap::new() }
}

/// Adds the image archives of a folder, by the names that are in them.
fn add_images(draft: &mut Draft, folder: &Path) -> Result<()> {
    for path in files_of(folder)? {
        let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
        if !name.ends_with(".tar") {
            continue;
        }
        let file = format!("images/{name}");
        for image in read::archive(&path, "amd64")? {
            let image_of = Image { file: file.clone(), stand_in: None };
            draft.manifest.images.insert(image.reference.to_string(), image_of);
        }
        draft.files.insert(file, Source { path: path.clone(), program: false });
    }
    Ok(())
}

/// The regular files of a folder, sorted.
fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let reading = || format!("read the folder {}", folder.display());
    let mut files = Vec::new();
    for entry in fs_err::read_dir(folder).or_fail(Class::Input, reading)? {
        let path = entry.or_io(reading)?.path();
        if path.is_file() {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// Writes the kit beside its place and renames it.
fn write(parts: Parts, out: &Path, context: &Context) -> Result<Written> {
    let folder = out.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    let writing = || format!("write the kit {}", out.display());
    let place = tempfile::Builder::new().prefix(PREFIX).tempfile_in(folder).or_io(writing)?;
    let file = place.reopen().or_io(writing)?;
    let mut file = fs_err::File::from_parts(file, place.path());
    let manifest = parts.draft.write(parts.source_date, &mut file, &context.cancel)?;
    file.sync_all().or_io(writing)?;
    let sha256 = Kit::open(place.path())?.verify(&context.cancel)?;
    let size = file.metadata().or_io(writing)?.len();
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs_err::set_permissions(place.path(), readable).or_io(writing)?;
    place.persist(out).map_err(|error| -> io::Error { error.error }).or_io(writing)?;
    let Selected { run, skipped } = manifest.select(&Wanted::default())?;
    Ok(Written {
        file: out.to_owned(),
        size,
        sha256,
        kubernetes: manifest.kubernetes,
        images: manifest.images.into_keys().collect(),
        specs: manifest.specs.len(),
        run: run.len(),
        skipped: skipped.len(),
    })
}

fn say(written: &Written, json: bool) -> Result<ExitCode> {
    if json {
        print_json(written)?;
        return Ok(ExitCode::SUCCESS);
    }
    let Written { file, size, sha256, kubernetes, images, specs, run, skipped } = written;
    print(&format!(
        "{}  {}  sha256 {sha256}\n  Kubernetes {kubernetes}: {specs} specs; a run takes {run} and leaves \
         {skipped} out\n  {} images: {}\n",
        file.display(),
        Bytes(*size),
        images.len(),
        images.join(", ")
    ))?;
    Ok(ExitCode::SUCCESS)
}

/// What `--list --json` prints.
#[derive(Serialize)]
struct Listed {
    run: Vec<String>,
    skipped: BTreeMap<String, String>,
}

fn list(verb: &arguments::kit::Kit) -> Result<ExitCode> {
    let kit = Kit::open(verb.what.as_ref())?;
    let wanted = Wanted { focus: verb.focus.clone(), shard: None };
    let Selected { run, skipped } = kit.manifest.select(&wanted)?;
    if verb.json {
        let skipped = skipped.into_iter().map(|one| (one.spec, one.reason)).collect();
        print_json(&Listed { run, skipped })?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for spec in &run {
        let _ = writeln!(text, "{spec}");
    }
    for skipped in &skipped {
        let _ = writeln!(text, "skipped: {}: {}", skipped.spec, skipped.reason);
    }
    let _ = writeln!(text, "{} specs to run, {} left out", run.len(), skipped.len());
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}
