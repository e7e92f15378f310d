//! The kinds of scalars in a recipe: what each may look like and how it is explained.
//!
//! A kind's pattern is used twice: here, and in the JSON Schema, so it is written in the part of
//! regular expressions that ECMA-262 and Rust share.

use std::sync::OnceLock;

use nodekiln_words::Bytes;
use regex_lite::Regex;

use crate::document::{Resolved, Scalar};

/// A kind of scalar.
pub(crate) struct Kind {
    /// What is expected, as in "expected …".
    pub(crate) expects: &'static str,
    /// Which YAML types it takes.
    pub(crate) form: Form,
    /// What the text must look like; empty takes any.
    pub(crate) pattern: &'static str,
    /// What a pattern cannot say; the error is a label.
    check: fn(&str) -> Result<(), String>,
    /// What to do when YAML takes the unquoted text for a number or a boolean.
    unquoted: &'static str,
    regex: OnceLock<Option<Regex>>,
}

/// The YAML types that a kind takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    /// Text alone.
    Text,
    /// Text, or a number whose digits are taken as they are written.
    TextOrNumber,
    /// Text, or a whole number.
    TextOrInteger,
    /// A whole number in this range.
    Integer(u64, u64),
    /// `true` or `false`.
    Boolean,
    /// `true` alone.
    True,
    /// One of these words.
    Choice(&'static [&'static str]),
}

/// Why a scalar is not of its kind.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mismatch {
    pub(crate) message: String,
    pub(crate) label: String,
    pub(crate) help: Option<String>,
}

impl Kind {
    const fn new(expects: &'static str, form: Form, pattern: &'static str) -> Self {
        Self { expects, form, pattern, check: anything, unquoted: "", regex: OnceLock::new() }
    }

    const fn text(expects: &'static str, pattern: &'static str) -> Self {
        Self::new(expects, Form::Text, pattern)
    }

    const fn choice(expects: &'static str, words: &'static [&'static str]) -> Self {
        Self::new(expects, Form::Choice(words), "")
    }

    const fn checked(mut self, check: fn(&str) -> Result<(), String>) -> Self {
        self.check = check;
        self
    }

    const fn unquoted(mut self, help: &'static str) -> Self {
        self.unquoted = help;
        self
    }

    /// Whether `scalar` is of this kind.
    pub(crate) fn accept(&self, scalar: &Scalar) -> Result<(), Mismatch> {
        let text = scalar.text.as_str();
        match (self.form, scalar.resolved()) {
            (Form::Boolean, Resolved::Boolean) => Ok(()),
            (Form::True, Resolved::Boolean) if text.eq_ignore_ascii_case("true") => Ok(()),
            (Form::Boolean | Form::True, _) => Err(self.mismatch(text, None)),
            (Form::Integer(low, high), Resolved::Integer) => match text.parse::<u64>() {
                Ok(number) if (low..=high).contains(&number) => Ok(()),
                _ => Err(self.mismatch(text, None)),
            },
            (Form::Integer(..), _) => Err(self.mismatch(text, None)),
            (Form::TextOrNumber, Resolved::Integer | Resolved::Float)
            | (Form::TextOrInteger, Resolved::Integer) => self.accept_text(text),
            (_, Resolved::Text) => self.accept_text(text),
            (_, resolved) => Err(self.reinterpreted(text, resolved)),
        }
    }

    fn accept_text(&self, text: &str) -> Result<(), Mismatch> {
        if let Form::Choice(words) = self.form {
            return if words.contains(&text) {
                Ok(())
            } else {
                Err(self.no_such_word(text, words))
            };
        }
        if text.contains('\0') || !self.matches(text) {
            return Err(self.mismatch(text, None));
        }
        (self.check)(text).map_err(|label| self.mismatch(text, Some(label)))
    }

    fn matches(&self, text: &str) -> bool {
        let compile = || if self.pattern.is_empty() { None } else { Regex::new(self.pattern).ok() };
        self.regex.get_or_init(compile).as_ref().is_none_or(|regex| regex.is_match(text))
    }

    fn mismatch(&self, text: &str, label: Option<String>) -> Mismatch {
        Mismatch {
            message: format!("{} is not {}", shorten(text), self.expects),
            label: label.unwrap_or_else(|| "not of this form".to_owned()),
            help: None,
        }
    }

    fn no_such_word(&self, text: &str, words: &[&str]) -> Mismatch {
        let label = match nearest(text, words.iter().copied()) {
            Some(word) => format!("did you mean `{word}`?"),
            None => "no such value".to_owned(),
        };
        let words: Vec<String> = words.iter().map(|word| format!("`{word}`")).collect();
        Mismatch {
            message: format!("{} is not {}", shorten(text), self.expects),
            label,
            help: Some(format!("write one of {}", words.join(", "))),
        }
    }

    fn reinterpreted(&self, text: &str, resolved: Resolved) -> Mismatch {
        let noun = match resolved {
            Resolved::Boolean => "a boolean",
            Resolved::Null => "null",
            _ => "a number",
        };
        let help = if self.unquoted.is_empty() {
            format!("write it in quotes: \"{text}\"")
        } else {
            self.unquoted.replace("{}", text)
        };
        Mismatch {
            message: format!("{} is {noun} to YAML, not {}", shorten(text), self.expects),
            label: "not a text".to_owned(),
            help: Some(help),
        }
    }
}

/// The one of `words` that is so near to `text` that it was probably meant.
pub(crate) fn nearest<'a>(text: &str, words: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let limit = (text.chars().count() / 3).clamp(1, 4);
    words
        .map(|word| (strsim::osa_distance(text, word), word))
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

fn shorten(text: &str) -> String {
    let line: String = text.chars().take_while(|c| *c != '\n').take(60).collect();
    if line.len() == text.len() { format!("`{text}`") } else { format!("`{line}…`") }
}

fn anything(_: &str) -> Result<(), String> {
    Ok(())
}

/// Less is no disk with an operating system on it. How much this very tree needs, the build finds
/// out.
const SMALLEST_DISK: Bytes = Bytes(64 * Bytes::MIB);
/// 1 PiB, the largest disk that the disk room lays out.
const LARGEST_DISK: Bytes = Bytes(1 << 50);

fn disk_size(text: &str) -> Result<(), String> {
    let bytes = text.parse::<Bytes>().map_err(|_| "larger than 64 bits can say".to_owned())?;
    if bytes < SMALLEST_DISK {
        Err(format!("less than {SMALLEST_DISK}"))
    } else if bytes > LARGEST_DISK {
        Err(format!("more than {LARGEST_DISK}"))
    } else if !bytes.get().is_multiple_of(Bytes::MIB) {
        Err(format!("{} bytes are not a whole number of MiB", bytes.get()))
    } else {
        Ok(())
    }
}

fn name_or_id(text: &str) -> Result<(), String> {
    let is_number = text.starts_with(|c: char| c.is_ascii_digit());
    match text.parse::<u32>() {
        Err(_) if is_number => Err(format!("larger than {}", u32::MAX)),
        // Linux takes it for "leave the owner alone".
        Ok(u32::MAX) => Err("stands for no user".to_owned()),
        _ => Ok(()),
    }
}

fn source_date(text: &str) -> Result<(), String> {
    text.parse::<nodekiln_words::SourceDate>()
        .map(|_| ())
        .map_err(|_| "not a moment from 1980 to 2107".to_owned())
}

fn normalised(path: &str) -> Result<(), String> {
    let odd = path.split('/').skip(1).find(|part| matches!(*part, "" | "." | ".."));
    match odd {
        None => Ok(()),
        Some("") => Err("has an empty part (`//` or a `/` at the end)".to_owned()),
        Some(part) => Err(format!("has the part `{part}`")),
    }
}

pub(crate) static RECIPE_NAME: Kind =
    Kind::text("a name of lower-case letters, digits and `._-`", "^[a-z0-9][a-z0-9._-]{0,62}$");
pub(crate) static LINE: Kind = Kind::text("one line of text", "^[^\\n\\r]*$");
pub(crate) static TEXT: Kind = Kind::text("a text", "");
pub(crate) static RECIPE_REFERENCE: Kind =
    Kind::text("a recipe's path or a library name", "^[^\\n\\r]+$");
pub(crate) static LOCAL_PATH: Kind = Kind::text("a path beside this file", "^[^\\n\\r]+$");
pub(crate) static RELEASE: Kind =
    Kind::text("a release's code name, such as `bookworm`", "^[a-z][a-z0-9.-]*$");
pub(crate) static FAMILY: Kind = Kind::choice("a distribution family", &["debian"]);
pub(crate) static ARCHITECTURE: Kind = Kind::choice("an architecture", &["amd64"]);
pub(crate) static COMPONENT: Kind =
    Kind::text("an archive component, such as `main`", "^[a-z0-9][a-z0-9./-]*$");
pub(crate) static URL: Kind =
    Kind::text("an http or https URL", "^https?://[A-Za-z0-9.\\[\\]:_-]+(/[!-~]*)?$");
pub(crate) static DATE: Kind = Kind::new(
    "a moment in UTC, such as `2026-11-01T00:00:00Z`",
    Form::TextOrInteger,
    "^([0-9]{4}-[0-9]{2}-[0-9]{2}[Tt ][0-9:.]+([Zz]|[+-][0-9:]+)|[0-9]+)$",
)
.checked(source_date);
pub(crate) static VERSION: Kind =
    Kind::text("a Kubernetes version of three numbers", "^v?[0-9]{1,3}\\.[0-9]{1,3}\\.[0-9]{1,3}$")
        .unquoted("write all three numbers, such as {}.1");
pub(crate) static KUBERNETES_SOURCE: Kind =
    Kind::choice("a source of Kubernetes", &["source", "directory", "release"]);
pub(crate) static RELEASE_IMAGES: Kind =
    Kind::choice("where a release's images come from", &["registry", "archives"]);
pub(crate) static REPOSITORY: Kind = Kind::text(
    "a registry with an optional path, such as `registry.k8s.io`",
    "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*$",
);
pub(crate) static IMAGE: Kind = Kind::text(
    "an image reference with a tag or a digest, such as `docker.io/library/busybox:1.36`",
    "^[a-z0-9]([a-z0-9.-]*[a-z0-9])?(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)+(:[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}(@sha256:[0-9a-f]{64})?|@sha256:[0-9a-f]{64})$",
);
pub(crate) static PACKAGE: Kind =
    Kind::text("a package name, such as `jq`", "^[a-z0-9][a-z0-9+.-]+$");
pub(crate) static BINARY: Kind =
    Kind::text("a program's name, such as `kubelet`", "^[a-z0-9][a-z0-9.-]*$");
pub(crate) static SHA256: Kind =
    Kind::text("a SHA-256 digest of 64 hexadecimal digits", "^(sha256:)?[0-9A-Fa-f]{64}$");
pub(crate) static CGROUP_DRIVER: Kind =
    Kind::choice("a cgroup driver", &["auto", "systemd", "cgroupfs"]);
pub(crate) static MODULE: Kind = Kind::text("a kernel module's name", "^[A-Za-z0-9_-]+$");
pub(crate) static SYSCTL: Kind = Kind::text(
    "a kernel parameter's name, such as `net.ipv4.ip_forward`",
    "^-?[a-z0-9_-]+([./][A-Za-z0-9_*-]+)+$",
);
pub(crate) static SYSCTL_VALUE: Kind =
    Kind::new("a number or one line of text", Form::TextOrNumber, "^[^\\n\\r]+$");
pub(crate) static USER_NAME: Kind =
    Kind::text("a user's or group's name", "^[a-z_][a-z0-9_-]{0,31}$");
pub(crate) static OWNER: Kind = Kind::new(
    "a user's or group's name or number",
    Form::TextOrInteger,
    "^([a-z_][a-z0-9_-]{0,31}|0|[1-9][0-9]{0,9})$",
)
.checked(name_or_id);
pub(crate) static ID: Kind = Kind::new("a numeric id from 1 to 65533", Form::Integer(1, 65533), "");
pub(crate) static BOOLEAN: Kind = Kind::new("`true` or `false`", Form::Boolean, "");
pub(crate) static TRUE: Kind = Kind::new("`true`", Form::True, "");
pub(crate) static SSH_KEY: Kind = Kind::text(
    "a line of an authorized_keys file",
    "^([^\\n\\r]+ )?(ssh-|ecdsa-|sk-)[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [^\\n\\r]*)?$",
);
pub(crate) static IMAGE_PATH: Kind =
    Kind::text("an absolute path in the image", "^/[^\\n\\r]+$").checked(normalised);
pub(crate) static LINK_TARGET: Kind = Kind::text("a link's target", "^[^\\n\\r]+$");
pub(crate) static MODE: Kind =
    Kind::text("permission bits, three or four octal digits in quotes", "^[0-7]{3,4}$")
        .unquoted("write it in quotes: \"{}\"; YAML would not read it as octal");
pub(crate) static UNIT: Kind = Kind::text(
    "a systemd unit's name, such as `ssh.service`",
    "^[A-Za-z0-9:_.@\\\\-]+\\.(service|socket|target|timer|path|mount|automount|swap|slice|scope|device)$",
);
pub(crate) static SCRIPT_NAME: Kind =
    Kind::text("a script's name", "^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$");
pub(crate) static SCRIPT_PATH: Kind =
    Kind::text("the path of a script beside this file", "^[^\\n\\r]+$");
pub(crate) static VARIABLE: Kind =
    Kind::text("an environment variable's name", "^[A-Za-z_][A-Za-z0-9_]*$");
pub(crate) static VARIABLE_VALUE: Kind = Kind::new("a number or a text", Form::TextOrNumber, "");
pub(crate) static KERNEL_ARGUMENT: Kind = Kind::text(
    "one kernel argument without spaces or quotes",
    "^[A-Za-z0-9_.,:/=+@%*~!^()\\[\\]-]+$",
);
pub(crate) static SIZE: Kind = Kind::new(
    "a whole number of MiB, such as `8GiB` or `6144MiB`",
    Form::TextOrInteger,
    Bytes::PATTERN,
)
.checked(disk_size);
pub(crate) static ROOT_FILE_SYSTEM: Kind = Kind::choice("a root file system", &["ext4"]);
pub(crate) static BOOT_MODE: Kind = Kind::choice("a boot mode", &["hybrid", "bios", "uefi"]);
pub(crate) static PROVIDER: Kind = Kind::text("a provider's name", "^[a-z][a-z0-9-]{0,31}$");

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn plain(text: &str) -> Scalar {
        Scalar { text: text.to_owned(), plain: true }
    }

    fn quoted(text: &str) -> Scalar {
        Scalar { text: text.to_owned(), plain: false }
    }

    #[track_caller]
    fn sorts(kind: &Kind, good: &[&str], bad: &[&str]) {
        for text in good {
            assert_eq!(kind.accept(&quoted(text)), Ok(()), "{text}");
        }
        for text in bad {
            assert!(kind.accept(&quoted(text)).is_err(), "{text}");
        }
        assert!(kind.pattern.is_empty() || Regex::new(kind.pattern).is_ok(), "{}", kind.pattern);
    }

    #[test]
    fn paths_are_absolute_and_normalised() {
        let bad = ["", "/", "etc", "/etc/", "//etc", "/a//b", "/a/../b", "/./a", "/a\nb", "/a\0b"];
        sorts(&IMAGE_PATH, &["/etc/fstab", "/a b/ü", "/a/..b"], &bad);
    }

    #[test]
    fn images_have_a_registry_and_a_tag_or_a_digest() {
        let digest = format!("quay.io/a/b@sha256:{}", "0".repeat(64));
        let good = ["docker.io/library/busybox:1.36", "localhost:5000/x:y", digest.as_str()];
        sorts(&IMAGE, &good, &["busybox", "busybox:1.36", "docker.io/x", "docker.io/x:", "A/b:c"]);
    }

    #[test]
    fn kernel_arguments_have_neither_spaces_nor_quotes() {
        let good = ["quiet", "console=ttyS0,38400n8d", "root=UUID=a-b", "memmap=1M!2M"];
        sorts(&KERNEL_ARGUMENT, &good, &["", "a b", "a\nb", "a\"b", "$x", "a;b", "a'b", "a\\b"]);
    }

    #[test]
    fn units_sysctls_modules_and_packages_follow_their_grammar() {
        sorts(
            &UNIT,
            &["ssh.service", "getty@tty1.service", "swap.target"],
            &["ssh", "a b.service"],
        );
        sorts(&SYSCTL, &["net.ipv4.ip_forward", "kernel/panic"], &["kernel", "a b.c", ".a", "a."]);
        sorts(&MODULE, &["br_netfilter"], &["", "a b", "../x"]);
        sorts(&PACKAGE, &["g++", "libc6", "python3.11"], &["J", "a", "Foo", "a_b", "-a"]);
        sorts(
            &URL,
            &["http://[::1]:80/x", "https://a.b/c?d"],
            &["ftp://a/b", "https://", "http://a b"],
        );
        sorts(&USER_NAME, &["capi", "_x"], &["0a", "A", "root:x"]);
    }

    #[test]
    fn sizes_are_whole_mebibytes_within_bounds() {
        let good = ["8GiB", "6144MiB", "4294967296", "512MIB", "64mib", "1024TiB"];
        sorts(&SIZE, &good, &["1GB", "8 apples", "1.5GiB", "8G", "1025MiB ish"]);
        for (text, label) in [
            ("0", "less than 64 MiB"),
            ("63MiB", "less than 64 MiB"),
            ("1GB", "1000000000 bytes are not a whole number of MiB"),
            ("1025TiB", "more than 1024 TiB"),
            ("99999999999TiB", "larger than 64 bits can say"),
        ] {
            assert_eq!(SIZE.accept(&quoted(text)).unwrap_err().label, label, "{text}");
        }
    }

    proptest! {
        /// Numbers of up to six digits, so that none exceeds 64 bits.
        #[test]
        fn the_pattern_of_sizes_and_their_parser_accept_the_same(
            text in "[0-9]{0,6}[ \\t]{0,2}[KkMmGgTtPp]?[IiEe]?[Bb]?[ b]?",
        ) {
            prop_assert_eq!(SIZE.matches(&text), text.parse::<Bytes>().is_ok(), "{:?}", text);
        }
    }

    #[test]
    fn values_that_yaml_reinterprets_are_explained() {
        let mismatch = VERSION.accept(&plain("1.36")).unwrap_err();
        assert_eq!(mismatch.help.unwrap(), "write all three numbers, such as 1.36.1");
        let mismatch = MODE.accept(&plain("0644")).unwrap_err();
        assert!(mismatch.help.unwrap().contains("\"0644\""));
        assert!(LINE.accept(&plain("true")).unwrap_err().message.contains("a boolean"));
        assert_eq!(SYSCTL_VALUE.accept(&plain("1.10")), Ok(()));
        assert!(SYSCTL_VALUE.accept(&plain("true")).is_err());
        assert!(BOOLEAN.accept(&plain("yes")).is_err());
        assert!(ID.accept(&quoted("17")).is_err() && ID.accept(&plain("17")).is_ok());
        assert!(ID.accept(&plain("0x11")).is_err() && ID.accept(&plain("70000")).is_err());
    }

    #[test]
    fn a_near_word_is_suggested_and_a_far_one_is_not() {
        assert_eq!(nearest("pakages", ["packages", "images"].into_iter()), Some("packages"));
        assert_eq!(nearest("zebra", ["packages", "images"].into_iter()), None);
    }
}
