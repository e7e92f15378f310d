//! Functions on lists and mappings, and those that choose between values.

use std::collections::BTreeMap;
use std::sync::Arc;

use gotmpl::Value;

use super::functions::{ANY, Entry, count, text, whole};

/// The table; arguments come in sprig's order.
pub(super) static FUNCTIONS: &[Entry] = &[
    Entry("mkSlice", 0, ANY, |a| Ok(list(a.iter().cloned()))),
    Entry("list", 0, ANY, |a| Ok(list(a.iter().cloned()))),
    Entry("tuple", 0, ANY, |a| Ok(list(a.iter().cloned()))),
    Entry("first", 1, 1, |a| Ok(items(&a[0])?.first().cloned().unwrap_or(Value::Nil))),
    Entry("last", 1, 1, |a| Ok(items(&a[0])?.last().cloned().unwrap_or(Value::Nil))),
    Entry("rest", 1, 1, |a| Ok(list(items(&a[0])?.iter().skip(1).cloned()))),
    Entry("append", 2, 2, |a| Ok(list(items(&a[0])?.iter().cloned().chain([a[1].clone()])))),
    Entry("concat", 0, ANY, |a| {
        let all: Result<Vec<&[Value]>, String> = a.iter().map(items).collect();
        Ok(list(all?.concat().into_iter()))
    }),
    Entry("has", 2, 2, |a| Ok(Value::Bool(items(&a[1])?.contains(&a[0])))),
    Entry("uniq", 1, 1, |a| {
        let mut seen: Vec<Value> = Vec::new();
        for item in items(&a[0])? {
            if !seen.contains(item) {
                seen.push(item.clone());
            }
        }
        Ok(list(seen.into_iter()))
    }),
    Entry("sortAlpha", 1, 1, |a| {
        let mut texts: Vec<String> = items(&a[0])?.iter().map(ToString::to_string).collect();
        texts.sort();
        Ok(list(texts.iter().map(text)))
    }),
    Entry("until", 1, 1, |a| Ok(list((0..count(&a[0])?).map(number)))),
    Entry("untilStep", 3, 3, |a| {
        let (from, to) = (whole(&a[0])?, whole(&a[1])?);
        let step = count(&a[2])?;
        if step == 0 {
            return Err("the step is not above 0".to_owned());
        }
        count(&Value::Int(to.saturating_sub(from)))?;
        Ok(list((from..to).step_by(step).map(Value::Int)))
    }),
    Entry("join", 2, 2, |a| {
        let texts: Vec<String> = match &a[1] {
            Value::List(items) => items.iter().map(ToString::to_string).collect(),
            other => vec![other.to_string()],
        };
        Ok(text(texts.join(&a[0].to_string())))
    }),
    Entry("splitList", 2, 2, |a| {
        let (by, whole) = (a[0].to_string(), a[1].to_string());
        Ok(list(pieces(&whole, &by).iter().map(text)))
    }),
    Entry("split", 2, 2, |a| {
        let (by, whole) = (a[0].to_string(), a[1].to_string());
        let named = pieces(&whole, &by);
        let named = named.iter().enumerate().map(|(n, piece)| (format!("_{n}"), text(piece)));
        Ok(mapping(named))
    }),
    Entry("dict", 0, ANY, |a| {
        let pairs = a
            .chunks(2)
            .map(|pair| (pair[0].to_string(), pair.get(1).cloned().unwrap_or_else(|| text(""))));
        Ok(mapping(pairs))
    }),
    Entry("get", 2, 2, |a| {
        Ok(entries(&a[0])?.get(a[1].to_string().as_str()).cloned().unwrap_or_else(|| text("")))
    }),
    Entry("hasKey", 2, 2, |a| {
        Ok(Value::Bool(entries(&a[0])?.contains_key(a[1].to_string().as_str())))
    }),
    Entry("keys", 1, ANY, |a| {
        let all: Result<Vec<_>, String> = a.iter().map(entries).collect();
        Ok(list(all?.iter().flat_map(|one| one.keys()).map(text)))
    }),
    Entry("values", 1, 1, |a| Ok(list(entries(&a[0])?.values().cloned()))),
    Entry("default", 1, 2, |a| {
        Ok(a.get(1).filter(|given| given.is_truthy()).unwrap_or(&a[0]).clone())
    }),
    Entry("coalesce", 0, ANY, |a| {
        Ok(a.iter().find(|given| given.is_truthy()).cloned().unwrap_or(Value::Nil))
    }),
    Entry("empty", 1, 1, |a| Ok(Value::Bool(!a[0].is_truthy()))),
    Entry("ternary", 3, 3, |a| Ok(if a[2].is_truthy() { a[0].clone() } else { a[1].clone() })),
];

fn list(items: impl Iterator<Item = Value>) -> Value {
    Value::List(items.collect())
}

fn mapping(pairs: impl Iterator<Item = (String, Value)>) -> Value {
    Value::Map(Arc::new(pairs.map(|(key, value)| (Arc::from(key), value)).collect()))
}

fn number(number: usize) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn items(value: &Value) -> Result<&[Value], String> {
    match value {
        Value::List(items) => Ok(items),
        Value::Nil => Ok(&[]),
        other => Err(format!("{} is no list", other.type_name())),
    }
}

fn entries(value: &Value) -> Result<&BTreeMap<Arc<str>, Value>, String> {
    match value {
        Value::Map(entries) => Ok(entries),
        other => Err(format!("{} is no mapping", other.type_name())),
    }
}

/// As Go splits: an empty separator gives the characters.
fn pieces(whole: &str, by: &str) -> Vec<String> {
    if by.is_empty() {
        return whole.chars().map(String::from).collect();
    }
    whole.split(by).map(str::to_owned).collect()
}
