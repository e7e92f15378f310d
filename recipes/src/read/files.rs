//! Entries of `files`: a file from somewhere, a directory, or a link.

use crate::document::Node;
use crate::recipe::{Content, FileNode, FileStep};

use super::Reader;

/// Permission bits of what has none written, by what it is.
const FILE_MODE: u32 = 0o644;
const DIRECTORY_MODE: u32 = 0o755;
/// Linux shows links with these bits and does not let anyone change them.
const LINK_MODE: u32 = 0o777;

impl Reader<'_> {
    pub(super) fn file(&mut self, node: &Node) -> Option<FileStep> {
        let (what, default) = if node.get("directory").is_some() {
            (FileNode::Directory, DIRECTORY_MODE)
        } else if let Some(target) = node.text("link") {
            self.refuse_mode_of_link(node);
            (FileNode::Link(target.to_owned()), LINK_MODE)
        } else {
            (FileNode::File(self.content(node, "content")?), FILE_MODE)
        };
        let mode = node.get("mode").map(|node| self.mode(node));
        let owner = |key| node.text(key).unwrap_or("root").to_owned();
        Some(FileStep {
            path: node.text("path")?.to_owned(),
            node: what,
            mode: mode.unwrap_or(Some(default))?,
            owner: owner("owner"),
            group: owner("group"),
        })
    }

    /// What `inline`, `source` or `url` with `sha256` says.
    pub(super) fn content(&mut self, node: &Node, inline: &str) -> Option<Content> {
        if let Some(text) = node.text(inline) {
            return Some(Content::Inline(text.to_owned()));
        }
        if let Some(path) = node.get("source") {
            return self.local_file(path).map(Content::Local);
        }
        let sha256 = node.get("sha256").and_then(|node| self.parsed(node))?;
        Some(Content::Url { url: node.text("url")?.to_owned(), sha256 })
    }

    fn mode(&mut self, node: &Node) -> Option<u32> {
        let mode = u32::from_str_radix(&node.scalar()?.text, 8);
        mode.map_err(|error| self.unreadable(node, &error.to_string())).ok()
    }

    fn refuse_mode_of_link(&mut self, node: &Node) {
        if let Some(mode) = node.get("mode") {
            let message = "a link has no permission bits of its own".to_owned();
            self.report(mode.span, message, "remove this", || {
                "permission bits are those of what the link points to".to_owned()
            });
        }
    }
}
