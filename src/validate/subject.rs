//! Which artifacts a validation is about, and what is said of them.

use std::path::{Path, PathBuf};

use nodekiln_providers::Artifact;
use nodekiln_words::{Event, Failure, Progress, Result, Sha256};

use crate::arguments::Validate;
use crate::output::{EVIDENCE, ForOne, MANIFEST, Manifest};

/// The word that means every artifact of a build.
const ALL: &str = "all";

/// What the command line names: one file or artifact, or several artifacts of a build.
///
/// # Errors
/// When there is no such file or artifact, or it is not clear which is meant.
pub(super) fn subjects(
    named: &Path,
    verb: &Validate,
    progress: &dyn Progress,
) -> Result<Vec<Subject>> {
    let every = verb.provider.iter().any(|name| name == ALL);
    let names: Vec<Option<String>> = match &verb.provider[..] {
        [] => vec![None],
        _ if every => all(named)?.into_iter().map(Some).collect(),
        names => names.iter().cloned().map(Some).collect(),
    };
    let mut subjects: Vec<Subject> = Vec::new();
    for name in names {
        let subject = Subject::find(named, name.as_deref(), verb, progress)?;
        if !subjects.iter().any(|known| known.provider == subject.provider) {
            subjects.push(subject);
        }
    }
    Ok(subjects)
}

/// The providers of a build's artifacts.
fn all(named: &Path) -> Result<Vec<String>> {
    let path = if named.is_dir() { named.join(MANIFEST) } else { named.to_owned() };
    let is_manifest = path.file_name().is_some_and(|name| name == MANIFEST);
    let manifest = if is_manifest { Manifest::read(&path)? } else { None };
    let manifest = manifest.ok_or_else(|| {
        let text = format!(
            "`--provider {ALL}` means a build's artifacts, and {} is none",
            named.display()
        );
        Failure::input(text)
            .with_help("give the folder that `nodekiln build` wrote, or its manifest")
    })?;
    Ok(manifest.artifacts.into_iter().map(|artifact| artifact.provider).collect())
}

/// The file to judge, and what is said of it.
pub(super) struct Subject {
    pub(super) image: PathBuf,
    /// Folder of the image.
    pub(super) folder: PathBuf,
    /// Whose artifact it is, where a manifest or the command line says so.
    pub(super) provider: Option<String>,
    /// The manifest that speaks of it.
    pub(super) manifest: Option<Manifest>,
}

impl Subject {
    /// What the command line names: a file, or an artifact of a build's folder or manifest.
    ///
    /// # Errors
    /// When there is no such file, or it is not clear which artifact is meant.
    pub(super) fn find(
        named: &Path,
        provider: Option<&str>,
        verb: &Validate,
        progress: &dyn Progress,
    ) -> Result<Self> {
        let build = match named.file_name() {
            _ if named.is_dir() => Some(named.join(MANIFEST)),
            Some(name) if name == MANIFEST => Some(named.to_owned()),
            _ => None,
        };
        if let Some(path) = build {
            if let Some(other) = &verb.manifest {
                let text = format!("{} is judged by {}", named.display(), path.display());
                return Err(Failure::input(text).with_help(format!(
                    "leave out `--manifest {}`, or name an image file",
                    other.display()
                )));
            }
            return Self::of_build(&path, provider);
        }
        if !named.is_file() {
            let text = format!("there is no image file {}", named.display());
            return Err(Failure::input(text)
                .with_help("`nodekiln build RECIPE` prints where it puts its artifacts"));
        }
        let folder = folder_of(named);
        let manifest = manifest(named, verb, &folder, progress)?;
        let provider = match (provider, &manifest) {
            (None, Some(manifest)) => Some(whose(manifest, named)?),
            (provider, _) => provider.map(str::to_owned),
        };
        Ok(Self { image: named.to_owned(), folder, provider, manifest })
    }

    /// The artifact of a build that the command line means: the provider's, or the only one.
    fn of_build(path: &Path, provider: Option<&str>) -> Result<Self> {
        let manifest = Manifest::read(path)?.ok_or_else(|| {
            Failure::input(format!("there is no {}", path.display()))
                .with_help("give an image file, or the folder that `nodekiln build` wrote")
        })?;
        let chosen = match (provider, &manifest.artifacts[..]) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(name), all) => all.iter().find(|artifact| artifact.provider == name),
        };
        let Some(artifact) = chosen else {
            let text = match provider {
                Some(name) => format!("{} has no artifact of `{name}`", path.display()),
                None => format!("{} has {} artifacts", path.display(), manifest.artifacts.len()),
            };
            return Err(Failure::input(text).with_help(one_of(&manifest)));
        };
        let folder = folder_of(path);
        let (image, provider) = (folder.join(&artifact.file), Some(artifact.provider.clone()));
        Ok(Self { image, folder, provider, manifest: Some(manifest) })
    }

    /// What the manifest says of the file with this name.
    pub(super) fn artifact(&self) -> Option<&Artifact> {
        named_in(self.manifest.as_ref()?, &self.image)
    }

    /// Digest of the disk inside, as the manifest has it.
    pub(super) fn payload(&self) -> Option<Sha256> {
        let named =
            self.artifact().and_then(|own| self.manifest.as_ref()?.providers.get(&own.provider));
        named.or(self.of_provider()).map(|one| one.payload)
    }

    /// What the manifest says of the provider's disk and machine.
    pub(super) fn of_provider(&self) -> Option<&ForOne> {
        self.manifest.as_ref()?.providers.get(self.provider.as_ref()?)
    }

    /// Where the evidence goes: artifacts of several providers lie in one folder, and each keeps its own.
    pub(super) fn evidence(&self) -> PathBuf {
        let evidence = self.folder.join(EVIDENCE);
        self.provider.as_ref().map_or(evidence.clone(), |name| evidence.join(name))
    }
}

/// Whose artifact the file `named` is: the one of that name, or the only one there is.
fn whose(manifest: &Manifest, named: &Path) -> Result<String> {
    let artifact = match (named_in(manifest, named), &manifest.artifacts[..]) {
        (Some(artifact), _) | (None, [artifact]) => artifact,
        (None, all) => {
            let text = format!(
                "the manifest has {} artifacts, and {} is none of them",
                all.len(),
                named.display()
            );
            return Err(Failure::input(text).with_help(one_of(manifest)));
        }
    };
    Ok(artifact.provider.clone())
}

/// The remedy where it is not known which artifact is meant.
fn one_of(manifest: &Manifest) -> String {
    let names: Vec<&str> =
        manifest.artifacts.iter().map(|artifact| artifact.provider.as_str()).collect();
    format!("name one of them: `--provider {}`", names.join("`, `--provider "))
}

fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or_else(|| Path::new(".")).to_owned()
}

fn named_in<'a>(manifest: &'a Manifest, image: &Path) -> Option<&'a Artifact> {
    let name = image.file_name()?.to_str()?;
    manifest.artifacts.iter().find(|artifact| artifact.file == name)
}

/// The manifest that speaks of the image: the one named, or the one beside it.
fn manifest(
    named: &Path,
    verb: &Validate,
    folder: &Path,
    progress: &dyn Progress,
) -> Result<Option<Manifest>> {
    let path: PathBuf = verb.manifest.clone().unwrap_or_else(|| folder.join(MANIFEST));
    let manifest = match Manifest::read(&path) {
        Ok(None) if verb.manifest.is_some() => {
            return Err(Failure::input(format!("there is no {}", path.display())));
        }
        // Another program's file of that name, beside an image that is not ours.
        Err(failure) if verb.manifest.is_none() => {
            let text = format!("{failure}; the image is judged without it");
            progress.event(Event::Warning(text));
            None
        }
        read => read?,
    };
    // A manifest speaks of its own artifacts; an image that merely lies beside one is not judged by it.
    let speaks = |manifest: &Manifest| named_in(manifest, named).is_some();
    Ok(manifest.filter(|manifest| verb.manifest.is_some() || speaks(manifest)))
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;
    use nodekiln_words::{Class, Silent};

    use super::*;
    use crate::arguments::{Arguments, Verb};

    /// A folder with a manifest of artifacts of these providers, and a file of another name.
    fn build(providers: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let digest = Sha256::of("x");
        let artifact = |name: &&str| {
            let file = format!("node.{name}");
            fs_err::write(folder.path().join(&file), name).unwrap();
            serde_json::json!({
                "provider": name, "file": file, "format": "raw", "size": 1, "sha256": digest,
                "allocated": 1,
            })
        };
        let artifacts: Vec<_> = providers.iter().map(artifact).collect();
        let manifest = serde_json::json!({
            "schema": "x", "name": "node", "nodekiln": "0", "recipe": digest, "source_date": "x",
            "kubernetes": null, "disk_size": 1, "compression": "default", "artifacts": artifacts,
            "files": {}, "nodes": {}, "providers": {}, "expect": {},
        });
        fs_err::write(folder.path().join(MANIFEST), manifest.to_string()).unwrap();
        fs_err::write(folder.path().join("copy.img"), "x").unwrap();
        folder
    }

    fn find(folder: &Path, words: &[&str]) -> Result<Subject> {
        let place = |word: &&str| word.replace("DIR", &folder.display().to_string());
        let words = ["nodekiln", "validate"].iter().chain(words).map(place);
        let Verb::Validate(verb) = Arguments::parse_from(words).verb else { panic!("validate") };
        let found = subjects(verb.image.as_deref().unwrap(), &verb, &Silent);
        found.map(|mut found| found.remove(0))
    }

    fn provider(folder: &Path, words: &[&str]) -> Option<String> {
        find(folder, words).unwrap().provider
    }

    #[test]
    fn a_file_that_a_manifest_does_not_name_is_the_only_artifact_or_the_named_providers() {
        let words = ["DIR/copy.img", "--manifest", "DIR/manifest.json"];
        let (one, two) = (build(&["aws"]), build(&["aws", "azure"]));
        assert_eq!(provider(one.path(), &words).as_deref(), Some("aws"));
        let failure = find(two.path(), &words).err().unwrap();
        assert_eq!(failure.class(), Class::Input);
        assert!(failure.to_string().contains("has 2 artifacts"), "{failure}");
        assert!(failure.help().unwrap().contains("`--provider azure`"), "{failure:?}");
        let named = [&words[..], &["--provider", "azure"]].concat();
        assert_eq!(provider(two.path(), &named).as_deref(), Some("azure"));
        assert_eq!(provider(two.path(), &["DIR/node.azure"]).as_deref(), Some("azure"));
        // Beside a manifest that does not speak of it, it is nobody's.
        assert_eq!(provider(two.path(), &words[..1]), None);
    }

    #[test]
    fn several_artifacts_are_named_one_by_one_or_all_together() {
        let three = build(&["aws", "azure", "gce"]);
        let found = |words: &[&str]| {
            let place = |word: &&str| word.replace("DIR", &three.path().display().to_string());
            let words = ["nodekiln", "validate"].iter().chain(words).map(place);
            let Verb::Validate(verb) = Arguments::parse_from(words).verb else {
                panic!("validate")
            };
            let found = subjects(verb.image.as_deref().unwrap(), &verb, &Silent)?;
            Ok::<Vec<_>, Failure>(
                found.into_iter().filter_map(|subject| subject.provider).collect(),
            )
        };
        assert_eq!(found(&["DIR", "--provider", "gce,aws,gce"]).unwrap(), ["gce", "aws"]);
        assert_eq!(found(&["DIR", "--provider", "all"]).unwrap(), ["aws", "azure", "gce"]);
        let failure = found(&["DIR/node.aws", "--provider", "all"]).unwrap_err();
        assert!(failure.help().unwrap().contains("folder"), "{failure:?}");
        assert_eq!(found(&["DIR", "--provider", "aws,raw"]).unwrap_err().class(), Class::Input);
    }

    #[test]
    fn a_folder_has_its_own_manifest() {
        let one = build(&["aws"]);
        for place in ["DIR", "DIR/manifest.json"] {
            assert_eq!(provider(one.path(), &[place]).as_deref(), Some("aws"));
            let failure = find(one.path(), &[place, "--manifest", "other.json"]).err().unwrap();
            assert_eq!(failure.class(), Class::Input);
            assert!(failure.help().unwrap().contains("--manifest other.json"), "{failure:?}");
        }
    }

    #[test]
    fn no_two_artifacts_share_a_folder_of_evidence() {
        let build = build(&["qemu", "raw", "aws"]);
        let names = ["node.qemu", "node.raw", "node.aws", "copy.img"];
        let folder =
            |name: &&str| find(build.path(), &[&format!("DIR/{name}")]).unwrap().evidence();
        let folders: std::collections::BTreeSet<_> = names.iter().map(folder).collect();
        assert_eq!(folders.len(), names.len(), "{folders:?}");
    }
}
