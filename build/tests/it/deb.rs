//! Unpacking and database against dpkg itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, Permissions};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use nodekiln_build::deb::{Conffiles, Database, Parcel, Unpacker, decompress};
use nodekiln_words::{Cancel, Result, Sha256, Silent};

/// Runs a program of Debian's package `package` and returns its output.
pub(crate) fn run(package: &str, program: &str, arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(program)
        .args(arguments)
        .env("LC_ALL", "C")
        .output()
        .unwrap_or_else(|error| panic!("{program} ({package}): {error}"));
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{program} {arguments:?}: {stderr}");
    output.stdout
}

pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What stands at a path.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    kind: char,
    /// Mode, owner, number of links, and digest of the content.
    text: String,
    mtime: i64,
}

type Entries = BTreeMap<Vec<u8>, Entry>;

fn describe(path: &Path) -> Entry {
    let metadata = fs::symlink_metadata(path).unwrap();
    let (kind, content) = match metadata.file_type() {
        kind if kind.is_symlink() => {
            ('l', fs::read_link(path).unwrap().into_os_string().into_encoded_bytes())
        }
        kind if kind.is_file() => ('-', fs::read(path).unwrap()),
        kind if kind.is_dir() => ('d', Vec::new()),
        _ => ('n', metadata.rdev().to_string().into_bytes()),
    };
    let links = if kind == 'd' { 0 } else { metadata.nlink() };
    let (mode, uid, gid) = (metadata.mode(), metadata.uid(), metadata.gid());
    let text = format!("{mode:o} {uid}:{gid} links {links} {}", Sha256::of(content).short());
    Entry { kind, text, mtime: metadata.mtime() }
}

/// All that stands below `root`.
fn tree(root: &Path) -> Entries {
    let mut entries = BTreeMap::new();
    let mut open = vec![root.to_owned()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let inner = path.strip_prefix(root).unwrap().as_os_str().as_bytes().to_vec();
            entries.insert(inner, describe(&path));
            if path.symlink_metadata().unwrap().is_dir() {
                open.push(path);
            }
        }
    }
    entries
}

/// Paths at which the trees differ, with what each has there.
fn differences(ours: &Entries, theirs: &Entries) -> Vec<String> {
    let paths: BTreeSet<_> = ours.keys().chain(theirs.keys()).collect();
    let differing = paths.into_iter().filter(|path| match (ours.get(*path), theirs.get(*path)) {
        // Reference programs put files into folders after they set the folders' times.
        (Some(a), Some(b)) if a.kind == 'd' && b.kind == 'd' => a.text != b.text,
        (a, b) => a != b,
    });
    let line = |path: &Vec<u8>| {
        format!("{}: {:?} {:?}", String::from_utf8_lossy(path), ours.get(path), theirs.get(path))
    };
    differing.map(line).collect()
}

pub(crate) fn parcel(path: &Path) -> Parcel {
    Parcel::open(path, &path.file_name().unwrap().to_string_lossy()).unwrap()
}

pub(crate) fn unpack(root: &Path, debs: &[PathBuf], conffiles: Conffiles) -> Result<()> {
    let parcels: Vec<_> = debs.iter().map(|deb| parcel(deb)).collect();
    let mut unpacker = Unpacker::new(root, conffiles)?;
    let unpacked = unpacker.unpack(&parcels, &Silent, &Cancel::default())?;
    if conffiles == Conffiles::Pending {
        Database::open(root)?.enter(&parcels, &unpacked)?;
    }
    Ok(())
}

/// A package in the making: a folder that `dpkg-deb --build` packs.
pub(crate) struct Making {
    pub(crate) folder: PathBuf,
    name: String,
}

impl Making {
    pub(crate) fn new(place: &Path, name: &str, fields: &str) -> Self {
        let folder = place.join(format!("{name}.making"));
        fs::create_dir_all(folder.join("DEBIAN")).unwrap();
        let making = Self { folder, name: name.to_owned() };
        let fields = fields.replace("; ", "\n");
        making.write("DEBIAN/control", &format!("Package: {name}\nVersion: 1\nArchitecture: all\nMaintainer: m\nDescription: d\n{fields}\n"), 0o644);
        making
    }

    pub(crate) fn write(&self, path: &str, content: &str, mode: u32) {
        let path = self.folder.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, content).unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
    }

    pub(crate) fn pack(&self, compression: &str) -> PathBuf {
        let deb = self.folder.with_file_name(format!("{}.deb", self.name));
        let compression = format!("-Z{compression}");
        run("dpkg", "dpkg-deb", &[&compression, "--build", text(&self.folder), text(&deb)]);
        deb
    }
}

/// Everything that a tree can hold and dpkg's database notes.
fn rich(place: &Path) -> Making {
    let making = Making::new(
        place,
        "rich",
        "Multi-Arch: foreign; Priority: Optional; Depends: a(>=1)|b ,c; X-Own: x",
    );
    making.write("usr/bin/set-id", "program", 0o4755);
    making.write(
        &format!("usr/share/{}/{}", "long".repeat(30), "name".repeat(30)),
        "far away",
        0o640,
    );
    making.write("usr/share/umläut", "", 0o644);
    making.write("etc/rich.conf", "configuration", 0o600);
    making.write("DEBIAN/conffiles", "/etc/rich.conf\n", 0o644);
    making.write(
        "DEBIAN/triggers",
        "interest /usr/share\ninterest-noawait named\nactivate-noawait ldconfig\n",
        0o644,
    );
    making.write("DEBIAN/postinst", "#!/bin/sh\n", 0o755);
    let usr = making.folder.join("usr");
    fs::hard_link(usr.join("bin/set-id"), usr.join("bin/another-name")).unwrap();
    symlink("../../../nowhere", usr.join("bin/link")).unwrap();
    chown(usr.join("share/umläut"), Some(8), Some(12)).unwrap();
    run("coreutils", "mkfifo", &[text(&usr.join("share/pipe"))]);
    run("coreutils", "mknod", &[text(&usr.join("share/device")), "c", "1", "3"]);
    making
}

#[test]
fn every_kind_of_entry_in_every_compression_equals_dpkgs() {
    for compression in ["xz", "gzip", "zstd", "none"] {
        let place = tempfile::tempdir().unwrap();
        let other = Making::new(place.path(), "other", "Multi-Arch: same");
        fs::write(other.folder.join("DEBIAN/control"), "Package: other\nVersion: 1:2-3\nArchitecture: amd64\nMulti-Arch: same\nMaintainer: m\nDescription: d\n").unwrap();
        other.write("usr/share/doc/other/x", "x", 0o644);
        let debs = [rich(place.path()), other].map(|making| making.pack(compression));
        compare_with_dpkg(&debs);
    }
}

/// The second time the file is gone: nothing but what was decompressed beforehand can be read.
#[test]
fn a_tree_decompressed_beforehand_is_the_same_tree() {
    let place = tempfile::tempdir().unwrap();
    let making = Making::new(place.path(), "small", "X-Own: x");
    making.write("usr/file", &"content\n".repeat(100_000), 0o644);
    let deb = making.pack("xz");
    let unpacked = |mut parcels: Vec<Parcel>, stopped: bool, gone: bool| {
        let root = tempfile::tempdir().unwrap();
        let stop = Cancel::default();
        if stopped {
            stop.cancel();
        }
        decompress(&mut parcels, place.path(), &stop);
        if gone {
            fs::remove_file(&deb).unwrap();
        }
        Unpacker::new(root.path(), Conffiles::InPlace)?.unpack(
            &parcels,
            &Silent,
            &Cancel::default(),
        )?;
        Ok::<_, nodekiln_words::Failure>(tree(root.path()))
    };
    let plain = unpacked(vec![parcel(&deb)], true, false).unwrap();
    let again = parcel(&deb);
    assert_eq!(differences(&unpacked(vec![again.clone()], false, true).unwrap(), &plain), [""; 0]);
    // What cannot be read is passed over beforehand, and fails when it is unpacked.
    unpacked(vec![again], false, false).unwrap_err();
}

#[test]
fn every_truncation_of_a_package_fails_and_names_it() {
    let place = tempfile::tempdir().unwrap();
    let making = Making::new(place.path(), "small", "X-Own: x");
    making.write("usr/file", "content", 0o644);
    for compression in ["xz", "none"] {
        let bytes = fs::read(making.pack(compression)).unwrap();
        let cut = place.path().join("cut.deb");
        for length in (0..bytes.len()).step_by(7) {
            fs::write(&cut, &bytes[..length]).unwrap();
            let failure = Parcel::open(&cut, "cut.deb").unwrap_err();
            assert!(failure.chain().join(" ").contains("cut.deb"), "{failure:?}");
        }
    }
}

#[test]
fn a_damaged_file_tree_fails_wherever_the_damage_is() {
    let place = tempfile::tempdir().unwrap();
    let making = Making::new(place.path(), "small", "X-Own: x");
    making.write("usr/file", "content", 0o644);
    let bytes = fs::read(making.pack("xz")).unwrap();
    let data = bytes.windows(8).rposition(|window| window == b"data.tar").unwrap() + 60;
    let damaged = place.path().join("damaged.deb");
    // The last byte may be padding, and the stream's own padding is not protected.
    for at in data..bytes.len() - 8 {
        let mut bytes = bytes.clone();
        bytes[at] ^= 0x20;
        fs::write(&damaged, bytes).unwrap();
        let root = tempfile::tempdir().unwrap();
        let result = unpack(root.path(), std::slice::from_ref(&damaged), Conffiles::InPlace);
        assert!(result.is_err(), "byte {at} flipped");
    }
}

#[test]
fn two_packages_with_one_path_are_refused_unless_one_replaces_the_other() {
    let place = tempfile::tempdir().unwrap();
    let a = Making::new(place.path(), "a", "X-Own: x");
    a.write("usr/shared", "a", 0o644);
    a.write("usr/a", "a", 0o644);
    let b = Making::new(place.path(), "b", "X-Own: x");
    b.write("usr/shared", "b", 0o644);
    let c = Making::new(place.path(), "c", "Replaces: a (<< 2)");
    c.write("usr/shared", "c", 0o644);
    let [a, b, c] = [a, b, c].map(|making| making.pack("none"));
    let root = tempfile::tempdir().unwrap();
    let failure = unpack(root.path(), &[a.clone(), b], Conffiles::InPlace).unwrap_err();
    assert!(
        failure.chain().join(" ").contains("packages a and b both have /usr/shared"),
        "{failure:?}"
    );
    for debs in [[a.clone(), c.clone()], [c, a]] {
        let root = tempfile::tempdir().unwrap();
        unpack(root.path(), &debs, Conffiles::Pending).unwrap();
        assert_eq!(fs::read(root.path().join("usr/shared")).unwrap(), b"c");
        let list = fs::read_to_string(root.path().join("var/lib/dpkg/info/a.list")).unwrap();
        assert_eq!(list, "/.\n/usr\n/usr/a\n");
    }
}

/// Unpacks packages that have these paths with one worker, first in this order and then in the
/// other, and returns both failures. The largest goes first, whatever its place in the list.
fn refused_in_both_orders(makings: [fn(&Path) -> Making; 2]) -> [String; 2] {
    [0, 1].map(|first| {
        let place = tempfile::tempdir().unwrap();
        let mut debs = Vec::new();
        for (index, make) in makings.iter().enumerate() {
            let making = make(place.path());
            let size = if index == first { 100_000 } else { 1 };
            making.write(&format!("zz/{index}"), &"x".repeat(size), 0o644);
            debs.push(making.pack("none"));
        }
        let root = tempfile::tempdir().unwrap();
        let parcels: Vec<_> = debs.iter().map(|deb| parcel(deb)).collect();
        let mut unpacker = Unpacker::new(root.path(), Conffiles::InPlace).unwrap().with_workers(1);
        let failure = unpacker.unpack(&parcels, &Silent, &Cancel::default()).unwrap_err();
        assert_eq!(failure.class(), nodekiln_words::Class::Input, "{failure:?}");
        assert!(failure.help().is_some());
        failure.chain().pop().unwrap()
    })
}

#[test]
fn a_folder_and_another_packages_link_or_file_at_its_path_are_refused_in_any_order() {
    let folder = |place: &Path| {
        let making = Making::new(place, "a", "Replaces: b");
        making.write("usr/share/x/file", "a", 0o644);
        making
    };
    let link = |place: &Path| {
        let making = Making::new(place, "b", "Replaces: a");
        making.write("usr/share/y/file", "b", 0o644);
        symlink("y", making.folder.join("usr/share/x")).unwrap();
        making
    };
    let file = |place: &Path| {
        let making = Making::new(place, "b", "Replaces: a");
        making.write("usr/share/x", "b", 0o644);
        making
    };
    for other in [link as fn(&Path) -> Making, file] {
        for text in refused_in_both_orders([folder, other]) {
            assert_eq!(text, "packages a and b both have /usr/share/x");
        }
    }
}

fn with_hard_link(place: &Path) -> Making {
    let making = Making::new(place, "a", "X-Own: x");
    making.write("usr/first", "a", 0o644);
    fs::hard_link(making.folder.join("usr/first"), making.folder.join("usr/second")).unwrap();
    making
}

#[test]
fn a_hard_link_to_what_another_package_replaces_is_refused_in_any_order() {
    let replacing = |place: &Path| {
        let making = Making::new(place, "b", "Replaces: a");
        making.write("usr/first", "b", 0o644);
        making
    };
    for text in refused_in_both_orders([with_hard_link, replacing]) {
        assert_eq!(text, "package a has a hard link to /usr/first, which package b replaces");
    }
}

#[test]
fn a_hard_link_itself_may_be_replaced_in_any_order() {
    for sizes in [[1, 100_000], [100_000, 1]] {
        let place = tempfile::tempdir().unwrap();
        let linked = with_hard_link(place.path());
        let replacing = Making::new(place.path(), "b", "Replaces: a");
        replacing.write("usr/second", "b", 0o644);
        let debs = [linked, replacing].map(|making| {
            let size = sizes[usize::from(making.name == "b")];
            making.write(&format!("zz/{}", making.name), &"x".repeat(size), 0o644);
            making.pack("none")
        });
        let root = tempfile::tempdir().unwrap();
        let mut unpacker = Unpacker::new(root.path(), Conffiles::InPlace).unwrap().with_workers(1);
        let parcels: Vec<_> = debs.iter().map(|deb| parcel(deb)).collect();
        unpacker.unpack(&parcels, &Silent, &Cancel::default()).unwrap();
        let found = ["first", "second"].map(|name| {
            let path = root.path().join("usr").join(name);
            (fs::read(&path).unwrap(), fs::metadata(&path).unwrap().nlink())
        });
        assert_eq!(found, [(b"a".to_vec(), 1), (b"b".to_vec(), 1)]);
    }
}

#[test]
fn links_in_the_tree_are_followed_within_it_and_never_out_of_it() {
    let place = tempfile::tempdir().unwrap();
    let making = Making::new(place.path(), "p", "X-Own: x");
    making.write("bin/program", "p", 0o755);
    making.write("escape/file", "f", 0o644);
    let deb = making.pack("none");
    let root = place.path().join("root");
    fs::create_dir(&root).unwrap();
    let outside = place.path().join("outside");
    fs::create_dir(&outside).unwrap();
    symlink(&outside, root.join("escape")).unwrap();
    let parcels = [parcel(&deb)];
    let mut unpacker = Unpacker::new(&root, Conffiles::InPlace).unwrap();
    unpacker.merge_usr().unwrap();
    unpacker.unpack(&parcels, &Silent, &Cancel::default()).unwrap_err();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    fs::create_dir_all(root.join(outside.strip_prefix("/").unwrap())).unwrap();
    let mut unpacker = Unpacker::new(&root, Conffiles::InPlace).unwrap();
    unpacker.unpack(&parcels, &Silent, &Cancel::default()).unwrap();
    assert_eq!(fs::read_dir(&outside).unwrap().count(), 0);
    assert_eq!(fs::read(root.join("usr/bin/program")).unwrap(), b"p");
}

#[test]
fn diverted_files_and_overridden_owners_come_out_as_the_database_says() {
    let place = tempfile::tempdir().unwrap();
    let making = Making::new(place.path(), "p", "X-Own: x");
    making.write("usr/tool", "p", 0o755);
    let deb = making.pack("none");
    let root = place.path().join("root");
    fs::create_dir_all(root.join("var/lib/dpkg")).unwrap();
    fs::write(root.join("var/lib/dpkg/diversions"), "/usr/tool\n/usr/tool.real\nother\n").unwrap();
    fs::write(root.join("var/lib/dpkg/statoverride"), "#7 #9 2711 /usr/tool\n").unwrap();
    unpack(&root, &[deb], Conffiles::InPlace).unwrap();
    let metadata = fs::metadata(root.join("usr/tool.real")).unwrap();
    assert_eq!((metadata.uid(), metadata.gid(), metadata.mode() & 0o7777), (7, 9, 0o2711));
    assert!(!root.join("usr/tool").exists());
}

pub(crate) fn real_debs() -> Vec<PathBuf> {
    let folder = std::env::var_os("NODEKILN_TEST_DEBS")
        .expect("NODEKILN_TEST_DEBS names a folder of .deb files");
    let mut debs: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    debs.retain(|path| path.extension().is_some_and(|extension| extension == "deb"));
    debs.sort();
    debs
}

#[test]
#[ignore = "needs a folder of packages, named by NODEKILN_TEST_DEBS"]
fn each_real_package_is_unpacked_as_dpkg_deb_does() {
    for deb in real_debs() {
        let folder = tempfile::tempdir().unwrap();
        let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
        fs::create_dir(&ours).unwrap();
        unpack(&ours, std::slice::from_ref(&deb), Conffiles::InPlace).unwrap();
        run("dpkg", "dpkg-deb", &["--extract", text(&deb), text(&theirs)]);
        assert_eq!(
            differences(&tree(&ours), &tree(&theirs)),
            Vec::<String>::new(),
            "{}",
            deb.display()
        );
    }
}

/// A maintainer script would run, in a tree without a shell; so only packages that have none.
#[test]
#[ignore = "needs a folder of packages, named by NODEKILN_TEST_DEBS"]
fn real_packages_are_entered_as_dpkg_enters_them() {
    let mut debs = real_debs();
    debs.retain(|deb| !parcel(deb).control.files.contains_key("preinst"));
    compare_with_dpkg(&debs);
}

/// Unpacks `debs` here and with dpkg, and compares the trees with their databases.
fn compare_with_dpkg(debs: &[PathBuf]) {
    let folder = tempfile::tempdir().unwrap();
    let (ours, theirs) = (folder.path().join("ours"), folder.path().join("theirs"));
    for root in [&ours, &theirs] {
        fs::create_dir(root).unwrap();
    }
    unpack(&ours, debs, Conffiles::Pending).unwrap();
    fs::create_dir_all(theirs.join("var/lib/dpkg/updates")).unwrap();
    fs::create_dir_all(theirs.join("var/lib/dpkg/info")).unwrap();
    fs::write(theirs.join("var/lib/dpkg/status"), "").unwrap();
    let root = format!("--root={}", text(&theirs));
    let mut arguments =
        vec![root.as_str(), "--force-depends", "--force-unsafe-io", "--no-triggers", "--unpack"];
    arguments.extend(debs.iter().map(|deb| text(deb)));
    run("dpkg", "dpkg", &arguments);
    let (mut ours, mut theirs) = (tree(&ours), tree(&theirs));
    for (path, entry) in ours.iter_mut().chain(&mut theirs) {
        // The database has the time of its making with dpkg, the package's with us.
        if path.starts_with(b"var/lib/dpkg/") {
            entry.mtime = 0;
        }
    }
    // Locks and backups, and the note of what is still to be triggered: dpkg, told not to run
    // triggers, forgets what no configured package is interested in.
    for name in ["lock", "lock-frontend", "status-old", "triggers/Lock", "triggers/Unincorp"] {
        let path = format!("var/lib/dpkg/{name}").into_bytes();
        ours.remove(&path);
        theirs.remove(&path);
    }
    assert_eq!(differences(&ours, &theirs), Vec::<String>::new());
}
