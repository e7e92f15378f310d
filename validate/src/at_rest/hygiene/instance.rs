//! What another instance left: cloud-init's state, leases, and networks of another machine's cards.

use nodekiln_words::Result;

use crate::Tier;
use crate::at_rest::Examined;
use crate::at_rest::findings::Findings;
use crate::at_rest::hygiene::leftovers;
use crate::rules::{Applies, Judge, Rule, Severity, Software, Verdict};
use crate::tree::Tree;

pub(in crate::at_rest) const RULES: &[Rule] = &[
    Rule {
        id: "cloud-state",
        title: "cloud-init has not run in the image and will",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "/var/lib/cloud",
            "/run/cloud-init",
            "/etc/cloud/cloud-init.disabled",
            "/etc/netplan/50-cloud-init.yaml",
            "/etc/network/interfaces.d/50-cloud-init*",
            "/etc/systemd/network/10-cloud-init-*",
            "/etc/NetworkManager/system-connections/cloud-init-*",
            "/etc/ssh/sshd_config.d/50-cloud-init.conf",
            "/etc/cloud/cloud.cfg.d",
        ],
        why: "cloud-init skips what its state says is done, and a seed or an installer's file decides where it looks",
        remedy: "run `cloud-init clean --logs --seed` last, and delete what an installer left",
        source: "cloud-init, `cloud-init clean` and boot stages; image-builder issue 2057",
        applies: Applies::with(&[Software::CloudInit]),
        stops_boot: false,
        judge: Judge::Tree(cloud_state),
    },
    Rule {
        id: "leases",
        title: "No lease and no DHCP id of another machine is kept",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "/var/lib/dhcp",
            "/var/lib/dhclient",
            "/var/lib/dhcpcd",
            "/etc/dhcpcd.duid",
            "/var/lib/NetworkManager",
            "/etc/systemd/networkd.conf",
        ],
        why: "clones ask for the same address under the same id, and the server gives it to both",
        remedy: "delete leases and ids; the client makes new ones",
        source: "dhclient.leases(5), dhcpcd(8), networkd.conf(5)",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Tree(leases),
    },
    Rule {
        id: "fixed-network",
        title: "No network setting is bound to one card's address",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &[
            "/etc/udev/rules.d/*persistent-net*",
            "/etc/systemd/network",
            "/etc/netplan",
            "/etc/NetworkManager/system-connections",
            "/etc/sysconfig/network-scripts",
            "/etc/network/interfaces",
        ],
        why: "every clone has other cards: the setting fits none of them, and a name that is taken moves the card",
        remedy: "match by driver or name pattern, or leave the network to cloud-init",
        source: "systemd.network(5), netplan-yaml(5), nm-settings-keyfile(5)",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Tree(fixed_network),
    },
];

/// What cloud-init writes on an instance.
const WRITTEN: [&str; 7] = [
    "/var/lib/cloud",
    "/run/cloud-init",
    "/etc/netplan/50-cloud-init.yaml",
    "/etc/network/interfaces.d/50-cloud-init*",
    "/etc/systemd/network/10-cloud-init-*",
    "/etc/NetworkManager/system-connections/cloud-init-*",
    "/etc/ssh/sshd_config.d/50-cloud-init.conf",
];

/// What installers leave beside cloud-init's own settings: network switched off, sources or a data source of theirs.
const INSTALLERS: [&str; 5] = [
    "/etc/cloud/cloud.cfg.d/*disable-cloudinit-networking.cfg",
    "/etc/cloud/cloud.cfg.d/99-installer.cfg",
    "/etc/cloud/cloud.cfg.d/90-installer-network.cfg",
    "/etc/cloud/cloud.cfg.d/curtin-preserve-sources.cfg",
    "/etc/cloud/cloud.cfg.d/99-disable-network-config.cfg",
];

fn cloud_state(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let mut findings = Findings::default();
    let claimed = |path: &String| examined.expect.files.contains(path);
    for path in leftovers(tree, &WRITTEN).iter().filter(|path| !claimed(path)) {
        findings.wrong(format!("{path} is another instance's"));
    }
    for path in leftovers(tree, &INSTALLERS).iter().filter(|path| !claimed(path)) {
        findings.wrong(format!("{path} is an installer's"));
    }
    let disabled = "/etc/cloud/cloud-init.disabled";
    if tree.entry(disabled).is_some() {
        findings.wrong(format!("{disabled} keeps cloud-init from running"));
    }
    Ok(findings.verdict("no state of another instance below /var/lib/cloud"))
}

/// Where clients keep leases, ids and secrets.
const LEASES: [&str; 11] = [
    "/var/lib/dhcp/*.lease*",
    "/var/lib/dhclient/*.lease*",
    "/var/lib/dhcp6/*",
    "/var/lib/dhcpcd/*",
    "/var/lib/wicked/*",
    "/etc/dhcpcd.duid",
    "/etc/dhcpcd.secret",
    "/var/lib/NetworkManager/*.lease*",
    "/var/lib/NetworkManager/secret_key",
    "/var/lib/NetworkManager/timestamps",
    "/var/lib/NetworkManager/seen-bssids",
];

fn leases(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let mut findings = Findings::default();
    for path in leftovers(tree, &LEASES) {
        findings.wrong(format!("{path} is another machine's"));
    }
    let settings = ["/etc/systemd/networkd.conf", "/etc/systemd/networkd.conf.d/*.conf"];
    settings_with(tree, &settings, &["DUIDRawData"], &mut findings)?;
    Ok(findings.verdict("no lease and no id"))
}

/// Files of networkd's and NetworkManager's that bind to a card's address, and the keys by which they do.
const BOUND: [(&[&str], &[&str]); 4] = [
    (
        &[
            "/etc/systemd/network/*.link",
            "/etc/systemd/network/*.network",
            "/etc/systemd/network/*.d/*.conf",
            "/usr/lib/systemd/network/*.link",
            "/usr/lib/systemd/network/*.network",
        ],
        &["MACAddress", "PermanentMACAddress"],
    ),
    (
        &[
            "/etc/NetworkManager/system-connections/*",
            "/usr/lib/NetworkManager/system-connections/*",
        ],
        &["mac-address", "cloned-mac-address"],
    ),
    (&["/etc/sysconfig/network-scripts/ifcfg-*"], &["HWADDR", "MACADDR"]),
    (&["/etc/netplan/*.yaml"], &["macaddress"]),
];

fn fixed_network(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let mut findings = Findings::default();
    for (patterns, keys) in BOUND {
        settings_with(tree, patterns, keys, &mut findings)?;
    }
    for path in tree.glob("/etc/udev/rules.d/*persistent-net*") {
        let text = tree.text(&path)?.unwrap_or_default();
        let rule = text.lines().enumerate().find(|(_, line)| line.contains("ATTR{address}"));
        if let Some((at, _)) = rule {
            findings.wrong(format!("{path}:{}: a name for one card", at + 1));
        }
    }
    for path in
        ["/etc/network/interfaces", "/etc/network/interfaces.d/*"].map(|p| tree.glob(p)).concat()
    {
        let text = tree.text(&path)?.unwrap_or_default();
        let line = text.lines().enumerate().find(|(_, line)| line.trim().starts_with("hwaddress"));
        if let Some((at, line)) = line {
            findings.wrong(format!("{path}:{}: {}", at + 1, line.trim()));
        }
    }
    Ok(findings.verdict("no setting names a card's address"))
}

/// Tells of every line in the files of `patterns` that gives one of `keys` an address or a value.
fn settings_with(
    tree: &Tree,
    patterns: &[&str],
    keys: &[&str],
    findings: &mut Findings,
) -> Result<()> {
    for path in patterns.iter().flat_map(|pattern| tree.glob(pattern)) {
        let text = tree.text(&path)?.unwrap_or_default();
        for (at, line) in text.lines().enumerate() {
            let Some((key, value)) = line.split_once(['=', ':']) else { continue };
            let value = value.trim();
            // NetworkManager has words for addresses that it makes up: `random`, `stable`, `preserve`.
            let made_up = matches!(value, "" | "random" | "stable" | "preserve" | "permanent");
            if keys.contains(&key.trim()) && !made_up {
                findings.wrong(format!("{path}:{}: {}", at + 1, line.trim()));
            }
        }
    }
    Ok(())
}

#[cfg(test)]
pub(in crate::at_rest) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use crate::at_rest::corpus::Mutation;

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new(
            "an instance's state",
            &["cloud-state"],
            "/var/lib/cloud/instances/i-1",
            |e| {
                e.tree.write("/var/lib/cloud/instances/i-1/sem/config_ssh", 0o644, "done");
                e.tree.link("/var/lib/cloud/instance", "/var/lib/cloud/instances/i-1");
            },
        )
        .incident("lxd issue 8717"),
        Mutation::new("a seed of the build", &["cloud-state"], "seed/nocloud/meta-data", |e| {
            e.tree.write("/var/lib/cloud/seed/nocloud/meta-data", 0o644, "instance-id: build\n");
        }),
        Mutation::new("what cloud-init ran by", &["cloud-state"], "/run/cloud-init/", |e| {
            e.tree.write("/run/cloud-init/instance-data.json", 0o644, "{}");
        }),
        Mutation::new("a network of an instance", &["cloud-state"], "10-cloud-init-eth0", |e| {
            e.tree.write(
                "/etc/systemd/network/10-cloud-init-eth0.network",
                0o644,
                "[Match]\nName=eth0\n",
            );
        }),
        Mutation::new("an installer's settings", &["cloud-state"], "an installer's", |e| {
            let path = "/etc/cloud/cloud.cfg.d/subiquity-disable-cloudinit-networking.cfg";
            e.tree.write(path, 0o644, "network: {config: disabled}\n");
        })
        .incident("image-builder issue 2057"),
        Mutation::new("a lease", &["leases"], "/var/lib/dhcp/dhclient.eth0.leases", |e| {
            e.tree.write("/var/lib/dhcp/dhclient.eth0.leases", 0o644, "lease {\n}\n");
        }),
        Mutation::new("a client's id", &["leases"], "/var/lib/dhcpcd/duid", |e| {
            e.tree.write("/var/lib/dhcpcd/duid", 0o644, "00:01\n");
        }),
        Mutation::new("NetworkManager's secret", &["leases"], "secret_key", |e| {
            e.tree.write("/var/lib/NetworkManager/secret_key", 0o600, "nm-v2:key");
        }),
        Mutation::new("networkd's id", &["leases"], "DUIDRawData=00:00", |e| {
            let text = "[DHCPv4]\nDUIDType=vendor\nDUIDRawData=00:00:ab:11\n";
            e.tree.write("/etc/systemd/networkd.conf.d/10-id.conf", 0o644, text);
        }),
        Mutation::new(
            "a card's name by its address",
            &["fixed-network"],
            "70-persistent-net.rules:2",
            |e| {
                let text = "# PCI device\nSUBSYSTEM==\"net\", ATTR{address}==\"52:54:00:12:34:56\", NAME=\"eth0\"\n";
                e.tree.write("/etc/udev/rules.d/70-persistent-net.rules", 0o644, text);
            },
        ),
        Mutation::new("networkd's card", &["fixed-network"], "20-lan.network:2: MACAddress", |e| {
            let text = "[Match]\nMACAddress=52:54:00:12:34:56\n";
            e.tree.write("/etc/systemd/network/20-lan.network", 0o644, text);
        }),
        Mutation::new("netplan's card", &["fixed-network"], "01-lan.yaml:4", |e| {
            let text = "network:\n  ethernets:\n    lan:\n      macaddress: 52:54:00:12:34:56\n";
            e.tree.write("/etc/netplan/01-lan.yaml", 0o600, text);
        }),
        Mutation::new("NetworkManager's card", &["fixed-network"], "mac-address=52", |e| {
            let text = "[ethernet]\nmac-address=52:54:00:12:34:56\n";
            e.tree.write("/etc/NetworkManager/system-connections/lan.nmconnection", 0o600, text);
        }),
        Mutation::new("an interface's address", &["fixed-network"], "hwaddress ether", |e| {
            let text = "iface eth0 inet dhcp\n  hwaddress ether 52:54:00:12:34:56\n";
            e.tree.write("/etc/network/interfaces", 0o644, text);
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
        tree.folder("/var/lib/cloud/scripts/per-boot", 0o755);
        tree.write("/var/lib/dhcp/dhclient.leases", 0o644, "");
        tree.write("/var/lib/cloud/seed/nocloud/meta-data", 0o644, "instance-id: fixed\n");
        tree.write("/etc/udev/rules.d/70-persistent-net.rules", 0o644, "# none\n");
        tree.write(
            "/etc/systemd/network/99-a.link",
            0o644,
            "[Link]\nMACAddressPolicy=persistent\n",
        );
        let connection = "[connection]\nuuid=1\n[ethernet]\ncloned-mac-address=stable\n";
        tree.write("/etc/NetworkManager/system-connections/a.nmconnection", 0o600, connection);
        examined.expect.files.insert("/var/lib/cloud/seed/nocloud/meta-data".into());
        for judge in [cloud_state, leases, fixed_network] {
            let verdict = judge(&examined).unwrap();
            assert!(matches!(verdict, Verdict::Pass(_)), "{verdict:?}");
        }
    }
}
