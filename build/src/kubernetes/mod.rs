//! Kubernetes: where its binaries come from, which images it needs, and what its version decides.
//!
//! Facts and pure functions stand here; the executors that use them are in [`crate::steps`].

pub mod compile;
pub mod containerd;
pub mod crictl;
pub mod elf;
pub mod images;
pub mod programs;
pub mod release;

/// The binaries that a node needs, by name.
pub const NODE_BINARIES: [&str; 3] = ["kubeadm", "kubectl", "kubelet"];
