//! The JSON Schema of a rules file, made from the types and the table of kinds.

use std::collections::BTreeMap;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Serialize;
use serde_json::{Map, Value as Json, json};

use super::{Severity, Tier};
use crate::kind::{COMMON, Description, KINDS, Shape};

/// The file.
#[derive(JsonSchema, Serialize)]
#[schemars(
    title = "nodekiln rules",
    description = "Rules for nodekiln validate; docs/goss.md tells about them."
)]
#[serde(deny_unknown_fields)]
struct File {
    /// The rules.
    rules: Option<Vec<Rule>>,
    /// Rules that may fail, for a reason and until a day.
    waivers: Option<Vec<Waiver>>,
}

/// One rule.
#[derive(JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    /// Its name.
    #[schemars(regex(pattern = "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$"))]
    id: String,
    /// What it demands, in a line.
    #[schemars(length(min = 1))]
    title: String,
    /// What a failure means.
    severity: Severity,
    /// Why it is demanded.
    why: Option<String>,
    /// What to do where it fails.
    remedy: Option<String>,
    /// When it is judged; by what the check needs, where it is not given.
    tier: Option<Tier>,
    /// What is checked: resources of one kind, each below its key.
    #[schemars(schema_with = "check")]
    check: BTreeMap<String, Json>,
}

/// A rule that may fail, for a reason and until a day.
#[derive(JsonSchema, Serialize)]
#[serde(deny_unknown_fields)]
struct Waiver {
    /// The rule's id.
    rule: String,
    /// Why it may fail.
    #[schemars(length(min = 1))]
    reason: String,
    /// The last day on which it holds, such as 2027-01-31.
    #[schemars(regex(pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}$"))]
    until: String,
    /// The one provider for whose images it holds.
    provider: Option<String>,
    /// The one image, by the recipe's name, for which it holds.
    image: Option<String>,
    /// What a finding has in it for which it holds, or a path in it; any other finding still fails the rule.
    #[schemars(length(min = 1))]
    finding: Option<String>,
}

/// The schema (JSON Schema, draft 2020-12).
#[must_use]
pub fn schema() -> Schema {
    schemars::schema_for!(File)
}

fn check(_: &mut SchemaGenerator) -> Schema {
    let kinds: Map<String, Json> =
        KINDS.iter().map(|kind| (kind.name.to_owned(), resources(kind))).collect();
    json_schema!({
        "type": "object",
        "minProperties": 1,
        "maxProperties": 1,
        "additionalProperties": false,
        "properties": kinds,
    })
}

/// The resources of a kind.
fn resources(kind: &Description) -> Json {
    let mut properties = Map::new();
    for one in kind.attributes {
        properties.insert(one.name.into(), described(attribute(one.shape), one.about));
    }
    for one in kind.settings.iter().chain(COMMON).filter(|one| one.name != "skip") {
        properties.insert(one.name.into(), described(plain(one.shape), one.about));
    }
    let required: Vec<&str> =
        kind.attributes.iter().filter(|one| one.required).map(|one| one.name).collect();
    json!({
        "type": "object",
        "minProperties": 1,
        "description": format!("Key: {}", kind.key),
        "additionalProperties": {
            "type": "object",
            "additionalProperties": false,
            "properties": properties,
            "required": required,
        },
    })
}

fn described(mut schema: Json, about: &str) -> Json {
    if let Json::Object(entries) = &mut schema {
        entries.insert("description".into(), about.into());
    }
    schema
}

/// A plain value, a list where the attribute takes one, or a matcher.
fn attribute(shape: Shape) -> Json {
    let matcher = json!({ "type": "object", "minProperties": 1, "maxProperties": 1 });
    let list = json!({ "type": "array" });
    match shape {
        Shape::Any => json!({}),
        Shape::Texts => json!({ "anyOf": [list, matcher] }),
        Shape::Output => {
            let patterns = json!({ "type": "array", "items": { "type": "string" } });
            json!({ "anyOf": [{ "type": "string" }, patterns, matcher] })
        }
        shape => json!({ "anyOf": [plain(shape), matcher] }),
    }
}

fn plain(shape: Shape) -> Json {
    match shape {
        Shape::Boolean => json!({ "type": "boolean" }),
        Shape::Integer => json!({ "type": "integer" }),
        Shape::Text | Shape::Output => json!({ "type": "string" }),
        Shape::Mode => json!({ "type": "string", "pattern": "^[0-7]{4}$" }),
        Shape::TextOrInteger => json!({ "type": ["string", "integer"] }),
        Shape::Texts => json!({ "type": "array", "items": { "type": "string" } }),
        Shape::Any => json!({}),
    }
}
