//! Names of the files in an initial RAM disk.
//!
//! The kernel takes cpio archives one behind the other, each plain or compressed, with zeros in between
//! (Documentation/driver-api/early-userspace/buffer-format.rst): as a rule processor microcode, plain, and
//! then all else, compressed.

use std::io::{BufRead, BufReader, ErrorKind, Read};

use cpio::newc;
use nodekiln_words::{Class, Failure, Result, ResultExt as _};

/// Most bytes that a compressed part may become: several times what a distribution with every driver has.
const MOST: u64 = 2 << 30;

/// The first bytes of what the kernel decompresses.
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
const GZIP: &[u8] = b"\x1f\x8b";
const XZ: &[u8] = b"\xfd7zXZ\0";
/// Compressions that are told and not read.
const OTHERS: [(&[u8], &str); 4] =
    [(b"\x02\x21\x4c\x18", "lz4"), (b"BZh", "bzip2"), (b"\x5d\0\0", "lzma"), (b"\x89LZO", "lzo")];

/// The names of all files, in order.
///
/// # Errors
/// [`Class::Input`] when it is damaged, [`Class::Unsupported`] for a compression that is not read.
pub(super) fn files(bytes: &[u8]) -> Result<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = bytes;
    loop {
        plain(&mut rest, &mut names)?;
        if rest.is_empty() {
            return Ok(names);
        }
        compressed(&mut rest, &mut names)?;
    }
}

/// Reads plain archives and zeros as far as there are any.
fn plain(source: &mut impl BufRead, names: &mut Vec<String>) -> Result<()> {
    loop {
        let ahead = match source.fill_buf() {
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            ahead => ahead.or_fail(Class::Input, || damaged(names))?,
        };
        match ahead {
            [0, ..] => {
                let zeros = ahead.iter().take_while(|byte| **byte == 0).count();
                source.consume(zeros);
            }
            // The magic number of every archive, 070701 or 070702.
            [b'0', ..] => archive(source, names)?,
            _ => return Ok(()),
        }
    }
}

/// Reads one archive up to its trailer.
fn archive(source: &mut impl BufRead, names: &mut Vec<String>) -> Result<()> {
    loop {
        let entry = newc::Reader::new(&mut *source).and_then(|entry| {
            let (name, last) = (entry.entry().name().to_owned(), entry.entry().is_trailer());
            entry.finish()?;
            Ok((name, last))
        });
        match entry.or_fail(Class::Input, || damaged(names))? {
            (_, true) => return Ok(()),
            (name, false) => names.push(name),
        }
    }
}

fn damaged(names: &[String]) -> String {
    format!("the initial RAM disk is damaged behind {} files", names.len())
}

/// Reads the archives in one compressed part, and moves `rest` behind it.
fn compressed(rest: &mut &[u8], names: &mut Vec<String>) -> Result<()> {
    let start = *rest;
    if start.starts_with(ZSTD) {
        let failed = || "decompress the initial RAM disk".to_owned();
        let decoder = zstd::stream::read::Decoder::with_buffer(&mut *rest).or_io(failed)?;
        return whole(decoder.single_frame(), names);
    }
    if start.starts_with(GZIP) {
        return whole(flate2::bufread::GzDecoder::new(&mut *rest), names);
    }
    if start.starts_with(XZ) {
        return whole(liblzma::bufread::XzDecoder::new(&mut *rest), names);
    }
    if let Some((_, name)) = OTHERS.iter().find(|(magic, _)| start.starts_with(magic)) {
        let text = format!("an initial RAM disk that is compressed with {name}");
        return Err(Failure::new(Class::Unsupported, text)
            .with_help("zstd, gzip and xz are read: COMPRESS=zstd in initramfs.conf(5)"));
    }
    Err(Failure::input(damaged(names)))
}

/// Reads all of a decompressed part.
fn whole(decoder: impl Read, names: &mut Vec<String>) -> Result<()> {
    let mut source = BufReader::with_capacity(1 << 18, decoder.take(MOST));
    plain(&mut source, names)?;
    let ahead = source.fill_buf().or_fail(Class::Input, || "decompress it".to_owned())?;
    if ahead.is_empty() && source.get_ref().limit() > 0 {
        return Ok(());
    }
    Err(Failure::input(damaged(names)))
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use proptest::prelude::*;

    use super::*;

    fn archive_of(names: &[&str]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for name in names {
            let content = name.repeat(3);
            let builder = newc::Builder::new(name).mode(0o100_644);
            let length = u32::try_from(content.len()).unwrap();
            let mut writer = builder.write(&mut bytes, length);
            writer.write_all(content.as_bytes()).unwrap();
            writer.finish().unwrap();
        }
        newc::trailer(bytes).unwrap()
    }

    fn zstd_of(bytes: &[u8]) -> Vec<u8> {
        zstd::encode_all(bytes, 3).unwrap()
    }

    fn gzip_of(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn xz_of(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn microcode_comes_first_and_the_rest_may_be_compressed_in_three_ways() {
        let early = archive_of(&["kernel/x86/microcode/GenuineIntel.bin"]);
        let main = archive_of(&["init", "usr/lib/modules/6.1/kernel/nvme.ko"]);
        let all =
            ["kernel/x86/microcode/GenuineIntel.bin", "init", "usr/lib/modules/6.1/kernel/nvme.ko"];
        for main in [main.clone(), zstd_of(&main), gzip_of(&main), xz_of(&main)] {
            let mut bytes = early.clone();
            bytes.extend([0; 512]);
            bytes.extend(&main);
            assert_eq!(files(&bytes).unwrap(), all);
            bytes.extend([0; 3]);
            bytes.extend(gzip_of(&archive_of(&["late"])));
            assert_eq!(files(&bytes).unwrap()[3], "late");
        }
    }

    #[test]
    fn what_is_cut_off_or_unknown_is_an_error() {
        let main = archive_of(&["init", "usr/bin/busybox"]);
        for whole in [main.clone(), zstd_of(&main), gzip_of(&main), xz_of(&main)] {
            let failure = files(&whole[..whole.len() - 20]).unwrap_err();
            assert_eq!(failure.class(), Class::Input, "{failure:?}");
        }
        let failure = files(b"\x02\x21\x4c\x18rest").unwrap_err();
        assert_eq!(failure.class(), Class::Unsupported);
        assert!(failure.to_string().contains("lz4"), "{failure}");
        assert_eq!(files(b"MZ\x90").unwrap_err().class(), Class::Input);
        assert_eq!(files(&zstd_of(b"MZ\x90")).unwrap_err().class(), Class::Input);
        assert!(files(b"").unwrap().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn any_bytes_end_in_names_or_an_error(
            at in any::<prop::sample::Index>(),
            byte in any::<u8>(),
            kind in 0..4_usize,
        ) {
            let main = archive_of(&["init", "usr/bin/busybox"]);
            let mut bytes =
                [main.clone(), zstd_of(&main), gzip_of(&main), xz_of(&main)][kind].clone();
            let at = at.index(bytes.len());
            bytes[at] = byte;
            let _ = files(&bytes);
        }
    }
}
