//! Users' files read: which form each has, and that their ids and waivers fit together.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use nodekiln_goss::file::{self, Settings};
use nodekiln_goss::{Problem, Problems, Resource, nearest, rules};
use nodekiln_words::{Event, Failure, Progress, Result, ResultExt as _};

use super::{OwnRule, OwnRules, Where, record};
use crate::rules::all;

/// The goss file that a folder is looked through for, and how rules files are called.
const GOSS_FILES: [&str; 2] = ["goss.yaml", "goss.yml"];
const RULES_FILES: [&str; 2] = [".rules.yaml", ".rules.yml"];

/// Which files users bring, and how goss files are read.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    /// The files; of a folder its `goss.yaml` and every `NAME.rules.yaml`.
    pub paths: Vec<PathBuf>,
    /// How goss files are read.
    pub goss: Settings,
}

/// The files by their form.
#[derive(Debug, Default, PartialEq, Eq)]
struct Files {
    goss: Vec<PathBuf>,
    rules: Vec<PathBuf>,
}

impl OwnRules {
    /// Reads the rules and waivers of `sources`. What goss would pass over without a word is told as a warning.
    ///
    /// # Errors
    /// With the place and a remedy, where a file cannot be read or is wrong, two rules have one id, or a waiver is for
    /// a rule that there is not.
    pub fn read(sources: &Sources, progress: &dyn Progress) -> Result<Self> {
        let files = Files::of(&sources.paths)?; // 1. which files, of which form
        let mut own = Self::default();
        own.take_goss(&files.goss, &sources.goss, progress)?; // 2. goss files
        for path in &files.rules {
            own.take_rules(rules::read(path)?); // 3. rules files
        }
        own.coherent()?; // 4. what they say of each other
        Ok(own)
    }

    fn take_goss(
        &mut self,
        paths: &[PathBuf],
        settings: &Settings,
        progress: &dyn Progress,
    ) -> Result<()> {
        if paths.is_empty() {
            return Ok(());
        }
        let suite = file::read(paths, settings)?;
        for warning in suite.warnings.iter() {
            progress.event(Event::Warning(format!("{warning}; {}", warning.help)));
        }
        if suite.resources.is_empty() {
            let names: Vec<String> = paths.iter().map(|path| path.display().to_string()).collect();
            let message = format!("{} asks for nothing", names.join(", "));
            return Err(Failure::input(message).with_help(
                "a goss file has kinds of resources, such as `file:`; rules with `rules:` stand in NAME.rules.yaml",
            ));
        }
        self.rules.extend(suite.resources.into_iter().map(of_resource));
        Ok(())
    }

    fn take_rules(&mut self, read: rules::Rules) {
        self.rules.extend(read.rules.into_iter().map(of_rule));
        self.waivers.extend(read.waivers);
    }

    /// Every rule has an id of its own, and every waiver a rule.
    fn coherent(&self) -> Result<()> {
        let mut problems = Problems::default();
        let mut ids: BTreeMap<&str, String> =
            all().map(|rule| (rule.id, "nodekiln's own rule".to_owned())).collect();
        for rule in &self.rules {
            let (id, place) = (rule.record.id.as_str(), rule.place.clone());
            if let Some(first) = ids.insert(id, format!("the rule of {place}")) {
                let message = format!("the id `{id}` is taken by {first}");
                let help = "give one of the two another id".to_owned();
                problems.push(Problem { place, message, help });
            }
        }
        for waiver in self.waivers.iter().filter(|waiver| !ids.contains_key(waiver.rule.as_str())) {
            let help = match nearest(&waiver.rule, ids.keys().copied()) {
                Some(id) => format!("did you mean `{id}`?"),
                None => "`nodekiln validate --list-rules` names all; a resource of a goss file is called \
                         KIND:KEY, such as `file:/etc/motd`"
                    .to_owned(),
            };
            let message = format!("there is no rule `{}` that could be waived", waiver.rule);
            problems.push(Problem { place: waiver.place.clone(), message, help });
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.into()) }
    }
}

impl Files {
    fn of(paths: &[PathBuf]) -> Result<Self> {
        let mut files = Self::default();
        for path in paths {
            if path.is_dir() {
                let before = files.count();
                for name in names(path)? {
                    if GOSS_FILES.contains(&name.as_str()) || is_rules_file(&name) {
                        files.add(path.join(name));
                    }
                }
                if files.count() == before {
                    let message = format!("{} has no rules", path.display());
                    return Err(Failure::input(message).with_help(
                        "it should have a goss.yaml or a NAME.rules.yaml; or name a file",
                    ));
                }
            } else if path.exists() {
                files.add(path.clone());
            } else {
                let message = format!("there is no file {}", path.display());
                return Err(Failure::input(message)
                    .with_help("name a goss file, a NAME.rules.yaml or a folder with such files"));
            }
        }
        Ok(files)
    }

    fn add(&mut self, path: PathBuf) {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned());
        let form = match name.is_some_and(|name| is_rules_file(&name)) {
            true => &mut self.rules,
            false => &mut self.goss,
        };
        if !form.contains(&path) {
            form.push(path);
        }
    }

    fn count(&self) -> usize {
        self.goss.len() + self.rules.len()
    }
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Result<Vec<String>> {
    let entries = fs_err::read_dir(folder).or_io(|| "look for rules".into())?;
    let mut names: Vec<String> =
        entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
    names.sort();
    Ok(names)
}

/// `NAME.rules.yaml`, and `rules.yaml` without a name.
fn is_rules_file(name: &str) -> bool {
    RULES_FILES.iter().any(|ending| name.ends_with(ending) || name == &ending[1..])
}

fn of_resource(resource: Resource) -> OwnRule {
    let judged = Where::of_goss(&resource);
    OwnRule {
        record: record::of_resource(&resource, judged.tier()),
        judged,
        place: resource.place.clone(),
        check: vec![resource],
    }
}

fn of_rule(rule: rules::Rule) -> OwnRule {
    let judged = match rule.tier {
        None => Where::of(&rule.check),
        Some(rules::Tier::Static) => Where::Tree,
        Some(rules::Tier::Boot) => Where::Guest,
        Some(rules::Tier::Kubeadm) => Where::Cluster,
    };
    let record = record::of_rule(&rule, judged.tier());
    OwnRule { record, judged, place: rule.place, check: rule.check }
}
