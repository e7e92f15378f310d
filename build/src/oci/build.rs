use std::collections::BTreeMap;

use nodekiln_words::{Result, ResultExt, SourceDate};

use super::json::{Config, History, Manifest, RootFs, RunConfig, media_type};
use super::layer::Layer;
use super::{Blob, Image, Reference};

/// What a new image says of itself.
#[derive(Clone, Debug)]
pub struct ImageSpec {
    /// Its name.
    pub reference: Reference,
    /// Architecture in OCI's word, such as `amd64`.
    pub architecture: &'static str,
    /// Program and arguments.
    pub entrypoint: Vec<String>,
    /// Arguments that a container may replace, or the program and its arguments where there is no entrypoint.
    pub command: Vec<String>,
    /// User and group as `UID:GID`; `None` is root.
    pub user: Option<String>,
    /// Variables, each `NAME=VALUE`.
    pub environment: Vec<String>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
}

/// The image of one layer that `spec` describes, created at the source date.
///
/// # Errors
/// Never in practice: writing these documents as JSON cannot fail.
pub fn build(spec: &ImageSpec, layer: Layer, source_date: SourceDate) -> Result<Image> {
    let config = json(media_type::CONFIG, &config(spec, &layer, source_date))?;
    let manifest = Manifest {
        schema_version: 2,
        media_type: Some(media_type::MANIFEST.to_owned()),
        config: config.descriptor(),
        layers: vec![layer.blob.descriptor()],
    };
    let manifest = json(media_type::MANIFEST, &manifest)?;
    let reference = spec.reference.clone();
    Ok(Image { reference, index: None, manifest, config, layers: vec![layer.blob] })
}

fn config(spec: &ImageSpec, layer: &Layer, source_date: SourceDate) -> Config {
    let some = |list: &Vec<String>| (!list.is_empty()).then(|| list.clone());
    Config {
        created: Some(source_date.to_string()),
        architecture: spec.architecture.to_owned(),
        os: "linux".to_owned(),
        config: RunConfig {
            user: spec.user.clone(),
            env: some(&spec.environment),
            entrypoint: some(&spec.entrypoint),
            cmd: some(&spec.command),
            working_dir: Some("/".to_owned()),
            labels: (!spec.labels.is_empty()).then(|| spec.labels.clone()),
        },
        rootfs: RootFs {
            kind: "layers".to_owned(),
            diff_ids: vec![format!("sha256:{}", layer.diff_id)],
        },
        history: vec![History {
            created: Some(source_date.to_string()),
            created_by: Some("nodekiln".to_owned()),
        }],
    }
}

pub(super) fn json(media_type: &str, value: &impl serde::Serialize) -> Result<Blob> {
    let bytes = serde_json::to_vec(value).or_io(|| format!("writing a document {media_type}"))?;
    Ok(Blob::of_bytes(media_type, bytes))
}
