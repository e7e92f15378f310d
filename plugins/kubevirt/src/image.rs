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

/// Name and tag: `debian-12-container-disk:v1.36.1`, or the image's own name where it has no Kubernetes.
pub(crate) fn reference(request: &Write) -> String {
    let facts = &request.facts;
    match &facts.kubernetes {
        Some(version) => format!(
            "{}-{}-container-disk:{}",
            facts.distribution,
            facts.distribution_version,
            // A tag may not have the `+` of a build.
            version.replace('+', "_")
        ),
        None => format!("{}-container-disk:latest", request.name),
    }
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
