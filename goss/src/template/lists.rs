//! Functions on lists, and those that choose between values.

use std::sync::Arc;

use gotmpl::Value;

use super::functions::{ANY, Entry, count, text, whole};
use super::mappings::mapping;

/// The table; arguments come in sprig's order.
pub(super) static FUNCTIONS: &[Entry] = &[
    Entry("mkSlice", 0, ANY, |a| Ok(list(a.iter().cloned()))),
    Entry("list", 0, ANY, |a| Ok(list(a.iter().cloned()))),
    Entry("tuple", 0, ANY, |a| Ok(list(a.iter().cloned()))),
    Entry("first", 1, 1, |a| Ok(items(&a[0])?.first().cloned().unwrap_or(Value::Nil))),
    Entry("last", 1, 1, |a| Ok(items(&a[0])?.last().cloned().unwrap_or(Value::Nil))),
    Entry("rest", 1, 1, |a| Ok(list(items(&a[0])?.iter().skip(1).cloned()))),
    Entry("initial", 1, 1, |a| {
        let all = items(&a[0])?;
        Ok(list(all[..all.len().saturating_sub(1)].iter().cloned()))
    }),
    Entry("reverse", 1, 1, |a| Ok(list(items(&a[0])?.iter().rev().cloned()))),
    Entry("prepend", 2, 2, |a| {
        Ok(list([a[1].clone()].into_iter().chain(items(&a[0])?.iter().cloned())))
    }),
    Entry("compact", 1, 1, |a| {
        Ok(list(items(&a[0])?.iter().filter(|item| item.is_truthy()).cloned()))
    }),
    Entry("without", 1, ANY, |a| {
        Ok(list(items(&a[0])?.iter().filter(|item| !a[1..].contains(item)).cloned()))
    }),
    Entry("chunk", 2, 2, |a| match count(&a[0])? {
        0 => Err("a part has at least one element".to_owned()),
        size => Ok(list(items(&a[1])?.chunks(size).map(|part| list(part.iter().cloned())))),
    }),
    Entry("any", 0, ANY, |a| Ok(Value::Bool(a.iter().any(Value::is_truthy)))),
    Entry("all", 0, ANY, |a| Ok(Value::Bool(a.iter().all(Value::is_truthy)))),
    Entry("toStrings", 1, 1, |a| {
        let all = match &a[0] {
            Value::List(items) => items,
            one => std::slice::from_ref(one),
        };
        Ok(list(
            all.iter()
                .filter(|item| !matches!(item, Value::Nil))
                .map(|item| text(item.to_string())),
        ))
    }),
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
        Ok(numbered(&named))
    }),
    Entry("splitn", 3, 3, |a| {
        let (by, most, whole) = (a[0].to_string(), whole(&a[1])?, a[2].to_string());
        let mut parts = pieces(&whole, &by);
        if let Ok(most) = usize::try_from(most) {
            // The last of so many has the rest.
            let rest = parts.get(most.saturating_sub(1)..).unwrap_or_default().join(&by);
            if parts.len() > most {
                parts.truncate(most);
                parts.iter_mut().last().into_iter().for_each(|last| last.clone_from(&rest));
            }
        }
        Ok(numbered(&parts))
    }),
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

/// The parts by names: `_0`, `_1` and on.
fn numbered(parts: &[String]) -> Value {
    let named = parts.iter().enumerate();
    mapping(named.map(|(number, part)| (Arc::from(format!("_{number}")), text(part))))
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

/// As Go splits: an empty separator gives the characters.
fn pieces(whole: &str, by: &str) -> Vec<String> {
    if by.is_empty() {
        return whole.chars().map(String::from).collect();
    }
    whole.split(by).map(str::to_owned).collect()
}
