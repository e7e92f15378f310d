//! What can be typed of `nodekiln metadata`.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

/// Tell a guest what its cloud would tell it: the metadata services of AWS, Azure, GCE, OpenStack and NoCloud,
/// and the disks that clouds attach.
#[derive(Args)]
#[command(after_help = METADATA_HELP)]
pub(crate) struct Metadata {
    #[command(subcommand)]
    pub(crate) verb: MetadataVerb,
}

const METADATA_HELP: &str = "\
Examples:
  nodekiln metadata serve --provider aws --listen 127.0.0.1:8080
  nodekiln metadata serve --provider gce --user-data cloud.yaml -- qemu-system-x86_64 … -netdev user,id=n
  nodekiln metadata medium --provider azure --user-data cloud.yaml --out provisioning.iso";

/// What to do with metadata.
#[derive(Subcommand)]
pub(crate) enum MetadataVerb {
    /// Run a cloud's metadata services, until interrupted or as long as a command runs.
    Serve(Serve),
    /// Write the disk or CD that a cloud attaches to tell a guest about itself.
    Medium(Medium),
}

/// A cloud.
#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cloud {
    /// Amazon EC2: IMDSv2 with tokens.
    Aws,
    /// Azure: metadata service, wireserver, provisioning CD.
    Azure,
    /// Google Compute Engine.
    Gce,
    /// OpenStack: metadata service, config drive.
    Openstack,
    /// VMware vSphere: OVF environment CD.
    Vsphere,
    /// cloud-init's NoCloud, by URL or on a disk.
    Nocloud,
}

/// The instance that is told about.
#[derive(Args)]
pub(crate) struct Instance {
    /// The cloud to stand in for.
    #[arg(long, value_enum, value_name = "CLOUD")]
    pub(crate) provider: Cloud,
    /// Description of the instance in YAML (docs/metadata.md); the options below override it, keys are added.
    #[arg(long, value_name = "FILE")]
    pub(crate) instance: Option<PathBuf>,
    /// Host name, without a domain.
    #[arg(long, value_name = "NAME")]
    pub(crate) hostname: Option<String>,
    /// Ethernet address of the guest's card; guests look for their own in the metadata.
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) mac: Option<String>,
    /// File with public keys, one OpenSSH line each, besides those of the description.
    #[arg(long, value_name = "FILE")]
    pub(crate) ssh_key: Vec<PathBuf>,
    /// File with user-data: any bytes.
    #[arg(long, value_name = "FILE")]
    pub(crate) user_data: Option<PathBuf>,
    /// Any text: another one gives an instance with other ids.
    #[arg(long, value_name = "TEXT")]
    pub(crate) seed: Option<String>,
    /// Number of the clone, 0, 1, …: clones differ in their ids, name and Ethernet address.
    #[arg(long, value_name = "N")]
    pub(crate) clone: Option<u32>,
}

/// Run a cloud's metadata services, until interrupted or as long as a command runs.
///
/// Without --listen they have a network of their own, where 169.254.169.254 (and Azure's 168.63.129.16) are
/// theirs, names such as metadata.google.internal are known, and there is no way out. A guest that is started
/// in it with QEMU's user-mode network finds them where its cloud has them. Every request is told on standard
/// error: headers by name only, never a token.
#[derive(Args)]
#[command(after_help = SERVE_HELP)]
pub(crate) struct Serve {
    #[command(flatten)]
    pub(crate) instance: Instance,
    /// Listen here, in this machine's own network, and make no network namespace. Port 0 takes a free one.
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) listen: Option<SocketAddr>,
    /// Let something go wrong, as in `--fault 'GET /latest/user-data=500x3'`. May be given several times.
    #[arg(long, value_name = "METHOD PATH=WHAT")]
    pub(crate) fault: Vec<String>,
    /// Write a line of JSON for each request here.
    #[arg(long, value_name = "FILE")]
    pub(crate) log: Option<PathBuf>,
    /// Tell on standard output in objects of one line each: ready, each request, end.
    #[arg(long, conflicts_with = "command")]
    pub(crate) json: bool,
    /// Run this in the network, with NODEKILN_METADATA set to the service's URL, and end with it and its exit
    /// code.
    #[arg(last = true, value_name = "COMMAND")]
    pub(crate) command: Vec<OsString>,
}

const SERVE_HELP: &str = "\
Faults: METHOD PATH=WHAT, where METHOD is GET, HEAD, PUT, POST, DELETE or `*`; `*` in PATH stands for anything;
a PATH with `?` is compared with the query too. WHAT is
  500             this status (400 to 599)         refuse-token    401, and 403 to PUT
  delay:2s        the right answer, later          reset           the connection is reset
  slow:100        the right answer, bytes/s        half            half of the right answer
  hang            no answer                        garbage         200 and bytes of no format
and `x3` at the end means the first three times. DNS NAME=nxdomain, servfail, hang or an IPv4 address strikes names.

Without root the namespace is made in a user namespace, where the machine allows it.";

/// Write the disk or CD that a cloud attaches to tell a guest about itself.
///
/// NoCloud's is a FAT file system labelled CIDATA, OpenStack's config drive an ISO 9660 one labelled config-2;
/// Azure's provisioning CD and vSphere's OVF environment must be CDs on IDE, SATA or SCSI. The same instance
/// gives the same bytes. AWS and GCE attach none.
#[derive(Args)]
pub(crate) struct Medium {
    #[command(flatten)]
    pub(crate) instance: Instance,
    /// The file to write. One that is there is replaced.
    #[arg(long, short, value_name = "FILE")]
    pub(crate) out: PathBuf,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}
