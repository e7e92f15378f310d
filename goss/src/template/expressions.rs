//! Functions on regular expressions and versions.

use std::sync::Arc;

use gotmpl::Value;
use regex::{NoExpand, Regex};

use super::functions::{Entry, text, whole};
use super::mappings::mapping;
use crate::pattern;
use crate::version::{Constraint, Rules, version};

/// The table; arguments come in sprig's order.
pub(super) static FUNCTIONS: &[Entry] = &[
    Entry("regexMatch", 2, 2, |a| Ok(Value::Bool(expression(a)?.is_match(&a[1].to_string())))),
    Entry("regexFind", 2, 2, |a| {
        let whole = a[1].to_string();
        Ok(text(expression(a)?.find(&whole).map_or("", |found| found.as_str())))
    }),
    Entry("regexFindAll", 3, 3, |a| {
        let (expression, whole, most) = (expression(a)?, a[1].to_string(), most(&a[2])?);
        let found = expression.find_iter(&whole).take(most);
        Ok(Value::List(found.map(|found| text(found.as_str())).collect()))
    }),
    Entry("regexReplaceAll", 3, 3, |a| {
        let (whole, by) = (a[1].to_string(), a[2].to_string());
        Ok(text(expression(a)?.replace_all(&whole, by.as_str())))
    }),
    Entry("regexReplaceAllLiteral", 3, 3, |a| {
        let (whole, by) = (a[1].to_string(), a[2].to_string());
        Ok(text(expression(a)?.replace_all(&whole, NoExpand(&by))))
    }),
    Entry("regexSplit", 3, 3, |a| {
        let whole = a[1].to_string();
        let parts = split(&expression(a)?, &whole, most(&a[2])?);
        Ok(Value::List(parts.iter().map(text).collect()))
    }),
    Entry("findStringSubmatch", 2, 2, submatch),
    Entry("semver", 1, 1, |a| {
        let written = a[0].to_string();
        let version = version(&written, Rules::Masterminds)?;
        let number = |number: u64| i64::try_from(number).map_or(Value::Nil, Value::Int);
        let parts = [
            ("Major", number(version.major)),
            ("Minor", number(version.minor)),
            ("Patch", number(version.patch)),
            ("Prerelease", text(version.pre.as_str())),
            ("Metadata", text(version.build.as_str())),
            ("Original", text(written)),
        ];
        Ok(mapping(parts.into_iter().map(|(name, part)| (Arc::from(name), part))))
    }),
    Entry("semverCompare", 2, 2, |a| {
        let constraint = Constraint::read(&a[0].to_string(), Rules::Masterminds)?;
        Ok(Value::Bool(constraint.holds(&version(&a[1].to_string(), Rules::Masterminds)?)))
    }),
];

fn expression(arguments: &[Value]) -> Result<Regex, String> {
    pattern::compile(&arguments[0].to_string())
}

/// How many are wanted; below zero all.
fn most(value: &Value) -> Result<usize, String> {
    Ok(usize::try_from(whole(value)?).unwrap_or(usize::MAX))
}

/// What stands between the matches, in `most` parts at most. As in Go an empty match at the very beginning parts nothing.
fn split<'t>(expression: &Regex, whole: &'t str, most: usize) -> Vec<&'t str> {
    if most == 0 {
        return Vec::new();
    }
    if !expression.as_str().is_empty() && whole.is_empty() {
        return vec![""];
    }
    let (mut parts, mut begin, mut end) = (Vec::new(), 0, 0);
    for found in expression.find_iter(whole) {
        if parts.len() + 1 >= most {
            break;
        }
        end = found.start();
        if found.end() != 0 {
            parts.push(&whole[begin..end]);
        }
        begin = found.end();
    }
    if end != whole.len() {
        parts.push(&whole[begin..]);
    }
    parts
}

/// What the groups of an expression caught: by name where they have names, else by number.
fn submatch(arguments: &[Value]) -> Result<Value, String> {
    let expression = expression(arguments)?;
    let whole = arguments[1].to_string();
    let Some(found) = expression.captures(&whole) else {
        return Ok(Value::Map(Arc::default()));
    };
    let named = expression.capture_names().any(|name| name.is_some());
    let groups = expression.capture_names().enumerate().filter_map(|(number, name)| {
        let key = if named { name?.to_owned() } else { number.to_string() };
        let caught = found.get(number).map_or("", |group| group.as_str());
        Some((Arc::from(key), text(caught)))
    });
    Ok(mapping(groups))
}
