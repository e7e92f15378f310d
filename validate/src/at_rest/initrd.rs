//! Names of the files in an initial RAM disk.
//!
//! The kernel takes cpio archives one behind the other, each plain or compressed, with zeros in between
//! (Documentation/driver-api/early-userspace/buffer-format.rst): as a rule processor microcode, plain, and
//! then all else, compressed.

use std::io::{BufRead, BufReader, Cursor, ErrorKind, Read};

use cpio::newc;
use nodekiln_words::{Bytes, Cancel, Class, Failure, Result, ResultExt as _};

/// Most bytes that all compressed parts may become together: several times what a distribution with every
/// driver has.
const MOST: u64 = 2 << 30;
/// Length of the longest name that the kernel takes, with its zero byte (`PATH_MAX`).
const LONGEST_NAME: u32 = 4096;
/// Length of an entry's header, and where in it that of the name stands: eight hexadecimal digits.
const HEADER: usize = 110;
const NAME_LENGTH: std::ops::Range<usize> = 94..102;

/// The first bytes of what the kernel decompresses.
const ZSTD: &[u8] = b"\x28\xb5\x2f\xfd";
const GZIP: &[u8] = b"\x1f\x8b";
const XZ: &[u8] = b"\xfd7zXZ\0";
/// Compressions that are told and not read.
const OTHERS: [(&[u8], &str); 4] =
    [(b"\x02\x21\x4c\x18", "lz4"), (b"BZh", "bzip2"), (b"\x5d\0\0", "lzma"), (b"\x89LZO", "lzo")];

/// Tells `found` the names of all files, in order; none is kept here.
///
/// # Errors
/// [`Class::Input`] when it is damaged or takes more than 2 GiB unpacked, [`Class::Unsupported`] for a compression
/// that is not read, and when somebody asked to stop.
pub(super) fn files(bytes: &[u8], cancel: &Cancel, found: &mut dyn FnMut(&str)) -> Result<()> {
    read_within(MOST, bytes, cancel, found)
}

/// As [`files`], where compressed parts may become `most` bytes.
fn read_within(
    most: u64,
    bytes: &[u8],
    cancel: &Cancel,
    found: &mut dyn FnMut(&str),
) -> Result<()> {
    let mut reading = Reading { left: most, seen: 0, found, cancel };
    let mut rest = bytes;
    loop {
        reading.plain(&mut rest)?;
        if rest.is_empty() {
            return Ok(());
        }
        reading.compressed(&mut rest)?;
    }
}

/// An initial RAM disk being read.
struct Reading<'a> {
    /// Bytes that compressed parts may still become.
    left: u64,
    /// Files so far.
    seen: u64,
    found: &'a mut dyn FnMut(&str),
    cancel: &'a Cancel,
}

impl Reading<'_> {
    /// Reads plain archives and zeros as far as there are any.
    fn plain(&mut self, source: &mut impl BufRead) -> Result<()> {
        loop {
            let ahead = match source.fill_buf() {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                ahead => ahead.or_fail(Class::Input, || self.damaged())?,
            };
            match ahead {
                [0, ..] => {
                    let zeros = ahead.iter().take_while(|byte| **byte == 0).count();
                    source.consume(zeros);
                }
                // The magic number of every archive, 070701 or 070702.
                [b'0', ..] => self.archive(source)?,
                _ => return Ok(()),
            }
        }
    }

    /// Reads one archive up to its trailer.
    fn archive(&mut self, source: &mut impl BufRead) -> Result<()> {
        loop {
            self.cancel.check()?;
            let mut header = [0; HEADER];
            source.read_exact(&mut header).or_fail(Class::Input, || self.damaged())?;
            // The reader takes a name of any length into memory.
            let length = header.get(NAME_LENGTH).and_then(|digits| str::from_utf8(digits).ok());
            let length = length.and_then(|digits| u32::from_str_radix(digits, 16).ok());
            if length.is_none_or(|length| length > LONGEST_NAME) {
                return Err(Failure::input(self.damaged()));
            }
            let entry = newc::Reader::new(Cursor::new(header).chain(&mut *source));
            let entry = entry.or_fail(Class::Input, || self.damaged())?;
            let last = entry.entry().is_trailer();
            if !last {
                (self.found)(entry.entry().name());
                self.seen += 1;
            }
            entry.finish().or_fail(Class::Input, || self.damaged())?;
            if last {
                return Ok(());
            }
        }
    }

    fn damaged(&self) -> String {
        format!("the initial RAM disk is damaged behind {} files", self.seen)
    }

    /// Reads the archives in one compressed part, and moves `rest` behind it.
    fn compressed(&mut self, rest: &mut &[u8]) -> Result<()> {
        self.cancel.check()?;
        let start = *rest;
        if start.starts_with(ZSTD) {
            let failed = || "decompress the initial RAM disk".to_owned();
            let decoder = zstd::stream::read::Decoder::with_buffer(&mut *rest).or_io(failed)?;
            return self.whole(decoder.single_frame());
        }
        if start.starts_with(GZIP) {
            return self.whole(flate2::bufread::GzDecoder::new(&mut *rest));
        }
        if start.starts_with(XZ) {
            return self.whole(liblzma::bufread::XzDecoder::new(&mut *rest));
        }
        if let Some((_, name)) = OTHERS.iter().find(|(magic, _)| start.starts_with(magic)) {
            let text = format!("an initial RAM disk that is compressed with {name}");
            return Err(Failure::new(Class::Unsupported, text)
                .with_help("zstd, gzip and xz are read: COMPRESS=zstd in initramfs.conf(5)"));
        }
        Err(Failure::input(self.damaged()))
    }

    /// Reads all of a decompressed part.
    fn whole(&mut self, decoder: impl Read) -> Result<()> {
        let mut source = BufReader::with_capacity(1 << 18, decoder.take(self.left));
        let read = self.plain(&mut source);
        self.left = source.get_ref().limit();
        if self.left == 0 && read.as_ref().is_err_and(|failure| failure.class() == Class::Input) {
            return Err(too_large());
        }
        read?;
        let ahead = source.fill_buf().or_fail(Class::Input, || "decompress it".to_owned())?;
        match (ahead.is_empty(), self.left) {
            (true, 1..) => Ok(()),
            (true, 0) => Err(too_large()),
            (false, _) => Err(Failure::input(self.damaged())),
        }
    }
}

fn too_large() -> Failure {
    Failure::input(format!("the initial RAM disk takes more than {} unpacked", Bytes(MOST)))
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

    /// The names of all files.
    fn files(bytes: &[u8]) -> Result<Vec<String>> {
        let mut names = Vec::new();
        let cancel = Cancel::default();
        super::files(bytes, &cancel, &mut |name| names.push(name.to_owned())).map(|()| names)
    }

    #[test]
    fn parts_may_become_so_much_together_and_no_more() {
        let part = archive_of(&["a"]);
        let read = |most: usize, part: &[u8], count: usize| {
            let most = u64::try_from(most).unwrap();
            read_within(most, &part.repeat(count), &Cancel::default(), &mut |_| {})
        };
        for packed in [zstd_of(&part), gzip_of(&part), xz_of(&part)] {
            read(part.len() * 3 + 1, &packed, 3).unwrap();
            for most in [part.len() * 3, part.len() * 3 - 1, part.len() * 2 + 5] {
                let failure = read(most, &packed, 3).unwrap_err();
                assert_eq!(failure.class(), Class::Input);
                assert!(failure.to_string().contains("more than"), "{failure:?}");
            }
        }
        // A plain part is no larger than the file.
        read(0, &part, 3).unwrap();
    }

    #[test]
    fn a_name_that_the_kernel_would_not_take_is_refused_unread() {
        let named = |length: usize| archive_of(&["n".repeat(length).as_str()]);
        assert_eq!(files(&named(4095)).unwrap()[0].len(), 4095);
        let failure = files(&named(4096)).unwrap_err();
        assert_eq!(failure.class(), Class::Input);
        assert_eq!(failure.to_string(), "the initial RAM disk is damaged behind 0 files");
    }

    #[test]
    fn it_is_left_at_the_entry_at_which_somebody_asked_to_stop() {
        let (cancel, mut seen) = (Cancel::default(), 0);
        let bytes = zstd_of(&archive_of(&["a", "b", "c"]));
        let failure = super::files(&bytes, &cancel, &mut |_| {
            seen += 1;
            cancel.cancel();
        });
        assert_eq!((failure.unwrap_err().class(), seen), (Class::Interrupted, 1));
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
