//! The catalogue of causes: what a difference looks like, and what usually makes it.

use std::collections::BTreeMap;

use super::{Conditions, Kind};

/// What is known of a difference.
pub(super) struct Evidence<'a> {
    pub(super) path: &'a str,
    pub(super) kind: &'a Kind,
    /// The first bytes of both files; empty where there is no file.
    pub(super) first: &'a [u8],
    pub(super) second: &'a [u8],
}

/// Generators known for it, by a part of the path that gives them away.
const GENERATORS: [(&str, &str); 13] = [
    ("/etc/machine-id", "a machine's id, made by systemd or dbus: sysprep empties it"),
    ("/var/lib/dbus/machine-id", "a machine's id, made by systemd or dbus: sysprep empties it"),
    ("/etc/ssh/ssh_host_", "a host key: made at the first boot, not in an image"),
    ("/random-seed", "a seed of the random number generator: not to be in an image"),
    ("/etc/ssl/private/", "a private key made by a script of its package"),
    ("/var/cache/ldconfig/aux-cache", "ldconfig's cache: it holds inode numbers and times"),
    (
        "/var/lib/containerd/io.containerd",
        "containerd's store: times, sequence and layout of its databases",
    ),
    ("__pycache__/", "a Python module compiled with its source's time"),
    ("/var/lib/apt/", "apt's state, which belongs to one run"),
    ("/var/log/", "a log: its lines have the time"),
    ("/var/cache/", "a cache, which belongs to one run"),
    ("/etc/shadow", "the day of a password's last change"),
    ("/boot/initrd", "the initial RAM disk: what it was made of differs, or its archive's order"),
];

/// The likely cause of a difference; `None` where nothing in the catalogue fits.
pub(super) fn likely(evidence: &Evidence<'_>, conditions: &Conditions) -> Option<String> {
    let Evidence { path, kind, first, second } = evidence;
    if let Some(cause) = GENERATORS.iter().find(|(part, _)| path.contains(part)) {
        return Some(cause.1.to_owned());
    }
    match kind {
        Kind::Attributes { names } if names.contains(&"mode") => {
            Some("the umask: a step does not set the bits of what it makes".to_owned())
        }
        Kind::Attributes { names } if names.contains(&"time") => {
            Some("the clock: a step sets a time that is not the source date".to_owned())
        }
        Kind::OnlyFirst | Kind::OnlySecond => {
            Some("a name made of chance, the time or a process's number; or a race".to_owned())
        }
        Kind::Content { .. } => taken_up(first, second, conditions)
            .or_else(|| reordered(first, second))
            .or_else(|| counted(first, second))
            .or_else(|| random(first, second)),
        _ => None,
    }
}

/// A value of the build's circumstances that stands in the file.
fn taken_up(first: &[u8], second: &[u8], conditions: &Conditions) -> Option<String> {
    let has = |bytes: &[u8], text: &str| {
        // A short word may stand anywhere by chance.
        text.len() > 3 && bytes.windows(text.len()).any(|window| window == text.as_bytes())
    };
    let is = |bytes: &[u8], text: &str| bytes.trim_ascii() == text.as_bytes();
    let found = conditions.values.iter().find(|(_, one, other)| {
        (is(first, one) && is(second, other))
            || has(second, other) && !has(first, other)
            || has(first, one) && !has(second, one)
    });
    found.map(|(condition, one, other)| {
        format!("the {condition} of the building machine: `{one}` and `{other}`")
    })
}

/// The same lines in another order.
fn reordered(first: &[u8], second: &[u8]) -> Option<String> {
    let sorted = |bytes: &[u8]| {
        let mut lines: Vec<Vec<u8>> =
            bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        lines.sort_unstable();
        lines
    };
    (first != second && sorted(first) == sorted(second)).then(|| {
        "order: the same lines, as a folder or a hash table lists them; sort them".to_owned()
    })
}

/// How dates write days and months, in whole or by the first three letters.
const DAYS_AND_MONTHS: [&str; 19] = [
    "Monday",
    "Tuesday",
    "Wednesday",
    "Thursday",
    "Friday",
    "Saturday",
    "Sunday",
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
];

/// Texts that differ in numbers and names of days and months only: times, dates, counters, process
/// numbers.
fn counted(first: &[u8], second: &[u8]) -> Option<String> {
    let is_text =
        |bytes: &[u8]| bytes.iter().all(|byte| matches!(byte, b'\t' | b'\n' | b' '..=b'~'));
    let shape = |bytes: &[u8]| -> Vec<u8> {
        let mut shape = Vec::new();
        let words = bytes.chunk_by(|a, b| a.is_ascii_alphabetic() == b.is_ascii_alphabetic());
        for word in words {
            let is_date = |name: &&str| {
                word == name.as_bytes() || name.get(..3).map(str::as_bytes) == Some(word)
            };
            if DAYS_AND_MONTHS.iter().any(is_date) {
                shape.push(b'0');
            } else {
                shape.extend(word.iter().map(|b| if b.is_ascii_digit() { b'0' } else { *b }));
            }
        }
        shape.dedup_by(|a, b| *a == b'0' && *b == b'0');
        shape
    };
    (is_text(first) && is_text(second) && shape(first) == shape(second))
        .then(|| "the clock, or a counter: the two differ in numbers or dates only".to_owned())
}

/// Bytes that have nothing in common where they differ.
fn random(first: &[u8], second: &[u8]) -> Option<String> {
    /// Shortest stretch that tells chance from an accident.
    const LEAST: usize = 8;
    let pairs: Vec<(u8, u8)> = first.iter().copied().zip(second.iter().copied()).collect();
    let start = pairs.iter().position(|(a, b)| a != b)?;
    let end = pairs.iter().rposition(|(a, b)| a != b)?;
    let stretch = pairs.get(start..=end)?;
    let differ = stretch.iter().filter(|(a, b)| a != b).count();
    let mut values: BTreeMap<u8, usize> = BTreeMap::new();
    stretch.iter().for_each(|(a, b)| {
        *values.entry(*a).or_default() += 1;
        *values.entry(*b).or_default() += 1;
    });
    // Hexadecimal digits have sixteen values, of which most are met in a few bytes.
    let varied = values.len() >= (stretch.len() / 2).clamp(6, 12);
    (stretch.len() >= LEAST && differ * 4 >= stretch.len() * 3 && varied)
        .then(|| "chance: /dev/urandom, a key, a password's salt or a UUID".to_owned())
}

#[cfg(test)]
mod tests {
    use super::super::Condition;
    use super::*;

    fn cause(path: &str, first: &[u8], second: &[u8]) -> String {
        let kind = Kind::Content { offset: 0 };
        let conditions = Conditions {
            varied: vec![Condition::Hostname, Condition::Cores],
            values: vec![
                (Condition::Hostname, "alpha-host".to_owned(), "beta-host".to_owned()),
                (Condition::Cores, "2".to_owned(), "1".to_owned()),
                (Condition::Clock, "2026".to_owned(), "2028".to_owned()),
                (Condition::Clock, "1795".to_owned(), "1843".to_owned()),
            ],
            ..Conditions::default()
        };
        likely(&Evidence { path, kind: &kind, first, second }, &conditions).unwrap_or_default()
    }

    #[test]
    fn what_a_difference_looks_like_tells_its_cause() {
        for (first, second, word) in [
            (&b"built on alpha-host\n"[..], &b"built on beta-host\n"[..], "hostname"),
            (b"2\n", b"1\n", "cores"),
            (b"b\na\nc\n", b"a\nc\nb\n", "order"),
            (b"Sat Nov 21 16:45:01\n", b"Sat Nov 21 16:46:13\n", "clock"),
            (b"Saturday, 21 Nov\n", b"Friday, 9 Jun\n", "clock"),
            (b"at 2026-11-21T16:45\n", b"on 2028-05-26 in May\n", "clock of the"),
            (b"#define BUILT 1795276800\n", b"#define BUILD 1843036800\n", "clock of the"),
            (b"4f1c9a2be07d5583\n", b"b80e61f7c2493da0\n", "chance"),
            (b"\x91\x02\xf3\x44\xa5\x06\x77\xe8", b"\x1a\xbb\x0c\xcd\x5e\xef\x20\x71", "chance"),
        ] {
            let found = cause("/etc/x", first, second);
            assert!(found.starts_with(word) || found.contains(word), "{word}: {found:?}");
        }
        assert_eq!(cause("/etc/x", b"left", b"right"), "");
        assert_eq!(cause("/etc/x", b"Monitor 1", b"Marker 1"), "");
    }

    #[test]
    fn known_generators_are_named_by_their_paths() {
        assert!(cause("/etc/ssh/ssh_host_rsa_key", b"a", b"b").contains("host key"));
        assert!(cause("/usr/lib/python3/__pycache__/x.pyc", b"a", b"b").contains("Python"));
    }

    #[test]
    fn attributes_point_to_umask_and_clock() {
        let of = |names: &[&'static str]| {
            let kind = Kind::Attributes { names: names.to_vec() };
            let evidence = Evidence { path: "/x", kind: &kind, first: b"", second: b"" };
            likely(&evidence, &Conditions::default()).unwrap()
        };
        assert!(of(&["mode"]).contains("umask"));
        assert!(of(&["time"]).contains("clock"));
    }
}
