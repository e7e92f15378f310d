//! Compiling Kubernetes from Debian's source package: the steps as data.
//!
//! Everything happens at fixed paths below [`FOLDER`], so that no path of the machine reaches a
//! binary; `-trimpath` takes out what is left. Module mode fails with Debian 12's Go 1.19, so the
//! tree is built as a GOPATH. Go 1.18 and later break the vendored modern-go/reflect2 1.0.1
//! (kubeadm panics while it writes YAML): Debian's 1.0.2 takes its place.

pub mod conformance;

use std::collections::BTreeMap;
use std::ffi::OsString;

use nodekiln_recipes::recipe::Version;
use nodekiln_words::{Class, Failure, Result};

/// Packages of the tree that compiles, besides the essential ones.
pub const PACKAGES: [&str; 6] =
    ["gcc", "golang-github-modern-go-reflect2-dev", "golang-go", "libc6-dev", "make", "rsync"];

/// Where the scratch folder is shown in the sandbox.
pub const FOLDER: &str = "/build";
/// Where the source package's files are shown in the sandbox.
pub const SOURCES: &str = "/sources";

const TREE: &str = "/build/gopath/src/k8s.io/kubernetes";
const REFLECT2: &str = "vendor/github.com/modern-go/reflect2";
const REFLECT2_OF_DEBIAN: &str = "/usr/share/gocode/src/github.com/modern-go/reflect2";

/// In a GOPATH, packages under `vendor` are linked by their whole path; with the plain one kubelet
/// reports `0.0.0-master` and kubeadm's preflight refuses it.
const VERSION_PACKAGES: [&str; 2] = [
    "k8s.io/kubernetes/vendor/k8s.io/component-base/version",
    "k8s.io/kubernetes/vendor/k8s.io/client-go/pkg/version",
];

/// One program to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its file name below `bin`.
    pub name: &'static str,
    /// How it is built.
    pub recipe: Recipe,
}

/// How a program is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipe {
    /// `go build` of this package.
    Go(&'static str),
    /// `go test -c` of this package: its tests as a program.
    GoTest(&'static str),
    /// A static C program from this file of the tree.
    C(&'static str),
}

/// What is built, quick ones first so that a broken tree shows early.
pub const TARGETS: [Target; 8] = [
    Target { name: "pause", recipe: Recipe::C("build/pause/linux/pause.c") },
    Target { name: "kubeadm", recipe: Recipe::Go("k8s.io/kubernetes/cmd/kubeadm") },
    Target { name: "kubectl", recipe: Recipe::Go("k8s.io/kubernetes/cmd/kubectl") },
    Target { name: "kube-proxy", recipe: Recipe::Go("k8s.io/kubernetes/cmd/kube-proxy") },
    Target { name: "kube-scheduler", recipe: Recipe::Go("k8s.io/kubernetes/cmd/kube-scheduler") },
    Target {
        name: "kube-controller-manager",
        recipe: Recipe::Go("k8s.io/kubernetes/cmd/kube-controller-manager"),
    },
    Target { name: "kube-apiserver", recipe: Recipe::Go("k8s.io/kubernetes/cmd/kube-apiserver") },
    Target { name: "kubelet", recipe: Recipe::Go("k8s.io/kubernetes/cmd/kubelet") },
];

/// One command of the compilation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// What it does.
    pub title: String,
    /// Program and arguments.
    pub argv: Vec<OsString>,
    /// Folder it runs in.
    pub folder: &'static str,
}

impl Step {
    fn new(title: impl Into<String>, folder: &'static str, argv: &[&str]) -> Self {
        Self { title: title.into(), argv: argv.iter().map(Into::into).collect(), folder }
    }
}

/// Which versions this sequence builds.
///
/// # Errors
/// For any minor but 1.20: later trees build in module mode only, and no Debian has them whole.
pub fn supports(version: Version) -> Result<()> {
    if (version.major, version.minor) == (1, 20) {
        return Ok(());
    }
    Err(Failure::new(Class::Unsupported, format!("Kubernetes {version} is not built from source"))
        .with_help("use `source: release` or `source: directory`; source builds are for 1.20"))
}

/// The upstream tarball among the names of a source package's files.
///
/// # Errors
/// When there is none.
pub fn upstream_tarball<'a>(mut names: impl Iterator<Item = &'a str>) -> Result<&'a str> {
    names.find(|name| name.contains(".orig.tar.")).ok_or_else(|| {
        Failure::input("the source package has no .orig.tar file")
            .with_help("build again; the package may have changed")
    })
}

/// Unpacks the tarball of this name, replaces what Go 1.19 cannot build, and generates code.
#[must_use]
pub fn preparation(tarball: &str) -> Vec<Step> {
    let archive = format!("{SOURCES}/{tarball}");
    let tar = [
        "tar",
        "--extract",
        "--file",
        &archive,
        "--directory",
        TREE,
        "--strip-components=1",
        "--no-same-owner",
    ];
    vec![
        Step::new("make folders", FOLDER, &["mkdir", "-p", TREE, "/build/bin", "/build/home"]),
        Step::new("unpack the source", FOLDER, &tar),
        Step::new("take out reflect2 1.0.1", TREE, &["rm", "-r", REFLECT2]),
        Step::new("put in Debian's reflect2", TREE, &["cp", "-r", REFLECT2_OF_DEBIAN, REFLECT2]),
        Step::new("generate code", TREE, &["make", "generated_files"]),
    ]
}

/// Builds one target into `/build/bin` with up to `jobs` compilers at once, which does not reach
/// the bytes.
#[must_use]
pub fn build(target: Target, version: Version, pause_tag: &str, jobs: usize) -> Step {
    let out = format!("{FOLDER}/bin/{}", target.name);
    let title = format!("compile {}", target.name);
    match target.recipe {
        Recipe::Go(package) | Recipe::GoTest(package) => {
            let flags = linker_flags(version);
            let jobs = jobs.to_string();
            let verb: &[&str] = match target.recipe {
                Recipe::GoTest(_) => &["go", "test", "-c", "-vet=off"],
                _ => &["go", "build"],
            };
            let rest = ["-trimpath", "-p", &jobs, "-ldflags", &flags, "-o", &out, package];
            Step::new(title, TREE, &[verb, &rest].concat())
        }
        // The flags of build/pause/Makefile, and the linker's -s in place of a separate strip.
        Recipe::C(file) => {
            let define = format!("-DVERSION=v{pause_tag}-nodekiln");
            let argv =
                ["gcc", "-Os", "-Wall", "-Werror", "-static", "-s", &define, "-o", &out, file];
            Step::new(title, TREE, &argv)
        }
    }
}

/// Variables of every command besides the sandbox's own.
#[must_use]
pub fn environment(version: Version) -> BTreeMap<String, String> {
    let version = format!("v{version}");
    let cache = format!("{FOLDER}/cache");
    let pairs = [
        ("CGO_ENABLED", "0"),
        ("FORCE_HOST_GO", "y"),
        ("GO111MODULE", "off"),
        ("GOCACHE", &cache),
        ("GOFLAGS", "-trimpath"),
        ("GOPATH", "/build/gopath"),
        ("GOTOOLCHAIN", "local"),
        ("HOME", "/build/home"),
        ("KUBE_GIT_COMMIT", COMMIT),
        ("KUBE_GIT_TREE_STATE", TREE_STATE),
        ("KUBE_GIT_VERSION", &version),
    ];
    pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).into()
}

/// Upstream's word for a tree that came out of an archive rather than a repository.
const TREE_STATE: &str = "archive";
/// A source package names no commit.
const COMMIT: &str = "none";

fn linker_flags(version: Version) -> String {
    let Version { major, minor, .. } = version;
    let mut flags = "-s -w".to_owned();
    for package in VERSION_PACKAGES {
        for (name, value) in [
            ("gitVersion", format!("v{version}")),
            ("gitMajor", major.to_string()),
            ("gitMinor", minor.to_string()),
            ("gitTreeState", TREE_STATE.to_owned()),
            ("gitCommit", COMMIT.to_owned()),
        ] {
            flags.push_str(&format!(" -X {package}.{name}={value}"));
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Version = Version { major: 1, minor: 20, patch: 2 };

    #[test]
    fn the_version_is_linked_under_the_vendored_paths() {
        let flags = linker_flags(VERSION);
        for package in VERSION_PACKAGES {
            assert!(flags.contains(&format!("-X {package}.gitVersion=v1.20.2")), "{flags}");
        }
    }

    #[test]
    fn every_target_is_written_where_the_step_looks_for_it() {
        for target in TARGETS {
            let step = build(target, VERSION, "3.2", 2);
            let out = OsString::from(format!("/build/bin/{}", target.name));
            assert!(step.argv.contains(&out), "{step:?}");
        }
    }

    #[test]
    fn the_tarball_is_found_among_the_packages_files() {
        let names = ["k_1-1.debian.tar.xz", "k_1-1.dsc", "k_1.orig.tar.gz"];
        assert_eq!(upstream_tarball(names.into_iter()).unwrap(), "k_1.orig.tar.gz");
        assert!(upstream_tarball(["k_1-1.dsc"].into_iter()).is_err());
    }

    #[test]
    fn later_minors_are_refused_with_another_way() {
        let failure = supports(Version { minor: 31, ..VERSION }).unwrap_err();
        assert!(failure.help().unwrap().contains("source: release"));
    }
}
