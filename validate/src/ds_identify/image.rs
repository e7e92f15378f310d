use std::collections::BTreeMap;

use nodekiln_words::Result;

use crate::tree::Files;

/// An image that is only some files by their absolute paths; folders are there with what is in them.
impl Files for BTreeMap<String, Vec<u8>> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        Ok(self.get(path).cloned())
    }

    fn exists(&self, path: &str) -> Result<bool> {
        let below = format!("{path}/");
        Ok(self.keys().any(|file| file == path || file.starts_with(&below)))
    }

    fn list(&self, path: &str) -> Result<Vec<String>> {
        let names = self.keys().filter_map(|file| {
            let inner = file.strip_prefix(path)?.strip_prefix('/')?;
            inner.split('/').next().map(str::to_owned)
        });
        let mut names: Vec<String> = names.collect();
        names.sort();
        names.dedup();
        Ok(names)
    }
}

/// Where `command -v` looks for a program: systemd gives
/// generators the first four, and `ensure_sane_path` adds the others.
const PROGRAMS: [&str; 6] =
    ["/usr/local/sbin", "/usr/local/bin", "/usr/sbin", "/usr/bin", "/sbin", "/bin"];

/// Whether the image has a program of that name.
pub(super) fn has_program(image: &dyn Files, name: &str) -> Result<bool> {
    for folder in PROGRAMS {
        if image.is_file(&format!("{folder}/{name}"))? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The text of a file; bytes that are not UTF-8 are replaced.
pub(super) fn text(image: &dyn Files, path: &str) -> Result<Option<String>> {
    Ok(image.read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_in_a_map_have_folders() {
        let files = BTreeMap::from([
            ("/etc/cloud/cloud.cfg".to_owned(), b"x".to_vec()),
            ("/etc/cloud/cloud.cfg.d/a.cfg".to_owned(), Vec::new()),
        ]);
        let image: &dyn Files = &files;
        assert!(image.exists("/etc/cloud").unwrap() && !image.is_file("/etc/cloud").unwrap());
        assert!(!image.exists("/etc/clou").unwrap());
        assert_eq!(image.list("/etc/cloud").unwrap(), ["cloud.cfg", "cloud.cfg.d"]);
        assert!(image.is_file("/etc/cloud/cloud.cfg.d/a.cfg").unwrap());
    }
}
