//! The file of a kit: a tar with the manifest first and then its files by path.
//!
//! A guest can be given the file as a disk and unpack it with `tar`, without a file system's driver and without
//! a second copy on the host: a tar's length is a multiple of 512 bytes, a disk's sector.

use std::collections::BTreeMap;
use std::io::{self, BufWriter, Read, Write as _};
use std::path::{Path, PathBuf};

use nodekiln_words::{
    Cancel, Class, Digester, Failure, Result, ResultExt as _, Sha256, SourceDate,
};

use crate::manifest::{File, Manifest};

/// The manifest's path in a kit.
pub const MANIFEST: &str = "manifest.json";
/// Largest manifest that is read; one of 335 specs has 60 KB.
const LARGEST_MANIFEST: u64 = 16 << 20;
/// Bytes of a record of ustar's.
const RECORD: u64 = 512;

/// Where the bytes of a kit's file are.
#[derive(Clone, Debug)]
pub struct Source {
    /// The file on this machine.
    pub path: PathBuf,
    /// Whether it is a program.
    pub program: bool,
}

/// A kit to be written.
#[derive(Clone, Debug)]
pub struct Draft {
    /// What it is to say of itself; `files` is filled in on writing.
    pub manifest: Manifest,
    /// Its files by path.
    pub files: BTreeMap<String, Source>,
}

/// A kit that was read.
#[derive(Clone, Debug)]
pub struct Kit {
    /// The file.
    pub path: PathBuf,
    /// What it says of itself.
    pub manifest: Manifest,
}

impl Draft {
    /// Adds a program at `path` of the kit.
    pub fn program(&mut self, path: &str, file: PathBuf) {
        self.files.insert(path.to_owned(), Source { path: file, program: true });
    }

    /// Writes the kit to `out`, an open empty file, and returns its manifest.
    ///
    /// The same parts and source date give the same bytes: all is owned by 0:0 and dated at the source date.
    ///
    /// # Errors
    /// When a file cannot be read or changes meanwhile, when writing fails, or on cancellation.
    pub fn write(
        self,
        source_date: SourceDate,
        out: &mut fs_err::File,
        cancel: &Cancel,
    ) -> Result<Manifest> {
        let Self { mut manifest, files } = self;
        for (path, source) in &files {
            let reading = || format!("read {}", source.path.display());
            let file = fs_err::File::open(&source.path).or_io(reading)?;
            let size = file.metadata().or_io(reading)?.len();
            let sha256 = Sha256::of_stream(file, cancel, reading)?;
            manifest.files.insert(path.clone(), File { sha256, size });
        }
        let mut text = serde_json::to_vec_pretty(&manifest).or_io(|| "write JSON".to_owned())?;
        text.push(b'\n');
        Manifest::read(&text)?; // what nobody could read is not written
        let writing = || "write the kit".to_owned();
        let mut tar = tar::Builder::new(BufWriter::with_capacity(1 << 20, out));
        let mut header = header(source_date, 0o644, text.len() as u64);
        tar.append_data(&mut header, MANIFEST, text.as_slice()).or_io(writing)?;
        for (path, source) in &files {
            cancel.check()?;
            let told = manifest.files.get(path).ok_or_else(|| changed(&source.path))?;
            let file = fs_err::File::open(&source.path).or_io(writing)?;
            let mut header =
                self::header(source_date, if source.program { 0o755 } else { 0o644 }, told.size);
            let mut tee = Tee { file: file.take(told.size), digester: Digester::default() };
            tar.append_data(&mut header, path, &mut tee).or_io(writing)?;
            if tee.digester.length() != told.size || tee.digester.finish() != told.sha256 {
                return Err(changed(&source.path));
            }
        }
        tar.into_inner().and_then(|mut file| file.flush()).or_io(writing)?;
        Ok(manifest)
    }
}

fn changed(path: &Path) -> Failure {
    Failure::io(format!("{} changed while it was read", path.display()))
        .with_help("make the kit again")
}

/// Digests what is read.
struct Tee<R> {
    file: R,
    digester: Digester,
}

impl<R: Read> Read for Tee<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.file.read(buffer)?;
        self.digester.update(buffer.get(..count).unwrap_or_default());
        Ok(count)
    }
}

fn header(source_date: SourceDate, mode: u32, size: u64) -> tar::Header {
    let mut header = tar::Header::new_ustar();
    header.set_entry_type(tar::EntryType::Regular);
    header.set_mode(mode);
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(source_date.unix());
    header.set_size(size);
    header
}

impl Kit {
    /// Reads the manifest of the kit at `path`; its other files are read by [`Self::verify`].
    ///
    /// # Errors
    /// When the file cannot be read, or is no kit of this form.
    pub fn open(path: &Path) -> Result<Self> {
        let reading = || format!("read the kit {}", path.display());
        let file = fs_err::File::open(path).or_fail(Class::Input, reading);
        let file = file.map_err(|failure| failure.with_help(MAKE_ONE))?;
        let length = file.metadata().or_io(reading)?.len();
        if length == 0 || length % RECORD != 0 {
            return Err(no_kit(path, "its length is not a tar's"));
        }
        let mut archive = tar::Archive::new(file);
        let mut entries = archive.entries().or_io(reading)?;
        // The error of one that is no tar has its bytes in it.
        let first = entries.next().transpose();
        let first =
            first.map_err(|error| no_kit(path, &format!("it is no tar ({})", error.kind())))?;
        let Some(entry) = first else { return Err(no_kit(path, "it is empty")) };
        if entry.path_bytes().as_ref() != MANIFEST.as_bytes() {
            return Err(no_kit(path, "it does not begin with a manifest"));
        }
        let mut bytes = Vec::new();
        entry.take(LARGEST_MANIFEST).read_to_end(&mut bytes).or_io(reading)?;
        let manifest = Manifest::read(&bytes)
            .map_err(|failure| failure.context(format!("{} is no kit", path.display())))?;
        Ok(Self { path: path.to_owned(), manifest })
    }

    /// Reads every file of the kit and compares it with the manifest; the digest of the kit itself.
    ///
    /// # Errors
    /// When a file is missing, is another, or is not in the manifest; on cancellation.
    pub fn verify(&self, cancel: &Cancel) -> Result<Sha256> {
        let reading = || format!("read the kit {}", self.path.display());
        let file = fs_err::File::open(&self.path).or_io(reading)?;
        let mut whole = Tee { file, digester: Digester::default() };
        let mut archive = tar::Archive::new(&mut whole);
        let mut missing = self.manifest.files.clone();
        for entry in archive.entries().or_io(reading)?.skip(1) {
            let entry = entry.map_err(|error| no_kit(&self.path, &error.to_string()))?;
            let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
            let Some(told) = missing.remove(&path) else {
                return Err(no_kit(&self.path, &format!("`{path}` is not in its manifest")));
            };
            let sha256 = Sha256::of_stream(entry, cancel, || format!("read {path} of the kit"))?;
            if sha256 != told.sha256 {
                return Err(no_kit(&self.path, &format!("`{path}` is not the manifest's")));
            }
        }
        if let Some(path) = missing.keys().next() {
            return Err(no_kit(&self.path, &format!("`{path}` is missing")));
        }
        io::copy(&mut whole, &mut io::sink()).or_io(reading)?; // what stands behind the last file
        Ok(whole.digester.finish())
    }
}

/// What to do without a kit.
const MAKE_ONE: &str = "make one with `nodekiln kit`";

fn no_kit(path: &Path, why: &str) -> Failure {
    Failure::input(format!("{} is no whole kit: {why}", path.display())).with_help(MAKE_ONE)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::testing::manifest;

    fn written(folder: &Path, name: &str) -> PathBuf {
        let parts = [("bin/e2e_node.test", "suite", true), ("images/busybox.tar", "image", false)];
        let files = parts.map(|(path, text, program)| {
            let file = folder.join(text);
            fs_err::write(&file, text).unwrap();
            (path.to_owned(), Source { path: file, program })
        });
        let mut manifest = manifest(&["a", "b"]);
        manifest.files.clear();
        let draft = Draft { manifest, files: files.into() };
        let out = folder.join(name);
        let date = SourceDate::from_unix(1_700_000_000).unwrap();
        let mut file = fs_err::File::create(&out).unwrap();
        draft.write(date, &mut file, &Cancel::default()).unwrap();
        out
    }

    #[test]
    fn the_same_parts_give_the_same_bytes_which_are_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let (one, other) = (written(folder.path(), "one"), written(folder.path(), "other"));
        assert_eq!(fs_err::read(&one).unwrap(), fs_err::read(other).unwrap());
        let kit = Kit::open(&one).unwrap();
        assert_eq!(kit.manifest.specs, ["a", "b"]);
        assert_eq!(kit.manifest.files["bin/e2e_node.test"].sha256, Sha256::of("suite"));
        let digest = Sha256::of(fs_err::read(&one).unwrap());
        assert_eq!(kit.verify(&Cancel::default()).unwrap(), digest);
    }

    #[test]
    fn gnu_tar_unpacks_a_kit_from_what_looks_like_a_disk() {
        let folder = tempfile::tempdir().unwrap();
        let kit = written(folder.path(), "kit");
        let out = folder.path().join("out");
        fs_err::create_dir(&out).unwrap();
        let tar =
            std::process::Command::new("tar").arg("-xf").arg(&kit).arg("-C").arg(&out).status();
        assert!(tar.unwrap().success());
        assert_eq!(fs_err::read(out.join("bin/e2e_node.test")).unwrap(), b"suite");
    }

    fn last(bytes: &[u8], word: &[u8]) -> usize {
        bytes.windows(word.len()).rposition(|window| window == word).unwrap()
    }

    #[test]
    fn a_kit_with_one_byte_changed_or_its_end_missing_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let kit = written(folder.path(), "kit");
        let bytes = fs_err::read(&kit).unwrap();
        let suite = last(&bytes, b"suite");
        for offset in [suite, last(&bytes, b"image")] {
            let mut changed = bytes.clone();
            changed[offset] ^= 1;
            fs_err::write(&kit, &changed).unwrap();
            assert!(Kit::open(&kit).unwrap().verify(&Cancel::default()).is_err(), "{offset}");
        }
        for length in [0, 100, 512] {
            fs_err::write(&kit, &bytes[..length]).unwrap();
            assert!(Kit::open(&kit).is_err(), "{length}");
        }
        fs_err::write(&kit, &bytes[..suite / 512 * 512 + 512]).unwrap();
        assert!(Kit::open(&kit).unwrap().verify(&Cancel::default()).is_err());
    }
}
