//! The qcow2 format, version 3 (QEMU, docs/interop/qcow2.txt): writer, overlay writer and reader.

mod check;
mod clusters;
mod codec;
mod header;
mod overlay;
mod read;
mod table;
mod write;

pub use check::Report;
pub use clusters::Clusters;
pub(crate) use clusters::Found;
pub use codec::Compression;
pub(crate) use codec::WINDOW_BITS;
pub use header::{Header, MAGIC};
pub use overlay::{Backing, write_overlay};
pub use read::Reader;
pub(crate) use write::Packer;
pub use write::{Options, Writer, write, write_with};
