//! Whether the files of an image can be read here: without them it is not judged.

use nodekiln_words::Result;

use super::volumes::{Found, Volumes};
use super::{Said, Subject, findings};
use crate::Tier;
use crate::inspect::Partition;
use crate::rules::{Applies, Judge, Rule, Severity, Verdict};
use crate::tree::fstab::Mount;

pub(super) const RULES: &[Rule] = &[Rule {
    id: "files-read",
    title: "The image's file systems can be read",
    tier: Tier::Static,
    severity: Severity::Fatal,
    reads: &["the partition table", "the first sectors of every partition", "/etc/fstab"],
    why: "rules on files that nobody read would say nothing, and an image of which nothing is known is not a sound one",
    remedy: "put root, /usr and what /etc/fstab mounts on file systems that nodekiln reads, ext4 for one; the other \
             tiers still ask the running machine",
    source: "the first sectors of each kind of file system; fstab(5); the Discoverable Partitions Specification",
    applies: Applies::ALL,
    stops_boot: false,
    judge: Judge::Image(files_read),
}];

fn files_read(subject: &Subject) -> Result<Said> {
    // 1. The root.
    let place = match subject.root()? {
        Ok(place) => place,
        Err(why) => return Ok(Said::Unasked(without_root(subject, why.seen()))),
    };
    // 2. What is mounted below it.
    let (number, files) = &subject.systems[place];
    let table = files.text("/etc/fstab")?.unwrap_or_default();
    let volumes = Volumes::of(subject);
    let unread: Vec<(u32, String)> = subject.unread().collect();
    let mut missing = Vec::new();
    for mount in Mount::of(&table).filter(Mount::is_below_root) {
        let at =
            format!("/etc/fstab, line {}, mounts {} at {}", mount.line, mount.what, mount.place);
        match volumes.find(mount.what) {
            Found::Partition(number) => {
                let told = unread.iter().find(|(unread, _)| *unread == number);
                missing.extend(told.map(|(_, told)| format!("{at}: {told}")));
            }
            Found::Unknown => {
                let told: Vec<String> = unread.iter().map(|(_, told)| told.clone()).collect();
                missing.extend((!told.is_empty()).then(|| format!("{at}: {}", told.join("; "))));
            }
            Found::Device | Found::Nothing => {}
        }
    }
    if !missing.is_empty() {
        return Ok(Said::Unasked(findings::some(&missing)));
    }
    // 3. What nothing mounts.
    let mut seen = vec![format!("partition {number} has the root, on {}", files.name())];
    if let Some(usr) = subject.home()?.and_then(|home| home.usr) {
        seen.push(format!("partition {} has /usr", subject.systems[usr].0));
    }
    seen.extend(unread.into_iter().map(|(_, told)| format!("{told} and not mounted")));
    Ok(Verdict::Pass(seen.join("; ")).into())
}

/// Why there is no root; what the partitions are, where all of them were looked into.
fn without_root(subject: &Subject, why: &str) -> String {
    if subject.partitions.is_empty() {
        return format!("{why}; the disk has no partitions");
    }
    let systems = subject.systems.iter();
    let alone = systems.filter(|(_, files)| files.exists("/lib/os-release").unwrap_or(false));
    let mut told = vec![why.to_owned()];
    told.extend(alone.map(|(number, _)| {
        format!("partition {number} is one to be mounted at /usr, and no partition is its root")
    }));
    if subject.unread().next().is_none() {
        let content = |part: &Partition| {
            let content = part.content.as_deref().unwrap_or("of a kind not known");
            format!("partition {} is {content}", part.number)
        };
        told.push(findings::some(&subject.partitions.iter().map(content).collect::<Vec<_>>()));
    }
    told.join("; ")
}
