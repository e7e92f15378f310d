//! Who has an account.

use std::collections::BTreeSet;

use nodekiln_words::Result;

use super::BUILDERS;
use crate::Tier;
use crate::at_rest::Examined;
use crate::at_rest::findings::Findings;
use crate::rules::{Applies, Judge, Rule, Severity, Verdict};
use crate::tree::Kind;
use crate::tree::accounts::{Account, Group, Subordinate};

pub(in crate::at_rest) const RULES: &[Rule] = &[Rule {
    id: "accounts",
    title: "Nobody but the system and declared users has an account",
    tier: Tier::Static,
    severity: Severity::Fatal,
    reads: &["/etc/passwd", "/etc/group", "/etc/subuid", "/etc/subgid", "/home"],
    why: "an account of the build is on every node, and whoever knows how it was made may get in by it",
    remedy: "delete the account with its home, groups and subordinate ids, or declare it under `users`",
    source: "passwd(5), login.defs(5); CVE-2024-9486; image-builder issues 1159 and 1837",
    applies: Applies::ALL,
    stops_boot: false,
    judge: Judge::Tree(accounts),
}];

/// The first id that `useradd` gives a person (login.defs(5), `UID_MIN`), and the last.
const PEOPLE: std::ops::RangeInclusive<u32> = 1000..=60000;
/// Shells that let nobody in; those of the accounts that only halt the machine among them.
const NO_SHELLS: [&str; 6] = ["nologin", "false", "null", "sync", "shutdown", "halt"];

fn accounts(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let Some(passwd) = tree.lines_of::<Account>("/etc/passwd")? else {
        return Ok(Verdict::NotProven("there is no /etc/passwd".into()));
    };
    let mut findings = Findings::default();
    for line in &passwd.damaged {
        findings.wrong(format!("/etc/passwd:{line} is no account"));
    }
    for account in &passwd.entries {
        account_of(account, examined, &mut findings);
    }
    let names: BTreeSet<&str> = passwd.entries.iter().map(|one| one.name.as_str()).collect();
    for name in examined.expect.users.keys().filter(|name| !names.contains(name.as_str())) {
        findings.wrong(format!("{name} is declared and has no account"));
    }
    homes(examined, &passwd.entries, &mut findings);
    groups(examined, &names, &mut findings)?;
    for path in ["/etc/subuid", "/etc/subgid"] {
        let ranges = tree.lines_of::<Subordinate>(path)?.unwrap_or_default();
        for line in &ranges.damaged {
            findings.wrong(format!("{path}:{line} is no range of ids"));
        }
        let known = |owner: &str| {
            names.contains(owner) || passwd.entries.iter().any(|one| one.uid.to_string() == owner)
        };
        for range in ranges.entries.iter().filter(|range| !known(&range.owner)) {
            findings.wrong(format!("{path}:{}: {} has no account", range.line, range.owner));
        }
    }
    Ok(findings.verdict(format!("{} accounts, all the system's or declared", names.len())))
}

fn account_of(account: &Account, examined: &Examined, findings: &mut Findings) {
    let Account { name, uid, shell, line, .. } = account;
    let told = format!("/etc/passwd:{line}: {name} ({uid}, {shell})");
    if *uid == 0 && name != "root" {
        return findings.wrong(format!("{told} is root by another name"));
    }
    if name == "root" || examined.expect.users.contains_key(name) {
        return;
    }
    if BUILDERS.contains(&name.as_str()) {
        return findings.wrong(format!("{told} is an account of a build"));
    }
    let last = shell.rsplit('/').next().unwrap_or_default();
    // An empty field stands for /bin/sh.
    let has_shell = !NO_SHELLS.contains(&last);
    if PEOPLE.contains(uid) || has_shell {
        // Without a manifest nobody knows whom the image should have.
        match examined.claimed {
            true => findings.wrong(format!("{told} is neither the system's nor declared")),
            false => findings.unknown(format!("{told} may be wanted")),
        }
    }
}

/// Homes that nobody has.
fn homes(examined: &Examined, accounts: &[Account], findings: &mut Findings) {
    let tree = &examined.tree;
    for name in tree.names("/home").into_iter().filter(|name| *name != "lost+found") {
        let home = format!("/home/{name}");
        let folder = tree.entry(&home).is_some_and(|entry| entry.kind == Kind::Folder);
        // What lies below a folder of /home may be somebody's home, too.
        let owned = accounts.iter().any(|account| {
            let at = account.home.trim_end_matches('/');
            at == home || at.strip_prefix(&home).is_some_and(|rest| rest.starts_with('/'))
        });
        if folder && !owned {
            findings.wrong(format!("{home} is nobody's home"));
        }
    }
}

/// Groups that an account left behind, and members that are none.
fn groups(examined: &Examined, names: &BTreeSet<&str>, findings: &mut Findings) -> Result<()> {
    let groups = examined.tree.lines_of::<Group>("/etc/group")?.unwrap_or_default();
    for line in &groups.damaged {
        findings.wrong(format!("/etc/group:{line} is no group"));
    }
    for Group { name, gid, members, line, .. } in &groups.entries {
        for member in members.iter().filter(|member| !names.contains(member.as_str())) {
            findings.wrong(format!("/etc/group:{line}: {member} in {name} has no account"));
        }
        let left = BUILDERS.contains(&name.as_str()) || (PEOPLE.contains(gid) && examined.claimed);
        if left && !names.contains(name.as_str()) {
            findings.wrong(format!("/etc/group:{line}: {name} ({gid}) is nobody's group"));
        }
    }
    Ok(())
}

#[cfg(test)]
pub(in crate::at_rest) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use crate::at_rest::Examined;
    use crate::at_rest::corpus::Mutation;

    /// Puts a line behind the others.
    pub(in crate::at_rest) fn append(examined: &mut Examined<'static>, path: &str, line: &str) {
        let text = examined.tree.text(path).unwrap().unwrap_or_default();
        let mode = examined.tree.resolve(path).map_or(0o644, |(_, entry)| entry.mode);
        examined.tree.write(path, mode, format!("{text}{line}\n"));
    }

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new("the build's user, who is locked", &["accounts"], "builder (1000", |e| {
            append(e, "/etc/passwd", "builder:x:1000:1000::/home/builder:/bin/bash");
            append(e, "/etc/shadow", "builder:!:20758:0:99999:7:::");
        })
        .incident("image-builder issue 1837"),
        Mutation::new(
            "a default user whose password cloud-init locks only where user-data names no others",
            &["accounts", "passwords"],
            "/etc/shadow:6: ubuntu has a hash",
            |e| {
                append(e, "/etc/passwd", "ubuntu:x:1000:1000::/home/ubuntu:/bin/bash");
                append(e, "/etc/shadow", "ubuntu:$6$salt$hash:20758:0:99999:7:::");
                let text =
                    "system_info:\n  default_user:\n    name: ubuntu\n    lock_passwd: true\n";
                e.tree.write("/etc/cloud/cloud.cfg.d/20-user.cfg", 0o644, text);
            },
        )
        .incident("image-builder issue 85"),
        Mutation::new(
            "the build's user as one of the system",
            &["accounts"],
            "an account of a build",
            |e| {
                append(e, "/etc/passwd", "packer:x:998:998::/:/usr/sbin/nologin");
            },
        )
        .incident("image-builder issue 1159"),
        Mutation::new("somebody", &["accounts"], "alice (1001", |e| {
            append(e, "/etc/passwd", "alice:x:1001:1001::/home/alice:/usr/sbin/nologin");
        }),
        Mutation::new(
            "a system account that may log in",
            &["accounts"],
            "backup (34, /bin/sh)",
            |e| {
                append(e, "/etc/passwd", "backup:x:34:34::/var/backups:/bin/sh");
            },
        ),
        Mutation::new("root by another name", &["accounts"], "root by another name", |e| {
            append(e, "/etc/passwd", "toor:x:0:0::/root:/usr/sbin/nologin");
        }),
        Mutation::new(
            "a home that was left",
            &["accounts"],
            "/home/builder is nobody's home",
            |e| {
                e.tree.write("/home/builder/.profile", 0o644, "");
            },
        )
        .incident("image-builder issue 1159"),
        Mutation::new("ids that were left", &["accounts"], "/etc/subuid:1: builder", |e| {
            append(e, "/etc/subuid", "builder:100000:65536");
        }),
        Mutation::new("ids that are none", &["accounts"], "/etc/subgid:1 is no range", |e| {
            append(e, "/etc/subgid", "sshd:many");
        }),
        Mutation::new(
            "a group that was left",
            &["accounts"],
            "builder (1000) is nobody's group",
            |e| {
                append(e, "/etc/group", "builder:x:1000:");
            },
        ),
        Mutation::new("a member that was left", &["accounts"], "builder in sudo", |e| {
            e.tree.replace("/etc/group", "sudo:x:27:", "sudo:x:27:builder");
        }),
        Mutation::new(
            "a line that is no account",
            &["accounts"],
            "/etc/passwd:6 is no account",
            |e| {
                append(e, "/etc/passwd", "+::::::");
            },
        ),
        Mutation::new("a line that is no group", &["accounts"], "is no group", |e| {
            append(e, "/etc/group", "wheel");
        }),
        Mutation::new("a declared user who is missing", &["accounts"], "carol is declared", |e| {
            e.expect.users.insert("carol".into(), Default::default());
        }),
    ];
}
#[cfg(test)]
pub(in crate::at_rest) use mutations::append;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::expect::User;
    use crate::rules::Family;

    #[test]
    fn declared_users_are_fine_with_all_that_is_theirs() {
        let mut examined = sound(Family::Debian);
        append(&mut examined, "/etc/passwd", "alice:x:1001:1001::/home/alice:/bin/bash");
        append(&mut examined, "/etc/group", "alice:x:1001:");
        append(&mut examined, "/etc/subuid", "alice:100000:65536");
        examined.tree.folder("/home/alice", 0o700);
        let user = User { home: "/home/alice".into(), keys: false };
        examined.expect.users.insert("alice".into(), user);
        assert!(matches!(accounts(&examined).unwrap(), Verdict::Pass(_)));
    }

    #[test]
    fn without_claims_a_user_is_not_proven_and_a_builder_is_red() {
        let mut examined = sound(Family::Rpm);
        examined.claimed = false;
        append(&mut examined, "/etc/passwd", "core:x:500:500::/home/core:/bin/bash");
        assert!(matches!(accounts(&examined).unwrap(), Verdict::NotProven(_)));
        append(&mut examined, "/etc/passwd", "packer:x:1000:1000::/home/packer:/bin/bash");
        assert!(matches!(accounts(&examined).unwrap(), Verdict::Fail(_)));
    }

    #[test]
    fn without_accounts_nothing_is_proven() {
        let mut examined = sound(Family::Debian);
        examined.tree.remove("/etc/passwd");
        assert!(matches!(accounts(&examined).unwrap(), Verdict::NotProven(_)));
    }
}
