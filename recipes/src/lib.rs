//! What an image is: the recipe as written, its library, the lock, the plan, the inventory.
//!
//! `load` turns YAML into a [`Recipe`]; resolving (in the build room) turns a recipe into a
//! [`Lock`]; [`plan_of`] turns both into a graph of nodes with derived ids. Everything here is data
//! and pure functions over it, apart from reading the recipe's own files. This room may not know how
//! a node is executed, where it is stored, or what a disk looks like.

pub mod diagnostic;
pub mod inventory;
pub mod kubernetes_images;
pub mod library;
pub mod load;
pub mod lock;
pub mod plan;
mod planning;
pub mod provider;
pub mod recipe;
pub mod schema;

mod check;
mod document;
mod kind;
mod merge;
mod read;
mod set;
mod shape;
mod source;
mod write;
mod yaml;

pub use diagnostic::{Diagnostic, Diagnostics};
pub use inventory::Inventory;
pub use load::{Loaded, load, load_for};
pub use lock::Lock;
pub use plan::{NodeId, Plan};
pub use planning::{
    CONFORMANCE_IMAGES, CONFORMANCE_SUITE, conformance_plan_of, plan_of, tree_name,
};
pub use recipe::Recipe;
pub use write::to_yaml;
