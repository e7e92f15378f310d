//! Keys: those by which somebody gets in, and those that should be on one machine alone.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use nodekiln_words::Result;

use super::scan;
use crate::Tier;
use crate::at_rest::Examined;
use crate::at_rest::findings::Findings;
use crate::at_rest::hygiene::residue::in_homes;
use crate::rules::{Applies, Judge, Rule, Severity, Verdict};
use crate::tree::Kind;
use crate::tree::accounts::Account;
use crate::tree::sshd::Configuration;

pub(in crate::at_rest) const RULES: &[Rule] = &[
    Rule {
        id: "authorized-keys",
        title: "No key lets anybody in but declared users",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "~/.ssh/authorized_keys",
            "/etc/ssh/authorized_keys",
            "AuthorizedKeysFile in sshd_config",
            "~/.rhosts",
            "/etc/hosts.equiv",
        ],
        why: "a key of the build opens every node that is made of the image",
        remedy: "delete it, or declare the key under `users`",
        source: "sshd(8), AUTHORIZED_KEYS FILE FORMAT; hosts.equiv(5)",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Tree(authorized_keys),
    },
    Rule {
        id: "private-keys",
        title: "The image has no private key",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/etc", "/root", "/home", "/var/lib", "/usr/local", "/srv", "/opt"],
        why: "whoever has the image has the key, and every node has the same one",
        remedy: "delete it; make keys on the machine that needs them (`make-ssl-cert`, `wg genkey`, kubeadm)",
        source: "RFC 7468, RFC 5208; PROTOCOL.key of OpenSSH; wg(8)",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Tree(private_keys),
    },
];

/// Where OpenSSH looks for keys without a word of the administrator's (sshd_config(5), `AuthorizedKeysFile`).
const USUAL: [&str; 2] = [".ssh/authorized_keys", ".ssh/authorized_keys2"];
/// Hosts that are trusted by their names, in a home.
const TRUSTED: [&str; 2] = [".rhosts", ".shosts"];

fn authorized_keys(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let mut files: BTreeSet<String> = in_homes(tree, &USUAL)?.into_iter().collect();
    let accounts = tree.lines_of::<Account>("/etc/passwd")?.unwrap_or_default().entries;
    let sshd = Configuration::read(tree, "/etc/ssh/sshd_config")?.unwrap_or_default();
    let named = sshd.settings.iter().filter(|setting| setting.keyword == "authorizedkeysfile");
    for pattern in named.flat_map(|setting| &setting.arguments) {
        for account in &accounts {
            files.extend(expanded(pattern, account));
        }
    }
    files.extend(
        ["/etc/ssh/authorized_keys", "/etc/ssh/authorized_keys.d/*", "/etc/ssh/authorized_keys/*"]
            .iter()
            .flat_map(|p| tree.glob(p)),
    );
    let mut findings = Findings::default();
    for path in files.iter().filter(|path| !is_declared(examined, path)) {
        let text = tree.text(path)?.unwrap_or_default();
        let mut lines = text.lines().map(str::trim).enumerate();
        if let Some((at, line)) = lines.find(|(_, line)| !line.is_empty() && !line.starts_with('#'))
        {
            findings.wrong(format!("{path}:{} lets somebody in: {}", at + 1, owner(line)));
        }
    }
    let mut trusted = in_homes(tree, &TRUSTED)?;
    trusted.extend(["/etc/hosts.equiv", "/etc/ssh/shosts.equiv"].map(str::to_owned));
    for path in trusted {
        if tree.text(&path)?.is_some_and(|text| text.lines().any(|line| !line.starts_with('#'))) {
            findings.wrong(format!("{path} trusts hosts by their names"));
        }
    }
    Ok(findings.verdict("no key lets anybody in but declared users"))
}

/// Whether it is the file of a user to whom the recipe gives keys, or one that the recipe writes.
fn is_declared(examined: &Examined, path: &str) -> bool {
    let mut users = examined.expect.users.values().filter(|user| user.keys);
    examined.expect.files.contains(path)
        || users.any(|user| {
            let home = user.home.trim_end_matches('/');
            path.strip_prefix(home).is_some_and(|rest| rest.starts_with("/.ssh/"))
        })
}

/// The file that `pattern` stands for with this account (sshd_config(5), TOKENS).
fn expanded(pattern: &str, account: &Account) -> Option<String> {
    if pattern.eq_ignore_ascii_case("none") {
        return None;
    }
    let home = account.home.trim_end_matches('/');
    let path = pattern
        .replace("%h", home)
        .replace("%u", &account.name)
        .replace("%U", &account.uid.to_string())
        .replace("%%", "%");
    Some(if path.starts_with('/') { path } else { format!("{home}/{path}") })
}

/// Whose key it is, by its comment; the key itself would fill the line.
fn owner(line: &str) -> &str {
    let last = line.rsplit(char::is_whitespace).next().unwrap_or_default();
    if last.len() > 64 || last.starts_with("AAAA") { "a key without a comment" } else { last }
}

/// What stands before a private key. Each is followed by the rest of its line, so that a text which only tells of
/// the format, such as a template or a manual, is none.
const MARKS: [&str; 8] = [
    "-----BEGIN PRIVATE KEY-----",
    "-----BEGIN RSA PRIVATE KEY-----",
    "-----BEGIN EC PRIVATE KEY-----",
    "-----BEGIN DSA PRIVATE KEY-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----",
    "-----BEGIN ENCRYPTED PRIVATE KEY-----",
    "-----BEGIN PGP PRIVATE KEY BLOCK-----",
    "PuTTY-User-Key-File-",
];

fn private_keys(examined: &Examined) -> Result<Verdict> {
    let mut findings = Findings::default();
    let mut files = 0;
    scan::each(&examined.tree, |path, bytes| {
        files += 1;
        // Host keys are a rule of their own.
        if path.starts_with("/etc/ssh/ssh_host_") {
            return;
        }
        for mark in MARKS {
            let mark_at = scan::find(bytes, mark.as_bytes(), 0);
            if let Some(at) = mark_at.filter(|at| has_key(&bytes[at + mark.len()..])) {
                let kind = mark.trim_matches('-').trim_start_matches("BEGIN ");
                findings.wrong(format!("{path}:{}: {kind}", scan::line_of(bytes, at)));
            }
        }
        if let Some(line) = wireguard(bytes) {
            findings.wrong(format!("{path}:{line}: a key of WireGuard's"));
        }
    })?;
    for path in KEY_RINGS.iter().flat_map(|pattern| examined.tree.glob(pattern)) {
        let there = examined.tree.entry(&path);
        if there.is_some_and(|entry| entry.kind == Kind::File && entry.size > 0) {
            findings.wrong(format!("{path} is a private key"));
        }
    }
    Ok(findings.verdict(format!("none in {files} files of settings, homes and state")))
}

/// Where GnuPG keeps private keys, which have no mark.
const KEY_RINGS: [&str; 3] = [
    "/root/.gnupg/private-keys-v1.d/*.key",
    "/home/*/.gnupg/private-keys-v1.d/*.key",
    "/root/.gnupg/secring.gpg",
];

/// Whether a key follows its mark: text that may be one, on the next line or, in JSON, behind `\n`.
fn has_key(rest: &[u8]) -> bool {
    let text: Vec<u8> = rest.iter().copied().take(400).collect();
    let text = String::from_utf8_lossy(&text).replace("\\n", "\n");
    // Headers such as `Proc-Type: 4,ENCRYPTED` come first in old keys, a version in PuTTY's.
    text.lines().any(|line| {
        let line = line.trim();
        let base64 = |sign: char| sign.is_ascii_alphanumeric() || matches!(sign, '+' | '/' | '=');
        line.len() >= 16 && line.chars().all(base64)
    })
}

/// The line of a setting such as `PrivateKey = …` with 32 bytes in base64, of wg-quick's or networkd's.
fn wireguard(bytes: &[u8]) -> Option<usize> {
    let at = scan::find(bytes, b"PrivateKey", 0)?;
    let text = String::from_utf8_lossy(&bytes[at..]);
    let (_, value) = text.lines().next()?.split_once('=')?;
    let key = BASE64_STANDARD.decode(value.trim()).ok()?;
    (key.len() == 32).then(|| scan::line_of(bytes, at))
}

#[cfg(test)]
pub(in crate::at_rest) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use super::super::accounts::append;
    use crate::at_rest::corpus::Mutation;

    pub(super) const PUBLIC: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9l packer@build\n";
    const BODY: &str = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7\n";

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new(
            "root's key",
            &["authorized-keys"],
            "/root/.ssh/authorized_keys:2 lets somebody in: packer@build",
            |e| {
                e.tree.write("/root/.ssh/authorized_keys", 0o600, format!("# build\n{PUBLIC}"));
            },
        ),
        Mutation::new(
            "a system account's key",
            &["authorized-keys"],
            "/run/sshd/.ssh/authorized_keys",
            |e| {
                e.tree.write("/run/sshd/.ssh/authorized_keys", 0o600, PUBLIC);
            },
        ),
        Mutation::new(
            "a key beside the server",
            &["authorized-keys"],
            "/etc/ssh/keys/root:1",
            |e| {
                append(
                    e,
                    "/etc/ssh/sshd_config",
                    "AuthorizedKeysFile .ssh/authorized_keys /etc/ssh/keys/%u",
                );
                e.tree.write("/etc/ssh/keys/root", 0o600, PUBLIC);
            },
        ),
        Mutation::new("hosts by their names", &["authorized-keys"], "hosts.equiv trusts", |e| {
            e.tree.write("/etc/hosts.equiv", 0o644, "+ +\n");
        }),
        Mutation::new(
            "a snakeoil key",
            &["private-keys"],
            "ssl-cert-snakeoil.key:1: PRIVATE KEY",
            |e| {
                let text =
                    format!("-----BEGIN PRIVATE KEY-----\n{BODY}-----END PRIVATE KEY-----\n");
                e.tree.write("/etc/ssl/private/ssl-cert-snakeoil.key", 0o640, text);
            },
        ),
        Mutation::new("a user's key", &["private-keys"], "/root/.ssh/id_ed25519:1: OPENSSH", |e| {
            let text =
                "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAE\n";
            e.tree.write("/root/.ssh/id_ed25519", 0o600, text);
        }),
        Mutation::new(
            "a key with a passphrase",
            &["private-keys"],
            "/opt/build/ca.pem:3: RSA",
            |e| {
                let text = format!(
                    "# CA\n\n-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\n{BODY}"
                );
                e.tree.write("/opt/build/ca.pem", 0o600, text);
            },
        ),
        Mutation::new(
            "WireGuard's key",
            &["private-keys"],
            "/etc/wireguard/wg0.conf:2: a key of WireGuard's",
            |e| {
                let text =
                    "[Interface]\nPrivateKey = yAnz5TF+lXXJte14tji3zlMNq+hd2rYUIgJBgB3fBmk=\n";
                e.tree.write("/etc/wireguard/wg0.conf", 0o600, text);
            },
        ),
        Mutation::new("GnuPG's key", &["private-keys"], "private-keys-v1.d", |e| {
            e.tree.write("/root/.gnupg/private-keys-v1.d/AB.key", 0o600, "(11:private-key");
        }),
    ];
}

#[cfg(test)]
mod tests {
    use super::mutations::PUBLIC;
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::expect::User;
    use crate::rules::Family;

    #[test]
    fn keys_of_declared_users_are_fine_and_of_others_are_not() {
        let mut examined = sound(Family::Debian);
        let keys = |keys| User { home: "/home/alice/".into(), keys };
        examined.tree.write("/home/alice/.ssh/authorized_keys", 0o600, PUBLIC);
        examined.expect.users.insert("alice".into(), keys(true));
        assert!(matches!(authorized_keys(&examined).unwrap(), Verdict::Pass(_)));
        examined.expect.users.insert("alice".into(), keys(false));
        assert!(matches!(authorized_keys(&examined).unwrap(), Verdict::Fail(_)));
    }

    #[test]
    fn what_only_tells_of_keys_is_none() {
        let mut examined = sound(Family::Debian);
        let tree = &mut examined.tree;
        tree.write("/root/.ssh/authorized_keys", 0o600, "# nobody\n\n");
        tree.write(
            "/etc/manual",
            0o644,
            "A key begins with -----BEGIN PRIVATE KEY-----, as\nRFC 7468 has it.\n",
        );
        tree.write("/etc/wireguard/wg0.conf", 0o600, "[Interface]\n# PrivateKey = here\n");
        tree.write(
            "/etc/ssl/certs/a.pem",
            0o644,
            "-----BEGIN CERTIFICATE-----\nMIIEvQIBADANBgkqhkiG\n",
        );
        for judge in [authorized_keys, private_keys] {
            let verdict = judge(&examined).unwrap();
            assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?}");
        }
    }
}
