//! `nodekiln validate`: judge an image as it lies there, boot it and judge it again.

mod hosts;
mod own_rules;
mod subject;

use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::SystemTime;

use nodekiln_kit::Shard;
use nodekiln_validate::conformance::Asked;
use nodekiln_validate::metadata::namespace;
use nodekiln_validate::own_rules::{Day, OwnRules};
use nodekiln_validate::report::{self, Kept};
use nodekiln_validate::rules::{self, Record, Rule};
use nodekiln_validate::{self as room, Way, provisioning};
use nodekiln_words::{Class, Event, Failure, Progress, Result, ResultExt as _};

use self::subject::{Subject, subjects};
use crate::Context;
use crate::arguments::{Accelerator, Firmware, Tier, Validate};
use crate::exit::{self, print, print_json};
use crate::inspect::scratch;
use crate::output::EVIDENCE;
use crate::progress::renderer;
use crate::registry;
use crate::report::write;

/// Validates one artifact or several; the exit code is 1 where a rule failed.
pub(crate) fn validate(verb: &Validate, context: &Context) -> Result<ExitCode> {
    if !verb.hosts.host.is_empty() {
        return hosts::validate(verb, context);
    }
    let progress = renderer(context.global.progress);
    let Some(named) = &verb.image else { return list_rules(verb, &*progress) };
    let subjects = subjects(named, verb, &*progress)?; // 1. which files, and what is said of them
    let machines = subjects.iter().map(|subject| machine(verb, subject, &*progress, context));
    let machines = machines.collect::<Result<Vec<_>>>()?; // 2. where they are booted
    own_network(verb, &machines, &*progress)?;
    let own = own_rules::read(&verb.own, &*progress)?; // 3. what is judged besides nodekiln's own rules
    let today = Day::of(SystemTime::now())?;
    let several = subjects.len() > 1;
    let asked = conformance(verb)?;
    // Without a boot there is little to keep: the report is what is printed.
    let folder = || tempfile::Builder::new().prefix(".nodekiln-validate-").tempdir_in(scratch());
    let unkept = (!tier(verb).boots() && verb.out.is_none()).then(folder);
    let unkept = unkept.transpose().or_io(|| "make a folder for the report".into())?;
    let (mut kept, mut lost) = (Vec::new(), Vec::new());
    let whole = verb.out.clone().or_else(|| Some(subjects.first()?.folder.join(EVIDENCE)));
    for (subject, machine) in subjects.into_iter().zip(machines) {
        let out = match (&verb.out, &unkept) {
            (_, Some(unkept)) => unkept.path().to_owned(),
            (Some(out), None) if several => out.join(subject.provider.as_deref().unwrap_or("none")),
            (Some(out), None) => out.clone(),
            (None, None) => subject.evidence(),
        };
        let request = request(verb, subject, machine, out, &own, today, asked.clone());
        match room::validate(&request, &*progress, &context.cancel) {
            Ok(report) => {
                let one = Kept { folder: request.out, report }; // 4. judge, keep evidence
                if several && !verb.json {
                    print(&report::overview(std::slice::from_ref(&one)))?;
                }
                kept.push(one);
            }
            // One that cannot be judged keeps none of the others from it.
            Err(failure) if several && failure.class() != Class::Interrupted => {
                let failure = failure.context(request.image.display().to_string());
                progress.event(Event::Warning(failure.chain().join(": ")));
                lost.push(failure);
            }
            Err(failure) => return Err(failure),
        }
    }
    if let Some(folder) = whole.filter(|_| several && unkept.is_none() && !kept.is_empty()) {
        write(&folder.join("report.html"), &report::page(&kept))?; // 5. all of them on one page
        write(&folder.join("summary.md"), &report::summary(&kept))?;
        write(&folder.join("junit.xml"), &report::junit(&kept))?;
    }
    if !kept.is_empty() {
        tell(verb, &kept, unkept.is_none())?;
    }
    let failures = kept.iter().filter_map(|kept| kept.report.result().err());
    let worst = failures.chain(lost).min_by_key(|failure| failure.class() != Class::Verdict); // a "no" before a "not here"
    Ok(worst.map_or(ExitCode::SUCCESS, |failure| exit::report(&failure, &context.global)))
}

/// Prints what was found.
fn tell(verb: &Validate, kept: &[Kept], evidence: bool) -> Result<()> {
    match (kept, verb.json) {
        ([one], true) => return print(&one.report.json()),
        (all, true) => {
            return print_json(&all.iter().map(|kept| &kept.report).collect::<Vec<_>>());
        }
        ([one], false) => print(&one.report.text())?,
        (all, false) => {
            for kept in all.iter().filter(|kept| !kept.report.passed()) {
                print(&format!("\n{}", kept.report.text()))?;
            }
        }
    }
    for kept in kept.iter().filter(|_| evidence) {
        print(&format!("evidence: {}\n", kept.folder.display()))?;
    }
    Ok(())
}

/// Makes this process one that may have a network of its own, where a guest's cloud needs one.
fn own_network(verb: &Validate, machines: &[room::Machine], progress: &dyn Progress) -> Result<()> {
    let needs =
        |machine: &room::Machine| provisioning::needs_namespace(&machine.profile, way(verb));
    if !tier(verb).boots() || !machines.iter().any(needs) || namespace::privileged() {
        return Ok(());
    }
    let arguments = std::env::args_os().skip(1);
    let Err(failure) = namespace::own_user_namespace(arguments); // comes back here as root
    if failure.class() != Class::Unsupported {
        return Err(provisioning::no_network(failure));
    }
    // The rules before a boot need none; what needs it fails with the remedy.
    progress.event(Event::Note(format!("no user namespace for a boot: {failure}")));
    Ok(())
}

fn tier(verb: &Validate) -> room::Tier {
    chosen(verb).unwrap_or(room::Tier::Boot)
}

/// The tier that was named.
fn chosen(verb: &Validate) -> Option<room::Tier> {
    verb.tier.map(|tier| match tier {
        Tier::Static => room::Tier::Static,
        Tier::Boot => room::Tier::Boot,
        Tier::Kubeadm => room::Tier::Kubeadm,
        Tier::Conformance => room::Tier::Conformance,
    })
}

fn way(verb: &Validate) -> Way {
    if verb.config_drive { Way::ConfigDrive } else { Way::Usual }
}

fn request(
    verb: &Validate,
    subject: Subject,
    machine: room::Machine,
    out: PathBuf,
    own: &OwnRules,
    today: Day,
    asked: Option<Asked>,
) -> room::Request {
    room::Request {
        provider: subject.provider.clone(),
        tier: tier(verb),
        machine,
        way: way(verb),
        accelerator: match verb.accelerator {
            Accelerator::Auto => room::Accelerator::Auto,
            Accelerator::Kvm => room::Accelerator::Kvm,
            Accelerator::Tcg => room::Accelerator::Tcg,
        },
        expected_digest: subject.artifact().map(|artifact| artifact.sha256),
        expected_payload: subject.payload(),
        out,
        digests: verb.digests,
        image: subject.image,
        recipe: subject.manifest.as_ref().map(|manifest| manifest.name.clone()),
        expect: subject.manifest.map(|manifest| manifest.expect),
        quick: verb.quick,
        patience: verb.patience,
        conformance: asked,
        own: own.clone(),
        today,
        kernel: None,
    }
}

/// The kit and the specs, where the tier needs them.
fn conformance(verb: &Validate) -> Result<Option<Asked>> {
    let Some(kit) = &verb.kit else { return Ok(None) };
    if tier(verb) != room::Tier::Conformance {
        return Err(Failure::input("`--kit` is of the conformance tier")
            .with_help("add `--tier conformance`, or leave out the kit"));
    }
    let shard = verb.shards.map(|shards| Shard::new(verb.shard, shards)).transpose()?;
    let (kit, focus) = (kit.clone(), verb.focus.clone());
    let (parallel, resume) = (verb.parallel, verb.resume);
    Ok(Some(Asked { kit, focus, shard, parallel, resume }))
}

/// Prints every rule, the user's last.
fn list_rules(verb: &Validate, progress: &dyn Progress) -> Result<ExitCode> {
    let own = own_rules::read(&verb.own, progress)?;
    let records = rules::all().map(Rule::record).chain(own.records().cloned());
    let records: Vec<Record> = records.collect();
    if verb.json {
        print_json(&records)?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for Record { id, title, tier, severity, applies, .. } in &records {
        let _ = writeln!(
            text,
            "{:<11} {:<9} {id:<24} {title} ({applies})",
            tier.as_str(),
            severity.as_str()
        );
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The machine to boot on: that of the image's provider, as its manifest has it, else a plain virtio one, as
/// the command line sizes it.
fn machine(
    verb: &Validate,
    subject: &Subject,
    progress: &dyn Progress,
    context: &Context,
) -> Result<room::Machine> {
    let profile = match (subject.of_provider(), &subject.provider) {
        (Some(one), _) => one.machine.clone(),
        (None, Some(name)) => registry::by_name(name, progress, &context.cancel)?.machine(),
        (None, None) => room::MachineProfile::virtio(),
    };
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
