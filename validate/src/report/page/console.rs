//! The console with what was found in it marked.

use std::collections::BTreeMap;

use maud::{Markup, html};

use crate::console::{Finding, Gravity};
use crate::printable::printable;
use crate::run::Cause;

/// The console's log with the lines marked that the scan found, and the one that is the cause first of all.
pub(super) fn console(findings: &[Finding], cause: Option<&Cause>, log: &[u8]) -> Markup {
    let found: BTreeMap<u64, &Finding> =
        findings.iter().map(|finding| (finding.offset, finding)).collect();
    let failed = cause.is_some();
    let cause = cause.and_then(|cause| cause.console.as_ref());
    let mut offset = 0;
    let mut lines = Vec::new();
    for line in log.split_inclusive(|byte| *byte == b'\n') {
        let end = offset + line.len() as u64;
        let finding = found.range(offset..end).next().map(|(_, finding)| *finding);
        lines.push((String::from_utf8_lossy(line).trim_end().to_owned(), finding));
        offset = end;
    }
    html! {
        @if let Some(cause) = cause { p { a href="#cause" { "to the line that tells the cause" } ": " code { (printable(cause.line.trim())) } } }
        details open[failed] {
            summary { (lines.len()) " lines, " (findings.len()) " of them marked" }
            pre.console { @for (line, finding) in &lines {
                @match finding {
                    None => { (clean(line)) "\n" }
                    Some(finding) => {
                        @let is_cause = cause.is_some_and(|cause| cause.offset == finding.offset);
                        mark.(colour(finding.gravity)) id=[is_cause.then_some("cause")] title=(finding.pattern) { (clean(line)) }
                        "\n"
                    }
                }
            } }
        }
    }
}

fn colour(gravity: Gravity) -> &'static str {
    match gravity {
        Gravity::Fatal | Gravity::Bad => "red",
        Gravity::Suspicious => "amber",
    }
}

/// A line without what would steer a terminal: `ESC [ … letter` and other control characters.
fn clean(line: &str) -> String {
    let mut text = String::with_capacity(line.len());
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        if character == '\u{1b}' && characters.peek() == Some(&'[') {
            characters.next();
            while characters.next().is_some_and(|next| !('@'..='~').contains(&next)) {}
        } else {
            text.push(character);
        }
    }
    printable(text.trim_end_matches('\r'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_at_a_findings_offset_is_marked_and_the_cause_can_be_gone_to() {
        let log = b"booting\r\n\x1b[0;31mKernel panic\x1b[0m - not syncing\nend\n";
        let finding = Finding {
            pattern: "kernel-panic".into(),
            gravity: Gravity::Fatal,
            offset: 9,
            line: "Kernel panic - not syncing".into(),
        };
        let text = "panic".into();
        let cause = Cause { stage: None, text, console: Some(finding.clone()), tail: vec![] };
        let text = console(&[finding], Some(&cause), log).into_string();
        let mark = "<mark class=\"red\" id=\"cause\" title=\"kernel-panic\">Kernel panic - not syncing</mark>";
        assert!(text.contains(mark), "{text}");
        assert!(text.contains("booting\n") && text.contains("3 lines, 1 of them marked"), "{text}");
    }
}
