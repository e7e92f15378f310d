//! QEMU: its command line, its process, and QMP, the protocol by which it is steered.

pub mod arguments;
mod held;
mod process;
mod qmp;

pub use arguments::Disks;
pub use held::Held;
pub use process::Qemu;
pub use qmp::Qmp;
