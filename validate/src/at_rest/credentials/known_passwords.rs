//! Whether a hash is that of a password that the world knows.

use nodekiln_words::Result;
use sha_crypt::{PasswordVerifier as _, ShaCrypt};
use yescrypt::Yescrypt;

use super::passwords::scheme;
use crate::Tier;
use crate::at_rest::Examined;
use crate::at_rest::findings::Findings;
use crate::rules::{Applies, Judge, Rule, Severity, Verdict};
use crate::tree::accounts::{Account, Password};

pub(in crate::at_rest) const RULES: &[Rule] = &[Rule {
    id: "known-passwords",
    title: "No password is one that builds are known for",
    tier: Tier::Static,
    severity: Severity::Fatal,
    reads: &["/etc/shadow", "/etc/shadow-", "/etc/passwd"],
    why: "whoever read the builder's documentation gets in",
    remedy: "delete the account, and change what the password is used for elsewhere",
    source: "CVE-2024-9486, CVE-2024-9594; crypt(5)",
    applies: Applies::ALL,
    stops_boot: false,
    judge: Judge::Tree(known_passwords),
}];

/// Passwords of image builders, of their examples and of fresh images. The account's own name is tried, too.
const KNOWN: [&str; 16] = [
    "builder",
    "packer",
    "vagrant",
    "ubuntu",
    "debian",
    "centos",
    "rocky",
    "root",
    "toor",
    "admin",
    "password",
    "passw0rd",
    "changeme",
    "kubernetes",
    "capi",
    "nodekiln",
];

/// Most rounds of SHA-crypt that are tried: twenty times the usual 5,000. A hash may ask for a thousand million.
const MOST_ROUNDS: u32 = 100_000;
/// Costs of yescrypt that are tried: libxcrypt's first six, of 1, 2, 4, 8, 16 (its own choice) and 32 MiB
/// (crypt(5); `crypt-yescrypt.c`). Another parameter could ask for any memory and time.
const COSTS: [&str; 6] = ["j75", "j85", "j7T", "j8T", "j9T", "jAT"];

fn known_passwords(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let mut fields = Vec::new();
    for path in ["/etc/shadow", "/etc/shadow-"] {
        let lines = tree.lines_of::<Password>(path)?.unwrap_or_default().entries.into_iter();
        fields.extend(lines.map(|one| (format!("{path}:{}", one.line), one.name, one.field)));
    }
    let accounts = tree.lines_of::<Account>("/etc/passwd")?.unwrap_or_default().entries.into_iter();
    fields
        .extend(accounts.map(|one| (format!("/etc/passwd:{}", one.line), one.name, one.password)));
    if fields.is_empty() {
        return Ok(Verdict::NotProven("there are no account files".into()));
    }
    let mut findings = Findings::default();
    let mut tried = 0;
    for (place, name, field) in fields {
        let hash = field.trim_start_matches(['!', '*']);
        // `x` stands for a line in /etc/shadow.
        if matches!(hash, "" | "x") {
            continue;
        }
        tried += 1;
        match password_of(hash, &name) {
            Tried::Known(password) => {
                findings.wrong(format!("{place}: {name} has the password `{password}`"));
            }
            Tried::Other => {}
            Tried::Not => findings
                .unknown(format!("{place}: the hash of {name} is not tried ({})", scheme(hash))),
        }
    }
    Ok(findings.verdict(match tried {
        0 => "nobody has a hash".to_owned(),
        tried => format!("{tried} hashes, none of a known password"),
    }))
}

/// What came of trying.
#[derive(Debug, PartialEq, Eq)]
enum Tried {
    Known(String),
    Other,
    /// The hash is of another scheme, or too costly.
    Not,
}

/// The known password whose hash this is.
fn password_of(hash: &str, name: &str) -> Tried {
    let parts: Vec<&str> = hash.split('$').collect();
    let fits: Box<dyn Fn(&str) -> bool> = match parts[..] {
        ["", "5" | "6", rounds, _, _] if is_few(rounds) => sha(hash),
        ["", "5" | "6", _, _] => sha(hash),
        ["", "y", cost, _, _] if COSTS.contains(&cost) => {
            let hash = hash.to_owned();
            Box::new(move |word| {
                Yescrypt::default().verify_password(word.as_bytes(), hash.as_str()).is_ok()
            })
        }
        _ => return Tried::Not,
    };
    let mut words = KNOWN.iter().copied().chain([name]);
    words.find(|word| fits(word)).map_or(Tried::Other, |word| Tried::Known(word.to_owned()))
}

fn sha(hash: &str) -> Box<dyn Fn(&str) -> bool> {
    let hash = hash.to_owned();
    Box::new(move |word| {
        ShaCrypt::default().verify_password(word.as_bytes(), hash.as_str()).is_ok()
    })
}

fn is_few(rounds: &str) -> bool {
    let rounds = rounds.strip_prefix("rounds=").and_then(|rounds| rounds.parse::<u32>().ok());
    rounds.is_some_and(|rounds| rounds <= MOST_ROUNDS)
}

#[cfg(test)]
pub(in crate::at_rest) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use crate::at_rest::corpus::Mutation;

    /// glibc's `crypt("builder", "$6$saltsalt")`.
    pub(super) const SHA512: &str = "$6$saltsalt$AMApe3UxKRHFGgpM1NDN5e0tMZ6laQYyoi896lWiBlxd7Nwbszp8z77oH.h4MAG5Y14p5yLYfTD/sjuLtHEDG/";
    /// libxcrypt's `crypt("builder", "$y$j9T$F5Jx5fExrKuPp53xLKQ..1")`.
    pub(super) const YESCRYPT: &str =
        "$y$j9T$F5Jx5fExrKuPp53xLKQ..1$Deq9vtPmYmA..UuRprGm7Kfmow7CLHQAJ9tD3mx7hI3";

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new("the build's password", &["known-passwords", "passwords"], "root has", |e| {
            e.tree.replace("/etc/shadow", "root:*:", &format!("root:{SHA512}:"));
        })
        .incident("CVE-2024-9486"),
        Mutation::new(
            "the build's password, locked",
            &["known-passwords", "passwords"],
            "root has",
            |e| {
                e.tree.replace("/etc/shadow", "root:*:", &format!("root:!{YESCRYPT}:"));
            },
        )
        .incident("CVE-2024-9486"),
    ];
}

#[cfg(test)]
mod tests {
    use super::mutations::{SHA512, YESCRYPT};
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::rules::Family;

    #[test]
    fn hashes_of_glibc_and_libxcrypt_are_found_out() {
        let known = |word: &str| Tried::Known(word.to_owned());
        assert_eq!(password_of(SHA512, "root"), known("builder"));
        assert_eq!(password_of(YESCRYPT, "root"), known("builder"));
        // `crypt("packer", "$5$saltsalt")`, and another with its rounds told.
        assert_eq!(
            password_of("$5$saltsalt$fnE8jy7DQnyLSX8rli8SyE8CD3sT2KrQkRpI7/j6BZA", "x"),
            known("packer")
        );
        let told = "$6$rounds=5000$nodekilnsalt$JjsoOnu9ieVB7grs159siPZZdfsfs8IRj2IZ5o.xhj7RWgEve8j5oTfBIbCoi6JXo2jsiaXt93Trn8qtCxB261";
        assert_eq!(password_of(told, "x"), known("builder"));
    }

    #[test]
    fn a_hash_that_is_not_tried_proves_nothing() {
        let mut examined = sound(Family::Debian);
        for field in ["$1$saltsalt$2d6wyQI7cMZI6bchx51/A1", "!abcdefghijklm"] {
            let line = format!("root:{field}:20758:0:99999:7:::\n");
            examined.tree.write("/etc/shadow", 0o640, line);
            let verdict = known_passwords(&examined).unwrap();
            assert!(matches!(&verdict, Verdict::NotProven(_)), "{verdict:?}");
        }
    }

    #[test]
    fn another_password_is_none_of_them() {
        let other = SHA512.replace("AMApe3", "AMApe4");
        assert_eq!(password_of(&other, "root"), Tried::Other);
    }

    #[test]
    fn what_is_of_another_scheme_or_too_costly_is_not_tried() {
        for hash in [
            "$1$saltsalt$2d6wyQI7cMZI6bchx51/A1",
            "$6$rounds=999999999$a$b",
            "$y$jFT$a$b",
            "$2b$05$x",
            "$",
        ] {
            assert_eq!(password_of(hash, "root"), Tried::Not, "{hash}");
        }
        for broken in ["$6$$", "$y$j9T$$", "$5$a$!"] {
            assert_eq!(password_of(broken, "root"), Tried::Other, "{broken}");
        }
    }
}
