//! An image's tree as users' rules ask it: what a running machine of it would answer, as far as its files tell.

use std::cell::OnceCell;
use std::io::Read;

use md5::Md5;
use nodekiln_goss::guest::{Answer, Answers, Question};
use nodekiln_goss::{
    Algorithm, FileFacts, FileKind, Known, PackageFacts, Target, Unknown, UserFacts,
};
use nodekiln_words::{Failure, Result};
use sha2::{Digest as _, Sha256, Sha512};

use super::volatile;
use crate::tree::units::{Enablement, Units};
use crate::tree::{Entry, Kind, Tree};

/// Where dpkg keeps its database; RPM is asked where there is none, or an empty one.
const DPKG_STATUS: &str = "/var/lib/dpkg/status";
/// What the name of a unit may end in (systemd.unit(5)).
const SUFFIXES: [&str; 11] = [
    ".service",
    ".socket",
    ".device",
    ".mount",
    ".automount",
    ".swap",
    ".target",
    ".path",
    ".timer",
    ".slice",
    ".scope",
];

/// A tree that answers.
pub(super) struct AtRest<'t, 'a> {
    tree: &'t Tree<'a>,
    /// Whether it answers for a machine that is yet to run, and so for nothing that only a running one has.
    before_a_boot: bool,
    units: OnceCell<Units<'t, 'a>>,
    /// Its /etc/passwd and /etc/group, which are read as those of a guest are.
    accounts: Answers,
}

impl<'t, 'a> AtRest<'t, 'a> {
    pub(super) fn of(tree: &'t Tree<'a>) -> Self {
        let mut accounts = Answers::default();
        for (question, path) in [(Question::Users, "/etc/passwd"), (Question::Groups, "/etc/group")]
        {
            let answer = match tree.read(path) {
                // Where there is no such file nobody is in it.
                Ok(bytes) => Answer {
                    status: Some(0),
                    stdout: bytes.unwrap_or_default(),
                    stderr: Vec::new(),
                },
                Err(failure) => Answer {
                    status: Some(1),
                    stdout: Vec::new(),
                    stderr: failure.chain().join(": ").into_bytes(),
                },
            };
            accounts.insert(question, answer);
        }
        Self { tree, before_a_boot: false, units: OnceCell::new(), accounts }
    }

    /// The tree in place of a machine that runs from it.
    pub(super) fn before_a_boot(tree: &'t Tree<'a>) -> Self {
        Self { before_a_boot: true, ..Self::of(tree) }
    }

    /// Refuses what only a running machine can tell of `path`.
    fn told(&self, path: &str, last: bool) -> Known<()> {
        match volatile::place(self.tree, path, last).filter(|_| self.before_a_boot) {
            Some(place) => {
                Err(Unknown::not_here(format!("only a running machine has what is below {place}")))
            }
            None => Ok(()),
        }
    }

    /// The path with a home directory in place of `~` or `~NAME` in front.
    fn path(&self, path: &str) -> Known<String> {
        let Some(rest) = path.strip_prefix('~') else { return Ok(path.to_owned()) };
        let (name, below) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
        let name = if name.is_empty() { "root" } else { name };
        match self.accounts.user(name)? {
            Some(user) if !user.home.is_empty() => Ok(format!("{}{below}", user.home)),
            _ => Err(Unknown::failed(format!("there is no user {name}"))),
        }
    }

    /// What stands at `path` itself, links followed on the way alone, as lstat(2) does.
    fn entry(&self, path: &str) -> Option<&Entry> {
        let (folder, name) = path.rsplit_once('/')?;
        // `/a/`, `/a/.` and `/a/..` are what they lead to.
        if matches!(name, "" | "." | "..") {
            return self.tree.resolve(path).map(|(_, entry)| entry);
        }
        match self.tree.resolve(folder)?.0.as_str() {
            "/" => self.tree.entry(&format!("/{name}")),
            folder => self.tree.entry(&format!("{folder}/{name}")),
        }
    }

    /// The file at `path` for reading, links followed.
    fn open(&self, path: &str) -> Known<Box<dyn Read + '_>> {
        let path = self.path(path)?;
        self.told(&path, true)?;
        match self.tree.open(&path).map_err(|failure| unread(&failure))? {
            Some(file) => Ok(file),
            None => Err(Unknown::failed(match self.tree.resolve(&path) {
                Some((_, Entry { kind: Kind::Folder, .. })) => "it is a directory",
                Some(_) => "it is no file",
                None => "there is no such file",
            })),
        }
    }

    fn units(&self) -> &Units<'t, 'a> {
        self.units.get_or_init(|| Units::of(self.tree))
    }

    /// The name of the user or group with this number in the file that `question` stands for, or the number.
    fn named(&self, path: &str, id: u32) -> Known<String> {
        let text = self.tree.text(path).map_err(|failure| unread(&failure))?.unwrap_or_default();
        let is_it =
            |line: &&str| line.split(':').nth(2).is_some_and(|field| field.parse() == Ok(id));
        let name = text.lines().find(is_it).and_then(|line| line.split(':').next());
        Ok(name.map_or_else(|| id.to_string(), str::to_owned))
    }
}

impl Target for AtRest<'_, '_> {
    fn file(&self, path: &str) -> Known<Option<FileFacts>> {
        let path = self.path(path)?;
        self.told(&path, false)?;
        let Some(entry) = self.entry(&path) else { return Ok(None) };
        Ok(Some(FileFacts {
            kind: kind(entry.kind),
            mode: entry.mode,
            size: entry.size,
            owner: self.named("/etc/passwd", entry.uid)?,
            group: self.named("/etc/group", entry.gid)?,
            uid: entry.uid,
            gid: entry.gid,
            link: entry.target.clone(),
        }))
    }

    fn contents(&self, path: &str) -> Known<Vec<u8>> {
        self.open(path)?; // says why it cannot be read
        let bytes = self.tree.read(&self.path(path)?).map_err(|failure| unread(&failure))?;
        bytes.ok_or_else(|| Unknown::failed("there is no such file"))
    }

    fn digest(&self, path: &str, algorithm: Algorithm) -> Known<String> {
        let mut file = self.open(path)?;
        let digest = match algorithm {
            Algorithm::Md5 => {
                let mut digest = Md5::default();
                each(&mut file, |bytes| md5::Digest::update(&mut digest, bytes))?;
                hexadecimal(&md5::Digest::finalize(digest))
            }
            Algorithm::Sha256 => {
                let mut digest = Sha256::new();
                each(&mut file, |bytes| digest.update(bytes))?;
                hexadecimal(&digest.finalize())
            }
            Algorithm::Sha512 => {
                let mut digest = Sha512::new();
                each(&mut file, |bytes| digest.update(bytes))?;
                hexadecimal(&digest.finalize())
            }
        };
        Ok(digest)
    }

    fn package(&self, name: &str) -> Known<PackageFacts> {
        let packages = self.tree.packages().map_err(|failure| unread(&failure))?;
        if let Some(why) = packages.unknown() {
            return Err(Unknown::not_here(why));
        }
        let rpm = self.tree.resolve(DPKG_STATUS).is_none_or(|(_, entry)| entry.size == 0);
        // Both package managers take an architecture behind the name: `libc6:amd64`, `bash.x86_64`.
        let sign = if rpm { '.' } else { ':' };
        let found = |wanted: &str, architecture: Option<&str>| -> Vec<String> {
            let all = packages.installed.iter().flatten();
            let fits = all.filter(|one| {
                one.name == wanted && architecture.is_none_or(|wanted| one.architecture == wanted)
            });
            fits.map(|one| one.version.clone()).collect()
        };
        let mut versions = found(name, None);
        if let Some((bare, architecture)) = name.rsplit_once(sign).filter(|_| versions.is_empty()) {
            versions = found(bare, Some(architecture));
        }
        Ok(PackageFacts { versions, rpm })
    }

    /// What `systemctl is-enabled` ends with 0 for: also a unit that nothing can enable (`static`, `indirect`).
    fn enabled(&self, unit: &str) -> Known<bool> {
        let named = SUFFIXES.iter().any(|suffix| unit.ends_with(suffix));
        let name = if named { unit.to_owned() } else { format!("{unit}.service") };
        Ok(match self.units().enablement(&name).map_err(|failure| unread(&failure))? {
            Enablement::Enabled(_) | Enablement::Preset(_) | Enablement::Static => true,
            Enablement::Absent | Enablement::Masked(_) => false,
            Enablement::Disabled => self.is_indirect(&name).map_err(|failure| unread(&failure))?,
        })
    }

    fn user(&self, name: &str) -> Known<Option<UserFacts>> {
        self.accounts.user(name)
    }

    fn group(&self, name: &str) -> Known<Option<u32>> {
        self.accounts.group(name)
    }
}

impl AtRest<'_, '_> {
    /// Whether the unit's `[Install]` names others to enable (`Also=`) and nothing that would enable it itself.
    fn is_indirect(&self, name: &str) -> Result<bool> {
        let unit = self.units().unit(name)?;
        Ok(unit.is_some_and(|unit| {
            let keys = ["WantedBy", "RequiredBy", "UpheldBy", "Alias"];
            keys.iter().all(|key| unit.values("Install", key).is_empty())
        }))
    }
}

fn unread(failure: &Failure) -> Unknown {
    Unknown::failed(failure.chain().join(": "))
}

fn each(file: &mut dyn Read, mut take: impl FnMut(&[u8])) -> Known<()> {
    let mut buffer = vec![0; 1 << 16];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => take(&buffer[..count]),
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(Unknown::failed(error.to_string())),
        }
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn kind(kind: Kind) -> FileKind {
    match kind {
        Kind::File => FileKind::File,
        Kind::Folder => FileKind::Directory,
        Kind::Link => FileKind::Symlink,
        Kind::Socket => FileKind::Socket,
        Kind::Pipe => FileKind::Pipe,
        Kind::CharacterDevice => FileKind::CharacterDevice,
        Kind::BlockDevice => FileKind::BlockDevice,
    }
}
