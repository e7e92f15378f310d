//! Loading: a name or a path to a [`Recipe`], through every recipe that it extends.

use std::path::{Path, PathBuf};

use crate::diagnostic::{Diagnostic, Diagnostics};
use crate::document::{self, Entry, LARGEST, Node, Value};
use crate::kind::nearest;
use crate::provider::{self, ForProvider};
use crate::recipe::Recipe;
use crate::source::{Origin, SourceId, Sources, Span};
use crate::{check, library, merge, read, set};

pub use crate::source::SourceText;

/// A recipe and what it was read from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The recipe, resolved.
    pub recipe: Recipe,
    /// Every text that was read: the file asked for, its parents, the layers of the providers that it was
    /// loaded for, then the `--set` arguments.
    pub sources: Vec<SourceText>,
    /// What is suspicious about it but does not stop anyone.
    pub warnings: Diagnostics,
}

/// Where a recipe stands.
#[derive(Clone, Debug)]
enum Place {
    Library(&'static str),
    File {
        /// As it was written, for messages.
        written: PathBuf,
        /// Without links, `.` and `..`, to be compared and opened.
        canonical: PathBuf,
    },
}

/// Deepest chain of `extends`; any deeper one is a mistake.
const LONGEST_CHAIN: usize = 32;

/// Loads the recipe `name_or_path`, then lays each of `sets` (`path.to.key=value`) over it.
///
/// A name that starts with `/`, `./` or `../` is a file; so is one that ends in `.yaml` or `.yml`
/// and exists; otherwise it is a library recipe's name, or else a file.
///
/// # Errors
/// With everything that is wrong, in all files of the chain.
pub fn load(name_or_path: &str, sets: &[String]) -> Result<Loaded, Diagnostics> {
    load_for(name_or_path, sets, &[])
}

/// As [`load`], for `providers`: under `providers.NAME` stands what the provider's layer and the recipe
/// say, as if the recipe's topmost parent began with the layer; and the disk is one that all take.
///
/// # Errors
/// As [`load`], and when a provider does not take the recipe's disk.
pub fn load_for(
    name_or_path: &str,
    sets: &[String],
    providers: &[ForProvider],
) -> Result<Loaded, Diagnostics> {
    let mut problems = Diagnostics::default();
    let mut sources = Sources::default();
    let Some(place) = find_asked_for(name_or_path, &mut problems) else { return Err(problems) };

    // 1. Read the recipe and its parents, and hold each against the shape of a recipe.
    let mut reading = Reading { sources: &mut sources, problems: &mut problems, complete: true };
    let mut documents = reading.chain(place);
    // 2. The providers' layers are parents of them all, the `--set` arguments further children.
    let start = documents.first().map(|document| document.span);
    documents.extend(providers.iter().filter_map(|provider| reading.layer(provider)));
    documents.reverse();
    documents.extend(sets.iter().filter_map(|argument| reading.argument(argument)));
    // 3. Merge, topmost parent first. Without an unreadable text what is missing is not known.
    let complete = reading.complete;
    let merged = documents.into_iter().fold(None, merge::over).zip(start).filter(|_| complete);
    let Some((merged, start)) = merged else {
        problems.finish();
        return Err(problems);
    };
    let merged = Node { span: start, ..merged };
    // 4. Read the values, and ask the providers.
    let recipe = read::read(&sources, &merged, &mut problems);
    if let Some(recipe) = &recipe {
        provider::check_disk(&sources, &merged, recipe, providers, &mut problems);
    }
    problems.finish();
    match recipe.filter(|_| !problems.has_errors()) {
        Some(recipe) => Ok(Loaded { recipe, sources: sources.into_texts(), warnings: problems }),
        None => Err(problems),
    }
}

struct Reading<'a> {
    sources: &'a mut Sources,
    problems: &'a mut Diagnostics,
    /// Every text was read and is YAML.
    complete: bool,
}

impl Reading<'_> {
    /// The document at `place` and those that it extends, child first.
    fn chain(&mut self, place: Place) -> Vec<Node> {
        let mut documents = Vec::new();
        let mut visited: Vec<(Place, String)> = Vec::new();
        let mut next = Some((place, None));
        while let Some((place, asked_at)) = next.take() {
            let Some((source, document)) = self.document(&place, asked_at) else {
                self.complete = false;
                break;
            };
            let name = self.sources.get(source).map(|text| text.name.clone()).unwrap_or_default();
            visited.push((place.clone(), name));
            let extends = document.get("extends").cloned();
            documents.push(document);
            if let Some(extends) = extends {
                next = self
                    .parent(&place, &extends, &visited)
                    .map(|place| (place, Some(extends.span)));
                self.complete &= next.is_some();
            }
        }
        documents
    }

    /// The layer of `provider`, as a recipe that says nothing else.
    fn layer(&mut self, provider: &ForProvider) -> Option<Node> {
        let ForProvider { name, layer, .. } = provider;
        let text = SourceText::new(format!("{name}/layer.yaml"), layer.clone(), Origin::Layer);
        let source = self.sources.add(text);
        let Some(document) = document::parse(self.sources, source, layer, self.problems) else {
            self.complete = false;
            return None;
        };
        check::check_layer(self.sources, &document, self.problems);
        self.complete &= matches!(document.value, Value::Mapping(_)) || document.is_null();
        let span = document.span;
        let nest = |key: &str, node| {
            let entry = Entry { key: key.to_owned(), key_span: span, node };
            Node { value: Value::Mapping(vec![entry]), span }
        };
        Some(nest("providers", nest(name, document)))
    }

    fn argument(&mut self, argument: &str) -> Option<Node> {
        let document = set::parse(self.sources, argument, self.problems);
        match &document {
            Some(document) => check::check(self.sources, document, self.problems),
            None => self.complete = false,
        }
        document
    }

    fn document(&mut self, place: &Place, asked_at: Option<Span>) -> Option<(SourceId, Node)> {
        let source = match place {
            Place::Library(name) => {
                let text = library::text(name).unwrap_or_default().to_owned();
                SourceText::new(format!("library/{name}.yaml"), text, Origin::Library(name))
            }
            Place::File { written, .. } => match read_file(place) {
                Ok((origin, text)) => SourceText::new(written.display().to_string(), text, origin),
                Err(why) => {
                    let message = format!("cannot read {}: {why}", written.display());
                    self.problems.push(self.at(asked_at, &written.display().to_string(), message));
                    return None;
                }
            },
        };
        let text = source.text.clone();
        let id = self.sources.add(source);
        let document = document::parse(self.sources, id, &text, self.problems)?;
        check::check(self.sources, &document, self.problems);
        // Any other text but an empty one says nothing that could be merged.
        self.complete &= matches!(document.value, Value::Mapping(_)) || document.is_null();
        Some((id, document))
    }

    fn parent(
        &mut self,
        child: &Place,
        extends: &Node,
        visited: &[(Place, String)],
    ) -> Option<Place> {
        let name = extends.scalar()?.text.as_str();
        let folder = match child {
            Place::File { written, .. } => Some(written.parent().unwrap_or(Path::new(""))),
            Place::Library(_) => None,
        };
        let Some(place) = find(name, folder) else {
            let chain: Vec<&str> = visited.iter().map(|(_, name)| name.as_str()).collect();
            let message = format!("there is no recipe `{name}`");
            let problem = Diagnostic::error(self.sources, extends.span, message);
            self.problems.push(problem.label(suggestion(name)).help(format!(
                "asked for by {}\n{}",
                chain.iter().rev().copied().collect::<Vec<_>>().join(", which is extended by "),
                known_names()
            )));
            return None;
        };
        let again = visited.iter().position(|(seen, _)| seen.is_same(&place));
        if again.is_none() && visited.len() < LONGEST_CHAIN {
            return Some(place);
        }
        let mut chain: Vec<&str> =
            visited[again.unwrap_or(0)..].iter().map(|(_, name)| name.as_str()).collect();
        chain.push(chain.first().copied().unwrap_or_default());
        let (message, label, help) = match again {
            Some(_) => ("this recipe extends itself", "closes the circle", chain.join(" extends ")),
            None => {
                let help = format!("a chain has at most {LONGEST_CHAIN} recipes");
                ("too many recipes extend each other", "one too many", help)
            }
        };
        let problem = Diagnostic::error(self.sources, extends.span, message);
        self.problems.push(problem.label(label).help(help));
        None
    }

    fn at(&self, span: Option<Span>, asked_for: &str, message: String) -> Diagnostic {
        match span {
            Some(span) => Diagnostic::error(self.sources, span, message).label("asked for here"),
            None => Diagnostic::about_argument(asked_for, message),
        }
    }
}

impl Place {
    fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Library(one), Self::Library(two)) => one == two,
            (Self::File { canonical: one, .. }, Self::File { canonical: two, .. }) => one == two,
            _ => false,
        }
    }
}

fn read_file(place: &Place) -> Result<(Origin, String), String> {
    use std::io::Read as _;
    let Place::File { canonical, .. } = place else { return Err("not a file".to_owned()) };
    let file = std::fs::File::open(canonical).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let most = LARGEST as u64 + 1;
    file.take(most).read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    if bytes.len() > LARGEST {
        return Err(format!("it is larger than {LARGEST} bytes, so it is no recipe"));
    }
    let text = String::from_utf8(bytes).map_err(|error| {
        let line = 1 + error.as_bytes()[..error.utf8_error().valid_up_to()]
            .iter()
            .filter(|byte| **byte == b'\n')
            .count();
        format!("line {line} is not UTF-8")
    })?;
    Ok((Origin::File(canonical.clone()), text))
}

/// What `name` means in a text in `folder`; library recipes (`None`) know the library alone.
fn find(name: &str, folder: Option<&Path>) -> Option<Place> {
    let is_path = ["/", "./", "../"].iter().any(|start| name.starts_with(start));
    match library::find(name).filter(|_| !is_path) {
        Some(name) => Some(Place::Library(name)),
        None => file(&folder?.join(name)),
    }
}

fn file(written: &Path) -> Option<Place> {
    let canonical = written.canonicalize().ok().filter(|path| path.is_file())?;
    // For messages, without a `.` amid the path.
    Some(Place::File { written: written.components().collect(), canonical })
}

fn find_asked_for(name: &str, problems: &mut Diagnostics) -> Option<Place> {
    let is_file_name = name.ends_with(".yaml") || name.ends_with(".yml");
    let place = match file(Path::new(name)).filter(|_| is_file_name) {
        Some(place) => Some(place),
        None => find(name, Some(Path::new(""))),
    };
    if place.is_none() {
        let message = format!("there is no recipe `{name}`");
        let problem = Diagnostic::about_argument(name, message).label(suggestion(name));
        problems.push(problem.help(known_names()));
    }
    place
}

fn suggestion(name: &str) -> String {
    let name = name.strip_suffix(".yaml").unwrap_or(name);
    match nearest(name, library::names().into_iter()) {
        Some(near) => format!("did you mean `{near}`?"),
        None => "no such file, and not in the library".to_owned(),
    }
}

fn known_names() -> String {
    format!("library recipes: {}", library::names().join(", "))
}
