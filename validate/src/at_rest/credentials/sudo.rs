//! Who may become root.

use nodekiln_words::Result;

use crate::Tier;
use crate::at_rest::Examined;
use crate::at_rest::findings::Findings;
use crate::rules::{Applies, Judge, Rule, Severity, Verdict};
use crate::tree::sudoers::{Grant, Sudoers};

pub(in crate::at_rest) const RULES: &[Rule] = &[Rule {
    id: "sudoers",
    title: "sudo is for administrators who give their password, and for declared users",
    tier: Tier::Static,
    severity: Severity::Fatal,
    reads: &["/etc/sudoers", "/etc/sudoers.d"],
    why: "a rule for the build's user is one for whoever gets that name, and NOPASSWD asks nobody",
    remedy: "delete the drop-in, or declare the user under `users` or the file under `files`",
    source: "sudoers(5); image-builder issue 1826",
    applies: Applies::ALL,
    stops_boot: false,
    judge: Judge::Tree(sudoers),
}];

/// Whom distributions let do everything, with a password.
const ADMINISTRATORS: [&str; 5] = ["root", "%sudo", "%admin", "%wheel", "%root"];
/// Groups that an agent of a cloud fills on the machine, and whose drop-in its package brings.
const AGENTS: [&str; 2] = ["%google-sudoers", "%aad_admins"];

fn sudoers(examined: &Examined) -> Result<Verdict> {
    const PATH: &str = "/etc/sudoers";
    let tree = &examined.tree;
    let Some(found) = Sudoers::read(tree, PATH)? else {
        return Ok(match tree.program("sudo") {
            Some(_) => Verdict::NotProven(format!("there is no {PATH}")),
            None => Verdict::Skipped("the image has no sudo".into()),
        });
    };
    let mut findings = Findings::default();
    for place in &found.damaged {
        findings.wrong(format!("{place} is no rule of sudo's"));
    }
    for path in &found.files {
        // sudo does not read what others may write; who owns it could.
        if let Some((_, entry)) = tree.resolve(path)
            && (entry.uid != 0 || entry.mode & 0o022 != 0)
        {
            findings
                .wrong(format!("{path} is not root's alone: {:04o}, {}", entry.mode, entry.uid));
        }
    }
    let declared = |path: &String| examined.expect.files.contains(path);
    for Grant { who, without_password, path, line } in
        found.grants.iter().filter(|one| !declared(&one.path))
    {
        let known = |who: &&String| {
            let who = who.as_str();
            examined.expect.users.contains_key(who) || AGENTS.contains(&who)
        };
        for who in who.iter().filter(|who| !known(who)) {
            if *without_password {
                findings.wrong(format!("{path}:{line}: {who} gives no password"));
            } else if !ADMINISTRATORS.contains(&who.as_str()) {
                findings.wrong(format!("{path}:{line}: {who} is no administrator that is known"));
            }
        }
    }
    for defaults in found.defaults.iter().filter(|one| !declared(&one.path)) {
        let off = defaults.text.split([' ', '\t', ',']).any(|word| word == "!authenticate");
        if off {
            findings
                .wrong(format!("{}:{}: Defaults{}", defaults.path, defaults.line, defaults.text));
        }
    }
    Ok(findings.verdict(format!("{} rules in {} files", found.grants.len(), found.files.len())))
}

#[cfg(test)]
pub(in crate::at_rest) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use super::super::accounts::append;
    use crate::at_rest::corpus::Mutation;

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new(
            "cloud-init's drop-in",
            &["sudoers"],
            "90-cloud-init-users:2: debian gives no password",
            |e| {
                let text = "# User rules for debian\ndebian ALL=(ALL) NOPASSWD:ALL\n";
                e.tree.write("/etc/sudoers.d/90-cloud-init-users", 0o440, text);
            },
        )
        .incident("image-builder issue 1826"),
        Mutation::new(
            "the build's user, with a password",
            &["sudoers"],
            "builder is no administrator",
            |e| {
                e.tree.write("/etc/sudoers.d/builder", 0o440, "builder ALL=(ALL) ALL\n");
            },
        ),
        Mutation::new(
            "administrators without a password",
            &["sudoers"],
            "%sudo gives no password",
            |e| {
                e.tree.replace(
                    "/etc/sudoers",
                    "%sudo\tALL=(ALL:ALL) ALL",
                    "%sudo ALL=(ALL:ALL) NOPASSWD: ALL",
                );
            },
        ),
        Mutation::new("nobody asked at all", &["sudoers"], "!authenticate", |e| {
            append(e, "/etc/sudoers", "Defaults !authenticate");
        }),
        Mutation::new(
            "a rule in an included file",
            &["sudoers"],
            "/etc/sudoers.local:1: all",
            |e| {
                append(e, "/etc/sudoers", "@include sudoers.local");
                e.tree.write("/etc/sudoers.local", 0o440, "all ALL=(ALL) ALL\n");
            },
        ),
        Mutation::new("rules that others may write", &["sudoers"], "0666", |e| {
            e.tree.change("/etc/sudoers.d/README", |entry| entry.mode = 0o666);
        }),
        Mutation::new("rules of somebody else's", &["sudoers"], "is not root's alone", |e| {
            e.tree.change("/etc/sudoers", |entry| entry.uid = 1000);
        }),
        Mutation::new("what is no rule", &["sudoers"], "is no rule", |e| {
            append(e, "/etc/sudoers", "builder");
        }),
    ];
}

#[cfg(test)]
mod tests {
    use super::super::accounts::append;
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::rules::Family;

    #[test]
    fn what_is_declared_is_fine_by_user_and_by_file() {
        let mut examined = sound(Family::Debian);
        append(&mut examined, "/etc/sudoers", "alice ALL=(ALL) NOPASSWD: ALL");
        examined.tree.write("/etc/sudoers.d/ops", 0o440, "%ops ALL=(ALL) NOPASSWD: ALL\n");
        examined.expect.users.insert("alice".into(), Default::default());
        examined.expect.files.insert("/etc/sudoers.d/ops".into());
        examined.tree.write(
            "/etc/sudoers.d/google_sudoers",
            0o440,
            "%google-sudoers ALL=(ALL:ALL) NOPASSWD:ALL\n",
        );
        let verdict = sudoers(&examined).unwrap();
        assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?}");
    }

    #[test]
    fn without_sudo_there_is_nothing_to_judge_and_without_its_rules_nothing_is_proven() {
        let mut examined = sound(Family::Debian);
        examined.tree.remove("/etc/sudoers");
        assert!(matches!(sudoers(&examined).unwrap(), Verdict::NotProven(_)));
        examined.tree.remove("/usr/bin/sudo");
        assert!(matches!(sudoers(&examined).unwrap(), Verdict::Skipped(_)));
    }
}
