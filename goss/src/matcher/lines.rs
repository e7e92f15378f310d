//! Patterns on lines, goss's first matcher and still its default for files and outputs.

use regex::Regex;

use crate::pattern;

/// One pattern: `foo`, `!foo`, `\!foo`, `/expression/` or `!/expression/`.
#[derive(Clone, Debug)]
pub(crate) struct LinePattern {
    written: String,
    negated: bool,
    fits: Fits,
}

#[derive(Clone, Debug)]
enum Fits {
    Contains(String),
    Matches(Regex),
}

impl LinePattern {
    /// Reads a pattern, as goss documents it. Its code cuts all of `\`, `/` and `!` off the front of a plain text, so
    /// that there `\!foo` and `/foo` also fit lines without the sign.
    pub(crate) fn read(written: &str) -> Result<Self, String> {
        let negated = written.starts_with('!');
        let plain = written.strip_prefix('!').unwrap_or(written);
        let between = plain.strip_prefix('/').and_then(|rest| rest.strip_suffix('/'));
        let fits = match between {
            Some(expression) => Fits::Matches(pattern::compile(expression)?),
            None => Fits::Contains(plain.strip_prefix('\\').unwrap_or(plain).to_owned()),
        };
        Ok(Self { written: written.to_owned(), negated, fits })
    }

    pub(crate) fn written(&self) -> &str {
        &self.written
    }

    pub(crate) fn negated(&self) -> bool {
        self.negated
    }

    /// The first line, from 1, that it fits, whether that is wanted or not.
    pub(crate) fn line<'t>(&self, text: &'t str) -> Option<(usize, &'t str)> {
        let fits = |line: &str| match &self.fits {
            Fits::Contains(part) => line.contains(part.as_str()),
            Fits::Matches(expression) => expression.is_match(line),
        };
        let found = text.lines().enumerate().find(|(_, line)| fits(line));
        found.map(|(index, line)| (index + 1, line))
    }

    /// Whether the text is as the pattern wants it.
    pub(crate) fn holds(&self, text: &str) -> bool {
        // An empty pattern also fits a text without a line.
        self.negated != (self.line(text).is_some() || self.written.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(pattern: &str, text: &str) -> bool {
        LinePattern::read(pattern).unwrap().holds(text)
    }

    #[test]
    fn the_five_forms() {
        let text = "alpha one\nbeta !two\r\n/gamma/\n";
        assert!(holds("beta", text) && !holds("delta", text));
        assert!(holds("!delta", text) && !holds("!beta", text));
        assert!(holds("\\!two", text) && !holds("\\!one", text));
        assert!(holds("/^alpha\\s\\w+$/", text) && !holds("/^one/", text));
        assert!(holds("!/^one/", text) && !holds("!/two$/", text));
        assert!(holds("\\/gamma/", text), "an escaped slash is no expression");
        assert!(holds("/etc/hosts", "see /etc/hosts") && !holds("/etc/hosts", "see etc/hosts"));
        assert!(holds("", "") && !holds("x", "") && holds("!x", ""));
        assert!(!holds("/one.*beta/", text), "an expression sees one line");
    }

    #[test]
    fn a_broken_expression_is_told() {
        assert!(LinePattern::read("/a(/").is_err() && LinePattern::read("!/a(/").is_err());
        assert!(LinePattern::read("/").is_ok() && LinePattern::read("!/").is_ok());
    }
}
