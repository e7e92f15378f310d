//! A write: what is asked for, and what comes of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Boot, Format};

/// Write your artifact into `folder`, from the disk in `input`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Write {
    /// The image's name, which stands for `{name}`.
    pub name: String,
    /// The disk in the format that the description asks for.
    pub input: Input,
    /// Absolute path of the empty folder for the artifact; the plugin is started in it.
    pub folder: String,
    /// The disk itself, whatever the format.
    pub disk: Payload,
    /// How a format that has any compression should be compressed.
    pub compression: Compression,
    /// The one time that the artifact may tell, in seconds since 1970.
    pub created: u64,
    /// The same as RFC 3339.
    pub date: String,
    /// Seconds without a message after which nodekiln ends the plugin.
    pub silence: u64,
    /// What the image is.
    pub facts: Facts,
}

/// A disk in some format.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Input {
    /// Absolute path of the file, which is to be read only.
    pub path: String,
    /// Its format.
    pub format: Format,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256 in 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// A disk.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Payload {
    /// Its size in bytes.
    pub bytes: u64,
    /// SHA-256 of all its bytes.
    pub sha256: String,
    /// How it boots.
    pub boot: Boot,
}

/// Compression of artifacts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(rename_all = "kebab-case")]
pub enum Compression {
    /// As fast as every consumer can read.
    Fast,
    /// What every consumer can read.
    Default,
    /// As small as every consumer can read.
    Small,
    /// Zstandard.
    Zstd,
    /// None.
    None,
}

/// What an image is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Facts {
    /// The distribution, as os-release's `ID` has it: `debian`.
    pub distribution: String,
    /// Its version, as `VERSION_ID` has it: `12`.
    pub distribution_version: String,
    /// Machine architecture in Go's word: `amd64`.
    pub architecture: String,
    /// Version of Kubernetes, with a leading `v`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
    /// Version of containerd.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub containerd: Option<String>,
    /// Version of the network plugins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cni: Option<String>,
}

/// Still working.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Progress {
    /// Bytes done so far.
    pub done: u64,
    /// Bytes in all, where that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total: Option<u64>,
}

/// The artifact is there.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Done {
    /// Its files, those of the description in the same order. nodekiln reads each to see whether it is as
    /// told, and takes no other file.
    pub artifacts: Vec<Artifact>,
    /// What it takes to register it where it is to run: all keys that the description names, and no other.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub registration: BTreeMap<String, serde_json::Value>,
}

/// A file of an artifact.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Artifact {
    /// Its name in the folder.
    pub file: String,
    /// Its length in bytes.
    pub bytes: u64,
    /// Its SHA-256 in 64 lower-case hexadecimal digits.
    pub sha256: String,
}

/// Why something cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Problem {
    /// What went wrong, as a fragment that reads after `error:`.
    pub message: String,
    /// What to do about it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Problem {
    /// A problem without a remedy.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: None }
    }

    /// A problem with a remedy.
    pub fn with_remedy(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { message: message.into(), remedy: Some(remedy.into()) }
    }
}
