//! Folders of text, as EC2's metadata service and those that follow it show them.

use std::collections::BTreeMap;

use hyper::body::Bytes;
use serde_json::Value;

/// Something with a path.
#[derive(Clone, Debug)]
pub(super) enum Node {
    /// A value.
    Leaf(Bytes),
    /// More nodes.
    Folder(Folder),
}

/// Nodes by name, in alphabetical order.
#[derive(Clone, Debug, Default)]
pub(super) struct Folder(BTreeMap<String, Entry>);

#[derive(Clone, Debug)]
struct Entry {
    /// What a listing shows in place of the name.
    shown: Option<String>,
    node: Node,
}

impl Folder {
    /// Adds a value.
    pub(super) fn leaf(&mut self, name: &str, value: impl Into<Bytes>) {
        self.insert(name, None, Node::Leaf(value.into()));
    }

    /// Adds a value that this version of the service knows.
    pub(super) fn leaf_if(&mut self, known: bool, name: &str, value: impl Into<Bytes>) {
        if known {
            self.leaf(name, value);
        }
    }

    /// Adds a folder that has anything in it.
    pub(super) fn folder(&mut self, name: &str, folder: Self) {
        if !folder.0.is_empty() {
            self.insert(name, None, Node::Folder(folder));
        }
    }

    /// Adds a folder that listings show by another name and without a slash, as EC2 does with public keys.
    pub(super) fn folder_shown_as(&mut self, name: &str, shown: String, folder: Self) {
        self.insert(name, Some(shown), Node::Folder(folder));
    }

    fn insert(&mut self, name: &str, shown: Option<String>, node: Node) {
        self.0.insert(name.to_owned(), Entry { shown, node });
    }

    /// What is at `path`; the folder itself where the path is empty.
    pub(super) fn find<S: AsRef<str>>(&self, path: &[S]) -> Option<Found<'_>> {
        let Some((first, rest)) = path.split_first() else { return Some(Found::Folder(self)) };
        match (&self.0.get(first.as_ref())?.node, rest) {
            (Node::Leaf(value), []) => Some(Found::Leaf(value)),
            (Node::Leaf(_), _) => None,
            (Node::Folder(folder), rest) => folder.find(rest),
        }
    }

    /// One name a line, folders with a slash at the end.
    pub(super) fn listing(&self) -> String {
        let line = |(name, entry): (&String, &Entry)| match (&entry.shown, &entry.node) {
            (Some(shown), _) => shown.clone(),
            (None, Node::Leaf(_)) => name.clone(),
            (None, Node::Folder(_)) => format!("{name}/"),
        };
        self.0.iter().map(line).collect::<Vec<_>>().join("\n")
    }

    /// The same as JSON, as OpenStack's config drive keeps it; values that are no text are left out.
    pub(super) fn to_json(&self) -> Value {
        let value = |node: &Node| match node {
            Node::Leaf(bytes) => std::str::from_utf8(bytes).ok().map(Value::from),
            Node::Folder(folder) => Some(folder.to_json()),
        };
        let pairs = self.0.iter();
        pairs.filter_map(|(name, entry)| Some((name.clone(), value(&entry.node)?))).collect()
    }
}

/// The names in a folder of JSON, an array's are its numbers; those for which `is_folder` holds with a slash.
pub(super) fn names(folder: &Value, is_folder: fn(&Value) -> bool) -> Vec<String> {
    let shown = |name: String, value: &Value| if is_folder(value) { name + "/" } else { name };
    match folder {
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| shown(name.clone(), value)).collect()
        }
        Value::Array(list) => list
            .iter()
            .enumerate()
            .map(|(number, value)| shown(number.to_string(), value))
            .collect(),
        _ => Vec::new(),
    }
}

/// What a path leads to.
#[derive(Clone, Copy, Debug)]
pub(super) enum Found<'a> {
    /// A value.
    Leaf(&'a Bytes),
    /// A folder.
    Folder(&'a Folder),
}
