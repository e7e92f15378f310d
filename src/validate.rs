//! `nodekiln validate`: boot an image and judge it.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nodekiln_validate as room;
use nodekiln_words::{Failure, Result, ResultExt as _};

use crate::Context;
use crate::arguments::{Accelerator, Firmware, Tier, Validate};
use crate::exit::print;
use crate::output::{MANIFEST, Manifest};
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
    let manifest = manifest(verb, folder)?; // 1. what the image says of itself
    let request = room::Request {
        image: verb.image.clone(),
        tier: match verb.tier {
            Tier::Boot => room::Tier::Boot,
            Tier::Kubeadm => room::Tier::Kubeadm,
        },
        machine: machine(verb),
        accelerator: match verb.accelerator {
            Accelerator::Auto => room::Accelerator::Auto,
            Accelerator::Kvm => room::Accelerator::Kvm,
            Accelerator::Tcg => room::Accelerator::Tcg,
        },
        expect: manifest.map(|manifest| manifest.expect).unwrap_or_default(),
        out: verb.out.clone().unwrap_or_else(|| folder.join("evidence")),
        patience: verb.patience,
        kernel: None,
    };
    let report = room::validate(&request, &*progress, &context.cancel)?; // 2. boot and judge
    write_reports(&report, &request.out)?; // 3. evidence for people and for machines
    if verb.json {
        print(&report.json())?;
    } else {
        print(&report.text())?;
        print(&format!("evidence: {}\n", request.out.display()))?;
    }
    Ok(if report.passed() { ExitCode::SUCCESS } else { ExitCode::from(1) })
}

/// The machine to boot on: the plain virtio one of the providers in the tree, as the command line
/// sizes it.
fn machine(verb: &Validate) -> room::Machine {
    let firmware = match verb.firmware {
        Firmware::Bios => room::Firmware::Bios,
        Firmware::Uefi => room::Firmware::Uefi,
    };
    room::Machine { firmware, memory: verb.memory, cpus: verb.cpus, ..room::Machine::default() }
}

/// Writes the report in each of its forms.
fn write_reports(report: &room::Report, folder: &Path) -> Result<()> {
    let files = [
        ("report.json", report.json()),
        ("junit.xml", report.junit()),
        ("report.txt", report.text()),
    ];
    for (name, text) in files {
        let path = folder.join(name);
        fs_err::write(&path, text).or_io(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The manifest that speaks of the image: the one named, or the one beside it.
fn manifest(verb: &Validate, folder: &Path) -> Result<Option<Manifest>> {
    let path: PathBuf = verb.manifest.clone().unwrap_or_else(|| folder.join(MANIFEST));
    let manifest = Manifest::read(&path)?;
    if verb.manifest.is_some() && manifest.is_none() {
        return Err(Failure::input(format!("there is no {}", path.display())));
    }
    // A manifest speaks of its own artifacts; an image that merely lies beside one is not judged by it.
    let name = verb.image.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let named =
        |manifest: &Manifest| manifest.artifacts.iter().any(|artifact| artifact.file == name);
    Ok(manifest.filter(|manifest| verb.manifest.is_some() || named(manifest)))
}
