//! Compressing and decompressing one cluster.

use nodekiln_words::{Failure, Result, ResultExt};
use zlib_rs::{Deflate as Raw, DeflateConfig, DeflateFlush, Inflate, InflateFlush, Status};

use crate::flushed::{Deflate, Flusher};

/// Binary logarithm of the deflate window. Streaming readers keep 4 KiB of history and refuse
/// matches that reach back further, so this is a rule of the format and no matter of taste.
pub(crate) const WINDOW_BITS: i32 = 12;

/// Deflate level. Of zlib-rs 0.6 on ELF, Python and text, level 5 is 9 % slower than 4 and 1 %
/// smaller; from 7 on the time doubles for half a percent.
const DEFAULT_ZLIB_LEVEL: i32 = 5;

/// zstd level: its own default.
const DEFAULT_ZSTD_LEVEL: i32 = 3;

/// Room for a compressed cluster beyond its own length, so that the compressor always ends.
const SLACK: usize = 4096;

/// How clusters are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compression {
    /// Not at all.
    None,
    /// Raw deflate with a window of 4 KiB; every reader knows it. Levels 1 to 9.
    Zlib {
        /// Level.
        level: i32,
    },
    /// Such deflate in pieces that VMDK grains and gzip members can be made of as well. Levels 1 to 9.
    Shared {
        /// Level.
        level: i32,
    },
    /// One zstd frame for each cluster; readers need QEMU 5.1 or later. Levels 1 to 19.
    Zstd {
        /// Level.
        level: i32,
    },
}

impl Compression {
    /// zlib at the level that was measured best.
    #[must_use]
    pub fn zlib() -> Self {
        Self::Zlib { level: DEFAULT_ZLIB_LEVEL }
    }

    /// zstd at its default level.
    #[must_use]
    pub fn zstd() -> Self {
        Self::Zstd { level: DEFAULT_ZSTD_LEVEL }
    }

    /// The byte at offset 104 of the header.
    pub(crate) fn type_byte(self) -> u8 {
        u8::from(matches!(self, Self::Zstd { .. }))
    }
}

/// One thread's compressor, kept from cluster to cluster.
pub(crate) enum Compressor {
    None,
    Zlib { deflate: Box<Raw>, buffer: Vec<u8> },
    Shared(Flusher),
    Zstd { compressor: zstd::bulk::Compressor<'static>, buffer: Vec<u8> },
}

impl Compressor {
    pub(crate) fn new(compression: Compression) -> Result<Self> {
        match compression {
            Compression::None => Ok(Self::None),
            Compression::Zlib { level } => {
                let level = level.clamp(1, 9);
                let config =
                    DeflateConfig { level, window_bits: -WINDOW_BITS, ..DeflateConfig::default() };
                let deflate = Box::new(Raw::new_with_config(config));
                Ok(Self::Zlib { deflate, buffer: Vec::new() })
            }
            Compression::Shared { level } => {
                Ok(Self::Shared(Flusher::new(Deflate::narrow(level), None)))
            }
            Compression::Zstd { level } => {
                let compressor = zstd::bulk::Compressor::new(level.clamp(1, 19))
                    .or_io(|| "cannot set up the zstd compressor".to_owned())?;
                Ok(Self::Zstd { compressor, buffer: Vec::new() })
            }
        }
    }

    /// Appends the compressed `cluster` to `out` if that is shorter than the cluster itself.
    /// Returns the bytes appended, 0 if compressing did not help.
    pub(crate) fn compress(&mut self, cluster: &[u8], out: &mut Vec<u8>) -> Result<usize> {
        let (length, buffer) = match self {
            Self::None => return Ok(0),
            Self::Shared(flusher) => {
                let stream = flusher.piece(cluster)?.ended();
                let shorter = stream.len() < cluster.len();
                out.extend(stream.iter().filter(|_| shorter));
                return Ok(if shorter { stream.len() } else { 0 });
            }
            Self::Zlib { deflate, buffer } => {
                buffer.resize(cluster.len() + cluster.len() / 8 + SLACK, 0);
                deflate.reset();
                match deflate.compress(cluster, buffer, DeflateFlush::Finish) {
                    Ok(Status::StreamEnd) => (deflate.total_out(), buffer),
                    Ok(_) => return Ok(0), // did not even fit into the larger buffer
                    Err(error) => {
                        return Err(Failure::io(format!("deflate failed: {}", error.as_str())));
                    }
                }
            }
            Self::Zstd { compressor, buffer } => {
                buffer.resize(zstd::zstd_safe::compress_bound(cluster.len()), 0);
                let length = compressor
                    .compress_to_buffer(cluster, buffer.as_mut_slice())
                    .or_io(|| "zstd compression failed".to_owned())?;
                (length as u64, buffer)
            }
        };
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        match buffer.get(..length) {
            Some(compressed) if length < cluster.len() => {
                out.extend_from_slice(compressed);
                Ok(length)
            }
            _ => Ok(0),
        }
    }
}

/// Decompresses one cluster into the whole of `cluster`; `bytes` may be followed by others' bytes.
///
/// # Errors
/// When the stream is damaged, or holds less than a cluster.
pub(crate) fn decompress(type_byte: u8, bytes: &[u8], cluster: &mut [u8]) -> Result<()> {
    let length = if type_byte == 0 { inflate(bytes, cluster)? } else { unzstd(bytes, cluster)? };
    if length == cluster.len() {
        Ok(())
    } else {
        Err(Failure::input(format!("holds {length} bytes in place of {}", cluster.len())))
    }
}

fn inflate(bytes: &[u8], cluster: &mut [u8]) -> Result<usize> {
    let mut inflate = Inflate::new(false, WINDOW_BITS.unsigned_abs().try_into().unwrap_or(12));
    // A stream without final block that fills the cluster is what some writers leave behind.
    match inflate.decompress(bytes, cluster, InflateFlush::Finish) {
        Ok(_) => Ok(usize::try_from(inflate.total_out()).unwrap_or(usize::MAX)),
        Err(error) => Err(Failure::input(format!("damaged deflate stream: {}", error.as_str()))),
    }
}

fn unzstd(bytes: &[u8], cluster: &mut [u8]) -> Result<usize> {
    let damaged = |error| Failure::input("damaged zstd frame").with_source(error);
    let mut decoder = zstd::stream::raw::Decoder::new().map_err(damaged)?;
    let mut input = zstd::stream::raw::InBuffer::around(bytes);
    let mut output = zstd::stream::raw::OutBuffer::around(cluster);
    loop {
        let (before, had) = (input.pos(), output.pos());
        let hint = zstd::stream::raw::Operation::run(&mut decoder, &mut input, &mut output)
            .map_err(damaged)?;
        let stuck = input.pos() == before && output.pos() == had;
        if hint == 0 || stuck {
            return Ok(output.pos());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    /// Text-like bytes with matches at all distances.
    fn sample() -> Vec<u8> {
        let mut state = 1_u32;
        let mut bytes = Vec::new();
        while bytes.len() < 65_536 {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let word = state >> 22;
            bytes.extend(format!("word{word} ").as_bytes());
        }
        bytes.truncate(65_536);
        bytes
    }

    #[test]
    fn each_compressor_makes_the_round_trip_and_shrinks() {
        for compression in
            [Compression::zlib(), Compression::Shared { level: 4 }, Compression::zstd()]
        {
            let mut out = Vec::new();
            let mut compressor = Compressor::new(compression).unwrap();
            let length = compressor.compress(&sample(), &mut out).unwrap();
            assert!(length > 0 && length < 40_000, "{compression:?}: {length}");
            out.extend([0xA5; 700]); // the next cluster's bytes
            let mut cluster = vec![0; 65_536];
            decompress(compression.type_byte(), &out, &mut cluster).unwrap();
            assert!(cluster == sample());
        }
    }

    /// Decompresses raw deflate with zlib and a window of 4 KiB, 512 bytes at a time, so that the history is
    /// the window alone. (zlib-rs takes whatever window a stream wants.)
    const STREAMING_READER: &str = "import sys, zlib\n\
        reader, rest, out = zlib.decompressobj(-12), sys.stdin.buffer.read(), b''\n\
        while not reader.eof:\n \
          out += reader.decompress(rest, 512)\n \
          rest = reader.unconsumed_tail\n\
        sys.stdout.buffer.write(out)";

    #[test]
    fn no_match_of_any_level_reaches_back_more_than_4_kib() {
        let read = |stream: &[u8]| {
            let mut command = Command::new("python3");
            command.args(["-c", STREAMING_READER]).stdin(Stdio::piped()).stdout(Stdio::piped());
            let mut reader = command.stderr(Stdio::piped()).spawn().expect("python3 is needed");
            reader.stdin.take().unwrap().write_all(stream).unwrap();
            reader.wait_with_output().unwrap()
        };
        let shared = (1..=9).map(|level| Compression::Shared { level });
        for compression in (1..=9).map(|level| Compression::Zlib { level }).chain(shared) {
            let mut out = Vec::new();
            let mut compressor = Compressor::new(compression).unwrap();
            assert!(compressor.compress(&sample(), &mut out).unwrap() > 0);
            let told = read(&out);
            let error = String::from_utf8_lossy(&told.stderr);
            assert!(told.stdout == sample(), "{compression:?}: {error}");
        }
        let wide = Flusher::new(Deflate::wide(6), None).piece(&sample()).unwrap().ended();
        let error = String::from_utf8_lossy(&read(&wide).stderr).into_owned();
        assert!(error.contains("invalid distance too far back"), "{error}");
    }

    #[test]
    fn noise_is_left_as_it_is() {
        let mut state = 7_u64;
        let noise: Vec<u8> = std::iter::repeat_with(|| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state.to_le_bytes()[3]
        })
        .take(65_536)
        .collect();
        for compression in
            [Compression::zlib(), Compression::Zlib { level: 1 }, Compression::zstd()]
        {
            let mut out = Vec::new();
            let mut compressor = Compressor::new(compression).unwrap();
            assert_eq!(compressor.compress(&noise, &mut out).unwrap(), 0);
            assert!(out.is_empty());
        }
    }

    #[test]
    fn damaged_streams_are_errors() {
        for type_byte in [0, 1] {
            assert!(decompress(type_byte, &[0xFF; 100], &mut [0; 65_536]).is_err());
            assert!(decompress(type_byte, &[], &mut [0; 65_536]).is_err());
        }
    }
}
