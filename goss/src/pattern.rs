//! Regular expressions as Go reads them, for the engine of this program.
//!
//! Go's engine and that of the crate `regex` share RE2's syntax but for a few things, which are written anew here:
//!
//! - a `{` that begins no repetition means itself, as in `${HOME}` and `{"mirrors": {`;
//! - `\Q…\E` takes the text between them as it is;
//! - `\d`, `\s`, `\w`, `\b` and `\B` know ASCII alone;
//! - inside a class `[`, `&`, `~` and a `-` that makes no range mean themselves;
//! - any sign of ASCII may stand behind `\`, `\0` and `\012` are octal, and `\p{^Greek}` is `\P{Greek}`.
//!
//! Source: Go's package regexp/syntax, with the flags of `regexp.Compile`.

use regex::{Regex, RegexBuilder};

/// Compiled expressions above this many bytes are refused.
const LARGEST: usize = 1 << 22;
/// What may stand between `[:` and `:]`, also behind `^`.
const NAMED_CLASSES: [&str; 14] = [
    "alnum", "alpha", "ascii", "blank", "cntrl", "digit", "graph", "lower", "print", "punct",
    "space", "upper", "word", "xdigit",
];

/// Compiles an expression written for Go.
///
/// # Errors
/// The engine's words, where it is no such expression.
pub(crate) fn compile(expression: &str) -> Result<Regex, String> {
    let refused = |why: &str| format!("`{expression}` is no regular expression: {why}");
    let translated = Translation::of(expression).map_err(|why| refused(&why))?;
    RegexBuilder::new(&translated).size_limit(LARGEST).build().map_err(|error| {
        let text = error.to_string();
        // The first lines draw the translated expression, which the reader did not write.
        refused(text.lines().last().unwrap_or_default().trim_start_matches("error: "))
    })
}

/// An expression on its way into the syntax of the crate `regex`. What neither engine reads is passed on, for this one to
/// refuse.
struct Translation<'e> {
    /// What is still to be read.
    rest: &'e str,
    out: String,
}

impl<'e> Translation<'e> {
    fn of(expression: &'e str) -> Result<String, String> {
        let out = String::with_capacity(expression.len() + 8);
        let mut translation = Self { rest: expression, out };
        while let Some(c) = translation.rest.chars().next() {
            match c {
                '\\' => translation.escape(),
                '[' => translation.class()?,
                '{' => translation.brace(),
                c => translation.copy(c.len_utf8()),
            }
        }
        Ok(translation.out)
    }

    /// Takes the next `length` bytes as they are.
    fn copy(&mut self, length: usize) {
        let (taken, rest) = self.rest.split_at(length.min(self.rest.len()));
        self.out.push_str(taken);
        self.rest = rest;
    }

    /// Takes `text` in place of the next `length` bytes.
    fn instead(&mut self, length: usize, text: &str) {
        self.out.push_str(text);
        self.rest = &self.rest[length..];
    }

    fn brace(&mut self) {
        match repetition(self.rest) {
            Some(length) => self.copy(length),
            None => self.instead(1, "\\{"),
        }
    }

    /// An escape outside a class.
    fn escape(&mut self) {
        if let Some(quoted) = self.rest.strip_prefix("\\Q") {
            let (text, after) = quoted.split_once("\\E").unwrap_or((quoted, ""));
            self.out.push_str(&regex::escape(text));
            self.rest = after;
        } else if let Some(members) = members(self.rest) {
            self.instead(2, &format!("[{members}]"));
        } else if self.rest.starts_with("\\b") {
            self.instead(2, "(?-u:\\b)");
        } else if self.rest.starts_with("\\B") {
            self.instead(2, "(?-u:\\B)");
        } else if self.rest.starts_with("\\E") {
            // An end without a beginning means nothing.
            self.instead(2, "");
        } else if !self.property() {
            self.character();
        }
    }

    /// `[…]`, with what Go takes for its members: named classes, `\d` and the like, characters and ranges of them.
    fn class(&mut self) -> Result<(), String> {
        self.copy(if self.rest.starts_with("[^") { 2 } else { 1 });
        // As the first character `]` means itself.
        let mut first = true;
        while !self.rest.is_empty() {
            if self.rest.starts_with(']') && !first {
                self.copy(1);
                break;
            }
            first = false;
            if let Some((name, _)) = self.rest.strip_prefix("[:").and_then(|s| s.split_once(":]")) {
                if !NAMED_CLASSES.contains(&name.strip_prefix('^').unwrap_or(name)) {
                    return Err(format!("there is no class `[:{name}:]`"));
                }
                self.copy(name.len() + 4);
            } else if let Some(members) = members(self.rest) {
                self.instead(2, members);
            } else if !self.property() {
                self.character();
                let mut next = self.rest.chars();
                if next.next() == Some('-') && next.next().is_some_and(|c| c != ']') {
                    self.copy(1);
                    self.character();
                }
            }
        }
        Ok(())
    }

    /// A class of Unicode, `\pN` or `\p{Greek}`; whether there was one.
    fn property(&mut self) -> bool {
        let Some(behind) = self.rest.strip_prefix("\\p").or(self.rest.strip_prefix("\\P")) else {
            return false;
        };
        let Some((name, _)) = behind.strip_prefix('{').and_then(|name| name.split_once('}')) else {
            self.copy(2 + behind.chars().next().map_or(0, char::len_utf8));
            return true;
        };
        let negated = self.rest.starts_with("\\P") != name.starts_with('^');
        let sign = if negated { 'P' } else { 'p' };
        let plain = name.strip_prefix('^').unwrap_or(name);
        self.instead(4 + name.len(), &format!("\\{sign}{{{plain}}}"));
        true
    }

    /// One character, written as itself (in a class, where any sign but `\` may be) or as an escape.
    fn character(&mut self) {
        let Some(c) = self.rest.chars().next() else { return };
        let behind = self.rest.strip_prefix('\\');
        match (behind, behind.and_then(|behind| behind.chars().next())) {
            (None, _) => self.instead(c.len_utf8(), &regex::escape(&c.to_string())),
            (Some(behind), Some('0'..='7')) => match octal(behind) {
                Some((code, digits)) => self.instead(1 + digits, &format!("\\x{{{code:X}}}")),
                None => self.copy(2),
            },
            (Some(behind), Some('x')) => self.copy(match behind.strip_prefix("x{") {
                Some(code) => 3 + code.find('}').map_or(code.len(), |end| end + 1),
                None => 2 + behind[1..].bytes().take(2).take_while(u8::is_ascii_hexdigit).count(),
            }),
            (Some(_), Some(c)) if c.is_ascii() && !c.is_ascii_alphanumeric() => {
                self.instead(2, &regex::escape(&c.to_string()));
            }
            (Some(_), escaped) => self.copy(1 + escaped.map_or(0, char::len_utf8)),
        }
    }
}

/// The length of the repetition that `text` begins with: `{n}`, `{n,}` or `{n,m}`, numbers without a leading zero.
fn repetition(text: &str) -> Option<usize> {
    let (between, _) = text.strip_prefix('{')?.split_once('}')?;
    let (least, most) = between.split_once(',').unwrap_or((between, ""));
    let number = |digits: &str| {
        let plain = digits.len() == 1 || !digits.starts_with('0');
        plain && !digits.is_empty() && digits.bytes().all(|digit| digit.is_ascii_digit())
    };
    (number(least) && (most.is_empty() || number(most))).then_some(between.len() + 2)
}

/// What stands between brackets for the class that `text` begins with.
fn members(text: &str) -> Option<&'static str> {
    let mut chars = text.chars();
    if chars.next() != Some('\\') {
        return None;
    }
    Some(match chars.next()? {
        'd' => "0-9",
        's' => "\\t\\n\\x0C\\r ",
        'w' => "0-9A-Za-z_",
        'D' => "[^0-9]",
        'S' => "[^\\t\\n\\x0C\\r ]",
        'W' => "[^0-9A-Za-z_]",
        _ => return None,
    })
}

/// The code that up to three octal digits make, and how many they are. One digit alone is a back reference, which no
/// engine of this kind has, but for `0`.
fn octal(text: &str) -> Option<(u32, usize)> {
    let digits = text.bytes().take(3).take_while(|digit| (b'0'..=b'7').contains(digit)).count();
    let code = u32::from_str_radix(&text[..digits], 8).ok()?;
    (digits > 1 || code == 0).then_some((code, digits))
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
        assert!(matches("^[[:word:]]+$", "a_1") && matches("^[[:^alpha:]]$", "1"));
        assert!(matches(r"\<h1\>", "<h1>") && matches(r"a\/b", "a/b"));
    }

    #[test]
    fn a_brace_that_repeats_nothing_means_itself() {
        for (expression, fits, not) in [
            (r"^export FOO=\${BAR}$", "export FOO=${BAR}", "export FOO=$BAR"),
            (r#""mirrors": {"#, r#"  "mirrors": {"#, r#""mirrors": ["#),
            ("{", "a{", "a"),
            ("^a{,5}b$", "a{,5}b", "aab"),
            ("^a{$", "a{", "a"),
            ("^a{}$", "a{}", "a"),
            ("^a{x}{2}$", "a{x}}", "a{x}"),
            ("^a{2$", "a{2", "aa"),
            ("^a{02}$", "a{02}", "aa"),
            ("^a{1, 2}$", "a{1, 2}", "aa"),
            ("^a{2,3,4}$", "a{2,3,4}", "aa"),
            (r"^a\b{start}$", "a{start}", "a"),
            (r"^({|x)}$", "{}", "}"),
            ("^[{]{2}$", "{{", "{"),
            (r"^\x{7B}{2}$", "{{", "{"),
            (r"^\Q{\E{2}$", "{{", "{"),
            ("^}+$", "}}", "{"),
        ] {
            assert!(matches(expression, fits), "{expression}: {fits}");
            assert!(!matches(expression, not), "{expression}: {not}");
        }
        for (expression, fits, not) in
            [("^a{2}$", "aa", "a"), ("^a{2,}$", "aaa", "a"), ("^a{0,3}?$", "", "aaaa")]
        {
            assert!(matches(expression, fits) && !matches(expression, not), "{expression}");
        }
        for expression in ["{2}", "({2})", "a|{2}", "a{2,1}"] {
            assert!(compile(expression).is_err(), "{expression}");
        }
    }

    #[test]
    fn a_dash_that_makes_no_range_means_itself() {
        for (expression, fits, not) in [
            (r"^[\w-.]$", "-", "+"),
            ("^[+--]$", ",", "."),
            ("^[--0]$", ".", "1"),
            ("^[a-]$", "-", "b"),
            ("^[^-a]$", "b", "-"),
            ("^[a-c-e]$", "-", "d"),
        ] {
            assert!(matches(expression, fits), "{expression}: {fits}");
            assert!(!matches(expression, not), "{expression}: {not}");
        }
    }

    #[test]
    fn escapes_are_those_of_go() {
        for sign in (0..0x80).map(char::from).filter(|c| !c.is_ascii_alphanumeric()) {
            assert!(matches(&format!(r"^\{sign}$"), &sign.to_string()), "{sign:?}");
            assert!(matches(&format!(r"^[\{sign}]$"), &sign.to_string()), "{sign:?}");
        }
        assert!(matches(r"^\101[\102\0]$", "AB") && matches(r"^\0$", "\0"));
        assert!(matches(r"^[\x41-\x{43}]\x44$", "BD") && !matches(r"^[\x41-\x{43}]$", "D"));
        assert!(matches(r"^\pN\p{Greek}$", "1α") && matches(r"^[\pN\p{Greek}]+$", "1α"));
        assert!(matches(r"^\p{^Greek}$", "a") && !matches(r"^[\p{^Greek}]$", "α"));
        assert!(matches(r"^\P{^Greek}$", "α"));
        assert!(matches(r"a\Bb", "ab") && !matches(r"ä\Bb", "äb") && matches(r"ä\Bä", "ää"));
        assert!(matches(r"\Aa\z", "a") && matches("(?P<one>a)(?<two>b)", "ab"));
        for expression in
            [r"\1", r"\8", r"\C", r"\q", r"\Z", r"[\Q]", r"a\", r"[a-\d]", "[[:no:]]", "[a"]
        {
            assert!(compile(expression).is_err(), "{expression}");
        }
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
