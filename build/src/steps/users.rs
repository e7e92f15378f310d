//! Users of a recipe, added by the tree's own `useradd` so that the distribution's rules for ids,
//! subordinate ids and home directories hold.

use std::collections::BTreeMap;

use nodekiln_recipes::recipe::User;
use nodekiln_words::{Failure, Result};

use crate::execution::Execution;
use crate::layer::{Attributes, Root};

/// Password field of an account that nobody can log in to with a password (shadow(5)): `*` is no
/// result of any hash, and, unlike `!`, does not make sshd call the account locked.
const NO_PASSWORD: &str = "*";

/// Adds `users` in order. Facts: `user.NAME.uid`.
///
/// shadow takes the day of the last password change from `SOURCE_DATE_EPOCH` (from version 4.9 on).
///
/// # Errors
/// When a user exists already, or a group or shell does not.
pub fn run(users: &[User], execution: &Execution<'_>) -> Result<BTreeMap<String, String>> {
    let root = execution.root()?;
    let mut facts = BTreeMap::new();
    for user in users {
        let add = || -> Result<u32> {
            check(user, &root)?;
            let title = format!("add user {}", user.name);
            execution.run(&execution.command(title, &root, arguments(user, &root)?))?;
            authorize(user, &root)?;
            root.uid(&user.name)
        };
        let uid = add().map_err(|failure| failure.context(format!("user {}", user.name)))?;
        facts.insert(format!("user.{}.uid", user.name), uid.to_string());
    }
    root.finish(execution.source_date)?;
    Ok(facts)
}

fn check(user: &User, root: &Root) -> Result<()> {
    if root.home(&user.name)?.is_some() {
        let message = format!("the tree has a user `{}` already", user.name);
        return Err(Failure::input(message).with_help("take it out of `users`, or choose a name"));
    }
    for group in &user.groups {
        root.gid(group)?;
    }
    if root.confined().stat_followed(&user.shell).is_err() {
        let message = format!("the tree has no shell {}", user.shell);
        let help = "add the package that brings it, or choose another `shell`";
        return Err(Failure::input(message).with_help(help));
    }
    Ok(())
}

fn home(user: &User) -> String {
    user.home.clone().unwrap_or_else(|| format!("/home/{}", user.name))
}

/// A system account gets a home directory only if something belongs into it.
fn has_home(user: &User) -> bool {
    !user.system || user.home.is_some() || !user.ssh_authorized_keys.is_empty()
}

fn arguments(user: &User, root: &Root) -> Result<Vec<String>> {
    let mut arguments: Vec<String> =
        ["useradd", "--no-log-init", "--password", NO_PASSWORD, "--shell", &user.shell]
            .map(str::to_owned)
            .into();
    arguments.extend(["--home-dir".to_owned(), home(user)]);
    if has_home(user) {
        arguments.extend(["--create-home", "--skel", "/etc/skel"].map(str::to_owned));
    } else {
        arguments.push("--no-create-home".to_owned());
    }
    if user.system {
        arguments.push("--system".to_owned());
    }
    if let Some(uid) = user.uid {
        arguments.extend(["--uid".to_owned(), uid.to_string()]);
    }
    match root.gid(&user.name) {
        Ok(gid) => arguments.extend(["--gid".to_owned(), gid.to_string()]),
        Err(_) => arguments.push("--user-group".to_owned()),
    }
    if !user.groups.is_empty() {
        arguments.extend(["--groups".to_owned(), user.groups.join(",")]);
    }
    arguments.extend(["--".to_owned(), user.name.clone()]);
    Ok(arguments)
}

/// Writes `~/.ssh/authorized_keys`, readable by the user alone, else sshd ignores it.
fn authorize(user: &User, root: &Root) -> Result<()> {
    if user.ssh_authorized_keys.is_empty() {
        return Ok(());
    }
    let (uid, gid) = (root.uid(&user.name)?, root.gid(&user.name)?);
    let folder = format!("{}/.ssh", home(user).trim_end_matches('/'));
    root.make_directory(&folder, Attributes { mode: 0o700, uid, gid })?;
    let keys: String = user.ssh_authorized_keys.iter().map(|key| format!("{key}\n")).collect();
    let attributes = Attributes { mode: 0o600, uid, gid };
    root.write_file(&format!("{folder}/authorized_keys"), keys.as_bytes(), attributes)
}
