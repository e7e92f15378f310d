//! `nodekiln validate`: judge an image as it lies there, boot it and judge it again.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use nodekiln_providers::Artifact;
use nodekiln_validate::metadata::namespace;
use nodekiln_validate::rules::{self, Record, Rule};
use nodekiln_validate::{self as room, Way, provisioning};
use nodekiln_words::{Class, Event, Failure, Progress, Result, ResultExt as _, Sha256};

use crate::Context;
use crate::arguments::{Accelerator, Firmware, Tier, Validate};
use crate::exit::{self, print};
use crate::output::{EVIDENCE, ForOne, MANIFEST, Manifest};
use crate::progress::renderer;
use crate::registry;

/// Validates one artifact; the exit code is 1 where a rule failed.
pub(crate) fn validate(verb: &Validate, context: &Context) -> Result<ExitCode> {
    let Some(named) = &verb.image else { return list_rules(verb) };
    let progress = renderer(context.global.progress);
    let subject = Subject::find(named, verb, &*progress)?; // 1. which file, and what is said of it
    let machine = machine(verb, &subject, &*progress, context)?;
    let way = if verb.config_drive { Way::ConfigDrive } else { Way::Usual };
    let tier = match verb.tier {
        Tier::Static => room::Tier::Static,
        Tier::Boot => room::Tier::Boot,
        Tier::Kubeadm => room::Tier::Kubeadm,
    };
    if tier.boots()
        && provisioning::needs_namespace(&machine.profile, way)
        && !namespace::privileged()
    {
        let arguments = std::env::args_os().skip(1);
        let Err(failure) = namespace::own_user_namespace(arguments); // comes back here as root
        if failure.class() != Class::Unsupported {
            return Err(provisioning::no_network(failure));
        }
        // The rules before a boot need none; what needs it fails with the remedy.
        progress.event(Event::Note(format!("no user namespace for a boot: {failure}")));
    }
    // Without a boot there is little to keep: the report is what is printed.
    let unkept = (!tier.boots() && verb.out.is_none()).then(tempfile::tempdir).transpose();
    let unkept = unkept.or_io(|| "make a folder for the report".into())?;
    let request = room::Request {
        provider: subject.provider.clone(),
        tier,
        machine,
        way,
        accelerator: match verb.accelerator {
            Accelerator::Auto => room::Accelerator::Auto,
            Accelerator::Kvm => room::Accelerator::Kvm,
            Accelerator::Tcg => room::Accelerator::Tcg,
        },
        expected_digest: subject.artifact().map(|artifact| artifact.sha256),
        expected_payload: subject.payload(),
        out: match (&verb.out, &unkept) {
            (Some(out), _) => out.clone(),
            (None, Some(unkept)) => unkept.path().to_owned(),
            (None, None) => subject.evidence(),
        },
        digests: verb.digests,
        image: subject.image,
        expect: subject.manifest.map(|manifest| manifest.expect),
        patience: verb.patience,
        kernel: None,
    };
    let report = room::validate(&request, &*progress, &context.cancel)?; // 2. judge, keep evidence
    if verb.json {
        print(&report.json())?;
    } else {
        print(&report.text())?;
        if unkept.is_none() {
            print(&format!("evidence: {}\n", request.out.display()))?;
        }
    }
    match report.result() {
        Ok(()) => Ok(ExitCode::SUCCESS),
        Err(failure) => Ok(exit::report(&failure, &context.global)),
    }
}

/// Prints every rule.
fn list_rules(verb: &Validate) -> Result<ExitCode> {
    let records: Vec<Record> = rules::all().map(Rule::record).collect();
    if verb.json {
        let json = serde_json::to_string_pretty(&records).or_io(|| "print the rules".into())?;
        print(&format!("{json}\n"))?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut text = String::new();
    for Record { id, title, tier, severity, applies, .. } in &records {
        let _ = writeln!(
            text,
            "{:<8} {:<9} {id:<24} {title} ({applies})",
            tier.as_str(),
            severity.as_str()
        );
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// The file to judge, and what is said of it.
struct Subject {
    image: PathBuf,
    /// Folder of the image.
    folder: PathBuf,
    /// Whose artifact it is, where a manifest or the command line says so.
    provider: Option<String>,
    /// The manifest that speaks of it.
    manifest: Option<Manifest>,
}

impl Subject {
    /// What the command line names: a file, or an artifact of a build's folder or manifest.
    fn find(named: &Path, verb: &Validate, progress: &dyn Progress) -> Result<Self> {
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
            return Self::of_build(&path, verb);
        }
        if !named.is_file() {
            let text = format!("there is no image file {}", named.display());
            return Err(Failure::input(text)
                .with_help("`nodekiln build RECIPE` prints where it puts its artifacts"));
        }
        let folder = folder_of(named);
        let manifest = manifest(named, verb, &folder, progress)?;
        let provider = match (&verb.provider, &manifest) {
            (None, Some(manifest)) => Some(whose(manifest, named)?),
            (provider, _) => provider.clone(),
        };
        Ok(Self { image: named.to_owned(), folder, provider, manifest })
    }

    /// The artifact of a build that the command line means: the provider's, or the only one.
    fn of_build(path: &Path, verb: &Validate) -> Result<Self> {
        let manifest = Manifest::read(path)?.ok_or_else(|| {
            Failure::input(format!("there is no {}", path.display()))
                .with_help("give an image file, or the folder that `nodekiln build` wrote")
        })?;
        let chosen = match (&verb.provider, &manifest.artifacts[..]) {
            (None, [only]) => Some(only),
            (None, _) => None,
            (Some(name), all) => all.iter().find(|artifact| artifact.provider == *name),
        };
        let Some(artifact) = chosen else {
            let text = match &verb.provider {
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
    fn artifact(&self) -> Option<&Artifact> {
        named_in(self.manifest.as_ref()?, &self.image)
    }

    /// Digest of the disk inside, as the manifest has it.
    fn payload(&self) -> Option<Sha256> {
        let named =
            self.artifact().and_then(|own| self.manifest.as_ref()?.providers.get(&own.provider));
        named.or(self.of_provider()).map(|one| one.payload)
    }

    /// What the manifest says of the provider's disk and machine.
    fn of_provider(&self) -> Option<&ForOne> {
        self.manifest.as_ref()?.providers.get(self.provider.as_ref()?)
    }

    /// Where the evidence goes: artifacts of several providers lie in one folder, and each keeps its own.
    fn evidence(&self) -> PathBuf {
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

/// The machine to boot on: that of the image's provider, as its manifest has it, else a plain virtio one, as
/// the command line sizes it.
fn machine(
    verb: &Validate,
    subject: &Subject,
    progress: &dyn Progress,
    context: &Context,
) -> Result<room::Machine> {
    let profile = match (subject.of_provider(), &subject.provider) {
        (Some(one), _) => one.machine.clone(),
        (None, Some(name)) => registry::by_name(name, progress, &context.cancel)?.machine(),
        (None, None) => room::MachineProfile::virtio(),
    };
    let usual = profile.firmware.first().copied().unwrap_or(room::Firmware::Bios);
    let firmware = match verb.firmware {
        Some(Firmware::Bios) => room::Firmware::Bios,
        Some(Firmware::Uefi) => room::Firmware::Uefi,
        None => usual,
    };
    if !profile.firmware.contains(&firmware) {
        let message =
            format!("no machine of the image's provider starts it by {}", firmware.as_str());
        let help = format!("leave out `--firmware`, or say `--firmware {}`", usual.as_str());
        return Err(Failure::input(message).with_help(help));
    }
    let machine = room::Machine::default();
    Ok(room::Machine { profile, firmware, memory: verb.memory, cpus: verb.cpus, ..machine })
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
    use nodekiln_words::Silent;

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
        Subject::find(verb.image.as_deref().unwrap(), &verb, &Silent)
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
