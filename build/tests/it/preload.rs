//! Importing images with Debian's own containerd.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use nodekiln_build::oci::layer::{self, Entries, Node};
use nodekiln_build::oci::{self, Image, ImageSpec, archive};
use nodekiln_build::sandbox::{Bind, Sandbox, SandboxCommand};
use nodekiln_build::steps::preload::{Request, run};
use nodekiln_build::store::StoredNode;
use nodekiln_recipes::recipe::Version;
use nodekiln_words::{Cancel, Result};

use crate::debian;
use crate::node::{Bench, source_date};

/// Lists the store with CRI running, as on a node, then stops.
const SECOND_START: &str = r#"
containerd --log-level warn >&2 &
server=$!
until ctr version >/dev/null 2>&1; do sleep 0.1; done
sleep 2
ctr -n k8s.io images list
ctr -n k8s.io images check >&2
crictl info >&2
crictl inspecti k8s.gcr.io/pause:3.2
crictl images -q >&2
crictl pods -q >&2
crictl ps -q >&2
kill $server
wait $server
"#;

fn tree(bench: &Bench) -> std::path::PathBuf {
    let tree = bench.path("node-tree");
    let packages = ["busybox-static", "containerd", "libc6", "libseccomp2", "runc"];
    debian::unpack(&packages, &tree);
    for name in ["cat", "sh", "sleep"] {
        symlink("busybox", tree.join("bin").join(name)).unwrap();
    }
    put_program(&tree, "usr/bin/crictl", nodekiln_build::kubernetes::crictl::SCRIPT);
    tree
}

fn image(name: &str, content: &str, folder: &Path) -> Image {
    let mut entries = Entries::default();
    entries.add("bin/tool", Node::Bytes(content.as_bytes().into()), 0o755).unwrap();
    let spec = ImageSpec {
        reference: name.parse().unwrap(),
        architecture: "amd64",
        entrypoint: vec!["/bin/tool".to_owned()],
        user: None,
        environment: Vec::new(),
        labels: BTreeMap::new(),
    };
    let path = folder.join(format!("layer-{}", spec.reference.file_name()));
    let layer = layer::write(&entries, source_date(), &path, &Cancel::default()).unwrap();
    oci::build(&spec, layer, source_date()).unwrap()
}

/// A node with one archive for each name.
fn archives(bench: &Bench, names: &[&str]) -> StoredNode {
    bench.stored("images", |output| {
        std::fs::create_dir(output.join("images")).unwrap();
        for name in names {
            let image = image(name, name, bench.folder.path());
            let path = output.join("images").join(format!("{}.tar", image.reference.file_name()));
            archive::write(&[image], source_date(), &path, &Cancel::default()).unwrap();
        }
    })
}

fn preload(
    bench: &Bench,
    scratch: &str,
    tree: &Path,
    images: &StoredNode,
    request: &Request<'_>,
) -> (std::path::PathBuf, Result<BTreeMap<String, String>>) {
    let facts = BTreeMap::from([(
        "containerd.sandbox-image".to_owned(),
        "k8s.gcr.io/pause:3.2".to_owned(),
    )]);
    bench.execute(scratch, &[tree], &facts, &[images], |execution| run(request, execution))
}

const PAUSE: &str = "k8s.gcr.io/pause:3.2";
const EXTRA: &str = "docker.io/library/tool:1";

fn extras(images: &[String]) -> Request<'_> {
    Request { kubernetes: None, source: "", image_repository: "", images }
}

#[test]
fn a_preloaded_store_is_what_a_starting_node_wants() {
    let bench = Bench::new();
    let (tree, images) = (tree(&bench), archives(&bench, &[PAUSE, EXTRA, "a.b/unwanted:1"]));
    let wanted = [PAUSE.to_owned(), EXTRA.to_owned()];
    let (output, facts) = preload(&bench, "first", &tree, &images, &extras(&wanted));
    let facts = facts.unwrap();
    assert!(facts["images"].contains(EXTRA) && !facts["images"].contains("unwanted"));

    let store = output.join("var/lib/containerd");
    let mut names: Vec<String> = std::fs::read_dir(&store)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    let kept = [
        "io.containerd.content.v1.content",
        "io.containerd.metadata.v1.bolt",
        "io.containerd.snapshotter.v1.overlayfs",
    ];
    assert_eq!(names, kept);
    assert!(!bench.path("first/store").exists() && !bench.path("first/tree").exists());

    let before = second_start(&bench, &tree, &store);
    assert_eq!(before, second_start(&bench, &tree, &store), "the second start changed the store");
    let (rows, told): (Vec<&str>, Vec<&str>) =
        before.lines().partition(|line| !line.starts_with('{'));
    assert_eq!(rows.len(), 1 + 2 * 3, "{before}");
    let id = rows.iter().find(|row| row.starts_with("sha256:") && row.contains("pinned")).unwrap();
    let id = id.split_whitespace().next().unwrap();
    assert!(told[0].contains(id) && told[0].contains(PAUSE), "the stand-in crictl says {told:?}");
    let pinned: Vec<&str> = before.lines().filter(|line| line.contains("pinned=pinned")).collect();
    assert_eq!(pinned.len(), 3, "{before}");
    assert!(rows.iter().skip(1).all(|row| row.contains("image=managed")), "{before}");
}

/// What containerd with CRI lists from `store`.
fn second_start(bench: &Bench, tree: &Path, store: &Path) -> String {
    let mut command = SandboxCommand::new(
        "start containerd again",
        tree,
        ["/bin/sh", "-euc", SECOND_START],
        bench.path("second-log"),
        source_date(),
    );
    command.may_mount = true;
    command.sys = true;
    let guest = "/var/lib/containerd".to_owned();
    command.binds = vec![Bind { host: store.to_owned(), guest, read_only: false }];
    let launcher = env!("CARGO_BIN_EXE_nodekiln-sandbox").into();
    let output = Sandbox { launcher }.run(&command, &Cancel::default()).unwrap();
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn a_sandbox_image_that_nobody_preloads_is_refused() {
    let bench = Bench::new();
    let (tree, images) = (tree(&bench), archives(&bench, &[EXTRA]));
    let wanted = [EXTRA.to_owned()];
    let (_, result) = preload(&bench, "scratch", &tree, &images, &extras(&wanted));
    assert!(result.unwrap_err().to_string().contains(PAUSE));
}

#[test]
fn an_image_without_an_archive_is_named() {
    let bench = Bench::new();
    let (tree, images) = (tree(&bench), archives(&bench, &[PAUSE]));
    let wanted = [PAUSE.to_owned(), EXTRA.to_owned()];
    let (_, result) = preload(&bench, "scratch", &tree, &images, &extras(&wanted));
    assert!(result.unwrap_err().to_string().contains(EXTRA));
}

fn put_program(tree: &Path, path: &str, text: &str) {
    let path = tree.join(path);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// A program in kubeadm's place that prints this list.
fn put_kubeadm(tree: &Path, list: &[String]) {
    let lines: String = list.iter().map(|image| format!("echo {image}\n")).collect();
    put_program(tree, "usr/bin/kubeadm", &format!("#!/bin/sh\n{lines}"));
}

const VERSION: Version = Version { major: 1, minor: 20, patch: 2 };

fn control_plane() -> Vec<String> {
    let images = nodekiln_build::kubernetes::images::listed(VERSION, "k8s.gcr.io").unwrap();
    images.iter().map(ToString::to_string).collect()
}

#[test]
fn the_store_has_kubeadms_list_but_for_what_the_source_lacks() {
    let bench = Bench::new();
    let tree = tree(&bench);
    let list = control_plane();
    put_kubeadm(&tree, &list);
    let made: Vec<&str> =
        list.iter().map(String::as_str).filter(|image| !image.contains("coredns")).collect();
    let images = archives(&bench, &made);
    let request = Request {
        kubernetes: Some(VERSION),
        source: "source",
        image_repository: "k8s.gcr.io",
        images: &[],
    };
    let (_, facts) = preload(&bench, "source", &tree, &images, &request);
    let facts = facts.unwrap();
    assert!(facts["images.unavailable"].contains("k8s.gcr.io/coredns:1.7.0"));
    let strict = Request { source: "directory", ..request };
    let (_, result) = preload(&bench, "directory", &tree, &images, &strict);
    assert!(result.unwrap_err().to_string().contains("coredns"), "only `source` may lack coredns");
}

#[test]
fn a_kubeadm_with_another_list_is_found_out() {
    let bench = Bench::new();
    let tree = tree(&bench);
    let mut list = control_plane();
    let etcd = list.iter().position(|image| image.contains("etcd")).unwrap();
    list[etcd] = "k8s.gcr.io/etcd:9.9.9-0".to_owned();
    put_kubeadm(&tree, &list);
    let images = archives(&bench, &[PAUSE]);
    let request = Request {
        kubernetes: Some(VERSION),
        source: "source",
        image_repository: "k8s.gcr.io",
        images: &[],
    };
    let (_, result) = preload(&bench, "scratch", &tree, &images, &request);
    assert!(result.unwrap_err().to_string().contains("etcd:9.9.9-0"));
}
