//! containerd's unit: whether it is there, is wanted at boot, and starts what is there.

use nodekiln_words::Result;

use crate::at_rest::Examined;
use crate::rules::Verdict;
use crate::tree::containerd::CONFIG;
use crate::tree::units::{Enablement, Units};
use crate::tree::{Kind, Tree};

const UNIT: &str = "containerd.service";
/// Of these there may be one.
const ONE_OF: [&str; 3] = ["containerd", "runc", "crictl"];
/// Of these there has to be one. Whether crictl is needed depends on Kubernetes, and another rule says so.
const NEEDED: [&str; 2] = ["containerd", "runc"];

pub(super) fn enabled(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let units = Units::of(tree);
    let enablement = units.enablement(UNIT)?;
    let mut wrong = Vec::new();
    match &enablement {
        Enablement::Absent => wrong.push(format!("there is no {UNIT}")),
        Enablement::Masked(path) => wrong.push(format!("{path} masks {UNIT}")),
        Enablement::Static | Enablement::Disabled => {
            wrong.push(format!("nothing wants {UNIT} at boot"));
        }
        Enablement::Enabled(_) | Enablement::Preset(_) => {}
    }
    if let Some(unit) = units.unit(UNIT)?.filter(|unit| !unit.masked) {
        let programs = unit.programs();
        if programs.is_empty() {
            wrong.push(format!("{} has no ExecStart", unit.path));
        }
        for (program, setting) in programs {
            let there = tree.resolve(program);
            if there.is_none_or(|(_, entry)| entry.kind != Kind::File || entry.mode & 0o111 == 0) {
                let place = setting.place();
                wrong.push(format!("{place}: ExecStart names {program}, which is no program"));
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
    let by = enablement.by().unwrap_or_default();
    Ok(Verdict::of(&wrong, format!("{UNIT} is wanted by {by}")))
}

/// The place and the argument where containerd is started with another configuration; nothing where it is not.
pub(super) fn other_config(tree: &Tree) -> Result<Option<String>> {
    let Some(unit) = Units::of(tree).unit(UNIT)? else { return Ok(None) };
    let commands = unit.values("Service", "ExecStart");
    Ok(commands.into_iter().find_map(|setting| {
        let mut words = setting.value.split_whitespace();
        while let Some(word) = words.next() {
            let value = match word.split_once('=') {
                Some(("-c" | "-config" | "--config", value)) => Some(value),
                None if ["-c", "-config", "--config"].contains(&word) => words.next(),
                _ => None,
            };
            if let Some(value) = value.filter(|value| *value != CONFIG) {
                return Some(format!("{} (--config {value})", setting.place()));
            }
        }
        None
    }))
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
