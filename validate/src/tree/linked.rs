//! Versions that Go's linker wrote into programs of Kubernetes.

use std::collections::BTreeSet;
use std::io::{self, Read};
use std::rc::Rc;

use memchr::memmem;
use nodekiln_recipes::recipe::Version;
use nodekiln_words::{Class, Result, ResultExt as _};

use super::{Kind, Tree};

/// Where programs of Kubernetes may be besides root's `PATH`: Flatcar's and its kin's.
pub(crate) const OPT: &str = "/opt/bin";
/// Longest version that is taken for one, in bytes: `v1.36.10-beta.1.1234+0123456789abcdef`.
const LONGEST: usize = 64;
/// Bytes of a program that are searched at once.
const WINDOW: usize = 1 << 20;

impl Tree<'_> {
    /// Where the program of Kubernetes called `name` is, on root's `PATH` or in /opt/bin.
    #[must_use]
    pub fn kubernetes_program(&self, name: &str) -> Option<String> {
        let in_opt = || {
            let (path, entry) = self.resolve(&format!("{OPT}/{name}"))?;
            (entry.kind == Kind::File).then_some(path)
        };
        self.program(name).or_else(in_opt)
    }

    /// The versions in the first part of the program at `path` that has any; none where it has none. A program has
    /// a hundred megabytes: it is read once, however often it is asked for.
    ///
    /// # Errors
    /// When its file system is damaged there.
    pub fn linked_versions(&self, path: &str) -> Result<Rc<BTreeSet<Version>>> {
        if let Some(known) = self.linked.borrow().get(path) {
            return Ok(Rc::clone(known));
        }
        let found = match self.open(path)? {
            None => BTreeSet::new(),
            Some(mut file) => first_linked(&mut file)
                .or_fail(Class::Input, || format!("read {path} of the image"))?,
        };
        let found = Rc::new(found);
        self.linked.borrow_mut().insert(path.to_owned(), Rc::clone(&found));
        Ok(found)
    }
}

/// The versions in `bytes`, as `-X …/version.gitVersion=v1.20.2` makes them. Such strings end in a zero byte and
/// stand after another, unlike constants of the source, which have neither.
fn versions_in(bytes: &[u8]) -> BTreeSet<Version> {
    let finder = memmem::Finder::new(b"\0v1.");
    let mut found = BTreeSet::new();
    for at in finder.find_iter(bytes) {
        let text = &bytes[at + 1..];
        let end = text.iter().take(LONGEST).position(|byte| *byte == 0);
        let Some(text) = end.and_then(|end| std::str::from_utf8(&text[..end]).ok()) else {
            continue;
        };
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b".+-_".contains(&byte);
        if text.bytes().all(fine) {
            found.extend(leading(text));
        }
    }
    found
}

/// The versions in the first part of a program that has any: the linker writes each value once for each variable.
fn first_linked(file: &mut dyn Read) -> io::Result<BTreeSet<Version>> {
    let mut window = Vec::with_capacity(WINDOW + LONGEST);
    loop {
        let read = file.take(WINDOW as u64).read_to_end(&mut window)?;
        let versions = versions_in(&window);
        if read == 0 || !versions.is_empty() {
            return Ok(versions);
        }
        // A version may begin in this window and end in the next.
        window.drain(..window.len().saturating_sub(LONGEST + 2));
    }
}

/// The three numbers that a version begins with, after a `v`; what a distribution adds is left out.
pub(crate) fn leading(text: &str) -> Option<Version> {
    let text = text.trim();
    let mut numbers = text.strip_prefix('v').unwrap_or(text).splitn(3, '.');
    let mut next = || {
        let word = numbers.next()?;
        let digits = word.bytes().take_while(u8::is_ascii_digit).count();
        word[..digits].parse().ok()
    };
    Some(Version { major: next()?, minor: next()?, patch: next()? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_the_linker_wrote_is_a_version() {
        let versions =
            |bytes: &[u8]| versions_in(bytes).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(versions(b"archive\0v1.20.2\0archive\0v1.20.2\0"), ["1.20.2"]);
        assert_eq!(versions(b"\0v1.36.10-beta.1.12+0a\0"), ["1.36.10"]);
        for other in [
            &b"utilde;v1.19.0v1.20.0v1.Time"[..],
            b"\0v1.20.2",
            b"\0v1.20\0",
            b"\0v1.20.2 x\0",
            b"",
        ] {
            assert!(versions(other).is_empty(), "{other:?}");
        }
        assert!(versions(&[b"\0v1.2.3".as_slice(), &[b'a'; LONGEST], b"\0"].concat()).is_empty());
    }

    #[test]
    fn a_version_is_found_wherever_windows_end() {
        for before in [0, 5, WINDOW - 12, WINDOW - 9, WINDOW - 1, WINDOW, 2 * WINDOW - 3] {
            let program = [vec![b'x'; before], b"\0v1.20.2\0".to_vec(), vec![b'y'; 9]].concat();
            let found = first_linked(&mut program.as_slice()).unwrap();
            assert_eq!(found.len(), 1, "{before}");
        }
        assert!(first_linked(&mut vec![0; 3 * WINDOW].as_slice()).unwrap().is_empty());
    }

    #[test]
    fn a_program_is_read_once_and_again_after_a_change() {
        let mut tree = Tree::default();
        tree.write("/opt/bin/kubelet", 0o755, "\0v1.30.2\0");
        let path = tree.kubernetes_program("kubelet").unwrap();
        let first = tree.linked_versions(&path).unwrap();
        assert_eq!(first.iter().map(ToString::to_string).collect::<Vec<_>>(), ["1.30.2"]);
        assert!(Rc::ptr_eq(&first, &tree.linked_versions(&path).unwrap()));
        tree.write("/opt/bin/kubelet", 0o755, "\0v1.31.0\0");
        assert_eq!(tree.linked_versions(&path).unwrap().first().unwrap().minor, 31);
        assert_eq!(tree.kubernetes_program("kubeadm"), None);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_searched(bytes in proptest::collection::vec(proptest::sample::select(b"\0v1.29x".to_vec()), 0..200)) {
            for version in versions_in(&bytes) {
                proptest::prop_assert_eq!(version.major, 1);
            }
        }
    }
}
