//! Reads what an ELF file needs in order to start: its loader, its libraries, and versions of their symbols.
//!
//! Source: System V ABI, chapters 4 and 5; ELF-64 object file format 1.5; Linux Standard Base Core 5.0,
//! chapter 10.7 (symbol versions). Only 64-bit
//! little-endian files are read, which is what amd64 has.

use std::collections::BTreeSet;
use std::io::Read as _;
use std::path::Path;

use nodekiln_words::{Failure, Result, ResultExt as _};

/// What an executable or library needs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Needs {
    /// The loader (`PT_INTERP`); static programs and libraries have none.
    pub loader: Option<String>,
    /// Names of libraries (`DT_NEEDED`), in the file's order.
    pub libraries: Vec<String>,
    /// Versions of symbols that libraries must have (`DT_VERNEED`), such as `GLIBC_2.34`.
    pub versions: BTreeSet<String>,
}

const MAGIC: &[u8] = b"\x7fELF\x02\x01";
const PT_LOAD: u32 = 1;
const PT_DYNAMIC: u32 = 2;
const PT_INTERP: u32 = 3;
const DT_NULL: u64 = 0;
const DT_NEEDED: u64 = 1;
const DT_STRTAB: u64 = 5;
const DT_VERNEED: u64 = 0x6fff_fffe;
const DT_VERNEEDNUM: u64 = 0x6fff_ffff;

/// Whether `bytes` begin as a 64-bit little-endian ELF file does.
#[must_use]
pub fn is_elf(bytes: &[u8]) -> bool {
    bytes.starts_with(MAGIC)
}

/// Whether a file with this `head` (its first 20 bytes suffice) is an executable for amd64, position
/// independent or not (`e_type` EXEC or DYN, `e_machine` X86_64).
#[must_use]
pub fn is_executable(head: &[u8]) -> bool {
    is_elf(head) && matches!(number(head, 16, 2), Some(2 | 3)) && number(head, 18, 2) == Some(62)
}

/// Refuses a file that is no executable for amd64, an error page in place of a download for instance.
/// `name` is what the failure calls it.
///
/// # Errors
/// When it is none, or cannot be read.
pub fn check_executable(name: &str, file: &Path) -> Result<()> {
    /// Bytes up to and with `e_machine`.
    const HEAD: u64 = 20;
    let mut head = Vec::new();
    fs_err::File::open(file)
        .and_then(|file| file.take(HEAD).read_to_end(&mut head))
        .or_io(|| format!("reading {name}"))?;
    if is_executable(&head) {
        return Ok(());
    }
    Err(Failure::input(format!("{name} is no executable for amd64"))
        .with_help("expected a 64-bit x86 ELF program; a download may have been an error page"))
}

/// What the ELF file with these bytes needs.
///
/// # Errors
/// When the bytes are no such file or end too early.
pub fn needs(bytes: &[u8]) -> Result<Needs> {
    if !is_elf(bytes) {
        return Err(Failure::input("no 64-bit little-endian ELF file"));
    }
    read(bytes).ok_or_else(|| Failure::input("ELF file with tables outside of itself"))
}

struct Segment {
    kind: u32,
    offset: u64,
    address: u64,
    size: u64,
}

fn read(bytes: &[u8]) -> Option<Needs> {
    let segments = segments(bytes)?;
    let content = |segment: &Segment| slice(bytes, segment.offset, segment.size);
    let of_kind = |kind| segments.iter().find(move |segment| segment.kind == kind);
    let loader = match of_kind(PT_INTERP) {
        Some(segment) => Some(text(content(segment)?, 0)?),
        None => None,
    };
    let Some(dynamic) = of_kind(PT_DYNAMIC) else {
        return Some(Needs { loader, ..Needs::default() });
    };
    let entries = content(dynamic)?
        .chunks_exact(16)
        .map(|entry| Some((number(entry, 0, 8)?, number(entry, 8, 8)?)))
        .collect::<Option<Vec<_>>>()?;
    let entries = entries.split(|(tag, _)| *tag == DT_NULL).next().unwrap_or_default();
    let value = |wanted| entries.iter().find(|(tag, _)| *tag == wanted).map(|(_, value)| *value);
    let names: Vec<u64> =
        entries.iter().filter(|(tag, _)| *tag == DT_NEEDED).map(|(_, value)| *value).collect();
    let mut needs = Needs { loader, ..Needs::default() };
    let tables = value(DT_VERNEED).zip(value(DT_VERNEEDNUM));
    if names.is_empty() && tables.is_none() {
        return Some(needs);
    }
    let strings = offset_of(&segments, value(DT_STRTAB)?)?;
    let string = |name: u64| text(bytes, usize::try_from(strings.checked_add(name)?).ok()?);
    needs.libraries = names.into_iter().map(string).collect::<Option<_>>()?;
    if let Some((address, count)) = tables {
        for name in version_names(bytes, offset_of(&segments, address)?, count)? {
            needs.versions.insert(string(name)?);
        }
    }
    Some(needs)
}

/// Where in the string table the names of needed versions stand: `count` records of libraries
/// (`Elfxx_Verneed`) from `offset` on, each with a chain of versions (`Elfxx_Vernaux`).
fn version_names(bytes: &[u8], offset: u64, count: u64) -> Option<Vec<u64>> {
    let field = |at: u64, place: u64, size| {
        number(bytes, usize::try_from(at.checked_add(place)?).ok()?, size)
    };
    let mut names = Vec::new();
    let mut library = offset;
    for _ in 0..count {
        let mut version = library.checked_add(field(library, 8, 4)?)?;
        for _ in 0..field(library, 2, 2)? {
            names.push(field(version, 8, 4)?);
            match field(version, 12, 4)? {
                0 => break,
                next => version = version.checked_add(next)?,
            }
        }
        match field(library, 12, 4)? {
            0 => break,
            next => library = library.checked_add(next)?,
        }
    }
    Some(names)
}

fn segments(bytes: &[u8]) -> Option<Vec<Segment>> {
    let (table, size, count) =
        (number(bytes, 32, 8)?, number(bytes, 54, 2)?, number(bytes, 56, 2)?);
    let segment = |index: u64| {
        let header = slice(bytes, table.checked_add(index.checked_mul(size)?)?, 56)?;
        Some(Segment {
            kind: u32::try_from(number(header, 0, 4)?).ok()?,
            offset: number(header, 8, 8)?,
            address: number(header, 16, 8)?,
            size: number(header, 32, 8)?,
        })
    };
    (0..count).map(segment).collect()
}

/// Where in the file the loaded `address` comes from.
fn offset_of(segments: &[Segment], address: u64) -> Option<u64> {
    segments.iter().filter(|segment| segment.kind == PT_LOAD).find_map(|segment| {
        let within = address.checked_sub(segment.address)?;
        if within < segment.size { segment.offset.checked_add(within) } else { None }
    })
}

fn slice(bytes: &[u8], offset: u64, size: u64) -> Option<&[u8]> {
    let start = usize::try_from(offset).ok()?;
    bytes.get(start..start.checked_add(usize::try_from(size).ok()?)?)
}

fn number(bytes: &[u8], at: usize, size: usize) -> Option<u64> {
    let digits = bytes.get(at..at.checked_add(size)?)?;
    Some(digits.iter().rev().fold(0, |value, digit| value << 8 | u64::from(*digit)))
}

fn text(bytes: &[u8], at: usize) -> Option<String> {
    let bytes = bytes.get(at..)?;
    let end = bytes.iter().position(|byte| *byte == 0)?;
    String::from_utf8(bytes.get(..end)?.to_vec()).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_running_program_needs_a_loader_and_libc() {
        let needs = needs(&fs_err::read("/proc/self/exe").unwrap()).unwrap();
        assert!(needs.loader.unwrap().starts_with("/lib64/ld-linux"));
        assert!(needs.libraries.iter().any(|name| name == "libc.so.6"));
        assert!(needs.versions.contains("GLIBC_2.2.5"), "{:?}", needs.versions);
    }

    #[test]
    fn a_script_is_no_elf_file() {
        assert!(needs(b"#!/bin/sh\n").is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_end_in_an_answer(tail in proptest::collection::vec(any::<u8>(), 0..300)) {
            let bytes = [MAGIC, &tail].concat();
            let _ = needs(&bytes);
        }

        #[test]
        fn a_truncated_program_is_no_crash(length in 0_usize..4096) {
            let program = fs_err::read("/proc/self/exe").unwrap();
            let _ = needs(&program[..length.min(program.len())]);
        }
    }
}
