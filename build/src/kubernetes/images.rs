//! The images of a control plane: which ones kubeadm asks for, and which a source cannot give.
//!
//! The list is kubeadm's: a pure function of its version, and of its patch release too, since etcd
//! and pause moved within minors. It is known for the versions whose source was read
//! ([`nodekiln_recipes::kubernetes_images`]); for any other the binary itself is asked ([`ask_kubeadm`]). Before images are put into a store the
//! binary is always asked, so a wrong entry here cannot go unseen.

use std::collections::BTreeMap;
use std::path::Path;

use nodekiln_recipes::kubernetes_images;
pub use nodekiln_recipes::kubernetes_images::KUBERNETES_IMAGES;
use nodekiln_recipes::recipe::Version;
use nodekiln_words::{Cancel, Class, Failure, Result, ResultExt, SourceDate};

use crate::layer::{Attributes, Root};
use crate::oci::Reference;
use crate::sandbox::{Bind, Sandbox, SandboxCommand};

/// Packages of the tree from which programs go into control-plane images made from source.
pub const PACKAGES: [&str; 5] = ["conntrack", "dash", "etcd-client", "etcd-server", "iptables"];

/// The images that kubeadm of `version` asks for below `repository`, sorted.
///
/// # Errors
/// When the version is not in the table: then the kubeadm binary has to be asked.
pub fn listed(version: Version, repository: &str) -> Result<Vec<Reference>> {
    let names = kubernetes_images::listed(version, repository).ok_or_else(|| unknown(version))?;
    let mut images: Vec<Reference> =
        names.iter().map(|name| name.parse()).collect::<Result<_>>()?;
    images.sort();
    Ok(images)
}

/// The sandbox image that kubeadm of `version` names below `repository`.
///
/// # Errors
/// As [`listed`].
pub fn pause(version: Version, repository: &str) -> Result<Reference> {
    kubernetes_images::pause(version, repository).ok_or_else(|| unknown(version))?.parse()
}

fn unknown(version: Version) -> Failure {
    let text = format!("the images of Kubernetes {version} are not in nodekiln's table");
    Failure::new(Class::Unsupported, text)
        .with_help("ask its kubeadm: kubeadm config images list --kubernetes-version=VERSION")
}

/// Images of the list that a source of this kind (`source`, `directory`, `release`) cannot give, by
/// the last part of their name, with the reason. Whatever is not named here must be there.
#[must_use]
pub fn unavailable(source: &str, version: Version) -> BTreeMap<String, String> {
    let mut images = BTreeMap::new();
    if source == "source" {
        let reason = format!(
            "not available from this source: Debian has no CoreDNS, and Kubernetes {version}'s own \
             sources do not contain it; kubeadm runs without the phase addon/coredns"
        );
        images.insert("coredns".to_owned(), reason);
    }
    images
}

/// A question to a kubeadm that runs in a tree.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The tree.
    pub root: &'a Path,
    /// kubeadm's absolute path in the sandbox.
    pub kubeadm: &'a str,
    /// The program on this machine that is shown there; `None` where the tree has it.
    pub program: Option<&'a Path>,
    /// The version.
    pub version: Version,
    /// Registry and path of the images.
    pub repository: &'a str,
    /// Where its output is logged.
    pub log: &'a Path,
    /// The source date.
    pub source_date: SourceDate,
}

/// What `kubeadm config images list` prints, sorted.
///
/// # Errors
/// When kubeadm fails, or prints something else than references.
pub fn ask_kubeadm(
    sandbox: &Sandbox,
    question: &Question<'_>,
    cancel: &Cancel,
) -> Result<Vec<Reference>> {
    let Question { root, kubeadm, program, version, repository, log, source_date } = *question;
    let argv = [
        kubeadm.to_owned(),
        "config".to_owned(),
        "images".to_owned(),
        "list".to_owned(),
        format!("--kubernetes-version=v{version}"),
        format!("--image-repository={repository}"),
    ];
    let mut command = SandboxCommand::new("list kubeadm's images", root, argv, log, source_date);
    command.binds.extend(program.map(|program| Bind {
        host: program.to_owned(),
        guest: kubeadm.to_owned(),
        read_only: true,
    }));
    let output = sandbox.run(&command, cancel)?;
    parse_list(&output.stdout)
}

/// A question to a kubeadm that is a file on this machine, a blob of the store for instance.
#[derive(Clone, Copy, Debug)]
pub struct BinaryQuestion<'a> {
    /// The program, which must need no library.
    pub binary: &'a Path,
    /// An empty or missing folder, for a tree of the program's own.
    pub scratch: &'a Path,
    /// Where its output is logged.
    pub log: &'a Path,
    /// The version.
    pub version: Version,
    /// Registry and path of the images.
    pub repository: &'a str,
    /// The source date.
    pub source_date: SourceDate,
}

/// Asks a kubeadm in a tree of its own, so that a release can be locked whose images are not in the
/// table.
///
/// # Errors
/// As [`ask_kubeadm`], and when the tree cannot be made.
pub fn ask_binary(
    sandbox: &Sandbox,
    question: &BinaryQuestion<'_>,
    cancel: &Cancel,
) -> Result<Vec<Reference>> {
    let BinaryQuestion { binary, scratch, log, version, repository, source_date } = *question;
    fs_err::create_dir_all(scratch).or_io(|| "cannot make a scratch folder".to_owned())?;
    let root = Root::assemble(&[], scratch)?;
    root.copy_file("/kubeadm", binary, Attributes::root(0o755))?;
    let root = root.path();
    let (kubeadm, program) = ("/kubeadm", None);
    let question = Question { root, kubeadm, program, version, repository, log, source_date };
    ask_kubeadm(sandbox, &question, cancel)
}

fn parse_list(stdout: &[u8]) -> Result<Vec<Reference>> {
    let text = std::str::from_utf8(stdout).or_io(|| "kubeadm's list of images".to_owned())?;
    let mut images: Vec<Reference> =
        text.lines().filter(|line| !line.is_empty()).map(str::parse).collect::<Result<_>>()?;
    images.sort();
    if images.is_empty() {
        return Err(Failure::new(Class::Verdict, "kubeadm lists no images"));
    }
    Ok(images)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Version = Version { major: 1, minor: 20, patch: 2 };

    fn texts(images: &[Reference]) -> Vec<String> {
        images.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_table_has_what_kubeadm_1_20_2_prints() {
        let printed = "k8s.gcr.io/kube-apiserver:v1.20.2\n\
            k8s.gcr.io/kube-controller-manager:v1.20.2\nk8s.gcr.io/kube-scheduler:v1.20.2\n\
            k8s.gcr.io/kube-proxy:v1.20.2\nk8s.gcr.io/pause:3.2\nk8s.gcr.io/etcd:3.4.13-0\n\
            k8s.gcr.io/coredns:1.7.0\n";
        let printed = parse_list(printed.as_bytes()).unwrap();
        assert_eq!(texts(&listed(VERSION, "k8s.gcr.io").unwrap()), texts(&printed));
    }

    #[test]
    fn a_version_outside_the_table_says_whom_to_ask() {
        let failure = listed(Version { minor: 99, ..VERSION }, "registry.k8s.io").unwrap_err();
        assert_eq!(failure.class(), Class::Unsupported);
        assert!(failure.help().unwrap().contains("kubeadm config images list"));
    }

    #[test]
    fn only_images_made_from_source_lack_coredns() {
        assert_eq!(unavailable("source", VERSION).keys().collect::<Vec<_>>(), ["coredns"]);
        assert!(unavailable("release", VERSION).is_empty());
        assert!(unavailable("directory", VERSION).is_empty());
    }

    #[test]
    fn output_that_is_no_list_is_refused() {
        for text in ["", "I0101 could not fetch a version", "kube-proxy:v1\n"] {
            assert!(parse_list(text.as_bytes()).is_err(), "{text}");
        }
    }
}
