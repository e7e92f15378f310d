//! The `units` mapping: which systemd units are enabled, disabled and masked.

use std::collections::{BTreeMap, BTreeSet};

use crate::document::Node;
use crate::recipe::Units;
use crate::source::Span;

use super::{Reader, texts};

impl Reader<'_> {
    /// The units of `node`, which is the recipe or a provider's part of it.
    pub(super) fn units(&mut self, node: &Node) -> Units {
        let Some(units) = node.get("units") else { return Units::default() };
        let list = |key| texts(units, key);
        let mut enable = list("enable");
        let void = self.void(units);
        enable.retain(|unit| !void.contains(unit));
        Units { enable, disable: list("disable"), mask: list("mask") }
    }

    /// Units that a parent enables and a child disables or masks: what the child says counts.
    ///
    /// The other way round is an error, for units are enabled first, disabled and masked after that,
    /// so that enabling would be without effect. So is both in one file.
    fn void(&mut self, units: &Node) -> BTreeSet<String> {
        let items = |key| units.get(key).map(Node::items).unwrap_or_default();
        let named = |item: &Node| Some((item.scalar()?.text.clone(), item.span));
        let enabled: BTreeMap<String, Span> = items("enable").iter().filter_map(named).collect();
        let mut void = BTreeSet::new();
        for (key, done) in [("disable", "disabled"), ("mask", "masked")] {
            for (unit, span) in items(key).iter().filter_map(named) {
                let Some(enabling) = enabled.get(&unit).copied() else { continue };
                if self.sources.is_parent_of(enabling.source, span.source) {
                    void.insert(unit);
                } else {
                    self.refuse_both(&unit, enabling, span, key, done);
                }
            }
        }
        void
    }

    /// Shows what stands later of a unit's two places.
    fn refuse_both(&mut self, unit: &str, enabling: Span, other: Span, key: &str, done: &str) {
        let one_file = enabling.source == other.source;
        let behind = (enabling.line, enabling.column) > (other.line, other.column);
        let (later, first, verb) = if !one_file || behind {
            (enabling, other, done)
        } else {
            (other, enabling, "enabled")
        };
        let file = self.sources.get(first.source).map_or("", |source| source.name.as_str());
        let label = format!("{verb} in {file}:{}", first.line);
        self.report(later, format!("`{unit}` is both enabled and {done}"), &label, || {
            if one_file {
                return "keep one of the two".to_owned();
            }
            format!(
                "write `{key}: null` here to take back the whole list of the parent; what is to stay \
                 in it goes into a recipe that extends this one"
            )
        });
    }
}
