use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use nodekiln_words::{Class, Failure, Result, ResultExt, SourceDate};

use super::check::{Preloaded, digests};
use crate::layer::{Attributes, Root, is_opaque, is_whiteout};

/// What of containerd's root is the store itself: blobs, names, unpacked layers. All else is of one
/// run (leases of shims, temporary mounts) or of one machine (the server's id).
const KEPT: [&str; 3] = [
    "io.containerd.content.v1.content",
    "io.containerd.metadata.v1.bolt",
    "io.containerd.snapshotter.v1.overlayfs",
];

const BLOBS: &str = "io.containerd.content.v1.content/blobs/sha256";
const SNAPSHOTS: &str = "io.containerd.snapshotter.v1.overlayfs/snapshots";

/// containerd makes its root so (cmd/containerd/server: `MkdirAll(root, 0711)`).
const MODE: u32 = 0o711;

/// Removes from containerd's root what is not the store.
pub(super) fn clean(store: &Path) -> Result<()> {
    let cleaning = || format!("cleaning {}", store.display());
    for entry in fs_err::read_dir(store).or_io(cleaning)? {
        let entry = entry.or_io(cleaning)?;
        if KEPT.iter().any(|kept| entry.file_name() == *kept) {
            continue;
        }
        if entry.file_type().or_io(cleaning)?.is_dir() {
            fs_err::remove_dir_all(entry.path()).or_io(cleaning)?;
        } else {
            fs_err::remove_file(entry.path()).or_io(cleaning)?;
        }
    }
    Ok(())
}

/// Checks that the content store has the images' blobs and no others.
pub(super) fn check_content(store: &Path, preloads: &[Preloaded]) -> Result<()> {
    let reading = || "listing the content store".to_owned();
    let mut wanted = digests(preloads);
    for entry in fs_err::read_dir(store.join(BLOBS)).or_io(reading)? {
        let name = entry.or_io(reading)?.file_name().to_string_lossy().into_owned();
        if !wanted.remove(&name) {
            return Err(Failure::new(
                Class::Verdict,
                format!("the content store has a blob that no image owns: sha256:{name}"),
            ));
        }
    }
    match wanted.first() {
        None => Ok(()),
        Some(digest) => Err(Failure::new(
            Class::Verdict,
            format!("the content store lacks the blob sha256:{digest}"),
        )),
    }
}

/// Checks that no unpacked layer has a mark of overlayfs's, a whiteout or an opaque directory: in a
/// layer of the tree it would be one of the tree's, and the image's file system another.
pub(super) fn check_unpacked(store: &Path) -> Result<()> {
    let mut folders = vec![store.join(SNAPSHOTS)];
    let reading = || "reading unpacked layers".to_owned();
    while let Some(folder) = folders.pop() {
        if is_opaque(&folder).or_io(reading)? {
            return Err(marked(store, &folder));
        }
        for entry in fs_err::read_dir(&folder).or_io(reading)? {
            let entry = entry.or_io(reading)?;
            if entry.file_type().or_io(reading)?.is_dir() {
                folders.push(entry.path());
            } else if is_whiteout(&entry.metadata().or_io(reading)?) {
                return Err(marked(store, &entry.path()));
            }
        }
    }
    Ok(())
}

fn marked(store: &Path, path: &Path) -> Failure {
    let path = path.strip_prefix(store).unwrap_or(path).display();
    let message = format!("the container store has a deletion unpacked, at {path}");
    Failure::new(Class::Verdict, message).with_help(
        "an image deletes files of its lower layers in a way that nodekiln did not see beforehand: \
         leave the image out, and report its name",
    )
}

/// Moves the store to its place in the node's output.
pub(super) fn hand_over(store: &Path, scratch: &Path, source_date: SourceDate) -> Result<()> {
    let moving = || "moving the store into the layer".to_owned();
    let output = Root::assemble(&[], scratch)?;
    for folder in ["/var", "/var/lib"] {
        output.make_directory(folder, Attributes::root(0o755))?;
    }
    let parent = output.path().join("var/lib");
    fs_err::set_permissions(store, std::fs::Permissions::from_mode(MODE)).or_io(moving)?;
    fs_err::rename(store, parent.join("containerd")).or_io(moving)?;
    output.finish(source_date)
}

#[cfg(test)]
mod tests {
    use rustix::fs::{CWD, FileType, Mode};

    use super::*;

    #[test]
    fn marks_of_overlayfs_in_unpacked_layers_are_found() {
        let folder = tempfile::tempdir().unwrap();
        let layer = folder.path().join(SNAPSHOTS).join("1/fs/etc");
        fs_err::create_dir_all(&layer).unwrap();
        check_unpacked(folder.path()).unwrap();
        xattr::set(&layer, "trusted.overlay.opaque", b"y").unwrap();
        let text = check_unpacked(folder.path()).unwrap_err().to_string();
        assert!(text.ends_with("snapshots/1/fs/etc"), "{text}");
        xattr::remove(&layer, "trusted.overlay.opaque").unwrap();
        let gone = layer.join("gone");
        rustix::fs::mknodat(CWD, &gone, FileType::CharacterDevice, Mode::empty(), 0).unwrap();
        let text = check_unpacked(folder.path()).unwrap_err().to_string();
        assert!(text.ends_with("snapshots/1/fs/etc/gone"), "{text}");
    }
}
