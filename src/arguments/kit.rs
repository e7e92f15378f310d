//! Making and listing kits for node conformance.

use std::path::PathBuf;

use clap::Args;

use super::Selection;

pub(crate) const HELP: &str = "\
Examples:
  nodekiln kit quickstart                                 from the source that the recipe builds
  nodekiln kit 1.31.2 --suite kubernetes-test-linux-amd64.tar.gz --sha512 HEX --images archives/
  nodekiln kit 1.31.2 --suite folder/ --out node-1.31.kit     bin/e2e_node.test, images/*.tar
  nodekiln kit node-1.20.2.kit --list                     its specs, and which of them a run takes";

/// Make a kit for node conformance, or list one's specs.
#[derive(Args)]
pub(crate) struct Kit {
    /// A recipe that builds Kubernetes from source, by name or path; with `--suite` the version of
    /// Kubernetes; with `--list` a kit.
    #[arg(value_name = "RECIPE|VERSION|KIT")]
    pub(crate) what: String,
    /// The suite, built elsewhere: a release's kubernetes-test-linux-amd64.tar.gz, or a folder with
    /// bin/e2e_node.test and images/*.tar.
    #[arg(long, value_name = "FILE|FOLDER", conflicts_with = "list")]
    pub(crate) suite: Option<PathBuf>,
    /// SHA-512 that a release's archive must have, as its changelog tells it.
    #[arg(long, value_name = "HEX", requires = "suite")]
    pub(crate) sha512: Option<String>,
    /// Folder with archives (OCI or docker) of the images that the suite runs.
    #[arg(long, value_name = "FOLDER", requires = "suite")]
    pub(crate) images: Option<PathBuf>,
    /// Registry of a key of `KUBE_TEST_REPO_LIST`, as in `--registry gcRegistry=registry.example/k8s`. May be
    /// given several times.
    #[arg(long = "registry", value_name = "KEY=REGISTRY", requires = "suite")]
    pub(crate) registries: Vec<String>,
    /// Print the specs of a kit: those that a run takes, and those that it leaves out with the reason.
    #[arg(long)]
    pub(crate) list: bool,
    /// With `--list`: only the specs whose text matches this regular expression.
    #[arg(long, value_name = "REGEX", requires = "list")]
    pub(crate) focus: Option<String>,
    /// The kit to write; by default `node-VERSION.kit`. What is there is replaced.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: Option<PathBuf>,
    /// Override a value of the recipe.
    #[arg(long = "set", value_name = "PATH.TO.KEY=VALUE")]
    pub(crate) sets: Vec<String>,
    /// The recipe's lock, whose packages are kept to; by default `NAME.lock.yaml` beside the recipe.
    #[arg(long, value_name = "FILE")]
    pub(crate) lock: Option<PathBuf>,
    /// Use what was fetched before and ask no server.
    #[arg(long)]
    pub(crate) offline: bool,
    /// Base URL of a package archive, instead of those this machine uses. May be given several times.
    #[arg(long, value_name = "URL")]
    pub(crate) mirror: Vec<String>,
    /// File with the certificates of authorities to trust for https, in PEM form.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_file: Option<PathBuf>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

impl Kit {
    /// The recipe, as other verbs select it.
    pub(crate) fn selection(&self) -> Selection {
        Selection {
            recipe: self.what.clone(),
            sets: self.sets.clone(),
            lock: self.lock.clone(),
            offline: self.offline,
            mirror: self.mirror.clone(),
            ca_file: self.ca_file.clone(),
        }
    }
}
