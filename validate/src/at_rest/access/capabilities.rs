//! Programs that have some of root's rights without being root.

use std::fmt::Write as _;

use nodekiln_words::Result;

use super::known_programs::Folders;
use crate::Tier;
use crate::at_rest::Examined;
use crate::at_rest::findings::Findings;
use crate::rules::{Applies, Family, Judge, Rule, Severity, Verdict};

pub(in crate::at_rest) const RULES: &[Rule] = &[Rule {
    id: "capability-list",
    title: "Only programs that are known to need it have capabilities",
    tier: Tier::Static,
    severity: Severity::Fatal,
    reads: &["security.capability of every file"],
    why: "a program with cap_setuid or cap_dac_override is root's to whoever starts it, and no mode shows it",
    remedy: "`setcap -r` the file, or declare it under `files`",
    source: "capabilities(7); uapi/linux/capability.h, `struct vfs_cap_data`",
    applies: Applies::ALL,
    stops_boot: false,
    judge: Judge::Tree(capabilities),
}];

/// Names by their numbers (uapi/linux/capability.h).
const NAMES: [&str; 41] = [
    "chown",
    "dac_override",
    "dac_read_search",
    "fowner",
    "fsetid",
    "kill",
    "setgid",
    "setuid",
    "setpcap",
    "linux_immutable",
    "net_bind_service",
    "net_broadcast",
    "net_admin",
    "net_raw",
    "ipc_lock",
    "ipc_owner",
    "sys_module",
    "sys_rawio",
    "sys_chroot",
    "sys_ptrace",
    "sys_pacct",
    "sys_admin",
    "sys_boot",
    "sys_nice",
    "sys_resource",
    "sys_time",
    "sys_tty_config",
    "mknod",
    "lease",
    "audit_write",
    "audit_control",
    "setfcap",
    "mac_override",
    "mac_admin",
    "syslog",
    "wake_alarm",
    "block_suspend",
    "audit_read",
    "perfmon",
    "bpf",
    "checkpoint_restore",
];

/// What a file's attribute says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FileCapabilities {
    permitted: u64,
    inheritable: u64,
    effective: bool,
    /// Whose root they are for, in revision 3.
    root: u32,
}

/// Revisions of the attribute with their lengths (`XATTR_CAPS_SZ_1` to `_3`).
const REVISIONS: [(u8, usize); 3] = [(1, 12), (2, 20), (3, 24)];
/// Set where the program has its capabilities at once (`VFS_CAP_FLAGS_EFFECTIVE`).
const EFFECTIVE: u32 = 1;

impl FileCapabilities {
    /// Reads the attribute's bytes, which are little-endian on every machine.
    fn parse(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<4>();
        let words: Vec<u32> = words.iter().map(|word| u32::from_le_bytes(*word)).collect();
        let magic = *words.first()?;
        let revision = magic.to_be_bytes()[0];
        if !rest.is_empty() || !REVISIONS.contains(&(revision, bytes.len())) {
            return None;
        }
        let word = |at: usize| u64::from(words.get(at).copied().unwrap_or(0));
        // Revision 1 has room for the first 32 capabilities alone.
        let high = |at: usize| if revision == 1 { 0 } else { word(at) << 32 };
        Some(Self {
            permitted: word(1) | high(3),
            inheritable: word(2) | high(4),
            effective: magic & EFFECTIVE != 0,
            root: if revision == 3 { words[5] } else { 0 },
        })
    }

    /// As `getcap` shows it: `cap_net_raw=ep`.
    fn shown(self) -> String {
        let mut text = String::new();
        let names = (0..64).filter(|bit| (self.permitted | self.inheritable) >> bit & 1 == 1);
        for bit in names {
            let comma = if text.is_empty() { "" } else { "," };
            match NAMES.get(bit as usize) {
                Some(name) => {
                    let _ = write!(text, "{comma}cap_{name}");
                }
                None => {
                    let _ = write!(text, "{comma}{bit}");
                }
            }
        }
        let flag = |set: bool, sign: &'static str| if set { sign } else { "" };
        let flags = [
            flag(self.effective, "e"),
            flag(self.inheritable != 0, "i"),
            flag(self.permitted != 0, "p"),
        ];
        let _ = write!(text, "={}", flags.concat());
        if self.root != 0 {
            let _ = write!(text, " for the root of {}", self.root);
        }
        text
    }
}

const fn bit(number: u64) -> u64 {
    1 << number
}
const NET_RAW: u64 = bit(13);
const SETGID: u64 = bit(6);
const SETUID: u64 = bit(7);
const NET_ADMIN: u64 = bit(12);
const SYS_PTRACE: u64 = bit(19);
const DAC_READ_SEARCH: u64 = bit(2);
const DAC_OVERRIDE: u64 = bit(1);
const BIND: u64 = bit(10);
/// What snapd's package gives snap-confine from 2.68 on in place of set-user-id
/// (canonical/snapd, cmd/snap-confine/snap-confine.caps).
const SNAP_CONFINE: u64 = bit(0)
    | DAC_OVERRIDE
    | DAC_READ_SEARCH
    | bit(3)
    | SETGID
    | SETUID
    | bit(18)
    | SYS_PTRACE
    | bit(21);

/// Programs of both families with the most that they have from their packages.
const EVERYWHERE: [(&str, u64); 5] = [
    ("/usr/bin/ping", NET_RAW | NET_ADMIN),
    ("/usr/bin/mtr-packet", NET_RAW),
    ("/usr/sbin/mtr-packet", NET_RAW),
    ("/usr/bin/newuidmap", SETUID),
    ("/usr/bin/newgidmap", SETGID),
];
/// Of Debian's.
const DEBIAN: [(&str, u64); 6] = [
    ("/usr/bin/arping", NET_RAW),
    ("/usr/bin/traceroute6.iputils", NET_RAW),
    ("/usr/lib/*/gstreamer1.0/gstreamer-1.0/gst-ptp-helper", BIND | NET_ADMIN | bit(25)),
    ("/usr/bin/fping", NET_RAW),
    ("/usr/lib/snapd/snap-confine", SNAP_CONFINE),
    ("/snap/snapd/*/usr/lib/snapd/snap-confine", SNAP_CONFINE),
];
/// Of RPM's.
const RPM: [(&str, u64); 9] = [
    ("/usr/sbin/arping", NET_RAW),
    ("/usr/bin/arping", NET_RAW),
    ("/usr/sbin/clockdiff", NET_RAW),
    ("/usr/bin/clockdiff", NET_RAW),
    ("/usr/bin/systemd-detect-virt", DAC_OVERRIDE | SYS_PTRACE),
    ("/usr/libexec/sssd/sssd_pam", DAC_READ_SEARCH),
    ("/usr/libexec/sssd/ldap_child", DAC_READ_SEARCH),
    ("/usr/libexec/sssd/krb5_child", DAC_READ_SEARCH | SETUID | SETGID),
    ("/usr/libexec/sssd/selinux_child", SETUID | SETGID),
];

/// The files of container images, which are none of the node's.
const IMAGES: [&str; 3] = ["/var/lib/containerd/", "/var/lib/containers/", "/var/lib/docker/"];

fn capabilities(examined: &Examined) -> Result<Verdict> {
    let families: &[&[(&str, u64)]] = match examined.facts.family {
        Some(Family::Debian) => &[&EVERYWHERE, &DEBIAN],
        Some(Family::Rpm) => &[&EVERYWHERE, &RPM],
        None => &[&EVERYWHERE, &DEBIAN, &RPM],
    };
    let folders = Folders::of(&examined.tree);
    let mut findings = Findings::default();
    let mut known = Vec::new();
    for (path, entry) in examined.tree.entries() {
        let Some(bytes) = &entry.capability else { continue };
        if IMAGES.iter().any(|folder| path.starts_with(folder))
            || examined.expect.files.contains(path)
        {
            continue;
        }
        let Some(found) = FileCapabilities::parse(bytes) else {
            findings.wrong(format!("{path} has {} bytes that are no capabilities", bytes.len()));
            continue;
        };
        let has = found.permitted | found.inheritable;
        let mut all = families.iter().flat_map(|family| family.iter());
        match all.any(|(own, most)| has & !most == 0 && folders.fits(own, path)) {
            true => known.push(format!("{path} {}", found.shown())),
            false => findings.wrong(format!("{path} {}", found.shown())),
        }
    }
    let seen = if known.is_empty() {
        "no program has any".to_owned()
    } else {
        super::super::findings::some(&known)
    };
    Ok(findings.verdict(seen))
}

#[cfg(test)]
pub(in crate::at_rest) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use crate::at_rest::Examined;
    use crate::at_rest::corpus::Mutation;

    /// `setcap` of revision 2 with the effective bit.
    pub(super) fn permitted(bits: u64) -> Vec<u8> {
        let words = [0x0200_0001, bits as u32, 0, (bits >> 32) as u32, 0];
        words.iter().flat_map(|word: &u32| word.to_le_bytes()).collect()
    }

    fn set(examined: &mut Examined<'static>, path: &str, attribute: Vec<u8>) {
        if examined.tree.entry(path).is_none() {
            examined.tree.write(path, 0o755, "elf");
        }
        examined.tree.change(path, |entry| entry.capability = Some(attribute));
    }

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new(
            "an interpreter that becomes anybody",
            &["capability-list"],
            "/usr/bin/python3.11 cap_setuid=ep",
            |e| {
                set(e, "/usr/bin/python3.11", permitted(1 << 7));
            },
        ),
        Mutation::new(
            "more than a program needs",
            &["capability-list"],
            "cap_net_raw,cap_sys_admin=ep",
            |e| {
                set(e, "/usr/bin/ping", permitted(1 << 13 | 1 << 21));
            },
        ),
        Mutation::new(
            "another family's program",
            &["capability-list"],
            "/usr/sbin/clockdiff cap_net_raw=ep",
            |e| {
                set(e, "/usr/sbin/clockdiff", permitted(1 << 13));
            },
        ),
        Mutation::new(
            "snapd's program with more than its package gives it",
            &["capability-list"],
            "/usr/lib/snapd/snap-confine cap_sys_module,cap_sys_admin=ep",
            |e| {
                set(e, "/usr/lib/snapd/snap-confine", permitted(1 << 16 | 1 << 21));
            },
        ),
        Mutation::new("a capability of the second word", &["capability-list"], "cap_bpf=ep", |e| {
            set(e, "/usr/bin/tool", permitted(1 << 39));
        }),
        Mutation::new(
            "what is no attribute",
            &["capability-list"],
            "7 bytes that are no capabilities",
            |e| {
                set(e, "/usr/bin/tool", vec![1, 0, 0, 2, 0, 0, 0]);
            },
        ),
    ];
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::mutations::permitted;
    use super::*;
    use crate::at_rest::corpus::sound;

    #[test]
    fn all_revisions_are_read() {
        let first = [1, 0, 0, 1, 0, 0x20, 0, 0, 0, 0, 0, 0];
        assert_eq!(FileCapabilities::parse(&first).unwrap().shown(), "cap_net_raw=ep");
        let second = permitted(1 << 13 | 1 << 40);
        let shown = FileCapabilities::parse(&second).unwrap().shown();
        assert_eq!(shown, "cap_net_raw,cap_checkpoint_restore=ep");
        let mut third = second;
        third[3] = 3;
        third[0] = 0;
        third[8] = 1;
        third.extend(1000_u32.to_le_bytes());
        let shown = FileCapabilities::parse(&third).unwrap().shown();
        assert_eq!(shown, "cap_chown,cap_net_raw,cap_checkpoint_restore=ip for the root of 1000");
    }

    #[test]
    fn other_lengths_and_revisions_are_refused() {
        for bytes in [&[][..], &[0; 20], &[1, 0, 0, 2], &[1, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0]] {
            assert_eq!(FileCapabilities::parse(bytes), None, "{bytes:?}");
        }
        assert_eq!(NAMES[13], "net_raw");
        assert_eq!(NAMES[40], "checkpoint_restore");
    }

    #[test]
    fn declared_programs_and_those_of_images_are_fine() {
        let mut examined = sound(Family::Debian);
        for path in ["/opt/tool", "/var/lib/containerd/fs/usr/bin/ping"] {
            examined.tree.write(path, 0o755, "elf");
            examined.tree.change(path, |entry| entry.capability = Some(permitted(1 << 21)));
        }
        examined.expect.files.insert("/opt/tool".into());
        let verdict = capabilities(&examined).unwrap();
        assert_eq!(verdict, Verdict::Pass("/usr/bin/ping cap_net_raw=ep".into()));
    }

    #[test]
    fn snapd_confines_with_capabilities_in_place_of_set_user_id() {
        let mut examined = sound(Family::Debian);
        // As `getcap` prints it on Ubuntu 24.04: permitted, and not at once effective.
        let mut attribute = permitted(SNAP_CONFINE);
        attribute[0] = 0;
        let shown = FileCapabilities::parse(&attribute).unwrap().shown();
        let known = "cap_chown,cap_dac_override,cap_dac_read_search,cap_fowner,cap_setgid,cap_setuid,\
                     cap_sys_chroot,cap_sys_ptrace,cap_sys_admin=p";
        assert_eq!(shown, known);
        let path = "/usr/lib/snapd/snap-confine";
        examined.tree.write(path, 0o755, "elf");
        examined.tree.change(path, |entry| entry.capability = Some(attribute));
        assert!(matches!(capabilities(&examined).unwrap(), Verdict::Pass(_)));
        examined.facts.family = Some(Family::Rpm);
        assert!(matches!(capabilities(&examined).unwrap(), Verdict::Fail(_)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..30)) {
            if let Some(found) = FileCapabilities::parse(&bytes) {
                prop_assert!(found.shown().contains('='));
            }
        }
    }
}
