//! Takes programs out of a tree of packages together with what they need to start.

use std::collections::BTreeSet;
use std::path::Path;

use nodekiln_words::{Class, Failure, Result, ResultExt};

use super::elf;
use crate::layer::Confined;
use crate::oci::layer::{Entries, Node};

/// Where Debian's loader looks for libraries, in its order, as packages ship them.
const LIBRARY_FOLDERS: [&str; 4] =
    ["/lib/x86_64-linux-gnu", "/usr/lib/x86_64-linux-gnu", "/lib", "/usr/lib"];
/// Where libraries go: the first place that the loader looks at.
const LIBRARIES: &str = "lib/x86_64-linux-gnu";
/// Folders that are links to `/usr/…` in a merged tree and folders of their own in a package.
const MERGED: [&str; 4] = ["/bin/", "/sbin/", "/lib/", "/lib64/"];

/// Adds programs of a tree to the entries of a layer.
///
/// What is a link in the tree becomes a real file: a dangling link to the loader shows only as
/// `no such file or directory` when the program is started.
pub struct Programs<'a> {
    tree: Confined,
    entries: &'a mut Entries,
    libraries: BTreeSet<String>,
}

impl<'a> Programs<'a> {
    /// Programs of the tree at `tree`, for `entries`.
    ///
    /// # Errors
    /// When the tree cannot be opened.
    pub fn new(tree: &Path, entries: &'a mut Entries) -> Result<Self> {
        let tree = Confined::new(tree).or_io(|| format!("opening {}", tree.display()))?;
        Ok(Self { tree, entries, libraries: BTreeSet::new() })
    }

    /// Adds the program at `from` in the tree as `to`, with its loader and libraries.
    ///
    /// # Errors
    /// When the tree lacks the program or something that it needs.
    pub fn add(&mut self, from: &str, to: &str) -> Result<()> {
        let bytes = self.read(from)?.ok_or_else(|| missing(from))?;
        self.add_needs(&bytes, from)?;
        self.entries.add(to, Node::Bytes(bytes.into()), 0o755)
    }

    /// Adds all of a folder's shared objects at the same place, with their libraries.
    ///
    /// # Errors
    /// When the tree lacks the folder or something that they need.
    pub fn add_plugins(&mut self, folder: &str) -> Result<()> {
        let names = self.tree.list(folder).or_io(|| format!("listing {folder}"))?;
        for name in names {
            let path = format!("{folder}/{}", name.to_string_lossy());
            let bytes = self.read(&path)?.ok_or_else(|| missing(&path))?;
            if elf::is_elf(&bytes) {
                self.add_needs(&bytes, &path)?;
                self.entries.add(&path, Node::Bytes(bytes.into()), 0o644)?;
            }
        }
        Ok(())
    }

    /// Adds the file at `path` at the same place, if the tree has it.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn copy_if_there(&mut self, path: &str) -> Result<()> {
        match self.read(path)? {
            Some(bytes) => self.entries.add(path, Node::Bytes(bytes.into()), 0o644),
            None => Ok(()),
        }
    }

    fn add_needs(&mut self, bytes: &[u8], of: &str) -> Result<()> {
        let needs = elf::needs(bytes).map_err(|failure| failure.context(of.to_owned()))?;
        if let Some(loader) = needs.loader
            && !self.entries.contains(&loader)
        {
            let bytes = self.read(&loader)?.ok_or_else(|| missing(&loader))?;
            self.entries.add(&loader, Node::Bytes(bytes.into()), 0o755)?;
        }
        for name in needs.libraries {
            self.add_library(&name, of)?;
        }
        Ok(())
    }

    fn add_library(&mut self, name: &str, of: &str) -> Result<()> {
        if name.contains('/') || !self.libraries.insert(name.to_owned()) {
            return Ok(());
        }
        for folder in LIBRARY_FOLDERS {
            if let Some(bytes) = self.read(&format!("{folder}/{name}"))? {
                self.add_needs(&bytes, name)?;
                let path = format!("{LIBRARIES}/{name}");
                return self.entries.add(&path, Node::Bytes(bytes.into()), 0o755);
            }
        }
        Err(missing(name).context(format!("{of} needs {name}")))
    }

    /// The file at `path`, or at its other place in a tree with or without merged `/usr`.
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        let reading = || format!("reading {path} of the tools tree");
        if let Some(bytes) = self.tree.read(path).or_io(reading)? {
            return Ok(Some(bytes));
        }
        let other = match path.strip_prefix("/usr") {
            Some(unmerged) => unmerged.to_owned(),
            None if MERGED.iter().any(|folder| path.starts_with(folder)) => format!("/usr{path}"),
            None => return Ok(None),
        };
        self.tree.read(&other).or_io(reading)
    }
}

fn missing(path: &str) -> Failure {
    Failure::new(Class::Missing, format!("the tools tree has no {path}"))
        .with_help("the packages for control-plane images are incomplete; build again")
}
