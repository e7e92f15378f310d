//! Writing a disk as one stream-optimised extent, in the order of the disk.

use std::path::Path;
use std::sync::Arc;

use nodekiln_words::{Cancel, Class, Failure, Progress, Result, Sha256};

use super::header::{AT_END, DESCRIPTOR_BYTES, Header, Marker, descriptor};
use super::{GRAIN, OVERHEAD, SECTOR, TABLE_ENTRIES};
use crate::disk::Disk;
use crate::file_writer::FileWriter;
use crate::flushed::{Deflate, END, Piece};
use crate::output::{Output, Written};
use crate::pass::{Block, Encoded, Form, Pass, Stream};
use crate::payload::Payload;

/// The head of a zlib stream with a window of 32 KiB (RFC 1950, section 2.2), of the fastest kind: what
/// follows need not be told from it.
const ZLIB: [u8; 2] = [0x78, 0x01];

/// An extent being written into a file that may have other things before and behind it.
#[derive(Debug)]
pub struct Writer {
    output: Arc<Output>,
    /// Where in the file the extent begins, in bytes.
    base: u64,
    deflate: Deflate,
    capacity: u64,
    /// The next free sector of the extent.
    next: u64,
    /// Places of the grain tables, in sectors, by their numbers; 0 where there is none.
    directory: Vec<u32>,
    /// The table being filled, and its number.
    table: (usize, Vec<u32>),
    grains: u64,
    pending: Vec<u8>,
}

impl Writer {
    /// Begins an extent of `disk` at `base` bytes of `output`; grains are compressed by `deflate`.
    ///
    /// # Errors
    /// When the disk is no whole number of sectors or larger than 2 TiB.
    pub fn new(disk: &Disk, output: &Arc<Output>, base: u64, deflate: Deflate) -> Result<Self> {
        let size = disk.size();
        if !size.is_multiple_of(SECTOR) {
            return Err(Failure::input(format!("{size} bytes are no whole number of sectors")));
        }
        let capacity = size / SECTOR;
        // Places are 32-bit numbers of sectors, and a grain may be larger than it was.
        if capacity >= 1 << 32 {
            let message = format!("{size} bytes exceed a stream-optimised VMDK's 2 TiB");
            return Err(Failure::new(Class::Unsupported, message));
        }
        let tables = capacity.div_ceil(GRAIN * TABLE_ENTRIES as u64);
        let directory = vec![0; usize::try_from(tables).unwrap_or(0)];
        Ok(Self {
            output: Arc::clone(output),
            base,
            deflate,
            capacity,
            next: OVERHEAD,
            directory,
            table: (0, vec![0; TABLE_ENTRIES]),
            grains: 0,
            pending: Vec::new(),
        })
    }

    /// Writes what stands behind the grains, and then the header and the descriptor, which names the
    /// extent `name`. Returns the length of the extent in bytes.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self, name: &str, payload: &Sha256) -> Result<u64> {
        self.end_table()?;
        let directory: Vec<u8> = self.directory.iter().flat_map(|at| at.to_le_bytes()).collect();
        let sectors = (directory.len() as u64).div_ceil(SECTOR);
        self.append(&Marker::Directory.encode(sectors));
        let at = self.here();
        self.append(&directory);
        self.append(&Marker::Footer.encode(1));
        self.append(&Header::new(self.capacity, at).encode());
        self.append(&[0; 512]); // end of stream
        self.flush()?;
        let mut head = Header::new(self.capacity, AT_END).encode().to_vec();
        let text = descriptor(self.capacity, name, payload);
        if text.len() > DESCRIPTOR_BYTES {
            return Err(Failure::input(format!("`{name}` is too long a name for a VMDK extent")));
        }
        head.extend_from_slice(text.as_bytes());
        self.output.write_at(self.base, &head)?;
        Ok(self.next * SECTOR)
    }

    /// Bytes of the disk that are stored so far.
    #[must_use]
    pub fn populated(&self) -> u64 {
        self.grains * GRAIN * SECTOR
    }

    /// The sector that the next byte goes to.
    fn here(&self) -> u64 {
        self.next + self.pending.len() as u64 / SECTOR
    }

    /// Queues `bytes`, filled up to whole sectors.
    fn append(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
        let whole = self.pending.len().next_multiple_of(SECTOR as usize);
        self.pending.resize(whole, 0);
    }

    fn flush(&mut self) -> Result<()> {
        self.output.write_at(self.base + self.next * SECTOR, &self.pending)?;
        self.next = self.here();
        self.pending.clear();
        Ok(())
    }

    fn place(&self) -> Result<u32> {
        u32::try_from(self.here()).map_err(|_| {
            Failure::new(Class::Unsupported, "a stream-optimised VMDK of more than 2 TiB")
        })
    }

    fn grain(&mut self, number: u64, piece: &Piece) -> Result<()> {
        let number = usize::try_from(number).unwrap_or(usize::MAX);
        let (table, entry) = (number / TABLE_ENTRIES, number % TABLE_ENTRIES);
        if table != self.table.0 {
            self.end_table()?;
            self.table.0 = table;
        }
        self.grains += 1;
        let place = self.place()?;
        if let Some(slot) = self.table.1.get_mut(entry) {
            *slot = place;
        }
        let length = ZLIB.len() + piece.bytes.len() + END.len() + 4;
        let mut grain = Vec::with_capacity(12 + length);
        grain.extend_from_slice(&(number as u64 * GRAIN).to_le_bytes());
        grain.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_le_bytes());
        grain.extend_from_slice(&ZLIB);
        grain.extend_from_slice(&piece.bytes);
        grain.extend_from_slice(&END);
        grain.extend_from_slice(&piece.adler.to_be_bytes());
        self.append(&grain);
        Ok(())
    }

    /// Writes the table being filled, if it has any grain, and begins another.
    fn end_table(&mut self) -> Result<()> {
        let (number, table) = std::mem::replace(&mut self.table, (0, vec![0; TABLE_ENTRIES]));
        if table.iter().all(|place| *place == 0) {
            return Ok(());
        }
        let bytes: Vec<u8> = table.iter().flat_map(|place| place.to_le_bytes()).collect();
        self.append(&Marker::Table.encode(bytes.len() as u64 / SECTOR));
        let place = self.place()?;
        if let Some(slot) = self.directory.get_mut(number) {
            *slot = place;
        }
        self.append(&bytes);
        Ok(())
    }
}

impl Stream for Writer {
    fn form(&self) -> Form {
        Form::Piece { deflate: self.deflate, known: None }
    }

    fn take(&mut self, blocks: &[Block<'_>]) -> Result<()> {
        for block in blocks {
            if let Encoded::Piece(piece) = block.encoded {
                self.grain(block.number, piece)?;
            }
        }
        self.flush()
    }
}

/// A VMDK file: an extent and nothing else.
#[derive(Debug)]
pub struct Alone {
    output: Arc<Output>,
    extent: Writer,
    name: String,
}

impl Alone {
    /// Creates the file at `path` for `disk`; its descriptor names it `name`. Grains are compressed at a level
    /// of 1 to 9.
    ///
    /// # Errors
    /// When the file cannot be made, and those of [`Writer::new`].
    pub fn create(disk: &Disk, path: &Path, name: &str, deflate: Deflate) -> Result<Self> {
        let output = Arc::new(Output::create(path)?);
        let extent = Writer::new(disk, &output, 0, deflate)?;
        Ok(Self { output, extent, name: name.to_owned() })
    }
}

impl FileWriter for Alone {
    fn join<'a>(&'a mut self, disk: &'a Disk, pass: &mut Pass<'a>) {
        pass.stream(disk, &mut self.extent);
    }

    fn finish(
        self: Box<Self>,
        _disk: &Disk,
        payload: &Payload,
        progress: &dyn Progress,
        cancel: &Cancel,
    ) -> Result<Written> {
        let bytes = self.extent.finish(&self.name, &payload.digest(progress, cancel)?)?;
        let sha256 = self.output.sync_and_digest(cancel)?;
        Ok(Written { sha256, bytes, allocated: self.output.written() })
    }
}
