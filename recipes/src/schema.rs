//! JSON Schema (draft 2020-12) of a recipe's YAML, made from the same table that the checker uses.
//!
//! The schema sees one file: what a recipe must have in the end may come from a parent, so nothing
//! is required at the top, and each key takes `null`, which takes a parent's value away.

use serde_json::{Map as Json, Value, json};

use crate::kind::{Form, Kind};
use crate::shape::{Joins, List, Object, RECIPE, Shape};

/// The schema, for editors and other programs.
#[must_use]
pub fn schema() -> Value {
    let mut schema = object(&RECIPE);
    if let Value::Object(schema) = &mut schema {
        schema.insert("$schema".into(), "https://json-schema.org/draft/2020-12/schema".into());
        schema.insert("title".into(), "nodekiln recipe".into());
        schema.insert("description".into(), "What a Kubernetes node image is.".into());
    }
    schema
}

fn shape(shape: Shape) -> Value {
    match shape {
        Shape::Scalar(kind) => scalar(kind),
        Shape::List(list) => list_of(list),
        Shape::Map(map) => {
            let mut names = scalar(map.key);
            if let Value::Object(names) = &mut names {
                names.remove("type");
            }
            let value = nullable(self::shape(map.value));
            json!({ "type": "object", "propertyNames": names, "additionalProperties": value })
        }
        Shape::Object(object) => self::object(object),
        Shape::ScalarOr(kind, object) => json!({ "anyOf": [scalar(kind), self::object(object)] }),
    }
}

fn scalar(kind: &Kind) -> Value {
    let mut schema = match kind.form {
        Form::Text => json!({ "type": "string" }),
        Form::TextOrInteger => json!({ "type": ["string", "integer"], "minimum": 0 }),
        Form::TextOrNumber => json!({ "type": ["string", "number"] }),
        Form::Integer(low, high) => {
            json!({ "type": "integer", "minimum": low, "maximum": high })
        }
        Form::Boolean => json!({ "type": "boolean" }),
        Form::True => json!({ "const": true }),
        Form::Choice(words) => json!({ "enum": words }),
    };
    if let Value::Object(schema) = &mut schema {
        // For numbers in a place of text a pattern says nothing, as it should be.
        if !kind.pattern.is_empty() {
            schema.insert("pattern".into(), kind.pattern.into());
        }
    }
    schema
}

fn list_of(list: &List) -> Value {
    let how = match list.joins {
        Joins::Once => "Items follow those of the parent; each stands once.",
        Joins::ByKey("path") => "An item replaces the parent's with the same path.",
        Joins::ByKey(_) => "An item replaces the parent's with the same name.",
        Joins::Append => "Items follow those of the parent.",
    };
    json!({ "type": "array", "items": shape(list.item), "$comment": how })
}

fn object(object: &Object) -> Value {
    let mut properties = Json::new();
    for field in object.fields {
        let mut value = shape(field.shape);
        if !field.required {
            value = nullable(value);
        }
        if let Value::Object(value) = &mut value {
            value.insert("description".into(), field.about.into());
        }
        properties.insert(field.name.into(), value);
    }
    let required: Vec<&str> =
        object.fields.iter().filter(|field| field.required).map(|field| field.name).collect();
    let mut schema = json!({
        "type": "object",
        "properties": properties,
        "additionalProperties": false,
    });
    if let Value::Object(schema) = &mut schema {
        if !required.is_empty() {
            schema.insert("required".into(), json!(required));
        }
        if !object.alternatives.is_empty() {
            schema.insert("oneOf".into(), object.alternatives.iter().map(|g| given(g)).collect());
        }
        let conditions: Vec<Value> = object.alternatives.iter().flat_map(|g| whole(g)).collect();
        if !conditions.is_empty() {
            schema.insert("allOf".into(), conditions.into());
        }
    }
    schema
}

/// Each key of `group` needs the others, also beside another alternative. `dependentRequired` would
/// not do, as it takes a key whose value is null for one that is there.
fn whole(group: &[&str]) -> Vec<Value> {
    let needs_all = |name: &&str| json!({ "if": given(&[*name]), "then": given(group) });
    group.iter().filter(|_| group.len() > 1).map(needs_all).collect()
}

/// All keys of `group` are there and not null.
fn given(group: &[&str]) -> Value {
    let not_null = json!({ "not": { "type": "null" } });
    let properties: Json<String, Value> =
        group.iter().map(|name| ((*name).to_owned(), not_null.clone())).collect();
    json!({ "required": group, "properties": properties })
}

fn nullable(schema: Value) -> Value {
    let alternatives = Value::Array(vec![schema, json!({ "type": "null" })]);
    Value::Object(Json::from_iter([("anyOf".to_owned(), alternatives)]))
}
