//! YAML text to a tree of nodes that know their place.
//!
//! Two ways of reading: as goss reads (anchors, aliases and merge keys; of two equal keys the last holds) and
//! strictly (none of these). Scalars keep the text as it was written, so that what YAML would make of `0644`
//! or `yes` is decided where the value's meaning is known.

use std::collections::HashMap;
use std::sync::Arc;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, options};
use serde_json::Value as Json;

use crate::place::{Place, Problem, Problems};

/// Texts above this many bytes are refused; image-builder's largest file has 20 KiB.
pub(crate) const LARGEST: usize = 1 << 22;
/// Nodes above this many are refused, those that aliases stand for counted each time: a file of a few lines can
/// otherwise become as large as it likes.
const MOST_NODES: usize = 200_000;
/// Deepest nesting.
const DEEPEST: usize = 64;
/// Longest key in characters. YAML allows 1024; goss's keys are commands, and those get long.
const LONGEST_KEY: usize = 65_536;

/// How a text is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Anchors, aliases and merge keys; the last of equal keys holds, and the others are told as warnings.
    Goss,
    /// No anchors, no aliases, no tags, no equal keys.
    Strict,
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) place: Place,
}

/// The three kinds of YAML nodes.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    List(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A scalar as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Neither quoted nor a block nor tagged as a text, so that YAML may see a number, a boolean or null in it.
    pub(crate) plain: bool,
}

/// One key of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_place: Place,
    pub(crate) node: Node,
    /// Whether the key was written without quotes, so that `<<` merges.
    plain: bool,
}

/// What goss's YAML library makes of a scalar: YAML 1.2's core schema with the integers of YAML 1.1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Resolved {
    Null,
    Boolean(bool),
    Integer(i64),
    Float(f64),
    Text,
}

impl Scalar {
    pub(crate) fn resolved(&self) -> Resolved {
        if self.plain { resolve(&self.text) } else { Resolved::Text }
    }
}

impl Node {
    pub(crate) fn is_null(&self) -> bool {
        self.scalar().is_some_and(|scalar| scalar.resolved() == Resolved::Null)
    }

    pub(crate) fn scalar(&self) -> Option<&Scalar> {
        if let Value::Scalar(scalar) = &self.value { Some(scalar) } else { None }
    }

    pub(crate) fn entries(&self) -> &[Entry] {
        if let Value::Mapping(entries) = &self.value { entries } else { &[] }
    }

    /// The value of `key`, unless it is absent or null.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        let entry = self.entries().iter().find(|entry| entry.key == key);
        entry.map(|entry| &entry.node).filter(|node| !node.is_null())
    }

    /// What this is, in the words of a message.
    pub(crate) fn noun(&self) -> &'static str {
        match &self.value {
            Value::List(_) => "a list",
            Value::Mapping(_) => "a mapping",
            Value::Scalar(scalar) => match scalar.resolved() {
                Resolved::Null => "nothing",
                Resolved::Boolean(_) => "a boolean",
                Resolved::Integer(_) | Resolved::Float(_) => "a number",
                Resolved::Text => "a text",
            },
        }
    }

    /// The same as a JSON value, numbers and booleans where YAML sees them.
    pub(crate) fn to_json(&self) -> Json {
        match &self.value {
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Mapping(entries) => {
                let pairs = entries.iter().map(|entry| (entry.key.clone(), entry.node.to_json()));
                Json::Object(pairs.collect())
            }
            Value::Scalar(scalar) => match scalar.resolved() {
                Resolved::Null => Json::Null,
                Resolved::Boolean(truth) => truth.into(),
                Resolved::Integer(number) => number.into(),
                Resolved::Float(number) => number.into(),
                Resolved::Text => scalar.text.as_str().into(),
            },
        }
    }
}

/// What a plain scalar is.
pub(crate) fn resolve(text: &str) -> Resolved {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "true" | "True" | "TRUE" => return Resolved::Boolean(true),
        "false" | "False" | "FALSE" => return Resolved::Boolean(false),
        ".nan" | ".NaN" | ".NAN" => return Resolved::Float(f64::NAN),
        _ => {}
    }
    let (sign, digits) = match text.strip_prefix(['-', '+']) {
        Some(rest) => (if text.starts_with('-') { -1 } else { 1 }, rest),
        None => (1, text),
    };
    if let Some(number) = integer(digits) {
        return Resolved::Integer(sign * number);
    }
    match digits {
        ".inf" | ".Inf" | ".INF" => Resolved::Float(f64::from(sign as i32) * f64::INFINITY),
        _ if is_float(digits) => text.parse().map_or(Resolved::Text, Resolved::Float),
        _ => Resolved::Text,
    }
}

/// An integer without its sign: a leading 0 means octal, as in YAML 1.1, which both dialects of goss keep.
fn integer(text: &str) -> Option<i64> {
    if !text.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let text = text.replace('_', "");
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', b'o' | b'O', ..] => (&text[2..], 8),
        [b'0', b'b' | b'B', ..] => (&text[2..], 2),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text.as_str(), 10),
    };
    i64::from_str_radix(digits, radix).ok().filter(|_| !digits.starts_with(['-', '+']))
}

/// `\. [0-9]+ | [0-9]+ ( \. [0-9]* )?`, then perhaps an exponent; without a sign.
fn is_float(text: &str) -> bool {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let exponent_fits =
        exponent.is_none_or(|text| digits(text.strip_prefix(['-', '+']).unwrap_or(text)));
    exponent_fits
        && match number.split_once('.') {
            Some(("", fraction)) => digits(fraction),
            Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
            None => digits(number),
        }
}

/// A text to read: where its lines stand in the file, which for a template are others than its own.
pub(crate) struct Text<'a> {
    pub(crate) file: Arc<str>,
    pub(crate) text: &'a str,
    /// For each line, from 0, its line in the file from 1 and whether it stands there as it is.
    pub(crate) lines: Option<&'a [(usize, bool)]>,
}

impl Text<'_> {
    /// The place of a line from 1 and a column from 0.
    fn place(&self, line: usize, column: usize) -> Place {
        let known = self.lines.map(|lines| {
            let last = (lines.len(), false);
            *lines.get(line.saturating_sub(1)).or(lines.last()).unwrap_or(&last)
        });
        let (line, exact) = known.unwrap_or((line, true));
        let column = if exact { column + 1 } else { 1 };
        Place { file: self.file.clone(), line: line.max(1), column }
    }
}

/// Reads `text`. Equal keys of a goss file go to `warnings`. An empty text is an empty mapping.
///
/// # Errors
/// Where the text is no YAML, or has what `manner` does not take.
pub(crate) fn parse(
    text: &Text<'_>,
    manner: Manner,
    warnings: &mut Problems,
) -> Result<Node, Problem> {
    let start = text.place(1, 0);
    if text.text.len() > LARGEST {
        let message = format!("the file has {} bytes", text.text.len());
        let help = format!("split it; at most {LARGEST} are read");
        return Err(Problem::new(&start, message, help));
    }
    let options = options! {
        block_nesting_limit: DEEPEST,
        flow_nesting_limit: DEEPEST,
        simple_key_max_lookahead: LONGEST_KEY,
    };
    let events = Parser::new_from_str_with_options(text.text, options);
    let mut builder = Builder {
        text,
        manner,
        warnings,
        open: Vec::new(),
        anchors: HashMap::new(),
        root: None,
        nodes: 0,
    };
    for event in events {
        match event {
            Ok((event, span)) => {
                let place = text.place(span.start.line(), span.start.col());
                builder.take(event, place)?;
            }
            Err(error) => return Err(builder.not_yaml(&error)),
        }
    }
    Ok(builder.root.unwrap_or(Node { value: Value::Mapping(Vec::new()), place: start }))
}

/// Puts nodes together from parser events.
struct Builder<'a, 'w> {
    text: &'a Text<'a>,
    manner: Manner,
    warnings: &'w mut Problems,
    open: Vec<Open>,
    anchors: HashMap<usize, (Node, usize)>,
    root: Option<Node>,
    nodes: usize,
}

/// A collection whose end has not been seen; a mapping may hold a key that waits for its value.
struct Open {
    node: Node,
    key: Option<(Scalar, Place)>,
    anchor: Option<usize>,
    /// Nodes before it, so that its own can be counted.
    before: usize,
}

impl Builder<'_, '_> {
    fn take(&mut self, event: Event<'_>, place: Place) -> Result<(), Problem> {
        if self.manner == Manner::Strict {
            let what = if event.is_alias() || event.anchor_id().is_some() {
                Some("anchors and aliases are")
            } else {
                event.tag().map(|_| "tags are")
            };
            if let Some(what) = what {
                let message = format!("{what} not part of a rules file");
                return Err(Problem::new(&place, message, "write the value out"));
            }
        }
        let anchor = event.anchor_id();
        // `!!str 1` is the text 1; other tags change nothing that a goss file can hold.
        let tagged = event.tag().is_some_and(|tag| tag.suffix() == "str");
        match event {
            Event::Scalar(text, style, ..) => {
                let plain = matches!(style, ScalarStyle::Plain) && !tagged;
                let scalar = Scalar { text: text.into_owned(), plain };
                self.count(&place, 1)?;
                let node = Node { value: Value::Scalar(scalar), place };
                if let Some(anchor) = anchor {
                    self.anchors.insert(anchor, (node.clone(), 1));
                }
                self.put(node)?;
            }
            Event::Alias(id) => {
                let Some((node, size)) = self.anchors.get(&id).cloned() else {
                    let message = "an alias stands inside what it stands for";
                    return Err(Problem::new(&place, message, "write the value out"));
                };
                self.count(&place, size)?;
                // What is wrong in it is told where it is used.
                self.put(Node { value: node.value, place })?;
            }
            Event::SequenceStart(..) => self.begin(Value::List(Vec::new()), place, anchor)?,
            Event::MappingStart(..) => self.begin(Value::Mapping(Vec::new()), place, anchor)?,
            Event::SequenceEnd | Event::MappingEnd => self.end()?,
            Event::DocumentStart(..) if self.root.is_some() => {
                let help = "put it into a file of its own and import that";
                return Err(Problem::new(&place, "a second YAML document starts here", help));
            }
            _ => {}
        }
        Ok(())
    }

    fn count(&mut self, place: &Place, nodes: usize) -> Result<(), Problem> {
        self.nodes += nodes;
        if self.nodes <= MOST_NODES {
            return Ok(());
        }
        let message =
            format!("the file has more than {MOST_NODES} values, counting what aliases repeat");
        Err(Problem::new(place, message, "split the file, or write less by aliases"))
    }

    fn begin(&mut self, value: Value, place: Place, anchor: Option<usize>) -> Result<(), Problem> {
        if let Some(Open { node: Node { value: Value::Mapping(_), .. }, key: None, .. }) =
            self.open.last()
        {
            let help = "a key is one text; put quotes around one that has braces or brackets";
            return Err(Problem::new(&place, "a list or a mapping stands in place of a key", help));
        }
        let before = self.nodes;
        self.count(&place, 1)?;
        self.open.push(Open { node: Node { value, place }, key: None, anchor, before });
        Ok(())
    }

    fn end(&mut self) -> Result<(), Problem> {
        let Some(mut open) = self.open.pop() else { return Ok(()) };
        if let Value::Mapping(entries) = &mut open.node.value
            && self.manner == Manner::Goss
        {
            let own = std::mem::take(entries);
            *entries = merged(own)?;
        }
        if let Some(anchor) = open.anchor {
            self.anchors.insert(anchor, (open.node.clone(), self.nodes - open.before));
        }
        self.put(open.node)
    }

    /// Puts a finished node where it belongs.
    fn put(&mut self, node: Node) -> Result<(), Problem> {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        match (&mut open.node.value, open.key.take()) {
            (Value::List(items), _) => items.push(node),
            (Value::Mapping(_), None) => {
                let Value::Scalar(scalar) = node.value else {
                    let help = "a key is one text";
                    return Err(Problem::new(&node.place, "a key stands for a collection", help));
                };
                open.key = Some((scalar, node.place));
            }
            (Value::Mapping(entries), Some((key, key_place))) => {
                let earlier =
                    entries.iter().position(|entry| entry.key == key.text && key.text != "<<");
                if let Some(earlier) = earlier {
                    let line = entries[earlier].key_place.line;
                    let message =
                        format!("key `{}` is given twice, first in line {line}", key.text);
                    let problem = Problem::new(&key_place, message, "put both under one key");
                    if self.manner == Manner::Strict {
                        return Err(problem);
                    }
                    self.warnings.push(problem);
                    entries.remove(earlier);
                }
                entries.push(Entry { key: key.text, key_place, node, plain: key.plain });
            }
            (Value::Scalar(_), _) => {}
        }
        Ok(())
    }

    fn not_yaml(&self, error: &ScanError) -> Problem {
        let mark = error.marker();
        let place = self.text.place(mark.line(), mark.col());
        let help = if self.text.lines.is_some() {
            "look at the text that the template makes: indentation, and values that need quotes"
        } else {
            "check indentation and quotes there"
        };
        Problem::new(&place, format!("not YAML: {}", error.info()), help)
    }
}

/// A mapping with what its merge keys bring: own keys win, then those of an earlier merged mapping.
fn merged(entries: Vec<Entry>) -> Result<Vec<Entry>, Problem> {
    if !entries.iter().any(|entry| entry.plain && entry.key == "<<") {
        return Ok(entries);
    }
    let (merges, mut all): (Vec<Entry>, Vec<Entry>) =
        entries.into_iter().partition(|entry| entry.plain && entry.key == "<<");
    for merge in merges {
        let sources = match merge.node.value {
            Value::List(items) => items,
            value => vec![Node { value, place: merge.node.place }],
        };
        for source in sources {
            if source.is_null() {
                continue;
            }
            let Value::Mapping(below) = source.value else {
                let message = format!("`<<` merges {}", source.noun());
                return Err(Problem::new(
                    &source.place,
                    message,
                    "give it a mapping, or a list of them",
                ));
            };
            for entry in below {
                if all.iter().all(|own| own.key != entry.key) {
                    // As with an alias, what is wrong in it is told where it is used.
                    all.push(Entry { key_place: merge.key_place.clone(), ..entry });
                }
            }
        }
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, manner: Manner) -> (Result<Node, Problem>, Problems) {
        let mut warnings = Problems::default();
        let text = Text { file: "t.yaml".into(), text, lines: None };
        (parse(&text, manner, &mut warnings), warnings)
    }

    fn json(text: &str) -> Json {
        read(text, Manner::Goss).0.unwrap().to_json()
    }

    #[test]
    fn anchors_and_merge_keys_are_followed() {
        let text = "a: &a {x: 1, y: 2}\nb: &b {y: 3, z: 4}\nc:\n  <<: [*a, *b]\n  x: 9\nd:\n  <<: *a\ne: *a\n";
        let expected = serde_json::json!({
            "a": {"x": 1, "y": 2}, "b": {"y": 3, "z": 4}, "c": {"x": 9, "y": 2, "z": 4},
            "d": {"x": 1, "y": 2}, "e": {"x": 1, "y": 2},
        });
        assert_eq!(json(text), expected);
        assert_eq!(json("a: {'<<': 1}\n"), serde_json::json!({"a": {"<<": 1}}));
        assert!(read("a: {<<: 1}\n", Manner::Goss).0.is_err());
    }

    #[test]
    fn the_last_of_equal_keys_holds_with_a_warning_and_is_an_error_where_strict() {
        let (node, warnings) = read("a: 1\nb: 2\na: 3\n", Manner::Goss);
        assert_eq!(node.unwrap().to_json(), serde_json::json!({"a": 3, "b": 2}));
        assert_eq!(warnings.iter().count(), 1);
        let problem = read("a: 1\nb: 2\na: 3\n", Manner::Strict).0.unwrap_err();
        assert_eq!(problem.to_string(), "t.yaml:3:1: key `a` is given twice, first in line 1");
        for text in ["a: &x 1\nb: *x\n", "a: !!str 1\n", "a: 1\n---\nb: 2\n", "[a]: 1\n"] {
            assert!(read(text, Manner::Strict).0.is_err(), "{text}");
        }
    }

    #[test]
    fn scalars_are_what_goss_sees() {
        assert_eq!(resolve("0644"), Resolved::Integer(420));
        assert_eq!(resolve("1_000"), Resolved::Integer(1000));
        assert_eq!(resolve("-0x1f"), Resolved::Integer(-31));
        assert_eq!(resolve("0"), Resolved::Integer(0));
        assert_eq!(resolve("1.5e3"), Resolved::Float(1500.0));
        for text in ["yes", "0o9", "08:00", "1.2.3", "v1", "--1", "0x", "+"] {
            assert_eq!(resolve(text), Resolved::Text, "{text}");
        }
        assert_eq!(json("a: !!str 1\n"), serde_json::json!({"a": "1"}));
    }

    #[test]
    fn a_few_lines_do_not_become_as_large_as_they_like() {
        let mut text = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n");
        for level in 1..12 {
            let below = format!("*a{}, ", level - 1).repeat(10);
            text.push_str(&format!("a{level}: &a{level} [{below}]\n"));
        }
        let problem = read(&text, Manner::Goss).0.unwrap_err();
        assert!(problem.message.contains("more than"), "{problem}");
        assert!(read("a: &a [*a]\n", Manner::Goss).0.is_err());
    }
}
