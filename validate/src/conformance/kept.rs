//! What became of the specs so far, kept after each batch.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nodekiln_words::{Failure, Result, ResultExt as _, Sha256};
use serde::{Deserialize, Serialize};

use super::Spec;

/// The file, in the folder of node conformance.
const RESULTS: &str = "results.json";
/// What `schema` says in it.
const SCHEMA: &str = "nodekiln/conformance-results-1";
/// Beginnings of the names of the suite's own files beside it.
pub(super) const BATCH: &str = "batch-";

/// Results on one image with one kit.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Results {
    schema: String,
    image: Sha256,
    kit: Sha256,
    specs: BTreeMap<String, Spec>,
}

/// The results, on disk whenever [`Kept::add`] returns.
#[derive(Debug)]
pub(super) struct Kept {
    path: PathBuf,
    results: Results,
}

impl Kept {
    /// Opens `folder`: with `resume` the results that are there, else none, and what an earlier run left is
    /// removed.
    ///
    /// # Errors
    /// When the results that are there are of another image or kit, or not readable.
    pub(super) fn open(folder: &Path, image: Sha256, kit: Sha256, resume: bool) -> Result<Self> {
        let making = || format!("make the folder {}", folder.display());
        fs_err::create_dir_all(folder).or_io(making)?;
        let path = folder.join(RESULTS);
        let new = Results { schema: SCHEMA.to_owned(), image, kit, specs: BTreeMap::new() };
        let there = path.exists();
        if !there || !resume {
            clear(folder)?;
            return Ok(Self { path, results: new });
        }
        let again = "leave out `--resume` to begin again";
        let bytes =
            fs_err::read(&path).or_io(|| "read the results of an earlier run".to_owned())?;
        let results: Results = serde_json::from_slice(&bytes).map_err(|error| {
            Failure::input(format!("{} is not readable", path.display()))
                .with_source(error)
                .with_help(again)
        })?;
        for (what, then, now) in [("image", results.image, image), ("kit", results.kit, kit)] {
            if then != now {
                let text = format!("the earlier run had another {what}: sha256 {then}, now {now}");
                return Err(Failure::input(text).with_help(again));
            }
        }
        Ok(Self { path, results })
    }

    /// What is known of each spec.
    pub(super) fn specs(&self) -> &BTreeMap<String, Spec> {
        &self.results.specs
    }

    /// Adds what came of a batch.
    pub(super) fn add(&mut self, specs: &BTreeMap<String, Spec>) -> Result<()> {
        self.results.specs.extend(specs.clone());
        let writing = || format!("write {}", self.path.display());
        let text = serde_json::to_vec_pretty(&self.results).or_io(writing)?;
        let partial = self.path.with_extension("partial");
        fs_err::write(&partial, text).or_io(writing)?;
        fs_err::File::open(&partial).and_then(|file| file.sync_all()).or_io(writing)?;
        fs_err::rename(&partial, &self.path).or_io(writing)
    }
}

/// Removes what a run leaves, by name.
pub(crate) fn clear(folder: &Path) -> Result<()> {
    let clearing = || format!("clear {}", folder.display());
    for entry in fs_err::read_dir(folder).or_io(clearing)? {
        let entry = entry.or_io(clearing)?;
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let ours = name.starts_with(BATCH) && (name.ends_with(".xml") || name.ends_with(".log"));
        if ours || name == RESULTS {
            fs_err::remove_file(entry.path()).or_io(clearing)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::conformance::Outcome;

    #[test]
    fn a_run_goes_on_only_with_the_same_image_and_kit() {
        let folder = tempfile::tempdir().unwrap();
        let digests = ["image", "kit", "other"].map(Sha256::of);
        let [image, kit, other] = digests;
        let open = |image, kit, resume| Kept::open(folder.path(), image, kit, resume);
        let spec = Spec::once(Outcome::Failed("no".into()), 1.5);
        let results = BTreeMap::from([("a".to_owned(), spec)]);
        open(image, kit, true).unwrap().add(&results).unwrap();
        assert_eq!(open(image, kit, true).unwrap().specs(), &results);
        for (image, kit, what) in [(other, kit, "image"), (image, other, "kit")] {
            let failure = open(image, kit, true).unwrap_err();
            assert!(failure.to_string().contains(&format!("another {what}")), "{failure}");
        }
        fs_err::write(folder.path().join(RESULTS), "{").unwrap();
        assert!(open(image, kit, true).is_err());
        fs_err::write(folder.path().join("batch-1.xml"), "x").unwrap();
        fs_err::write(folder.path().join("notes.txt"), "mine").unwrap();
        assert!(open(image, kit, false).unwrap().specs().is_empty());
        assert!(!folder.path().join("batch-1.xml").exists());
        assert!(folder.path().join("notes.txt").exists());
    }
}
