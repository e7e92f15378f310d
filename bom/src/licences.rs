//! Licences that packages declare in machine-readable copyright files.
//!
//! Source: the copyright format 1.0 of Debian policy (DEP-5). Its short names are translated to
//! SPDX identifiers; names that have none, such as `public-domain`, are left out.

use std::collections::BTreeSet;

use nodekiln_recipes::inventory::TreeReader;
use nodekiln_words::Result;

use crate::document::{License, LicenseChoice};
use crate::dpkg::{read, stanzas};

/// Short names in lower case and their SPDX identifiers.
const NAMES: &[(&str, &str)] = &[
    ("agpl-3", "AGPL-3.0-only"),
    ("agpl-3+", "AGPL-3.0-or-later"),
    ("apache-2", "Apache-2.0"),
    ("apache-2.0", "Apache-2.0"),
    ("artistic", "Artistic-1.0-Perl"),
    ("artistic-2.0", "Artistic-2.0"),
    ("bsd-2-clause", "BSD-2-Clause"),
    ("bsd-3-clause", "BSD-3-Clause"),
    ("bsd-4-clause", "BSD-4-Clause"),
    ("bsd-4-clause-uc", "BSD-4-Clause-UC"),
    ("bsl-1.0", "BSL-1.0"),
    ("cc-by-4.0", "CC-BY-4.0"),
    ("cc-by-sa-3.0", "CC-BY-SA-3.0"),
    ("cc-by-sa-4.0", "CC-BY-SA-4.0"),
    ("cc0", "CC0-1.0"),
    ("cc0-1.0", "CC0-1.0"),
    ("cddl-1.0", "CDDL-1.0"),
    ("curl", "curl"),
    ("expat", "MIT"),
    ("gfdl-1.1+", "GFDL-1.1-or-later"),
    ("gfdl-1.2+", "GFDL-1.2-or-later"),
    ("gfdl-1.3", "GFDL-1.3-only"),
    ("gfdl-1.3+", "GFDL-1.3-or-later"),
    ("gpl-1", "GPL-1.0-only"),
    ("gpl-1+", "GPL-1.0-or-later"),
    ("gpl-2", "GPL-2.0-only"),
    ("gpl-2+", "GPL-2.0-or-later"),
    ("gpl-2.0", "GPL-2.0-only"),
    ("gpl-2.0+", "GPL-2.0-or-later"),
    ("gpl-3", "GPL-3.0-only"),
    ("gpl-3+", "GPL-3.0-or-later"),
    ("gpl-3.0", "GPL-3.0-only"),
    ("gpl-3.0+", "GPL-3.0-or-later"),
    ("hpnd", "HPND"),
    ("isc", "ISC"),
    ("lgpl-2", "LGPL-2.0-only"),
    ("lgpl-2+", "LGPL-2.0-or-later"),
    ("lgpl-2.0", "LGPL-2.0-only"),
    ("lgpl-2.0+", "LGPL-2.0-or-later"),
    ("lgpl-2.1", "LGPL-2.1-only"),
    ("lgpl-2.1+", "LGPL-2.1-or-later"),
    ("lgpl-3", "LGPL-3.0-only"),
    ("lgpl-3+", "LGPL-3.0-or-later"),
    ("lgpl-3.0+", "LGPL-3.0-or-later"),
    ("mit", "MIT"),
    ("mpl-1.1", "MPL-1.1"),
    ("mpl-2.0", "MPL-2.0"),
    ("ofl-1.1", "OFL-1.1"),
    ("openssl", "OpenSSL"),
    ("psf-2", "PSF-2.0"),
    ("python-2.0", "Python-2.0"),
    ("unicode-dfs-2016", "Unicode-DFS-2016"),
    ("x11", "X11"),
    ("zlib", "Zlib"),
];

/// Licences named in `/usr/share/doc/PACKAGE/copyright`, sorted; empty where there is no such file
/// or where it is prose.
pub(crate) fn of_package(package: &str, tree: &dyn TreeReader) -> Result<Vec<LicenseChoice>> {
    let path = format!("/usr/share/doc/{package}/copyright");
    let text = read(tree, &path)?.unwrap_or_default();
    Ok(declared(&String::from_utf8_lossy(&text)).into_iter().map(choice).collect())
}

fn choice(id: &'static str) -> LicenseChoice {
    LicenseChoice { license: License { acknowledgement: "declared", id } }
}

/// SPDX identifiers of all licences that any paragraph names.
fn declared(text: &str) -> BTreeSet<&'static str> {
    let machine_readable = text
        .lines()
        .find(|line| !line.trim().is_empty())
        .is_some_and(|line| line.starts_with("Format:") && line.contains("copyright-format/1.0"));
    let Ok(stanzas) = stanzas(text, "copyright") else { return BTreeSet::new() };
    if !machine_readable {
        return BTreeSet::new();
    }
    let names = stanzas.iter().filter_map(|stanza| stanza.get("License")?.lines().next());
    names.flat_map(identifiers).collect()
}

/// The licences in a line such as `GPL-2+ with OpenSSL exception or Artistic, and BSD-3-clause`.
///
/// What follows `with` names an exception up to the next `or`, `and` or comma, and no licence.
fn identifiers(line: &str) -> impl Iterator<Item = &'static str> {
    line.split(',').flat_map(|clause| {
        let mut in_exception = false;
        clause.split_whitespace().filter_map(move |word| {
            let word = word.to_lowercase();
            match word.as_str() {
                "with" => in_exception = true,
                "or" | "and" => in_exception = false,
                _ => {}
            }
            let known = NAMES.iter().find(|(name, _)| !in_exception && *name == word);
            known.map(|(_, id)| *id)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: &str =
        "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n";

    #[test]
    fn short_names_become_identifiers_and_others_are_left_out() {
        let text = format!(
            "{HEADER}Files: *\nLicense: GPL-2+ or Artistic, and BSD-3-clause\n text\n\n\
             Files: x\nLicense: public-domain\n"
        );
        let found: Vec<_> = declared(&text).into_iter().collect();
        assert_eq!(found, ["Artistic-1.0-Perl", "BSD-3-Clause", "GPL-2.0-or-later"]);
    }

    #[test]
    fn an_exception_is_no_licence() {
        let line = "GPL-2+ with OpenSSL exception or LGPL-2.1 With curl and X11, or MIT";
        let found: Vec<_> = identifiers(line).collect();
        assert_eq!(found, ["GPL-2.0-or-later", "LGPL-2.1-only", "X11", "MIT"]);
    }

    #[test]
    fn prose_declares_nothing() {
        assert!(declared("This is free software.\nLicense: GPL-2\n").is_empty());
        assert!(declared("").is_empty());
    }

    #[test]
    fn names_are_sorted_and_lower_case() {
        assert!(NAMES.is_sorted());
        assert!(NAMES.iter().all(|(name, _)| *name == name.to_lowercase()));
    }
}
