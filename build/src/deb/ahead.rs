//! Decompresses the file trees of packages whose turn is next, on a core that would be idle: dpkg
//! configures one package after the other, and what comes after it waits for decompression.
//!
//! Nothing is written to the tree, and nothing depends on how far this came: a package that was not
//! decompressed, or could not be, is decompressed when it is unpacked, and fails there.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;
use std::sync::Arc;

use nodekiln_words::Cancel;

use super::unpack::Parcel;

/// Bytes that may wait, decompressed, in the scratch folder.
const LIMIT: u64 = 512 << 20;
/// Bytes copied at a time; being stopped is noticed as often.
const PIECE: usize = 256 << 10;

/// Decompresses the file trees of `parcels` into nameless files in `scratch`, the largest first, until
/// `stop` is set or all is done, and has each parcel read its file from then on.
pub fn decompress(parcels: &mut [Parcel], scratch: &Path, stop: &Cancel) {
    let mut order: Vec<&mut Parcel> = parcels.iter_mut().collect();
    order.sort_by_key(|parcel| std::cmp::Reverse(parcel.deb.data_size()));
    let mut room = LIMIT;
    for parcel in order {
        if stop.is_cancelled() || room == 0 {
            return;
        }
        if let Ok(Some((file, length))) = copy(parcel, scratch, room, stop) {
            room -= length;
            parcel.deb.read_data_from(Arc::new(file), length);
        }
    }
}

/// The decompressed file tree and its length, or `None` when stopped or out of room.
fn copy(
    parcel: &Parcel,
    scratch: &Path,
    room: u64,
    stop: &Cancel,
) -> io::Result<Option<(File, u64)>> {
    let mut data = parcel.deb.data().map_err(io::Error::other)?;
    let mut file = tempfile::tempfile_in(scratch)?;
    let mut piece = vec![0; PIECE];
    let mut length = 0;
    loop {
        let read = match data.read(&mut piece) {
            Ok(0) => return Ok(Some((file, length))),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        length += read as u64;
        if stop.is_cancelled() || length > room {
            return Ok(None);
        }
        file.write_all(piece.get(..read).unwrap_or_default())?;
    }
}
