//! One suite of an archive: its signed index, verified, and the indexes that it vouches for.

use nodekiln_words::{Class, Event, Failure, Result, Sha256};

use super::openpgp::Keyring;
use super::release::Release;
use super::seen::Seen;
use crate::fetch::{Fetcher, Wanted};

/// A suite whose signed index was verified.
pub(super) struct Suite {
    pub(super) name: String,
    /// Base URL that served the signed index.
    pub(super) base: String,
    /// Bases that were asked before and served no good index of it.
    pub(super) in_vain: Vec<String>,
    /// Bases that were not asked: where to look for what the base does not have.
    pub(super) others: Vec<String>,
    pub(super) release: Release,
    /// Fingerprint of the key that signed it.
    pub(super) fingerprint: String,
    /// Digest of the signed index.
    pub(super) sha256: Sha256,
}

/// A suite to look for.
pub(super) struct Lookup<'a> {
    pub(super) name: String,
    pub(super) bases: &'a [String],
}

/// What suites are opened with.
pub(super) struct Opening<'a> {
    pub(super) keyring: &'a Keyring,
    /// The time at which indexes must be valid, in seconds since 1970.
    pub(super) now: u64,
    pub(super) fetcher: &'a Fetcher,
}

impl Lookup<'_> {
    pub(super) fn url(&self, base: &str) -> String {
        format!("{base}/dists/{}/InRelease", self.name)
    }

    /// The suite from the first base that has it with a good signature; `None` where all say that
    /// they do not have it. `first` is what the first base answered.
    ///
    /// # Errors
    /// The first one met, if no base serves a good index and not all say that they have none.
    pub(super) fn open(
        &self,
        first: Result<Option<Vec<u8>>>,
        opening: &Opening<'_>,
    ) -> Result<Option<Suite>> {
        let fetcher = opening.fetcher;
        let mut failure = None;
        let mut first = Some(first);
        for (at, base) in self.bases.iter().enumerate() {
            let url = self.url(base);
            let answer = first.take().unwrap_or_else(|| {
                fetcher.fetch_texts(std::slice::from_ref(&url)).pop().unwrap_or_else(|| Ok(None))
            });
            match answer.and_then(|text| self.check(&url, at, text, opening)) {
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
        at: usize,
        text: Option<Vec<u8>>,
        opening: &Opening<'_>,
    ) -> Result<Option<Suite>> {
        let Some(text) = text else { return Ok(None) };
        let signed = opening.keyring.verify(url, &text, opening.now)?;
        let release = Release::read(url, &signed.text, &self.name)?;
        let seen = Seen { url: url.to_owned(), date: release.date, sha256: Sha256::of(&text) };
        let sha256 = seen.sha256;
        opening.believe(seen, &release)?;
        if signed.key_expired {
            let key = &signed.fingerprint;
            opening.warn(format!("{url} is signed by the key {key}, which has expired since"));
        }
        Ok(Some(Suite {
            name: self.name.clone(),
            base: self.bases[at].clone(),
            in_vain: self.bases[..at].to_vec(),
            others: self.bases[at + 1..].to_vec(),
            release,
            fingerprint: signed.fingerprint,
            sha256,
        }))
    }
}

impl Opening<'_> {
    /// Checks that the signed index is neither expired nor older than the one before it.
    fn believe(&self, found: Seen, release: &Release) -> Result<()> {
        let store = self.fetcher.store();
        let before = Seen::at(&found.url, store);
        if let Some(until) = release.expired(self.now) {
            let text = format!("{} has expired: it was valid until {until}", found.url);
            // Nobody can be asked for a newer one, and this one was valid when it was believed.
            if self.fetcher.is_offline() && before.as_ref() == Some(&found) {
                self.warn(format!("{text}; offline, it is used all the same"));
            } else {
                return Err(Failure::io(text).with_help(self.remedy()));
            }
        }
        found.follow(before.as_ref(), store)
    }

    fn remedy(&self) -> &'static str {
        if self.fetcher.is_offline() {
            "run the command once without the offline setting, so that a newer index is fetched"
        } else {
            "the mirror is not kept up to date, or this machine's clock is wrong: name another \
             mirror in os.mirrors, or set the clock"
        }
    }

    fn warn(&self, text: String) {
        self.fetcher.progress().event(Event::Warning(text));
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
        let bases = std::iter::once(&self.base).chain(&self.others);
        let urls = bases.flat_map(|base| self.urls(base, &path, &digest)).collect();
        let what = format!("{} of {}", path, self.name);
        Ok((path, digest, Wanted { what, urls, sha256: digest, size: Some(size) }))
    }

    /// Where a base may have the index at `path` of the suite's folder.
    fn urls(&self, base: &str, path: &str, digest: &Sha256) -> Vec<String> {
        let folder = format!("{base}/dists/{}", self.name);
        let mut urls = vec![format!("{folder}/{path}")];
        if self.release.by_hash {
            let parent = path.rsplit_once('/').map_or("", |(parent, _)| parent);
            urls.insert(0, format!("{folder}/{parent}/by-hash/SHA256/{digest}"));
        }
        urls
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
