//! A stream of bytes as zstd frames of a limited length, several of them in work at the same time.

use std::io::{self, Read, Write};

use rayon::prelude::*;
use zstd::zstd_safe;

use super::malformed;

/// Bytes in a frame before compression: enough for a good ratio, little enough to have many in memory.
const FRAME: usize = 4 << 20;

/// Frames in memory at the same time, whatever the number of processors.
const MOST_FRAMES: usize = 16;

/// zstd's level. Higher ones cost more time than they save on any network.
const LEVEL: i32 = 3;

/// Frames in work at the same time: enough that no processor waits for the next.
fn window() -> usize {
    (2 * rayon::current_num_threads()).min(MOST_FRAMES)
}

/// Compresses what is written to it.
pub(super) struct FrameWriter<W: Write> {
    out: W,
    pending: Vec<u8>,
    full: Vec<Vec<u8>>,
    length: u64,
}

impl<W: Write> FrameWriter<W> {
    pub(super) fn new(out: W) -> Self {
        Self { out, pending: Vec::with_capacity(FRAME), full: Vec::new(), length: 0 }
    }

    /// Ends the last frame. Returns what was written to, and the length before compression.
    pub(super) fn finish(mut self) -> io::Result<(W, u64)> {
        if !self.pending.is_empty() {
            self.full.push(std::mem::take(&mut self.pending));
        }
        self.flush_full()?;
        self.out.flush()?;
        Ok((self.out, self.length))
    }

    fn flush_full(&mut self) -> io::Result<()> {
        let frames: Vec<Vec<u8>> = self
            .full
            .par_iter()
            .map(|bytes| zstd::bulk::compress(bytes, LEVEL))
            .collect::<io::Result<_>>()?;
        self.full.clear();
        frames.iter().try_for_each(|frame| self.out.write_all(frame))
    }
}

impl<W: Write> Write for FrameWriter<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let taken = bytes.len().min(FRAME - self.pending.len());
        self.pending.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        self.length += taken as u64;
        if self.pending.len() == FRAME {
            self.full.push(std::mem::replace(&mut self.pending, Vec::with_capacity(FRAME)));
            if self.full.len() >= window() {
                self.flush_full()?;
            }
        }
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Gives what frames hold, and no more than was announced.
pub(super) struct FrameReader<R: Read> {
    input: R,
    /// Compressed bytes that were read and belong to frames to come.
    ahead: Vec<u8>,
    ended: bool,
    /// Decompressed frames, the last one first, and how much of that one was given.
    ready: Vec<Vec<u8>>,
    given: usize,
    /// Bytes that frames may still hold.
    left: u64,
}

impl<R: Read> FrameReader<R> {
    /// Reads frames that hold `length` bytes.
    pub(super) fn new(input: R, length: u64) -> Self {
        Self { input, ahead: Vec::new(), ended: false, ready: Vec::new(), given: 0, left: length }
    }

    /// Fails unless everything that was announced was given, and nothing follows.
    pub(super) fn end(mut self) -> io::Result<()> {
        match self.read(&mut [0])? {
            0 if self.left == 0 => Ok(()),
            _ => Err(malformed("the pack has another length than its record says")),
        }
    }

    /// Decompresses the next frames.
    fn refill(&mut self) -> io::Result<()> {
        let mut frames = Vec::new();
        while frames.len() < window() {
            match self.frame()? {
                Some(frame) => frames.push(frame),
                None => break,
            }
        }
        let decompress = |(frame, length): &(Vec<u8>, usize)| {
            let bytes = zstd::bulk::decompress(frame, *length)
                .map_err(|error| malformed(format!("a frame cannot be read: {error}")))?;
            (bytes.len() == *length).then_some(bytes).ok_or_else(|| malformed("a frame is short"))
        };
        self.ready = frames.par_iter().map(decompress).collect::<io::Result<_>>()?;
        self.ready.reverse();
        self.given = 0;
        Ok(())
    }

    /// The next frame, and the length that it has decompressed.
    fn frame(&mut self) -> io::Result<Option<(Vec<u8>, usize)>> {
        let most = zstd_safe::compress_bound(FRAME);
        loop {
            if let Ok(length) = zstd_safe::find_frame_compressed_size(&self.ahead)
                && !self.ahead.is_empty()
            {
                let rest = self.ahead.split_off(length.min(self.ahead.len()));
                let frame = std::mem::replace(&mut self.ahead, rest);
                let content = zstd_safe::get_frame_content_size(&frame).ok().flatten();
                let content = content.filter(|content| *content <= FRAME as u64);
                let content = content.ok_or_else(|| malformed("a frame has no length"))?;
                let left = self.left.checked_sub(content);
                self.left = left.ok_or_else(|| malformed("a frame holds more than announced"))?;
                return Ok(Some((frame, usize::try_from(content).map_err(io::Error::other)?)));
            }
            if self.ended && self.ahead.is_empty() {
                return Ok(None);
            }
            if self.ended || self.ahead.len() > most {
                return Err(malformed("it is not made of whole zstd frames"));
            }
            let more = (FRAME / 4) as u64;
            self.ended = self.input.by_ref().take(more).read_to_end(&mut self.ahead)? == 0;
        }
    }
}

impl<R: Read> Read for FrameReader<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            if let Some(frame) = self.ready.last() {
                let rest = frame.get(self.given..).unwrap_or_default();
                if !rest.is_empty() {
                    let length = rest.len().min(buffer.len());
                    let (target, source) = (buffer.get_mut(..length), rest.get(..length));
                    if let (Some(target), Some(source)) = (target, source) {
                        target.copy_from_slice(source);
                    }
                    self.given += length;
                    return Ok(length);
                }
                self.ready.pop();
                self.given = 0;
                continue;
            }
            self.refill()?;
            if self.ready.is_empty() {
                return Ok(0);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framed(bytes: &[u8]) -> (Vec<u8>, u64) {
        let mut writer = FrameWriter::new(Vec::new());
        writer.write_all(bytes).unwrap();
        writer.finish().unwrap()
    }

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|n| u8::try_from((n * n / 7) % 251).unwrap()).collect()
    }

    #[test]
    fn many_frames_come_back_as_they_were_and_zstd_reads_them() {
        let bytes = bytes(FRAME * (MOST_FRAMES + 2) + 5);
        let (packed, length) = framed(&bytes);
        assert_eq!(length, bytes.len() as u64);
        let mut reader = FrameReader::new(&packed[..], length);
        let mut back = vec![0; bytes.len()];
        reader.read_exact(&mut back).unwrap();
        assert!(back == bytes);
        reader.end().unwrap();
        assert!(zstd::stream::decode_all(&packed[..]).unwrap() == bytes);
    }

    #[test]
    fn more_than_announced_is_refused_before_it_is_unpacked() {
        let (packed, length) = framed(&bytes(FRAME + 1));
        for announced in [0, 1, length - 1] {
            let mut reader = FrameReader::new(&packed[..], announced);
            let error = reader.read_to_end(&mut Vec::new()).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData, "{announced}");
        }
        let mut reader = FrameReader::new(&packed[..], length + 1);
        reader.read_to_end(&mut Vec::new()).unwrap();
        reader.end().unwrap_err();
        // A frame whose header promises gigabytes is not believed either.
        let bomb = zstd::bulk::compress(&vec![0; FRAME + 1], LEVEL).unwrap();
        let mut reader = FrameReader::new(&bomb[..], u64::MAX);
        assert!(reader.read_to_end(&mut Vec::new()).unwrap_err().to_string().contains("no length"));
    }

    proptest::proptest! {
        #[test]
        fn bytes_of_any_kind_end_in_a_value_or_an_error(bytes: Vec<u8>, at: usize, flip: u8) {
            let mut out = Vec::new();
            let _ = FrameReader::new(&bytes[..], 1 << 20).read_to_end(&mut out);
            let (mut packed, length) = framed(&bytes);
            if !packed.is_empty() {
                let at = at % packed.len();
                packed[at] ^= flip;
                let _ = FrameReader::new(&packed[..], length).read_to_end(&mut out);
                packed.truncate(at);
                let mut reader = FrameReader::new(&packed[..], length);
                let read = reader.read_to_end(&mut out);
                proptest::prop_assert!(read.and_then(|_| reader.end()).is_err());
            }
        }
    }
}
