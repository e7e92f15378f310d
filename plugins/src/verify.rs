//! Whether a plugin wrote what it says it wrote.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use nodekiln_plugin_protocol as said;
use nodekiln_words::{Cancel, Failure, Result, ResultExt as _, Sha256};
use rustix::fs::{CWD, Mode, OFlags, openat, renameat};

use crate::process::printable;

/// The folder that a plugin writes into, held open so that it cannot be exchanged for another.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    open: OwnedFd,
}

/// A file that is what the plugin said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Verified {
    pub(crate) file: String,
    pub(crate) bytes: u64,
    pub(crate) sha256: Sha256,
}

impl Folder {
    /// Opens the folder at `path`.
    pub(crate) fn open(path: &Path) -> Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let open = rustix::fs::open(path, flags, Mode::empty())
            .map_err(std::io::Error::from)
            .or_io(|| format!("cannot open {}", path.display()))?;
        Ok(Self { path: path.to_owned(), open })
    }

    /// Its path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Reads what the plugin `name` says it wrote: the files of `expected`, all of them and no other, each a
    /// file of its own with the length and the digest that are told. They are flushed to their device.
    pub(crate) fn verify(
        &self,
        name: &str,
        expected: &[String],
        told: &[said::Artifact],
        cancel: &Cancel,
    ) -> Result<Vec<Verified>> {
        let files: Vec<&str> = told.iter().map(|artifact| artifact.file.as_str()).collect();
        if files != expected {
            let text = format!(
                "provider plugin `{name}` says it wrote {}, where {} was announced",
                words(&files),
                words(&expected.iter().map(String::as_str).collect::<Vec<_>>())
            );
            return Err(lie(name, &text));
        }
        let verified = told.iter().map(|artifact| self.verify_file(name, artifact, cancel));
        let verified = verified.collect::<Result<Vec<_>>>()?;
        for entry in fs_err::read_dir(&self.path).or_io(|| self.unreadable())? {
            let entry = entry.or_io(|| self.unreadable())?.file_name();
            if !expected.iter().any(|file| entry.to_str() == Some(file)) {
                let text = format!(
                    "provider plugin `{name}` left `{}` beside its artifact",
                    entry.to_string_lossy()
                );
                return Err(lie(name, &text));
            }
        }
        Ok(verified)
    }

    fn verify_file(&self, name: &str, told: &said::Artifact, cancel: &Cancel) -> Result<Verified> {
        let said::Artifact { file, bytes, sha256 } = told;
        let claimed: Sha256 = sha256.parse().map_err(|_| {
            lie(
                name,
                &format!(
                    "provider plugin `{name}` gives `{file}` the digest `{sha256}`, which is none"
                ),
            )
        })?;
        let open = self.open_file(name, file)?;
        let length = open.metadata().or_io(|| self.unreadable())?.len();
        if length != *bytes {
            let text = format!(
                "provider plugin `{name}` says that `{file}` has {bytes} bytes, and it has {length}"
            );
            return Err(lie(name, &text));
        }
        let found = Sha256::of_stream(&open, cancel, || format!("cannot read {file}"))?;
        if found != claimed {
            let text = format!(
                "provider plugin `{name}` says that `{file}` has the sha256 {claimed}, and it has {found}"
            );
            return Err(lie(name, &text));
        }
        open.sync_all().or_io(|| format!("cannot write {file}"))?;
        Ok(Verified { file: file.clone(), bytes: length, sha256: found })
    }

    /// Moves a file that was verified into the folder `to`, on the same file system.
    pub(crate) fn hand_over(&self, file: &str, to: &Path) -> Result<()> {
        renameat(&self.open, file, CWD, to.join(file))
            .map_err(std::io::Error::from)
            .or_io(|| format!("cannot move {file} into {}", to.display()))
    }

    /// Opens a file of the folder that is really one: nothing that a name elsewhere leads to, or from.
    fn open_file(&self, name: &str, file: &str) -> Result<File> {
        // A pipe that nobody writes to would keep its reader waiting.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        let open = match openat(&self.open, file, flags, Mode::empty()) {
            Ok(open) => File::from(open),
            Err(rustix::io::Errno::NOENT) => {
                let text =
                    format!("provider plugin `{name}` says it wrote `{file}`, which is not there");
                return Err(lie(name, &text));
            }
            Err(rustix::io::Errno::LOOP) => return Err(no_file(name, file, "a symbolic link")),
            Err(error) => {
                let error = std::io::Error::from(error);
                return Err(error)
                    .or_io(|| format!("cannot open {file} of provider plugin `{name}`"));
            }
        };
        let kind = open.metadata().or_io(|| self.unreadable())?;
        if !kind.is_file() {
            return Err(no_file(name, file, "no regular file"));
        }
        if kind.nlink() != 1 {
            return Err(no_file(name, file, "a second name of a file elsewhere"));
        }
        Ok(open)
    }

    fn unreadable(&self) -> String {
        format!("cannot read {}", self.path.display())
    }
}

fn no_file(name: &str, file: &str, what: &str) -> Failure {
    lie(name, &format!("provider plugin `{name}` wrote `{file}` as {what}"))
}

/// What the plugin says is not so; `text` may repeat its words as they are.
fn lie(name: &str, text: &str) -> Failure {
    Failure::io(printable(text))
        .with_help(format!("`nodekiln provider check {name}` tells its author more"))
}

fn words(files: &[&str]) -> String {
    match files {
        [] => "nothing".to_owned(),
        files => files.iter().map(|file| format!("`{file}`")).collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use nodekiln_words::Class;

    use super::*;

    struct Place {
        work: tempfile::TempDir,
        folder: Folder,
    }

    fn place() -> Place {
        let work = tempfile::tempdir().unwrap();
        let path = work.path().join("out");
        fs_err::create_dir(&path).unwrap();
        let folder = Folder::open(&path).unwrap();
        Place { work, folder }
    }

    fn told(file: &str, content: &str) -> said::Artifact {
        let (file, sha256) = (file.to_owned(), Sha256::of(content).to_string());
        said::Artifact { file, bytes: content.len() as u64, sha256 }
    }

    impl Place {
        fn verify(&self, told: &[said::Artifact]) -> Result<Vec<Verified>> {
            self.folder.verify("x", &["a.x".to_owned()], told, &Cancel::default())
        }

        fn refuses(&self, told: &said::Artifact, text: &str) {
            let failure = self.verify(std::slice::from_ref(told)).unwrap_err();
            assert!(failure.to_string().contains(text), "{failure}");
            assert_eq!(failure.class(), Class::Io);
            assert!(failure.help().unwrap().contains("provider check x"), "{failure:?}");
        }
    }

    #[test]
    fn what_is_told_as_it_is_passes() {
        let place = place();
        fs_err::write(place.folder.path().join("a.x"), "content").unwrap();
        let verified = place.verify(&[told("a.x", "content")]).unwrap();
        let expected = Verified { file: "a.x".to_owned(), bytes: 7, sha256: Sha256::of("content") };
        assert_eq!(verified, [expected]);
    }

    #[test]
    fn what_is_told_otherwise_is_refused() {
        let place = place();
        place.refuses(&told("a.x", "content"), "which is not there");
        fs_err::write(place.folder.path().join("a.x"), "content").unwrap();
        place.refuses(&told("a.x", "con"), "has 3 bytes, and it has 7");
        place.refuses(&told("a.x", "CONTENT"), "and it has ");
        place.refuses(
            &said::Artifact { sha256: "abc".to_owned(), ..told("a.x", "content") },
            "which is none",
        );
        place.refuses(&told("b.x", "content"), "says it wrote `b.x`, where `a.x` was announced");
        place.refuses(&told("../out/a.x", "content"), "says it wrote `../out/a.x`");
        let failure = place.verify(&[]).unwrap_err();
        assert!(failure.to_string().contains("says it wrote nothing"), "{failure}");
        fs_err::write(place.folder.path().join("more"), "").unwrap();
        place.refuses(&told("a.x", "content"), "left `more` beside its artifact");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_is_repeated() {
        let place = place();
        let artifact = told("a.x", "content");
        fs_err::write(place.folder.path().join("a.x"), "content").unwrap();
        let sha256 = "\u{1b}[1m".to_owned();
        place.refuses(&said::Artifact { sha256, ..artifact.clone() }, "the digest `\u{fffd}[1m`");
        place.refuses(&told("\u{1b}c", "content"), "says it wrote `\u{fffd}c`");
        fs_err::write(place.folder.path().join("\u{1b}]0;"), "").unwrap();
        place.refuses(&artifact, "left `\u{fffd}]0;` beside its artifact");
    }

    #[test]
    fn what_is_no_file_of_its_own_is_refused() {
        let place = place();
        let (elsewhere, here) = (place.work.path().join("else"), place.folder.path().join("a.x"));
        fs_err::write(&elsewhere, "content").unwrap();
        std::os::unix::fs::symlink(&elsewhere, &here).unwrap();
        place.refuses(&told("a.x", "content"), "a symbolic link");
        fs_err::remove_file(&here).unwrap();
        fs_err::hard_link(&elsewhere, &here).unwrap();
        place.refuses(&told("a.x", "content"), "a second name of a file elsewhere");
        fs_err::remove_file(&here).unwrap();
        fs_err::create_dir(&here).unwrap();
        place.refuses(&told("a.x", "content"), "no regular file");
        fs_err::remove_dir(&here).unwrap();
        let mode = Mode::from_raw_mode(0o600);
        rustix::fs::mknodat(CWD, &here, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        place.refuses(&told("a.x", ""), "no regular file");
    }

    /// The plugin may give the folder's name to another one; what is read is the one it was given.
    #[test]
    fn a_folder_in_its_place_is_not_looked_into() {
        let place = place();
        let moved = place.work.path().join("moved");
        fs_err::rename(place.folder.path(), &moved).unwrap();
        fs_err::create_dir(place.folder.path()).unwrap();
        fs_err::write(place.folder.path().join("a.x"), "content").unwrap();
        place.refuses(&told("a.x", "content"), "which is not there");
    }
}
