//! Whole runs: small guests that boot in a second, and on demand a real image.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "tests may fail and tell"
)]

mod disk_mutations;
mod ds_identify;
mod foreign_images;
mod formats;
mod guest_mutations;
mod hosts;
mod incidents;
mod inspect;
mod metadata;
mod own_rules;
mod power_ons;
mod processes;
mod real_image;
mod rpm_database;
mod small_guests;
mod wrong_pieces;
mod xfs_root;
