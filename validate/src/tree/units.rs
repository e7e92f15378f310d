//! systemd's view of a tree, without systemd: which unit files count, what drop-ins make of them, and what wants
//! them at boot.
//!
//! Folders below `/run` are left out: at boot a new file system hides what an image has there.

mod enablement;
mod settings;

use std::collections::{BTreeMap, BTreeSet};

use nodekiln_words::Result;

use super::{Kind, Tree};

pub use enablement::Enablement;
pub use settings::{Setting, assignments, parse};

/// Where units of the system are looked for; the first that has a name wins (systemd.unit(5), unit load path).
const FOLDERS: [&str; 4] = [
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
];
/// Most aliases that lead from one to the next.
const MOST_ALIASES: usize = 8;
/// What may stand before a program in `Exec…=` (systemd.service(5), special executable prefixes).
const PREFIXES: [char; 6] = ['@', '-', ':', '+', '!', '|'];

/// The units of a tree.
pub struct Units<'t, 'a> {
    tree: &'t Tree<'a>,
    /// Other names of units: what each is an alias of.
    aliases: BTreeMap<String, String>,
    /// What wants a unit: the path of the link or file, by the unit's name as it stands there.
    wanted: BTreeMap<String, Vec<String>>,
}

/// One unit, its drop-ins merged into it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Unit {
    /// Its own name; an alias is resolved.
    pub name: String,
    /// The file that has it, or that masks it.
    pub path: String,
    /// Whether it is a link to /dev/null or an empty file, so that nothing can start it.
    pub masked: bool,
    /// Drop-ins that change it, in the order in which they apply.
    pub drop_ins: Vec<String>,
    /// What the files set, in order.
    pub settings: Vec<Setting>,
}

/// Where a name leads.
enum Found {
    /// To a file.
    File(String),
    /// To a mask.
    Mask(String),
    /// Nowhere.
    Nothing,
}

impl<'t, 'a> Units<'t, 'a> {
    /// The units of `tree`. Only names and links are looked at.
    #[must_use]
    pub fn of(tree: &'t Tree<'a>) -> Self {
        let mut aliases = BTreeMap::new();
        let mut wanted: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for folder in FOLDERS {
            for name in tree.names(folder) {
                let path = format!("{folder}/{name}");
                let target =
                    tree.entry(&real(tree, folder, name)).and_then(|entry| entry.target.as_deref());
                if let Some(other) = target.and_then(last)
                    && other != name
                    && is_unit(name)
                    && is_unit(other)
                {
                    aliases.entry(name.to_owned()).or_insert_with(|| other.to_owned());
                }
                let wants = [".wants", ".requires", ".upholds"];
                if wants.iter().any(|ending| name.ends_with(ending)) {
                    for unit in tree.names(&path) {
                        let link = format!("{path}/{unit}");
                        // A link to /dev/null hides the same link of a folder that counts less.
                        let entry = tree.entry(&real(tree, &path, unit));
                        let hides =
                            entry.and_then(|entry| entry.target.as_deref()) == Some("/dev/null");
                        let links = wanted.entry(unit.to_owned()).or_default();
                        let same = format!("/{name}/{unit}");
                        if !links.iter().any(|known| known.ends_with(&same)) {
                            links.push(if hides { format!("-{link}") } else { link });
                        }
                    }
                }
            }
        }
        for links in wanted.values_mut() {
            links.retain(|link| !link.starts_with('-'));
        }
        wanted.retain(|_, links| !links.is_empty());
        Self { tree, aliases, wanted }
    }

    /// The unit called `name`, whatever its state; nothing where no file has it.
    ///
    /// # Errors
    /// When one of its files cannot be read.
    pub fn unit(&self, name: &str) -> Result<Option<Unit>> {
        let own = self.own_name(name);
        let mut unit = Unit { name: own.clone(), ..Unit::default() };
        match self.find(&own) {
            Found::Nothing => return Ok(None),
            Found::Mask(path) => return Ok(Some(Unit { path, masked: true, ..unit })),
            Found::File(path) => unit.path = path,
        }
        unit.drop_ins = self.drop_ins(&own);
        for path in [&unit.path].into_iter().chain(&unit.drop_ins) {
            let text = self.tree.text(path)?.unwrap_or_default();
            unit.settings.extend(parse(&text, path));
        }
        Ok(Some(unit))
    }

    /// Names of the units with a file of their own that end in `ending`, such as `.swap`.
    #[must_use]
    pub fn ending(&self, ending: &str) -> BTreeSet<&str> {
        let names = FOLDERS.iter().flat_map(|folder| self.tree.names(folder));
        names.filter(|name| name.ends_with(ending)).collect()
    }

    /// Names that something wants at boot, by whatever name it does.
    pub fn wanted(&self) -> impl Iterator<Item = &str> {
        self.wanted.keys().map(String::as_str)
    }

    /// The name behind an alias, or `name` itself.
    #[must_use]
    pub fn own_name(&self, name: &str) -> String {
        let mut name = name;
        for _ in 0..MOST_ALIASES {
            match self.aliases.get(name) {
                Some(other) => name = other,
                None => break,
            }
        }
        name.to_owned()
    }

    /// Every name of the unit that is called `own`, that first.
    fn names(&self, own: &str) -> Vec<String> {
        let others = self.aliases.keys().filter(|alias| self.own_name(alias) == own);
        [own.to_owned()].into_iter().chain(others.cloned()).collect()
    }

    /// The file of a unit, or of the template that it is an instance of.
    fn find(&self, name: &str) -> Found {
        let template = template_of(name);
        for name in [Some(name.to_owned()), template].into_iter().flatten() {
            for folder in FOLDERS {
                let path = format!("{folder}/{name}");
                let Some(own) = self.tree.entry(&real(self.tree, folder, &name)) else { continue };
                if own.target.as_deref() == Some("/dev/null") {
                    return Found::Mask(path);
                }
                match self.tree.resolve(&path) {
                    Some((_, entry)) if entry.kind == Kind::File && entry.size == 0 => {
                        return Found::Mask(path);
                    }
                    Some((_, entry)) if entry.kind == Kind::File => return Found::File(path),
                    // A link that leads nowhere is no unit, and hides none.
                    _ => {}
                }
            }
        }
        Found::Nothing
    }

    /// Drop-ins of the unit `own`, in the order in which they apply: of two with one name the one in the folder that
    /// counts more, then by their names (systemd.unit(5)).
    fn drop_ins(&self, own: &str) -> Vec<String> {
        let mut found: BTreeMap<String, String> = BTreeMap::new();
        let mut take = |folder: String| {
            for name in self.tree.names(&folder) {
                if name.ends_with(".conf") {
                    found.entry(name.to_owned()).or_insert_with(|| format!("{folder}/{name}"));
                }
            }
        };
        for name in self.names(own) {
            for folder in FOLDERS {
                for drop_ins in names_of_drop_ins(&name) {
                    take(format!("{folder}/{drop_ins}.d"));
                }
            }
        }
        // Those of the whole type count least.
        if let Some((_, kind)) = own.rsplit_once('.') {
            for folder in FOLDERS {
                take(format!("{folder}/{kind}.d"));
            }
        }
        found.into_values().collect()
    }
}

impl Unit {
    /// What `key` in `section` is set to last.
    #[must_use]
    pub fn value(&self, section: &str, key: &str) -> Option<&Setting> {
        self.settings.iter().rfind(|setting| setting.is(section, key))
    }

    /// What `key` in `section` is set to, where each adds to those before it and an empty one clears them.
    #[must_use]
    pub fn values(&self, section: &str, key: &str) -> Vec<&Setting> {
        let mut values = Vec::new();
        for setting in self.settings.iter().filter(|setting| setting.is(section, key)) {
            match setting.value.is_empty() {
                true => values.clear(),
                false => values.push(setting),
            }
        }
        values
    }

    /// The programs that starting it runs, as they are written, without prefixes and arguments.
    #[must_use]
    pub fn programs(&self) -> Vec<(&str, &Setting)> {
        let commands = self.values("Service", "ExecStart").into_iter();
        commands.filter_map(|setting| Some((first_word(setting)?, setting))).collect()
    }

    /// Variables that `Environment=` gives it, each with where it does; the last of a name counts.
    #[must_use]
    pub fn environment(&self) -> Vec<(String, String, &Setting)> {
        let mut variables: Vec<(String, String, &Setting)> = Vec::new();
        for setting in self.values("Service", "Environment") {
            for (name, value) in assignments(&setting.value) {
                variables.retain(|(known, ..)| *known != name);
                variables.push((name, value, setting));
            }
        }
        variables
    }

    /// Files that `EnvironmentFile=` names, without the dash of those that may be absent.
    #[must_use]
    pub fn environment_files(&self) -> Vec<&str> {
        let files = self.values("Service", "EnvironmentFile").into_iter();
        files.map(|setting| setting.value.trim_start_matches('-')).collect()
    }
}

/// The program of a command, as it is written.
fn first_word(command: &Setting) -> Option<&str> {
    let word = command.value.trim_start_matches(PREFIXES).split_whitespace().next()?;
    Some(word.trim_matches(['"', '\'']))
}

/// Where the entry `name` of the folder that `folder` leads to stands, itself not followed.
fn real(tree: &Tree, folder: &str, name: &str) -> String {
    let folder = tree.resolve(folder).map_or_else(|| folder.to_owned(), |(folder, _)| folder);
    format!("{folder}/{name}")
}

/// The last name in a path.
fn last(path: &str) -> Option<&str> {
    path.rsplit('/').next().filter(|name| !name.is_empty())
}

/// Whether `name` has one of the endings of units.
fn is_unit(name: &str) -> bool {
    const ENDINGS: [&str; 11] = [
        "service",
        "socket",
        "target",
        "timer",
        "mount",
        "automount",
        "swap",
        "path",
        "slice",
        "scope",
        "device",
    ];
    name.rsplit_once('.').is_some_and(|(_, ending)| ENDINGS.contains(&ending))
}

/// The template of an instance: `getty@.service` of `getty@tty1.service`.
fn template_of(name: &str) -> Option<String> {
    let (stem, kind) = name.rsplit_once('.')?;
    let (template, instance) = stem.split_once('@')?;
    (!instance.is_empty()).then(|| format!("{template}@.{kind}"))
}

/// What a unit's folders of drop-ins are called without `.d`, the most special first: `a-b@c.service` has
/// `a-b@c.service`, `a-b@.service` and `a-.service`.
fn names_of_drop_ins(name: &str) -> Vec<String> {
    let mut names = vec![name.to_owned()];
    names.extend(template_of(name));
    let Some((stem, kind)) = name.rsplit_once('.') else { return names };
    let stem = stem.split_once('@').map_or(stem, |(stem, _)| stem);
    let dashes: Vec<usize> = stem.match_indices('-').map(|(at, _)| at).collect();
    for at in dashes.into_iter().rev() {
        let prefix = format!("{}.{kind}", &stem[..=at]);
        if prefix != name {
            names.push(prefix);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree() -> Tree<'static> {
        let mut tree = Tree::default();
        tree.folder("/usr/lib", 0o755);
        tree.link("/lib", "usr/lib");
        tree
    }

    fn unit(tree: &Tree, name: &str) -> Option<Unit> {
        Units::of(tree).unit(name).unwrap()
    }

    #[test]
    fn the_first_folder_wins_and_a_dangling_link_hides_nothing() {
        let mut tree = tree();
        tree.write("/usr/lib/systemd/system/a.service", 0o644, "[Service]\nExecStart=/packaged\n");
        assert_eq!(unit(&tree, "a.service").unwrap().path, "/usr/lib/systemd/system/a.service");
        tree.write(
            "/usr/local/lib/systemd/system/a.service",
            0o644,
            "[Service]\nExecStart=/local\n",
        );
        assert_eq!(unit(&tree, "a.service").unwrap().programs()[0].0, "/local");
        tree.link("/etc/systemd/system/a.service", "/nowhere/a.service");
        assert_eq!(unit(&tree, "a.service").unwrap().programs()[0].0, "/local");
        tree.write("/etc/systemd/system/a.service", 0o644, "[Service]\nExecStart=/own\n");
        assert_eq!(unit(&tree, "a.service").unwrap().programs()[0].0, "/own");
        // What is in /run of an image is hidden at boot.
        tree.link("/run/systemd/system/a.service", "/dev/null");
        assert!(!unit(&tree, "a.service").unwrap().masked);
        assert_eq!(unit(&tree, "b.service"), None);
    }

    #[test]
    fn links_to_dev_null_and_empty_files_are_masks() {
        let mut tree = tree();
        tree.write("/lib/systemd/system/a.service", 0o644, "x");
        tree.remove("/lib/systemd");
        tree.write("/usr/lib/systemd/system/a.service", 0o644, "[Service]\n");
        tree.link("/etc/systemd/system/a.service", "/dev/null");
        assert!(unit(&tree, "a.service").unwrap().masked);
        tree.write("/etc/systemd/system/a.service", 0o644, "");
        assert!(unit(&tree, "a.service").unwrap().masked);
        assert_eq!(unit(&tree, "a.service").unwrap().path, "/etc/systemd/system/a.service");
    }

    #[test]
    fn an_alias_is_the_unit_and_brings_its_drop_ins() {
        let mut tree = tree();
        tree.write("/usr/lib/systemd/system/ssh.service", 0o644, "[Service]\nNice=1\n");
        tree.link("/etc/systemd/system/sshd.service", "/lib/systemd/system/ssh.service");
        tree.write("/etc/systemd/system/sshd.service.d/a.conf", 0o644, "[Service]\nNice=2\n");
        let found = unit(&tree, "sshd.service").unwrap();
        assert_eq!((found.name.as_str(), found.masked), ("ssh.service", false));
        assert_eq!(found.value("Service", "Nice").unwrap().value, "2");
        // Two that name each other end.
        tree.link("/etc/systemd/system/x.service", "y.service");
        tree.link("/etc/systemd/system/y.service", "x.service");
        assert_eq!(unit(&tree, "x.service"), None);
    }

    #[test]
    fn an_instance_is_that_of_its_template() {
        let mut tree = tree();
        tree.write(
            "/usr/lib/systemd/system/getty@.service",
            0o644,
            "[Service]\nExecStart=-/sbin/agetty %I\n",
        );
        tree.write("/etc/systemd/system/getty@.service.d/b.conf", 0o644, "[Service]\nNice=1\n");
        tree.write("/etc/systemd/system/getty@tty1.service.d/a.conf", 0o644, "[Service]\nNice=2\n");
        let found = unit(&tree, "getty@tty1.service").unwrap();
        assert_eq!(found.programs()[0].0, "/sbin/agetty");
        assert_eq!(found.value("Service", "Nice").unwrap().value, "1");
        assert_eq!(found.drop_ins.len(), 2);
        assert_eq!(unit(&tree, "tty@x.service"), None);
    }

    #[test]
    fn drop_ins_apply_by_name_and_those_of_etc_replace_packaged_ones() {
        let mut tree = tree();
        let write = |tree: &mut Tree, path: &str, value: &str| {
            tree.write(path, 0o644, format!("[Service]\nEnvironment=A={value}\n"));
        };
        write(&mut tree, "/usr/lib/systemd/system/a-b.service", "unit");
        let last = |tree: &Tree| unit(tree, "a-b.service").unwrap().environment()[0].1.clone();
        assert_eq!(last(&tree), "unit");
        write(&mut tree, "/usr/lib/systemd/system/service.d/50.conf", "type");
        assert_eq!(last(&tree), "type");
        write(&mut tree, "/usr/lib/systemd/system/a-.service.d/50.conf", "prefix");
        assert_eq!(last(&tree), "prefix");
        write(&mut tree, "/usr/lib/systemd/system/a-b.service.d/50.conf", "own");
        assert_eq!(last(&tree), "own");
        // The folder counts more than how special the name is.
        write(&mut tree, "/etc/systemd/system/a-.service.d/50.conf", "administrator");
        assert_eq!(last(&tree), "administrator");
        write(&mut tree, "/usr/lib/systemd/system/a-b.service.d/60.conf", "later");
        assert_eq!(last(&tree), "later");
        tree.link("/etc/systemd/system/a-b.service.d/60.conf", "/dev/null");
        assert_eq!(last(&tree), "administrator");
        write(&mut tree, "/etc/systemd/system/a-b.service.d/99.txt", "no drop-in");
        assert_eq!(last(&tree), "administrator");
    }

    #[test]
    fn an_empty_command_clears_those_before_it() {
        let mut tree = tree();
        let text = "[Service]\nExecStart=/a --x\nExecStart=-+/b\nEnvironmentFile=-/etc/default/a\n";
        tree.write("/usr/lib/systemd/system/a.service", 0o644, text);
        let programs = |tree: &Tree| {
            let unit = unit(tree, "a.service").unwrap();
            unit.programs().iter().map(|(program, _)| (*program).to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(programs(&tree), ["/a", "/b"]);
        assert_eq!(unit(&tree, "a.service").unwrap().environment_files(), ["/etc/default/a"]);
        tree.write(
            "/etc/systemd/system/a.service.d/x.conf",
            0o644,
            "[Service]\nExecStart=\nExecStart=/c\n",
        );
        assert_eq!(programs(&tree), ["/c"]);
    }

    #[test]
    fn folders_of_drop_ins_go_from_the_special_to_the_general() {
        let names = names_of_drop_ins("a-b-c@d-e.service");
        assert_eq!(names, ["a-b-c@d-e.service", "a-b-c@.service", "a-b-.service", "a-.service"]);
        assert_eq!(names_of_drop_ins("a.socket"), ["a.socket"]);
    }
}
