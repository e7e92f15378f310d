//! What a host is, before anything is judged.

use std::collections::BTreeSet;
use std::time::Duration;

use nodekiln_providers::{Firmware, MachineProfile};
use nodekiln_words::Result;

use crate::checks::answers::text;
use crate::guest::Guest;
use crate::metadata::Cloud;
use crate::provisioning::Host;
use crate::rules::Software;

/// Prints a word and what belongs to it, a line each. The name by which a cluster knows the host is that of the node with
/// the same boot id.
const LOOK: &str = r#"
( . /etc/os-release 2>/dev/null; echo "system ${PRETTY_NAME:-Linux}, $(uname -sr)" )
test -d /sys/firmware/efi && echo "firmware uefi"
for name in sys_vendor product_name chassis_asset_tag; do
  echo "$name $(cat /sys/class/dmi/id/$name 2>/dev/null)"
done
for program in kubelet kubeadm containerd cloud-init sshd; do
  command -v $program >/dev/null 2>&1 && echo "has $program"
done
test -e /dev/disk/by-label/config-2 && echo "config-drive yes"
test -d /run/systemd/system && echo "has systemd"
test -e /etc/kubernetes/kubelet.conf && echo "joined yes"
test -e /etc/kubernetes/admin.conf || exit 0
echo "admin yes"
boot=$(cat /proc/sys/kernel/random/boot_id)
kubectl --kubeconfig /etc/kubernetes/admin.conf --request-timeout 10s get nodes \
  -o 'jsonpath={range .items[*]}{.status.nodeInfo.bootID} {.metadata.name}{"\n"}{end}' 2>/dev/null |
while read -r id name; do test "$id" = "$boot" && echo "node $name"; done
true
"#;

/// What was found.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found {
    /// Distribution and kernel in words.
    pub(super) system: String,
    pub(super) firmware: Firmware,
    /// Whether it has the files by which a cluster is governed.
    pub(super) admin: bool,
    /// Its name in its cluster; empty where that is not known.
    pub(super) node: String,
    cloud: Option<(Cloud, &'static str)>,
    joined: bool,
    software: BTreeSet<Software>,
}

impl Found {
    /// Asks the host behind `guest`.
    ///
    /// # Errors
    /// Where it has no shell of root's.
    pub(super) fn look(guest: &Guest, command: Duration) -> Result<Self> {
        Ok(Self::read(&text(&guest.run(&["sh", "-c", LOOK], command)?)?))
    }

    fn read(told: &str) -> Self {
        let all = |wanted: &'static str| {
            let lines = told.lines().filter_map(|line| line.split_once(' '));
            lines.filter(move |(word, _)| *word == wanted).map(|(_, rest)| rest.trim())
        };
        let one = |word| all(word).next().unwrap_or_default();
        let software = all("has").filter_map(|name| match name {
            "kubelet" | "kubeadm" => Some(Software::Kubernetes),
            "containerd" => Some(Software::Containerd),
            "cloud-init" => Some(Software::CloudInit),
            "sshd" => Some(Software::SshServer),
            "systemd" => Some(Software::Systemd),
            _ => None,
        });
        Self {
            system: one("system").to_owned(),
            firmware: if one("firmware") == "uefi" { Firmware::Uefi } else { Firmware::Bios },
            admin: one("admin") == "yes",
            node: one("node").to_owned(),
            cloud: match recognise(one("sys_vendor"), one("product_name"), one("chassis_asset_tag"))
            {
                // ds-identify asks the service where there is no drive.
                Some((Cloud::OpenStack, _)) if one("config-drive") == "yes" => {
                    Some((Cloud::OpenStack, "ConfigDrive"))
                }
                cloud => cloud,
            },
            joined: one("joined") == "yes",
            software: software.collect(),
        }
    }

    /// What the rules know of it; `profile` is the machine of the provider that was named.
    pub(super) fn host(&self, profile: Option<&MachineProfile>) -> Host {
        let Self { cloud, joined, software, .. } = self;
        let named = profile.map(|profile| {
            let cloud = Cloud::of_data_source(&profile.data_source)?;
            let source = SOURCES.into_iter().find(|source| *source == profile.data_source)?;
            Some((cloud, source))
        });
        Host { cloud: named.unwrap_or(*cloud), joined: *joined, software: software.clone() }
    }
}

/// cloud-init's datasources that a provider's machine may have.
const SOURCES: [&str; 8] =
    ["Ec2", "Azure", "GCE", "OpenStack", "ConfigDrive", "VMware", "OVF", "NoCloud"];

/// What Azure's machines have as the tag of their chassis, whatever else Hyper-V runs.
const AZURE_CHASSIS: &str = "7783-7084-3265-9085-8269-3286-77";

/// The cloud of a machine by what its firmware says (SMBIOS), as cloud-init's ds-identify tells them apart; never by
/// what cloud-init chose, which the rules are to judge.
fn recognise(vendor: &str, product: &str, chassis: &str) -> Option<(Cloud, &'static str)> {
    match (vendor, product) {
        ("Amazon EC2", _) => Some((Cloud::Aws, "Ec2")),
        ("Microsoft Corporation", _) if chassis == AZURE_CHASSIS => Some((Cloud::Azure, "Azure")),
        (_, "Google Compute Engine") => Some((Cloud::Gce, "GCE")),
        (_, "OpenStack Nova" | "OpenStack Compute") => Some((Cloud::OpenStack, "OpenStack")),
        ("VMware, Inc.", _) => Some((Cloud::VSphere, "VMware")),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cloud_is_known_by_its_firmware_and_a_provider_that_is_named_wins() {
        let found = |lines: &str| Found::read(lines).host(None).cloud;
        assert_eq!(found("sys_vendor Amazon EC2\n"), Some((Cloud::Aws, "Ec2")));
        assert_eq!(found("product_name Google Compute Engine\n"), Some((Cloud::Gce, "GCE")));
        let azure =
            format!("sys_vendor Microsoft Corporation\nchassis_asset_tag {AZURE_CHASSIS}\n");
        assert_eq!(found(&azure), Some((Cloud::Azure, "Azure")));
        assert_eq!(found("sys_vendor Microsoft Corporation\n"), None);
        assert_eq!(found("sys_vendor QEMU\nproduct_name\n"), None);
        let nova = "product_name OpenStack Nova\n";
        assert_eq!(found(nova), Some((Cloud::OpenStack, "OpenStack")));
        let drive = format!("{nova}config-drive yes\n");
        assert_eq!(found(&drive), Some((Cloud::OpenStack, "ConfigDrive")));
        let profile =
            MachineProfile { data_source: "OpenStack".into(), ..MachineProfile::virtio() };
        let host = Found::read(&azure).host(Some(&profile));
        assert_eq!(host.cloud, Some((Cloud::OpenStack, "OpenStack")));
    }

    #[test]
    fn what_the_host_has_is_read_and_silence_is_nothing() {
        let told = "system Debian, Linux 6.1\nfirmware uefi\nhas kubelet\nhas kubeadm\nhas systemd\nhas other\n\
                    joined yes\nadmin yes\nnode worker-1\n";
        let found = Found::read(told);
        assert_eq!((found.system.as_str(), found.node.as_str()), ("Debian, Linux 6.1", "worker-1"));
        assert_eq!(found.firmware, Firmware::Uefi);
        let host = found.host(None);
        assert!(found.admin && host.joined);
        assert_eq!(host.software, [Software::Kubernetes, Software::Systemd].into());
        let nothing = Found::read("");
        assert!(
            !nothing.admin && nothing.node.is_empty() && nothing.host(None).software.is_empty()
        );
    }

    #[test]
    fn the_script_ends_well_on_any_machine() {
        let output = std::process::Command::new("sh").args(["-c", LOOK]).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && told.starts_with("system "), "{told}");
    }
}
