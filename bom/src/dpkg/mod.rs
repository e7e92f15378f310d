//! dpkg's database as it stands in a tree: what is installed, what each package listed, how it
//! resolved its dependencies.
//!
//! Formats: dpkg(1), deb-control(5), deb-version(7), and the files below `/var/lib/dpkg`.

mod database;
mod lists;
mod relation;
mod stanza;
mod status;
mod version;

pub(crate) use database::{Database, Package, read};
pub(crate) use lists::{Diversion, diversions, list, md5sums};
pub(crate) use relation::{Relation, relations};
pub(crate) use stanza::stanzas;
pub(crate) use status::{Installed, State, status};
pub(crate) use version::compare;
