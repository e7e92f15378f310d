//! A stand-in for crictl, which Debian does not have.
//!
//! Up to 1.23 kubeadm asks a runtime other than docker through the program crictl and refuses to
//! start without it; from 1.24 on crictl is still wanted for pulling and for `kubeadm reset`, until
//! kubeadm 1.32 speaks CRI itself. The stand-in answers over containerd's own `ctr` what kubeadm
//! asks, says what it is in its header and `--help`, and refuses everything else.

/// The script.
pub const SCRIPT: &str = include_str!("crictl.sh");
/// Where it goes.
pub const PATH: &str = "/usr/bin/crictl";
/// Where a real one may be.
pub const REAL: [&str; 2] = ["/usr/bin/crictl", "/usr/local/bin/crictl"];
