//! `--set path.to.key=value`: one value, merged over the recipe as a last child.

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::document::{self, Entry, Node, Scalar, Value};
use crate::kind::nearest;
use crate::shape::{Object, RECIPE, Shape};
use crate::source::{Origin, SourceId, SourceText, Sources, Span};

/// Reads `argument` as a document with that one value in it. What is wrong goes to `problems`.
pub(crate) fn parse(
    sources: &mut Sources,
    argument: &str,
    problems: &mut Diagnostics,
) -> Option<Node> {
    let text = SourceText::new("--set".to_owned(), argument.to_owned(), Origin::Argument);
    let source = sources.add(text);
    let Some((path, value)) = argument.split_once('=') else {
        let span = Span { source, line: 1, column: 1, length: argument.chars().count() };
        problems.push(
            Diagnostic::error(sources, span, "`--set` takes a key and a value")
                .label("no `=` in it")
                .help("write --set disk.size=8GiB"),
        );
        return None;
    };
    let steps = steps(sources, source, path, problems)?;
    // The value is parsed where it stands, so that columns count from the argument's start.
    let padded = format!("{}{value}", " ".repeat(path.chars().count() + 1));
    let value = match value.trim() {
        // Nothing is null, as it is after `key:` in a file.
        "" => null(source, padded.chars().count()),
        _ => document::parse(sources, source, &padded, problems)?,
    };
    Some(nest(steps, value, source))
}

/// One step of a path: a key and where it stands.
type Step = (String, Span);

/// Splits a path by the shape: a free key, such as a kernel parameter's name, may hold dots.
fn steps(
    sources: &Sources,
    source: SourceId,
    path: &str,
    problems: &mut Diagnostics,
) -> Option<Vec<Step>> {
    let mut steps = Vec::new();
    let (mut rest, mut shape, mut column) = (path, Shape::Object(&RECIPE), 1);
    loop {
        let whole = matches!(shape, Shape::Map(map) if matches!(map.value, Shape::Scalar(_)));
        let (key, below) = match rest.split_once('.') {
            Some((key, below)) if !whole => (key, Some(below)),
            _ => (rest, None),
        };
        let length = key.chars().count();
        let span = Span { source, line: 1, column, length: length.max(1) };
        shape = match shape {
            Shape::Object(object) => match object.field(key) {
                Some(field) => field.shape,
                None => {
                    problems.push(unknown(sources, span, key, object));
                    return None;
                }
            },
            Shape::Map(map) => map.value,
            _ => {
                let message = format!("there is no key `{key}` below a list or a single value");
                let help = "set the whole list: --set 'packages=[jq, vim]' adds to those there";
                let problem = Diagnostic::error(sources, span, message).label("not a mapping");
                problems.push(problem.help(help));
                return None;
            }
        };
        steps.push((key.to_owned(), span));
        match below {
            Some(below) => rest = below,
            None => return Some(steps),
        }
        column += length + 1;
    }
}

fn unknown(sources: &Sources, span: Span, key: &str, object: &Object) -> Diagnostic {
    let names = object.fields.iter().map(|field| field.name);
    let label = match nearest(key, names.clone()) {
        Some(name) => format!("did you mean `{name}`?"),
        None => "no such key here".to_owned(),
    };
    Diagnostic::error(sources, span, format!("unknown key `{key}`"))
        .label(label)
        .help(format!("valid keys here: {}", names.collect::<Vec<_>>().join(", ")))
}

fn null(source: SourceId, column: usize) -> Node {
    let scalar = Scalar { text: String::new(), plain: true };
    Node { value: Value::Scalar(scalar), span: Span { source, line: 1, column, length: 1 } }
}

fn nest(steps: Vec<Step>, value: Node, source: SourceId) -> Node {
    let start = Span { source, line: 1, column: 1, length: 1 };
    steps.into_iter().rev().fold(value, |node, (key, key_span)| Node {
        value: Value::Mapping(vec![Entry { key, key_span, node }]),
        span: start,
    })
}
