//! The words every room speaks: digests, sizes, dates, derived ids, failures, progress, cancelling.
//!
//! A value that crosses the border between two rooms has one of these types rather than a bare
//! `u64` or `String`. This crate may not know any room, may not touch the disk or the network, and
//! may not read the clock: everything in it is a value.

mod bytes;
mod cancel;
mod digest;
mod failure;
mod progress;
mod source_date;

pub use bytes::Bytes;
pub use cancel::Cancel;
pub use digest::{Digester, Sha256};
pub use failure::{Class, Failure, Result, ResultExt};
pub use progress::{Event, Progress, Silent, TaskId};
pub use source_date::SourceDate;

use uuid::Uuid;

/// Derives the UUID that plays `role` in the image whose seed is `seed`.
///
/// UUID version 5 (RFC 9562, section 5.5) over the seed and the role's name, so that disk, partition
/// and file system ids are the same in every build of one recipe and differ between roles.
#[must_use]
pub fn derive_uuid(seed: Uuid, role: &str) -> Uuid {
    Uuid::new_v5(&seed, role.as_bytes())
}
