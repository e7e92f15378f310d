//! Rules on what the first boot needs before anybody can look at it: a console, and an address in time.

#[cfg(test)]
mod mutations;

use nodekiln_words::Result;

#[cfg(test)]
pub(super) use mutations::MUTATIONS;

use super::{Examined, findings};
use crate::Tier;
use crate::rules::{Applies, Judge, Rule, Severity, Software, Verdict};
use crate::tree::Tree;
use crate::tree::boot_menu::{KernelLine, kernel_lines};

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "console-argument",
        title: "The kernel speaks on the machine's serial console",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "GRUB's configuration and entries in /boot",
            "/etc/default/grub",
            "the provider's machine, `console`",
        ],
        why: "a node that does not come up in a cloud is seen by nothing but its serial console",
        remedy: "add `console=` with the machine's console to the kernel's arguments, last, and to /etc/default/grub",
        source: "Linux, Documentation/admin-guide/serial-console.rst; the provider's machine, `console`",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Tree(console),
    },
    Rule {
        id: "early-dhcp",
        title: "cloud-init has the DHCP client that its datasource needs before the network is up",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "the version of cloud-init",
            "root's PATH: dhclient, dhcpcd, udhcpc",
            "the provider's machine, `data_source`",
        ],
        why: "Ec2, Azure and GCE are asked in cloud-init's first stage, by an address of its own DHCP client: without \
              one the datasource is given up",
        remedy: "install isc-dhcp-client (cloud-init before 24.1), or dhcpcd-base or udhcpc for later ones",
        source: "cloud-init, cloudinit/net/dhcp.py and the datasources Ec2Local, Azure and GCELocal",
        applies: Applies::with(&[Software::CloudInit]),
        stops_boot: false,
        judge: Judge::Tree(early_dhcp),
    },
];

/// The file that the next kernel's entry is made of.
const DEFAULT_GRUB: &str = "/etc/default/grub";
/// Files that are added to it.
const DEFAULT_GRUB_D: &str = "/etc/default/grub.d";

fn console(examined: &Examined) -> Result<Verdict> {
    let Examined { tree, machine, .. } = examined;
    let console = &machine.profile.console;
    let lines = kernel_lines(tree, "/boot")?;
    if lines.is_empty() {
        let text = "no entry of a boot loader is in the root's /boot".to_owned();
        return Ok(Verdict::NotProven(text));
    }
    let without = lines.iter().filter(|line| !speaks_on(line.words(), console));
    let mut wrong: Vec<String> = without
        .map(|KernelLine { path, number, .. }| {
            format!("{path}, line {number}: the kernel has no console={console}")
        })
        .collect();
    if let Some(lacks) = default_grub(tree, console)? {
        wrong.push(lacks);
    }
    Ok(findings::verdict(&wrong, format!("{}: console={console}", lines[0].path)))
}

/// Why an entry that is made later would be silent; nothing where it would not, or none is made from this file.
fn default_grub(tree: &Tree, console: &str) -> Result<Option<String>> {
    let Some(mut text) = tree.text(DEFAULT_GRUB)? else { return Ok(None) };
    for name in tree.names(DEFAULT_GRUB_D) {
        if name.ends_with(".cfg") {
            text.push('\n');
            text.push_str(&tree.text(&format!("{DEFAULT_GRUB_D}/{name}"))?.unwrap_or_default());
        }
    }
    let lines = text.lines().map(str::trim).filter(|line| line.starts_with("GRUB_CMDLINE_LINUX"));
    let words = lines.filter_map(|line| line.split_once('=')).flat_map(|(_, value)| {
        value.split(|c: char| c.is_whitespace() || c == '"' || c == '\'').collect::<Vec<_>>()
    });
    let lacks = !speaks_on(words, console);
    Ok(lacks.then(|| {
        format!("{DEFAULT_GRUB}: the next kernel's entry would have no console={console}")
    }))
}

/// Whether one of the kernel's arguments is this console, with or without its speed.
fn speaks_on<'a>(mut words: impl Iterator<Item = &'a str>, console: &str) -> bool {
    words.any(|word| {
        let value = word.strip_prefix("console=");
        value.is_some_and(|value| value.split(',').next() == Some(console))
    })
}

/// Datasources whose first stage asks for an address itself.
const EARLY: [&str; 3] = ["Ec2", "Azure", "GCE"];
/// A DHCP client that cloud-init calls.
struct Client {
    name: &'static str,
    /// The first version of cloud-init that is known to call it, and the last that is known not to.
    known: (Release, Release),
}

/// Major and minor version of cloud-init.
type Release = (u32, u32);

/// In cloud-init's own order. Source: cloudinit/net/dhcp.py of 22.4.2 and 25.1.4, those of Debian 12 and 13.
const CLIENTS: [Client; 3] = [
    Client { name: "dhcpcd", known: ((25, 1), (22, 4)) },
    Client { name: "dhclient", known: ((0, 0), (0, 0)) },
    Client { name: "udhcpc", known: ((25, 1), (22, 4)) },
];

fn early_dhcp(examined: &Examined) -> Result<Verdict> {
    let Examined { tree, machine, part, .. } = examined;
    let profile = &machine.profile;
    let source = part.map_or(profile.data_source.as_str(), |part| part.own(profile));
    let needed = EARLY.contains(&source);
    let packages = tree.packages()?;
    let package = packages.named("cloud-init");
    let version = package.and_then(|package| numbers(&package.version));
    let told = package.map_or("of unknown version", |package| package.version.as_str());
    let mut open = Vec::new();
    for Client { name, known: (knows, does_not) } in CLIENTS {
        let Some(path) = tree.program(name) else { continue };
        match version {
            _ if knows == (0, 0) => {}
            Some(version) if version >= knows => {}
            Some(version) if version <= does_not => continue,
            _ => {
                open.push(path);
                continue;
            }
        }
        return Ok(Verdict::Pass(format!("cloud-init {told} has {path}")));
    }
    Ok(match (needed, open.is_empty()) {
        (false, _) => Verdict::Skipped(format!("{source} asks nobody before the network is up")),
        (true, false) => {
            let open = open.join(", ");
            Verdict::NotProven(format!("whether cloud-init {told} takes {open} is not known"))
        }
        (true, true) => {
            let clients: Vec<&str> = CLIENTS
                .iter()
                .filter(|client| version.is_none_or(|version| version >= client.known.0))
                .map(|client| client.name)
                .collect();
            let clients = clients.join(", ");
            Verdict::Fail(format!(
                "{source}: cloud-init {told} finds none of {clients} on root's PATH"
            ))
        }
    })
}

/// The first two numbers of a version.
fn numbers(version: &str) -> Option<Release> {
    let version = version.split_once(':').map_or(version, |(_, version)| version);
    let mut numbers = version.split(|c: char| !c.is_ascii_digit()).map(str::parse::<u32>);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest::corpus::sound;
    use crate::rules::Family;

    #[test]
    fn a_console_with_its_speed_counts_and_one_of_a_longer_name_does_not() {
        assert!(speaks_on(["ro", "console=ttyS0,38400n8d"].into_iter(), "ttyS0"));
        assert!(!speaks_on(["console=ttyS01", "xconsole=ttyS0"].into_iter(), "ttyS0"));
    }

    #[test]
    fn a_file_of_its_own_may_add_the_console_for_later_kernels() {
        let mut examined = sound(Family::Debian);
        examined.tree.write(DEFAULT_GRUB, 0o644, "GRUB_CMDLINE_LINUX=\"\"\n");
        let cloud = "GRUB_CMDLINE_LINUX_DEFAULT=\"console=tty0 console=ttyS0,115200\"\n";
        examined.tree.write("/etc/default/grub.d/50-cloud.cfg", 0o644, cloud);
        assert!(matches!(console(&examined).unwrap(), Verdict::Pass(_)));
        examined.tree.remove("/boot/grub");
        assert!(matches!(console(&examined).unwrap(), Verdict::NotProven(_)));
    }

    #[test]
    fn the_client_has_to_be_one_that_this_cloud_init_knows() {
        let judged = |client: &str, version: &str, source: &str| {
            let mut examined = sound(Family::Debian);
            examined.machine.profile.data_source = source.to_owned();
            examined.tree.remove("/usr/sbin/dhclient");
            examined.tree.replace("/var/lib/dpkg/status", "22.4.2-1+deb12u4", version);
            examined.tree.write(&format!("/usr/sbin/{client}"), 0o755, "elf");
            early_dhcp(&examined).unwrap().word()
        };
        assert_eq!(judged("dhcpcd", "22.4.2-1", "Ec2"), "FAIL");
        assert_eq!(judged("dhcpcd", "24.1.3-0ubuntu1", "Ec2"), "not proven");
        assert_eq!(judged("dhcpcd", "25.1.4-1", "Azure"), "pass");
        assert_eq!(judged("udhcpc", "25.1.4-1", "GCE"), "pass");
        assert_eq!(judged("dhclient", "23.4", "GCE"), "pass");
        assert_eq!(judged("none", "25.1.4-1", "NoCloud"), "skipped");
    }
}
