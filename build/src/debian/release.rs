//! A suite's signed index of indexes, `InRelease` (Debian wiki, RepositoryFormat).

use std::collections::BTreeMap;

use nodekiln_words::{Failure, Result, ResultExt, Sha256};

use super::paragraph::field;

/// What a suite's signed index says.
#[derive(Clone, Debug)]
pub(super) struct Release {
    /// What the release is to its archive, such as `stable`; empty if the index does not say.
    pub(super) suite: String,
    /// When it was made, in seconds since 1970.
    pub(super) date: i64,
    /// Until when it may be used: in seconds since 1970, and as it is written.
    valid_until: Option<(i64, String)>,
    /// Whether files can be had by digest, where they stay when a newer index replaces them.
    pub(super) by_hash: bool,
    /// Digest and size of each file below the suite's folder, by path.
    pub(super) files: BTreeMap<String, (Sha256, u64)>,
}

impl Release {
    /// Reads the verified text of `what`, the index of `suite`.
    ///
    /// # Errors
    /// When it is for another suite or cannot be understood.
    pub(super) fn read(what: &str, text: &str, suite: &str) -> Result<Self> {
        let lacks = |name: &str| Failure::io(format!("{what} has no field `{name}`"));
        let names = [field(text, "Suite"), field(text, "Codename")];
        if !names.contains(&Some(suite)) {
            let named: Vec<&str> = names.into_iter().flatten().collect();
            return Err(Failure::io(format!("{what} is for {}, not {suite}", named.join(", ")))
                .with_help("the mirror serves another suite's index in this place"));
        }
        let date = time(what, field(text, "Date").ok_or_else(|| lacks("Date"))?)?;
        let valid_until = field(text, "Valid-Until")
            .map(|until| time(what, until).map(|at| (at, until.to_owned())))
            .transpose()?;
        let by_hash = field(text, "Acquire-By-Hash") == Some("yes");
        let table = field(text, "SHA256").ok_or_else(|| lacks("SHA256"))?;
        let files = table.lines().filter(|line| !line.trim().is_empty()).map(|line| {
            entry(line).ok_or_else(|| Failure::io(format!("{what}: `{line}` is no file's digest")))
        });
        Ok(Self {
            suite: field(text, "Suite").unwrap_or_default().to_owned(),
            date,
            valid_until,
            by_hash,
            files: files.collect::<Result<_>>()?,
        })
    }

    /// When it expired, as it is written, if that is before `now` (seconds since 1970).
    pub(super) fn expired(&self, now: u64) -> Option<&str> {
        let now = i64::try_from(now).unwrap_or(i64::MAX);
        let (at, written) = self.valid_until.as_ref()?;
        (*at < now).then_some(written)
    }
}

/// One line of a table of digests: digest, size, path.
pub(super) fn entry(line: &str) -> Option<(String, (Sha256, u64))> {
    let mut words = line.split_whitespace();
    let (digest, size, path) = (words.next()?, words.next()?, words.next()?);
    Some((path.to_owned(), (digest.parse().ok()?, size.parse().ok()?)))
}

/// A time such as `Sat, 11 Jul 2026 08:23:08 UTC` in seconds since 1970.
fn time(what: &str, text: &str) -> Result<i64> {
    // RFC 2822 knows the zone by number only.
    let numbered = text.trim().replace(" UTC", " +0000");
    let parsed = jiff::fmt::rfc2822::parse(&numbered);
    Ok(parsed.or_io(|| format!("{what}: `{text}` is no date"))?.timestamp().as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "Origin: Debian\nSuite: stable\nCodename: trixie\n\
        Date: Sat, 01 Aug 2026 10:00:00 UTC\nValid-Until: Sat, 08 Aug 2026 10:00:00 UTC\n\
        Acquire-By-Hash: yes\nMD5Sum:\n x 1 y\nSHA256:\n \
        ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad   3 main/x\n";
    /// 2026-08-08T10:00:00Z.
    const END: u64 = 1_786_183_200;

    #[test]
    fn suite_and_code_name_both_name_the_release() {
        for suite in ["stable", "trixie"] {
            let release = Release::read("InRelease", TEXT, suite).unwrap();
            assert_eq!(release.suite, "stable");
            assert_eq!(release.files["main/x"], (Sha256::of("abc"), 3));
            assert!(release.by_hash);
            assert_eq!(release.date, 1_785_578_400);
        }
        let failure = Release::read("InRelease", TEXT, "bookworm").unwrap_err();
        assert_eq!(failure.to_string(), "InRelease is for stable, trixie, not bookworm");
    }

    #[test]
    fn an_index_expires_after_the_second_that_it_names() {
        let release = Release::read("InRelease", TEXT, "trixie").unwrap();
        assert_eq!(release.expired(END), None);
        assert_eq!(release.expired(END + 1), Some("Sat, 08 Aug 2026 10:00:00 UTC"));
        let text = TEXT.replace("Valid-Until", "Other");
        assert_eq!(Release::read("InRelease", &text, "trixie").unwrap().expired(u64::MAX), None);
        let text = TEXT.replace("Until: Sat, 08 Aug", "Until: some day in");
        assert!(Release::read("InRelease", &text, "trixie").is_err());
    }

    #[test]
    fn an_index_without_date_or_table_is_refused() {
        for name in ["Date", "SHA256"] {
            let text = TEXT.replace(&format!("{name}:"), "Other:");
            let failure = Release::read("InRelease", &text, "trixie").unwrap_err();
            assert!(failure.to_string().contains(name), "{failure}");
        }
    }
}
