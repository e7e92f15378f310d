//! Validation rules that users write as YAML: goss files as they are, and nodekiln's own dialect of them.
//!
//! [`file::read`] reads goss files of 0.3 and 0.4 with their templates and imports, [`rules::read`] a
//! `NAME.rules.yaml` with severities and waivers. Both give [`Resource`]s, which [`judge()`] judges against a
//! [`Target`]: an image's tree, or the answers of a running guest ([`guest`]). This crate asks no machine itself: it
//! says what to run ([`guest::plan`]) and reads what came of it.

pub mod file;
pub mod guest;
mod judge;
mod kind;
mod matcher;
mod pattern;
mod place;
mod read;
mod resource;
pub mod rules;
mod target;
mod template;
mod version;
mod yaml;

pub use judge::{AttributeResult, Open, Outcome, Overall, Verdict, judge, needs_a_running_machine};
pub use kind::Kind;
pub use matcher::{Dialect, Matcher, Mismatch, Unmet};
pub use place::{Place, Problem, Problems, nearest};
pub use resource::{Command, Port, Protocol, Request, Resource, Secret, Subject};
pub use target::{
    Algorithm, FileFacts, FileKind, Known, MountFacts, Output, PackageFacts, Response, Target,
    Unknown, UserFacts,
};
