//! Takes away what installing leaves behind and the packages do not own.

use nodekiln_words::Result;

use crate::layer::{Attributes, Root};

/// Files that dpkg, debconf, ldconfig and update-alternatives leave: backups of their previous state,
/// locks, caches of inode numbers, and a log with the wall-clock time.
const LEFT_BEHIND: [&str; 15] = [
    "/var/cache/apt/pkgcache.bin",
    "/var/cache/apt/srcpkgcache.bin",
    "/var/cache/debconf/config.dat-old",
    "/var/cache/debconf/passwords.dat-old",
    "/var/cache/debconf/templates.dat-old",
    "/var/cache/ldconfig/aux-cache",
    // A regular file where dbus is configured before systemd; the same identity as below.
    "/var/lib/dbus/machine-id",
    "/var/lib/dpkg/available-old",
    "/var/lib/dpkg/diversions-old",
    "/var/lib/dpkg/lock",
    "/var/lib/dpkg/lock-frontend",
    "/var/lib/dpkg/statoverride-old",
    "/var/lib/dpkg/status-old",
    "/var/lib/dpkg/triggers/Lock",
    "/var/log/alternatives.log",
];

/// Drawn at random by systemd's script. Empty means: a machine gives itself one when it starts.
const MACHINE_ID: &str = "/etc/machine-id";

/// Where openssh-server's script puts the keys that it draws at random.
const SSH: &str = "/etc/ssh";

pub(super) fn tidy(root: &Root) -> Result<()> {
    for path in LEFT_BEHIND {
        root.remove(path)?;
    }
    let keys = |name: &String| name.starts_with("ssh_host_") && name.contains("_key");
    for name in root.list(SSH)?.into_iter().filter(keys) {
        root.remove(&format!("{SSH}/{name}"))?;
    }
    let empty = Attributes::root(0o444);
    // One that is as it should be stays in the layer below.
    let tidy = root.read_file(MACHINE_ID)?.is_some_and(|id| id.is_empty())
        && root.attributes(MACHINE_ID)? == Some(empty);
    if root.exists(MACHINE_ID)? && !tidy {
        root.write_file(MACHINE_ID, b"", empty)?;
    }
    Ok(())
}
