//! Plugins, good and bad, as nodekiln meets them. All are small shell scripts: what they do stands in the tests.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests are named as sentences, and end at the first surprise"
)]

mod conformance;
mod describing;
mod schema;
mod script;
mod writing;
