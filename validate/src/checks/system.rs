//! Rules on the state that the machine reached.

use nodekiln_words::{Failure, Result};

use super::answers::text;
use super::{Applies, Ask, Context, Judge, Rule, Severity, Verdict};
use crate::Tier;
use crate::console::Gravity;
use crate::guest::Output;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "multi-user",
        title: "The machine reaches its normal state",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["systemctl is-system-running"],
        why: "a node that does not reach its normal state never joins a cluster",
        remedy: "read in the report which unit is still starting, and in `guest/journal.log` why",
        source: "systemd.special(7), multi-user.target",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Last("systemctl is-active multi-user.target; systemctl is-system-running; true"),
            multi_user,
        ),
    },
    Rule {
        id: "failed-units",
        title: "No unit failed",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["systemctl list-units --failed"],
        why: "a unit that fails on every first boot fails on every node",
        remedy: "`guest/journal.log` in the evidence says why the unit failed; disable or mask what the image does not need",
        source: "systemctl(1)",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Last("systemctl list-units --failed --plain --no-legend --full --no-pager"),
            failed_units,
        ),
    },
    Rule {
        id: "console",
        title: "The console tells of no fault",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["the serial console"],
        why: "the console tells of faults that nothing else reports",
        remedy: "read the line in its surroundings: the report gives its place in `console.log`",
        source: "pattern table of the console scanner",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Machine(Ask::Nothing, console),
    },
    Rule {
        id: "root-growth",
        title: "The root file system fills a larger disk",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["df", "lsblk"],
        why: "clouds give larger disks than the image; unused space is paid for and missed",
        remedy: "keep cloud-init's growpart and resizefs modules and the package cloud-guest-utils, with the root partition last",
        source: "cloud-init modules growpart and resizefs",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Script(
                // Below a volume or an encrypted partition there are others, down to the disk.
                "device=$(findmnt -n -v -o SOURCE --target /)\n\
             df -B1 --output=size / | tail -n 1\n\
             disk=$(lsblk -n -r -s -p -o NAME,TYPE \"$device\" | grep -m 1 ' disk$')\n\
             blockdev --getsize64 \"${disk% disk}\"",
            ),
            root_growth,
        ),
    },
    Rule {
        id: "journal",
        title: "The journal has no errors",
        tier: Tier::Boot,
        severity: Severity::Advisory,
        reads: &["journalctl -b -p err"],
        why: "errors in every node's journal hide those that matter",
        remedy: "mend what the lines name, or disable the unit that writes them",
        source: "journalctl(1), priority err and above",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Last("journalctl -b -p err -o short-monotonic --no-pager -q"),
            journal,
        ),
    },
    Rule {
        id: "listeners",
        title: "Nothing unexpected listens",
        tier: Tier::Boot,
        severity: Severity::Advisory,
        reads: &["ss -l"],
        why: "each open port is a way in",
        remedy: "disable the unit that listens, or bind it to a loopback address",
        source: "ss(8)",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Machine(Ask::Script("ss -H -l -n -p -t -u"), listeners),
    },
];

fn multi_user(answer: &Output, _: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let mut lines = text.lines();
    let (target, system) = (lines.next().unwrap_or("unknown"), lines.next().unwrap_or("unknown"));
    let wrong = match (target, system) {
        ("active", "running" | "degraded") => vec![], // what is degraded is the rule failed-units'
        _ => vec![format!("multi-user.target is {target}, the system is {system}")],
    };
    Ok(Verdict::of(&wrong, format!("multi-user.target is active, the system is {system}")))
}

/// Without a cluster the kubelet finds no configuration, exits and is restarted every ten seconds:
/// by design until `kubeadm init` has run.
fn failed_units(answer: &Output, context: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let names = text.lines().filter_map(|line| line.split_whitespace().next());
    let excepted = |name: &&str| !context.clustered() && *name == "kubelet.service";
    let wrong: Vec<String> =
        names.filter(|name| !excepted(name)).map(|name| format!("{name} failed")).collect();
    Ok(Verdict::of(&wrong, "none"))
}

fn console(_: &Output, context: &Context) -> Result<Verdict> {
    let told = |gravity: &[Gravity]| -> Vec<String> {
        let of_gravity =
            context.console.iter().filter(|finding| gravity.contains(&finding.gravity));
        of_gravity
            .map(|finding| {
                format!("{} at byte {}: {}", finding.pattern, finding.offset, finding.line.trim())
            })
            .collect()
    };
    let (grave, odd) = (told(&[Gravity::Fatal, Gravity::Bad]), told(&[Gravity::Suspicious]));
    Ok(if grave.is_empty() && !odd.is_empty() {
        Verdict::Warn(odd.join("; "))
    } else {
        Verdict::of(&grave, "nothing found")
    })
}

/// The root file system should fill the disk to within ten percent.
fn root_growth(answer: &Output, _: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let numbers: Vec<u64> = text.lines().filter_map(|line| line.trim().parse().ok()).collect();
    let [root, disk] = numbers[..] else {
        return Err(Failure::io(format!("sizes of root and disk are not in `{text}`")));
    };
    let show = nodekiln_words::Bytes;
    let seen = format!("the root file system has {} of a disk of {}", show(root), show(disk));
    let enough = u128::from(root) * 10 >= u128::from(disk) * 9;
    Ok(if enough { Verdict::Pass(seen) } else { Verdict::Fail(seen) })
}

/// Journal lines of priority "error" that say nothing about the image, each with the reason.
const HARMLESS: [(&str, &str); 5] = [
    ("Failed to find module 'autofs4'", "systemd asks for what the kernel has built in"),
    ("platform regulatory.0", "wireless rules are no business of a virtual machine"),
    ("failed to load cni during init", "no network plugin is configured before a cluster has one"),
    ("cni config load failed", "the same, in containerd's other words"),
    ("RETBleed: WARNING: Spectre v2", "the emulated processor's own"),
];

/// The same where no cluster was made: until then the kubelet finds no configuration, and is started again and again.
const HARMLESS_ALONE: [(&str, &str); 2] = [
    (" kubelet[", "the kubelet's own words on that"),
    ("kubelet.service", "systemd's words on that"),
];

fn journal(answer: &Output, context: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let alone = HARMLESS_ALONE.iter().filter(|_| !context.clustered());
    let needles: Vec<&str> = HARMLESS.iter().chain(alone).map(|(needle, _)| *needle).collect();
    let harmless = |line: &&str| needles.iter().any(|needle| line.contains(needle));
    let (known, telling): (Vec<&str>, Vec<&str>) = text.lines().partition(harmless);
    let shown: Vec<String> = telling.iter().take(12).map(|line| line.trim().to_owned()).collect();
    Ok(match telling.len() {
        0 => Verdict::Pass(format!("no errors ({} known lines)", known.len())),
        count => Verdict::Fail(format!("{count} lines: {}", shown.join(" | "))),
    })
}

/// Ports on which a node may listen, each with what for.
const OPEN: [(&str, u16, &str); 7] = [
    ("tcp", 22, "SSH"),
    ("udp", 68, "the client of DHCP"),
    ("udp", 546, "the client of DHCPv6"),
    ("udp", 123, "NTP"),
    ("udp", 323, "chrony's own control, by default on loopback addresses"),
    ("tcp", 5355, "names on the link (LLMNR), systemd-resolved"),
    ("udp", 5355, "the same"),
];
/// Ports of a control-plane node (Kubernetes, "Ports and Protocols"), each with whose it is.
const CONTROL_PLANE: [(u16, &str); 7] = [
    (6443, "kube-apiserver"),
    (2379, "etcd, for clients"),
    (2380, "etcd, for its peers"),
    (10250, "the kubelet"),
    (10256, "kube-proxy's health"),
    (10257, "kube-controller-manager"),
    (10259, "kube-scheduler"),
];

fn listeners(answer: &Output, context: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let mut wrong = Vec::new();
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (Some(protocol), Some(local)) = (fields.first(), fields.get(4)) else { continue };
        let Some((address, port)) = local.rsplit_once(':') else { continue };
        let loopback = address.starts_with("127.") || address.starts_with("[::1]");
        let port: u16 = port.parse().unwrap_or(0);
        let cluster = context.clustered() && CONTROL_PLANE.iter().any(|(own, _)| *own == port);
        let open = OPEN.iter().any(|(kind, own, _)| (*kind, *own) == (*protocol, port));
        if !loopback && !cluster && !open {
            let process = fields.get(6).copied().unwrap_or("an unknown process");
            wrong.push(format!("{protocol} {local} {process}"));
        }
    }
    Ok(Verdict::of(&wrong, "only expected ports"))
}

#[cfg(test)]
pub(super) use mutations::ANSWERS;

#[cfg(test)]
mod mutations {
    use crate::checks::corpus::{Answer, Mutation};

    pub(in crate::checks) const ANSWERS: &[Answer] = &[
        Answer::new(
            "multi-user",
            "active\nrunning\n",
            &[
                Mutation::new("a unit still starts", "inactive, the system is starting", |guest| {
                    guest.print("inactive\nstarting\n");
                }),
                Mutation::new("a shell for maintenance", "maintenance", |guest| {
                    guest.replace("running", "maintenance");
                }),
            ],
        ),
        Answer::new(
            "failed-units",
            "",
            &[
                Mutation::new("a unit that ran once failed", "bad.service failed", |guest| {
                    guest.print("bad.service loaded failed failed Bad\n");
                }),
                Mutation::new("the kubelet failed beside a cluster", "kubelet.service", |guest| {
                    guest.print("kubelet.service loaded failed failed kubelet: The Kubernetes Node Agent\n");
                }),
            ],
        ),
        Answer::new("console", "", &[
            Mutation::new("the kernel found a fault of its own", "at byte 0", |guest| {
                guest.console.insert_str(0, "[    1.000000] Oops: 0002 [#1] PREEMPT SMP\n");
            }),
            Mutation::new("the root is missing", "Missing /etc/machine-id", |guest| {
                guest.console.push_str("System cannot boot: Missing /etc/machine-id and /etc is mounted read-only.\n");
            })
            .incident("image-builder issue 2164"),
        ])
        .given(|guest| guest.console.push_str("[    0.000000] Linux version 6.1.0-30-cloud-amd64\n")),
        Answer::new(
            "root-growth",
            "  6900000000\n7516192768\n",
            &[Mutation::new("the root kept its size", "3 GiB of a disk of 7 GiB", |guest| {
                guest.replace("6900000000", "3221225472");
            })],
        ),
        Answer::new(
            "journal",
            "[    2.100000] node-1 systemd[1]: Failed to find module 'autofs4'\n",
            &[
                Mutation::new("a service told of an error", "fatal: no keys", |guest| {
                    guest.prints.push_str("[    5.200000] node-1 sshd[433]: fatal: no keys\n");
                }),
                Mutation::new("the kubelet of a cluster told of one", "no space left", |guest| {
                    guest.prints.push_str("[   95.2] node-1 kubelet[912]: no space left on device\n");
                }),
                Mutation::new("a line that only has the kubelet's name", "disk of kubelet", |guest| {
                    guest.tier = crate::Tier::Boot;
                    guest.prints.push_str("[    5.2] node-1 lvm[433]: no disk of kubelet\n");
                }),
            ],
        ),
        Answer::new(
            "listeners",
            "tcp   LISTEN 0      128          0.0.0.0:22         0.0.0.0:*    users:((\"sshd\",pid=433,fd=3))\n\
             tcp   LISTEN 0      4096       127.0.0.1:40000      0.0.0.0:*    users:((\"containerd\",pid=401,fd=9))\n\
             tcp   LISTEN 0      4096               *:6443             *:*    users:((\"kube-apiserver\",pid=1401,fd=7))\n",
            &[
                Mutation::new("a stray server", "0.0.0.0:31337 users:((\"nc\"", |guest| {
                    guest.prints.push_str(
                        "tcp   LISTEN 0      1            0.0.0.0:31337      0.0.0.0:*    users:((\"nc\",pid=444,fd=3))\n",
                    );
                }),
                Mutation::new("a server of the control plane without a cluster", "*:6443", |guest| {
                    guest.tier = crate::Tier::Boot;
                }),
            ],
        ),
    ];
}

#[cfg(test)]
mod tests {
    use super::super::testing::{context, judge_with, passes};
    use super::*;
    use crate::console::Scanner;
    use crate::expect::Expectations;

    #[test]
    fn the_kubelet_may_fail_where_there_is_no_cluster() {
        let expect = Expectations::default();
        let kubelet = "kubelet.service loaded failed failed kubelet\n";
        let boot = context(&expect, Tier::Boot);
        assert!(passes(&judge_with("failed-units", kubelet, 0, &boot).unwrap()));
    }

    #[test]
    fn the_kubelet_may_complain_where_there_is_no_cluster() {
        let expect = Expectations::default();
        let line = "[   15.1] node-1 kubelet[912]: E1101 server.go:198] failed to load Kubelet config file\n";
        let boot = context(&expect, Tier::Boot);
        assert!(passes(&judge_with("journal", line, 0, &boot).unwrap()));
    }

    #[test]
    fn without_sizes_there_is_no_verdict_on_the_growth() {
        let expect = Expectations::default();
        assert!(judge_with("root-growth", "", 0, &context(&expect, Tier::Boot)).is_err());
    }

    #[test]
    fn a_suspicious_console_line_warns() {
        let expect = Expectations::default();
        let mut scanner = Scanner::default();
        scanner.push(b"x segfault at 0\n");
        let context = Context { console: scanner.findings(), ..context(&expect, Tier::Boot) };
        let verdict = judge_with("console", "", 0, &context).unwrap();
        assert!(matches!(verdict, Verdict::Warn(_)));
    }
}
