//! Imports images into the tree's container store by running its own containerd in the sandbox.
//!
//! containerd works on a plain folder shown at `/var/lib/containerd`, since overlayfs refuses to
//! stack on the sandbox's own overlay. CRI is switched off meanwhile: the names and labels that it
//! would add by and by are set here at once, so that a booted node finds nothing to change
//! (containerd's pkg/cri/server: an image has its tag, its name by digest and its config's digest as
//! names, each labelled `io.cri-containerd.image=managed`).

mod check;
mod deletions;
mod normalise;
mod store;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nodekiln_recipes::recipe::Version;
use nodekiln_words::{Event, Failure, Result, ResultExt};

use self::check::{Preloaded, compare, facts};
use super::uses::{output_with, read_archives};
use crate::execution::Execution;
use crate::kubernetes::images::{Question, ask_kubeadm, unavailable};
use crate::layer::Root;
use crate::oci::{Image, Reference};
use crate::sandbox::{Bind, SandboxCommand};

/// What the plan says about preloading.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// Kubernetes version whose image list must be met; `None` preloads the extras alone.
    pub kubernetes: Option<Version>,
    /// Kind of source, which decides what it may lack.
    pub source: &'a str,
    /// Registry and path of the control-plane images.
    pub image_repository: &'a str,
    /// References that kubeadm is expected to list.
    pub kubeadm_images: &'a [String],
    /// Extra references.
    pub images: &'a [String],
}

const SCRIPT: &str = include_str!("preload.sh");

/// Where the script, its configuration and the archives are shown in the sandbox.
const FOLDER: &str = "/tmp/preload";
/// kubeadm in the output of the used node that has it.
const KUBEADM: &str = "bin/kubeadm";
/// containerd's root.
const STORE: &str = "/var/lib/containerd";
/// The sandbox image is never collected (CRI's label for that).
const PINNED: &str = "io.cri-containerd.pinned=pinned";

/// The configuration while importing. CRI is off (one plugin in 1.x, three in 2.x), as are the
/// plugins that would leave folders behind: unused snapshotters and the one for `/opt/containerd`.
const CONFIG: &str = "version = 2
disabled_plugins = [
  \"io.containerd.cri.v1.images\",
  \"io.containerd.cri.v1.runtime\",
  \"io.containerd.grpc.v1.cri\",
  \"io.containerd.internal.v1.opt\",
  \"io.containerd.internal.v1.restart\",
  \"io.containerd.snapshotter.v1.aufs\",
  \"io.containerd.snapshotter.v1.blockfile\",
  \"io.containerd.snapshotter.v1.btrfs\",
  \"io.containerd.snapshotter.v1.devmapper\",
  \"io.containerd.snapshotter.v1.erofs\",
  \"io.containerd.snapshotter.v1.native\",
  \"io.containerd.snapshotter.v1.zfs\",
]
";

/// Puts exactly the wanted images into the store.
///
/// Facts: `images`, a JSON list with name, target, manifest, config and layers of each;
/// `images.unavailable`, a JSON object from image to reason.
///
/// # Errors
/// When a wanted image is in no archive, kubeadm's list is not the expected one, containerd fails,
/// or the store ends up with other names or content than wanted.
pub fn run(request: &Request<'_>, execution: &Execution<'_>) -> Result<BTreeMap<String, String>> {
    let tree = execution.scratch.join("tree");
    let store = execution.scratch.join("store");
    for folder in [&tree, &store] {
        fs_err::create_dir_all(folder).or_io(|| "making scratch folders".to_owned())?;
    }
    let root = Root::assemble(&execution.below, &tree)?;
    let (wanted, missing) = wanted(request, &root, execution)?; // 1. what has to be there
    let mut preloads = select(&wanted, execution)?; // 2. which archive has it
    deletions::keep_packed(&mut preloads, execution)?; // and what of it can be unpacked
    let listing = import(&preloads, &root, &store, execution)?; // 3. containerd imports it
    drop(root);
    compare(&listing, &preloads)?; // 4. names and digests are those wanted
    store::clean(&store)?; // 5. nothing of the run stays
    store::check_content(&store, &preloads)?; // 6. every blob belongs to an image
    store::check_unpacked(&store)?; // 7. what was unpacked is as a layer can hold it
    normalise::normalise(&store, execution.source_date)?; // 8. and the records say nothing of this run
    store::hand_over(&store, execution.scratch, execution.source_date)?;
    fs_err::remove_dir_all(&tree).or_io(|| "removing scratch folders".to_owned())?;
    facts(&preloads, &missing)
}

/// References that must be in the store, and those of kubeadm's list that the source cannot give.
fn wanted(
    request: &Request<'_>,
    root: &Root,
    execution: &Execution<'_>,
) -> Result<(BTreeSet<Reference>, BTreeMap<String, String>)> {
    let mut wanted: BTreeSet<Reference> =
        request.images.iter().map(|image| image.parse()).collect::<Result<_>>()?;
    let mut missing = BTreeMap::new();
    if let Some(version) = request.kubernetes {
        let unavailable = unavailable(request.source, version);
        for image in kubeadms_list(version, request, root, execution)? {
            match unavailable.get(image.short_name()) {
                // Somebody may have named it as an extra: then it is there.
                Some(reason) if !wanted.contains(&image) => {
                    missing.insert(image.to_string(), reason.clone());
                }
                _ => drop(wanted.insert(image)),
            }
        }
    }
    if let Some(sandbox) = sandbox_image(execution)?
        && !wanted.contains(&sandbox)
    {
        return Err(Failure::input(format!(
            "containerd's sandbox image {sandbox} is not among the images to preload"
        ))
        .with_help("a node without a registry cannot start a pod: name it under `images:`"));
    }
    Ok((wanted, missing))
}

fn sandbox_image(execution: &Execution<'_>) -> Result<Option<Reference>> {
    let fact = execution.below_facts.get("containerd.sandbox-image");
    fact.map(|image| image.parse()).transpose()
}

fn kubeadms_list(
    version: Version,
    request: &Request<'_>,
    root: &Root,
    execution: &Execution<'_>,
) -> Result<Vec<Reference>> {
    // The tree has no Kubernetes yet: another kubelet leaves this step as it is.
    let program = output_with(execution, KUBEADM)?.join(KUBEADM);
    let question = Question {
        root: root.path(),
        kubeadm: &format!("{FOLDER}/kubeadm"),
        program: Some(&program),
        version,
        repository: request.image_repository,
        log: execution.log,
        source_date: execution.source_date,
    };
    let printed = ask_kubeadm(execution.sandbox, &question, execution.cancel)?;
    let locked: Vec<Reference> =
        request.kubeadm_images.iter().map(|image| image.parse()).collect::<Result<_>>()?;
    check::same_list(&locked, &printed)?;
    Ok(printed)
}

fn select(wanted: &BTreeSet<Reference>, execution: &Execution<'_>) -> Result<Vec<Preloaded>> {
    let sandbox = sandbox_image(execution)?;
    let mut preloads = Vec::new();
    let mut missing = wanted.clone();
    for (image, archive) in read_archives(execution)? {
        if missing.remove(&image.reference) {
            let pinned = sandbox.as_ref() == Some(&image.reference);
            preloads.push(Preloaded { image, archive, pinned, unpack: true });
        } else {
            let name = &image.reference;
            let why = if wanted.contains(name) { "is there twice" } else { "is not wanted" };
            execution.progress.event(Event::Warning(format!("{name} {why}; left out")));
        }
    }
    if missing.is_empty() {
        return Ok(preloads);
    }
    let names: Vec<String> = missing.iter().map(ToString::to_string).collect();
    Err(Failure::input(format!("no archive has {}", names.join(", ")))
        .with_help("add the image's archive to the source's images/, or name it under `images:`"))
}

fn import(
    preloads: &[Preloaded],
    root: &Root,
    store: &Path,
    execution: &Execution<'_>,
) -> Result<String> {
    let inputs = Inputs::write(execution.scratch)?;
    let mut command = SandboxCommand::new(
        format!("import {} images", preloads.len()),
        root.path(),
        ["/bin/sh".to_owned(), format!("{FOLDER}/import"), format!("{FOLDER}/config.toml")],
        execution.log,
        execution.source_date,
    );
    command.may_mount = true;
    command.binds = inputs.binds(store);
    for (number, preload) in preloads.iter().enumerate() {
        let guest = format!("{FOLDER}/{number}.tar");
        command.argv.extend(arguments(preload, &guest).map(Into::into));
        let host = preload.archive.clone();
        command.binds.push(Bind { host, guest, read_only: true });
    }
    let output = execution.sandbox.run(&command, execution.cancel)?;
    inputs.remove()?;
    String::from_utf8(output.stdout).or_io(|| "containerd's list of images".to_owned())
}

fn arguments(preload: &Preloaded, archive: &str) -> [String; 6] {
    let Image { reference, config, .. } = &preload.image;
    let by_digest = reference.pinned(preload.image.target().digest);
    let label = if preload.pinned { PINNED } else { "-" };
    [
        archive.to_owned(),
        reference.to_string(),
        by_digest.to_string(),
        format!("sha256:{}", config.digest),
        label.to_owned(),
        if preload.unpack { "unpack" } else { "keep" }.to_owned(),
    ]
}

/// The script and the configuration, as files for the sandbox.
struct Inputs {
    script: PathBuf,
    config: PathBuf,
}

impl Inputs {
    fn write(scratch: &Path) -> Result<Self> {
        let (script, config) = (scratch.join("import"), scratch.join("config.toml"));
        let writing = || "writing the import's script and configuration".to_owned();
        fs_err::write(&script, SCRIPT).or_io(writing)?;
        fs_err::write(&config, CONFIG).or_io(writing)?;
        Ok(Self { script, config })
    }

    fn binds(&self, store: &Path) -> Vec<Bind> {
        let bind = |host: &Path, guest: String, read_only| Bind {
            host: host.to_owned(),
            guest,
            read_only,
        };
        vec![
            bind(store, STORE.to_owned(), false),
            bind(&self.script, format!("{FOLDER}/import"), true),
            bind(&self.config, format!("{FOLDER}/config.toml"), true),
        ]
    }

    fn remove(self) -> Result<()> {
        [self.script, self.config]
            .iter()
            .try_for_each(fs_err::remove_file)
            .or_io(|| "removing scratch files".to_owned())
    }
}
