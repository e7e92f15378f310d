//! Paragraphs of `Name: value` lines, the syntax of all of Debian's control data (deb822(5)).

/// The paragraphs of a text, which empty lines part.
pub(super) fn paragraphs(text: &str) -> impl Iterator<Item = &str> {
    text.split("\n\n").map(|paragraph| paragraph.trim_matches('\n')).filter(|p| !p.is_empty())
}

/// The fields of a paragraph: name and value, without the blanks around the value. Continuation
/// lines stay in the value as they are. Comments and lines that are no field are left out.
pub(super) fn fields(paragraph: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = paragraph;
    std::iter::from_fn(move || {
        while !rest.is_empty() {
            let mut end = line_end(rest, 0);
            while rest.as_bytes().get(end).is_some_and(|byte| matches!(byte, b' ' | b'\t')) {
                end = line_end(rest, end);
            }
            let (field, next) = rest.split_at(end);
            rest = next;
            if let Some((name, value)) = field.split_once(':').filter(|_| !field.starts_with('#')) {
                return Some((name, value.trim()));
            }
        }
        None
    })
}

/// The value of one field, whatever the case of its name.
pub(super) fn field<'a>(paragraph: &'a str, name: &str) -> Option<&'a str> {
    fields(paragraph).find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
}

/// Where the line that `start` is in ends, its line feed included.
fn line_end(text: &str, start: usize) -> usize {
    let found = text.get(start..).and_then(|rest| rest.find('\n'));
    found.map_or(text.len(), |length| start + length + 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn continuation_lines_belong_to_their_field() {
        let text = "A: 1\nB:\n x y\n\tz\n# no: field\nC: 3\n\n\nA: 2\n";
        let all: Vec<Vec<_>> = paragraphs(text).map(|p| fields(p).collect()).collect();
        assert_eq!(all, [vec![("A", "1"), ("B", "x y\n\tz"), ("C", "3")], vec![("A", "2")]]);
        assert_eq!(field("Suite: a\nCodename: b", "codename"), Some("b"));
    }

    proptest! {
        #[test]
        fn any_text_is_read_to_its_end(text in "[a-c:# \t\n\u{e4}]{0,60}") {
            let values: usize =
                paragraphs(&text).flat_map(fields).map(|(name, value)| name.len() + value.len()).sum();
            prop_assert!(values <= text.len());
        }
    }
}
