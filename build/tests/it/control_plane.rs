//! Control-plane images from binaries and packages, and a node's own binaries.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use nodekiln_build::kubernetes::crictl;
use nodekiln_build::kubernetes::images::{self, KUBERNETES_IMAGES, PACKAGES};
use nodekiln_build::oci::read;
use nodekiln_build::sandbox::{Sandbox, SandboxCommand};
use nodekiln_build::steps::{control_plane_images, kubernetes_install};
use nodekiln_recipes::recipe::Version;
use nodekiln_words::Cancel;

use crate::debian;
use crate::node::{Bench, source_date};

const VERSION: Version = Version { major: 1, minor: 20, patch: 2 };

fn listed() -> Vec<String> {
    let listed = images::listed(VERSION, "k8s.gcr.io").unwrap();
    listed.iter().map(ToString::to_string).collect()
}

/// The packages and all that they need, as their dependencies had it in Debian 12.
const LIBRARIES: [&str; 11] = [
    "libc6",
    "libip4tc2",
    "libip6tc2",
    "libmnl0",
    "libnetfilter-conntrack3",
    "libnfnetlink0",
    "libnftnl11",
    "libxtables12",
    "netbase",
    "libgcc-s1",
    "gcc-12-base",
];

fn write_program(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Unpacks an image's layers with tar, as a tree to run its programs in.
pub(crate) fn unpack(archive: &Path, folder: &Path) -> PathBuf {
    let images = read::archive(archive, "amd64").unwrap();
    let tree = folder.join(format!("rootfs-{}", images[0].reference.short_name()));
    std::fs::create_dir(&tree).unwrap();
    for (number, layer) in images[0].layers.iter().enumerate() {
        let path = folder.join(format!("{}-{number}.tgz", images[0].reference.short_name()));
        layer.copy_to(&mut std::fs::File::create(&path).unwrap()).unwrap();
        let tar = Command::new("tar").arg("-xzf").arg(&path).arg("-C").arg(&tree).status();
        assert!(tar.expect("tar of the package tar").success());
    }
    tree
}

fn says(bench: &Bench, tree: &Path, argv: &[&str]) -> String {
    let log = bench.path("says-log");
    let command = SandboxCommand::new("the test", tree, argv, &log, source_date());
    let launcher = env!("CARGO_BIN_EXE_nodekiln-sandbox").into();
    let output = Sandbox { launcher, clock: None }.run(&command, &Cancel::default());
    let output = output.unwrap_or_else(|failure| panic!("{failure:?}"));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn images_from_source_have_what_their_programs_need_and_say_what_they_are() {
    let bench = Bench::new();
    let binaries = bench.stored("binaries", |output| {
        for name in KUBERNETES_IMAGES.iter().chain(&["pause"]) {
            write_program(&output.join("bin").join(name), &format!("#!/bin/sh\necho {name}\n"));
        }
    });
    let tools = bench.stored("tools", |output| {
        let packages: Vec<&str> = PACKAGES.iter().chain(&LIBRARIES).copied().collect();
        debian::unpack(&packages, output);
    });
    let make = |name: &str| {
        bench.execute(name, &[], &BTreeMap::new(), &[&binaries, &tools], |execution| {
            control_plane_images::run(VERSION, &listed(), execution)
        })
    };
    let (output, facts) = make("one");
    let facts = facts.unwrap();
    assert!(facts["version.etcd"].starts_with("3.4."), "{facts:?}");
    assert!(facts["images.unavailable"].contains("k8s.gcr.io/coredns:1.7.0"), "{facts:?}");
    let listed = |output: &Path| -> BTreeMap<String, Vec<u8>> {
        let entries = std::fs::read_dir(output.join("images")).unwrap();
        let entry = |entry: std::io::Result<std::fs::DirEntry>| {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy().into_owned();
            (name, std::fs::read(path).unwrap())
        };
        entries.map(entry).collect()
    };
    let archives = listed(&output);
    assert_eq!(archives.len(), 6, "all of kubeadm's but coredns");
    assert!(archives == listed(&make("two").0), "the same twice");

    let archive = |name: &str| {
        let file = archives.keys().find(|file| file.contains(&format!("_2f{name}_3a"))).unwrap();
        output.join("images").join(file)
    };
    let etcd = unpack(&archive("etcd"), bench.folder.path());
    assert!(says(&bench, &etcd, &["etcd", "--version"]).contains(&facts["version.etcd"]));
    assert!(says(&bench, &etcd, &["etcdctl", "version"]).contains("etcdctl version"));
    let proxy = unpack(&archive("kube-proxy"), bench.folder.path());
    for name in ["iptables", "ip6tables-save", "iptables-restore"] {
        assert!(says(&bench, &proxy, &[name, "--version"]).contains("(nf_tables)"), "{name}");
    }
    assert!(says(&bench, &proxy, &["conntrack", "--version"]).contains("conntrack v1."));
    let labels = std::fs::read_to_string(proxy.join("usr/sbin/iptables")).unwrap();
    assert!(labels.starts_with("#!/bin/sh"));
    assert!(
        Command::new("skopeo")
            .args(["inspect", &format!("oci-archive:{}", archive("etcd").display())])
            .output()
            .is_ok_and(
                |seen| String::from_utf8_lossy(&seen.stdout).contains("io.nodekiln.stand-in")
            )
    );
}

/// A tree with a shell, and binaries that say they are of `version`.
fn node(bench: &Bench, version: &str) -> (PathBuf, nodekiln_build::store::StoredNode) {
    let tree = bench.path("node-tree");
    debian::unpack(&["busybox-static"], &tree);
    for name in ["sh", "cat", "cut", "env", "grep", "head", "mkdir", "rm", "sed", "sleep", "touch"]
    {
        std::os::unix::fs::symlink("busybox", tree.join("bin").join(name)).unwrap();
    }
    std::fs::create_dir_all(tree.join("usr/lib/cni")).unwrap();
    std::fs::write(tree.join("usr/lib/cni/bridge"), "").unwrap();
    let binaries = bench.stored("binaries", |output| {
        for name in ["kubeadm", "kubectl", "kubelet"] {
            let text = format!("#!/bin/sh\necho {name} {version}\n");
            write_program(&output.join("bin").join(name), &text);
        }
    });
    (tree, binaries)
}

#[test]
fn a_node_gets_its_programs_a_crictl_and_its_version() {
    let bench = Bench::new();
    let (tree, binaries) = node(&bench, "v1.20.2");
    let (output, facts) =
        bench.execute("install", &[&tree], &BTreeMap::new(), &[&binaries], |execution| {
            kubernetes_install::run(VERSION, execution)
        });
    assert_eq!(facts.unwrap()["crictl"], "stand-in");
    let read = |path: &str| std::fs::read_to_string(output.join(path)).unwrap();
    assert_eq!(read("etc/kubernetes-version"), "v1.20.2\n");
    assert!(read("etc/image-builder-release").contains("BUILD_DATE=2023-11-14T22:13:20Z\n"));
    assert_eq!(read("usr/bin/crictl"), crictl::SCRIPT);
    let link = std::fs::read_link(output.join("opt/cni/bin/bridge")).unwrap();
    assert_eq!(link, Path::new("/usr/lib/cni/bridge"));
    for name in ["kubeadm", "kubectl", "kubelet", "crictl"] {
        let mode = std::fs::metadata(output.join("usr/bin").join(name)).unwrap().permissions();
        assert_eq!(mode.mode() & 0o7777, 0o755, "{name}");
    }
}

#[test]
fn binaries_of_another_version_are_refused() {
    let bench = Bench::new();
    let (tree, binaries) = node(&bench, "v1.20.20");
    let (_, result) =
        bench.execute("install", &[&tree], &BTreeMap::new(), &[&binaries], |execution| {
            kubernetes_install::run(VERSION, execution)
        });
    let text = result.unwrap_err().to_string();
    assert!(text.contains("v1.20.2") && text.contains("v1.20.20"), "{text}");
}

#[test]
fn the_stand_in_stops_a_pod_with_all_that_is_in_it_and_then_removes_it() {
    let bench = Bench::new();
    let (tree, _) = node(&bench, "v1.20.2");
    write_program(&tree.join("usr/bin/crictl"), crictl::SCRIPT);
    // A ctr whose containers and running tasks are files. The network's name lies as in containerd's specifications.
    let ctr = r#"#!/bin/sh
shift 4
for last; do :; done
case "$*" in
"containers info "*) [ -e "/run/containers/$last" ] || exit 1
  printf '"Labels": {\n  "io.kubernetes.pod.uid": "%s"\n},\n' "$(cat "/run/containers/$last")"
  printf '"path": "/var/run/netns/cni-1",\n"io.kubernetes.cri.sandbox-id": "one"\n' ;;
"containers list -q "*) cd /run/containers
  for one in *; do case "$one $last" in two*"==$(cat "$one")") echo "$one" ;; esac; done ;;
"tasks list") echo "TASK PID STATUS"; cd /run/tasks; for one in *; do echo "$one 7 RUNNING"; done ;;
"tasks kill --signal SIGKILL "*) rm "/run/tasks/$last" ;;
"tasks delete --force "*) exit 1 ;;
"containers delete "*) rm "/run/containers/$last" ;;
*) echo "unexpected: $*" >&2; exit 1 ;;
esac
"#;
    write_program(&tree.join("usr/bin/ctr"), ctr);
    // Two pods, `one` with the container `two-a`, and another one's container beside.
    let script = "mkdir -p /run/containers /run/tasks /run/netns; cd /run\n\
        echo 7 >containers/one; echo 7 >containers/two-a; echo 8 >containers/two-b\n\
        touch tasks/one tasks/two-a tasks/two-b netns/cni-1\n\
        crictl rmp one 2>/dev/null && echo 'removed while it ran'\n\
        crictl -r unix:///x stopp one; echo tasks/*; echo netns/*\n\
        crictl stopp one >/dev/null && echo again\n\
        crictl rmp one; echo containers/*\n\
        crictl rmp one 2>/dev/null || echo gone";
    let seen = says(&bench, &tree, &["/bin/sh", "-c", script]);
    let want = "Stopped sandbox one\ntasks/two-b\nnetns/*\nagain\n\
                Removed sandbox one\ncontainers/two-b\ngone\n";
    assert_eq!(seen, want);
}

#[test]
fn the_stand_in_says_that_it_is_one_and_refuses_what_it_does_not_know() {
    let bench = Bench::new();
    let (tree, _) = node(&bench, "v1.20.2");
    write_program(&tree.join("usr/bin/crictl"), crictl::SCRIPT);
    // A ctr that knows one image and one running container.
    let ctr = r#"#!/bin/sh
shift 4
case "$*" in
version) ;;
"images list -q name==a.b/c:1") echo a.b/c:1 ;;
"images list -q") echo a.b/c:1; echo sha256:22 ;;
"images list -q name=="*) ;;
"images list name==a.b/c:1"|"images list") echo "REF TYPE DIGEST"
  echo "a.b/c:1 x sha256:11"; echo "sha256:22 x sha256:11" ;;
"tasks list") echo "TASK PID STATUS"; echo "one 7 RUNNING"; echo "two 0 STOPPED" ;;
"containers info pod") echo '{ "Labels": { "io.kubernetes.pod.uid": "7-8", "x": "y" } }' ;;
"containers info bare") echo '{ "Labels": {} }' ;;
"containers list -q "*'container,labels."io.kubernetes.pod.uid"==7-8') echo two ;;
"containers list -q "*container) echo one; echo two ;;
"containers list -q "*) echo pod ;;
*) echo "unexpected: $*" >&2; exit 1 ;;
esac
"#;
    write_program(&tree.join("usr/bin/ctr"), ctr);
    let crictl = |arguments: &[&str]| {
        let argv =
            [&["/usr/bin/crictl", "-r", "unix:///run/containerd/containerd.sock"], arguments];
        says(&bench, &tree, &argv.concat())
    };
    assert!(crictl(&["--help"]).contains("stand-in"));
    assert!(crictl(&["info"]).contains("RuntimeReady"));
    assert_eq!(
        crictl(&["inspecti", "a.b/c:1"]),
        "{\"status\":{\"id\":\"sha256:22\",\"repoTags\":[\"a.b/c:1\"]}}\n"
    );
    assert!(crictl(&["pull", "a.b/c:1"]).contains("up to date"));
    assert_eq!(crictl(&["pods", "-q"]), "pod\n");
    assert_eq!(crictl(&["ps", "-q"]), "one\n");
    assert_eq!(crictl(&["ps", "-aq"]), "one\ntwo\n");
    assert_eq!(crictl(&["images", "-q"]), "sha256:22\n");
    let refused: [&[&str]; 8] = [
        &["inspecti", "a.b/d:1"],
        &["rmi", "a.b/c:1"],
        &["exec"],
        &["--what"],
        &["stopp"],
        &["stopp", "missing"],
        &["stopp", "bare"],
        &["rmp", "bare"],
    ];
    for arguments in refused {
        let argv = [&["/usr/bin/crictl"], arguments].concat();
        let log = bench.path("log");
        let command = SandboxCommand::new("the test", &tree, argv, &log, source_date());
        let launcher = env!("CARGO_BIN_EXE_nodekiln-sandbox").into();
        assert!(
            Sandbox { launcher, clock: None }.run(&command, &Cancel::default()).is_err(),
            "{arguments:?}"
        );
    }
}
