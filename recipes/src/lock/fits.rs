//! Whether a lock is one of a recipe: whether what the recipe asks for is what was locked.

use std::collections::BTreeSet;

use super::{Lock, LockedKubernetes, LockedTree};
use crate::recipe::{Content, FileNode, KubernetesSource, Recipe};

impl Lock {
    /// In which points this lock is not one of `recipe`, each a sentence; empty where it is.
    ///
    /// `trees` are the package sets that the recipe needs, with what is asked for in each. Whether the
    /// locked versions are the newest is not looked at.
    #[must_use]
    pub fn misfits(&self, recipe: &Recipe, trees: &[WantedTree]) -> Vec<String> {
        let mut misfits = Vec::new();
        for wanted in trees {
            match self.trees.get(&wanted.name) {
                None => misfits.push(format!("the packages of `{}` are not locked", wanted.name)),
                Some(locked) => misfits.extend(wanted.misfits(locked)),
            }
        }
        let wanted = recipe.kubernetes.as_ref().map(LockedKubernetes::from);
        if wanted != self.kubernetes {
            misfits.push(format!(
                "the recipe wants {}, the lock is for {}",
                told(wanted.as_ref()),
                told(self.kubernetes.as_ref())
            ));
        }
        misfits.extend(self.image_misfits(recipe));
        misfits.extend(self.pin_misfits(recipe));
        for (url, sha256) in urls(recipe) {
            match self.files.get(&url_name(url)) {
                Some(locked) if locked.sha256 == sha256 => {}
                Some(locked) => misfits.push(format!(
                    "{url} has the sha256 {sha256} in the recipe, {} in the lock",
                    locked.sha256
                )),
                None => misfits.push(format!("{url} is not locked")),
            }
        }
        let wanted: BTreeSet<String> = urls(recipe).iter().map(|(url, _)| url_name(url)).collect();
        let locked = self.files.keys().filter(|name| name.starts_with(URL));
        let old = locked.filter(|name| !wanted.contains(*name));
        misfits.extend(old.map(|name| format!("{name} is locked and no longer asked for")));
        misfits
    }

    /// Images that are wanted and not locked, locked and not wanted, or other than their names say.
    fn image_misfits(&self, recipe: &Recipe) -> Vec<String> {
        let lacks = recipe.images.iter().filter(|image| !self.images.contains_key(*image));
        let mut misfits: Vec<String> =
            lacks.map(|image| format!("the image {image} is not locked")).collect();
        for (reference, locked) in &self.images {
            if !recipe.images.contains(reference) && !self.kubeadm_images.contains(reference) {
                misfits.push(format!("the image {reference} is locked and no longer asked for"));
            }
            // A reference may pin what it stands for: an index, or a manifest where there is no index.
            let pin = reference.rsplit_once("@sha256:").map(|(_, pin)| pin);
            let target = locked.index.unwrap_or(locked.manifest).to_string();
            if pin.is_some_and(|pin| pin != target) {
                misfits.push(format!("the image {reference} is locked as sha256:{target}"));
            }
        }
        misfits
    }

    /// Programs whose digests the recipe pins and the lock has otherwise.
    fn pin_misfits(&self, recipe: &Recipe) -> Vec<String> {
        let source = recipe.kubernetes.as_ref().map(|kubernetes| &kubernetes.source);
        let Some(KubernetesSource::Release { sha256, .. }) = source else { return Vec::new() };
        let differing = sha256.iter().filter(|(name, pin)| {
            let locked = self.files.get(&format!("kubernetes/bin/{name}"));
            locked.is_none_or(|locked| locked.sha256 != **pin)
        });
        differing
            .map(|(name, pin)| format!("{name} is pinned as {pin} and not locked so"))
            .collect()
    }
}

/// What the names in a lock begin with of files that the recipe takes from URLs.
const URL: &str = "url/";

/// A package set that a recipe needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WantedTree {
    /// Its name, one of [`crate::tree_name`].
    pub name: String,
    /// Release that its packages come from.
    pub release: String,
    /// What is asked for.
    pub asked: Vec<String>,
    /// Whether the essential and required packages belong to it.
    pub essential: bool,
    /// Name of the tree that its packages are installed over, of which they move nothing.
    pub over: Option<String>,
}

impl WantedTree {
    fn misfits(&self, locked: &LockedTree) -> Vec<String> {
        let Self { name, release, asked, .. } = self;
        if locked.release != *release {
            let other = &locked.release;
            return vec![format!("`{name}` wants the release {release}, the lock has {other}")];
        }
        let of = |asked: &[String]| asked.iter().cloned().collect::<BTreeSet<String>>();
        let (wanted, locked) = (of(asked), of(&locked.asked));
        let new = wanted.difference(&locked);
        let old = locked.difference(&wanted);
        new.map(|package| format!("`{name}` asks for {package}, which is not locked"))
            .chain(old.map(|package| format!("`{name}` no longer asks for {package}")))
            .collect()
    }
}

/// What the recipe takes from URLs, with the digests that it gives, sorted and each once.
#[must_use]
pub fn urls(recipe: &Recipe) -> BTreeSet<(&str, nodekiln_words::Sha256)> {
    let files = recipe.files.iter().chain(recipe.providers.values().flat_map(|spec| &spec.files));
    let files = files.filter_map(|step| match &step.node {
        FileNode::File(content) => Some(content),
        _ => None,
    });
    let scripts = recipe.scripts.values().flatten().map(|script| &script.content);
    files
        .chain(scripts)
        .filter_map(|content| match content {
            Content::Url { url, sha256 } => Some((url.as_str(), *sha256)),
            _ => None,
        })
        .collect()
}

/// The name in a lock of what is fetched from `url`.
#[must_use]
pub fn url_name(url: &str) -> String {
    format!("{URL}{url}")
}

fn told(kubernetes: Option<&LockedKubernetes>) -> String {
    match kubernetes {
        None => "no Kubernetes".to_owned(),
        Some(LockedKubernetes { version, source, image_repository, origin }) => format!(
            "Kubernetes {version} from {source} ({origin}) with images of {image_repository}"
        ),
    }
}
