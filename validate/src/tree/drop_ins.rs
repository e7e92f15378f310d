//! Folders of small files that are read as one: which of them count and in which order, and what they set.

use std::collections::BTreeMap;

use nodekiln_words::Result;

use super::Tree;
use super::glob::fits;

/// Where such folders stand; a name in one hides the same name in those after it. Those below /run are hidden at
/// boot (sysctl.d(5), modules-load.d(5)).
const FOLDERS: [&str; 4] = ["/etc", "/usr/local/lib", "/usr/lib", "/lib"];

/// The files of the folders called `folder` whose names end in `ending`, in the order in which they are read.
#[must_use]
pub fn files(tree: &Tree, folder: &str, ending: &str) -> Vec<String> {
    let mut found: BTreeMap<&str, String> = BTreeMap::new();
    let paths = FOLDERS.map(|base| format!("{base}/{folder}"));
    for path in &paths {
        for name in tree.names(path) {
            if name.ends_with(ending) {
                found.entry(name).or_insert_with(|| format!("{path}/{name}"));
            }
        }
    }
    found.into_values().collect()
}

/// A word that a file sets to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Set {
    /// What is set.
    pub key: String,
    /// To what.
    pub value: String,
    /// The file that sets it.
    pub path: String,
    /// Its line there, from 1 on.
    pub line: usize,
    /// Its place among all that are applied.
    pub order: usize,
}

impl Set {
    /// Where it is set: path and line.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.path, self.line)
    }
}

/// Kernel settings as systemd-sysctl applies them at boot.
///
/// `/etc/sysctl.conf` counts where a link in `/etc/sysctl.d` leads to it, as on Debian.
#[derive(Clone, Debug, Default)]
pub struct Sysctls {
    /// By their keys in dotted form; the last of a key is the one that counts, and is applied in its own place.
    exact: BTreeMap<String, Set>,
    /// Those whose keys have wildcards, in order.
    globs: Vec<Set>,
    /// Keys that wildcards leave alone: a dash and no value.
    kept: Vec<String>,
}

impl Sysctls {
    /// The settings of `tree`.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn of(tree: &Tree) -> Result<Self> {
        let mut settings = Self::default();
        let mut order = 0;
        for path in files(tree, "sysctl.d", ".conf") {
            let text = tree.text(&path)?.unwrap_or_default();
            for (at, line) in text.lines().enumerate() {
                let line = line.trim();
                if line.is_empty() || line.starts_with(['#', ';']) {
                    continue;
                }
                // A dash says that a failure to apply it is no error.
                let (dash, rest) =
                    line.strip_prefix('-').map_or((false, line), |rest| (true, rest));
                let Some((key, value)) = rest.split_once('=') else {
                    if dash {
                        settings.kept.push(dotted(rest.trim()));
                    }
                    continue;
                };
                order += 1;
                let (key, value) = (dotted(key.trim()), value.trim().to_owned());
                let set = Set { key: key.clone(), value, path: path.clone(), line: at + 1, order };
                match key.contains(['*', '?', '[']) {
                    true => settings.globs.push(set),
                    false => {
                        settings.exact.insert(key, set);
                    }
                }
            }
        }
        Ok(settings)
    }

    /// What `key`, in dotted form, is set to, and where. A key that is named counts more than a wildcard, whichever
    /// is later.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&Set> {
        self.exact.get(key).or_else(|| {
            if self.kept.iter().any(|kept| key_matches(kept, key)) {
                return None;
            }
            self.globs.iter().rfind(|set| key_matches(&set.key, key))
        })
    }
}

/// A key in dotted form: where its first separator is a slash, slashes separate and dots are part of names.
fn dotted(key: &str) -> String {
    match key.find(['.', '/']).map(|at| key.as_bytes()[at]) {
        Some(b'/') => {
            let swap = |char| match char {
                '/' => '.',
                '.' => '/',
                other => other,
            };
            key.chars().map(swap).collect()
        }
        _ => key.to_owned(),
    }
}

/// Whether `key` fits `pattern`, whose wildcards stand for no separator: keys are paths below /proc/sys.
fn key_matches(pattern: &str, key: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('.'), key.split('.'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) if fits(pattern, part) => {}
            _ => return false,
        }
    }
}

/// Modules that are loaded at boot, each with the file and line that names it; those that modprobe.d forbids are
/// not among them.
#[derive(Clone, Debug, Default)]
pub struct LoadedModules {
    /// By their names, with underscores.
    named: BTreeMap<String, String>,
    /// What keeps a module from being loaded, by its name.
    forbidden: BTreeMap<String, String>,
}

impl LoadedModules {
    /// Those of `tree`.
    ///
    /// # Errors
    /// When a file cannot be read.
    pub fn of(tree: &Tree) -> Result<Self> {
        let mut modules = Self::default();
        for path in files(tree, "modules-load.d", ".conf") {
            let text = tree.text(&path)?.unwrap_or_default();
            for (at, line) in text.lines().enumerate() {
                let line = line.trim();
                if !line.is_empty() && !line.starts_with(['#', ';']) {
                    let place = format!("{path}:{}", at + 1);
                    modules.named.entry(line.replace('-', "_")).or_insert(place);
                }
            }
        }
        for path in files(tree, "modprobe.d", ".conf") {
            let text = tree.text(&path)?.unwrap_or_default();
            for (at, line) in text.lines().enumerate() {
                let words: Vec<&str> = line.split_whitespace().collect();
                let name = match words[..] {
                    ["blacklist", name, ..] => name,
                    ["install", name, program, ..] if is_nothing(program) => name,
                    _ => continue,
                };
                let place = format!("{path}:{}", at + 1);
                modules.forbidden.entry(name.replace('-', "_")).or_insert(place);
            }
        }
        Ok(modules)
    }

    /// Where `module` is named.
    #[must_use]
    pub fn named(&self, module: &str) -> Option<&str> {
        self.named.get(module).map(String::as_str)
    }

    /// Where it is said that `module` is not loaded, though it may be named: a block list, which systemd-modules-load
    /// heeds, or a program in place of it that does nothing (modprobe.d(5)).
    #[must_use]
    pub fn forbidden(&self, module: &str) -> Option<&str> {
        self.forbidden.get(module).map(String::as_str)
    }

    /// Every module that is named, with where.
    pub fn all(&self) -> impl Iterator<Item = (&str, &str)> {
        self.named.iter().map(|(name, place)| (name.as_str(), place.as_str()))
    }
}

/// Whether a program that is run in place of loading a module does nothing.
fn is_nothing(program: &str) -> bool {
    matches!(program.rsplit('/').next(), Some("true" | "false"))
}

/// Variables that the files of shells and of logins set: /etc/environment, /etc/profile and profile.d.
///
/// # Errors
/// When a file cannot be read.
pub fn login_variables(tree: &Tree) -> Result<Vec<Set>> {
    let scripts = tree.names("/etc/profile.d").into_iter().filter(|name| name.ends_with(".sh"));
    let scripts = scripts.map(|name| format!("/etc/profile.d/{name}"));
    let mut found = Vec::new();
    for path in
        ["/etc/environment".to_owned(), "/etc/profile".to_owned()].into_iter().chain(scripts)
    {
        let text = tree.text(&path)?.unwrap_or_default();
        found.extend(variables(&text, &path));
    }
    Ok(found)
}

/// The lines `NAME=VALUE` of `text`, that of the file at `path`, with or without `export` before them. The quotes
/// around a value are left out.
#[must_use]
pub fn variables(text: &str, path: &str) -> Vec<Set> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        let line = line.trim();
        let line = line.strip_prefix("export ").unwrap_or(line).trim_start();
        let Some((key, value)) = line.split_once('=') else { continue };
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
        if key.is_empty() || !key.bytes().all(is_name) {
            continue;
        }
        let value = value.trim().trim_matches(['"', '\'']).to_owned();
        let (key, path) = (key.to_owned(), path.to_owned());
        found.push(Set { key, value, path, line: at + 1, order: at });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tree(files: &[(&str, &str)]) -> Tree<'static> {
        let mut tree = Tree::default();
        for (path, text) in files {
            tree.write(path, 0o644, text);
        }
        tree
    }

    #[test]
    fn a_name_hides_those_of_folders_after_it_and_names_are_the_order() {
        let mut tree = tree(&[
            ("/usr/lib/sysctl.d/50-a.conf", "a.b = 1\n"),
            ("/etc/sysctl.d/50-a.conf", "a.b = 2\n"),
            ("/usr/local/lib/sysctl.d/10-b.conf", "a.b = 3\n"),
            ("/run/sysctl.d/99.conf", "a.b = 4\n"),
            ("/etc/sysctl.d/README.sysctl", "a.b = 5\n"),
        ]);
        let expected = ["/usr/local/lib/sysctl.d/10-b.conf", "/etc/sysctl.d/50-a.conf"];
        assert_eq!(files(&tree, "sysctl.d", ".conf"), expected);
        let set = |tree: &Tree| Sysctls::of(tree).unwrap().get("a.b").unwrap().clone();
        assert_eq!((set(&tree).value.as_str(), set(&tree).line), ("2", 1));
        tree.link("/etc/sysctl.d/50-a.conf", "/dev/null");
        assert_eq!(set(&tree).value, "3");
        // Debian's link; without it the file is read by nobody.
        tree.write("/etc/sysctl.conf", 0o644, "# x\n\na.b = 6\n");
        assert_eq!(set(&tree).value, "3");
        tree.link("/etc/sysctl.d/99-sysctl.conf", "../sysctl.conf");
        assert_eq!(set(&tree).place(), "/etc/sysctl.d/99-sysctl.conf:3");
    }

    #[test]
    fn wildcards_set_what_nothing_names_and_a_dash_keeps_a_key_from_them() {
        let text = "net.ipv4.conf.eth0.x = 1\nnet.ipv4.conf.*.x = 2\n-net.ipv4.conf.lo.x\n-net/ipv4/conf/e.1/x=3\n\
                    ; x\nnothing\n";
        let settings = Sysctls::of(&tree(&[("/etc/sysctl.d/a.conf", text)])).unwrap();
        let value = |key: &str| settings.get(key).map(|set| set.value.as_str());
        assert_eq!(value("net.ipv4.conf.eth0.x"), Some("1"));
        assert_eq!(value("net.ipv4.conf.eth1.x"), Some("2"));
        assert_eq!(value("net.ipv4.conf.lo.x"), None);
        assert_eq!(value("net.ipv4.conf.e/1.x"), Some("3"));
        assert_eq!(value("nothing"), None);
        assert_eq!(value("net.ipv4.conf.a.b.x"), None);
    }

    #[test]
    fn the_last_of_a_key_counts_and_stands_last() {
        let text = "a.b = 1\na.c = 1\na.b = 2\n";
        let settings = Sysctls::of(&tree(&[("/etc/sysctl.d/a.conf", text)])).unwrap();
        let (b, c) = (settings.get("a.b").unwrap(), settings.get("a.c").unwrap());
        assert_eq!((b.value.as_str(), b.order > c.order), ("2", true));
    }

    #[test]
    fn patterns_are_those_of_the_shell() {
        for (pattern, text) in [
            ("*.service", "a.service"),
            ("a?c", "abc"),
            ("a*c*e", "abcde"),
            ("[a-c]x", "bx"),
            ("[!a]x", "bx"),
            ("", ""),
            ("*", ""),
            ("[", "["),
            ("a[]]b", "a]b"),
        ] {
            assert!(fits(pattern, text), "{pattern} {text}");
        }
        for (pattern, text) in [
            ("*.service", "a.socket"),
            ("a?c", "ac"),
            ("[a-c]x", "dx"),
            ("[!a]x", "ax"),
            ("a", "ab"),
        ] {
            assert!(!fits(pattern, text), "{pattern} {text}");
        }
    }

    #[test]
    fn modules_are_named_with_underscores_and_may_be_forbidden() {
        let tree = tree(&[
            ("/etc/modules-load.d/a.conf", "# x\nbr-netfilter\n\noverlay\n"),
            (
                "/etc/modprobe.d/b.conf",
                "options overlay x=1\nblacklist floppy\ninstall br_netfilter /bin/false\n",
            ),
        ]);
        let modules = LoadedModules::of(&tree).unwrap();
        assert_eq!(modules.named("br_netfilter"), Some("/etc/modules-load.d/a.conf:2"));
        assert_eq!(modules.forbidden("br_netfilter"), Some("/etc/modprobe.d/b.conf:3"));
        assert_eq!(modules.forbidden("floppy"), Some("/etc/modprobe.d/b.conf:2"));
        assert_eq!((modules.forbidden("overlay"), modules.named("floppy")), (None, None));
        assert_eq!(modules.all().count(), 2);
    }

    #[test]
    fn variables_come_with_and_without_export() {
        let tree = tree(&[
            ("/etc/environment", "PATH=/bin\nexport A=\"x\"\n"),
            ("/etc/profile.d/a.sh", "if [ \"$x\" = y ]; then\n  export B='1'\nfi\n"),
            ("/etc/profile.d/a.csh", "C=1\n"),
        ]);
        let found = login_variables(&tree).unwrap();
        let told: Vec<String> =
            found.iter().map(|set| format!("{} {}={}", set.place(), set.key, set.value)).collect();
        assert_eq!(
            told,
            ["/etc/environment:1 PATH=/bin", "/etc/environment:2 A=x", "/etc/profile.d/a.sh:2 B=1"]
        );
    }

    proptest::proptest! {
        #[test]
        fn what_stands_in_a_pattern_of_stars_fits_it(text in "[a-z.]{0,12}", cut in 0usize..12) {
            let cut = cut.min(text.len());
            let pattern = [&text[..cut], "*", &text[cut..]].concat();
            proptest::prop_assert!(fits(&pattern, &text));
            proptest::prop_assert!(fits(&text, &text));
        }
    }
}
