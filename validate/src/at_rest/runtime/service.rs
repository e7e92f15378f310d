//! containerd's unit: whether it is there, is wanted at boot, and starts what is there.

use std::collections::BTreeSet;

use nodekiln_words::Result;

use crate::at_rest::Examined;
use crate::rules::Verdict;
use crate::tree::containerd::CONFIG;
use crate::tree::{Kind, Tree};

const UNIT: &str = "containerd.service";
/// Where systemd looks for units; the first that has a name counts (systemd.unit(5)).
const FOLDERS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// What may stand before a program (systemd.service(5), table of special executable prefixes).
const PREFIXES: [char; 6] = ['@', '-', ':', '+', '!', '|'];
/// Of these there may be one.
const ONE_OF: [&str; 3] = ["containerd", "runc", "crictl"];
/// Of these there has to be one. Whether crictl is needed depends on Kubernetes, and another rule says so.
const NEEDED: [&str; 2] = ["containerd", "runc"];

pub(super) fn enabled(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let mut wrong = Vec::new();
    let unit = unit(tree)?;
    match &unit {
        Unit::Missing => wrong.push(format!("there is no {UNIT}")),
        Unit::Masked(path) => wrong.push(format!("{path} masks {UNIT}")),
        Unit::Started { path, commands } => {
            if wants(tree).is_empty() {
                wrong.push(format!("nothing wants {UNIT} at boot"));
            }
            if commands.is_empty() {
                wrong.push(format!("{path} has no ExecStart"));
            }
            for (file, program, _) in commands {
                let there = tree.resolve(program);
                if there
                    .is_none_or(|(_, entry)| entry.kind != Kind::File || entry.mode & 0o111 == 0)
                {
                    wrong.push(format!("{file}: ExecStart names {program}, which is no program"));
                }
            }
        }
    }
    for name in ONE_OF {
        let found = tree.programs(name);
        if found.len() > 1 {
            wrong.push(format!("there are several {name}: {}", found.join(", ")));
        } else if found.is_empty() && NEEDED.contains(&name) {
            wrong.push(format!("there is no {name} on root's PATH"));
        }
    }
    let by: Vec<String> = wants(tree).into_iter().collect();
    Ok(Verdict::of(&wrong, format!("{UNIT} is wanted by {}", by.join(", "))))
}

/// The file and the argument where containerd is started with another configuration; nothing where it is not.
pub(super) fn other_config(tree: &Tree) -> Result<Option<String>> {
    let Unit::Started { commands, .. } = unit(tree)? else { return Ok(None) };
    let other = commands.into_iter().find_map(|(file, _, arguments)| {
        let mut words = arguments.split_whitespace();
        while let Some(word) = words.next() {
            let value = match word.split_once('=') {
                Some(("-c" | "-config" | "--config", value)) => Some(value),
                None if ["-c", "-config", "--config"].contains(&word) => words.next(),
                _ => None,
            };
            if let Some(value) = value.filter(|value| *value != CONFIG) {
                return Some(format!("{file} (--config {value})"));
            }
        }
        None
    });
    Ok(other)
}

/// What systemd makes of the unit.
enum Unit {
    Missing,
    /// By the link or the empty file at this path.
    Masked(String),
    Started {
        /// The unit's file.
        path: String,
        /// Its `ExecStart`s: the file that has it, the program, its arguments.
        commands: Vec<(String, String, String)>,
    },
}

fn unit(tree: &Tree) -> Result<Unit> {
    let paths = FOLDERS.iter().map(|folder| format!("{folder}/{UNIT}"));
    let Some(path) = paths.into_iter().find(|path| tree.entry(&real(tree, path)).is_some()) else {
        return Ok(Unit::Missing);
    };
    let target = tree.entry(&real(tree, &path)).and_then(|entry| entry.target.as_deref());
    let text = tree.text(&path)?.unwrap_or_default();
    if target == Some("/dev/null") || (target.is_none() && text.is_empty()) {
        return Ok(Unit::Masked(path));
    }
    if tree.resolve(&path).is_none() {
        return Ok(Unit::Missing);
    }
    let mut commands = Vec::new();
    let mut files = vec![path.clone()];
    files.extend(drop_ins(tree));
    for file in files {
        for line in tree.text(&file)?.unwrap_or_default().replace("\\\n", " ").lines() {
            let Some(value) = line.trim().strip_prefix("ExecStart=") else { continue };
            let command = value.trim().trim_start_matches(PREFIXES);
            if command.is_empty() {
                commands.clear(); // an empty one takes back those before it
                continue;
            }
            let (program, arguments) =
                command.split_once(char::is_whitespace).unwrap_or((command, ""));
            commands.push((file.clone(), program.to_owned(), arguments.to_owned()));
        }
    }
    Ok(Unit::Started { path, commands })
}

/// Files that change the unit, in the order of their names; a name counts in the first folder that has it.
fn drop_ins(tree: &Tree) -> Vec<String> {
    let mut found: Vec<(String, String)> = Vec::new();
    for folder in FOLDERS {
        let folder = format!("{folder}/{UNIT}.d");
        for name in tree.names(&folder).into_iter().filter(|name| name.ends_with(".conf")) {
            if !found.iter().any(|(known, _)| known == name) {
                found.push((name.to_owned(), format!("{folder}/{name}")));
            }
        }
    }
    found.sort();
    found.into_iter().map(|(_, path)| path).collect()
}

/// The targets and units that want the unit or require it.
fn wants(tree: &Tree) -> BTreeSet<String> {
    let mut by = BTreeSet::new();
    for folder in FOLDERS {
        for name in tree.names(folder) {
            let owner = name.strip_suffix(".wants").or_else(|| name.strip_suffix(".requires"));
            let Some(owner) = owner else { continue };
            let link = real(tree, &format!("{folder}/{name}/{UNIT}"));
            let entry = tree.entry(&link);
            if entry.is_some_and(|entry| entry.target.as_deref() != Some("/dev/null")) {
                by.insert(owner.to_owned());
            }
        }
    }
    by
}

/// `path` with the links on the way to it followed, and not itself.
fn real(tree: &Tree, path: &str) -> String {
    let (folder, name) = path.rsplit_once('/').unwrap_or(("", path));
    match tree.resolve(folder) {
        Some((folder, _)) => format!("{}/{name}", folder.trim_end_matches('/')),
        None => path.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::rules::Family;

    fn passes(change: fn(&mut Tree)) -> bool {
        let mut examined = sound(Family::Debian);
        change(&mut examined.tree);
        matches!(enabled(&examined).unwrap(), Verdict::Pass(_))
    }

    #[test]
    fn a_second_name_of_the_one_program_and_a_unit_of_its_own_are_fine() {
        assert!(passes(|tree| tree.link("/usr/local/bin/runc", "/usr/sbin/runc")));
        assert!(passes(|tree| {
            let text = "[Service]\nExecStart=-/usr/bin/containerd\n";
            tree.write("/etc/systemd/system/containerd.service", 0o644, text);
        }));
        assert!(passes(|tree| {
            let text =
                "[Service]\nExecStart=\nExecStart=/usr/bin/containerd --log-level \\\n debug\n";
            tree.write("/etc/systemd/system/containerd.service.d/a.conf", 0o644, text);
        }));
        assert!(passes(|tree| tree.remove("/usr/bin/crictl")));
    }
}
