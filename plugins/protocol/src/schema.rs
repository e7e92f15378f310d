//! The JSON Schema of all messages, made from their types.

use schemars::{JsonSchema, Schema};
use serde::Serialize;

use crate::{Answer, Handshake, Request};

/// Any line.
#[derive(JsonSchema, Serialize)]
#[schemars(
    title = "A line between nodekiln and a provider plugin",
    description = "docs/plugins.md tells who says what when. The definitions Handshake, Request and Answer are the messages of version 1."
)]
#[serde(untagged)]
#[expect(dead_code, reason = "a schema is made of it, and no value")]
enum Line {
    /// The first line in either direction.
    Handshake(Handshake),
    /// From nodekiln.
    Request(Request),
    /// From the plugin.
    Answer(Answer),
}

/// The schema (JSON Schema, draft 2020-12).
#[must_use]
pub fn schema() -> Schema {
    schemars::schema_for!(Line)
}
