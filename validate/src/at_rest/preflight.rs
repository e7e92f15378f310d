//! kubeadm's preflight checks and the rules that decide them from the files.
//!
//! `kubeadm init phase preflight` in a guest has to say the same: where the two differ, one of them is wrong.

/// kubeadm's checks by the names that it prints and that `--ignore-preflight-errors` takes, each with the rule that
/// decides it before a boot.
///
/// Not among them are those on the machine and not on the image (`NumCPU`, `Mem`, `IsPrivilegedUser`), those on an
/// etcd outside of the cluster (`ExternalEtcdVersion`, `ExternalEtcdClientCertificates`), and those on docker.
pub const PREFLIGHT: &[(&str, &str)] = &[
    ("FileExisting-conntrack", "tools-required"),
    ("FileExisting-crictl", "tools-required"),
    ("FileExisting-ip", "tools-required"),
    ("FileExisting-iptables", "tools-required"),
    ("FileExisting-mount", "tools-required"),
    ("FileExisting-nsenter", "tools-required"),
    ("FileExisting-losetup", "tools-required"),
    ("FileExisting-cp", "tools-required"),
    ("FileExisting-ebtables", "tools-advised"),
    ("FileExisting-ethtool", "tools-advised"),
    ("FileExisting-socat", "tools-advised"),
    ("FileExisting-tc", "tools-advised"),
    ("FileExisting-touch", "tools-advised"),
    ("FileContent--proc-sys-net-bridge-bridge-nf-call-iptables", "bridge-netfilter"),
    ("FileContent--proc-sys-net-bridge-bridge-nf-call-ip6tables", "bridge-netfilter"),
    ("FileContent--proc-sys-net-ipv4-ip_forward", "ip-forward"),
    ("FileContent--proc-sys-net-ipv6-conf-default-forwarding", "ip-forward"),
    ("Swap", "swap-configured"),
    ("Service-Kubelet", "kubelet-service"),
    ("KubeletVersion", "kubelet-version"),
    ("KubernetesVersion", "kubelet-version"),
    ("Hostname", "hostname-resolves"),
    ("Firewalld", "firewalld-off"),
    ("FileAvailable--etc-kubernetes-manifests-kube-apiserver.yaml", "no-manifests"),
    ("FileAvailable--etc-kubernetes-manifests-kube-controller-manager.yaml", "no-manifests"),
    ("FileAvailable--etc-kubernetes-manifests-kube-scheduler.yaml", "no-manifests"),
    ("FileAvailable--etc-kubernetes-manifests-etcd.yaml", "no-manifests"),
    ("DirAvailable--etc-kubernetes-manifests", "no-manifests"),
    ("DirAvailable--var-lib-etcd", "etcd-empty"),
    ("FileAvailable--etc-kubernetes-kubelet.conf", "node-state-absent"),
    ("FileAvailable--etc-kubernetes-bootstrap-kubelet.conf", "node-state-absent"),
    ("FileAvailable--etc-kubernetes-pki-ca.crt", "node-state-absent"),
    ("HTTPProxy", "proxy-variables"),
    ("HTTPProxyCIDR", "proxy-variables"),
    ("Port-6443", "ports-free"),
    ("Port-10259", "ports-free"),
    ("Port-10257", "ports-free"),
    ("Port-10250", "ports-free"),
    ("Port-2379", "ports-free"),
    ("Port-2380", "ports-free"),
    ("SystemVerification", "kernel-config"),
    ("SystemVerification", "kernel-config-advised"),
    ("SystemVerification", "kernel-version"),
    ("SystemVerification", "kernel-modules"),
    ("SystemVerification", "cgroup-version"),
    ("SystemVerification", "cgroup-controllers"),
    ("CRI", "containerd-config"),
    ("ImagePull", "images-listed"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tier;
    use crate::rules;

    #[test]
    fn every_check_is_decided_by_a_static_rule_that_names_it() {
        for (check, id) in PREFLIGHT {
            let rule =
                rules::all().find(|rule| rule.id == *id).unwrap_or_else(|| panic!("no rule {id}"));
            assert_eq!(rule.tier, Tier::Static, "{id}");
            let mut words = rule.source.split([' ', ',', ';']);
            assert!(words.any(|word| word == *check), "{id} does not name {check}");
        }
    }

    #[test]
    fn no_check_is_named_by_a_rule_that_the_table_does_not_know_it_of() {
        for rule in rules::all().filter(|rule| rule.tier == Tier::Static) {
            let Some(names) = rule.source.split("kubeadm preflight: ").nth(1) else { continue };
            for check in names.split(';').next().unwrap_or_default().split(", ") {
                assert!(PREFLIGHT.contains(&(check, rule.id)), "{}: {check}", rule.id);
            }
        }
    }
}
