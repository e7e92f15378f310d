use std::fmt::Write as _;

/// A machine as far as the script can see one, before there is any network.
///
/// Firmware is no part of it: the script does not ask whether BIOS or UEFI started the machine, and what differs
/// with it (a disk's bus, SMBIOS strings) is told here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MachineView {
    /// `/sys/class/dmi/id`; `None` where the platform has none.
    pub dmi: Option<Dmi>,
    /// What `systemd-detect-virt` says: `kvm`, `vmware`, `microsoft`, `none`, a container's word.
    pub virtualisation: String,
    /// `/proc/cmdline`, without the end of the line.
    pub command_line: String,
    /// Arguments of process 1, which count in a container in place of the kernel's.
    pub init_command_line: Option<String>,
    /// `product_name` in the environment of process 1, which the kernel passes on from its command line.
    pub init_product_name: Option<String>,
    /// Block devices in the order in which blkid tells of them.
    pub devices: Vec<BlockDevice>,
    /// `uname -m`.
    pub architecture: String,
    /// `uname -v`.
    pub kernel_version: String,
    /// `/sys/hypervisor/uuid`, which Xen has.
    pub hypervisor_uuid: Option<String>,
    /// What VMware's hypervisor tells through its own channel; `None` where there is no such channel.
    pub guest_info: Option<GuestInfo>,
    /// The same in the environment of the generator (`VMX_GUESTINFO`).
    pub environment_guest_info: Option<GuestInfo>,
    /// Names of virtio's serial ports.
    pub virtio_ports: Vec<String>,
    /// Whether `/dev/lxd/sock` is a socket.
    pub lxd_socket: bool,
}

/// The SMBIOS strings that the script reads, by their files in `/sys/class/dmi/id`. `None` is a file that is
/// not there, which differs from an empty one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Dmi {
    /// Type 1, the system's manufacturer.
    pub sys_vendor: Option<String>,
    /// Type 1, the system's product name.
    pub product_name: Option<String>,
    /// Type 1, the system's serial number.
    pub product_serial: Option<String>,
    /// Type 1, the system's UUID in lower case.
    pub product_uuid: Option<String>,
    /// Type 2, the board's product name.
    pub board_name: Option<String>,
    /// Type 3, the chassis' asset tag.
    pub chassis_asset_tag: Option<String>,
}

/// What VMware's tables of a guest hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GuestInfo {
    /// `guestinfo.ovfEnv`: the OVF environment as XML.
    pub ovf_environment: Option<String>,
    /// `guestinfo.metadata`.
    pub metadata: Option<String>,
    /// `guestinfo.userdata`.
    pub user_data: Option<String>,
    /// `guestinfo.vendordata`.
    pub vendor_data: Option<String>,
}

/// A block device and what blkid finds on it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BlockDevice {
    /// Its path: `/dev/sr0`.
    pub path: String,
    /// The file system's label.
    pub label: Option<String>,
    /// The label in the boot sector of a FAT file system, which blkid tells beside that of its root folder.
    pub boot_label: Option<String>,
    /// The file system's UUID.
    pub uuid: Option<String>,
    /// The kind of file system: `iso9660`, `vfat`, `udf`, `ext4`.
    pub kind: Option<String>,
    /// Bytes of the device, where `/sys/class/block` tells its size.
    pub size: Option<u64>,
    /// Whether it holds the name of the OVF environment's schema: see [`has_ovf_environment`].
    pub ovf_environment: bool,
}

/// Characters before which `blkid -o export` puts a backslash (util-linux 2.38 and 2.41, `print_value` in
/// `misc-utils/blkid.c`). So the label `OVF ENV` reaches the script as `OVF\ ENV`.
const ESCAPED: [char; 8] = [' ', '\\', '"', '\'', '$', '`', '<', '>'];

/// The schema of an OVF environment as the script hands it to grep, in whose expressions a dot is any letter
/// (`is_cdrom_ovf`).
const SCHEMA: &[u8] = b"http://schemas.dmtf.org/ovf/environment/1";

impl BlockDevice {
    /// Its lines in `blkid -c /dev/null -o export`; empty where blkid knows nothing of it.
    #[must_use]
    pub fn export(&self) -> String {
        let known = [
            ("LABEL_FATBOOT", &self.boot_label),
            ("LABEL", &self.label),
            ("UUID", &self.uuid),
            ("TYPE", &self.kind),
        ];
        let mut lines = String::new();
        for (name, value) in known {
            if let Some(value) = value {
                let _ = writeln!(lines, "{name}={}", escaped(value)); // a String takes everything
            }
        }
        if lines.is_empty() { lines } else { format!("DEVNAME={}\n{lines}", self.path) }
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::new();
    for letter in text.chars() {
        if ESCAPED.contains(&letter) {
            escaped.push('\\');
        }
        escaped.push(letter);
    }
    escaped
}

/// Whether a medium holds the name of the OVF environment's schema, in either case.
#[must_use]
pub fn has_ovf_environment(medium: &[u8]) -> bool {
    medium.windows(SCHEMA.len()).any(|window| {
        window.iter().zip(SCHEMA).all(|(byte, wanted)| match wanted {
            b'.' => *byte != b'\n',
            _ => byte.eq_ignore_ascii_case(wanted),
        })
    })
}

impl MachineView {
    /// `is_container`: whether it is a container's word that `systemd-detect-virt` says.
    #[must_use]
    pub fn is_container(&self) -> bool {
        const CONTAINERS: [&str; 7] =
            ["container-other", "lxc", "lxc-libvirt", "systemd-nspawn", "docker", "rkt", "jail"];
        CONTAINERS.contains(&self.virtualisation.as_str())
    }

    /// What `blkid -c /dev/null -o export` prints; `None` where it finds nothing and fails (status 2).
    #[must_use]
    pub fn blkid(&self) -> Option<String> {
        let told: Vec<String> = self.devices.iter().map(BlockDevice::export).collect();
        let told: Vec<&str> =
            told.iter().map(String::as_str).filter(|told| !told.is_empty()).collect();
        (!told.is_empty()).then(|| told.join("\n"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blkid_escapes_what_a_shell_would_take_for_something_else() {
        let device = BlockDevice {
            path: "/dev/sr0".to_owned(),
            label: Some("OVF ENV".to_owned()),
            kind: Some("iso9660".to_owned()),
            ..BlockDevice::default()
        };
        assert_eq!(device.export(), "DEVNAME=/dev/sr0\nLABEL=OVF\\ ENV\nTYPE=iso9660\n");
        assert_eq!(BlockDevice::default().export(), "");
        let machine = MachineView { devices: vec![BlockDevice::default()], ..Default::default() };
        assert_eq!(machine.blkid(), None);
    }

    #[test]
    fn the_schema_is_found_in_either_case() {
        assert!(has_ovf_environment(b"..<x xmlns=\"HTTP://schemas-dmtf.org/OVF/environment/1\"/>"));
        assert!(!has_ovf_environment(b"http://schemas.dmtf.org/ovf/envelope/1"));
        assert!(!has_ovf_environment(b""));
    }
}
