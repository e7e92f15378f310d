//! Reads through layers without mounting them.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::ffi::OsString;
use std::fs::{self, Metadata};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::path::{Component, Path, PathBuf};

use nodekiln_recipes::inventory::TreeReader;

use super::confined::is_absent;
use super::extended::is_opaque;

/// Links followed before a lookup is given up, as in the kernel (path_resolution(7)).
const LINK_LIMIT: usize = 40;

/// Layers merged as overlayfs would, bottom first.
#[derive(Clone, Debug)]
pub struct LayeredTree {
    layers: Vec<PathBuf>,
}

/// What one layer has at a path.
enum Seen {
    /// Something, which hides all below it unless it is a directory that is not opaque.
    Here(PathBuf, Metadata),
    /// The same in a directory that is opaque, so that lower layers cannot be seen there.
    Alone(PathBuf, Metadata),
    /// Nothing, and lower layers cannot be seen there either.
    Hidden,
    /// Nothing; a lower layer may have it.
    Below,
}

/// Whether this is overlayfs's mark that a name of lower layers is gone: character device 0/0.
pub(crate) fn is_whiteout(metadata: &Metadata) -> bool {
    metadata.file_type().is_char_device() && metadata.rdev() == 0
}

impl LayeredTree {
    /// The tree that `layers` (bottom first) make.
    #[must_use]
    pub fn new(layers: Vec<PathBuf>) -> Self {
        Self { layers }
    }

    /// Where what stands at `path` (absolute, without links in it) is stored, and its metadata.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub fn find(&self, path: &Path) -> io::Result<Option<(PathBuf, Metadata)>> {
        for layer in self.layers.iter().rev() {
            match look(layer, path)? {
                Seen::Here(place, metadata) | Seen::Alone(place, metadata) => {
                    return Ok(Some((place, metadata)));
                }
                Seen::Hidden => return Ok(None),
                Seen::Below => {}
            }
        }
        Ok(None)
    }

    /// As [`LayeredTree::find`], with links followed within the tree.
    ///
    /// # Errors
    /// When a layer cannot be read, or links lead in a circle.
    pub fn follow(&self, path: &Path) -> io::Result<Option<(PathBuf, Metadata)>> {
        let mut waiting: Vec<OsString> = reversed(path);
        let mut walked = PathBuf::from("/");
        let mut found = self.find(&walked)?;
        let mut links = 0;
        while let Some(name) = waiting.pop() {
            if name == ".." {
                walked.pop();
                found = self.find(&walked)?;
                continue;
            }
            let next = walked.join(&name);
            found = self.find(&next)?;
            match &found {
                None => return Ok(None),
                Some((place, metadata)) if metadata.is_symlink() => {
                    links += 1;
                    if links > LINK_LIMIT {
                        return Err(io::Error::other("too many links"));
                    }
                    let target = fs::read_link(place)?;
                    if target.is_absolute() {
                        walked = PathBuf::from("/");
                    }
                    waiting.extend(reversed(&target));
                    found = self.find(&walked)?;
                }
                Some(_) => walked = next,
            }
        }
        Ok(found)
    }

    /// The names in the directory that `path` leads to, sorted bytewise; empty where there is none.
    ///
    /// # Errors
    /// When a layer cannot be read.
    pub fn list(&self, path: &Path) -> io::Result<Vec<OsString>> {
        let Some(path) = self.real_path(path)? else {
            return Ok(Vec::new());
        };
        // The topmost layer that has a name decides whether it is there.
        let mut names: BTreeMap<OsString, bool> = BTreeMap::new();
        for layer in self.layers.iter().rev() {
            let (place, metadata, last) = match look(layer, &path)? {
                Seen::Here(place, metadata) => (place, metadata, false),
                Seen::Alone(place, metadata) => (place, metadata, true),
                Seen::Below => continue,
                Seen::Hidden => break,
            };
            if !metadata.is_dir() {
                break;
            }
            for entry in fs::read_dir(&place)? {
                let entry = entry?;
                if let Entry::Vacant(vacant) = names.entry(entry.file_name()) {
                    vacant.insert(!is_whiteout(&entry.metadata()?));
                }
            }
            if last || is_opaque(&place)? {
                break;
            }
        }
        Ok(names.into_iter().filter_map(|(name, there)| there.then_some(name)).collect())
    }

    /// The path without links that `path` leads to, where something stands there.
    fn real_path(&self, path: &Path) -> io::Result<Option<PathBuf>> {
        let Some((place, _)) = self.follow(path)? else {
            return Ok(None);
        };
        let inside = self.layers.iter().find_map(|layer| place.strip_prefix(layer).ok());
        Ok(inside.map(|inside| Path::new("/").join(inside)))
    }
}

impl TreeReader for LayeredTree {
    fn read(&self, path: &str) -> io::Result<Option<Vec<u8>>> {
        match self.follow(Path::new(path))? {
            Some((place, metadata)) if metadata.is_file() => Ok(Some(fs::read(place)?)),
            _ => Ok(None),
        }
    }
}

/// The names of a path, last first, `..` among them.
fn reversed(path: &Path) -> Vec<OsString> {
    let names = path
        .components()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir));
    names.map(|part| part.as_os_str().to_owned()).rev().collect()
}

fn look(layer: &Path, path: &Path) -> io::Result<Seen> {
    let mut place = layer.to_path_buf();
    let mut metadata = fs::symlink_metadata(&place)?;
    let mut opaque = false;
    for part in path.components() {
        let Component::Normal(name) = part else {
            continue;
        };
        if !metadata.is_dir() {
            return Ok(Seen::Hidden);
        }
        opaque = opaque || is_opaque(&place)?;
        place.push(name);
        metadata = match fs::symlink_metadata(&place) {
            Ok(metadata) if is_whiteout(&metadata) => return Ok(Seen::Hidden),
            Ok(metadata) => metadata,
            Err(error) if is_absent(&error) => {
                return Ok(if opaque { Seen::Hidden } else { Seen::Below });
            }
            Err(error) => return Err(error),
        };
    }
    Ok(if opaque { Seen::Alone(place, metadata) } else { Seen::Here(place, metadata) })
}
