//! The bytes of a FAT32 volume.

use nodekiln_words::{Bytes, Class, Failure, Result, ResultExt};

use super::Volume;
use super::names::{Name, ShortName};
use super::stamp::Stamp;

const SECTOR: usize = 512;
/// Sectors before the first FAT: boot sector, FSInfo, and copies of both at 6.
const RESERVED: u32 = 32;
const BACKUP: usize = 6;
/// A volume with fewer clusters is taken for FAT16. One cluster is one sector here.
const MIN_CLUSTERS: u32 = 65_525;
const MAX_SIZE: u64 = 1 << 30;
const END_OF_CHAIN: u32 = 0x0FFF_FFFF;
const ROOT_CLUSTER: u32 = 2;
const ENTRY: usize = 32;
const ATTRIBUTE_LABEL: u8 = 0x08;
const ATTRIBUTE_DIRECTORY: u8 = 0x10;
const ATTRIBUTE_ARCHIVE: u8 = 0x20;

/// A directory, in the order in which its entries were first named.
#[derive(Default)]
struct Directory<'a> {
    children: Vec<(String, Node<'a>)>,
}

enum Node<'a> {
    File(&'a [u8]),
    Directory(Directory<'a>),
}

/// The volume as far as it is written.
struct Writer {
    bytes: Vec<u8>,
    /// Sectors of one FAT.
    fat_sectors: u32,
    clusters: u32,
    /// The first cluster that nobody uses.
    next: u32,
    stamp: Stamp,
}

/// Builds a FAT32 volume. The same arguments give the same bytes.
///
/// # Errors
/// When size or label are out of bounds, a path is given twice or is not valid, or the files do
/// not fit.
pub fn build(volume: &Volume<'_>) -> Result<Vec<u8>> {
    let label = label(volume.label)?;
    let mut root = Directory::default();
    for (path, content) in volume.files {
        root.insert(path, path, content)?;
    }
    let mut writer = Writer::new(volume)?;
    writer.boot_sector(volume.serial, &label);
    let mut entries = writer.entry(&label, ATTRIBUTE_LABEL, 0, 0);
    let own = writer.allocate(ENTRY + root.length()?, "/")?;
    writer.fill(&root, own, &mut entries)?;
    writer.store(own, &entries);
    writer.set_fat(0, 0x0FFF_FFF8);
    writer.set_fat(1, END_OF_CHAIN);
    writer.finish();
    Ok(writer.bytes)
}

fn label(text: &str) -> Result<ShortName> {
    let valid = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b' ';
    let mut label = [b' '; 11];
    match label.get_mut(..text.len()) {
        Some(place) if !text.is_empty() && text.bytes().all(valid) => {
            place.copy_from_slice(text.as_bytes());
            Ok(label)
        }
        _ => Err(Failure::input(format!("`{text}` is no label of a FAT volume"))),
    }
}

impl<'a> Directory<'a> {
    /// Adds the file at `rest` below this directory; `path` is its whole path, for messages.
    fn insert(&mut self, path: &str, rest: &str, content: &'a [u8]) -> Result<()> {
        let (name, below) = match rest.split_once('/') {
            Some((name, below)) => (name, Some(below)),
            None => (rest, None),
        };
        let twice = || Failure::input(format!("`{path}` is given twice for a FAT volume"));
        let same = |(other, _): &&mut (String, Node<'a>)| other.eq_ignore_ascii_case(name);
        match (self.children.iter_mut().find(same), below) {
            (Some((_, Node::Directory(child))), Some(below)) => child.insert(path, below, content),
            (Some(_), _) => Err(twice()),
            (None, Some(below)) => {
                let mut child = Directory::default();
                child.insert(path, below, content)?;
                self.children.push((name.to_owned(), Node::Directory(child)));
                Ok(())
            }
            (None, None) => {
                self.children.push((name.to_owned(), Node::File(content)));
                Ok(())
            }
        }
    }

    /// The names of the children, in their order.
    fn names(&self) -> Result<Vec<Name>> {
        let mut taken: Vec<ShortName> = Vec::new();
        let mut names = Vec::new();
        for (name, _) in &self.children {
            let name = Name::new(name, &taken)?;
            taken.push(name.short);
            names.push(name);
        }
        Ok(names)
    }

    /// Bytes of the children's entries.
    fn length(&self) -> Result<usize> {
        Ok(self.names()?.iter().map(Name::entries).sum::<usize>() * ENTRY)
    }
}

impl Writer {
    fn new(volume: &Volume<'_>) -> Result<Self> {
        let size = volume.size;
        let refuse = || {
            Failure::input(format!("a FAT32 volume of {} cannot be made", Bytes(size)))
                .with_help("use 34 MiB to 1 GiB, whole sectors of 512 bytes")
        };
        if !size.is_multiple_of(SECTOR as u64) || size > MAX_SIZE {
            return Err(refuse());
        }
        let sectors = u32::try_from(size / SECTOR as u64).map_err(|_| refuse())?;
        let room = sectors.checked_sub(RESERVED).ok_or_else(refuse)?;
        // One FAT sector describes 128 clusters, and each cluster costs a sector.
        let mut fat_sectors = room / 130;
        while fat_sectors * 128 < room.saturating_sub(2 * fat_sectors) + 2 {
            fat_sectors += 1;
        }
        let clusters = room.saturating_sub(2 * fat_sectors);
        if clusters < MIN_CLUSTERS {
            return Err(refuse());
        }
        let length = usize::try_from(size).or_fail(Class::Input, || size.to_string())?;
        let stamp = Stamp::of(volume.source_date);
        Ok(Self { bytes: vec![0; length], fat_sectors, clusters, next: ROOT_CLUSTER, stamp })
    }

    fn put(&mut self, offset: usize, bytes: &[u8]) {
        if let Some(place) = self.bytes.get_mut(offset..offset + bytes.len()) {
            place.copy_from_slice(bytes);
        }
    }

    fn boot_sector(&mut self, serial: u32, label: &ShortName) {
        let total = u32::try_from(self.bytes.len() / SECTOR).unwrap_or(u32::MAX);
        let mut sector = vec![0xEB, 0x58, 0x90];
        sector.extend(b"MSWIN4.1"); // the name that the specification recommends
        sector.extend([0x00, 0x02, 1]); // bytes in a sector, sectors in a cluster
        sector.extend(RESERVED.to_le_bytes().iter().take(2));
        sector.extend([2, 0, 0, 0, 0, 0xF8, 0, 0]); // two FATs, a fixed disk
        sector.extend([63, 0, 255, 0]); // geometry, which nobody uses
        sector.extend(0_u32.to_le_bytes());
        sector.extend(total.to_le_bytes());
        sector.extend(self.fat_sectors.to_le_bytes());
        sector.extend([0; 4]); // FATs are mirrored; version 0.0
        sector.extend(ROOT_CLUSTER.to_le_bytes());
        sector.extend([1, 0, 6, 0]); // FSInfo, backup boot sector
        sector.extend([0; 12]);
        sector.extend([0x80, 0, 0x29]);
        sector.extend(serial.to_le_bytes());
        sector.extend(label);
        sector.extend(b"FAT32   ");
        sector.resize(510, 0);
        sector.extend([0x55, 0xAA]);
        self.put(0, &sector);
        self.put(BACKUP * SECTOR, &sector);
    }

    /// Takes clusters in a row for `length` bytes and links them; 0 for nothing.
    fn allocate(&mut self, length: usize, path: &str) -> Result<u32> {
        let count = u32::try_from(length.div_ceil(SECTOR)).unwrap_or(u32::MAX);
        let end = self.clusters + ROOT_CLUSTER;
        if count > end - self.next {
            let room = u64::from(end - self.next) * SECTOR as u64;
            return Err(Failure::input(format!(
                "`{path}` of {} does not fit into the FAT volume, which has {} left",
                Bytes(length as u64),
                Bytes(room)
            )));
        }
        let first = self.next;
        self.next += count;
        for cluster in first..self.next {
            let last = cluster + 1 == self.next;
            self.set_fat(cluster, if last { END_OF_CHAIN } else { cluster + 1 });
        }
        Ok(if count == 0 { 0 } else { first })
    }

    fn set_fat(&mut self, cluster: u32, value: u32) {
        let sectors = [RESERVED, RESERVED + self.fat_sectors];
        for start in sectors.map(|sector| sector as usize * SECTOR) {
            self.put(start + cluster as usize * 4, &value.to_le_bytes());
        }
    }

    /// Writes `bytes` to the clusters in a row from `first` on.
    fn store(&mut self, first: u32, bytes: &[u8]) {
        let sector = RESERVED + 2 * self.fat_sectors + first.saturating_sub(ROOT_CLUSTER);
        self.put(sector as usize * SECTOR, bytes);
    }

    /// Writes all that is below `directory`, which begins at cluster `own`, and appends the
    /// entries of its children.
    fn fill(&mut self, directory: &Directory<'_>, own: u32, entries: &mut Vec<u8>) -> Result<()> {
        for (name, (text, node)) in directory.names()?.iter().zip(&directory.children) {
            let (attribute, first, length) = match node {
                Node::File(content) => {
                    let first = self.allocate(content.len(), text)?;
                    self.store(first, content);
                    (ATTRIBUTE_ARCHIVE, first, content.len())
                }
                Node::Directory(child) => {
                    let first = self.allocate(2 * ENTRY + child.length()?, text)?;
                    // The parent of a directory in the root is written as 0.
                    let parent = if own == ROOT_CLUSTER { 0 } else { own };
                    let mut below = self.entry(b".          ", ATTRIBUTE_DIRECTORY, first, 0);
                    below.extend(self.entry(b"..         ", ATTRIBUTE_DIRECTORY, parent, 0));
                    self.fill(child, first, &mut below)?;
                    self.store(first, &below);
                    (ATTRIBUTE_DIRECTORY, first, 0)
                }
            };
            entries.extend(name.long_entries());
            entries.extend(self.entry(&name.short, attribute, first, length));
        }
        Ok(())
    }

    /// A short entry.
    fn entry(&self, name: &ShortName, attribute: u8, first: u32, length: usize) -> Vec<u8> {
        let Stamp { date, time } = self.stamp;
        let [low, high] = [first & 0xFFFF, first >> 16];
        let mut entry = name.to_vec();
        entry.extend([attribute, 0, 0]);
        entry.extend([time, date, date].iter().flat_map(|field| field.to_le_bytes()));
        entry.extend(high.to_le_bytes().iter().take(2));
        entry.extend([time, date].iter().flat_map(|field| field.to_le_bytes()));
        entry.extend(low.to_le_bytes().iter().take(2));
        entry.extend(u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        entry
    }

    /// Writes FSInfo: how many clusters are free, and where they begin.
    fn finish(&mut self) {
        let free = self.clusters + ROOT_CLUSTER - self.next;
        let mut sector = b"RRaA".to_vec();
        sector.resize(484, 0);
        sector.extend(b"rrAa");
        sector.extend(free.to_le_bytes());
        sector.extend(self.next.to_le_bytes());
        sector.resize(510, 0);
        sector.extend([0x55, 0xAA]);
        self.put(SECTOR, &sector);
        self.put((BACKUP + 1) * SECTOR, &sector);
    }
}
