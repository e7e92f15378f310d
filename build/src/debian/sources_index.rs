//! Source packages: which files one consists of.

use nodekiln_recipes::lock::LockedFile;
use nodekiln_words::{Failure, Result};

use super::paragraph::{field, paragraphs};
use super::release::entry;
use super::version::compare;

/// A version of a source package in some index.
struct Found<'a> {
    version: &'a str,
    paragraph: &'a str,
}

/// The files of the newest version of the source package `name` in the cut-down `texts`: file name
/// and where it is below the archive's base. `None` if no index has it.
///
/// # Errors
/// When its entry cannot be understood.
pub(super) fn files(texts: &[String], name: &str) -> Result<Option<Vec<(String, LockedFile)>>> {
    let newest = texts
        .iter()
        .flat_map(|text| paragraphs(text))
        .filter(|paragraph| field(paragraph, "Package") == Some(name))
        .filter_map(|paragraph| Some(Found { version: field(paragraph, "Version")?, paragraph }))
        .reduce(|a, b| if compare(b.version, a.version).is_gt() { b } else { a });
    newest.map(|found| files_of(name, found.paragraph)).transpose()
}

fn files_of(name: &str, paragraph: &str) -> Result<Vec<(String, LockedFile)>> {
    let wrong = |what: &str| Failure::io(format!("the index entry of source `{name}` has {what}"));
    let folder = field(paragraph, "Directory").ok_or_else(|| wrong("no folder"))?;
    let table = field(paragraph, "Checksums-Sha256").ok_or_else(|| wrong("no digests"))?;
    let mut files = Vec::new();
    for line in table.lines().filter(|line| !line.trim().is_empty()) {
        let (file, (sha256, size)) =
            entry(line).ok_or_else(|| wrong("a line that is no digest"))?;
        if file.contains('/') {
            return Err(wrong("a file name with a slash"));
        }
        files.push((
            file.clone(),
            LockedFile { url: format!("{folder}/{file}"), sha256, size: Some(size) },
        ));
    }
    files.sort_by(|a, b| a.0.cmp(&b.0));
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;
    use nodekiln_words::Sha256;

    #[test]
    fn the_newest_version_is_found_with_its_files() {
        let entry = |version: &str, folder: &str| {
            format!(
                "Package: k\nVersion: {version}\nDirectory: {folder}\nChecksums-Sha256: \n \
                 {} 3 k.tar\n {} 1 k.dsc\n\n",
                Sha256::of("abc"),
                Sha256::of("d")
            )
        };
        let texts = [entry("1.9-1", "pool/old") + &entry("1.10-1", "pool/new"), entry("1.2", "p")];
        let files = files(&texts, "k").unwrap().unwrap();
        assert_eq!(files.len(), 2);
        assert_eq!(files[0].0, "k.dsc");
        assert_eq!(files[1].1.url, "pool/new/k.tar");
        assert_eq!(files[1].1.sha256, Sha256::of("abc"));
        assert_eq!(super::files(&texts, "nothing").unwrap(), None);
    }
}
