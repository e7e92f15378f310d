//! A resource: what it is about and what is wanted of it.

use std::fmt;
use std::time::Duration;

use serde_json::Value as Json;

use crate::kind::{Attribute, Kind};
use crate::matcher::{Dialect, Matcher};
use crate::place::Place;

/// One resource of a goss file, or of a rule's check.
#[derive(Clone, Debug)]
pub struct Resource {
    /// What it is called, as goss calls it (`file`, `dns` …).
    pub kind_name: String,
    /// Its key.
    pub id: String,
    /// What a report calls it, where the file says so.
    pub title: Option<String>,
    /// What the file keeps with it; null where nothing.
    pub meta: Json,
    /// Whether the file says to skip it.
    pub skip: bool,
    /// Where it stands.
    pub place: Place,
    /// What it is about.
    pub subject: Subject,
    pub(crate) wanted: Vec<Wanted>,
    pub(crate) dialect: Dialect,
}

/// An attribute and what is wanted of it.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub(crate) attribute: &'static Attribute,
    pub(crate) matcher: Want,
}

/// What is wanted of an attribute, as far as it could be read.
#[derive(Clone, Debug)]
pub(crate) enum Want {
    Matcher(Matcher),
    /// goss demands that something is wanted, and the file does not say what: that fails.
    Missing,
}

/// What a resource is about, with all that is needed to find out.
#[derive(Clone, Debug, PartialEq)]
pub enum Subject {
    /// The file at this path; `~` and `~NAME` in front stand for a home directory.
    File(String),
    /// The package of this name.
    Package(String),
    /// The unit of this name.
    Service(String),
    /// A command.
    Command(Command),
    /// The kernel parameter of this name.
    KernelParam(String),
    /// The mount point.
    Mount(String),
    /// The user of this name.
    User(String),
    /// The group of this name.
    Group(String),
    /// A port.
    Port(Port),
    /// A request.
    Http(Box<Request>),
    /// This value.
    Matching(Json),
    /// Nothing that nodekiln judges; the text says why.
    Skipped(String),
}

/// A command that a shell runs in the guest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Command {
    /// The shell's text.
    pub exec: String,
    /// After this time it is given up.
    pub timeout: Duration,
}

/// A local port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Port {
    /// The protocol and the family of addresses.
    pub protocol: Protocol,
    /// The number.
    pub number: u16,
}

/// A protocol and a family of addresses; a socket that takes both families is of the sixth alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP over IPv4.
    Tcp,
    /// TCP over IPv6.
    Tcp6,
    /// UDP over IPv4.
    Udp,
    /// UDP over IPv6.
    Udp6,
}

/// A request over HTTP that is made in the guest.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Request {
    /// The URL.
    pub url: String,
    /// The method; GET where none is given.
    pub method: Option<String>,
    /// Whether any certificate is taken.
    pub allow_insecure: bool,
    /// Whether redirects are followed.
    pub follow: bool,
    /// After this time it is given up.
    pub timeout: Duration,
    /// Headers, `Name: value`.
    pub headers: Vec<String>,
    /// Body.
    pub body: Option<String>,
    /// Name and password for basic authentication.
    pub credentials: Option<(String, Secret)>,
    /// Path, in the guest, of the certificates to trust.
    pub ca_file: Option<String>,
    /// Path, in the guest, of a client certificate.
    pub cert_file: Option<String>,
    /// Path, in the guest, of its key.
    pub key_file: Option<String>,
    /// A proxy's URL.
    pub proxy: Option<String>,
}

/// A text that reports do not show.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Secret(pub(crate) String);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl Resource {
    /// The kind, where nodekiln judges it.
    #[must_use]
    pub fn kind(&self) -> Option<Kind> {
        Some(match &self.subject {
            Subject::File(_) => Kind::File,
            Subject::Package(_) => Kind::Package,
            Subject::Service(_) => Kind::Service,
            Subject::Command(_) => Kind::Command,
            Subject::KernelParam(_) => Kind::KernelParam,
            Subject::Mount(_) => Kind::Mount,
            Subject::User(_) => Kind::User,
            Subject::Group(_) => Kind::Group,
            Subject::Port(_) => Kind::Port,
            Subject::Http(_) => Kind::Http,
            Subject::Matching(_) => Kind::Matching,
            Subject::Skipped(_) => return None,
        })
    }

    /// Whether something is wanted of the attribute `name`.
    #[must_use]
    pub fn wants(&self, name: &str) -> bool {
        self.wanted.iter().any(|wanted| wanted.attribute.name == name)
    }

    /// Why something that it wants is never judged, where that is so.
    pub(crate) fn unsupported(&self) -> Option<&str> {
        self.wanted.iter().find_map(|wanted| match &wanted.matcher {
            Want::Matcher(matcher) => matcher.unsupported(),
            Want::Missing => None,
        })
    }
}

impl Port {
    /// Reads `tcp:22`, `udp6:53` or a bare number, which is TCP's.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let (protocol, number) = text.split_once(':').unwrap_or(("tcp", text));
        let protocol = match protocol {
            "tcp" => Protocol::Tcp,
            "tcp6" => Protocol::Tcp6,
            "udp" => Protocol::Udp,
            "udp6" => Protocol::Udp6,
            _ => return None,
        };
        Some(Self { protocol, number: number.parse().ok()? })
    }
}

impl Protocol {
    /// As goss, and the kernel's files in /proc/net, call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Tcp6 => "tcp6",
            Self::Udp => "udp",
            Self::Udp6 => "udp6",
        }
    }
}
