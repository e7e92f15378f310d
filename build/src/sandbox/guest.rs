//! What the command sees: the tree as root, kernel interfaces, scratch space, and the binds.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use rustix::fs::{CWD, FileType, StatVfsMountFlags};
use rustix::mount::{MountFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags};

use super::Bind;
use super::devices::Devices;
use super::request::Request;

/// Where a Debian system looks for the policy that decides whether services start
/// (invoke-rc.d(8), deb-systemd-invoke(1p)).
pub(crate) const POLICY: &str = "/usr/sbin/policy-rc.d";

/// Exit code 101: "action forbidden by policy".
const POLICY_TEXT: &str = "#!/bin/sh\nexit 101\n";

/// Parts of `/proc` through which root could change this machine, shown read-only.
const PROC_READ_ONLY: [&str; 5] =
    ["/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"];

/// Parts of `/proc` that show this machine's memory or secrets, shown empty.
const PROC_EMPTY: [&str; 4] = ["/proc/kcore", "/proc/keys", "/proc/kmsg", "/proc/timer_list"];

/// Makes the tree the root and mounts everything else; errors name the step.
pub(crate) fn enter(request: &Request) -> Result<(), (&'static str, io::Error)> {
    let at = |step| move |error: io::Error| (step, error);
    // While this machine's files can still be seen:
    let devices = Devices::take().map_err(at("take the device nodes"))?;
    let binds = take_binds(&request.binds).map_err(at("take the files to bind"))?;
    pivot(&request.root).map_err(at("make the tree the root"))?;
    // From here on every path is one of the tree's.
    proc().map_err(at("mount /proc"))?;
    devices.show().map_err(at("mount /dev"))?;
    mask_proc().map_err(at("cover parts of /proc"))?;
    scratch().map_err(at("mount /run and /tmp"))?;
    if request.sys {
        sys().map_err(at("mount /sys"))?;
    }
    for (bind, tree) in binds {
        attach(bind, &tree).map_err(at("bind a file or folder"))?;
    }
    if request.policy {
        policy().map_err(at("mount the service policy"))?;
    }
    Ok(())
}

fn take_binds(binds: &[Bind]) -> io::Result<Vec<(&Bind, OwnedFd)>> {
    let take = |bind: &Bind| {
        let flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
        rustix::mount::open_tree(CWD, &bind.host, flags)
            .map_err(|error| naming(&bind.host, &error.into()))
    };
    binds.iter().map(|bind| Ok((bind, take(bind)?))).collect()
}

/// Makes `root` the root directory and forgets the old one (pivot_root(2), the example with ".").
fn pivot(root: &Path) -> io::Result<()> {
    rustix::mount::mount_bind(root, root)?;
    // Device nodes in a tree are data; nothing opens them.
    restrict(root)?;
    rustix::process::chdir(root)?;
    rustix::process::pivot_root(".", ".")?;
    rustix::mount::unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    Ok(())
}

/// Remounts the mount at `path` so that device nodes in it cannot be opened.
fn restrict(path: &Path) -> io::Result<()> {
    let mut flags = MountFlags::BIND | MountFlags::NODEV;
    if rustix::fs::statvfs(path)?.f_flag.contains(StatVfsMountFlags::RDONLY) {
        flags |= MountFlags::RDONLY;
    }
    rustix::mount::mount_remount(path, flags, c"")?;
    Ok(())
}

fn proc() -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
    rustix::mount::mount("proc", "/proc", "proc", flags, c"")?;
    for path in PROC_READ_ONLY.into_iter().filter(|path| Path::new(path).exists()) {
        rustix::mount::mount_bind(path, path)?;
        rustix::mount::mount_remount(path, flags | MountFlags::BIND | MountFlags::RDONLY, c"")?;
    }
    Ok(())
}

fn mask_proc() -> io::Result<()> {
    for path in PROC_EMPTY.into_iter().filter(|path| Path::new(path).exists()) {
        rustix::mount::mount_bind("/dev/null", path)?;
    }
    Ok(())
}

fn scratch() -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    rustix::mount::mount("run", "/run", "tmpfs", flags, c"mode=0755")?;
    fs::create_dir("/run/lock")?;
    fs::set_permissions("/run/lock", fs::Permissions::from_mode(0o1777))?;
    rustix::mount::mount("tmp", "/tmp", "tmpfs", flags, c"mode=1777")?;
    Ok(())
}

fn sys() -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC | MountFlags::RDONLY;
    rustix::mount::mount("sys", "/sys", "sysfs", flags, c"")?;
    Ok(())
}

fn attach(bind: &Bind, tree: &OwnedFd) -> io::Result<()> {
    let guest = Path::new(&bind.guest);
    let directory =
        FileType::from_raw_mode(rustix::fs::fstat(tree)?.st_mode) == FileType::Directory;
    // Only within the sandbox's own /dev, /run and /tmp; elsewhere the supervisor made it.
    if !guest.exists() {
        fs::create_dir_all(if directory { guest } else { guest.parent().unwrap_or(guest) })?;
        if !directory {
            fs::File::create(guest)?;
        }
    }
    let empty_path = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH;
    rustix::mount::move_mount(tree, "", CWD, guest, empty_path)
        .map_err(|error| naming(guest, &error.into()))?;
    if bind.read_only {
        let flags = MountFlags::BIND | MountFlags::NODEV | MountFlags::RDONLY;
        rustix::mount::mount_remount(guest, flags, c"")?;
    } else {
        restrict(guest)?;
    }
    Ok(())
}

/// Covers the policy's mount point by a file that stands nowhere else: once it is mounted, its name
/// is taken away again.
fn policy() -> io::Result<()> {
    let file = "/dev/policy-rc.d";
    fs::write(file, POLICY_TEXT)?;
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))?;
    rustix::mount::mount_bind(file, POLICY)?;
    // /dev is mounted noexec, and so would be this mount of a part of it.
    let flags = MountFlags::BIND | MountFlags::NODEV | MountFlags::NOSUID | MountFlags::RDONLY;
    rustix::mount::mount_remount(POLICY, flags, c"")?;
    fs::remove_file(file)
}

fn naming(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}
