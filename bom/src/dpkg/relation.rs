use std::cmp::Ordering;

use super::compare;

/// One possibility of a dependency, or one provided name: `name (op version)`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Relation {
    /// Package name, without an architecture qualifier.
    pub(crate) name: String,
    /// The version it has to have.
    pub(crate) version: Option<(Operator, String)>,
}

/// How a version has to compare.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
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

impl Relation {
    /// Whether a package of this version meets the relation.
    pub(crate) fn accepts(&self, version: &str) -> bool {
        let Some((operator, wanted)) = &self.version else { return true };
        let order = compare(version, wanted);
        match operator {
            Operator::Earlier => order == Ordering::Less,
            Operator::EarlierOrEqual => order != Ordering::Greater,
            Operator::Equal => order == Ordering::Equal,
            Operator::LaterOrEqual => order != Ordering::Less,
            Operator::Later => order == Ordering::Greater,
        }
    }
}

/// Reads a relation field (deb-control(5), `Depends`): all of the groups, any within a group.
/// Possibilities that cannot be read are left out, as are empty groups.
pub(crate) fn relations(field: &str) -> Vec<Vec<Relation>> {
    let groups = field.split(',').map(|group| group.split('|').filter_map(relation).collect());
    groups.filter(|group: &Vec<Relation>| !group.is_empty()).collect()
}

fn relation(text: &str) -> Option<Relation> {
    let text = text.trim();
    let end = text.find(|c: char| c.is_whitespace() || "([<".contains(c)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    let name = name.split(':').next().filter(|name| !name.is_empty())?;
    let constraint = rest.split_once('(').and_then(|(_, rest)| rest.split_once(')'));
    let version = match constraint {
        Some((constraint, _)) => Some(operator(constraint.trim())?),
        None => None,
    };
    Some(Relation { name: name.to_owned(), version })
}

fn operator(constraint: &str) -> Option<(Operator, String)> {
    let end = constraint.find(|c| !"<>=".contains(c))?;
    let (operator, version) = constraint.split_at(end);
    let operator = match operator {
        "<<" => Operator::Earlier,
        "<=" | "<" => Operator::EarlierOrEqual,
        "=" => Operator::Equal,
        ">=" | ">" => Operator::LaterOrEqual,
        ">>" => Operator::Later,
        _ => return None,
    };
    Some((operator, version.trim().to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_alternatives_qualifiers_and_versions_are_read() {
        let read = relations("libc6 (>= 2.36), debconf (>= 0.5) | debconf-2.0, perl:any [amd64]");
        assert_eq!(read.len(), 3);
        assert_eq!(read[0][0].version, Some((Operator::LaterOrEqual, "2.36".to_owned())));
        assert_eq!(read[1][1], Relation { name: "debconf-2.0".to_owned(), version: None });
        assert_eq!(read[2][0].name, "perl");
    }

    #[test]
    fn a_constraint_decides() {
        let relation = &relations("a (<< 2)")[0][0];
        assert!(relation.accepts("1.9") && !relation.accepts("2") && relation.accepts("2~rc1"));
        assert!(relations("a (= 1-1)")[0][0].accepts("1-1"));
    }
}
