//! Layers against overlayfs itself: what is written through a mounted tree, scanned and read back
//! without one.

use std::fs;
use std::io;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};

use nodekiln_build::layer::{
    Attributes, Confined, LayeredTree, Root, private_mounts, scan, scan_as,
};
use nodekiln_recipes::inventory::{EntryKind, Inventory, TreeReader as _};
use nodekiln_words::Cancel;
use proptest::prelude::*;

use crate::place::source_date;

struct Layers {
    folder: tempfile::TempDir,
    layers: Vec<PathBuf>,
}

impl Layers {
    fn new() -> Self {
        private_mounts().unwrap();
        Self { folder: tempfile::tempdir().unwrap(), layers: Vec::new() }
    }

    /// Adds a layer by writing through the tree of those before.
    fn add(&mut self, write: impl FnOnce(&Root)) -> Inventory {
        let scratch = self.folder.path().join(self.layers.len().to_string());
        let root = Root::assemble(&self.layers, &scratch).unwrap();
        write(&root);
        root.finish(source_date()).unwrap();
        self.layers.push(scratch.join("output"));
        scan(&scratch.join("output"), true, &Cancel::default()).unwrap()
    }

    fn tree(&self) -> LayeredTree {
        LayeredTree::new(self.layers.clone())
    }
}

fn file(root: &Root, path: &str, text: &str) {
    root.write_file(path, text.as_bytes(), Attributes::root(0o644)).unwrap();
}

#[test]
fn layers_laid_over_each_other_equal_the_mounted_tree() {
    let mut layers = Layers::new();
    let mut tree = layers.add(|root| {
        file(root, "/etc/a", "a");
        file(root, "/etc/b", "b");
        file(root, "/usr/share/doc/x", "x");
        root.make_link("/lib", "usr/lib", 0, 0).unwrap();
        root.make_directory("/var/empty", Attributes { mode: 0o700, uid: 7, gid: 8 }).unwrap();
    });
    tree.lay_over(&layers.add(|root| {
        assert!(root.remove("/etc/a").unwrap());
        assert!(root.remove("/usr/share").unwrap());
        file(root, "/usr/share/new", "new");
        file(root, "/lib", "a file in a link's place");
    }));
    let mount = layers.folder.path().join("all");
    let root = Root::read_only(&layers.layers, &mount).unwrap();
    let mounted = scan(root.path(), false, &Cancel::default()).unwrap();
    assert_eq!(tree, mounted);
    let names = layers.tree().list(Path::new("/usr/share")).unwrap();
    assert_eq!(names, ["new"]);
    assert_eq!(layers.tree().read("/etc/a").unwrap(), None);
    assert_eq!(layers.tree().read("/etc/b").unwrap().unwrap(), b"b");
}

#[test]
fn whiteouts_and_opaque_directories_are_recognised() {
    let mut layers = Layers::new();
    layers.add(|root| {
        file(root, "/d/old", "old");
        file(root, "/f", "f");
    });
    let layer = layers.add(|root| {
        root.remove("/d").unwrap();
        file(root, "/d/new", "new");
        root.remove("/f").unwrap();
    });
    assert_eq!(layer.entries["/d"].kind, EntryKind::Directory { opaque: true });
    assert_eq!(layer.entries["/f"].kind, EntryKind::Whiteout);
    assert_eq!(layers.tree().list(Path::new("/")).unwrap(), ["d"]);
    assert_eq!(layers.tree().list(Path::new("/d")).unwrap(), ["new"]);
}

#[test]
fn a_folder_in_an_opaque_directory_lists_nothing_of_the_layers_below() {
    let mut layers = Layers::new();
    layers.add(|root| file(root, "/c/b/old", "old"));
    layers.add(|root| {
        root.remove("/c").unwrap();
        root.make_directory("/c/b", Attributes::root(0o755)).unwrap();
    });
    assert_eq!(layers.tree().list(Path::new("/c/b")).unwrap(), [""; 0]);
    layers.add(|root| file(root, "/c/b/new", "new"));
    assert_eq!(layers.tree().list(Path::new("/c/b")).unwrap(), ["new"]);
}

#[test]
fn forty_layers_fit_and_the_topmost_wins() {
    let mut layers = Layers::new();
    for number in 0..40 {
        layers.add(|root| file(root, "/number", &number.to_string()));
    }
    let root = Root::read_only(&layers.layers, &layers.folder.path().join("all")).unwrap();
    assert_eq!(root.read_file("/number").unwrap().unwrap(), b"39");
}

#[test]
fn times_are_clamped_and_older_ones_kept() {
    let mut layers = Layers::new();
    let layer = layers.add(|root| {
        file(root, "/new", "new");
        file(root, "/old", "old");
        root.make_link("/link", "new", 0, 0).unwrap();
        let old = fs::File::open(root.path().join("old")).unwrap();
        let time = std::time::UNIX_EPOCH + std::time::Duration::from_secs(1_000_000_000);
        old.set_modified(time).unwrap();
    });
    let times: Vec<i64> = layer.entries.values().map(|entry| entry.mtime).collect();
    let date = i64::try_from(source_date().unix()).unwrap();
    assert_eq!(times, [date, date, date, 1_000_000_000]);
}

#[test]
fn directories_that_were_only_touched_are_not_in_the_layer() {
    let mut layers = Layers::new();
    layers.add(|root| {
        root.make_directory("/usr/sbin", Attributes::root(0o755)).unwrap();
        root.make_directory("/srv", Attributes::root(0o755)).unwrap();
    });
    let layer = layers.add(|root| {
        file(root, "/usr/sbin/policy-rc.d", "");
        root.remove("/usr/sbin/policy-rc.d").unwrap();
        root.make_directory("/srv", Attributes::root(0o700)).unwrap();
    });
    assert_eq!(layer.entries.keys().collect::<Vec<_>>(), ["/", "/srv"]);
}

#[test]
fn links_in_a_tree_never_lead_out_of_it() {
    let mut layers = Layers::new();
    let outside = layers.folder.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let up = "../".repeat(20);
    layers.add(|root| {
        symlink(&outside, root.path().join("absolute")).unwrap();
        symlink(format!("{up}{}", outside.display()), root.path().join("relative")).unwrap();
        symlink("/proc/self/root", root.path().join("magic")).unwrap();
        symlink("circle", root.path().join("circle")).unwrap();
        for link in ["absolute", "relative", "magic"] {
            assert_eq!(root.read_file(&format!("/{link}/secret")).unwrap(), None);
            let attributes = Attributes::root(0o644);
            root.write_file(&format!("/{link}/written"), b"x", attributes).unwrap_err();
            root.remove(&format!("/{link}/secret")).unwrap();
        }
        assert!(root.read_file("/circle").is_err());
        root.write_file("/../escaped", b"x", Attributes::root(0o644)).unwrap_err();
    });
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret");
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 1);
    for link in ["absolute", "relative"] {
        assert_eq!(layers.tree().read(&format!("/{link}/secret")).unwrap(), None);
    }
    assert!(layers.tree().read("/circle").is_err());
}

#[test]
fn absolute_links_are_followed_within_the_tree() {
    let mut layers = Layers::new();
    layers.add(|root| {
        file(root, "/usr/lib/os-release", "ID=x");
        root.make_link("/etc/os-release", "../usr/lib/os-release", 0, 0).unwrap();
        root.make_link("/abs", "/etc/os-release", 0, 0).unwrap();
        assert_eq!(root.read_file("/abs").unwrap().unwrap(), b"ID=x");
    });
    assert_eq!(layers.tree().read("/abs").unwrap().unwrap(), b"ID=x");
}

#[test]
fn writing_replaces_links_and_sets_attributes_whatever_the_umask() {
    let mut layers = Layers::new();
    layers.add(|root| {
        file(root, "/target", "target");
        root.make_link("/name", "target", 0, 0).unwrap();
        root.write_file("/name", b"own", Attributes { mode: 0o4751, uid: 3, gid: 4 }).unwrap();
        assert_eq!(root.read_file("/target").unwrap().unwrap(), b"target");
        let attributes = root.attributes("/name").unwrap().unwrap();
        assert_eq!(attributes, Attributes { mode: 0o4751, uid: 3, gid: 4 });
        root.write_file("/deep/er/file", b"", Attributes::root(0o600)).unwrap();
        assert_eq!(root.attributes("/deep").unwrap(), Some(Attributes::root(0o755)));
        assert!(root.write_file("/deep", b"", Attributes::root(0o600)).is_err());
    });
}

#[test]
fn a_full_file_system_is_an_error_with_the_path() {
    private_mounts().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let options = c"size=256k";
    let flags = rustix::mount::MountFlags::empty();
    rustix::mount::mount("small", folder.path(), "tmpfs", flags, options).unwrap();
    let lower = folder.path().join("lower");
    fs::create_dir(&lower).unwrap();
    let root = Root::assemble(&[lower], &folder.path().join("scratch")).unwrap();
    let failure = root.write_file("/big", &vec![1; 1 << 20], Attributes::root(0o644)).unwrap_err();
    assert!(failure.to_string().contains("/big"), "{failure:?}");
    assert!(failure.chain().iter().any(|text| text.contains("No space left")), "{failure:?}");
    drop(root);
    rustix::mount::unmount(folder.path(), rustix::mount::UnmountFlags::DETACH).unwrap();
}

#[test]
fn an_upper_folder_on_an_overlay_is_refused_with_a_remedy() {
    let mut layers = Layers::new();
    layers.add(|root| file(root, "/f", "f"));
    let scratch = layers.folder.path().join("outer");
    let outer = Root::assemble(&layers.layers, &scratch).unwrap();
    let failure = Root::assemble(&layers.layers, &outer.path().join("inner")).unwrap_err();
    assert!(failure.help().unwrap().contains("NODEKILN_CACHE"), "{failure:?}");
}

#[test]
fn capabilities_of_files_are_listed_and_overlay_notes_are_not() {
    let mut layers = Layers::new();
    layers.add(|root| file(root, "/ping", ""));
    let layer = layers.add(|root| {
        // struct vfs_cap_data, revision 2: CAP_NET_RAW permitted and effective.
        let value = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        xattr::set(root.path().join("ping"), "security.capability", &value).unwrap();
    });
    let xattrs: Vec<_> = layer.entries["/ping"].xattrs.iter().collect();
    let value = "0100000200200000000000000000000000000000".to_owned();
    assert_eq!(xattrs, [(&"security.capability".to_owned(), &value)]);
}

const LABEL: &str = "security.selinux";

#[test]
fn labels_of_this_machine_are_taken_off_a_layer_and_are_a_difference_afterwards() {
    let mut layers = Layers::new();
    layers.add(|root| {
        file(root, "/dir/file", "");
        root.make_link("/dir/link", "file", 0, 0).unwrap();
        for name in ["", "dir", "dir/file", "dir/link"] {
            xattr::set(root.path().join(name), LABEL, b"u:object_r:x_t:s0").unwrap();
        }
    });
    let output = layers.layers[0].clone();
    for name in ["", "dir", "dir/file", "dir/link"] {
        assert_eq!(xattr::list(output.join(name)).unwrap().count(), 0, "{name}");
    }
    xattr::set(output.join("dir/file"), LABEL, b"u:object_r:x_t:s0").unwrap();
    let inventory = scan(&output, true, &Cancel::default()).unwrap();
    assert!(inventory.entries["/dir/file"].xattrs.contains_key(LABEL), "mke2fs would copy it");
}

#[test]
fn a_label_that_cannot_be_taken_off_is_refused_with_a_remedy() {
    let mut layers = Layers::new();
    layers.add(|root| file(root, "/f", "f"));
    let scratch = layers.folder.path().join("refused");
    let root = Root::assemble(&layers.layers, &scratch).unwrap();
    file(&root, "/stays", "");
    let stays = scratch.join("output/stays");
    xattr::set(&stays, LABEL, b"u:object_r:x_t:s0").unwrap();
    // What SELinux does to root, done by other means.
    let open = fs::File::open(&stays).unwrap();
    rustix::fs::ioctl_setflags(&open, rustix::fs::IFlags::IMMUTABLE).unwrap();
    let failure = root.finish(source_date()).unwrap_err();
    rustix::fs::ioctl_setflags(&open, rustix::fs::IFlags::empty()).unwrap();
    assert_eq!(failure.class(), nodekiln_words::Class::Unsupported);
    assert!(failure.to_string().contains("output/stays"), "{failure}");
    assert!(failure.help().unwrap().contains("selinux=0"), "{failure:?}");
}

/// Makes `name` in `folder` a node for the device `/dev/zero`.
fn zero(folder: &Path, name: &str) {
    let (kind, mode) = (rustix::fs::FileType::CharacterDevice, rustix::fs::Mode::RWXU);
    let device = rustix::fs::makedev(1, 5);
    rustix::fs::mknodat(rustix::fs::CWD, folder.join(name), kind, mode, device).unwrap();
}

#[test]
fn a_trees_device_nodes_cannot_be_opened_on_this_machine() {
    let mut layers = Layers::new();
    layers.add(|root| zero(root.path(), "zero"));
    let scratch = layers.folder.path().to_owned();
    refuses_devices(&Root::read_only(&layers.layers, &scratch.join("one")).unwrap());
    refuses_devices(&Root::assemble(&layers.layers, &scratch.join("new")).unwrap());
    layers.add(|root| file(root, "/f", "f"));
    refuses_devices(&Root::read_only(&layers.layers, &scratch.join("two")).unwrap());
}

fn refuses_devices(root: &Root) {
    let error = fs::File::open(root.path().join("zero")).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::PermissionDenied);
    let flags = rustix::fs::statvfs(root.path()).unwrap().f_flag;
    assert!(flags.contains(rustix::fs::StatVfsMountFlags::NOSUID), "{flags:?}");
    assert_eq!(root.read_file("/zero").unwrap(), None, "it is no regular file");
}

#[test]
fn what_is_no_regular_file_is_not_even_opened() {
    use rustix::fs::inotify;
    let folder = tempfile::tempdir().unwrap();
    zero(folder.path(), "zero");
    fs::write(folder.path().join("file"), "file").unwrap();
    let watch = inotify::init(inotify::CreateFlags::NONBLOCK).unwrap();
    for name in ["zero", "file"] {
        inotify::add_watch(&watch, folder.path().join(name), inotify::WatchFlags::OPEN).unwrap();
    }
    let mut buffer = [const { std::mem::MaybeUninit::uninit() }; 1024];
    let mut opened = || inotify::Reader::new(&watch, &mut buffer).next().is_ok();
    let confined = Confined::new(folder.path()).unwrap();
    assert!(confined.open_file("/zero").unwrap().is_none());
    assert!(!opened(), "the device was opened");
    assert_eq!(confined.read("/file").unwrap().unwrap(), b"file");
    assert!(opened(), "the watch sees nothing");
}

#[test]
fn a_mount_ends_with_its_root_and_the_layer_keeps_the_root_folders_bits() {
    let mut layers = Layers::new();
    layers.add(|root| fs::set_permissions(root.path(), fs::Permissions::from_mode(0o750)).unwrap());
    let scratch = layers.folder.path().join("scratch");
    let root = Root::assemble(&layers.layers, &scratch).unwrap();
    let mounted = fs::metadata(root.path()).unwrap();
    assert_eq!(mounted.mode() & 0o7777, 0o750);
    let mounts = || fs::read_to_string("/proc/thread-self/mounts").unwrap();
    assert!(mounts().contains(&scratch.join("root").display().to_string()));
    drop(root);
    assert!(!mounts().contains(&scratch.join("root").display().to_string()));
}

#[test]
fn a_scan_stops_when_asked_to() {
    let folder = tempfile::tempdir().unwrap();
    let cancel = Cancel::default();
    cancel.cancel();
    let failure = scan(folder.path(), true, &cancel).unwrap_err();
    assert_eq!(failure.class(), nodekiln_words::Class::Interrupted);
}

#[test]
fn every_kind_of_file_is_listed() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    fs::write(path("file"), "abc").unwrap();
    fs::hard_link(path("file"), path("same")).unwrap();
    let mode = rustix::fs::Mode::from_raw_mode(0o600);
    let node = |name: &str, kind, device| {
        rustix::fs::mknodat(rustix::fs::CWD, path(name), kind, mode, device)
            .map_err(io::Error::from)
    };
    node("null", rustix::fs::FileType::CharacterDevice, rustix::fs::makedev(1, 3)).unwrap();
    node("disk", rustix::fs::FileType::BlockDevice, rustix::fs::makedev(8, 1)).unwrap();
    node("gone", rustix::fs::FileType::CharacterDevice, 0).unwrap();
    node("pipe", rustix::fs::FileType::Fifo, 0).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(path("socket")).unwrap();
    let inventory = scan(folder.path(), false, &Cancel::default()).unwrap();
    let kind = |path: &str| &inventory.entries[path].kind;
    assert_eq!(kind("/file"), kind("/same"));
    assert_eq!(*kind("/null"), EntryKind::CharDevice { major: 1, minor: 3 });
    assert_eq!(*kind("/disk"), EntryKind::BlockDevice { major: 8, minor: 1 });
    assert_eq!(*kind("/gone"), EntryKind::CharDevice { major: 0, minor: 0 });
    assert_eq!(*kind("/pipe"), EntryKind::Fifo);
    assert_eq!(*kind("/socket"), EntryKind::Socket);
}

#[test]
fn a_disk_is_digested_by_its_blocks_where_a_disk_is_expected() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("disk.raw");
    let file = fs::File::create(&path).unwrap();
    file.set_len(64 << 20).unwrap();
    file.write_all_at(b"data", 9 << 20).unwrap();
    let mut expected = scan(folder.path(), false, &Cancel::default()).unwrap();
    let plain = scan_as(folder.path(), &expected, false, &Cancel::default()).unwrap();
    assert_eq!(plain, expected);
    let disk = nodekiln_disk::Disk::over_file(&fs::File::open(&path).unwrap().into(), 64 << 20);
    let blocks = disk.block_digest(&Cancel::default()).unwrap();
    expected.entries.get_mut("/disk.raw").unwrap().kind =
        EntryKind::Disk { size: 64 << 20, blocks };
    assert_eq!(scan_as(folder.path(), &expected, false, &Cancel::default()).unwrap(), expected);
    let modified = fs::metadata(&path).unwrap().modified().unwrap();
    file.write_all_at(b"z", 40 << 20).unwrap();
    file.set_modified(modified).unwrap();
    let changed = scan_as(folder.path(), &expected, false, &Cancel::default()).unwrap();
    assert_ne!(changed, expected);
}

/// Something done to a tree, at a path of few letters so that deeds meet.
#[derive(Clone, Debug)]
enum Deed {
    File(String),
    Directory(String),
    Link(String),
    Remove(String),
}

impl Deed {
    /// Some cannot be done where they fall; both sides of the comparison see the same tree.
    fn attempt(&self, root: &Root) {
        match self {
            Self::File(path) => root.write_file(path, path.as_bytes(), Attributes::root(0o644)),
            Self::Directory(path) => root.make_directory(path, Attributes::root(0o755)),
            Self::Link(path) => root.make_link(path, "a", 0, 0),
            Self::Remove(path) => root.remove(path).map(|_| ()),
        }
        .ok();
    }
}

fn deeds() -> impl Strategy<Value = Vec<Deed>> {
    let path = || "(/[abc]){1,3}";
    let deed = prop_oneof![
        path().prop_map(Deed::File),
        path().prop_map(Deed::Directory),
        path().prop_map(Deed::Link),
        path().prop_map(Deed::Remove),
    ];
    proptest::collection::vec(deed, 0..12)
}

/// Everything that a tree read without mounting shows, by path.
fn listing(tree: &LayeredTree, folder: &Path, seen: &mut Vec<String>) {
    seen.push(folder.display().to_string());
    for name in tree.list(folder).unwrap() {
        let path = folder.join(name);
        let (_, metadata) = tree.find(&path).unwrap().expect("what is listed can be found");
        if metadata.is_dir() {
            listing(tree, &path, seen);
        } else {
            seen.push(path.display().to_string());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn any_layers_read_without_mounting_equal_the_mounted_tree(
        work in proptest::collection::vec(deeds(), 2..5)
    ) {
        let mut layers = Layers::new();
        let mut tree = Inventory::default();
        for deeds in &work {
            tree.lay_over(&layers.add(|root| deeds.iter().for_each(|deed| deed.attempt(root))));
        }
        let root = Root::read_only(&layers.layers, &layers.folder.path().join("all")).unwrap();
        let mounted = scan(root.path(), false, &Cancel::default()).unwrap();
        prop_assert_eq!(&tree, &mounted);
        let mut seen = Vec::new();
        listing(&layers.tree(), Path::new("/"), &mut seen);
        seen.sort();
        prop_assert_eq!(seen, mounted.entries.keys().cloned().collect::<Vec<_>>());
    }
}
