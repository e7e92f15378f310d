//! File systems that mkfs.xfs filled, of every shape that it makes.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use nodekiln_disk::files::{Attributes, FileSystem, Kind};

use super::{assert_sound, digest, digest_at, make, xfs_db};
use crate::files::files;
use crate::tools::noise;
use crate::trees::{folder, walked};

/// What mkfs.xfs is told to fill a file system with, and what is to be read.
pub(super) struct Wanted {
    /// The description that mkfs.xfs takes.
    pub(super) text: String,
    /// Of each path what it is, its mode, owner and group.
    paths: BTreeMap<PathBuf, (Kind, u16, u32, u32)>,
    contents: BTreeMap<PathBuf, PathBuf>,
    targets: BTreeMap<PathBuf, String>,
    within: PathBuf,
}

impl Wanted {
    fn new() -> Self {
        let root = (PathBuf::from("/"), (Kind::Folder, 0o755, 0, 0));
        Self {
            text: "/none\n0 0\nd--755 0 0\n".to_owned(),
            paths: BTreeMap::from([root]),
            contents: BTreeMap::new(),
            targets: BTreeMap::new(),
            within: PathBuf::from("/"),
        }
    }

    /// Adds a line of a name, of its letter and mode as mkfs.xfs has them, its owner and group, and what follows.
    fn add(&mut self, name: &str, mode: &str, ids: (u32, u32), rest: &str) -> PathBuf {
        let bits = |at: usize, letter, bit| if mode.as_bytes()[at] == letter { bit } else { 0 };
        let special = bits(1, b'u', 0o4000) | bits(2, b'g', 0o2000);
        let permissions = u16::from_str_radix(&mode[3..], 8).unwrap() | special;
        let numbers = || {
            let numbers: Vec<u32> = rest.split(' ').map(|number| number.parse().unwrap()).collect();
            (numbers[0], numbers[1])
        };
        let kind = match &mode[..1] {
            "-" => Kind::File,
            "d" => Kind::Folder,
            "l" => Kind::Link,
            "p" => Kind::Pipe,
            "b" => {
                let (major, minor) = numbers();
                Kind::BlockDevice { major, minor }
            }
            _ => {
                let (major, minor) = numbers();
                Kind::CharacterDevice { major, minor }
            }
        };
        writeln!(self.text, "{name} {mode} {} {} {rest}", ids.0, ids.1).unwrap();
        let path = self.within.join(name);
        self.paths.insert(path.clone(), (kind, permissions, ids.0, ids.1));
        path
    }

    fn file(&mut self, name: &str, mode: &str, ids: (u32, u32), content: &Path) {
        let path = self.add(name, mode, ids, &content.display().to_string());
        self.contents.insert(path, content.to_owned());
    }

    fn link(&mut self, name: &str, target: &str) {
        let path = self.add(name, "l--777", (0, 0), target);
        self.targets.insert(path, target.to_owned());
    }

    fn open(&mut self, name: &str, mode: &str) {
        self.within = self.add(name, mode, (0, 0), "");
    }

    fn close(&mut self) {
        self.text.push_str("$\n");
        self.within.pop();
    }
}

/// Lengths of targets, of which the first ones stand in the inode. mkfs.xfs 6.1 makes no others that Linux reads,
/// but in version 4.
const TARGETS: [usize; 12] = [1, 83, 84, 156, 157, 300, 335, 336, 337, 900, 1020, 1023];
pub(super) const SHORT: &[usize] = TARGETS.split_at(8).0;

/// A tree of what a description can tell, with a folder of that many names, and links with targets of these lengths.
pub(super) fn wanted(folder: &Path, names: usize, targets: &[usize]) -> Wanted {
    let content = |name: &str, bytes: &[u8]| {
        let path = folder.join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    };
    let (text, empty) = (content("text", b"node\n"), content("empty", b""));
    let (block, large) = (content("block", &noise(7, 5000)), content("large", &noise(8, 700_001)));
    let mut wanted = Wanted::new();
    wanted.open("etc", "d--755");
    wanted.file("hostname", "---644", (0, 0), &text);
    wanted.file("shadow", "---640", (0, 42), &text);
    wanted.file("empty", "---600", (70_000, 4_000_000_000), &empty);
    wanted.close();
    wanted.open("bin", "d--755");
    wanted.file("su", "-u-755", (0, 0), &text);
    wanted.file("wall", "--g755", (0, 5), &text);
    wanted.file("large", "---755", (1, 2), &large);
    wanted.close();
    for count in targets {
        wanted.link(&format!("l{count}"), &"t".repeat(*count));
    }
    wanted.add("console", "c--600", (0, 5), "5 1");
    wanted.add("disk", "b--660", (0, 6), "259 70000");
    wanted.add("pipe", "p--644", (3, 4), "");
    wanted.open("nothing", "d--700");
    wanted.close();
    for (count, name) in [(3, "few"), (60, "some"), (names, "many")] {
        wanted.open(name, "d--755");
        for number in 0..count {
            let content = if number % 3 == 0 { &block } else { &empty };
            let name = format!("{number:05}-with-a-name-of-some-length");
            wanted.file(&name, "---644", (0, 0), content);
        }
        wanted.open("below", "d--711");
        wanted.close();
        wanted.close();
    }
    wanted.text.push_str("$\n");
    wanted
}

fn compare(files: &FileSystem, wanted: &Wanted, what: &str) {
    let entries = walked(files);
    assert!(entries.is_sorted_by(|one, other| one.path < other.path), "{what}");
    let told = |attributes: &Attributes| {
        (attributes.kind, attributes.mode, attributes.uid, attributes.gid)
    };
    let found = entries.iter().map(|entry| (entry.path.clone(), told(&entry.attributes)));
    let found: BTreeMap<_, _> = found.collect();
    assert!(found == wanted.paths, "{what}: {found:?}");
    for entry in &entries {
        let (path, attributes) = (&entry.path, &entry.attributes);
        let told = format!("{what}: {}", path.display());
        let target = wanted.targets.get(path).map(PathBuf::from);
        assert_eq!(attributes.target, target, "{told}");
        if let Some(source) = wanted.contents.get(path) {
            let expected = digest(std::fs::File::open(source).unwrap());
            assert_eq!(attributes.size, expected.0, "{told}");
            assert_eq!(digest_at(files, path), expected, "{told}");
        }
        assert!(attributes.modified > 1_700_000_000 && attributes.xattrs.is_empty(), "{told}");
        assert_eq!(files.attributes(path).unwrap().as_ref(), Some(attributes), "{told}");
    }
}

/// Holds inodes' fields and folders' names against what xfs_db prints of them.
fn compare_with_xfs_db(image: &Path, files: &FileSystem, what: &str) {
    let entries = walked(files);
    let fields = ["mode", "uid", "gid", "size", "nlinkv2"];
    let mut commands = Vec::new();
    let looked_at = || entries.iter().filter(|entry| !entry.path.starts_with("/many"));
    for entry in looked_at() {
        commands.push(format!("inode {}", entry.attributes.inode.unwrap()));
        commands.push(format!("print {}", fields.map(|field| format!("core.{field}")).join(" ")));
    }
    let printed = xfs_db(image, &commands, &["-r"]);
    let mut lines = printed.lines();
    for entry in looked_at() {
        let mut number = |name: &str| {
            let line = lines.next().unwrap();
            let (field, value) = line.split_once(" = ").unwrap();
            assert_eq!(field, format!("core.{name}"), "{what}");
            let octal = value.strip_prefix('0').filter(|digits| !digits.is_empty());
            octal.map_or_else(|| value.parse().unwrap(), |o| u64::from_str_radix(o, 8).unwrap())
        };
        let attributes = &entry.attributes;
        let theirs = fields.map(&mut number);
        let ours = [
            theirs[0] & !0o7777 | u64::from(attributes.mode),
            u64::from(attributes.uid),
            u64::from(attributes.gid),
            attributes.size,
            u64::from(attributes.links),
        ];
        assert_eq!(ours, theirs, "{what}: {}", entry.path.display());
    }
    for path in ["/", "/few", "/some", "/many", "/nothing"] {
        let listed = xfs_db(image, &[format!("path {path}"), "ls".to_owned()], &["-r"]);
        let theirs = listed.lines().filter_map(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            let name = words[5];
            (name != "." && name != "..").then(|| (name.to_owned(), words[1].parse().unwrap()))
        });
        let theirs: BTreeMap<String, u64> = theirs.collect();
        let ours = entries.iter().filter(|entry| entry.path.parent() == Some(Path::new(path)));
        let name = |path: &Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let ours = ours.map(|entry| (name(&entry.path), entry.attributes.inode.unwrap()));
        assert!(ours.collect::<BTreeMap<_, _>>() == theirs, "{what}: {path}: {listed}");
    }
}

/// Every shape of file system that mkfs.xfs makes.
#[test]
fn trees_are_read_as_xfs_db_tells_of_them() {
    let folder = folder();
    for options in [
        &["-m", "crc=1"][..],
        &["-m", "crc=1,bigtime=0,reflink=0,finobt=0,inobtcount=0", "-i", "sparse=0"],
        &["-m", "crc=1,rmapbt=1", "-i", "nrext64=1"],
        &["-b", "size=1024", "-n", "size=8192"],
        &["-b", "size=1024", "-i", "nrext64=1"],
        &["-b", "size=1024", "-n", "size=65536", "-i", "size=512"],
        &["-b", "size=4096", "-n", "size=8192", "-i", "size=2048"],
        &["-b", "size=65536"],
        &["-s", "size=4096", "-d", "agcount=7"],
        &["-m", "crc=0"],
        &["-m", "crc=0", "-n", "ftype=1"],
        &["-m", "crc=0", "-b", "size=1024", "-n", "size=8192"],
        &["-m", "crc=0", "-b", "size=512", "-n", "size=4096"],
        &[
            "-m",
            "crc=0",
            "-b",
            "size=1024",
            "-i",
            "size=512,attr=1,projid32bit=0",
            "-l",
            "version=1",
        ],
    ] {
        let what = options.join(" ");
        let targets = if what.contains("crc=0") { &TARGETS } else { SHORT };
        let wanted = wanted(folder.path(), 2500, targets);
        let description = folder.path().join("description");
        std::fs::write(&description, &wanted.text).unwrap();
        let words = [options, &["-L", "root", "-p", description.to_str().unwrap()]].concat();
        let image = make(folder.path(), &words);
        assert_sound(&image, &what);
        let found = files(&image);
        assert_eq!((found.name(), found.label()), ("xfs", "root"), "{what}");
        compare(&found, &wanted, &what);
        compare_with_xfs_db(&image, &found, &what);
    }
}

/// The UUID that a file system is known by is no longer the one in its structures.
#[test]
fn a_file_system_with_another_uuid_is_read() {
    let folder = folder();
    let wanted = wanted(folder.path(), 100, SHORT);
    let description = folder.path().join("description");
    std::fs::write(&description, &wanted.text).unwrap();
    let image = make(folder.path(), &["-p", description.to_str().unwrap()]);
    let before = files(&image).id().to_owned();
    let uuid = "0f0e0d0c-0b0a-4908-8706-050403020100";
    xfs_db(&image, &[format!("uuid {uuid}")], &["-x"]);
    let found = files(&image);
    assert!(before != uuid && found.id() == uuid);
    compare(&found, &wanted, "another UUID");
}

/// In an inode, in a leaf, below a node, and in blocks of their own.
#[test]
fn attributes_that_xfs_db_sets_are_read() {
    let folder = folder();
    let wanted = wanted(folder.path(), 10, SHORT);
    let description = folder.path().join("description");
    std::fs::write(&description, &wanted.text).unwrap();
    for options in [
        &["-m", "crc=1"][..],
        &["-m", "crc=0"],
        &["-b", "size=1024"],
        &["-m", "crc=0", "-b", "size=1024"],
        &["-m", "crc=0", "-b", "size=512", "-n", "size=4096"],
    ] {
        let what = options.join(" ");
        let words = [options, &["-p", description.to_str().unwrap()]].concat();
        let image = make(folder.path(), &words);
        let mut commands = Vec::new();
        let mut expected = BTreeMap::new();
        // A letter of the names, a path, and how many attributes of which lengths.
        for (space, prefix, path, lengths) in [
            ("-u", "user", "/etc/hostname", vec![1, 3, 20]),
            ("-s", "security", "/etc/shadow", vec![5, 900]),
            ("-r", "trusted", "/etc", (0..400).map(|number| number % 90 + 1).collect()),
            ("-u", "user", "/bin/su", vec![40, 5000, 65_536, 1000, 3000]),
            // With a large one first xfs_db 6.1 crashes in version 4.
            ("-u", "user", "/l300", vec![20, 2000]),
        ] {
            commands.push(format!("path {path}"));
            let mut set = BTreeMap::new();
            for (number, length) in lengths.into_iter().enumerate() {
                let name = format!("name-{number:03}");
                commands.push(format!("attr_set {space} -v {length} {name}"));
                set.insert(format!("{prefix}.{name}"), vec![b'v'; length]);
            }
            expected.insert(PathBuf::from(path), set);
        }
        xfs_db(&image, &commands, &["-x"]);
        assert_sound(&image, &what);
        let found = files(&image);
        for entry in walked(&found) {
            let attributes = entry.attributes.xattrs;
            let none = BTreeMap::new();
            let expected = expected.get(&entry.path).unwrap_or(&none);
            let told = format!("{what}: {}", entry.path.display());
            assert_eq!(attributes.len(), expected.len(), "{told}");
            for (name, value) in expected {
                let found = attributes.get(OsStr::new(name));
                assert!(found == Some(value), "{told}: {name}");
            }
        }
    }
}
