//! What an emulation does not prove about a real cloud, whatever the rules say.

use crate::Tier;
use crate::metadata::Cloud;

/// What an emulated machine of this tier and cloud does not prove, whatever the rules say.
pub(crate) fn fidelity(tier: Tier, cloud: Cloud) -> Vec<String> {
    let devices =
        "no cloud's own devices: hv_netvsc, hv_storvsc, ENA and gVNIC do not exist in QEMU";
    let metadata = match cloud {
        Cloud::NoCloud => "no cloud's own metadata service: the datasource was NoCloud",
        Cloud::VSphere => {
            "no guestinfo, RPC channel or guest customisation of VMware: what the guest was told came by the \
             OVF environment's CD"
        }
        Cloud::Aws | Cloud::Azure | Cloud::Gce | Cloud::OpenStack => {
            "no real cloud: its metadata service was nodekiln's own, which signs nothing and has no tokens of \
             roles"
        }
    };
    let dhcp = match cloud {
        Cloud::NoCloud => {
            "no DHCP options but those of QEMU's user-mode network; the default route came from the seed"
        }
        _ => {
            "no DHCP options but those of QEMU's user-mode network: neither MTU nor classless routes"
        }
    };
    let mut list = vec![
        devices,
        metadata,
        dhcp,
        "no way out of the guest: what it would fetch from a network was not seen",
        "no enforcement of Secure Boot: the firmware had no keys enrolled",
    ];
    if cloud == Cloud::Azure {
        list.push(
            "no agent of Azure's: it starts where the hypervisor says that it is Microsoft's",
        );
    }
    if tier == Tier::Conformance {
        list.push("no cluster: the suite starts an API server of its own, without service addresses and DNS");
        list.push("no pulling of images: the specs that do were left out");
        list.push("no power cut and no second machine: the tier boot has them");
    } else if !tier.clusters() {
        list.push("no cluster: kubeadm init was not run");
    } else {
        list.push(
            "one control-plane node, and one more at most: other network plugins and upgrades were not run",
        );
        list.push("no node conformance suite");
    }
    list.into_iter().map(str::to_owned).collect()
}

/// What judging a host of this tier does not prove, whatever the rules say.
pub(crate) fn fidelity_of_host(tier: Tier) -> Vec<String> {
    let mut list = vec![
        "which image it was started from: no file was read and no digest compared",
        "how it starts: firmware, boot loader, console and first start were not seen",
        "what its cloud told it: instance id, user-data and host name were compared with nothing",
    ];
    if tier.clusters() {
        list.push("that the cluster takes new work: no pod was made and no service asked");
    }
    list.into_iter().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secure_boot_is_not_claimed_by_any_tier() {
        for (tier, cloud) in [(Tier::Boot, Cloud::Aws), (Tier::Kubeadm, Cloud::NoCloud)] {
            assert!(
                fidelity(tier, cloud).iter().any(|line| line.contains("Secure Boot")),
                "{tier:?}"
            );
        }
    }
}
