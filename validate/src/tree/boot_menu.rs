//! The lines by which a boot loader starts kernels: GRUB's configuration, and entries of the boot loader
//! specification.

use nodekiln_words::Result;

use super::Files;

/// A kernel's line in the configuration of a boot loader.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KernelLine {
    /// The file.
    pub path: String,
    /// The line in it, from 1.
    pub number: usize,
    /// The kernel's arguments, quotes taken off.
    pub arguments: Vec<String>,
}

impl KernelLine {
    /// The kernel's arguments.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.arguments.iter().map(String::as_str)
    }

    /// The value of the last argument called `name`: of most of its arguments the kernel takes the last.
    #[must_use]
    pub fn value(&self, name: &str) -> Option<&str> {
        let mut arguments = self.arguments.iter().rev();
        arguments.find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
    }
}

/// Folders of GRUB below the one that /boot is.
const GRUB: [&str; 2] = ["grub", "grub2"];
/// GRUB's words that start a kernel.
const STARTS: [&str; 4] = ["linux", "linux16", "linuxefi", "linux$sb"];

/// GRUB's configuration files on a file system whose `/boot` is at `boot`: the path, and the text.
///
/// # Errors
/// When one cannot be read.
pub fn grub_files(files: &dyn Files, boot: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    for folder in GRUB {
        let path = format!("{boot}/{folder}/grub.cfg");
        if let Some(text) = files.text(&path)? {
            found.push((path, text));
        }
    }
    Ok(found)
}

/// The lines of every kernel that a boot loader may start from the file system `files`, whose `/boot` is at `boot`;
/// an empty text stands for its root.
///
/// # Errors
/// When a file cannot be read.
pub fn kernel_lines(files: &dyn Files, boot: &str) -> Result<Vec<KernelLine>> {
    let mut lines = Vec::new();
    for (path, text) in grub_files(files, boot)? {
        for (number, line) in (1..).zip(text.lines()) {
            let mut words = words(line).into_iter();
            if words.next().is_some_and(|word| STARTS.contains(&word.as_str())) {
                // The kernel's file comes first.
                let arguments = words.skip(1).collect();
                lines.push(KernelLine { path: path.clone(), number, arguments });
            }
        }
    }
    lines.extend(specified(files, boot)?);
    Ok(lines)
}

/// Entries of the boot loader specification. Fedora's may name a variable of GRUB's environment.
fn specified(files: &dyn Files, boot: &str) -> Result<Vec<KernelLine>> {
    let mut environment = String::new();
    for folder in GRUB {
        environment.push_str(&files.text(&format!("{boot}/{folder}/grubenv"))?.unwrap_or_default());
    }
    let variable = |name: &str| {
        let mut lines = environment.lines();
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
    };
    let folder = format!("{boot}/loader/entries");
    let mut found = Vec::new();
    for name in files.list(&folder)? {
        if !name.ends_with(".conf") {
            continue;
        }
        let path = format!("{folder}/{name}");
        let text = files.text(&path)?.unwrap_or_default();
        let is_kernel = |line: &str| line.split_whitespace().next() == Some("linux");
        let Some(kernel) = text.lines().position(is_kernel) else { continue };
        let mut line = KernelLine { path, number: kernel + 1, arguments: Vec::new() };
        for (number, text) in (1..).zip(text.lines()) {
            let mut words = text.split_whitespace();
            if words.next() != Some("options") {
                continue;
            }
            line.number = number;
            for word in words {
                match word.strip_prefix('$') {
                    Some(name) => {
                        line.arguments.extend(variable(name).split_whitespace().map(str::to_owned));
                    }
                    None => line.arguments.push(word.to_owned()),
                }
            }
        }
        found.push(line);
    }
    Ok(found)
}

/// The words of a line of GRUB's script language: parted by blanks, quotes and backslashes taken off, without a
/// comment.
pub fn words(line: &str) -> Vec<String> {
    let (mut words, mut word, mut quote) = (Vec::new(), None::<String>, None);
    let mut letters = line.chars();
    while let Some(letter) = letters.next() {
        match (quote, letter) {
            (Some(open), _) if letter == open => quote = None,
            (None, '\'' | '"') => {
                quote = Some(letter);
                word.get_or_insert_default();
            }
            (None | Some('"'), '\\') => word.get_or_insert_default().extend(letters.next()),
            (None, '#') if word.is_none() => break,
            (None, _) if letter.is_whitespace() => words.extend(word.take()),
            _ => word.get_or_insert_default().push(letter),
        }
    }
    words.extend(word);
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    #[test]
    fn words_are_those_that_grub_sees() {
        assert_eq!(
            words("  linux /vmlinuz 'a b' c\"d e\"f g\\ h # rest"),
            ["linux", "/vmlinuz", "a b", "cd ef", "g h"]
        );
        assert_eq!(words("''"), [""]);
        assert!(words("# linux /vmlinuz").is_empty());
    }

    #[test]
    fn kernels_of_grub_and_of_entries_are_found() {
        let mut tree = Tree::default();
        let grub =
            "set a=b\nmenuentry 'linux' {\n\tlinux /boot/vmlinuz root=UUID=a ro 'root=UUID=b'\n}\n";
        tree.write("/boot/grub/grub.cfg", 0o644, grub);
        let entry = "title x\nlinux /vmlinuz\noptions $kernelopts quiet\noptions more\n";
        tree.write("/boot/loader/entries/a.conf", 0o644, entry);
        tree.write("/boot/loader/entries/b.txt", 0o644, entry);
        tree.write("/boot/grub2/grubenv", 0o644, "kernelopts=root=UUID=c ro\n");
        let lines = kernel_lines(&tree, "/boot").unwrap();
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].path.as_str(), lines[0].number), ("/boot/grub/grub.cfg", 3));
        assert_eq!(lines[0].value("root"), Some("UUID=b"));
        assert_eq!(lines[1].arguments, ["root=UUID=c", "ro", "quiet", "more"]);
        assert_eq!(lines[1].value("roo"), None);
    }
}
