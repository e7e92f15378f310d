//! The sandbox's `/dev`: what programs cannot do without, and nothing of this machine's hardware.

use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{PermissionsExt as _, symlink};

use rustix::fs::CWD;
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags};

/// Devices taken from this machine.
const NODES: [&str; 6] = ["null", "zero", "full", "random", "urandom", "tty"];

/// Links, by name and target.
const LINKS: [(&str, &str); 5] = [
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
    ("ptmx", "pts/ptmx"),
];

/// This machine's device nodes, as mounts that are attached nowhere yet.
pub(crate) struct Devices(Vec<(&'static str, OwnedFd)>);

impl Devices {
    /// Takes the nodes, while this machine's `/dev` can still be seen.
    pub(crate) fn take() -> io::Result<Self> {
        let take = |name| {
            let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            let node = rustix::mount::open_tree(CWD, format!("/dev/{name}"), flags)?;
            Ok((name, node))
        };
        Ok(Self(NODES.into_iter().map(take).collect::<io::Result<_>>()?))
    }

    /// Mounts `/dev` and what belongs into it.
    pub(crate) fn show(self) -> io::Result<()> {
        let quiet = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        // A node in a file system mounted `nodev` cannot be opened, but each node here is a mount
        // of its own.
        rustix::mount::mount("dev", "/dev", "tmpfs", quiet, c"mode=0755")?;
        for (name, node) in self.0 {
            let path = format!("/dev/{name}");
            File::create(&path)?;
            rustix::mount::move_mount(
                node,
                "",
                CWD,
                path,
                MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH,
            )?;
        }
        for (name, target) in LINKS {
            symlink(target, format!("/dev/{name}"))?;
        }
        fs::create_dir("/dev/pts")?;
        let pts = MountFlags::NOSUID | MountFlags::NOEXEC;
        let options = c"newinstance,ptmxmode=0666,mode=0620,gid=5";
        rustix::mount::mount("devpts", "/dev/pts", "devpts", pts, options)?;
        fs::create_dir("/dev/shm")?;
        fs::set_permissions("/dev/shm", fs::Permissions::from_mode(0o1777))?;
        rustix::mount::mount("shm", "/dev/shm", "tmpfs", quiet, c"mode=1777")?;
        Ok(())
    }
}
