//! Takes out of a tree what belongs to one machine or was left over by building: the last step that
//! changes it. What is taken out, and why, is the table in [`rules`].

mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};

use nodekiln_words::{Event, Result, ResultExt as _};
use rustix::fs::{FileType, OFlags};

pub use rules::{Action, RULES, Rule};

use crate::execution::Execution;
use crate::layer::confined::{Confined, is_absent, kind};
use crate::layer::{Attributes, Root};

/// Areas whose things clones of an image must not share.
const OWN: [&str; 2] = ["identity", "seeds"];
/// What of these areas is shared without harm.
const SHAREABLE: [&str; 2] = ["/etc/hostname", "/etc/hosts"];

/// Applies all rules but to `keep`, the paths that the recipe itself writes: it has the last word.
/// Facts: `sysprep.AREA`, the number of things taken out or reset in each area where there were any.
///
/// # Errors
/// When something cannot be deleted or written.
pub fn run(keep: &[String], execution: &Execution<'_>) -> Result<BTreeMap<String, String>> {
    let root = execution.root()?;
    let kept = Kept(keep.iter().map(PathBuf::from).collect());
    let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
    for rule in RULES {
        execution.cancel.check()?;
        if OWN.contains(&rule.area) && !SHAREABLE.contains(&rule.path) {
            kept.warn(rule, &root, execution)?;
        }
        let changed = apply(rule, &kept, &root).map_err(|failure| {
            failure.context(format!("sysprep of {}: {}", rule.path, rule.why))
        })?;
        *counts.entry(rule.area).or_default() += changed;
    }
    root.finish(execution.source_date)?;
    let counts = counts.into_iter().filter(|(_, count)| *count > 0);
    Ok(counts.map(|(area, count)| (format!("sysprep.{area}"), count.to_string())).collect())
}

/// Paths that stay.
struct Kept(BTreeSet<PathBuf>);

impl Kept {
    fn has(&self, path: &Path) -> bool {
        self.0.contains(path)
    }

    /// Whether `path` is one of them or leads to one.
    fn touches(&self, path: &Path) -> bool {
        let next = self.0.range::<Path, _>((Bound::Included(path), Bound::Unbounded)).next();
        next.is_some_and(|kept| kept.starts_with(path))
    }

    /// Deletes `path` with all below it, apart from what stays and the folders that lead there.
    fn remove(&self, path: &Path, tree: &Confined) -> io::Result<usize> {
        if !self.touches(path) {
            return Ok(usize::from(tree.remove(path)?));
        }
        match tree.stat(path) {
            Ok(stat) if kind(&stat) == FileType::Directory => {
                let names = tree.list(path)?;
                names.iter().map(|name| self.remove(&path.join(name), tree)).sum()
            }
            Ok(_) => Ok(0),
            Err(error) if is_absent(&error) => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Says which things stay that every machine should have of its own.
    fn warn(&self, rule: &Rule, root: &Root, execution: &Execution<'_>) -> Result<()> {
        let paths = expand(rule.path, root.confined());
        for path in paths.or_io(|| format!("cannot look for {}", rule.path))? {
            if self.has(&path) {
                let (path, why) = (path.display(), rule.why);
                let text = format!("{path} stays, since the recipe writes it ({why})");
                execution.progress.event(Event::Warning(text));
            }
        }
        Ok(())
    }
}

/// Applies one rule; returns how many things changed.
fn apply(rule: &Rule, kept: &Kept, root: &Root) -> Result<usize> {
    if let Action::Write { text, mode } = rule.action {
        let stays = kept.has(Path::new(rule.path));
        return if stays { Ok(0) } else { write(rule.path, text, mode, root) };
    }
    let tree = root.confined();
    let act = || -> io::Result<usize> {
        let mut changed = 0;
        for path in expand(rule.path, tree)? {
            changed += match rule.action {
                Action::Remove => kept.remove(&path, tree)?,
                _ if kept.has(&path) => 0,
                Action::RemoveUnlessLink => remove_unless_link(&path, tree)?,
                Action::RemoveLinksTo(target) => remove_link_to(&path, target, tree)?,
                Action::RemoveFilesBelow { except } => {
                    remove_files_below(&path, except, kept, tree)?
                }
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

fn remove_files_below(
    folder: &Path,
    except: &[&str],
    kept: &Kept,
    tree: &Confined,
) -> io::Result<usize> {
    let mut removed = 0;
    for name in tree.list(folder)? {
        let path = folder.join(&name);
        if kind(&tree.stat(&path)?) == FileType::Directory {
            removed += remove_files_below(&path, except, kept, tree)?;
        } else if !kept.has(&path) && !except.iter().any(|except| path == Path::new(except)) {
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
