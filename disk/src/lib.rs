//! The disk room: one GPT disk that boots by BIOS and by UEFI, and the files that carry it.
//!
//! A [`Disk`] is a map of extents over memory and files; gaps are zeros and are never read. It is
//! put together by [`assemble`] as plain bytes, without loop device, mount or `grub-install`, and
//! is written by [`raw`] and [`qcow2`]. [`Image`] reads such files back, whoever wrote them.
//!
//! All offsets and sizes are bytes unless a name says sectors (512 bytes each).

mod assemble;
mod disk;
pub mod esp;
pub mod ext4;
pub mod fat;
mod fields;
pub mod gpt;
pub mod grub;
mod ids;
mod image;
mod layout;
mod ordered;
mod output;
mod payload;
pub mod qcow2;
pub mod raw;

pub use assemble::{BiosBoot, Parts, assemble};
pub use disk::{CLUSTER, Disk, Extent, Source, is_zero};
pub use ids::Ids;
pub use image::{Format, Image, open};
pub use layout::{BootMode, Layout, Partition, Role, SECTOR};
pub use ordered::ordered;
pub use output::{Output, Written};
pub use payload::Payload;
