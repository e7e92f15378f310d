//! One document against the shape of a recipe: unknown keys, wrong types, bad values, repetitions.

use std::collections::BTreeMap;

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::document::{Entry, Node, Value};
use crate::kind::{Kind, nearest};
use crate::shape::{Joins, List, Map, Object, PROVIDER, RECIPE, Shape};
use crate::source::{Sources, Span};

/// Looks at everything in `node`, which one text holds; each problem goes to `problems`.
pub(crate) fn check(sources: &Sources, node: &Node, problems: &mut Diagnostics) {
    Checker { sources, problems }.document(node, &RECIPE, "a recipe");
}

/// As [`check`], for a text that holds what stands under `providers.NAME` in a recipe.
pub(crate) fn check_layer(sources: &Sources, node: &Node, problems: &mut Diagnostics) {
    Checker { sources, problems }.document(node, &PROVIDER, "a layer");
}

struct Checker<'a> {
    sources: &'a Sources,
    problems: &'a mut Diagnostics,
}

impl Checker<'_> {
    fn report(&mut self, span: Span, message: String, label: &str, help: Option<String>) {
        self.problems.error(|| {
            let problem = Diagnostic::error(self.sources, span, message).label(label);
            match help {
                Some(help) => problem.help(help),
                None => problem,
            }
        });
    }

    /// `subject` is what a message calls the node: "`packages`", "an item of `packages`".
    fn node(&mut self, node: &Node, shape: Shape, subject: &str) {
        if node.is_null() {
            return;
        }
        match (shape, &node.value) {
            (Shape::Scalar(kind) | Shape::ScalarOr(kind, _), Value::Scalar(_)) => {
                self.scalar(node, kind, subject);
            }
            (Shape::List(list), Value::Sequence(items)) => self.list(items, list, subject),
            (Shape::Map(map), Value::Mapping(entries)) => self.map(entries, map),
            (Shape::Object(object) | Shape::ScalarOr(_, object), Value::Mapping(_)) => {
                self.object(node, object);
            }
            _ => self.wrong_type(node, shape, subject),
        }
    }

    fn wrong_type(&mut self, node: &Node, shape: Shape, subject: &str) {
        let (expected, help) = match shape {
            Shape::Scalar(kind) => (kind.expects, None),
            Shape::List(_) => ("a list", Some("write `[one, two]`, or one item a line after `- `")),
            Shape::ScalarOr(..) => ("a path or a mapping", None),
            Shape::Map(_) | Shape::Object(_) => {
                ("a mapping", Some("write `{ key: value }`, or one key a line below, indented"))
            }
        };
        let message = format!("{subject} is {expected}, not {}", node.noun());
        let help = help.map(str::to_owned);
        self.report(node.span, message, &format!("this is {}", node.noun()), help);
    }

    fn scalar(&mut self, node: &Node, kind: &Kind, subject: &str) {
        let Some(scalar) = node.scalar() else { return };
        if let Err(mismatch) = kind.accept(scalar) {
            let message = format!("{subject}: {}", mismatch.message);
            self.report(node.span, message, &mismatch.label, mismatch.help);
        }
    }

    fn list(&mut self, items: &[Node], list: &List, subject: &str) {
        let each = format!("an item of {subject}");
        let mut seen = BTreeMap::new();
        for item in items {
            if item.is_null() {
                self.report(item.span, format!("{each} is empty"), "nothing here", None);
                continue;
            }
            self.node(item, list.item, &each);
            self.repetition(&mut seen, item, list.joins, subject);
        }
    }

    /// Finds the same item, or one with the same name or path, earlier in the same list; `seen` has
    /// the line of each.
    fn repetition<'n>(
        &mut self,
        seen: &mut BTreeMap<&'n str, usize>,
        item: &'n Node,
        joins: Joins,
        subject: &str,
    ) {
        let Some(text) = joins.identity(item) else { return };
        let Some(first) = seen.insert(text, item.span.line) else { return };
        match joins {
            Joins::ByKey(name) => {
                let span = item.get(name).map_or(item.span, |node| node.span);
                let message = format!("{name} `{text}` is given twice in {subject}");
                let help = "keep one; only a recipe that extends this one may replace it";
                let label = format!("first given in line {first}");
                self.report(span, message, &label, Some(help.to_owned()));
            }
            _ => {
                let message = format!("`{text}` is given twice in {subject}");
                let label = format!("also in line {first}");
                self.problems
                    .warning(|| Diagnostic::error(self.sources, item.span, message).label(label));
            }
        }
    }

    fn map(&mut self, entries: &[Entry], map: &Map) {
        for entry in entries {
            let key = crate::document::Scalar { text: entry.key.clone(), plain: false };
            if let Err(mismatch) = map.key.accept(&key) {
                self.report(entry.key_span, mismatch.message, &mismatch.label, mismatch.help);
            }
            self.node(&entry.node, map.value, &format!("`{}`", entry.key));
        }
    }

    /// `noun` is what a message calls the document. One that is empty says nothing.
    fn document(&mut self, node: &Node, object: &Object, noun: &str) {
        if matches!(node.value, Value::Mapping(_)) {
            self.object(node, object);
        } else if !node.is_null() {
            let message = format!("{noun} is a mapping, not {}", node.noun());
            self.report(node.span, message, "expected `key: value`", None);
        }
    }

    /// Looks at a mapping.
    fn object(&mut self, node: &Node, object: &Object) {
        for entry in node.entries() {
            match object.field(&entry.key) {
                Some(field) => self.node(&entry.node, field.shape, &format!("`{}`", field.name)),
                None => self.unknown_key(entry, object),
            }
        }
        for field in object.fields.iter().filter(|field| field.required) {
            if node.get(field.name).is_none() {
                let message = format!("`{}` is missing", field.name);
                self.report(node.span, message, "in this mapping", Some(field.about.to_owned()));
            }
        }
        self.alternatives(node, object);
    }

    fn unknown_key(&mut self, entry: &Entry, object: &Object) {
        let names = object.fields.iter().map(|field| field.name);
        let label = match nearest(&entry.key, names.clone()) {
            Some(name) => format!("did you mean `{name}`?"),
            None => "no such key here".to_owned(),
        };
        let mut help = String::new();
        for place in places_of(&entry.key) {
            help.push_str(&format!("`{}` is a key of `{place}`\n", entry.key));
        }
        help.push_str("valid keys here: ");
        help.push_str(&names.collect::<Vec<_>>().join(", "));
        self.report(entry.key_span, format!("unknown key `{}`", entry.key), &label, Some(help));
    }

    /// Exactly one of the groups, and that whole.
    fn alternatives(&mut self, node: &Node, object: &Object) {
        if object.alternatives.is_empty() {
            return;
        }
        // Each group of which a key is given, with the first such key.
        let found = |group: &&'static [&'static str]| {
            let entry =
                group.iter().find_map(|name| node.entry(name).filter(|e| !e.node.is_null()));
            entry.map(|entry| (*group, entry))
        };
        let begun: Vec<_> = object.alternatives.iter().filter_map(found).collect();
        let all: Vec<String> = object
            .alternatives
            .iter()
            .map(|group| format!("`{}`", group.join("` with `")))
            .collect();
        let help = Some(format!("give exactly one of {}", all.join(", ")));
        match begun[..] {
            [] => {
                let message = "nothing says what this is to hold".to_owned();
                self.report(node.span, message, "this mapping", help);
            }
            [(group, _)] => {
                for name in group.iter().filter(|name| node.get(name).is_none()) {
                    let message = format!("`{name}` is missing");
                    let help = format!("`{}` go together", group.join("` and `"));
                    self.report(node.span, message, "in this mapping", Some(help));
                }
            }
            [(_, first), (_, second), ..] => {
                let message = format!("`{}` and `{}` exclude each other", first.key, second.key);
                self.report(second.key_span, message, "one too many", help);
            }
        }
    }
}

/// Keys whose mapping knows `name`, at the top of a recipe.
fn places_of(name: &str) -> Vec<&'static str> {
    let holds = |shape: &Shape| match shape {
        Shape::Object(object) => object.field(name).is_some(),
        _ => false,
    };
    let fields = RECIPE.fields.iter().filter(|field| holds(&field.shape));
    let mut places: Vec<_> = fields.map(|field| field.name).collect();
    // A key that several mappings know says nothing about what was meant.
    if places.len() > 1 {
        places.clear();
    }
    places
}
