//! Goss files: template, then YAML, then resources, with all files that they import.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nodekiln_words::{Failure, Result, ResultExt};
use serde_json::{Map, Value as Json};

use crate::kind::{Description, KINDS, SKIPPED};
use crate::matcher::Dialect;
use crate::place::{Place, Problem, Problems, nearest};
use crate::read::{self, Reading};
use crate::resource::Resource;
use crate::template::{self, Context};
use crate::yaml::{self, Entry, Manner, Node, Text, Value};

/// Files that one reading takes; more are a mistake in a pattern.
const MOST_FILES: usize = 1000;

/// How goss files are read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Whose rules hold where goss 0.3 and 0.4 differ.
    pub dialect: Dialect,
    /// Files (YAML or JSON) of `.Vars`; what a later one says of a key replaces what an earlier one says.
    pub vars: Vec<PathBuf>,
    /// Whether templates see this machine's environment.
    pub environment: bool,
    /// Whether templates may read this machine's files; relative paths start at the template's folder.
    pub files: bool,
}

/// What goss files ask for.
#[derive(Clone, Debug, Default)]
pub struct Suite {
    /// The resources: those of a file before those of the files that it imports, of two with one kind and key the
    /// later in the place of the earlier, as with goss.
    pub resources: Vec<Resource>,
    /// What goss would let pass without a word.
    pub warnings: Problems,
    /// All files that were read, those of variables first.
    pub files: Vec<PathBuf>,
}

/// Reads the goss files at `paths`, one after the other.
///
/// # Errors
/// With the place and a remedy, where a file is missing, no template, no YAML, or asks for what goss does not have.
pub fn read(paths: &[PathBuf], settings: &Settings) -> Result<Suite> {
    let mut suite = Suite::default();
    let context = Context {
        vars: variables(settings, &mut suite)?,
        environment: settings.environment.then(environment),
        files: None,
    };
    let mut reader = Reader { settings, context, suite, open: Vec::new() };
    for path in paths {
        reader.file(path)?;
    }
    Ok(reader.suite)
}

fn environment() -> BTreeMap<String, String> {
    let texts = std::env::vars_os().map(|(name, value)| (name.into_string(), value.into_string()));
    texts.filter_map(|(name, value)| Some((name.ok()?, value.ok()?))).collect()
}

fn variables(settings: &Settings, suite: &mut Suite) -> Result<Json> {
    let mut all = Map::new();
    for path in &settings.vars {
        let content = text_of(path)?;
        let text = Text { file: shown(path), text: &content, lines: None };
        let node = yaml::parse(&text, Manner::Goss, &mut suite.warnings)?;
        let Value::Mapping(_) = node.value else {
            if node.is_null() {
                continue;
            }
            let message = format!("the variables are {}", node.noun());
            return Err(
                Problem::new(&node.place, message, "write a mapping of names to values").into()
            );
        };
        if let Json::Object(entries) = node.to_json() {
            all.extend(entries);
        }
        suite.files.push(path.clone());
    }
    Ok(Json::Object(all))
}

fn text_of(path: &Path) -> Result<String> {
    let bytes = std::fs::read(path).or_io(|| format!("cannot read {}", path.display()))?;
    String::from_utf8(bytes).map_err(|_| {
        Failure::input(format!("{} is not UTF-8", path.display()))
            .with_help("store it as UTF-8 text")
    })
}

fn shown(path: &Path) -> Arc<str> {
    Arc::from(path.to_string_lossy())
}

struct Reader<'a> {
    settings: &'a Settings,
    context: Context,
    suite: Suite,
    /// The files being read, each imported by the one before.
    open: Vec<PathBuf>,
}

impl Reader<'_> {
    fn file(&mut self, path: &Path) -> Result<()> {
        let canonical = path.canonicalize();
        let canonical = canonical.or_io(|| format!("cannot read {}", path.display()))?;
        if self.open.contains(&canonical) {
            let message = format!("{} imports itself, by way of others or not", path.display());
            return Err(Failure::input(message).with_help("take it out of one `gossfile:` block"));
        }
        if self.suite.files.len() >= MOST_FILES {
            let message = format!("more than {MOST_FILES} goss files are imported");
            return Err(
                Failure::input(message).with_help("make the patterns under `gossfile:` narrower")
            );
        }
        self.suite.files.push(path.to_owned());

        // 1. The template becomes text.
        let source = text_of(path)?;
        let file = shown(path);
        let folder = path.parent().unwrap_or(Path::new("")).to_owned();
        self.context.files = self.settings.files.then(|| folder.clone());
        let rendered = if source.contains("{{") {
            Some(template::render(&source, &file, &self.context)?)
        } else {
            None
        };

        // 2. The text becomes a tree.
        let text = Text {
            file,
            text: rendered.as_ref().map_or(&source, |rendered| &rendered.text),
            lines: rendered.as_ref().map(|rendered| rendered.lines.as_slice()),
        };
        let root = yaml::parse(&text, Manner::Goss, &mut self.suite.warnings)?;

        // 3. The tree becomes resources.
        self.take(&root)?;

        // 4. What it imports follows, by name.
        self.open.push(canonical);
        for (place, pattern) in imports(&root)? {
            for import in matching(&folder, &pattern, &place)? {
                self.file(&import)?;
            }
        }
        self.open.pop();
        Ok(())
    }

    fn take(&mut self, root: &Node) -> Result<()> {
        if root.is_null() {
            return Ok(());
        }
        let Value::Mapping(sections) = &root.value else {
            let message = format!("the file is {}", root.noun());
            return Err(Problem::new(
                &root.place,
                message,
                "write kinds of resources, such as `file:`",
            )
            .into());
        };
        let mut problems = Problems::default();
        for section in sections {
            if let Some(description) = Description::named(&section.key) {
                for entry in self.entries(section, &mut problems) {
                    match read::resource(description, entry, Reading::Goss(self.settings.dialect)) {
                        Ok(resource) => self.put(resource),
                        Err(found) => found.iter().for_each(|one| problems.push(one.clone())),
                    }
                }
            } else if let Some((kind, reason)) =
                SKIPPED.iter().find(|(kind, _)| *kind == section.key)
            {
                for entry in self.entries(section, &mut problems) {
                    self.put(read::skipped(kind, entry, reason));
                }
            } else if section.key != "gossfile" {
                self.suite.warnings_on_unknown(section);
            }
        }
        if problems.is_empty() { Ok(()) } else { Err(problems.into()) }
    }

    /// The resources of a section.
    fn entries<'n>(&self, section: &'n Entry, problems: &mut Problems) -> &'n [Entry] {
        match &section.node.value {
            Value::Mapping(entries) => entries,
            _ if section.node.is_null() => &[],
            _ => {
                let message = format!("`{}` has {} below it", section.key, section.node.noun());
                let help = "write a mapping: one key for each resource, with its attributes below";
                problems.push(Problem::new(&section.node.place, message, help));
                &[]
            }
        }
    }

    fn put(&mut self, resource: Resource) {
        let same =
            |one: &&mut Resource| one.kind_name == resource.kind_name && one.id == resource.id;
        match self.suite.resources.iter_mut().find(same) {
            Some(earlier) => {
                let message = format!(
                    "the {} `{}` replaces that of {}",
                    resource.kind_name, resource.id, earlier.place
                );
                let help =
                    "give one of the two another key and say what it is about by an attribute";
                self.suite.warnings.push(Problem::new(&resource.place, message, help));
                *earlier = resource;
            }
            None => self.suite.resources.push(resource),
        }
    }
}

impl Suite {
    /// goss ignores keys that it does not know at the top of a file, where anchors are kept. One that looks like a
    /// kind is told.
    fn warnings_on_unknown(&mut self, section: &Entry) {
        let kinds = KINDS.iter().map(|one| one.name).chain(SKIPPED.iter().map(|(kind, _)| *kind));
        if let Some(kind) = nearest(&section.key, kinds.chain(["gossfile"])) {
            let message = format!("`{}` is no kind of resource and is ignored", section.key);
            let help = format!("did you mean `{kind}`?");
            self.warnings.push(Problem::new(&section.key_place, message, help));
        }
    }
}

/// The patterns under `gossfile:` that are not skipped, sorted by key as goss does.
fn imports(root: &Node) -> Result<Vec<(Place, String)>> {
    let Some(section) = root.get("gossfile") else { return Ok(Vec::new()) };
    let mut entries: Vec<&Entry> = section.entries().iter().collect();
    if entries.is_empty() && !matches!(section.value, Value::Mapping(_)) {
        let message = format!("`gossfile` has {} below it", section.noun());
        return Err(
            Problem::new(&section.place, message, "write `FILE: {}` for each import").into()
        );
    }
    entries.sort_by(|one, other| one.key.cmp(&other.key));
    let mut patterns = Vec::new();
    for entry in entries {
        for below in entry.node.entries() {
            if !matches!(below.key.as_str(), "file" | "skip" | "title" | "meta") {
                let message = format!("an import has no attribute `{}`", below.key);
                return Err(
                    Problem::new(&below.key_place, message, "known here: file, skip").into()
                );
            }
        }
        let skip = entry.node.get("skip").map(Node::to_json);
        if skip.is_some_and(|skip| skip == Json::Bool(true) || skip == "yes") {
            continue;
        }
        let file = entry.node.get("file").and_then(Node::scalar).map(|file| file.text.clone());
        patterns.push((entry.key_place.clone(), file.unwrap_or_else(|| entry.key.clone())));
    }
    Ok(patterns)
}

/// The files that `pattern` names, relative to `folder`, sorted.
fn matching(folder: &Path, pattern: &str, place: &Place) -> Result<Vec<PathBuf>> {
    let whole = if pattern.starts_with('/') || folder.as_os_str().is_empty() {
        pattern.to_owned()
    } else {
        format!("{}/{pattern}", glob::Pattern::escape(&folder.to_string_lossy()))
    };
    let options = glob::MatchOptions {
        case_sensitive: true,
        require_literal_separator: true,
        require_literal_leading_dot: false,
    };
    let paths = glob::glob_with(&whole, options).map_err(|error| {
        let message = format!("`{pattern}` is no pattern: {}", error.msg);
        Problem::new(place, message, "`*`, `?` and `[a-z]` stand for parts of a name")
    })?;
    let mut files = Vec::new();
    for path in paths {
        files.push(path.or_io(|| format!("cannot look for `{pattern}`"))?);
    }
    if files.is_empty() {
        let message = format!("no file is there that `{pattern}` names");
        let help = format!(
            "it is looked for in {}",
            if folder.as_os_str().is_empty() { ".".into() } else { folder.to_string_lossy() }
        );
        return Err(Problem::new(place, message, help).into());
    }
    Ok(files)
}
