//! Where archives are: the recipe's mirrors, the environment's, or this machine's own apt sources
//! (sources.list(5)), in this order.

use std::path::Path;

use nodekiln_recipes::lock::LockedPackage;
use nodekiln_words::{Class, Failure, Result, ResultExt};

use super::paragraph::{field, paragraphs};
use super::suite::Suite;

/// The environment variable that names base URLs, parted by blanks.
pub const MIRROR_VARIABLE: &str = "NODEKILN_DEBIAN_MIRROR";

/// Names by which apt sources mean Debian itself: code names from release 9 on, and the names that
/// move from release to release.
const RELEASES: [&str; 13] = [
    "stretch",
    "buster",
    "bullseye",
    "bookworm",
    "trixie",
    "forky",
    "duke",
    "sid",
    "oldoldstable",
    "oldstable",
    "stable",
    "testing",
    "unstable",
];

/// Base URLs of archives, without a slash at the end, in the order in which they are tried.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Mirrors {
    /// Of the archive that has `RELEASE` and `RELEASE-updates`.
    pub main: Vec<String>,
    /// Of the archive that has `RELEASE-security`.
    pub security: Vec<String>,
    /// Whether somebody named them for this program. Apt's sources were named for another purpose:
    /// other archives than Debian's call their suites `stable` or `bookworm`, too.
    pub named: bool,
}

impl Mirrors {
    /// The mirrors to use: those of the recipe, else those in `NODEKILN_DEBIAN_MIRROR`, else those
    /// of this machine's apt.
    ///
    /// # Errors
    /// When none is known.
    pub fn find(recipe: &[String]) -> Result<Self> {
        if !recipe.is_empty() {
            return Self::listed(recipe.iter().map(String::as_str));
        }
        let listed = std::env::var(MIRROR_VARIABLE).unwrap_or_default();
        if !listed.trim().is_empty() {
            return Self::listed(listed.split_whitespace());
        }
        Self::of_apt(Path::new("/etc/apt"))
    }

    /// Mirrors of which nobody says which archive they hold: each is asked for each suite.
    fn listed<'a>(bases: impl Iterator<Item = &'a str>) -> Result<Self> {
        let bases: Vec<String> = bases.map(without_slash).collect();
        if let Some(wrong) = bases.iter().find(|base| !is_address(base)) {
            return Err(Failure::input(format!(
                "the mirror `{wrong}` is no http, https or file URL"
            )));
        }
        Ok(Self { main: bases.clone(), security: bases, named: true })
    }

    /// These mirrors in the order in which they are asked for packages, now that `suites` are open:
    /// those that served one come first. Those that were asked for one that another had are left out.
    /// So are those of apt that nobody had to ask: nothing says that they are Debian's.
    pub(super) fn proven(&self, suites: &[Suite]) -> Self {
        let served = |base: &String| suites.iter().any(|suite| suite.base == *base);
        let failed = |base: &String| suites.iter().any(|suite| suite.in_vain.contains(base));
        let stays = |base: &&String| served(base) || (self.named && !failed(base));
        let sorted = |bases: &[String], security| {
            let here = |suite: &&Suite| is_security(&suite.name) == security;
            let mut bases: Vec<String> = bases.iter().filter(stays).cloned().collect();
            bases.sort_by_key(|base| !suites.iter().filter(here).any(|suite| suite.base == *base));
            bases
        };
        let (main, security) = (sorted(&self.main, false), sorted(&self.security, true));
        Self { main, security, named: self.named }
    }

    /// The mirrors in the apt configuration at `folder`.
    ///
    /// # Errors
    /// When it names no archive of Debian, or cannot be read.
    pub fn of_apt(folder: &Path) -> Result<Self> {
        let mut mirrors = Self::default();
        for (base, suite) in apt_entries(folder)? {
            let release = ["-updates", "-security"]
                .iter()
                .find_map(|suffix| suite.strip_suffix(suffix))
                .unwrap_or(&suite);
            if RELEASES.contains(&release) && is_address(&base) {
                let list =
                    if is_security(&suite) { &mut mirrors.security } else { &mut mirrors.main };
                let base = without_slash(&base);
                if !list.contains(&base) {
                    list.push(base);
                }
            }
        }
        if mirrors.main.is_empty() {
            return Err(Failure::new(
                Class::Missing,
                format!("no Debian mirror is known: {} names none", folder.display()),
            )
            .with_help(format!(
                "name one in the recipe (os.mirrors) or in the variable {MIRROR_VARIABLE}"
            )));
        }
        Ok(mirrors)
    }

    /// The bases to ask for a suite.
    #[must_use]
    pub fn bases(&self, suite: &str) -> &[String] {
        if is_security(suite) { &self.security } else { &self.main }
    }

    /// The addresses of a locked package, the likeliest first.
    #[must_use]
    pub fn urls(&self, package: &LockedPackage) -> Vec<String> {
        self.urls_in(&package.suite, &package.path)
    }

    /// The addresses of the file at `path` of the archive that has `suite`; the other archive's
    /// follow, because packages move from one to the other.
    #[must_use]
    pub fn urls_in(&self, suite: &str, path: &str) -> Vec<String> {
        let first = self.bases(suite);
        let others = self.main.iter().chain(&self.security).filter(|base| !first.contains(base));
        let mut urls: Vec<String> = Vec::new();
        for base in first.iter().chain(others) {
            let url = format!("{base}/{path}");
            if !urls.contains(&url) {
                urls.push(url);
            }
        }
        urls
    }
}

/// Whether a suite is in the archive that has security updates.
fn is_security(suite: &str) -> bool {
    suite.ends_with("-security")
}

fn without_slash(base: &str) -> String {
    base.trim_end_matches('/').to_owned()
}

fn is_address(base: &str) -> bool {
    ["http://", "https://", "file:/"].iter().any(|scheme| base.starts_with(scheme))
}

/// Base URL and suite of every active entry for binary packages, in apt's order.
fn apt_entries(folder: &Path) -> Result<Vec<(String, String)>> {
    let mut files = vec![folder.join("sources.list")];
    let mut parts: Vec<_> = match fs_err::read_dir(folder.join("sources.list.d")) {
        Ok(entries) => entries.filter_map(|entry| Some(entry.ok()?.path())).collect(),
        Err(_) => Vec::new(),
    };
    parts.sort_unstable();
    files.append(&mut parts);
    let mut entries = Vec::new();
    for file in files.iter().filter(|file| file.is_file()) {
        let text = || fs_err::read_to_string(file).or_io(|| "cannot read apt's sources".into());
        match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => entries.extend(text()?.lines().flat_map(one_line)),
            Some("sources") => {
                // Comments may stand between the lines of one field.
                let text = text()?;
                let lines = text.lines().filter(|line| !line.starts_with('#'));
                let text = lines.fold(String::new(), |text, line| text + line + "\n");
                entries.extend(paragraphs(&text).flat_map(stanza));
            }
            _ => {}
        }
    }
    Ok(entries)
}

/// `deb [ option=value … ] URI SUITE COMPONENT…`
fn one_line(line: &str) -> Option<(String, String)> {
    let line = line.split('#').next()?.trim();
    let rest = line.strip_prefix("deb")?;
    let rest = rest.strip_prefix([' ', '\t'])?.trim_start();
    let rest = match rest.strip_prefix('[') {
        Some(options) => options.split_once(']')?.1,
        None => rest,
    };
    let mut words = rest.split_whitespace();
    Some((words.next()?.to_owned(), words.next()?.to_owned()))
}

/// A paragraph with `Types`, `URIs` and `Suites`.
fn stanza(paragraph: &str) -> Vec<(String, String)> {
    let words = |name| field(paragraph, name).unwrap_or_default().split_whitespace();
    let disabled = words("Enabled").any(|word| word.eq_ignore_ascii_case("no"));
    if disabled || !words("Types").any(|word| word == "deb") {
        return Vec::new();
    }
    let pair =
        |uri: &str| words("Suites").map(|suite| (uri.to_owned(), suite.to_owned())).collect();
    words("URIs").flat_map(|uri| -> Vec<_> { pair(uri) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn apt(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        fs_err::create_dir(folder.path().join("sources.list.d")).unwrap();
        for (name, text) in files {
            fs_err::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn both_forms_of_apt_sources_are_read() {
        let folder = apt(&[
            (
                "sources.list",
                "# deb http://off/debian bookworm main\n\
              deb [arch=amd64 signed-by=/k] http://one.example/debian/ bookworm main\n\
              deb-src http://src.example/debian bookworm main\n\
              deb http://other.example/apt nodistro main\n\
              deb cdrom:[Disc]/ bookworm main\n",
            ),
            (
                "sources.list.d/a.sources",
                "Types: deb\nURIs: http://two.example/debian\n\
              Suites: trixie trixie-updates\nComponents: main\n\n# c\nTypes: deb deb-src\n\
              URIs: http://two.example/debian-security/\nSuites: trixie-security\n\n\
              Enabled: no\nTypes: deb\nURIs: http://off.example\nSuites: trixie\n",
            ),
            ("sources.list.d/b.sources.disabled", "Types: deb\nURIs: http://x\nSuites: sid\n"),
        ]);
        let mirrors = Mirrors::of_apt(folder.path()).unwrap();
        assert_eq!(mirrors.main, ["http://one.example/debian", "http://two.example/debian"]);
        assert_eq!(mirrors.security, ["http://two.example/debian-security"]);
        let urls = mirrors.urls_in("bookworm-security", "pool/x.deb");
        assert_eq!(urls[0], "http://two.example/debian-security/pool/x.deb");
        assert_eq!(urls.len(), 3);
    }

    #[test]
    fn a_machine_without_debian_sources_is_told_what_to_do() {
        let folder = apt(&[("sources.list", "deb http://ubuntu.example/ noble main\n")]);
        let failure = Mirrors::of_apt(folder.path()).unwrap_err();
        assert_eq!(failure.class(), Class::Missing);
        assert!(failure.help().unwrap().contains(MIRROR_VARIABLE));
    }

    #[test]
    fn mirrors_of_the_recipe_come_before_all_others() {
        let mirrors = Mirrors::find(&["http://mirror.example/debian/".to_owned()]).unwrap();
        assert_eq!(mirrors.main, ["http://mirror.example/debian"]);
        assert_eq!(mirrors.security, mirrors.main);
        assert_eq!(Mirrors::find(&["mirror".to_owned()]).unwrap_err().class(), Class::Input);
    }
}
