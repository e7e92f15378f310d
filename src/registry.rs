//! The providers in the tree. No other room knows them all.

use nodekiln_aws::Aws;
use nodekiln_azure::Azure;
use nodekiln_gce::Gce;
use nodekiln_providers::{OpenStack, Provider, Qemu, Raw};
use nodekiln_recipes::provider::ForProvider;
use nodekiln_vsphere::Vsphere;
use nodekiln_words::{Class, Failure, Result};

/// The providers, by name.
pub(crate) fn all() -> &'static [&'static dyn Provider] {
    &[&Aws, &Azure, &Gce, &OpenStack, &Qemu, &Raw, &Vsphere]
}

/// The provider called `name`.
///
/// # Errors
/// When there is none; the help lists those there are.
pub(crate) fn by_name(name: &str) -> Result<&'static dyn Provider> {
    all().iter().copied().find(|provider| provider.name() == name).ok_or_else(|| {
        let names: Vec<_> = all().iter().map(|provider| provider.name()).collect();
        Failure::new(Class::Input, format!("there is no provider `{name}`"))
            .with_help(format!("the providers are: {}", names.join(", ")))
    })
}

/// The providers called `names`, each once, in this order.
///
/// # Errors
/// As [`by_name`].
pub(crate) fn chosen(names: &[String]) -> Result<Vec<&'static dyn Provider>> {
    let mut chosen: Vec<&'static dyn Provider> = Vec::new();
    for name in names {
        let provider = by_name(name)?;
        if !chosen.iter().any(|known| known.name() == provider.name()) {
            chosen.push(provider);
        }
    }
    Ok(chosen)
}

/// What `providers` bring to a recipe that is built for them.
pub(crate) fn terms(providers: &[&dyn Provider]) -> Vec<ForProvider> {
    let terms = |provider: &&dyn Provider| ForProvider {
        name: provider.name().to_owned(),
        layer: provider.layer().to_owned(),
        disk: Some(provider.machine().accepts),
    };
    providers.iter().map(terms).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_and_sorted() {
        let names: Vec<_> = all().iter().map(|provider| provider.name()).collect();
        let mut sorted = names.clone();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(names, sorted);
    }

    #[test]
    fn no_two_write_the_same_file() {
        let mut files: Vec<_> =
            all().iter().flat_map(|provider| provider.files("x")).map(|file| file.file).collect();
        let all = files.len();
        files.sort_unstable();
        files.dedup();
        assert_eq!(files.len(), all, "{files:?}");
    }

    #[test]
    fn an_unknown_provider_is_refused_with_the_list() {
        let Err(failure) = by_name("nimbus") else { panic!("nimbus is no provider") };
        assert_eq!(failure.class(), Class::Input);
        assert_eq!(
            failure.help(),
            Some("the providers are: aws, azure, gce, openstack, qemu, raw, vsphere")
        );
    }

    #[test]
    fn a_provider_named_twice_is_chosen_once() {
        let names = ["raw", "aws", "raw"].map(str::to_owned);
        let chosen = chosen(&names).unwrap();
        let names: Vec<_> = chosen.iter().map(|provider| provider.name()).collect();
        assert_eq!(names, ["raw", "aws"]);
    }
}
