//! Upstream's release server: which files it has and what they must be.
//!
//! Layout below the base URL (dl.k8s.io/release): `vVERSION/bin/linux/ARCH/NAME` and, beside each
//! file, `NAME.sha256` with the digest in hexadecimal. A digest from the same host proves transport
//! and not identity, so it goes into the lock, and a recipe may pin it.

use std::collections::BTreeMap;

use nodekiln_recipes::lock::LockedFile;
use nodekiln_recipes::recipe::{Architecture, Version};
use nodekiln_words::{Class, Failure, Result, ResultExt, Sha256};

use super::NODE_BINARIES;
use super::images::KUBERNETES_IMAGES;

/// Longest `.sha256` file that is read, in bytes: a digest and perhaps a file name.
const DIGEST_FILE_LIMIT: usize = 1024;

/// Gets an unpinned text; the fetcher's `fetch_text` in all but tests.
pub type FetchText<'a> = dyn Fn(&str) -> Result<Vec<u8>> + 'a;

/// The node's binaries of `version`, by their names in the lock (`kubernetes/bin/kubelet`), with the
/// digests that the server at `url` names. Pins are by binary name.
///
/// # Errors
/// When a digest is missing, is none, or differs from its pin; when a pin names no binary.
pub fn resolve(
    version: Version,
    architecture: Architecture,
    url: &str,
    pins: &BTreeMap<String, Sha256>,
    fetch_text: &FetchText<'_>,
) -> Result<BTreeMap<String, LockedFile>> {
    for pin in pins.keys() {
        if !NODE_BINARIES.contains(&pin.as_str()) {
            return Err(Failure::input(format!("`{pin}` is pinned but not fetched"))
                .with_help(format!("pins are for {}", NODE_BINARIES.join(", "))));
        }
    }
    let file = |name: &&str| {
        let url = file_url(url, version, architecture, name);
        let locked = locked(name, &url, pins.get(*name), fetch_text)?;
        Ok((format!("kubernetes/bin/{name}"), locked))
    };
    NODE_BINARIES.iter().map(file).collect()
}

/// The archives of Kubernetes' own images by their names in the lock
/// (`kubernetes/images/kube-proxy.tar`). The server has none of the other images.
///
/// # Errors
/// When a digest is missing or is none.
pub fn resolve_image_archives(
    version: Version,
    architecture: Architecture,
    url: &str,
    fetch_text: &FetchText<'_>,
) -> Result<BTreeMap<String, LockedFile>> {
    let file = |name: &&str| {
        let name = format!("{name}.tar");
        let url = file_url(url, version, architecture, &name);
        let locked = locked(&name, &url, None, fetch_text)?;
        Ok((format!("kubernetes/images/{name}"), locked))
    };
    KUBERNETES_IMAGES.iter().map(file).collect()
}

fn file_url(base: &str, version: Version, architecture: Architecture, name: &str) -> String {
    let base = base.trim_end_matches('/');
    format!("{base}/v{version}/bin/linux/{}/{name}", architecture.as_str())
}

fn locked(
    name: &str,
    url: &str,
    pin: Option<&Sha256>,
    fetch_text: &FetchText<'_>,
) -> Result<LockedFile> {
    let at = format!("{url}.sha256");
    let sha256 = digest_in(&fetch_text(&at)?, &at)?;
    match pin {
        Some(pin) if *pin != sha256 => Err(Failure::new(
            Class::Input,
            format!("{name} is pinned to sha256 {pin}, but {at} says {sha256}"),
        )
        .with_help("find out why the release changed before changing the pin")),
        _ => Ok(LockedFile { url: url.to_owned(), sha256, size: None }),
    }
}

fn digest_in(text: &[u8], at: &str) -> Result<Sha256> {
    let wrong = || format!("{at} holds no sha256 digest");
    if text.len() > DIGEST_FILE_LIMIT {
        return Err(Failure::io(wrong()));
    }
    let text = std::str::from_utf8(text).or_io(wrong)?;
    text.split_whitespace().next().unwrap_or_default().parse().or_io(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const VERSION: Version = Version { major: 1, minor: 31, patch: 4 };

    fn resolve_from(
        answers: &BTreeMap<String, String>,
        pins: &[(&str, Sha256)],
    ) -> Result<BTreeMap<String, LockedFile>> {
        let pins = pins.iter().map(|(name, pin)| ((*name).to_owned(), *pin)).collect();
        resolve(VERSION, Architecture::Amd64, "https://dl.example/release/", &pins, &|url| {
            let answer = answers.get(url).map(|text| text.clone().into_bytes());
            answer.ok_or_else(|| Failure::io(format!("{url}: 404")))
        })
    }

    fn server() -> BTreeMap<String, String> {
        let base = "https://dl.example/release/v1.31.4/bin/linux/amd64";
        NODE_BINARIES
            .iter()
            .map(|name| (format!("{base}/{name}.sha256"), Sha256::of(name).to_string()))
            .collect()
    }

    #[test]
    fn binaries_are_locked_by_the_servers_digests() {
        let files = resolve_from(&server(), &[("kubelet", Sha256::of("kubelet"))]).unwrap();
        assert_eq!(files.len(), 3);
        let kubelet = &files["kubernetes/bin/kubelet"];
        assert_eq!(kubelet.sha256, Sha256::of("kubelet"));
        assert_eq!(kubelet.url, "https://dl.example/release/v1.31.4/bin/linux/amd64/kubelet");
    }

    #[test]
    fn a_pin_that_differs_names_file_expected_and_found() {
        let failure = resolve_from(&server(), &[("kubelet", Sha256::of("other"))]).unwrap_err();
        let text = failure.to_string();
        for part in [
            "kubelet".to_owned(),
            Sha256::of("other").to_string(),
            Sha256::of("kubelet").to_string(),
        ] {
            assert!(text.contains(&part), "{text}");
        }
    }

    #[test]
    fn a_pin_of_nothing_and_a_digest_that_is_none_are_refused() {
        assert!(resolve_from(&server(), &[("kubectx", Sha256::of("x"))]).is_err());
        let mut broken = server();
        for text in broken.values_mut() {
            *text = "<html>".to_owned();
        }
        assert!(resolve_from(&broken, &[]).unwrap_err().to_string().contains("no sha256 digest"));
        assert!(resolve_from(&BTreeMap::new(), &[]).is_err());
    }
}
