//! Drives one guest from power on to power off and asks the rules in between.

mod ask;
mod stages;

use std::path::{Path, PathBuf};

use self::ask::Answers;
use nodekiln_words::{Cancel, Class, Event, Failure, Progress, Result, ResultExt as _};

use crate::accelerator::Chosen;
use crate::artifact::{Artifact, Opened};
use crate::checks::Context;
use crate::console::Finding;
use crate::deadlines::Deadlines;
use crate::deadlines::Stage;
use crate::guest::Guest;
use crate::guest::Life as _;
use crate::keys::Keys;
use crate::metadata::Emulation;
use crate::provisioning::{self, Part, Provisioning};
use crate::qemu::{Disks, arguments};
use crate::report::{Excerpt, Judged, Metadata};
use crate::run::{Boot, Broken, Cause, Lap, Running};
use crate::seed::KubeadmPlan;
use crate::{Request, Tier, evidence, program};

/// What one boot has shown.
#[derive(Default)]
pub(crate) struct Outlook {
    pub(crate) laps: Vec<Lap>,
    pub(crate) rules: Vec<Judged>,
    pub(crate) cause: Option<Cause>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) logs: Vec<Excerpt>,
    pub(crate) metadata: Option<Metadata>,
}

pub(crate) fn drive(
    request: &Request,
    subject: &Subject,
    plan: Option<&KubeadmPlan>,
    chosen: &Chosen,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> std::result::Result<Outlook, Broken> {
    let keys = Keys::generate()?;
    let given = Provisioning::draw(request, subject.artifact, subject.part, &keys, plan)?;
    let emulation = given.serve(&request.out)?;
    let drive = Drive { request, subject, plan, chosen, keys, given, progress, cancel };
    let outlook = match &emulation {
        None => drive.run(None),
        // QEMU's network, and so the port that leads to the guest, is that of the services.
        Some(emulation) => emulation.inside(|| drive.run(Some(emulation)))?,
    };
    let written = match &emulation {
        None => Ok(()),
        Some(emulation) => emulation.server().journal().finish(),
    };
    with_log(outlook, written, progress)
}

/// What was seen, told how the log of requests was `written`: what became of the guest holds whether that is whole or
/// not.
fn with_log(
    outlook: std::result::Result<Outlook, Broken>,
    written: Result<()>,
    progress: &dyn Progress,
) -> std::result::Result<Outlook, Broken> {
    let mut outlook = outlook?;
    if let Err(failure) = written {
        let why = failure.chain().join(": ");
        progress.event(Event::Warning(why.clone()));
        if let Some(metadata) = &mut outlook.metadata {
            metadata.incomplete = Some(why);
        }
    }
    Ok(outlook)
}

/// What is known of an image that is not booted: why the rules on a running guest are not judged.
pub(crate) fn not_booted(tier: Tier) -> Outlook {
    Outlook { rules: ask::not_booted(tier), ..Outlook::default() }
}

/// What is booted.
pub(crate) struct Subject<'a> {
    pub(crate) artifact: &'a Artifact,
    pub(crate) opened: &'a Opened,
    pub(crate) part: Part,
}

/// One boot.
struct Drive<'a> {
    request: &'a Request,
    subject: &'a Subject<'a>,
    plan: Option<&'a KubeadmPlan>,
    chosen: &'a Chosen,
    keys: Keys,
    given: Provisioning,
    progress: &'a dyn Progress,
    cancel: &'a Cancel,
}

impl Drive<'_> {
    fn run(&self, emulation: Option<&Emulation>) -> std::result::Result<Outlook, Broken> {
        let Self { request, chosen, .. } = self;
        // The overlay grows by gigabytes, so it lies in the output folder; a socket's path must be
        // shorter than 108 bytes, so it lies where temporary files do.
        let big = evidence::scratch(&request.out)?;
        let small = tempfile::tempdir().or_io(|| "make a folder for sockets".into())?;
        let disks = self.disks(big.path())?; // 5. overlay, seed and medium
        let boot = Boot {
            machine: &request.machine,
            chosen,
            deadlines: Deadlines::new(chosen.engine, request.patience),
            scratch: small.path(),
            out: &request.out,
            services: emulation.is_some(),
            kernel: request.kernel.as_ref(),
            progress: self.progress,
            cancel: self.cancel,
        };
        let running = Running::power_on(&boot, &disks).map_err(|failure| Broken {
            engine: failure.class() == Class::Unsupported, // QEMU ended at once
            failure,
        })?; // 6. boot
        forget(&disks);
        self.watch(&running, emulation)
    }

    /// Waits for the guest, has the rules asked, powers it off. A fault of what it runs on is looked for
    /// after each of these, since it looks like one of the guest.
    fn watch(
        &self,
        running: &Running,
        emulation: Option<&Emulation>,
    ) -> std::result::Result<Outlook, Broken> {
        let Self { request, plan, .. } = self;
        let mut answers = Answers::default();
        let mut meanwhile = |guest: &Guest| answers.fetch(guest, running, request.tier);
        let reached = stages::reach(running, &self.keys, *plan, &mut meanwhile); // 7. wait
        cancelled(&reached.failure)?;
        running.host()?;
        let mut cause =
            reached.failure.as_ref().map(|(stage, failure)| running.cause(Some(*stage), failure));
        let (expect, findings) = (request.claims(), running.findings());
        let observed = provisioning::observed(emulation);
        let context = Context {
            expect: &expect,
            claimed: request.expect.is_some(),
            tier: request.tier,
            told: &self.given.told,
            observed: observed.as_ref(),
            console: &findings,
        };
        let mut rules = match &reached.guest {
            Some(guest) => {
                let cluster = reached.cluster();
                let ask = |_| ask::ask_all(guest, &context, running, cluster, &mut answers);
                running.stage(Stage::Rules, ask)? // 8. the rules
            }
            None => ask::unreachable(&context),
        };
        running.host()?;
        let failed = cause.is_some() || rules.iter().any(|rule| !ask::fine(rule));
        let logs = match &reached.guest {
            Some(guest) if failed && running.check().is_ok() => {
                ask::fetch_logs(guest, &request.out, running)?
            }
            _ => Vec::new(),
        };
        if reached.guest.is_some() {
            let ended = end(running)?; // 9. power off
            running.host()?;
            let late = |failure| running.cause(Some(Stage::PowerOff), &failure);
            cause = cause.or_else(|| ended.map(late));
        }
        let (findings, observed) = (running.findings(), provisioning::observed(emulation));
        let last = Context { console: &findings, observed: observed.as_ref(), ..context };
        ask::judge_again(&mut rules, &last)?;
        let metadata = emulation.map(Metadata::of);
        Ok(Outlook { laps: running.laps(), rules, cause, findings, logs, metadata })
    }

    fn disks(&self, folder: &Path) -> Result<Disks> {
        let place = |name: &str| folder.join(name);
        let overlay = place(evidence::OVERLAY_DISK);
        self.subject.opened.overlay(&overlay)?;
        let attach = |bytes: &Option<Vec<u8>>, name: &str| {
            let Some(bytes) = bytes else { return Ok(None) };
            let medium = place(name);
            fs_err::write(&medium, bytes).or_io(|| "write what the guest is told".into())?;
            Ok::<_, Failure>(Some(medium))
        };
        let seed = attach(&self.given.seed, evidence::SEED)?;
        let cd = attach(&self.given.cd, evidence::MEDIUM)?;
        let own = || uefi(place(evidence::VARIABLES));
        let uefi = arguments::needs_ovmf(&self.request.machine).then(own).transpose()?;
        Ok(Disks { overlay, seed, cd, uefi })
    }
}

/// Powers a guest off that had come up; what went wrong is a finding about the guest. One that had
/// not is ended without being asked.
fn end(running: &Running) -> Result<Option<Failure>> {
    if let Err(failure) = running.check() {
        return if failure.class() == Class::Interrupted {
            Err(failure)
        } else {
            Ok(Some(failure))
        };
    }
    match running.power_off() {
        Err(failure) if failure.class() == Class::Interrupted => Err(failure),
        result => Ok(result.err()),
    }
}

fn cancelled(failure: &Option<(Stage, Failure)>) -> Result<()> {
    match failure {
        Some((_, failure)) if failure.class() == Class::Interrupted => Err(Failure::interrupted()),
        _ => Ok(()),
    }
}

fn uefi(variables: PathBuf) -> Result<(PathBuf, PathBuf)> {
    let (code, template) = program::ovmf()?;
    fs_err::copy(&template, &variables).or_io(|| "copy the UEFI variable store".into())?;
    Ok((code, variables))
}

/// QEMU has the files open; without names nothing is left of them even after a kill -9. Seed and medium
/// hold this run's keys besides.
fn forget(disks: &Disks) {
    let Disks { overlay, seed, cd, uefi } = disks;
    let variables = uefi.as_ref().map(|(_, own)| own);
    for file in [Some(overlay), seed.as_ref(), cd.as_ref(), variables].into_iter().flatten() {
        let _ = fs_err::remove_file(file);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use nodekiln_words::Silent;

    use super::*;

    #[test]
    fn a_log_that_is_not_whole_hides_nothing_of_the_guest() {
        let full = || Err(Failure::io("cannot write the log of requests"));
        let died = Broken { failure: Failure::io("QEMU died"), engine: true };
        let broken = with_log(Err(died), full(), &Silent).err().unwrap();
        assert!(broken.engine && broken.failure.to_string() == "QEMU died", "{broken:?}");
        let seen = |written| {
            let metadata = Metadata {
                cloud: "aws".to_owned(),
                log: PathBuf::new(),
                requests: BTreeMap::new(),
                incomplete: None,
            };
            let outlook = Outlook { metadata: Some(metadata), ..Outlook::default() };
            with_log(Ok(outlook), written, &Silent).ok().unwrap().metadata.unwrap().incomplete
        };
        assert_eq!(seen(full()).as_deref(), Some("cannot write the log of requests"));
        assert_eq!(seen(Ok(())), None);
    }
}
