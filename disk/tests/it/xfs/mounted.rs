//! File systems that Linux filled, against what it tells of them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use nodekiln_disk::files::{Content, Entry, FileSystem, Kind};
use nodekiln_words::{Cancel, Class};

use super::{assert_sound, digest, digest_at, make};
use crate::files::{around, files};
use crate::tools::{noise, run, succeed};
use crate::trees::{expected, folder, tree, walked};

/// A mounted file system, which is unmounted when it is dropped.
struct Mount(PathBuf);

impl Mount {
    /// `None` where this machine cannot mount it.
    fn of(image: &Path) -> Option<Self> {
        let place = image.with_file_name("mounted");
        std::fs::create_dir_all(&place).unwrap();
        let words = ["-t", "xfs", "-o", "loop"].map(OsStr::new);
        let words = words.into_iter().chain([image.as_os_str(), place.as_os_str()]);
        let output = run("mount", "mount", words);
        if output.status.success() {
            return Some(Self(place));
        }
        let told = String::from_utf8_lossy(&output.stderr);
        eprintln!("skipped: no such XFS is mounted on this machine: {}", told.trim());
        None
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        run("umount", "mount", [&self.0]);
    }
}

/// What Linux tells of all files below `top`, and their contents.
fn told(top: &Path) -> (Vec<Entry>, BTreeMap<PathBuf, (u64, u32)>) {
    let mut entries = expected(top);
    let mut contents = BTreeMap::new();
    for entry in &mut entries {
        // Linux tells of access control lists as they are stored too.
        let is_stored = |name: &OsStr| name.as_encoded_bytes().starts_with(b"trusted.SGI_ACL_");
        entry.attributes.xattrs.retain(|name, _| !is_stored(name));
        if entry.attributes.kind == Kind::File {
            let path = top.join(entry.path.strip_prefix("/").unwrap());
            let content = digest(std::fs::File::open(path).unwrap());
            contents.insert(entry.path.clone(), content);
        }
    }
    (entries, contents)
}

fn compare(
    found: &FileSystem,
    (entries, contents): &(Vec<Entry>, BTreeMap<PathBuf, (u64, u32)>),
    what: &str,
) {
    let ours = walked(found);
    assert_eq!(ours.len(), entries.len(), "{what}");
    for (ours, theirs) in ours.iter().zip(entries) {
        assert_eq!(ours, theirs, "{what}");
    }
    for (path, expected) in contents {
        assert_eq!(digest_at(found, path), *expected, "{what}: {}", path.display());
    }
}

/// Files in many pieces, shared ones, and ones whose blocks are not written.
fn pieces(top: &Path) {
    let at = |path: &str| top.join(path);
    std::fs::create_dir(at("pieces")).unwrap();
    let file = std::fs::File::create(at("pieces/holes")).unwrap();
    for number in 0..1500 {
        file.write_all_at(&noise(number, 4096), number * 12_288).unwrap();
    }
    file.sync_all().unwrap();
    file.set_len(40 << 20).unwrap();
    let tool = |words: &[&str], path: &Path| {
        let commands = words.iter().flat_map(|command| ["-c", command]).map(OsStr::new);
        let words = ["-f".as_ref()].into_iter().chain(commands).chain([path.as_os_str()]);
        succeed("xfs_io", "xfsprogs", words);
    };
    tool(&["falloc 0 3m", "pwrite -q -S 7 1m 64k", "falloc -k 3m 9m"], &at("pieces/not-written"));
    tool(
        &["pwrite -q -S 9 0 2m", "fsync", "fpunch 100k 1m", "fzero 1500k 3k"],
        &at("pieces/punched"),
    );
    let (holes, copy) = (at("pieces/holes"), at("pieces/shared"));
    let words = ["--reflink=auto".as_ref(), holes.as_os_str(), copy.as_os_str()];
    succeed("cp", "coreutils", words);
    let shared = std::fs::File::options().write(true).open(copy).unwrap();
    shared.write_all_at(b"changed", 777_777).unwrap();
}

/// Folders from which most names were removed, and one whose names are in one block.
fn folders(top: &Path) {
    for (name, count, kept) in [("shrunk", 6000, 97), ("emptied", 3000, 5000), ("all", 4000, 1)] {
        let folder = top.join(name);
        std::fs::create_dir(&folder).unwrap();
        let path = |number: usize| folder.join(format!("{number:05}-{}", "n".repeat(number % 70)));
        (0..count).for_each(|number| std::fs::write(path(number), "").unwrap());
        for number in (0..count).filter(|number| number % kept != 0) {
            std::fs::remove_file(path(number)).unwrap();
        }
    }
    let folder = top.join("fifty");
    std::fs::create_dir(&folder).unwrap();
    (0..50).for_each(|number| std::fs::write(folder.join(format!("{number}")), "").unwrap());
}

/// Attributes in leaves, below nodes and in blocks of their own.
fn attributes(top: &Path) {
    let set = |path: &Path, name: &str, value: &[u8]| xattr::set(path, name, value).unwrap();
    for (name, count, length) in [("leaf", 20, 60), ("node", 600, 40), ("values", 30, 3000)] {
        let path = top.join(name);
        std::fs::write(&path, name).unwrap();
        for number in 0..count {
            set(&path, &format!("user.name-{number}"), &noise(number, length));
        }
        for number in (0..count).step_by(7) {
            xattr::remove(&path, format!("user.name-{number}")).unwrap();
        }
    }
    let path = top.join("longest");
    std::fs::write(&path, "").unwrap();
    set(&path, "user.longest", &noise(1, 65_536));
    set(&path, "security.selinux", b"system_u:object_r:etc_t:s0\0");
    set(&path, &format!("user.{}", "n".repeat(250)), b"v");
}

fn filled(top: &Path) {
    tree(top, 300);
    pieces(top);
    folders(top);
    attributes(top);
    for length in [1000, 1015, 1023] {
        let target = "t".repeat(length);
        std::os::unix::fs::symlink(target, top.join(format!("l{length}"))).unwrap();
    }
}

#[test]
fn trees_are_read_as_linux_tells_of_them() {
    let folder = folder();
    for options in [
        &["-m", "crc=1"][..],
        &["-m", "rmapbt=1", "-i", "nrext64=1"],
        &["-m", "bigtime=0,reflink=0", "-b", "size=1024", "-n", "size=8192"],
        &["-b", "size=1024", "-i", "nrext64=1,size=512"],
        &["-i", "size=2048", "-d", "agcount=9"],
        &["-m", "crc=0", "-b", "size=1024"],
        &["-n", "parent=1", "-i", "exchange=1"],
    ] {
        let what = options.join(" ");
        if what.contains("parent") && !knows_parents() {
            eprintln!("skipped: this mkfs.xfs makes no file system with parents");
            continue;
        }
        let image = make(folder.path(), options);
        let Some(mount) = Mount::of(&image) else { continue };
        filled(&mount.0);
        drop(mount);
        // Mounted anew, so that what is told comes from the disk.
        let Some(mount) = Mount::of(&image) else { panic!("{what}: cannot be mounted again") };
        let theirs = told(&mount.0);
        drop(mount);
        assert!(theirs.0.len() > 4000, "{what}: {}", theirs.0.len());
        assert_sound(&image, &what);
        compare(&files(&image), &theirs, &what);
    }
}

/// Whether mkfs.xfs has folders above as attributes: since 6.10.
fn knows_parents() -> bool {
    let output = run("mkfs.xfs", "xfsprogs", ["-N", "-n", "parent=1", "-d", "name=/none,size=1g"]);
    !String::from_utf8_lossy(&output.stderr).contains("unknown option")
}

/// The state that `xfs_logprint` tells of a log.
fn state(image: &Path) -> String {
    let printed = succeed("xfs_logprint", "xfsprogs", ["-t".as_ref(), image.as_os_str()]);
    let state = printed.lines().find_map(|line| line.split_once("state: "));
    state.unwrap_or_else(|| panic!("{printed}")).1.trim().to_owned()
}

#[test]
fn a_file_system_that_was_not_unmounted_is_refused() {
    let folder = folder();
    let image = make(folder.path(), &[]);
    let Some(mount) = Mount::of(&image) else { return };
    let mut one = std::fs::File::create(mount.0.join("one")).unwrap();
    one.write_all(b"one").unwrap();
    one.sync_all().unwrap();
    drop(one);
    let words = ["-x", "-c", "shutdown -f"].map(OsStr::new);
    succeed("xfs_io", "xfsprogs", words.into_iter().chain([mount.0.as_os_str()]));
    drop(mount);
    assert_eq!(state(&image), "<DIRTY>");
    let (disk, part) = around(&image);
    let failure = Content::of(&disk, &part, &Cancel::default()).map(|_| ()).unwrap_err();
    assert_eq!(failure.class(), Class::Unsupported);
    let told = failure.chain().join(": ");
    assert!(told.contains("was not unmounted") && failure.help().is_some(), "{told}");
    // Mounting it once helps.
    drop(Mount::of(&image));
    assert_eq!(state(&image), "<CLEAN>");
    assert_eq!(files(&image).text("/one").unwrap().as_deref(), Some("one"));
}

/// Whatever place of its ring the log ends at: the changes of a small one go round several times.
#[test]
fn a_log_that_went_round_is_judged_as_linux_does() {
    let folder = folder();
    let image = make(folder.path(), &["-l", "size=10m"]);
    for round in 0..10 {
        let Some(mount) = Mount::of(&image) else { return };
        for number in 0..1500 {
            std::fs::write(mount.0.join(format!("{round}-{number}")), "").unwrap();
        }
        succeed("sync", "coreutils", ["-f".as_ref(), mount.0.as_os_str()]);
        for number in 0..1500 {
            std::fs::remove_file(mount.0.join(format!("{round}-{number}"))).unwrap();
        }
        std::fs::write(mount.0.join("round"), round.to_string()).unwrap();
        // What is mounted is not finished.
        let busy = {
            succeed("sync", "coreutils", ["-f".as_ref(), mount.0.as_os_str()]);
            let (disk, part) = around(&image);
            Content::of(&disk, &part, &Cancel::default()).is_err()
        };
        drop(mount);
        assert!(busy, "round {round}");
        assert_eq!(state(&image), "<CLEAN>", "round {round}");
        let found = files(&image).text("/round").unwrap();
        assert_eq!(found, Some(round.to_string()));
    }
}
