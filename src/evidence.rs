//! What the rooms that judge an image are told about it: from the recipe, and from the facts that the
//! nodes of its tree found out.

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_bom::{Binary, BinarySource, PreloadedImage};
use nodekiln_build::account::Account;
use nodekiln_providers::ImageFacts;
use nodekiln_recipes::recipe::{FileNode, KubernetesSource, Recipe};
use nodekiln_recipes::{Lock, tree_name};
use nodekiln_validate::Expectations;
use nodekiln_validate::expect::User;
use nodekiln_words::{Result, ResultExt as _, Sha256};
use serde::Deserialize;

/// An image of containerd's store, as the preload step states it. Digests are `sha256:HEX`.
#[derive(Deserialize)]
struct ImageFact {
    reference: String,
    target: String,
    manifest: String,
    config: String,
    layers: Vec<String>,
}

/// The images that were preloaded, and those that could not be had with the reason of each.
fn preloaded(account: &Account) -> Result<(Vec<ImageFact>, BTreeMap<String, String>)> {
    fn parse<T: Default + serde::de::DeserializeOwned>(account: &Account, fact: &str) -> Result<T> {
        account.facts.get(fact).map_or_else(
            || Ok(T::default()),
            |text| serde_json::from_str(text).or_io(|| format!("the fact `{fact}` is unreadable")),
        )
    }
    Ok((parse(account, "images")?, parse(account, "images.unavailable")?))
}

fn digest(text: &str) -> Result<Sha256> {
    text.parse().or_io(|| format!("`{text}` is no digest"))
}

/// What `validate` should find in the booted guest.
pub(crate) fn expectations(recipe: &Recipe, account: &Account) -> Result<Expectations> {
    let (images, unavailable_images) = preloaded(account)?;
    let images = images
        .iter()
        .map(|image| Ok((image.reference.clone(), digest(&image.target)?)))
        .collect::<Result<_>>()?;
    Ok(Expectations {
        kubernetes: recipe.kubernetes.as_ref().map(|kubernetes| kubernetes.version),
        image_repository: recipe.kubernetes.as_ref().map(|k| k.image_repository.clone()),
        containerd: account.facts.get("version.containerd").map(|version| upstream(version)),
        sysctls: recipe.sysctls.clone(),
        modules: recipe.modules.clone(),
        images,
        unavailable_images,
        pod_image: None,
        users: users(recipe),
        files: written(recipe),
    })
}

/// The accounts that the recipe declares.
fn users(recipe: &Recipe) -> BTreeMap<String, User> {
    let users = recipe.users.iter().map(|user| {
        let home = user.home.clone().unwrap_or_else(|| format!("/home/{}", user.name));
        (user.name.clone(), User { home, keys: !user.ssh_authorized_keys.is_empty() })
    });
    users.collect()
}

/// What the recipe and its providers' layers write; a folder is nothing that could be residue.
fn written(recipe: &Recipe) -> BTreeSet<String> {
    let layers = recipe.providers.values().flat_map(|provider| &provider.files);
    let files = recipe.files.iter().chain(layers);
    let files = files.filter(|file| !matches!(file.node, FileNode::Directory));
    files.map(|file| file.path.clone()).collect()
}

/// What the image is, as clouds look it up: from the recipe and the locked packages.
pub(crate) fn image_facts(recipe: &Recipe, lock: &Lock) -> ImageFacts {
    let packages = lock.trees.get(tree_name::IMAGE).map(|tree| tree.packages.as_slice());
    let version = |name: &str| {
        let package = packages.unwrap_or_default().iter().find(|package| package.name == name);
        package.map(|package| upstream(&package.version.to_string()))
    };
    // Debian's base-files is of the release's version, with a point release behind it.
    let release = version("base-files").unwrap_or_default();
    let kubernetes = recipe.kubernetes.as_ref();
    ImageFacts {
        distribution: recipe.os.family.as_str().to_owned(),
        distribution_version: release.split(['.', '+']).next().unwrap_or_default().to_owned(),
        architecture: recipe.os.architecture.as_str().to_owned(),
        kubernetes: kubernetes.map(|kubernetes| format!("v{}", kubernetes.version)),
        kubernetes_source: kubernetes.map(|kubernetes| kubernetes.source.as_str().to_owned()),
        containerd: version("containerd"),
        cni: version("containernetworking-plugins"),
    }
}

/// The upstream part of a Debian version (Debian policy, 5.6.12): no epoch, revision or `~ds` mark.
fn upstream(version: &str) -> String {
    let version = version.split_once(':').map_or(version, |(_, rest)| rest);
    let version = version.rsplit_once('-').map_or(version, |(upstream, _)| upstream);
    version.split(['~', '+']).next().unwrap_or(version).to_owned()
}

/// The preloaded images, as the bill of materials lists them.
pub(crate) fn images(account: &Account) -> Result<Vec<PreloadedImage>> {
    let (images, _) = preloaded(account)?;
    images
        .iter()
        .map(|image| {
            Ok(PreloadedImage {
                reference: image.reference.clone(),
                manifest: digest(&image.manifest)?,
                config: digest(&image.config)?,
                layers: image.layers.iter().map(|layer| digest(layer)).collect::<Result<_>>()?,
                labels: BTreeMap::new(),
            })
        })
        .collect()
}

/// Packages that the recipe purges.
pub(crate) fn removed(recipe: &Recipe) -> BTreeSet<String> {
    recipe.remove.packages.iter().cloned().collect()
}

/// The Kubernetes programs in the tree, and where they came from.
pub(crate) fn binaries(recipe: &Recipe, lock: &Lock) -> Vec<Binary> {
    let Some(kubernetes) = &recipe.kubernetes else { return Vec::new() };
    let (origin, source) = match &kubernetes.source {
        KubernetesSource::Source { package, release } => (
            format!("Debian source package {package}, compiled here"),
            source(package, release, lock),
        ),
        KubernetesSource::Directory { .. } => ("a folder of prebuilt files".to_owned(), None),
        KubernetesSource::Release { url, .. } => (format!("{url}/v{}", kubernetes.version), None),
    };
    ["kubeadm", "kubectl", "kubelet"]
        .map(|name| Binary {
            path: format!("/usr/bin/{name}"),
            version: kubernetes.version.to_string(),
            origin: origin.clone(),
            source: source.clone(),
        })
        .to_vec()
}

/// The source package as the lock has it; its version is in the name of its `.dsc` file.
fn source(package: &str, release: &str, lock: &Lock) -> Option<BinarySource> {
    let files: Vec<String> =
        lock.files.keys().filter(|name| name.starts_with("source/")).cloned().collect();
    let version = files.iter().find_map(|name| {
        name.strip_prefix("source/")?.strip_prefix(package)?.strip_prefix('_')?.strip_suffix(".dsc")
    })?;
    let version = version.to_owned();
    Some(BinarySource { package: package.to_owned(), version, release: release.to_owned(), files })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users_and_files_of_the_recipe_are_claimed_and_folders_are_not() {
        let mut recipe = nodekiln_recipes::load::load("quickstart", &[]).unwrap().recipe;
        recipe.users.push(nodekiln_recipes::recipe::User {
            name: "alice".into(),
            uid: None,
            groups: Vec::new(),
            shell: "/bin/bash".into(),
            home: None,
            system: false,
            ssh_authorized_keys: vec!["ssh-ed25519 AAAA alice".into()],
        });
        let users = users(&recipe);
        assert_eq!(users["alice"], User { home: "/home/alice".into(), keys: true });
        let written = written(&recipe);
        assert!(written.contains("/etc/ssh/sshd_config.d/10-node.conf"));
        assert!(written.contains("/etc/resolv.conf"), "a link");
        assert!(!written.contains("/etc/kubernetes"), "a folder");
    }

    #[test]
    fn the_upstream_part_of_a_debian_version_is_found() {
        assert_eq!(upstream("1.6.20~ds1-1+deb12u1"), "1.6.20");
        assert_eq!(upstream("1:2.36.1-8+deb11u1"), "2.36.1");
        assert_eq!(upstream("1.7.24"), "1.7.24");
    }
}
