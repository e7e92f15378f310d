//! The paths that lists of known programs name, held against those of an image.

use crate::tree::{Kind, Tree, matches};

/// How an image's folders of programs are joined.
#[derive(Clone, Copy)]
pub(super) struct Folders {
    /// Whether /usr/sbin leads to /usr/bin, as Fedora has it from 42 on: what lists have in the one is in the other.
    sbin_is_bin: bool,
}

impl Folders {
    pub(super) fn of(tree: &Tree) -> Self {
        let is_link = tree.entry("/usr/sbin").is_some_and(|entry| entry.kind == Kind::Link);
        let leads = || tree.resolve("/usr/sbin").is_some_and(|(path, _)| path == "/usr/bin");
        Self { sbin_is_bin: is_link && leads() }
    }

    /// Whether `path` is that of the known program `own`, a pattern; before /usr was merged, programs stood without
    /// it.
    pub(super) fn fits(self, own: &str, path: &str) -> bool {
        let same = |own: &str, path: &str| {
            own.split('/').count() == path.split('/').count()
                && own.split('/').zip(path.split('/')).all(|(own, name)| matches(own, name))
        };
        let below_usr = |own: &str| {
            same(own, path) || (!path.starts_with("/usr/") && same(own, &format!("/usr{path}")))
        };
        let joined = own.strip_prefix("/usr/sbin/").filter(|_| self.sbin_is_bin);
        below_usr(own) || joined.is_some_and(|name| below_usr(&format!("/usr/bin/{name}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_fit_with_and_without_usr() {
        let folders = Folders::of(&Tree::default());
        assert!(folders.fits("/usr/bin/su", "/bin/su"));
        assert!(folders.fits("/usr/libexec/sssd/*_child", "/usr/libexec/sssd/krb5_child"));
        assert!(!folders.fits("/usr/bin/su", "/opt/usr/bin/su"));
        assert!(!folders.fits("/usr/bin/su", "/usr/bin/su/x"));
        assert!(!folders.fits("/usr/sbin/unix_chkpwd", "/usr/bin/unix_chkpwd"));
    }

    #[test]
    fn sbin_is_bin_where_it_is_a_link_to_it() {
        let mut tree = Tree::default();
        tree.folder("/usr/bin", 0o755);
        tree.link("/usr/sbin", "bin");
        let folders = Folders::of(&tree);
        assert!(folders.fits("/usr/sbin/unix_chkpwd", "/usr/bin/unix_chkpwd"));
        assert!(!folders.fits("/usr/sbin/unix_chkpwd", "/usr/bin/x/unix_chkpwd"));
        assert!(!folders.fits("/usr/bin/su", "/usr/sbin/su"));
        tree.link("/usr/sbin", "lib");
        assert!(!Folders::of(&tree).fits("/usr/sbin/unix_chkpwd", "/usr/bin/unix_chkpwd"));
    }
}
