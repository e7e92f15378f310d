//! Boots the very bytes that will ship and judges what came up.
//!
//! [`validate`] is the story: the artifact is identified, digested, booted on a throw-away overlay
//! with a NoCloud seed, asked by the rules in `checks`, powered off and digested again. This room
//! may read an artifact and never writes to one; it knows disks and recipes, not how images are
//! built.

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod accelerator;
pub mod artifact;
pub mod checks;
pub mod console;
pub mod deadlines;
mod drive;
pub mod expect;
pub mod guest;
pub mod keys;
pub mod machine;
mod program;
pub mod qemu;
pub mod report;
pub mod run;
pub mod seed;

use std::path::PathBuf;

use nodekiln_words::{Cancel, Failure, Progress, Result, ResultExt as _};
use serde::{Deserialize, Serialize};

pub use accelerator::Accelerator;
pub use expect::Expectations;
pub use machine::{Firmware, Machine};
pub use report::Report;

use accelerator::{Chosen, Engine};
use artifact::Artifact;
use deadlines::Stage;
use drive::Outlook;
use qemu::arguments::DirectKernel;
use seed::KubeadmPlan;

/// How far a validation goes. Each tier judges the rules of those before it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// The machine boots to its normal state.
    Boot,
    /// `kubeadm init` makes a working one-node cluster of it, with no network.
    Kubeadm,
}

impl Tier {
    /// The name that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Boot => "boot",
            Self::Kubeadm => "kubeadm",
        }
    }
}

/// What to validate, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The artifact: raw or qcow2. It is only read.
    pub image: PathBuf,
    /// How far to go.
    pub tier: Tier,
    /// The machine to boot it on.
    pub machine: Machine,
    /// What the image claims about itself.
    pub expect: Expectations,
    /// Folder that receives the console and, on failure, the guest's logs and its screen. The
    /// overlay lives here too while the guest runs: some GiB.
    pub out: PathBuf,
    /// What runs the guest's processors.
    pub accelerator: Accelerator,
    /// Every deadline is taken this many times; 1 is normal, more suits a busy host.
    pub patience: u32,
    /// A kernel that replaces the image's boot loader: for experiments, never for evidence.
    pub kernel: Option<DirectKernel>,
}

/// Validates an artifact. The report says whether it passed ([`Report::result`]).
///
/// # Errors
/// When there is no report to make: the file is no disk image or is damaged, a program is missing,
/// the artifact changed meanwhile, or the run was cancelled. A guest that does not boot is no such
/// error: the report tells of it.
pub fn validate(request: &Request, progress: &dyn Progress, cancel: &Cancel) -> Result<Report> {
    let artifact = artifact::identify(&request.image, cancel)?; // 1. is it an image at all?
    let plan = kubeadm_plan(request)?;
    fs_err::create_dir_all(&request.out).or_io(|| "make the output folder".into())?;
    let before = artifact.digest(progress, cancel)?; // 2. what exactly is judged
    let chosen = accelerator::choose(request.accelerator, cancel)?; // 3. KVM or emulation
    progress.event(nodekiln_words::Event::Note(format!(
        "QEMU {} with {}: {}",
        chosen.qemu,
        chosen.engine.as_str(),
        chosen.why
    )));
    let (chosen, outlook) = boot(request, &artifact, plan.as_ref(), chosen, progress, cancel)?; // 4. to 8.
    cancel.check()?;
    let after = artifact.digest(progress, cancel)?; // 9. and it is still the same
    artifact::unchanged(&artifact.path, before, after)?;
    Ok(Report {
        image: request.image.clone(),
        sha256: after,
        tier: request.tier,
        firmware: request.machine.firmware,
        accelerator: chosen,
        timeline: outlook.laps,
        rules: outlook.rules,
        cause: outlook.cause,
        findings: outlook.findings,
        logs: outlook.logs,
        console: run::console_path(&request.out),
        fidelity: fidelity(request),
    }) // 10. the report
}

/// What the run cannot prove; a kernel that was not started from the disk comes first.
fn fidelity(request: &Request) -> Vec<String> {
    let mut list = report::fidelity(request.tier);
    if request.kernel.is_some() {
        list.insert(0, "the boot loader: a kernel from outside the image was started".into());
    }
    list
}

fn kubeadm_plan(request: &Request) -> Result<Option<KubeadmPlan>> {
    if request.tier < Tier::Kubeadm {
        return Ok(None);
    }
    let plan = KubeadmPlan::of(&request.expect).ok_or_else(|| {
        let text = format!(
            "the kubeadm tier needs to know the Kubernetes version of {}",
            request.image.display()
        );
        Failure::input(text).with_help(
            "give the manifest.json that the build left beside the image, or use the tier boot",
        )
    })?;
    Ok(Some(plan))
}

/// Boots once; where KVM was chosen and the kernel did not come up, a second time under emulation,
/// since a nested host may run a probe and hang a kernel.
fn boot(
    request: &Request,
    artifact: &Artifact,
    plan: Option<&KubeadmPlan>,
    chosen: Chosen,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(Chosen, Outlook)> {
    let outlook = drive::drive(request, artifact, plan, &chosen, progress, cancel)?;
    let doubtful = request.accelerator == Accelerator::Auto && chosen.engine == Engine::Kvm;
    let early = outlook.cause.as_ref().and_then(|cause| cause.stage);
    if !doubtful || !matches!(early, Some(Stage::Firmware | Stage::Kernel)) {
        return Ok((chosen, outlook));
    }
    let chosen = chosen
        .emulated("under KVM the kernel did not come up, although a probe guest answered".into());
    progress
        .event(nodekiln_words::Event::Warning(format!("{}; starting over with tcg", chosen.why)));
    let outlook = drive::drive(request, artifact, plan, &chosen, progress, cancel)?;
    Ok((chosen, outlook))
}
