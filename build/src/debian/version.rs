//! The order of Debian versions (Debian policy, section 5.6.12; deb-version(7)).

use std::cmp::Ordering;

/// Compares two versions `[EPOCH:]UPSTREAM[-REVISION]`.
///
/// Every text has its place in the order, so that a malformed version in an index cannot stop work.
#[must_use]
pub fn compare(a: &str, b: &str) -> Ordering {
    let (a_epoch, a) = split_epoch(a);
    let (b_epoch, b) = split_epoch(b);
    let (a_upstream, a_revision) = a.rsplit_once('-').unwrap_or((a, ""));
    let (b_upstream, b_revision) = b.rsplit_once('-').unwrap_or((b, ""));
    compare_digits(a_epoch, b_epoch)
        .then_with(|| compare_part(a_upstream.as_bytes(), b_upstream.as_bytes()))
        .then_with(|| compare_part(a_revision.as_bytes(), b_revision.as_bytes()))
}

fn split_epoch(version: &str) -> (&[u8], &str) {
    match version.split_once(':') {
        Some((epoch, rest)) => (epoch.as_bytes(), rest),
        None => (b"", version),
    }
}

/// Compares alternating runs of non-digits and digits.
fn compare_part(mut a: &[u8], mut b: &[u8]) -> Ordering {
    while !a.is_empty() || !b.is_empty() {
        let (a_text, a_rest) = split_where(a, u8::is_ascii_digit);
        let (b_text, b_rest) = split_where(b, u8::is_ascii_digit);
        let (a_digits, a_rest) = split_where(a_rest, |byte| !byte.is_ascii_digit());
        let (b_digits, b_rest) = split_where(b_rest, |byte| !byte.is_ascii_digit());
        let order = compare_text(a_text, b_text).then_with(|| compare_digits(a_digits, b_digits));
        if order.is_ne() {
            return order;
        }
        (a, b) = (a_rest, b_rest);
    }
    Ordering::Equal
}

fn split_where(bytes: &[u8], stop: impl Fn(&u8) -> bool) -> (&[u8], &[u8]) {
    bytes.split_at(bytes.iter().position(stop).unwrap_or(bytes.len()))
}

/// `~` before the end, the end before letters, letters before everything else.
fn compare_text(a: &[u8], b: &[u8]) -> Ordering {
    let weight = |byte: Option<&u8>| match byte {
        Some(b'~') => -1,
        None => 0,
        Some(byte) if byte.is_ascii_alphabetic() => i32::from(*byte),
        Some(byte) => i32::from(*byte) + 256,
    };
    let length = a.len().max(b.len());
    (0..length)
        .map(|at| weight(a.get(at)).cmp(&weight(b.get(at))))
        .find(|order| order.is_ne())
        .unwrap_or(Ordering::Equal)
}

/// Compares numbers of any length; no digits count as zero.
fn compare_digits(a: &[u8], b: &[u8]) -> Ordering {
    let significant = |digits: &[u8]| digits.iter().take_while(|byte| **byte == b'0').count();
    let a = a.get(significant(a)..).unwrap_or_default();
    let b = b.get(significant(b)..).unwrap_or_default();
    a.len().cmp(&b.len()).then_with(|| a.cmp(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::process::Command;

    #[test]
    fn the_order_is_that_of_the_policy() {
        let ascending = [
            "1.0~~", "1.0~~a", "1.0~", "1.0~rc1", "1.0-0~1", "1.0", "1.0-1", "1.0-1+b1", "1.0a",
            "1.0+dfsg", "1.0.1", "1.9", "1.10", "1:0.1", "1:0.1-1",
        ];
        for (at, lower) in ascending.iter().enumerate() {
            for higher in &ascending[at + 1..] {
                assert_eq!(compare(lower, higher), Ordering::Less, "{lower} < {higher}");
                assert_eq!(compare(higher, lower), Ordering::Greater, "{higher} > {lower}");
            }
        }
        assert_eq!(compare("0:1.00-0", "1.0"), Ordering::Equal);
    }

    /// dpkg's verdict; needs the package `dpkg`.
    fn dpkg(a: &str, b: &str) -> Ordering {
        let holds = |operator| {
            let status = Command::new("dpkg")
                .args(["--compare-versions", a, operator, b])
                .stderr(std::process::Stdio::null())
                .status();
            status.expect("dpkg (Debian package `dpkg`) must be installed").success()
        };
        match (holds("lt"), holds("gt")) {
            (true, false) => Ordering::Less,
            (false, true) => Ordering::Greater,
            _ => Ordering::Equal,
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(150))]
        #[test]
        fn dpkg_agrees(
            a in "([0-2]:)?[0-9][0-9a-b.+~]{0,6}(-[0-9a-b.+~]{1,4})?",
            b in "([0-2]:)?[0-9][0-9a-b.+~]{0,6}(-[0-9a-b.+~]{1,4})?",
        ) {
            prop_assert_eq!(compare(&a, &b), dpkg(&a, &b), "{} against {}", a, b);
        }

        #[test]
        fn any_two_texts_compare_alike_from_both_sides(a in ".{0,12}", b in ".{0,12}") {
            prop_assert_eq!(compare(&a, &b), compare(&b, &a).reverse());
        }
    }
}
