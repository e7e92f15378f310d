//! The user's `known_hosts` (sshd(8), SSH_KNOWN_HOSTS FILE FORMAT).
//!
//! libssh2's own reader compares names as they are, so it knows neither wildcards nor `@revoked`, and takes a key of
//! another kind for a changed one.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use hmac::{Hmac, Mac as _};
use sha1::Sha1;

use super::HostKey;
use crate::tree::fits;

/// What is known of one host.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Known {
    /// Its keys.
    pub(super) keys: Vec<HostKey>,
    /// Keys that it must never show.
    pub(super) revoked: Vec<HostKey>,
}

impl Known {
    /// Adds what `text`, a file, says of the host that is called `name` there: `host`, or `[host]:port`. Lines that
    /// cannot be read are passed over, as OpenSSH does; so are authorities, whose certificates libssh2 does not take.
    pub(super) fn add(&mut self, text: &str, name: &str) {
        for line in text.lines().map(str::trim).filter(|line| !line.starts_with('#')) {
            let (marker, rest) =
                match line.strip_prefix('@').map(|rest| rest.split_once(char::is_whitespace)) {
                    Some(Some((marker, rest))) => (Some(marker), rest.trim_start()),
                    Some(None) => continue,
                    None => (None, line),
                };
            let Some((hosts, key)) = rest.split_once(char::is_whitespace) else { continue };
            let list = match marker {
                None => &mut self.keys,
                Some("revoked") => &mut self.revoked,
                Some(_) => continue,
            };
            if matches(hosts, name)
                && let Ok(key) = key.parse::<HostKey>()
            {
                list.push(key);
            }
        }
    }
}

/// Whether the first field of a line means `name`.
fn matches(hosts: &str, name: &str) -> bool {
    if let Some(hashed) = hosts.strip_prefix("|1|") {
        return is_hash_of(hashed, name).unwrap_or(false);
    }
    let mut found = false;
    for pattern in hosts.split(',') {
        match pattern.strip_prefix('!') {
            Some(pattern) if like(pattern, name) => return false,
            Some(_) => {}
            None => found |= like(pattern, name),
        }
    }
    found
}

/// `salt|hash`, both in base64: HMAC-SHA1 of the name with the salt as its key.
fn is_hash_of(hashed: &str, name: &str) -> Option<bool> {
    let (salt, hash) = hashed.split_once('|')?;
    let (salt, hash) = (BASE64_STANDARD.decode(salt).ok()?, BASE64_STANDARD.decode(hash).ok()?);
    let mut mac = Hmac::<Sha1>::new_from_slice(&salt).ok()?;
    mac.update(name.as_bytes());
    Some(mac.verify_slice(&hash).is_ok())
}

/// Whether `name` is like `pattern`, in which `*` stands for any text and `?` for any character, and nothing else for
/// something other than itself.
fn like(pattern: &str, name: &str) -> bool {
    fits(&pattern.to_lowercase().replace('\\', "\\\\").replace('[', "\\["), name)
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::keys::KeyPair;

    fn key(seed: u8) -> HostKey {
        KeyPair::from_seed([seed; 32]).unwrap().public.parse().unwrap()
    }

    fn known(text: &str, name: &str) -> Known {
        let mut known = Known::default();
        known.add(text, name);
        known
    }

    #[test]
    fn markers_are_heeded_and_broken_lines_passed_over() {
        let text = format!(
            "# comment\n\nnode {}\n@revoked * {}\n@cert-authority * {}\n@odd\nnode ssh-ed25519 !!\nnode\n",
            key(1),
            key(2),
            key(3)
        );
        let wanted = Known { keys: vec![key(1)], revoked: vec![key(2)] };
        assert_eq!(known(&text, "node"), wanted);
        assert_eq!(known(&text, "other"), Known { keys: vec![], ..wanted });
    }

    #[test]
    fn names_are_found_as_openssh_finds_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("known_hosts");
        let names = [
            "node",
            "node.example",
            "a.node.example",
            "[node]:2222",
            "10.0.0.7",
            "[::1]:2222",
            "nod",
        ];
        for hosts in [
            "node",
            "NODE",
            "*.example",
            "n?de",
            "*",
            "*,!node",
            "!node",
            "[node]:2222",
            "10.0.0.?",
            "a,b,node",
            "[::1]:2222",
            "node*",
        ] {
            fs_err::write(&path, format!("{hosts} {}\n", key(1))).unwrap();
            for name in names {
                let found = Command::new("ssh-keygen").args(["-F", name, "-f"]).arg(&path).output();
                let found =
                    found.expect("ssh-keygen is missing: install Debian's package openssh-client");
                let ours = known(&fs_err::read_to_string(&path).unwrap(), name).keys.len() == 1;
                assert_eq!(ours, found.status.success(), "`{hosts}` against `{name}`");
            }
        }
    }

    #[test]
    fn a_hashed_name_is_found() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("known_hosts");
        fs_err::write(&path, format!("[node]:2222 {}\n", key(1))).unwrap();
        let status = Command::new("ssh-keygen").args(["-H", "-f"]).arg(&path).output();
        assert!(status.expect("ssh-keygen is missing").status.success());
        let text = fs_err::read_to_string(&path).unwrap();
        assert!(text.starts_with("|1|"), "{text}");
        assert_eq!(known(&text, "[node]:2222").keys, [key(1)]);
        assert!(known(&text, "node").keys.is_empty());
    }
}
