//! The lock as a file, `NAME.lock.yaml`: one line for each thing that enters, so that two versions of
//! it can be compared line by line.

use std::collections::BTreeMap;
use std::path::Path;

use nodekiln_words::{Class, Failure, Result, ResultExt as _, Sha256};
use serde::{Deserialize, Serialize};

use super::Lock;

/// Names the format; raised when a field changes its meaning.
const FORMAT: &str = "nodekiln lock 1";

/// A lock and what it is for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockFile {
    /// The recipe's name.
    pub recipe: String,
    /// Machine architecture in the distribution's word.
    pub architecture: String,
    /// Version of nodekiln that made it.
    pub nodekiln: String,
    /// The lock.
    pub lock: Lock,
}

/// The file's first lines, which stand in every format.
#[derive(Deserialize)]
struct Head {
    format: String,
    nodekiln: String,
}

/// The file as a document.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "format")]
    _format: String,
    nodekiln: String,
    recipe: String,
    architecture: String,
    /// Digest of [`content`], which tells an edited file.
    sha256: Sha256,
    lock: Lock,
}

/// What the digest in the file is of.
#[derive(Serialize)]
struct Content<'a> {
    nodekiln: &'a str,
    recipe: &'a str,
    architecture: &'a str,
    lock: &'a Lock,
}

impl LockFile {
    /// Reads the file at `path`; `None` if there is none.
    ///
    /// # Errors
    /// `Input` when it is no lock, was edited, or cannot be read; `Unsupported` when it has another
    /// format.
    pub fn read(path: &Path) -> Result<Option<Self>> {
        match std::fs::read_to_string(path) {
            Ok(text) => Self::parse(&path.display().to_string(), &text).map(Some),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error)
                .or_fail(Class::Input, || format!("cannot read the lock {}", path.display())),
        }
    }

    /// Reads the text of a lock, which messages call `name`.
    ///
    /// # Errors
    /// As [`LockFile::read`].
    pub fn parse(name: &str, text: &str) -> Result<Self> {
        const ANEW: &str = "restore it from version control, or make a new one: remove it and run \
                            `nodekiln lock`";
        let broken = |error: &dyn std::fmt::Display| {
            Failure::input(format!("{name} is no lock that can be read: {error}")).with_help(ANEW)
        };
        let head: Head = serde_saphyr::from_str(text).map_err(|error| broken(&error))?;
        if head.format != FORMAT {
            let Head { format, nodekiln } = head;
            let message =
                format!("{name} has the format `{format}` of nodekiln {nodekiln}, not `{FORMAT}`");
            return Err(Failure::new(Class::Unsupported, message)
                .with_help("use that nodekiln, or make a new lock with this one"));
        }
        let document: Document = serde_saphyr::from_str(text).map_err(|error| broken(&error))?;
        let Document { nodekiln, recipe, architecture, sha256, lock, .. } = document;
        let file = Self { recipe, architecture, nodekiln, lock };
        let found = file.digest();
        if found != sha256 {
            let message =
                format!("{name} was edited: its content has the sha256 {found}, it says {sha256}");
            return Err(Failure::input(message).with_help(ANEW));
        }
        Ok(file)
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> String {
        let Self { recipe, architecture, nodekiln, lock } = self;
        let mut text = format!(
            "# What {recipe} is built from. `nodekiln lock --update` moves it; it is not to be edited.\n\
             format: {FORMAT}\nnodekiln: {}\nrecipe: {}\narchitecture: {architecture}\nsha256: {}\nlock:\n",
            json(nodekiln),
            json(recipe),
            json(&self.digest().to_string()),
        );
        mapping(&mut text, "archives", &lock.archives);
        text.push_str(if lock.trees.is_empty() { "  trees: {}\n" } else { "  trees:\n" });
        for (name, tree) in &lock.trees {
            text.push_str(&format!("    {}:\n", json(name)));
            text.push_str(&format!("      release: {}\n", json(&tree.release)));
            text.push_str(&format!("      asked: {}\n", json(&tree.asked)));
            text.push_str(if tree.packages.is_empty() {
                "      packages: []\n"
            } else {
                "      packages:\n"
            });
            for package in &tree.packages {
                text.push_str(&format!("        - {}\n", json(package)));
            }
        }
        mapping(&mut text, "files", &lock.files);
        mapping(&mut text, "images", &lock.images);
        text.push_str(&format!("  kubernetes: {}\n", json(&lock.kubernetes)));
        text.push_str(&format!("  kubeadm-images: {}\n", json(&lock.kubeadm_images)));
        text
    }

    fn digest(&self) -> Sha256 {
        let Self { recipe, architecture, nodekiln, lock } = self;
        Sha256::of(json(&Content { nodekiln, recipe, architecture, lock }))
    }
}

/// A value in one line of JSON, which is YAML, too.
fn json(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_default()
}

fn mapping(text: &mut String, key: &str, entries: &BTreeMap<String, impl Serialize>) {
    if entries.is_empty() {
        text.push_str(&format!("  {key}: {{}}\n"));
        return;
    }
    text.push_str(&format!("  {key}:\n"));
    for (name, entry) in entries {
        text.push_str(&format!("    {}: {}\n", json(name), json(entry)));
    }
}
