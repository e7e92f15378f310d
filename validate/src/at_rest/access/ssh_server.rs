//! What OpenSSH's server lets happen, as its configuration takes effect.

use nodekiln_words::Result;

use crate::Tier;
use crate::at_rest::Examined;
use crate::at_rest::findings::Findings;
use crate::rules::{Applies, Judge, Rule, Severity, Software, Verdict};
use crate::tree::sshd::{Configuration, Setting};
use crate::tree::{Tree, cloud_config};

pub(in crate::at_rest) const RULES: &[Rule] = &[
    Rule {
        id: "sshd-effective",
        title: "The SSH server takes keys alone",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "/etc/ssh/sshd_config",
            "/etc/ssh/sshd_config.d",
            "/etc/default/ssh",
            "/etc/sysconfig/sshd",
            "/etc/cloud/cloud.cfg",
            "/usr/sbin/sshd",
        ],
        why: "a server that takes passwords gives everybody on the network a try, root's among them",
        remedy: "write `PasswordAuthentication no`, `KbdInteractiveAuthentication no` and `PermitRootLogin \
                 prohibit-password` into a drop-in that is read first, such as 10-node.conf",
        source: "sshd_config(5); image-builder issue 85; CVE-2024-9486",
        applies: Applies::with(&[Software::SshServer]),
        stops_boot: false,
        judge: Judge::Tree(effective),
    },
    Rule {
        id: "sshd-advised",
        title: "The SSH server offers neither X11, users' environments nor broken ciphers",
        tier: Tier::Static,
        severity: Severity::Advisory,
        reads: &["/etc/ssh/sshd_config", "/etc/ssh/sshd_config.d", "/usr/bin/xauth"],
        why: "what a node does not need can only be misused",
        remedy: "leave the setting to OpenSSH, or write a stricter one into a drop-in that is read first",
        source: "sshd_config(5); CIS Distribution Independent Linux benchmark, 5.2",
        applies: Applies::with(&[Software::SshServer]),
        stops_boot: false,
        judge: Judge::Tree(advised),
    },
];

const MAIN: &str = "/etc/ssh/sshd_config";
/// The keyword that cloud-init sets.
const PASSWORDS: &str = "PasswordAuthentication";
/// The drop-in by which cloud-init switches passwords on or off at boot.
const CLOUD_INITS: &str = "50-cloud-init.conf";
/// Names of the keyboard-interactive switch; from 8.7 on the second is another name of the first.
const KEYBOARD: [&str; 3] =
    ["kbdinteractiveauthentication", "challengeresponseauthentication", "skeyauthentication"];
/// The first OpenSSH in which both names are one.
const ONE_NAME: (u32, u32) = (8, 7);
/// The first OpenSSH in which root may not log in by a password unless somebody says so.
const ROOT_BY_KEY: (u32, u32) = (7, 0);

fn effective(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let Some(sshd) = configuration(tree)? else {
        return Ok(Verdict::NotProven(format!("there is no {MAIN}")));
    };
    let version = tree.openssh_version()?;
    let mut findings = Findings::default();
    for refused in &sshd.refused {
        findings.wrong(format!("{refused}: the server does not start"));
    }
    let judged: [(&str, &[&str], Option<&str>); 3] = [
        (PASSWORDS, &["passwordauthentication"], Some("yes")),
        ("PermitEmptyPasswords", &["permitemptypasswords"], Some("no")),
        ("PermitRootLogin", &["permitrootlogin"], root_login(version)),
    ];
    let off = switched_off(tree, &sshd)?;
    for (name, keywords, default) in judged {
        if name != PASSWORDS || off.is_none() {
            judge(&sshd, name, keywords, default, &mut findings);
        }
        for_some(&sshd, name, keywords, &mut findings);
    }
    keyboard(&sshd, version, &mut findings);
    cloud_init(tree, &sshd, &mut findings)?;
    let version =
        version.map_or("OpenSSH".to_owned(), |(major, minor)| format!("OpenSSH {major}.{minor}"));
    let off = off.map(|path| format!("; {path}: ssh_pwauth false, which cloud-init does at boot"));
    Ok(findings.verdict(format!("{version} takes keys alone{}", off.unwrap_or_default())))
}

/// What a server without a word of the administrator's says to root; nothing where its version is not known.
fn root_login(version: Option<(u32, u32)>) -> Option<&'static str> {
    version.map(|version| if version < ROOT_BY_KEY { "yes" } else { "prohibit-password" })
}

/// Tells where one of `keywords` is `yes`, by a line or by default.
fn judge(
    sshd: &Configuration,
    name: &str,
    keywords: &[&str],
    default: Option<&str>,
    findings: &mut Findings,
) {
    match (sshd.first(keywords), default) {
        (Some(setting), _) if setting.value() == "yes" => {
            findings.wrong(format!("{}: {name} yes", setting.place()));
        }
        (Some(_), _) => {}
        (None, Some("yes")) => findings.wrong(format!("{name} is not set, and by default yes")),
        (None, Some(_)) => {}
        (None, None) => {
            findings.unknown(format!("{name} is not set, and the server's version is not known"));
        }
    }
}

/// Tells where a `Match` block says `yes` to one of `keywords`.
fn for_some(sshd: &Configuration, name: &str, keywords: &[&str], findings: &mut Findings) {
    let instead = sshd.instead(keywords).filter(|setting| setting.value() == "yes");
    for setting in instead {
        let condition = setting.condition.as_deref().unwrap_or_default();
        findings.wrong(format!("{}: {name} yes for Match {condition}", setting.place()));
    }
}

fn keyboard(sshd: &Configuration, version: Option<(u32, u32)>, findings: &mut Findings) {
    const NAME: &str = "KbdInteractiveAuthentication";
    let one_name = version.map(|version| version >= ONE_NAME);
    match one_name {
        Some(true) => {
            judge(sshd, NAME, &KEYBOARD, Some("yes"), findings);
            for_some(sshd, NAME, &KEYBOARD, findings);
        }
        // Two switches, of which either does; the older one is on by default.
        Some(false) => {
            const OLDER: &str = "ChallengeResponseAuthentication";
            judge(sshd, NAME, &KEYBOARD[..1], Some("no"), findings);
            for_some(sshd, NAME, &KEYBOARD[..1], findings);
            judge(sshd, OLDER, &KEYBOARD[1..], Some("yes"), findings);
            for_some(sshd, OLDER, &KEYBOARD[1..], findings);
        }
        None => {
            let older = sshd.first(&KEYBOARD[1..]).map(Setting::value);
            let newer = sshd.first(&KEYBOARD[..1]).map(Setting::value);
            if older.is_none() && newer.as_deref() == Some("no") {
                findings.unknown(format!(
                    "{NAME} no counts from OpenSSH 8.7 on, and the server's version is not known"
                ));
            }
            judge(sshd, NAME, &KEYBOARD, Some("yes"), findings);
            for_some(sshd, NAME, &KEYBOARD, findings);
        }
    }
}

/// What cloud-init's settings say of passwords, and the file that has the last word: yes, no, or nothing that it takes
/// for either (`util.is_true` and `util.is_false`).
fn pwauth(tree: &Tree) -> Result<Option<(String, String, Option<bool>)>> {
    let Some((value, path)) = cloud_config::value(tree, "ssh_pwauth")? else { return Ok(None) };
    let word = value.as_str().map_or_else(|| value.to_string(), str::to_lowercase);
    let meant = match word.as_str() {
        "true" | "1" | "on" | "yes" => Some(true),
        "false" | "0" | "off" | "no" => Some(false),
        _ => None,
    };
    Ok(Some((path, word, meant)))
}

/// The file by which cloud-init switches passwords off at boot, as Enterprise Linux has it, unless something that the
/// server reads earlier switches them on. Where the server's first file includes no drop-ins, cloud-init changes that.
fn switched_off(tree: &Tree, sshd: &Configuration) -> Result<Option<String>> {
    let Some((path, _, Some(false))) = pwauth(tree)? else { return Ok(None) };
    if !cloud_config::runs(tree, "set_passwords")? {
        return Ok(None);
    }
    let stays = sshd.first(&["passwordauthentication"]).is_some_and(|setting| {
        let drop_in = format!("/etc/ssh/sshd_config.d/{CLOUD_INITS}");
        sshd.precedes(setting, &drop_in).unwrap_or(setting.path != MAIN)
    });
    Ok((!stays).then_some(path))
}

/// Tells where cloud-init will switch passwords on and nothing that is read before its drop-in forbids it.
fn cloud_init(tree: &Tree, sshd: &Configuration, findings: &mut Findings) -> Result<()> {
    let Some((path, word, Some(true))) = pwauth(tree)? else { return Ok(()) };
    let before = sshd.first(&["passwordauthentication"]).is_some_and(|setting| {
        let name = setting.path.strip_prefix("/etc/ssh/sshd_config.d/");
        name.is_some_and(|name| name < CLOUD_INITS)
    });
    if !before {
        findings.wrong(format!("{path}: ssh_pwauth {word}, which cloud-init does at boot"));
    }
    Ok(())
}

/// The server's configuration with the options that its unit gives it.
fn configuration(tree: &Tree) -> Result<Option<Configuration>> {
    let Some(mut sshd) = Configuration::read(tree, MAIN)? else { return Ok(None) };
    for path in ["/etc/default/ssh", "/etc/sysconfig/sshd"] {
        let text = tree.text(path)?.unwrap_or_default();
        let lines =
            text.lines().enumerate().filter(|(_, line)| !line.trim_start().starts_with('#'));
        for (at, line) in lines {
            let mut words = line
                .split(|sign: char| sign.is_whitespace() || "=\"'".contains(sign))
                .filter(|word| !word.is_empty());
            while let Some(word) = words.next() {
                let Some(joined) = word.strip_prefix("-o") else { continue };
                let keyword = if joined.is_empty() { words.next() } else { Some(joined) };
                if let (Some(keyword), Some(value)) = (keyword, words.next()) {
                    sshd.precede(keyword, value, path, at + 1);
                }
            }
        }
    }
    Ok(Some(sshd))
}

/// Settings that are better left alone, with the values that are told of.
const ADVISED: [(&str, &str); 7] = [
    ("PermitUserEnvironment", "yes"),
    ("HostbasedAuthentication", "yes"),
    ("IgnoreRhosts", "no"),
    ("StrictModes", "no"),
    ("PermitTunnel", "yes"),
    ("GatewayPorts", "yes"),
    ("LogLevel", "quiet"),
];
/// Algorithms that are broken or too short (RFC 8758, RFC 9142; NIST SP 800-131A).
const BROKEN: [(&str, &[&str]); 3] = [
    (
        "Ciphers",
        &["3des-cbc", "blowfish-cbc", "cast128-cbc", "arcfour", "arcfour128", "arcfour256"],
    ),
    (
        "MACs",
        &[
            "hmac-md5",
            "hmac-md5-96",
            "hmac-sha1-96",
            "hmac-md5-etm@openssh.com",
            "hmac-md5-96-etm@openssh.com",
        ],
    ),
    ("KexAlgorithms", &["diffie-hellman-group1-sha1", "diffie-hellman-group-exchange-sha1"]),
];

fn advised(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let Some(sshd) = configuration(tree)? else {
        return Ok(Verdict::NotProven(format!("there is no {MAIN}")));
    };
    let mut findings = Findings::default();
    // Without this program the server refuses each request for a display.
    let x11 = tree.program("xauth").map(|_| ("X11Forwarding", "yes"));
    for (name, value) in ADVISED.into_iter().chain(x11) {
        if let Some(setting) = sshd.first(&[name.to_lowercase().as_str()])
            && setting.value() == value
        {
            findings.wrong(format!("{}: {name} {value}", setting.place()));
        }
    }
    for (name, broken) in BROKEN {
        let Some(setting) = sshd.first(&[name.to_lowercase().as_str()]) else { continue };
        let value = setting.value();
        // A list that takes algorithms away cannot bring one in.
        let named = value.trim_start_matches(['+', '^']).split(',');
        for algorithm in named.filter(|one| !value.starts_with('-') && broken.contains(one)) {
            findings.wrong(format!("{}: {name} has {algorithm}", setting.place()));
        }
    }
    Ok(findings.verdict("nothing that a node does not need"))
}

#[cfg(test)]
pub(in crate::at_rest) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use crate::at_rest::corpus::{Examined, Mutation};

    const DROP_IN: &str = "/etc/ssh/sshd_config.d/10-node.conf";

    /// Leaves it to cloud-init to switch passwords off, which runs the module `module`.
    pub(super) fn by_cloud_init(e: &mut Examined<'static>, module: &str) {
        let text = format!(
            "ssh_pwauth: false\ncloud_init_modules: [ssh]\ncloud_config_modules: [{module}]\n"
        );
        e.tree.write("/etc/cloud/cloud.cfg.d/99-x.cfg", 0o644, text);
        let rest = "KbdInteractiveAuthentication no\nPermitRootLogin prohibit-password\n";
        e.tree.write(DROP_IN, 0o644, rest);
    }

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new(
            "a drop-in that is read before ours",
            &["sshd-effective"],
            "05-x.conf:1: PasswordAuthentication yes",
            |e| {
                e.tree.write(
                    "/etc/ssh/sshd_config.d/05-x.conf",
                    0o644,
                    "PasswordAuthentication yes\n",
                );
            },
        ),
        Mutation::new(
            "no drop-in",
            &["sshd-effective"],
            "PasswordAuthentication is not set",
            |e| {
                e.tree.remove(DROP_IN);
            },
        ),
        Mutation::new(
            "the keyboard",
            &["sshd-effective"],
            "KbdInteractiveAuthentication yes",
            |e| {
                e.tree.write(
                    "/etc/ssh/sshd_config.d/05-x.conf",
                    0o644,
                    "ChallengeResponseAuthentication yes\n",
                );
            },
        ),
        Mutation::new(
            "the keyboard of an older server",
            &["sshd-effective"],
            "ChallengeResponseAuthentication is not set",
            |e| {
                e.tree.write("/usr/sbin/sshd", 0o755, "OpenSSH_8.4p1 Debian-5\0");
            },
        ),
        Mutation::new("root by a password", &["sshd-effective"], "PermitRootLogin yes", |e| {
            e.tree.write("/etc/ssh/sshd_config.d/05-x.conf", 0o644, "PermitRootLogin yes\n");
        })
        .incident("CVE-2024-9486"),
        Mutation::new(
            "root by an old default",
            &["sshd-effective"],
            "PermitRootLogin is not set",
            |e| {
                e.tree.write("/usr/sbin/sshd", 0o755, "OpenSSH_6.7p1 Debian-5\0");
                let text = "PasswordAuthentication no\nChallengeResponseAuthentication no\n";
                e.tree.write(DROP_IN, 0o644, text);
            },
        ),
        Mutation::new("empty passwords", &["sshd-effective"], "PermitEmptyPasswords yes", |e| {
            e.tree.write("/etc/ssh/sshd_config.d/20-x.conf", 0o644, "PermitEmptyPasswords yes\n");
        }),
        Mutation::new("passwords for some", &["sshd-effective"], "Match Address 10.0.0.0/8", |e| {
            let text = "Match Address 10.0.0.0/8\n  PasswordAuthentication yes\n";
            e.tree.write("/etc/ssh/sshd_config.d/99-x.conf", 0o644, text);
        }),
        Mutation::new("an option of the unit's", &["sshd-effective"], "/etc/default/ssh:1", |e| {
            e.tree.write(
                "/etc/default/ssh",
                0o644,
                "SSHD_OPTS=\"-o PasswordAuthentication=yes\"\n",
            );
        }),
        Mutation::new("what the server refuses", &["sshd-effective"], "does not start", |e| {
            e.tree.write("/etc/ssh/sshd_config.d/20-x.conf", 0o644, "Banner\n");
        }),
        Mutation::new("what cloud-init will do", &["sshd-effective"], "ssh_pwauth true", |e| {
            e.tree.write("/etc/cloud/cloud.cfg.d/99-x.cfg", 0o644, "ssh_pwauth: true\n");
            let text = e.tree.text(DROP_IN).unwrap().unwrap();
            e.tree.remove(DROP_IN);
            e.tree.write("/etc/ssh/sshd_config.d/99-node.conf", 0o644, text);
        }),
        Mutation::new(
            "passwords that cloud-init would switch off, if its module ran",
            &["sshd-effective"],
            "05-x.conf:1: PasswordAuthentication yes",
            |e| {
                by_cloud_init(e, "ssh");
                let text = "PasswordAuthentication yes\n";
                e.tree.write("/etc/ssh/sshd_config.d/05-x.conf", 0o644, text);
            },
        ),
        Mutation::new(
            "passwords that cloud-init would switch off, if they were not switched on before",
            &["sshd-effective"],
            "05-x.conf:1: PasswordAuthentication yes",
            |e| {
                by_cloud_init(e, "set_passwords");
                let text = "PasswordAuthentication yes\n";
                e.tree.write("/etc/ssh/sshd_config.d/05-x.conf", 0o644, text);
            },
        ),
        Mutation::new(
            "passwords for some, which cloud-init leaves alone",
            &["sshd-effective"],
            "Match User admin",
            |e| {
                by_cloud_init(e, "set_passwords");
                let text = "Match User admin\n  PasswordAuthentication yes\n";
                e.tree.write("/etc/ssh/sshd_config.d/99-x.conf", 0o644, text);
            },
        ),
        Mutation::new("displays", &["sshd-advised"], "X11Forwarding yes", |e| {
            e.tree.write("/usr/bin/xauth", 0o755, "elf");
        }),
        Mutation::new("users' environments", &["sshd-advised"], "PermitUserEnvironment yes", |e| {
            e.tree.write("/etc/ssh/sshd_config.d/20-x.conf", 0o644, "PermitUserEnvironment yes\n");
        }),
        Mutation::new("a broken cipher", &["sshd-advised"], "Ciphers has 3des-cbc", |e| {
            e.tree.write("/etc/ssh/sshd_config.d/20-x.conf", 0o644, "Ciphers +3des-cbc\n");
        }),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::rules::Family;

    fn judged(change: fn(&mut Examined<'static>)) -> Verdict {
        let mut examined = sound(Family::Debian);
        change(&mut examined);
        effective(&examined).unwrap()
    }

    #[test]
    fn what_is_read_behind_ours_changes_nothing() {
        let verdict = judged(|e| {
            let text = "PasswordAuthentication yes\nPermitRootLogin yes\n";
            e.tree.write("/etc/ssh/sshd_config.d/50-cloud-init.conf", 0o644, text);
            e.tree.write("/etc/ssh/sshd_config.d/05-x.conf.dpkg-old", 0o644, text);
            e.tree.write("/etc/cloud/cloud.cfg.d/99-x.cfg", 0o644, "ssh_pwauth: true\n");
        });
        assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?}");
    }

    #[test]
    fn what_cloud_init_switches_off_is_off() {
        for (module, setting) in
            [("set_passwords", ""), ("set-passwords", ""), ("set-passwords", "yes")]
        {
            let mut examined = sound(Family::Rpm);
            mutations::by_cloud_init(&mut examined, module);
            if !setting.is_empty() {
                let text = format!("PasswordAuthentication {setting}\n");
                examined.tree.write("/etc/ssh/sshd_config.d/60-x.conf", 0o644, text);
            }
            let verdict = effective(&examined).unwrap();
            assert!(
                matches!(&verdict, Verdict::Pass(seen) if seen.contains("ssh_pwauth false")),
                "{module}: {verdict:?}"
            );
        }
    }

    #[test]
    fn a_block_that_forbids_is_fine_and_one_for_all_settles_it() {
        let verdict = judged(|e| {
            let text = "Match User a\nPasswordAuthentication no\nMatch all\nPasswordAuthentication no\n\
                        Match User b\nPasswordAuthentication yes\n";
            e.tree.write("/etc/ssh/sshd_config.d/99-x.conf", 0o644, text);
        });
        assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?}");
    }

    #[test]
    fn what_depends_on_a_version_that_nobody_knows_is_not_proven() {
        let verdict = judged(|e| e.tree.write("/usr/sbin/sshd", 0o755, "elf"));
        assert!(matches!(&verdict, Verdict::NotProven(why) if why.contains("8.7")), "{verdict:?}");
        let verdict = judged(|e| e.tree.remove("/etc/ssh/sshd_config"));
        assert!(matches!(verdict, Verdict::NotProven(_)), "{verdict:?}");
    }

    #[test]
    fn algorithms_that_are_taken_away_are_none() {
        let mut examined = sound(Family::Debian);
        examined.tree.write(
            "/etc/ssh/sshd_config.d/20-x.conf",
            0o644,
            "Ciphers -3des-cbc,arcfour\n",
        );
        assert!(matches!(advised(&examined).unwrap(), Verdict::Pass(_)));
    }
}
