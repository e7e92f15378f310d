use std::collections::BTreeMap;

use nodekiln_words::{Failure, Result};

use super::{Relation, relations, stanza::Stanza, stanzas};
use crate::path::escape;

/// A package as `/var/lib/dpkg/status` describes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Installed {
    pub(crate) name: String,
    pub(crate) architecture: String,
    pub(crate) version: String,
    pub(crate) source: String,
    pub(crate) source_version: String,
    pub(crate) section: String,
    pub(crate) maintainer: String,
    /// First line of the description.
    pub(crate) summary: String,
    pub(crate) essential: bool,
    pub(crate) built_using: String,
    /// `Pre-Depends` and `Depends`.
    pub(crate) depends: Vec<Vec<Relation>>,
    pub(crate) provides: Vec<Relation>,
    /// MD5 in hexadecimal by path, as the package shipped it.
    pub(crate) conffiles: BTreeMap<String, String>,
}

/// How far a package in the status file got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// Unpacked and configured.
    Installed,
    /// Removed; at most its configuration files are left.
    Removed,
}

/// Reads the status file: each package with its state, sorted by name and architecture.
///
/// Fails where a package is neither installed nor removed, such as `half-configured`: such a tree
/// is not finished.
pub(crate) fn status(text: &str) -> Result<Vec<(Installed, State)>> {
    let mut all = stanzas(text, "/var/lib/dpkg/status")?
        .iter()
        .map(|stanza| Ok((installed(stanza)?, state(stanza)?)))
        .collect::<Result<Vec<_>>>()?;
    all.sort_by(|(a, _), (b, _)| (&a.name, &a.architecture).cmp(&(&b.name, &b.architecture)));
    Ok(all)
}

fn required<'a>(stanza: &'a Stanza, field: &str) -> Result<&'a str> {
    stanza.get(field).ok_or_else(|| {
        let name = stanza.get("Package").unwrap_or("a package without a name");
        Failure::input(format!("/var/lib/dpkg/status: {name} has no field {field}"))
    })
}

fn state(stanza: &Stanza) -> Result<State> {
    let status = required(stanza, "Status")?;
    match status.split_whitespace().nth(2) {
        Some("installed" | "triggers-pending" | "triggers-awaited") => Ok(State::Installed),
        Some("not-installed" | "config-files") => Ok(State::Removed),
        _ => Err(Failure::input(format!(
            "package {} is not installed completely: its status is `{status}`",
            required(stanza, "Package")?
        ))
        .with_help("the step that installs it must end with every package configured")),
    }
}

fn installed(stanza: &Stanza) -> Result<Installed> {
    let text = |field| stanza.get(field).unwrap_or_default().to_owned();
    let (name, version) = (required(stanza, "Package")?.to_owned(), text("Version"));
    let (source, source_version) = source(&text("Source"), &name, &version);
    let depends = ["Pre-Depends", "Depends"].iter().flat_map(|field| relations(&text(field)));
    let summary = text("Description").lines().next().unwrap_or_default().to_owned();
    Ok(Installed {
        name,
        architecture: text("Architecture"),
        version,
        source,
        source_version,
        section: text("Section"),
        maintainer: text("Maintainer"),
        summary,
        essential: text("Essential") == "yes",
        built_using: text("Built-Using"),
        depends: depends.collect(),
        provides: relations(&text("Provides")).into_iter().flatten().collect(),
        conffiles: conffiles(&text("Conffiles")),
    })
}

/// `Source:` is absent where it equals the package, and names a version in parentheses where that
/// differs from the binary's.
fn source(field: &str, name: &str, version: &str) -> (String, String) {
    match field.split_once(" (") {
        _ if field.is_empty() => (name.to_owned(), version.to_owned()),
        Some((source, rest)) => (source.to_owned(), rest.trim_end_matches(')').to_owned()),
        None => (field.to_owned(), version.to_owned()),
    }
}

/// Lines ` PATH MD5 [obsolete] [remove-on-upgrade]`; `newconffile` stands in place of the digest
/// while a package is being unpacked.
fn conffiles(field: &str) -> BTreeMap<String, String> {
    let line = |line: &str| {
        let mut line = line.trim();
        while let Some(rest) =
            [" obsolete", " remove-on-upgrade"].iter().find_map(|flag| line.strip_suffix(flag))
        {
            line = rest;
        }
        let (path, digest) = line.rsplit_once(' ')?;
        Some((escape(path.as_bytes()), digest.to_owned()))
    };
    field.lines().filter_map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const STATUS: &str = "Package: zlib1g\nStatus: install ok installed\nArchitecture: amd64\n\
        Source: zlib (1:1.2.13)\nVersion: 1:1.2.13+b1\nDepends: libc6 (>= 2.14)\n\n\
        Package: adduser\nStatus: hold ok installed\nArchitecture: all\nVersion: 3.134\n\
        Conffiles:\n /etc/adduser.conf abc\n /etc/old def obsolete\n\n\
        Package: gone\nStatus: deinstall ok config-files\nVersion: 1\n";

    #[test]
    fn installed_packages_are_told_from_removed_ones() {
        let all = status(STATUS).unwrap();
        let states: Vec<_> = all.iter().map(|(p, state)| (p.name.as_str(), *state)).collect();
        assert_eq!(
            states,
            [("adduser", State::Installed), ("gone", State::Removed), ("zlib1g", State::Installed)]
        );
    }

    #[test]
    fn the_source_is_named_with_its_own_version() {
        let all = status(STATUS).unwrap();
        let sources: Vec<_> =
            all.iter().map(|(p, _)| (p.source.as_str(), p.source_version.as_str())).collect();
        assert_eq!(sources, [("adduser", "3.134"), ("gone", "1"), ("zlib", "1:1.2.13")]);
    }

    #[test]
    fn conffiles_keep_their_digest_without_flags() {
        let all = status(STATUS).unwrap();
        assert_eq!(all[0].0.conffiles["/etc/old"], "def");
        assert_eq!(all[0].0.conffiles["/etc/adduser.conf"], "abc");
    }

    #[test]
    fn a_half_configured_package_is_refused_by_name() {
        let text = STATUS.replace("hold ok installed", "install ok half-configured");
        let failure = status(&text).unwrap_err();
        assert!(failure.to_string().contains("adduser"), "{failure}");
    }

    proptest! {
        #[test]
        fn any_text_ends_in_a_value_or_a_failure(text in "(?s).{0,400}") {
            let _ = status(&text);
        }

        #[test]
        fn what_is_written_is_read(
            names in proptest::collection::btree_set("[a-z][a-z0-9+.-]{1,12}", 1..8),
            version in "[0-9][0-9a-z.+~]{0,10}(-[0-9a-z.+~]{1,5})?",
        ) {
            let text: String = names
                .iter()
                .map(|name| format!(
                    "Package: {name}\nStatus: install ok installed\nArchitecture: all\n\
                     Version: {version}\nDescription: a {name}\n more of it\n\n"
                ))
                .collect();
            let read = status(&text).unwrap();
            prop_assert!(read.iter().map(|(p, _)| &p.name).eq(names.iter()));
            prop_assert!(read.iter().all(|(p, _)| p.version == version && p.source == p.name));
        }
    }
}
