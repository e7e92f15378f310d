//! The `kubernetes` mapping: the version, its source, and the keys that belong to that source.

use crate::document::{Entry, Node};
use crate::kubernetes_images::default_repository;
use crate::recipe::{Kubernetes, KubernetesSource, ReleaseImages, Version};
use crate::shape::SOURCE_KEYS;

use super::Reader;

/// The Debian release whose source package `kubernetes` still is the whole of Kubernetes.
const SOURCE_RELEASE: &str = "bookworm";
/// Upstream's release server.
const RELEASE_URL: &str = "https://dl.k8s.io/release";

impl Reader<'_> {
    pub(super) fn kubernetes(&mut self, root: &Node) -> Option<Kubernetes> {
        let node = root.get("kubernetes")?;
        let version = self.required(root, node, "kubernetes.version", "version: 1.36.1");
        let version = version.and_then(|node| self.parsed::<Version>(node));
        let word = node.text("source").unwrap_or("release");
        self.refuse_other_sources(node, word);
        let source = match word {
            "source" => Some(KubernetesSource::Source {
                package: node.text("source-package").unwrap_or("kubernetes").to_owned(),
                release: node.text("source-release").unwrap_or(SOURCE_RELEASE).to_owned(),
            }),
            "directory" => self.directory(root, node),
            "release" => self.release(node),
            _ => None,
        };
        let version = version?;
        let repository = node.text("image-repository").unwrap_or(default_repository(version));
        Some(Kubernetes { version, source: source?, image_repository: repository.to_owned() })
    }

    fn directory(&mut self, root: &Node, node: &Node) -> Option<KubernetesSource> {
        let path =
            self.required(root, node, "kubernetes.directory", "directory: prebuilt/kubernetes");
        let path = path.and_then(|node| self.local_directory(node))?;
        Some(KubernetesSource::Directory { path })
    }

    fn release(&mut self, node: &Node) -> Option<KubernetesSource> {
        let digests = node.get("sha256").map(Node::entries).unwrap_or_default();
        let pinned = digests.iter().map(|e| Some((e.key.clone(), self.parsed(&e.node)?)));
        let sha256 = pinned.collect::<Option<_>>()?;
        Some(KubernetesSource::Release {
            url: node.text("url").unwrap_or(RELEASE_URL).trim_end_matches('/').to_owned(),
            registry: node.text("registry").map(str::to_owned),
            sha256,
            images: match node.text("release-images") {
                Some("archives") => ReleaseImages::Archives,
                _ => ReleaseImages::Registry,
            },
        })
    }

    /// A key of another source is an error, unless it comes from a parent of the text that chose the
    /// source: then the choice has made it void.
    fn refuse_other_sources(&mut self, node: &Node, chosen: &str) {
        let chosen_by = node.get("source").map(|node| node.span.source);
        let others = SOURCE_KEYS.iter().filter(|(source, _)| *source != chosen);
        for (source, keys) in others {
            let given = keys.iter().filter_map(|key| node.entry(key));
            for Entry { key, key_span, .. } in given.collect::<Vec<_>>() {
                if chosen_by.is_some_and(|text| self.sources.is_parent_of(key_span.source, text)) {
                    continue;
                }
                let message = format!("`{key}` does not go with `source: {chosen}`");
                let label = format!("belongs to `source: {source}`");
                self.report(*key_span, message, &label, || {
                    format!("write `source: {source}`, or remove `{key}`")
                });
            }
        }
    }
}
