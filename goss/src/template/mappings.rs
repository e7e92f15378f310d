//! Functions on mappings, and JSON.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;
use serde_json::Value as Json;

use super::changes::{self, SET, UNSET};
use super::convert::{from_json, to_json};
use super::functions::{ANY, Entry, text};

type Entries = BTreeMap<Arc<str>, Value>;

/// The table; arguments come in sprig's order.
pub(super) static FUNCTIONS: &[Entry] = &[
    Entry("dict", 0, ANY, |a| {
        let pairs = a.chunks(2).map(|pair| {
            (Arc::from(pair[0].to_string()), pair.get(1).cloned().unwrap_or_else(|| text("")))
        });
        Ok(mapping(pairs))
    }),
    Entry("get", 2, 2, |a| {
        Ok(entries(&a[0])?.get(&*a[1].to_string()).cloned().unwrap_or_else(|| text("")))
    }),
    Entry("hasKey", 2, 2, |a| Ok(Value::Bool(entries(&a[0])?.contains_key(&*a[1].to_string())))),
    Entry("keys", 1, ANY, |a| {
        let all: Result<Vec<_>, String> = a.iter().map(entries).collect();
        Ok(Value::List(all?.iter().flat_map(|one| one.keys()).map(text).collect()))
    }),
    Entry("values", 1, 1, |a| Ok(Value::List(entries(&a[0])?.values().cloned().collect()))),
    Entry("set", 0, ANY, changes::refused),
    Entry("unset", 0, ANY, changes::refused),
    Entry("pick", 1, ANY, |a| chosen(&a[0], &a[1..], true)),
    Entry("omit", 1, ANY, |a| chosen(&a[0], &a[1..], false)),
    Entry("pluck", 1, ANY, |a| {
        let key = a[0].to_string();
        let all: Result<Vec<_>, String> = a[1..].iter().map(entries).collect();
        Ok(Value::List(all?.iter().filter_map(|one| one.get(&*key).cloned()).collect()))
    }),
    Entry("dig", 3, ANY, |a| {
        let (keys, rest) = a.split_at(a.len() - 2);
        let mut found = &rest[1];
        for key in keys {
            match entries(found)?.get(&*key.to_string()) {
                Some(below) => found = below,
                None => return Ok(rest[0].clone()),
            }
        }
        Ok(found.clone())
    }),
    Entry("merge", 1, ANY, |a| merged(a, false)),
    Entry("mergeOverwrite", 1, ANY, |a| merged(a, true)),
    // No value is ever changed, so none needs a copy.
    Entry("deepCopy", 1, 1, |a| Ok(a[0].clone())),
    // JSON's numbers are floats to Go.
    Entry("fromJson", 1, 1, |a| {
        let json: Option<Json> = serde_json::from_str(&a[0].to_string()).ok();
        Ok(json.map_or(Value::Nil, |json| floats(from_json(&json))))
    }),
    Entry("toJson", 1, 1, |a| Ok(text(safe(&to_json(&a[0]).to_string())))),
    Entry("toPrettyJson", 1, 1, |a| {
        let pretty = serde_json::to_string_pretty(&to_json(&a[0]));
        Ok(text(safe(&pretty.map_err(|error| error.to_string())?)))
    }),
];

/// Those that a template calls by another name (see [`changes`]).
pub(super) static IN_PLACE: &[Entry] = &[
    Entry(SET, 3, 3, |a| {
        let mut changed = entries(&a[0])?.clone();
        changed.insert(Arc::from(a[1].to_string()), a[2].clone());
        Ok(Value::Map(Arc::new(changed)))
    }),
    Entry(UNSET, 2, 2, |a| {
        let mut changed = entries(&a[0])?.clone();
        changed.remove(&*a[1].to_string());
        Ok(Value::Map(Arc::new(changed)))
    }),
];

pub(super) fn mapping(pairs: impl Iterator<Item = (Arc<str>, Value)>) -> Value {
    Value::Map(Arc::new(pairs.collect()))
}

fn entries(value: &Value) -> Result<&Entries, String> {
    match value {
        Value::Map(entries) => Ok(entries),
        other => Err(format!("{} is no mapping", other.type_name())),
    }
}

/// The entries whose key is one of `keys`, or is none.
fn chosen(value: &Value, keys: &[Value], wanted: bool) -> Result<Value, String> {
    let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
    let all = entries(value)?.iter();
    let chosen = all.filter(|(key, _)| keys.iter().any(|one| **one == ***key) == wanted);
    Ok(mapping(chosen.map(|(key, value)| (key.clone(), value.clone()))))
}

/// The first mapping with the entries of the others, those below mappings too.
fn merged(mappings: &[Value], overwrite: bool) -> Result<Value, String> {
    let mut all = entries(&mappings[0])?.clone();
    for more in &mappings[1..] {
        merge(&mut all, entries(more)?, overwrite);
    }
    Ok(Value::Map(Arc::new(all)))
}

/// What is empty in `into` counts as absent; what is null in `from` is not taken there unless all is.
fn merge(into: &mut Entries, from: &Entries, overwrite: bool) {
    for (key, new) in from {
        match (into.get_mut(key), new) {
            (Some(Value::Map(old)), Value::Map(new)) => merge(Arc::make_mut(old), new, overwrite),
            (Some(old), _) if overwrite || !old.is_truthy() => *old = new.clone(),
            (Some(_), _) => {}
            (None, Value::Nil) if !overwrite => {}
            (None, _) => {
                into.insert(key.clone(), new.clone());
            }
        }
    }
}

fn floats(value: Value) -> Value {
    match value {
        #[expect(clippy::cast_precision_loss, reason = "Go reads them as floats too")]
        Value::Int(number) => Value::Float(number as f64),
        Value::List(items) => Value::List(items.iter().cloned().map(floats).collect()),
        Value::Map(entries) => {
            mapping(entries.iter().map(|(key, value)| (key.clone(), floats(value.clone()))))
        }
        other => other,
    }
}

/// As Go writes JSON, fit for a page: these signs stand in texts alone.
fn safe(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                out.push_str(&format!("\\u{:04x}", u32::from(c)));
            }
            c => out.push(c),
        }
    }
    out
}
