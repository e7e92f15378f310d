//! What is wrong with a recipe, where, and what to do about it.

use std::fmt;

use nodekiln_words::Failure;
use serde::{Serialize, Serializer};

use crate::source::{Sources, Span};

/// How bad a diagnostic is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The recipe cannot be used.
    Error,
    /// The recipe can be used; it probably does not say what was meant.
    Warning,
}

/// One problem at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// What is wrong.
    pub message: String,
    /// The file, a library recipe (`library/NAME.yaml`), or `--set`.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// A few words beside the underlined text.
    pub label: String,
    /// What to do about it.
    pub help: Option<String>,
    /// The line it is about, as far as it is shown.
    #[serde(skip)]
    excerpt: Excerpt,
    /// Characters to underline; at least 1.
    #[serde(skip)]
    length: usize,
    /// Which of the texts it is about, in the order in which they were read.
    #[serde(skip)]
    source: usize,
}

/// Problems in the order of the files, then of the lines.
///
/// The first hundred errors and the first hundred warnings are kept. All others are counted, so that
/// no recipe, however broken, fills the memory or the terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Diagnostics {
    kept: Vec<Diagnostic>,
    errors: Tally,
    warnings: Tally,
}

/// Problems of one severity.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Tally {
    /// How many there are, kept or not.
    found: usize,
    /// The first that is not kept.
    beyond: Option<Box<Diagnostic>>,
}

/// The visible part of a line, and the column from 0 at which the problem stands in it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Excerpt {
    text: String,
    column: usize,
}

/// Problems of one severity that are kept.
const MOST: usize = 100;
/// Lines longer than this are shown from a little before the problem.
const WIDEST: usize = 160;

impl Diagnostic {
    pub(crate) fn error(sources: &Sources, span: Span, message: impl Into<String>) -> Self {
        let source = sources.get(span.source);
        let line = source.and_then(|source| source.text.lines().nth(span.line.saturating_sub(1)));
        Self {
            severity: Severity::Error,
            message: message.into(),
            file: source.map(|source| source.name.clone()).unwrap_or_default(),
            line: span.line,
            column: span.column,
            label: String::new(),
            help: None,
            excerpt: Excerpt::of(line.unwrap_or_default(), span.column.saturating_sub(1)),
            length: span.length.max(1),
            source: span.source.0,
        }
    }

    /// A problem with the request itself, before any file was read; `text` is what was asked for.
    pub(crate) fn about_argument(text: &str, message: impl Into<String>) -> Self {
        Self {
            severity: Severity::Error,
            message: message.into(),
            file: "command line".to_owned(),
            line: 1,
            column: 1,
            label: String::new(),
            help: None,
            excerpt: Excerpt::of(text, 0),
            length: text.chars().count().max(1),
            source: 0,
        }
    }

    pub(crate) fn warning(mut self) -> Self {
        self.severity = Severity::Warning;
        self
    }

    pub(crate) fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    fn render(&self, paint: Paint, out: &mut String) {
        let (name, colour) = match self.severity {
            Severity::Error => ("error", Paint::RED),
            Severity::Warning => ("warning", Paint::YELLOW),
        };
        let number = self.line.to_string();
        let gutter = " ".repeat(number.len());
        let Excerpt { text: line, column } = &self.excerpt;
        let length = self.length.min(line.chars().count().saturating_sub(*column).max(1));
        let before = " ".repeat(*column);
        let (left, right) = ((length - 1) / 2, length - 1 - (length - 1) / 2);
        let mark = if self.label.is_empty() { '─' } else { '┬' };
        let under = format!("{}{mark}{}", "─".repeat(left), "─".repeat(right));

        let place = format!("{}:{}:{}", self.file, self.line, self.column);
        let message = printable(&self.message);
        out.push_str(&format!("{}: {message}\n", paint.with(colour, name)));
        out.push_str(&format!("  {gutter} ╭─[{}]\n", printable(&place)));
        out.push_str(&format!("  {} │ {line}\n", paint.with(Paint::DIM, &number)));
        out.push_str(&format!("  {gutter} · {before}{}\n", paint.with(colour, &under)));
        if !self.label.is_empty() {
            let arrow = format!("{}╰── {}", " ".repeat(left), printable(&self.label));
            out.push_str(&format!("  {gutter} · {before}{}\n", paint.with(colour, &arrow)));
        }
        if let Some(help) = &self.help {
            let indent = format!("\n  {gutter}       ");
            let help = printable(help).replace('\n', &indent);
            out.push_str(&format!("  {gutter} {} {help}\n", paint.with(Paint::CYAN, "help:")));
        }
    }
}

impl Excerpt {
    /// What is shown of `line` around `column`, which counts from 0.
    fn of(line: &str, column: usize) -> Self {
        let length = line.chars().count();
        if length <= WIDEST {
            return Self { text: printable(line), column: column.min(length) };
        }
        let skip = column.saturating_sub(20);
        let visible: String = line.chars().skip(skip).take(WIDEST).collect();
        Self { text: printable(&visible), column: column - skip }
    }
}

/// One printable character for each character, so that columns stay what they are and no escape
/// sequence of a file reaches the terminal.
fn printable(text: &str) -> String {
    let shown = |c: char| match c {
        '\n' => '\n',
        '\t' => ' ',
        c if c.is_control() => '\u{fffd}',
        c => c,
    };
    text.chars().map(shown).collect()
}

/// Puts colours around text, or does not.
#[derive(Clone, Copy)]
struct Paint(bool);

impl Paint {
    const RED: &'static str = "1;31";
    const YELLOW: &'static str = "1;33";
    const CYAN: &'static str = "36";
    const DIM: &'static str = "2";

    fn with(self, colour: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{colour}m{text}\u{1b}[0m") } else { text.to_owned() }
    }
}

impl Tally {
    /// Counts one more, and makes it if it is to be kept.
    fn count(&mut self, make: impl FnOnce() -> Diagnostic) -> Option<Diagnostic> {
        self.found += 1;
        match self.found {
            ..=MOST => Some(make()),
            _ => {
                self.beyond.get_or_insert_with(|| Box::new(make()));
                None
            }
        }
    }

    /// What stands for those that are not kept.
    fn rest(&mut self) -> Option<Diagnostic> {
        let first = *self.beyond.take()?;
        let count = self.found - MOST;
        if count == 1 {
            return Some(first);
        }
        let noun = if first.severity == Severity::Error { "errors" } else { "warnings" };
        let message = format!("{count} more {noun} are not shown");
        Some(Diagnostic { message, label: "the first of them".to_owned(), help: None, ..first })
    }
}

impl Diagnostics {
    pub(crate) fn push(&mut self, diagnostic: Diagnostic) {
        let tally = match diagnostic.severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        self.kept.extend(tally.count(|| diagnostic));
    }

    /// Adds the error that `make` makes, which is asked only as long as errors are kept: what is
    /// found in a loop is added this way.
    pub(crate) fn error(&mut self, make: impl FnOnce() -> Diagnostic) {
        self.kept.extend(self.errors.count(make));
    }

    /// Adds a warning in the same way.
    pub(crate) fn warning(&mut self, make: impl FnOnce() -> Diagnostic) {
        self.kept.extend(self.warnings.count(|| make().warning()));
    }

    /// Sorts by file, then by place, and ends with how many more there are.
    pub(crate) fn finish(&mut self) {
        self.kept.sort_by_key(|problem| (problem.source, problem.line, problem.column));
        self.kept.extend([self.errors.rest(), self.warnings.rest()].into_iter().flatten());
    }

    /// The problems that are shown; where there are more, the last says how many.
    pub fn iter(&self) -> impl Iterator<Item = &Diagnostic> {
        self.kept.iter()
    }

    /// How many there are, shown or not.
    #[must_use]
    pub fn len(&self) -> usize {
        self.errors.found + self.warnings.found
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether the recipe cannot be used.
    #[must_use]
    pub fn has_errors(&self) -> bool {
        self.errors.found > 0
    }

    /// All problems as text for a terminal: message, place, the line itself with the culprit
    /// underlined, and help.
    #[must_use]
    pub fn render(&self, color: bool) -> String {
        let mut out = String::new();
        for diagnostic in &self.kept {
            if !out.is_empty() {
                out.push('\n');
            }
            diagnostic.render(Paint(color), &mut out);
        }
        out
    }
}

impl fmt::Display for Diagnostics {
    /// One line a problem: `FILE:LINE:COLUMN: MESSAGE`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, diagnostic) in self.kept.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            let Diagnostic { file, line, column, message, .. } = diagnostic;
            write!(f, "{separator}{file}:{line}:{column}: {message}")?;
        }
        Ok(())
    }
}

impl std::error::Error for Diagnostics {}

impl Serialize for Diagnostics {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(&self.kept)
    }
}

impl From<Diagnostics> for Failure {
    /// A failure of class input; the problems are its source.
    fn from(problems: Diagnostics) -> Self {
        let count = problems.errors.found;
        let noun = if count == 1 { "problem" } else { "problems" };
        let help = problems.iter().find_map(|problem| problem.help.clone());
        let failure = Failure::input(format!("the recipe has {count} {noun}"));
        let failure = match help {
            Some(help) => failure.with_help(help),
            None => failure,
        };
        failure.with_source(problems)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::source::{Origin, SourceText};

    fn sources(text: &str) -> (Sources, Span) {
        let mut sources = Sources::default();
        let text = SourceText::new("my.yaml".into(), text.into(), Origin::Argument);
        let source = sources.add(text);
        (sources, Span { source, line: 1, column: 1, length: 7 })
    }

    #[test]
    fn the_culprit_is_underlined_with_its_label_below() {
        let (sources, span) = sources("pakages: [jq]\n");
        let mut problems = Diagnostics::default();
        problems.push(
            Diagnostic::error(&sources, Span { line: 1, ..span }, "unknown key `pakages`")
                .label("did you mean `packages`?")
                .help("valid keys: name"),
        );
        let expected = "\
error: unknown key `pakages`
    ╭─[my.yaml:1:1]
  1 │ pakages: [jq]
    · ───┬───
    ·    ╰── did you mean `packages`?
    help: valid keys: name
";
        assert_eq!(problems.render(false), expected);
        assert!(problems.render(true).contains("\u{1b}[1;31merror\u{1b}[0m"));
        assert_eq!(problems.to_string(), "my.yaml:1:1: unknown key `pakages`");
    }

    #[test]
    fn control_characters_of_a_file_do_not_reach_the_terminal() {
        let (sources, span) = sources("\u{1b}[31mx\ty\n");
        let mut problems = Diagnostics::default();
        problems.push(Diagnostic::error(&sources, span, "odd \u{7} name"));
        let text = problems.render(false);
        assert!(!text.contains(['\u{1b}', '\u{7}', '\t']), "{text:?}");
    }

    #[test]
    fn problems_beyond_the_hundredth_are_counted_and_not_made() {
        let (sources, span) = sources("x");
        let mut problems = Diagnostics::default();
        let mut made = 0;
        for column in 1..=300 {
            problems.warning(|| {
                made += 1;
                Diagnostic::error(&sources, Span { column, ..span }, "odd")
            });
        }
        assert!(!problems.has_errors());
        problems.push(Diagnostic::error(&sources, span, "wrong"));
        problems.finish();
        assert_eq!((made, problems.len(), problems.has_errors()), (101, 301, true));
        let shown: Vec<&str> = problems.iter().map(|problem| problem.message.as_str()).collect();
        assert_eq!(
            (shown.len(), shown[100], shown[101]),
            (102, "odd", "200 more warnings are not shown")
        );
    }

    #[test]
    fn one_problem_too_many_is_simply_shown() {
        let (sources, span) = sources("x");
        let mut problems = Diagnostics::default();
        (0..=MOST).for_each(|_| problems.error(|| Diagnostic::error(&sources, span, "wrong")));
        problems.finish();
        assert!(problems.iter().count() == 101 && problems.iter().all(|p| p.message == "wrong"));
    }

    #[test]
    fn places_outside_the_text_and_very_long_lines_are_shown_all_the_same() {
        let (sources, span) = sources(&"x".repeat(5000));
        for span in [
            Span { line: 9, column: 40, ..span },
            Span { column: 4000, length: 9000, ..span },
            Span { line: 0, column: 0, length: 0, ..span },
        ] {
            let mut problems = Diagnostics::default();
            problems.push(Diagnostic::error(&sources, span, "far away").label("here"));
            let text = problems.render(false);
            assert!(text.lines().all(|line| line.chars().count() < 200), "{text}");
        }
    }
}
