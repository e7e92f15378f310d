//! The other clock of the second build: which library of this machine shows it, and to which trees it can.

use std::path::Path;

use nodekiln_recipes::Lock;
use nodekiln_words::{Class, Failure, Result, ResultExt as _};

use crate::kubernetes::elf;
use crate::sandbox::OtherClock;

/// Where distributions put libfaketime, Debian's place first. It is the variant for programs with threads,
/// which serves the others too (faketime(1), option -m).
const PLACES: [&str; 4] = [
    "/usr/lib/x86_64-linux-gnu/faketime/libfaketimeMT.so.1",
    "/usr/lib64/faketime/libfaketimeMT.so.1",
    "/usr/lib/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
];

/// By how much the second build's clock is ahead: 552 days are a year and six months and two days or more,
/// so year, month, day and weekday are others; the hours and seconds make the time of day another one.
const AHEAD: u32 = 552 * 86_400 + 5 * 3_600 + 7 * 60 + 11;

/// The package of Debian that has the C library.
const LIBC: &str = "libc6";
/// What the C library's versions of symbols begin with.
const VERSION: &str = "GLIBC_";

impl OtherClock {
    /// A clock that is a year and some months ahead, shown by this machine's libfaketime.
    ///
    /// # Errors
    /// `Missing` when this machine has no libfaketime.
    pub fn ahead() -> Result<Self> {
        let library = PLACES.iter().map(Path::new).find(|library| library.is_file());
        let library = library.map(Path::to_owned).ok_or_else(|| {
            Failure::new(Class::Missing, "this machine has no libfaketime")
                .with_help("install it: `apt install libfaketime`")
        })?;
        Ok(Self { library, ahead: AHEAD })
    }

    /// Fails where a tree of `lock` has a C library too old for this machine's libfaketime: no program
    /// could start there.
    ///
    /// # Errors
    /// `Unsupported` with tree and versions; when the library cannot be read.
    pub fn fits(&self, lock: &Lock) -> Result<()> {
        let needed = newest_glibc(&self.library)?;
        for (name, tree) in &lock.trees {
            let libc = tree.packages.iter().find(|package| package.name == LIBC);
            let Some(libc) = libc.and_then(|package| glibc(&package.version)) else { continue };
            if libc < needed {
                let text = |(major, minor)| format!("{major}.{minor}");
                return Err(Failure::new(
                    Class::Unsupported,
                    format!(
                        "this machine's libfaketime needs glibc {}, the tree `{name}` has {}",
                        text(needed),
                        text(libc)
                    ),
                )
                .with_help("run it on a machine of the recipe's release, or an older one"));
            }
        }
        Ok(())
    }
}

/// The newest version of glibc whose symbols `library` needs.
fn newest_glibc(library: &Path) -> Result<(u32, u32)> {
    let cannot = || format!("cannot read {}", library.display());
    let bytes = fs_err::read(library).or_io(cannot)?;
    let versions = elf::needs(&bytes).map_err(|failure| failure.context(cannot()))?.versions;
    let versions = versions.iter().filter_map(|version| glibc(version.strip_prefix(VERSION)?));
    Ok(versions.max().unwrap_or_default())
}

/// Major and minor of a version of glibc, with or without what Debian writes behind it.
fn glibc(version: &str) -> Option<(u32, u32)> {
    let upstream = version.split(['-', '+', '~']).next()?;
    let mut numbers = upstream.split('.');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use nodekiln_recipes::lock::{LockedPackage, LockedTree};
    use nodekiln_words::Sha256;

    use super::*;

    /// A lock whose tree `image` has this C library.
    fn lock(version: &str) -> Lock {
        let libc = LockedPackage {
            name: LIBC.to_owned(),
            version: version.to_owned(),
            architecture: "amd64".to_owned(),
            sha256: Sha256::of(version),
            size: 1,
            suite: "bookworm".to_owned(),
            component: "main".to_owned(),
            path: "pool/libc6.deb".to_owned(),
            source: "glibc".to_owned(),
            source_version: version.to_owned(),
            essential: false,
            requested: false,
        };
        let mut lock = Lock::default();
        let tree = LockedTree { packages: vec![libc], ..LockedTree::default() };
        lock.trees.insert("image".to_owned(), tree);
        lock
    }

    #[test]
    fn a_tree_with_an_older_c_library_than_libfaketime_needs_is_refused() {
        // This very program needs the C library of the machine that it was built on, as a library does.
        let clock = OtherClock { library: PathBuf::from("/proc/self/exe"), ahead: 1 };
        clock.fits(&lock("2.999-1+deb99u1")).unwrap();
        let failure = clock.fits(&lock("2.3.6-1")).unwrap_err();
        assert_eq!(failure.class(), Class::Unsupported);
        assert!(failure.to_string().ends_with("the tree `image` has 2.3"), "{failure}");
    }

    #[test]
    fn versions_of_glibc_are_compared_by_number() {
        assert!(glibc("2.9-25") < glibc("2.36-9+deb12u10"));
        assert_eq!(glibc("2.2.5"), Some((2, 2)));
        assert_eq!(glibc("PRIVATE"), None);
    }

    #[test]
    fn year_month_and_day_differ_whenever_the_first_build_runs() {
        let day = |unix: u64| {
            let date = nodekiln_words::SourceDate::from_unix(unix).unwrap().to_string();
            let part = |from, to| date[from..to].to_owned();
            [part(0, 4), part(5, 7), part(8, 10), part(11, 13)]
        };
        // Four years from 2026-01-01T01:00:00Z on, with a leap day among them.
        for days in 0..4 * 365 {
            let now = 1_767_229_200 + days * 86_400;
            let (one, other) = (day(now), day(now + u64::from(AHEAD)));
            assert!(one.iter().zip(&other).all(|(one, other)| one != other), "{one:?} {other:?}");
        }
    }
}
