//! Who makes the files that no package lists, as data.
//!
//! A rule names a generator, what it makes the files from, and where they stand. The first rule
//! that matches decides, so a narrow rule stands before a wide one.

use super::glob::matches;

/// How files of a rule are classed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A tool's own record, rewritten by whatever step uses that tool: generated, even where a
    /// recipe step wrote it last.
    Record,
    /// Made once by a package's scripts; a recipe step that writes the file owns it instead.
    Generated,
    /// Allowed to differ between machines.
    State,
}

/// One generator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Rule {
    /// The program or package that writes the files.
    pub(crate) generator: &'static str,
    /// How they are classed.
    pub(crate) kind: Kind,
    /// What they are made from, for people.
    pub(crate) inputs: &'static str,
    /// Where they stand; see [`matches`].
    pub(crate) paths: &'static [&'static str],
    /// For links: where they point, as written in the link.
    pub(crate) targets: &'static [&'static str],
}

/// The first rule for a path, or for a link with this target.
pub(crate) fn rule(path: &str, target: Option<&str>) -> Option<&'static Rule> {
    RULES.iter().find(|rule| {
        rule.paths.iter().any(|pattern| matches(pattern, path))
            || target.is_some_and(|target| rule.targets.iter().any(|p| matches(p, target)))
    })
}

const fn record(
    generator: &'static str,
    inputs: &'static str,
    paths: &'static [&'static str],
) -> Rule {
    Rule { generator, kind: Kind::Record, inputs, paths, targets: &[] }
}

const fn generated(
    generator: &'static str,
    inputs: &'static str,
    paths: &'static [&'static str],
) -> Rule {
    Rule { generator, kind: Kind::Generated, inputs, paths, targets: &[] }
}

const fn state(
    generator: &'static str,
    inputs: &'static str,
    paths: &'static [&'static str],
) -> Rule {
    Rule { generator, kind: Kind::State, inputs, paths, targets: &[] }
}

/// All rules. Sources: the packages' maintainer scripts and manual pages of the programs named.
pub(crate) static RULES: &[Rule] = &[
    record(
        "dpkg",
        "the packages unpacked",
        &[
            "/var/lib/dpkg/status*",
            "/var/lib/dpkg/available*",
            "/var/lib/dpkg/diversions*",
            "/var/lib/dpkg/statoverride*",
            "/var/lib/dpkg/arch",
            "/var/lib/dpkg/cmethopt",
            "/var/lib/dpkg/lock*",
            "/var/lib/dpkg/triggers/*",
            "/var/lib/dpkg/info/*",
            "/var/lib/dpkg/updates/*",
            "/var/backups/dpkg.*",
        ],
    ),
    Rule {
        generator: "update-alternatives",
        kind: Kind::Record,
        inputs: "alternatives registered by packages",
        paths: &["/etc/alternatives/*", "/var/lib/dpkg/alternatives/*"],
        targets: &["/etc/alternatives/*", "../../etc/alternatives/*"],
    },
    record(
        "apt",
        "archive indexes and what was asked for by name",
        &["/var/lib/apt/**", "/var/cache/apt/**", "/etc/apt/apt.conf.d/01autoremove*"],
    ),
    record(
        "ldconfig",
        "shared libraries in the trusted folders",
        &["/etc/ld.so.cache", "/var/cache/ldconfig/aux-cache"],
    ),
    record(
        "depmod",
        "kernel modules",
        &["/usr/lib/modules/*/modules.*", "/lib/modules/*/modules.*"],
    ),
    record(
        "initramfs-tools",
        "the kernel, its modules and the programs that boot needs",
        &["/boot/initrd.img-*", "/boot/initrd-*", "/var/lib/initramfs-tools/*"],
    ),
    record(
        "linux-update-symlinks",
        "the kernel packages",
        &["/vmlinuz*", "/initrd.img*", "/boot/vmlinuz", "/boot/initrd.img"],
    ),
    record("grub", "kernel, arguments and file system ids", &["/boot/grub/**", "/boot/efi/**"]),
    record(
        "systemd-hwdb",
        "hardware database fragments",
        &["/usr/lib/udev/hwdb.bin", "/etc/udev/hwdb.bin"],
    ),
    record("journalctl", "message catalogues", &["/var/lib/systemd/catalog/database"]),
    record(
        "systemctl",
        "units' [Install] sections",
        &[
            "/etc/systemd/*/*.wants/*",
            "/etc/systemd/*/*.requires/*",
            "/var/lib/systemd/deb-systemd-*/**",
        ],
    ),
    record("update-rc.d", "init scripts' headers", &["/etc/rc*.d/*", "/etc/.*.depend*"]),
    record("man-db", "manual pages", &["/var/cache/man/**", "/var/lib/man-db/auto-update"]),
    record("debconf", "packages' questions", &["/var/cache/debconf/*", "/var/lib/debconf/*"]),
    record("ucf", "configuration templates of packages", &["/var/lib/ucf/**"]),
    record(
        "pam-auth-update",
        "profiles in /usr/share/pam-configs",
        &["/etc/pam.d/common-*", "/var/lib/pam/*"],
    ),
    record(
        "update-ca-certificates",
        "certificates in /usr/share/ca-certificates",
        &["/etc/ssl/certs/*", "/etc/ca-certificates.conf*"],
    ),
    record("locale-gen", "locale definitions", &["/usr/lib/locale/locale-archive"]),
    record("fontconfig", "fonts", &["/var/cache/fontconfig/*", "/var/lib/fontconfig/*"]),
    record(
        "update-mime-database",
        "MIME descriptions",
        &["/usr/share/mime/**", "/usr/share/applications/mimeinfo.cache"],
    ),
    record(
        "glib-compile-schemas",
        "settings schemas and modules",
        &[
            "/usr/share/glib-2.0/schemas/gschemas.compiled",
            "/usr/lib/*/gio/modules/giomodule.cache",
            "/usr/lib/*/gdk-pixbuf-2.0/*/loaders.cache",
        ],
    ),
    record("install-info", "info manuals", &["/usr/share/info/dir*"]),
    record("helptags", "the editor's help texts", &["/usr/share/vim/*/doc/tags"]),
    record("icon caches", "icons", &["/usr/share/icons/*/icon-theme.cache"]),
    record(
        "apparmor",
        "profiles and answers to the package's questions",
        &[
            "/etc/apparmor.d/local/**",
            "/etc/apparmor.d/tunables/*.d/ubuntu",
            "/etc/apparmor.d/tunables/*.d/site.local",
            "/var/cache/apparmor/**",
        ],
    ),
    record(
        "xml-core",
        "catalogues of packages",
        &["/etc/xml/*", "/etc/sgml/**", "/var/lib/sgml-base/*", "/var/lib/xml-core/*"],
    ),
    record(
        "accounts",
        "base-passwd, sysusers.d, packages' scripts and the recipe's users",
        &[
            "/etc/passwd*",
            "/etc/group*",
            "/etc/shadow*",
            "/etc/gshadow*",
            "/etc/subuid*",
            "/etc/subgid*",
            "/etc/.pwd.lock",
            "/etc/security/opasswd",
            "/var/backups/*.bak",
        ],
    ),
    record("augenrules", "files in /etc/audit/rules.d", &["/etc/audit/audit.rules"]),
    record("add-shell", "login shells of packages", &["/etc/shells", "/var/lib/shells.state"]),
    record(
        "python3 runtime",
        "modules of packages, by run time",
        &[
            "/usr/lib/python3/**/__pycache__/*.pyc",
            "/usr/lib/python3.*/**/__pycache__/*.pyc",
            "/usr/share/**/__pycache__/*.pyc",
            "/var/lib/python/*",
        ],
    ),
    record("needrestart", "running programs", &["/var/lib/needrestart/*"]),
    generated(
        "systemctl aliases",
        "units' [Install] sections",
        &[
            "/etc/systemd/system/*.service",
            "/etc/systemd/system/*.socket",
            "/etc/systemd/system/*.target",
            "/etc/systemd/system/*.timer",
            "/etc/systemd/user/*.service",
        ],
    ),
    generated(
        "archive sources",
        "the archive that the packages came from",
        &["/etc/apt/sources.list", "/etc/apt/sources.list.d/*", "/etc/apt/trusted.gpg*"],
    ),
    generated(
        "usrmerge",
        "the file system's layout",
        &[
            "/bin",
            "/sbin",
            "/lib",
            "/lib32",
            "/lib64",
            "/libx32",
            "/var/run",
            "/var/lock",
            "/var/lib/usrmerge/*",
        ],
    ),
    generated(
        "base-files",
        "templates in /usr/share/base-files",
        &[
            "/etc/profile",
            "/etc/motd",
            "/etc/nsswitch.conf",
            "/root/.profile",
            "/root/.bashrc",
            "/etc/host.conf",
            "/etc/dpkg/origins/default",
            "/usr/local/man",
            "/var/spool/mail",
        ],
    ),
    generated(
        "dpkg conffile handling",
        "an older configuration file",
        &[
            "/etc/**.dpkg-old",
            "/etc/**.dpkg-dist",
            "/etc/**.dpkg-new",
            "/etc/**.dpkg-bak",
            "/etc/**.ucf-*",
        ],
    ),
    generated("tzdata", "the time zone chosen", &["/etc/localtime", "/etc/timezone"]),
    generated(
        "locales",
        "the locales chosen",
        &["/etc/default/locale", "/etc/locale.gen", "/etc/locale.conf", "/etc/environment"],
    ),
    generated(
        "console-setup",
        "keyboard and font chosen",
        &[
            "/etc/default/keyboard",
            "/etc/default/console-setup",
            "/etc/console-setup/*",
            "/etc/vconsole.conf",
        ],
    ),
    generated("grub settings", "answers to the package's questions", &["/etc/default/grub*"]),
    generated(
        "cloud-init",
        "answers to the package's questions",
        &["/etc/cloud/cloud.cfg.d/90_dpkg.cfg", "/etc/cloud/ds-identify.cfg"],
    ),
    generated(
        "openssh-server",
        "the package's template",
        &["/etc/ssh/sshd_config", "/etc/ssh/moduli"],
    ),
    generated(
        "chrony",
        "the package's template",
        &["/etc/chrony/chrony.conf", "/etc/chrony/chrony.keys"],
    ),
    generated(
        "kmod",
        "the package's template",
        &["/etc/modules", "/etc/modules-load.d/modules.conf"],
    ),
    generated("ifupdown", "the package's template", &["/etc/network/interfaces", "/etc/networks"]),
    generated("linux-base", "the package's template", &["/etc/kernel-img.conf"]),
    generated("libwrap0", "the package's template", &["/etc/hosts.allow", "/etc/hosts.deny"]),
    generated(
        "nfs-common",
        "the package's template",
        &["/etc/idmapd.conf", "/etc/nfs.conf", "/etc/nfs.conf.d/*"],
    ),
    generated("initramfs settings", "the package's template", &["/etc/initramfs-tools/modules"]),
    generated("readline-common", "the package's template", &["/etc/inputrc"]),
    generated("python3", "the package's template", &["/etc/python3/debian_config"]),
    generated("dh-runit", "services of packages", &["/etc/runit/runsvdir/**"]),
    generated("iproute2", "kernel interfaces", &["/etc/mtab"]),
    generated("containerd", "images imported", &["/var/lib/containerd/**"]),
    state(
        "systemd",
        "the machine",
        &[
            "/etc/machine-id",
            "/var/lib/dbus/machine-id",
            "/var/lib/systemd/**",
            "/var/lib/private/**",
            "/etc/.updated",
            "/var/.updated",
            "/etc/machine-info",
        ],
    ),
    state(
        "host name and network",
        "the machine",
        &["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/etc/fstab", "/etc/adjtime"],
    ),
    state("ssh host keys", "the machine", &["/etc/ssh/ssh_host_*"]),
    state("ssl-cert", "the machine", &["/etc/ssl/private/*"]),
    state("logs", "programs that ran", &["/var/log/**"]),
    state("cloud-init state", "the machine", &["/var/lib/cloud/**"]),
    state("device nodes", "the kernel", &["/dev/**"]),
    state("run-time files", "programs that ran", &["/run/**", "/tmp/**", "/var/tmp/**"]),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn each_generator_has_one_rule_and_each_rule_a_path() {
        let names: BTreeSet<_> = RULES.iter().map(|rule| rule.generator).collect();
        assert_eq!(names.len(), RULES.len());
        assert!(RULES.iter().all(|rule| !rule.paths.is_empty() && !rule.inputs.is_empty()));
    }

    #[test]
    fn each_generator_is_documented_with_its_inputs() {
        let documentation = include_str!("../../../docs/bom.md");
        for rule in RULES {
            let row = format!("| {} | ", rule.generator);
            let line = documentation.lines().find(|line| line.starts_with(&row));
            let line = line.unwrap_or_else(|| panic!("docs/bom.md lacks {}", rule.generator));
            assert!(line.ends_with(&format!(" | {} |", rule.inputs)), "{line}");
        }
    }

    #[test]
    fn a_link_is_known_by_its_target() {
        assert_eq!(
            rule("/usr/bin/awk", Some("/etc/alternatives/awk")).map(|r| r.generator),
            Some("update-alternatives")
        );
        assert!(rule("/usr/bin/awk", Some("mawk")).is_none());
        assert!(rule("/usr/bin/awk", None).is_none());
    }

    #[test]
    fn no_rule_covers_programs_or_credentials_of_users() {
        for path in
            ["/usr/bin/ls", "/usr/local/bin/x", "/root/.ssh/id_rsa", "/home/a/.profile", "/opt/x"]
        {
            assert!(rule(path, None).is_none(), "{path}");
        }
    }
}
