//! Writing YAML: block collections, plain scalars where every reader agrees on them, else quotes.

use std::collections::BTreeMap;

use crate::document::{Resolved, resolve};

/// An ordered YAML value.
pub(crate) enum Yaml {
    /// Written as it is: a number, a boolean, or a word known to need no quotes.
    Bare(String),
    Text(String),
    List(Vec<Yaml>),
    Mapping(Vec<(String, Yaml)>),
}

/// Collects the entries of a mapping and leaves out what is empty.
#[derive(Default)]
pub(crate) struct Entries(Vec<(String, Yaml)>);

impl Entries {
    pub(crate) fn value(mut self, key: &str, value: Yaml) -> Self {
        let empty = match &value {
            Yaml::List(items) => items.is_empty(),
            Yaml::Mapping(entries) => entries.is_empty(),
            Yaml::Bare(_) | Yaml::Text(_) => false,
        };
        if !empty {
            self.0.push((key.to_owned(), value));
        }
        self
    }

    pub(crate) fn text(self, key: &str, text: &str) -> Self {
        self.value(key, Yaml::Text(text.to_owned()))
    }

    pub(crate) fn optional(self, key: &str, text: Option<&str>) -> Self {
        match text {
            Some(text) => self.text(key, text),
            None => self,
        }
    }

    pub(crate) fn list(self, key: &str, texts: &[String]) -> Self {
        self.value(key, Yaml::List(texts.iter().cloned().map(Yaml::Text).collect()))
    }

    pub(crate) fn map(self, key: &str, texts: &BTreeMap<String, String>) -> Self {
        let entries = texts.iter().map(|(key, text)| (key.clone(), Yaml::Text(text.clone())));
        self.value(key, Yaml::Mapping(entries.collect()))
    }

    pub(crate) fn done(self) -> Yaml {
        Yaml::Mapping(self.0)
    }
}

impl Yaml {
    /// The document with this mapping in it.
    pub(crate) fn text(&self) -> String {
        let mut out = String::new();
        if let Self::Mapping(entries) = self {
            write_mapping(entries, 0, &mut out);
        }
        out
    }

    /// Text in double quotes even where it could do without, for the reader's eye.
    pub(crate) fn quoted(text: &str) -> Self {
        Self::Bare(quoted(text))
    }
}

fn write_mapping(entries: &[(String, Yaml)], indent: usize, out: &mut String) {
    for (index, (key, value)) in entries.iter().enumerate() {
        // The first key of a list's item stands behind its dash.
        if index > 0 || indent == 0 || out.ends_with('\n') {
            out.push_str(&" ".repeat(indent));
        }
        scalar(key, out);
        out.push(':');
        match value {
            Yaml::Mapping(below) if below.is_empty() => out.push_str(" {}\n"),
            Yaml::Mapping(below) => {
                out.push('\n');
                write_mapping(below, indent + 2, out);
            }
            Yaml::List(items) => write_list(items, indent + 2, out),
            Yaml::Bare(text) => out.push_str(&format!(" {text}\n")),
            Yaml::Text(text) => write_text(text, indent + 2, out),
        }
    }
}

fn write_list(items: &[Yaml], indent: usize, out: &mut String) {
    out.push('\n');
    for item in items {
        out.push_str(&" ".repeat(indent));
        out.push_str("- ");
        match item {
            Yaml::Mapping(entries) => write_mapping(entries, indent + 2, out),
            Yaml::Text(text) => {
                scalar(text, out);
                out.push('\n');
            }
            Yaml::Bare(text) => out.push_str(&format!("{text}\n")),
            Yaml::List(_) => {}
        }
    }
}

/// Text after a key: several lines as a literal block where that can hold them.
fn write_text(text: &str, indent: usize, out: &mut String) {
    out.push(' ');
    let body = text.strip_suffix('\n').unwrap_or(text);
    if !fits_block(body) || !text.contains('\n') {
        scalar(text, out);
        out.push('\n');
        return;
    }
    out.push_str(if text.ends_with('\n') { "|\n" } else { "|-\n" });
    for line in body.split('\n') {
        if !line.is_empty() {
            out.push_str(&" ".repeat(indent));
            out.push_str(line);
        }
        out.push('\n');
    }
}

/// Whether a literal block gives back exactly these lines: the first shows the indentation, the last
/// is not empty (else it would be taken for chomped), and all characters may stand as they are.
fn fits_block(body: &str) -> bool {
    let first = body.split('\n').next().unwrap_or_default();
    !body.is_empty()
        && !body.ends_with('\n')
        && !first.is_empty()
        && !first.starts_with([' ', '\t'])
        && !body.split('\n').any(|line| !line.is_empty() && line.trim().is_empty())
        && !body.chars().any(|c| c != '\n' && c != '\t' && needs_escape(c))
}

fn scalar(text: &str, out: &mut String) {
    if is_plain(text) {
        out.push_str(text);
    } else {
        out.push_str(&quoted(text));
    }
}

/// Text in double quotes (YAML 1.2, 7.3.1).
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if needs_escape(c) => {
                let code = u32::from(c);
                let escape =
                    if code > 0xffff { format!("\\U{code:08x}") } else { format!("\\u{code:04x}") };
                out.push_str(&escape);
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Characters that YAML does not let stand for themselves, or that a terminal would act upon.
fn needs_escape(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{feff}' | '\u{2028}' | '\u{2029}' | '\u{fffe}' | '\u{ffff}')
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// Whether `text` without quotes is that text to every YAML reader: no indicator, nothing that is a
/// number, a boolean or null to YAML 1.2, or was to YAML 1.1.
fn is_plain(text: &str) -> bool {
    let safe = |c: char| c.is_ascii_alphanumeric() || "._-/+=@%~^".contains(c);
    let old_word =
        ["y", "n", "yes", "no", "on", "off"].iter().any(|w| text.eq_ignore_ascii_case(w));
    text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '_')
        && text.chars().all(|c| safe(c) || c == ':' || c == ' ')
        && !text.contains(": ")
        && !text.ends_with([' ', ':'])
        && resolve(text) == Resolved::Text
        && !old_word
        && !looks_like_a_number_or_a_time(text)
}

/// YAML 1.1 also had `0b1`, `1_000`, `12:30` and dates.
fn looks_like_a_number_or_a_time(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
        && text.chars().all(|c| c.is_ascii_hexdigit() || "_:.-TZtzx+ ".contains(c))
        && !text.contains("..")
        && (text.contains([':', '_', '-', 'b', 'x']) || text.contains(' '))
}
