//! A [`Recipe`] as canonical YAML: keys in one order, defaults left out where they say nothing.
//!
//! Loading what is written here gives the same recipe again.

use std::collections::BTreeMap;
use std::path::Path;

use nodekiln_words::Bytes;
use serde::Serialize;

use crate::recipe::{
    Containerd, Content, DiskSpec, FileNode, FileStep, Hook, Kernel, Kubernetes, KubernetesSource,
    Os, ProviderSpec, Recipe, Remove, Script, Units, User,
};
use crate::yaml::{Entries, Yaml};

/// The recipe as YAML, which is a recipe without `extends` itself.
#[must_use]
pub fn to_yaml(recipe: &Recipe) -> String {
    recipe_yaml(recipe).text()
}

fn recipe_yaml(recipe: &Recipe) -> Yaml {
    let Recipe {
        name,
        description,
        os,
        source_date,
        kubernetes,
        containerd,
        packages,
        holds,
        modules,
        sysctls,
        users,
        files,
        units,
        scripts,
        images,
        remove,
        kernel,
        disk,
        providers,
    } = recipe;
    let no_description = description.is_empty();
    let entries = Entries::default()
        .text("name", name)
        .optional("description", (!no_description).then_some(description))
        .value("os", os_yaml(os))
        .text("source-date", &source_date.to_string());
    let entries = match kubernetes {
        Some(kubernetes) => entries.value("kubernetes", kubernetes_yaml(kubernetes)),
        None => entries,
    };
    let entries = match containerd {
        Some(containerd) => entries.value("containerd", containerd_yaml(containerd)),
        None => entries,
    };
    let providers = providers.iter().map(|(name, spec)| (name.clone(), provider_yaml(spec)));
    entries
        .list("packages", packages)
        .list("holds", holds)
        .list("modules", modules)
        .map("sysctls", sysctls)
        .value("users", Yaml::List(users.iter().map(user_yaml).collect()))
        .value("files", Yaml::List(files.iter().map(file_yaml).collect()))
        .value("units", units_yaml(units))
        .value("scripts", scripts_yaml(scripts))
        .list("images", images)
        .value("remove", remove_yaml(remove))
        .value("kernel", kernel_yaml(kernel))
        .value("disk", disk_yaml(disk))
        .value("providers", Yaml::Mapping(providers.collect()))
        .done()
}

fn os_yaml(os: &Os) -> Yaml {
    let Os { family, release, architecture, components, mirrors, snapshots, keyring } = os;
    Entries::default()
        .text("family", &word(family))
        .text("release", release)
        .text("architecture", architecture.as_str())
        .list("components", components)
        .list("mirrors", mirrors)
        .list("snapshots", snapshots)
        .optional("keyring", keyring.as_deref().map(path).as_deref())
        .done()
}

fn kubernetes_yaml(kubernetes: &Kubernetes) -> Yaml {
    let Kubernetes { version, source, image_repository } = kubernetes;
    let entries = Entries::default().text("version", &version.to_string());
    let entries = match source {
        KubernetesSource::Source { package, release } => entries
            .text("source", "source")
            .text("source-package", package)
            .text("source-release", release),
        KubernetesSource::Directory { path: folder } => {
            entries.text("source", "directory").text("directory", &path(folder))
        }
        KubernetesSource::Release { url, registry, sha256, images } => {
            let digests = sha256.iter().map(|(name, digest)| (name.clone(), digest.to_string()));
            entries
                .text("source", "release")
                .text("url", url)
                .optional("registry", registry.as_deref())
                .map("sha256", &digests.collect())
                .text("release-images", images.as_str())
        }
    };
    entries.text("image-repository", image_repository).done()
}

fn containerd_yaml(containerd: &Containerd) -> Yaml {
    let Containerd { cgroup_driver, sandbox_image } = containerd;
    Entries::default()
        .text("cgroup-driver", &word(cgroup_driver))
        .optional("sandbox-image", sandbox_image.as_deref())
        .done()
}

fn user_yaml(user: &User) -> Yaml {
    let User { name, uid, groups, shell, home, system, ssh_authorized_keys } = user;
    let entries = Entries::default().text("name", name);
    let entries = match uid {
        Some(uid) => entries.value("uid", Yaml::Bare(uid.to_string())),
        None => entries,
    };
    entries
        .list("groups", groups)
        .text("shell", shell)
        .optional("home", home.as_deref())
        .value("system", Yaml::Bare(system.to_string()))
        .list("ssh-authorized-keys", ssh_authorized_keys)
        .done()
}

fn file_yaml(file: &FileStep) -> Yaml {
    let FileStep { path: place, node, mode, owner, group } = file;
    let entries = Entries::default().text("path", place);
    let (entries, has_mode) = match node {
        FileNode::File(content) => (content_yaml(entries, "content", content), true),
        FileNode::Directory => (entries.value("directory", Yaml::Bare("true".into())), true),
        FileNode::Link(target) => (entries.text("link", target), false),
    };
    let entries = if has_mode {
        entries.value("mode", Yaml::quoted(&format!("{mode:04o}")))
    } else {
        entries
    };
    entries.text("owner", owner).text("group", group).done()
}

fn content_yaml(entries: Entries, inline: &str, content: &Content) -> Entries {
    match content {
        Content::Inline(text) => entries.text(inline, text),
        Content::Local(source) => entries.text("source", &path(source)),
        Content::Url { url, sha256 } => {
            entries.text("url", url).text("sha256", &sha256.to_string())
        }
    }
}

fn units_yaml(units: &Units) -> Yaml {
    let Units { enable, disable, mask } = units;
    Entries::default().list("enable", enable).list("disable", disable).list("mask", mask).done()
}

fn scripts_yaml(scripts: &BTreeMap<Hook, Vec<Script>>) -> Yaml {
    let hook = |(hook, scripts): (&Hook, &Vec<Script>)| {
        (word(hook), Yaml::List(scripts.iter().map(script_yaml).collect()))
    };
    Yaml::Mapping(scripts.iter().map(hook).collect())
}

fn script_yaml(script: &Script) -> Yaml {
    let Script { name, content, environment } = script;
    content_yaml(Entries::default().text("name", name), "run", content)
        .map("environment", environment)
        .done()
}

fn remove_yaml(remove: &Remove) -> Yaml {
    let Remove { packages, paths } = remove;
    Entries::default().list("packages", packages).list("paths", paths).done()
}

fn kernel_yaml(kernel: &Kernel) -> Yaml {
    let Kernel { package, args } = kernel;
    Entries::default().optional("package", package.as_deref()).list("args", args).done()
}

fn disk_yaml(disk: &DiskSpec) -> Yaml {
    let DiskSpec { size, root, boot } = disk;
    Entries::default()
        .text("size", &size_text(*size))
        .text("root", &word(root))
        .text("boot", &word(boot))
        .done()
}

/// A whole number of MiB as recipes write it.
pub(crate) fn size_text(size: Bytes) -> String {
    let mebibytes = size.get() / Bytes::MIB;
    match mebibytes % 1024 {
        0 => format!("{}GiB", mebibytes / 1024),
        _ => format!("{mebibytes}MiB"),
    }
}

fn provider_yaml(spec: &ProviderSpec) -> Yaml {
    let ProviderSpec { packages, files, kernel_args, units } = spec;
    Entries::default()
        .list("packages", packages)
        .value("files", Yaml::List(files.iter().map(file_yaml).collect()))
        .list("kernel-args", kernel_args)
        .value("units", units_yaml(units))
        .done()
}

/// The word that stands for a unit variant.
fn word(value: &impl Serialize) -> String {
    let value = serde_json::to_value(value).unwrap_or_default();
    value.as_str().unwrap_or_default().to_owned()
}

/// Paths that are not UTF-8 are refused where they are read.
fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
