//! The providers: those in the tree, which no other room knows all of, and plugins by their names.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::sync::Arc;

use nodekiln_aws::Aws;
use nodekiln_azure::Azure;
use nodekiln_gce::Gce;
use nodekiln_plugins::{Executable, Limits, PluginProvider, find};
use nodekiln_providers::{FileName, OpenStack, Provider, Qemu, Raw};
use nodekiln_recipes::provider::ForProvider;
use nodekiln_vsphere::Vsphere;
use nodekiln_words::{Cancel, Event, Failure, Progress, Result};

use crate::output::own_names;

/// A provider, wherever it comes from.
pub(crate) type Known = Arc<dyn Provider>;

/// The providers in the tree, by name.
pub(crate) fn in_tree() -> Vec<Known> {
    vec![
        Arc::new(Aws),
        Arc::new(Azure),
        Arc::new(Gce),
        Arc::new(OpenStack),
        Arc::new(Qemu),
        Arc::new(Raw),
        Arc::new(Vsphere),
    ]
}

/// The provider in the tree that is called `name`.
pub(crate) fn own(name: &str) -> Option<Known> {
    in_tree().into_iter().find(|provider| provider.name() == name)
}

/// Where plugins are looked for.
pub(crate) fn search_path() -> OsString {
    std::env::var_os("PATH").unwrap_or_default()
}

/// The provider called `name`: one in the tree, else the plugin of that name on PATH, which is asked what it is.
/// No other plugin is looked at.
///
/// # Errors
/// When there is none, where the help lists those in the tree, and when the plugin does not answer well.
pub(crate) fn by_name(name: &str, progress: &dyn Progress, cancel: &Cancel) -> Result<Known> {
    let plugin = find(name, &search_path());
    if let Some(own) = own(name) {
        if let Some(path) = plugin {
            let text = format!(
                "`{name}` is nodekiln's own provider; the plugin {} is left alone",
                path.display()
            );
            progress.event(Event::Note(text));
        }
        return Ok(own);
    }
    let Some(path) = plugin else {
        let in_tree = in_tree();
        let names: Vec<_> = in_tree.iter().map(|provider| provider.name()).collect();
        return Err(Failure::input(format!("there is no provider `{name}`")).with_help(format!(
            "the providers are: {}; others are executables nodekiln-provider-NAME on PATH",
            names.join(", ")
        )));
    };
    let plugin = PluginProvider::load(Executable::at(&path)?, Limits::default(), cancel)?;
    Ok(Arc::new(plugin))
}

/// The providers called `names`, each once, in this order.
///
/// # Errors
/// As [`by_name`].
pub(crate) fn chosen(
    names: &[String],
    progress: &dyn Progress,
    cancel: &Cancel,
) -> Result<Vec<Known>> {
    let mut chosen: Vec<Known> = Vec::new();
    for name in names {
        if !chosen.iter().any(|known| known.name() == name) {
            chosen.push(by_name(name, progress, cancel)?);
        }
    }
    Ok(chosen)
}

/// Fails where two of `providers` would write the same file for an image of this name, or one what nodekiln
/// itself writes.
///
/// # Errors
/// Then; it names the two.
pub(crate) fn refuse_collisions(providers: &[Known], image: &str) -> Result<()> {
    let own = own_names(providers.iter().map(|provider| provider.name()));
    let mut writers: BTreeMap<String, String> =
        own.into_iter().map(|file| (file, "nodekiln".to_owned())).collect();
    for provider in providers {
        let files = provider.files(image).into_iter().map(|FileName { file, .. }| file);
        for file in files.chain(provider.documents(image)) {
            let name = provider.name().to_owned();
            if let Some(other) = writers.insert(file.clone(), name.clone()) {
                let text = format!("`{other}` and `{name}` would both write {file}");
                return Err(Failure::input(text).with_help(
                    "leave one of them out, or build for it with another `--out FOLDER`",
                ));
            }
        }
    }
    Ok(())
}

/// What `providers` bring to a recipe that is built for them.
pub(crate) fn terms(providers: &[Known]) -> Vec<ForProvider> {
    let terms = |provider: &Known| ForProvider {
        name: provider.name().to_owned(),
        layer: provider.layer().to_owned(),
        disk: Some(provider.machine().accepts),
    };
    providers.iter().map(terms).collect()
}

#[cfg(test)]
mod tests {
    use nodekiln_disk::Disk;
    use nodekiln_providers::{ArtifactRequest, ArtifactWriter, MachineProfile};
    use nodekiln_words::{Class, Silent};

    use super::*;

    #[test]
    fn names_are_unique_and_sorted() {
        let all = in_tree();
        let names: Vec<_> = all.iter().map(|provider| provider.name()).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
    }

    #[test]
    fn no_two_write_the_same_file() {
        refuse_collisions(&in_tree(), "x").unwrap();
        let twins: [Known; 2] = [Arc::new(Raw), Arc::new(Raw)];
        let failure = refuse_collisions(&twins, "x").unwrap_err();
        assert_eq!(failure.to_string(), "`raw` and `raw` would both write x.raw");
    }

    /// Writes one file, which a document of another provider is called after.
    struct Documents(&'static str);

    impl Provider for Documents {
        fn name(&self) -> &str {
            "documents"
        }
        fn description(&self) -> &str {
            ""
        }
        fn layer(&self) -> &str {
            ""
        }
        fn machine(&self) -> MachineProfile {
            MachineProfile::virtio()
        }
        fn files(&self, image: &str) -> Vec<FileName> {
            vec![FileName::new(format!("{image}{}", self.0), "json")]
        }
        fn begin(
            &self,
            _: &Disk,
            _: &ArtifactRequest,
            _: &Cancel,
        ) -> Result<Box<dyn ArtifactWriter>> {
            Err(Failure::io("nobody asks for it"))
        }
    }

    #[test]
    fn documents_are_files_too() {
        for (own, ending) in [
            (Arc::new(Qemu) as Known, ".properties.json"),
            (Arc::new(OpenStack), ".openstack.properties.json"),
        ] {
            let name = own.name().to_owned();
            let both = [own, Arc::new(Documents(ending))];
            let failure = refuse_collisions(&both, "x").unwrap_err();
            let expected = format!("`{name}` and `documents` would both write x{ending}");
            assert_eq!(failure.to_string(), expected);
        }
        let apart: [Known; 2] = [Arc::new(Qemu), Arc::new(Documents(".json"))];
        refuse_collisions(&apart, "x").unwrap();
        for (image, ending) in
            [("manifest", ".json"), ("bom", ".raw.cdx.json"), ("logs", ".failed"), ("evidence", "")]
        {
            let providers: [Known; 2] = [Arc::new(Raw), Arc::new(Documents(ending))];
            let failure = refuse_collisions(&providers, image).unwrap_err().to_string();
            let expected = format!("`nodekiln` and `documents` would both write {image}{ending}");
            assert_eq!(failure, expected);
        }
    }

    #[test]
    fn an_unknown_provider_is_refused_with_the_list() {
        for name in ["nimbus", "../nimbus", ""] {
            let Err(failure) = by_name(name, &Silent, &Cancel::default()) else {
                panic!("`{name}` is no provider")
            };
            assert_eq!(failure.class(), Class::Input);
            let help = failure.help().unwrap();
            let listed = "the providers are: aws, azure, gce, openstack, qemu, raw, vsphere; ";
            assert!(help.starts_with(listed), "{help}");
        }
    }

    #[test]
    fn a_provider_named_twice_is_chosen_once() {
        let names = ["raw", "aws", "raw"].map(str::to_owned);
        let chosen = chosen(&names, &Silent, &Cancel::default()).unwrap();
        let names: Vec<_> = chosen.iter().map(|provider| provider.name()).collect();
        assert_eq!(names, ["raw", "aws"]);
    }
}
