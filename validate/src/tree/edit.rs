//! Changes to a tree, as root would make them. Folders on the way are made; the image is not touched.

use super::{Entry, Kind, Tree};

impl Tree<'_> {
    /// Puts a file of root's with these permissions at `path`.
    pub fn write(&mut self, path: &str, mode: u32, bytes: impl AsRef<[u8]>) {
        let bytes = bytes.as_ref();
        self.put(path, Entry::of(Kind::File, mode, bytes.len() as u64));
        self.written.insert(path.to_owned(), bytes.to_owned());
    }

    /// Makes the folder `path` of root's with these permissions.
    pub fn folder(&mut self, path: &str, mode: u32) {
        self.put(path, Entry::of(Kind::Folder, mode, 0));
    }

    /// Puts a link to `target` at `path`.
    pub fn link(&mut self, path: &str, target: &str) {
        let mut entry = Entry::of(Kind::Link, 0o777, target.len() as u64);
        entry.target = Some(target.to_owned());
        self.put(path, entry);
    }

    /// Puts `entry` at `path`.
    pub fn put(&mut self, path: &str, entry: Entry) {
        let ends = path.match_indices('/').map(|(at, _)| at);
        let folders = ends.map(|end| if end == 0 { "/" } else { &path[..end] });
        for folder in folders {
            let made = || Entry::of(Kind::Folder, 0o755, 0);
            self.entries.entry(folder.to_owned()).or_insert_with(made);
        }
        self.forget();
        self.written.remove(path);
        self.entries.insert(path.to_owned(), entry);
    }

    /// Changes what is at `path`, if anything is.
    pub fn change(&mut self, path: &str, change: impl FnOnce(&mut Entry)) {
        self.forget();
        if let Some(entry) = self.entries.get_mut(path) {
            change(entry);
        }
    }

    /// Removes what is at `path` and all below it.
    pub fn remove(&mut self, path: &str) {
        self.forget();
        let below = format!("{path}/");
        self.entries.retain(|found, _| found != path && !found.starts_with(&below));
        self.written.retain(|found, _| found != path && !found.starts_with(&below));
    }

    /// Drops what was read of files that may be others now.
    fn forget(&mut self) {
        self.packages.take();
        self.linked.take();
    }

    /// Replaces `from` by `to` in the text of the file at `path`.
    ///
    /// # Panics
    /// When the file is not there, cannot be read or does not have `from`: the change would change nothing.
    #[cfg(test)]
    pub(crate) fn replace(&mut self, path: &str, from: &str, to: &str) {
        let text = self.text(path).unwrap().unwrap_or_else(|| panic!("no {path}"));
        assert!(text.contains(from), "{path} has no `{from}`");
        let mode = self.resolve(path).map_or(0o644, |(_, entry)| entry.mode);
        self.write(path, mode, text.replace(from, to));
    }
}
