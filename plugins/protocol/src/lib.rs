//! What nodekiln and a provider plugin say to each other: JSON objects of one line each on the plugin's
//! standard input and output.
//!
//! A plugin is an executable `nodekiln-provider-NAME`. It is started once for each request:
//!
//! ```text
//! nodekiln                                          plugin
//! {"nodekiln_provider":1,"oldest":1,…}         ─▶
//!                                              ◀─   {"nodekiln_provider":1,"oldest":1,…}
//! {"request":"write","name":"node",…}          ─▶
//!                                              ◀─   {"answer":"progress","done":1048576}
//!                                              ◀─   {"answer":"done","artifacts":[…]}
//! (end of input)                               ─▶   (ends with exit code 0)
//! ```
//!
//! Here are the messages, and [`serve`], which does for a plugin in Rust all but its work. A plugin in another
//! language needs nothing of this crate; `docs/plugins.md` describes the same for its author, and
//! `docs/plugin.schema.json` is made from these types.

mod describe;
mod handshake;
#[cfg(feature = "schema")]
mod schema;
mod serve;
mod write;

use serde::{Deserialize, Serialize};

pub use describe::{
    Accepts, ArtifactName, Bios, Board, Boot, Chassis, Description, Disk, Firmware, Format,
    Machine, Network, Smbios, System, Uuid,
};
pub use handshake::Handshake;
#[cfg(feature = "schema")]
pub use schema::schema;
pub use serve::{Plugin, Work, serve, serve_on};
pub use write::{Artifact, Compression, Done, Facts, Input, Payload, Problem, Progress, Write};

/// The newest version of the protocol that this crate speaks.
pub const VERSION: u32 = 1;
/// The oldest version of the protocol that this crate speaks.
pub const OLDEST: u32 = 1;
/// The longest line, its line feed included, in bytes.
pub const LONGEST_LINE: usize = 1 << 20;
/// What the name of every plugin's executable begins with; the provider's name follows.
pub const PREFIX: &str = "nodekiln-provider-";

/// What nodekiln asks, after the handshake: one of the first two, and during a write perhaps the third.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "request", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Say what you are: a description answers.
    Describe {},
    /// Write your artifact: progress, then done, cancelled or an error answers.
    Write(Box<Write>),
    /// Stop writing. Cancelled answers, or done where that was on its way.
    Cancel {},
}

/// What a plugin answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "schema", derive(schemars::JsonSchema))]
#[serde(tag = "answer", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Answer {
    /// To `describe`: what the plugin is.
    Description(Box<Description>),
    /// To `write`, as often as it likes: still working.
    Progress(Progress),
    /// To `write`: the artifact is there.
    Done(Done),
    /// To `cancel`: the work was given up.
    Cancelled {},
    /// To anything: it cannot be done.
    Error(Problem),
}

/// A message as its line, with a line feed.
///
/// # Errors
/// When a map in it has keys that are no text, which none of these types has.
pub fn line(message: &impl Serialize) -> serde_json::Result<String> {
    let mut text = serde_json::to_string(message)?;
    text.push('\n');
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_tagged_and_closed() {
        assert_eq!(line(&Request::Describe {}).unwrap(), "{\"request\":\"describe\"}\n");
        let read = serde_json::from_str::<Request>;
        assert_eq!(read(r#"{"request":"cancel"}"#).unwrap(), Request::Cancel {});
        assert!(read(r#"{"request":"cancel","now":true}"#).is_err());
        assert!(read(r#"{"request":"sing"}"#).is_err());
    }

    #[test]
    fn answers_are_closed_too() {
        let read = serde_json::from_str::<Answer>;
        assert!(read(r#"{"answer":"progress","done":1}"#).is_ok());
        let failure = read(r#"{"answer":"progress","done":1,"percent":3}"#).unwrap_err();
        assert!(failure.to_string().contains("percent"), "{failure}");
        assert!(read(r#"{"answer":"cancelled","why":"x"}"#).is_err());
    }
}
