//! One pass over one or more disks that feeds every file written from them.
//!
//! A batch of each disk is read once, by whichever thread is free. The same thread writes the plain bytes
//! to files that carry them as they are, and encodes each block once in each form that somebody wants;
//! a block that another disk has at the same place is not encoded again. The calling thread then hands
//! the blocks to the [`Stream`]s, in the order of the disk, so that what they write does not depend on
//! the number of threads. Clusters that no extent touches are never looked at.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use nodekiln_words::{Cancel, Result, Sha256};

use crate::disk::{BATCH, CLUSTER, CLUSTER_LENGTH, Disk, data_runs, is_zero};
use crate::flushed::{Deflate, Flusher, Piece};
use crate::ordered::{AHEAD, ordered_on};
use crate::output::Output;
use crate::qcow2::{self, Clusters, Packer};

/// What a stream takes of each block.
#[derive(Clone, Debug)]
pub enum Form {
    /// A qcow2 cluster.
    Cluster {
        /// How it is compressed.
        compression: qcow2::Compression,
        /// Clusters of earlier files with this compression, which need not be compressed again.
        known: Option<Arc<Clusters>>,
    },
    /// A piece of deflate that VMDK grains, gzip members and, where it is narrow, qcow2 clusters are made of.
    Piece {
        /// How it is compressed.
        deflate: Deflate,
        /// Clusters of earlier files, made of such pieces, which need not be compressed again.
        known: Option<Arc<Clusters>>,
    },
}

impl Form {
    /// Whether one encoding serves both. What only one of them knows serves the other too: the bytes are the
    /// same either way.
    fn serves(&self, other: &Self) -> bool {
        let agree = match (self.known(), other.known()) {
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => true,
        };
        agree
            && match (self, other) {
                (Self::Cluster { compression: a, .. }, Self::Cluster { compression: b, .. }) => {
                    a == b
                }
                (Self::Piece { deflate: a, .. }, Self::Piece { deflate: b, .. }) => a == b,
                _ => false,
            }
    }

    fn known(&self) -> Option<&Arc<Clusters>> {
        let (Self::Cluster { known, .. } | Self::Piece { known, .. }) = self;
        known.as_ref()
    }
}

/// A block in one form.
#[derive(Debug)]
pub enum Encoded {
    /// For [`Form::Cluster`].
    Cluster(Packed),
    /// For [`Form::Piece`].
    Piece(Piece),
}

/// A cluster as a qcow2 file stores it.
#[derive(Debug)]
pub struct Packed {
    /// Its compressed bytes; `None` where compressing does not help.
    pub(crate) compressed: Option<Vec<u8>>,
    /// Digests of the cluster and of its compressed bytes, where they are to be noted.
    pub(crate) noted: Option<(Sha256, Sha256)>,
}

/// A block that is not zero.
#[derive(Clone, Copy, Debug)]
pub struct Block<'a> {
    /// Its number on the disk, in units of [`CLUSTER`].
    pub number: u64,
    /// Its bytes, a whole cluster; behind the end of the disk they are zero.
    pub plain: &'a [u8],
    /// The form that the stream wanted.
    pub encoded: &'a Encoded,
}

/// A file that takes a disk's blocks in order.
pub trait Stream {
    /// The form in which it takes them.
    fn form(&self) -> Form;

    /// Takes the next blocks that are not zero, ascending.
    ///
    /// # Errors
    /// When they cannot be written.
    fn take(&mut self, blocks: &[Block<'_>]) -> Result<()>;
}

/// What a pass did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Blocks that were encoded, once for each form.
    pub encoded: u64,
    /// Blocks in a form that another disk has at the same place.
    pub shared: u64,
}

/// A disk and the files that carry its bytes as they are.
struct Track<'a> {
    disk: &'a Disk,
    plain: Vec<&'a Output>,
    /// Numbers of the forms that streams of this disk want, ascending.
    forms: BTreeSet<usize>,
}

/// What is to be written in one pass.
#[derive(Default)]
pub struct Pass<'a> {
    tracks: Vec<Track<'a>>,
    forms: Vec<Form>,
    streams: Vec<(usize, usize, &'a mut dyn Stream)>,
}

/// A batch of one disk, encoded.
#[derive(Default)]
struct Batch {
    data: Vec<u8>,
    blocks: Vec<BlockForms>,
    tally: Tally,
}

/// Where a block lies in its batch, and its forms by their numbers.
struct BlockForms {
    number: u64,
    bytes: Range<usize>,
    forms: Vec<Option<Arc<Encoded>>>,
}

impl<'a> Pass<'a> {
    /// Nothing to write yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Number of the track of `disk`; the same object is one track.
    fn track(&mut self, disk: &'a Disk) -> usize {
        let found = self.tracks.iter().position(|track| std::ptr::eq(track.disk, disk));
        found.unwrap_or_else(|| {
            self.tracks.push(Track { disk, plain: Vec::new(), forms: BTreeSet::new() });
            self.tracks.len() - 1
        })
    }

    /// Has the bytes of `disk` that are not zero written to the same places of `output`.
    pub fn plain(&mut self, disk: &'a Disk, output: &'a Output) {
        let track = self.track(disk);
        if let Some(track) = self.tracks.get_mut(track) {
            track.plain.push(output);
        }
    }

    /// Has the blocks of `disk` handed to `stream`.
    pub fn stream(&mut self, disk: &'a Disk, stream: &'a mut dyn Stream) {
        let (number, form) = (self.track(disk), stream.form());
        let found = self.forms.iter().position(|other| other.serves(&form));
        let form = match found {
            Some(found) => {
                // The one that knows more stands for both.
                if let Some(other) = self.forms.get_mut(found).filter(|_| form.known().is_some()) {
                    *other = form;
                }
                found
            }
            None => {
                self.forms.push(form);
                self.forms.len() - 1
            }
        };
        if let Some(track) = self.tracks.get_mut(number) {
            track.forms.insert(form);
        }
        self.streams.push((number, form, stream));
    }

    /// Bytes that are read, at most: for a progress display.
    #[must_use]
    pub fn length(&self) -> u64 {
        self.batches().len() as u64 * BATCH
    }

    /// Numbers of the batches in which any disk has data, ascending.
    fn batches(&self) -> Vec<u64> {
        let runs = self.tracks.iter().flat_map(|track| track.disk.clusters_with_data(BATCH));
        runs.flatten().collect::<BTreeSet<u64>>().into_iter().collect()
    }

    /// Reads, encodes and writes. `advance` is told how many bytes of [`Pass::length`] are done.
    ///
    /// Where nothing is encoded, one core is left alone: the digest of a disk, which whoever writes it as it is
    /// wants as well, is a chain that keeps a core busy for longer than all else takes.
    ///
    /// # Errors
    /// When a disk cannot be read, a file cannot be written, or somebody asked to stop.
    pub fn run(mut self, advance: &dyn Fn(u64), cancel: &Cancel) -> Result<Tally> {
        let cores = rayon::current_num_threads();
        let threads = if self.streams.is_empty() { cores.saturating_sub(1).max(1) } else { cores };
        let batches = self.batches();
        let mut tally = Tally::default();
        let (tracks, forms, streams) = (&self.tracks, &self.forms, &mut self.streams);
        // A batch of several disks is as many batches, and what waits is to take no more memory for that.
        let ahead = AHEAD / tracks.len().max(1);
        ordered_on(
            (threads, ahead),
            batches.len(),
            cancel,
            || forms.iter().map(|_| None).collect::<Vec<Option<Encoder>>>(),
            |encoders, job| {
                let mut done = Vec::with_capacity(tracks.len());
                for track in tracks {
                    let batch = track.batch(batches[job], forms, encoders, &done)?;
                    done.push(batch);
                }
                Ok(done)
            },
            |job, done| {
                for (track, form, stream) in streams.iter_mut() {
                    let Some(batch) = done.get(*track) else { continue };
                    stream.take(&batch.blocks_in(*form))?;
                }
                for batch in &done {
                    tally.encoded += batch.tally.encoded;
                    tally.shared += batch.tally.shared;
                }
                advance((job as u64 + 1) * BATCH);
                Ok(())
            },
        )?;
        Ok(tally)
    }
}

impl Track<'_> {
    /// Reads batch `number`, writes its plain bytes and encodes its blocks, as far as `others`, the
    /// same batch of other disks, do not have them.
    fn batch(
        &self,
        number: u64,
        forms: &[Form],
        encoders: &mut [Option<Encoder>],
        others: &[Batch],
    ) -> Result<Batch> {
        let start = number * BATCH;
        let end = (start + BATCH).min(self.disk.size());
        if start >= end {
            return Ok(Batch::default());
        }
        let mut data = self.disk.read_batch(&(start..end))?;
        for run in if self.plain.is_empty() { Vec::new() } else { data_runs(&data) } {
            for output in &self.plain {
                output.write_at(start + run.start as u64, &data[run.clone()])?;
            }
        }
        if self.forms.is_empty() {
            return Ok(Batch::default());
        }
        data.resize(data.len().next_multiple_of(CLUSTER_LENGTH), 0);
        let (mut blocks, mut tally) = (Vec::new(), Tally::default());
        for (at, chunk) in data.chunks(CLUSTER_LENGTH).enumerate() {
            if is_zero(chunk) {
                continue;
            }
            let number = start / CLUSTER + at as u64;
            let mut encoded: Vec<Option<Arc<Encoded>>> = vec![None; forms.len()];
            for other in others.iter().filter_map(|batch| batch.equal(number, chunk)) {
                for form in &self.forms {
                    if let (Some(mine @ None), Some(Some(theirs))) =
                        (encoded.get_mut(*form), other.forms.get(*form))
                    {
                        *mine = Some(Arc::clone(theirs));
                        tally.shared += 1;
                    }
                }
            }
            for form in &self.forms {
                if let (Some(slot @ None), Some(wanted), Some(encoder)) =
                    (encoded.get_mut(*form), forms.get(*form), encoders.get_mut(*form))
                {
                    let encoder = match encoder {
                        Some(encoder) => encoder,
                        None => encoder.insert(Encoder::new(wanted)?),
                    };
                    *slot = Some(Arc::new(encoder.encode(chunk)?));
                    tally.encoded += 1;
                }
            }
            let bytes = at * CLUSTER_LENGTH..(at + 1) * CLUSTER_LENGTH;
            blocks.push(BlockForms { number, bytes, forms: encoded });
        }
        Ok(Batch { data, blocks, tally })
    }
}

impl Batch {
    /// The block of this number, if its bytes are `chunk`.
    fn equal(&self, number: u64, chunk: &[u8]) -> Option<&BlockForms> {
        let at = self.blocks.binary_search_by_key(&number, |block| block.number).ok()?;
        let block = self.blocks.get(at)?;
        (self.data.get(block.bytes.clone()) == Some(chunk)).then_some(block)
    }

    /// The blocks as a stream takes them.
    fn blocks_in(&self, form: usize) -> Vec<Block<'_>> {
        // `Track::batch` leaves no block without its bytes and the forms that its streams want.
        let blocks = self.blocks.iter().filter_map(|block| {
            Some(Block {
                number: block.number,
                plain: self.data.get(block.bytes.clone())?,
                encoded: block.forms.get(form)?.as_deref()?,
            })
        });
        blocks.collect()
    }
}

/// One thread's encoder of one form.
enum Encoder {
    Cluster(Packer),
    Piece(Flusher),
}

impl Encoder {
    fn new(form: &Form) -> Result<Self> {
        Ok(match form {
            Form::Cluster { compression, known } => {
                Self::Cluster(Packer::new(*compression, known.clone())?)
            }
            Form::Piece { deflate, known } => Self::Piece(Flusher::new(*deflate, known.clone())),
        })
    }

    fn encode(&mut self, block: &[u8]) -> Result<Encoded> {
        Ok(match self {
            Self::Cluster(packer) => Encoded::Cluster(packer.pack(block)?),
            Self::Piece(flusher) => Encoded::Piece(flusher.piece(block)?),
        })
    }
}
