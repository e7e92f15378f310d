//! Regular expressions as Go reads them, for the engine of this program.
//!
//! Go's engine and that of the crate `regex` share RE2's syntax but for a few things: `\Q…\E` takes the text between
//! them as it is; `\d`, `\s`, `\w` and `\b` know ASCII alone; and inside a class `[`, `&` and `~` mean themselves.

use regex::{Regex, RegexBuilder};

/// Compiled expressions above this many bytes are refused.
const LARGEST: usize = 1 << 22;

/// Compiles an expression written for Go.
///
/// # Errors
/// The engine's words, where it is no such expression.
pub(crate) fn compile(expression: &str) -> Result<Regex, String> {
    RegexBuilder::new(&translate(expression)).size_limit(LARGEST).build().map_err(|error| {
        let text = error.to_string();
        // The first lines draw the translated expression, which the reader did not write.
        let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
        format!("`{expression}` is no regular expression: {last}")
    })
}

/// The same expression in the syntax of the crate `regex`.
fn translate(expression: &str) -> String {
    let mut out = String::with_capacity(expression.len() + 8);
    let mut rest = expression;
    // Whether inside `[…]`, and whether at its first character, where `]` means itself.
    let (mut class, mut first) = (false, false);
    while let Some(c) = rest.chars().next() {
        let at_first = std::mem::take(&mut first);
        if let Some(quoted) = rest.strip_prefix("\\Q").filter(|_| !class) {
            let (text, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            out.push_str(&regex::escape(text));
            rest = after;
            continue;
        }
        if c == '\\' {
            let escaped = rest[1..].chars().next();
            out.push_str(&match (escaped, class) {
                (Some('d'), true) => "0-9".to_owned(),
                (Some('d'), false) => "[0-9]".to_owned(),
                (Some('s'), true) => "\\t\\n\\x0C\\r ".to_owned(),
                (Some('s'), false) => "[\\t\\n\\x0C\\r ]".to_owned(),
                (Some('w'), true) => "0-9A-Za-z_".to_owned(),
                (Some('w'), false) => "[0-9A-Za-z_]".to_owned(),
                (Some('D'), _) => "[^0-9]".to_owned(),
                (Some('S'), _) => "[^\\t\\n\\x0C\\r ]".to_owned(),
                (Some('W'), _) => "[^0-9A-Za-z_]".to_owned(),
                (Some('b'), false) => "(?-u:\\b)".to_owned(),
                // An end without a beginning means nothing to Go.
                (Some('E'), false) => String::new(),
                // Escapes that one engine knows and the other does not, and which mean the character itself.
                (
                    Some(
                        c @ ('<' | '>' | '"' | '\'' | '`' | '@' | ',' | ';' | ':' | '=' | '%' | '!'
                        | '/' | '_'),
                    ),
                    _,
                ) => regex::escape(&c.to_string()),
                (Some(c), _) => format!("\\{c}"),
                (None, _) => "\\".to_owned(),
            });
            rest = &rest[1 + escaped.map_or(0, char::len_utf8)..];
            continue;
        }
        match (c, class) {
            ('[', false) => {
                class = true;
                first = true;
                out.push('[');
                if let Some(after) = rest.strip_prefix("[^") {
                    out.push('^');
                    rest = after;
                    continue;
                }
            }
            (']', true) if at_first => out.push_str("\\]"),
            (']', true) => {
                class = false;
                out.push(']');
            }
            ('[', true) => match rest.strip_prefix("[:").and_then(|named| named.split_once(":]")) {
                Some((name, after)) => {
                    out.push_str(&format!("[:{name}:]"));
                    rest = after;
                    continue;
                }
                None => out.push_str("\\["),
            },
            ('&' | '~', true) => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
        rest = &rest[c.len_utf8()..];
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(expression: &str, text: &str) -> bool {
        compile(expression).unwrap().is_match(text)
    }

    #[test]
    fn quoted_stretches_mean_themselves() {
        assert!(matches(r"^\Q1.20.2-00+x\E$", "1.20.2-00+x"));
        assert!(!matches(r"^\Q1.20.2\E$", "1a20b2"));
        assert!(matches(r"^\Qa.b", "a.b") && !matches(r"^\Qa.b", "axb"));
        assert!(matches(r"^\Q\E$", ""));
        assert!(matches(r"a\E.c", "abc"));
    }

    #[test]
    fn classes_know_ascii_alone() {
        assert!(matches(r"^\d+$", "42") && !matches(r"^\d+$", "٤٢"));
        assert!(matches(r"^[\w.]+$", "a_1.b") && !matches(r"^\w$", "ä"));
        assert!(matches(r"^[\D]$", "x") && !matches(r"^[\D]$", "1"));
        assert!(matches(r"^\s$", "\t") && !matches(r"^\s$", "\u{a0}"));
    }

    #[test]
    fn signs_in_a_class_mean_themselves() {
        assert!(matches(r"^[[]$", "[") && matches(r"^[]a]+$", "]a") && matches(r"^[^]]$", "x"));
        assert!(matches(r"^[a&&b]+$", "a&b") && matches("^[[:alpha:]~]+$", "a~"));
        assert!(matches(r"\<h1\>", "<h1>") && matches(r"a\/b", "a/b"));
    }

    #[test]
    fn what_is_no_expression_is_told_with_its_own_text() {
        let text = compile("a(").unwrap_err();
        assert!(
            text.starts_with("`a(` is no regular expression: ") && text.contains("unclosed"),
            "{text}"
        );
        assert!(compile("a{1001}{1001}{1001}").is_err());
    }
}
