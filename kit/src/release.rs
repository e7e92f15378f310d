//! A release's archive of tests, `kubernetes-test-linux-amd64.tar.gz`.

use std::io::{self, Read as _};
use std::path::Path;

use flate2::read::GzDecoder;
use nodekiln_words::{Cancel, Class, Failure, Result, ResultExt as _};
use sha2::{Digest as _, Sha512};

/// Folder of the archive's programs.
const PROGRAMS: &str = "kubernetes/test/bin/";
/// What is taken of them; `ginkgo` starts several suites beside each other.
const TAKEN: [&str; 2] = ["e2e_node.test", "ginkgo"];
/// Bytes read at once.
const PIECE: usize = 1 << 20;

/// Unpacks the node suite of the archive at `path` into the folder `into`, if the archive has the SHA-512
/// `expected` in hexadecimal.
///
/// # Errors
/// When the archive is another one or damaged, or has no node suite; on cancellation.
pub fn unpack(path: &Path, expected: &str, into: &Path, cancel: &Cancel) -> Result<()> {
    let reading = || format!("read the archive of tests {}", path.display());
    let found = sha512(fs_err::File::open(path).or_fail(Class::Input, reading)?, cancel)
        .map_err(|failure| failure.context(reading()))?;
    if !found.eq_ignore_ascii_case(expected.trim()) {
        let text = format!("{} has the sha512 {found}, not {expected}", path.display());
        return Err(Failure::input(text).with_help("fetch it again, or correct `--sha512`"));
    }
    let mut archive = tar::Archive::new(GzDecoder::new(fs_err::File::open(path).or_io(reading)?));
    let mut taken = 0;
    for entry in archive.entries().or_io(reading)? {
        cancel.check()?;
        let mut entry = entry.or_io(reading)?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let name = name.strip_prefix("./").unwrap_or(&name).strip_prefix(PROGRAMS);
        let Some(name) = TAKEN.into_iter().find(|taken| name == Some(*taken)) else { continue };
        let mut file = fs_err::File::create(into.join(name)).or_io(reading)?;
        io::copy(&mut entry, &mut file).or_io(reading)?;
        taken += usize::from(name == TAKEN[0]);
    }
    if taken == 0 {
        let text = format!("{} has no {PROGRAMS}{}", path.display(), TAKEN[0]);
        return Err(
            Failure::input(text).with_help("give a release's kubernetes-test-linux-amd64.tar.gz")
        );
    }
    Ok(())
}

fn sha512(mut file: fs_err::File, cancel: &Cancel) -> Result<String> {
    let (mut digest, mut piece) = (Sha512::new(), vec![0; PIECE]);
    loop {
        cancel.check()?;
        let count = file.read(&mut piece).or_io(|| "read".to_owned())?;
        if count == 0 {
            return Ok(digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect());
        }
        digest.update(piece.get(..count).unwrap_or_default());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive(path: &Path, name: &str) -> String {
        let file = fs_err::File::create(path).unwrap();
        let gzip = flate2::write::GzEncoder::new(file, flate2::Compression::fast());
        let mut tar = tar::Builder::new(gzip);
        let mut header = tar::Header::new_ustar();
        header.set_size(5);
        tar.append_data(&mut header, name, &b"suite"[..]).unwrap();
        tar.into_inner().unwrap().finish().unwrap();
        sha512(fs_err::File::open(path).unwrap(), &Cancel::default()).unwrap()
    }

    #[test]
    fn the_suite_is_taken_from_the_archive_that_was_meant_and_from_no_other() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.tar.gz");
        let digest = archive(&path, "kubernetes/test/bin/e2e_node.test");
        assert_eq!(digest.len(), 128);
        unpack(&path, &digest.to_uppercase(), folder.path(), &Cancel::default()).unwrap();
        assert_eq!(fs_err::read(folder.path().join("e2e_node.test")).unwrap(), b"suite");
        let other = digest.replace(|letter: char| letter.is_ascii_digit(), "0");
        assert!(unpack(&path, &other, folder.path(), &Cancel::default()).is_err());
    }

    #[test]
    fn an_archive_without_the_suite_is_refused_with_the_name_of_the_right_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.tar.gz");
        for name in ["kubernetes/node/bin/kubelet", "kubernetes/test/bin/../e2e_node.tests"] {
            let digest = archive(&path, &name.replace("..", "x"));
            let failure = unpack(&path, &digest, folder.path(), &Cancel::default()).unwrap_err();
            assert!(failure.help().unwrap().contains("kubernetes-test-linux"), "{failure:?}");
        }
    }
}
