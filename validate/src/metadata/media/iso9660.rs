//! A writer of ISO 9660 file systems, as a cloud puts them into a guest's CD drive.
//!
//! Names stand in three forms: 8.3 in capital letters (ECMA-119, level 1), Rock Ridge in the same
//! folders (SUSP 1.12, RRIP 1.12: what Linux prefers) and Joliet in folders of its own. All dates are
//! 1980-01-01, owners are root, and nothing else varies: the same files give the same bytes, in whatever
//! order they come.
//! Sectors have 2048 bytes: 16 unused, three descriptors, four path tables, folders, files.

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_words::{Failure, Result};

/// Bytes of a sector.
const SECTOR: usize = 2048;
/// Sectors before the descriptors.
const UNUSED: usize = 16;
/// Primary descriptor, Joliet's, and the one that ends them.
const DESCRIPTORS: usize = 3;
/// Year since 1900, month, day, hour, minute, second, zone.
const DATE: [u8; 7] = [80, 1, 1, 0, 0, 0, 0];
/// The same in digits; hundredths, and the zone as a byte.
const LONG_DATE: &[u8; 17] = b"1980010100000000\0";
/// No date.
const NO_DATE: &[u8; 17] = b"0000000000000000\0";
/// Joliet's limit, in UTF-16 units.
const LONGEST_NAME: usize = 64;
/// Folders may be nested so deep, the root included (ECMA-119, 6.8.2.1).
const DEEPEST: usize = 8;
/// Largest image; far more than a provisioning medium needs, and well below what 32 bits can tell.
const LARGEST: usize = 1 << 30;
/// Modes of folders and files (stat(2)), readable by all and writable by none.
const FOLDER_MODE: u32 = 0o040_555;
const FILE_MODE: u32 = 0o100_444;

/// Writes a file system labelled `label` with `files`, by path; folders come of themselves.
///
/// # Errors
/// When the label is longer than 16 letters, a path cannot be told in Joliet, a name is a file's and a
/// folder's at once, or the files are larger than 1 GiB together.
pub(super) fn write(label: &str, files: &[(String, Vec<u8>)]) -> Result<Vec<u8>> {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
    if label.is_empty() || label.len() > 16 || !label.bytes().all(fine) {
        return Err(Failure::input(format!(
            "`{label}` is no label of 1 to 16 letters, digits, - and _"
        )));
    }
    let tree = Tree::of(files)?;
    let plan = Plan::of(&tree);
    if plan.sectors > LARGEST / SECTOR {
        return Err(Failure::input("the medium would be larger than 1 GiB"));
    }
    Ok(plan.render(label, &tree))
}

/// The two trees of names in one file system.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Names {
    /// 8.3, with Rock Ridge's beside them.
    Primary,
    /// UTF-16.
    Joliet,
}

/// Folders, the root at 0.
struct Tree<'a> {
    folders: Vec<Folder>,
    files: Vec<&'a [u8]>,
}

struct Folder {
    parent: usize,
    entries: BTreeMap<String, Entry>,
}

#[derive(Clone, Copy)]
enum Entry {
    Folder(usize),
    File(usize),
}

impl<'a> Tree<'a> {
    fn of(files: &'a [(String, Vec<u8>)]) -> Result<Self> {
        let mut files: Vec<&(String, Vec<u8>)> = files.iter().collect();
        files.sort_by(|(one, _), (other, _)| one.cmp(other)); // whoever gives them may have another order
        let mut paths: BTreeSet<Vec<&str>> = [Vec::new()].into();
        for (path, _) in &files {
            let parts: Vec<&str> = path.split('/').collect();
            parts.iter().try_for_each(|part| tellable(path, part))?;
            if parts.len() > DEEPEST {
                return Err(Failure::input(format!("{path} lies deeper than eight folders")));
            }
            for depth in 1..parts.len() {
                paths.insert(parts.iter().take(depth).copied().collect());
            }
        }
        let paths: Vec<Vec<&str>> = paths.into_iter().collect();
        let number: BTreeMap<&[&str], usize> =
            paths.iter().enumerate().map(|(number, path)| (path.as_slice(), number)).collect();
        let parent = |path: &[&str]| {
            let (_, parent) = path.split_last().unwrap_or((&"", &[]));
            number.get(parent).copied().unwrap_or_default()
        };
        let mut folders: Vec<Folder> = paths
            .iter()
            .map(|path| Folder { parent: parent(path), entries: BTreeMap::new() })
            .collect();
        let in_folders =
            paths.iter().enumerate().skip(1).map(|(n, path)| (path.clone(), Entry::Folder(n)));
        let in_files = files.iter().enumerate();
        let in_files = in_files.map(|(n, (path, _))| (path.split('/').collect(), Entry::File(n)));
        for (path, entry) in in_folders.chain(in_files) {
            let name = path.last().copied().unwrap_or_default().to_owned();
            let folder = folders.get_mut(parent(&path));
            if folder.and_then(|folder| folder.entries.insert(name, entry)).is_some() {
                return Err(Failure::input(format!("{} is there twice", path.join("/"))));
            }
        }
        Ok(Self { folders, files: files.iter().map(|(_, content)| content.as_slice()).collect() })
    }
}

/// Joliet's names: no control characters and none of `*/:;?\`.
fn tellable(path: &str, name: &str) -> Result<()> {
    let wrong = |c: char| c.is_control() || "*/:;?\\".contains(c) || u32::from(c) > 0xffff;
    if name.is_empty()
        || name == "."
        || name == ".."
        || name.contains(wrong)
        || name.len() > LONGEST_NAME
    {
        return Err(Failure::input(format!("`{}` cannot be a path on a CD", path.escape_debug())));
    }
    Ok(())
}

impl Folder {
    /// The identifiers of the entries, in the order that the standard wants (ECMA-119, 9.3).
    fn identified(&self, names: Names) -> Vec<(Vec<u8>, &str, Entry)> {
        let mut taken = BTreeSet::new();
        let identify = |(name, entry): (&String, &Entry)| {
            let folder = matches!(entry, Entry::Folder(_));
            let mut identifier = match names {
                Names::Primary => short(name, folder, &mut taken).into_bytes(),
                Names::Joliet => name.encode_utf16().flat_map(u16::to_be_bytes).collect(),
            };
            if !folder {
                match names {
                    Names::Primary => identifier.extend(b";1"),
                    Names::Joliet => identifier.extend([0, b';', 0, b'1']),
                }
            }
            (identifier, *entry)
        };
        let entries = self.entries.iter();
        let mut identified: Vec<(Vec<u8>, &str, Entry)> = entries
            .scan(identify, |identify, pair| {
                let (identifier, entry) = identify(pair);
                Some((identifier, pair.0.as_str(), entry))
            })
            .collect();
        identified.sort_by(|(a, ..), (b, ..)| a.cmp(b));
        identified
    }
}

/// The name in 8.3, in capital letters, digits and underscores, unlike all that are `taken`.
fn short(name: &str, folder: bool, taken: &mut BTreeSet<String>) -> String {
    let plain = |text: &str, most: usize| -> String {
        let letter = |c: char| if c.is_ascii_alphanumeric() { c.to_ascii_uppercase() } else { '_' };
        text.chars().map(letter).take(most).collect()
    };
    let (stem, extension) = match name.rsplit_once('.') {
        Some((stem, extension)) if !folder => (stem, plain(extension, 3)),
        _ => (name, String::new()),
    };
    let dot = if folder { "" } else { "." };
    let mut short = format!("{}{dot}{extension}", plain(stem, 8));
    let mut number = 0_u32;
    while !taken.insert(short.clone()) {
        number += 1;
        let digits = number.to_string();
        short = format!("{}{digits}{dot}{extension}", plain(stem, 8 - digits.len().min(8)));
    }
    short
}

/// Where everything lies, in sectors, and how long it is.
struct Plan {
    /// Bytes of the path table and first sectors of its two forms, for each tree of names.
    tables: [(usize, [usize; 2]); 2],
    /// First sector and bytes of each folder, for each tree of names.
    folders: [Vec<(usize, usize)>; 2],
    /// First sector of each file.
    files: Vec<usize>,
    sectors: usize,
}

/// Index of a tree of names.
const fn index(names: Names) -> usize {
    match names {
        Names::Primary => 0,
        Names::Joliet => 1,
    }
}

impl Plan {
    fn of(tree: &Tree) -> Self {
        let mut next = UNUSED + DESCRIPTORS;
        let mut take = |bytes: usize| {
            let first = next;
            next += bytes.div_ceil(SECTOR);
            first
        };
        let tables = [Names::Primary, Names::Joliet].map(|names| {
            let size = path_table(tree, names, &[], u32::to_le_bytes, u16::to_le_bytes).len();
            (size, [take(size), take(size)])
        });
        let folders = [Names::Primary, Names::Joliet].map(|names| {
            let size = |number: usize| folder(tree, names, number, &[], &[]).len();
            (0..tree.folders.len()).map(size).map(|size| (take(size), size)).collect()
        });
        let files = tree.files.iter().map(|content| take(content.len())).collect();
        Self { tables, folders, files, sectors: next }
    }

    fn render(&self, label: &str, tree: &Tree) -> Vec<u8> {
        let mut image = vec![0; self.sectors * SECTOR];
        let mut put = |sector: usize, bytes: &[u8]| {
            let at = sector * SECTOR;
            if let Some(place) = image.get_mut(at..at + bytes.len()) {
                place.copy_from_slice(bytes);
            }
        };
        put(UNUSED, &self.descriptor(label, Names::Primary));
        put(UNUSED + 1, &self.descriptor(label, Names::Joliet));
        put(UNUSED + 2, b"\xffCD001\x01");
        for names in [Names::Primary, Names::Joliet] {
            let (tables, folders) = (&self.tables[index(names)], &self.folders[index(names)]);
            let [little, big] = tables.1;
            put(little, &path_table(tree, names, folders, u32::to_le_bytes, u16::to_le_bytes));
            put(big, &path_table(tree, names, folders, u32::to_be_bytes, u16::to_be_bytes));
            for (number, (sector, _)) in folders.iter().enumerate() {
                put(*sector, &folder(tree, names, number, folders, &self.files));
            }
        }
        for (sector, content) in self.files.iter().zip(&tree.files) {
            put(*sector, content);
        }
        image
    }

    /// A volume descriptor (ECMA-119, 8.4 and 8.5).
    fn descriptor(&self, label: &str, names: Names) -> Vec<u8> {
        let text = |text: &str, bytes: usize| -> Vec<u8> {
            let mut field: Vec<u8> = match names {
                Names::Primary => text.bytes().chain(std::iter::repeat(b' ')).take(bytes).collect(),
                Names::Joliet => {
                    let units = text.encode_utf16().chain(std::iter::repeat(0x20));
                    units.take(bytes / 2).flat_map(u16::to_be_bytes).collect()
                }
            };
            field.resize(bytes, 0); // Joliet's fields of an odd length
            field
        };
        let (size, [little, big]) = self.tables[index(names)];
        let root = self.folders[index(names)].first().copied().unwrap_or_default();
        let mut descriptor = Vec::with_capacity(SECTOR);
        descriptor.push(if names == Names::Primary { 1 } else { 2 });
        descriptor.extend(b"CD001\x01\0");
        descriptor.extend(text("LINUX", 32));
        descriptor.extend(text(label, 32));
        descriptor.extend([0; 8]);
        descriptor.extend(both32(self.sectors));
        // Escape sequences: UCS-2, level 3.
        let escape: &[u8] = if names == Names::Joliet { b"%/E" } else { b"" };
        descriptor.extend(escape);
        descriptor.resize(120, 0);
        descriptor.extend([both16(1), both16(1), both16(SECTOR)].concat());
        descriptor.extend(both32(size));
        descriptor.extend(narrow(little).to_le_bytes());
        descriptor.extend([0; 4]);
        descriptor.extend(narrow(big).to_be_bytes());
        descriptor.extend([0; 4]);
        descriptor.extend(record(&[0], root, true, &[]));
        for bytes in [128, 128, 128, 128, 37, 37, 37] {
            descriptor.extend(text("", bytes)); // set, publisher, preparer, application, three files
        }
        descriptor.extend([LONG_DATE, LONG_DATE, NO_DATE, NO_DATE].into_iter().flatten());
        descriptor.push(1);
        descriptor.resize(SECTOR, 0);
        descriptor
    }
}

/// A path table (ECMA-119, 9.4): folders breadth first, each level in the order of its parents and then
/// of identifiers. Without `folders` it only has the right length.
fn path_table(
    tree: &Tree,
    names: Names,
    folders: &[(usize, usize)],
    wide: fn(u32) -> [u8; 4],
    thin: fn(u16) -> [u8; 2],
) -> Vec<u8> {
    let mut order = vec![(0, 1, vec![0])]; // folder, its parent's place from 1, identifier
    let mut place = 0;
    while let Some((number, ..)) = order.get(place) {
        place += 1;
        let inner = tree.folders.get(*number).map(|folder| folder.identified(names));
        for (identifier, _, entry) in inner.into_iter().flatten() {
            if let Entry::Folder(number) = entry {
                order.push((number, place, identifier));
            }
        }
    }
    let mut table = Vec::new();
    for (number, parent, identifier) in order {
        let (sector, _) = folders.get(number).copied().unwrap_or_default();
        table.extend([octet(identifier.len()), 0]);
        table.extend(wide(narrow(sector)));
        table.extend(thin(u16::try_from(parent).unwrap_or(u16::MAX)));
        table.extend(identifier);
        table.resize(table.len().next_multiple_of(2), 0);
    }
    table
}

/// The records of a folder, none across the border of a sector. Without `folders` and `files` it only has
/// the right length.
fn folder(
    tree: &Tree,
    names: Names,
    number: usize,
    folders: &[(usize, usize)],
    files: &[usize],
) -> Vec<u8> {
    let at = |number: usize| folders.get(number).copied().unwrap_or_default();
    let Some(own) = tree.folders.get(number) else { return Vec::new() };
    let ridge = |more: Vec<u8>| if names == Names::Primary { more } else { Vec::new() };
    let mode = |number: usize| {
        let entries = tree.folders.get(number).map(|folder| folder.entries.values());
        let inner = entries.into_iter().flatten().filter(|entry| matches!(entry, Entry::Folder(_)));
        rock_ridge_mode(FOLDER_MODE, 2 + inner.count())
    };
    let first = if number == 0 { rock_ridge_root() } else { Vec::new() };
    let mut records = vec![
        record(&[0], at(number), true, &ridge([first, mode(number)].concat())),
        record(&[1], at(own.parent), true, &ridge(mode(own.parent))),
    ];
    for (identifier, name, entry) in own.identified(names) {
        let (place, folder, mode) = match entry {
            Entry::Folder(number) => (at(number), true, mode(number)),
            Entry::File(number) => {
                let size = tree.files.get(number).map_or(0, |content| content.len());
                let sector = files.get(number).copied().unwrap_or_default();
                ((sector, size), false, rock_ridge_mode(FILE_MODE, 1))
            }
        };
        let more = ridge([mode, rock_ridge_name(name)].concat());
        records.push(record(&identifier, place, folder, &more));
    }
    let mut folder = Vec::new();
    for record in records {
        let left = folder.len().next_multiple_of(SECTOR) - folder.len();
        if left < record.len() && left > 0 {
            folder.resize(folder.len() + left, 0);
        }
        folder.extend(record);
    }
    folder.resize(folder.len().next_multiple_of(SECTOR), 0);
    folder
}

/// A record of a folder (ECMA-119, 9.1), with what Rock Ridge adds.
fn record(identifier: &[u8], (sector, size): (usize, usize), folder: bool, more: &[u8]) -> Vec<u8> {
    let mut record = vec![0, 0]; // its own length, and no extended attributes
    record.extend(both32(sector));
    record.extend(both32(size));
    record.extend(DATE);
    record.extend([if folder { 2 } else { 0 }, 0, 0]);
    record.extend(both16(1));
    record.push(octet(identifier.len()));
    record.extend(identifier);
    record.resize(record.len().next_multiple_of(2), 0);
    record.extend(more);
    record.resize(record.len().next_multiple_of(2), 0);
    if let Some(length) = record.len().try_into().ok().zip(record.first_mut()) {
        *length.1 = length.0;
    }
    record
}

/// In the root alone: that the system use protocol is used, and by whom.
fn rock_ridge_root() -> Vec<u8> {
    const EXTENSION: &[u8; 10] = b"RRIP_1991A";
    let mut entries = b"SP\x07\x01\xbe\xef\x00".to_vec();
    entries.extend(b"ER\x12\x01\x0a\x00\x00\x01");
    entries.extend(EXTENSION);
    entries
}

/// Mode, links, owner and group.
fn rock_ridge_mode(mode: u32, links: usize) -> Vec<u8> {
    let fields = [both32(mode as usize), both32(links), both32(0), both32(0)].concat();
    [b"PX\x24\x01", fields.as_slice()].concat()
}

/// The name as it is.
fn rock_ridge_name(name: &str) -> Vec<u8> {
    [b"NM".as_slice(), &[octet(5 + name.len()), 1, 0], name.as_bytes()].concat()
}

/// A number in both byte orders, the smaller one first.
fn both32(number: usize) -> [u8; 8] {
    let [a, b, c, d] = narrow(number).to_le_bytes();
    [a, b, c, d, d, c, b, a]
}

fn both16(number: usize) -> [u8; 4] {
    let [a, b] = u16::try_from(number).unwrap_or(u16::MAX).to_le_bytes();
    [a, b, b, a]
}

/// Sectors and sizes fit, since an image has at most 1 GiB.
fn narrow(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}

/// Identifiers and names fit, since a name has at most 64 bytes.
fn octet(number: usize) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

#[cfg(test)]
mod tests;
