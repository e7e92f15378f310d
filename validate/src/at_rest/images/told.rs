//! What an image's own files tell of the cluster that it can become, where no manifest claims anything.

use nodekiln_recipes::kubernetes_images::{default_repository, listing};
use nodekiln_words::Result;

use super::store::Store;
use crate::at_rest::Examined;
use crate::expect::{Expectations, name_of};
use crate::tree::containerd::Settings;

/// The one image without which there is a cluster all the same.
const DNS: &str = "coredns";

/// The version of Kubernetes, the images in containerd's store by their digests, the registry under whose name the
/// control plane's are there, and whether cluster DNS is among them.
///
/// # Errors
/// When the files cannot be read.
pub(in crate::at_rest) fn told(examined: &Examined) -> Result<Expectations> {
    let mut told =
        Expectations { kubernetes: examined.facts.kubernetes, ..Expectations::default() };
    let Some(version) = told.kubernetes else { return Ok(told) };
    let settings = Settings::of(&examined.tree)?;
    let Ok(store) = Store::of(&examined.tree, &settings)? else { return Ok(told) };
    for name in store.tagged() {
        let digest = store.image(name).and_then(|image| image.digest.strip_prefix("sha256:"));
        if let Some(digest) = digest.and_then(|digits| digits.parse().ok()) {
            told.images.insert(name.to_owned(), digest);
        }
    }
    let of_version = format!("/kube-apiserver:v{version}");
    let repository = told.images.keys().find_map(|name| name.strip_suffix(&of_version));
    told.image_repository = repository.map(str::to_owned);
    let repository = told.image_repository.as_deref().unwrap_or(default_repository(version));
    let names = listing(version, repository).map(|listed| listed.names).unwrap_or_default();
    for name in names.into_iter().filter(|name| name_of(name) == DNS) {
        if store.image(&name).is_none() {
            told.unavailable_images.insert(name, "it is not in the image's store".to_owned());
        }
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::super::mutations::{fill, forget, store_image};
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::rules::Family;

    #[test]
    fn a_store_tells_what_a_manifest_would_claim() {
        for family in [Family::Debian, Family::Rpm] {
            let mut examined = sound(family);
            fill(&mut examined);
            let told = told(&examined).unwrap();
            assert_eq!(told.kubernetes, examined.facts.kubernetes);
            assert_eq!(told.images, examined.expect.images);
            assert_eq!(told.image_repository.as_deref(), Some("k8s.gcr.io"));
            assert!(told.unavailable_images.is_empty());
            assert!(told.pod_image().is_some_and(|name| name.contains("/etcd:")));
        }
    }

    #[test]
    fn cluster_dns_that_is_not_there_is_left_out_and_nothing_else_is() {
        let mut examined = sound(Family::Debian);
        fill(&mut examined);
        forget(&mut examined, "k8s.gcr.io/coredns:1.7.0");
        forget(&mut examined, "k8s.gcr.io/pause:3.2");
        let told = told(&examined).unwrap();
        let missing: Vec<&String> = told.unavailable_images.keys().collect();
        assert_eq!(missing, ["k8s.gcr.io/coredns:1.7.0"]);
    }

    #[test]
    fn the_registry_is_the_one_whose_name_the_images_have() {
        let mut examined = sound(Family::Debian);
        examined.tree.remove("/var/lib/containerd");
        fill(&mut examined);
        for name in ["kube-apiserver", "kube-proxy"] {
            forget(&mut examined, &format!("k8s.gcr.io/{name}:v1.20.2"));
            store_image(&mut examined.tree, &format!("registry.example/k8s/{name}:v1.20.2"), name);
        }
        let told = told(&examined).unwrap();
        assert_eq!(told.image_repository.as_deref(), Some("registry.example/k8s"));
        assert!(told.unavailable_images.contains_key("registry.example/k8s/coredns:1.7.0"));
    }

    #[test]
    fn a_tree_without_kubernetes_or_without_a_store_tells_less() {
        let mut examined = sound(Family::Debian);
        examined.tree.remove("/var/lib/containerd");
        let without = told(&examined).unwrap();
        assert!(without.kubernetes.is_some() && without.images.is_empty());
        examined.facts.kubernetes = None;
        assert_eq!(told(&examined).unwrap(), Expectations::default());
    }
}
