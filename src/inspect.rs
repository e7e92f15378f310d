//! `nodekiln inspect`: what an image file is.

use std::path::PathBuf;
use std::process::ExitCode;

use nodekiln_validate::inspect::{self as room, Looking};
use nodekiln_words::Result;

use crate::Context;
use crate::arguments::Inspect;
use crate::exit::{print, print_json};
use crate::progress::renderer;

/// Tells what an image file is. Problems of the image are part of the answer and no failure.
pub(crate) fn inspect(verb: &Inspect, context: &Context) -> Result<ExitCode> {
    let progress = renderer(context.global.progress);
    let scratch = scratch();
    let looking = Looking {
        digests: !verb.no_digest,
        scratch: &scratch,
        progress: &*progress,
        cancel: &context.cancel,
    };
    let found = room::inspect(&verb.image, looking)?;
    if verb.json {
        print_json(&found)?;
    } else {
        print(&room::text(&found))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A folder for what has to be unpacked, which may be as large as a disk; /tmp is memory on many machines.
pub(crate) fn scratch() -> PathBuf {
    let named = std::env::var_os("TMPDIR").filter(|folder| !folder.is_empty());
    named.map_or_else(|| PathBuf::from("/var/tmp"), PathBuf::from)
}
