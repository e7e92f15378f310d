//! Functions on texts, numbers and versions.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use gotmpl::Value;

use super::convert::to_json;
use super::functions::{ANY, Entry, count, text, whole};
use crate::pattern;
use crate::version::{Constraint, Rules, version};

/// The table; arguments come in sprig's order, so that the text worked on is the last and can be piped.
pub(super) static FUNCTIONS: &[Entry] = &[
    Entry("toLower", 1, 1, |a| Ok(text(a[0].to_string().to_lowercase()))),
    Entry("toUpper", 1, 1, |a| Ok(text(a[0].to_string().to_uppercase()))),
    Entry("lower", 1, 1, |a| Ok(text(a[0].to_string().to_lowercase()))),
    Entry("upper", 1, 1, |a| Ok(text(a[0].to_string().to_uppercase()))),
    Entry("title", 1, 1, |a| Ok(text(title(&a[0].to_string())))),
    Entry("trim", 1, 1, |a| Ok(text(a[0].to_string().trim()))),
    Entry("trimAll", 2, 2, |a| {
        let cut = a[0].to_string();
        Ok(text(a[1].to_string().trim_matches(|c| cut.contains(c))))
    }),
    Entry("trimPrefix", 2, 2, |a| {
        let (cut, whole) = (a[0].to_string(), a[1].to_string());
        Ok(text(whole.strip_prefix(&cut).unwrap_or(&whole)))
    }),
    Entry("trimSuffix", 2, 2, |a| {
        let (cut, whole) = (a[0].to_string(), a[1].to_string());
        Ok(text(whole.strip_suffix(&cut).unwrap_or(&whole)))
    }),
    Entry("contains", 2, 2, |a| Ok(Value::Bool(a[1].to_string().contains(&a[0].to_string())))),
    Entry("hasPrefix", 2, 2, |a| Ok(Value::Bool(a[1].to_string().starts_with(&a[0].to_string())))),
    Entry("hasSuffix", 2, 2, |a| Ok(Value::Bool(a[1].to_string().ends_with(&a[0].to_string())))),
    Entry("replace", 3, 3, |a| {
        Ok(text(a[2].to_string().replace(&a[0].to_string(), &a[1].to_string())))
    }),
    Entry("repeat", 2, 2, |a| Ok(text(a[1].to_string().repeat(count(&a[0])?)))),
    Entry("nospace", 1, 1, |a| Ok(text(a[0].to_string().replace(char::is_whitespace, "")))),
    Entry("trunc", 2, 2, |a| {
        let (length, whole) = (whole(&a[0])?, a[1].to_string());
        let size = whole.chars().count();
        let keep = usize::try_from(length.unsigned_abs()).unwrap_or(usize::MAX).min(size);
        let skip = if length < 0 { size - keep } else { 0 };
        Ok(text(whole.chars().skip(skip).take(keep).collect::<String>()))
    }),
    Entry("substr", 3, 3, |a| {
        let whole = a[2].to_string();
        let from = usize::try_from(self::whole(&a[0])?).unwrap_or(0);
        let to = usize::try_from(self::whole(&a[1])?).unwrap_or(usize::MAX);
        Ok(text(whole.chars().take(to).skip(from).collect::<String>()))
    }),
    Entry("indent", 2, 2, |a| Ok(text(indented(count(&a[0])?, &a[1].to_string())))),
    Entry("nindent", 2, 2, |a| {
        Ok(text(format!("\n{}", indented(count(&a[0])?, &a[1].to_string()))))
    }),
    Entry("quote", 0, ANY, |a| Ok(text(each(a, |text| format!("{text:?}"))))),
    Entry("squote", 0, ANY, |a| Ok(text(each(a, |text| format!("'{text}'"))))),
    Entry("toString", 1, 1, |a| Ok(text(a[0].to_string()))),
    Entry("toJson", 1, 1, |a| Ok(text(to_json(&a[0]).to_string()))),
    Entry("b64enc", 1, 1, |a| Ok(text(STANDARD.encode(a[0].to_string())))),
    Entry("b64dec", 1, 1, |a| {
        let bytes = STANDARD.decode(a[0].to_string()).map_err(|error| error.to_string())?;
        Ok(text(String::from_utf8_lossy(&bytes)))
    }),
    Entry("regexMatch", 2, 2, |a| Ok(Value::Bool(expression(a)?.is_match(&a[1].to_string())))),
    Entry("regexFind", 2, 2, |a| {
        let whole = a[1].to_string();
        Ok(text(expression(a)?.find(&whole).map_or("", |found| found.as_str())))
    }),
    Entry("regexReplaceAll", 3, 3, |a| {
        let (whole, by) = (a[1].to_string(), a[2].to_string());
        Ok(text(expression(a)?.replace_all(&whole, by.as_str())))
    }),
    Entry("findStringSubmatch", 2, 2, submatch),
    Entry("semverCompare", 2, 2, |a| {
        let constraint = Constraint::read(&a[0].to_string(), Rules::Masterminds)?;
        Ok(Value::Bool(constraint.holds(&version(&a[1].to_string(), Rules::Masterminds)?)))
    }),
    Entry("int", 1, 1, |a| Ok(Value::Int(whole(&a[0]).unwrap_or(0)))),
    Entry("int64", 1, 1, |a| Ok(Value::Int(whole(&a[0]).unwrap_or(0)))),
    Entry("atoi", 1, 1, |a| Ok(Value::Int(whole(&a[0]).unwrap_or(0)))),
    Entry("add", 1, ANY, |a| folded(a, i64::checked_add)),
    Entry("mul", 1, ANY, |a| folded(a, i64::checked_mul)),
    Entry("max", 1, ANY, |a| folded(a, |one, other| Some(one.max(other)))),
    Entry("min", 1, ANY, |a| folded(a, |one, other| Some(one.min(other)))),
    Entry("add1", 1, 1, |a| folded(&[a[0].clone(), Value::Int(1)], i64::checked_add)),
    Entry("sub", 2, 2, |a| folded(a, i64::checked_sub)),
    Entry("div", 2, 2, |a| folded(a, i64::checked_div)),
    Entry("mod", 2, 2, |a| folded(a, i64::checked_rem)),
    Entry("fail", 1, 1, |a| Err(a[0].to_string())),
];

fn expression(arguments: &[Value]) -> Result<regex::Regex, String> {
    pattern::compile(&arguments[0].to_string())
}

/// What the groups of an expression caught: by name where they have names, else by number.
fn submatch(arguments: &[Value]) -> Result<Value, String> {
    let expression = expression(arguments)?;
    let whole = arguments[1].to_string();
    let Some(found) = expression.captures(&whole) else {
        return Ok(Value::Map(std::sync::Arc::default()));
    };
    let named = expression.capture_names().any(|name| name.is_some());
    let groups = expression.capture_names().enumerate().filter_map(|(number, name)| {
        let key = if named { name?.to_owned() } else { number.to_string() };
        let caught = found.get(number).map_or("", |group| group.as_str());
        Some((std::sync::Arc::from(key), text(caught)))
    });
    Ok(Value::Map(std::sync::Arc::new(groups.collect())))
}

fn folded(arguments: &[Value], step: impl Fn(i64, i64) -> Option<i64>) -> Result<Value, String> {
    let mut numbers = arguments.iter().map(whole);
    let first = numbers.next().unwrap_or(Ok(0))?;
    let result = numbers.try_fold(first, |sum, number| {
        step(sum, number?).ok_or_else(|| "the result is no 64-bit number".to_owned())
    });
    result.map(Value::Int)
}

fn each(arguments: &[Value], write: impl Fn(&str) -> String) -> String {
    let given = arguments.iter().filter(|value| !matches!(value, Value::Nil));
    given.map(|value| write(&value.to_string())).collect::<Vec<_>>().join(" ")
}

fn indented(by: usize, text: &str) -> String {
    let pad = " ".repeat(by);
    format!("{pad}{}", text.replace('\n', &format!("\n{pad}")))
}

fn title(text: &str) -> String {
    let mut start = true;
    let raised = text.chars().flat_map(|c| {
        let upper = std::mem::replace(&mut start, !c.is_alphanumeric()) && c.is_alphabetic();
        if upper { c.to_uppercase().collect::<Vec<_>>() } else { vec![c] }
    });
    raised.collect()
}
