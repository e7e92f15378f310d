//! What a provider brings to a recipe that is built for it: its layer, and which disks it takes.
//!
//! Plain data: this room knows no provider, it is told of those that a recipe is loaded for.

use nodekiln_words::Bytes;
use serde::{Deserialize, Serialize};

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::document::Node;
use crate::recipe::{BootMode, DiskSpec, Recipe};
use crate::source::{Sources, Span};
use crate::write::size_text;

/// A provider that a recipe is loaded for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ForProvider {
    /// Its name, as under `providers:` in recipes.
    pub name: String,
    /// Its layer: YAML with the keys of `providers.NAME`, over which a recipe's own are merged.
    pub layer: String,
    /// The disks that it takes; `None` where nobody is to ask.
    pub disk: Option<DiskRules>,
}

/// Which disks a provider takes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct DiskRules {
    /// The virtual size is a multiple of it.
    pub multiple: Bytes,
    /// The largest virtual size; `None` where there is no bound below what a disk can have at all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub largest: Option<Bytes>,
    /// How the disk may be made to boot.
    pub boot: Vec<BootMode>,
}

impl Default for DiskRules {
    /// Whole MiB of any number, as every disk has them, for any firmware.
    fn default() -> Self {
        Self {
            multiple: Bytes(Bytes::MIB),
            largest: None,
            boot: vec![BootMode::Hybrid, BootMode::Bios, BootMode::Uefi],
        }
    }
}

impl DiskRules {
    /// The nearest size that the provider takes and that is not smaller, if there is one.
    #[must_use]
    pub fn fitting(&self, size: Bytes) -> Option<Bytes> {
        let fitting = size.get().checked_next_multiple_of(self.multiple.get().max(1))?;
        let fits = self.largest.is_none_or(|largest| fitting <= largest.get());
        fits.then_some(Bytes(fitting))
    }
}

/// Reports what `providers` do not take of the disk that `recipe` says; `merged` is its document.
pub(crate) fn check_disk(
    sources: &Sources,
    merged: &Node,
    recipe: &Recipe,
    providers: &[ForProvider],
    problems: &mut Diagnostics,
) {
    let disk = merged.get("disk");
    let place = |key: &str| {
        let value = disk.and_then(|disk| disk.get(key));
        // Where nobody says it, at the recipe's first line.
        value.map_or(Span { length: 1, ..merged.span }, |node| node.span)
    };
    let DiskSpec { size, boot, .. } = recipe.disk;
    for ForProvider { name, disk, .. } in providers {
        let Some(rules) = disk else { continue };
        if rules.fitting(size) != Some(size) {
            let (message, label, help) = size_problem(name, size, rules);
            problems.error(|| {
                Diagnostic::error(sources, place("size"), message).label(label).help(help)
            });
        }
        if !rules.boot.contains(&boot) {
            let message = format!("`{name}` cannot start a disk with `boot: {}`", boot.as_str());
            let words: Vec<&str> = rules.boot.iter().map(|boot| boot.as_str()).collect();
            let help = format!("set `disk.boot` to {}, or leave `{name}` out", words.join(" or "));
            problems.error(|| {
                Diagnostic::error(sources, place("boot"), message).label("not for it").help(help)
            });
        }
    }
}

/// Message, label and remedy for a size that a provider does not take.
fn size_problem(name: &str, size: Bytes, rules: &DiskRules) -> (String, String, String) {
    let (written, multiple) = (size_text(size), size_text(rules.multiple));
    match (rules.fitting(size), rules.largest) {
        (None, Some(largest)) => {
            let most = size_text(largest);
            let message = format!("a disk of {written} is larger than `{name}` takes");
            let help = format!("set `disk.size: {most}` or less, or leave `{name}` out");
            (message, format!("more than {most}"), help)
        }
        (fitting, _) => {
            let message = format!("`{name}` takes no disk of {written}");
            let fitting = size_text(fitting.unwrap_or(rules.multiple));
            let help = format!("set `disk.size: {fitting}`, or leave `{name}` out");
            (message, format!("not a multiple of {multiple}"), help)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_size_that_fits_is_found_or_there_is_none() {
        let rules = DiskRules {
            multiple: Bytes(Bytes::GIB),
            largest: Some(Bytes(8 * Bytes::GIB)),
            ..DiskRules::default()
        };
        assert_eq!(rules.fitting(Bytes(4 * Bytes::GIB)), Some(Bytes(4 * Bytes::GIB)));
        assert_eq!(rules.fitting(Bytes(4 * Bytes::GIB + 1)), Some(Bytes(5 * Bytes::GIB)));
        assert_eq!(rules.fitting(Bytes(8 * Bytes::GIB + 1)), None);
        assert_eq!(rules.fitting(Bytes(u64::MAX)), None);
        assert_eq!(DiskRules::default().fitting(Bytes(Bytes::MIB)), Some(Bytes(Bytes::MIB)));
    }
}
