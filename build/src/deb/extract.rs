//! Extracts one package's file tree.
//!
//! What lands where follows dpkg(1) and deb(5): numeric owners, set-id bits, modification times, hard
//! links within the package, devices, and extended attributes from pax headers.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::rc::Rc;

use nodekiln_words::{Failure, Result, ResultExt};
use rustix::fs::{self, AtFlags, FileType, Mode, XattrFlags};
use rustix::io::Errno;
use tar::EntryType;

use super::archive::{Deb, TarBytes, drain};
use super::claims::{Claim, Judgement, Kind, judge};
use super::control::Control;
use super::tree::{Attributes, Folder, Folders, split};
use super::unpack::{Conffiles, Shared};

/// Bytes written at a time; cancelling is looked at as often.
const BLOCK: usize = 256 << 10;
/// What dpkg appends to the name of a conffile until the package is configured.
pub(crate) const PENDING: &str = ".dpkg-new";
/// How tar's pax headers name an extended attribute.
const PAX_XATTR: &str = "SCHILY.xattr.";

type Entry<'a> = tar::Entry<'a, TarBytes>;

/// One package being extracted by one worker.
pub(crate) struct Extraction<'a> {
    shared: &'a Shared<'a>,
    package: &'a Control,
    index: usize,
    folders: Folders<'a>,
    conffiles: HashSet<&'a [u8]>,
    list: Vec<Vec<u8>>,
    buffer: Vec<u8>,
}

/// Where an entry goes.
struct Place {
    folder: Rc<Folder>,
    name: OsString,
    /// Path as the package has it.
    literal: Vec<u8>,
    /// Path without links.
    path: Vec<u8>,
}

impl<'a> Extraction<'a> {
    /// Extracts `deb`, the package with this `index`, and returns the paths that belong to it.
    pub(crate) fn run(deb: &Deb, index: usize, shared: &'a Shared<'a>) -> Result<Vec<Vec<u8>>> {
        let package = &shared.packages[index];
        let conffiles = package.conffiles.iter().map(|conffile| conffile.path.as_bytes());
        let mut extraction = Self {
            shared,
            package,
            index,
            folders: Folders::new(shared.tree),
            conffiles: conffiles.collect(),
            list: Vec::new(),
            buffer: vec![0; BLOCK],
        };
        extraction.archive(deb)?;
        Ok(extraction.list)
    }

    fn archive(&mut self, deb: &Deb) -> Result<()> {
        let damaged = |offset: u64| {
            format!("package {}: its file tree is damaged at offset {offset}", deb.label())
        };
        let mut archive = tar::Archive::new(deb.data()?);
        let mut offset = 0;
        for entry in archive.entries().or_io(|| damaged(0))? {
            let entry = entry.or_io(|| damaged(offset))?;
            offset = entry.raw_file_position();
            self.shared.cancel.check()?;
            self.entry(entry).map_err(|failure| {
                let class = failure.class();
                let message =
                    format!("package {}: entry at offset {offset} of its file tree", deb.label());
                if class == nodekiln_words::Class::Interrupted {
                    failure
                } else {
                    failure.context(message)
                }
            })?;
        }
        drain(archive.into_inner()).or_io(|| damaged(offset))
    }

    fn entry(&mut self, mut entry: Entry) -> Result<()> {
        let literal = clean(&entry.path_bytes())?;
        let named = |what: &str| format!("{}: {what}", String::from_utf8_lossy(&literal));
        let header = entry.header();
        let own = || -> io::Result<Attributes> {
            Ok(Attributes {
                mode: header.mode()? & 0o7777,
                uid: u32::try_from(header.uid()?).map_err(io::Error::other)?,
                gid: u32::try_from(header.gid()?).map_err(io::Error::other)?,
                mtime: header.mtime()?,
            })
        };
        let own = own().or_io(|| named("header has no valid owner, mode or time"))?;
        let attributes = self.shared.decisions.attributes(&literal, own);
        let kind = header.entry_type();
        let place = self.place(&literal).or_io(|| named("its folder is not there"))?;
        let belongs = match kind {
            EntryType::Directory => self.folder(&place, attributes)?,
            EntryType::Regular | EntryType::Continuous => {
                self.file(&place, attributes, &mut entry)?
            }
            EntryType::Symlink => self.link(&place, attributes, &entry)?,
            EntryType::Link => self.hard_link(&place, &entry)?,
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                self.node(&place, attributes, &entry)?
            }
            _ => return Err(Failure::io(named("of a kind that packages do not have"))),
        };
        if belongs {
            self.list.push(if literal == b"/" { b"/.".to_vec() } else { literal });
        }
        Ok(())
    }

    /// Where what the package has at `literal` goes: diverted, and set aside if it is a conffile.
    fn place(&self, literal: &[u8]) -> io::Result<Place> {
        let used = self.shared.decisions.place(literal, &self.package.name);
        let (folder, name) = split(used);
        let mut name = name.to_owned();
        if self.shared.conffiles == Conffiles::Pending && self.conffiles.contains(literal) {
            name.push(PENDING);
        }
        let folder = self.folders.get(folder)?;
        let path = folder.path_of(&name);
        Ok(Place { folder, name, literal: literal.to_vec(), path })
    }

    /// Runs `make` if the path is this package's to write; nobody else writes it meanwhile.
    fn settle<T>(
        &self,
        place: &Place,
        make: impl FnOnce() -> io::Result<(T, Kind)>,
    ) -> Result<Option<T>> {
        let packages = self.shared.packages;
        let mut claims = self.shared.claims.lock(&place.path);
        if let Some(claim) = claims.get(&place.path) {
            if matches!(claim.kind, Kind::Folder(Some(_))) && claim.owner != self.index {
                return Err(self.conflict(place, claim.owner));
            }
            let replaces = |a: usize, b: usize| packages[a].replaces(&packages[b]);
            match judge(self.index, claim.owner, replaces) {
                Judgement::Keep => return Ok(None),
                Judgement::Conflict => return Err(self.conflict(place, claim.owner)),
                Judgement::Write if claim.owner != self.index && claim.linked => {
                    return Err(self.taken(place, self.index, claim.owner));
                }
                Judgement::Write if claim.owner != self.index => {
                    let mut lost =
                        self.shared.lost.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
                    lost.push((claim.owner, claim.literal.clone()));
                }
                Judgement::Write => {}
            }
        }
        let (made, kind) = make().or_io(|| place.says("cannot be made"))?;
        let claim = Claim::new(self.index, place.literal.clone(), kind);
        claims.insert(place.path.clone(), claim);
        Ok(Some(made))
    }

    /// The failure of a `linker` whose hard link leads to what the `taker` has in its place.
    fn taken(&self, place: &Place, taker: usize, linker: usize) -> Failure {
        let name = |index: usize| &self.shared.packages[index].name;
        let text = format!(
            "package {} has a hard link to {}, which package {} replaces",
            name(linker),
            place.shown(),
            name(taker)
        );
        Failure::input(text).with_help("leave one of the two packages out")
    }

    fn conflict(&self, place: &Place, owner: usize) -> Failure {
        let packages = self.shared.packages;
        let (mut a, mut b) = (&packages[owner].name, &self.package.name);
        if owner > self.index {
            (a, b) = (b, a);
        }
        Failure::input(format!("packages {a} and {b} both have {}", place.shown()))
            .with_help("leave one of the two out; neither declares that it replaces the other")
    }

    fn folder(&self, place: &Place, attributes: Attributes) -> Result<bool> {
        let mut claims = self.shared.claims.lock(&place.path);
        let kind = Kind::Folder(Some(attributes));
        let new = Claim::new(self.index, place.literal.clone(), kind);
        match claims.get_mut(&place.path) {
            Some(Claim { owner, kind: Kind::Folder(wanted), .. }) => {
                if wanted.is_some() && self.index < *owner {
                    (*owner, *wanted) = (self.index, Some(attributes));
                }
                return Ok(true);
            }
            Some(claim) if claim.owner != self.index && claim.kind == Kind::NewLink => {
                return Err(self.conflict(place, claim.owner));
            }
            _ => {}
        }
        // The root is there before any package, and takes its attributes from the first one.
        let made = place.name.is_empty()
            || place.folder.make(&place.name, 0o700).or_io(|| place.says("cannot be made"))?;
        if made {
            claims.insert(place.path.clone(), new);
        } else if !self.is_folder(place) {
            return Err(match claims.get(&place.path) {
                Some(claim) if claim.owner != self.index => self.conflict(place, claim.owner),
                _ => Failure::io(place.says("is in the way of a folder")),
            });
        }
        Ok(true)
    }

    /// Whether the path leads to a folder within the tree, links followed.
    fn is_folder(&self, place: &Place) -> bool {
        self.shared.tree.folder(&place.path).is_ok()
    }

    fn file(&mut self, place: &Place, attributes: Attributes, entry: &mut Entry) -> Result<bool> {
        let Some(fd) =
            self.settle(place, || Ok((place.folder.create(&place.name)?, Kind::Other)))?
        else {
            return Ok(false);
        };
        let mut file = File::from(fd);
        loop {
            let length =
                entry.read(&mut self.buffer).or_io(|| place.says("its content is damaged"))?;
            if length == 0 {
                break;
            }
            self.shared.cancel.check()?;
            file.write_all(&self.buffer[..length]).or_io(|| place.says("cannot be written"))?;
        }
        let xattrs = xattrs(entry).or_io(|| place.says("its extended attributes are damaged"))?;
        let dress = || -> io::Result<()> {
            // Changing the owner clears set-id bits, so the mode comes after it.
            let (uid, gid) = attributes.owner();
            fs::fchown(&file, uid, gid)?;
            fs::fchmod(&file, attributes.permissions())?;
            for (name, value) in &xattrs {
                fs::fsetxattr(&file, name.as_str(), value, XattrFlags::empty())?;
            }
            Ok(fs::futimens(&file, &attributes.times())?)
        };
        dress().or_io(|| place.says("attributes cannot be set"))?;
        Ok(true)
    }

    fn link(&self, place: &Place, attributes: Attributes, entry: &Entry) -> Result<bool> {
        let target = entry.link_name_bytes().filter(|target| !target.is_empty());
        let target = target.ok_or_else(|| Failure::io(place.says("link without a target")))?;
        let target = OsStr::from_bytes(&target);
        let make = || -> io::Result<((), Kind)> {
            let fd = place.folder.fd();
            let mut kind = Kind::NewLink;
            match kind_of(place)? {
                // A folder stays, as with dpkg; so does the same link, which others may be using.
                Some(FileType::Directory) => return Ok(((), Kind::Other)),
                Some(FileType::Symlink)
                    if fs::readlinkat(fd, &place.name, Vec::new())?.as_bytes()
                        == target.as_bytes() =>
                {
                    kind = Kind::Other;
                }
                Some(_) => {
                    fs::unlinkat(fd, &place.name, AtFlags::empty())?;
                    fs::symlinkat(target, fd, &place.name)?;
                }
                None => fs::symlinkat(target, fd, &place.name)?,
            }
            let (uid, gid) = attributes.owner();
            fs::chownat(fd, &place.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            fs::utimensat(fd, &place.name, &attributes.times(), AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(((), kind))
        };
        Ok(self.settle(place, make)?.is_some())
    }

    fn hard_link(&self, place: &Place, entry: &Entry) -> Result<bool> {
        let target = clean(&entry.link_name_bytes().unwrap_or_default())?;
        let target =
            self.place(&target).or_io(|| place.says("its target's folder is not there"))?;
        self.link_to(place, &target)?;
        let make = || -> io::Result<((), Kind)> {
            place.folder.remove(&place.name)?;
            let (from, to) = (target.folder.fd(), place.folder.fd());
            fs::linkat(from, &target.name, to, &place.name, AtFlags::empty())?;
            Ok(((), Kind::Other))
        };
        Ok(self.settle(place, make)?.is_some())
    }

    /// Marks the target of a hard link, which must be this package's own and stays so.
    fn link_to(&self, place: &Place, target: &Place) -> Result<()> {
        let mut claims = self.shared.claims.lock(&target.path);
        match claims.get_mut(&target.path) {
            Some(claim) if claim.owner == self.index => {
                claim.linked = true;
                Ok(())
            }
            Some(claim) => Err(self.taken(target, claim.owner, self.index)),
            None => {
                let text = format!("hard link to {}, which is not before it", target.shown());
                Err(Failure::io(place.says(&text)))
            }
        }
    }

    fn node(&self, place: &Place, attributes: Attributes, entry: &Entry) -> Result<bool> {
        let header = entry.header();
        let make = || -> io::Result<((), Kind)> {
            let number = || -> io::Result<u64> {
                let (major, minor) = (header.device_major()?, header.device_minor()?);
                Ok(fs::makedev(major.unwrap_or(0), minor.unwrap_or(0)))
            };
            let (kind, number) = match header.entry_type() {
                EntryType::Char => (FileType::CharacterDevice, number()?),
                EntryType::Block => (FileType::BlockDevice, number()?),
                _ => (FileType::Fifo, 0),
            };
            place.folder.remove(&place.name)?;
            let fd = place.folder.fd();
            let mode = Mode::from_raw_mode(0o600);
            fs::mknodat(fd, &place.name, kind, mode, number)?;
            let (uid, gid) = attributes.owner();
            fs::chownat(fd, &place.name, uid, gid, AtFlags::SYMLINK_NOFOLLOW)?;
            fs::chmodat(fd, &place.name, attributes.permissions(), AtFlags::empty())?;
            fs::utimensat(fd, &place.name, &attributes.times(), AtFlags::SYMLINK_NOFOLLOW)?;
            Ok(((), Kind::Other))
        };
        Ok(self.settle(place, make)?.is_some())
    }
}

impl Place {
    fn shown(&self) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(&self.literal)
    }

    fn says(&self, what: &str) -> String {
        format!("{}: {what}", self.shown())
    }
}

/// An entry's path as an absolute one without `.` and empty components.
fn clean(path: &[u8]) -> Result<Vec<u8>> {
    let refused =
        |why: &str| Failure::io(format!("path {:?} {why}", String::from_utf8_lossy(path)));
    if path.iter().any(|byte| matches!(byte, 0 | b'\n')) {
        return Err(refused("has a line break or a zero byte"));
    }
    let mut cleaned = Vec::with_capacity(path.len() + 1);
    for component in path.split(|byte| *byte == b'/') {
        match component {
            b"" | b"." => {}
            b".." => return Err(refused("leads upwards")),
            component => {
                cleaned.push(b'/');
                cleaned.extend(component);
            }
        }
    }
    Ok(if cleaned.is_empty() { b"/".to_vec() } else { cleaned })
}

fn xattrs(entry: &mut Entry) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut xattrs = Vec::new();
    for extension in entry.pax_extensions()?.into_iter().flatten() {
        let extension = extension?;
        let key = extension.key().map_err(io::Error::other)?;
        if let Some(name) = key.strip_prefix(PAX_XATTR) {
            xattrs.push((name.to_owned(), extension.value_bytes().to_vec()));
        }
    }
    Ok(xattrs)
}

fn kind_of(place: &Place) -> io::Result<Option<FileType>> {
    match fs::statat(place.folder.fd(), &place.name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(FileType::from_raw_mode(stat.st_mode))),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}
