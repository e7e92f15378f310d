//! Closes what a stage inherited.

use std::io;

/// The first descriptor behind standard input, output and error.
const FIRST: libc::c_uint = 3;

/// Closes all open files but the standard ones.
///
/// Rust opens files so that programs do not inherit them, but whoever started this process, or a
/// library in it, may not have; a file or folder of this machine left open is a way out of the tree.
/// Call it before anything is opened: it does not ask whose the files are.
pub(crate) fn close() -> io::Result<()> {
    #[expect(unsafe_code, reason = "neither std nor rustix has close_range(2)")]
    // SAFETY: the call takes numbers alone. This process has just begun and opened nothing, so no
    // value in it owns one of these descriptors.
    let answer = unsafe { libc::close_range(FIRST, libc::c_uint::MAX, 0) };
    if answer == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
