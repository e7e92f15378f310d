//! Merging a recipe over the one that it extends.
//!
//! 1. Mappings merge key by key; the parent's keys come first.
//! 2. A scalar replaces the parent's.
//! 3. A list adds its items after the parent's; an item that is already there stands once, where it
//!    stood first.
//! 4. In `files` an entry replaces the parent's with the same `path`, whole and in its place; in
//!    `users` the same goes by `name`.
//! 5. Lists of scripts add the child's after the parent's, always.
//! 6. `null` takes away what the parent says: the key has its default again.
//! 7. `extends` is not inherited.
//!
//! Among documents without `null`, whose values have the types that the shape asks for, merging is
//! associative. Every value keeps its span, so a later problem is shown in the file that holds it.

use std::collections::BTreeMap;

use crate::document::{Entry, Node, Value};
use crate::shape::{Joins, Map, Object, RECIPE, Shape};

/// `child` over `parent`; a topmost parent is laid over nothing, so that no repetition and no
/// `null` is left in it either.
pub(crate) fn over(parent: Option<Node>, child: Node) -> Option<Node> {
    let parent = parent.unwrap_or(Node { value: Value::Mapping(Vec::new()), span: child.span });
    // A text without any key says nothing at all.
    if child.is_null() {
        return Some(parent);
    }
    let mut merged = merge_node(parent, child, Shape::Object(&RECIPE));
    if let Value::Mapping(entries) = &mut merged.value {
        entries.retain(|entry| entry.key != "extends");
    }
    Some(merged)
}

fn merge_node(parent: Node, child: Node, shape: Shape) -> Node {
    let span = child.span;
    let value = match (parent.value, child.value, shape) {
        (Value::Mapping(parent), Value::Mapping(child), Shape::Object(object)) => {
            Value::Mapping(merge_entries(parent, child, |key| object_value(object, key)))
        }
        (Value::Mapping(parent), Value::Mapping(child), Shape::Map(Map { value, .. })) => {
            Value::Mapping(merge_entries(parent, child, |_| Some(*value)))
        }
        (Value::Sequence(parent), Value::Sequence(child), Shape::List(list)) => {
            Value::Sequence(join(parent, child, list.joins))
        }
        (_, child, _) => child,
    };
    Node { value, span }
}

fn object_value(object: &Object, key: &str) -> Option<Shape> {
    object.field(key).map(|field| field.shape)
}

fn merge_entries(
    parent: Vec<Entry>,
    child: Vec<Entry>,
    shape_of: impl Fn(&str) -> Option<Shape>,
) -> Vec<Entry> {
    let mut places: BTreeMap<String, usize> =
        parent.iter().enumerate().map(|(place, entry)| (entry.key.clone(), place)).collect();
    // `None` where a key was taken away.
    let mut merged: Vec<Option<Entry>> = parent.into_iter().map(Some).collect();
    for Entry { key, key_span, node } in child {
        if node.is_null() {
            if let Some(place) = places.remove(&key) {
                merged[place] = None;
            }
            continue;
        }
        let place = places.get(&key).copied();
        let below = place.and_then(|place| merged[place].take()).map(|entry| entry.node);
        let below = below.unwrap_or_else(|| empty_like(&node));
        let node = match shape_of(&key) {
            Some(shape) => merge_node(below, node, shape),
            None => node,
        };
        let entry = Some(Entry { key: key.clone(), key_span, node });
        match place {
            Some(place) => merged[place] = entry,
            None => {
                places.insert(key, merged.len());
                merged.push(entry);
            }
        }
    }
    merged.into_iter().flatten().collect()
}

/// An empty collection of the same kind, so that what is below is normalised as well.
fn empty_like(node: &Node) -> Node {
    let value = match &node.value {
        Value::Mapping(_) => Value::Mapping(Vec::new()),
        Value::Sequence(_) => Value::Sequence(Vec::new()),
        Value::Scalar(scalar) => Value::Scalar(scalar.clone()),
    };
    Node { value, span: node.span }
}

fn join(parent: Vec<Node>, child: Vec<Node>, joins: Joins) -> Vec<Node> {
    let mut joined: Vec<Node> = Vec::with_capacity(parent.len() + child.len());
    let mut places: BTreeMap<String, usize> = BTreeMap::new();
    for item in parent.into_iter().chain(child) {
        let identity = joins.identity(&item).map(str::to_owned);
        match (identity.as_ref().and_then(|text| places.get(text)), joins) {
            (Some(place), Joins::ByKey(_)) => joined[*place] = item,
            (Some(_), _) => {}
            (None, _) => {
                places.extend(identity.map(|text| (text, joined.len())));
                joined.push(item);
            }
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::subsequence;

    use super::*;
    use crate::diagnostic::Diagnostics;
    use crate::source::{Origin, SourceText, Sources};

    fn document(text: &str) -> Node {
        let mut sources = Sources::default();
        let source = sources.add(SourceText::new("t".into(), text.into(), Origin::Argument));
        let mut problems = Diagnostics::default();
        let node = crate::document::parse(&sources, source, text, &mut problems);
        node.unwrap_or_else(|| panic!("{}\n{text}", problems.render(false)))
    }

    /// The document without its spans.
    fn bare(node: &Node) -> String {
        match &node.value {
            Value::Scalar(scalar) => format!("{:?}", scalar.text),
            Value::Sequence(items) => format!("{:?}", items.iter().map(bare).collect::<Vec<_>>()),
            Value::Mapping(entries) => {
                let entry = |entry: &Entry| (entry.key.clone(), bare(&entry.node));
                format!("{:?}", entries.iter().map(entry).collect::<Vec<_>>())
            }
        }
    }

    fn merged(parent: &Node, child: &Node) -> Node {
        over(Some(parent.clone()), child.clone()).unwrap()
    }

    /// Documents with values of the right types and without null.
    fn documents() -> impl Strategy<Value = Node> {
        let words = || subsequence(vec!["one", "two", "three"], 0..=3).prop_shuffle();
        let sysctls = subsequence(vec!["a.a: 1", "b.b: 2", "a.b: 3"], 0..=3).prop_shuffle();
        (words(), words(), words(), sysctls, 0..9, any::<[bool; 5]>()).prop_map(
            |(packages, files, scripts, sysctls, number, present)| {
                let files: Vec<String> =
                    files.iter().map(|f| format!("{{path: /{f}, content: c{number}}}")).collect();
                let parts = [
                    format!("name: n{number}"),
                    format!("packages: [{}]", packages.join(", ")),
                    format!("files: [{}]", files.join(", ")),
                    format!("scripts: {{post: [{}]}}", scripts.join(", ")),
                    format!("sysctls: {{{}}}", sysctls.join(", ")),
                ];
                let parts = parts.iter().zip(present).filter(|(_, present)| *present);
                let parts: Vec<&str> = parts.map(|(part, _)| part.as_str()).collect();
                document(&format!("{{{}}}", parts.join(", ")))
            },
        )
    }

    proptest! {
        #[test]
        fn merging_is_associative(a in documents(), b in documents(), c in documents()) {
            let left = merged(&merged(&a, &b), &c);
            let right = merged(&a, &merged(&b, &c));
            prop_assert_eq!(bare(&left), bare(&right));
        }

        #[test]
        fn an_empty_child_changes_nothing(a in documents()) {
            let alone = over(None, a).unwrap();
            prop_assert_eq!(bare(&merged(&alone, &document(""))), bare(&alone));
            prop_assert_eq!(bare(&merged(&alone, &document("---\n"))), bare(&alone));
        }
    }

    #[test]
    fn nulls_are_gone_even_where_no_parent_has_the_key() {
        let text = "extends: x\nname: null\nos: { release: , mirrors: ~, family: debian }\n";
        let node = over(None, document(text)).unwrap();
        assert_eq!(bare(&node), bare(&document("os: { family: debian }")));
    }

    #[test]
    fn repeated_items_of_one_document_stand_once() {
        let node = over(None, document("packages: [b, a, b]")).unwrap();
        assert_eq!(bare(&node), bare(&document("packages: [b, a]")));
    }
}
