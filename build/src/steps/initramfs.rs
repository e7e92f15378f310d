//! The initial RAM disk of each kernel in the tree, made by the tree's own initramfs-tools.

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_words::{Failure, Result};

use crate::execution::Execution;
use crate::layer::Root;

/// Where kernels keep their modules; the second is a folder of its own where `/usr` is not merged.
const MODULES: [&str; 2] = ["/usr/lib/modules", "/lib/modules"];

/// initramfs-tools' configuration, read in this order; the last word counts (initramfs.conf(5)).
const CONFIGURATION: &str = "/etc/initramfs-tools/initramfs.conf";
const CONFIGURATION_FOLDER: &str = "/etc/initramfs-tools/conf.d";

/// Makes module lists and an initial RAM disk for each kernel. Facts: `kernel.version`, the one that
/// boots by default, and `kernel.versions`, all of them.
///
/// mkinitramfs follows `SOURCE_DATE_EPOCH`: times are fixed and the archive is sorted.
///
/// # Errors
/// When the tree has no kernel, or its configuration would look at this machine's hardware.
pub fn run(execution: &Execution<'_>) -> Result<BTreeMap<String, String>> {
    let root = execution.root()?;
    let versions = kernels(&root)?;
    if versions.is_empty() {
        let help = "set `kernel.package`, such as linux-image-amd64";
        return Err(Failure::input("the tree has no kernel with modules").with_help(help));
    }
    let facts = make(&root, &versions, execution)?;
    root.finish(execution.source_date)?;
    Ok(facts)
}

/// As [`run`], in a tree that is being worked on, for the kernels `versions` of it.
pub(super) fn make(
    root: &Root,
    versions: &BTreeSet<String>,
    execution: &Execution<'_>,
) -> Result<BTreeMap<String, String>> {
    check_modules(root)?;
    for version in versions {
        execution.run(&execution.command("depmod", root, ["depmod", version]))?;
        let title = format!("make the initial RAM disk of kernel {version}");
        let arguments = ["update-initramfs", "-c", "-k", version];
        let mut command = execution.command(title, root, arguments);
        // Thousands of small programs load no locale.
        command.environment.insert("LC_ALL".to_owned(), "C".to_owned());
        // All cores, whatever their number: zstd(1) writes the same bytes with any number of workers.
        command.environment.insert("ZSTD_NBTHREADS".to_owned(), "0".to_owned());
        // Scratch space outside of the layer.
        command.environment.insert("TMPDIR".to_owned(), "/tmp".to_owned());
        execution.run(&command)?;
        expect(root, &initrd(version))?;
    }
    let all = kernels(root)?;
    let default = link(root, &all)?;
    let all = all.iter().map(String::as_str).collect::<Vec<_>>().join(" ");
    Ok([("kernel.version".to_owned(), default), ("kernel.versions".to_owned(), all)].into())
}

/// The kernels whose initial RAM disk is to be made anew after packages were added: all where one of them
/// `asked` for it, else those that came without one. None where the tree has none yet, since a later step
/// makes them.
pub(super) fn stale(root: &Root, asked: bool) -> Result<BTreeSet<String>> {
    let all = kernels(root)?;
    let mut lacking = BTreeSet::new();
    for version in &all {
        if !root.exists(&initrd(version))? {
            lacking.insert(version.clone());
        }
    }
    Ok(match (asked, lacking.len() == all.len()) {
        (_, true) => BTreeSet::new(),
        (true, false) => all,
        (false, false) => lacking,
    })
}

fn initrd(version: &str) -> String {
    format!("/boot/initrd.img-{version}")
}

/// Versions that have both a kernel and its modules.
fn kernels(root: &Root) -> Result<BTreeSet<String>> {
    let mut versions = BTreeSet::new();
    for folder in MODULES {
        for version in root.list(folder)? {
            if root.exists(&format!("/boot/vmlinuz-{version}"))? {
                versions.insert(version);
            }
        }
    }
    Ok(versions)
}

/// Only `MODULES=most` gives an image that boots elsewhere: `dep` asks this machine's /sys.
fn check_modules(root: &Root) -> Result<()> {
    let mut files = vec![CONFIGURATION.to_owned()];
    files.extend(
        root.list(CONFIGURATION_FOLDER)?.iter().map(|n| format!("{CONFIGURATION_FOLDER}/{n}")),
    );
    let mut last = None;
    for file in files {
        let text = root.read_file(&file)?.unwrap_or_default();
        for line in String::from_utf8_lossy(&text).lines() {
            if let Some(value) = line.trim().strip_prefix("MODULES=") {
                last = Some((value.trim_matches('"').to_owned(), file.clone()));
            }
        }
    }
    match last {
        Some((value, file)) if value != "most" => {
            let message = format!("{file} says MODULES={value}, which depends on this machine");
            Err(Failure::input(message).with_help("write MODULES=most"))
        }
        _ => Ok(()),
    }
}

fn expect(root: &Root, path: &str) -> Result<()> {
    if root.exists(path)? {
        return Ok(());
    }
    Err(Failure::io(format!("update-initramfs ended well but left no {path}")))
}

/// Links `/initrd.img` where Debian's kernel packages link `/vmlinuz`; returns the version that
/// boots by default.
fn link(root: &Root, versions: &BTreeSet<String>) -> Result<String> {
    let target = root.read_link("/vmlinuz")?;
    let linked = target.as_deref().and_then(|target| target.strip_prefix("boot/vmlinuz-"));
    if let Some(version) = linked.filter(|version| versions.contains(*version)) {
        root.make_link("/initrd.img", &format!("boot/initrd.img-{version}"), 0, 0)?;
        return Ok(version.to_owned());
    }
    Ok(versions.last().cloned().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layer::Attributes;

    /// A tree with these kernels, each with or without an initial RAM disk.
    fn stale_of(kernels: &[(&str, bool)], asked: bool) -> Vec<String> {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::assemble(&[], folder.path()).unwrap();
        for (version, disk) in kernels {
            root.make_directory(&format!("/usr/lib/modules/{version}"), Attributes::root(0o755))
                .unwrap();
            let file = |path: &str| root.write_file(path, b"", Attributes::root(0o644)).unwrap();
            file(&format!("/boot/vmlinuz-{version}"));
            if *disk {
                file(&initrd(version));
            }
        }
        stale(&root, asked).unwrap().into_iter().collect()
    }

    #[test]
    fn after_packages_were_added_no_more_is_made_than_has_to_be() {
        assert!(stale_of(&[], true).is_empty(), "no kernel");
        assert!(stale_of(&[("1", true)], false).is_empty(), "nobody asked");
        assert_eq!(stale_of(&[("1", true)], true), ["1"]);
        assert!(stale_of(&[("1", false)], true).is_empty(), "a later step makes it");
        assert_eq!(stale_of(&[("1", true), ("2", false)], false), ["2"], "a kernel was added");
        assert_eq!(stale_of(&[("1", true), ("2", false)], true), ["1", "2"]);
    }
}
