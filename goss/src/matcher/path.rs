//! Paths into a JSON text: the part of gjson's that names one place.
//!
//! Supported are keys and indexes joined by dots, `\` before a character that means itself, `*` and `?` in a key,
//! `#` for the number of elements, `#.rest` for the rest of the path in each element, and `@this`. Queries `#(…)`,
//! modifiers, pipes and multipaths are not: a path that has them is read as far as that, since where nothing stands
//! there nothing can stand behind it.

use serde_json::Value as Json;

/// A path, as read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Path {
    written: String,
    steps: Vec<Step>,
    /// Why the path cannot be followed beyond the steps, where it goes on.
    beyond: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    /// A key, or an index of a list.
    Key(String),
    /// A key with `*` and `?` in it; the first that fits.
    Wild(Vec<Piece>),
    /// `#`: all elements of a list.
    All,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Any,
    One,
    Char(char),
}

impl Path {
    /// Reads a path.
    pub(crate) fn read(written: &str) -> Self {
        let mut steps = Vec::new();
        let mut beyond = None;
        let whole = matches!(written, "@this" | "");
        let rest = written.strip_prefix("@this.").unwrap_or(if whole { "" } else { written });
        for part in parts(rest) {
            let has = |sign| part.contains(&(sign, false));
            if let Some(what) = unsupported(&part) {
                beyond = Some(format!(
                    "{what} of a gjson path (`{written}`) are not supported, keys and indexes are"
                ));
                break;
            }
            steps.push(if part == [('#', false)] {
                Step::All
            } else if has('*') || has('?') {
                Step::Wild(part.iter().map(piece).collect())
            } else {
                Step::Key(part.iter().map(|(c, _)| c).collect())
            });
        }
        Self { written: written.to_owned(), steps, beyond }
    }

    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    /// Why it can never be followed to its end, where that is so.
    pub(crate) fn unsupported(&self) -> Option<&str> {
        self.beyond.as_deref()
    }

    /// What stands there, if anything does.
    ///
    /// # Errors
    /// Why nobody can tell.
    pub(crate) fn find(&self, json: &Json) -> Result<Option<Json>, String> {
        match (find(&self.steps, json), &self.beyond) {
            (Some(_), Some(why)) => Err(why.clone()),
            (found, _) => Ok(found),
        }
    }
}

/// What of a part between dots is not supported.
fn unsupported(part: &[(char, bool)]) -> Option<&'static str> {
    match part.first() {
        Some(('#', false)) if part.len() > 1 => Some("queries"),
        Some(('@', false)) => Some("modifiers"),
        Some(('!', false)) => Some("literals"),
        _ if part.contains(&('|', false)) => Some("pipes"),
        Some(('{' | '[', false)) => Some("multipaths"),
        _ => None,
    }
}

fn find(steps: &[Step], json: &Json) -> Option<Json> {
    let Some((step, rest)) = steps.split_first() else { return Some(json.clone()) };
    match (step, json) {
        (Step::All, Json::Array(items)) if rest.is_empty() => Some(items.len().into()),
        (Step::All, Json::Array(items)) => {
            Some(items.iter().filter_map(|item| find(rest, item)).collect())
        }
        (Step::Key(key), Json::Object(entries)) => find(rest, entries.get(key)?),
        (Step::Key(key), Json::Array(items)) => find(rest, items.get(key.parse::<usize>().ok()?)?),
        (Step::Wild(pieces), Json::Object(entries)) => {
            let fits = |key: &&String| fits(pieces, &key.chars().collect::<Vec<_>>());
            find(rest, &entries[entries.keys().find(fits)?])
        }
        _ => None,
    }
}

/// The parts between dots; of each character whether it was escaped.
fn parts(text: &str) -> Vec<Vec<(char, bool)>> {
    let mut parts = Vec::new();
    if text.is_empty() {
        return parts;
    }
    let mut part = Vec::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => part.extend(chars.next().map(|c| (c, true))),
            '.' => parts.push(std::mem::take(&mut part)),
            c => part.push((c, false)),
        }
    }
    parts.push(part);
    parts
}

fn piece((c, escaped): &(char, bool)) -> Piece {
    match (c, escaped) {
        ('*', false) => Piece::Any,
        ('?', false) => Piece::One,
        (c, _) => Piece::Char(*c),
    }
}

/// Whether the key fits: for each `*` the shortest stretch, and a longer one where the rest does not fit.
fn fits(pieces: &[Piece], key: &[char]) -> bool {
    let (mut at, mut read) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while read < key.len() {
        match pieces.get(at) {
            Some(Piece::Any) => {
                star = Some((at + 1, read));
                at += 1;
            }
            Some(Piece::One) => (at, read) = (at + 1, read + 1),
            Some(Piece::Char(c)) if *c == key[read] => (at, read) = (at + 1, read + 1),
            _ => match &mut star {
                Some((after, taken)) => {
                    *taken += 1;
                    (at, read) = (*after, *taken);
                }
                None => return false,
            },
        }
    }
    pieces[at..].iter().all(|piece| *piece == Piece::Any)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(path: &str) -> Option<Json> {
        let json = serde_json::json!({
            "moo": {"nested": "cow"}, "list": [{"n": 1}, {"n": 2}, {"m": 3}], "a.b": 7, "count": "15",
        });
        Path::read(path).find(&json).unwrap()
    }

    #[test]
    fn paths_name_places() {
        assert_eq!(found("moo.nested"), Some("cow".into()));
        assert_eq!(found("list.1.n"), Some(2.into()));
        assert_eq!(found("list.#"), Some(3.into()));
        assert_eq!(found("list.#.n"), Some(serde_json::json!([1, 2])));
        assert_eq!(found(r"a\.b"), Some(7.into()));
        assert_eq!(found("c*nt"), Some("15".into()));
        assert_eq!(found("m?o.n*d"), Some("cow".into()));
        assert!(found("@this").unwrap().get("moo").is_some());
        assert_eq!(found("@this.count"), Some("15".into()));
        for path in ["gone", "list.9", "list.x", "count.x", "c?t", "moo."] {
            assert_eq!(found(path), None, "{path}");
        }
    }

    #[test]
    fn what_is_not_supported_is_told_where_something_could_stand_there() {
        let json = serde_json::json!({"list": [{"n": 1}], "moo": 1, "a": {}});
        for (path, what) in [
            ("list.#(n==1).n", "queries"),
            ("@reverse", "modifiers"),
            ("moo|@pretty", "pipes"),
            ("{a,b}", "multipaths"),
            ("a.!\"x\"", "literals"),
        ] {
            let path = Path::read(path);
            assert!(path.unsupported().unwrap().starts_with(what), "{path:?}");
            assert_eq!(path.find(&json), Err(path.unsupported().unwrap().to_owned()));
        }
        assert_eq!(Path::read("gone.#(n==1).n").find(&json), Ok(None));
        assert_eq!(Path::read("moo").unsupported(), None);
    }
}
