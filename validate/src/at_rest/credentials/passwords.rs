//! Whether anybody has a password.

use nodekiln_words::Result;

use crate::Tier;
use crate::at_rest::Examined;
use crate::at_rest::findings::Findings;
use crate::rules::{Applies, Family, Judge, Rule, Severity, Verdict};
use crate::tree::accounts::{Account, Group, Password};

pub(in crate::at_rest) const RULES: &[Rule] = &[Rule {
    id: "passwords",
    title: "Nobody has a password, not even a locked one",
    tier: Tier::Static,
    severity: Severity::Fatal,
    reads: &["/etc/shadow", "/etc/gshadow", "/etc/passwd", "/etc/group", "/etc/shadow-"],
    why: "a hash in the image is every node's password; a locked one works again as soon as somebody unlocks it",
    remedy: "set the field to `*`; `usermod --lock` and `passwd -l` keep the hash",
    source: "shadow(5), gshadow(5); CVE-2024-9486; image-builder issue 1837",
    applies: Applies::ALL,
    stops_boot: false,
    judge: Judge::Tree(passwords),
}];

fn passwords(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let Some(shadow) = tree.lines_of::<Password>("/etc/shadow")? else {
        return Ok(Verdict::NotProven("there is no /etc/shadow".into()));
    };
    let mut findings = Findings::default();
    for line in &shadow.damaged {
        findings.wrong(format!("/etc/shadow:{line} is no password line"));
    }
    for Password { name, field, line } in &shadow.entries {
        if let Some(what) = told_of(field, examined.facts.family) {
            findings.wrong(format!("/etc/shadow:{line}: {name} has {what}"));
        }
    }
    if let Some((_, entry)) = tree.resolve("/etc/shadow")
        && entry.mode & 0o037 != 0
    {
        findings.wrong(format!("/etc/shadow may be read or written by others: {:04o}", entry.mode));
    }
    let accounts = tree.lines_of::<Account>("/etc/passwd")?.unwrap_or_default().entries;
    for Account { name, password, line, .. } in accounts.iter().filter(|one| one.password != "x") {
        if let Some(what) = told_of(password, examined.facts.family) {
            findings.wrong(format!("/etc/passwd:{line}: {name} has {what}"));
        }
    }
    // An empty field of a group's lets its members alone in.
    let groups = tree.lines_of::<Group>("/etc/group")?.unwrap_or_default().entries;
    let groups = groups.iter().map(|one| ("/etc/group", &one.name, &one.password, one.line));
    let gshadow = tree.lines_of::<Password>("/etc/gshadow")?.unwrap_or_default().entries;
    let gshadow = gshadow.iter().map(|one| ("/etc/gshadow", &one.name, &one.field, one.line));
    let old = tree.lines_of::<Password>("/etc/shadow-")?.unwrap_or_default().entries;
    let old = old.iter().map(|one| ("/etc/shadow-", &one.name, &one.field, one.line));
    let others = groups
        .chain(gshadow)
        .chain(old)
        .filter(|(_, _, field, _)| !matches!(field.as_str(), "" | "x"));
    for (path, name, field, line) in others {
        if let Some(what) = told_of(field, None) {
            findings.wrong(format!("{path}:{line}: {name} has {what}"));
        }
    }
    Ok(findings.verdict(format!("{} lines without a password", shadow.entries.len())))
}

/// What a field holds that it should not; the hash itself is nobody's business.
fn told_of(field: &str, family: Option<Family>) -> Option<String> {
    let fine = match field {
        "*" | "!" | "!*" => true,
        // Azure's agent, EC2's images and systemd-firstboot write a word that no password has as its hash.
        "*LOCK*" | "!unprovisioned" => true,
        // RPM's `useradd` leaves it, and nothing of Debian's does.
        "!!" => family != Some(Family::Debian),
        _ => false,
    };
    if fine {
        return None;
    }
    let hash = field.trim_start_matches(['!', '*']);
    Some(match (hash, hash.len() < field.len()) {
        ("", false) => "an empty field: no password is asked for".to_owned(),
        ("", true) => format!("`{field}`, which no package leaves"),
        (hash, true) => format!("a locked hash ({})", scheme(hash)),
        (hash, false) => format!("a hash ({})", scheme(hash)),
    })
}

/// How a hash was made, by its prefix (crypt(5)).
pub(super) fn scheme(hash: &str) -> &'static str {
    let prefix = hash.strip_prefix('$').and_then(|rest| rest.split_once('$')).map(|(id, _)| id);
    match prefix {
        Some("y") => "yescrypt",
        Some("gy") => "gost-yescrypt",
        Some("7") => "scrypt",
        Some("6") => "sha512crypt",
        Some("5") => "sha256crypt",
        Some("2a" | "2b" | "2x" | "2y") => "bcrypt",
        Some("1") => "md5crypt",
        Some(_) => "of a kind that is not known",
        None if is_des(hash) => "descrypt",
        None => "of a kind that is not known",
    }
}

/// Whether it may be one of crypt's first: two signs of salt and eleven of the hash, of its own alphabet.
fn is_des(hash: &str) -> bool {
    let of_alphabet = |byte: u8| byte.is_ascii_alphanumeric() || b"./".contains(&byte);
    hash.len() == 13 && hash.bytes().all(of_alphabet)
}

#[cfg(test)]
pub(in crate::at_rest) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use super::super::accounts::append;
    use crate::at_rest::corpus::Mutation;

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new(
            "a hash",
            &["passwords"],
            "/etc/shadow:1: root has a hash (sha512crypt)",
            |e| {
                e.tree.replace("/etc/shadow", "root:*:", "root:$6$salt$hash:");
            },
        )
        .incident("CVE-2024-9486"),
        Mutation::new("a locked hash", &["passwords"], "root has a locked hash (yescrypt)", |e| {
            e.tree.replace("/etc/shadow", "root:*:", "root:!$y$j9T$salt$hash:");
        })
        .incident("image-builder issue 1837"),
        Mutation::new("an empty password", &["passwords"], "no password is asked for", |e| {
            e.tree.replace("/etc/shadow", "root:*:", "root::");
        }),
        Mutation::new("two locks on Debian", &["passwords"], "`!!`, which no package", |e| {
            e.tree.replace("/etc/shadow", "root:*:", "root:!!:");
        }),
        Mutation::new(
            "a locked hash of the first kind",
            &["passwords"],
            "root has a locked hash (descrypt)",
            |e| {
                e.tree.replace("/etc/shadow", "root:*:", "root:!ab./efghijklm:");
            },
        ),
        Mutation::new("a lock with something behind it", &["passwords"], "not known", |e| {
            e.tree.replace("/etc/shadow", "root:*:", "root:*LOCK*x:");
        }),
        Mutation::new("a word that is no lock", &["passwords"], "not known", |e| {
            e.tree.replace("/etc/shadow", "root:*:", "root:*LK*:");
        }),
        Mutation::new("a hash in passwd", &["passwords"], "/etc/passwd:1: root has a hash", |e| {
            e.tree.replace("/etc/passwd", "root:x:", "root:$1$salt$hash:");
        }),
        Mutation::new(
            "no password in passwd",
            &["passwords"],
            "/etc/passwd:1: root has an empty",
            |e| {
                e.tree.replace("/etc/passwd", "root:x:", "root::");
            },
        ),
        Mutation::new("a group's hash", &["passwords"], "/etc/gshadow:3: sudo has a hash", |e| {
            e.tree.replace("/etc/gshadow", "sudo:*:", "sudo:$6$salt$hash:");
        }),
        Mutation::new(
            "a hash in the copy",
            &["passwords", "account-backups"],
            "/etc/shadow-",
            |e| {
                append(e, "/etc/shadow-", "builder:$6$salt$hash:20758:0:99999:7:::");
            },
        ),
        Mutation::new("a line that is no password's", &["passwords"], "/etc/shadow:6 is no", |e| {
            append(e, "/etc/shadow", "builder");
        }),
        Mutation::new("passwords that all may read", &["passwords"], "0644", |e| {
            e.tree.change("/etc/shadow", |entry| entry.mode = 0o644);
        }),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest::corpus::sound;

    #[test]
    fn what_packages_leave_is_fine() {
        for (field, family) in [
            ("*", Family::Debian),
            ("!", Family::Debian),
            ("!*", Family::Debian),
            ("!!", Family::Rpm),
            ("*LOCK*", Family::Debian),
            ("*LOCK*", Family::Rpm),
            ("!unprovisioned", Family::Rpm),
        ] {
            assert_eq!(told_of(field, Some(family)), None, "{field}");
        }
        assert_eq!(told_of("!!", None), None);
    }

    #[test]
    fn schemes_are_told_by_their_prefixes() {
        for (hash, name) in [
            ("$y$j9T$a$b", "yescrypt"),
            ("$2b$05$x", "bcrypt"),
            ("$1$a$b", "md5crypt"),
            ("abcdefghijklm", "descrypt"),
            ("ab/.defghijkl", "descrypt"),
            ("ab*cdefghijkl", "of a kind that is not known"),
            ("abcdefghijkl", "of a kind that is not known"),
        ] {
            assert_eq!(scheme(hash), name);
        }
    }

    #[test]
    fn without_a_shadow_file_nothing_is_proven() {
        let mut examined = sound(Family::Debian);
        examined.tree.remove("/etc/shadow");
        assert!(matches!(passwords(&examined).unwrap(), Verdict::NotProven(_)));
    }
}
