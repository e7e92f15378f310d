//! Importing images with Debian's own containerd.

mod same;

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Mutex;

use nodekiln_build::execution::Execution;
use nodekiln_build::layer::scan;
use nodekiln_build::oci::layer::{self, Entries, Node};
use nodekiln_build::oci::{self, Blob, Image, ImageSpec, archive, media_type};
use nodekiln_build::sandbox::{Bind, Sandbox, SandboxCommand};
use nodekiln_build::steps::preload::{Request, run};
use nodekiln_build::store::StoredNode;
use nodekiln_recipes::inventory::EntryKind;
use nodekiln_recipes::recipe::Version;
use nodekiln_words::{Cancel, Event, Progress, Result};
use serde_json::json;

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
        command: Vec::new(),
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
    let facts = pause_facts();
    bench.execute(scratch, &[tree], &facts, &[images], |execution| run(request, execution))
}

fn pause_facts() -> BTreeMap<String, String> {
    BTreeMap::from([("containerd.sandbox-image".to_owned(), PAUSE.to_owned())])
}

const PAUSE: &str = "k8s.gcr.io/pause:3.2";
const EXTRA: &str = "docker.io/library/tool:1";

fn extras(images: &[String]) -> Request<'_> {
    Request { kubernetes: None, source: "", image_repository: "", kubeadm_images: &[], images }
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

    let before = second_start(&bench, &tree, &store, SECOND_START);
    assert_eq!(
        before,
        second_start(&bench, &tree, &store, SECOND_START),
        "the second start changed the store"
    );
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

/// What `script` prints that starts containerd with CRI on `store`.
fn second_start(bench: &Bench, tree: &Path, store: &Path, script: &str) -> String {
    let mut command = SandboxCommand::new(
        "start containerd again",
        tree,
        ["/bin/sh", "-euc", script],
        bench.path("second-log"),
        source_date(),
    );
    command.may_mount = true;
    command.sys = true;
    let guest = "/var/lib/containerd".to_owned();
    command.binds = vec![Bind { host: store.to_owned(), guest, read_only: false }];
    let launcher = env!("CARGO_BIN_EXE_nodekiln-sandbox").into();
    let output = Sandbox { launcher, clock: None }.run(&command, &Cancel::default()).unwrap();
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

/// Puts a program in kubeadm's place into a node, which prints this list.
fn put_kubeadm(node: &StoredNode, list: &[String]) {
    let lines: String = list.iter().map(|image| format!("echo {image}\n")).collect();
    std::fs::create_dir(node.output().join("bin")).unwrap();
    put_program(&node.output(), "bin/kubeadm", &format!("#!/bin/sh\n{lines}"));
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
    let made: Vec<&str> =
        list.iter().map(String::as_str).filter(|image| !image.contains("coredns")).collect();
    let images = archives(&bench, &made);
    put_kubeadm(&images, &list);
    let request = Request {
        kubernetes: Some(VERSION),
        source: "source",
        image_repository: "k8s.gcr.io",
        kubeadm_images: &control_plane(),
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
fn what_the_source_lacks_may_be_named_as_an_extra() {
    let bench = Bench::new();
    let tree = tree(&bench);
    let list = control_plane();
    let images = archives(&bench, &list.iter().map(String::as_str).collect::<Vec<_>>());
    put_kubeadm(&images, &list);
    let coredns: Vec<String> =
        list.iter().filter(|image| image.contains("coredns")).cloned().collect();
    let request = Request {
        kubernetes: Some(VERSION),
        source: "source",
        image_repository: "k8s.gcr.io",
        kubeadm_images: &list,
        images: &coredns,
    };
    let (_, facts) = preload(&bench, "scratch", &tree, &images, &request);
    let facts = facts.unwrap();
    assert_eq!(facts["images.unavailable"], "{}");
    assert!(facts["images"].contains(&coredns[0]), "{facts:?}");
}

#[test]
fn a_kubeadm_with_another_list_is_found_out() {
    let bench = Bench::new();
    let tree = tree(&bench);
    let mut list = control_plane();
    let etcd = list.iter().position(|image| image.contains("etcd")).unwrap();
    list[etcd] = "k8s.gcr.io/etcd:9.9.9-0".to_owned();
    let images = archives(&bench, &[PAUSE]);
    put_kubeadm(&images, &list);
    let request = Request {
        kubernetes: Some(VERSION),
        source: "source",
        image_repository: "k8s.gcr.io",
        kubeadm_images: &control_plane(),
        images: &[],
    };
    let (_, result) = preload(&bench, "scratch", &tree, &images, &request);
    assert!(result.unwrap_err().to_string().contains("etcd:9.9.9-0"));
}

/// Events in words, as they came.
#[derive(Default)]
struct Told(Mutex<Vec<Event>>);

impl Progress for Told {
    fn event(&self, event: Event) {
        self.0.lock().unwrap().push(event);
    }
}

const DELETES: &str = "docker.io/library/deletes:1";

/// An image whose upper layer deletes a file and all that a directory had in its lower layer.
fn image_that_deletes(folder: &Path) -> Image {
    let lower = files(&["etc/gone", "etc/stays", "opaque/old"]);
    let upper = files(&["etc/.wh.gone", "opaque/.wh..wh..opq", "opaque/new"]);
    image_of_layers(DELETES, &[("lower", lower), ("upper", upper)], folder)
}

/// Files that have their own names in them.
fn files(paths: &[&str]) -> Entries {
    let mut entries = Entries::default();
    for path in paths {
        entries.add(path, Node::Bytes(path.as_bytes().into()), 0o644).unwrap();
    }
    entries
}

/// An image of these layers, the lowest first.
fn image_of_layers(name: &str, layers: &[(&str, Entries)], folder: &Path) -> Image {
    let folder = tempfile::tempdir_in(folder).unwrap().keep();
    let layers: Vec<layer::Layer> = layers
        .iter()
        .map(|(name, entries)| {
            layer::write(entries, source_date(), &folder.join(name), &Cancel::default()).unwrap()
        })
        .collect();
    let diff_ids: Vec<String> =
        layers.iter().map(|layer| format!("sha256:{}", layer.diff_id)).collect();
    let document = |kind: &str, value: serde_json::Value| {
        Blob::of_bytes(kind, serde_json::to_vec(&value).unwrap())
    };
    let config = document(
        media_type::CONFIG,
        json!({
            "architecture": "amd64",
            "os": "linux",
            "config": {},
            "rootfs": { "type": "layers", "diff_ids": diff_ids },
        }),
    );
    let layers: Vec<Blob> = layers.into_iter().map(|layer| layer.blob).collect();
    let manifest = document(
        media_type::MANIFEST,
        json!({
            "schemaVersion": 2,
            "mediaType": media_type::MANIFEST,
            "config": config.descriptor(),
            "layers": layers.iter().map(Blob::descriptor).collect::<Vec<_>>(),
        }),
    );
    Image { reference: name.parse().unwrap(), index: None, manifest, config, layers }
}

/// Unpacks an image as CRI does at its first use, and lists what it has.
const FIRST_USE: &str = r#"
containerd --log-level warn >&2 &
server=$!
until ctr version >/dev/null 2>&1; do sleep 0.1; done
mkdir /tmp/mounted
ctr -n k8s.io images mount docker.io/library/deletes:1 /tmp/mounted >&2
cd /tmp/mounted
echo etc/* opaque/*
cd /
umount /tmp/mounted
kill $server
wait $server
"#;

#[test]
fn an_image_that_deletes_files_of_its_lower_layers_is_left_to_the_node_to_unpack() {
    let bench = Bench::new();
    let tree = tree(&bench);
    for name in ["mkdir", "umount"] {
        symlink("busybox", tree.join("bin").join(name)).unwrap();
    }
    let images = bench.stored("images", |output| {
        std::fs::create_dir(output.join("images")).unwrap();
        let folder = bench.folder.path();
        for image in [image(PAUSE, "pause", folder), image_that_deletes(folder)] {
            let path = output.join("images").join(format!("{}.tar", image.reference.file_name()));
            archive::write(&[image], source_date(), &path, &Cancel::default()).unwrap();
        }
    });
    let told = Told::default();
    let (wanted, facts) = ([PAUSE.to_owned(), DELETES.to_owned()], pause_facts());
    let (output, made) = bench.execute("first", &[&tree], &facts, &[&images], |execution| {
        let (below, uses) = (execution.below.clone(), execution.uses.clone());
        let execution = Execution { progress: &told, below, uses, ..*execution };
        run(&extras(&wanted), &execution)
    });
    assert!(made.unwrap()["images"].contains(DELETES));
    let told = told.0.into_inner().unwrap();
    let notes: Vec<&String> = told
        .iter()
        .filter_map(|event| if let Event::Note(text) = event { Some(text) } else { None })
        .filter(|text| text.contains("unpacked by the node"))
        .collect();
    assert_eq!(notes.len(), 1, "{told:?}");
    assert!(notes[0].contains(DELETES) && notes[0].contains("etc/.wh.gone"), "{told:?}");
    assert!(!told.iter().any(|event| matches!(event, Event::Warning(_))), "{told:?}");

    let store = output.join("var/lib/containerd");
    let snapshots = store.join("io.containerd.snapshotter.v1.overlayfs/snapshots");
    assert_eq!(std::fs::read_dir(snapshots).unwrap().count(), 1, "only the other one is unpacked");
    let layer = scan(&output, true, &Cancel::default()).unwrap();
    let marks = |kind: &EntryKind| {
        matches!(kind, EntryKind::Whiteout | EntryKind::Directory { opaque: true })
    };
    assert!(!layer.entries.values().any(|entry| marks(&entry.kind)), "a mark is in the layer");

    let listed = second_start(&bench, &tree, &store, SECOND_START);
    assert_eq!(listed.lines().filter(|row| row.contains("image=managed")).count(), 2 * 3);
    let seen = second_start(&bench, &tree, &store, FIRST_USE);
    assert_eq!(seen, "etc/stays opaque/new\n");
}
