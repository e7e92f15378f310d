//! Blocks as raw deflate that can be strung together: each starts from an empty window and ends in a
//! full flush, at a byte's boundary and without final bit (RFC 1951, section 3.2.3; zlib's
//! `Z_FULL_FLUSH`).
//!
//! Such a piece is all that a VMDK grain and a gzip member need, each with its own head and
//! [`END`] behind it, so that one compression serves both. One with a window of 4 KiB serves a qcow2 file
//! too, whose readers keep no more, and takes about a fifteenth more room.

use std::sync::Arc;

use nodekiln_words::{Failure, Result, Sha256};
use zlib_rs::{Deflate as Compressor, DeflateConfig, DeflateFlush, Status};

use crate::qcow2::{self, Clusters, Found};

/// The final, empty deflate block that ends a string of pieces.
pub(crate) const END: [u8; 2] = [3, 0];

/// Room beyond a block's own length: stored deflate blocks take 5 bytes for each 16 KiB or more, the flush
/// 5 more.
const SLACK: usize = 4096;

/// How pieces are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deflate {
    /// Level, 1 to 9.
    level: i32,
    window: Window,
}

/// How far back a match may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Window {
    /// 4 KiB.
    Narrow,
    /// 32 KiB.
    Wide,
}

impl Deflate {
    /// With a window of 32 KiB, at a level of 1 to 9: for VMDK grains and gzip members.
    #[must_use]
    pub const fn wide(level: i32) -> Self {
        Self { level, window: Window::Wide }
    }

    /// With a window of 4 KiB, at a level of 1 to 9: for qcow2 clusters too.
    #[must_use]
    pub const fn narrow(level: i32) -> Self {
        Self { level, window: Window::Narrow }
    }

    /// In zlib's words; a raw stream has its window's bits below zero.
    fn config(self) -> DeflateConfig {
        let bits = match self.window {
            Window::Narrow => qcow2::WINDOW_BITS,
            Window::Wide => 15,
        };
        DeflateConfig {
            level: self.level.clamp(1, 9),
            window_bits: -bits,
            ..DeflateConfig::default()
        }
    }
}

/// A block as a piece of deflate, with the checksums of what it holds.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// The piece.
    pub(crate) bytes: Vec<u8>,
    /// CRC-32 of the block, as gzip wants it.
    pub(crate) crc: u32,
    /// Adler-32 of the block, as zlib wants it.
    pub(crate) adler: u32,
    /// Digests of the block and of the piece with its [`END`], where they are to be noted.
    pub(crate) noted: Option<(Sha256, Sha256)>,
}

impl Piece {
    fn of(block: &[u8], bytes: Vec<u8>, noted: Option<(Sha256, Sha256)>) -> Self {
        let (crc, adler) = (crc32fast::hash(block), simd_adler32::adler32(&block));
        Self { bytes, crc, adler, noted }
    }

    /// As a stream of its own.
    pub(crate) fn ended(&self) -> Vec<u8> {
        [&self.bytes[..], &END].concat()
    }
}

/// One thread's compressor.
pub(crate) struct Flusher {
    deflate: Box<Compressor>,
    buffer: Vec<u8>,
    known: Option<Arc<Clusters>>,
}

impl Flusher {
    /// What is `known` of earlier qcow2 files is not compressed again.
    pub(crate) fn new(deflate: Deflate, known: Option<Arc<Clusters>>) -> Self {
        let deflate = Box::new(Compressor::new_with_config(deflate.config()));
        Self { deflate, buffer: Vec::new(), known }
    }

    /// Compresses `block`, unless an earlier file has it.
    pub(crate) fn piece(&mut self, block: &[u8]) -> Result<Piece> {
        let Some(known) = &self.known else {
            return Ok(Piece::of(block, self.compress(block)?, None));
        };
        let content = Sha256::of(block);
        if let Some(Found::Compressed(mut bytes, digest)) = known.find(&content) {
            bytes.truncate(bytes.len() - END.len().min(bytes.len()));
            return Ok(Piece::of(block, bytes, Some((content, digest))));
        }
        let mut piece = Piece::of(block, self.compress(block)?, None);
        piece.noted = Some((content, Sha256::of(piece.ended())));
        Ok(piece)
    }

    fn compress(&mut self, block: &[u8]) -> Result<Vec<u8>> {
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
        Ok(bytes.to_vec())
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
        let (wide, narrow) = ((1..=9).map(Deflate::wide), (1..=9).map(Deflate::narrow));
        for (deflate, bits) in wide.map(|wide| (wide, 15)).chain(narrow.map(|narrow| (narrow, 12)))
        {
            let mut flusher = Flusher::new(deflate, None);
            let pieces: Vec<_> = blocks.iter().map(|block| flusher.piece(block).unwrap()).collect();
            let alone: Vec<_> = blocks
                .iter()
                .map(|block| Flusher::new(deflate, None).piece(block).unwrap())
                .collect();
            assert_eq!(pieces, alone);
            let mut stream: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes.clone()).collect();
            stream.extend(END);
            let mut out = vec![0; 200_000];
            let mut inflate = Inflate::new(false, bits);
            let status = inflate.decompress(&stream, &mut out, InflateFlush::Finish).unwrap();
            assert_eq!(status, Status::StreamEnd);
            out.truncate(usize::try_from(inflate.total_out()).unwrap());
            assert!(out == blocks.concat(), "{deflate:?}");
        }
    }
}
