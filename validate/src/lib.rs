//! Boots the very bytes that will ship and judges what came up.
//!
//! [`validate`] is the story: the artifact is identified, digested, judged as it lies there by the rules
//! in `at_rest`, booted on a throw-away overlay in a network where its cloud's metadata service answers,
//! asked by the rules in `checks`, powered off and digested again, and the report is kept as evidence. This
//! room may read an artifact and never writes to one; it knows disks and recipes, not how images are built.

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod accelerator;
mod api_server;
pub mod artifact;
pub mod at_rest;
pub mod boot_times;
pub mod checks;
pub mod conformance;
pub mod console;
pub mod deadlines;
mod digest;
mod drive;
pub mod ds_identify;
mod evidence;
pub mod expect;
pub mod guest;
pub mod inspect;
pub mod keys;
pub mod machine;
pub mod metadata;
pub mod own_rules;
pub mod place;
pub mod power_on;
mod printable;
mod program;
pub mod provisioning;
pub mod qemu;
pub mod remote;
pub mod report;
pub mod rules;
pub mod run;
mod screen;
pub mod seed;
pub mod ssh;
pub mod traffic;
pub mod tree;

use std::path::PathBuf;

use nodekiln_words::{Bytes, Cancel, Class, Event, Failure, Progress, Result, Sha256};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use accelerator::Accelerator;
pub use expect::Expectations;
pub use machine::Machine;
pub use nodekiln_providers::{Firmware, MachineProfile};
pub use program::mortal;
pub use provisioning::Way;
pub use report::Report;

use accelerator::{Chosen, Engine};
use artifact::Opened;
use at_rest::Judgement;
use deadlines::Stage;
use drive::{Outlook, Subject};
use evidence::Evidence;
use metadata::Cloud;
use own_rules::{Day, OwnRules, Scope, Waivers};
use provisioning::Part;
use qemu::arguments::DirectKernel;
use report::Judged;
use run::Broken;
use seed::KubeadmPlan;

/// How far a validation goes. Each tier judges the rules of those before it too.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tier {
    /// The image as it lies in its file; nothing is booted.
    Static,
    /// The machine boots to its normal state.
    Boot,
    /// `kubeadm init` makes a working one-node cluster of it, with no network.
    Kubeadm,
    /// Kubernetes' own suite for nodes, from a kit, with no network; no cluster is made of it besides.
    Conformance,
}

impl Tier {
    /// Every tier, in the order in which they build on each other.
    pub const ALL: [Self; 4] = [Self::Static, Self::Boot, Self::Kubeadm, Self::Conformance];

    /// The name that reports use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::Boot => "boot",
            Self::Kubeadm => "kubeadm",
            Self::Conformance => "conformance",
        }
    }

    /// What it judges, as a sentence.
    #[must_use]
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Static => "The image as it lies in its file: no boot, no root, no emulator.",
            Self::Boot => "The machine that was booted from it, as its cloud boots it.",
            Self::Kubeadm => "The cluster that `kubeadm init` made of it, with no network.",
            Self::Conformance => "The node, by Kubernetes' own suite from a kit, with no network.",
        }
    }

    /// Whether a run of this tier judges the rules of `tier`.
    #[must_use]
    pub const fn judges(self, tier: Self) -> bool {
        match self {
            Self::Static => matches!(tier, Self::Static),
            Self::Boot => matches!(tier, Self::Static | Self::Boot),
            Self::Kubeadm => !matches!(tier, Self::Conformance),
            Self::Conformance => !matches!(tier, Self::Kubeadm),
        }
    }

    /// Whether it boots the image.
    #[must_use]
    pub const fn boots(self) -> bool {
        !matches!(self, Self::Static)
    }

    /// Whether it makes a cluster.
    #[must_use]
    pub const fn clusters(self) -> bool {
        matches!(self, Self::Kubeadm)
    }
}

/// What to validate, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The artifact: raw, qcow2, fixed VHD, VMDK, OVA or `.tar.gz`. It is only read.
    pub image: PathBuf,
    /// Name of the image's provider, where it is known, for the report.
    pub provider: Option<String>,
    /// How far to go.
    pub tier: Tier,
    /// The machine to boot it on; by its datasource goes whose metadata the guest is given.
    pub machine: Machine,
    /// How the guest is given them.
    pub way: Way,
    /// What the image claims about itself; `None` where no manifest was read.
    pub expect: Option<Expectations>,
    /// SHA-256 that the manifest gives for this file; another file is refused.
    pub expected_digest: Option<Sha256>,
    /// SHA-256 that the manifest gives for the bytes of the disk inside.
    pub expected_payload: Option<Sha256>,
    /// Folder that receives the reports, the console and, on failure, the guest's logs and its screen.
    /// The overlay lives here too while the guest runs: some GiB. What an earlier run left is removed.
    pub out: PathBuf,
    /// Whether the static tier digests the file and the disk inside and reads every byte of them, which takes as
    /// long as reading them; a tier that boots does so in any case.
    pub digests: bool,
    /// What runs the guest's processors.
    pub accelerator: Accelerator,
    /// Whether the image is powered on once and no more: no power cut, and no second machine beside the first.
    pub quick: bool,
    /// Every deadline is taken this many times; 1 is normal, more suits a busy host.
    pub patience: u32,
    /// Rules and waivers of the user's.
    pub own: OwnRules,
    /// Name of the image's recipe, where it is known, for waivers that name one.
    pub recipe: Option<String>,
    /// The day of the run, by which waivers hold or not.
    pub today: Day,
    /// The kit and the specs of the conformance tier, which needs them.
    pub conformance: Option<conformance::Asked>,
    /// A kernel that replaces the image's boot loader: for experiments, never for evidence.
    pub kernel: Option<DirectKernel>,
}

impl Request {
    /// A request with the usual settings: the usual machine, told in the usual way, by the fastest accelerator, in full;
    /// nothing is claimed or expected, and no rules are added. `today` is the day by which waivers hold.
    #[must_use]
    pub fn new(image: PathBuf, tier: Tier, out: PathBuf, today: Day) -> Self {
        Self {
            image,
            provider: None,
            tier,
            machine: Machine::default(),
            way: Way::Usual,
            expect: None,
            expected_digest: None,
            expected_payload: None,
            out,
            digests: false,
            accelerator: Accelerator::Auto,
            quick: false,
            patience: 1,
            own: OwnRules::default(),
            recipe: None,
            today,
            conformance: None,
            kernel: None,
        }
    }

    /// Whether it goes on with the specs of an earlier run.
    fn resumes(&self) -> bool {
        self.tier == Tier::Conformance
            && self.conformance.as_ref().is_some_and(|asked| asked.resume)
    }

    /// The claims, or none.
    fn claims(&self) -> Expectations {
        self.expect.clone().unwrap_or_default()
    }
}

/// Validates an artifact. The report says whether it passed ([`Report::result`]); it is returned, and
/// kept in the request's folder as `report.txt`, `junit.xml` and `report.json`.
///
/// # Errors
/// When there is no report to make: the file is no disk image, is damaged or is not the manifest's, a
/// program is missing, another run has the folder, QEMU or the host failed, the artifact changed
/// meanwhile, or the run was cancelled. A guest that does not boot is no such error: the report tells
/// of it.
pub fn validate(request: &Request, progress: &dyn Progress, cancel: &Cancel) -> Result<Report> {
    let artifact = artifact::identify(&request.image)?; // 1. is it an image at all?
    request.own.bounded(request.today)?;
    let part = part(request)?;
    if request.tier.clusters() {
        large_enough(&request.machine)?;
        request.expect.as_ref().map_or(Ok(()), |claims| with_kubernetes(request, claims))?;
    }
    let choice = choice(request, cancel)?;
    let evidence = Evidence::open(&request.out, request.resumes())?;
    let digests = request.tier.boots() || request.digests;
    let digest = || digests.then(|| artifact.digest(progress, cancel)).transpose();
    let before = digest()?; // 2. what exactly is judged
    artifact::meant(&artifact.path, request.expected_digest, before)?;
    let on = |(choice, before): (conformance::Choice, _)| choice.on(before, &request.out);
    let specs = choice.zip(before).map(on).transpose()?;
    let opened = artifact.open(&request.out, progress, cancel)?; // 3. the disk inside
    let judgement = at_rest(request, &opened, before, progress, cancel)?; // 4. what its bytes tell
    let Judgement { mut rules, mut obstacles, told } = judgement;
    let expect = request.expect.clone().unwrap_or_else(|| match request.tier.clusters() {
        true => told, // nobody claims anything: the image itself has to tell which cluster it is for
        false => Expectations::default(),
    });
    let scope = Scope {
        provider: request.provider.as_deref(),
        image: request.recipe.as_deref(),
        today: request.today,
    };
    let waivers = Waivers { list: request.own.waivers(), scope };
    let forbids =
        |judged: &Judged| judged.rule.stops_boot && judged.failed() && !waivers.let_pass(judged);
    let forbidden = rules.iter().any(forbids);
    let (chosen, outlook) = match part.filter(|_| request.tier.boots()) {
        None => {
            obstacles.clear(); // nothing was to be booted
            (None, Outlook::default())
        }
        Some(part) if !forbidden && obstacles.is_empty() => {
            let specs = specs.as_ref();
            let expect = &expect;
            let plan = kubeadm_plan(request, expect, part.cloud)?;
            let subject = Subject { artifact: &artifact, opened: &opened, part, specs, expect };
            let (chosen, outlook) = boot(request, &subject, plan.as_ref(), progress, cancel)?; // 5. to 9.
            (Some(chosen), outlook)
        }
        Some(_) => (None, drive::not_booted(request)),
    };
    cancel.check()?;
    let after = digest()?; // 10. and it is still the same
    artifact::unchanged(&artifact.path, before, after)?;
    own_rules::add(&mut rules, outlook.rules);
    let waivers = waivers.apply(&mut rules); // 11. what may fail for a time
    let report = Report {
        schema: report::SCHEMA.to_owned(),
        image: request.image.clone(),
        provider: request.provider.clone(),
        format: opened.image.format().name().to_owned(),
        sha256: after,
        tier: request.tier,
        firmware: request.machine.firmware,
        accelerator: chosen,
        timeline: outlook.laps,
        further: outlook.further,
        boot_times: outlook.boot_times,
        rules,
        waivers,
        obstacles,
        cause: outlook.cause,
        findings: outlook.findings,
        conformance: outlook.conformance,
        metadata: outlook.metadata,
        network: outlook.network,
        logs: outlook.logs,
        console: evidence::CONSOLE.into(),
        fidelity: fidelity(request, part.map(|part| part.cloud)),
        host: None,
    };
    evidence.keep(&report)?; // 12. the report
    Ok(report)
}

/// The part that is played for the guest. Without a guest none needs to be played.
fn part(request: &Request) -> Result<Option<Part>> {
    match Part::of(&request.machine.profile, request.way) {
        Err(failure) if !request.tier.boots() && failure.class() == Class::Unsupported => Ok(None),
        part => part.map(Some),
    }
}

/// Judges the rules on the image as it lies in its file.
fn at_rest(
    request: &Request,
    opened: &Opened,
    file: Option<Sha256>,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Judgement> {
    let found = |claimed| {
        let raw = file.filter(|_| opened.image.format() == nodekiln_disk::Format::Raw);
        let found = match raw {
            Some(file) => file,
            None => opened.image.payload_digest(progress, cancel)?,
        };
        Ok::<_, Failure>(at_rest::Payload { claimed, found })
    };
    let claimed = request.expected_payload.filter(|_| file.is_some());
    let payload = claimed.map(found).transpose()?;
    let Request { machine, way, .. } = request;
    let mut subject = at_rest::Subject::new(&opened.image, machine, *way, payload, cancel)?;
    subject.claims(request.expect.as_ref());
    subject.own_rules(&request.own);
    if request.kernel.is_some() {
        subject.starts_from_outside();
    }
    if file.is_none() {
        subject.skim();
    }
    at_rest::judge(&subject)
}

/// What the run cannot prove; a kernel that was not started from the disk comes first.
fn fidelity(request: &Request, cloud: Option<Cloud>) -> Vec<String> {
    let mut list = match cloud.filter(|_| request.tier.boots()) {
        Some(cloud) => report::fidelity(request.tier, cloud),
        None => vec!["that it boots: the image was judged as it lies in its file".into()],
    };
    if request.tier.boots() && request.quick {
        list.push("a power cut and a second machine: `--quick` left them out".into());
    }
    let beyond = request.own.beyond(request.tier);
    if beyond > 0 {
        let tier = request.tier.as_str();
        list.push(format!("{beyond} of your own rules: judged by a tier above {tier}"));
    }
    if request.kernel.is_some() {
        list.insert(0, "the boot loader: a kernel from outside the image was started".into());
    }
    list
}

fn kubeadm_plan(
    request: &Request,
    expect: &Expectations,
    cloud: Cloud,
) -> Result<Option<KubeadmPlan>> {
    if !request.tier.clusters() {
        return Ok(None);
    }
    with_kubernetes(request, expect)?;
    KubeadmPlan::of(expect, cloud)
}

/// Refuses an image for the kubeadm tier of which nothing tells the version of Kubernetes.
fn with_kubernetes(request: &Request, expect: &Expectations) -> Result<()> {
    if expect.kubernetes.is_some() {
        return Ok(());
    }
    let image = request.image.display();
    Err(Failure::input(format!(
        "the kubeadm tier needs to know the Kubernetes version of {image}"
    ))
    .with_help(
        "neither a manifest.json nor the image's files tell of kubelet and kubeadm: use the tier boot",
    ))
}

/// The kit and the specs of a run of the conformance tier.
fn choice(request: &Request, cancel: &Cancel) -> Result<Option<conformance::Choice>> {
    if request.tier != Tier::Conformance {
        return Ok(None);
    }
    let asked = request.conformance.as_ref().ok_or_else(|| {
        Failure::input("the conformance tier needs a kit")
            .with_help("make one with `nodekiln kit`, and give it: `--kit FILE`")
    })?;
    conformance::Choice::of(asked, &request.claims(), cancel).map(Some)
}

/// kubeadm's preflight refuses a machine with fewer processors.
const KUBEADM_CPUS: u32 = 2;
/// kubeadm's preflight refuses less than 1700 MB, of which kernel and firmware take their part first.
const KUBEADM_MEMORY: Bytes = Bytes(2 * Bytes::GIB);

/// Refuses a machine on which `kubeadm init` cannot succeed, whatever the image is like.
fn large_enough(machine: &Machine) -> Result<()> {
    if machine.cpus >= KUBEADM_CPUS && machine.memory >= KUBEADM_MEMORY {
        return Ok(());
    }
    let text = format!(
        "a machine with {} processors and {} of memory is too small for the kubeadm tier",
        machine.cpus, machine.memory
    );
    let help = format!(
        "kubeadm's own preflight asks for 2 processors and 1700 MB: give `--cpus {KUBEADM_CPUS}` and \
         `--memory 2GiB` or more"
    );
    Err(Failure::input(text).with_help(help))
}

/// Boots once; where KVM was chosen and is in doubt afterwards, a second time under emulation, since a
/// nested host may run a probe and hang a kernel, or abort QEMU.
fn boot(
    request: &Request,
    subject: &Subject,
    plan: Option<&KubeadmPlan>,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<(Chosen, Outlook)> {
    let chosen = accelerator::choose(request.accelerator, cancel)?;
    let (qemu, engine) = (&chosen.qemu, chosen.engine.as_str());
    progress.event(Event::Note(format!("QEMU {qemu} with {engine}: {}", chosen.why)));
    let seen = drive::drive(request, subject, plan, &chosen, progress, cancel);
    let replaceable = request.accelerator == Accelerator::Auto && chosen.engine == Engine::Kvm;
    let Some(why) = doubt(&seen).filter(|_| replaceable) else {
        return Ok((chosen, seen.map_err(|broken| broken.failure)?));
    };
    accelerator::distrust_kvm(&why);
    let chosen = chosen.emulated(why);
    progress.event(Event::Warning(format!("{}; starting over with tcg", chosen.why)));
    let outlook = drive::drive(request, subject, plan, &chosen, progress, cancel)
        .map_err(|broken| broken.failure)?;
    Ok((chosen, outlook))
}

/// Why KVM is in doubt after a boot, although a probe guest answered under it; if it is.
fn doubt(seen: &std::result::Result<Outlook, Broken>) -> Option<String> {
    let probed = "although a probe guest answered";
    match seen {
        Err(broken) if broken.engine => {
            Some(format!("under KVM {}, {probed}", broken.failure.chain().join(": ")))
        }
        Err(_) => None,
        Ok(outlook) => {
            let stage = outlook.cause.as_ref()?.stage?;
            matches!(stage, Stage::Firmware | Stage::Kernel)
                .then(|| format!("under KVM the kernel did not come up, {probed}"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::run::Cause;

    fn outlook(stage: Option<Stage>) -> Outlook {
        let cause = stage.map(|stage| Cause {
            stage: Some(stage),
            text: "x".into(),
            console: None,
            tail: vec![],
        });
        Outlook { cause, ..Outlook::default() }
    }

    #[test]
    fn kvm_is_in_doubt_where_no_kernel_came_up_or_qemu_itself_died() {
        let died = Broken { failure: Failure::io("QEMU ended with signal: 6"), engine: true };
        let why = doubt(&Err(died)).unwrap();
        assert!(why.contains("signal: 6") && why.contains("although a probe"), "{why}");
        assert!(doubt(&Ok(outlook(Some(Stage::Kernel)))).is_some());
        assert_eq!(doubt(&Ok(outlook(Some(Stage::Login)))), None);
        assert_eq!(doubt(&Ok(outlook(None))), None);
        let full = Broken { failure: Failure::io("disk full"), engine: false };
        assert_eq!(doubt(&Err(full)), None);
    }

    #[test]
    fn a_machine_that_kubeadm_refuses_is_refused_first() {
        let machine = |cpus, memory| Machine { cpus, memory, ..Machine::default() };
        assert!(large_enough(&machine(2, Bytes(2 * Bytes::GIB))).is_ok());
        for small in [machine(1, Bytes(4 * Bytes::GIB)), machine(4, Bytes(2 * Bytes::GIB - 1))] {
            let failure = large_enough(&small).unwrap_err();
            assert_eq!(failure.class(), Class::Input);
            assert!(failure.help().is_some_and(|help| help.contains("--cpus 2")), "{failure:?}");
        }
    }
}
