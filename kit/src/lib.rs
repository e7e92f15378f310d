//! Kits for node conformance.
//!
//! - **Suite**: `e2e_node.test` of one Kubernetes version, a program of thousands of lines that starts a
//!   kubelet, an API server and etcd of its own on the node and runs specs against them.
//! - **Spec**: one test of the suite, called by its whole text.
//! - **Kit**: suite, images and the list of specs in one tar, which a guest reads as a disk.
//! - **Batch**: the specs that one start of the suite runs; **shard**: those that one guest runs.
//!
//! [`Kit::open`] reads a kit, [`Draft::write`] writes one, [`Manifest::select`] picks specs, and
//! [`junit::read`] says what became of them. This room may not know how a kit's parts are made, nor guests.

/// The README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;

pub mod images;
pub mod junit;
pub mod release;
pub mod suite;

mod file;
mod manifest;
mod offline;
mod select;

pub use file::{Draft, Kit, MANIFEST, Source};
pub use manifest::{File, Image, Manifest, Origin, SCHEMA};
pub use select::{FOCUS, SKIP, Selected, Shard, Skipped, Wanted, pattern};
