//! Takes out of a tree what belongs to one machine or was left over by building: the last step that
//! changes it. What is taken out, and why, is the table in [`rules`].

mod rules;

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nodekiln_words::{Result, ResultExt as _};
use rustix::fs::{FileType, OFlags};

pub use rules::{Action, RULES, Rule};

use crate::execution::Execution;
use crate::layer::confined::{Confined, is_absent, kind};
use crate::layer::{Attributes, Root};

/// Applies all rules. Facts: `sysprep.AREA`, the number of things taken out or reset in each area
/// where there were any.
///
/// # Errors
/// When something cannot be deleted or written.
pub fn run(execution: &Execution<'_>) -> Result<BTreeMap<String, String>> {
    let root = execution.root()?;
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for rule in RULES {
        execution.cancel.check()?;
        let changed = apply(rule, &root).map_err(|failure| {
            failure.context(format!("sysprep of {}: {}", rule.path, rule.why))
        })?;
        *counts.entry(rule.area).or_default() += changed;
    }
    root.finish(execution.source_date)?;
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    Ok(counts.map(|(area, count)| (format!("sysprep.{area}"), count.to_string())).collect())
}

/// Applies one rule; returns how many things changed.
fn apply(rule: &Rule, root: &Root) -> Result<usize> {
    if let Action::Write { text, mode } = rule.action {
        return write(rule.path, text, mode, root);
    }
    let tree = root.confined();
    let act = || -> io::Result<usize> {
        let mut changed = 0;
        for path in expand(rule.path, tree)? {
            changed += match rule.action {
                Action::Remove => usize::from(tree.remove(&path)?),
                Action::RemoveUnlessLink => remove_unless_link(&path, tree)?,
                Action::RemoveLinksTo(target) => remove_link_to(&path, target, tree)?,
                Action::RemoveFilesBelow { except } => remove_files_below(&path, except, tree)?,
                Action::Truncate => truncate(&path, tree)?,
                Action::Write { .. } => 0,
            };
        }
        Ok(changed)
    };
    act().or_io(|| format!("cannot clean {}", rule.path))
}

/// Writes a file unless it is exactly so already.
fn write(path: &str, text: &str, mode: u32, root: &Root) -> Result<usize> {
    let attributes = Attributes::root(mode);
    let same = root.attributes(path)? == Some(attributes)
        && root.read_link(path)?.is_none()
        && root.read_file(path)?.as_deref() == Some(text.as_bytes());
    if same {
        return Ok(0);
    }
    root.write_file(path, text.as_bytes(), attributes)?;
    Ok(1)
}

fn remove_unless_link(path: &Path, tree: &Confined) -> io::Result<usize> {
    match tree.stat(path) {
        Ok(stat) if kind(&stat) != FileType::Symlink => Ok(usize::from(tree.remove(path)?)),
        Ok(_) => Ok(0),
        Err(error) if is_absent(&error) => Ok(0),
        Err(error) => Err(error),
    }
}

fn remove_link_to(path: &Path, target: &str, tree: &Confined) -> io::Result<usize> {
    match tree.read_link(path)? {
        Some(found) if Path::new(&found).file_name() == Some(OsStr::new(target)) => {
            Ok(usize::from(tree.remove(path)?))
        }
        _ => Ok(0),
    }
}

fn remove_files_below(folder: &Path, except: &[&str], tree: &Confined) -> io::Result<usize> {
    let mut removed = 0;
    for name in tree.list(folder)? {
        let path = folder.join(&name);
        if kind(&tree.stat(&path)?) == FileType::Directory {
            removed += remove_files_below(&path, except, tree)?;
        } else if !except.iter().any(|kept| path == Path::new(kept)) {
            removed += usize::from(tree.remove(&path)?);
        }
    }
    Ok(removed)
}

/// Empties a regular file; owner and bits stay.
fn truncate(path: &Path, tree: &Confined) -> io::Result<usize> {
    match tree.stat(path) {
        Ok(stat) if kind(&stat) == FileType::RegularFile && stat.st_size > 0 => {
            File::from(tree.open(path, OFlags::WRONLY | OFlags::NOFOLLOW)?).set_len(0)?;
            Ok(1)
        }
        Ok(_) => Ok(0),
        Err(error) if is_absent(&error) => Ok(0),
        Err(error) => Err(error),
    }
}

/// The paths that a pattern stands for: `*` in a name stands for any run of characters.
fn expand(pattern: &str, tree: &Confined) -> io::Result<Vec<PathBuf>> {
    let mut paths = vec![PathBuf::from("/")];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        let mut longer = Vec::new();
        for path in paths {
            if !part.contains('*') {
                longer.push(path.join(part));
                continue;
            }
            let names = tree.list(&path)?;
            let matching = names.iter().filter(|name| matches(part.as_bytes(), name.as_bytes()));
            longer.extend(matching.map(|name| path.join(name)));
        }
        paths = longer;
    }
    Ok(paths)
}

fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.split_first() {
        None => name.is_empty(),
        Some((b'*', rest)) => (0..=name.len())
            .any(|skipped| name.get(skipped..).is_some_and(|remaining| matches(rest, remaining))),
        Some((letter, rest)) => name
            .split_first()
            .is_some_and(|(first, remaining)| first == letter && matches(rest, remaining)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_star_stands_for_any_run_of_characters() {
        for (pattern, name) in
            [("*", ""), ("*-", "passwd-"), ("ssh_host_*", "ssh_host_rsa_key"), ("a*b*c", "abbc")]
        {
            assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in [("*-", "passwd"), ("a*b", "abc"), ("", "x"), ("x", "")] {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn every_rule_names_an_absolute_path_below_the_root_and_a_reason() {
        for rule in RULES {
            assert!(rule.path.starts_with('/') && rule.path.len() > 1, "{}", rule.path);
            assert!(!rule.path.contains("..") && !rule.why.is_empty(), "{}", rule.path);
        }
    }
}
