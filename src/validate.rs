//! `nodekiln validate`: boot an image and judge it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nodekiln_validate as room;
use nodekiln_words::{Event, Failure, Progress, Result, Sha256};

use crate::Context;
use crate::arguments::{Accelerator, Firmware, Tier, Validate};
use crate::exit::{self, print};
use crate::output::{ForOne, MANIFEST, Manifest};
use crate::progress::renderer;

/// Validates one image file; the exit code is 1 where a rule failed.
pub(crate) fn validate(verb: &Validate, context: &Context) -> Result<ExitCode> {
    if !verb.image.is_file() {
        return Err(Failure::input(format!("there is no image file {}", verb.image.display()))
            .with_help("`nodekiln build RECIPE` prints where it puts its artifacts"));
    }
    let progress = renderer(context.global.progress);
    let folder = verb.image.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or_else(|| Path::new("."));
    let manifest = manifest(verb, folder, &*progress)?; // 1. what the image says of itself
    let of_image = manifest.as_ref().and_then(|manifest| of_image(manifest, &verb.image));
    let request = room::Request {
        image: verb.image.clone(),
        tier: match verb.tier {
            Tier::Boot => room::Tier::Boot,
            Tier::Kubeadm => room::Tier::Kubeadm,
        },
        machine: machine(verb, of_image.as_ref())?,
        accelerator: match verb.accelerator {
            Accelerator::Auto => room::Accelerator::Auto,
            Accelerator::Kvm => room::Accelerator::Kvm,
            Accelerator::Tcg => room::Accelerator::Tcg,
        },
        expected_digest: manifest.as_ref().and_then(|manifest| digest(manifest, &verb.image)),
        expect: manifest.map(|manifest| manifest.expect),
        out: verb.out.clone().unwrap_or_else(|| folder.join("evidence")),
        patience: verb.patience,
        kernel: None,
    };
    let report = room::validate(&request, &*progress, &context.cancel)?; // 2. boot, judge, keep evidence
    if verb.json {
        print(&report.json())?;
    } else {
        print(&report.text())?;
        print(&format!("evidence: {}\n", request.out.display()))?;
    }
    match report.result() {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(failure) => Ok(exit::report(&failure, &context.global)),
    }
}

/// What the manifest says of the artifact with this name, or of its only one where the name is another.
fn of_image(manifest: &Manifest, image: &Path) -> Option<ForOne> {
    let name = image.file_name()?.to_str()?;
    let named = manifest.artifacts.iter().find(|artifact| artifact.file == name);
    let artifact = named.or(manifest.artifacts.first())?;
    manifest.providers.get(&artifact.provider).cloned()
}

/// The machine to boot on: that of the image's provider, else a plain virtio one, as the command line
/// sizes it.
fn machine(verb: &Validate, of_image: Option<&ForOne>) -> Result<room::Machine> {
    let virtio = room::MachineProfile::virtio;
    let profile = of_image.map_or_else(virtio, |one| one.machine.clone());
    let usual = profile.firmware.first().copied().unwrap_or(room::Firmware::Bios);
    let firmware = match verb.firmware {
        Some(Firmware::Bios) => room::Firmware::Bios,
        Some(Firmware::Uefi) => room::Firmware::Uefi,
        None => usual,
    };
    if !profile.firmware.contains(&firmware) {
        let message =
            format!("no machine of the image's provider starts it by {}", firmware.as_str());
        let help = format!("leave out `--firmware`, or say `--firmware {}`", usual.as_str());
        return Err(Failure::input(message).with_help(help));
    }
    let machine = room::Machine::default();
    Ok(room::Machine { profile, firmware, memory: verb.memory, cpus: verb.cpus, ..machine })
}

/// The digest that the manifest gives for the file with this name, if it speaks of one.
fn digest(manifest: &Manifest, image: &Path) -> Option<Sha256> {
    let name = image.file_name()?.to_str()?;
    let artifact = manifest.artifacts.iter().find(|artifact| artifact.file == name)?;
    Some(artifact.sha256)
}

/// The manifest that speaks of the image: the one named, or the one beside it.
fn manifest(verb: &Validate, folder: &Path, progress: &dyn Progress) -> Result<Option<Manifest>> {
    let path: PathBuf = verb.manifest.clone().unwrap_or_else(|| folder.join(MANIFEST));
    let manifest = match Manifest::read(&path) {
        Ok(None) if verb.manifest.is_some() => {
            return Err(Failure::input(format!("there is no {}", path.display())));
        }
        // Another program's file of that name, beside an image that is not ours.
        Err(failure) if verb.manifest.is_none() => {
            let text = format!("{failure}; the image is judged without it");
            progress.event(Event::Warning(text));
            None
        }
        read => read?,
    };
    // A manifest speaks of its own artifacts; an image that merely lies beside one is not judged by it.
    let name = verb.image.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let named =
        |manifest: &Manifest| manifest.artifacts.iter().any(|artifact| artifact.file == name);
    Ok(manifest.filter(|manifest| verb.manifest.is_some() || named(manifest)))
}
