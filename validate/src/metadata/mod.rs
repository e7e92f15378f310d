//! The clouds' metadata services, without a cloud: what a guest asks at 169.254.169.254 and elsewhere.
//!
//! An [`Instance`] is described once. From it [`answer`] renders every answer of its cloud's services, a
//! pure function but for what the guest itself leaves there ([`Observed`]), and [`media`] every disk that
//! a cloud attaches instead. [`Server`] puts the answers on sockets, writes down each request and injects
//! faults; [`Namespace`] gives those sockets the real addresses, in a network of their own that a guest
//! can be started in. [`Emulation`] is all of it together.

mod azure;
pub mod dns;
mod ec2;
mod emulation;
pub mod exchange;
pub mod faults;
mod gce;
pub mod instance;
pub mod journal;
pub mod media;
pub mod namespace;
mod nocloud;
mod openstack;
pub mod server;
#[cfg(test)]
mod tests;
mod tree;
mod xml;

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use hyper::StatusCode;
use serde::Serialize;

pub use azure::{Health, Provisioned};
pub use emulation::{Emulation, serve_at};
pub use faults::Fault;
pub use instance::{Description, Instance};
pub use journal::Journal;
pub use namespace::Namespace;
pub use server::Server;

use exchange::{Destination, Request, Response};

/// A cloud, or what stands for one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Cloud {
    /// Amazon EC2.
    Aws,
    /// Microsoft Azure.
    Azure,
    /// Google Compute Engine.
    Gce,
    /// OpenStack.
    OpenStack,
    /// VMware vSphere: a medium only.
    VSphere,
    /// cloud-init's NoCloud.
    NoCloud,
}

/// The address of every cloud's metadata service (RFC 3927 has it link-local).
pub const METADATA: Ipv4Addr = Ipv4Addr::new(169, 254, 169, 254);
/// Azure's wireserver, "a virtual public IP address".
pub const WIRESERVER: Ipv4Addr = Ipv4Addr::new(168, 63, 129, 16);
/// The port of Azure's plug-in of the host, at the wireserver's address.
const HOST_PLUGIN: u16 = 32526;

impl Cloud {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Aws, Self::Azure, Self::Gce, Self::OpenStack, Self::VSphere, Self::NoCloud];

    /// The cloud whose datasource is `source`, in the words of cloud-init's `datasource_list`.
    #[must_use]
    pub fn of_data_source(source: &str) -> Option<Self> {
        Some(match source {
            "Ec2" => Self::Aws,
            "Azure" => Self::Azure,
            "GCE" => Self::Gce,
            "OpenStack" | "ConfigDrive" => Self::OpenStack,
            "VMware" | "OVF" => Self::VSphere,
            "NoCloud" => Self::NoCloud,
            _ => return None,
        })
    }

    /// Its word on the command line.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Aws => "aws",
            Self::Azure => "azure",
            Self::Gce => "gce",
            Self::OpenStack => "openstack",
            Self::VSphere => "vsphere",
            Self::NoCloud => "nocloud",
        }
    }

    /// Where its services listen; nowhere on vSphere.
    #[must_use]
    pub fn services(self) -> Vec<(Ipv4Addr, u16, Destination)> {
        let metadata = (METADATA, 80, Destination::Metadata);
        let wireserver = |port| (WIRESERVER, port, Destination::Wireserver);
        match self {
            Self::Azure => vec![metadata, wireserver(80), wireserver(HOST_PLUGIN)],
            Self::VSphere => Vec::new(),
            Self::Aws | Self::Gce | Self::OpenStack | Self::NoCloud => vec![metadata],
        }
    }

    /// Names that its own name server knows besides the instance's.
    #[must_use]
    pub fn names(self) -> Vec<(&'static str, Ipv4Addr)> {
        match self {
            Self::Gce => vec![(gce::NAME, METADATA), ("metadata", METADATA)],
            Self::Aws | Self::Azure | Self::OpenStack | Self::VSphere | Self::NoCloud => Vec::new(),
        }
    }
}

/// What the guest told its cloud.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Observed {
    /// Reports of health to Azure's wireserver, in order; of more than 32 the first `Ready`, which proves that
    /// the machine was provisioned, and the last ones.
    pub health: Vec<Health>,
    /// GCE's guest attributes, by namespace and key. `hostkeys` are public host keys.
    #[serde(serialize_with = "attributes")]
    pub guest_attributes: BTreeMap<(String, String), String>,
    /// The encrypted password that was left with OpenStack.
    #[serde(skip)]
    pub password: Option<String>,
}

impl Observed {
    /// Whether the machine reported itself provisioned (Azure).
    #[must_use]
    pub fn ready(&self) -> bool {
        self.health.iter().any(|report| report.state == Provisioned::Ready)
    }
}

/// JSON's keys are text: `namespace/key`.
fn attributes<S: serde::Serializer>(
    attributes: &BTreeMap<(String, String), String>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(
        attributes.iter().map(|((space, key), value)| (format!("{space}/{key}"), value)),
    )
}

/// What the services of the instance's cloud answer. `waited` tells that an answer which was held back
/// ([`exchange::Hold`]) is due now.
#[must_use]
pub fn answer(
    instance: &Instance,
    observed: &mut Observed,
    request: &Request,
    waited: bool,
) -> Response {
    match instance.cloud {
        Cloud::Aws => ec2::answer(instance, request),
        Cloud::Azure => azure::answer(instance, observed, request),
        Cloud::Gce => gce::answer(instance, observed, request, waited),
        Cloud::OpenStack => openstack::answer(instance, observed, request),
        Cloud::NoCloud => nocloud::answer(instance, request),
        Cloud::VSphere => Response::empty(StatusCode::NOT_FOUND),
    }
}
