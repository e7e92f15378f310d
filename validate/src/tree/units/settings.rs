//! The form of unit files (systemd.syntax(7)).

/// One line of a unit file or drop-in that sets something.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// The section that it stands in, without brackets.
    pub section: String,
    /// What is set.
    pub key: String,
    /// To what; empty where what was set before is cleared.
    pub value: String,
    /// The file that sets it.
    pub path: String,
    /// The line, from 1 on, on which it begins.
    pub line: usize,
}

impl Setting {
    /// Whether it sets `key` in `section`.
    #[must_use]
    pub fn is(&self, section: &str, key: &str) -> bool {
        self.section == section && self.key == key
    }

    /// Where it stands: path and line.
    #[must_use]
    pub fn place(&self) -> String {
        format!("{}:{}", self.path, self.line)
    }
}

/// What `text`, that of the file at `path`, sets. A line that ends in a backslash goes on in the next; comments
/// between the two are left out.
#[must_use]
pub fn parse(text: &str, path: &str) -> Vec<Setting> {
    let mut settings = Vec::new();
    let mut section = String::new();
    let mut open: Option<(usize, String)> = None;
    for (at, line) in text.lines().enumerate() {
        let trimmed = line.trim();
        if trimmed.starts_with(['#', ';']) || (trimmed.is_empty() && open.is_none()) {
            continue;
        }
        let (first, mut whole) = open.take().unwrap_or((at + 1, String::new()));
        if let Some(part) = trimmed.strip_suffix('\\') {
            whole.push_str(part);
            whole.push(' ');
            open = Some((first, whole));
            continue;
        }
        whole.push_str(trimmed);
        take(&whole, first, path, &mut section, &mut settings);
    }
    if let Some((first, whole)) = open {
        take(&whole, first, path, &mut section, &mut settings);
    }
    settings
}

fn take(whole: &str, line: usize, path: &str, section: &mut String, settings: &mut Vec<Setting>) {
    if let Some(name) = whole.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        name.clone_into(section);
    } else if let Some((key, value)) = whole.split_once('=') {
        settings.push(Setting {
            section: section.clone(),
            key: key.trim().to_owned(),
            value: value.trim().to_owned(),
            path: path.to_owned(),
            line,
        });
    }
}

/// The variables in the value of `Environment=`: words between blanks, which quotes hold together.
#[must_use]
pub fn assignments(value: &str) -> Vec<(String, String)> {
    let mut words = vec![String::new()];
    let mut quote = None;
    let mut escaped = false;
    for char in value.chars() {
        let Some(word) = words.last_mut() else { break };
        if escaped {
            word.push(char);
            escaped = false;
        } else if char == '\\' {
            escaped = true;
        } else if quote == Some(char) {
            quote = None;
        } else if quote.is_none() && (char == '"' || char == '\'') {
            quote = Some(char);
        } else if quote.is_none() && char.is_whitespace() {
            words.push(String::new());
        } else {
            word.push(char);
        }
    }
    let pair = |word: &String| {
        word.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
    };
    words.iter().filter_map(pair).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_go_on_after_a_backslash_and_comments_between_are_left_out() {
        let text = "# head\n[Unit]\nAfter = a \\\n; comment\n b\n\n[Service]\nExecStart=\nno assignment\nX=\\\n";
        let settings = parse(text, "/u");
        let told: Vec<(&str, &str, &str, usize)> =
            settings.iter().map(|s| (&*s.section, &*s.key, &*s.value, s.line)).collect();
        assert_eq!(told[0], ("Unit", "After", "a  b", 3));
        assert_eq!(told[1], ("Service", "ExecStart", "", 8));
        assert_eq!(told[2], ("Service", "X", "", 10));
        assert_eq!(settings[0].place(), "/u:3");
    }

    #[test]
    fn quotes_hold_a_variable_together() {
        let pairs = |value: &str| {
            assignments(value).into_iter().map(|(a, b)| format!("{a}|{b}")).collect::<Vec<_>>()
        };
        assert_eq!(pairs(r#"A=1 "B=two words" 'C=x'"#), ["A|1", "B|two words", "C|x"]);
        assert_eq!(pairs(r#"A="x y" B=a\ b none"#), ["A|x y", "B|a b"]);
        assert!(pairs("").is_empty());
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read(text in "[\\[\\]a-z=\\\\#;\n \"']{0,80}") {
            for setting in parse(&text, "/u") {
                proptest::prop_assert!(setting.line >= 1 && setting.line <= text.lines().count());
                proptest::prop_assert!(assignments(&setting.value).len() <= setting.value.len());
            }
        }
    }
}
