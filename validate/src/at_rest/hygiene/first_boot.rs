//! Who makes the SSH host keys that the image does not have.

use std::collections::BTreeSet;

use nodekiln_words::Result;
use serde::Deserialize;

use crate::Tier;
use crate::at_rest::Examined;
use crate::rules::{Applies, Judge, Rule, Severity, Software, Verdict};
use crate::tree::Tree;

pub(in crate::at_rest) const RULES: &[Rule] = &[Rule {
    id: "first-boot-keys",
    title: "Something makes SSH host keys at the first boot",
    tier: Tier::Static,
    severity: Severity::Fatal,
    reads: &[
        "/etc/cloud/cloud.cfg",
        "/etc/cloud/cloud.cfg.d",
        "/etc/cloud/cloud-init.disabled",
        "/etc/systemd/system",
        "/usr/lib/systemd/system",
    ],
    why: "without host keys the SSH server does not start, and nobody gets into the node",
    remedy: "let cloud-init's `ssh` module run, or enable a unit that calls `ssh-keygen -A`",
    source: "sshd(8); cloud-init, cc_ssh",
    applies: Applies::with(&[Software::SshServer]),
    stops_boot: false,
    judge: Judge::Tree(first_boot_keys),
}];

/// cloud-init's service that runs the stage with the `ssh` module, by versions up to 24.2 and from 24.3 on.
const STAGES: [&str; 3] =
    ["cloud-init.service", "cloud-init-network.service", "cloud-init-main.service"];

/// The keys of cloud-init's settings that decide about host keys.
#[derive(Default, Deserialize)]
struct Settings {
    cloud_init_modules: Option<Vec<serde_json::Value>>,
    ssh_genkeytypes: Option<Vec<String>>,
}

fn first_boot_keys(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let wanted = wanted_units(tree)?;
    let without = match cloud_init_makes_none(tree, &wanted)? {
        None => return Ok(Verdict::Pass("cloud-init's ssh module makes them".into())),
        Some(why) => why,
    };
    for unit in &wanted {
        let text = unit_text(tree, unit)?;
        let makes = text.lines().any(|line| line.starts_with("Exec") && line.contains("keygen"));
        if makes {
            return Ok(Verdict::Pass(format!("{unit} makes them")));
        }
    }
    Ok(Verdict::Fail(format!("{without}, and no unit that is started calls ssh-keygen")))
}

/// Why cloud-init makes no host keys; nothing where it does.
fn cloud_init_makes_none(tree: &Tree, wanted: &BTreeSet<String>) -> Result<Option<String>> {
    let disabled = "/etc/cloud/cloud-init.disabled";
    if tree.entry(disabled).is_some() {
        return Ok(Some(format!("{disabled} keeps cloud-init from running")));
    }
    if !STAGES.iter().any(|stage| wanted.contains(*stage)) {
        return Ok(Some("no service of cloud-init's is enabled".to_owned()));
    }
    let mut settings = Settings::default();
    let drop_ins = tree.glob("/etc/cloud/cloud.cfg.d/*.cfg");
    for path in ["/etc/cloud/cloud.cfg".to_owned()].into_iter().chain(drop_ins) {
        // A file that is no YAML is none that cloud-init reads either.
        let text = tree.text(&path)?.unwrap_or_default();
        let Ok(found) = serde_saphyr::from_str::<Settings>(&text) else { continue };
        settings.cloud_init_modules = found.cloud_init_modules.or(settings.cloud_init_modules);
        settings.ssh_genkeytypes = found.ssh_genkeytypes.or(settings.ssh_genkeytypes);
    }
    let modules = settings.cloud_init_modules.unwrap_or_default();
    // A module stands by its name, or in a list with how often it runs.
    let is_ssh = |module: &serde_json::Value| {
        module.as_str().or_else(|| module.get(0)?.as_str()).is_some_and(|name| name == "ssh")
    };
    if !modules.iter().any(is_ssh) {
        return Ok(Some("`cloud_init_modules` is without `ssh`".to_owned()));
    }
    let none = settings.ssh_genkeytypes.is_some_and(|types| types.is_empty());
    Ok(none.then(|| "`ssh_genkeytypes` is empty".to_owned()))
}

/// Where unit files lie, the first of a name counting.
const FOLDERS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];

/// The unit's file, without its drop-ins; empty where it is masked or not there.
fn unit_text(tree: &Tree, unit: &str) -> Result<String> {
    let template = unit.split_once('@').map(|(name, rest)| {
        let kind = rest.rsplit_once('.').map_or("service", |(_, kind)| kind);
        format!("{name}@.{kind}")
    });
    for name in [Some(unit.to_owned()), template].into_iter().flatten() {
        for folder in FOLDERS {
            let path = format!("{folder}/{name}");
            if tree.entry(&path).is_some() {
                return Ok(tree.text(&path)?.unwrap_or_default());
            }
        }
    }
    Ok(String::new())
}

/// Every unit that some folder of links or some such unit pulls in, unless it is masked.
fn wanted_units(tree: &Tree) -> Result<BTreeSet<String>> {
    let masked = |unit: &str| {
        let path = format!("/etc/systemd/system/{unit}");
        tree.entry(&path).is_some_and(|entry| entry.target.as_deref() == Some("/dev/null"))
    };
    let mut open: Vec<String> = Vec::new();
    for folder in FOLDERS {
        for kind in ["wants", "requires"] {
            let links = tree.glob(&format!("{folder}/*.{kind}/*"));
            let names = links.iter().filter_map(|path| path.rsplit_once('/'));
            open.extend(names.map(|(_, name)| name.to_owned()));
        }
    }
    let mut wanted = BTreeSet::new();
    while let Some(unit) = open.pop() {
        if masked(&unit) || !wanted.insert(unit.clone()) {
            continue;
        }
        for line in unit_text(tree, &unit)?.lines() {
            let pulled = ["Wants=", "Requires="].iter().find_map(|key| line.strip_prefix(key));
            open.extend(pulled.unwrap_or_default().split_whitespace().map(str::to_owned));
        }
    }
    Ok(wanted)
}

#[cfg(test)]
pub(in crate::at_rest) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use crate::at_rest::corpus::Mutation;

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new(
            "cloud-init switched off",
            &["cloud-state", "datasource-detected", "first-boot-keys"],
            "cloud-init.disabled",
            |e| {
                e.tree.write("/etc/cloud/cloud-init.disabled", 0o644, "");
            },
        ),
        Mutation::new(
            "cloud-init's service masked",
            &["first-boot-keys"],
            "no service of cloud-init's",
            |e| {
                e.tree.link("/etc/systemd/system/cloud-init.service", "/dev/null");
            },
        ),
        Mutation::new(
            "cloud-init without the module",
            &["first-boot-keys"],
            "is without `ssh`",
            |e| {
                let text = "cloud_init_modules: [growpart, [resizefs, always]]\n";
                e.tree.write("/etc/cloud/cloud.cfg.d/99-fast.cfg", 0o644, text);
            },
        ),
        Mutation::new(
            "no kinds of keys",
            &["first-boot-keys"],
            "`ssh_genkeytypes` is empty",
            |e| {
                e.tree.write("/etc/cloud/cloud.cfg.d/99-keys.cfg", 0o644, "ssh_genkeytypes: []\n");
            },
        ),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::rules::Family;

    #[test]
    fn a_unit_that_makes_keys_will_do_without_cloud_init() {
        let mut examined = sound(Family::Rpm);
        let tree = &mut examined.tree;
        tree.remove("/etc/cloud");
        let unit = "[Service]\nType=oneshot\nExecStart=/usr/libexec/openssh/sshd-keygen %i\n";
        tree.write("/usr/lib/systemd/system/sshd-keygen@.service", 0o644, unit);
        let target = "[Unit]\nWants=sshd-keygen@rsa.service\nWants=sshd-keygen@ed25519.service\n";
        tree.write("/usr/lib/systemd/system/sshd-keygen.target", 0o644, target);
        tree.write(
            "/usr/lib/systemd/system/sshd.service",
            0o644,
            "[Unit]\nWants=sshd-keygen.target\n",
        );
        let link = "/etc/systemd/system/multi-user.target.wants/sshd.service";
        tree.link(link, "/usr/lib/systemd/system/sshd.service");
        let verdict = first_boot_keys(&examined).unwrap();
        assert!(
            matches!(&verdict, Verdict::Pass(seen) if seen.contains("sshd-keygen@")),
            "{verdict:?}"
        );
        examined.tree.link("/etc/systemd/system/sshd-keygen.target", "/dev/null");
        assert!(matches!(first_boot_keys(&examined).unwrap(), Verdict::Fail(_)));
    }
}
