//! The recipes that nodekiln brings along.

use serde::Serialize;

/// One recipe of the library.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct LibraryRecipe {
    /// Its name, as in `extends:` and on the command line.
    pub name: &'static str,
    /// Its `description`.
    pub description: &'static str,
    /// Whether it is an image by itself, or a part that others extend.
    pub complete: bool,
    /// The YAML.
    #[serde(skip)]
    pub text: &'static str,
}

/// Names and texts, sorted by name.
const TEXTS: [(&str, &str); 4] = [
    ("base/node", include_str!("../library/base/node.yaml")),
    ("debian-12", include_str!("../library/debian-12.yaml")),
    ("debian-13", include_str!("../library/debian-13.yaml")),
    ("quickstart", include_str!("../library/quickstart.yaml")),
];

/// The names of all library recipes, sorted.
#[must_use]
pub fn names() -> Vec<&'static str> {
    TEXTS.iter().map(|(name, _)| *name).collect()
}

/// The YAML of the recipe `name`, with or without `.yaml` at the end.
#[must_use]
pub fn text(name: &str) -> Option<&'static str> {
    let name = find(name)?;
    TEXTS.iter().find(|(known, _)| *known == name).map(|(_, text)| *text)
}

/// All library recipes with their descriptions.
#[must_use]
pub fn recipes() -> Vec<LibraryRecipe> {
    let describe = |(name, text): &(&'static str, &'static str)| LibraryRecipe {
        name,
        description: description(text),
        complete: !name.starts_with("base/"),
        text,
    };
    TEXTS.iter().map(describe).collect()
}

/// The library's own spelling of `name`.
pub(crate) fn find(name: &str) -> Option<&'static str> {
    let name = name.strip_suffix(".yaml").unwrap_or(name);
    TEXTS.iter().find(|(known, _)| *known == name).map(|(known, _)| *known)
}

/// The value of the key `description`, which library recipes write on one line without quotes.
fn description(text: &'static str) -> &'static str {
    text.lines().find_map(|line| line.strip_prefix("description: ")).unwrap_or_default()
}
