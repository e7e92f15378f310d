//! Extended attributes of a layer's files: those that belong to the tree, and overlayfs's own.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;

/// Names under which overlayfs keeps its own notes in an upper folder.
const OVERLAY: &str = "trusted.overlay.";

/// Set to `y` on a directory that hides what lower layers have below it.
const OPAQUE: &str = "trusted.overlay.opaque";

/// A label that a security module of this machine puts on every file; it says nothing of the tree.
const MACHINE_LABEL: &str = "security.selinux";

/// Attributes of the file at `path` that belong to the tree, by name. A link is not followed.
pub(crate) fn extended(path: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut all = BTreeMap::new();
    let names = match xattr::list(path) {
        Ok(names) => names,
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(all),
        Err(error) => return Err(error),
    };
    for name in names {
        let text = name.to_string_lossy();
        if text.starts_with(OVERLAY) || text == MACHINE_LABEL {
            continue;
        }
        if let Some(value) = xattr::get(path, &name)? {
            all.insert(text.into_owned(), value);
        }
    }
    Ok(all)
}

/// Whether the directory at `path` hides what lower layers have below it.
pub(crate) fn is_opaque(path: &Path) -> io::Result<bool> {
    match xattr::get(path, OPAQUE) {
        Ok(value) => Ok(value.as_deref() == Some(b"y")),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error),
    }
}
