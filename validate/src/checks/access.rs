//! Rules on who can get in.

use nodekiln_words::Result;

use super::answers::text;
use super::{Applies, Ask, Context, Judge, Rule, Severity, Verdict};
use crate::Tier;
use crate::guest::Output;

pub(super) const RULES: &[Rule] = &[Rule {
    id: "ssh-passwords",
    title: "SSH offers no passwords",
    tier: Tier::Boot,
    severity: Severity::Fatal,
    reads: &["the SSH server's methods"],
    why: "a password that works on one node works on all of them",
    remedy: "set `PasswordAuthentication no` and `KbdInteractiveAuthentication no` in a file that sorts before others",
    source: "sshd_config(5), PasswordAuthentication and KbdInteractiveAuthentication",
    applies: Applies::ALL,
    stops_boot: false,
    judge: Judge::Machine(Ask::LoginMethods, ssh_passwords),
}];

fn ssh_passwords(answer: &Output, _: &Context) -> Result<Verdict> {
    let methods = text(answer)?;
    // A server that has accepted the method `none` names no further one: the stranger is in.
    if methods.trim().is_empty() {
        return Ok(Verdict::Fail("the SSH server lets root in without asking".into()));
    }
    let offered = |name: &&str| methods.split(',').any(|method| method.trim() == *name);
    let wrong: Vec<String> = ["password", "keyboard-interactive"]
        .iter()
        .filter(|name| offered(name))
        .map(|name| format!("the SSH server offers `{name}`"))
        .collect();
    Ok(Verdict::of(&wrong, methods))
}

#[cfg(test)]
pub(super) use mutations::ANSWERS;

#[cfg(test)]
mod mutations {
    use crate::checks::corpus::{Answer, Mutation};

    pub(in crate::checks) const ANSWERS: &[Answer] = &[Answer::new(
        "ssh-passwords",
        "publickey",
        &[
            Mutation::new("passwords are offered", "`password`", |guest| {
                guest.print("publickey,password");
            })
            .incident("image-builder issue 85"),
            Mutation::new("so are questions and answers", "keyboard-interactive", |guest| {
                guest.print("publickey,keyboard-interactive");
            }),
            Mutation::new("nobody is asked", "without asking", |guest| guest.print("")),
        ],
    )];
}
