//! Layers: file-tree differences laid one upon another, written to, read and listed.
//!
//! A layer is a folder as overlayfs keeps its upper folder: a file hides the one below it, a
//! character device 0/0 is a whiteout, and a directory with `trusted.overlay.opaque` hides all that
//! lies below it (Documentation/filesystems/overlayfs.rst of the Linux source). [`Root`] lays layers
//! under a new one and gives file operations that stay inside the tree; [`scan`] lists a layer with
//! a digest of every file; [`LayeredTree`] reads through layers without mounting anything.

mod accounts;
pub(crate) mod confined;
mod extended;
mod finish;
mod layered;
mod root;
mod scan;

pub use confined::Confined;
pub(crate) use extended::{OPAQUE, OVERLAY, extended, is_opaque};
pub use layered::LayeredTree;
pub(crate) use layered::is_whiteout;
pub(crate) use root::unshare;
pub use root::{Attributes, Memory, Root, mount_memory, private_mounts};
pub(crate) use scan::escape;
pub use scan::{scan, scan_as};
