//! The `scripts` mapping: hooks, and the scripts that run at each.

use std::collections::BTreeMap;

use crate::document::{Node, Value};
use crate::recipe::{Content, Hook, Script};

use super::{Reader, map_of_texts};

impl Reader<'_> {
    pub(super) fn scripts(&mut self, root: &Node) -> Option<BTreeMap<Hook, Vec<Script>>> {
        let mut hooks = Some(BTreeMap::new());
        for entry in root.get("scripts").map(Node::entries).unwrap_or_default() {
            let word = serde_json::Value::String(entry.key.clone());
            // An unknown hook was reported as an unknown key.
            let hook: Option<Hook> = serde_json::from_value(word).ok();
            let scripts = self.scripts_of_hook(entry.node.items());
            match (hook, scripts) {
                (Some(_), Some(scripts)) if scripts.is_empty() => {}
                (Some(hook), Some(scripts)) => {
                    hooks.as_mut().map(|hooks| hooks.insert(hook, scripts));
                }
                _ => hooks = None,
            }
        }
        hooks
    }

    fn scripts_of_hook(&mut self, items: &[Node]) -> Option<Vec<Script>> {
        let mut names = BTreeMap::new();
        let mut scripts = Some(Vec::new());
        for item in items {
            let Some(script) = self.script(item) else {
                scripts = None;
                continue;
            };
            if let Some(first) = names.insert(script.name.clone(), item.span) {
                let message = format!("two scripts of one hook are called `{}`", script.name);
                let file = self.sources.get(first.source).map_or("", |source| source.name.as_str());
                let label = format!("the first stands in {file}:{}", first.line);
                self.report(item.span, message, &label, || {
                    "give this one another name: `{ name: …, source: … }`".to_owned()
                });
            }
            if let Some(scripts) = &mut scripts {
                scripts.push(script);
            }
        }
        scripts
    }

    fn script(&mut self, node: &Node) -> Option<Script> {
        let (content, environment) = match &node.value {
            Value::Scalar(_) => (Content::Local(self.local_file(node)?), BTreeMap::new()),
            _ => (self.content(node, "run")?, map_of_texts(node.get("environment"))),
        };
        let name = match node.text("name") {
            Some(name) => name.to_owned(),
            None => self.default_name(node, &content)?,
        };
        Some(Script { name, content, environment })
    }

    /// The file's name without what follows its first dot.
    fn default_name(&mut self, node: &Node, content: &Content) -> Option<String> {
        let file = match content {
            Content::Inline(_) => None,
            Content::Local(path) => path.file_name().and_then(|name| name.to_str()),
            Content::Url { url, .. } => url.rsplit('/').next(),
        };
        let stem = file.and_then(|file| file.split('.').next()).unwrap_or_default();
        let name: String =
            stem.chars().filter(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-')).collect();
        if name.starts_with(|c: char| c.is_ascii_alphanumeric()) {
            return Some(name.chars().take(63).collect());
        }
        self.report(node.span, "this script has no name".to_owned(), "needs `name`", || {
            "add `name: harden`; it appears in output and logs".to_owned()
        });
        None
    }
}
