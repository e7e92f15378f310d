//! The port of `ds-identify` against Debian's own scripts, and what it says of our providers.

mod lines;
mod matrix;
mod oracle;
mod picks;
mod random;

use nodekiln_providers::{MachineProfile, OpenStack, Provider, Qemu};
use oracle::Files;
use serde::Deserialize;
use uuid::Uuid;

const SEED: Uuid = Uuid::from_u128(0x6964_656e_7469_6679);

/// Providers of each cloud; those of plain machines have one layer among them.
fn providers() -> Vec<Box<dyn Provider>> {
    vec![
        Box::new(nodekiln_aws::Aws),
        Box::new(nodekiln_azure::Azure),
        Box::new(nodekiln_gce::Gce),
        Box::new(nodekiln_vsphere::Vsphere),
        Box::new(OpenStack),
        Box::new(Qemu),
    ]
}

fn profile(provider: &dyn Provider) -> MachineProfile {
    provider.machine()
}

/// What of a provider's layer the script may see.
#[derive(Deserialize)]
struct Layer {
    #[serde(default)]
    packages: Vec<String>,
    files: Vec<File>,
}

#[derive(Deserialize)]
struct File {
    path: String,
    #[serde(default)]
    content: String,
}

/// Lays a provider's own layer over an image.
fn lay_over(image: &mut Files, provider: &dyn Provider) {
    let layer: Layer = serde_saphyr::from_str(provider.layer()).unwrap();
    for file in layer.files {
        image.insert(file.path, file.content.into_bytes());
    }
    if layer.packages.iter().any(|package| package == "open-vm-tools") {
        for path in TOOLS {
            image.insert(path.to_owned(), b"\x7fELF".to_vec());
        }
    }
}

/// What Debian's open-vm-tools brings that the script asks for.
const TOOLS: [&str; 3] = [
    "/usr/bin/vmware-rpctool",
    "/usr/bin/vmtoolsd",
    "/usr/lib/x86_64-linux-gnu/open-vm-tools/plugins/vmsvc/libdeployPkgPlugin.so",
];
