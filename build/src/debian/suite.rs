//! One suite of an archive: its signed index, verified, and the indexes that it vouches for.

use nodekiln_words::{Class, Event, Failure, Result, Sha256};

use super::openpgp::Keyring;
use super::release::Release;
use crate::fetch::{Fetcher, Wanted};

/// A suite whose signed index was verified.
pub(super) struct Suite {
    pub(super) name: String,
    /// Base URL that served the signed index.
    pub(super) base: String,
    pub(super) release: Release,
    /// Fingerprint of the key that signed it.
    pub(super) fingerprint: String,
}

/// A suite to look for.
pub(super) struct Lookup<'a> {
    pub(super) name: String,
    pub(super) bases: &'a [String],
}

impl Lookup<'_> {
    pub(super) fn url(&self, base: &str) -> String {
        format!("{base}/dists/{}/InRelease", self.name)
    }

    /// The suite from the first base that has it with a good signature; `None` where all say that
    /// they do not have it. `first` is what the first base answered.
    pub(super) fn open(
        &self,
        first: Result<Option<Vec<u8>>>,
        keyring: &Keyring,
        now: u64,
        fetcher: &Fetcher,
    ) -> Result<Option<Suite>> {
        let mut failure = None;
        let mut first = Some(first);
        for base in self.bases {
            let url = self.url(base);
            let answer = first.take().unwrap_or_else(|| {
                fetcher.fetch_texts(std::slice::from_ref(&url)).pop().unwrap_or_else(|| Ok(None))
            });
            match answer.and_then(|text| self.check(&url, base, text, keyring, now)) {
                Ok(Some(suite)) => return Ok(Some(suite)),
                Ok(None) => {}
                Err(error) if error.class() == Class::Interrupted => return Err(error),
                Err(error) => {
                    if self.bases.len() > 1 {
                        fetcher.progress().event(Event::Warning(error.to_string()));
                    }
                    failure.get_or_insert(error);
                }
            }
        }
        failure.map_or(Ok(None), Err)
    }

    fn check(
        &self,
        url: &str,
        base: &str,
        text: Option<Vec<u8>>,
        keyring: &Keyring,
        now: u64,
    ) -> Result<Option<Suite>> {
        let Some(text) = text else { return Ok(None) };
        let signed = keyring.verify(url, &text, now)?;
        let release = Release::read(url, &signed.text, &self.name, now)?;
        Ok(Some(Suite {
            name: self.name.clone(),
            base: base.to_owned(),
            release,
            fingerprint: signed.fingerprint,
        }))
    }
}

impl Suite {
    /// The index `stem` (`main/binary-amd64/Packages`) in its smallest packing that we can read:
    /// path and digest, and how to fetch it.
    pub(super) fn index(&self, stem: &str) -> Result<(String, Sha256, Wanted)> {
        let found = [".xz", ".gz", ""].iter().find_map(|ending| {
            let path = format!("{stem}{ending}");
            let (digest, size) = self.release.files.get(&path)?;
            Some((path, *digest, *size))
        });
        let Some((path, digest, size)) = found else { return Err(self.no_index(stem)) };
        let folder = format!("{}/dists/{}", self.base, self.name);
        let mut urls = vec![format!("{folder}/{path}")];
        if self.release.by_hash {
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            urls.insert(0, format!("{folder}/{parent}/by-hash/SHA256/{digest}"));
        }
        let what = format!("{} of {}", path, self.name);
        Ok((path, digest, Wanted { what, urls, sha256: digest, size: Some(size) }))
    }

    fn no_index(&self, stem: &str) -> Failure {
        let known: std::collections::BTreeSet<&str> = self
            .release
            .files
            .keys()
            .filter(|path| path.contains("/binary-") || path.contains("/source/"))
            .filter_map(|path| path.split_once('/').map(|(component, _)| component))
            .collect();
        let known: Vec<&str> = known.into_iter().collect();
        Failure::input(format!("suite {} has no index `{stem}`", self.name))
            .with_help(format!("its components are {}; see os.components", known.join(", ")))
    }
}
