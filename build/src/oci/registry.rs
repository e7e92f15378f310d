//! Reads images from a registry.
//!
//! Source: OCI distribution specification 1.0, pulling manifests and blobs; the anonymous bearer
//! token of the docker registry's token authentication. Names are resolved to digests once, when
//! the lock is made; afterwards everything is asked for by digest and compared with it.

mod client;
mod token;

use std::collections::BTreeMap;
use std::io::Write;

use nodekiln_recipes::lock::LockedImage;
use nodekiln_words::{Digester, Failure, Result, Sha256};

use self::client::Client;
use super::json::{Manifest, media_type};
use super::walk::{parse, platform_manifest};
use super::{Blob, Reference};
use crate::fetch::Fetcher;

/// A registry that answers for the references of one host.
pub struct Registry {
    client: Client,
}

/// An image as a registry serves it now.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// What the lock keeps.
    pub locked: LockedImage,
    /// The index, if any, and the manifest.
    pub documents: Vec<Blob>,
}

impl Registry {
    /// A client for the registry `host`, reached at `base` where that is given (a mirror, or a
    /// server on this machine) and else at `https://HOST`.
    ///
    /// # Errors
    /// When the address is none, or is plain http to another machine; when the fetcher is offline.
    pub fn new(host: &str, base: Option<&str>, fetcher: &Fetcher) -> Result<Self> {
        let address = base.map_or_else(|| address_of(host), str::to_owned);
        Ok(Self { client: Client::new(&address, fetcher)? })
    }

    /// What `reference` stands for now, for `linux` on `architecture`.
    ///
    /// # Errors
    /// When the registry does not have it, or has other bytes than the digests say.
    pub fn resolve(&self, reference: &Reference, architecture: &str) -> Result<Resolved> {
        self.try_resolve(reference, architecture)
            .map_err(|failure| failure.context(format!("image {reference}")))
    }

    fn try_resolve(&self, reference: &Reference, architecture: &str) -> Result<Resolved> {
        let repository = &reference.repository;
        let target = match (reference.digest, reference.tag.as_deref()) {
            (Some(digest), _) => self.document(repository, digest)?,
            (None, Some(tag)) => self.client.manifest(repository, tag, None)?,
            (None, None) => return Err(Failure::input("neither tag nor digest")),
        };
        let (index, manifest) = if media_type::is_index(&target.media_type) {
            let wanted = platform_manifest(&target, architecture)?;
            let manifest = self.document(repository, wanted.digest)?;
            (Some(target), manifest)
        } else {
            (None, target)
        };
        let parsed: Manifest = parse(&manifest)?;
        let blobs: BTreeMap<Sha256, u64> = [&parsed.config]
            .into_iter()
            .chain(&parsed.layers)
            .map(|d| (d.digest, d.size))
            .collect();
        let locked = LockedImage {
            manifest: manifest.digest,
            index: index.as_ref().map(|index| index.digest),
            blobs,
        };
        Ok(Resolved { locked, documents: index.into_iter().chain([manifest]).collect() })
    }

    /// The manifest or index with this digest.
    ///
    /// # Errors
    /// When the registry does not have it or sends other bytes.
    pub fn document(&self, repository: &str, digest: Sha256) -> Result<Blob> {
        self.client.manifest(repository, &format!("sha256:{digest}"), Some(digest))
    }

    /// Writes the config or layer with this digest and size in bytes to `sink`.
    ///
    /// # Errors
    /// When the registry does not have it or sends other bytes; what was written until then stays
    /// written.
    pub fn blob(
        &self,
        repository: &str,
        digest: Sha256,
        size: u64,
        sink: &mut dyn Write,
    ) -> Result<()> {
        let mut digester = Digester::default();
        let url = self.client.blob(repository, digest, &mut |piece| {
            digester.update(piece);
            if digester.length() > size {
                return Err(Failure::io(format!("more than the expected {size} bytes")));
            }
            sink.write_all(piece).map_err(|error| {
                Failure::io(format!("writing blob sha256:{digest}")).with_source(error)
            })
        })?;
        let (length, found) = (digester.length(), digester.finish());
        if found == digest && length == size {
            return Ok(());
        }
        Err(Failure::io(format!(
            "{url} is not what it should be: expected sha256:{digest} ({size} bytes), found \
             sha256:{found} ({length} bytes)"
        )))
    }
}

/// Where the registry that references call `host` is: Docker Hub's API has a name of its own.
fn address_of(host: &str) -> String {
    match host {
        "docker.io" => "https://registry-1.docker.io".to_owned(),
        host => format!("https://{host}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_hub_is_asked_under_its_apis_name() {
        assert_eq!(address_of("docker.io"), "https://registry-1.docker.io");
        assert_eq!(address_of("registry.k8s.io"), "https://registry.k8s.io");
    }
}
