//! YAML 1.2 text to a tree of nodes that know their place.
//!
//! A small, strict part of YAML: one document of mappings, sequences and scalars with scalar keys.
//! Anchors, aliases, tags and directives are refused, for a recipe is shared by `extends` and reads
//! the same to everybody. Scalars keep the text as it was written, so that what YAML would make of
//! `1.10` or `0644` is decided where the value's meaning is known.

use std::collections::BTreeMap;

use granit_parser::{Event, Parser, ScalarStyle, ScanError, options};

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::source::{SourceId, Sources, Span};

/// Texts above this many bytes are refused; the largest library recipe has some 20 KiB.
pub(crate) const LARGEST: usize = 1 << 18;
/// Deepest nesting; a recipe needs five levels.
const DEEPEST: usize = 24;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) value: Value,
    pub(crate) span: Span,
}

/// The three kinds of YAML nodes.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Scalar(Scalar),
    Sequence(Vec<Node>),
    Mapping(Vec<Entry>),
}

/// A scalar as written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scalar {
    pub(crate) text: String,
    /// Neither quoted nor a block, so that YAML may see a number, a boolean or null in it.
    pub(crate) plain: bool,
}

/// One key of a mapping.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: String,
    pub(crate) key_span: Span,
    pub(crate) node: Node,
}

/// What YAML 1.2's core schema (10.3.2) makes of a plain scalar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolved {
    Null,
    Boolean,
    Integer,
    Float,
    Text,
}

impl Scalar {
    /// What YAML makes of it.
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

    pub(crate) fn items(&self) -> &[Node] {
        if let Value::Sequence(items) = &self.value { items } else { &[] }
    }

    /// The value of `key`, unless it is absent or null.
    pub(crate) fn get(&self, key: &str) -> Option<&Node> {
        self.entry(key).map(|entry| &entry.node).filter(|node| !node.is_null())
    }

    pub(crate) fn entry(&self, key: &str) -> Option<&Entry> {
        self.entries().iter().find(|entry| entry.key == key)
    }

    /// The text of the scalar at `key`.
    pub(crate) fn text(&self, key: &str) -> Option<&str> {
        self.get(key).and_then(Node::scalar).map(|scalar| scalar.text.as_str())
    }

    /// What this is, in the words of a message.
    pub(crate) fn noun(&self) -> &'static str {
        match &self.value {
            Value::Sequence(_) => "a list",
            Value::Mapping(_) => "a mapping",
            Value::Scalar(scalar) => match scalar.resolved() {
                Resolved::Null => "null",
                Resolved::Boolean => "a boolean",
                Resolved::Integer | Resolved::Float => "a number",
                Resolved::Text => "a text",
            },
        }
    }
}

/// What YAML 1.2's core schema makes of `text` when it is written without quotes.
pub(crate) fn resolve(text: &str) -> Resolved {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Resolved::Null,
        "true" | "True" | "TRUE" | "false" | "False" | "FALSE" => return Resolved::Boolean,
        ".nan" | ".NaN" | ".NAN" => return Resolved::Float,
        _ => {}
    }
    let digits = |text: &str, radix| !text.is_empty() && text.chars().all(|c| c.is_digit(radix));
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    if digits(unsigned, 10)
        || text.strip_prefix("0o").is_some_and(|rest| digits(rest, 8))
        || text.strip_prefix("0x").is_some_and(|rest| digits(rest, 16))
    {
        Resolved::Integer
    } else if matches!(unsigned, ".inf" | ".Inf" | ".INF") || is_float(unsigned) {
        Resolved::Float
    } else {
        Resolved::Text
    }
}

/// `[-+]? ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?` without its sign.
fn is_float(text: &str) -> bool {
    let (number, exponent) = match text.split_once(['e', 'E']) {
        Some((number, exponent)) => (number, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    let exponent_fits =
        exponent.is_none_or(|text| digits(text.strip_prefix(['-', '+']).unwrap_or(text)));
    let number_fits = match number.split_once('.') {
        Some(("", fraction)) => digits(fraction),
        Some((whole, fraction)) => digits(whole) && (fraction.is_empty() || digits(fraction)),
        None => digits(number),
    };
    exponent_fits && number_fits
}

/// Reads `text`, which stands in `sources` under `source`. Problems go to `problems`; `None` where
/// the text is no YAML of the kind above. An empty text is an empty mapping.
pub(crate) fn parse(
    sources: &Sources,
    source: SourceId,
    text: &str,
    problems: &mut Diagnostics,
) -> Option<Node> {
    let start = Span { source, line: 1, column: 1, length: 1 };
    if text.len() > LARGEST {
        let message = format!("the file has {} bytes; a recipe has at most {LARGEST}", text.len());
        problems.push(Diagnostic::error(sources, start, message));
        return None;
    }
    let options = options! {
        block_nesting_limit: DEEPEST,
        flow_nesting_limit: DEEPEST,
        disallow_directives: true,
    };
    let parser = Parser::new_from_str_with_options(text, options);
    let lines = text.lines().collect();
    let mut builder = Builder { sources, source, lines, problems, open: Vec::new(), root: None };
    let intact = builder.run(parser);
    let root = builder.root;
    intact.then(|| root.unwrap_or(Node { value: Value::Mapping(Vec::new()), span: start }))
}

/// Puts nodes together from parser events.
struct Builder<'a> {
    sources: &'a Sources,
    source: SourceId,
    lines: Vec<&'a str>,
    problems: &'a mut Diagnostics,
    open: Vec<Open>,
    root: Option<Node>,
}

/// A collection whose end has not been seen; a mapping may hold a key that waits for its value.
struct Open {
    node: Node,
    key: Option<(String, Span)>,
    /// Lines of the keys so far.
    keys: BTreeMap<String, usize>,
}

impl Builder<'_> {
    /// Takes all events; whether a whole tree came of them.
    fn run<'t>(
        &mut self,
        events: impl Iterator<Item = Result<(Event<'t>, granit_parser::Span), ScanError>>,
    ) -> bool {
        let before = self.problems.len();
        for event in events {
            let taken = match event {
                Ok((event, span)) => self.take(event, self.span(&span)),
                Err(error) => self.refuse(self.scan_error(&error)),
            };
            if !taken {
                return false;
            }
        }
        self.problems.len() == before
    }

    /// Takes one event; `false` where the rest makes no sense any more.
    fn take(&mut self, event: Event<'_>, span: Span) -> bool {
        let extra = if event.is_alias() || event.anchor_id().is_some() {
            Some("anchors and aliases are")
        } else {
            event.tag().map(|_| "tags are")
        };
        if let Some(what) = extra {
            let message = format!("{what} not part of a recipe's YAML");
            let help = "write the value out; share settings between recipes with `extends`";
            return self.refuse(Diagnostic::error(self.sources, span, message).help(help));
        }
        match event {
            Event::Scalar(text, style, ..) => {
                let plain = matches!(style, ScalarStyle::Plain);
                let scalar = Scalar { text: text.into_owned(), plain };
                self.place(Node { value: Value::Scalar(scalar), span });
            }
            Event::SequenceStart(..) => return self.begin(Value::Sequence(Vec::new()), span),
            Event::MappingStart(..) => return self.begin(Value::Mapping(Vec::new()), span),
            Event::SequenceEnd | Event::MappingEnd => {
                if let Some(open) = self.open.pop() {
                    self.place(open.node);
                }
            }
            Event::DocumentStart(..) if self.root.is_some() => {
                let message = "a recipe is one YAML document";
                let problem = Diagnostic::error(self.sources, span, message);
                return self.refuse(problem.label("a second one starts here"));
            }
            _ => {}
        }
        true
    }

    fn refuse(&mut self, problem: Diagnostic) -> bool {
        self.problems.push(problem);
        false
    }

    fn begin(&mut self, value: Value, span: Span) -> bool {
        if let Some(Open { node: Node { value: Value::Mapping(_), .. }, key: None, .. }) =
            self.open.last()
        {
            let message = "a key must be a plain word";
            return self.refuse(Diagnostic::error(self.sources, span, message));
        }
        self.open.push(Open { node: Node { value, span }, key: None, keys: BTreeMap::new() });
        true
    }

    /// Puts a finished node where it belongs.
    fn place(&mut self, node: Node) {
        let Some(open) = self.open.last_mut() else {
            self.root = Some(node);
            return;
        };
        match (&mut open.node.value, open.key.take()) {
            (Value::Sequence(items), _) => items.push(node),
            (Value::Mapping(entries), Some((key, key_span))) => {
                entries.push(Entry { key, key_span, node });
            }
            (Value::Mapping(_), None) => {
                let Value::Scalar(scalar) = node.value else { return };
                let first = open.keys.insert(scalar.text.clone(), node.span.line);
                if let Some(line) = first {
                    self.problems.error(|| {
                        let message = format!("key `{}` is given twice", scalar.text);
                        Diagnostic::error(self.sources, node.span, message)
                            .label(format!("first given in line {line}"))
                            .help("keep one of the two")
                    });
                }
                open.key = Some((scalar.text, node.span));
            }
            (Value::Scalar(_), _) => {}
        }
    }

    fn span(&self, span: &granit_parser::Span) -> Span {
        let (start, end) = (span.start, span.end);
        let length = if start.line() == end.line() {
            end.col().saturating_sub(start.col())
        } else {
            let line = self.lines.get(start.line().saturating_sub(1)).copied().unwrap_or_default();
            line.trim_end().chars().count().saturating_sub(start.col())
        };
        Span {
            source: self.source,
            line: start.line().max(1),
            column: start.col() + 1,
            length: length.max(1),
        }
    }

    fn scan_error(&self, error: &ScanError) -> Diagnostic {
        let mark = error.marker();
        let (line, column) = (mark.line().max(1), mark.col() + 1);
        let span = Span { source: self.source, line, column, length: 1 };
        Diagnostic::error(self.sources, span, format!("not YAML: {}", error.info()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Origin, SourceText};

    fn read(text: &str) -> (Option<Node>, Diagnostics) {
        let mut sources = Sources::default();
        let source = sources.add(SourceText::new("t".into(), text.into(), Origin::Argument));
        let mut problems = Diagnostics::default();
        let node = parse(&sources, source, text, &mut problems);
        (node, problems)
    }

    #[test]
    fn keys_and_values_know_their_place() {
        let (node, problems) = read("a: 1\nb:\n  - ünï: 'x'\n    tail: y\n");
        assert!(problems.is_empty(), "{problems}");
        let node = node.unwrap();
        let item = &node.get("b").unwrap().items()[0];
        let span = item.entry("tail").unwrap().key_span;
        assert_eq!((span.line, span.column, span.length), (4, 5, 4));
        let span = item.get("ünï").unwrap().span;
        assert_eq!((span.line, span.column, span.length), (3, 10, 3));
    }

    #[test]
    fn plain_scalars_resolve_as_the_core_schema_says() {
        for text in ["1", "-17", "+3", "0o644", "0xff", "0644"] {
            assert_eq!(resolve(text), Resolved::Integer, "{text}");
        }
        for text in ["1.36", ".5", "1.", "1e3", "-1.5E-7", ".inf", "-.INF", ".nan"] {
            assert_eq!(resolve(text), Resolved::Float, "{text}");
        }
        for text in ["1.36.1", "v1", "yes", "0x", "8GiB", ".", "e3", "1e", "--1", "1.2.", "+"] {
            assert_eq!(resolve(text), Resolved::Text, "{text}");
        }
        assert_eq!(resolve("~"), Resolved::Null);
        assert_eq!(resolve("True"), Resolved::Boolean);
    }

    #[test]
    fn what_recipes_do_without_is_refused() {
        for text in [
            "a: &x 1\nb: *x\n",
            "a: !!str 1\n",
            "%YAML 1.2\n---\na: 1\n",
            "a: 1\n---\nb: 2\n",
            "[a]: 1\n",
            "a: 1\na: 2\n",
            "a: [1\n",
            &"[".repeat(40),
        ] {
            let (node, problems) = read(text);
            assert!(node.is_none() && problems.has_errors(), "{text}");
        }
    }

    #[test]
    fn an_empty_text_is_an_empty_mapping() {
        for text in ["", "# nothing\n", "---\n"] {
            let (node, problems) = read(text);
            assert!(problems.is_empty());
            let node = node.unwrap();
            assert!(node.entries().is_empty() && node.items().is_empty());
        }
    }
}
