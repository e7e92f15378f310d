//! Makes the control-plane images of a Kubernetes built from source: static binaries in otherwise
//! empty images; kube-proxy and etcd with the programs and libraries that they need, taken as real
//! files from a tree of Debian packages.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln_recipes::recipe::Version;
use nodekiln_words::{Failure, Result, ResultExt};
use rayon::prelude::*;

use super::uses::{ARCHITECTURE, output_with, write_archives};
use crate::execution::Execution;
use crate::kubernetes::images::{KUBERNETES_IMAGES, unavailable};
use crate::kubernetes::programs::Programs;
use crate::layer::Root;
use crate::oci::layer::{self, Entries, Node};
use crate::oci::{self, Image, ImageSpec, Reference};
use crate::sandbox::SandboxCommand;

/// Where upstream's images have their programs.
const BIN: &str = "usr/local/bin";
/// kubeadm's static pods name programs without a path.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Says that an image is not what its tag means upstream, and what it is.
pub const STAND_IN: &str = "io.nodekiln.stand-in";
pub(super) const TITLE: &str = "org.opencontainers.image.title";
const VERSION: &str = "org.opencontainers.image.version";

/// Chooses between the two kinds of iptables and runs the right one.
const IPTABLES: &str = include_str!("iptables.sh");
/// Names under which kube-proxy calls iptables.
const IPTABLES_NAMES: [&str; 6] = [
    "iptables",
    "iptables-restore",
    "iptables-save",
    "ip6tables",
    "ip6tables-restore",
    "ip6tables-save",
];

/// An image before its layer is written.
struct Draft {
    spec: ImageSpec,
    entries: Entries,
}

/// Writes one archive for each of kubeadm's `images` that this source can give.
///
/// Facts: `version.etcd`, and `images.unavailable`, a JSON object from image to reason.
///
/// # Errors
/// When a program or library is missing from the used nodes.
pub fn run(
    version: Version,
    images: &[String],
    execution: &Execution<'_>,
) -> Result<BTreeMap<String, String>> {
    let binaries = output_with(execution, "bin/kube-apiserver")?.join("bin");
    let tools = output_with(execution, "usr/bin/etcd")?;
    let etcd_version = etcd_version(&tools, execution)?;
    let unavailable = unavailable("source", version);
    let mut missing = BTreeMap::new();
    let mut drafts = Vec::new();
    for reference in images {
        let reference: Reference = reference.parse()?;
        match unavailable.get(reference.short_name()) {
            Some(reason) => drop(missing.insert(reference.to_string(), reason.clone())),
            None => drafts.push(draft(&reference, &binaries, &tools, &etcd_version)?),
        }
    }
    let images = write_layers(&drafts, execution)?;
    write_archives(&images, execution)?;
    for number in 0..drafts.len() {
        fs_err::remove_file(layer_path(execution, number))
            .or_io(|| "removing a layer".to_owned())?;
    }
    let missing = serde_json::to_string(&missing).or_io(|| "facts of images".to_owned())?;
    Ok(BTreeMap::from([
        ("version.etcd".to_owned(), etcd_version),
        ("images.unavailable".to_owned(), missing),
    ]))
}

pub(super) fn layer_path(execution: &Execution<'_>, number: usize) -> PathBuf {
    execution.scratch.join(format!("layer-{number}"))
}

fn write_layers(drafts: &[Draft], execution: &Execution<'_>) -> Result<Vec<Image>> {
    let (source_date, cancel, progress) =
        (execution.source_date, execution.cancel, execution.progress);
    let task = progress.start("make control-plane images", Some(drafts.len() as u64), "images");
    let jobs: Vec<(PathBuf, &Draft)> =
        drafts.iter().enumerate().map(|(n, draft)| (layer_path(execution, n), draft)).collect();
    let images = jobs
        .par_iter()
        .map(|(path, draft)| {
            let layer = layer::write(&draft.entries, source_date, path, cancel)?;
            oci::build(&draft.spec, layer, source_date)
        })
        .collect::<Result<Vec<_>>>()
        .inspect_err(|_| progress.fail(task))?;
    progress.finish(task, &format!("{} images", images.len()));
    Ok(images)
}

fn draft(reference: &Reference, binaries: &Path, tools: &Path, etcd: &str) -> Result<Draft> {
    let name = reference.short_name();
    let within = |failure: Failure| failure.context(format!("image {reference}"));
    match name {
        "pause" => pause(reference, binaries),
        "etcd" => self::etcd(reference, tools, etcd),
        "kube-proxy" => proxy(reference, binaries, tools),
        name if KUBERNETES_IMAGES.contains(&name) => component(reference, binaries, name),
        _ => Err(Failure::input("nothing to make it from is known")),
    }
    .map_err(within)
}

fn spec(reference: &Reference, entrypoint: String, labels: &[(&str, String)]) -> ImageSpec {
    let mut all = BTreeMap::from([(TITLE.to_owned(), reference.short_name().to_owned())]);
    all.extend(labels.iter().map(|(name, value)| ((*name).to_owned(), value.clone())));
    ImageSpec {
        reference: reference.clone(),
        architecture: ARCHITECTURE,
        entrypoint: vec![entrypoint],
        command: Vec::new(),
        user: None,
        environment: vec![PATH.to_owned()],
        labels: all,
    }
}

fn component(reference: &Reference, binaries: &Path, name: &str) -> Result<Draft> {
    let mut entries = Entries::default();
    entries.add(&format!("{BIN}/{name}"), Node::File(binaries.join(name)), 0o755)?;
    let version = reference.tag.clone().unwrap_or_default();
    Ok(Draft { spec: spec(reference, format!("/{BIN}/{name}"), &[(VERSION, version)]), entries })
}

fn pause(reference: &Reference, binaries: &Path) -> Result<Draft> {
    let mut entries = Entries::default();
    entries.add("pause", Node::File(binaries.join("pause")), 0o755)?;
    let label = "compiled from build/pause/linux/pause.c of the Kubernetes source".to_owned();
    let mut spec = spec(reference, "/pause".to_owned(), &[(STAND_IN, label)]);
    spec.environment.clear();
    Ok(Draft { spec, entries })
}

fn proxy(reference: &Reference, binaries: &Path, tools: &Path) -> Result<Draft> {
    let mut draft = component(reference, binaries, "kube-proxy")?;
    let mut programs = Programs::new(tools, &mut draft.entries)?;
    for (from, to) in [
        ("/usr/sbin/xtables-nft-multi", "usr/sbin/xtables-nft-multi"),
        ("/usr/sbin/xtables-legacy-multi", "usr/sbin/xtables-legacy-multi"),
        ("/usr/sbin/conntrack", "usr/sbin/conntrack"),
        ("/bin/dash", "bin/dash"),
    ] {
        programs.add(from, to)?;
    }
    programs.add_plugins("/usr/lib/x86_64-linux-gnu/xtables")?;
    programs.copy_if_there("/etc/protocols")?;
    programs.copy_if_there("/etc/services")?;
    let entries = &mut draft.entries;
    entries.add("bin/sh", Node::Link("dash".to_owned()), 0o777)?;
    entries.add("run", Node::Directory, 0o755)?;
    let script: Arc<[u8]> = IPTABLES.as_bytes().into();
    entries.add("usr/sbin/iptables-choice", Node::Bytes(script), 0o755)?;
    for name in IPTABLES_NAMES {
        let link = Node::Link("iptables-choice".to_owned());
        entries.add(&format!("usr/sbin/{name}"), link, 0o777)?;
    }
    Ok(draft)
}

fn etcd(reference: &Reference, tools: &Path, version: &str) -> Result<Draft> {
    let tag = reference.tag.clone().unwrap_or_default();
    let stand_in = format!("etcd {version} of Debian under the tag of upstream's etcd {tag}");
    let labels = [(VERSION, version.to_owned()), (STAND_IN, stand_in)];
    let spec = spec(reference, format!("/{BIN}/etcd"), &labels);
    let mut entries = Entries::default();
    let mut programs = Programs::new(tools, &mut entries)?;
    programs.add("/usr/bin/etcd", &format!("{BIN}/etcd"))?;
    programs.add("/usr/bin/etcdctl", &format!("{BIN}/etcdctl"))?;
    Ok(Draft { spec, entries })
}

/// The version that the tree's etcd reports of itself.
fn etcd_version(tools: &Path, execution: &Execution<'_>) -> Result<String> {
    let scratch = execution.scratch.join("tools");
    fs_err::create_dir_all(&scratch).or_io(|| "making scratch folders".to_owned())?;
    let root = Root::assemble(&[tools.to_owned()], &scratch)?;
    let command = SandboxCommand::new(
        "ask etcd for its version",
        root.path(),
        ["/usr/bin/etcd", "--version"],
        execution.log,
        execution.source_date,
    );
    let output = execution.sandbox.run(&command, execution.cancel)?;
    drop(root);
    fs_err::remove_dir_all(&scratch).or_io(|| "removing scratch folders".to_owned())?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.lines().find_map(|line| line.strip_prefix("etcd Version:"));
    version
        .map(|version| version.trim().to_owned())
        .ok_or_else(|| Failure::io(format!("etcd reports no version but `{}`", text.trim())))
}
