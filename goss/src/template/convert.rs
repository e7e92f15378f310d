//! Values of JSON and of the template engine.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;
use serde_json::{Number, Value as Json};

use super::Context;

/// What `.` is at the top of a template: `.Vars`, and `.Env` where it may be seen.
pub(super) fn root(context: &Context) -> Value {
    let mut root = BTreeMap::from([(Arc::from("Vars"), from_json(&context.vars))]);
    if let Some(environment) = &context.environment {
        let pairs = environment.iter().map(|(name, value)| {
            (Arc::from(name.as_str()), Value::String(Arc::from(value.as_str())))
        });
        root.insert(Arc::from("Env"), Value::Map(Arc::new(pairs.collect())));
    }
    Value::Map(Arc::new(root))
}

pub(super) fn from_json(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(truth) => Value::Bool(*truth),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Value::Int(whole),
            (None, float) => Value::Float(float.unwrap_or(f64::NAN)),
        },
        Json::String(text) => Value::String(Arc::from(text.as_str())),
        Json::Array(items) => Value::List(items.iter().map(from_json).collect()),
        Json::Object(entries) => {
            let pairs =
                entries.iter().map(|(key, value)| (Arc::from(key.as_str()), from_json(value)));
            Value::Map(Arc::new(pairs.collect()))
        }
    }
}

pub(super) fn to_json(value: &Value) -> Json {
    match value {
        Value::Nil | Value::Function(_) => Json::Null,
        Value::Bool(truth) => (*truth).into(),
        Value::Int(number) => (*number).into(),
        Value::Uint(number) => (*number).into(),
        Value::Float(number) => Number::from_f64(*number).map_or(Json::Null, Json::Number),
        Value::String(text) => (**text).into(),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(entries) => {
            let pairs = entries.iter().map(|(key, value)| (key.to_string(), to_json(value)));
            Json::Object(pairs.collect())
        }
    }
}
