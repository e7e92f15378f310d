//! Versions against constraints, as the two Go libraries see them that goss uses.
//!
//! The matcher `semver-constraint` follows blang's library: versions have three numbers, ranges are joined by a space
//! (and) and `||` (or). The template function `semverCompare` follows Masterminds': also `v1` and `1.2` are
//! versions, commas join too, there are `~`, `^` and hyphens, and a version with a pre-release fits only a constraint
//! that has one.

use semver::Version;

/// Which library's rules hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rules {
    /// github.com/blang/semver, of `semver-constraint`.
    Blang,
    /// github.com/Masterminds/semver, of `semverCompare`.
    Masterminds,
}

/// Alternatives of comparisons that must all hold.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Constraint {
    rules: Rules,
    alternatives: Vec<Vec<Comparison>>,
}

/// `from <= version < to`, or the opposite of that, or a plain comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Comparison {
    sign: Sign,
    bound: Version,
    /// Where the written version leaves numbers out: the first version that is not meant any more.
    beyond: Option<Version>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sign {
    Equal,
    Unequal,
    Less,
    AtMost,
    More,
    AtLeast,
}

/// A version as `rules` read it.
pub(crate) fn version(text: &str, rules: Rules) -> Result<Version, String> {
    let read = match rules {
        Rules::Blang => Version::parse(text).ok(),
        Rules::Masterminds => {
            partial(text, rules).ok().filter(|(_, given)| *given > 0).map(|(v, _)| v)
        }
    };
    read.ok_or_else(|| format!("`{text}` is no version such as 1.20.2"))
}

impl Constraint {
    pub(crate) fn read(text: &str, rules: Rules) -> Result<Self, String> {
        let alternatives =
            text.split("||").map(|part| all_of(part, rules)).collect::<Result<_, _>>();
        let alternatives =
            alternatives.map_err(|error| format!("`{text}` is no version constraint: {error}"))?;
        Ok(Self { rules, alternatives })
    }

    pub(crate) fn holds(&self, version: &Version) -> bool {
        self.alternatives.iter().any(|all| all.iter().all(|one| one.holds(version, self.rules)))
    }
}

impl Comparison {
    fn holds(&self, version: &Version, rules: Rules) -> bool {
        let hidden = rules == Rules::Masterminds
            && !version.pre.is_empty()
            && self.bound.pre.is_empty()
            && self.sign != Sign::Unequal;
        if hidden {
            return false;
        }
        let order = version.cmp_precedence(&self.bound);
        let within = match &self.beyond {
            Some(beyond) => order.is_ge() && version.cmp_precedence(beyond).is_lt(),
            None => order.is_eq(),
        };
        match self.sign {
            Sign::Equal => within,
            Sign::Unequal => !within,
            Sign::Less => order.is_lt(),
            Sign::AtMost => order.is_lt() || within,
            Sign::More => order.is_gt() && !within,
            Sign::AtLeast => order.is_ge(),
        }
    }
}

/// Comparisons joined by spaces and, with Masterminds' rules, commas.
fn all_of(text: &str, rules: Rules) -> Result<Vec<Comparison>, String> {
    let joined = if rules == Rules::Masterminds { text.replace(',', " ") } else { text.to_owned() };
    let mut words = joined.split_whitespace().peekable();
    let mut all = Vec::new();
    while let Some(word) = words.next() {
        let digits = word.find(|c: char| !"<>=!~^".contains(c)).unwrap_or(word.len());
        let (sign, mut number) = word.split_at(digits);
        // A space may stand between sign and version.
        if number.is_empty() {
            number = words.next().ok_or_else(|| format!("no version follows `{sign}`"))?;
        }
        if words.peek() == Some(&"-") && rules == Rules::Masterminds && sign.is_empty() {
            words.next();
            let high = words.next().ok_or("no version follows `-`")?;
            all.push(comparison(">=", number, rules)?);
            all.push(comparison("<=", high, rules)?);
            continue;
        }
        all.push(comparison(sign, number, rules)?);
    }
    if all.is_empty() { Err("it is empty".to_owned()) } else { Ok(all) }
}

fn comparison(sign: &str, number: &str, rules: Rules) -> Result<Comparison, String> {
    let (bound, given) = partial(number, rules)?;
    let caret = || match (bound.major, bound.minor, given) {
        (1.., _, _) | (0, _, 0 | 1) => next(&bound, 1),
        (0, 1.., _) | (0, 0, 2) => next(&bound, 2),
        (0, 0, _) => next(&bound, 3),
    };
    let part = (given < 3).then(|| next(&bound, given));
    let (sign, beyond) = match (sign, rules) {
        ("" | "=", _) | ("==", Rules::Blang) => (Sign::Equal, part),
        ("!=", _) | ("!", Rules::Blang) => (Sign::Unequal, part),
        ("<", _) => (Sign::Less, part),
        ("<=" | "=<", _) => (Sign::AtMost, part),
        (">", _) => (Sign::More, part),
        (">=" | "=>", _) => (Sign::AtLeast, part),
        ("~" | "~>", Rules::Masterminds) => (Sign::Equal, Some(next(&bound, given.min(2)))),
        ("^", Rules::Masterminds) => (Sign::Equal, Some(caret())),
        _ => return Err(format!("`{sign}` compares nothing")),
    };
    Ok(Comparison { sign, bound, beyond })
}

/// The first version behind all that share the first `given` numbers with `version`.
fn next(version: &Version, given: usize) -> Version {
    let Version { major, minor, patch, .. } = *version;
    match given {
        // With no number given, any version is meant.
        0 => Version::new(u64::MAX, u64::MAX, u64::MAX),
        1 => Version::new(major.saturating_add(1), 0, 0),
        2 => Version::new(major, minor.saturating_add(1), 0),
        _ => Version::new(major, minor, patch.saturating_add(1)),
    }
}

/// A version that may leave out its last numbers or have `x` or `*` for them; and how many it gives.
fn partial(text: &str, rules: Rules) -> Result<(Version, usize), String> {
    let wrong = || format!("`{text}` is no version");
    let plain = match rules {
        Rules::Masterminds => text.strip_prefix(['v', 'V']).unwrap_or(text),
        Rules::Blang => text,
    };
    if let Ok(version) = Version::parse(plain) {
        return Ok((version, 3));
    }
    let core_end = plain.find(['-', '+']).unwrap_or(plain.len());
    let (core, tail) = plain.split_at(core_end);
    let mut numbers = [0_u64; 3];
    let mut given = 0;
    let mut open = false;
    let parts: Vec<&str> = core.split('.').collect();
    if parts.len() > 3 {
        return Err(wrong());
    }
    for part in &parts {
        if matches!(*part, "x" | "X" | "*") {
            open = true;
        } else if open {
            return Err(wrong());
        } else {
            numbers[given] = part.parse().map_err(|_| wrong())?;
            given += 1;
        }
    }
    // blang's ranges want three places, of which the last may be `x`.
    if rules == Rules::Blang && (!open || !tail.is_empty()) {
        return Err(wrong());
    }
    let [major, minor, patch] = numbers;
    let version = Version::parse(&format!("{major}.{minor}.{patch}{tail}")).map_err(|_| wrong())?;
    // Without `x`, what is left out counts as left out, as far as the sign makes use of it.
    Ok((version, given))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blang(range: &str, text: &str) -> bool {
        Constraint::read(range, Rules::Blang).unwrap().holds(&version(text, Rules::Blang).unwrap())
    }

    fn masterminds(range: &str, text: &str) -> bool {
        let rules = Rules::Masterminds;
        Constraint::read(range, rules).unwrap().holds(&version(text, rules).unwrap())
    }

    #[test]
    fn ranges_of_the_matcher() {
        let range = ">1.0.0 <2.0.0 !=1.5.0";
        assert!(blang(range, "1.0.1") && blang(range, "1.9.9"));
        assert!(!blang(range, "1.5.0") && !blang(range, "1.0.0") && !blang(range, "2.0.0"));
        assert!(blang(">5.0.0 || < 1.5.0", "1.0.1") && !blang(">5.0.0 || < 1.5.0", "3.0.0"));
        assert!(blang("1.2.x", "1.2.9") && !blang("1.2.x", "1.3.0"));
        assert!(blang("<1.0.0", "1.0.0-rc.1"), "pre-releases take part");
        for text in ["", ">", "~1.2.3", "1.2", ">=v1.2.3", "1.2.3 ||"] {
            assert!(Constraint::read(text, Rules::Blang).is_err(), "{text}");
        }
        assert!(version("1.2", Rules::Blang).is_err() && version("v1.2.3", Rules::Blang).is_err());
    }

    #[test]
    fn constraints_of_templates() {
        assert!(masterminds(">=2.0.0", "2.0.0") && !masterminds(">=2.0.0", "1.7.28"));
        assert!(masterminds(">=2.0.0", "v2.1") && masterminds(">= 1.2, < 3", "2.9.9"));
        assert!(masterminds("~1.2.3", "1.2.9") && !masterminds("~1.2.3", "1.3.0"));
        assert!(masterminds("~1", "1.9.0") && !masterminds("~1", "2.0.0"));
        assert!(masterminds("^0.2.3", "0.2.9") && !masterminds("^0.2.3", "0.3.0"));
        assert!(masterminds("^1.2", "1.9.0") && !masterminds("^1.2", "2.0.0"));
        assert!(masterminds("1.2 - 1.4", "1.4.5") && !masterminds("1.2 - 1.4", "1.5.0"));
        assert!(masterminds("1.x", "1.5.0") && masterminds("*", "7.0.0"));
        assert!(!masterminds(">=2.0.0", "2.1.0-rc.1"), "a pre-release fits only what has one");
        assert!(masterminds(">=2.0.0-0", "2.1.0-rc.1"));
        assert!(!masterminds(">1.2", "1.2.9") && masterminds("<=1.2", "1.2.9"));
    }
}
