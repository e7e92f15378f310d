//! The EFI system partition: a FAT32 volume with the boot loaders.

use nodekiln_words::{Result, SourceDate};

use crate::fat::{self, Volume};

/// Builds a FAT32 volume of `size` bytes with `files` (path and content, `/` between names).
///
/// The same arguments give the same bytes; see [`fat::build`].
///
/// # Errors
/// When the size is no multiple of 512 between 34 MiB and 1 GiB, a path is given twice or is not
/// valid, or the files do not fit.
pub fn build(
    files: &[(String, Vec<u8>)],
    size: u64,
    serial: u32,
    source_date: SourceDate,
) -> Result<Vec<u8>> {
    fat::build(&Volume { files, size, serial, label: "ESP", source_date })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn date() -> SourceDate {
        SourceDate::from_unix(1_793_491_200).unwrap()
    }

    #[test]
    fn a_file_that_does_not_fit_and_a_path_given_twice_are_refused() {
        let large = vec![("big".to_owned(), vec![1; 40 << 20])];
        let failure = build(&large, 34 << 20, 1, date()).unwrap_err();
        assert!(failure.to_string().contains("`big`"), "{failure}");
        let twice = vec![("a".to_owned(), vec![1]), ("A".to_owned(), vec![2])];
        assert!(build(&twice, 34 << 20, 1, date()).is_err());
        let both = vec![("a".to_owned(), vec![1]), ("a/b".to_owned(), vec![2])];
        assert!(build(&both, 34 << 20, 1, date()).is_err());
        assert!(build(&[], 1 << 20, 1, date()).is_err());
        assert!(build(&[("a//b".to_owned(), Vec::new())], 34 << 20, 1, date()).is_err());
    }
}
