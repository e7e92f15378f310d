//! Splits the console's bytes into lines as they come and looks each line up in the pattern table.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Reached;
use super::patterns::{Gravity, patterns};

/// Lines kept for [`Scanner::tail`].
const TAIL: usize = 60;
/// A longer line is cut here: binary noise must not fill the memory.
const LONGEST_LINE: usize = 4096;
/// No more findings than this are kept; the first ones tell the cause. What ends the wait is kept
/// beyond it: a guest that has warned two hundred times may still panic.
const MOST_FINDINGS: usize = 200;

/// A line of the console that matched a pattern.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Finding {
    /// The pattern's id.
    pub pattern: String,
    /// How grave it is.
    pub gravity: Gravity,
    /// Offset of the line's first byte in the console's log.
    pub offset: u64,
    /// The line, without terminal control sequences.
    pub line: String,
}

/// Takes the console in pieces of any size.
#[derive(Debug, Default)]
pub struct Scanner {
    offset: u64,
    line_start: u64,
    line: Vec<u8>,
    reported: Vec<&'static str>,
    findings: Vec<Finding>,
    tail: VecDeque<String>,
    reached: Reached,
}

impl Scanner {
    /// Takes the next bytes. An unfinished line is looked at too, since a prompt has no line end;
    /// each pattern is reported once a line.
    pub fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.offset += 1;
            if matches!(byte, b'\n' | b'\r') {
                self.end_line();
            } else if self.line.len() < LONGEST_LINE {
                self.line.push(*byte);
            }
        }
        if !bytes.is_empty() {
            self.look();
        }
    }

    fn end_line(&mut self) {
        self.look();
        let text = plain(&self.line);
        if !text.trim().is_empty() {
            if self.tail.len() == TAIL {
                self.tail.pop_front();
            }
            self.tail.push_back(text);
        }
        self.line.clear();
        self.reported.clear();
        self.line_start = self.offset;
    }

    fn look(&mut self) {
        let text = plain(&self.line);
        self.reached.anything |= !text.trim().is_empty();
        self.reached.kernel |= text.contains("Linux version ");
        self.reached.manager |= text.contains("systemd[1]: ") || text.contains("Welcome to ");
        for pattern in patterns().filter(|pattern| pattern.matches(&text)) {
            let full = self.findings.len() >= MOST_FINDINGS && pattern.gravity != Gravity::Fatal;
            if self.reported.contains(&pattern.id) || full {
                continue;
            }
            self.reported.push(pattern.id);
            let (pattern, gravity, line) = (pattern.id.to_owned(), pattern.gravity, text.clone());
            self.findings.push(Finding { pattern, gravity, offset: self.line_start, line });
        }
        // A finding made on half a line gets the whole line once it is known.
        let of_this_line = |finding: &&mut Finding| finding.offset == self.line_start;
        for finding in self.findings.iter_mut().rev().take_while(of_this_line) {
            finding.line.clone_from(&text);
        }
    }

    /// Bytes taken so far.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// What was found, in order.
    #[must_use]
    pub fn findings(&self) -> &[Finding] {
        &self.findings
    }

    /// How far the boot has come.
    #[must_use]
    pub fn reached(&self) -> Reached {
        self.reached
    }

    /// The last `count` lines that are not empty.
    #[must_use]
    pub fn tail(&self, count: usize) -> Vec<String> {
        let unfinished = plain(&self.line);
        let mut lines: Vec<String> = self.tail.iter().cloned().collect();
        if !unfinished.trim().is_empty() {
            lines.push(unfinished);
        }
        lines.split_off(lines.len().saturating_sub(count))
    }
}

/// The text of a line without ANSI control sequences (ECMA-48: ESC `[` parameters, final byte) and
/// without other control characters.
fn plain(line: &[u8]) -> String {
    let text = String::from_utf8_lossy(line);
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\u{1b}' {
            out.extend((!c.is_control() || c == '\t').then_some(c));
        } else if chars.next_if_eq(&'[').is_some() {
            while chars.next().is_some_and(|c| !('@'..='~').contains(&c)) {}
        } else {
            chars.next();
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scan(pieces: &[&[u8]]) -> Vec<Finding> {
        let mut scanner = Scanner::default();
        pieces.iter().for_each(|piece| scanner.push(piece));
        scanner.findings().to_vec()
    }

    #[test]
    fn the_offset_is_that_of_the_lines_first_byte() {
        let log =
            b"Booting\r\n[    1.2] Kernel panic - not syncing: VFS: Unable to mount root fs\r\nx";
        let found = scan(&[log]);
        assert_eq!(found[0].offset, 9);
        assert!(found.iter().all(|finding| finding.line.starts_with("[    1.2] Kernel panic")));
    }

    #[test]
    fn colours_do_not_hide_a_failed_unit() {
        let found = scan(&[
            b"[\x1b[0;1;31mFAILED\x1b[0m] Failed to start \x1b[0;1;39mssh.service\x1b[0m.\r\n",
        ]);
        assert_eq!(found[0].line, "[FAILED] Failed to start ssh.service.");
        assert_eq!(found[0].pattern, "unit-failed");
    }

    #[test]
    fn a_prompt_without_line_end_is_seen() {
        let found = scan(&[b"Entering rescue mode...\r\ngrub resc", b"ue> "]);
        assert_eq!(found.last().map(|finding| finding.pattern.as_str()), Some("grub-rescue"));
        assert_eq!(found.last().map(|finding| finding.line.as_str()), Some("grub rescue> "));
    }

    #[test]
    fn a_panic_after_hundreds_of_warnings_is_kept() {
        let mut log = "x segfault at 0\n".repeat(MOST_FINDINGS + 50);
        log.push_str("Kernel panic - not syncing: x\n");
        let found = scan(&[log.as_bytes()]);
        assert_eq!(found.len(), MOST_FINDINGS + 1);
        assert_eq!(found.last().map(|finding| finding.gravity), Some(Gravity::Fatal));
    }

    #[test]
    fn progress_marks_are_seen() {
        let mut scanner = Scanner::default();
        assert_eq!(scanner.reached(), Reached::default());
        scanner.push(b"[    0.000000] Linux version 6.1.0-56-cloud-amd64\n");
        assert!(scanner.reached().kernel && !scanner.reached().manager);
        scanner.push(b"[    3.1] systemd[1]: Detected virtualization qemu.\n");
        assert!(scanner.reached().manager);
    }

    proptest! {
        #[test]
        fn any_bytes_are_taken_and_the_cut_does_not_matter(log: Vec<u8>, cut: prop::sample::Index) {
            let mut text = log.clone();
            text.extend_from_slice(b"\nKernel panic - not syncing: x\n");
            let at = cut.index(text.len());
            let (head, tail) = text.split_at(at);
            prop_assert_eq!(scan(&[&text]), scan(&[head, tail]));
        }
    }
}
