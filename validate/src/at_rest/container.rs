//! Rules on the file around the disk and on the disk's own tables.

use nodekiln_disk::{Depth, gpt};
use nodekiln_words::{Bytes, Result};

use super::{Payload, Said, Subject};
use crate::Tier;
use crate::rules::{Applies, Judge, Rule, Severity, Verdict};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "container",
        title: "The file is a sound image of its format",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["the image's file"],
        why: "a cloud's import refuses a damaged file, or reads it in another way than QEMU",
        remedy: "write the image again; for an OVA, `nodekiln convert` writes a manifest that matches",
        source: "the format's own specification; DSP0243 on an OVA's manifest; Azure on whole MiB",
        applies: Applies::ALL,
        stops_boot: true,
        judge: Judge::Image(container),
    },
    Rule {
        id: "payload",
        title: "The disk inside is the one that was built",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["manifest.json", "every byte of the disk"],
        why: "what the file is unpacked to is what will run, and must be the disk that was built",
        remedy: "take the artifact of the same build as the manifest",
        source: "manifest.json, `payload` of the provider",
        applies: Applies::ALL,
        stops_boot: true,
        judge: Judge::Image(payload),
    },
    Rule {
        id: "disk-size",
        title: "The cloud takes a disk of this size",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["the disk's size"],
        why: "clouds round, refuse or cut off disks of other sizes",
        remedy: "give `disk.size` in the recipe a size that the provider accepts: `nodekiln provider show NAME` tells it",
        source: "the provider's machine, `accepts`",
        applies: Applies::ALL,
        stops_boot: true,
        judge: Judge::Image(disk_size),
    },
    Rule {
        id: "partition-table",
        title: "The partition table and its backup are sound",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["first and last sectors"],
        why: "a boot loader may be content with a table that growing the root or a cloud's import is not",
        remedy: "`sgdisk -e` moves the backup to the end of the disk",
        source: "UEFI specification, GUID partition table",
        applies: Applies::ALL,
        stops_boot: true,
        judge: Judge::Image(partition_table),
    },
];

fn container(subject: &Subject) -> Result<Said> {
    let problems = subject.image.container_problems(subject.depth, subject.cancel)?;
    let format = subject.image.format().name();
    let seen = match subject.depth {
        Depth::Bytes => format!("a sound {format} file"),
        Depth::Tables => format!("the tables of a sound {format} file"),
    };
    Ok(Verdict::of(&problems, seen).into())
}

fn payload(subject: &Subject) -> Result<Said> {
    let Some(Payload { claimed, found }) = subject.payload else {
        let why = match subject.depth {
            Depth::Bytes => "no manifest gives the disk's digest",
            Depth::Tables => "not every byte was read",
        };
        return Ok(Verdict::Skipped(why.into()).into());
    };
    let wrong = (claimed != found)
        .then(|| format!("the disk inside has sha256 {found}, not {claimed} as it was built"));
    Ok(Verdict::of(wrong.as_slice(), format!("the disk inside is the one that was built: {found}"))
        .into())
}

fn disk_size(subject: &Subject) -> Result<Said> {
    let (size, accepts) = (subject.image.size(), &subject.machine.profile.accepts);
    let mut wrong = Vec::new();
    if !size.is_multiple_of(accepts.multiple.get().max(1)) {
        wrong.push(format!("{size} bytes are not a multiple of {}", accepts.multiple));
    }
    if let Some(largest) = accepts.largest.filter(|largest| size > largest.get()) {
        wrong.push(format!("{} are more than {largest}", Bytes(size)));
    }
    Ok(Verdict::of(&wrong, Bytes(size).to_string()).into())
}

fn partition_table(subject: &Subject) -> Result<Said> {
    let problems = gpt::problems(subject.image.disk())?;
    Ok(Verdict::of(&problems, "GPT and its backup are sound").into())
}
