//! Tests of the bill of materials from outside.
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod document;
mod fixture;
mod folder;
mod peers;
mod real_tree;
