//! Whole trees read out of file systems that mke2fs filled, against the tree that they were filled from, debugfs and
//! a second reader.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use nodekiln_disk::files::{Attributes, Content, Entry, FileSystem, Kind};
use nodekiln_disk::{Disk, Extent, Part};
use nodekiln_words::{Cancel, Class, Failure, Result};
use proptest::prelude::*;

use crate::files::{START, around, files};
use crate::formats::{NAMES, read, write_all};
use crate::tools::{noise, run, succeed};

/// A folder on a file system with extended attributes: `/tmp` may have none.
pub(crate) fn folder() -> tempfile::TempDir {
    tempfile::tempdir_in("/var/tmp").unwrap()
}

/// A tree with all that a file system can hold, and a folder of that many names.
pub(crate) fn tree(folder: &Path, names: usize) -> PathBuf {
    let tree = folder.join("tree");
    let at = |path: &str| tree.join(path);
    let file = |path: &str, content: &[u8]| {
        std::fs::create_dir_all(at(path).parent().unwrap()).unwrap();
        std::fs::write(at(path), content).unwrap();
    };
    for (path, content) in [
        ("etc/hostname", &b"node\n"[..]),
        ("etc/shadow", b"root:*:\n"),
        ("etc/short", b"x"),
        ("etc/inline", &[b'i'; 100]),
        ("bin/ping", b"#!/bin/ping\n"),
        ("bin/su", b"#!/bin/su\n"),
        ("bin/wall", b"#!/bin/wall\n"),
        ("srv/one", b"one\n"),
        ("srv/large", &noise(9, 700_001)),
        ("a/b", b""),
        ("a.b", b""),
        ("empty", b""),
    ] {
        file(path, content);
    }
    // Names that are no text, and two that would be one as text.
    for name in [&b"\xFF"[..], b"\xFE", b"caf\xE9", "caf\u{e9}".as_bytes(), b"new\nline"] {
        std::fs::write(at("srv").join(OsStr::from_bytes(name)), name).unwrap();
    }
    for number in 0..names {
        file(&format!("many/{number:04}-with-a-name-of-some-length"), b"");
    }
    for (path, times) in [("srv/two", "srv/one"), ("bin/su-again", "bin/su"), ("a/su", "bin/su")] {
        std::fs::hard_link(at(times), at(path)).unwrap();
    }
    for (path, length) in [("l1", 1), ("l59", 59), ("l60", 60), ("l61", 61), ("l900", 900)] {
        std::os::unix::fs::symlink("t".repeat(length), at(path)).unwrap();
    }
    std::os::unix::fs::symlink(OsStr::from_bytes(b"srv/\xFF"), at("to-no-text")).unwrap();
    std::os::unix::fs::symlink("../bin/../etc", at("a/etc")).unwrap();
    std::os::unix::fs::symlink("round", at("round")).unwrap();
    let sparse = std::fs::File::create(at("sparse")).unwrap();
    sparse.set_len(90 << 20).unwrap();
    sparse.write_all_at(&noise(4, 70_000), 33_333_333).unwrap();
    sparse.write_all_at(b"end", (80 << 20) - 1).unwrap();
    // mke2fs leaves a hole at the end out where files may stand in inodes.
    sparse.write_all_at(b"z", (90 << 20) - 1).unwrap();
    drop(sparse);
    let node = |words: &[&str], path: &str| {
        let path = at(path);
        let words = words.iter().map(OsStr::new);
        succeed("mknod", "coreutils", [path.as_os_str()].into_iter().chain(words));
    };
    node(&["c", "5", "1"], "console");
    node(&["b", "259", "70000"], "disk");
    node(&["p"], "pipe");
    drop(std::os::unix::net::UnixListener::bind(at("socket")).unwrap());
    std::os::unix::fs::lchown(at("l1"), Some(12), Some(13)).unwrap();
    std::os::unix::fs::chown(at("etc/shadow"), Some(0), Some(42)).unwrap();
    std::os::unix::fs::chown(at("srv/large"), Some(70_000), Some(4_000_000_000)).unwrap();
    for (path, mode) in
        [("bin/su", 0o4755), ("bin/wall", 0o2755), ("a", 0o1777), ("etc/shadow", 0o640)]
    {
        std::fs::set_permissions(at(path), std::fs::Permissions::from_mode(mode)).unwrap();
    }
    for (path, seconds) in [("etc/short", -1_000_000_000), ("etc/inline", 2_000_000_000)] {
        let date = format!("@{seconds}");
        succeed("touch", "coreutils", ["-d".as_ref(), OsStr::new(&date), at(path).as_os_str()]);
    }
    attributes(&tree);
    tree
}

/// Gives files of the tree extended attributes.
fn attributes(tree: &Path) {
    let set = |path: &str, name: &str, value: &[u8]| {
        xattr::set(tree.join(path), name, value).unwrap();
    };
    let ping = tree.join("bin/ping");
    let words = ["cap_net_raw+ep".as_ref(), ping.as_os_str()];
    succeed("setcap", "libcap2-bin", words);
    set("etc/hostname", "user.note", b"hello");
    set("etc/hostname", "user.empty", b"");
    set("etc/hostname", "trusted.overlay.opaque", b"y");
    set("etc/hostname", "user.\u{e4}", &[0, 1, 0xFF]);
    set("etc", "user.folder", b"x");
    // Too long for an inode.
    set("srv/large", "user.long", &noise(5, 700));
    set("srv/large", "security.selinux", b"system_u:object_r:usr_t:s0\0");
    let list = [
        (0x01, 6, u32::MAX),
        (0x02, 4, 1000),
        (0x04, 4, u32::MAX),
        (0x10, 6, u32::MAX),
        (0x20, 4, u32::MAX),
    ];
    let mut value = 2_u32.to_le_bytes().to_vec();
    for (tag, permissions, id) in list {
        value.extend(u16::to_le_bytes(tag));
        value.extend(u16::to_le_bytes(permissions));
        value.extend(u32::to_le_bytes(id));
    }
    set("bin/wall", "system.posix_acl_access", &value);
    set("a", "system.posix_acl_default", &value);
}

fn make(folder: &Path, tree: &Path, words: &[&str]) -> PathBuf {
    let image = folder.join("image");
    let words = ["-q", "-F", "-d"]
        .iter()
        .map(OsStr::new)
        .chain([tree.as_os_str()])
        .chain(words.iter().map(OsStr::new).chain([image.as_os_str(), OsStr::new("128M")]));
    succeed("mke2fs", "e2fsprogs", words);
    image
}

fn debugfs(image: &Path, request: &str) -> String {
    let words = ["-w", "-R", request].map(OsStr::new);
    succeed("debugfs", "e2fsprogs", words.into_iter().chain([image.as_os_str()]))
}

pub(crate) fn walked(files: &FileSystem) -> Vec<Entry> {
    let mut entries = Vec::new();
    let push = &mut |entry: &Entry| {
        entries.push(entry.clone());
        Ok(())
    };
    files.walk(push).unwrap();
    entries
}

/// What Linux tells of the tree that a file system was filled from, with the paths that it has there.
pub(crate) fn expected(tree: &Path) -> Vec<Entry> {
    let mut found = Vec::new();
    let mut left = vec![tree.to_owned()];
    while let Some(path) = left.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let device = |rdev: u64| (rustix::fs::major(rdev), rustix::fs::minor(rdev));
        let (major, minor) = device(metadata.rdev());
        let kind = match metadata.mode() >> 12 {
            0x1 => Kind::Pipe,
            0x2 => Kind::CharacterDevice { major, minor },
            0x4 => Kind::Folder,
            0x6 => Kind::BlockDevice { major, minor },
            0x8 => Kind::File,
            0xA => Kind::Link,
            _ => Kind::Socket,
        };
        if kind == Kind::Folder {
            left.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
        let names = xattr::list(&path).unwrap();
        let xattrs = names.map(|name| (name.clone(), xattr::get(&path, name).unwrap().unwrap()));
        let attributes = Attributes {
            kind,
            mode: u16::try_from(metadata.mode() & 0o7777).unwrap(),
            uid: metadata.uid(),
            gid: metadata.gid(),
            size: metadata.len(),
            modified: metadata.mtime(),
            inode: Some(metadata.ino()),
            links: u32::try_from(metadata.nlink()).unwrap(),
            target: (kind == Kind::Link).then(|| std::fs::read_link(&path).unwrap()),
            xattrs: xattrs.collect(),
        };
        let within = path.strip_prefix(tree).unwrap();
        found.push(Entry { path: Path::new("/").join(within), attributes });
    }
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

/// Which paths are one file.
fn hard_links(entries: &[Entry]) -> BTreeSet<Vec<&Path>> {
    let mut groups: BTreeMap<_, Vec<&Path>> = BTreeMap::new();
    for entry in entries.iter().filter(|entry| entry.path != Path::new("/lost+found")) {
        groups.entry(entry.attributes.inode).or_default().push(&entry.path);
    }
    groups.into_values().collect()
}

/// Holds all that is read of `image` against the tree that it was filled from.
fn compare(image: &Path, tree: &Path, expected: &[Entry], what: &str) {
    let files = files(image);
    let entries = walked(&files);
    assert!(entries.is_sorted_by(|one, other| one.path < other.path), "{what}");
    assert_eq!(hard_links(&entries), hard_links(expected), "{what}");
    let entries = entries.into_iter().filter(|entry| entry.path != Path::new("/lost+found"));
    let entries: Vec<Entry> = entries.collect();
    assert_eq!(entries.len(), expected.len(), "{what}");
    for (found, expected) in entries.iter().zip(expected) {
        let told = format!("{what}: {}", found.path.display());
        assert_eq!(found.path, expected.path, "{what}");
        let (entry_path, found) = (&found.path, &found.attributes);
        let expected = &expected.attributes;
        let mut wanted = expected.clone();
        wanted.inode = found.inode;
        if entry_path == Path::new("/") {
            wanted.modified = found.modified; // mke2fs makes the root itself
        }
        if found.kind == Kind::Folder {
            // Folders take what they need, and the root has `lost+found` besides.
            (wanted.size, wanted.links) = (found.size, found.links);
        }
        assert_eq!(*found, wanted, "{told}");
    }
    for entry in entries {
        let (path, attributes) = (&entry.path, &entry.attributes);
        assert_eq!(files.attributes(path).unwrap().as_ref(), Some(attributes), "{what}");
        assert_eq!(files.link(path).unwrap(), attributes.target, "{what}: {}", path.display());
        if attributes.kind == Kind::File && !path.starts_with("/many") {
            let content = std::fs::read(tree.join(path.strip_prefix("/").unwrap())).unwrap();
            let mut read = Vec::new();
            let mut reader = files.open(path).unwrap().unwrap();
            assert_eq!(reader.size(), attributes.size);
            reader.read_to_end(&mut read).unwrap();
            assert!(read == content, "{what}: {}", path.display());
        }
    }
}

/// Every shape that file systems of the last thirty years have.
#[test]
fn trees_are_read_as_linux_tells_of_them() {
    let folder = folder();
    let tree = tree(folder.path(), 300);
    let expected = expected(&tree);
    for words in [
        &["-t", "ext4"][..],
        &["-t", "ext4", "-O", "^metadata_csum"],
        &["-t", "ext4", "-O", "^metadata_csum,uninit_bg,^64bit"],
        &["-t", "ext4", "-O", "metadata_csum_seed,sparse_super2,large_dir,encrypt,^64bit"],
        &["-t", "ext4", "-O", "meta_bg,^resize_inode", "-b", "1024", "-g", "2048"],
        &["-t", "ext4", "-O", "inline_data"],
        &["-t", "ext4", "-O", "inline_data", "-I", "1024"],
        &["-t", "ext4", "-O", "bigalloc", "-C", "16384"],
        &["-t", "ext4", "-I", "128", "-b", "2048"],
        &["-t", "ext4", "-b", "65536", "-N", "8192"],
        &["-t", "ext4", "-O", "^extents,^64bit", "-b", "1024"],
        &["-t", "ext3"],
        &["-t", "ext2", "-I", "128", "-b", "1024", "-O", "^filetype"],
        &["-t", "ext2", "-r", "1", "-b", "4096", "-O", "^dir_index"],
    ] {
        let image = make(folder.path(), &tree, words);
        compare(&image, &tree, &expected, &words.join(" "));
        // Folders get their hashes by a check, and the file systems are sound.
        let checked = run("e2fsck", "e2fsprogs", ["-fyD".as_ref(), image.as_os_str()]);
        assert!(matches!(checked.status.code(), Some(0 | 1)), "{words:?}: {checked:?}");
        compare(&image, &tree, &expected, &format!("{} with hashes", words.join(" ")));
    }
}

/// Two levels of hashes, in blocks of names of which there are many.
#[test]
fn a_folder_of_five_thousand_names_is_read() {
    let folder = folder();
    let tree = tree(folder.path(), 5000);
    let expected = expected(&tree);
    for words in [&["-t", "ext4", "-b", "1024"][..], &["-t", "ext2", "-b", "1024"]] {
        let image = make(folder.path(), &tree, words);
        let checked = run("e2fsck", "e2fsprogs", ["-fyD".as_ref(), image.as_os_str()]);
        assert!(matches!(checked.status.code(), Some(0 | 1)), "{words:?}: {checked:?}");
        assert!(debugfs(&image, "htree_dump /many").contains("Number of entries"));
        compare(&image, &tree, &expected, &words.join(" "));
    }
}

/// Values that are longer than a block stand in inodes of their own.
#[test]
fn values_in_inodes_of_their_own_are_read() {
    let folder = folder();
    let tree = tree(folder.path(), 50);
    let value = folder.path().join("value");
    // debugfs takes values of a block at most, which do not fit into one with their names.
    for (block, length) in [("1024", 1024), ("4096", 4096), ("65536", 65_536)] {
        let image = make(folder.path(), &tree, &["-t", "ext4", "-O", "ea_inode", "-b", block]);
        std::fs::write(&value, noise(6, length)).unwrap();
        debugfs(&image, &format!("ea_set -f {} /etc/hostname user.long", value.display()));
        let found = files(&image).attributes("/etc/hostname").unwrap().unwrap();
        assert!(found.xattrs.get(OsStr::new("user.long")) == Some(&noise(6, length)), "{block}");
        assert_eq!(found.xattrs.get(OsStr::new("user.note")).unwrap(), b"hello");
    }
}

/// Another reader, which has no extended attributes, tells the same of names, inodes' fields and contents.
#[test]
fn a_second_reader_tells_the_same() {
    let folder = folder();
    let tree = tree(folder.path(), 50);
    let image = make(folder.path(), &tree, &["-t", "ext4"]);
    let other = ext4_view::Ext4::load_from_path(&image).unwrap();
    let files = files(&image);
    let mut count = 0;
    let visit = &mut |entry: &Entry| {
        let path = ext4_view::PathBuf::try_from(entry.path.as_os_str().as_bytes()).unwrap();
        let (theirs, ours) = (other.symlink_metadata(&path).unwrap(), &entry.attributes);
        let fields = (theirs.mode() & 0o7777, theirs.uid(), theirs.gid());
        assert_eq!(fields, (ours.mode, ours.uid, ours.gid), "{path:?}");
        assert_eq!(theirs.len(), ours.size, "{path:?}");
        if ours.kind == Kind::File {
            assert!(
                files.read(&entry.path)?.is_none_or(|bytes| bytes == other.read(&path).unwrap())
            );
        }
        count += 1;
        Ok::<_, Failure>(())
    };
    // Files of up to 64 MiB are read at once.
    // It takes times before 1970 for damage.
    let result = files.walk(&mut |entry| match entry.path.to_str() {
        Some("/sparse" | "/etc/short") => Ok(()),
        _ => visit(entry),
    });
    result.unwrap();
    assert!(count > 80, "{count}");
}

#[test]
fn links_lead_where_linux_follows_them() {
    let folder = folder();
    let tree = tree(folder.path(), 50);
    let image = make(folder.path(), &tree, &["-t", "ext4"]);
    let files = files(&image);
    for path in
        ["/a/etc/hostname", "/a/etc/../etc/./hostname", "//etc//hostname/", "/../etc/hostname"]
    {
        assert_eq!(files.text(path).unwrap().as_deref(), Some("node\n"), "{path}");
    }
    let no_text = PathBuf::from(OsString::from_vec(b"/srv/\xFF".to_vec()));
    assert_eq!(files.read("/to-no-text").unwrap().unwrap(), b"\xFF");
    assert_eq!(files.read(&no_text).unwrap().unwrap(), b"\xFF");
    assert_eq!(files.link("/a/etc").unwrap(), Some(PathBuf::from("../bin/../etc")));
    assert_eq!(files.attributes("/a/etc").unwrap().unwrap().kind, Kind::Link);
    // A link to itself leads nowhere; nor does a path through a file, or into a device.
    for path in ["/round", "/round/x", "/etc/hostname/x", "/console", "/pipe", "/etc"] {
        assert_eq!(files.read(path).unwrap(), None, "{path}");
    }
    assert!(!files.exists("/round").unwrap() && files.attributes("/round").unwrap().is_some());
    assert_eq!(files.link("/etc/hostname").unwrap(), None);
    let names = files.list("/srv").unwrap();
    assert_eq!(names, ["caf\u{e9}", "large", "new\nline", "one", "two"]);
}

#[test]
fn large_files_are_read_piece_by_piece() {
    let folder = folder();
    let tree = tree(folder.path(), 50);
    let sparse = std::fs::File::options().write(true).open(tree.join("sparse")).unwrap();
    sparse.set_len(91 << 20).unwrap();
    let image = make(folder.path(), &tree, &["-t", "ext4"]);
    let files = files(&image);
    assert_eq!(files.read("/sparse").unwrap_err().class(), Class::Unsupported);
    let mut reader = files.open("/sparse").unwrap().unwrap();
    assert_eq!(reader.seek(SeekFrom::Start((80 << 20) - 2)).unwrap(), (80 << 20) - 2);
    let mut piece = [7; 6];
    reader.read_exact(&mut piece).unwrap();
    assert_eq!(piece, *b"\0end\0\0");
    assert_eq!(reader.seek(SeekFrom::End(-2)).unwrap(), (91 << 20) - 2);
    assert_eq!((reader.read(&mut piece).unwrap(), &piece[..2]), (2, &[0, 0][..]));
    assert_eq!(reader.read(&mut piece).unwrap(), 0);
    assert!(reader.seek(SeekFrom::Current(-(92 << 20))).is_err());
}

/// Bytes that a file system is told to have in its journal, put there by debugfs.
#[test]
fn what_stands_in_the_journal_counts() {
    let folder = folder();
    let tree = tree(folder.path(), 50);
    for (words, open) in [
        (&["-t", "ext4"][..], "jo -c -v 3"),
        (&["-t", "ext4"], "jo -c -v 2"),
        (&["-t", "ext4"], "jo"),
        (&["-t", "ext3", "-b", "1024"], "jo"),
    ] {
        let image = make(folder.path(), &tree, words);
        let block = |path: &str| debugfs(&image, &format!("blocks {path}")).trim().to_owned();
        let blocks = ["/etc/hostname", "/etc/shadow", "/bin/su"].map(block);
        let size = 1024_usize << std::fs::read(&image).unwrap()[1024 + 24];
        // The second begins as the journal's own blocks do.
        let news = [&b"NEWS\n"[..], &[0xC0, 0x3B, 0x39, 0x98, b'\n'], b"LAST\n"];
        let mut script = String::new();
        for (number, (block, news)) in blocks.iter().zip(news).enumerate() {
            let path = folder.path().join(format!("news-{number}"));
            let mut bytes = news.to_vec();
            bytes.resize(size, b'x');
            std::fs::write(&path, bytes).unwrap();
            script += &format!("{open}\njw -b {block} {}\njc\n", path.display());
        }
        // The last one is taken back.
        script += &format!("{open}\njw -r {}\njc\n", blocks[2]);
        let requests = folder.path().join("requests");
        std::fs::write(&requests, script).unwrap();
        let words_of = ["-w".as_ref(), "-f".as_ref(), requests.as_os_str(), image.as_os_str()];
        succeed("debugfs", "e2fsprogs", words_of);
        let contents = |image: &Path| {
            let files = files(image);
            ["/etc/hostname", "/etc/shadow", "/bin/su"]
                .map(|path| files.read(path).unwrap().unwrap())
        };
        let found = contents(&image);
        assert_eq!(found[0], b"NEWS\n", "{words:?} {open}");
        assert_eq!(found[1][..5], *news[1], "{words:?} {open}");
        assert_eq!(found[2][..5], *b"#!/bi", "{words:?} {open}");
        // That is what a repair makes of it.
        let checked = run("e2fsck", "e2fsprogs", ["-fy".as_ref(), image.as_os_str()]);
        assert!(matches!(checked.status.code(), Some(0 | 1)), "{checked:?}");
        assert_eq!(contents(&image), found, "{words:?} {open}");
    }
}

/// The same paths with the same attributes, and the same contents, in every format.
#[test]
fn every_format_has_the_same_tree() {
    let folder = folder();
    let tree = tree(folder.path(), 50);
    let image = make(folder.path(), &tree, &["-t", "ext4"]);
    let (disk, part) = around(&image);
    let mut sector = vec![0; 512];
    sector[446 + 4] = 0x83;
    for (at, sectors) in [(446 + 8, part.start / 512), (446 + 12, part.length / 512)] {
        sector[at..at + 4].copy_from_slice(&u32::try_from(sectors).unwrap().to_le_bytes());
    }
    sector[510..].copy_from_slice(&[0x55, 0xAA]);
    let extents = [vec![Extent::memory(0, sector)], disk.extents().to_vec()].concat();
    let disk = Disk::new(1 << 30, extents).unwrap();
    let formats = folder.path().join("formats");
    std::fs::create_dir(&formats).unwrap();
    write_all(&[(&disk, &formats)]);
    let sound = files(&image);
    let (entries, large) = (walked(&sound), sound.read("/srv/large").unwrap());
    for name in NAMES {
        let image = read(&formats.join(name));
        let Content::Files(files) = Content::of(image.disk(), &part, &Cancel::default()).unwrap()
        else {
            panic!("no file system in {name}")
        };
        assert!(walked(&files) == entries, "{name}");
        assert!(files.read("/srv/large").unwrap() == large, "{name}");
    }
}

#[test]
fn several_threads_share_a_file_system() {
    let folder = folder();
    let tree = tree(folder.path(), 50);
    let files = files(&make(folder.path(), &tree, &["-t", "ext4"]));
    let entries = walked(&files);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(walked(&files) == entries));
        }
    });
}

/// Folders that stand in themselves, or in two places, which debugfs makes of sound ones.
#[test]
fn a_folder_in_two_places_is_an_error() {
    let folder = folder();
    let tree = tree(folder.path(), 50);
    for (folder_of, link) in [("/etc", "/etc/again"), ("/a", "/srv/again"), ("/", "/a/root")] {
        let image = make(folder.path(), &tree, &["-t", "ext4"]);
        debugfs(&image, &format!("link {folder_of} {link}"));
        let files = files(&image);
        let failure = files.walk(&mut |_| Ok(())).unwrap_err();
        let told = failure.chain().join(": ");
        assert!(told.contains("in two places"), "{told}");
        // Paths have an end, whatever the folders have.
        assert!(files.exists(link).unwrap());
    }
}

#[test]
fn a_walk_ends_when_its_visitor_or_somebody_else_asks() {
    let folder = folder();
    let tree = tree(folder.path(), 50);
    let image = make(folder.path(), &tree, &["-t", "ext4"]);
    let files_of = |cancel: &Cancel| {
        let (disk, part) = around(&image);
        match Content::of(&disk, &part, cancel).unwrap() {
            Content::Files(files) => files,
            _ => panic!("no file system"),
        }
    };
    let mut count = 0;
    let failure = files_of(&Cancel::default()).walk(&mut |_| {
        count += 1;
        if count == 10 { Err(Failure::io("enough")) } else { Ok(()) }
    });
    assert_eq!((failure.unwrap_err().to_string().as_str(), count), ("enough", 10));
    let cancel = Cancel::default();
    let failure = files_of(&cancel).walk(&mut |_| {
        cancel.cancel();
        Ok(())
    });
    assert_eq!(failure.unwrap_err().class(), Class::Interrupted);
}

#[test]
fn what_is_encrypted_or_unknown_is_said_to_be() {
    let folder = folder();
    let tree = tree(folder.path(), 50);
    let image = make(folder.path(), &tree, &["-t", "ext4", "-O", "encrypt"]);
    for path in ["/etc", "/bin/su", "/l900"] {
        debugfs(&image, &format!("sif {path} flags 0x800"));
    }
    let files = files(&image);
    let unsupported = |result: Result<()>| {
        let failure = result.unwrap_err();
        let told = failure.chain().join(": ");
        assert_eq!(failure.class(), Class::Unsupported, "{told}");
        assert!(told.contains("encrypted"), "{told}");
    };
    unsupported(files.read("/etc/hostname").map(|_| ()));
    unsupported(files.read("/bin/su").map(|_| ()));
    unsupported(files.link("/l900").map(|_| ()));
    unsupported(files.walk(&mut |_| Ok(())));
    let image = make(folder.path(), &tree, &["-t", "ext2"]);
    let file = std::fs::File::options().write(true).open(&image).unwrap();
    for (features, told) in [(0x1_u32, "compression"), (0x4000_0002, "0x40000000")] {
        file.write_all_at(&features.to_le_bytes(), 1024 + 0x60).unwrap();
        let (disk, part) = around(&image);
        let failure = Content::of(&disk, &part, &Cancel::default()).map(|_| ()).unwrap_err();
        assert_eq!(failure.class(), Class::Unsupported);
        assert!(failure.chain().join(": ").contains(told), "{failure:?}");
    }
}

/// A small file system whose structures all have checksums, and what is walked of it.
static SOUND: std::sync::LazyLock<(Vec<u8>, Vec<Entry>, Vec<usize>)> =
    std::sync::LazyLock::new(|| {
        let folder = folder();
        let whole = tree(folder.path(), 50);
        std::fs::remove_dir_all(whole.join("many")).unwrap();
        for path in ["sparse", "l60", "l61", "l900"] {
            // Targets that stand in blocks have no checksums.
            std::fs::remove_file(whole.join(path)).unwrap();
        }
        for number in 0..300 {
            let name = format!("d/{number:03}-{}", "n".repeat(100));
            std::fs::create_dir_all(whole.join("d")).unwrap();
            std::fs::write(whole.join(name), "").unwrap();
        }
        let image = folder.path().join("small");
        let words = ["-q", "-F", "-t", "ext4", "-b", "1024", "-d"].map(OsStr::new);
        let words =
            words.into_iter().chain([whole.as_os_str(), image.as_os_str(), OsStr::new("8M")]);
        succeed("mke2fs", "e2fsprogs", words);
        run("e2fsck", "e2fsprogs", ["-fyD".as_ref(), image.as_os_str()]);
        let bytes = std::fs::read(&image).unwrap();
        let entries = walked(&files(&image));
        // Places that matter: bytes that are not zero, but for the content of files.
        let content = noise(9, 700_001);
        let is_content = |at: usize| {
            bytes[at..].len() >= 8 && content.windows(8).any(|w| *w == bytes[at..at + 8])
        };
        let blocks =
            bytes.chunks(1024).enumerate().filter(|(_, block)| block.iter().any(|b| *b != 0));
        let blocks = blocks.map(|(number, _)| number).filter(|number| !is_content(number * 1024));
        (bytes.clone(), entries, blocks.collect())
    });

fn in_memory(bytes: Vec<u8>) -> Result<Content> {
    let length = bytes.len() as u64;
    let disk = Disk::new(START + length, vec![Extent::memory(START, bytes)]).unwrap();
    let part = Part {
        number: 1,
        start: START,
        length,
        kind: "0x83".to_owned(),
        guid: None,
        name: String::new(),
    };
    Content::of(&disk, &part, &Cancel::default())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Where structures have checksums, a changed byte is an error or was not one of theirs: never another tree.
    #[test]
    fn a_changed_byte_never_makes_another_tree(
        block in any::<prop::sample::Index>(),
        at in 0..1024_usize,
        change in 1..=255_u8,
    ) {
        let (bytes, entries, blocks) = &*SOUND;
        let mut bytes = bytes.clone();
        bytes[blocks[block.index(blocks.len())] * 1024 + at] ^= change;
        if let Ok(Content::Files(files)) = in_memory(bytes) {
            let mut found = Vec::new();
            let result = files.walk(&mut |entry| {
                found.push(entry.clone());
                Ok(())
            });
            if result.is_ok() {
                prop_assert!(found == *entries);
            }
        }
    }
}
