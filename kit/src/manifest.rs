//! What a kit says of itself.

use std::collections::BTreeMap;

use nodekiln_recipes::recipe::Version;
use nodekiln_words::{Class, Failure, Result, Sha256};
use serde::{Deserialize, Serialize};

/// What `schema` says in kits of this form.
pub const SCHEMA: &str = "nodekiln/kit-1";

/// What a kit holds; its first file, `manifest.json`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// [`SCHEMA`].
    pub schema: String,
    /// The version of Kubernetes whose suite it is, as `1.20.2`.
    pub kubernetes: Version,
    /// Where the suite comes from.
    pub origin: Origin,
    /// Path of the suite in the kit.
    pub suite: String,
    /// The kit's other files by path, such as `bin/etcd`, `images/….tar`; the suite among them.
    pub files: BTreeMap<String, File>,
    /// Its container images, by reference.
    pub images: BTreeMap<String, Image>,
    /// Registries by key of `KUBE_TEST_REPO_LIST`; none leaves the suite its own.
    pub repositories: BTreeMap<String, String>,
    /// Every spec of the suite by its whole text, each once, sorted.
    pub specs: Vec<String>,
}

/// Where a suite comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Origin {
    /// Compiled from the source of Kubernetes.
    Source,
    /// Taken from an archive of a release.
    Release,
    /// Taken from a folder.
    Directory,
}

/// A file of a kit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct File {
    /// Digest of its bytes.
    pub sha256: Sha256,
    /// Its length in bytes.
    pub size: u64,
}

/// A container image of a kit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Image {
    /// Path of the archive that has it.
    pub file: String,
    /// What it is where it is not what its tag means upstream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stand_in: Option<String>,
}

impl Manifest {
    /// The manifest that `bytes` are.
    ///
    /// # Errors
    /// When they are no manifest, one of another form, or one that names a file twice or not at all.
    pub fn read(bytes: &[u8]) -> Result<Self> {
        let manifest: Self = serde_json::from_slice(bytes).map_err(|error| {
            Failure::input("the kit's manifest is not readable").with_source(error)
        })?;
        if manifest.schema != SCHEMA {
            let text = format!("the kit says `{}` of its form, not `{SCHEMA}`", manifest.schema);
            return Err(Failure::new(Class::Unsupported, text)
                .with_help("make the kit again with this nodekiln: `nodekiln kit`"));
        }
        let named = manifest.images.values().map(|image| &image.file);
        for path in named.chain([&manifest.suite]) {
            if !manifest.files.contains_key(path) {
                return Err(Failure::input(format!("the kit's manifest has no file `{path}`")));
            }
        }
        Ok(manifest)
    }

    /// `KUBE_TEST_REPO_LIST`'s file: YAML of key to registry; nothing where there is none to tell.
    #[must_use]
    pub fn repository_list(&self) -> Option<String> {
        let lines = self.repositories.iter().map(|(key, registry)| format!("{key}: {registry}\n"));
        (!self.repositories.is_empty()).then(|| lines.collect())
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use super::*;

    /// A manifest with one image and `specs`.
    pub(crate) fn manifest(specs: &[&str]) -> Manifest {
        let file = |text: &str| File { sha256: Sha256::of(text), size: text.len() as u64 };
        Manifest {
            schema: SCHEMA.to_owned(),
            kubernetes: Version { major: 1, minor: 20, patch: 2 },
            origin: Origin::Source,
            suite: "bin/e2e_node.test".to_owned(),
            files: BTreeMap::from([
                ("bin/e2e_node.test".to_owned(), file("suite")),
                ("images/busybox.tar".to_owned(), file("image")),
            ]),
            images: BTreeMap::from([(
                "docker.io/library/busybox:1.29".to_owned(),
                Image { file: "images/busybox.tar".to_owned(), stand_in: None },
            )]),
            repositories: BTreeMap::new(),
            specs: specs.iter().map(|spec| (*spec).to_owned()).collect(),
        }
    }

    #[test]
    fn a_manifest_is_read_back_as_it_was_and_a_mutated_one_is_refused() {
        let manifest = manifest(&["a"]);
        let text = serde_json::to_string(&manifest).unwrap();
        assert_eq!(Manifest::read(text.as_bytes()).unwrap(), manifest);
        for (from, to) in [
            (SCHEMA, "nodekiln/kit-2"),
            ("\"1.20.2\"", "\"1.20\""),
            ("\"specs\"", "\"specks\""),
            ("\"suite\":\"bin/", "\"suite\":\"lib/"),
            ("\"file\":\"images/", "\"file\":\"elsewhere/"),
        ] {
            assert!(text.contains(from), "{from}");
            assert!(Manifest::read(text.replace(from, to).as_bytes()).is_err(), "{from}");
        }
    }

    #[test]
    fn registries_are_told_to_the_suite_as_yaml() {
        let mut manifest = manifest(&[]);
        assert_eq!(manifest.repository_list(), None);
        manifest.repositories.insert("gcRegistry".into(), "k8s.gcr.io".into());
        assert_eq!(manifest.repository_list().as_deref(), Some("gcRegistry: k8s.gcr.io\n"));
    }
}
