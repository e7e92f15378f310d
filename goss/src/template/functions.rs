//! The functions of a goss template besides those of the language: goss's own, and the part of sprig's that test
//! files use. What sprig has for random numbers, keys and the network is left out: the same file is to say the same
//! every time. Only `now` and `date` ask the clock, where a file does.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use gotmpl::{TemplateError, Value, ValueFunc};

use super::{Context, Function, clock, expressions, failed, lists, mappings, numbers, texts};

pub(super) const ENVIRONMENT_IS_OFF: &str = "templates do not see this machine's environment unless asked to; give the value as a variable instead";
const FILES_ARE_OFF: &str = "templates do not read this machine's files unless asked to; give the value as a variable instead";

/// One function: its name, the fewest and the most arguments, and what it does.
pub(super) struct Entry(
    pub(super) &'static str,
    pub(super) usize,
    pub(super) usize,
    pub(super) Function,
);

/// As many arguments as one likes.
pub(super) const ANY: usize = usize::MAX;

/// Those that depend on the context.
const OF_THE_CONTEXT: [&str; 4] = ["env", "expandenv", "getEnv", "readFile"];

/// The others.
const TABLES: [&[Entry]; 6] = [
    texts::FUNCTIONS,
    numbers::FUNCTIONS,
    lists::FUNCTIONS,
    mappings::FUNCTIONS,
    expressions::FUNCTIONS,
    clock::FUNCTIONS,
];

/// All functions by name, for the template engine.
pub(super) fn all(context: &Context) -> BTreeMap<String, ValueFunc> {
    let mut all: BTreeMap<String, ValueFunc> = BTreeMap::new();
    for Entry(name, fewest, most, function) in
        TABLES.into_iter().flatten().chain(mappings::IN_PLACE)
    {
        let run = move |arguments: &[Value]| {
            if arguments.len() < *fewest || arguments.len() > *most {
                let expected = *fewest;
                let got = arguments.len();
                return Err(TemplateError::ArgCount { name: (*name).to_owned(), expected, got });
            }
            function(arguments).map_err(|message| failed(format!("{name}: {message}")))
        };
        all.insert((*name).to_owned(), Arc::new(run));
    }
    let environment = context.environment.clone();
    let expand = move |arguments: &[Value]| {
        let environment = environment.as_ref();
        let environment =
            environment.ok_or_else(|| failed(format!("expandenv: {ENVIRONMENT_IS_OFF}")))?;
        let written = arguments.first().map(ToString::to_string).unwrap_or_default();
        Ok(text(expanded(&written, environment)))
    };
    all.insert("expandenv".to_owned(), Arc::new(expand));
    let environment = context.environment.clone();
    let get = Arc::new(move |arguments: &[Value]| {
        let environment = environment.as_ref();
        let environment =
            environment.ok_or_else(|| failed(format!("getEnv: {ENVIRONMENT_IS_OFF}")))?;
        let name = arguments.first().map(ToString::to_string).unwrap_or_default();
        let value = environment.get(&name).filter(|value| !value.is_empty()).cloned();
        let default = || arguments.get(1).map(ToString::to_string).unwrap_or_default();
        Ok(text(value.unwrap_or_else(default)))
    });
    all.insert("getEnv".to_owned(), get.clone());
    all.insert("env".to_owned(), get);
    let folder = context.files.clone();
    let read = move |arguments: &[Value]| {
        let folder =
            folder.as_deref().ok_or_else(|| failed(format!("readFile: {FILES_ARE_OFF}")))?;
        let name = arguments.first().map(ToString::to_string).unwrap_or_default();
        read_file(&folder.join(name)).map(text).map_err(failed)
    };
    all.insert("readFile".to_owned(), Arc::new(read));
    all
}

/// The text with what `$NAME` and `${NAME}` stand for; what there is not is nothing.
fn expanded(text: &str, environment: &BTreeMap<String, String>) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('$') {
        out.push_str(before);
        let braced = behind.strip_prefix('{').and_then(|inner| inner.split_once('}'));
        let (name, after) = braced.unwrap_or_else(|| {
            // A shell's own parameters, of which there is none here, have one sign.
            if behind.starts_with(|c: char| "*#$@!?-".contains(c) || c.is_ascii_digit()) {
                return behind.split_at(1);
            }
            let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
            behind.split_at(behind.find(|c| !word(c)).unwrap_or(behind.len()))
        });
        match name {
            "" if braced.is_none() => out.push('$'),
            name => out.push_str(environment.get(name).map_or("", String::as_str)),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

fn read_file(path: &Path) -> Result<String, String> {
    let content = std::fs::read_to_string(path)
        .map_err(|error| format!("readFile: {}: {error}", path.display()))?;
    Ok(content.trim().to_owned())
}

/// The names of all functions, sorted.
pub(super) fn names() -> Vec<&'static str> {
    let tables = TABLES.into_iter().flatten();
    let mut names: Vec<&str> = tables.map(|entry| entry.0).chain(OF_THE_CONTEXT).collect();
    names.sort_unstable();
    names
}

/// A text as the template engine's value.
pub(super) fn text(text: impl AsRef<str>) -> Value {
    Value::String(Arc::from(text.as_ref()))
}

/// An argument as a whole number; texts are read as such.
pub(super) fn whole(value: &Value) -> Result<i64, String> {
    match value {
        Value::String(text) => {
            text.trim().parse().map_err(|_| format!("`{text}` is no whole number"))
        }
        #[expect(clippy::cast_possible_truncation, reason = "Go cuts the fraction off as well")]
        Value::Float(number) => Ok(*number as i64),
        other => other.as_int().ok_or_else(|| format!("{} is no number", other.type_name())),
    }
}

/// An argument as a count of something that is made, with a bound that keeps the text readable.
pub(super) fn count(value: &Value) -> Result<usize, String> {
    const MOST: i64 = 100_000;
    let number = whole(value)?;
    if number > MOST {
        return Err(format!("{number} is more than {MOST}"));
    }
    Ok(usize::try_from(number).unwrap_or(0))
}
