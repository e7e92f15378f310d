//! Tests of the recipe room through its public functions.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests are named as sentences, and end at the first surprise"
)]

mod composing;
mod conformance;
mod diagnostics;
mod documentation;
mod golden;
mod layers;
mod library;
mod locking;
mod planning;
mod properties;
mod schema;
mod snapshot;
