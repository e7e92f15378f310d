//! Secrets in settings: keys of clouds, tokens, and files in which programs keep logins.

use nodekiln_words::Result;

use super::scan;
use crate::Tier;
use crate::at_rest::Examined;
use crate::at_rest::findings::Findings;
use crate::rules::{Applies, Judge, Rule, Severity, Verdict};

pub(in crate::at_rest) const RULES: &[Rule] = &[Rule {
    id: "tokens",
    title: "The image has no token and no login of a service",
    tier: Tier::Static,
    severity: Severity::Fatal,
    reads: &["/etc", "/root", "/home", "/var/lib", "/usr/local", "/srv", "/opt"],
    why: "whoever has the image or a node can use what the build was allowed to",
    remedy: "delete the file and revoke what it holds; give the build what it needs from outside the image",
    source: "the services' own documents on the forms of their keys; kubeconfig, netrc(5), Docker's config.json",
    applies: Applies::ALL,
    stops_boot: false,
    judge: Judge::Tree(tokens),
}];

/// A token that is told by its form: words that no other text begins with, and how many signs follow.
struct Form {
    what: &'static str,
    prefix: &'static str,
    signs: fn(char) -> bool,
    /// Least and most signs that follow.
    length: (usize, usize),
}

const fn form(
    what: &'static str,
    prefix: &'static str,
    signs: fn(char) -> bool,
    least: usize,
    most: usize,
) -> Form {
    Form { what, prefix, signs, length: (least, most) }
}

fn upper(sign: char) -> bool {
    sign.is_ascii_uppercase() || ('2'..='7').contains(&sign)
}

fn word(sign: char) -> bool {
    sign.is_ascii_alphanumeric() || sign == '_'
}

fn url_safe(sign: char) -> bool {
    word(sign) || sign == '-'
}

fn dotted(sign: char) -> bool {
    url_safe(sign) || sign == '.'
}

/// Forms that the services publish.
const FORMS: [Form; 15] = [
    form("an access key of AWS", "AKIA", upper, 16, 16),
    form("an access key of AWS", "ASIA", upper, 16, 16),
    form("an API key of Google's", "AIza", url_safe, 35, 35),
    form("a token of GitHub's", "ghp_", word, 36, 255),
    form("a token of GitHub's", "gho_", word, 36, 255),
    form("a token of GitHub's", "ghs_", word, 36, 255),
    form("a token of GitHub's", "ghu_", word, 36, 255),
    form("a token of GitHub's", "github_pat_", word, 59, 255),
    form("a token of GitLab's", "glpat-", url_safe, 20, 64),
    form("a token of Slack's", "xoxb-", url_safe, 20, 128),
    form("a token of Slack's", "xoxp-", url_safe, 20, 128),
    form("a token of npm's", "npm_", word, 36, 36),
    form("a token of PyPI's", "pypi-AgEI", url_safe, 50, 255),
    form("a token of HashiCorp's", "hvs.", url_safe, 24, 255),
    form("a web token", "eyJ", dotted, 60, 4096),
];
/// Tokens of manuals: AWS's end so, kubeadm's is this one.
const EXAMPLES: [&str; 3] = ["EXAMPLE", "abcdef.0123456789abcdef", "XXXXXXXX"];
/// Least bits of entropy a sign has in a secret that was drawn; words and rows of one sign have fewer.
const LEAST_ENTROPY: f64 = 3.0;

fn tokens(examined: &Examined) -> Result<Verdict> {
    let mut findings = Findings::default();
    let mut files = 0;
    scan::each(&examined.tree, |path, bytes| {
        files += 1;
        let declared = examined.expect.files.contains(path);
        // Text alone: what programs keep in their own forms is not guessed at.
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        let found = by_form(text).or_else(|| by_key(text)).or_else(|| by_file(path, text));
        if let Some((line, what)) = found {
            let by = if declared { ", which the recipe writes" } else { "" };
            findings.wrong(format!("{path}:{line}{by}: {what}"));
        }
    })?;
    Ok(findings.verdict(format!("none in {files} files of settings, homes and state")))
}

/// The first token of a published form.
fn by_form(text: &str) -> Option<(usize, &'static str)> {
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        let words = line.split(|sign| !dotted(sign)).filter(|word| word.len() >= 16);
        for word in words {
            let form = FORMS.iter().find(|form| {
                word.strip_prefix(form.prefix).is_some_and(|rest| {
                    let (least, most) = form.length;
                    (least..=most).contains(&rest.len()) && rest.chars().all(form.signs)
                })
            });
            let Some(form) = form else { continue };
            // A web token has three parts, of which the first two are JSON.
            let whole = form.prefix != "eyJ" || {
                let parts: Vec<&str> = word.split('.').collect();
                parts.len() == 3
                    && parts[1].starts_with("eyJ")
                    && parts.iter().all(|part| part.len() >= 10)
            };
            if whole && is_drawn(word) {
                return Some((number, form.what));
            }
        }
    }
    None
}

/// Whether a secret looks drawn and not written for a manual.
fn is_drawn(secret: &str) -> bool {
    !EXAMPLES.iter().any(|example| secret.contains(example)) && entropy(secret) >= LEAST_ENTROPY
}

/// Shannon's entropy of its signs, in bits a sign.
fn entropy(text: &str) -> f64 {
    let mut counts = [0_u32; 256];
    text.bytes().for_each(|byte| counts[usize::from(byte)] += 1);
    let whole = text.len() as f64;
    let shares = counts.iter().filter(|count| **count > 0).map(|count| f64::from(*count) / whole);
    shares.map(|share| -share * share.log2()).sum()
}

/// Keys of settings with the length of their secrets: the secret has no form of its own.
const KEYS: [(&str, &str, usize, usize); 6] = [
    ("aws_secret_access_key", "a secret key of AWS", 40, 40),
    ("AWS_SECRET_ACCESS_KEY", "a secret key of AWS", 40, 40),
    ("AccountKey", "a key of Azure's storage", 88, 88),
    ("SharedAccessKey", "a key of Azure's", 44, 44),
    ("private_key_id", "a service account of Google's", 40, 40),
    ("AZURE_CLIENT_SECRET", "a secret of Azure's", 32, 48),
];

/// The first secret behind a key of that name.
fn by_key(text: &str) -> Option<(usize, &'static str)> {
    for (number, line) in text.lines().enumerate().map(|(at, line)| (at + 1, line)) {
        for (key, what, least, most) in KEYS {
            let Some(at) = line.find(key) else { continue };
            let rest = line[at + key.len()..].trim_start_matches(['"', '\'', ' ', '\t']);
            let Some(value) = rest.strip_prefix(['=', ':']) else { continue };
            let value = value.trim_start_matches(['"', '\'', ' ', '\t']);
            let signs = |sign: char| sign.is_ascii_alphanumeric() || "+/=~_.-".contains(sign);
            let end = value.find(|sign| !signs(sign)).unwrap_or(value.len());
            if (least..=most).contains(&end) && is_drawn(&value[..end]) {
                return Some((number, what));
            }
        }
    }
    None
}

/// What files of this name or form keep logins in.
fn by_file(path: &str, text: &str) -> Option<(usize, &'static str)> {
    let name = path.rsplit('/').next().unwrap_or_default();
    let is_netrc = name == ".netrc" || path.starts_with("/etc/apt/auth.conf");
    let lines = || text.lines().enumerate().map(|(at, line)| (at + 1, line.trim()));
    let line = |fits: &dyn Fn(&str) -> bool| {
        lines().find(|(_, line)| !line.starts_with('#') && fits(line)).map(|(at, _)| at)
    };
    if is_netrc {
        // The words of netrc(5) may stand on one line or on several.
        let mut words = text
            .lines()
            .filter(|line| !line.trim_start().starts_with('#'))
            .flat_map(str::split_whitespace);
        let has = words.any(|word| word == "password") && words.next().is_some();
        return has.then_some((1, "a login of netrc's form"));
    }
    if name == ".git-credentials" || name == "credentials" && path.contains("/git/") {
        return line(&has_login).map(|at| (at, "a login of git's"));
    }
    if name == ".npmrc" || name == ".pypirc" {
        let fits = |line: &str| {
            let secret = line.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
            secret.is_some_and(|(key, value)| {
                (key.ends_with("_authToken") || key.ends_with("_auth") || key == "password")
                    && !value.is_empty()
                    && !value.starts_with('$')
            })
        };
        return line(&fits).map(|at| (at, "a login of a package index"));
    }
    if let Some(found) = container_login(name, text) {
        return Some(found);
    }
    let is_kubeconfig =
        lines().any(|(_, line)| line == "kind: Config") && text.contains("clusters:");
    if is_kubeconfig {
        let fits = |line: &str| {
            let line = line.trim_start_matches("- ");
            let keys = ["token:", "client-key-data:", "client-key:", "password:"];
            keys.iter().any(|key| {
                line.strip_prefix(key).is_some_and(|value| !matches!(value.trim(), "" | "\"\""))
            })
        };
        return line(&fits).map(|at| (at, "a kubeconfig with a login"));
    }
    if text.contains("kubeadm.k8s.io") {
        return line(&has_bootstrap_token).map(|at| (at, "a bootstrap token of kubeadm's"));
    }
    if path.starts_with("/etc/containerd") {
        let fits = |line: &str| {
            let secret = line.split_once('=').map(|(key, value)| (key.trim(), value.trim()));
            let login = ["password", "auth", "identitytoken"];
            secret.is_some_and(|(key, value)| {
                (login.contains(&key) || key.eq_ignore_ascii_case("authorization"))
                    && !matches!(value, "\"\"" | "''" | "")
            })
        };
        return line(&fits).map(|at| (at, "a login of a registry"));
    }
    let settings = [
        "/etc/environment",
        "/etc/pip.conf",
        "/etc/profile.d/",
        "/etc/yum.repos.d/",
        "/root/.config/pip/",
    ];
    if settings.iter().any(|prefix| path.starts_with(prefix)) {
        return line(&has_login).map(|at| (at, "an address with a login"));
    }
    None
}

/// A registry's login in Docker's or the kubelet's file.
fn container_login(name: &str, text: &str) -> Option<(usize, &'static str)> {
    if !matches!(name, "config.json" | ".dockercfg" | ".dockerconfigjson" | "auth.json") {
        return None;
    }
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let auths = value.get("auths").unwrap_or(&value).as_object()?;
    let secret = |auth: &serde_json::Value| {
        let keys = ["auth", "password", "identitytoken", "registrytoken"];
        keys.iter().any(|key| {
            auth.get(key).and_then(|one| one.as_str()).is_some_and(|one| !one.is_empty())
        })
    };
    auths.values().any(secret).then_some((1, "a login of a registry"))
}

/// Whether the line has an address such as `https://user:secret@host`.
fn has_login(line: &str) -> bool {
    line.match_indices("://").any(|(at, _)| {
        let rest = &line[at + 3..];
        let end = rest.find(|sign: char| sign == '/' || sign.is_whitespace()).unwrap_or(rest.len());
        let login = rest[..end].rsplit_once('@').and_then(|(login, _)| login.split_once(':'));
        // A variable is filled in elsewhere.
        login.is_some_and(|(user, secret)| {
            !user.is_empty() && !secret.is_empty() && !secret.starts_with(['$', '{', '<'])
        })
    })
}

/// Whether the line has a token such as `abcdef.0123456789abcdef` (kubeadm, `token`).
fn has_bootstrap_token(line: &str) -> bool {
    let Some((key, value)) = line.trim_start_matches("- ").split_once(':') else { return false };
    let value = value.trim().trim_matches(['"', '\'']);
    let part = |text: &str, length: usize| {
        text.len() == length
            && text.bytes().all(|byte| byte.is_ascii_digit() || byte.is_ascii_lowercase())
    };
    let form = value.split_once('.').is_some_and(|(id, secret)| part(id, 6) && part(secret, 16));
    matches!(key, "token" | "tlsBootstrapToken") && form && !EXAMPLES.contains(&value)
}

#[cfg(test)]
pub(in crate::at_rest) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations;
#[cfg(test)]
mod tests;
