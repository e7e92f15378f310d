//! System call filters: flushing to disk is free, opening files by handle is forbidden.
//!
//! Package configuration flushes thousands of small files, each of which waits for the disk. A layer
//! in the making needs none of that: it is thrown away if anything fails, and whoever commits it
//! flushes once. So a filter answers the flushing calls with success, which changes no byte of the
//! tree.
//!
//! `open_by_handle_at` opens a file by its number in a file system, past all folders above it and so
//! past the tree's root. The sandbox's capabilities do not allow it either; the filter also holds in
//! a user namespace that a step makes, where it has all capabilities.

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

/// The calls that lead out of the tree.
const ESCAPING: [i64; 1] = [libc::SYS_open_by_handle_at];

/// Applies the filters to this process and all that it starts. This also sets `no_new_privs`, so
/// set-user-id programs run as whoever starts them, which in the sandbox is root.
pub(crate) fn filter_calls() -> io::Result<()> {
    apply(&FLUSHING, 0)?;
    apply(&ESCAPING, libc::EPERM.unsigned_abs())
}

fn apply(calls: &[i64], answer: u32) -> io::Result<()> {
    let program = program(calls, answer).map_err(io::Error::other)?;
    seccompiler::apply_filter(&program).map_err(io::Error::other)
}

/// A filter that answers `calls` with the error number `answer`, 0 being success.
fn program(calls: &[i64], answer: u32) -> Result<BpfProgram, seccompiler::Error> {
    let architecture = TargetArch::try_from(std::env::consts::ARCH)?;
    let rules: BTreeMap<_, _> = calls.iter().map(|call| (*call, Vec::new())).collect();
    let answer = SeccompAction::Errno(answer);
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, answer, architecture)?;
    Ok(filter.try_into()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_filters_compile_on_this_machine() {
        assert!(program(&FLUSHING, 0).unwrap().len() > FLUSHING.len());
        assert!(program(&ESCAPING, 1).unwrap().len() > ESCAPING.len());
    }
}
