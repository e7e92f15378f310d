//! VMware vSphere: an OVA with a stream-optimised disk, as Cluster API's provider for vSphere imports it as
//! a template.
//!
//! The layer is in `layer.yaml` beside `Cargo.toml`. This crate knows the OVF descriptor and what vSphere makes of it; archive and disk are written by
//! `nodekiln-disk`. It may not know how a tree is built.

mod descriptor;
mod envelope;
mod machine;
mod provider;
mod registration;
mod template;

pub use descriptor::{Machine, Product, Property};
pub use provider::Vsphere;
pub use registration::ImportTemplate;
pub use template::Template;
