//! Packages purged and paths deleted.

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_words::{Event, Failure, Result};

use crate::execution::Execution;
use crate::layer::Root;

/// Purges `packages` with the tree's own `dpkg`, then deletes `paths` with all below them.
/// What is not there is warned about. Facts: `remove.packages` and `remove.paths`, the counts.
///
/// # Errors
/// When another package needs one to be purged, or a path is the root.
pub fn run(
    packages: &[String],
    paths: &[String],
    execution: &Execution<'_>,
) -> Result<BTreeMap<String, String>> {
    let root = execution.root()?;
    let purged = purge(packages, &root, execution)?;
    let deleted = delete(paths, &root, execution)?;
    root.finish(execution.source_date)?;
    Ok([("remove.packages", purged), ("remove.paths", deleted)]
        .map(|(name, count)| (name.to_owned(), count.to_string()))
        .into())
}

fn purge(packages: &[String], root: &Root, execution: &Execution<'_>) -> Result<usize> {
    let status = root.read_file("/var/lib/dpkg/status")?.unwrap_or_default();
    let status = String::from_utf8_lossy(&status);
    let known = known(&status);
    let (there, absent): (Vec<&String>, Vec<&String>) =
        packages.iter().partition(|name| known.contains(name.as_str()));
    for name in absent {
        warn(execution, &format!("package {name} is not installed, so it cannot be removed"));
    }
    if !there.is_empty() {
        let mut arguments = vec!["dpkg", "--purge", "--"];
        arguments.extend(there.iter().map(|name| name.as_str()));
        execution.run(&execution.command("purge packages", root, arguments))?;
    }
    Ok(there.len())
}

/// Packages of which anything is left, configuration files included.
fn known(status: &str) -> BTreeSet<&str> {
    let field = |stanza: &'static str| move |line: &'_ str| line.starts_with(stanza);
    let (package, state) = (field("Package: "), field("Status: "));
    let stanzas = status.split("\n\n").filter_map(|stanza| {
        let name = stanza.lines().find(|line| package(line))?.strip_prefix("Package: ")?;
        let state = stanza.lines().find(|line| state(line))?;
        (!state.ends_with(" not-installed")).then_some(name.trim())
    });
    stanzas.collect()
}

fn delete(paths: &[String], root: &Root, execution: &Execution<'_>) -> Result<usize> {
    let mut deleted = 0;
    for path in paths {
        execution.cancel.check()?;
        if !path.starts_with('/') || path.trim_matches('/').is_empty() {
            let message = format!("`{path}` cannot be removed");
            return Err(Failure::input(message).with_help("write an absolute path below /"));
        }
        if root.remove(path)? {
            deleted += 1;
        } else {
            warn(execution, &format!("{path} is not in the tree, so it cannot be removed"));
        }
    }
    Ok(deleted)
}

fn warn(execution: &Execution<'_>, text: &str) {
    execution.progress.event(Event::Warning(text.to_owned()));
}

#[cfg(test)]
mod tests {
    use super::known;

    #[test]
    fn packages_with_anything_left_are_known() {
        let status = "Package: a\nStatus: install ok installed\n\nPackage: b\n\
                      Status: deinstall ok config-files\n\nPackage: c\n\
                      Status: purge ok not-installed\n";
        assert_eq!(known(status), ["a", "b"].into());
    }
}
