//! The documents of an OCI image (image specification 1.1) with one layer.

use nodekiln_plugin_protocol::Write;
use serde_json::{Value, json};

/// Bytes by their digest, of which a descriptor speaks.
pub(crate) struct Blob {
    pub(crate) media_type: &'static str,
    /// SHA-256 in hexadecimal digits.
    pub(crate) sha256: String,
    pub(crate) bytes: u64,
}

impl Blob {
    /// What documents say of it.
    pub(crate) fn descriptor(&self) -> Value {
        json!({
            "mediaType": self.media_type,
            "digest": format!("sha256:{}", self.sha256),
            "size": self.bytes,
        })
    }

    /// Where it lies in an image layout.
    pub(crate) fn path(&self) -> String {
        format!("blobs/sha256/{}", self.sha256)
    }
}

/// Media type of a layer without compression: the disk in it is compressed.
pub(crate) const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Media type of the configuration.
pub(crate) const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of the manifest.
pub(crate) const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";

/// Longest tag (OCI distribution specification 1.1, pulling manifests).
const LONGEST_TAG: usize = 128;

/// Name and tag: `debian-12-container-disk:v1.36.1`, or the image's own name where it has no Kubernetes.
pub(crate) fn reference(request: &Write) -> String {
    let facts = &request.facts;
    let (name, tag) = match &facts.kubernetes {
        Some(version) => {
            (format!("{}-{}", facts.distribution, facts.distribution_version), version.as_str())
        }
        None => (request.name.clone(), "latest"),
    };
    format!("{}:{}", component(&format!("{name}-container-disk")), tag_of(tag))
}

/// `text` as a component of a repository's name: `[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*`. What stands between its words
/// stays where it is one of those, and is a dash otherwise.
fn component(text: &str) -> String {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let mut component = String::new();
    let mut between = String::new();
    for c in text.to_ascii_lowercase().chars() {
        if !plain(c) {
            between.push(c);
            continue;
        }
        if !component.is_empty() && !between.is_empty() {
            let good =
                matches!(between.as_str(), "." | "_" | "__") || between.chars().all(|c| c == '-');
            component.push_str(if good { &between } else { "-" });
        }
        between.clear();
        component.push(c);
    }
    component
}

/// `text` as a tag: `[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}`. The `+` of a build becomes `_`.
fn tag_of(text: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_');
    let tag = text.chars().map(|c| if allowed(c) { c } else { '_' });
    let tag: String = tag.take(LONGEST_TAG).collect();
    if tag.starts_with(['.', '-']) { tag.replacen(['.', '-'], "_", 1) } else { tag }
}

/// The configuration of an image whose one layer is `layer`.
pub(crate) fn config(request: &Write, layer: &Blob) -> Value {
    let facts = &request.facts;
    let mut labels = json!({
        "org.opencontainers.image.title": request.name,
        "org.opencontainers.image.created": request.date,
        "org.opencontainers.image.description":
            format!("{} {} node", facts.distribution, facts.distribution_version),
    });
    if let Some(version) = &facts.kubernetes {
        labels["org.opencontainers.image.version"] = json!(version);
    }
    json!({
        "created": request.date,
        "architecture": facts.architecture,
        "os": "linux",
        "config": { "Labels": labels },
        "rootfs": { "type": "layers", "diff_ids": [format!("sha256:{}", layer.sha256)] },
        "history": [{ "created": request.date, "created_by": "nodekiln" }],
    })
}

/// The manifest.
pub(crate) fn manifest(config: &Blob, layer: &Blob) -> Value {
    json!({
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": config.descriptor(),
        "layers": [layer.descriptor()],
    })
}

/// The index of an image layout with this one image, called `reference`.
pub(crate) fn index(manifest: &Blob, reference: &str) -> Value {
    let mut descriptor = manifest.descriptor();
    descriptor["annotations"] = json!({ "org.opencontainers.image.ref.name": reference });
    json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [descriptor],
    })
}

/// What `docker load` reads in place of the index.
pub(crate) fn docker_manifest(config: &Blob, layer: &Blob, reference: &str) -> Value {
    json!([{ "Config": config.path(), "RepoTags": [reference], "Layers": [layer.path()] }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(name: &str, version: &str, kubernetes: Option<&str>) -> Write {
        serde_json::from_value(json!({
            "name": name,
            "input": { "path": "/in", "format": "qcow2", "bytes": 0, "sha256": "" },
            "folder": "/out",
            "disk": { "bytes": 0, "sha256": "", "boot": "hybrid" },
            "compression": "default",
            "created": 0,
            "date": "1970-01-01T00:00:00Z",
            "silence": 60,
            "facts": {
                "distribution": "debian", "distribution-version": version, "architecture": "amd64",
                "kubernetes": kubernetes,
            },
        }))
        .unwrap()
    }

    #[test]
    fn the_reference_tells_system_and_kubernetes() {
        let of = |version, kubernetes| reference(&request("node", version, kubernetes));
        assert_eq!(of("12", Some("v1.36.1")), "debian-12-container-disk:v1.36.1");
        assert_eq!(of("24.04", Some("v1.36.1+b.7")), "debian-24.04-container-disk:v1.36.1_b.7");
        assert_eq!(of("12", None), "node-container-disk:latest");
    }

    /// Names of images are `[a-z0-9][a-z0-9._-]{0,62}`, of which not each is a component.
    #[test]
    fn every_name_of_an_image_gives_a_name_that_registries_take() {
        for (name, expected) in [
            ("node", "node"),
            ("a.b_c__d--e", "a.b_c__d--e"),
            ("a..b", "a-b"),
            ("a___b", "a-b"),
            ("a.-b", "a-b"),
            ("a._b", "a-b"),
            ("node.", "node"),
            ("node_", "node"),
            ("1", "1"),
        ] {
            let reference = reference(&request(name, "12", None));
            assert_eq!(reference, format!("{expected}-container-disk:latest"), "{name}");
        }
    }

    #[test]
    fn a_tag_is_such_as_registries_take() {
        assert_eq!(tag_of("-a b"), "_a_b");
        assert_eq!(tag_of(&"v".repeat(200)).len(), 128);
    }
}
