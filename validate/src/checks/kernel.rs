//! Rules on what the running kernel has been told.

use nodekiln_words::Result;

use super::answers::text;
use super::{Applies, Ask, Context, Judge, Rule, Severity, Verdict};
use crate::Tier;
use crate::guest::Output;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "swap",
        title: "No swap is on",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["/proc/swaps"],
        why: "the kubelet refuses to start with swap on",
        remedy: "remove swap from /etc/fstab, swap units and zram generators",
        source: "kubeadm preflight check Swap",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Machine(Ask::Script("tail -n +2 /proc/swaps"), swap),
    },
    Rule {
        id: "modules",
        title: "The claimed modules are loaded",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["/sys/module", "/proc/modules"],
        why: "pod networks need the bridge filter, containers the overlay file system",
        remedy: "name the modules under `modules:` in the recipe, and take a kernel that has them",
        source: "the image's claims; modules-load.d(5)",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Script("ls -1 /sys/module; cut -d ' ' -f 1 /proc/modules"),
            modules,
        ),
    },
    Rule {
        id: "sysctls",
        title: "The claimed kernel settings are in force",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["sysctl -a"],
        why: "a setting on disk that a later file overrides does nothing",
        remedy: "look for a later file in sysctl.d that sets the key again",
        source: "the image's claims; sysctl.d(5)",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Machine(Ask::Script("sysctl -a 2>/dev/null || true"), sysctls),
    },
];

fn swap(answer: &Output, _: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let wrong: Vec<String> = text.lines().map(|line| format!("swap is on: {line}")).collect();
    Ok(Verdict::of(&wrong, "none"))
}

fn modules(answer: &Output, context: &Context) -> Result<Verdict> {
    if context.expect.modules.is_empty() {
        return Ok(Verdict::Skipped("the image claims no modules".into()));
    }
    let text = text(answer)?;
    let normal = |name: &str| name.replace('-', "_");
    let loaded: Vec<String> = text.lines().map(normal).collect();
    let missing = context.expect.modules.iter().filter(|name| !loaded.contains(&normal(name)));
    let wrong: Vec<String> = missing.map(|name| format!("{name} is not loaded")).collect();
    Ok(Verdict::of(&wrong, context.expect.modules.join(", ")))
}

fn sysctls(answer: &Output, context: &Context) -> Result<Verdict> {
    if context.expect.sysctls.is_empty() {
        return Ok(Verdict::Skipped("the image claims no kernel settings".into()));
    }
    let text = text(answer)?;
    let mut wrong = Vec::new();
    for (key, expected) in &context.expect.sysctls {
        let live = text.lines().find_map(|line| {
            let (name, value) = line.split_once('=')?;
            (name.trim() == key).then(|| words(value))
        });
        match live {
            Some(value) if value == words(expected) => {}
            Some(value) => wrong.push(format!("{key} is {value}, not {expected}")),
            None => wrong.push(format!("{key} does not exist, so it is not {expected}")),
        }
    }
    Ok(Verdict::of(&wrong, format!("{} settings are live", context.expect.sysctls.len())))
}

/// Settings with several numbers are separated by tabs in one place and by spaces in another.
fn words(value: &str) -> String {
    value.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
pub(super) use mutations::ANSWERS;

#[cfg(test)]
mod mutations {
    use crate::checks::corpus::{Answer, Mutation};

    pub(in crate::checks) const ANSWERS: &[Answer] = &[
        Answer::new(
            "swap",
            "",
            &[Mutation::new("a compressed disk in memory", "zram0", |guest| {
                guest
                    .print("/dev/zram0                              partition\t1024\t\t0\t\t100\n");
            })
            .incident("swap on")],
        ),
        Answer::new(
            "modules",
            "8250\nbridge\nkernel\noverlay\noverlay\nbr_netfilter\nbridge\n",
            &[Mutation::new("one is not there", "br_netfilter is not loaded", |guest| {
                guest.replace("br_netfilter\n", "");
            })
            .incident("br_netfilter missing")],
        ),
        Answer::new(
            "sysctls",
            "kernel.panic = 0\nnet.bridge.bridge-nf-call-iptables = 1\nnet.ipv4.ip_forward = 1\n",
            &[
                Mutation::new(
                    "a later file sets another value",
                    "ip_forward is 0, not 1",
                    |guest| {
                        guest.replace("ip_forward = 1", "ip_forward = 0");
                    },
                ),
                Mutation::new("the module behind one is not there", "does not exist", |guest| {
                    guest.replace("net.bridge.bridge-nf-call-iptables = 1\n", "");
                })
                .incident("br_netfilter missing"),
            ],
        ),
    ];
}

#[cfg(test)]
mod tests {
    use super::super::testing::{fails, judge, passes};
    use super::*;
    use crate::expect::Expectations;

    #[test]
    fn a_module_may_be_built_in_and_written_with_dashes() {
        let modules = vec!["overlay".into(), "br-netfilter".into()];
        let expect = Expectations { modules, ..Expectations::default() };
        assert!(passes(&judge("modules", "overlay\nbr_netfilter\n", &expect)));
        let nothing = judge("modules", "", &Expectations::default());
        assert!(matches!(nothing, Verdict::Skipped(_)));
    }

    #[test]
    fn a_setting_of_several_numbers_is_compared_number_by_number() {
        let sysctls = [("net.ipv4.tcp_rmem".to_owned(), "1 2 3".to_owned())].into();
        let expect = Expectations { sysctls, ..Expectations::default() };
        assert!(passes(&judge("sysctls", "net.ipv4.tcp_rmem = 1\t2\t3\n", &expect)));
        assert!(fails(&judge("sysctls", "net.ipv4.tcp_rmem = 1\t2\t4\n", &expect), "is 1 2 4"));
    }
}
