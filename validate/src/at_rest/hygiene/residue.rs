//! What building leaves lying about: logs, temporary files, caches, older copies, histories.

use nodekiln_words::{Bytes, Result};

use crate::Tier;
use crate::at_rest::Examined;
use crate::at_rest::findings::Findings;
use crate::at_rest::hygiene::leftovers;
use crate::rules::{Applies, Judge, Rule, Severity, Verdict};
use crate::tree::{Kind, Tree};

pub(in crate::at_rest) const RULES: &[Rule] = &[
    Rule {
        id: "logs",
        title: "No journal and next to no logs are kept",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/var/log"],
        why: "a journal is another machine's, kept under its id; logs tell of the build and grow with every image",
        remedy: "empty /var/log, keeping its folders and the files that login programs expect",
        source: "systemd-journald.service(8); image-builder issue 2065, which allows 200 MB",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Tree(logs),
    },
    Rule {
        id: "temporary-files",
        title: "No temporary file, core or spool is kept",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "/tmp",
            "/var/tmp",
            "/var/crash",
            "/var/lib/systemd/coredump",
            "/var/spool",
            "/var/mail",
        ],
        why: "scripts, answers and checks of a build lie there, and cores hold what a process had in memory",
        remedy: "empty the folders as the last step of the build",
        source: "hier(7); core(5)",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Tree(temporary_files),
    },
    Rule {
        id: "caches",
        title: "No package lists, packages or caches are kept",
        tier: Tier::Static,
        severity: Severity::Advisory,
        reads: &[
            "/var/lib/apt/lists",
            "/var/cache/apt",
            "/var/cache/dnf",
            "/var/cache/yum",
            "/var/lib/snapd/seed",
            "/root/.cache",
            "/var/cache",
            "/var/backups",
        ],
        why: "they are of the day of the build and cost every node the same room",
        remedy: "`apt-get distclean` or `dnf clean all`, and delete what programs cached",
        source: "apt-get(8), dnf(8)",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Tree(caches),
    },
    Rule {
        id: "account-backups",
        title: "No older copies of the account files are kept",
        tier: Tier::Static,
        severity: Severity::Advisory,
        reads: &[
            "/etc/passwd-",
            "/etc/shadow-",
            "/etc/group-",
            "/etc/gshadow-",
            "/etc/subuid-",
            "/etc/subgid-",
        ],
        why: "they still have the accounts and hashes that the build took out",
        remedy: "delete /etc/*- beside the account files",
        source: "passwd(5), FILES",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Tree(account_backups),
    },
    Rule {
        id: "histories",
        title: "No history of commands or visited hosts is kept",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "~/.*_history",
            "~/.lesshst",
            "~/.viminfo",
            "~/.wget-hsts",
            "~/.ssh/known_hosts",
            "/etc/ssh/ssh_known_hosts",
        ],
        why: "they tell what was typed while building, passwords among it, and which hosts were reached",
        remedy: "delete them in every home",
        source: "bash(1), HISTORY; ssh(1), FILES",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Tree(histories),
    },
];

/// What logs may take before an image fails (image-builder issue 2065).
const MOST_LOGS: Bytes = Bytes(200 << 20);
/// What they may take without a word: empty files, and a line here and there.
const FEW_LOGS: Bytes = Bytes(64 << 10);
/// Records of logins: any byte in them is somebody's.
const LOGINS: [&str; 4] =
    ["/var/log/wtmp", "/var/log/btmp", "/var/log/lastlog", "/var/log/faillog"];

fn logs(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let mut findings = Findings::default();
    for path in leftovers(tree, &["/var/log/journal/*"]) {
        findings.wrong(format!("{path} is another machine's journal"));
    }
    let files = || tree.below("/var/log").filter(|(_, entry)| entry.kind == Kind::File);
    let total = Bytes(files().map(|(_, entry)| entry.size).sum());
    let largest = files().max_by_key(|(_, entry)| entry.size);
    let (largest, size) = largest.map_or(("", 0), |(path, entry)| (path, entry.size));
    let told = format!("{total} below /var/log, {} of them {largest}", Bytes(size));
    if total.get() > MOST_LOGS.get() {
        findings.wrong(format!("{told}: more than {MOST_LOGS}"));
    } else if total.get() > FEW_LOGS.get() {
        findings.worth_telling(told);
    }
    for path in leftovers(tree, &LOGINS) {
        findings.worth_telling(format!("{path} has records of logins"));
    }
    Ok(findings.verdict(format!("{total} below /var/log, no journal")))
}

/// Folders that are empty on a machine that nobody used yet.
const TEMPORARY: [&str; 10] = [
    "/tmp",
    "/var/tmp",
    "/var/crash",
    "/var/lib/systemd/coredump",
    "/var/lib/abrt",
    "/var/mail",
    "/var/spool/mail",
    "/var/spool/cron",
    "/var/spool/at",
    "/var/spool/postfix/maildrop",
];
/// Folders for sockets that systemd-tmpfiles makes at each boot.
const SOCKETS: [&str; 5] = [".X11-unix", ".ICE-unix", ".XIM-unix", ".font-unix", ".Test-unix"];
/// Where processes of root's leave cores: their working folders.
const CORES: [&str; 6] = [
    "/core",
    "/core.[0-9]*",
    "/root/core",
    "/root/core.[0-9]*",
    "/var/core*",
    "/home/*/core.[0-9]*",
];

fn temporary_files(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let mut findings = Findings::default();
    for folder in ["/tmp", "/var/tmp"] {
        let sockets = |name: &&str| {
            let there = tree.entry(&format!("{folder}/{name}"));
            SOCKETS.contains(name) && there.is_some_and(|entry| entry.kind == Kind::Folder)
        };
        for name in tree.names(folder).into_iter().filter(|name| !sockets(name)) {
            let path = format!("{folder}/{name}");
            if tree.entry(&path).is_some_and(|entry| entry.kind == Kind::Folder) {
                findings.wrong(format!("{path} is left over"));
            }
        }
    }
    for path in leftovers(tree, &TEMPORARY) {
        // A table of cron's that the recipe or a package put there is no leftover of a queue.
        if !examined.expect.files.contains(&path) && !is_placeholder(&path) {
            findings.wrong(format!("{path} is left over"));
        }
    }
    for path in CORES.iter().flat_map(|pattern| tree.glob(pattern)) {
        if tree.entry(&path).is_some_and(|entry| entry.kind == Kind::File && entry.size > 0) {
            findings.wrong(format!("{path} is a core"));
        }
    }
    Ok(findings.verdict("/tmp, /var/tmp and the spools are empty"))
}

/// What packages put into a spool so that it is not empty.
fn is_placeholder(path: &str) -> bool {
    path.ends_with("/.SEQ") || path.ends_with("/.placeholder")
}

/// Caches by what they are, and where.
const CACHES: [(&str, &[&str]); 8] = [
    ("package lists", &["/var/lib/apt/lists/*"]),
    (
        "downloaded packages",
        &[
            "/var/cache/apt/archives/*.deb",
            "/var/cache/apt/archives/partial",
            "/var/cache/dnf",
            "/var/cache/libdnf5",
            "/var/cache/yum",
            "/var/cache/tdnf",
        ],
    ),
    ("package caches", &["/var/cache/apt/*.bin"]),
    ("snap seeds", &["/var/lib/snapd/seed", "/var/lib/snapd/snaps", "/var/lib/snapd/cache"]),
    (
        "programs' caches",
        &["/root/.cache", "/home/*/.cache", "/root/.ansible", "/home/*/.ansible", "/root/.npm"],
    ),
    ("indexes", &["/var/cache/man", "/var/cache/fontconfig", "/var/cache/ldconfig/aux-cache"]),
    ("copies of databases", &["/var/lib/dpkg/*-old", "/var/cache/debconf/*-old", "/var/backups/*"]),
    ("locks of databases", &["/var/lib/rpm/__db.*", "/var/lib/rpm/.rpm.lock"]),
];

fn caches(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let mut findings = Findings::default();
    for (what, patterns) in CACHES {
        let found = leftovers(tree, patterns);
        if let Some(first) = found.first() {
            let size =
                found.iter().filter_map(|path| tree.entry(path)).map(|entry| entry.size).sum();
            findings.wrong(format!(
                "{what}: {} files of {}, such as {first}",
                found.len(),
                Bytes(size)
            ));
        }
    }
    Ok(findings.verdict("no package lists, packages or caches"))
}

/// The account files with a copy of what they were before the last change.
const BACKUPS: [&str; 6] = [
    "/etc/passwd-",
    "/etc/shadow-",
    "/etc/group-",
    "/etc/gshadow-",
    "/etc/subuid-",
    "/etc/subgid-",
];

fn account_backups(examined: &Examined) -> Result<Verdict> {
    let mut findings = Findings::default();
    for path in leftovers(&examined.tree, &BACKUPS) {
        findings.wrong(format!("{path} is there"));
    }
    Ok(findings.verdict("no older copies of the account files"))
}

/// What programs keep of their use, in a home.
const HISTORIES: [&str; 8] = [
    ".*_history",
    ".*history",
    ".lesshst",
    ".viminfo",
    ".wget-hsts",
    ".ssh/known_hosts*",
    ".sudo_as_admin_successful",
    ".local/share/*/*history*",
];

fn histories(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let mut findings = Findings::default();
    let mut found = in_homes(tree, &HISTORIES)?;
    found.extend(leftovers(tree, &["/etc/ssh/ssh_known_hosts"]));
    for path in found.iter().filter(|path| !examined.expect.files.contains(*path)) {
        findings.wrong(format!("{path} is there"));
    }
    Ok(findings.verdict("no history in any home"))
}

/// What `patterns` stand for in every home.
pub(in crate::at_rest) fn in_homes(tree: &Tree, patterns: &[&str]) -> Result<Vec<String>> {
    let homes = tree.homes()?;
    let all = homes.iter().flat_map(|home| {
        patterns.iter().map(move |pattern| format!("{}/{pattern}", home.trim_end_matches('/')))
    });
    let all: Vec<String> = all.collect();
    let all: Vec<&str> = all.iter().map(String::as_str).collect();
    Ok(leftovers(tree, &all))
}

#[cfg(test)]
pub(in crate::at_rest) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use crate::at_rest::corpus::Mutation;
    use crate::tree::{Entry, Kind};

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new("a journal", &["logs"], "/var/log/journal/0123/system.journal", |e| {
            e.tree.write("/var/log/journal/0123/system.journal", 0o640, [7; 64]);
        }),
        Mutation::new("300 MB of logs", &["logs"], "/var/log/syslog: more than", |e| {
            e.tree.put("/var/log/syslog", Entry::of(Kind::File, 0o640, 300 << 20));
        })
        .incident("image-builder issue 2065"),
        Mutation::new("logs of the build", &["logs"], "/var/log/dpkg.log", |e| {
            e.tree.write("/var/log/dpkg.log", 0o644, vec![b'x'; 100 << 10]);
        }),
        Mutation::new("logins of the build", &["logs"], "records of logins", |e| {
            e.tree.write("/var/log/wtmp", 0o664, [1; 384]);
        }),
        Mutation::new("a script of the build", &["temporary-files"], "/tmp/script_1.sh", |e| {
            e.tree.write("/tmp/script_1.sh", 0o755, "#!/bin/sh\n");
        }),
        Mutation::new("an empty folder of the build", &["temporary-files"], "/var/tmp/goss", |e| {
            e.tree.folder("/var/tmp/goss", 0o755);
        }),
        Mutation::new("a core of root's", &["temporary-files"], "/core.1 is a core", |e| {
            e.tree.write("/core.1", 0o600, [7; 64]);
        }),
        Mutation::new(
            "a core that systemd kept",
            &["temporary-files"],
            "/var/lib/systemd/coredump/",
            |e| {
                e.tree.write("/var/lib/systemd/coredump/core.apt.0.zst", 0o640, [7; 64]);
            },
        ),
        Mutation::new("mail", &["temporary-files"], "/var/mail/root", |e| {
            e.tree.write("/var/mail/root", 0o660, "From cron\n");
        }),
        Mutation::new("a package list", &["caches"], "package lists: 1 files", |e| {
            e.tree.write(
                "/var/lib/apt/lists/deb.debian.org_dists_bookworm_InRelease",
                0o644,
                "Suite: stable\n",
            );
        }),
        Mutation::new("a snap seed", &["caches"], "snap seeds", |e| {
            e.tree.write("/var/lib/snapd/seed/snaps/core.snap", 0o600, "hsqs");
        })
        .incident("image-builder issue 2065"),
        Mutation::new("a package", &["caches"], "curl.deb", |e| {
            e.tree.write("/var/cache/apt/archives/curl.deb", 0o644, "!<arch>");
        }),
        Mutation::new("dnf's packages", &["caches"], "/var/cache/dnf/", |e| {
            e.tree.write("/var/cache/dnf/baseos/packages/curl.rpm", 0o644, "rpm");
        }),
        Mutation::new("pip's cache", &["caches"], "/root/.cache/pip", |e| {
            e.tree.write("/root/.cache/pip/http/a", 0o600, "wheel");
        }),
        Mutation::new("an older dpkg database", &["caches"], "status-old", |e| {
            e.tree.write("/var/lib/dpkg/status-old", 0o644, "Package: a\n");
        }),
        Mutation::new("older accounts", &["account-backups"], "/etc/group- is there", |e| {
            e.tree.write("/etc/group-", 0o644, "root:x:0:\n");
        }),
        Mutation::new("a shell's history", &["histories"], "/root/.bash_history", |e| {
            e.tree.write("/root/.bash_history", 0o600, "passwd builder\n");
        }),
        Mutation::new("hosts that were reached", &["histories"], "/root/.ssh/known_hosts", |e| {
            e.tree.write("/root/.ssh/known_hosts", 0o600, "10.0.0.2 ssh-ed25519 AAAA\n");
        }),
        Mutation::new("an editor's history", &["histories"], "/root/.viminfo", |e| {
            e.tree.write("/root/.viminfo", 0o600, "# Command line\n");
        }),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::rules::Family;

    #[test]
    fn near_misses_stay_green() {
        let mut examined = sound(Family::Debian);
        let tree = &mut examined.tree;
        tree.folder("/tmp/.X11-unix", 0o1777);
        tree.write("/var/lib/apt/lists/lock", 0o640, "");
        tree.folder("/var/lib/apt/lists/partial", 0o700);
        tree.write("/var/log/alternatives.log", 0o644, "one line\n");
        tree.folder("/var/log/journal", 0o2755);
        tree.write("/root/.bash_history", 0o600, "");
        tree.link("/root/.python_history", "/dev/null");
        tree.write("/etc/cron.d/core.1", 0o644, "text");
        tree.write("/var/spool/cron/atjobs/.SEQ", 0o600, "0");
        tree.folder("/var/mail", 0o2775);
        tree.link("/var/spool/mail", "../mail");
        for judge in [logs, temporary_files, caches, account_backups, histories] {
            let verdict = judge(&examined).unwrap();
            assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?}");
        }
    }
}
