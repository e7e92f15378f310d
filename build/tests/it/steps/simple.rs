//! Steps that need no programs in the tree.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use nodekiln_build::layer::LayeredTree;
use nodekiln_build::steps::{files, remove, sysprep};
use nodekiln_recipes::inventory::{EntryKind, TreeReader as _};
use nodekiln_recipes::plan::{PlannedFile, PlannedFileNode};
use nodekiln_words::{Class, Sha256};

use super::{Bench, paths, write};

fn planned(path: &str, node: PlannedFileNode, mode: u32, owner: &str, group: &str) -> PlannedFile {
    PlannedFile { path: path.into(), node, mode, owner: owner.into(), group: group.into() }
}

#[test]
fn files_directories_and_links_are_written_with_the_trees_own_owners() {
    let mut bench = Bench::with(|tree| {
        write(tree, "/etc/passwd", "root:x:0:0::/root:/bin/sh\nchrony:x:123:124::/:/bin/sh\n");
        write(tree, "/etc/group", "root:x:0:\nadm:x:4:\n");
    });
    let content = bench.store.put_bytes(b"server ntp\n").unwrap();
    let files = [
        planned("/etc/chrony/chrony.conf", PlannedFileNode::File(content), 0o640, "chrony", "adm"),
        planned("/srv/data", PlannedFileNode::Directory, 0o2770, "0", "4"),
        planned("/etc/link", PlannedFileNode::Link("/srv/data".into()), 0o777, "root", "root"),
    ];
    let (_, layer) = bench.run(|execution| files::run(&files, execution)).unwrap();
    assert_eq!(
        paths(&layer),
        ["/", "/etc", "/etc/chrony", "/etc/chrony/chrony.conf", "/etc/link", "/srv", "/srv/data"]
    );
    let file = &layer.entries["/etc/chrony/chrony.conf"];
    assert_eq!((file.mode, file.uid, file.gid), (0o640, 123, 4));
    assert_eq!(file.kind, EntryKind::File { size: 11, sha256: content });
    assert_eq!(layer.entries["/srv/data"].mode, 0o2770);
    assert_eq!(layer.entries["/etc/link"].kind, EntryKind::Link { target: "/srv/data".into() });
}

#[test]
fn an_unknown_owner_names_the_file_and_the_user() {
    let mut bench = Bench::with(|tree| write(tree, "/etc/passwd", ""));
    let files = [planned("/f", PlannedFileNode::File(Sha256::of("")), 0o644, "nobdy", "root")];
    let failure = bench.run(|execution| files::run(&files, execution)).unwrap_err();
    assert_eq!(failure.class(), Class::Input);
    assert_eq!(failure.chain(), ["file /f", "the tree has no user `nobdy`"]);
}

#[test]
fn paths_are_deleted_and_absent_ones_warned_about() {
    let mut bench = Bench::with(|tree| {
        write(tree, "/usr/share/doc/a/b", "b");
        write(tree, "/usr/share/keep", "k");
        symlink("/usr/share/keep", tree.join("link")).unwrap();
    });
    let remove = |paths: &[&str], bench: &mut Bench| {
        let paths: Vec<String> = paths.iter().map(|path| (*path).to_owned()).collect();
        bench.run(|execution| remove::run(&[], &paths, execution))
    };
    let (facts, layer) = remove(&["/usr/share/doc", "/link", "/absent"], &mut bench).unwrap();
    assert_eq!(facts["remove.paths"], "2");
    assert_eq!(layer.entries["/usr/share/doc"].kind, EntryKind::Whiteout);
    let tree = LayeredTree::new(bench.below.clone());
    assert!(tree.find(Path::new("/link")).unwrap().is_none());
    assert!(tree.read("/usr/share/keep").unwrap().is_some());
    for path in ["/", "relative", "/../etc"] {
        assert!(remove(&[path], &mut bench).is_err(), "{path}");
    }
}

#[test]
fn sysprep_takes_out_what_belongs_to_one_machine_and_keeps_the_rest() {
    let gone = [
        "/etc/ssh/ssh_host_rsa_key",
        "/etc/ssl/certs/ssl-cert-snakeoil.pem",
        "/etc/ssl/certs/a1b2.0",
        "/var/lib/systemd/random-seed",
        "/var/lib/cloud/instance/id",
        "/etc/passwd-",
        "/root/.bash_history",
        "/home/u/.bash_history",
        "/var/lib/apt/lists/some_Packages",
        "/var/cache/apt/pkgcache.bin",
        "/var/log/apt/history.log",
        "/tmp/left",
        "/etc/kubernetes/admin.conf",
        "/var/lib/dbus/machine-id",
    ];
    let kept = [
        "/etc/ssl/certs/other.0",
        "/home/u/.ssh/authorized_keys",
        "/var/lib/dpkg/status",
        "/etc/kubernetes/keep.yaml",
        "/var/log/wtmp",
    ];
    let mut bench = Bench::with(|tree| {
        for path in gone.iter().chain(&kept) {
            write(tree, path, "text");
        }
        fs::remove_file(tree.join("etc/ssl/certs/a1b2.0")).unwrap();
        symlink("ssl-cert-snakeoil.pem", tree.join("etc/ssl/certs/a1b2.0")).unwrap();
        write(tree, "/etc/machine-id", "0123\n");
        write(tree, "/etc/hostname", "builder\n");
    });
    let (facts, layer) = bench.run(|execution| sysprep::run(&[], execution)).unwrap();
    let tree = LayeredTree::new(bench.below.clone());
    for path in gone {
        assert!(tree.find(Path::new(path)).unwrap().is_none(), "{path} is still there");
    }
    for path in kept {
        assert!(tree.find(Path::new(path)).unwrap().is_some(), "{path} is gone");
    }
    assert_eq!(layer.entries["/etc/machine-id"].mode, 0o444);
    assert_eq!(tree.read("/etc/machine-id").unwrap().unwrap(), b"");
    assert_eq!(tree.read("/etc/hostname").unwrap().unwrap(), b"");
    assert_eq!(tree.read("/var/log/wtmp").unwrap().unwrap(), b"");
    assert!(tree.find(Path::new("/var/log/apt")).unwrap().is_some(), "folders of logs stay");
    assert_eq!(facts["sysprep.accounts"], "3");
    // Nothing is left to do the second time.
    let (again, layer) = bench.run(|execution| sysprep::run(&[], execution)).unwrap();
    assert!(again.is_empty(), "{again:?}");
    assert_eq!(paths(&layer), ["/"]);
}

#[test]
fn sysprep_leaves_what_the_recipe_writes_and_nothing_beside_it() {
    let kept = ["/etc/kubernetes/manifests/vip.yaml", "/root/.ssh/authorized_keys", "/etc/hosts"];
    let gone = ["/etc/kubernetes/manifests/other.yaml", "/root/.ssh/id_ed25519", "/root/.cache/x"];
    let mut bench = Bench::with(|tree| {
        for path in kept.iter().chain(&gone) {
            write(tree, path, "text");
        }
    });
    let keep: Vec<String> = kept.map(str::to_owned).into();
    bench.run(|execution| sysprep::run(&keep, execution)).unwrap();
    let tree = LayeredTree::new(bench.below.clone());
    for path in kept {
        assert_eq!(tree.read(path).unwrap().as_deref(), Some(&b"text"[..]), "{path}");
    }
    for path in gone {
        assert!(tree.find(Path::new(path)).unwrap().is_none(), "{path} is still there");
    }
}
