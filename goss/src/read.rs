//! A resource read from YAML.

use std::time::Duration;

use serde_json::Value as Json;

use crate::kind::{Description, Kind, Shape};
use crate::matcher::{Dialect, Matcher};
use crate::place::{Problem, Problems, did_you_mean};
use crate::resource::{Command, Port, Request, Resource, Secret, Subject, Want, Wanted};
use crate::yaml::{Entry, Node, Resolved, Value};

/// How strictly a resource is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    /// As goss of this dialect reads it.
    Goss(Dialect),
    /// Of a rule: what is required must be there, and a plain value must be of the attribute's kind.
    Rule,
}

impl Reading {
    fn dialect(self) -> Dialect {
        match self {
            Self::Goss(dialect) => dialect,
            Self::Rule => Dialect::Goss04,
        }
    }
}

/// Reads one resource: `entry` has its key and its attributes.
pub(crate) fn resource(
    description: &'static Description,
    entry: &Entry,
    reading: Reading,
) -> Result<Resource, Problems> {
    let mut reader = Reader { description, entry, reading, problems: Problems::default() };
    let resource = reader.resource();
    let Reader { problems, .. } = reader;
    match resource {
        Some(resource) if problems.is_empty() => Ok(resource),
        _ => Err(problems),
    }
}

/// A resource of a kind that goss has and nodekiln does not judge.
pub(crate) fn skipped(kind: &str, entry: &Entry, reason: &str) -> Resource {
    let text = |key: &str| entry.node.get(key).and_then(Node::scalar).map(|s| s.text.clone());
    Resource {
        kind_name: kind.to_owned(),
        id: entry.key.clone(),
        title: text("title"),
        meta: entry.node.get("meta").map_or(Json::Null, Node::to_json),
        skip: entry.node.get("skip").map(Node::to_json) == Some(Json::Bool(true)),
        place: entry.key_place.clone(),
        subject: Subject::Skipped(reason.to_owned()),
        wanted: Vec::new(),
        dialect: Dialect::default(),
    }
}

/// Reads one resource and collects what is wrong with it.
struct Reader<'a> {
    description: &'static Description,
    entry: &'a Entry,
    reading: Reading,
    problems: Problems,
}

impl Reader<'_> {
    fn resource(&mut self) -> Option<Resource> {
        let node = &self.entry.node;
        let kind = self.description.name;
        if !matches!(node.value, Value::Mapping(_)) {
            let message =
                format!("the {kind} `{}` has {} for its attributes", self.entry.key, node.noun());
            let place = if node.is_null() { &self.entry.key_place } else { &node.place };
            let first = self.description.attributes[0].name;
            self.problems.push(Problem::new(
                place,
                message,
                format!("write attributes below it, such as `{first}:`"),
            ));
            return None;
        }
        self.unknown_keys();
        let wanted = self.wanted();
        let subject = self.subject()?;
        Some(Resource {
            kind_name: kind.to_owned(),
            id: self.entry.key.clone(),
            title: self.text("title"),
            meta: node.get("meta").map_or(Json::Null, Node::to_json),
            skip: self.boolean("skip"),
            place: self.entry.key_place.clone(),
            subject,
            wanted,
            dialect: self.reading.dialect(),
        })
    }

    fn unknown_keys(&mut self) {
        for entry in self.entry.node.entries() {
            let attribute = self.description.attribute(&entry.key);
            let old = attribute
                .filter(|_| self.reading == Reading::Rule)
                .is_some_and(|one| one.name != entry.key);
            if (attribute.is_some() && !old) || self.description.setting(&entry.key).is_some() {
                continue;
            }
            let message = format!("a {} has no attribute `{}`", self.description.name, entry.key);
            let help = match attribute {
                Some(attribute) => format!("it is called `{}`", attribute.name),
                None => did_you_mean(&entry.key, &self.description.keys()),
            };
            self.problems.push(Problem::new(&entry.key_place, message, help));
        }
    }

    fn wanted(&mut self) -> Vec<Wanted> {
        let mut all = Vec::new();
        for attribute in self.description.attributes {
            let names = [Some(attribute.name), attribute.old_name];
            let node = names.into_iter().flatten().find_map(|name| self.entry.node.get(name));
            let matcher = match node {
                Some(node) if self.reading == Reading::Rule && !typed(attribute.shape, node) => {
                    let (message, help) = mistyped(attribute.name, attribute.shape, node);
                    self.problems.push(Problem::new(&node.place, message, help));
                    continue;
                }
                Some(node) => self.matcher(attribute.shape, node),
                None => None,
            };
            match matcher {
                Some(matcher) => all.push(Wanted { attribute, matcher }),
                None if attribute.required && self.reading == Reading::Rule => {
                    let message =
                        format!("the {} does not say `{}`", self.description.name, attribute.name);
                    let help = format!("add `{}:`", attribute.name);
                    self.problems.push(Problem::new(&self.entry.key_place, message, help));
                }
                None if attribute.required => {
                    all.push(Wanted { attribute, matcher: Want::Missing });
                }
                None => {}
            }
        }
        all
    }

    fn matcher(&mut self, shape: Shape, node: &Node) -> Option<Want> {
        let dialect = self.reading.dialect();
        let read = match shape {
            Shape::Output => Matcher::of_output(node, dialect),
            _ => Matcher::of_value(node, dialect),
        };
        match read {
            Ok(matcher) => matcher.map(Want::Matcher),
            Err(problem) => {
                self.problems.push(problem);
                None
            }
        }
    }

    fn subject(&mut self) -> Option<Subject> {
        let name = self.name()?;
        Some(match self.description.kind {
            Kind::File => Subject::File(name),
            Kind::Package => Subject::Package(name),
            Kind::Service => Subject::Service(name),
            Kind::Command => {
                Subject::Command(Command { exec: name, timeout: self.timeout(10_000) })
            }
            Kind::KernelParam => Subject::KernelParam(name),
            Kind::Mount => {
                self.timeout(1000);
                Subject::Mount(name)
            }
            Kind::User => Subject::User(name),
            Kind::Group => Subject::Group(name),
            Kind::Port => match Port::read(&name) {
                Some(port) => Subject::Port(port),
                None => {
                    let message = format!("`{name}` is no port");
                    let help = "write `tcp:22`; before the colon tcp, tcp6, udp or udp6";
                    self.problems.push(Problem::new(&self.entry.key_place, message, help));
                    return None;
                }
            },
            Kind::Http => Subject::Http(Box::new(self.request(name))),
            Kind::Matching => {
                Subject::Matching(self.entry.node.get("content").map_or(Json::Null, Node::to_json))
            }
        })
    }

    /// What the resource is about: the setting that says it, or the key.
    fn name(&mut self) -> Option<String> {
        let setting = self.description.key_setting;
        let name =
            setting.and_then(|name| self.text(name)).unwrap_or_else(|| self.entry.key.clone());
        let wrong = if name.is_empty() {
            Some("is empty")
        } else if name.contains('\0') {
            Some("has a character of code 0 in it")
        } else {
            None
        };
        match wrong {
            None => Some(name),
            Some(wrong) => {
                let message = format!("what the {} is about {wrong}", self.description.name);
                let help = format!("write it as the key: {}", self.description.key);
                self.problems.push(Problem::new(&self.entry.key_place, message, help));
                None
            }
        }
    }

    fn request(&mut self, url: String) -> Request {
        let credentials = match (self.text("username"), self.text("password")) {
            (None, None) => None,
            (name, password) => {
                Some((name.unwrap_or_default(), Secret(password.unwrap_or_default())))
            }
        };
        let given = |text: Option<String>| text.filter(|text| !text.is_empty());
        Request {
            url,
            method: given(self.text("method")),
            allow_insecure: self.boolean("allow-insecure"),
            follow: !self.boolean("no-follow-redirects"),
            timeout: self.timeout(5000),
            headers: self.texts("request-headers"),
            body: given(self.text("request-body")),
            credentials: credentials
                .filter(|(name, Secret(password))| !name.is_empty() || !password.is_empty()),
            ca_file: given(self.text("ca-file")),
            cert_file: given(self.text("cert-file")),
            key_file: given(self.text("key-file")),
            proxy: given(self.text("proxy")),
        }
    }

    /// A setting's text; numbers and booleans are taken as they are written.
    fn text(&mut self, name: &str) -> Option<String> {
        let node = self.entry.node.get(name)?;
        let Some(scalar) = node.scalar().filter(|scalar| !scalar.text.contains('\0')) else {
            self.wrong(node, name, "one text");
            return None;
        };
        if self.reading == Reading::Rule && scalar.resolved() != Resolved::Text && name != "port" {
            self.wrong(node, name, "a text, here in quotes");
        }
        Some(scalar.text.clone())
    }

    fn texts(&mut self, name: &str) -> Vec<String> {
        let Some(node) = self.entry.node.get(name) else { return Vec::new() };
        match &node.value {
            Value::List(items) => {
                let texts = items.iter().filter_map(|item| item.scalar().map(|s| s.text.clone()));
                let texts: Vec<String> =
                    texts.filter(|text| !text.contains(['\0', '\n'])).collect();
                if texts.len() != items.len() {
                    self.wrong(node, name, "a list of texts of one line each");
                }
                texts
            }
            _ => {
                self.wrong(node, name, "a list of texts");
                Vec::new()
            }
        }
    }

    /// A setting that is true or false; goss's YAML library also reads YAML 1.1's words as such here.
    fn boolean(&mut self, name: &str) -> bool {
        let Some(node) = self.entry.node.get(name) else { return false };
        let word =
            node.scalar().map(|scalar| (scalar.text.to_ascii_lowercase(), scalar.resolved()));
        let lax = self.reading != Reading::Rule;
        match word {
            Some((_, Resolved::Boolean(truth))) => truth,
            Some((word, _)) if lax && matches!(word.as_str(), "yes" | "on" | "y") => true,
            Some((word, _)) if lax && matches!(word.as_str(), "no" | "off" | "n") => false,
            _ => {
                self.wrong(node, name, "`true` or `false`");
                false
            }
        }
    }

    /// The setting `timeout` in milliseconds; 0 and none are the default.
    fn timeout(&mut self, default: u64) -> Duration {
        /// An hour; whoever waits longer for one command of a test waits in vain.
        const LONGEST: u64 = 3_600_000;
        let Some(node) = self.entry.node.get("timeout") else {
            return Duration::from_millis(default);
        };
        match node.to_json().as_u64() {
            Some(0) => Duration::from_millis(default),
            Some(milliseconds) if milliseconds <= LONGEST => Duration::from_millis(milliseconds),
            _ => {
                self.wrong(node, "timeout", &format!("whole milliseconds, at most {LONGEST}"));
                Duration::from_millis(default)
            }
        }
    }

    fn wrong(&mut self, node: &Node, name: &str, expected: &str) {
        let message = format!("`{name}` is {}", node.noun());
        self.problems.push(Problem::new(&node.place, message, format!("give it {expected}")));
    }
}

/// Whether a plain value is of the kind that the attribute has; matchers speak for themselves.
fn typed(shape: Shape, node: &Node) -> bool {
    let Value::Scalar(scalar) = &node.value else {
        let list = matches!(node.value, Value::List(_));
        return !list || matches!(shape, Shape::Texts | Shape::Output | Shape::Any);
    };
    let resolved = scalar.resolved();
    match shape {
        Shape::Boolean => matches!(resolved, Resolved::Boolean(_)),
        Shape::Integer => matches!(resolved, Resolved::Integer(_)),
        Shape::Text | Shape::Output => resolved == Resolved::Text,
        Shape::Mode => {
            resolved == Resolved::Text
                && scalar.text.len() == 4
                && scalar.text.bytes().all(|digit| (b'0'..=b'7').contains(&digit))
        }
        Shape::TextOrInteger => matches!(resolved, Resolved::Text | Resolved::Integer(_)),
        Shape::Texts => false,
        Shape::Any => true,
    }
}

fn mistyped(name: &str, shape: Shape, node: &Node) -> (String, String) {
    let expected = match shape {
        Shape::Boolean => "`true` or `false`",
        Shape::Integer => "a whole number",
        Shape::Text | Shape::Output => "a text; put quotes around one that looks like a number",
        Shape::Mode => "four octal digits in quotes, such as \"0644\"",
        Shape::TextOrInteger => "a text or a whole number",
        Shape::Texts => "a list of texts, or a matcher",
        Shape::Any => "a value",
    };
    (format!("`{name}` is {}", node.noun()), format!("give it {expected}"))
}
