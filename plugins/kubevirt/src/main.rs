//! A provider plugin for nodekiln that writes KubeVirt's container disks: OCI images with a disk in `/disk`.
//!
//! Read it as a pattern for a plugin of your own. [`main`] hands over to the protocol's crate, which
//! does the talking; what is left is to say what the provider is ([`describe`]) and to write its artifact
//! ([`archive`]). `docs/plugins.md` tells the rules.

mod archive;
mod describe;
mod image;

use std::process::ExitCode;

use nodekiln_plugin_protocol::{Description, Done, Plugin, Problem, Work, Write, serve};

/// What the plugin is called in messages.
const PROGRAM: &str = concat!("nodekiln-provider-kubevirt ", env!("CARGO_PKG_VERSION"));

/// KubeVirt.
struct KubeVirt;

impl Plugin for KubeVirt {
    fn describe(&self) -> Description {
        describe::description()
    }

    fn write(&self, request: &Write, work: &Work) -> Result<Done, Problem> {
        archive::write(request, &mut |done, total| work.advance(done, Some(total)))
    }
}

fn main() -> ExitCode {
    serve(&KubeVirt, PROGRAM)
}
