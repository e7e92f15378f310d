//! The build room: what enters, is verified and kept; where steps run; how layers become a disk.
//!
//! [`resolve`] turns a recipe into a lock, [`graph::run_graph`] executes a plan's nodes that the
//! [`store`] lacks, each step in the [`sandbox`] over the [`layer`]s below it. This room may not know
//! clouds, guests or the command line.

pub mod account;
pub mod deb;
pub mod debian;
pub mod execution;
pub mod explain;
pub mod fetch;
pub mod graph;
pub mod kubernetes;
pub mod layer;
pub mod oci;
pub mod remote;
pub mod reproduce;
pub mod resolve;
pub mod sandbox;
pub mod steps;
pub mod store;
