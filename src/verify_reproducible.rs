//! `nodekiln verify-reproducible`: builds a recipe twice under different circumstances and compares.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

use nodekiln_build::layer::{Memory, mount_memory, private_mounts};
use nodekiln_build::reproduce::{Comparison, Condition, Conditions, Same, compare};
use nodekiln_build::sandbox::OtherClock;
use nodekiln_build::store::{CACHE_VARIABLE, ScratchDir, Store};
use nodekiln_recipes::Lock;
use nodekiln_recipes::plan::Node;
use nodekiln_words::{Cancel, Class, Event, Failure, Progress, Result, ResultExt as _};
use rustix::process::{Pid, Signal};
use serde::Serialize;

use crate::Context;
use crate::arguments::{self, ProgressStyle, Vary};
use crate::exit::{print, print_json};
use crate::output::{MANIFEST, Manifest};
use crate::progress::renderer;
use crate::resolve::{Resolved, resolve};

/// How often to look whether a build has ended.
const PAUSE: Duration = Duration::from_millis(50);

/// Builds twice and tells where the two differ. Exit code 1 where they do.
pub(crate) fn verify_reproducible(
    verb: &arguments::VerifyReproducible,
    context: &Context,
) -> Result<ExitCode> {
    let varied = varied(&verb.vary);
    private_mounts()?;
    let progress = renderer(context.global.progress);
    let resolved = resolve(&verb.target, None, context, &progress)?; // 1. one lock for both
    let place = resolved.store.scratch_dir("verify-reproducible")?;
    let lock = place.path().join("lock.yaml");
    crate::lock::write(&lock, &resolved.loaded.recipe, resolved.resolution.lock.clone())?;
    refuse_unvaried_clock(&verb.vary, &resolved.resolution.lock)?; // 2. what can differ here
    let conditions = Conditions::of(&varied, place.path(), &resolved.resolution.lock)?;
    let nodes: Vec<&Node> = resolved.plan.nodes.iter().collect();
    resolved.resolution.fetch(&nodes, &resolved.fetcher)?; // 3. all that enters, for both
    let check = Check { verb, context, resolved: &resolved, place: &place, lock: &lock };
    let first = check.side("first", false)?;
    progress.event(Event::Note("the first build, in an empty store".to_owned()));
    let manifest = check.build(&first, &Conditions::default())?; // 4. once as it is
    let other_file_system = conditions.varied.contains(&Condition::FileSystem);
    let second = check.side("second", other_file_system)?;
    progress.event(Event::Note(format!(
        "the second build, in an empty store: {}",
        listed(&conditions.varied, &conditions.same)
    )));
    let again = check.build(&second, &conditions)?; // 5. once otherwise
    let comparison = check.compare(&first, &second, &conditions, &progress)?; // 6. where they differ
    tell(&manifest, &again, conditions, comparison, verb.json)
}

/// The circumstances named, each once.
fn varied(named: &[Vary]) -> Vec<Condition> {
    let conditions = named.iter().flat_map(|vary| match vary {
        Vary::All => Condition::ALL.to_vec(),
        Vary::None => Vec::new(),
        Vary::Cores => vec![Condition::Cores],
        Vary::Environment => vec![Condition::Environment],
        Vary::Hostname => vec![Condition::Hostname],
        Vary::Umask => vec![Condition::Umask],
        Vary::FileSystem => vec![Condition::FileSystem],
        Vary::Clock => vec![Condition::Clock],
    });
    conditions.collect::<BTreeSet<_>>().into_iter().collect()
}

/// Who names the clock wants it varied; within `all` it is enough to say that it was not, and why.
fn refuse_unvaried_clock(named: &[Vary], lock: &Lock) -> Result<()> {
    if !named.contains(&Vary::Clock) {
        return Ok(());
    }
    let fitting = OtherClock::ahead().and_then(|clock| clock.fits(lock));
    fitting.map_err(|failure| failure.context("the clock cannot be varied"))
}

/// What both builds have in common.
struct Check<'a> {
    verb: &'a arguments::VerifyReproducible,
    context: &'a Context,
    resolved: &'a Resolved,
    place: &'a ScratchDir,
    lock: &'a Path,
}

/// Where one of the builds has its store and its output.
struct Side {
    cache: PathBuf,
    out: PathBuf,
    _memory: Option<Memory>,
}

impl Check<'_> {
    /// A store with what was fetched and none of the results, on a file system of its own if asked.
    fn side(&self, name: &str, memory: bool) -> Result<Side> {
        let folder = self.place.path().join(name);
        let cannot = || format!("cannot make a store for the {name} build");
        fs_err::create_dir(&folder).or_io(cannot)?;
        let memory = memory.then(|| mount_memory(&folder)).transpose()?;
        let side = Side { cache: folder.join("cache"), out: folder.join("out"), _memory: memory };
        let store = Store::open(&side.cache)?;
        let nodes: Vec<&Node> = self.resolved.plan.nodes.iter().collect();
        for digest in self.resolved.resolution.inputs(&nodes) {
            self.context.cancel.check()?;
            store
                .put_file(&self.resolved.store.blob_path(&digest)?)
                .map_err(|failure| failure.context(cannot()))?;
        }
        Ok(side)
    }

    fn build(&self, side: &Side, conditions: &Conditions) -> Result<Manifest> {
        let selection = &self.verb.target.selection;
        let program = std::env::current_exe().or_io(|| "cannot find this program".to_owned())?;
        let mut command = Command::new(program);
        command.arg("build").arg(&selection.recipe).arg("--lock").arg(self.lock).arg("--offline");
        command.arg("--provider").arg(self.resolved.providers.join(","));
        command.arg("--out").arg(&side.out).env(CACHE_VARIABLE, &side.cache);
        command.args(selection.sets.iter().flat_map(|set| ["--set", set]));
        command.args(selection.mirror.iter().flat_map(|mirror| ["--mirror", mirror]));
        let style = match self.context.global.progress {
            ProgressStyle::Auto => "plain", // two bars in one place would be hard to read
            style => style.word(),
        };
        command.args(conditions.clock.iter().map(|_| "--other-clock"));
        command.args(["--end-with-parent", "--progress", style]);
        command.stdout(std::process::Stdio::null());
        // Both are to be made here, whatever this shell names for other builds.
        command.env_remove(arguments::REMOTE_VARIABLE);
        let mut build = conditions.otherwise(&mut command, |command| {
            command.spawn().or_io(|| "cannot start a build".to_owned())
        })?;
        let ended = waited(&mut build, &self.context.cancel)?;
        self.context.cancel.check()?;
        if !ended.success() {
            let message = format!("a build failed: {ended}");
            return Err(Failure::new(class_of(ended), message).with_help(
                "what it said stands above; a build in memory takes some GiB of it, which `--vary` can \
                 leave out",
            ));
        }
        let path = side.out.join(&self.resolved.loaded.recipe.name).join(MANIFEST);
        Manifest::read(&path)?.ok_or_else(|| Failure::io("a build left no manifest"))
    }

    fn compare(
        &self,
        first: &Side,
        second: &Side,
        conditions: &Conditions,
        progress: &Arc<dyn Progress>,
    ) -> Result<Comparison> {
        let open = |side: &Side| Store::open_with(&side.cache, Arc::clone(progress));
        let (first, second) = (open(first)?, open(second)?);
        compare(&self.resolved.plan, &first, &second, conditions, &self.context.cancel)
    }
}

/// What a build's exit code says. 1 would mean that two builds differ, which nobody can tell here.
fn class_of(ended: ExitStatus) -> Class {
    match ended.code() {
        Some(2) => Class::Input,
        Some(3) => Class::Unsupported,
        Some(4) => Class::Missing,
        Some(130) => Class::Interrupted,
        _ => Class::Io,
    }
}

/// Waits for a build to end, and asks it to stop when somebody asks this program to.
fn waited(build: &mut Child, cancel: &Cancel) -> Result<ExitStatus> {
    let mut asked = false;
    loop {
        let ended = build.try_wait().or_io(|| "cannot wait for a build".to_owned())?;
        if let Some(status) = ended {
            return Ok(status);
        }
        if cancel.is_cancelled() && !asked {
            // On Ctrl-C the terminal has told it already; once more does no harm.
            rustix::process::kill_process(Pid::from_child(build), Signal::TERM).ok();
            asked = true;
        }
        std::thread::sleep(PAUSE);
    }
}

/// What is told as JSON.
#[derive(Serialize)]
struct Told {
    reproducible: bool,
    varied: Vec<Condition>,
    /// What was to differ and did not, with the reason.
    same: Vec<Same>,
    /// Digest of each artifact in the first and in the second build, by file name.
    artifacts: Vec<ToldArtifact>,
    #[serde(flatten)]
    comparison: Comparison,
}

#[derive(Serialize)]
struct ToldArtifact {
    file: String,
    first: String,
    second: String,
}

fn tell(
    first: &Manifest,
    second: &Manifest,
    conditions: Conditions,
    comparison: Comparison,
    json: bool,
) -> Result<ExitCode> {
    let pairs = first.artifacts.iter().zip(&second.artifacts);
    let artifacts: Vec<ToldArtifact> = pairs
        .map(|(one, other)| ToldArtifact {
            file: one.file.clone(),
            first: one.sha256.to_string(),
            second: other.sha256.to_string(),
        })
        .collect();
    let equal = artifacts.iter().all(|artifact| artifact.first == artifact.second);
    let reproducible = equal && comparison.differences.is_empty() && first.files == second.files;
    let code = if reproducible { ExitCode::SUCCESS } else { ExitCode::from(1) };
    let Conditions { varied, same, .. } = conditions;
    let told = Told { reproducible, varied, same, artifacts, comparison };
    if json {
        print_json(&told)?;
    } else {
        print(&text(&told))?;
    }
    Ok(code)
}

/// What differs, and what does not although it was to.
fn listed(varied: &[Condition], same: &[Same]) -> String {
    let words: Vec<&str> = varied.iter().map(|condition| condition.word()).collect();
    let varied = if words.is_empty() { "nothing".to_owned() } else { words.join(", ") };
    let same = same.iter().map(|Same { condition, why }| format!("; {condition}: same ({why})"));
    format!("varied: {varied}{}", same.collect::<String>())
}

fn text(told: &Told) -> String {
    let mut text = String::new();
    for difference in &told.comparison.differences {
        text.push_str(&format!("{difference}\n"));
    }
    if told.comparison.untold > 0 {
        text.push_str(&format!("and {} more paths\n", told.comparison.untold));
    }
    if !told.comparison.consequences.is_empty() {
        let nodes = told.comparison.consequences.join(", ");
        text.push_str(&format!("different in consequence: {nodes}\n"));
    }
    for ToldArtifact { file, first, second } in &told.artifacts {
        match first == second {
            true => text.push_str(&format!("{file}  sha256 {first}, both times\n")),
            false => text.push_str(&format!("{file}  sha256 {first}, then {second}\n")),
        }
    }
    let verdict = match told.reproducible {
        true => "reproducible",
        false => "NOT reproducible",
    };
    let nodes = told.comparison.nodes;
    let listed = listed(&told.varied, &told.same);
    text.push_str(&format!("{verdict}: {nodes} nodes compared; {listed}\n"));
    text
}
