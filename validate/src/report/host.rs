//! How a host was reached that was judged in place of an image.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ssh::Trusted;

/// A session over SSH with a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct HostSession {
    /// `user@host`, with the port where it is not 22.
    pub address: String,
    /// Its host key as a line of OpenSSH's: what `--host-key` takes.
    pub key: String,
    /// The same as `SHA256:…`.
    pub fingerprint: String,
    /// Why that key was believed.
    pub trusted: Trusted,
    /// The session through which it was reached, where it was not straight.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub through: Option<Box<HostSession>>,
    /// Its distribution and kernel in words; of a bastion nobody asked.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub system: String,
}

impl HostSession {
    /// Kind, fingerprint and why it was believed, for people.
    #[must_use]
    pub fn told(&self) -> String {
        let kind = self.key.split(' ').next().unwrap_or_default();
        format!("{kind} {}, {}", self.fingerprint, self.trusted.as_str())
    }

    /// The hosts on the way, the nearest last.
    pub fn bastions(&self) -> impl Iterator<Item = &Self> {
        std::iter::successors(self.through.as_deref(), |next| next.through.as_deref())
    }
}
