//! What a machine says of itself: by what it differs from others, and what has to outlive a loss of power.

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_words::Result;

use super::answers::text;
use crate::guest::Output;

/// Asked of each machine once. `sync` comes first: what was written until now is what a loss of power must not
/// take, however young it is. A file that is empty counts as none.
pub(crate) const PORTRAIT: &str = r#"
sync
echo "name $(cat /proc/sys/kernel/hostname)"
echo "boot $(cat /proc/sys/kernel/random/boot_id)"
echo "instance $(readlink /var/lib/cloud/instance)"
for file in /etc/machine-id /var/lib/dbus/machine-id /etc/ssh/ssh_host_*_key.pub \
    /etc/iscsi/initiatorname.iscsi /etc/nvme/hostid /etc/nvme/hostnqn \
    /var/lib/systemd/random-seed /var/lib/systemd/credential.secret \
    /etc/ssl/private/ssl-cert-snakeoil.key /var/lib/dhcpcd/duid /var/lib/dhcpcd5/duid; do
  if [ -s "$file" ]; then echo "file $file $(sha256sum < "$file" | cut -d ' ' -f 1)"; fi
done
for lease in /var/lib/dhcp/*.leases; do
  duid=$(grep -s -m 1 '^default-duid ' "$lease") && echo "file $lease $(echo "$duid" | sha256sum | cut -d ' ' -f 1)"
done
for module in /var/lib/cloud/instance/sem/*; do
  if [ -e "$module" ]; then echo "module ${module##*/} $(stat -c %Y "$module")"; fi
done
for unit in containerd.service kubelet.service; do
  enabled=$(systemctl is-enabled "$unit" 2>/dev/null)
  echo "service $unit ${enabled:-absent} $(systemctl is-active "$unit")"
done
echo "root $(findmnt -n -o FSTYPE,OPTIONS --target /)"
echo "system $(systemctl is-system-running)"
systemctl list-units --failed --plain --no-legend --full --no-pager | while read -r unit rest; do
  echo "failed $unit"
done
dmesg | grep -E 'EXT[234]-fs|JBD2|XFS|BTRFS|FAT-fs|I/O error|critical medium error' | sed 's/^/said /'
cat /run/initramfs/fsck.log 2>/dev/null | sed 's/^/said /'
journalctl -b -q --no-pager -o cat -u systemd-fsck-root.service -u 'systemd-fsck@*.service' 2>/dev/null | sed 's/^/said /'
true
"#;

/// A machine's answer to [`PORTRAIT`].
#[derive(Debug, Default)]
pub(super) struct Portrait {
    /// Host name.
    pub(super) name: String,
    /// The kernel's id of this boot.
    pub(super) boot: String,
    /// Folder of the instance that cloud-init has set up; empty without cloud-init.
    pub(super) instance: String,
    /// SHA-256 of each file that tells one machine from another, by path.
    pub(super) files: BTreeMap<String, String>,
    /// When each of cloud-init's modules ran for this instance, by its name.
    pub(super) modules: BTreeMap<String, String>,
    /// Whether a service is enabled and whether it runs, by the unit's name.
    pub(super) services: BTreeMap<String, (String, String)>,
    /// Type of the root file system.
    pub(super) root: String,
    /// Options by which it is mounted.
    pub(super) options: Vec<String>,
    /// systemd's word for the whole system.
    pub(super) system: String,
    /// Units that failed.
    pub(super) failed: BTreeSet<String>,
    /// What the kernel and the check at start said of file systems.
    pub(super) said: Vec<String>,
}

impl Portrait {
    /// Reads an answer.
    pub(super) fn of(answer: &Output) -> Result<Self> {
        let mut portrait = Self::default();
        for line in text(answer)?.lines() {
            let (kind, rest) = line.split_once(' ').unwrap_or((line, ""));
            let rest = rest.trim();
            let words: Vec<&str> = rest.split_whitespace().collect();
            let owned = |word: &&str| (*word).to_owned();
            match (kind, &words[..]) {
                ("name", _) => rest.clone_into(&mut portrait.name),
                ("boot", _) => rest.clone_into(&mut portrait.boot),
                ("instance", _) => rest.clone_into(&mut portrait.instance),
                ("file", [path, digest]) => {
                    portrait.files.insert(owned(path), owned(digest));
                }
                ("module", [name, stamp]) => {
                    portrait.modules.insert(owned(name), owned(stamp));
                }
                ("service", [unit, enabled, active]) => {
                    let state = (owned(enabled), running(active));
                    portrait.services.insert(owned(unit), state);
                }
                ("root", [kind, options]) => {
                    portrait.root = owned(kind);
                    portrait.options = options.split(',').map(str::to_owned).collect();
                }
                ("system", _) => rest.clone_into(&mut portrait.system),
                ("failed", [unit, ..]) => {
                    portrait.failed.insert(owned(unit));
                }
                ("said", _) => portrait.said.push(rest.to_owned()),
                _ => {}
            }
        }
        Ok(portrait)
    }
}

/// A unit that is restarted again and again, as the kubelet is before it is configured, is now `active` and now
/// `activating`: both say that it is kept running.
fn running(active: &str) -> String {
    if matches!(active, "active" | "activating" | "reloading") {
        "kept running".to_owned()
    } else {
        active.to_owned()
    }
}

#[cfg(test)]
pub(super) mod testing {
    /// A machine's answer.
    pub(crate) const SOUND: &str = "\
        name node-1\nboot b-1\ninstance /var/lib/cloud/instances/iid-1\n\
        file /etc/machine-id 11\nfile /etc/ssh/ssh_host_ed25519_key.pub 12\n\
        file /etc/ssh/ssh_host_rsa_key.pub 13\nfile /etc/iscsi/initiatorname.iscsi 14\n\
        file /etc/nvme/hostid 15\nfile /etc/nvme/hostnqn 16\nfile /var/lib/systemd/random-seed 17\n\
        module config_ssh 1000\nmodule config_write_files 1001\n\
        service containerd.service enabled active\nservice kubelet.service enabled activating\n\
        root ext4 rw,relatime,errors=remount-ro\nsystem running\n";
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_portrait_is_read_whole_and_a_restarted_service_is_kept_running() {
        let answer = Output { stdout: testing::SOUND.into(), ..Output::default() };
        let portrait = Portrait::of(&answer).unwrap();
        assert_eq!((portrait.files.len(), portrait.modules.len()), (7, 2));
        assert_eq!(portrait.services["kubelet.service"].1, "kept running");
        assert_eq!(portrait.services["containerd.service"].1, "kept running");
        assert_eq!((portrait.root.as_str(), portrait.options.len()), ("ext4", 3));
        assert!(Portrait::of(&Output { status: 1, ..answer }).is_err());
    }

    #[test]
    fn a_shell_takes_the_question() {
        let status = Command::new("sh").args(["-n", "-c", PORTRAIT]).status().unwrap();
        assert!(status.success());
    }
}
