//! The disk room: one GPT disk that boots by BIOS and by UEFI, and the files that carry it.
//!
//! A [`Disk`] is a map of extents over memory and files; gaps are zeros and are never read. It is
//! put together by [`assemble`] as plain bytes, without loop device, mount or `grub-install`. A [`Pass`]
//! reads it once and feeds the writers of [`qcow2`], [`vhd`], [`vmdk`] (and the [`ova`] around it),
//! [`tar_gz`] and plain files. [`Image`] reads such files back, whoever wrote them.
//!
//! All offsets and sizes are bytes unless a name says sectors (512 bytes each).

mod assemble;
mod crc32c;
mod disk;
pub mod esp;
pub mod ext4;
pub mod fat;
mod fields;
mod file_writer;
pub mod files;
mod flushed;
pub mod gpt;
pub mod grub;
mod ids;
mod image;
mod layout;
mod metered;
mod ordered;
mod output;
pub mod ova;
mod pages;
mod partitions;
mod pass;
mod payload;
pub mod qcow2;
pub mod raw;
mod recent;
pub mod tar_gz;
pub mod vhd;
pub mod vmdk;
mod window;
mod xfs;

pub use assemble::{BiosBoot, Parts, assemble};
pub use disk::{CLUSTER, Disk, Extent, ReadAt, Source, is_zero};
pub use file_writer::{FileWriter, write_file};
pub use flushed::{Deflate, Piece};
pub use ids::Ids;
pub use image::{Depth, Format, Image, Unpacking, is_packed, open, open_with};
pub use layout::{BootMode, Layout, Partition, Role, SECTOR};
pub use ordered::ordered;
pub use output::{Output, Written};
pub use partitions::{Part, Partitions, TableKind};
pub use pass::{Block, Encoded, Form, Packed, Pass, Stream, Tally};
pub use payload::Payload;
