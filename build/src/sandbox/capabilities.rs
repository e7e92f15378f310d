//! What root may do in the sandbox (capabilities(7)).

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

/// Kept: what package configuration needs. Not among them: loading modules, raw device access, the
/// clock, tracing, the audit and kernel logs, and administration of the system at large.
///
/// Nor is `DAC_READ_SEARCH`: reading is covered by `DAC_OVERRIDE`, and what it allows besides is to
/// open files by handle (open_by_handle_at(2)), with which root in a tree could reach every file of
/// the file system that the tree lies on.
const KEPT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::IPC_LOCK)
    .union(CapabilitySet::IPC_OWNER)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::SYS_NICE)
    // Device nodes can be made but not opened: everything writable is mounted `nodev`.
    .union(CapabilitySet::MKNOD);

/// Kept besides by a command that may mount.
const KEPT_TO_MOUNT: CapabilitySet = CapabilitySet::SYS_ADMIN.union(CapabilitySet::SYS_RESOURCE);

/// Takes all other capabilities from what this process starts. Its own stay until it does: root's
/// programs get what the bounding set allows, and besides, whatever the bounding set says, what the
/// inheritable and ambient sets pass on; so these are emptied.
pub(crate) fn drop_all_but_needed(may_mount: bool) -> io::Result<()> {
    let own = rustix::thread::capabilities(None)?;
    let inheritable = CapabilitySet::empty();
    rustix::thread::set_capabilities(None, CapabilitySets { inheritable, ..own })?;
    rustix::thread::clear_ambient_capability_set()?;
    let kept = if may_mount { KEPT.union(KEPT_TO_MOUNT) } else { KEPT };
    for bit in 0..u64::BITS {
        let capability = CapabilitySet::from_bits_retain(1 << bit);
        if kept.contains(capability) {
            continue;
        }
        match rustix::thread::remove_capability_from_bounding_set(capability) {
            Ok(()) => {}
            // Beyond the last one that this kernel knows.
            Err(rustix::io::Errno::INVAL) => break,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}
