//! What a tree and a single file system have in common.

use std::io;

use nodekiln_disk::files::FileSystem;
use nodekiln_words::Result;

use super::Tree;

/// Files by their absolute paths; links are followed.
pub trait Files {
    /// The bytes of the file at `path`; nothing where there is none.
    ///
    /// # Errors
    /// When the file system is damaged there, or the file is too large to be held.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>>;

    /// The bytes of the file at `path` one after the other, however many there are; nothing where there is none.
    ///
    /// # Errors
    /// When the file system is damaged there.
    fn open(&self, path: &str) -> Result<Option<Box<dyn io::Read + '_>>> {
        let bytes = self.read(path)?;
        Ok(bytes.map(|bytes| Box::new(io::Cursor::new(bytes)) as Box<dyn io::Read>))
    }

    /// Names in the folder at `path`, sorted; none where there is none.
    ///
    /// # Errors
    /// When the file system is damaged there.
    fn list(&self, path: &str) -> Result<Vec<String>>;

    /// Whether `path` leads to something.
    ///
    /// # Errors
    /// When the file system is damaged there.
    fn exists(&self, path: &str) -> Result<bool>;

    /// Whether there is a file at `path`, which may be empty.
    ///
    /// # Errors
    /// When nobody can tell.
    fn is_file(&self, path: &str) -> Result<bool> {
        Ok(self.read(path)?.is_some())
    }

    /// As [`Files::read`], as text; bytes that are not UTF-8 are replaced.
    ///
    /// # Errors
    /// As [`Files::read`].
    fn text(&self, path: &str) -> Result<Option<String>> {
        Ok(self.read(path)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }
}

impl Files for FileSystem {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        Self::read(self, path)
    }

    fn open(&self, path: &str) -> Result<Option<Box<dyn io::Read + '_>>> {
        let file = Self::open(self, path)?;
        Ok(file.map(|file| Box::new(file) as Box<dyn io::Read>))
    }

    fn list(&self, path: &str) -> Result<Vec<String>> {
        Self::list(self, path)
    }

    fn exists(&self, path: &str) -> Result<bool> {
        Self::exists(self, path)
    }
}

impl Files for Tree<'_> {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        Self::read(self, path)
    }

    fn open(&self, path: &str) -> Result<Option<Box<dyn io::Read + '_>>> {
        Self::open(self, path)
    }

    fn list(&self, path: &str) -> Result<Vec<String>> {
        Ok(self.names(path).into_iter().map(str::to_owned).collect())
    }

    fn exists(&self, path: &str) -> Result<bool> {
        Ok(self.resolve(path).is_some())
    }
}
