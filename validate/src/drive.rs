//! Drives one guest from power on to power off and asks the rules in between.

mod ask;
mod stages;

use std::path::{Path, PathBuf};

use nodekiln_words::{Cancel, Class, Failure, Progress, Result, ResultExt as _};
use uuid::Uuid;

use crate::accelerator::Chosen;
use crate::artifact::Artifact;
use crate::checks::Context;
use crate::console::Finding;
use crate::deadlines::Deadlines;
use crate::guest::Life as _;
use crate::keys::Keys;
use crate::qemu::{Disks, arguments};
use crate::report::{Excerpt, Judged};
use crate::run::{Boot, Broken, Cause, Lap, Running};
use crate::seed::{KubeadmPlan, Seed};
use crate::{Request, evidence, program};

/// The name that the seed gives the node; one that no image has by itself.
pub(crate) const HOSTNAME: &str = "nodekiln-node-1";
/// What the guest's instance id is derived from, so that two reports of one image are equal.
const INSTANCES: Uuid = Uuid::from_u128(0x6e6f_6465_6b69_6c6e_5f76_616c_6964_6174);

/// What one boot has shown.
pub(crate) struct Outlook {
    pub(crate) laps: Vec<Lap>,
    pub(crate) rules: Vec<Judged>,
    pub(crate) cause: Option<Cause>,
    pub(crate) findings: Vec<Finding>,
    pub(crate) logs: Vec<Excerpt>,
}

pub(crate) fn drive(
    request: &Request,
    artifact: &Artifact,
    plan: Option<&KubeadmPlan>,
    chosen: &Chosen,
    progress: &dyn Progress,
    cancel: &Cancel,
) -> std::result::Result<Outlook, Broken> {
    // The overlay grows by gigabytes, so it lies in the output folder; a socket's path must be
    // shorter than 108 bytes, so it lies where temporary files do.
    let big = tempfile::Builder::new().prefix(evidence::OVERLAY).tempdir_in(&request.out);
    let big = big.or_io(|| "make a folder for the overlay".into())?;
    let small = tempfile::tempdir().or_io(|| "make a folder for sockets".into())?;
    let keys = Keys::generate()?;
    let seed = Seed {
        instance: nodekiln_words::derive_uuid(INSTANCES, &artifact.path.to_string_lossy()),
        hostname: HOSTNAME,
        keys: &keys,
        kubeadm: plan,
    };
    let disks = disks(request, artifact, &seed, big.path())?; // 4. overlay and seed
    let boot = Boot {
        machine: &request.machine,
        chosen,
        deadlines: Deadlines::new(chosen.engine, request.patience),
        scratch: small.path(),
        out: &request.out,
        kernel: request.kernel.as_ref(),
        progress,
        cancel,
    };
    let running = Running::power_on(&boot, &disks).map_err(|failure| Broken {
        engine: failure.class() == Class::Unsupported, // QEMU ended at once
        failure,
    })?; // 5. boot
    forget(&disks);
    watch(request, artifact, &running, &keys, plan)
}

/// Waits for the guest, has the rules asked, powers it off. A fault of what it runs on is looked for
/// after each of these, since it looks like one of the guest.
fn watch(
    request: &Request,
    artifact: &Artifact,
    running: &Running,
    keys: &Keys,
    plan: Option<&KubeadmPlan>,
) -> std::result::Result<Outlook, Broken> {
    let reached = stages::reach(running, keys, plan); // 6. wait
    cancelled(&reached.failure)?;
    running.host()?;
    let mut cause =
        reached.failure.as_ref().map(|(stage, failure)| running.cause(Some(*stage), failure));
    let (expect, findings) = (request.claims(), running.findings());
    let context = Context {
        expect: &expect,
        claimed: request.expect.is_some(),
        tier: request.tier,
        hostname: HOSTNAME,
        console: &findings,
        table: &artifact.table,
    };
    let mut rules = match &reached.guest {
        Some(guest) => ask::ask_all(guest, &context, running, reached.cluster())?, // 7. the rules
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
        let ended = end(running)?; // 8. power off
        running.host()?;
        let late = |failure| running.cause(Some(crate::deadlines::Stage::PowerOff), &failure);
        cause = cause.or_else(|| ended.map(late));
    }
    let findings = running.findings();
    ask::judge_again(&mut rules, &Context { console: &findings, ..context })?;
    Ok(Outlook { laps: running.laps(), rules, cause, findings, logs })
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

fn cancelled(failure: &Option<(crate::deadlines::Stage, Failure)>) -> Result<()> {
    match failure {
        Some((_, failure)) if failure.class() == Class::Interrupted => Err(Failure::interrupted()),
        _ => Ok(()),
    }
}

fn disks(request: &Request, artifact: &Artifact, seed: &Seed, folder: &Path) -> Result<Disks> {
    let [overlay, medium, variables] = evidence::OVERLAY_FILES.map(|name| folder.join(name));
    artifact.overlay(&overlay)?;
    fs_err::write(&medium, seed.image()?).or_io(|| "write the seed".into())?;
    let uefi = if arguments::needs_ovmf(&request.machine) { Some(uefi(variables)?) } else { None };
    Ok(Disks { overlay, seed: Some(medium), uefi })
}

fn uefi(variables: PathBuf) -> Result<(PathBuf, PathBuf)> {
    let (code, template) = program::ovmf()?;
    fs_err::copy(&template, &variables).or_io(|| "copy the UEFI variable store".into())?;
    Ok((code, variables))
}

/// QEMU has the files open; without names nothing is left of them even after a kill -9. The seed
/// holds this run's keys besides.
fn forget(disks: &Disks) {
    let own = [Some(&disks.overlay), disks.seed.as_ref(), disks.uefi.as_ref().map(|(_, own)| own)];
    for file in own.into_iter().flatten() {
        let _ = fs_err::remove_file(file);
    }
}
