//! The kernels that a boot loader may start and the arguments that it gives them.

use std::collections::BTreeSet;

use nodekiln_words::Result;

use super::Tree;

/// GRUB's configuration, where distributions put it.
const GRUB: [&str; 2] = ["/boot/grub/grub.cfg", "/boot/grub2/grub.cfg"];
/// Entries of the boot loader specification.
const ENTRIES: &str = "/boot/loader/entries";
/// What the file of a kernel is called before its release.
const KERNEL: &str = "vmlinuz-";

/// What boot loaders of a tree may start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Loader {
    /// One for each entry of a menu.
    pub entries: Vec<Entry>,
    /// Releases of the kernels that entries name; without any, of those in /boot.
    pub kernels: BTreeSet<String>,
}

/// An entry of a boot loader's menu.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The file that has it.
    pub path: String,
    /// The line there, from 1 on.
    pub line: usize,
    /// The kernel's release, where its file tells it.
    pub release: Option<String>,
    /// The kernel's arguments.
    pub arguments: String,
}

impl Loader {
    /// That of `tree`.
    ///
    /// # Errors
    /// When one of its files cannot be read.
    pub fn of(tree: &Tree) -> Result<Self> {
        let mut entries = Vec::new();
        for path in GRUB {
            let text = tree.text(path)?.unwrap_or_default();
            entries.extend(grub(&text, path));
        }
        for name in tree.names(ENTRIES) {
            if !name.ends_with(".conf") {
                continue;
            }
            let path = format!("{ENTRIES}/{name}");
            entries.extend(specified(tree, &tree.text(&path)?.unwrap_or_default(), &path)?);
        }
        for entry in &mut entries {
            entry.release = entry.release.take().and_then(|file| release(tree, &file));
        }
        let mut kernels: BTreeSet<String> = entries
            .iter()
            .filter_map(|entry| entry.release.clone())
            .filter(|it| !is_rescue(it))
            .collect();
        if kernels.is_empty() {
            let names = tree.names("/boot").into_iter();
            let releases =
                names.filter_map(|name| name.strip_prefix(KERNEL)).filter(|it| !is_rescue(it));
            kernels.extend(releases.map(str::to_owned));
        }
        Ok(Self { entries, kernels })
    }
}

/// dracut's rescue kernel is a copy of another, by a name that is no release.
fn is_rescue(release: &str) -> bool {
    release.starts_with("0-rescue")
}

/// The release in the name of a kernel's file; that of a link is what it leads to.
fn release(tree: &Tree, file: &str) -> Option<String> {
    let name = |path: &str| path.rsplit('/').next()?.strip_prefix(KERNEL).map(str::to_owned);
    name(file).or_else(|| name(&tree.resolve(file)?.0))
}

/// The entries of GRUB's configuration; `release` holds the kernel's file for now.
fn grub(text: &str, path: &str) -> Vec<Entry> {
    let mut entries = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let mut words = line.split_whitespace();
        if !matches!(words.next(), Some("linux" | "linuxefi" | "linux16")) {
            continue;
        }
        let Some(file) = words.next() else { continue };
        let arguments: Vec<&str> = words.collect();
        entries.push(Entry {
            path: path.to_owned(),
            line: at + 1,
            release: Some(file.to_owned()),
            arguments: arguments.join(" "),
        });
    }
    entries
}

/// The entry in a file of the boot loader specification. Enterprise Linux keeps the arguments of all in GRUB's
/// environment and names them `$kernelopts`.
fn specified(tree: &Tree, text: &str, path: &str) -> Result<Option<Entry>> {
    let (mut file, mut line, mut arguments) = (None, 1, Vec::new());
    for (at, entry) in text.lines().enumerate() {
        match entry.trim().split_once(char::is_whitespace) {
            Some(("linux", value)) => file = Some(value.trim().to_owned()),
            Some(("options", value)) => {
                line = at + 1;
                arguments.push(value.trim().to_owned());
            }
            _ => {}
        }
    }
    if file.is_none() {
        return Ok(None);
    }
    let mut arguments = arguments.join(" ");
    if arguments.contains("$kernelopts") {
        let environment = tree.text("/boot/grub2/grubenv")?.unwrap_or_default();
        let own = environment.lines().find_map(|line| line.strip_prefix("kernelopts="));
        arguments = arguments.replace("$kernelopts", own.unwrap_or_default().trim());
    }
    Ok(Some(Entry { path: path.to_owned(), line, release: file, arguments }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_name_kernels_and_their_arguments() {
        let mut tree = Tree::default();
        tree.write("/boot/vmlinuz-6.1", 0o644, "x");
        tree.write("/boot/vmlinuz-5.10", 0o644, "x");
        tree.write("/boot/vmlinuz-0-rescue-abc", 0o644, "x");
        assert_eq!(
            Loader::of(&tree).unwrap().kernels,
            ["5.10".to_owned(), "6.1".to_owned()].into()
        );
        let text = "menuentry x {\n\tlinux\t/boot/vmlinuz-6.1 root=UUID=1 ro\n  initrd /boot/i\n}\n# linux /x y\n";
        tree.write("/boot/grub/grub.cfg", 0o644, text);
        let loader = Loader::of(&tree).unwrap();
        assert_eq!(loader.kernels, ["6.1".to_owned()].into());
        assert_eq!(
            (loader.entries[0].line, loader.entries[0].arguments.as_str()),
            (2, "root=UUID=1 ro")
        );
        // A link instead of the file.
        tree.link("/vmlinuz", "boot/vmlinuz-5.10");
        tree.write("/boot/grub/grub.cfg", 0o644, "linux /vmlinuz ro\n");
        assert_eq!(Loader::of(&tree).unwrap().kernels, ["5.10".to_owned()].into());
    }

    #[test]
    fn entries_of_the_specification_take_arguments_from_grubs_environment() {
        let mut tree = Tree::default();
        let text = "title x\nlinux /vmlinuz-5.14\noptions root=/dev/x $kernelopts\n";
        tree.write("/boot/loader/entries/a.conf", 0o644, text);
        tree.write("/boot/loader/entries/b.txt", 0o644, text);
        tree.write("/boot/loader/entries/c.conf", 0o644, "title none\n");
        tree.write("/boot/grub2/grubenv", 0o644, "# GRUB\nkernelopts=ro console=ttyS0 \n####\n");
        let loader = Loader::of(&tree).unwrap();
        assert_eq!(loader.entries.len(), 1);
        assert_eq!(loader.entries[0].arguments, "root=/dev/x ro console=ttyS0");
        assert_eq!(loader.entries[0].release.as_deref(), Some("5.14"));
    }
}
