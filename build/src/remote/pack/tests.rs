//! Trees of every kind of entry go into packs and come back; packs that lie do not.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Seek as _, Write as _};
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nodekiln_recipes::Inventory;
use nodekiln_recipes::inventory::{Entry, EntryKind};
use nodekiln_words::Cancel;
use proptest::prelude::*;
use rustix::fs::{CWD, FileType, Mode};

use super::frames::FrameWriter;
use super::*;
use crate::layer::{OPAQUE, scan_as};

/// One thing to put into a tree, in a place that the number chooses.
#[derive(Clone, Debug)]
enum Thing {
    Directory { opaque: bool },
    File(Vec<u8>),
    Sparse { size: u64, at: u64 },
    Link(String),
    Name(usize),
    Node(FileType, u32),
    Whiteout,
}

/// A thing with its place, permissions, owner, time and attribute.
type Placed = (Thing, usize, u32, u32, i64, Option<Vec<u8>>);

fn thing() -> impl Strategy<Value = Thing> {
    prop_oneof![
        3 => any::<bool>().prop_map(|opaque| Thing::Directory { opaque }),
        // A few contents only, so that files share them.
        4 => prop::sample::select(vec![vec![], vec![0; 9000], b"same".to_vec(), vec![7; 5000]])
            .prop_map(Thing::File),
        2 => prop::collection::vec(any::<u8>(), 0..300).prop_map(Thing::File),
        1 => (0u64..5_000_000, 0u64..5_000_000).prop_map(|(size, at)| Thing::Sparse { size, at }),
        2 => "[a-z./]{1,12}".prop_map(Thing::Link),
        3 => any::<usize>().prop_map(Thing::Name),
        1 => prop::sample::select(vec![
            FileType::Fifo, FileType::Socket, FileType::CharacterDevice, FileType::BlockDevice,
        ]).prop_flat_map(|kind| (1u32..9).prop_map(move |minor| Thing::Node(kind, minor))),
        1 => Just(Thing::Whiteout),
    ]
}

fn placed() -> impl Strategy<Value = Placed> {
    let attribute = prop::option::of(prop::collection::vec(any::<u8>(), 0..20));
    (thing(), any::<usize>(), 0u32..0o10000, 0u32..3, -5i64..2_000_000_000, attribute)
}

/// Makes a tree below `root`; the folder itself is its owner's alone.
fn grow(root: &Path, things: &[Placed]) {
    fs::create_dir(root).unwrap();
    let mut folders = vec![root.to_owned()];
    let mut others: Vec<PathBuf> = Vec::new();
    let mut finish = Vec::new();
    for (number, (thing, place, mode, uid, mtime, attribute)) in things.iter().enumerate() {
        // Names that are escaped, and some that sort around a slash.
        let odd = ["", "\\", "é", "-", ".", "0"][number % 6];
        let path = folders[place % folders.len()].join(format!("n{number}{odd}"));
        match thing {
            Thing::Directory { opaque } => {
                fs::create_dir(&path).unwrap();
                if *opaque {
                    xattr::set(&path, OPAQUE, b"y").unwrap();
                }
                folders.push(path.clone());
            }
            Thing::File(bytes) => fs::write(&path, bytes).unwrap(),
            Thing::Sparse { size, at } => {
                let file = File::create(&path).unwrap();
                file.set_len(*size).unwrap();
                let at = (*at).min(size.saturating_sub(3));
                file.write_all_at(
                    b"abc".get(..usize::try_from(*size).unwrap().min(3)).unwrap(),
                    at,
                )
                .unwrap();
            }
            Thing::Link(target) => symlink(target, &path).unwrap(),
            Thing::Name(other) => match others.get(other % others.len().max(1)) {
                Some(other) => {
                    fs::hard_link(other, &path).unwrap();
                    continue;
                }
                None => continue,
            },
            Thing::Node(kind, minor) => {
                let device = rustix::fs::makedev(1, *minor);
                rustix::fs::mknodat(CWD, &path, *kind, Mode::RUSR, device).unwrap();
            }
            Thing::Whiteout => {
                let kind = FileType::CharacterDevice;
                rustix::fs::mknodat(CWD, &path, kind, Mode::RUSR, 0).unwrap();
                continue;
            }
        }
        if !matches!(thing, Thing::Directory { .. }) {
            others.push(path.clone());
        }
        finish.push((path, *mode, *uid, *mtime, attribute.clone()));
    }
    for (path, mode, uid, mtime, attribute) in finish.iter().rev() {
        std::os::unix::fs::lchown(path, Some(*uid), Some(*uid + 1)).unwrap();
        if !path.is_symlink() {
            fs::set_permissions(path, fs::Permissions::from_mode(*mode)).unwrap();
        }
        if let Some(value) = attribute {
            xattr::set(path, "trusted.test", value).unwrap();
        }
        let moment = rustix::fs::Timespec { tv_sec: *mtime, tv_nsec: 0 };
        let times = rustix::fs::Timestamps { last_access: moment, last_modification: moment };
        let nofollow = rustix::fs::AtFlags::SYMLINK_NOFOLLOW;
        rustix::fs::utimensat(CWD, path, &times, nofollow).unwrap();
    }
}

/// The inventory of a tree whose files of these paths are disks.
fn listed(tree: &Path, disks: &[String]) -> Inventory {
    let kind = EntryKind::Disk { size: 0, blocks: Sha256::of("") };
    let disk = Entry { kind, mode: 0, uid: 0, gid: 0, mtime: 0, xattrs: BTreeMap::new() };
    let entries = disks.iter().map(|path| (path.clone(), disk.clone())).collect();
    scan_as(tree, &Inventory { entries }, true, &Cancel::default()).unwrap()
}

fn packed(tree: &Path, inventory: &Inventory) -> (File, PackName) {
    let mut file = tempfile::tempfile().unwrap();
    let name = pack(tree, inventory, &file, &Cancel::default()).unwrap();
    file.rewind().unwrap();
    (file, name)
}

/// Which paths are names of one file.
fn shared_names(tree: &Path, inventory: &Inventory) -> Vec<Vec<String>> {
    let mut names: BTreeMap<u64, Vec<String>> = BTreeMap::new();
    for (path, entry) in &inventory.entries {
        if content::may_have_names(entry) {
            let inside = paths::place(path).unwrap();
            let place = tree.join(inside.strip_prefix("/").unwrap());
            names.entry(fs::symlink_metadata(place).unwrap().ino()).or_default().push(path.clone());
        }
    }
    let mut lists: Vec<_> = names.into_values().filter(|names| names.len() > 1).collect();
    lists.sort();
    lists
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn any_tree_comes_back_as_it_was_and_packs_to_the_same_bytes(
        things in prop::collection::vec(placed(), 0..25),
        disk: bool,
    ) {
        let folder = tempfile::tempdir().unwrap();
        let (tree, copy) = (folder.path().join("tree"), folder.path().join("copy"));
        grow(&tree, &things);
        let sparse = |entry: &Entry| matches!(entry.kind, EntryKind::File { size, .. } if size > 9000);
        let plain = listed(&tree, &[]);
        let disks = plain.entries.iter().filter(|(_, entry)| disk && sparse(entry));
        let disks: Vec<String> = disks.map(|(path, _)| path.clone()).collect();
        let inventory = listed(&tree, &disks);
        let (file, name) = packed(&tree, &inventory);
        fs::create_dir(&copy).unwrap();
        let cancel = Cancel::default();
        let read = unpack(&file, &name, &inventory.digest(), &copy, &cancel).unwrap();
        prop_assert_eq!(&read, &inventory);
        prop_assert_eq!(&scan_as(&copy, &inventory, true, &cancel).unwrap(), &inventory);
        prop_assert_eq!(shared_names(&copy, &inventory), shared_names(&tree, &inventory));
        prop_assert_eq!(packed(&copy, &inventory).1, name);
    }
}

#[test]
fn holes_and_zeros_take_no_room_and_stay_holes() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let disk = File::create(tree.join("disk.raw")).unwrap();
    disk.set_len(8 << 30).unwrap();
    disk.write_all_at(&[1; 5000], 5 << 30).unwrap();
    disk.write_all_at(&[0; 1 << 20], 6 << 30).unwrap();
    fs::copy(tree.join("disk.raw"), tree.join("other.raw")).unwrap();
    let inventory = listed(&tree, &["/disk.raw".to_owned(), "/other.raw".to_owned()]);
    let (file, name) = packed(&tree, &inventory);
    assert!(name.unpacked < 20_000, "{name:?}");
    let copy = folder.path().join("copy");
    fs::create_dir(&copy).unwrap();
    unpack(&file, &name, &inventory.digest(), &copy, &Cancel::default()).unwrap();
    for disk in ["disk.raw", "other.raw"] {
        let metadata = fs::metadata(copy.join(disk)).unwrap();
        assert_eq!(metadata.len(), 8 << 30);
        assert!(metadata.blocks() * 512 < 1 << 20, "{disk} takes {} blocks", metadata.blocks());
    }
    assert_eq!(scan_as(&copy, &inventory, true, &Cancel::default()).unwrap(), inventory);
}

#[test]
fn a_tree_that_changed_since_it_was_listed_is_not_packed() {
    let folder = tempfile::tempdir().unwrap();
    let tree = folder.path().join("tree");
    fs::create_dir(&tree).unwrap();
    let inventory = |bytes: &[u8]| {
        fs::write(tree.join("file"), bytes).unwrap();
        listed(&tree, &[])
    };
    let inventory = inventory(b"good bytes");
    for bytes in [&b"evil bytes"[..], b"good", b"good bytes and more"] {
        fs::write(tree.join("file"), bytes).unwrap();
        let file = tempfile::tempfile().unwrap();
        assert!(pack(&tree, &inventory, &file, &Cancel::default()).is_err(), "{bytes:?}");
    }
}

/// A pack of our making, true or not.
fn forged(inventory: &str, links: &str, rest: &[u8]) -> (File, PackName, Sha256) {
    let mut frames = FrameWriter::new(tempfile::tempfile().unwrap());
    write!(frames, "{MAGIC} {} {}\n{inventory}{links}", inventory.len(), links.len()).unwrap();
    frames.write_all(rest).unwrap();
    let (mut file, unpacked) = frames.finish().unwrap();
    let size = file.stream_position().unwrap();
    file.rewind().unwrap();
    (file, PackName { sha256: Sha256::of(""), size, unpacked }, Sha256::of(inventory))
}

const ROOT: &str = r#"["/",{"kind":"directory","mode":493,"uid":0,"gid":0,"mtime":0}]"#;
const END: [u8; 12] = [0; 12];

fn line(path: &str, kind: &str) -> String {
    format!(r#"["{path}",{{{kind},"mode":420,"uid":0,"gid":0,"mtime":0}}]"#) + "\n"
}

fn file_line(path: &str, size: u64) -> String {
    line(path, &format!(r#""kind":"file","size":{size},"sha256":"{}""#, Sha256::of("")))
}

fn run(offset: u64, length: u32, bytes: &[u8]) -> Vec<u8> {
    [&offset.to_le_bytes()[..], &length.to_le_bytes(), bytes].concat()
}

/// What a pack is refused for.
fn refused(inventory: &str, links: &str, rest: &[u8]) -> String {
    let folder = tempfile::tempdir().unwrap();
    let outside = folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    let output = folder.path().join("output");
    fs::create_dir(&output).unwrap();
    let inventory =
        ROOT.to_owned() + "\n" + &inventory.replace("OUTSIDE", outside.to_str().unwrap());
    let (file, name, digest) = forged(&inventory, links, rest);
    let error = unpack(&file, &name, &digest, &output, &Cancel::default()).unwrap_err();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0, "something was written outside");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2, "something was written outside");
    error.to_string()
}

#[test]
fn a_pack_that_lies_is_refused_and_writes_nothing_outside() {
    let link = line("/a", r#""kind":"link","target":"OUTSIDE""#);
    let bad_paths = [
        file_line("/../outside/x", 0),
        file_line("/a/../../outside/x", 0),
        file_line("outside", 0),
        file_line("/..", 0),
    ];
    for inventory in bad_paths {
        let why = refused(&inventory, "[]", &END);
        assert!(why.contains("no path of a tree") || why.contains("directory"), "{why}");
    }
    // A link to a folder elsewhere, and a file in what it leads to.
    let through = link.clone() + &file_line("/a/x", 0);
    assert!(refused(&through, "[]", &END).contains("does not stand in a directory"));
    let nowhere = file_line("/nowhere/x", 0);
    assert!(refused(&nowhere, "[]", &END).contains("does not stand in a directory"));

    let one = file_line("/a", 4);
    let long = run(0, 5, b"abcde");
    assert!(refused(&one, "[]", &long).contains("does not lie in its file"));
    assert!(refused(&one, "[]", &run(u64::MAX, 1, b"a")).contains("does not lie in its file"));
    assert!(refused(&one, "[]", &run(0, u32::MAX, b"a")).contains("does not lie in its file"));
    let twice = [run(2, 2, b"ab"), run(0, 2, b"ab")].concat();
    assert!(refused(&one, "[]", &twice).contains("before another"));
    assert!(!refused(&one, "[]", b"").is_empty(), "cut short");
    assert!(refused(&one, "[]", &[&END[..], b"more"].concat()).contains("follows"));
    assert!(refused(&one, "[]", &run(1, 0, b"")).contains("empty"));

    let two = file_line("/a", 0) + &file_line("/b", 0);
    assert!(refused(&two, r#"[["/a"]]"#, &END).contains("fewer than two"));
    assert!(refused(&two, r#"[["/a","/c"]]"#, &END).contains("cannot be one file"));
    assert!(refused(&two, r#"[["/a","/b","/b"]]"#, &END).contains("cannot be one file"));
    assert!(refused(&two, r#"[["/","/a"]]"#, &END).contains("cannot be one file"));
    let unlike = file_line("/a", 0) + &file_line("/b", 1);
    assert!(refused(&unlike, r#"[["/a","/b"]]"#, &END).contains("cannot be one file"));

    let strange = line("/a", r#""kind":"fifo""#).replace("420", "65535");
    assert!(refused(&strange, "[]", b"").contains("permissions"));
    let overlay = line("/a", r#""kind":"fifo","xattrs":{"trusted.overlay.redirect":"2f"}"#);
    assert!(refused(&overlay, "[]", b"").contains("overlayfs"));
}

#[test]
fn a_pack_whose_inventory_is_not_the_signed_one_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (file, name, _) = forged(&(ROOT.to_owned() + "\n"), "[]", b"");
    let other = Sha256::of("another inventory");
    let error = unpack(&file, &name, &other, folder.path(), &Cancel::default()).unwrap_err();
    assert!(error.to_string().contains("its inventory is"), "{error}");
    for text in
        ["", "nodekiln pack 2 1 1\n", "nodekiln pack 1 x 1\n", "nodekiln pack 1 99999999999 1\n"]
    {
        let mut frames = FrameWriter::new(tempfile::tempfile().unwrap());
        frames.write_all(text.as_bytes()).unwrap();
        let (mut file, unpacked) = frames.finish().unwrap();
        file.rewind().unwrap();
        let name = PackName { sha256: other, size: 0, unpacked };
        assert!(unpack(&file, &name, &other, folder.path(), &Cancel::default()).is_err(), "{text}");
    }
}
