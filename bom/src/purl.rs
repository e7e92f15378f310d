//! Package URLs (purl), in canonical form.
//!
//! Source: the purl specification, ECMA-427. Qualifiers are sorted by key; everything but letters,
//! digits, `.`, `-`, `_`, `~` and the colon is percent-encoded.

use std::fmt::Write as _;

use nodekiln_words::Sha256;

/// A package URL under construction.
pub(crate) struct Purl {
    text: String,
}

impl Purl {
    /// `pkg:KIND/PART/PART…`: the namespace's parts, then the name.
    pub(crate) fn new(kind: &str, parts: &[&str]) -> Self {
        let mut text = format!("pkg:{kind}");
        for part in parts.iter().flat_map(|part| part.split('/')) {
            text.push('/');
            encode(part, &mut text);
        }
        Self { text }
    }

    /// Adds the version.
    pub(crate) fn version(mut self, version: &str) -> Self {
        self.text.push('@');
        encode(version, &mut self.text);
        self
    }

    /// Adds the qualifiers, which must be sorted by key; empty ones are dropped.
    pub(crate) fn qualifiers(mut self, qualifiers: &[(&str, &str)]) -> String {
        let mut separator = '?';
        for (key, value) in qualifiers.iter().filter(|(_, value)| !value.is_empty()) {
            self.text.push(separator);
            self.text.push_str(key);
            self.text.push('=');
            encode(value, &mut self.text);
            separator = '&';
        }
        self.text
    }
}

fn encode(value: &str, text: &mut String) {
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || b".-_~:".contains(&byte) {
            text.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(text, "%{byte:02X}");
        }
    }
}

/// A Debian package; `architecture` is `source` for a source package.
pub(crate) fn deb(name: &str, version: &str, architecture: &str, release: &str) -> String {
    Purl::new("deb", &["debian", &name.to_lowercase()])
        .version(version)
        .qualifiers(&[("arch", architecture), ("distro", release)])
}

/// A binary that no packaging system knows, identified by its content.
pub(crate) fn generic(name: &str, version: &str, sha256: &Sha256) -> String {
    let checksum = format!("sha256:{sha256}");
    Purl::new("generic", &[name]).version(version).qualifiers(&[("checksum", &checksum)])
}

/// A container image: the reference's last name, its manifest, and where it is found.
pub(crate) fn oci(reference: &str, manifest: &Sha256, architecture: &str) -> String {
    let (repository, tag) = split_reference(reference);
    let name = repository.rsplit('/').next().unwrap_or(repository).to_lowercase();
    Purl::new("oci", &[&name]).version(&format!("sha256:{manifest}")).qualifiers(&[
        ("arch", architecture),
        ("repository_url", repository),
        ("tag", tag),
    ])
}

/// A Go module.
pub(crate) fn golang(module: &str, version: &str) -> String {
    let purl = Purl::new("golang", &[&module.to_lowercase()]);
    match version {
        "" => purl.qualifiers(&[]),
        version => purl.version(version).qualifiers(&[]),
    }
}

/// Repository and tag (empty where there is none) of an image reference; a digest is left out.
pub(crate) fn split_reference(reference: &str) -> (&str, &str) {
    let reference = reference.split('@').next().unwrap_or(reference);
    match reference.rsplit_once(':') {
        Some((repository, tag)) if !tag.contains('/') => (repository, tag),
        _ => (reference, ""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn epoch_plus_and_tilde_are_written_as_the_specification_says() {
        assert_eq!(
            deb("libstdc++6", "1:2.4.47-2+b1~x", "amd64", "bookworm"),
            "pkg:deb/debian/libstdc%2B%2B6@1:2.4.47-2%2Bb1~x?arch=amd64&distro=bookworm"
        );
    }

    #[test]
    fn a_registry_port_is_no_tag() {
        assert_eq!(split_reference("localhost:5000/a/b"), ("localhost:5000/a/b", ""));
        assert_eq!(split_reference("r.io/pause:3.2@sha256:00"), ("r.io/pause", "3.2"));
    }

    #[test]
    fn module_paths_keep_their_slashes() {
        assert_eq!(
            golang("github.com/Foo/bar", "v1.0.0+incompatible"),
            "pkg:golang/github.com/foo/bar@v1.0.0%2Bincompatible"
        );
    }
}
