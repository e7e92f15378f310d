//! Steps that run a distribution's own programs, in a small Debian tree that is made once and kept
//! in a temporary folder.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use nodekiln_build::layer::LayeredTree;
use nodekiln_build::steps::{initramfs, packages, remove, script, units, users};
use nodekiln_recipes::Inventory;
use nodekiln_recipes::inventory::{EntryKind, TreeReader as _};
use nodekiln_recipes::plan::PlannedPackage;
use nodekiln_recipes::recipe::{Hook, Units, User};
use nodekiln_words::Class;

use super::{Bench, paths};
use crate::deb::Making;
use crate::place::source_date;

/// The tree, made by mmdebstrap (package `mmdebstrap`) where it is not there yet.
fn debian() -> &'static Path {
    static TREE: OnceLock<PathBuf> = OnceLock::new();
    TREE.get_or_init(|| {
        let folder = std::env::temp_dir().join("nodekiln-test-trees");
        let tree = folder.join("bookworm-1");
        if !tree.exists() {
            fs::create_dir_all(&folder).unwrap();
            let making = tempfile::tempdir_in(&folder).unwrap();
            let include = "--include=initramfs-tools,kmod,passwd,systemd";
            let made = Command::new("mmdebstrap")
                .args(["--quiet", "--variant=apt", include, "bookworm"])
                .arg(making.path())
                .status()
                .expect("the test needs mmdebstrap; install the Debian package mmdebstrap");
            assert!(made.success(), "mmdebstrap could not make a tree");
            fs::rename(making.keep(), &tree).unwrap();
        }
        tree
    })
}

fn user(name: &str) -> User {
    User {
        name: name.to_owned(),
        uid: None,
        groups: Vec::new(),
        shell: "/bin/bash".to_owned(),
        home: None,
        system: false,
        ssh_authorized_keys: Vec::new(),
    }
}

#[test]
fn users_have_no_password_a_dated_shadow_line_and_their_keys() {
    let mut bench = Bench::over(debian());
    let capi = User {
        uid: Some(1234),
        groups: vec!["adm".to_owned()],
        ssh_authorized_keys: vec!["ssh-ed25519 AAAA one".to_owned()],
        ..user("capi")
    };
    let daemon = User { system: true, shell: "/usr/sbin/nologin".to_owned(), ..user("etcd") };
    let (facts, layer) = bench.run(|execution| users::run(&[capi, daemon], execution)).unwrap();
    assert_eq!(facts["user.capi.uid"], "1234");
    let tree = LayeredTree::new(bench.below.clone());
    let read = |path: &str| String::from_utf8(tree.read(path).unwrap().unwrap()).unwrap();
    let day = source_date().unix() / 86_400;
    assert!(read("/etc/shadow").contains(&format!("\ncapi:*:{day}:")), "{}", read("/etc/shadow"));
    assert!(
        read("/etc/group").lines().any(|line| line.starts_with("adm:") && line.ends_with("capi"))
    );
    let keys = &layer.entries["/home/capi/.ssh/authorized_keys"];
    assert_eq!((keys.mode, keys.uid), (0o600, 1234));
    assert_eq!(layer.entries["/home/capi/.ssh"].mode, 0o700);
    assert!(layer.entries.contains_key("/home/capi/.profile"), "nothing from /etc/skel");
    assert!(!layer.entries.contains_key("/home/etcd"), "a system account has no home");
}

#[test]
fn a_user_who_cannot_be_added_is_refused_with_the_reason() {
    let mut bench = Bench::over(debian());
    let mut refuse = |user: User| {
        let failure = bench.run(|execution| users::run(&[user], execution)).unwrap_err();
        assert_eq!(failure.class(), Class::Input);
        failure.chain().pop().unwrap()
    };
    assert_eq!(refuse(user("daemon")), "the tree has a user `daemon` already");
    let group = User { groups: vec!["docker".to_owned()], ..user("a") };
    assert_eq!(refuse(group), "the tree has no group `docker`");
    let shell = User { shell: "/bin/fish".to_owned(), ..user("a") };
    assert_eq!(refuse(shell), "the tree has no shell /bin/fish");
}

#[test]
fn units_are_enabled_disabled_and_masked() {
    let mut bench = Bench::over(debian());
    let list = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
    let wanted = Units {
        enable: list(&["systemd-networkd", "systemd-time-wait-sync.service"]),
        disable: list(&["fstrim.timer"]),
        mask: list(&["apt-daily.timer", "not-installed.service"]),
    };
    let (_, layer) = bench.run(|execution| units::run(&wanted, execution)).unwrap();
    let link = |target: &str| EntryKind::Link { target: target.to_owned() };
    let at = |path: &str| layer.entries[&format!("/etc/systemd/system/{path}")].kind.clone();
    let enabled = at("multi-user.target.wants/systemd-networkd.service");
    assert_eq!(enabled, link("/lib/systemd/system/systemd-networkd.service"));
    assert_eq!(at("apt-daily.timer"), link("/dev/null"));
    assert_eq!(at("not-installed.service"), link("/dev/null"));
    let unknown = Units { enable: list(&["systemd-network.service"]), ..Units::default() };
    let failure = bench.run(|execution| units::run(&unknown, execution)).unwrap_err();
    assert!(failure.help().unwrap().contains("systemd-networkd.service"), "{failure:?}");
}

#[test]
fn a_script_changes_the_tree_and_leaves_nothing_of_its_own() {
    let mut bench = Bench::over(debian());
    let text = "test -n \"$WHAT\"; echo \"$WHAT\" > /etc/motd; pwd; ls /run/nodekiln";
    let content = bench.store.put_bytes(text.as_bytes()).unwrap();
    let environment = BTreeMap::from([("WHAT".to_owned(), "hello".to_owned())]);
    let (_, layer) = bench
        .run(|execution| script::run(Hook::Post, "greet", &content, &environment, execution))
        .unwrap();
    assert_eq!(paths(&layer), ["/", "/etc", "/etc/motd"]);
    assert_eq!(layer.entries["/etc/motd"].mode, 0o644);
}

#[test]
fn a_failing_script_is_named_with_hook_status_and_last_lines() {
    let mut bench = Bench::over(debian());
    let content = bench.store.put_bytes(b"#!/bin/bash\necho before\nfalse\nexit 3\n").unwrap();
    let failure = bench
        .run(|execution| script::run(Hook::Pre, "harden", &content, &BTreeMap::new(), execution))
        .unwrap_err();
    assert_eq!(failure.class(), Class::Verdict);
    assert_eq!(failure.to_string(), "script harden (hook pre) failed with exit status 3");
    assert!(failure.help().unwrap().contains("  before\n"));
    // Without an interpreter line, `-e` ends it at the first failing command.
    let content = bench.store.put_bytes(b"false\nexit 3\n").unwrap();
    let failure = bench
        .run(|execution| script::run(Hook::Pre, "harden", &content, &BTreeMap::new(), execution))
        .unwrap_err();
    assert!(failure.to_string().ends_with("exit status 1"), "{failure}");
}

#[test]
fn packages_are_purged_and_needed_ones_refused() {
    let mut bench = Bench::over(debian());
    let package = |name: &str| vec![name.to_owned()];
    let (facts, _) =
        bench.run(|execution| remove::run(&package("initramfs-tools"), &[], execution)).unwrap();
    assert_eq!(facts["remove.packages"], "1");
    let tree = LayeredTree::new(bench.below.clone());
    let status = String::from_utf8(tree.read("/var/lib/dpkg/status").unwrap().unwrap()).unwrap();
    assert!(!status.contains("Package: initramfs-tools\n"));
    let failure =
        bench.run(|execution| remove::run(&package("libsystemd0"), &[], execution)).unwrap_err();
    assert!(failure.help().unwrap().contains("dependency problems"), "{failure:?}");
}

/// The tree with a kernel, and the initial RAM disk in a layer of its own.
fn with_initial_ram_disk() -> (Bench, BTreeMap<String, String>, Inventory) {
    let mut bench = Bench::over(debian());
    let kernel = bench.folder.path().join("kernel");
    for folder in ["boot", "usr/lib/modules/6.1.0-test/kernel"] {
        fs::create_dir_all(kernel.join(folder)).unwrap();
    }
    // A layer upon /usr must not change what the folder is.
    fs::set_permissions(&kernel, fs::Permissions::from_mode(0o755)).unwrap();
    fs::write(kernel.join("boot/vmlinuz-6.1.0-test"), "kernel").unwrap();
    fs::write(kernel.join("boot/config-6.1.0-test"), "CONFIG_RD_ZSTD=y\nCONFIG_RD_GZIP=y\n")
        .unwrap();
    for list in ["modules.order", "modules.builtin", "modules.builtin.modinfo"] {
        fs::write(kernel.join("usr/lib/modules/6.1.0-test").join(list), "").unwrap();
    }
    std::os::unix::fs::symlink("boot/vmlinuz-6.1.0-test", kernel.join("vmlinuz")).unwrap();
    bench.below.push(kernel);
    let (facts, layer) = bench.run(initramfs::run).unwrap();
    (bench, facts, layer)
}

#[test]
fn the_initial_ram_disk_is_the_same_twice() {
    let make = || {
        let (_, facts, layer) = with_initial_ram_disk();
        (facts, layer)
    };
    let (facts, layer) = make();
    assert_eq!(facts["kernel.version"], "6.1.0-test");
    let image = &layer.entries["/boot/initrd.img-6.1.0-test"].kind;
    assert!(matches!(image, EntryKind::File { size, .. } if *size > 100_000), "{image:?}");
    let link = EntryKind::Link { target: "boot/initrd.img-6.1.0-test".to_owned() };
    assert_eq!(layer.entries["/initrd.img"].kind, link);
    assert_eq!(make().1, layer);
}

/// Adds a package with a hook for the initial RAM disk, which may ask for another one, over the tree with its
/// disk; the facts and the layer.
fn with_added_hook(asks: bool) -> (BTreeMap<String, String>, Inventory) {
    let (mut bench, _, _) = with_initial_ram_disk();
    let making = Making::new(bench.folder.path(), "hook", "X-Own: x");
    let hook = "#!/bin/sh\n[ \"$1\" = prereqs ] || seq 1 200000 > \"$DESTDIR/numbers\"\n";
    making.write("usr/share/initramfs-tools/hooks/hook", hook, 0o755);
    if asks {
        making.write("DEBIAN/triggers", "activate-noawait update-initramfs\n", 0o644);
    }
    let package = PlannedPackage {
        name: "hook".to_owned(),
        version: "1".to_owned(),
        architecture: "all".to_owned(),
        sha256: bench.store.put_file(&making.pack("none")).unwrap(),
        essential: false,
    };
    bench.run(|execution| packages::run_added(&[package], execution)).unwrap()
}

#[test]
fn an_added_package_has_the_initial_ram_disk_made_anew_where_it_asks_for_that() {
    let disk = "/boot/initrd.img-6.1.0-test";
    let (_, _, below) = with_initial_ram_disk();
    let (facts, layer) = with_added_hook(true);
    assert_eq!((&*facts["packages.added"], &*facts["kernel.version"]), ("1", "6.1.0-test"));
    let size = |layer: &Inventory| match layer.entries[disk].kind {
        EntryKind::File { size, .. } => size,
        ref other => panic!("{other:?}"),
    };
    assert!(size(&layer) > size(&below) + 10_000, "the hook's file is not in the new one");
    assert!(layer.entries.contains_key("/usr/share/initramfs-tools/hooks/hook"));
    assert_eq!(with_added_hook(true).1, layer, "another run leaves other bytes");
    let (facts, layer) = with_added_hook(false);
    assert!(!layer.entries.contains_key(disk) && !facts.contains_key("kernel.version"));
}

#[test]
fn a_tree_without_a_kernel_is_told_so() {
    let failure = Bench::over(debian()).run(initramfs::run).unwrap_err();
    assert_eq!(failure.class(), Class::Input);
    assert!(failure.help().unwrap().contains("kernel.package"));
}
