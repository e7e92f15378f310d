//! Texts kept in the repository for people to review.
//!
//! `NODEKILN_BLESS=1 cargo test -p nodekiln-recipes` rewrites them; review the difference.

use std::path::Path;

/// Compares `actual` with the file `name` below the crate's folder, or rewrites that file.
#[track_caller]
pub(crate) fn check(name: &str, actual: &str) {
    let path = Path::new(name);
    if std::env::var_os("NODEKILN_BLESS").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, actual).unwrap();
        return;
    }
    let expected = std::fs::read_to_string(path).unwrap_or_default();
    assert!(
        expected == actual,
        "{name} differs; if the change is meant, run the tests once with NODEKILN_BLESS=1\n\
         --- expected\n{expected}\n--- actual\n{actual}"
    );
}
