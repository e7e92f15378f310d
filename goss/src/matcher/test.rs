//! Whether a value is as wanted.

use serde_json::Value as Json;

use super::value::{list, noun, number, quoted, same, text};
use super::{Complaint, Order, Want};
use crate::version::{Rules, version};

impl Want {
    /// Whether `found` is as wanted; the error says why that cannot be said.
    pub(crate) fn holds(&self, found: &Json) -> Result<bool, Complaint> {
        Ok(match self {
            Self::Text(wanted) => text(found) == *wanted,
            Self::Number(wanted) => number(found)? == *wanted,
            Self::Boolean(wanted) => *found == Json::Bool(*wanted),
            Self::Equal(wanted) => same(found, wanted),
            Self::HavePrefix(prefix) => text(found).starts_with(prefix.as_str()),
            Self::HaveSuffix(suffix) => text(found).ends_with(suffix.as_str()),
            Self::MatchRegexp(expression) => expression.is_match(&text(found)),
            Self::ContainSubstring(part) => text(found).contains(part.as_str()),
            Self::Compare(order, wanted) => order.holds(number(found)?, *wanted),
            Self::HaveLen(wanted) => length(found)? == *wanted,
            Self::HavePatterns(patterns) => {
                let found = text(found);
                patterns.iter().all(|pattern| pattern.holds(&found))
            }
            Self::HaveKey(wanted) => {
                let entries = found.as_object().ok_or_else(|| no_mapping(found))?;
                any(entries.keys().map(|key| wanted.holds(&Json::from(key.as_str()))))?
            }
            Self::HaveKeyWithValue(wanted) => {
                let entries = found.as_object().ok_or_else(|| no_mapping(found))?;
                all(wanted.iter().map(|(key, wanted)| match entries.get(key) {
                    Some(value) => wanted.holds(value),
                    None => Ok(false),
                }))?
            }
            Self::ContainElement(wanted) => {
                any(list(found)?.iter().map(|item| wanted.holds(item)))?
            }
            Self::ContainEach(wanted) => {
                let items = list(found)?;
                all(wanted.iter().map(|wanted| any(items.iter().map(|item| wanted.holds(item)))))?
            }
            Self::ContainElements(wanted) => paired(wanted, &list(found)?)?,
            Self::ConsistOf(wanted) => {
                let mut items = list(found)?;
                // The end of the last line is not another line.
                if found.is_string() && items.last().is_some_and(|last| last == "") {
                    items.pop();
                }
                items.len() == wanted.len() && paired(wanted, &items)?
            }
            Self::Not(wanted) => !wanted.holds(found)?,
            Self::And(wanted) => all(wanted.iter().map(|wanted| wanted.holds(found)))?,
            Self::Or(wanted) => {
                let mut untold = None;
                for wanted in wanted {
                    match wanted.holds(found) {
                        Ok(true) => return Ok(true),
                        Ok(false) => {}
                        Err(why @ Complaint::Untold(_)) => untold = Some(why),
                        Err(why) => return Err(untold.unwrap_or(why)),
                    }
                }
                untold.map_or(Ok(false), Err)?
            }
            Self::Semver(constraint) => {
                let versions = match found {
                    Json::Array(items) if !items.is_empty() => items.clone(),
                    Json::String(_) => vec![found.clone()],
                    other => return Err(format!("{} is no version", noun(other)).into()),
                };
                let mut holds = true;
                for one in versions {
                    let one =
                        one.as_str().ok_or_else(|| format!("{} is no version", noun(&one)))?;
                    holds &= constraint.holds(&version(one, Rules::Blang)?);
                }
                holds
            }
            Self::Gjson(paths) => {
                let parsed = match found {
                    Json::String(text) => {
                        &serde_json::from_str(text).map_err(|error| format!("not JSON: {error}"))?
                    }
                    other => other,
                };
                all(paths.iter().map(|(path, wanted)| match path.find(parsed) {
                    Ok(Some(value)) => wanted.holds(&value),
                    Ok(None) => {
                        let why = format!("nothing stands at {}", quoted(path.written()));
                        Err(Complaint::Unfit(why))
                    }
                    Err(why) => Err(Complaint::Untold(why)),
                }))?
            }
        })
    }
}

impl Order {
    fn holds(self, found: f64, wanted: f64) -> bool {
        match self {
            Self::Greater => found > wanted,
            Self::GreaterOrEqual => found >= wanted,
            Self::Less => found < wanted,
            Self::LessOrEqual => found <= wanted,
        }
    }
}

/// Whether one holds; a complaint counts only where none does, and that nobody can tell before any other.
fn any(results: impl Iterator<Item = Result<bool, Complaint>>) -> Result<bool, Complaint> {
    let mut complaint = None;
    for result in results {
        match result {
            Ok(true) => return Ok(true),
            Ok(false) => {}
            Err(_) if matches!(complaint, Some(Complaint::Untold(_))) => {}
            Err(why) => complaint = Some(why),
        }
    }
    complaint.map_or(Ok(false), Err)
}

/// Whether all hold, as far as the first that does not; that nobody can tell of one counts only where no other says no.
fn all(results: impl Iterator<Item = Result<bool, Complaint>>) -> Result<bool, Complaint> {
    let mut untold = None;
    for result in results {
        match result {
            Ok(true) => {}
            Err(why @ Complaint::Untold(_)) => untold = Some(why),
            no => return no,
        }
    }
    untold.map_or(Ok(true), Err)
}

fn length(value: &Json) -> Result<usize, String> {
    match value {
        Json::String(text) => Ok(text.len()),
        Json::Array(items) => Ok(items.len()),
        Json::Object(entries) => Ok(entries.len()),
        other => Err(format!("{} has no length", noun(other))),
    }
}

fn no_mapping(value: &Json) -> String {
    format!("{} has no keys", noun(value))
}

/// Whether each of `wanted` can have an element of its own. It cannot be told where it hangs on what nobody can tell.
fn paired(wanted: &[Want], items: &[Json]) -> Result<bool, Complaint> {
    let said: Vec<Vec<_>> =
        wanted.iter().map(|want| items.iter().map(|item| want.holds(item)).collect()).collect();
    let all_have_one = |fits: fn(&Result<bool, Complaint>) -> bool| {
        let fits = said.iter().map(|said| (0..items.len()).filter(|at| fits(&said[*at])).collect());
        most_paired(&fits.collect::<Vec<_>>(), items.len()) == wanted.len()
    };
    if all_have_one(|said| *said == Ok(true)) {
        return Ok(true);
    }
    if all_have_one(|said| matches!(said, Ok(true) | Err(Complaint::Untold(_)))) {
        let untold = said.iter().flatten().find_map(|said| match said {
            Err(why @ Complaint::Untold(_)) => Some(why.clone()),
            _ => None,
        });
        return untold.map_or(Ok(false), Err);
    }
    Ok(false)
}

/// How many can have an element of their own at most, of whom `fits` says which of `items` elements fit each: a
/// maximum matching by augmenting paths, since taking the first element that fits may take it from one that no other
/// element fits.
fn most_paired(fits: &[Vec<usize>], items: usize) -> usize {
    let mut owner: Vec<Option<usize>> = vec![None; items];
    let place = |start: usize, owner: &mut Vec<Option<usize>>| {
        // Breadth first: which wanted one came to each element first.
        let mut came_from: Vec<Option<usize>> = vec![None; items];
        let mut queue = std::collections::VecDeque::from([start]);
        while let Some(one) = queue.pop_front() {
            for &item in &fits[one] {
                if came_from[item].is_some() {
                    continue;
                }
                came_from[item] = Some(one);
                if let Some(other) = owner[item] {
                    queue.push_back(other);
                    continue;
                }
                // A free element: pass the elements on along the way back.
                let mut free = item;
                while let Some(one) = came_from[free] {
                    let before = owner.iter().position(|owner| *owner == Some(one));
                    owner[free] = Some(one);
                    match before {
                        Some(before) if one != start => free = before,
                        _ => return true,
                    }
                }
            }
        }
        false
    };
    (0..fits.len()).filter(|start| place(*start, &mut owner)).count()
}
