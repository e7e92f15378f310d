use nodekiln_disk::{Disk, raw};
use nodekiln_words::{Cancel, Class, Failure, Progress, Result, Sha256};

use crate::{Artifact, ArtifactRequest, MachineProfile, Provider, target};

/// Bare metal and everything that takes a disk as it is. Its artifact is a sparse raw file.
pub struct Raw;

impl Provider for Raw {
    fn name(&self) -> &'static str {
        "raw"
    }

    fn description(&self) -> &'static str {
        "bare metal and importers: the disk as it is, with holes"
    }

    fn machine(&self) -> MachineProfile {
        MachineProfile::virtio()
    }

    fn file_name(&self, image: &str) -> String {
        format!("{image}.raw")
    }

    fn write(
        &self,
        disk: &Disk,
        payload: Sha256,
        request: &ArtifactRequest,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Artifact> {
        let file = self.file_name(&request.name);
        let path = target(request, &file);
        let written = raw::write(disk, &path, progress, cancel)?;
        if written.sha256 != payload {
            let message = format!(
                "{} has the digest {} where the disk's payload has {payload}",
                path.display(),
                written.sha256
            );
            return Err(Failure::new(Class::Io, message).with_help(
                "the stored disk changed while it was read; run `nodekiln cache verify`",
            ));
        }
        Ok(Artifact {
            provider: self.name().to_owned(),
            format: "raw".to_owned(),
            file,
            size: written.bytes,
            sha256: written.sha256,
        })
    }
}
