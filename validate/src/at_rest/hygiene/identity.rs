//! What tells one machine from another.

use nodekiln_words::Result;

use crate::Tier;
use crate::at_rest::Examined;
use crate::at_rest::findings::Findings;
use crate::at_rest::hygiene::leftovers;
use crate::rules::{Applies, Judge, Rule, Severity, Software, Verdict};
use crate::tree::Kind;

pub(in crate::at_rest) const RULES: &[Rule] = &[
    Rule {
        id: "machine-id-unset",
        title: "The machine id is there and not set",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/etc/machine-id", "libsystemd-shared-*.so"],
        why: "clones that share an id share DHCP leases and journals; without the file systemd halts on a root \
              that is mounted read-only",
        remedy: "leave /etc/machine-id empty with mode 0444",
        source: "machine-id(5); image-builder issue 2164",
        applies: Applies::with(&[Software::Systemd]),
        stops_boot: false,
        judge: Judge::Tree(machine_id),
    },
    Rule {
        id: "dbus-machine-id",
        title: "D-Bus has no machine id of its own",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/var/lib/dbus/machine-id"],
        why: "systemd takes an empty /etc/machine-id from here, so that all clones get this one",
        remedy: "delete /var/lib/dbus/machine-id, or make it a link to /etc/machine-id",
        source: "machine-id(5), systemd-machine-id-setup(1)",
        applies: Applies::with(&[Software::Systemd]),
        stops_boot: false,
        judge: Judge::Tree(dbus),
    },
    Rule {
        id: "host-keys",
        title: "The image has no SSH host keys",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/etc/ssh/ssh_host_*", "/etc/dropbear"],
        why: "whoever has the image can pose as every machine made of it",
        remedy: "delete /etc/ssh/ssh_host_* after the last package is installed",
        source: "sshd(8), FILES; packer-plugin-scaleway issue 30",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Tree(host_keys),
    },
    Rule {
        id: "identifiers",
        title: "Nothing names one machine to storage, statistics or a registry",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "/etc/iscsi/initiatorname.iscsi",
            "/etc/nvme",
            "/etc/machine-info",
            "/etc/hostid",
            "/etc/mdadm",
            "/etc/popularity-contest.conf",
            "/etc/lvm/devices/system.devices",
            "/etc/pki/consumer",
            "/etc/krb5.keytab",
        ],
        why: "two initiators with one name lose each other's disks; a registration is one machine's alone",
        remedy: "delete the file; its package makes it again on each machine",
        source: "iscsid(8), nvme-connect(1), machine-info(5), mdadm.conf(5); terraform-provider-vsphere issue 516",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Tree(identifiers),
    },
    Rule {
        id: "seeds",
        title: "No random seed and no key of systemd's is kept",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "/var/lib/systemd/random-seed",
            "/var/lib/systemd/credential.secret",
            "/var/lib/urandom/random-seed",
            "/boot/**/loader/random-seed",
        ],
        why: "clones draw the same numbers from the same seed, and open each other's credentials with the same key",
        remedy: "delete the file; systemd makes a new one",
        source: "systemd-random-seed.service(8), systemd-creds(1)",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Tree(seeds),
    },
    Rule {
        id: "hostname-neutral",
        title: "The host name is left to the platform",
        tier: Tier::Static,
        severity: Severity::Advisory,
        reads: &["/etc/hostname", "/etc/hosts"],
        why: "a name that stays from the build is every node's until the platform gives one, or for good",
        remedy: "empty /etc/hostname and keep loopback names alone in /etc/hosts",
        source: "hostname(5), hosts(5)",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Tree(hostname),
    },
];

/// The first systemd that understands the word `uninitialized` (machine-id(5)).
const FIRST_UNINITIALIZED: u32 = 247;

fn machine_id(examined: &Examined) -> Result<Verdict> {
    const PATH: &str = "/etc/machine-id";
    let tree = &examined.tree;
    let (entry, text) = match (tree.resolve(PATH), tree.text(PATH)?) {
        (Some((_, entry)), Some(text)) => (entry, text),
        _ if tree.entry(PATH).is_some() => {
            return Ok(Verdict::Fail(format!("{PATH} is no file and leads to none")));
        }
        _ => return Ok(Verdict::Fail(format!("{PATH} is missing"))),
    };
    if entry.mode & 0o022 != 0 {
        let mode = entry.mode;
        return Ok(Verdict::Fail(format!("{PATH} may be written by others than root: {mode:04o}")));
    }
    Ok(match text.trim() {
        "" => Verdict::Pass(format!("{PATH} is empty")),
        "uninitialized" => match tree.systemd_version() {
            Some(version) if version >= FIRST_UNINITIALIZED => Verdict::Pass(format!(
                "{PATH} is uninitialized: systemd {version} takes the boot for the first and applies presets"
            )),
            Some(version) => Verdict::Fail(format!(
                "{PATH} is uninitialized, which systemd {version} takes for a broken id (from \
                 {FIRST_UNINITIALIZED} on it does not)"
            )),
            None => Verdict::NotProven(format!(
                "{PATH} is uninitialized, and systemd's version is not known"
            )),
        },
        id => {
            let shown: String = id.chars().take(32).collect();
            Verdict::Fail(format!("{PATH} is set: {shown}"))
        }
    })
}

fn dbus(examined: &Examined) -> Result<Verdict> {
    const PATH: &str = "/var/lib/dbus/machine-id";
    let tree = &examined.tree;
    Ok(match tree.entry(PATH) {
        None => Verdict::Pass(format!("{PATH} is not there")),
        Some(entry) => match &entry.target {
            Some(target) if leads_to_machine_id(target) => {
                Verdict::Pass(format!("{PATH} is a link to {target}"))
            }
            Some(target) => Verdict::Fail(format!("{PATH} is a link to {target}")),
            None => Verdict::Fail(format!("{PATH} is no link, but of its own")),
        },
    })
}

fn leads_to_machine_id(target: &str) -> bool {
    matches!(target, "/etc/machine-id" | "../../../etc/machine-id")
}

fn host_keys(examined: &Examined) -> Result<Verdict> {
    let mut findings = Findings::default();
    let patterns = ["/etc/ssh/ssh_host_*", "/etc/dropbear/*_host_key", "/usr/etc/ssh/ssh_host_*"];
    for path in patterns.iter().flat_map(|pattern| examined.tree.glob(pattern)) {
        findings.wrong(format!("{path} is there"));
    }
    Ok(findings.verdict("no host key in /etc/ssh"))
}

/// Files that are one machine's by their being there.
const OWN: [&str; 9] = [
    "/etc/nvme/hostid",
    "/etc/nvme/hostnqn",
    "/etc/hostid",
    "/etc/lvm/devices/system.devices",
    "/etc/pki/consumer/*.pem",
    "/etc/sysconfig/rhn/systemid",
    "/etc/krb5.keytab",
    "/var/lib/amazon/ssm/registration",
    "/var/lib/puppet/ssl",
];

/// Whether a line names one machine.
type NamesOne = fn(&str) -> bool;

fn identifiers(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let mut findings = Findings::default();
    for path in leftovers(tree, &OWN) {
        findings.wrong(format!("{path} is there"));
    }
    // The others are settings that become an identity by one of their lines.
    let marked: [(&str, NamesOne); 5] = [
        ("/etc/iscsi/initiatorname.iscsi", |line| line.starts_with("InitiatorName=")),
        ("/etc/machine-info", |line| line.contains('=')),
        ("/etc/popularity-contest.conf", |line| {
            line.strip_prefix("MY_HOSTID=").is_some_and(|id| !id.trim_matches('"').is_empty())
        }),
        ("/etc/mdadm/mdadm.conf", is_array),
        ("/etc/mdadm.conf", is_array),
    ];
    for (path, names_one) in marked {
        let text = tree.text(path)?.unwrap_or_default();
        let mut lines = text.lines().map(str::trim).enumerate();
        if let Some((at, line)) = lines.find(|(_, line)| !line.starts_with('#') && names_one(line))
        {
            findings.wrong(format!("{path}:{}: {line}", at + 1));
        }
    }
    Ok(findings.verdict("no name of one machine among the files that keep them"))
}

/// A line of mdadm's that names arrays or the host that made them.
fn is_array(line: &str) -> bool {
    let mut words = line.split_whitespace();
    match words.next().map(str::to_ascii_lowercase).as_deref() {
        Some("homehost") => words.next().is_some_and(|host| !host.starts_with('<')),
        Some("array") => line.to_ascii_lowercase().contains("uuid="),
        _ => false,
    }
}

/// Where seeds and keys of one machine lie.
const SEEDS: [&str; 7] = [
    "/var/lib/systemd/random-seed",
    "/var/lib/systemd/credential.secret",
    "/var/lib/urandom/random-seed",
    "/var/lib/random-seed",
    "/boot/loader/random-seed",
    "/boot/efi/loader/random-seed",
    "/efi/loader/random-seed",
];

fn seeds(examined: &Examined) -> Result<Verdict> {
    let mut findings = Findings::default();
    for path in leftovers(&examined.tree, &SEEDS) {
        findings.wrong(format!("{path} is there"));
    }
    Ok(findings.verdict("no seed and no key"))
}

/// Names that loopback addresses have everywhere.
const LOOPBACK_NAMES: [&str; 12] = [
    "localhost",
    "localhost.localdomain",
    "localhost4",
    "localhost4.localdomain4",
    "localhost6",
    "localhost6.localdomain6",
    "ip6-localhost",
    "ip6-loopback",
    "ip6-localnet",
    "ip6-mcastprefix",
    "ip6-allnodes",
    "ip6-allrouters",
];

fn hostname(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let mut findings = Findings::default();
    let name = tree.text("/etc/hostname")?.unwrap_or_default();
    let mut names =
        name.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    if let Some(name) = names.find(|name| !name.starts_with("localhost")) {
        findings.wrong(format!("/etc/hostname: {name}"));
    }
    let hosts = tree.text("/etc/hosts")?.unwrap_or_default();
    for (line, text) in hosts.lines().enumerate().map(|(at, text)| (at + 1, text)) {
        let text = text.split('#').next().unwrap_or_default();
        let mut words = text.split_whitespace();
        let Some(address) = words.next() else { continue };
        // The metadata server of Compute Engine, which its images name by the same address everywhere.
        if address == "169.254.169.254" {
            continue;
        }
        let fixed = ["127.", "::1", "fe00::", "ff00::", "ff02::"];
        let foreign = words.find(|name| !LOOPBACK_NAMES.contains(name));
        if !fixed.iter().any(|prefix| address.starts_with(prefix)) {
            findings.wrong(format!("/etc/hosts:{line}: {address} is no loopback address"));
        } else if let Some(name) = foreign {
            findings.wrong(format!("/etc/hosts:{line}: {name}"));
        }
    }
    if let Some(kind) = tree.entry("/etc/hosts").map(|entry| entry.kind)
        && !matches!(kind, Kind::File | Kind::Link)
    {
        findings.wrong("/etc/hosts is no file");
    }
    Ok(findings.verdict("/etc/hostname names nobody, /etc/hosts loopback alone"))
}

#[cfg(test)]
pub(in crate::at_rest) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use crate::at_rest::corpus::Mutation;

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new("no machine id", &["machine-id-unset"], "/etc/machine-id is missing", |e| {
            e.tree.remove("/etc/machine-id");
        })
        .incident("image-builder issue 2164"),
        Mutation::new("a machine id that is set", &["machine-id-unset"], "is set: 0123", |e| {
            e.tree.write("/etc/machine-id", 0o444, "0123456789abcdef0123456789abcdef\n");
        })
        .incident("machine-controller issue 1455"),
        Mutation::new(
            "uninitialized before systemd knew the word",
            &["machine-id-unset"],
            "systemd 241",
            |e| {
                e.tree.write("/etc/machine-id", 0o444, "uninitialized\n");
                e.tree.remove("/usr/lib/x86_64-linux-gnu/systemd");
                e.tree.write("/usr/lib/systemd/libsystemd-shared-241.so", 0o644, "elf");
            },
        ),
        Mutation::new(
            "a machine id that leads nowhere",
            &["machine-id-unset"],
            "leads to none",
            |e| {
                e.tree.link("/etc/machine-id", "/run/machine-id");
            },
        ),
        Mutation::new("a machine id that all may write", &["machine-id-unset"], "0666", |e| {
            e.tree.change("/etc/machine-id", |entry| entry.mode = 0o666);
        }),
        Mutation::new("an id of D-Bus's own", &["dbus-machine-id"], "of its own", |e| {
            e.tree.write("/var/lib/dbus/machine-id", 0o644, "0123456789abcdef0123456789abcdef\n");
        }),
        Mutation::new("an id of D-Bus's elsewhere", &["dbus-machine-id"], "a link to /opt", |e| {
            e.tree.link("/var/lib/dbus/machine-id", "/opt/id");
        }),
        Mutation::new("a host key", &["host-keys"], "/etc/ssh/ssh_host_rsa_key is there", |e| {
            e.tree.write("/etc/ssh/ssh_host_rsa_key", 0o600, PEM);
        })
        .incident("packer-plugin-scaleway issue 30"),
        Mutation::new("a host key of Dropbear's", &["host-keys"], "dropbear", |e| {
            e.tree.write("/etc/dropbear/dropbear_rsa_host_key", 0o600, "\0\0\0\x07ssh-rsa");
        }),
        Mutation::new("an initiator's name", &["identifiers"], "initiatorname.iscsi:2", |e| {
            let text = "# made by the installer\nInitiatorName=iqn.1993-08.org.debian:01:abcdef\n";
            e.tree.write("/etc/iscsi/initiatorname.iscsi", 0o600, text);
        })
        .incident("terraform-provider-vsphere issue 516"),
        Mutation::new("an NVMe host id", &["identifiers"], "/etc/nvme/hostid", |e| {
            e.tree.write("/etc/nvme/hostid", 0o644, "8b2d4f90-0000-4000-8000-000000000000\n");
        }),
        Mutation::new("an NVMe host name", &["identifiers"], "/etc/nvme/hostnqn", |e| {
            e.tree.write("/etc/nvme/hostnqn", 0o644, "nqn.2014-08.org.nvmexpress:uuid:8b2d\n");
        }),
        Mutation::new("another machine's hardware", &["identifiers"], "/etc/machine-info:1", |e| {
            e.tree.write("/etc/machine-info", 0o644, "LOCATION=build room\n");
        }),
        Mutation::new("a popularity contest's id", &["identifiers"], "MY_HOSTID", |e| {
            e.tree.write(
                "/etc/popularity-contest.conf",
                0o644,
                "PARTICIPATE=\"no\"\nMY_HOSTID=\"8b2d4f\"\n",
            );
        }),
        Mutation::new("a home host of arrays", &["identifiers"], "mdadm.conf:1: HOMEHOST", |e| {
            e.tree.write("/etc/mdadm/mdadm.conf", 0o644, "HOMEHOST build-01\n");
        }),
        Mutation::new("an array by its id", &["identifiers"], "/etc/mdadm.conf:1: ARRAY", |e| {
            e.tree.write("/etc/mdadm.conf", 0o644, "ARRAY /dev/md0 UUID=0:1:2:3\n");
        }),
        Mutation::new("a registration", &["identifiers"], "/etc/pki/consumer/cert.pem", |e| {
            e.tree.write("/etc/pki/consumer/cert.pem", 0o644, "certificate");
        }),
        Mutation::new("a random seed", &["seeds"], "/var/lib/systemd/random-seed", |e| {
            e.tree.write("/var/lib/systemd/random-seed", 0o600, [7; 512]);
        }),
        Mutation::new("a key for credentials", &["seeds"], "credential.secret", |e| {
            e.tree.write("/var/lib/systemd/credential.secret", 0o400, [7; 64]);
        }),
        Mutation::new(
            "a seed beside the boot loader",
            &["seeds"],
            "/boot/efi/loader/random-seed",
            |e| {
                e.tree.write("/boot/efi/loader/random-seed", 0o600, [7; 32]);
            },
        ),
        Mutation::new("a host name", &["hostname-neutral"], "/etc/hostname: build-01", |e| {
            e.tree.write("/etc/hostname", 0o644, "build-01\n");
        }),
        Mutation::new(
            "a host name among the hosts",
            &["hostname-neutral"],
            "/etc/hosts:2: build-01",
            |e| {
                e.tree.write("/etc/hosts", 0o644, "127.0.0.1 localhost\n127.0.1.1 build-01\n");
            },
        ),
        Mutation::new("another host", &["hostname-neutral"], "10.0.2.3 is no loopback", |e| {
            e.tree.write("/etc/hosts", 0o644, "127.0.0.1 localhost\n10.0.2.3 proxy\n");
        }),
        Mutation::new("hosts that are a folder", &["hostname-neutral"], "is no file", |e| {
            e.tree.remove("/etc/hosts");
            e.tree.folder("/etc/hosts", 0o755);
        }),
    ];

    const PEM: &str = "-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEAAAAA\n";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::rules::Family;

    fn judged(
        judge: fn(&Examined) -> Result<Verdict>,
        change: fn(&mut Examined<'static>),
    ) -> Verdict {
        let mut examined = sound(Family::Debian);
        change(&mut examined);
        judge(&examined).unwrap()
    }

    #[test]
    fn uninitialized_is_for_a_systemd_that_knows_it() {
        let fine =
            judged(machine_id, |e| e.tree.write("/etc/machine-id", 0o444, "uninitialized\n"));
        assert!(matches!(&fine, Verdict::Pass(seen) if seen.contains("presets")), "{fine:?}");
        let unknown = judged(machine_id, |e| {
            e.tree.write("/etc/machine-id", 0o444, "uninitialized\n");
            e.tree.remove("/usr/lib/x86_64-linux-gnu/systemd");
        });
        assert!(matches!(unknown, Verdict::NotProven(_)), "{unknown:?}");
    }

    #[test]
    fn near_misses_stay_green() {
        let linked = judged(dbus, |e| e.tree.link("/var/lib/dbus/machine-id", "/etc/machine-id"));
        assert!(matches!(linked, Verdict::Pass(_)));
        let settings = judged(identifiers, |e| {
            e.tree.write(
                "/etc/iscsi/initiatorname.iscsi",
                0o600,
                "GenerateName=yes\n# InitiatorName=iqn\n",
            );
            e.tree.write("/etc/mdadm/mdadm.conf", 0o644, "HOMEHOST <system>\nMAILADDR root\n");
            e.tree.write(
                "/etc/popularity-contest.conf",
                0o644,
                "PARTICIPATE=\"no\"\nMY_HOSTID=\"\"\n",
            );
            e.tree.write("/etc/nvme/hostid", 0o644, "");
        });
        assert!(matches!(settings, Verdict::Pass(_)), "{settings:?}");
        let names = judged(hostname, |e| {
            e.tree.write(
                "/etc/hostname",
                0o644,
                "# named by the platform\nlocalhost.localdomain\n",
            );
            let hosts = "127.0.0.1 localhost localhost4 # here\n::1 localhost6\n\
                         169.254.169.254 metadata.google.internal metadata\n";
            e.tree.write("/etc/hosts", 0o644, hosts);
        });
        assert!(matches!(names, Verdict::Pass(_)), "{names:?}");
    }
}
