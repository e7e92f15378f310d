//! Programs that run as somebody else.

use std::collections::BTreeMap;

use nodekiln_words::Result;

use super::known_programs::Folders;
use crate::Tier;
use crate::at_rest::Examined;
use crate::at_rest::findings::Findings;
use crate::rules::{Applies, Family, Judge, Rule, Severity, Verdict};
use crate::tree::Tree;

pub(in crate::at_rest) const RULES: &[Rule] = &[Rule {
    id: "suid-list",
    title: "Only programs that are known to need it run as somebody else",
    tier: Tier::Static,
    severity: Severity::Fatal,
    reads: &["every file's mode, owner and inode"],
    why: "a set-user-id copy of a shell makes everybody root, and nothing else on the node shows it",
    remedy: "`chmod u-s,g-s` the file, or declare it under `files`",
    source: "execve(2); CIS Distribution Independent Linux benchmark, 6.1.13 and 6.1.14",
    applies: Applies::ALL,
    stops_boot: false,
    judge: Judge::Tree(set_ids),
}];

/// What may run as its owner (`u`) or its group (`g`), by the end of its path.
struct Allowed {
    paths: &'static [&'static str],
    bits: u32,
}

const SET_UID: u32 = 0o4000;
const SET_GID: u32 = 0o2000;

/// Programs of both families.
const EVERYWHERE: [Allowed; 3] = [
    Allowed {
        paths: &[
            "/usr/bin/su",
            "/usr/bin/sudo",
            "/usr/bin/mount",
            "/usr/bin/umount",
            "/usr/bin/passwd",
            "/usr/bin/chfn",
            "/usr/bin/chsh",
            "/usr/bin/gpasswd",
            "/usr/bin/newgrp",
            "/usr/bin/pkexec",
            "/usr/bin/fusermount",
            "/usr/bin/fusermount3",
            "/usr/bin/ping",
            "/usr/bin/ping6",
            "/usr/bin/newuidmap",
            "/usr/bin/newgidmap",
            "/usr/bin/crontab",
            "/usr/bin/at",
            "/usr/sbin/mount.nfs",
            "/usr/sbin/mount.cifs",
            "/usr/bin/vmware-user-suid-wrapper",
            "/usr/libexec/polkit-agent-helper-1",
            "/usr/lib/polkit-1/polkit-agent-helper-1",
        ],
        bits: SET_UID,
    },
    Allowed {
        paths: &[
            "/usr/bin/chage",
            "/usr/bin/write",
            "/usr/bin/wall",
            "/usr/bin/crontab",
            "/usr/bin/locate",
            "/usr/bin/plocate",
            "/usr/sbin/postdrop",
            "/usr/sbin/postqueue",
            "/usr/bin/ssh-agent",
            "/usr/bin/screen",
            "/usr/lib/*/utempter/utempter",
            "/usr/libexec/utempter/utempter",
        ],
        bits: SET_GID,
    },
    Allowed { paths: &["/usr/sbin/unix_chkpwd"], bits: SET_UID | SET_GID },
];
/// Programs of Debian's packages and its derivatives'.
const DEBIAN: [Allowed; 2] = [
    Allowed {
        paths: &[
            "/usr/lib/dbus-1.0/dbus-daemon-launch-helper",
            "/usr/lib/openssh/ssh-keysign",
            "/usr/bin/ntfs-3g",
            "/usr/sbin/pppd",
            "/usr/lib/snapd/snap-confine",
            "/usr/lib/eject/dmcrypt-get-device",
            "/usr/lib/x86_64-linux-gnu/utempter/utempter",
        ],
        bits: SET_UID,
    },
    Allowed {
        paths: &[
            "/usr/bin/expiry",
            "/usr/bin/bsd-write",
            "/usr/bin/write.ul",
            "/usr/bin/dotlockfile",
            "/usr/bin/mlocate",
            "/usr/bin/mail-lock",
            "/usr/bin/mail-unlock",
            "/usr/bin/mail-touchlock",
            "/usr/sbin/pam_extrausers_chkpwd",
            "/usr/sbin/unix_chkpwd",
        ],
        bits: SET_GID,
    },
];
/// Programs of RPM packages.
const RPM: [Allowed; 2] = [
    Allowed {
        paths: &[
            "/usr/bin/chage",
            "/usr/sbin/pam_timestamp_check",
            "/usr/sbin/userhelper",
            "/usr/sbin/usernetctl",
            "/usr/sbin/grub2-set-bootflag",
            "/usr/libexec/dbus-1/dbus-daemon-launch-helper",
            "/usr/libexec/openssh/ssh-keysign",
            "/usr/libexec/sssd/*_child",
            "/usr/libexec/cockpit-session",
            "/usr/bin/staprun",
            "/usr/bin/sudoedit",
            "/usr/bin/expiry",
            "/usr/libexec/qemu-bridge-helper",
            "/usr/libexec/dbus-daemon-launch-helper",
            "/usr/lib/dbus-1.0/dbus-daemon-launch-helper",
        ],
        bits: SET_UID,
    },
    Allowed {
        paths: &[
            "/usr/libexec/openssh/ssh-keysign",
            "/usr/sbin/lockdev",
            "/usr/sbin/netreport",
            "/usr/bin/lockfile",
        ],
        bits: SET_GID,
    },
];

/// The files of container images, whose root is none of the node's: only root gets there, and a container that
/// starts from them has their bits within its own walls.
const IMAGES: [&str; 3] = ["/var/lib/containerd/", "/var/lib/containers/", "/var/lib/docker/"];

fn set_ids(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let families: &[&[Allowed]] = match examined.facts.family {
        Some(Family::Debian) => &[&EVERYWHERE, &DEBIAN],
        Some(Family::Rpm) => &[&EVERYWHERE, &RPM],
        None => &[&EVERYWHERE, &DEBIAN, &RPM],
    };
    let folders = Folders::of(tree);
    let mut findings = Findings::default();
    let mut known = 0;
    for paths in files(tree) {
        let Some((path, entry)) = paths.first().and_then(|path| Some((path, tree.entry(path)?)))
        else {
            continue;
        };
        let bits = entry.mode & (SET_UID | SET_GID);
        let allowed = |path: &String| {
            let declared = examined.expect.files.contains(path);
            let mut all = families.iter().flat_map(|family| family.iter());
            declared
                || all.any(|one| {
                    bits & !one.bits == 0 && one.paths.iter().any(|own| folders.fits(own, path))
                })
        };
        // A further name of a known file is an unknown file: it stays when the known one is mended.
        let strange = paths.iter().find(|path| !allowed(path));
        // What others may write is nobody's program.
        if entry.mode & 0o022 != 0 {
            findings.wrong(format!("{path} may be written by others: {:04o}", entry.mode));
        } else if let Some(strange) = strange {
            let runs = if bits & SET_UID != 0 { ("user", entry.uid) } else { ("group", entry.gid) };
            let (mode, count) = (entry.mode, paths.len());
            let links = if count > 1 { format!(", one of {count} links") } else { String::new() };
            findings.wrong(format!("{strange} runs as {} {} ({mode:04o}{links})", runs.0, runs.1));
        } else {
            known += 1;
        }
    }
    Ok(findings.verdict(format!("{known} programs, all known")))
}

/// The files that run as somebody else, each with all its names.
fn files(tree: &Tree) -> Vec<Vec<String>> {
    let mut by_inode: BTreeMap<(u32, u64), Vec<String>> = BTreeMap::new();
    let mut single = Vec::new();
    for (path, entry) in tree.entries() {
        let of_an_image = IMAGES.iter().any(|folder| path.starts_with(folder));
        if !entry.is_set_id() || of_an_image {
            continue;
        }
        match entry.inode {
            (0, 0) => single.push(vec![path.to_owned()]), // the inode is not known
            inode => by_inode.entry(inode).or_default().push(path.to_owned()),
        }
    }
    let mut files: Vec<Vec<String>> = by_inode.into_values().chain(single).collect();
    files.sort();
    files
}

#[cfg(test)]
pub(in crate::at_rest) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use crate::at_rest::corpus::Mutation;

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new(
            "a shell of root's",
            &["suid-list"],
            "/usr/local/bin/sh runs as user 0 (4755)",
            |e| {
                e.tree.write("/usr/local/bin/sh", 0o4755, "elf");
            },
        ),
        Mutation::new(
            "a program of a group's",
            &["suid-list"],
            "/usr/bin/cat runs as group 42",
            |e| {
                e.tree.write("/usr/bin/cat", 0o2755, "elf");
                e.tree.change("/usr/bin/cat", |entry| entry.gid = 42);
            },
        ),
        Mutation::new(
            "more than a program needs",
            &["suid-list"],
            "/usr/bin/chage runs as user 0",
            |e| {
                e.tree.change("/usr/bin/chage", |entry| entry.mode = 0o4755);
            },
        ),
        Mutation::new(
            "a program in bin that is known in sbin, which is another folder",
            &["suid-list"],
            "/usr/bin/unix_chkpwd runs as user 0",
            |e| {
                e.tree.write("/usr/bin/unix_chkpwd", 0o4755, "elf");
            },
        ),
        Mutation::new("another family's program", &["suid-list"], "/usr/sbin/userhelper", |e| {
            e.tree.write("/usr/sbin/userhelper", 0o4711, "elf");
        }),
        Mutation::new(
            "a program that others may write",
            &["suid-list"],
            "/usr/bin/su may be written",
            |e| {
                e.tree.change("/usr/bin/su", |entry| entry.mode = 0o4775);
            },
        ),
        Mutation::new(
            "another name of sudo's",
            &["suid-list"],
            "/opt/tool runs as user 0 (4755, one of 2 links)",
            |e| {
                e.tree.write("/opt/tool", 0o4755, "elf");
                for path in ["/opt/tool", "/usr/bin/sudo"] {
                    e.tree.change(path, |entry| entry.inode = (1, 4711));
                }
            },
        ),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest::corpus::sound;

    #[test]
    fn declared_programs_images_and_folders_are_fine() {
        let mut examined = sound(Family::Debian);
        let tree = &mut examined.tree;
        tree.write("/opt/tool", 0o4755, "elf");
        tree.write("/var/lib/containerd/io/snapshots/1/fs/usr/bin/bash", 0o4755, "elf");
        tree.folder("/var/local", 0o2775);
        tree.write("/bin/fusermount3", 0o4755, "elf");
        examined.expect.files.insert("/opt/tool".into());
        let verdict = set_ids(&examined).unwrap();
        assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?}");
    }

    #[test]
    fn links_of_one_file_are_told_once() {
        let mut examined = sound(Family::Debian);
        for path in ["/opt/a", "/opt/b"] {
            examined.tree.write(path, 0o4755, "elf");
            examined.tree.change(path, |entry| entry.inode = (1, 12));
        }
        let verdict = set_ids(&examined).unwrap();
        assert!(
            verdict.seen().contains("/opt/a") && !verdict.seen().contains("/opt/b"),
            "{verdict:?}"
        );
    }

    #[test]
    fn programs_of_sbin_are_known_where_it_is_bin() {
        let mut examined = sound(Family::Rpm);
        let path = "/usr/bin/unix_chkpwd";
        examined.tree.write(path, 0o4755, "elf");
        assert!(matches!(set_ids(&examined).unwrap(), Verdict::Fail(_)));
        examined.tree.remove("/usr/sbin");
        examined.tree.link("/usr/sbin", "bin");
        for name in ["pam_timestamp_check", "grub2-set-bootflag", "userhelper"] {
            examined.tree.write(&format!("/usr/bin/{name}"), 0o4755, "elf");
        }
        let verdict = set_ids(&examined).unwrap();
        assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?}");
    }
}
