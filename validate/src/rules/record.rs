//! A rule as reports, `validate --list-rules` and `docs/rules.md` tell of it.

use std::fmt::Write as _;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Severity;
use crate::Tier;

/// What a rule is, without how it is judged: nodekiln's own rules and those of users alike.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Record {
    /// Stable name.
    pub id: String,
    /// What holds where it passes.
    pub title: String,
    /// The lowest tier that judges it.
    pub tier: Tier,
    /// How much a "no" weighs.
    pub severity: Severity,
    /// Paths, tables, commands and logs that the judgement is made of.
    pub reads: Vec<String>,
    /// Why it matters.
    pub why: String,
    /// What to do about a "no".
    pub remedy: String,
    /// Where it comes from.
    pub source: String,
    /// Which images it is for, in words.
    pub applies: String,
    /// Whether a "no" forbids to boot the image.
    pub stops_boot: bool,
}

/// `records` as the page `docs/rules.md`: a table a tier, then what each rule says.
#[must_use]
pub fn markdown(records: &[Record]) -> String {
    let mut text = String::from(
        "# Rules\n\nWhat `nodekiln validate` judges, from the records in `validate/src/at_rest` and \
         `validate/src/checks`. This page is made of them: `nodekiln validate --list-rules` prints the same, \
         `--json` for programs.\n\nA *fatal* rule's \"no\" fails the image, an *advisory* one's is a warning.\n",
    );
    for tier in Tier::ALL {
        let own: Vec<&Record> = records.iter().filter(|record| record.tier == tier).collect();
        if own.is_empty() {
            continue;
        }
        let _ = write!(
            text,
            "\n## {}: {} rules\n\n{}\n\n| rule | holds | severity | for |\n|---|---|---|---|\n",
            tier.as_str(),
            own.len(),
            tier.meaning()
        );
        for record in &own {
            let Record { id, title, severity, applies, .. } = record;
            let (title, applies) = (cell(title), cell(applies));
            let severity = severity.as_str();
            let _ = writeln!(text, "| [{id}](#{id}) | {title} | {severity} | {applies} |");
        }
        for record in &own {
            section(&mut text, record);
        }
    }
    text
}

fn section(text: &mut String, record: &Record) {
    let reads: Vec<String> = record.reads.iter().map(|read| format!("`{read}`")).collect();
    let boot = if record.stops_boot { " An image that it fails is not booted." } else { "" };
    let _ = write!(
        text,
        "\n### {}\n\n{}: {}.{boot}\n\n- Reads: {}\n- Remedy: {}\n- Source: {}\n",
        record.id,
        record.title,
        record.why,
        reads.join(", "),
        record.remedy,
        record.source,
    );
}

/// Text that does not end a table's cell.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rules;

    /// The page in the repository, where the tests run.
    const PAGE: &str = "../docs/rules.md";

    #[test]
    fn the_page_is_that_of_the_records() {
        let records: Vec<Record> = rules::all().map(rules::Rule::record).collect();
        let made = markdown(&records);
        if std::env::var_os("NODEKILN_BLESS").is_some() {
            fs_err::write(PAGE, &made).unwrap();
        }
        let kept = fs_err::read_to_string(PAGE).unwrap_or_default();
        assert!(kept == made, "run the test with NODEKILN_BLESS=1 and read what changed in {PAGE}");
    }

    #[test]
    fn a_bar_in_a_title_does_not_end_its_cell() {
        assert_eq!(cell("a | b"), "a \\| b");
    }
}
