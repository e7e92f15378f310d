//! Relations between packages (Debian policy, section 7.1): `a (>= 1) | b:any, c [amd64]`.

use std::cmp::Ordering;

use super::version::compare;

/// One relation: a name and what its version must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Relation<'a> {
    /// The package, real or virtual.
    pub name: &'a str,
    /// What follows a colon: `any`, `native` or an architecture.
    pub qualifier: Option<&'a str>,
    /// The versions that will do; without it all.
    pub version: Option<(Operator, &'a str)>,
}

/// How a version must stand to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// `<<`
    Earlier,
    /// `<=`
    EarlierOrEqual,
    /// `=`
    Equal,
    /// `>=`
    LaterOrEqual,
    /// `>>`
    Later,
}

impl Operator {
    /// Whether `version` stands to `other` as this operator says.
    #[must_use]
    pub fn holds(self, version: &str, other: &str) -> bool {
        let order = compare(version, other);
        match self {
            Self::Earlier => order == Ordering::Less,
            Self::EarlierOrEqual => order != Ordering::Greater,
            Self::Equal => order == Ordering::Equal,
            Self::LaterOrEqual => order != Ordering::Less,
            Self::Later => order == Ordering::Greater,
        }
    }

    fn split(text: &str) -> Option<(Self, &str)> {
        // The single characters are an old spelling that policy still lists.
        const SPELLINGS: [(&str, Operator); 7] = [
            ("<<", Operator::Earlier),
            ("<=", Operator::EarlierOrEqual),
            (">=", Operator::LaterOrEqual),
            (">>", Operator::Later),
            ("=", Operator::Equal),
            ("<", Operator::EarlierOrEqual),
            (">", Operator::LaterOrEqual),
        ];
        SPELLINGS
            .iter()
            .find_map(|(spelling, operator)| Some((*operator, text.strip_prefix(spelling)?)))
    }
}

impl std::fmt::Display for Operator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Earlier => "<<",
            Self::EarlierOrEqual => "<=",
            Self::Equal => "=",
            Self::LaterOrEqual => ">=",
            Self::Later => ">>",
        })
    }
}

impl Relation<'_> {
    /// Whether a package of the relation's name in `version` will do.
    #[must_use]
    pub fn accepts(&self, version: &str) -> bool {
        self.version.is_none_or(|(operator, other)| operator.holds(version, other))
    }

    /// Whether a package that provides the relation's name, in `version` if it says one, will do:
    /// a versioned relation needs a versioned provision (policy, section 7.5).
    #[must_use]
    pub fn accepts_provided(&self, version: Option<&str>) -> bool {
        match (self.version, version) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some((operator, other)), Some(version)) => operator.holds(version, other),
        }
    }
}

impl std::fmt::Display for Relation<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name)?;
        match self.version {
            Some((operator, version)) => write!(f, " ({operator} {version})"),
            None => Ok(()),
        }
    }
}

/// A list of groups, of each of which one alternative must hold. Alternatives for other
/// architectures than `architecture`, or for build profiles, are left out; so are groups that have
/// no other. Returns the first text that is no relation as an error.
pub fn parse<'a>(text: &'a str, architecture: &str) -> Result<Vec<Vec<Relation<'a>>>, &'a str> {
    let mut groups = Vec::new();
    for group in text.split(',').map(str::trim).filter(|group| !group.is_empty()) {
        let mut alternatives = Vec::new();
        for alternative in group.split('|') {
            alternatives.extend(relation(alternative.trim(), architecture).ok_or(group)?);
        }
        if !alternatives.is_empty() {
            groups.push(alternatives);
        }
    }
    Ok(groups)
}

/// The relation of one alternative, `Some(None)` if it is for others; `None` if it is none.
fn relation<'a>(text: &'a str, architecture: &str) -> Option<Option<Relation<'a>>> {
    let end = text.find([' ', '\t', '\n', '(', '[', '<']).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let (name, qualifier) = match name.split_once(':') {
        Some((name, qualifier)) => (name, Some(qualifier)),
        None => (name, None),
    };
    let mut relation = Relation { name, qualifier, version: None };
    let mut applies = is_name(name);
    if !applies {
        return None;
    }
    let mut rest = rest.trim_start();
    while let Some(open) = rest.chars().next() {
        let close = match open {
            '(' => ')',
            '[' => ']',
            '<' => '>',
            _ => return None,
        };
        let (inner, next) = rest.get(1..)?.split_once(close)?;
        match open {
            '(' => {
                let (operator, version) = Operator::split(inner.trim())?;
                relation.version = Some((operator, version.trim()).filter_empty()?);
            }
            '[' => applies &= matches_architecture(inner, architecture),
            // No build profile is active here, so only negated ones hold.
            _ => applies &= inner.split_whitespace().all(|profile| profile.starts_with('!')),
        }
        rest = next.trim_start();
    }
    Some(applies.then_some(relation))
}

trait FilterEmpty: Sized {
    fn filter_empty(self) -> Option<Self>;
}

impl FilterEmpty for (Operator, &str) {
    fn filter_empty(self) -> Option<Self> {
        (!self.1.is_empty()).then_some(self)
    }
}

/// `amd64`, `any` and `linux-any` name amd64; with `!` in front, all but the named.
fn matches_architecture(list: &str, architecture: &str) -> bool {
    let names = |name: &str| {
        let name = name.strip_prefix("linux-").unwrap_or(name);
        name == architecture || name == "any" || name.strip_prefix("any-") == Some(architecture)
    };
    let mut entries = list.split_whitespace().peekable();
    if entries.peek().is_some_and(|first| first.starts_with('!')) {
        entries.all(|entry| !names(entry.trim_start_matches('!')))
    } else {
        entries.any(names)
    }
}

/// Package names: letters, digits, `+`, `-`, `.` (policy, section 5.6.1); old ones had `_` and
/// capitals in virtual names.
fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+-._".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn relation(name: &str) -> Relation<'_> {
        Relation { name, qualifier: None, version: None }
    }

    #[test]
    fn groups_alternatives_versions_and_qualifiers_are_read() {
        let text = "libc6 (>= 2.34), python3:any (<<3.12~) | python3-minimal,\n awk, ";
        let groups = parse(text, "amd64").unwrap();
        let libc =
            Relation { version: Some((Operator::LaterOrEqual, "2.34")), ..relation("libc6") };
        let python = Relation {
            qualifier: Some("any"),
            version: Some((Operator::Earlier, "3.12~")),
            ..relation("python3")
        };
        let expected =
            vec![vec![libc], vec![python, relation("python3-minimal")], vec![relation("awk")]];
        assert_eq!(groups, expected);
    }

    #[test]
    fn what_is_for_other_architectures_or_profiles_is_left_out() {
        let text =
            "a [amd64 i386], b [!amd64], c [linux-any], d [arm64] | e, f <!nocheck>, g <cross>";
        let names: Vec<Vec<_>> = parse(text, "amd64")
            .unwrap()
            .iter()
            .map(|group| group.iter().map(|relation| relation.name).collect())
            .collect();
        assert_eq!(names, [vec!["a"], vec!["c"], vec!["e"], vec!["f"]]);
    }

    #[test]
    fn texts_that_are_no_relation_are_named() {
        for text in ["a (1.0)", "a (>= )", "a b", "(>= 1)", "a (>= 1", "a | ", "a [amd64"] {
            assert_eq!(parse(text, "amd64"), Err(text.trim()), "{text}");
        }
    }

    #[test]
    fn a_versioned_relation_needs_a_versioned_provision() {
        let groups = parse("a (>= 2), b", "amd64").unwrap();
        assert!(!groups[0][0].accepts_provided(None));
        assert!(!groups[0][0].accepts_provided(Some("1")));
        assert!(groups[0][0].accepts_provided(Some("2")));
        assert!(groups[1][0].accepts_provided(None));
    }

    proptest! {
        #[test]
        fn any_text_ends_in_relations_or_an_error(text in "[a-c0-2 |,():<>=!\\[\\]\u{e4}]{0,40}") {
            drop(parse(&text, "amd64"));
        }

        #[test]
        fn a_relation_is_read_as_it_is_written(
            name in "[a-z][a-z0-9+.-]{1,8}", operator in "<<|<=|=|>=|>>", version in "[0-9][0-9a-z.+~-]{0,6}"
        ) {
            let text = format!("{name} ({operator} {version})");
            prop_assert_eq!(parse(&text, "amd64").unwrap()[0][0].to_string(), text);
        }
    }
}
