//! Two builds of one plan held against each other: where they first differ, and what may have done it.
//!
//! Each store has an inventory with a digest of every file for each node, so the difference is found
//! without mounting or unpacking anything: the first nodes whose parents are equal and whose outputs are
//! not are where it came in; what stands on them differs in consequence.

mod cause;
mod clock;
mod compare;
mod conditions;

use std::fmt;

use serde::Serialize;

pub use compare::compare;
pub use conditions::{Condition, Conditions, Same};

/// One path in which two builds differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// The node that left it so.
    pub node: String,
    /// The partition that it ends up in.
    pub partition: String,
    /// Its file system.
    pub file_system: String,
    /// Path within the file system; `None` where it is the partition's own bytes.
    pub path: Option<String>,
    /// In what the two differ.
    #[serde(flatten)]
    pub kind: Kind,
    /// What is likely to have caused it, where the catalogue knows.
    pub cause: Option<String>,
}

/// In what two entries differ.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "differs")]
pub enum Kind {
    /// Only the first build has it.
    OnlyFirst,
    /// Only the second build has it.
    OnlySecond,
    /// Both are files, and their bytes differ from this offset on.
    Content {
        /// In bytes.
        offset: u64,
    },
    /// One is of another kind than the other, or leads elsewhere.
    Type,
    /// Same content, other attributes.
    Attributes {
        /// Which: `mode`, `owner`, `time`, `xattrs`.
        names: Vec<&'static str>,
    },
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Comparison {
    /// Nodes held against each other.
    pub nodes: usize,
    /// Where the builds differ for a reason of its own, in the plan's order.
    pub differences: Vec<Difference>,
    /// Differing paths that are not among them: of a node not all are told.
    pub untold: usize,
    /// Nodes that differ because what they stand on does.
    pub consequences: Vec<String>,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyFirst => f.write_str("only the first build has it"),
            Self::OnlySecond => f.write_str("only the second build has it"),
            Self::Content { offset } => write!(f, "other bytes from offset {offset} on"),
            Self::Type => f.write_str("another kind of file, or a link to elsewhere"),
            Self::Attributes { names } => write!(f, "same bytes, other {}", names.join(", ")),
        }
    }
}

impl fmt::Display for Difference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { node, partition, file_system, path, kind, cause } = self;
        write!(f, "{partition} → {file_system}")?;
        if let Some(path) = path {
            write!(f, " → {path}")?;
        }
        let cause = cause.as_deref().unwrap_or("unexplained");
        write!(f, ": {kind}\n  made by `{node}`; likely cause: {cause}")
    }
}
