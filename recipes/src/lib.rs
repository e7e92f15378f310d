//! What an image is: the recipe as written, its library, the lock, the plan, the inventory.
//!
//! `load` turns YAML into a [`Recipe`]; resolving (in the build room) turns a recipe into a
//! [`Lock`]; [`Plan::of`] turns both into a graph of nodes with derived ids. Everything here is data
//! and pure functions over it, apart from reading the recipe's own files. This room may not know how
//! a node is executed, where it is stored, or what a disk looks like.

pub mod inventory;
pub mod lock;
pub mod plan;
pub mod recipe;

pub use inventory::Inventory;
pub use lock::Lock;
pub use plan::{NodeId, Plan};
pub use recipe::Recipe;
