//! The functions of a goss template besides those of the language: goss's own, and the part of sprig's that test
//! files use. What sprig has for random numbers, keys, the clock and the network is left out: the same file is to
//! say the same every time.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use gotmpl::{TemplateError, Value, ValueFunc};

use super::{Context, Function, failed, lists, texts};

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
const OF_THE_CONTEXT: [&str; 3] = ["env", "getEnv", "readFile"];

/// All functions by name, for the template engine.
pub(super) fn all(context: &Context) -> BTreeMap<String, ValueFunc> {
    let mut all: BTreeMap<String, ValueFunc> = BTreeMap::new();
    for Entry(name, fewest, most, function) in texts::FUNCTIONS.iter().chain(lists::FUNCTIONS) {
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

fn read_file(path: &Path) -> Result<String, String> {
    let content = std::fs::read_to_string(path)
        .map_err(|error| format!("readFile: {}: {error}", path.display()))?;
    Ok(content.trim().to_owned())
}

/// The names of all functions, sorted.
pub(super) fn names() -> Vec<&'static str> {
    let tables = texts::FUNCTIONS.iter().chain(lists::FUNCTIONS);
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
