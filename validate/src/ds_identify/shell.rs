//! What a POSIX shell does to text, as far as `ds-identify` leans on it. Debian's `/bin/sh` is dash 0.5.12;
//! each function names the words of the shell that it stands for.

/// Fields of an unquoted variable with the usual `IFS`: what stands between spaces, tabs and line ends.
pub(super) fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([' ', '\t', '\n']).filter(|word| !word.is_empty())
}

/// Fields of an unquoted variable with `IFS` set to `mark` alone, which is no white space: two marks have an
/// empty field between them, and nothing follows a last mark.
pub(super) fn fields(text: &str, mark: char) -> Vec<&str> {
    let mut fields: Vec<&str> = text.split(mark).collect();
    if fields.last().is_some_and(|last| last.is_empty()) {
        fields.pop();
    }
    fields
}

/// `${text%%mark*}`: what stands before the first mark; all of it where there is none.
pub(super) fn before<'a>(text: &'a str, mark: &str) -> &'a str {
    text.split_once(mark).map_or(text, |(before, _)| before)
}

/// `${text#*mark}`: what stands behind the first mark; all of it where there is none.
pub(super) fn after<'a>(text: &'a str, mark: &str) -> &'a str {
    text.split_once(mark).map_or(text, |(_, after)| after)
}

/// `${text##*mark}`: what stands behind the last mark; all of it where there is none.
pub(super) fn after_last<'a>(text: &'a str, mark: &str) -> &'a str {
    text.rsplit_once(mark).map_or(text, |(_, after)| after)
}

/// `${text#mark}` and then `${text%mark}`: one mark less at either end.
pub(super) fn without_ends<'a>(text: &'a str, first: &str, last: &str) -> &'a str {
    let text = text.strip_prefix(first).unwrap_or(text);
    text.strip_suffix(last).unwrap_or(text)
}

/// Whether `[[:space:]]` of the C locale matches it.
pub(super) const fn is_space(letter: char) -> bool {
    matches!(letter, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

/// What a loop of `read line` sees: lines without white space at their ends. A backslash takes the special
/// meaning from the next character and joins lines, and a last line that does not end is never seen.
pub(super) fn lines_read(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut line: Vec<(char, bool)> = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\0' => {}
            '\n' => lines.push(assigned(&std::mem::take(&mut line))),
            '\\' => match letters.next() {
                Some('\n') | None => {}
                Some(next) => line.push((next, true)),
            },
            _ => line.push((letter, false)),
        }
    }
    lines
}

/// What `read` assigns of a line whose letters were escaped or not.
fn assigned(line: &[(char, bool)]) -> String {
    let blank = |(letter, escaped): &(char, bool)| matches!(letter, ' ' | '\t') && !escaped;
    let begin = line.iter().take_while(|letter| blank(letter)).count();
    let end = line.iter().rev().take_while(|letter| blank(letter)).count();
    let kept = line.get(begin..line.len() - end).unwrap_or_default();
    kept.iter().map(|(letter, _)| letter).collect()
}

/// What `read variable < file` assigns from a file's first line, which has to end; `None` where it does not,
/// and `read` fails.
pub(super) fn first_line_read(text: &str) -> Option<String> {
    lines_read(text).into_iter().next()
}

/// Quotes that a whole value stands in are taken off (`unquote` of the script).
pub(super) fn unquoted(text: &str) -> &str {
    let within = |quote: char| text.strip_prefix(quote)?.strip_suffix(quote);
    within('"').or_else(|| within('\'')).unwrap_or(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_and_words_are_split_as_a_shell_splits_them() {
        assert_eq!(words(" a \t b\n").collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(fields("a,,b,", ','), ["a", "", "b"]);
        assert_eq!(fields(",", ','), [""]);
        assert!(fields("", ',').is_empty());
    }

    #[test]
    fn lines_are_read_with_their_backslashes() {
        assert_eq!(lines_read("  a b \nc\\\nd\\ \\x \nnever"), ["a b", "cd x"]);
        assert_eq!(lines_read("\\ a\\ \n\n"), [" a ", ""]);
        assert_eq!(first_line_read("one"), None);
        assert_eq!(first_line_read("one\ntwo\n").as_deref(), Some("one"));
    }

    #[test]
    fn quotes_come_off_in_pairs() {
        assert_eq!(unquoted("\"a\""), "a");
        assert_eq!(unquoted("'a'"), "a");
        assert_eq!(unquoted("\"a'"), "\"a'");
        assert_eq!(unquoted("\""), "\"");
    }
}
