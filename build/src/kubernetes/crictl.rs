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

#[cfg(test)]
mod tests {
    use nodekiln_words::Sha256;

    use super::SCRIPT;

    #[test]
    fn another_script_is_another_version_of_what_installs_it() {
        let digest = "2c07c7d4ba761986c05f30ceef8acd0e1f275d3a27790bc0ce585d20c018a578";
        let help = "raise the version of KubernetesInstall in `Work::executor`: stored nodes have the old script";
        assert_eq!(Sha256::of(SCRIPT).to_string(), digest, "{help}");
    }
}
