//! The shape of a recipe: every key, what it takes, how it merges, and what it is for.
//!
//! One table serves the checker, the merger, `--set` and the JSON Schema, so that none of them can
//! know a key that another does not.

use crate::document::Node;
use crate::kind::{self, Kind};

/// What may stand at one place of a recipe.
#[derive(Clone, Copy)]
pub(crate) enum Shape {
    /// A scalar.
    Scalar(&'static Kind),
    /// A list.
    List(&'static List),
    /// A mapping with free keys.
    Map(&'static Map),
    /// A mapping with known keys.
    Object(&'static Object),
    /// A scalar that stands for a mapping with one key.
    ScalarOr(&'static Kind, &'static Object),
}

/// A list.
pub(crate) struct List {
    pub(crate) item: Shape,
    pub(crate) joins: Joins,
}

/// How a child's items join its parent's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Joins {
    /// Parent's items, then the child's; an item that is already there stands once.
    Once,
    /// An item with the same value of this key replaces the parent's in its place; others follow.
    ByKey(&'static str),
    /// Parent's items, then the child's.
    Append,
}

impl Joins {
    /// The text by which an item of such a list is known; `None` where items have no identity.
    pub(crate) fn identity(self, item: &Node) -> Option<&str> {
        match self {
            Self::Once => item.scalar().map(|scalar| scalar.text.as_str()),
            Self::ByKey(key) => item.text(key),
            Self::Append => None,
        }
    }
}

/// A mapping with free keys.
pub(crate) struct Map {
    pub(crate) key: &'static Kind,
    pub(crate) value: Shape,
}

/// A mapping with known keys.
pub(crate) struct Object {
    pub(crate) fields: &'static [Field],
    /// Exactly one of these groups of keys must be given, whole; empty demands nothing.
    pub(crate) alternatives: &'static [&'static [&'static str]],
}

/// A known key.
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    /// What it is for, in one sentence.
    pub(crate) about: &'static str,
    /// Must be given in each mapping of this kind (not by inheritance).
    pub(crate) required: bool,
}

const fn field(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, about, required: false }
}

const fn required(name: &'static str, shape: Shape, about: &'static str) -> Field {
    Field { name, shape, about, required: true }
}

const fn object(fields: &'static [Field]) -> Object {
    Object { fields, alternatives: &[] }
}

const fn once(kind: &'static Kind) -> List {
    List { item: Shape::Scalar(kind), joins: Joins::Once }
}

impl Object {
    pub(crate) fn field(&self, name: &str) -> Option<&'static Field> {
        self.fields.iter().find(|field| field.name == name)
    }
}

use Shape::{Map as M, Object as O, Scalar as S};

static PACKAGES: List = once(&kind::PACKAGE);
static KERNEL_ARGUMENTS: List = once(&kind::KERNEL_ARGUMENT);
static UNIT_NAMES: List = once(&kind::UNIT);
static FILES: List = List { item: O(&FILE), joins: Joins::ByKey("path") };
static USERS: List = List { item: O(&USER), joins: Joins::ByKey("name") };
static SCRIPTS: List =
    List { item: Shape::ScalarOr(&kind::SCRIPT_PATH, &SCRIPT), joins: Joins::Append };

/// The whole recipe.
pub(crate) static RECIPE: Object = object(&[
    field(
        "extends",
        S(&kind::RECIPE_REFERENCE),
        "The recipe that this one starts from: a library name, or a path relative to this file.",
    ),
    field("name", S(&kind::RECIPE_NAME), "The image's name, also that of its folder of results."),
    field("description", S(&kind::LINE), "One line about the image."),
    field("os", O(&OS), "The distribution and where its packages come from."),
    field(
        "source-date",
        S(&kind::DATE),
        "The one moment that the image knows: RFC 3339 in UTC, or seconds since 1970.",
    ),
    field(
        "kubernetes",
        O(&KUBERNETES),
        "Which Kubernetes, and where it comes from; without it the image has none.",
    ),
    field(
        "containerd",
        O(&CONTAINERD),
        "Settings of the container runtime; without it the image has none, unless it has Kubernetes.",
    ),
    field(
        "packages",
        Shape::List(&PACKAGES),
        "Packages to install with what they depend on, without recommendations.",
    ),
    field(
        "holds",
        Shape::List(&PACKAGES),
        "Packages that upgrades on the running node leave alone; the kernel's package always is one.",
    ),
    field("modules", Shape::List(&MODULES), "Kernel modules to load at boot."),
    field("sysctls", M(&SYSCTLS), "Kernel parameters to set at boot, by name."),
    field("users", Shape::List(&USERS), "Users to add, each with a group of the same name."),
    field("files", Shape::List(&FILES), "Files, directories and links to write."),
    field("units", O(&UNITS), "systemd units to enable, disable or mask."),
    field(
        "scripts",
        O(&HOOKS),
        "Scripts to run in the sandbox while building, by hook, without a network.",
    ),
    field(
        "images",
        Shape::List(&IMAGES),
        "Container images to preload besides those that kubeadm lists.",
    ),
    field("remove", O(&REMOVE), "What to take away again before sysprep."),
    field("kernel", O(&KERNEL), "Kernel package and arguments."),
    field("disk", O(&DISK), "The disk."),
    field("providers", M(&PROVIDERS), "What differs by provider."),
]);

static MODULES: List = once(&kind::MODULE);
static IMAGES: List = once(&kind::IMAGE);
static SYSCTLS: Map = Map { key: &kind::SYSCTL, value: S(&kind::SYSCTL_VALUE) };
static PROVIDERS: Map = Map { key: &kind::PROVIDER, value: O(&PROVIDER) };

static OS: Object = object(&[
    field("family", S(&kind::FAMILY), "The family, which decides the package format; `debian`."),
    field("release", S(&kind::RELEASE), "Code name of the release."),
    field("architecture", S(&kind::ARCHITECTURE), "Machine architecture; `amd64`."),
    field(
        "components",
        Shape::List(&COMPONENTS),
        "Archive components; `main` alone if none is given.",
    ),
    field(
        "mirrors",
        Shape::List(&MIRRORS),
        "Base URLs of archives; without any, those of this machine's own apt sources.",
    ),
    field(
        "snapshots",
        Shape::List(&MIRRORS),
        "Base URLs of archives that keep old packages, for what is locked and no longer on a mirror; \
         `{archive}` and `{timestamp}` are filled in.",
    ),
    field(
        "keyring",
        S(&kind::LOCAL_PATH),
        "An OpenPGP keyring to trust instead of the built-in one; relative to this file.",
    ),
]);
static COMPONENTS: List = once(&kind::COMPONENT);
static MIRRORS: List = once(&kind::URL);

static KUBERNETES: Object = object(&[
    field("version", S(&kind::VERSION), "The version, three numbers."),
    field(
        "source",
        S(&kind::KUBERNETES_SOURCE),
        "Where it comes from: `release` (the default), `source` or `directory`.",
    ),
    field(
        "image-repository",
        S(&kind::REPOSITORY),
        "Registry and path of the control-plane images; by default that of kubeadm: k8s.gcr.io up to 1.21 and before 1.22.17, 1.23.15 and 1.24.9, else registry.k8s.io.",
    ),
    field(
        "source-package",
        S(&kind::PACKAGE),
        "With `source: source`: the Debian source package; `kubernetes` by default.",
    ),
    field(
        "source-release",
        S(&kind::RELEASE),
        "With `source: source`: the release whose archive has the package and whose compiler builds it; `bookworm` by default.",
    ),
    field(
        "directory",
        S(&kind::LOCAL_PATH),
        "With `source: directory`: the folder with `bin/NAME` and `images/*.tar`; relative to this file.",
    ),
    field(
        "url",
        S(&kind::URL),
        "With `source: release`: base URL, below it `vVERSION/bin/linux/ARCH/NAME`; https://dl.k8s.io/release by default.",
    ),
    field(
        "registry",
        S(&kind::URL),
        "With `source: release`: URL of the registry that serves the image repository; derived from the repository by default.",
    ),
    field(
        "sha256",
        M(&BINARY_DIGESTS),
        "With `source: release`: expected digests, by program name.",
    ),
    field(
        "release-images",
        S(&kind::RELEASE_IMAGES),
        "With `source: release`: where the images of Kubernetes' own programs come from, `registry` (the default) or `archives` beside the binaries.",
    ),
]);
static BINARY_DIGESTS: Map = Map { key: &kind::BINARY, value: S(&kind::SHA256) };

/// Keys of `kubernetes` that belong to one of its sources.
pub(crate) static SOURCE_KEYS: [(&str, &[&str]); 3] = [
    ("source", &["source-package", "source-release"]),
    ("directory", &["directory"]),
    ("release", &["url", "registry", "sha256", "release-images"]),
];

static CONTAINERD: Object = object(&[
    field(
        "cgroup-driver",
        S(&kind::CGROUP_DRIVER),
        "Who puts containers into cgroups: `auto` (what this Kubernetes assumes), `systemd` or `cgroupfs`.",
    ),
    field(
        "sandbox-image",
        S(&kind::IMAGE),
        "The sandbox (pause) image; by default the one that kubeadm lists.",
    ),
]);

static USER: Object = object(&[
    required("name", S(&kind::USER_NAME), "Login name."),
    field("uid", S(&kind::ID), "Numeric id; the distribution chooses one by default."),
    field("groups", Shape::List(&GROUPS), "Further groups, which must exist."),
    field(
        "shell",
        S(&kind::IMAGE_PATH),
        "Login shell; /bin/bash by default, /usr/sbin/nologin for a system account.",
    ),
    field("home", S(&kind::IMAGE_PATH), "Home directory; /home/NAME by default."),
    field("system", S(&kind::BOOLEAN), "A system account: low id, no ageing."),
    field("ssh-authorized-keys", Shape::List(&SSH_KEYS), "Lines of ~/.ssh/authorized_keys."),
]);
static GROUPS: List = once(&kind::USER_NAME);
static SSH_KEYS: List = once(&kind::SSH_KEY);

static FILE: Object = Object {
    fields: &[
        required("path", S(&kind::IMAGE_PATH), "Absolute path in the image."),
        field("content", S(&kind::TEXT), "The file's text."),
        field("source", S(&kind::LOCAL_PATH), "A file to copy, relative to this file."),
        field("url", S(&kind::URL), "Where to fetch the file from; needs `sha256`."),
        field("sha256", S(&kind::SHA256), "Digest of what `url` serves."),
        field("directory", S(&kind::TRUE), "`true` makes a directory."),
        field("link", S(&kind::LINK_TARGET), "Makes a symbolic link to this target."),
        field(
            "mode",
            S(&kind::MODE),
            "Permission bits, in quotes; \"0644\" for files and \"0755\" for directories by default.",
        ),
        field("owner", S(&kind::OWNER), "Owner's name or number; root by default."),
        field("group", S(&kind::OWNER), "Group's name or number; root by default."),
    ],
    alternatives: &[&["content"], &["source"], &["url", "sha256"], &["directory"], &["link"]],
};

static UNITS: Object = object(&[
    field("enable", Shape::List(&UNIT_NAMES), "Units to start at boot."),
    field("disable", Shape::List(&UNIT_NAMES), "Units not to start at boot."),
    field("mask", Shape::List(&UNIT_NAMES), "Units that nothing can start."),
]);

static HOOKS: Object = object(&[
    field("pre", Shape::List(&SCRIPTS), "After the packages, before anything else is set up."),
    field("node", Shape::List(&SCRIPTS), "After the node's own files, users and kernel settings."),
    field("provider", Shape::List(&SCRIPTS), "After the provider's layer."),
    field("containerd", Shape::List(&SCRIPTS), "After the container runtime is configured."),
    field(
        "kubernetes",
        Shape::List(&SCRIPTS),
        "After Kubernetes and the container images are in place.",
    ),
    field("post", Shape::List(&SCRIPTS), "Before sysprep."),
    field("sysprep", Shape::List(&SCRIPTS), "Right after sysprep's own cleaning."),
    field("post-sysprep", Shape::List(&SCRIPTS), "After sysprep; nothing is cleaned after it."),
]);

/// The mapping form of a script.
pub(crate) static SCRIPT: Object = Object {
    fields: &[
        field(
            "name",
            S(&kind::SCRIPT_NAME),
            "Its name in output and logs; by default that of its file, and required with `run`.",
        ),
        field("run", S(&kind::TEXT), "The script's text."),
        field("source", S(&kind::SCRIPT_PATH), "The script's path, relative to this file."),
        field("url", S(&kind::URL), "Where to fetch the script from; needs `sha256`."),
        field("sha256", S(&kind::SHA256), "Digest of what `url` serves."),
        field("environment", M(&ENVIRONMENT), "Variables besides the fixed ones."),
    ],
    alternatives: &[&["run"], &["source"], &["url", "sha256"]],
};
static ENVIRONMENT: Map = Map { key: &kind::VARIABLE, value: S(&kind::VARIABLE_VALUE) };

static REMOVE: Object = object(&[
    field("packages", Shape::List(&PACKAGES), "Packages to purge."),
    field("paths", Shape::List(&PATHS), "Paths to delete, directories with all below."),
]);
static PATHS: List = once(&kind::IMAGE_PATH);

static KERNEL: Object = object(&[
    field(
        "package",
        S(&kind::PACKAGE),
        "The package that brings the kernel; without it the image does not boot by itself.",
    ),
    field("args", Shape::List(&KERNEL_ARGUMENTS), "Arguments besides `root=`."),
]);

static DISK: Object = object(&[
    field(
        "size",
        S(&kind::SIZE),
        "Virtual size, a whole number of MiB from 64MiB to 1024TiB; 4GiB by default.",
    ),
    field("root", S(&kind::ROOT_FILE_SYSTEM), "Root file system; `ext4`."),
    field(
        "boot",
        S(&kind::BOOT_MODE),
        "Firmware that it boots by: `hybrid` (BIOS and UEFI, the default), `bios` or `uefi`.",
    ),
]);

/// What differs for one provider; a provider's layer is one by itself.
pub(crate) static PROVIDER: Object = object(&[
    field("packages", Shape::List(&PACKAGES), "More packages."),
    field("files", Shape::List(&FILES), "More files."),
    field("kernel-args", Shape::List(&KERNEL_ARGUMENTS), "More kernel arguments."),
    field("units", O(&UNITS), "More units."),
]);
