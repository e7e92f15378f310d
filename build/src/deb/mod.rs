//! Debian packages installed without apt: a set of `.deb` files becomes a tree with dpkg's database.
//!
//! Glossary:
//!
//! - A *parcel* is a `.deb` opened, with its control files read.
//! - *Unpacking* lays files into the tree, natively and on all cores ([`Unpacker`]).
//! - The *database* is dpkg's, written as dpkg would after `dpkg --unpack` ([`Database`]), so that
//!   the dpkg in the tree carries on from there.
//! - *Configuring* is left to that dpkg, in the sandbox: maintainer scripts are programs.

mod ahead;
mod ar;
mod archive;
mod claims;
mod control;
mod database;
mod diversions;
mod extract;
mod installed;
mod schedule;
mod stanza;
mod tree;
mod triggers;
mod unpack;

pub use ahead::decompress;
pub use archive::Deb;
pub use control::{Conffile, Control, ControlFile};
pub use database::Database;
pub(crate) use installed::is_gone;
pub use schedule::{Schedule, Wave};
pub use stanza::{Clause, Possibility, Stanza};
pub use triggers::Directive;
pub use unpack::{Conffiles, Parcel, Unpacked, Unpacker};
