//! Reading the guest's answers.

use nodekiln_words::{Failure, Result, ResultExt as _};
use serde_json::Value;

use crate::guest::Output;

/// The answer's text, provided that the command succeeded.
pub(crate) fn text(answer: &Output) -> Result<String> {
    if answer.status == 0 {
        return Ok(answer.text());
    }
    let said = answer.error_text();
    let said = said.lines().last().unwrap_or("nothing on standard error").to_owned();
    Err(Failure::io(format!(
        "the command in the guest ended with status {}: {said}",
        answer.status
    )))
}

/// The answer as JSON.
pub(super) fn json(answer: &Output) -> Result<Value> {
    serde_json::from_str(&text(answer)?).or_io(|| "the guest's answer is not JSON".into())
}

/// The string at `pointer` (RFC 6901), or nothing.
pub(super) fn string<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

/// The elements of the array at `pointer`, or none.
pub(super) fn list<'a>(value: &'a Value, pointer: &str) -> &'a [Value] {
    value.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// Splits an answer made of parts that the script separated by a line `--`; a part may be empty.
pub(crate) fn parts<const N: usize>(text: &str) -> Result<[String; N]> {
    let mut parts = vec![String::new()];
    for line in text.lines() {
        match parts.last_mut() {
            Some(part) if line != "--" => {
                part.push_str(line);
                part.push('\n');
            }
            _ => parts.push(String::new()),
        }
    }
    parts.try_into().map_err(|parts: Vec<String>| {
        Failure::io(format!("the guest's answer has {} parts instead of {N}", parts.len()))
    })
}
