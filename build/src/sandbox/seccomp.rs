//! Makes flushing to disk free.
//!
//! Package configuration flushes thousands of small files, each of which waits for the disk. A layer
//! in the making needs none of that: it is thrown away if anything fails, and whoever commits it
//! flushes once. So a system call filter answers the flushing calls with success, which changes no
//! byte of the tree.

use std::collections::BTreeMap;
use std::io;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// The calls that flush. `msync` belongs here too: pages of a shared mapping are visible to readers
/// of the file whether or not they were flushed.
const FLUSHING: [i64; 6] = [
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_msync,
    libc::SYS_sync_file_range,
];

/// Applies the filter to this process and all that it starts. It also sets `no_new_privs`, so
/// set-user-id programs run as whoever starts them, which in the sandbox is root.
pub(crate) fn make_sync_free() -> io::Result<()> {
    seccompiler::apply_filter(&program().map_err(io::Error::other)?).map_err(io::Error::other)
}

fn program() -> Result<BpfProgram, seccompiler::Error> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let rules: BTreeMap<_, _> = FLUSHING.iter().map(|call| (*call, Vec::new())).collect();
    let filter =
        SeccompFilter::new(rules, SeccompAction::Allow, SeccompAction::Errno(0), architecture)?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filter_compiles_on_this_machine() {
        assert!(program().unwrap().len() > FLUSHING.len());
    }
}
