//! The mutation corpus of the rules on files: for every rule at least one change that turns it red, and no other.
//!
//! A mutation is a change to a sound tree. The rules that it names have to go from green to red, and all others
//! have to say what they said before. A rule without a mutation fails the build: it could not fail at all.

mod sound;
mod sound_hygiene;
pub(crate) mod sound_node;
mod sound_runtime;

use std::collections::{BTreeMap, BTreeSet};

pub(crate) use sound::sound;

use nodekiln_words::Result;

pub(crate) use super::Examined;
use super::{judge_files, rules};
use crate::rules::{Family, Judge, Verdict};
use crate::tree::{Entry, Files, Kind, Tree};

/// A change that rules have to notice.
pub(crate) struct Mutation {
    /// What was done, in words.
    pub(crate) name: &'static str,
    /// The rules that it turns red, all of them.
    pub(crate) turns: &'static [&'static str],
    /// Words of what they say of it: the path or the value.
    pub(crate) says: &'static str,
    /// The public incident that it stands for, where it does.
    pub(crate) incident: Option<&'static str>,
    /// Does it.
    pub(crate) change: fn(&mut Examined<'static>),
}

impl Mutation {
    /// A change that turns `turns` red, which say the words `says`.
    pub(crate) const fn new(
        name: &'static str,
        turns: &'static [&'static str],
        says: &'static str,
        change: fn(&mut Examined<'static>),
    ) -> Self {
        Self { name, turns, says, incident: None, change }
    }

    /// The same, as one that happened in public.
    pub(crate) const fn incident(mut self, incident: &'static str) -> Self {
        self.incident = Some(incident);
        self
    }
}

/// Every mutation of a tree of Debian packages.
fn mutations() -> impl Iterator<Item = &'static Mutation> {
    let tables = [
        super::detection::MUTATIONS,
        super::runtime::MUTATIONS,
        super::images::MUTATIONS,
        super::start::MUTATIONS,
        super::tools::MUTATIONS,
        super::node_settings::MUTATIONS,
        super::kubelet::MUTATIONS,
        super::node_state::MUTATIONS,
        super::node_network::MUTATIONS,
        super::cgroups::MUTATIONS,
        super::kernel_config::MUTATIONS,
        super::proxies::MUTATIONS,
    ];
    let tables = tables.into_iter().chain(super::hygiene::MUTATIONS);
    tables.chain(super::credentials::MUTATIONS).chain(super::access::MUTATIONS).flatten()
}

/// The public incidents that mutations stand for.
pub(crate) fn incidents() -> BTreeSet<&'static str> {
    mutations().filter_map(|mutation| mutation.incident).collect()
}

fn verdicts(examined: &Examined) -> BTreeMap<&'static str, Verdict> {
    let files = rules().filter(|rule| matches!(rule.judge, Judge::Tree(_)));
    files.map(|rule| (rule.id, judge_files(rule, examined).unwrap())).collect()
}

fn is_red(verdict: &Verdict) -> bool {
    matches!(verdict, Verdict::Fail(_) | Verdict::Warn(_))
}

#[test]
fn a_sound_tree_passes_every_rule() {
    for family in [Family::Debian, Family::Rpm] {
        for (id, verdict) in verdicts(&sound(family)) {
            let fine = matches!(verdict, Verdict::Pass(_) | Verdict::Skipped(_));
            assert!(fine, "{family:?}: {id}: {verdict:?}");
        }
    }
}

#[test]
fn every_rule_on_files_judges_a_sound_tree_of_debian_packages() {
    for (id, verdict) in verdicts(&sound(Family::Debian)) {
        let later =
            matches!(&verdict, Verdict::Skipped(why) if why.starts_with("not applicable yet"));
        assert!(later || matches!(verdict, Verdict::Pass(_)), "{id}: {verdict:?}");
    }
}

#[test]
fn every_mutation_turns_its_rules_red_and_no_others() {
    let mut wrong = Vec::new();
    for Mutation { name, turns, says, change, .. } in mutations() {
        let mut mutated = sound(Family::Debian);
        change(&mut mutated);
        let after = verdicts(&mutated);
        let red: BTreeSet<&str> =
            after.iter().filter(|(_, verdict)| is_red(verdict)).map(|(id, _)| *id).collect();
        if red != turns.iter().copied().collect() {
            let told: Vec<String> = red.iter().map(|id| format!("{id}: {:?}", after[id])).collect();
            wrong.push(format!("{name}: turns {red:?}, not {turns:?}: {}", told.join("; ")));
        } else if !turns.iter().any(|id| after[id].seen().contains(says)) {
            wrong.push(format!("{name}: none says `{says}`: {:?}", after[turns[0]]));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
}

/// The mutations that do something else to a tree of RPM packages than to one of Debian's, and what: a rule reads other
/// files there, or the change has nothing to change.
const OF_RPM: &str = "golden/mutations-of-rpm.txt";

#[test]
fn mutations_turn_the_same_rules_red_in_a_tree_of_rpm_packages_but_for_those_that_are_listed() {
    let mut made = String::from(
        "# Mutations that do something else to a tree of RPM packages: the rules that they turn red there.\n",
    );
    for Mutation { name, turns, change, .. } in mutations() {
        let judged = std::panic::catch_unwind(|| {
            let mut mutated = sound(Family::Rpm);
            change(&mut mutated);
            let after = verdicts(&mutated);
            after
                .into_iter()
                .filter(|(_, it)| is_red(it))
                .map(|(id, _)| id)
                .collect::<BTreeSet<&str>>()
        });
        let expected: BTreeSet<&str> = turns.iter().copied().collect();
        let told = match judged {
            Ok(red) if red == expected => continue,
            Ok(red) if red.is_empty() => "nothing".to_owned(),
            Ok(red) => red.into_iter().collect::<Vec<&str>>().join(", "),
            Err(_) => "does not apply".to_owned(),
        };
        made.push_str(&format!("{}: {name}: {told}\n", turns.join(", ")));
    }
    if std::env::var_os("NODEKILN_BLESS").is_some() {
        fs_err::write(OF_RPM, &made).unwrap();
    }
    let kept = fs_err::read_to_string(OF_RPM).unwrap_or_default();
    assert!(kept == made, "run the test with NODEKILN_BLESS=1 and read what changed in {OF_RPM}");
}

#[test]
fn every_rule_on_files_has_a_mutation() {
    let shown: BTreeSet<&str> = mutations().flat_map(|mutation| mutation.turns).copied().collect();
    let files = rules().filter(|rule| matches!(rule.judge, Judge::Tree(_)));
    let without: Vec<&str> = files.map(|rule| rule.id).filter(|id| !shown.contains(id)).collect();
    assert!(without.is_empty(), "without a mutation: {without:?}");
}

/// A tree of the files below `folder` of this machine, whose bytes are read as rules ask for them.
fn tree_of_folder(folder: &str) -> Tree<'static> {
    use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
    let mut entries = BTreeMap::new();
    let mut open = vec![String::from("/")];
    while let Some(path) = open.pop() {
        let real = format!("{folder}{path}");
        let found = fs_err::symlink_metadata(&real).unwrap();
        let kind = match found.file_type() {
            kind if kind.is_dir() => Kind::Folder,
            kind if kind.is_symlink() => Kind::Link,
            kind if kind.is_fifo() => Kind::Pipe,
            kind if kind.is_socket() => Kind::Socket,
            kind if kind.is_char_device() => Kind::CharacterDevice,
            kind if kind.is_block_device() => Kind::BlockDevice,
            _ => Kind::File,
        };
        let mut entry = Entry::of(kind, found.mode() & 0o7777, found.len());
        (entry.uid, entry.gid, entry.inode) = (found.uid(), found.gid(), (0, found.ino()));
        if kind == Kind::Link {
            let target = fs_err::read_link(&real).unwrap();
            entry.target = Some(target.to_string_lossy().into_owned());
        }
        if kind == Kind::Folder {
            for child in fs_err::read_dir(&real).unwrap() {
                let name = child.unwrap().file_name();
                open.push(format!("{}/{}", path.trim_end_matches('/'), name.to_string_lossy()));
            }
        }
        entries.insert(path, entry);
    }
    let source: &'static Folder = Box::leak(Box::new(Folder(folder.to_owned())));
    Tree::new(entries, source)
}

/// A folder of this machine.
struct Folder(String);

impl Files for Folder {
    fn read(&self, path: &str) -> Result<Option<Vec<u8>>> {
        Ok(fs_err::read(format!("{}{path}", self.0)).ok())
    }

    fn list(&self, _path: &str) -> Result<Vec<String>> {
        unreachable!("a tree has its own index")
    }

    fn exists(&self, _path: &str) -> Result<bool> {
        unreachable!("a tree has its own index")
    }
}

/// What the rules say of a real image's files: `NODEKILN_TREE` names the folder where they are mounted.
#[test]
#[ignore = "wants NODEKILN_TREE, a folder with the files of an image"]
fn a_real_tree_is_judged() {
    let folder = std::env::var("NODEKILN_TREE").unwrap();
    let mut examined = sound(Family::Debian);
    examined.tree = tree_of_folder(folder.trim_end_matches('/'));
    let mut red = Vec::new();
    for rule in rules().filter(|rule| matches!(rule.judge, Judge::Tree(_))) {
        let start = std::time::Instant::now();
        let verdict = judge_files(rule, &examined).unwrap();
        println!(
            "{:>7.1?} {:<20} {:<10} {}",
            start.elapsed(),
            rule.id,
            verdict.word(),
            verdict.seen()
        );
        red.extend(is_red(&verdict).then_some(rule.id));
    }
    assert!(red.is_empty(), "{red:?}");
}
