//! Blocks as raw deflate that can be strung together: each starts from an empty window and ends in a
//! full flush, at a byte's boundary and without final bit (RFC 1951, section 3.2.3; zlib's
//! `Z_FULL_FLUSH`).
//!
//! Such a piece is all that a VMDK grain and a gzip member need, each with its own head and
//! [`END`] behind it, so that one compression serves both. The window is 32 KiB: a qcow2 file, whose
//! readers keep 4 KiB, cannot share it.

use nodekiln_words::{Failure, Result};
use zlib_rs::{Deflate, DeflateConfig, DeflateFlush, Status};

/// The final, empty deflate block that ends a string of pieces.
pub(crate) const END: [u8; 2] = [3, 0];

/// Binary logarithm of the window.
const WINDOW_BITS: i32 = 15;

/// Room beyond a block's own length: stored deflate blocks take 5 bytes for each 16 KiB or more, the flush
/// 5 more.
const SLACK: usize = 4096;

/// A block as a piece of deflate, with the checksums of what it holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// The piece.
    pub(crate) bytes: Vec<u8>,
    /// CRC-32 of the block, as gzip wants it.
    pub(crate) crc: u32,
    /// Adler-32 of the block, as zlib wants it.
    pub(crate) adler: u32,
}

/// One thread's compressor.
pub(crate) struct Flusher {
    deflate: Box<Deflate>,
    buffer: Vec<u8>,
}

impl Flusher {
    /// At a level of 1 to 9.
    pub(crate) fn new(level: i32) -> Self {
        let level = level.clamp(1, 9);
        let config = DeflateConfig { level, window_bits: -WINDOW_BITS, ..DeflateConfig::default() };
        Self { deflate: Box::new(Deflate::new_with_config(config)), buffer: Vec::new() }
    }

    /// Compresses `block`.
    pub(crate) fn piece(&mut self, block: &[u8]) -> Result<Piece> {
        self.buffer.resize(block.len() + block.len() / 8 + SLACK, 0);
        self.deflate.reset();
        let status = self.deflate.compress(block, &mut self.buffer, DeflateFlush::FullFlush);
        match status {
            Ok(Status::Ok) => {}
            Ok(_) => return Err(Failure::io("deflate left a block unfinished")),
            Err(error) => return Err(Failure::io(format!("deflate failed: {}", error.as_str()))),
        }
        let length = usize::try_from(self.deflate.total_out()).unwrap_or(usize::MAX);
        let bytes = self.buffer.get(..length).filter(|bytes| bytes.ends_with(&[0, 0, 0xFF, 0xFF]));
        let bytes = bytes.ok_or_else(|| Failure::io("deflate left a block without its flush"))?;
        Ok(Piece {
            bytes: bytes.to_vec(),
            crc: crc32fast::hash(block),
            adler: simd_adler32::adler32(&block),
        })
    }
}

#[cfg(test)]
mod tests {
    use zlib_rs::{Inflate, InflateFlush};

    use super::*;

    #[test]
    fn pieces_strung_together_are_one_stream_and_each_starts_from_nothing() {
        let blocks: [Vec<u8>; 4] = [
            (0..65_536_u32).flat_map(|n| (n / 3).to_le_bytes()).take(65_536).collect(),
            vec![0; 65_536],
            (0..65_536_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect(),
            b"short".to_vec(),
        ];
        for level in 1..=9 {
            let mut flusher = Flusher::new(level);
            let pieces: Vec<_> = blocks.iter().map(|block| flusher.piece(block).unwrap()).collect();
            let alone: Vec<_> =
                blocks.iter().map(|block| Flusher::new(level).piece(block).unwrap()).collect();
            assert_eq!(pieces, alone);
            let mut stream: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.clone()).collect();
            stream.extend(END);
            let mut out = vec![0; 200_000];
            let mut inflate = Inflate::new(false, 15);
            let status = inflate.decompress(&stream, &mut out, InflateFlush::Finish).unwrap();
            assert_eq!(status, Status::StreamEnd);
            out.truncate(usize::try_from(inflate.total_out()).unwrap());
            assert!(out == blocks.concat(), "level {level}");
        }
    }
}
