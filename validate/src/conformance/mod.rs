//! Node conformance: Kubernetes' own suite, run in the guest from a kit.
//!
//! [`Choice::of`] reads the kit and picks the specs before anything boots. [`Plan::run`] has the guest unpack the
//! kit, which it has as a disk, puts the images into its containerd, and runs the specs in batches. After each
//! batch what came of it is kept, so that a run that was interrupted goes on at the next spec (`resume`). Of a
//! batch that ends without a report the halves are run, down to the spec that ends the suite.

mod batch;
mod guest;
mod kept;
mod said;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nodekiln_kit::{Kit, Selected, Shard, Wanted, suite};
use nodekiln_recipes::recipe::Version;
use nodekiln_words::{Cancel, Failure, Result, ResultExt as _, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub(crate) use self::batch::Ended;
pub(crate) use self::guest::SERIAL;
use self::kept::Kept;
pub(crate) use self::kept::clear;
use crate::Expectations;
use crate::guest::Guest;
use crate::run::Running;

/// Folder of the evidence for what the suite itself left.
pub(crate) const FOLDER: &str = "conformance";
/// Specs that one start of the suite runs: a start takes minutes under emulation, and what a crash of the host
/// loses is one batch.
const BATCH: usize = 32;

/// How often a suite that cannot set itself up is started: its API server ends each request after a minute, also the
/// first one for the nodes, which is little under emulation.
const SETUPS: u32 = 3;

/// What is asked of a run.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The kit.
    pub kit: PathBuf,
    /// Regular expression that narrows the specs down.
    pub focus: Option<String>,
    /// The part that this guest runs.
    pub shard: Option<Shard>,
    /// How many specs run at once; more than one needs a kit with Ginkgo's own program.
    pub parallel: u32,
    /// Whether to go on where an earlier run with the same image and kit was interrupted.
    pub resume: bool,
}

/// What became of the specs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Conformance {
    /// The version of Kubernetes whose suite it was.
    pub kubernetes: String,
    /// Digest of the kit.
    pub kit: Option<Sha256>,
    /// The expression that narrowed the specs down, where one did.
    pub focus: Option<String>,
    /// The part of the specs that was run, as `1/3`, where it was not all.
    pub shard: Option<String>,
    /// Images of the kit that are not what their names mean upstream, and what they are.
    pub stand_ins: BTreeMap<String, String>,
    /// What became of each spec.
    pub specs: BTreeMap<String, Spec>,
}

/// What became of a spec.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Spec {
    /// The outcome.
    pub outcome: Outcome,
    /// Seconds that it took.
    pub seconds: f64,
    /// What was said of the first attempt, where that failed and another one was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
}

impl Spec {
    /// What came of a first attempt.
    pub(crate) const fn once(outcome: Outcome, seconds: f64) -> Self {
        Self { outcome, seconds, first: None }
    }
}

/// A spec's outcome, with what was said.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "outcome", content = "said")]
pub enum Outcome {
    /// It held.
    Passed,
    /// It did not.
    Failed(String),
    /// It was left out, or it left itself out.
    Skipped(String),
    /// The run ended before it.
    NotRun,
}

/// A kit and the specs to run.
#[derive(Debug)]
pub(crate) struct Choice {
    kit: Kit,
    digest: Sha256,
    selected: Selected,
    asked: Asked,
}

/// The same for an image, with a place for the results.
#[derive(Debug)]
pub(crate) struct Plan {
    choice: Choice,
    image: Sha256,
    folder: PathBuf,
}

impl Choice {
    /// Reads the kit that is `asked` for, to judge an image that claims `expect`.
    ///
    /// # Errors
    /// When the kit is damaged or of another Kubernetes than the image's, cannot run specs at once, or leaves nothing
    /// to run.
    pub(crate) fn of(asked: &Asked, expect: &Expectations, cancel: &Cancel) -> Result<Self> {
        let kit = Kit::open(&asked.kit)?;
        same_minor(&kit, expect)?;
        if asked.parallel > 1 && !kit.manifest.files.contains_key(suite::RUNNER) {
            let text = format!("the kit has no {}, which runs specs at once", suite::RUNNER);
            return Err(Failure::input(text)
                .with_help("make the kit anew with `nodekiln kit`, or leave out `--parallel`"));
        }
        let wanted = Wanted { focus: asked.focus.clone(), shard: asked.shard };
        let selected = kit.manifest.select(&wanted)?;
        let digest = kit.verify(cancel)?;
        let reading = || format!("read the kit {}", kit.path.display());
        let path = fs_err::canonicalize(&kit.path).or_io(reading)?; // QEMU may run elsewhere
        let kit = Kit { path, ..kit };
        Ok(Self { kit, digest, selected, asked: asked.clone() })
    }

    /// The plan to judge `image`, with evidence in `out`.
    ///
    /// # Errors
    /// When the results that are to be gone on with are of another image or kit, or not readable.
    pub(crate) fn on(self, image: Sha256, out: &Path) -> Result<Plan> {
        let plan = Plan { choice: self, image, folder: out.join(FOLDER) };
        plan.kept(plan.choice.asked.resume).map(|_| plan)
    }
}

impl Plan {
    fn kept(&self, resume: bool) -> Result<Kept> {
        Kept::open(&self.folder, self.image, self.choice.digest, resume)
    }

    /// The kit's file, which the guest is given as a disk.
    pub(crate) fn disk(&self) -> &Path {
        &self.choice.kit.path
    }

    /// Runs the specs in `guest`; what became of them is in `found` also when this fails.
    ///
    /// # Errors
    /// When the guest dies, the run is cancelled or the suite cannot be set up; or a result cannot be kept.
    pub(crate) fn run(
        &self,
        guest: &Guest,
        running: &Running,
        found: &mut Conformance,
    ) -> std::result::Result<(), Ended> {
        *found = self.nothing_yet();
        let Choice { kit, selected, .. } = &self.choice;
        // What of an earlier run does not count is gone since `on`; a guest that was started over goes on.
        let mut kept = self.kept(true).map_err(Ended::Host)?;
        for (spec, result) in kept.specs() {
            if let Some(place) = found.specs.get_mut(spec) {
                *place = result.clone(); // 1. what an earlier run has found
            }
        }
        let left = selected.run.iter().filter(|spec| !kept.specs().contains_key(*spec));
        let left: Vec<String> = left.cloned().collect();
        if left.is_empty() && failed_once(found).is_empty() {
            return Ok(());
        }
        let deadline = running.deadlines().command();
        let node = guest::prepare(guest, &kit.manifest, deadline)?; // 2. unpack, import
        let parallel = self.choice.asked.parallel;
        let suite = batch::Suite { guest, running, node: &node, folder: &self.folder, parallel };
        let (progress, total) = (running.progress(), selected.run.len());
        let task = progress.start("node conformance", Some(total as u64), "specs");
        let left_over = |left: usize| progress.advance(task, total.saturating_sub(left) as u64);
        let mut results = Results { kept: &mut kept, found, firsts: BTreeMap::new() };
        let ran = batches(&suite, &left, &mut results, &left_over) // 3. run
            .and_then(|()| again(&suite, &mut results)); // 4. once more what failed
        match &ran {
            Ok(()) => progress.finish(task, &format!("{total} specs")),
            Err(_) => progress.fail(task),
        }
        ran
    }

    /// Every spec of the run before any has run.
    pub(crate) fn nothing_yet(&self) -> Conformance {
        let Choice { kit, digest, selected, asked } = &self.choice;
        let spec = |outcome| Spec::once(outcome, 0.0);
        let run = selected.run.iter().map(|name| (name.clone(), spec(Outcome::NotRun)));
        let skipped = selected.skipped.iter();
        let skipped =
            skipped.map(|one| (one.spec.clone(), spec(Outcome::Skipped(one.reason.clone()))));
        let images = kit.manifest.images.iter();
        let stand_ins =
            images.filter_map(|(name, image)| Some((name.clone(), image.stand_in.clone()?)));
        Conformance {
            kubernetes: kit.manifest.kubernetes.to_string(),
            kit: Some(*digest),
            focus: asked.focus.clone(),
            shard: asked.shard.map(|shard| shard.to_string()),
            stand_ins: stand_ins.collect(),
            specs: run.chain(skipped).collect(),
        }
    }
}

/// Where results go.
struct Results<'a> {
    kept: &'a mut Kept,
    found: &'a mut Conformance,
    /// What was said of the first attempt, by spec, while another one is made.
    firsts: BTreeMap<String, String>,
}

impl Results<'_> {
    /// Adds what came of a batch.
    fn add(&mut self, mut results: BTreeMap<String, Spec>) -> std::result::Result<(), Ended> {
        for (name, spec) in &mut results {
            spec.first = self.firsts.get(name).cloned();
        }
        self.kept.add(&results).map_err(Ended::Host)?;
        self.found.specs.extend(results);
        Ok(())
    }
}

/// What was said of the specs that have failed at their only attempt so far.
fn failed_once(found: &Conformance) -> BTreeMap<String, String> {
    let failed = found.specs.iter().filter(|(_, spec)| spec.first.is_none());
    failed
        .filter_map(|(name, spec)| match &spec.outcome {
            Outcome::Failed(said) => Some((name.clone(), said.clone())),
            _ => None,
        })
        .collect()
}

/// Runs once more what has failed at its first attempt, one spec after the other: many of the suite's specs give what they
/// wait for a fixed time, which a loaded machine does not keep. Upstream's own jobs for nodes run with
/// `--flakeAttempts=2`. Both attempts are in the report.
fn again(suite: &batch::Suite, results: &mut Results) -> std::result::Result<(), Ended> {
    results.firsts = failed_once(results.found);
    let failed: Vec<String> = results.firsts.keys().cloned().collect();
    if failed.is_empty() {
        return Ok(());
    }
    let suite = batch::Suite { parallel: 1, ..*suite };
    let progress = suite.running.progress();
    let task = progress.start("what failed, once more", Some(failed.len() as u64), "specs");
    let left_over = |left: usize| {
        progress.advance(task, failed.len().saturating_sub(left) as u64);
    };
    let ran = batches(&suite, &failed, results, &left_over);
    match &ran {
        Ok(()) => progress.finish(task, &format!("{} specs", failed.len())),
        Err(_) => progress.fail(task),
    }
    ran
}

/// Runs the specs that are `left` in batches, and keeps what comes of each; `told` is now and then how many are left over.
fn batches(
    suite: &batch::Suite,
    left: &[String],
    results: &mut Results,
    told: &dyn Fn(usize),
) -> std::result::Result<(), Ended> {
    let mut unready = 0;
    let mut batches: Vec<Vec<String>> = left.chunks(BATCH).rev().map(<[String]>::to_vec).collect();
    while let Some(specs) = batches.pop() {
        let left = specs.len() + batches.iter().map(Vec::len).sum::<usize>();
        match suite.run(&specs, &|ended| told(left.saturating_sub(ended)))? {
            batch::End::Reported(reported) => {
                unready = 0;
                let left: Vec<String> =
                    specs.iter().filter(|spec| !reported.contains_key(*spec)).cloned().collect();
                if !left.is_empty() {
                    batches.push(left); // its time was over, or a process of several ended
                }
                results.add(reported)?;
            }
            batch::End::Unready(failure) => {
                unready += 1;
                if unready == SETUPS {
                    return Err(failure.into());
                }
                batches.push(specs);
            }
            batch::End::Died(why) => {
                unready = 0;
                match specs.as_slice() {
                    [spec] => {
                        let failed = Spec::once(Outcome::Failed(why), 0.0);
                        results.add(BTreeMap::from([(spec.clone(), failed)]))?;
                    }
                    _ => {
                        let (first, second) = specs.split_at(specs.len() / 2);
                        batches.push(second.to_vec());
                        batches.push(first.to_vec());
                    }
                }
            }
        }
    }
    Ok(())
}

/// The suite starts the image's kubelet with the flags of its own minor version, which another may not know.
fn same_minor(kit: &Kit, expect: &Expectations) -> Result<()> {
    let minor = |version: Version| (version.major, version.minor);
    let own = kit.manifest.kubernetes;
    match expect.kubernetes {
        Some(image) if minor(image) != minor(own) => {
            let text = format!("the kit is of Kubernetes {own}, the image of {image}");
            Err(Failure::input(text).with_help(
                "suite and kubelet must be of one minor version: make a kit of the image's",
            ))
        }
        _ => Ok(()),
    }
}

impl Conformance {
    /// The specs with their outcomes for which `wanted` holds.
    fn specs_that(&self, wanted: impl Fn(&Outcome) -> bool) -> Vec<&str> {
        let specs = self.specs.iter().filter(|(_, spec)| wanted(&spec.outcome));
        specs.map(|(name, _)| name.as_str()).collect()
    }

    /// Specs that failed.
    #[must_use]
    pub fn failed(&self) -> Vec<&str> {
        self.specs_that(|outcome| matches!(outcome, Outcome::Failed(_)))
    }

    /// Specs that were to run and did not.
    #[must_use]
    pub fn not_run(&self) -> Vec<&str> {
        self.specs_that(|outcome| *outcome == Outcome::NotRun)
    }

    /// Specs that passed.
    #[must_use]
    pub fn passed(&self) -> Vec<&str> {
        self.specs_that(|outcome| *outcome == Outcome::Passed)
    }

    /// Specs that passed at their second attempt.
    #[must_use]
    pub fn passed_again(&self) -> Vec<&str> {
        let again = |spec: &Spec| spec.outcome == Outcome::Passed && spec.first.is_some();
        let specs = self.specs.iter().filter(|(_, spec)| again(spec));
        specs.map(|(name, _)| name.as_str()).collect()
    }

    /// Specs that were left out or left themselves out.
    #[must_use]
    pub fn skipped(&self) -> Vec<&str> {
        self.specs_that(|outcome| matches!(outcome, Outcome::Skipped(_)))
    }
}

#[cfg(test)]
mod tests;
