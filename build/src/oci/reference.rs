use std::fmt;
use std::str::FromStr;

use nodekiln_words::{Failure, Result, Sha256};

/// A fully qualified image reference: `REGISTRY/REPOSITORY[:TAG][@sha256:DIGEST]`.
///
/// The registry is always written out, since containerd's store and the kubelet know images by
/// their full names. Grammar: the `reference` package of github.com/distribution/reference.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Reference {
    /// Host of the registry with an optional port.
    pub registry: String,
    /// Path of the repository below the registry.
    pub repository: String,
    /// The tag.
    pub tag: Option<String>,
    /// The digest that pins it.
    pub digest: Option<Sha256>,
}

impl Reference {
    /// Registry and repository: the name without tag and digest.
    #[must_use]
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The same repository pinned to `digest`, without a tag.
    #[must_use]
    pub fn pinned(&self, digest: Sha256) -> Self {
        Self { tag: None, digest: Some(digest), ..self.clone() }
    }

    /// Last part of the repository's path, such as `kube-proxy`.
    #[must_use]
    pub fn short_name(&self) -> &str {
        self.repository.rsplit('/').next().unwrap_or(&self.repository)
    }

    /// A file name that no other reference has: each byte outside `[A-Za-z0-9.-]` becomes `_XX`.
    #[must_use]
    pub fn file_name(&self) -> String {
        let escape = |byte: u8| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' => char::from(byte).to_string(),
            _ => format!("_{byte:02x}"),
        };
        self.to_string().bytes().map(escape).collect()
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@sha256:{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = Failure;

    fn from_str(text: &str) -> Result<Self> {
        let wrong = |why: &str| {
            Failure::input(format!("`{text}` is not an image reference: {why}")).with_help(
                "write it in full with registry and tag, such as docker.io/library/busybox:1.36",
            )
        };
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest.parse().map_err(|_| wrong("the digest is no sha256 digest"))?;
                (rest, Some(digest))
            }
            None => (text, None),
        };
        let (registry, path) = rest.split_once('/').ok_or_else(|| wrong("no registry"))?;
        if !is_registry(registry) {
            return Err(wrong("it does not begin with a registry's host name"));
        }
        let (repository, tag) = match path.rsplit_once(':') {
            Some((repository, tag)) => (repository, Some(tag.to_owned())),
            None => (path, None),
        };
        if repository.is_empty() || !repository.split('/').all(is_component) {
            return Err(wrong("the repository has an empty part or a forbidden character"));
        }
        if !tag.as_deref().is_none_or(is_tag) {
            return Err(wrong("the tag is empty, too long or has a forbidden character"));
        }
        if tag.is_none() && digest.is_none() {
            return Err(wrong("neither tag nor digest"));
        }
        if registry == "docker.io" && !repository.contains('/') {
            return Err(wrong("Docker Hub's own images are below `library/`"));
        }
        let (registry, repository) = (registry.to_owned(), repository.to_owned());
        Ok(Self { registry, repository, tag, digest })
    }
}

/// A host is told from a path component by its dot, its port or by being `localhost`.
fn is_registry(text: &str) -> bool {
    let host = text.split(':').next().unwrap_or_default();
    let known = text == "localhost" || text.contains('.') || text.contains(':');
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | ':');
    known && !host.is_empty() && text.chars().all(allowed) && text.matches(':').count() <= 1
}

fn is_component(text: &str) -> bool {
    let word = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let allowed = |c: char| word(c) || matches!(c, '.' | '_' | '-');
    text.starts_with(word) && text.ends_with(word) && text.chars().all(allowed)
}

fn is_tag(text: &str) -> bool {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let allowed = |c: char| word(c) || matches!(c, '.' | '-');
    text.len() <= 128 && text.starts_with(word) && text.chars().all(allowed)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn kubeadms_references_are_taken_apart() {
        let reference: Reference = "registry.k8s.io/coredns/coredns:v1.11.3".parse().unwrap();
        assert_eq!(reference.registry, "registry.k8s.io");
        assert_eq!(reference.repository, "coredns/coredns");
        assert_eq!(reference.tag.as_deref(), Some("v1.11.3"));
        assert_eq!(reference.short_name(), "coredns");
    }

    #[test]
    fn a_port_is_not_a_tag() {
        let reference: Reference = "localhost:5000/a/b:1".parse().unwrap();
        assert_eq!(
            (reference.registry.as_str(), reference.tag.as_deref()),
            ("localhost:5000", Some("1"))
        );
    }

    #[test]
    fn short_and_broken_names_are_refused_with_a_remedy() {
        let texts = [
            "busybox",
            "busybox:1.36",
            "library/busybox:1",
            "docker.io/x/busybox",
            "docker.io/busybox:1",
            "docker.io//a:1",
            "docker.io/x/A:1",
            "docker.io/x/a:",
            "docker.io/x/a:-1",
            "docker.io/x/a@sha256:12",
            "a.b/../c:1",
            "",
        ];
        for text in texts {
            let failure = text.parse::<Reference>().unwrap_err();
            assert!(failure.help().is_some(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_text_is_a_reference_that_prints_as_itself_or_an_error(text in "\\PC{0,60}") {
            if let Ok(reference) = text.parse::<Reference>() {
                prop_assert_eq!(reference.to_string().parse::<Reference>().unwrap(), reference);
            }
        }

        #[test]
        fn valid_references_round_trip(text in "[a-z]{1,5}\\.[a-z]{1,3}(:[0-9]{1,4})?/[a-z0-9]{1,5}(/[a-z0-9]{1,4}){0,2}:[A-Za-z0-9_][A-Za-z0-9._-]{0,9}") {
            prop_assert_eq!(text.parse::<Reference>().unwrap().to_string(), text);
        }
    }
}
