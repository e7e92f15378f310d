//! The modules of a kernel, as they lie in the tree.

use std::collections::BTreeSet;

use nodekiln_words::Result;

use super::Tree;

/// Endings of a module's file, compressed or not.
const ENDINGS: [&str; 4] = [".ko", ".ko.xz", ".ko.zst", ".ko.gz"];

/// The name of the module in the file at `path`. The kernel takes a dash for an underscore.
pub(crate) fn module_of(path: &str) -> Option<String> {
    let name = path.trim().rsplit('/').next()?;
    let name = ENDINGS.iter().find_map(|ending| name.strip_suffix(ending))?;
    Some(name.replace('-', "_"))
}

/// What a kernel has of modules.
#[derive(Clone, Debug, Default)]
pub struct Modules {
    /// Those that are part of the kernel itself; `None` where nothing tells.
    built_in: Option<BTreeSet<String>>,
    /// Those with a file.
    files: BTreeSet<String>,
}

impl Modules {
    /// Those of the kernel `release`, in `/lib/modules`.
    ///
    /// # Errors
    /// When its `modules.builtin` cannot be read.
    pub fn of(tree: &Tree, release: &str) -> Result<Self> {
        let folder = format!("/lib/modules/{release}");
        let built_in = tree.text(&format!("{folder}/modules.builtin"))?;
        let built_in = built_in.map(|text| text.lines().filter_map(module_of).collect());
        let Some((folder, _)) = tree.resolve(&folder) else {
            return Ok(Self { built_in, files: BTreeSet::new() });
        };
        let files = tree.below(&folder).filter_map(|(path, _)| module_of(path)).collect();
        Ok(Self { built_in, files })
    }

    /// Whether the module is part of the kernel, or has a file.
    #[must_use]
    pub fn has(&self, module: &str) -> bool {
        self.files.contains(module) || self.is_built_in(module)
    }

    /// Whether the module is part of the kernel.
    #[must_use]
    pub fn is_built_in(&self, module: &str) -> bool {
        self.built_in.as_ref().is_some_and(|names| names.contains(module))
    }

    /// Whether anything is known of them.
    #[must_use]
    pub const fn is_known(&self) -> bool {
        self.built_in.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_is_built_in_or_has_a_file_compressed_or_not() {
        let mut tree = Tree::default();
        tree.folder("/usr/lib", 0o755);
        tree.link("/lib", "usr/lib");
        assert!(!Modules::of(&tree, "6.1").unwrap().is_known());
        tree.write("/usr/lib/modules/6.1/modules.builtin", 0o644, "kernel/fs/ext4/ext4.ko\n");
        for file in
            ["a/dm-mod.ko.xz", "b/overlay.ko", "c/xt_REDIRECT.ko.zst", "d/x.ko.gz", "e/y.ko.bz2"]
        {
            tree.write(&format!("/usr/lib/modules/6.1/kernel/{file}"), 0o644, "elf");
        }
        tree.write("/usr/lib/modules/6.2/kernel/other.ko", 0o644, "elf");
        let modules = Modules::of(&tree, "6.1").unwrap();
        for name in ["ext4", "dm_mod", "overlay", "xt_REDIRECT", "x"] {
            assert!(modules.has(name), "{name}");
        }
        assert!(!modules.has("y") && !modules.has("other") && modules.is_known());
    }
}
