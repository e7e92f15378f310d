//! Text of strangers on its way to a terminal.

/// `text` as a part of one line: what comes from an image or a guest is no command to a terminal, and no line of its
/// own.
pub(crate) fn printable(text: &str) -> String {
    text.replace('\t', " ").replace(char::is_control, "\u{FFFD}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neither_a_command_nor_a_line_is_left() {
        let text = "a\x1b]0;title\x07b\r\n\tpassed\u{9b}2J\x7f ä";
        assert_eq!(
            printable(text),
            "a\u{FFFD}]0;title\u{FFFD}b\u{FFFD}\u{FFFD} passed\u{FFFD}2J\u{FFFD} ä"
        );
    }
}
