//! The root file system: mke2fs fills in the lower layers, debugfs makes the changes of the others, and
//! debugfs and e2fsck of this machine say what came of it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, PermissionsExt as _, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nodekiln_build::layer::{Root, scan};
use nodekiln_build::steps;
use nodekiln_build::store::StoredNode;
use nodekiln_recipes::Inventory;
use nodekiln_recipes::inventory::EntryKind;
use nodekiln_recipes::plan::Work;
use nodekiln_words::{Bytes, Cancel, Class};
use proptest::prelude::*;

use crate::node::{Bench, source_date};

/// A tree with this machine's mke2fs and debugfs, and their libraries.
fn tools(bench: &Bench) -> StoredNode {
    bench.stored("tools/disk", |output| {
        let mut files = vec!["/usr/sbin/mke2fs".to_owned(), "/usr/sbin/debugfs".to_owned()];
        let listed = Command::new("ldd").args(&files).output().unwrap();
        let listed = String::from_utf8(listed.stdout).unwrap();
        let libraries = listed.split_whitespace().filter(|word| word.starts_with('/'));
        files.extend(libraries.filter(|word| !word.ends_with(':')).map(str::to_owned));
        for file in files {
            let place = output.join(file.trim_start_matches('/'));
            fs::create_dir_all(place.parent().unwrap()).unwrap();
            fs::copy(&file, place).unwrap();
        }
    })
}

/// Layers in the making, and the root file system that they make.
struct Image {
    bench: Bench,
    layers: Vec<PathBuf>,
    tools: StoredNode,
}

impl Image {
    fn new() -> Self {
        let bench = Bench::new();
        let tools = tools(&bench);
        Self { bench, layers: Vec::new(), tools }
    }

    /// A layer that `fill` makes of the tree below, seen at a folder.
    fn layer(&mut self, fill: impl FnOnce(&Path)) {
        let scratch = self.bench.path(&format!("layer-{}", self.layers.len()));
        fs::create_dir(&scratch).unwrap();
        let root = Root::assemble(&self.layers, &scratch).unwrap();
        fill(root.path());
        root.finish(source_date()).unwrap();
        self.layers.push(scratch.join("output"));
    }

    /// What the tree is to be.
    fn expected(&self) -> Inventory {
        let mut tree = Inventory::default();
        for layer in &self.layers {
            tree.lay_over(&scan(layer, true, &Cancel::default()).unwrap());
        }
        tree
    }

    /// The disk with `base` layers filled in at once, in a folder called `name`.
    fn disk(&self, name: &str, base: usize) -> Disk {
        let work =
            Work::Disk { size: Bytes(64 << 20), boot: None, seed: uuid::Uuid::from_u128(7), base };
        let layers: Vec<&Path> = self.layers.iter().map(PathBuf::as_path).collect();
        let (output, made) =
            self.bench.execute(name, &layers, &BTreeMap::new(), &[&self.tools], |execution| {
                steps::run(&work, execution)
            });
        made.unwrap();
        Disk { raw: output.join("disk.raw"), folder: self.bench.path(&format!("{name}-read")) }
    }
}

/// A finished disk, its root file system read with this machine's programs.
struct Disk {
    raw: PathBuf,
    folder: PathBuf,
}

impl Disk {
    /// The file system, as e2fsprogs are told of it: the one partition begins at 1 MiB.
    fn image(&self) -> String {
        format!("{}?offset={}", self.raw.display(), 1 << 20)
    }

    fn debugfs(&self, request: &str) -> String {
        let mut command = Command::new("debugfs");
        let output = command.args(["-R", request, &self.image()]).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// What is in the file system, as far as debugfs copies it out: no devices, no extended attributes.
    fn content(&self) -> Inventory {
        let checked = Command::new("e2fsck").args(["-fn", &self.image()]).output().unwrap();
        assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        fs::create_dir(&self.folder).unwrap();
        self.debugfs(&format!("rdump / {}", self.folder.display()));
        copied(scan(&self.folder, false, &Cancel::default()).unwrap())
    }

    fn holds(&self, text: &str) -> bool {
        let bytes = fs::read(&self.raw).unwrap();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

/// What of a tree debugfs copies out. It sets no times of links and no set-id bits.
fn copied(mut tree: Inventory) -> Inventory {
    tree.entries.remove("/lost+found");
    tree.entries.retain(|_, entry| {
        entry.xattrs.clear();
        entry.mode &= 0o1777;
        if matches!(entry.kind, EntryKind::Link { .. }) {
            entry.mtime = 0;
        }
        !matches!(entry.kind, EntryKind::CharDevice { .. } | EntryKind::Fifo)
    });
    tree
}

fn write(tree: &Path, path: &str, text: &str) {
    let place = tree.join(path);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    fs::write(place, text).unwrap();
}

#[test]
fn changes_of_all_kinds_make_the_tree_that_the_layers_make() {
    let mut image = Image::new();
    image.layer(|tree| {
        for path in ["etc/keep", "etc/changed", "gone/deep/er/file", "was-dir/file", "hidden/old"] {
            write(tree, path, &format!("{path} below\n"));
        }
        write(tree, "was-file", "a file\n");
        write(tree, "secret", &"THE-SECRET-OF-THE-LOWER-LAYER".repeat(20_000));
        symlink("etc/keep", tree.join("link")).unwrap();
        fs::create_dir(tree.join("links")).unwrap();
        for number in 0..100 {
            let link = tree.join(format!("links/{number}")); // more than what the inodes serve for later
            symlink("THE-SECRET-TARGET", link).unwrap();
        }
        write(tree, "twice", "two names");
        fs::hard_link(tree.join("twice"), tree.join("again")).unwrap();
        xattr::set(tree.join("etc"), "user.lost", b"x").unwrap();
    });
    image.layer(|tree| {
        write(tree, "etc/changed", "changed\n");
        chown(tree.join("etc/changed"), Some(70_000), Some(12)).unwrap();
        fs::set_permissions(tree.join("etc/changed"), fs::Permissions::from_mode(0o4751)).unwrap();
        fs::remove_dir_all(tree.join("gone")).unwrap();
        fs::remove_dir_all(tree.join("was-dir")).unwrap();
        write(tree, "was-dir", "a file now");
        fs::remove_file(tree.join("was-file")).unwrap();
        write(tree, "was-file/inside", "a folder now");
        fs::remove_dir_all(tree.join("hidden")).unwrap();
        write(tree, "hidden/new", "an opaque directory");
        fs::remove_file(tree.join("secret")).unwrap();
        fs::remove_file(tree.join("again")).unwrap();
        fs::remove_file(tree.join("link")).unwrap();
        fs::remove_dir_all(tree.join("links")).unwrap();
        symlink("a \"quoted\" target", tree.join("link")).unwrap();
        write(tree, "odd \"name\" <8>/a \"b\"", "quoted");
        fs::hard_link(tree.join("odd \"name\" <8>/a \"b\""), tree.join("etc/hard")).unwrap();
        fs::set_permissions(tree.join("etc"), fs::Permissions::from_mode(0o2750)).unwrap();
        xattr::remove(tree.join("etc"), "user.lost").unwrap();
        xattr::set(tree.join("etc"), "user.own", b"of the folder").unwrap();
        // cap_net_raw=ep, as setcap(8) writes it
        let capability = b"\x01\0\0\x02\0\x20\0\0\0\0\0\0\0\0\0\0\0\0\0\0";
        xattr::set(tree.join("etc/changed"), "security.capability", capability).unwrap();
        let made = Command::new("mknod").arg(tree.join("null")).args(["c", "1", "3"]).status();
        assert!(made.unwrap().success());
        assert!(Command::new("mkfifo").arg(tree.join("pipe")).status().unwrap().success());
    });
    image.layer(|tree| write(tree, "was-file/higher", "third"));

    let disk = image.disk("changed", 1);
    assert_eq!(disk.content(), copied(image.expected()));
    let stat = |path: &str| disk.debugfs(&format!("stat \"{path}\""));
    assert!(stat("/null").contains("character special    Mode:  0644"), "{}", stat("/null"));
    assert!(stat("/null").contains("Device major/minor number: 01:03"), "{}", stat("/null"));
    assert!(stat("/pipe").contains("FIFO"), "{}", stat("/pipe"));
    assert!(stat("/etc").contains("Mode:  02750"), "{}", stat("/etc"));
    assert!(stat("/etc/changed").contains("Mode:  04751"), "{}", stat("/etc/changed"));
    assert!(stat("/twice").contains("Links: 1 "), "{}", stat("/twice"));
    assert!(stat("/etc/hard").contains("Links: 2 "), "{}", stat("/etc/hard"));
    let has = |path: &str, wanted: &str| {
        let listed = disk.debugfs(&format!("ea_list {path}"));
        assert!(listed.contains(wanted), "{path}: {listed}");
        listed
    };
    assert!(!has("/etc", "user.own (13) = \"of the folder\"").contains("user.lost"));
    has("/etc/changed", "security.capability (20) = 01 00 00 02 00 20 00 00");
    for secret in ["THE-SECRET-OF-THE-LOWER-LAYER", "THE-SECRET-TARGET"] {
        assert!(!disk.holds(secret), "{secret}: what was removed is in the disk");
    }
    // All filled in at once is the same tree, and nothing was ever there to be removed.
    assert_eq!(image.disk("at-once", 3).content(), copied(image.expected()));
}

#[test]
fn disks_share_what_lower_layers_bring_whatever_lies_above() {
    let bytes =
        |number: u8| (0..3 << 20).map(|at: u32| (at % 251) as u8 ^ number).collect::<Vec<_>>();
    let disk = |upper: &[&str]| {
        let mut image = Image::new();
        image.layer(|tree| {
            fs::create_dir(tree.join("usr")).unwrap();
            fs::write(tree.join("usr/zz"), bytes(1)).unwrap();
            write(tree, "etc/hosts", "replaced above\n");
        });
        image.layer(|tree| fs::write(tree.join("usr/kubelet"), bytes(2)).unwrap());
        image.layer(|tree| {
            for path in upper {
                write(tree, path, "of a provider");
            }
        });
        let disk = image.disk("disk", 1);
        let file = File::open(&disk.raw).unwrap();
        let mut all = vec![0; 64 << 20];
        file.read_exact_at(&mut all, 0).unwrap();
        all
    };
    let (one, other) = (disk(&["etc/hosts", "aaa/first"]), disk(&["usr/lib/z"]));
    let blocks = one.chunks(4096).zip(other.chunks(4096));
    let data = blocks.filter(|(a, b)| a.iter().chain(*b).any(|byte| *byte != 0));
    let (equal, unequal): (Vec<_>, Vec<_>) = data.partition(|(a, b)| a == b);
    assert!(equal.len() > 1500 && unequal.len() < 20, "{} and {}", equal.len(), unequal.len());
}

#[test]
fn what_debugfs_cannot_write_or_remove_is_filled_in_at_once() {
    for odd in ["two\nlines", "Icon\r", "folder\r/file"] {
        let mut image = Image::new();
        image.layer(|tree| {
            write(tree, "etc/a", "a");
            write(tree, &format!("gone/{odd}"), "removed above");
        });
        image.layer(|tree| write(tree, odd, "b"));
        image.layer(|tree| {
            fs::remove_dir_all(tree.join("gone")).unwrap();
            write(tree, "gone/c", "an opaque directory");
        });
        let disk = image.disk("disk", 1);
        assert_eq!(disk.content(), copied(image.expected()), "{odd:?}");
        assert!(!disk.holds("removed above"), "{odd:?}");
    }
}

#[test]
fn a_folder_takes_as_many_names_of_one_file_as_there_are() {
    let mut image = Image::new();
    image.layer(|tree| write(tree, "usr/lib/git", "a program"));
    image.layer(|tree| {
        write(tree, "usr/lib/core/git", "another one");
        for number in 0..300 {
            let name = tree.join(format!("usr/lib/core/git-{number}-with-a-long-name"));
            fs::hard_link(tree.join("usr/lib/core/git"), name).unwrap();
        }
    });
    let disk = image.disk("disk", 1);
    assert_eq!(disk.content(), copied(image.expected()));
    assert!(disk.debugfs("stat /usr/lib/core/git").contains("Links: 301 "));
}

#[test]
fn what_has_no_room_beside_what_is_removed_is_filled_in_at_once() {
    let mut image = Image::new();
    image.layer(|tree| {
        write(tree, "etc/a", "a");
        fs::write(tree.join("gone"), vec![1; 32 << 20]).unwrap();
    });
    image.layer(|tree| fs::write(tree.join("large"), vec![2; 32 << 20]).unwrap());
    image.layer(|tree| fs::remove_file(tree.join("gone")).unwrap());
    let disk = image.disk("disk", 1);
    assert_eq!(disk.content(), copied(image.expected()));
}

#[test]
fn a_full_file_system_is_told_before_anything_is_written() {
    let mut image = Image::new();
    image.layer(|tree| write(tree, "etc/a", "a"));
    image.layer(|tree| fs::write(tree.join("large"), vec![1; 80 << 20]).unwrap());
    let work =
        Work::Disk { size: Bytes(64 << 20), boot: None, seed: uuid::Uuid::from_u128(7), base: 1 };
    let layers: Vec<&Path> = image.layers.iter().map(PathBuf::as_path).collect();
    let (_, made) =
        image.bench.execute("full", &layers, &BTreeMap::new(), &[&image.tools], |execution| {
            steps::run(&work, execution)
        });
    assert_eq!(made.err().unwrap().class(), Class::Input);
}

/// Something that is done to a tree.
#[derive(Clone, Debug)]
enum Deed {
    File(String, u8),
    Folder(String),
    Link(String),
    Second(String, String),
    Remove(String),
    Mode(String, u32),
}

fn path() -> impl Strategy<Value = String> {
    let name = prop_oneof![4 => "[abc]", 1 => prop_oneof![Just("a\r"), Just("q\"x"), Just("#b c")]
        .prop_map(str::to_owned)];
    proptest::collection::vec(name, 1..4).prop_map(|names| names.join("/"))
}

fn deed() -> impl Strategy<Value = Deed> {
    prop_oneof![
        4 => (path(), any::<u8>()).prop_map(|(path, byte)| Deed::File(path, byte)),
        2 => path().prop_map(Deed::Folder),
        1 => path().prop_map(Deed::Link),
        1 => (path(), path()).prop_map(|(a, b)| Deed::Second(a, b)),
        2 => path().prop_map(Deed::Remove),
        1 => (path(), 0o700..0o777u32).prop_map(|(path, mode)| Deed::Mode(path, mode)),
    ]
}

/// Does it where the tree allows it.
fn attempt(tree: &Path, deed: &Deed) {
    let clear = |path: &str| {
        let place = tree.join(path);
        let _ = if place.is_dir() && !place.is_symlink() {
            fs::remove_dir_all(&place)
        } else {
            fs::remove_file(&place)
        };
        place
    };
    let _ = match deed {
        Deed::File(path, byte) => fs::write(clear(path), vec![*byte; 5000]),
        Deed::Folder(path) => fs::create_dir_all(tree.join(path)),
        Deed::Link(path) => symlink("nowhere", clear(path)),
        Deed::Second(old, new) => fs::hard_link(tree.join(old), tree.join(new)),
        Deed::Remove(path) => {
            clear(path);
            Ok(())
        }
        Deed::Mode(path, mode) => {
            fs::set_permissions(tree.join(path), fs::Permissions::from_mode(*mode))
        }
    };
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn any_layers_make_the_tree_that_they_are(
        layers in proptest::collection::vec(proptest::collection::vec(deed(), 1..12), 2..5)
    ) {
        let mut image = Image::new();
        for deeds in &layers {
            image.layer(|tree| deeds.iter().for_each(|deed| attempt(tree, deed)));
        }
        prop_assert_eq!(image.disk("disk", 1).content(), copied(image.expected()));
    }
}
