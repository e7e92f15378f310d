//! Makes the two databases of containerd's store say nothing of when, where and by how many
//! transactions they were written.
//!
//! `meta.db` has the names, labels and references of images, blobs and snapshots; `metadata.db` has
//! the overlayfs snapshotter's own records. Both are read, checked key by key against what containerd
//! 1.6 to 2.1 writes, changed, and written again as new files, see [`nodekiln_bolt`].

mod encoding;
mod schema;
mod snapshots;

use std::path::Path;

use nodekiln_bolt::{self as bolt, Bucket};
use nodekiln_words::{Failure, Result, ResultExt, SourceDate};

use self::encoding::go_time;
use self::schema::{METADATA, SNAPSHOTTER};

const METADATA_FILE: &str = "io.containerd.metadata.v1.bolt/meta.db";
const SNAPSHOTTER_FILE: &str = "io.containerd.snapshotter.v1.overlayfs/metadata.db";
const SNAPSHOTS: &str = "io.containerd.snapshotter.v1.overlayfs/snapshots";
/// Blobs that are being written; what is there belongs to records that are removed.
const INGESTS: &str = "io.containerd.content.v1.content/ingest";

/// Rewrites both databases and renames the snapshots' folders; nothing may use the store meanwhile.
///
/// # Errors
/// When a database is damaged or has a key that containerd 1.6 to 2.1 does not write, when the two and
/// the folders do not agree, or when a file cannot be read or written.
pub(super) fn normalise(store: &Path, source_date: SourceDate) -> Result<()> {
    let mut metadata = read(store, METADATA_FILE)?.unwrap_or_default();
    // The snapshotter makes its database when first asked for a snapshot.
    let snapshotter = read(store, SNAPSHOTTER_FILE)?;
    let has_snapshotter = snapshotter.is_some();
    let mut snapshotter = snapshotter.unwrap_or_default();

    let time = go_time(source_date);
    schema::settle(METADATA_FILE, &mut metadata, &METADATA, &time)?;
    schema::settle(SNAPSHOTTER_FILE, &mut snapshotter, &SNAPSHOTTER, &time)?;
    snapshots::renumber(&mut metadata, &mut snapshotter, &store.join(SNAPSHOTS))?;

    write(store, METADATA_FILE, &metadata)?;
    if has_snapshotter {
        write(store, SNAPSHOTTER_FILE, &snapshotter)?;
    }
    empty(&store.join(INGESTS))
}

/// The database, if there is one.
fn read(store: &Path, file: &str) -> Result<Option<Bucket>> {
    let path = store.join(file);
    let reading = || format!("reading containerd's {file}");
    if !path.try_exists().or_io(reading)? {
        return Ok(None);
    }
    let bytes = fs_err::read(path).or_io(reading)?;
    bolt::read(&bytes).or_io(reading).map(Some)
}

/// Writes over the file, whose owner and mode stay.
fn write(store: &Path, file: &str, root: &Bucket) -> Result<()> {
    let writing = || format!("writing containerd's {file}");
    let bytes = bolt::write(root).or_io(writing)?;
    fs_err::write(store.join(file), bytes).or_io(writing)
}

fn empty(folder: &Path) -> Result<()> {
    let emptying = || format!("emptying {}", folder.display());
    if !folder.try_exists().or_io(emptying)? {
        return Ok(());
    }
    for entry in fs_err::read_dir(folder).or_io(emptying)? {
        let entry = entry.or_io(emptying)?;
        if entry.file_type().or_io(emptying)?.is_dir() {
            fs_err::remove_dir_all(entry.path()).or_io(emptying)?;
        } else {
            fs_err::remove_file(entry.path()).or_io(emptying)?;
        }
    }
    Ok(())
}

/// The failure of a database that is not as containerd writes it.
fn unknown(what: String) -> Failure {
    Failure::new(nodekiln_words::Class::Unsupported, what).with_help(
        "containerd 1.6 to 2.1 is known; another version may keep what would make every build's \
         store another one: install one of these, or report the version",
    )
}

#[cfg(test)]
mod tests;
