//! Short and long names of FAT directory entries.

use nodekiln_words::{Failure, Result};

/// Characters of a long name that one entry holds.
const PER_ENTRY: usize = 13;
/// Longest long name in UTF-16 units.
const MAX_LONG: usize = 255;

/// A short name as it stands in an entry: eight bytes and three, filled with spaces.
pub(super) type ShortName = [u8; 11];

/// A name that nobody else in its directory has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    pub(super) short: ShortName,
    /// The long name, where the short one does not say it all.
    long: Option<Vec<u16>>,
}

impl Name {
    /// The entries of `name` in a directory where `taken` are the short names so far.
    pub(super) fn new(name: &str, taken: &[ShortName]) -> Result<Self> {
        let forbidden = |c: char| c.is_control() || "\"*/:<>?\\|".contains(c);
        let long: Vec<u16> = name.encode_utf16().collect();
        if name.is_empty()
            || long.len() > MAX_LONG
            || name.ends_with(['.', ' '])
            || name.chars().any(forbidden)
        {
            return Err(Failure::input(format!("`{}` is no name on FAT", name.escape_debug())));
        }
        match plain(name).filter(|short| !taken.contains(short)) {
            Some(short) => {
                let same = name.bytes().all(|byte| !byte.is_ascii_lowercase());
                Ok(Self { short, long: (!same).then_some(long) })
            }
            None => Ok(Self { short: numbered(name, taken)?, long: Some(long) }),
        }
    }

    /// Entries that this name takes.
    pub(super) fn entries(&self) -> usize {
        1 + self.long.as_ref().map_or(0, |long| long.len().div_ceil(PER_ENTRY))
    }

    /// The entries of the long name, last part first, as they stand before the short entry.
    pub(super) fn long_entries(&self) -> Vec<u8> {
        let long = self.long.as_deref().unwrap_or_default();
        let mut bytes = Vec::new();
        let parts = long.chunks(PER_ENTRY).enumerate();
        let last = parts.len();
        for (index, part) in parts.rev() {
            let mut units = part.to_vec();
            if units.len() < PER_ENTRY {
                units.push(0);
            }
            units.resize(PER_ENTRY, 0xFFFF);
            let end = if index + 1 == last { 0x40 } else { 0 };
            bytes.push(u8::try_from(index + 1).unwrap_or(0) | end);
            let mut put = |range: std::ops::Range<usize>| {
                bytes.extend(units[range].iter().flat_map(|unit| unit.to_le_bytes()));
            };
            put(0..5);
            bytes.extend([0x0F, 0, self.checksum()]);
            let mut put = |range: std::ops::Range<usize>| {
                bytes.extend(units[range].iter().flat_map(|unit| unit.to_le_bytes()));
            };
            put(5..11);
            bytes.extend([0, 0]);
            bytes.extend(units[11..].iter().flat_map(|unit| unit.to_le_bytes()));
        }
        bytes
    }

    /// Ties the long name's entries to the short name.
    fn checksum(&self) -> u8 {
        self.short.iter().fold(0, |sum: u8, byte| sum.rotate_right(1).wrapping_add(*byte))
    }
}

/// The short name that equals `name` but for case, if there is one.
fn plain(name: &str) -> Option<ShortName> {
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let fits = (1..=8).contains(&base.len()) && extension.len() <= 3;
    let valid = |byte: u8| short_byte(byte).is_some();
    if !fits || name.ends_with('.') || !base.bytes().chain(extension.bytes()).all(valid) {
        return None;
    }
    Some(padded(base.bytes(), extension.bytes()))
}

/// A short name with a number, such as `LONGNA~1.TXT`; the first number that is free.
fn numbered(name: &str, taken: &[ShortName]) -> Result<ShortName> {
    let (base, extension) = name.rsplit_once('.').unwrap_or((name, ""));
    let base: Vec<u8> = base.bytes().filter_map(short_byte).collect();
    let extension: Vec<u8> = extension.bytes().filter_map(short_byte).take(3).collect();
    (1..1_000_000_u32)
        .map(|number| {
            let suffix = format!("~{number}");
            let kept = base.iter().copied().take(8 - suffix.len());
            padded(kept.chain(suffix.bytes()), extension.iter().copied())
        })
        .find(|short| !taken.contains(short))
        .ok_or_else(|| Failure::input(format!("too many names like `{name}` in one directory")))
}

/// A byte of a short name, in upper case; `None` where it may not stand there.
fn short_byte(byte: u8) -> Option<u8> {
    let valid = byte.is_ascii_alphanumeric() || b"!#$%&'()-@^_`{}~".contains(&byte);
    valid.then_some(byte.to_ascii_uppercase())
}

fn padded(base: impl Iterator<Item = u8>, extension: impl Iterator<Item = u8>) -> ShortName {
    let mut short = [b' '; 11];
    let (left, right) = short.split_at_mut(8);
    left.iter_mut().zip(base).for_each(|(place, byte)| *place = byte.to_ascii_uppercase());
    right.iter_mut().zip(extension).for_each(|(place, byte)| *place = byte.to_ascii_uppercase());
    short
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upper_case_names_have_no_long_name_and_others_do() {
        assert_eq!(Name::new("BOOTX64.EFI", &[]).unwrap().entries(), 1);
        assert_eq!(Name::new("grub.cfg", &[]).unwrap().entries(), 2);
        assert_eq!(&Name::new("grub.cfg", &[]).unwrap().short, b"GRUB    CFG");
        assert_eq!(Name::new("a rather long name.txt", &[]).unwrap().entries(), 3);
    }

    #[test]
    fn long_names_get_the_first_free_number() {
        let first = Name::new("longname-one.text", &[]).unwrap();
        assert_eq!(&first.short, b"LONGNA~1TEX");
        let second = Name::new("longname-two.text", &[first.short]).unwrap();
        assert_eq!(&second.short, b"LONGNA~2TEX");
    }

    #[test]
    fn names_that_fat_cannot_hold_are_refused() {
        for name in ["", "a:b", "dot.", "x\n", &"y".repeat(256)] {
            assert!(Name::new(name, &[]).is_err(), "{name:?}");
        }
    }
}
