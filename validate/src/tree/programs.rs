//! Programs that root can start by their names.

use super::{Kind, ROOT_PATH, Tree};

impl Tree<'_> {
    /// Every different file that root's `PATH` has for the name `program` and that can be executed, the one that is
    /// started first.
    #[must_use]
    pub fn programs(&self, program: &str) -> Vec<String> {
        let mut found = Vec::new();
        for folder in ROOT_PATH {
            let there = self.resolve(&format!("{folder}/{program}"));
            let there =
                there.filter(|(_, entry)| entry.kind == Kind::File && entry.mode & 0o111 != 0);
            if let Some((path, _)) = there
                && !found.contains(&path)
            {
                found.push(path);
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_to_one_file_are_one_program_and_what_cannot_be_executed_is_none() {
        let mut tree = Tree::default();
        tree.write("/usr/sbin/runc", 0o755, "elf");
        tree.link("/usr/bin/runc", "../sbin/runc");
        tree.link("/bin", "usr/bin");
        tree.write("/usr/local/sbin/runc", 0o644, "elf");
        assert_eq!(tree.programs("runc"), ["/usr/sbin/runc"]);
        tree.change("/usr/local/sbin/runc", |entry| entry.mode = 0o755);
        assert_eq!(tree.programs("runc"), ["/usr/local/sbin/runc", "/usr/sbin/runc"]);
        assert!(tree.programs("crictl").is_empty());
    }
}
