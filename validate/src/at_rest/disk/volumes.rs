//! The partitions of a disk, by every name that a system can call them by.

use nodekiln_disk::files::Content;
use nodekiln_disk::{Partitions, TableKind, gpt};
use nodekiln_words::Result;

use super::is_of_the_image;
use crate::at_rest::Subject;

/// The partitions of a disk.
pub(super) struct Volumes {
    known: Vec<Volume>,
    table: TableKind,
}

struct Volume {
    number: u32,
    /// Its content in a word, where that is known.
    content: Option<&'static str>,
    /// Its names, as fstab(5) has them: a tag and a value.
    names: Vec<(&'static str, String)>,
    /// Whether it may have a file system whose names are not read here.
    closed: bool,
}

/// Where a name leads.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// To the partition of this number.
    Partition(u32),
    /// To whatever is called so on the machine.
    Device,
    /// To nothing on this disk.
    Nothing,
    /// Perhaps to a partition whose names are not read.
    Unknown,
}

/// Folders of links by names, with the tag for the same.
const BY: [(&str, &str); 4] = [
    ("/dev/disk/by-uuid/", "UUID"),
    ("/dev/disk/by-label/", "LABEL"),
    ("/dev/disk/by-partuuid/", "PARTUUID"),
    ("/dev/disk/by-partlabel/", "PARTLABEL"),
];

impl Volumes {
    pub(super) fn of(subject: &Subject, table: &Partitions) -> Result<Self> {
        let mut known = Vec::new();
        for part in &table.entries {
            let content = match Content::of(subject.image.disk(), part, subject.cancel) {
                Ok(content) => Some(content),
                Err(failure) if is_of_the_image(failure.class()) => None,
                Err(failure) => return Err(failure),
            };
            let mut volume =
                Volume { number: part.number, content: None, names: Vec::new(), closed: true };
            volume.names.extend(part.guid.map(|guid| ("PARTUUID", guid.to_string())));
            if !part.name.is_empty() {
                volume.names.push(("PARTLABEL", part.name.clone()));
            }
            match content {
                Some(Content::Files(files)) => {
                    volume.closed = false;
                    volume.content = Some(files.name());
                    volume.names.push(("UUID", files.id().to_owned()));
                    let label = files.label().trim();
                    if !label.is_empty() {
                        volume.names.push(("LABEL", label.to_owned()));
                    }
                }
                Some(Content::Empty) => volume.closed = false,
                // GRUB's core image, which no system mounts.
                Some(Content::Unknown) | None if part.kind == gpt::TYPE_BIOS_BOOT.to_string() => {
                    volume.closed = false;
                }
                Some(Content::Named(name)) => volume.content = Some(name),
                Some(Content::Unknown) | None => {}
            }
            known.push(volume);
        }
        Ok(Self { known, table: table.table })
    }

    /// What stands in partition `number`, where that is known.
    pub(super) fn content(&self, number: u32) -> Option<&'static str> {
        self.known.iter().find(|volume| volume.number == number)?.content
    }

    /// What `name`, of a kernel's root or of fstab, leads to.
    pub(super) fn find(&self, name: &str) -> Found {
        let tagged = name.split_once('=').map(|(tag, value)| (tag, value.trim_matches('"')));
        let by = BY.iter().find_map(|(folder, tag)| Some((*tag, name.strip_prefix(folder)?)));
        let Some((tag, value)) = by.or(tagged) else { return Found::Device };
        let same = |known: &(&str, String)| {
            let ids = ["UUID", "PARTUUID"].contains(&tag);
            let equal = if ids { known.1.eq_ignore_ascii_case(value) } else { known.1 == value };
            known.0 == tag && equal
        };
        if let Some(volume) = self.known.iter().find(|volume| volume.names.iter().any(same)) {
            return Found::Partition(volume.number);
        }
        let closed = match tag {
            "UUID" | "LABEL" => self.known.iter().any(|volume| volume.closed),
            // Partitions of an old table are named by its own number, which is not read here.
            "PARTUUID" | "PARTLABEL" => self.table == TableKind::Mbr,
            _ => true,
        };
        if closed { Found::Unknown } else { Found::Nothing }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volumes(closed: bool, table: TableKind) -> Volumes {
        let names = vec![("UUID", "5613-C9DC".to_owned()), ("LABEL", "boot".to_owned())];
        Volumes { known: vec![Volume { number: 2, content: None, names, closed }], table }
    }

    #[test]
    fn names_lead_to_partitions_and_what_is_not_read_is_not_denied() {
        let known = volumes(false, TableKind::Gpt);
        for name in
            ["UUID=5613-c9dc", "UUID=\"5613-C9DC\"", "LABEL=boot", "/dev/disk/by-uuid/5613-C9DC"]
        {
            assert_eq!(known.find(name), Found::Partition(2), "{name}");
        }
        for name in ["LABEL=BOOT", "UUID=1", "PARTUUID=1", "/dev/disk/by-partlabel/root"] {
            assert_eq!(known.find(name), Found::Nothing, "{name}");
        }
        assert_eq!(known.find("/dev/vda1"), Found::Device);
        assert_eq!(volumes(true, TableKind::Gpt).find("UUID=1"), Found::Unknown);
        assert_eq!(volumes(true, TableKind::Gpt).find("PARTUUID=1"), Found::Nothing);
        assert_eq!(volumes(false, TableKind::Mbr).find("PARTUUID=0badcafe-01"), Found::Unknown);
    }
}
