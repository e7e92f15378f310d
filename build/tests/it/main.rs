//! Integration tests of the build room.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "in a test, to unwrap is to assert, and what is measured is printed"
)]

mod archive;
mod compile;
mod conformance;
mod control_plane;
mod deb;
mod debian;
mod disk;
mod fetching;
mod graph;
mod image_archive;
mod install;
mod layer;
mod locking;
mod mirror;
mod node;
mod place;
mod preload;
mod release;
mod remote;
mod resolving;
mod runtime_config;
mod sandbox;
mod server;
mod steps;
mod store_faults;
