//! Rules on what a machine is after a power cut, and on what a second one made of the image shares with the first.

use std::collections::BTreeSet;

use nodekiln_words::{Failure, Result};

use super::portrait::Portrait;
use super::{Applies, Context, Judge, Pair, Rule, Severity, Verdict};
use crate::Tier;
use crate::console::Gravity;
use crate::power_on::PowerOn;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "power-cut",
        title: "The machine comes back from a power cut as the one it was",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &[
            "systemctl is-system-running",
            "/proc/self/mounts",
            "dmesg",
            "/run/initramfs/fsck.log",
            "/etc/machine-id",
            "/etc/ssh/ssh_host_*_key.pub",
            "/var/lib/cloud/instance/sem",
            "systemctl is-active containerd kubelet",
            "the serial console",
        ],
        why: "hosts lose power and clouds reset machines: a node that does not come back, or comes back as another \
              one, is lost to its cluster",
        remedy: "read `console-after-cut.log`; let the root be checked and mounted read-write at every start, and \
                 nothing in the image make ids, keys or cloud-init's state anew at each of them",
        source: "machine-id(5), e2fsck(8), cloud-init's per-instance semaphores",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Pair(PowerOn::AfterCut, power_cut),
    },
    Rule {
        id: "clones-differ",
        title: "Two machines made of the image have nothing in common that tells machines apart",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &[
            "/etc/machine-id",
            "/etc/ssh/ssh_host_*_key.pub",
            "/etc/iscsi/initiatorname.iscsi",
            "/etc/nvme/hostid",
            "/etc/nvme/hostnqn",
            "/var/lib/systemd/random-seed",
            "/var/lib/dhcp",
        ],
        why: "machines with one id, key or initiator name are taken for one another: by DHCP servers, by storage, \
              and by whoever trusts a host key",
        remedy: "leave the named file out of the image and let each machine make its own at first boot",
        source: "machine-controller#1455, lxd#8717, terraform-provider-vsphere#516, packer-plugin-scaleway#30",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Pair(PowerOn::Clone, clones_differ),
    },
];

/// Written anew at each start and each orderly end, by design.
const RANDOM_SEED: &str = "/var/lib/systemd/random-seed";
/// The run gives each machine this key, whatever is in the image.
const GIVEN_KEY: &str = "/etc/ssh/ssh_host_ed25519_key.pub";
/// Its absence is a fault by itself: what is not there is the same nowhere.
const MACHINE_ID: &str = "/etc/machine-id";

/// What a kernel or a check says when it has brought a file system's journal to its end.
const REPLAYED: [&str; 4] =
    ["recovering journal", "recovery complete", "Ending recovery", "log replay"];
/// Options that merely name what is done about errors.
const ON_ERRORS: [&str; 3] = ["errors=remount-ro", "errors=continue", "errors=panic"];
/// Words of a file system that is not whole, in small letters.
const NOT_WHOLE: [&str; 4] = ["error", "corrupt", "inconsisten", "run fsck manually"];
/// What is said of a FAT file system that was mounted at the cut, as UEFI's may be: it has no journal.
const IN_USE: &str = "properly unmounted";
/// File systems that always have a journal to replay when they were not unmounted.
const WITH_JOURNAL: [&str; 3] = ["ext3", "ext4", "xfs"];

fn power_cut(pair: &Pair, context: &Context) -> Result<Verdict> {
    let (before, after) = (Portrait::of(pair.first)?, Portrait::of(pair.other)?);
    if before.boot == after.boot {
        return Err(Failure::io("the machine answers out of the boot before the power cut"));
    }
    let mut wrong = Vec::new();
    state(&before, &after, context, &mut wrong);
    identity(&before, &after, &mut wrong);
    set_up_once(&before, &after, &mut wrong);
    for (unit, (enabled, active)) in &before.services {
        let now = after.services.get(unit).cloned().unwrap_or_default();
        if now != (enabled.clone(), active.clone()) {
            let (then_enabled, then_active) = now;
            wrong.push(format!(
                "{unit} was {enabled} and {active}, and is {then_enabled} and {then_active}"
            ));
        }
    }
    let grave = |gravity| matches!(gravity, Gravity::Fatal | Gravity::Bad);
    let lines = pair.console.iter().filter(|finding| grave(finding.gravity));
    wrong.extend(lines.map(|finding| format!("console: {}", finding.line.trim())));
    let replayed = after.said.iter().find(|line| REPLAYED.iter().any(|words| line.contains(words)));
    let same = format!(
        "the same {} files of its identity and {} records of cloud-init; {} is {}",
        before.files.len(),
        before.modules.len(),
        "the system",
        after.system
    );
    Ok(match replayed {
        _ if !wrong.is_empty() => Verdict::Fail(wrong.join("; ")),
        Some(line) => Verdict::Pass(format!("{same}; {line}")),
        None if WITH_JOURNAL.contains(&after.root.as_str()) => {
            Verdict::NotProven(format!("{same}; but nothing tells that a journal was replayed"))
        }
        None => Verdict::Pass(same),
    })
}

/// The system came up, on a root that is whole.
fn state(before: &Portrait, after: &Portrait, context: &Context, wrong: &mut Vec<String>) {
    if !matches!(after.system.as_str(), "running" | "degraded") {
        wrong.push(format!("the system is {}", after.system));
    }
    // Without a cluster the kubelet has no configuration and may have failed by now.
    let excepted = |unit: &str| !context.tier.clusters() && unit == "kubelet.service";
    let failed = after.failed.iter().filter(|unit| !excepted(unit));
    wrong.extend(failed.map(|unit| format!("{unit} failed")));
    if !after.options.iter().any(|option| option == "rw") {
        wrong.push(format!("the root is mounted {}", after.options.join(",")));
    }
    let known: BTreeSet<&str> = before.said.iter().map(|line| untimed(line)).collect();
    for line in after.said.iter().filter(|line| !known.contains(untimed(line))) {
        let mut plain = line.clone();
        ON_ERRORS.iter().for_each(|option| plain = plain.replace(option, ""));
        let plain = plain.to_lowercase();
        if NOT_WHOLE.iter().any(|words| plain.contains(words)) && !plain.contains(IN_USE) {
            wrong.push(line.clone());
        }
    }
}

/// A line of the kernel without the seconds in front of it.
fn untimed(line: &str) -> &str {
    match line.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((_, rest)) => rest.trim_start(),
        None => line,
    }
}

/// It is the machine that it was.
fn identity(before: &Portrait, after: &Portrait, wrong: &mut Vec<String>) {
    if before.name != after.name {
        wrong.push(format!("its name was {} and is {}", before.name, after.name));
    }
    for (path, digest) in before.files.iter().filter(|(path, _)| path.as_str() != RANDOM_SEED) {
        match after.files.get(path) {
            None => wrong.push(format!("{path} is gone or empty")),
            Some(now) if now != digest => wrong.push(format!("{path} is another one")),
            Some(_) => {}
        }
    }
}

/// cloud-init takes it for the instance that it has set up already.
fn set_up_once(before: &Portrait, after: &Portrait, wrong: &mut Vec<String>) {
    if before.instance != after.instance {
        wrong.push(format!(
            "cloud-init takes it for another instance: {} instead of {}",
            after.instance, before.instance
        ));
        return;
    }
    for (module, stamp) in &before.modules {
        match after.modules.get(module) {
            None => wrong.push(format!("cloud-init's record of {module} is lost")),
            Some(now) if now != stamp => wrong.push(format!("cloud-init ran {module} again")),
            Some(_) => {}
        }
    }
}

fn clones_differ(pair: &Pair, _: &Context) -> Result<Verdict> {
    let (first, clone) = (Portrait::of(pair.first)?, Portrait::of(pair.other)?);
    let (mut same, mut different) = (Vec::new(), Vec::new());
    let mut compare = |what: &str, one: &str, other: &str| {
        if one == other { &mut same } else { &mut different }.push(what.to_owned());
    };
    compare("the host name", &first.name, &clone.name);
    compare("the boot id", &first.boot, &clone.boot);
    if !first.instance.is_empty() {
        compare("cloud-init's instance", &first.instance, &clone.instance);
    }
    for (path, digest) in first.files.iter().filter(|(path, _)| path.as_str() != GIVEN_KEY) {
        if let Some(other) = clone.files.get(path) {
            compare(path, digest, other);
        }
    }
    let mut wrong: Vec<String> = same.iter().map(|what| format!("both have {what}")).collect();
    for (whose, machine) in [("the first machine", &first), ("the clone", &clone)] {
        if !machine.files.contains_key(MACHINE_ID) {
            wrong.push(format!("{whose} has no {MACHINE_ID}"));
        }
    }
    Ok(Verdict::of(&wrong, format!("different: {}", different.join(", "))))
}

#[cfg(test)]
mod tests {
    use super::super::portrait::testing::SOUND;
    use super::super::testing::{context, fails, judge_pair, passes};
    use super::*;
    use crate::console::Finding;
    use crate::expect::Expectations;

    const REPLAY: &str = "said [    3.1] EXT4-fs (vda1): recovery complete\n";

    fn after() -> String {
        format!("{}{REPLAY}", SOUND.replace("b-1", "b-2").replace("17", "27"))
    }

    fn cut(after: &str) -> Verdict {
        judge_pair("power-cut", SOUND, after, &[], &context(&Expectations::default(), Tier::Boot))
            .unwrap()
    }

    #[test]
    fn a_machine_that_comes_back_the_same_passes_and_one_that_never_went_is_no_answer() {
        assert!(passes(&cut(&after())), "{:?}", cut(&after()));
        let silent = after().replace(REPLAY, "");
        assert!(matches!(cut(&silent), Verdict::NotProven(_)));
        assert!(passes(&cut(&silent.replace("root ext4", "root btrfs"))));
        let expect = Expectations::default();
        let context = context(&expect, Tier::Boot);
        assert!(judge_pair("power-cut", SOUND, SOUND, &[], &context).is_err());
    }

    #[test]
    fn whatever_a_power_cut_takes_or_changes_is_named() {
        for (found, instead, naming) in [
            ("file /etc/machine-id 11\n", "", "/etc/machine-id is gone or empty"),
            ("machine-id 11", "machine-id 99", "/etc/machine-id is another one"),
            ("rsa_key.pub 13", "rsa_key.pub 99", "ssh_host_rsa_key.pub is another one"),
            ("name node-1", "name localhost", "node-1 and is localhost"),
            ("iid-1", "iid-datasource-none", "another instance"),
            ("config_ssh 1000", "config_ssh 2000", "ran config_ssh again"),
            ("module config_ssh 1000\n", "", "record of config_ssh is lost"),
            (
                "containerd.service enabled active",
                "containerd.service enabled failed",
                "is enabled and failed",
            ),
            ("rw,relatime", "ro,relatime", "mounted ro"),
            ("system running", "system maintenance", "maintenance"),
            (
                "system running\n",
                "system degraded\nfailed systemd-fsck@dev-vda15.service\n",
                "fsck@dev-vda15",
            ),
            (REPLAY, "said [ 9.1] EXT4-fs error (device vda1): bad entry\n", "bad entry"),
            (REPLAY, "said /dev/vda1: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.\n", "RUN fsck"),
        ] {
            let answer = after();
            assert!(answer.contains(found), "{found}");
            let verdict = cut(&answer.replace(found, instead));
            assert!(fails(&verdict, naming), "{naming}: {verdict:?}");
        }
        let mount =
            format!("{}said EXT4-fs (vda1): re-mounted. Opts: errors=remount-ro.\n", after());
        assert!(passes(&cut(&mount)));
        let fat = "said [ 4.0] FAT-fs (vda15): Volume was not properly unmounted. Some data may be corrupt.\n";
        assert!(passes(&cut(&format!("{}{fat}", after()))));
    }

    #[test]
    fn what_was_said_before_the_cut_is_not_held_against_it() {
        let noise = |seconds: &str| format!("said [ {seconds}] I/O error, dev fd0, sector 0\n");
        let (before, after) =
            (format!("{SOUND}{}", noise("2.5")), format!("{}{}", after(), noise("3.1")));
        let expect = Expectations::default();
        let context = context(&expect, Tier::Boot);
        let judge = |before: &str| judge_pair("power-cut", before, &after, &[], &context).unwrap();
        assert!(passes(&judge(&before)));
        assert!(fails(&judge(SOUND), "dev fd0"));
    }

    #[test]
    fn a_fault_on_the_second_console_fails_and_the_kubelet_may_wait_for_its_cluster() {
        let expect = Expectations::default();
        let finding = Finding {
            pattern: "hung-task".into(),
            gravity: Gravity::Bad,
            offset: 0,
            line: "INFO: task blocked".into(),
        };
        let context = context(&expect, Tier::Boot);
        let verdict = judge_pair("power-cut", SOUND, &after(), &[finding], &context).unwrap();
        assert!(fails(&verdict, "task blocked"));
        let waiting = format!("{}failed kubelet.service\n", after());
        assert!(passes(&cut(&waiting)));
    }

    #[test]
    fn what_two_clones_share_is_named_but_the_key_that_the_run_gives() {
        let expect = Expectations::default();
        let context = context(&expect, Tier::Boot);
        let judge = |clone: &str| judge_pair("clones-differ", SOUND, clone, &[], &context).unwrap();
        let clone = SOUND
            .replace("node-1", "node-2")
            .replace("b-1", "b-2")
            .replace("iid-1", "iid-2")
            .replace("id 11", "id 21")
            .replace("rsa_key.pub 13", "rsa_key.pub 23")
            .replace("iscsi 14", "iscsi 24")
            .replace("hostid 15", "hostid 25")
            .replace("hostnqn 16", "hostnqn 26")
            .replace("seed 17", "seed 27");
        assert!(passes(&judge(&clone)), "{:?}", judge(&clone));
        for (own, shared) in [
            ("name node-2", "name node-1"),
            ("machine-id 21", "machine-id 11"),
            ("rsa_key.pub 23", "rsa_key.pub 13"),
            ("initiatorname.iscsi 24", "initiatorname.iscsi 14"),
            ("hostid 25", "hostid 15"),
            ("hostnqn 26", "hostnqn 16"),
            ("random-seed 27", "random-seed 17"),
            ("iid-2", "iid-1"),
        ] {
            assert!(fails(&judge(&clone.replace(own, shared)), "both have"), "{shared}");
        }
        let without = clone.replace("file /etc/machine-id 21\n", "");
        assert!(fails(&judge(&without), "the clone has no /etc/machine-id"));
    }
}
