//! The disk room against independent programs: qemu-img, sgdisk, fsck.fat, e2fsck, xfs_db, Linux, QEMU.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

mod boots;
mod damage;
mod file_systems;
mod files;
mod formats;
mod hostile;
mod images;
mod other_files;
mod partitions;
mod round_trip;
mod tools;
mod trees;
mod xfs;
