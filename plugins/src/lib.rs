//! Providers that are programs of others: executables `nodekiln-provider-NAME`, which speak JSON lines on
//! standard input and output.
//!
//! A plugin is found by its name ([`find`]), asked what it is, and then is a [`Provider`] as any other
//! ([`PluginProvider`]): nodekiln writes the disk in the format that the plugin asks for, in the one pass
//! that feeds all artifacts, and the plugin makes its artifact of that. What it says it wrote is read again
//! before it counts ([`verify`]). [`check`] holds a plugin against the protocol for its author.
//!
//! The messages are in `nodekiln-plugin-protocol`, which a plugin may use as well; `docs/plugins.md` tells
//! of them. A plugin is not confined: who puts a program on the PATH of somebody who builds images, or
//! names it to them, is trusted like any other tool. What is guarded against is a plugin that is broken.
//!
//! This room may not know how a tree is built, nor which providers there are in the tree: but for vSphere's OVA,
//! which is also a format in which plugins take the disk.
//!
//! [`Provider`]: nodekiln_providers::Provider

pub mod check;
mod described;
mod find;
mod limits;
mod process;
mod provider;
mod session;
mod verify;
mod work_folder;

pub use find::{Executable, find, is_name, list};
pub use limits::Limits;
pub use provider::PluginProvider;

/// Who speaks to plugins.
const PROGRAM: &str = concat!("nodekiln ", env!("CARGO_PKG_VERSION"));
