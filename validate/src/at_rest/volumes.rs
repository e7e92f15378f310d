//! The partitions of a disk, by every name that a system can call them by.

use nodekiln_disk::gpt;

use super::Subject;
use crate::inspect::Partition;

/// The partitions of a disk.
pub(super) struct Volumes {
    known: Vec<Volume>,
    /// Whether their table is an old one, which has no names of its own for them.
    numbered: bool,
}

struct Volume {
    number: u32,
    /// Its content in a word, where that is known.
    content: Option<String>,
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
    /// Those of the image.
    pub(super) fn of(subject: &Subject) -> Self {
        let is_mbr = |part: &Partition| part.kind.starts_with("0x");
        Self {
            known: subject.partitions.iter().map(Volume::of).collect(),
            numbered: subject.partitions.iter().any(is_mbr),
        }
    }

    /// What stands in partition `number`, where that is known.
    pub(super) fn content(&self, number: u32) -> Option<&str> {
        self.known.iter().find(|volume| volume.number == number)?.content.as_deref()
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
            "PARTUUID" | "PARTLABEL" => self.numbered,
            _ => true,
        };
        if closed { Found::Unknown } else { Found::Nothing }
    }
}

impl Volume {
    fn of(part: &Partition) -> Self {
        let named = |tag, value: Option<&String>| {
            let value = value.map(|value| value.trim()).filter(|value| !value.is_empty());
            value.map(|value| (tag, value.to_owned()))
        };
        let names = [
            named("PARTUUID", part.guid.as_ref()),
            named("PARTLABEL", Some(&part.name)),
            named("UUID", part.id.as_ref()),
            named("LABEL", part.label.as_ref()),
        ];
        // GRUB's core image is mounted by no system.
        let core = part.content.is_none() && part.kind == gpt::TYPE_BIOS_BOOT.to_string();
        let zeros = part.content.as_deref() == Some("zeros");
        Self {
            number: part.number,
            content: part.content.clone(),
            names: names.into_iter().flatten().collect(),
            closed: part.id.is_none() && !core && !zeros,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volumes(closed: bool, numbered: bool) -> Volumes {
        let names = vec![("UUID", "5613-C9DC".to_owned()), ("LABEL", "boot".to_owned())];
        Volumes { known: vec![Volume { number: 2, content: None, names, closed }], numbered }
    }

    #[test]
    fn names_lead_to_partitions_and_what_is_not_read_is_not_denied() {
        let known = volumes(false, false);
        for name in
            ["UUID=5613-c9dc", "UUID=\"5613-C9DC\"", "LABEL=boot", "/dev/disk/by-uuid/5613-C9DC"]
        {
            assert_eq!(known.find(name), Found::Partition(2), "{name}");
        }
        for name in ["LABEL=BOOT", "UUID=1", "PARTUUID=1", "/dev/disk/by-partlabel/root"] {
            assert_eq!(known.find(name), Found::Nothing, "{name}");
        }
        assert_eq!(known.find("/dev/vda1"), Found::Device);
        assert_eq!(volumes(true, false).find("UUID=1"), Found::Unknown);
        assert_eq!(volumes(true, false).find("PARTUUID=1"), Found::Nothing);
        assert_eq!(volumes(false, true).find("PARTUUID=0badcafe-01"), Found::Unknown);
    }
}
