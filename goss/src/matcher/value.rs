//! Values turned into texts, numbers and lists before they are matched, as goss does.

use serde_json::{Number, Value as Json};

/// As a text; lists become lines.
pub(super) fn text(value: &Json) -> String {
    match value {
        Json::String(text) => text.clone(),
        Json::Array(items) => items.iter().map(go_text).collect::<Vec<_>>().join("\n"),
        other => go_text(other),
    }
}

/// As Go's `%v` writes it.
fn go_text(value: &Json) -> String {
    match value {
        Json::Null => "<nil>".to_owned(),
        Json::Bool(truth) => truth.to_string(),
        Json::Number(number) => go_number(number),
        Json::String(text) => text.clone(),
        Json::Array(items) => {
            format!("[{}]", items.iter().map(go_text).collect::<Vec<_>>().join(" "))
        }
        Json::Object(entries) => {
            let mut pairs: Vec<String> =
                entries.iter().map(|(key, value)| format!("{key}:{}", go_text(value))).collect();
            pairs.sort();
            format!("map[{}]", pairs.join(" "))
        }
    }
}

/// Go writes floats with an exponent below 1e-4 and from 1e21 on, with two digits of it at least.
fn go_number(number: &Number) -> String {
    let Some(float) = number.as_f64().filter(|_| number.is_f64()) else {
        return number.to_string();
    };
    if float == 0.0 || (1e-4..1e21).contains(&float.abs()) {
        return float.to_string();
    }
    let text = format!("{float:e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, size) = exponent.strip_prefix('-').map_or(('+', exponent), |size| ('-', size));
    format!("{digits}e{sign}{size:0>2}")
}

/// As a number: a text is read as one.
pub(super) fn number(value: &Json) -> Result<f64, String> {
    let read = |text: &str| {
        let plain = text.trim();
        let number = plain.parse().ok().filter(|number: &f64| number.is_finite());
        number.ok_or_else(|| format!("{} is no number", quoted(plain)))
    };
    match value {
        Json::Number(number) => number.as_f64().ok_or_else(|| format!("{number} is too large")),
        Json::String(text) => read(text),
        Json::Array(items) if items.iter().all(Json::is_string) => read(&text(value)),
        other => Err(format!("{} is no number", noun(other))),
    }
}

/// As a list: a text is its lines.
pub(super) fn list(value: &Json) -> Result<Vec<Json>, String> {
    match value {
        Json::Array(items) => Ok(items.clone()),
        Json::String(text) => Ok(text.split('\n').map(Json::from).collect()),
        Json::Object(entries) => Ok(entries.values().cloned().collect()),
        other => Err(format!("{} is no list", noun(other))),
    }
}

pub(super) fn noun(value: &Json) -> &'static str {
    match value {
        Json::Null => "nothing",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a text",
        Json::Array(_) => "a list",
        Json::Object(_) => "a mapping",
    }
}

pub(super) fn quoted(text: &str) -> String {
    Json::from(text).to_string()
}

/// Whether two values are the same; 1 and 1.0 are.
pub(super) fn same(one: &Json, other: &Json) -> bool {
    match (one, other) {
        (Json::Number(one), Json::Number(other)) => one.as_f64() == other.as_f64(),
        (Json::Array(one), Json::Array(other)) => {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| same(one, other))
        }
        (Json::Object(one), Json::Object(other)) => {
            one.len() == other.len()
                && one
                    .iter()
                    .all(|(key, value)| other.get(key).is_some_and(|other| same(value, other)))
        }
        _ => one == other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_are_those_that_go_writes() {
        let written = |json: &str| text(&serde_json::from_str(json).unwrap());
        assert_eq!(written("42"), "42");
        assert_eq!(written("42.0"), "42");
        assert_eq!(written("1e21"), "1e+21");
        assert_eq!(written("0.00001"), "1e-05");
        assert_eq!(written("true"), "true");
        assert_eq!(written(r#"["a", 1, [2]]"#), "a\n1\n[2]");
        assert_eq!(written(r#"{"b": 1, "a": null}"#), "map[a:<nil> b:1]");
    }

    #[test]
    fn numbers_are_read_from_texts() {
        assert_eq!(number(&" 128\n".into()), Ok(128.0));
        assert_eq!(number(&serde_json::json!(["128"])), Ok(128.0));
        assert!(number(&"12 8".into()).is_err() && number(&true.into()).is_err());
        assert!(number(&"NaN".into()).is_err());
    }
}
