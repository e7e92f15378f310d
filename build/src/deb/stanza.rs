//! A paragraph of fields, and relations between packages.
//!
//! Format: deb-control(5); relations as in section 7 of the Debian policy manual.

use std::cmp::Ordering;
use std::collections::BTreeMap;

use nodekiln_words::{Failure, Result};

use crate::debian::version;

/// The fields of one paragraph in the order in which they stand there. A value of several lines
/// keeps its line breaks and the blanks that begin its continuation lines.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stanza(Vec<(String, String)>);

impl Stanza {
    /// Reads one paragraph; `label` names the package in messages.
    ///
    /// # Errors
    /// Names the first line that is neither a field nor a continuation, and a field given twice.
    pub fn parse(text: &str, label: &str) -> Result<Self> {
        let wrong = |number: usize, what: &str| {
            Failure::io(format!("package {label}: line {} of its control file {what}", number + 1))
        };
        let mut fields: Vec<(String, String)> = Vec::new();
        for (number, line) in text.trim_end().lines().enumerate() {
            if line.starts_with([' ', '\t']) {
                let (_, value) =
                    fields.last_mut().ok_or_else(|| wrong(number, "continues nothing"))?;
                value.push('\n');
                value.push_str(line);
                continue;
            }
            let (name, value) = line
                .split_once(':')
                .filter(|(name, _)| !name.is_empty() && name.bytes().all(|b| b.is_ascii_graphic()))
                .ok_or_else(|| wrong(number, "is no field"))?;
            if fields.iter().any(|(other, _)| other.eq_ignore_ascii_case(name)) {
                return Err(wrong(number, &format!("gives `{name}` a second time")));
            }
            fields.push((name.to_owned(), value.trim_start().to_owned()));
        }
        // Blanks at the end of a line within a value are its own, as dpkg has it.
        for (_, value) in &mut fields {
            value.truncate(value.trim_end().len());
        }
        Ok(Self(fields))
    }

    /// The value of the field called `name`, in any case; `None` where absent or empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let (_, value) = self.0.iter().find(|(field, _)| field.eq_ignore_ascii_case(name))?;
        Some(value.as_str()).filter(|value| !value.is_empty())
    }

    /// The fields in order.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// The relation in the field called `name`: all clauses must hold.
    #[must_use]
    pub fn relation(&self, name: &str) -> Vec<Clause> {
        let value = self.get(name).unwrap_or_default();
        value.split(',').filter_map(Clause::parse).collect()
    }
}

/// Alternatives of which one must hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Clause(pub Vec<Possibility>);

/// A package, perhaps with a condition on its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Possibility {
    /// Package name.
    pub name: String,
    /// What stands behind a colon, such as `any`.
    pub qualifier: Option<String>,
    /// Operator (`<<`, `<=`, `=`, `>=`, `>>`) and version.
    pub condition: Option<(String, String)>,
}

impl Clause {
    fn parse(text: &str) -> Option<Self> {
        let possibilities: Vec<_> = text.split('|').filter_map(Possibility::parse).collect();
        (!possibilities.is_empty()).then_some(Self(possibilities))
    }

    /// The clause as dpkg writes it into its database.
    #[must_use]
    pub fn normal(&self) -> String {
        let texts: Vec<_> = self.0.iter().map(Possibility::normal).collect();
        texts.join(" | ")
    }
}

impl Possibility {
    fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        let end = text.find([' ', '\t', '\n', '(', '[', '<']).unwrap_or(text.len());
        let (name, rest) = text.split_at(end);
        let (name, qualifier) = match name.split_once(':') {
            Some((name, qualifier)) => (name, Some(qualifier.to_owned())),
            None => (name, None),
        };
        let condition = rest.trim().strip_prefix('(').and_then(|rest| {
            let (inner, _) = rest.split_once(')')?;
            let inner = inner.trim();
            let split = inner.find(|c| !"<>=".contains(c)).unwrap_or(inner.len());
            let (operator, version) = inner.split_at(split);
            // Two old spellings that dpkg still reads.
            let operator = match operator {
                "<" => "<=",
                ">" => ">=",
                "" => "=",
                operator => operator,
            };
            Some((operator.to_owned(), version.trim().to_owned()))
        });
        (!name.is_empty()).then(|| Self { name: name.to_owned(), qualifier, condition })
    }

    fn normal(&self) -> String {
        let mut text = self.name.clone();
        if let Some(qualifier) = &self.qualifier {
            text.push(':');
            text.push_str(qualifier);
        }
        if let Some((operator, version)) = &self.condition {
            text.push_str(&format!(" ({operator} {version})"));
        }
        text
    }

    /// Whether a package of this name in `version` meets the condition.
    #[must_use]
    pub fn admits(&self, version: &str) -> bool {
        let Some((operator, wanted)) = &self.condition else { return true };
        let order = version::compare(version, wanted);
        match operator.as_str() {
            "<<" => order == Ordering::Less,
            "<=" => order != Ordering::Greater,
            "=" => order == Ordering::Equal,
            ">=" => order != Ordering::Less,
            ">>" => order == Ordering::Greater,
            _ => false,
        }
    }
}

/// Who is there: finds the packages of a set that a clause may mean, by name or by `Provides`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Providers(BTreeMap<String, Vec<usize>>);

impl Providers {
    /// Over the packages in order; an index into it stands for a package.
    pub(crate) fn new<'a>(packages: impl Iterator<Item = (&'a str, &'a Stanza)>) -> Self {
        let mut providers: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        for (index, (name, stanza)) in packages.enumerate() {
            // The real package of a name goes before those that provide it.
            providers.entry(name.to_owned()).or_default().insert(0, index);
            for provided in stanza.relation("Provides").into_iter().flat_map(|clause| clause.0) {
                if provided.name != name {
                    providers.entry(provided.name).or_default().push(index);
                }
            }
        }
        Self(providers)
    }

    /// The packages named `name`, the real one first.
    pub(crate) fn of(&self, name: &str) -> &[usize] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// The package that fulfils `clause`: the first of the first alternative that is there.
    pub(crate) fn fulfilling(&self, clause: &Clause) -> Option<usize> {
        clause.0.iter().find_map(|possibility| self.of(&possibility.name).first().copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use proptest::prelude::*;

    #[test]
    fn fields_keep_their_order_and_continuations() {
        let stanza =
            Stanza::parse("Package: a \nDescription: one \n two\n .\n three\n", "a").unwrap();
        assert_eq!(stanza.get("package"), Some("a"));
        assert_eq!(stanza.get("Description"), Some("one \n two\n .\n three"));
    }

    #[test]
    fn broken_lines_and_double_fields_are_named() {
        for (text, what) in
            [(" x", "line 1"), ("A: b\nnonsense", "line 2"), ("A: b\na: c", "second time")]
        {
            let failure = Stanza::parse(text, "p").unwrap_err();
            assert!(failure.to_string().contains(what), "{failure}");
        }
    }

    #[test]
    fn relations_are_written_as_dpkg_does() {
        let stanza = Stanza::parse("Depends: a(>=1) ,b:any|c  (<< 2~),\n d", "p").unwrap();
        let normal: Vec<_> = stanza.relation("Depends").iter().map(Clause::normal).collect();
        assert_eq!(normal, ["a (>= 1)", "b:any | c (<< 2~)", "d"]);
    }

    #[test]
    fn conditions_compare_versions() {
        let stanza = Stanza::parse("Replaces: a (<< 2), b", "p").unwrap();
        let relation = stanza.relation("Replaces");
        assert!(relation[0].0[0].admits("1.9") && !relation[0].0[0].admits("2"));
        assert!(relation[1].0[0].admits("7"));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,200}|([A-Za-z]{1,5}:[ -~]{0,30}\n?){0,5}") {
            if let Ok(stanza) = Stanza::parse(&text, "p") {
                for (name, _) in stanza.fields() {
                    for clause in stanza.relation(name) {
                        prop_assert!(!clause.normal().is_empty());
                    }
                }
            }
        }
    }
}
