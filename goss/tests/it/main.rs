//! Tests of the goss room through its public functions.

#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests are named as sentences, and end at the first surprise"
)]

mod documentation;
mod expressions;
mod fake;
mod files;
mod guest;
mod image_builder;
mod judging;
mod matchers;
mod properties;
mod rules;
