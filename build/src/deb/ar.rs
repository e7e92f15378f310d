//! The `ar` container around a `.deb`: a strict reader of the member headers.
//!
//! Format: deb(5) and the System V `ar` layout that it names: a magic line, then for each member a
//! header of 60 bytes and its content, padded to an even offset.

use std::fmt;
use std::io::{self, Read, Seek, SeekFrom};

const MAGIC: &[u8; 8] = b"!<arch>\n";
const HEADER: u64 = 60;
/// A `.deb` has three members; a few more are allowed, an endless list is not.
const MOST_MEMBERS: usize = 64;

/// One member: where its content lies in the container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    /// Name without padding and without the slash that some writers append.
    pub(crate) name: String,
    /// Offset of the content in bytes.
    pub(crate) start: u64,
    /// Length of the content in bytes.
    pub(crate) size: u64,
}

/// What is wrong with a container, and where.
#[derive(Debug)]
pub(crate) struct Malformed {
    /// Offset in bytes from the start of the file.
    pub(crate) offset: u64,
    what: String,
    source: Option<io::Error>,
}

impl Malformed {
    pub(crate) fn new(offset: u64, what: impl Into<String>) -> Self {
        Self { offset, what: what.into(), source: None }
    }

    fn reading(offset: u64, source: io::Error) -> Self {
        Self { offset, what: "cannot be read".to_owned(), source: Some(source) }
    }
}

impl fmt::Display for Malformed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "offset {}: {}", self.offset, self.what)
    }
}

impl std::error::Error for Malformed {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}

/// The members of the container of `length` bytes that `file` holds, in its order.
pub(crate) fn members(
    file: &mut (impl Read + Seek),
    length: u64,
) -> Result<Vec<Member>, Malformed> {
    let mut magic = [0; MAGIC.len()];
    read_at(file, 0, length, &mut magic)?;
    if &magic != MAGIC {
        return Err(Malformed::new(0, "no `ar` archive"));
    }
    let mut members = Vec::new();
    let mut offset = MAGIC.len() as u64;
    while offset < length {
        let member = header(file, offset, length)?;
        // Content is padded to an even offset; the last member's padding may be absent.
        offset = member.start + member.size + (member.size & 1);
        members.push(member);
        if members.len() > MOST_MEMBERS {
            return Err(Malformed::new(offset, "more members than a package has"));
        }
    }
    Ok(members)
}

fn header(file: &mut (impl Read + Seek), offset: u64, length: u64) -> Result<Member, Malformed> {
    let mut header = [0; HEADER as usize];
    read_at(file, offset, length, &mut header)?;
    if &header[58..] != b"`\n" {
        return Err(Malformed::new(offset, "member header without its end mark"));
    }
    let text = |range: std::ops::Range<usize>| -> Result<&str, Malformed> {
        std::str::from_utf8(&header[range])
            .ok()
            .filter(|text| text.is_ascii())
            .map(str::trim_end)
            .ok_or_else(|| Malformed::new(offset, "member header is not ASCII"))
    };
    let name = text(0..16)?;
    let name = name.strip_suffix('/').unwrap_or(name).to_owned();
    let size = text(48..58)?;
    let size = Some(size)
        .filter(|size| size.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|size| size.parse::<u64>().ok())
        .ok_or_else(|| Malformed::new(offset + 48, "member size is no number"))?;
    let start = offset + HEADER;
    if start + size > length {
        let what = format!("member `{name}` of {size} bytes ends beyond the file's {length} bytes");
        return Err(Malformed::new(offset, what));
    }
    Ok(Member { name, start, size })
}

fn read_at(
    file: &mut (impl Read + Seek),
    offset: u64,
    length: u64,
    buffer: &mut [u8],
) -> Result<(), Malformed> {
    if offset + buffer.len() as u64 > length {
        return Err(Malformed::new(offset, format!("the file ends at {length} bytes")));
    }
    file.seek(SeekFrom::Start(offset)).map_err(|error| Malformed::reading(offset, error))?;
    file.read_exact(buffer).map_err(|error| Malformed::reading(offset, error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Cursor;

    use proptest::prelude::*;

    fn container(members: &[(&str, &[u8])]) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        for (name, content) in members {
            let header = format!(
                "{name:<16}{:<12}{:<6}{:<6}{:<8}{:<10}`\n",
                0,
                0,
                0,
                100_644,
                content.len()
            );
            bytes.extend(header.as_bytes());
            bytes.extend(*content);
            bytes.resize(bytes.len().next_multiple_of(2), b'\n');
        }
        bytes
    }

    fn read(bytes: &[u8]) -> Result<Vec<Member>, Malformed> {
        members(&mut Cursor::new(bytes), bytes.len() as u64)
    }

    #[test]
    fn members_are_found_behind_padding_and_slashes() {
        let bytes = container(&[("debian-binary", b"2.0"), ("data.tar/", b"xy")]);
        let names: Vec<_> =
            read(&bytes).unwrap().into_iter().map(|m| (m.name, m.start, m.size)).collect();
        assert_eq!(names, [("debian-binary".to_owned(), 68, 3), ("data.tar".to_owned(), 132, 2)]);
    }

    #[test]
    fn every_truncation_is_refused_or_ends_at_a_member() {
        let bytes = container(&[("debian-binary", b"2.0\n"), ("data.tar", b"xy")]);
        for length in 0..bytes.len() {
            match read(&bytes[..length]) {
                Ok(members) => assert!(members.len() < 2, "{length}"),
                Err(malformed) => assert!(malformed.offset <= length as u64),
            }
        }
    }

    #[test]
    fn a_size_that_overflows_is_refused() {
        let mut bytes = container(&[("debian-binary", b"2.0\n")]);
        bytes[56..66].copy_from_slice(b"9999999999");
        assert!(read(&bytes).unwrap_err().to_string().contains("ends beyond"));
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_end_in_a_value_or_an_error(mut bytes in proptest::collection::vec(any::<u8>(), 0..400), magic: bool) {
            if magic {
                bytes.splice(0..0, *MAGIC);
            }
            let _ = read(&bytes);
        }
    }
}
