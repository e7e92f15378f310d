//! Single objects: read with a limit, written whole or in parts.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt as _;
use nodekiln_words::{Failure, ResultExt as _};
use object_store::{
    Error, GetResult, GetResultPayload, MultipartUpload, ObjectStoreExt as _, PutMode, PutPayload,
};

use super::Remote;
use tokio::task::JoinSet;

use super::parallel::Meter;
use super::trouble::{Tried, Trouble, trouble};

/// Objects of this length and shorter are written by one request, longer ones in parts of it: S3
/// takes ten thousand parts, 80 GiB.
const PART: usize = 8 << 20;
/// Parts of one object that are under way at the same time.
const PARTS_AT_ONCE: usize = 4;
/// How long an upload that was broken off may take to be taken back.
const ABORT_TIME: Duration = Duration::from_secs(5);
/// Bytes of a file that are read at once.
const PIECE: usize = 1 << 18;

/// What to make of an object's length.
#[derive(Clone, Copy)]
pub(super) enum Length {
    /// It is known.
    Is(u64),
    /// It is not, but nothing longer is wanted.
    AtMost(u64),
}

impl Remote {
    /// Gives the bytes of an object to `sink`, piece by piece; `false` where there is no such object.
    pub(super) fn download(
        &self,
        path: &str,
        length: Length,
        meter: Option<&Meter<'_>>,
        mut sink: impl FnMut(&[u8]) -> Tried<()>,
    ) -> Tried<bool> {
        let answer = self.wait(self.objects.get(&path.into()))?;
        let answer = match answer {
            Ok(answer) => answer,
            Err(Error::NotFound { .. }) => return Ok(false),
            // S3 says so of missing objects to whoever may not list the bucket.
            Err(Error::PermissionDenied { .. }) => {
                self.note_refusal(path);
                return Ok(false);
            }
            Err(error) => return Err(trouble(&error)),
        };
        let size = answer.meta.size;
        match length {
            Length::Is(expected) if size != expected => {
                return Err(Trouble::Object(format!("it has {size} bytes, not {expected}")));
            }
            Length::AtMost(most) if size > most => {
                return Err(Trouble::Object(format!(
                    "it has {size} bytes, more than any can have"
                )));
            }
            _ => {}
        }
        let mut left = size;
        let mut take = |bytes: &[u8]| -> Tried<()> {
            let more = || Trouble::Object(format!("it has more than the {size} bytes it promised"));
            left = left.checked_sub(bytes.len() as u64).ok_or_else(more)?;
            if let Some(meter) = meter {
                meter.add(bytes.len() as u64);
            }
            sink(bytes)
        };
        self.read(answer, &mut take)?;
        match left {
            0 => Ok(true),
            left => Err(Trouble::Object(format!("{left} of its {size} bytes are missing"))),
        }
    }

    fn read(&self, answer: GetResult, take: &mut dyn FnMut(&[u8]) -> Tried<()>) -> Tried<()> {
        match answer.payload {
            GetResultPayload::File(mut file, _) => {
                let mut piece = vec![0; PIECE];
                loop {
                    self.cancel.check()?;
                    let length = file.read(&mut piece).map_err(|error| {
                        Trouble::Remote(format!("an object cannot be read: {error}"))
                    })?;
                    match piece.get(..length).unwrap_or_default() {
                        [] => return Ok(()),
                        bytes => take(bytes)?,
                    }
                }
            }
            GetResultPayload::Stream(mut stream) => {
                while let Some(bytes) = self.wait(stream.next())? {
                    take(&bytes.map_err(|error| trouble(&error))?)?;
                }
                Ok(())
            }
        }
    }

    /// The bytes of a small object, where it is there.
    pub(super) fn get(&self, path: &str, most: u64) -> Tried<Option<Vec<u8>>> {
        let mut bytes = Vec::new();
        let there = self.download(path, Length::AtMost(most), None, |piece| {
            bytes.extend_from_slice(piece);
            Ok(())
        })?;
        Ok(there.then_some(bytes))
    }

    /// The length of an object, where it is there.
    pub(super) fn length_of(&self, path: &str) -> Tried<Option<u64>> {
        match self.wait(self.objects.head(&path.into()))? {
            Ok(meta) => Ok(Some(meta.size)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(Error::PermissionDenied { .. }) => {
                self.note_refusal(path);
                Ok(None)
            }
            Err(error) => Err(trouble(&error)),
        }
    }

    /// Writes `bytes` to `path`, whatever is there.
    pub(super) fn put(&self, path: &str, bytes: Vec<u8>) -> Tried<()> {
        self.put_with(path, &bytes.into(), PutMode::Overwrite)
    }

    fn put_with(&self, path: &str, bytes: &PutPayload, mode: PutMode) -> Tried<()> {
        let put = |mode: PutMode| {
            let bytes = bytes.clone();
            async move { self.objects.put_opts(&path.into(), bytes, mode.into()).await }
        };
        match self.wait(put(mode))? {
            Ok(_) => Ok(()),
            // Somebody else has just written the same: the name says what is in it.
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => Ok(()),
            // A server that cannot write on condition.
            Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
                let written = self.wait(put(PutMode::Overwrite))?;
                written.map(drop).map_err(|error| trouble(&error))
            }
            Err(error) => Err(trouble(&error)),
        }
    }

    /// Writes the file `from` to `path`; without `replace`, what is there stays.
    pub(super) fn upload(
        &self,
        path: &str,
        from: &Path,
        replace: bool,
        meter: &Meter<'_>,
    ) -> Tried<u64> {
        let cannot = || format!("cannot read {} to push it", from.display());
        let mut file = File::open(from).or_io(cannot)?;
        let size = file.metadata().or_io(cannot)?.len();
        if size <= PART as u64 {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).or_io(cannot)?;
            let mode = if replace { PutMode::Overwrite } else { PutMode::Create };
            self.put_with(path, &bytes.into(), mode)?;
            meter.add(size);
            return Ok(size);
        }
        let begun = self.wait(self.objects.put_multipart(&path.into()))?;
        let mut upload = begun.map_err(|error| trouble(&error))?;
        let mut parts = JoinSet::new();
        let outcome = self
            .parts(&mut file, &mut *upload, &mut parts, meter)
            .and_then(|()| self.wait(upload.complete())?.map_err(|error| trouble(&error)));
        match outcome {
            Ok(_) => Ok(size),
            Err(trouble) => {
                self.take_back(&mut *upload, parts);
                Err(trouble)
            }
        }
    }

    /// Sends `file` in parts and waits for all of them.
    fn parts(
        &self,
        file: &mut File,
        upload: &mut dyn MultipartUpload,
        parts: &mut JoinSet<object_store::Result<()>>,
        meter: &Meter<'_>,
    ) -> Tried<()> {
        loop {
            let mut piece = Vec::with_capacity(PART);
            Read::take(&mut *file, PART as u64)
                .read_to_end(&mut piece)
                .or_io(|| "cannot read a pack to push it".to_owned())?;
            let (length, last) = (piece.len(), piece.is_empty());
            let sent = self.wait(async {
                if !last {
                    parts.spawn(upload.put_part(piece.into()));
                }
                while parts.len() >= if last { 1 } else { PARTS_AT_ONCE } {
                    match parts.join_next().await {
                        Some(part) => part.map_err(Error::from)??,
                        None => break,
                    }
                }
                Ok(())
            })?;
            sent.map_err(|error: Error| trouble(&error))?;
            meter.add(length as u64);
            if last {
                return Ok(());
            }
        }
    }

    /// Ends an upload that was broken off: parts that were written cost money until they are taken
    /// back. If that fails too, the bucket's own rule for unfinished uploads has to do it.
    fn take_back(
        &self,
        upload: &mut dyn MultipartUpload,
        mut parts: JoinSet<object_store::Result<()>>,
    ) {
        let Some(runtime) = &self.runtime else { return };
        runtime.block_on(async {
            parts.shutdown().await;
            drop(tokio::time::timeout(ABORT_TIME, upload.abort()).await);
        });
    }

    /// Tells once that objects are not shown.
    fn note_refusal(&self, path: &str) {
        if !std::mem::replace(&mut self.state().refused, true) {
            self.warn(format!(
                "the remote store refuses to show {path}: what it refuses counts as missing; whoever \
                 may list the bucket is told what is really missing"
            ));
        }
    }
}

/// What writing to this machine's disk came to.
pub(super) fn here(
    failure: impl FnOnce(io::Error) -> Failure,
) -> impl FnOnce(io::Error) -> Trouble {
    move |error| Trouble::Here(failure(error))
}
