//! A small disk to be written for a trial.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use nodekiln_disk::{Disk, Extent, Payload, Source, write_file};
use nodekiln_plugin_protocol as said;
use nodekiln_providers::{ArtifactRequest, ImageFacts, Provider as _};
use nodekiln_words::{Cancel, Failure, Result, ResultExt as _, Sha256, Silent};

use crate::described::{SMALLEST, boot_said};
use crate::find::digest;
use crate::provider::{Place, PluginProvider, input, write_request};
use crate::work_folder::WorkFolder;

/// The image's source date: 2026-11-01T00:00:00Z.
const CREATED: u64 = 1_793_491_200;

/// A write that can be asked for, with its disk and its folders.
pub(super) struct Trial {
    pub(super) place: Place,
    pub(super) request: said::Write,
    _folder: WorkFolder,
}

impl Trial {
    /// For `provider`, with a disk that it takes.
    pub(super) fn for_provider(provider: &PluginProvider, cancel: &Cancel) -> Result<Self> {
        let folder = WorkFolder::within(&std::env::temp_dir())?;
        let rules = provider.machine().accepts;
        let format = provider.description().input;
        let size = rules.fitting(SMALLEST).ok_or_else(|| {
            Failure::input(format!("the provider takes no disk of {SMALLEST} or more"))
        })?;
        let disk = disk(size.get())?;
        let request = ArtifactRequest {
            name: "conformance".to_owned(),
            folder: PathBuf::from(folder.path()),
            created: CREATED,
            boot: rules.boot.first().copied().unwrap_or_default(),
            facts: ImageFacts {
                distribution: "debian".to_owned(),
                distribution_version: "12".to_owned(),
                architecture: "amd64".to_owned(),
                kubernetes: Some("v1.36.1".to_owned()),
                containerd: Some("1.6.20".to_owned()),
                ..ImageFacts::default()
            },
            ..ArtifactRequest::default()
        };
        let place = Place::within(folder.path())?;
        let payload = Payload::of(&disk);
        let writer = input(format, &disk, &place.input, &request, cancel)?;
        let written = write_file(&disk, &payload, writer, &place.input, &Silent, cancel)?;
        let read_only = std::fs::Permissions::from_mode(0o444);
        fs_err::set_permissions(&place.input, read_only).or_io(|| "cannot write".to_owned())?;
        let told = said::Payload {
            bytes: disk.size(),
            sha256: payload.digest(&Silent, cancel)?.to_string(),
            boot: boot_said(request.boot),
        };
        let request = write_request(provider, &request, &place, &written, told)?;
        Ok(Self { place, request, _folder: folder })
    }

    /// Whether the disk is still what the request says.
    pub(super) fn is_untouched(&self, cancel: &Cancel) -> Result<bool> {
        if !self.place.input.exists() {
            return Ok(false);
        }
        Ok(digest(&self.place.input, cancel)?.to_string() == self.request.input.sha256)
    }
}

/// A disk of `size` bytes with data at its beginning, in its middle and at its end, part of which can be
/// compressed.
fn disk(size: u64) -> Result<Disk> {
    let cluster = 64 << 10;
    let places = [0, (size / 2).next_multiple_of(cluster), size - cluster];
    let extent = |start: u64| {
        let bytes: Arc<[u8]> = content(start, cluster).into();
        Extent { start, length: bytes.len() as u64, source: Source::Memory(bytes) }
    };
    Disk::new(size, places.map(extent).to_vec())
}

/// `length` bytes that follow from `start`: digests, and a text after every second one.
fn content(start: u64, length: u64) -> Vec<u8> {
    let digests = (0..length / 64).flat_map(|at| {
        let digest = Sha256::of(format!("{start} {at}"));
        let mut bytes = digest.as_bytes().to_vec();
        bytes.extend_from_slice(&[b'.'; 32]);
        bytes
    });
    digests.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_disk_has_data_and_holes_and_is_always_the_same() {
        let size = SMALLEST.get();
        let disk = disk(size).unwrap();
        assert_eq!(disk.size(), size);
        let runs = disk.data_runs(&Cancel::default()).unwrap();
        assert_eq!(runs.len(), 3, "{runs:?}");
        let digest = || super::disk(size).unwrap().digest(&Silent, &Cancel::default()).unwrap();
        assert_eq!(digest(), digest());
    }
}
