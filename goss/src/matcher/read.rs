//! Matchers read from YAML.

use serde_json::Value as Json;

use super::{Dialect, LinePattern, Matcher, Order, Path, Want};
use crate::pattern;
use crate::place::{Problem, did_you_mean};
use crate::version::{Constraint, Rules};
use crate::yaml::{Node, Resolved, Value};

/// The names of matchers.
const NAMES: &[&str] = &[
    "and",
    "consist-of",
    "contain-element",
    "contain-elements",
    "contain-substring",
    "equal",
    "ge",
    "gjson",
    "gt",
    "have-key",
    "have-key-with-value",
    "have-len",
    "have-patterns",
    "have-prefix",
    "have-suffix",
    "le",
    "lt",
    "match-regexp",
    "not",
    "or",
    "semver-constraint",
];

impl Matcher {
    /// The matcher for a value. `None` where nothing is wanted: null, or an empty list.
    pub(crate) fn of_value(node: &Node, dialect: Dialect) -> Result<Option<Self>, Problem> {
        if nothing_wanted(node) {
            return Ok(None);
        }
        Ok(Some(Self { want: read(node, dialect)?, written: node.to_json() }))
    }

    /// The matcher for an output or a file's contents: a list has patterns on lines in it.
    pub(crate) fn of_output(node: &Node, dialect: Dialect) -> Result<Option<Self>, Problem> {
        match &node.value {
            Value::List(items) if !items.is_empty() => {
                let want = Want::HavePatterns(patterns(items)?);
                Ok(Some(Self { want, written: node.to_json() }))
            }
            _ => Self::of_value(node, dialect),
        }
    }
}

fn nothing_wanted(node: &Node) -> bool {
    match &node.value {
        Value::List(items) => items.is_empty(),
        _ => node.is_null(),
    }
}

fn read(node: &Node, dialect: Dialect) -> Result<Want, Problem> {
    match &node.value {
        Value::Scalar(scalar) => match scalar.resolved() {
            Resolved::Text => Ok(Want::Text(scalar.text.clone())),
            Resolved::Boolean(wanted) => Ok(Want::Boolean(wanted)),
            #[expect(clippy::cast_precision_loss, reason = "goss compares numbers as floats, too")]
            Resolved::Integer(wanted) => Ok(Want::Number(wanted as f64)),
            Resolved::Float(wanted) => Ok(Want::Number(wanted)),
            Resolved::Null => Err(wrong(node, "nothing is wanted here", "write what is wanted")),
        },
        Value::List(items) => {
            let wanted = items.iter().map(|item| read(item, dialect)).collect::<Result<_, _>>()?;
            Ok(match dialect {
                Dialect::Goss03 => Want::ContainEach(wanted),
                Dialect::Goss04 => Want::ContainElements(wanted),
            })
        }
        Value::Mapping(entries) => match entries.as_slice() {
            [entry] if NAMES.contains(&entry.key.as_str()) => {
                named(&entry.key, &entry.node, dialect)
            }
            [entry] => {
                let message = format!("`{}` is no matcher", entry.key);
                let problem =
                    Problem::new(&entry.key_place, message, did_you_mean(&entry.key, NAMES));
                Err(problem)
            }
            [] => Err(wrong(node, "an empty mapping is no matcher", "write what is wanted")),
            _ => {
                let help = "one matcher stands at a place; join several by `and: [...]`";
                Err(wrong(node, "several matchers stand in one mapping", help))
            }
        },
    }
}

/// The matcher called `name` with what stands after it.
fn named(name: &str, node: &Node, dialect: Dialect) -> Result<Want, Problem> {
    let boxed = || read(node, dialect).map(Box::new);
    let several = || -> Result<Vec<Want>, Problem> {
        let Value::List(items) = &node.value else {
            return Err(expected(name, "a list of matchers", node));
        };
        items.iter().map(|item| read(item, dialect)).collect()
    };
    Ok(match name {
        "equal" => Want::Equal(node.to_json()),
        "have-prefix" => Want::HavePrefix(text(name, node)?),
        "have-suffix" => Want::HaveSuffix(text(name, node)?),
        "contain-substring" => Want::ContainSubstring(text(name, node)?),
        "match-regexp" => {
            let expression = pattern::compile(&text(name, node)?);
            Want::MatchRegexp(expression.map_err(|why| wrong(node, why, EXPRESSION_HELP))?)
        }
        "gt" => Want::Compare(Order::Greater, number(name, node)?),
        "ge" => Want::Compare(Order::GreaterOrEqual, number(name, node)?),
        "lt" => Want::Compare(Order::Less, number(name, node)?),
        "le" => Want::Compare(Order::LessOrEqual, number(name, node)?),
        "have-len" => {
            let length = number(name, node)?;
            let whole = node.to_json().as_u64().and_then(|length| usize::try_from(length).ok());
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
            let whole =
                whole.or((length >= 0.0 && length.fract() == 0.0).then_some(length as usize));
            Want::HaveLen(whole.ok_or_else(|| expected(name, "a whole number", node))?)
        }
        "have-patterns" => match &node.value {
            Value::List(items) => Want::HavePatterns(patterns(items)?),
            _ => return Err(expected(name, "a list of patterns", node)),
        },
        "have-key" => Want::HaveKey(boxed()?),
        "have-key-with-value" => match &node.value {
            Value::Mapping(entries) if !entries.is_empty() => {
                let pairs = entries.iter();
                let pairs = pairs.map(|entry| Ok((entry.key.clone(), read(&entry.node, dialect)?)));
                Want::HaveKeyWithValue(pairs.collect::<Result<_, Problem>>()?)
            }
            _ => return Err(expected(name, "a mapping of keys to matchers", node)),
        },
        "contain-element" => Want::ContainElement(boxed()?),
        "contain-elements" => Want::ContainElements(several()?),
        "consist-of" => Want::ConsistOf(several()?),
        "not" => Want::Not(boxed()?),
        "and" => Want::And(several()?),
        "or" => Want::Or(several()?),
        "semver-constraint" => {
            let constraint = Constraint::read(&text(name, node)?, Rules::Blang);
            let help = "write comparisons such as `>=1.2.0 <2.0.0`, joined by spaces or `||`";
            Want::Semver(constraint.map_err(|why| wrong(node, why, help))?)
        }
        "gjson" => match &node.value {
            Value::Mapping(entries) if !entries.is_empty() => {
                let pairs = entries
                    .iter()
                    .map(|entry| Ok((Path::read(&entry.key), read(&entry.node, dialect)?)));
                Want::Gjson(pairs.collect::<Result<_, Problem>>()?)
            }
            _ => return Err(expected(name, "a mapping of paths to matchers", node)),
        },
        _ => {
            return Err(wrong(node, format!("`{name}` is no matcher"), "see the list of matchers"));
        }
    })
}

const EXPRESSION_HELP: &str =
    "expressions are those of Go (RE2); quote a literal part with `\\Q…\\E`";

fn patterns(items: &[Node]) -> Result<Vec<LinePattern>, Problem> {
    items
        .iter()
        .map(|item| {
            let Some(scalar) = item.scalar() else {
                let help = "a pattern is one text; to use matchers put them under `and:` instead of a list";
                let message = format!("{} stands in place of a pattern", item.noun());
                return Err(wrong(item, message, help));
            };
            LinePattern::read(&scalar.text).map_err(|why| wrong(item, why, EXPRESSION_HELP))
        })
        .collect()
}

fn text(name: &str, node: &Node) -> Result<String, Problem> {
    let Some(scalar) = node.scalar() else { return Err(expected(name, "a text", node)) };
    match scalar.resolved() {
        Resolved::Text => Ok(scalar.text.clone()),
        _ => Err(expected(name, "a text, here in quotes", node)),
    }
}

fn number(name: &str, node: &Node) -> Result<f64, Problem> {
    match node.to_json() {
        Json::Number(number) => number.as_f64().ok_or_else(|| expected(name, "a number", node)),
        _ => Err(expected(name, "a number", node)),
    }
}

fn expected(name: &str, what: &str, node: &Node) -> Problem {
    wrong(node, format!("`{name}` has {} after it", node.noun()), format!("give it {what}"))
}

fn wrong(node: &Node, message: impl Into<String>, help: impl Into<String>) -> Problem {
    Problem::new(&node.place, message, help)
}
