use std::cmp::Ordering;

/// Orders two Debian versions as deb-version(7) says: epoch, upstream version, revision.
pub(crate) fn compare(left: &str, right: &str) -> Ordering {
    let (left, right) = (split(left), split(right));
    left.0
        .cmp(&right.0)
        .then_with(|| compare_part(left.1, right.1))
        .then_with(|| compare_part(left.2, right.2))
}

/// Epoch (0 where absent), upstream version, revision (empty where absent).
fn split(version: &str) -> (u64, &str, &str) {
    let (epoch, rest) = match version.split_once(':') {
        Some((epoch, rest)) => (epoch.parse().unwrap_or(0), rest),
        None => (0, version),
    };
    let (upstream, revision) = rest.rsplit_once('-').unwrap_or((rest, ""));
    (epoch, upstream, revision)
}

/// Compares runs of non-digits by character weight and runs of digits by number, in turns.
fn compare_part(mut left: &str, mut right: &str) -> Ordering {
    while !left.is_empty() || !right.is_empty() {
        let (left_text, left_rest) = split_run(left, |c| !c.is_ascii_digit());
        let (right_text, right_rest) = split_run(right, |c| !c.is_ascii_digit());
        let (left_number, left_rest) = split_run(left_rest, |c| c.is_ascii_digit());
        let (right_number, right_rest) = split_run(right_rest, |c| c.is_ascii_digit());
        let order = compare_text(left_text, right_text)
            .then_with(|| compare_number(left_number, right_number));
        if order != Ordering::Equal {
            return order;
        }
        (left, right) = (left_rest, right_rest);
    }
    Ordering::Equal
}

fn split_run(text: &str, belongs: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|c| !belongs(c)).unwrap_or(text.len()))
}

/// A tilde sorts before the end, the end before letters, letters before all else.
fn weight(character: Option<u8>) -> i32 {
    match character {
        Some(b'~') => -1,
        None => 0,
        Some(c) if c.is_ascii_alphabetic() => i32::from(c),
        Some(c) => i32::from(c) + 256,
    }
}

fn compare_text(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.as_bytes(), right.as_bytes());
    (0..left.len().max(right.len()))
        .map(|at| weight(left.get(at).copied()).cmp(&weight(right.get(at).copied())))
        .find(|order| *order != Ordering::Equal)
        .unwrap_or(Ordering::Equal)
}

/// Decimal numbers of any length.
fn compare_number(left: &str, right: &str) -> Ordering {
    let (left, right) = (left.trim_start_matches('0'), right.trim_start_matches('0'));
    left.len().cmp(&right.len()).then_with(|| left.cmp(right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    /// What dpkg itself says.
    fn dpkg_says(left: &str, operator: &str, right: &str) -> bool {
        Command::new("dpkg")
            .args(["--compare-versions", left, operator, right])
            .status()
            .expect("dpkg is missing: install Debian's package dpkg")
            .success()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn the_order_is_dpkgs_own(
            left in "([0-2]:)?[0-9][0-9ab.+~]{0,5}(-[0-9a.~+]{1,3})?",
            right in "([0-2]:)?[0-9][0-9ab.+~]{0,5}(-[0-9a.~+]{1,3})?",
        ) {
            let operator = match compare(&left, &right) {
                Ordering::Less => "lt",
                Ordering::Equal => "eq",
                Ordering::Greater => "gt",
            };
            prop_assert!(dpkg_says(&left, operator, &right), "{left} {operator} {right}");
        }
    }

    #[test]
    fn versions_are_ordered_as_the_manual_says() {
        let ascending =
            ["1.0~~", "1.0~~a", "1.0~", "1.0", "1.0a", "1.0+b1", "1.2", "1.10", "1:0.1"];
        for pair in ascending.windows(2) {
            assert_eq!(compare(pair[0], pair[1]), Ordering::Less, "{pair:?}");
            assert_eq!(compare(pair[1], pair[0]), Ordering::Greater, "{pair:?}");
        }
        assert_eq!(compare("0:1.00-0", "1.0"), Ordering::Equal);
        assert_eq!(compare("1.0-1", "1.0-1"), Ordering::Equal);
        assert_eq!(compare("1.0-2", "1.0-10"), Ordering::Less);
    }
}
