//! Extended attributes of a layer's files: those that belong to the tree, and overlayfs's own.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::io;
use std::path::Path;

/// Names under which overlayfs keeps its own notes in an upper folder.
pub(crate) const OVERLAY: &str = "trusted.overlay.";

/// Set to `y` on a directory that hides what lower layers have below it.
pub(crate) const OPAQUE: &str = "trusted.overlay.opaque";

/// The label that SELinux of this machine puts on every file it makes. It says nothing of the tree,
/// and mke2fs would copy it into the image, whose own policy knows nothing of it; so a finished layer
/// has none, see [`remove_machine_label`].
const MACHINE_LABEL: &str = "security.selinux";

/// Attributes of the file at `path` that belong to the tree, by name. A link is not followed.
///
/// A label of this machine is among them where one is left: it would be in the image too, and so is
/// a difference from the layer's inventory.
pub(crate) fn extended(path: &Path) -> io::Result<BTreeMap<String, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for name in names(path)? {
        let text = name.to_string_lossy();
        if text.starts_with(OVERLAY) {
            continue;
        }
        if let Some(value) = xattr::get(path, &name)? {
            all.insert(text.into_owned(), value);
        }
    }
    Ok(all)
}

/// Takes this machine's label off the file at `path`. A link is not followed.
///
/// This works where SELinux is not active and the label came with a copied file; SELinux itself lets
/// nobody take a label away, root included, and answers "permission denied".
pub(crate) fn remove_machine_label(path: &Path) -> io::Result<()> {
    // Listed, not asked for: asking is answered from memory where nothing is stored.
    if names(path)?.iter().any(|name| name == MACHINE_LABEL) {
        xattr::remove(path, MACHINE_LABEL)?;
    }
    Ok(())
}

/// Names of all attributes that are stored with the file.
fn names(path: &Path) -> io::Result<Vec<OsString>> {
    match xattr::list(path) {
        Ok(names) => Ok(names.collect()),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// Whether the directory at `path` hides what lower layers have below it.
pub(crate) fn is_opaque(path: &Path) -> io::Result<bool> {
    match xattr::get(path, OPAQUE) {
        Ok(value) => Ok(value.as_deref() == Some(b"y")),
        Err(error) if error.kind() == io::ErrorKind::Unsupported => Ok(false),
        Err(error) => Err(error),
    }
}
