//! Rules on the file around the disk and on the disk's own tables.

use nodekiln_disk::{Depth, gpt};
use nodekiln_words::{Bytes, Result};

use super::{Payload, Rule, Said, Subject};
use crate::checks::{Severity, Verdict};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "container",
        severity: Severity::Fatal,
        why: "a cloud's import refuses a damaged file, or reads it in another way than QEMU",
        source: "the format's own specification; DSP0243 on an OVA's manifest; Azure on whole MiB",
        judge: container,
    },
    Rule {
        id: "payload",
        severity: Severity::Fatal,
        why: "what the file is unpacked to is what will run, and must be the disk that was built",
        source: "manifest.json, `payload` of the provider",
        judge: payload,
    },
    Rule {
        id: "disk-size",
        severity: Severity::Fatal,
        why: "clouds round, refuse or cut off disks of other sizes",
        source: "the provider's machine, `accepts`",
        judge: disk_size,
    },
    Rule {
        id: "partition-table",
        severity: Severity::Fatal,
        why: "a boot loader may be content with a table that growing the root or a cloud's import is not",
        source: "UEFI specification, GUID partition table",
        judge: partition_table,
    },
];

fn container(subject: &Subject) -> Result<Said> {
    let problems = subject.image.container_problems(Depth::Bytes, subject.cancel)?;
    Ok(Verdict::of(&problems, format!("a sound {} file", subject.image.format().name())).into())
}

fn payload(subject: &Subject) -> Result<Said> {
    let Some(Payload { claimed, found }) = subject.payload else {
        return Ok(Verdict::Skipped("no manifest gives the disk's digest".into()).into());
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
