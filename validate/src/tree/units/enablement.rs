//! Whether something starts a unit at boot.

use nodekiln_words::Result;

use super::{Unit, Units};
use crate::tree::drop_ins;
use crate::tree::glob::fits;

/// What `systemctl is-enabled` would say of a unit, and by what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Enablement {
    /// No file has it.
    Absent,
    /// The link or file at this path keeps it from ever starting.
    Masked(String),
    /// The link or script at this path wants it.
    Enabled(String),
    /// Nothing wants it, and it does not say what should (`[Install]`).
    Static,
    /// Nothing wants it.
    Disabled,
    /// Nothing wants it yet: the first boot enables it by this line of a preset.
    Preset(String),
}

impl Enablement {
    /// Whether it is started at boot, and by what.
    #[must_use]
    pub fn by(&self) -> Option<&str> {
        match self {
            Self::Enabled(by) | Self::Preset(by) => Some(by),
            Self::Absent | Self::Masked(_) | Self::Static | Self::Disabled => None,
        }
    }
}

impl Units<'_, '_> {
    /// Whether something starts the unit called `name` at boot.
    ///
    /// # Errors
    /// When one of its files cannot be read.
    pub fn enablement(&self, name: &str) -> Result<Enablement> {
        let Some(unit) = self.unit(name)? else {
            return Ok(self.script(name).map_or(Enablement::Absent, Enablement::Enabled));
        };
        if unit.masked {
            return Ok(Enablement::Masked(unit.path));
        }
        if let Some(link) = self.link_to(&unit.name) {
            return Ok(Enablement::Enabled(link));
        }
        if !installs(&unit) {
            return Ok(Enablement::Static);
        }
        Ok(match self.preset(&unit.name)? {
            Some(line) => Enablement::Preset(line),
            None => Enablement::Disabled,
        })
    }

    /// The link that wants the unit by one of its names.
    fn link_to(&self, own: &str) -> Option<String> {
        let mut links =
            self.names(own).into_iter().filter_map(|name| self.wanted.get(&name)?.first().cloned());
        links.next()
    }

    /// The link that starts the script of a service which has no unit (systemd-sysv-generator(8)).
    fn script(&self, name: &str) -> Option<String> {
        let service = name.strip_suffix(".service")?;
        self.tree.resolve(&format!("/etc/init.d/{service}"))?;
        (2..=5).find_map(|level| {
            let folder = format!("/etc/rc{level}.d");
            let starts = |link: &&str| {
                let number = link.strip_prefix('S').and_then(|rest| rest.get(..2));
                number.is_some_and(|number| number.bytes().all(|byte| byte.is_ascii_digit()))
                    && link.get(3..) == Some(service)
            };
            let link = self.tree.names(&folder).into_iter().find(starts)?;
            Some(format!("{folder}/{link}"))
        })
    }

    /// The line of a preset that enables the unit, which counts only at a first boot (machine-id(5)). Without any
    /// that speaks of it a unit is enabled too (systemd.preset(5)).
    fn preset(&self, name: &str) -> Result<Option<String>> {
        let machine_id = self.tree.text("/etc/machine-id")?;
        if machine_id.is_some_and(|text| text.trim() != "uninitialized") {
            return Ok(None);
        }
        for path in drop_ins::files(self.tree, "systemd/system-preset", ".preset") {
            let text = self.tree.text(&path)?.unwrap_or_default();
            for (at, line) in text.lines().enumerate() {
                let mut words = line.split_whitespace();
                let (Some(verb), Some(pattern)) = (words.next(), words.next()) else { continue };
                if !fits(pattern, name) {
                    continue;
                }
                match verb {
                    "enable" => return Ok(Some(format!("{path}:{}", at + 1))),
                    "disable" => return Ok(None),
                    _ => {}
                }
            }
        }
        Ok(Some("a first boot, which no preset keeps from it".to_owned()))
    }
}

/// Whether a unit says what should want it.
fn installs(unit: &Unit) -> bool {
    let mut settings = unit.settings.iter().filter(|setting| setting.section == "Install");
    settings.any(|setting| {
        ["WantedBy", "RequiredBy", "UpheldBy", "Alias", "Also"].contains(&&*setting.key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Tree;

    const INSTALL: &str = "[Service]\nExecStart=/a\n[Install]\nWantedBy=multi-user.target\n";

    fn tree() -> Tree<'static> {
        let mut tree = Tree::default();
        tree.write("/usr/lib/systemd/system/a.service", 0o644, INSTALL);
        tree.link("/lib", "usr/lib");
        tree.write("/etc/machine-id", 0o444, "");
        tree
    }

    fn of(tree: &Tree) -> Enablement {
        Units::of(tree).enablement("a.service").unwrap()
    }

    #[test]
    fn a_link_that_wants_it_enables_it() {
        let mut tree = tree();
        assert_eq!(of(&tree), Enablement::Disabled);
        let link = "/etc/systemd/system/multi-user.target.wants/a.service";
        tree.link(link, "/lib/systemd/system/a.service");
        assert_eq!(of(&tree), Enablement::Enabled(link.to_owned()));
        tree.link("/etc/systemd/system/a.service", "/dev/null");
        assert!(
            matches!(of(&tree), Enablement::Masked(by) if by == "/etc/systemd/system/a.service")
        );
        assert_eq!(Units::of(&tree).enablement("b.service").unwrap(), Enablement::Absent);
    }

    #[test]
    fn a_packaged_link_wants_it_too_unless_one_of_the_administrator_hides_it() {
        let mut tree = tree();
        tree.link("/usr/lib/systemd/system/sysinit.target.wants/a.service", "../a.service");
        assert!(of(&tree).by().is_some());
        tree.link("/etc/systemd/system/sysinit.target.wants/a.service", "/dev/null");
        assert_eq!(of(&tree).by(), None);
    }

    #[test]
    fn an_alias_that_is_wanted_is_the_unit() {
        let mut tree = tree();
        tree.link("/etc/systemd/system/b.service", "/lib/systemd/system/a.service");
        tree.link(
            "/etc/systemd/system/multi-user.target.requires/b.service",
            "/lib/systemd/system/a.service",
        );
        assert!(of(&tree).by().is_some());
        assert!(Units::of(&tree).enablement("b.service").unwrap().by().is_some());
    }

    #[test]
    fn presets_count_at_a_first_boot_where_nothing_decides() {
        let mut tree = tree();
        tree.write(
            "/usr/lib/systemd/system-preset/90.preset",
            0o644,
            "# x\nenable a.*\ndisable *\n",
        );
        assert_eq!(of(&tree), Enablement::Disabled);
        tree.write("/etc/machine-id", 0o444, "uninitialized\n");
        assert_eq!(
            of(&tree),
            Enablement::Preset("/usr/lib/systemd/system-preset/90.preset:2".to_owned())
        );
        tree.write("/etc/systemd/system-preset/10.preset", 0o644, "disable a.service\n");
        assert_eq!(of(&tree), Enablement::Disabled);
        tree.remove("/etc/systemd/system-preset");
        tree.remove("/usr/lib/systemd/system-preset");
        assert!(of(&tree).by().is_some());
        // A unit without [Install] is no matter of presets.
        tree.write("/usr/lib/systemd/system/a.service", 0o644, "[Service]\nExecStart=/a\n");
        assert_eq!(of(&tree), Enablement::Static);
    }

    #[test]
    fn a_script_without_a_unit_is_started_by_its_link() {
        let mut tree = tree();
        tree.remove("/usr/lib/systemd/system/a.service");
        tree.link("/etc/rc3.d/S01a", "../init.d/a");
        assert_eq!(of(&tree), Enablement::Absent);
        tree.write("/etc/init.d/a", 0o755, "#!/bin/sh\n");
        assert_eq!(of(&tree), Enablement::Enabled("/etc/rc3.d/S01a".to_owned()));
        tree.remove("/etc/rc3.d/S01a");
        tree.link("/etc/rc3.d/K01a", "../init.d/a");
        assert_eq!(of(&tree), Enablement::Absent);
    }
}
