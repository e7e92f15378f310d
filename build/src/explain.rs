//! Why the store lacks a node: the first input in which it differs from the nearest node that was made
//! before under the same name.
//!
//! Each result keeps the text that its id is the digest of ([`Node::preimage`]). Two such texts are laid
//! out as fields (`packages[containerd].version`) and compared. What stands below a node is compared
//! last: where only that differs, the reason is told at the parent.

mod fields;

use std::collections::BTreeMap;
use std::fmt;

use nodekiln_recipes::plan::{Node, NodeId, Plan};
use nodekiln_words::Result;
use serde::Serialize;

use crate::store::{NodeRecord, Store};
use fields::{Field, differences, fields};

/// Why a node is not in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "reason")]
pub enum Reason {
    /// No node of this name was ever made, or none is left in the store.
    First,
    /// An input of its own is another one.
    Input {
        /// The field that differs, such as `kubernetes.version`.
        field: String,
        /// What it was in the nearest earlier node; `None` where there was no such field.
        earlier: Option<String>,
        /// What it is now.
        now: Option<String>,
        /// How many more fields differ.
        others: usize,
    },
    /// Its inputs are the same in another order.
    Order,
    /// Its own inputs are the same; this parent is another node than the earlier one stood on.
    Parent {
        /// Name of the parent.
        parent: String,
    },
}

/// A miss explained.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Explanation {
    /// Why.
    #[serde(flatten)]
    pub reason: Reason,
    /// Seconds that the nearest earlier node took, where there is one.
    pub expected_seconds: Option<f64>,
}

/// Explains misses by what the store has.
pub struct Explainer {
    /// Records by the node's name.
    records: BTreeMap<String, Vec<(NodeId, NodeRecord)>>,
}

impl Explainer {
    /// Reads the records of all nodes in `store`.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub fn over(store: &Store) -> Result<Self> {
        let mut records: BTreeMap<String, Vec<(NodeId, NodeRecord)>> = BTreeMap::new();
        for (id, record) in store.records()? {
            records.entry(record.name.clone()).or_default().push((id, record));
        }
        Ok(Self { records })
    }

    /// Why the store lacks `node` of `plan`.
    #[must_use]
    pub fn explain(&self, plan: &Plan, node: &Node) -> Explanation {
        let now = fields(&plan.preimage(node));
        let others = self.records.get(&node.name).map(Vec::as_slice).unwrap_or_default();
        // The nearest differs in the fewest parents, behind which more may differ, then in the fewest
        // inputs of its own.
        let nearest = others
            .iter()
            .filter(|(id, _)| *id != node.id)
            .map(|(id, record)| (differences(&fields(&record.preimage), &now), id, record))
            .min_by_key(|(differences, id, _)| {
                (differences.len() - own(differences), own(differences), *id)
            });
        let Some((differences, _, record)) = nearest else {
            return Explanation { reason: Reason::First, expected_seconds: None };
        };
        let reason = match differences.first() {
            Some(Field { path, earlier, now }) if !is_parent(path) => Reason::Input {
                field: fields::told(&node.work, path),
                earlier: earlier.clone(),
                now: now.clone(),
                others: own(&differences) - 1,
            },
            None => Reason::Order,
            first => Reason::Parent { parent: parent(node, first).to_owned() },
        };
        Explanation { reason, expected_seconds: Some(record.seconds) }
    }
}

/// How many of the differences are in inputs of the node's own.
fn own(differences: &[Field]) -> usize {
    differences.iter().filter(|field| !is_parent(&field.path)).count()
}

fn is_parent(path: &str) -> bool {
    path == BELOW || path.starts_with(USES)
}

const BELOW: &str = "below";
const USES: &str = "uses[";

/// The name of the parent that a differing field stands for.
fn parent<'a>(node: &'a Node, field: Option<&Field>) -> &'a str {
    let number = field
        .and_then(|field| field.path.strip_prefix(USES)?.strip_suffix(']')?.parse::<usize>().ok());
    let used = number.and_then(|number| node.uses.get(number));
    used.or(node.below.as_ref()).map_or("", String::as_str)
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("first build of this node"),
            Self::Order => f.write_str("the same inputs in another order"),
            Self::Parent { parent } => write!(f, "stands on another `{parent}`"),
            Self::Input { field, earlier, now, others } => {
                let value = |value: &Option<String>| value.clone().unwrap_or("none".to_owned());
                write!(f, "{field}: {} → {}", value(earlier), value(now))?;
                match others {
                    0 => Ok(()),
                    1 => f.write_str(" and 1 other"),
                    others => write!(f, " and {others} others"),
                }
            }
        }
    }
}
