use nodekiln_words::{Failure, Result};

/// One paragraph of fields in the format of deb-control(5), section "syntax".
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Stanza {
    fields: Vec<(String, String)>,
}

impl Stanza {
    /// The value of a field, whose name is compared without regard to case. Continuation lines are
    /// joined by `\n`, without the blank in front.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.fields
            .iter()
            .find(|(field, _)| field.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

/// Splits a text into its paragraphs. `path` names the text in failures.
pub(crate) fn stanzas(text: &str, path: &str) -> Result<Vec<Stanza>> {
    let mut all = Vec::new();
    let mut current = Stanza::default();
    for (index, line) in text.lines().enumerate() {
        if line.trim().is_empty() {
            if !current.fields.is_empty() {
                all.push(std::mem::take(&mut current));
            }
        } else if !line.starts_with('#') {
            take_line(&mut current, line).ok_or_else(|| {
                Failure::input(format!("{path}: line {} is no field: `{line}`", index + 1))
            })?;
        }
    }
    if !current.fields.is_empty() {
        all.push(current);
    }
    Ok(all)
}

/// Takes one line that is neither blank nor a comment; `None` where it is not a field.
fn take_line(stanza: &mut Stanza, line: &str) -> Option<()> {
    if let Some(continued) = line.strip_prefix([' ', '\t']) {
        let (_, value) = stanza.fields.last_mut()?;
        value.push('\n');
        value.push_str(continued.trim_end());
        return Some(());
    }
    let (name, value) = line.split_once(':')?;
    if name.is_empty() || name.contains(char::is_whitespace) {
        return None;
    }
    stanza.fields.push((name.to_owned(), value.trim().to_owned()));
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_continuations_and_paragraphs_are_told_apart() {
        let text = "A: 1\nB:\n x\n  y\n\n\n# note\nA: 2\n";
        let all = stanzas(text, "status").unwrap();
        assert_eq!(all.len(), 2);
        assert_eq!(all[0].get("b"), Some("\nx\n y"));
        assert_eq!(all[1].get("A"), Some("2"));
        assert_eq!(all[1].get("B"), None);
    }

    #[test]
    fn a_line_without_a_colon_is_refused_with_its_number() {
        let failure = stanzas("A: 1\nnonsense\n", "status").unwrap_err();
        assert_eq!(failure.to_string(), "status: line 2 is no field: `nonsense`");
        assert!(stanzas(" leading continuation\n", "status").is_err());
    }
}
