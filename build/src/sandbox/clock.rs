//! Another clock for what runs in the sandbox, by libfaketime.
//!
//! Linux has no namespace for the time of day (time_namespaces(7): only the monotonic clocks have), so a
//! library that is loaded before the C library answers for it. Whoever asks the kernel itself sees the true
//! time: programs that are linked statically, and Go's, whose runtime does not ask the C library.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::Bind;

/// Where programs in the sandbox find the library: in its own `/run`, so that no layer has a trace of it.
const GUEST: &str = "/run/nodekiln/libfaketime.so.1";

/// A clock that goes as fast as this machine's and shows another time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OtherClock {
    /// libfaketime on this machine; it must fit the C library of every tree.
    pub library: PathBuf,
    /// By how many seconds it is ahead.
    pub ahead: u32,
}

impl OtherClock {
    /// The library, where the sandbox shows it.
    pub(super) fn bind(&self) -> Bind {
        Bind { host: self.library.clone(), guest: GUEST.to_owned(), read_only: true }
    }

    /// What the library is told (its README, "Usage").
    pub(super) fn environment(&self) -> BTreeMap<String, String> {
        let variables = [
            ("LD_PRELOAD", GUEST.to_owned()),
            ("FAKETIME", format!("+{}", self.ahead)),
            // Times of files stay as they are: archives are made with them.
            ("NO_FAKE_STAT", "1".to_owned()),
            // Waiting takes as long as ever.
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1".to_owned()),
        ];
        variables.map(|(name, value)| (name.to_owned(), value)).into()
    }
}
