//! Indexes of packages, `Packages` and `Sources`: unpacked, cut down to the fields in use, read.
//!
//! The cut-down text is kept as a blob, its digest in the store's index under the digest of the
//! index file that it was made from. Reading it again costs a twentieth of unpacking the original.

use std::io::Read as _;
use std::ops::Range;

use nodekiln_words::{Failure, Result, ResultExt, Sha256};

use super::paragraph::{fields, paragraphs};
use crate::store::Store;

/// Folder of the index for digests of cut-down texts. Raised with every change of [`FIELDS`] or
/// [`SOURCE_FIELDS`], which would leave texts with other fields.
const INDEX: &str = "packages-1";

/// An index larger than this when unpacked is not Debian's, whose largest has some 60 MB.
const LARGEST: u64 = 1 << 30;

/// Fields of binary packages that are kept.
const FIELDS: [&str; 16] = [
    "Package",
    "Version",
    "Architecture",
    "Depends",
    "Pre-Depends",
    "Conflicts",
    "Breaks",
    "Provides",
    "Essential",
    "Priority",
    "Multi-Arch",
    "Source",
    "Filename",
    "Size",
    "SHA256",
    "Installed-Size",
];

/// Fields of source packages that are kept.
const SOURCE_FIELDS: [&str; 4] = ["Package", "Version", "Directory", "Checksums-Sha256"];

/// What an index lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Binary packages.
    Binary,
    /// Source packages.
    Source,
}

impl Kind {
    const fn fields(self) -> &'static [&'static str] {
        match self {
            Self::Binary => &FIELDS,
            Self::Source => &SOURCE_FIELDS,
        }
    }

    fn index_name(self, digest: &Sha256) -> String {
        match self {
            Self::Binary => format!("binary-{digest}"),
            Self::Source => format!("source-{digest}"),
        }
    }
}

/// The cut-down text of the index `digest`, if it was made before.
pub(super) fn kept(store: &Store, kind: Kind, digest: &Sha256) -> Option<String> {
    let text = store.read_index(INDEX, &kind.index_name(digest))?;
    let slim: Sha256 = std::str::from_utf8(&text).ok()?.parse().ok()?;
    String::from_utf8(store.read_blob(&slim).ok()?).ok()
}

/// Cuts the index down to the fields in use and keeps the result. The blob `digest` is the index as
/// the archive has it; the end of `path` says how it is packed.
///
/// # Errors
/// When it cannot be unpacked or is no text.
pub(super) fn cut_down(store: &Store, kind: Kind, path: &str, digest: &Sha256) -> Result<String> {
    let text = unpack(path, &store.read_blob(digest)?)?;
    let mut slim = String::new();
    for paragraph in paragraphs(&text) {
        let wanted = kind.fields();
        for (name, value) in fields(paragraph).filter(|(name, _)| wanted.contains(name)) {
            slim.extend([name, ": ", value, "\n"]);
        }
        slim.push('\n');
    }
    let blob = store.put_bytes(slim.as_bytes())?;
    store.write_index(INDEX, &kind.index_name(digest), blob.to_string().as_bytes())?;
    Ok(slim)
}

fn unpack(path: &str, bytes: &[u8]) -> Result<String> {
    let mut text = String::new();
    let read = if path.ends_with(".xz") {
        liblzma::read::XzDecoder::new_multi_decoder(bytes).take(LARGEST).read_to_string(&mut text)
    } else if path.ends_with(".gz") {
        flate2::read::MultiGzDecoder::new(bytes).take(LARGEST).read_to_string(&mut text)
    } else {
        bytes.take(LARGEST).read_to_string(&mut text)
    };
    match read.or_io(|| format!("cannot unpack {path}"))? as u64 {
        LARGEST => Err(Failure::io(format!("{path} is larger than {LARGEST} bytes"))),
        _ => Ok(text),
    }
}

/// The packages of one index.
pub(super) struct PackageIndex {
    /// Suite that it belongs to.
    pub(super) suite: String,
    /// Archive component that it belongs to.
    pub(super) component: String,
    text: String,
    records: Vec<[Range<u32>; FIELDS.len()]>,
}

/// One package of an index; the fields are those of the index, empty where it has none.
#[derive(Clone, Copy)]
pub(super) struct Package<'a> {
    index: &'a PackageIndex,
    record: &'a [Range<u32>; FIELDS.len()],
}

impl PackageIndex {
    /// Reads a cut-down index. Paragraphs without a name or version are left out.
    pub(super) fn read(suite: &str, component: &str, text: String) -> Result<Self> {
        if u32::try_from(text.len()).is_err() {
            return Err(Failure::io(format!("the index of {suite} {component} is too large")));
        }
        let records = paragraphs(&text).filter_map(|paragraph| record(&text, paragraph)).collect();
        Ok(Self { suite: suite.to_owned(), component: component.to_owned(), text, records })
    }

    pub(super) fn packages(&self) -> impl Iterator<Item = Package<'_>> {
        self.records.iter().map(|record| Package { index: self, record })
    }
}

fn record(text: &str, paragraph: &str) -> Option<[Range<u32>; FIELDS.len()]> {
    let start = text.as_ptr().addr();
    let mut record = [const { 0..0 }; FIELDS.len()];
    for (name, value) in fields(paragraph) {
        let Some(at) = FIELDS.iter().position(|field| *field == name) else { continue };
        // The value is a piece of `text`, whose length fits 32 bits.
        let begin = u32::try_from(value.as_ptr().addr() - start).ok()?;
        record[at] = begin..begin + u32::try_from(value.len()).ok()?;
    }
    (!record[0].is_empty() && !record[1].is_empty()).then_some(record)
}

impl<'a> Package<'a> {
    fn field(self, at: usize) -> &'a str {
        let range =
            self.record.get(at).map_or(0..0, |range| range.start as usize..range.end as usize);
        self.index.text.get(range).unwrap_or_default()
    }

    pub(super) fn name(self) -> &'a str {
        self.field(0)
    }

    pub(super) fn version(self) -> &'a str {
        self.field(1)
    }

    pub(super) fn architecture(self) -> &'a str {
        self.field(2)
    }

    pub(super) fn depends(self) -> &'a str {
        self.field(3)
    }

    pub(super) fn pre_depends(self) -> &'a str {
        self.field(4)
    }

    pub(super) fn conflicts(self) -> &'a str {
        self.field(5)
    }

    pub(super) fn breaks(self) -> &'a str {
        self.field(6)
    }

    pub(super) fn provides(self) -> &'a str {
        self.field(7)
    }

    pub(super) fn is_essential(self) -> bool {
        self.field(8) == "yes"
    }

    pub(super) fn priority(self) -> &'a str {
        self.field(9)
    }

    pub(super) fn path(self) -> &'a str {
        self.field(12)
    }

    pub(super) fn suite(self) -> &'a str {
        &self.index.suite
    }

    pub(super) fn component(self) -> &'a str {
        &self.index.component
    }

    /// Name and version of the source package: `Source: NAME (VERSION)`, where the name or the
    /// version that equals the binary package's is left out.
    pub(super) fn source(self) -> (&'a str, &'a str) {
        let field = self.field(11);
        let (name, version) = field.split_once(' ').unwrap_or((field, ""));
        let version = version.trim().trim_start_matches('(').trim_end_matches(')');
        let or = |text: &'a str, other| if text.is_empty() { other } else { text };
        (or(name, self.name()), or(version, self.version()))
    }

    /// Digest and size of the package file.
    ///
    /// # Errors
    /// When the index lacks them.
    pub(super) fn file(self) -> Result<(Sha256, u64)> {
        let lacks =
            |what| format!("the index of {} has no {what} of `{}`", self.suite(), self.name());
        Ok((
            self.field(14).parse().or_io(|| lacks("digest"))?,
            self.field(13).parse().or_io(|| lacks("size"))?,
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX_TEXT: &str = "Package: a\nSource: src (1.0)\nVersion: 1.0+b1\nArchitecture: amd64\n\
        Maintainer: Nobody\nDepends: b, c (>= 2)\nDescription: x\n more\n  Package: not\n\
        Filename: pool/a.deb\nSize: 3\n\
        SHA256: ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\n\n\
        Package: b\nVersion: 2\nEssential: yes\n\nPackage: no-version\n";

    fn packed() -> Vec<(&'static str, Vec<u8>)> {
        use std::io::Write as _;
        let mut xz = liblzma::write::XzEncoder::new(Vec::new(), 1);
        xz.write_all(INDEX_TEXT.as_bytes()).unwrap();
        let mut gz = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gz.write_all(INDEX_TEXT.as_bytes()).unwrap();
        vec![
            ("Packages.xz", xz.finish().unwrap()),
            ("Packages.gz", gz.finish().unwrap()),
            ("Packages", INDEX_TEXT.as_bytes().to_vec()),
        ]
    }

    #[test]
    fn an_index_is_cut_down_once_and_read() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        for (path, bytes) in packed() {
            let digest = store.put_bytes(&bytes).unwrap();
            assert_eq!(kept(&store, Kind::Binary, &digest), None);
            let slim = cut_down(&store, Kind::Binary, path, &digest).unwrap();
            assert!(!slim.contains("Maintainer") && !slim.contains("more"));
            assert_eq!(kept(&store, Kind::Binary, &digest), Some(slim.clone()));
            let index = PackageIndex::read("s", "main", slim).unwrap();
            let packages: Vec<_> = index.packages().collect();
            assert_eq!(packages.len(), 2);
            assert_eq!(packages[0].source(), ("src", "1.0"));
            assert_eq!(packages[0].file().unwrap(), (Sha256::of("abc"), 3));
            assert_eq!(packages[0].depends(), "b, c (>= 2)");
            assert_eq!(packages[1].source(), ("b", "2"));
            assert!(packages[1].is_essential() && !packages[0].is_essential());
            assert!(packages[1].file().is_err());
        }
    }

    #[test]
    fn an_index_that_is_not_packed_as_its_name_says_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path()).unwrap();
        let digest = store.put_bytes(b"no xz").unwrap();
        let failure = cut_down(&store, Kind::Binary, "main/Packages.xz", &digest).unwrap_err();
        assert!(failure.to_string().contains("main/Packages.xz"), "{failure}");
    }
}
