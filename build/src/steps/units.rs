//! systemd units enabled, disabled and masked by the tree's own `systemctl`.

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_recipes::recipe::Units;
use nodekiln_words::{Failure, Result};

use super::near;
use crate::execution::Execution;
use crate::layer::Root;

/// Where units are found, highest precedence first (systemd.unit(5)); `/lib` is a folder of its own
/// in trees whose `/usr` is not merged.
const FOLDERS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// Kinds of units that may be enabled or masked.
const SUFFIXES: [&str; 9] =
    ["service", "socket", "timer", "mount", "path", "target", "swap", "automount", "slice"];

/// Applies `units`: enables, then disables, then masks. A unit to mask need not exist.
///
/// # Errors
/// When a unit to enable or disable is not in the tree; the remedy names near ones.
pub fn run(units: &Units, execution: &Execution<'_>) -> Result<BTreeMap<String, String>> {
    let root = execution.root()?;
    let known = known(&root)?;
    for unit in units.enable.iter().chain(&units.disable) {
        check(unit, &known)?;
    }
    let work = [("enable", &units.enable), ("disable", &units.disable), ("mask", &units.mask)];
    for (verb, names) in work.into_iter().filter(|(_, names)| !names.is_empty()) {
        let mut arguments = vec!["systemctl", "--root=/", verb, "--"];
        arguments.extend(names.iter().map(String::as_str));
        execution.run(&execution.command(format!("{verb} units"), &root, arguments))?;
    }
    root.finish(execution.source_date)?;
    Ok(BTreeMap::new())
}

/// Names of all units in the tree, and of scripts that systemd wraps as services.
fn known(root: &Root) -> Result<BTreeSet<String>> {
    let mut names = BTreeSet::new();
    for folder in FOLDERS {
        names.extend(root.list(folder)?);
    }
    names.extend(root.list("/etc/init.d")?.into_iter().map(|name| format!("{name}.service")));
    names.retain(|name| SUFFIXES.iter().any(|suffix| name.ends_with(&format!(".{suffix}"))));
    Ok(names)
}

/// The file that defines a unit: a name without suffix is a service, an instance its template.
fn definition(unit: &str) -> String {
    let is_whole = SUFFIXES.iter().any(|suffix| unit.ends_with(&format!(".{suffix}")));
    let unit = if is_whole { unit.to_owned() } else { format!("{unit}.service") };
    match (unit.split_once('@'), unit.rsplit_once('.')) {
        (Some((template, _)), Some((_, suffix))) => format!("{template}@.{suffix}"),
        _ => unit,
    }
}

fn check(unit: &str, known: &BTreeSet<String>) -> Result<()> {
    let definition = definition(unit);
    if known.contains(&definition) {
        return Ok(());
    }
    let near = near(&definition, known.iter().cloned());
    let help = if near.is_empty() {
        "add the package that brings it, or take it out of `units`".to_owned()
    } else {
        format!("the tree has {}", near.join(", "))
    };
    Err(Failure::input(format!("the tree has no unit `{unit}`")).with_help(help))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_lead_to_the_files_that_define_them() {
        assert_eq!(definition("kubelet"), "kubelet.service");
        assert_eq!(definition("apt-daily.timer"), "apt-daily.timer");
        assert_eq!(definition("getty@tty1.service"), "getty@.service");
        assert_eq!(definition("getty@tty1"), "getty@.service");
    }

    #[test]
    fn an_unknown_unit_is_answered_with_near_names() {
        let known = ["kubelet.service", "cron.service"].map(str::to_owned).into();
        let failure = check("kublet.service", &known).unwrap_err();
        assert_eq!(failure.help(), Some("the tree has kubelet.service"));
        assert!(check("kubelet", &known).is_ok());
    }
}
