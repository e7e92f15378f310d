//! Azure: a fixed VHD of whole MiB, as a managed disk or page blob takes it.
//!
//! The disk boots by BIOS and by UEFI, so that one file may be registered as an image of either generation.
//! The layer is in `layer.yaml` beside `Cargo.toml`.

mod machine;
mod registration;

use nodekiln_disk::{Disk, vhd};
use nodekiln_providers::{
    ArtifactRequest, ArtifactWriter, FileName, MachineProfile, OneFile, Provider,
};
use nodekiln_words::{Cancel, Result};

pub use registration::{Definition, Feature, Gallery, Identifier, Properties};

/// Microsoft's Azure. Its artifact is a fixed VHD.
pub struct Azure;

impl Provider for Azure {
    fn name(&self) -> &str {
        "azure"
    }

    fn description(&self) -> &str {
        "Microsoft Azure: a fixed VHD for either generation of machines"
    }

    fn layer(&self) -> &str {
        include_str!("../layer.yaml")
    }

    fn machine(&self) -> MachineProfile {
        machine::machine()
    }

    fn files(&self, image: &str) -> Vec<FileName> {
        vec![file_of(image)]
    }

    fn begin(
        &self,
        disk: &Disk,
        request: &ArtifactRequest,
        _cancel: &Cancel,
    ) -> Result<Box<dyn ArtifactWriter>> {
        let FileName { file, .. } = file_of(&request.name);
        let writer = vhd::Writer::create(disk, &request.path_of(&file), request.created)?;
        Ok(Box::new(OneFile::of(self, request, writer, &Gallery::of(request))?))
    }
}

fn file_of(image: &str) -> FileName {
    FileName::new(format!("{image}.vhd"), "vhd")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the layer's unit does at this turn of its life.
    fn guard(key: &str) -> Vec<&'static str> {
        let layer: &'static str = Azure.layer();
        let value = |line: &'static str| line.trim_start().strip_prefix(key)?.strip_prefix('=');
        let found: Vec<_> = layer.lines().filter_map(value).collect();
        assert_eq!(found.len(), 1, "{key}: {found:?}");
        found[0].split(' ').collect()
    }

    #[test]
    fn the_guard_keeps_pods_from_both_ports_and_takes_back_just_that() {
        let start = guard("ExecStart");
        let after = |option: &str| {
            let at = start.iter().position(|word| *word == option);
            at.and_then(|at| start.get(at + 1)).copied()
        };
        assert_eq!((start[0], after("--insert")), ("/usr/sbin/iptables", Some("FORWARD")));
        assert_eq!(after("--destination"), Some("168.63.129.16"));
        assert_eq!(after("--dports"), Some("80,32526"), "wire server and the host's plug-in");
        let back = |word| if word == "--insert" { "--delete" } else { word };
        assert_eq!(guard("ExecStop"), start.into_iter().map(back).collect::<Vec<_>>());
        let brings = |line: &str| line.starts_with("packages:") && line.contains("iptables");
        assert!(Azure.layer().lines().any(brings), "the unit's program may be missing");
    }
}
