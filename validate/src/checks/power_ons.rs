//! Rules on what a machine is after a power cut, and on what a second one made of the image shares with the first.

use std::collections::BTreeSet;

use nodekiln_words::{Failure, Result};

#[cfg(test)]
use super::corpus::{Answer, Mutation};
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
    for (path, digest) in &first.files {
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
    let differ = format!("different: {}", different.join(", "));
    let absent: Vec<&str> = SUBJECTS
        .iter()
        .filter(|(_, path)| !different.iter().chain(&same).any(|what| what.starts_with(path)))
        .map(|(name, _)| *name)
        .collect();
    let differ = match &absent[..] {
        [] => differ,
        absent => format!("{differ}; neither has {}", absent.join(", ")),
    };
    Ok(Verdict::of(&wrong, differ))
}

/// What else clones differ by, where they have it, and how its files are called.
const SUBJECTS: [(&str, &str); 3] = [
    ("a host key of OpenSSH's", "/etc/ssh/ssh_host_"),
    ("a name for iSCSI", "/etc/iscsi/"),
    ("a name for NVMe", "/etc/nvme/"),
];

#[cfg(test)]
pub(super) const ANSWERS: &[Answer] = &[
    Answer::new(
        "power-cut",
        tests::AFTER,
        &[
            Mutation::new("the id is lost", "/etc/machine-id is gone or empty", |scene| {
                scene.replace("file /etc/machine-id 11\n", "");
            }),
            Mutation::new("another id", "/etc/machine-id is another one", |scene| {
                scene.replace("machine-id 11", "machine-id 99");
            }),
            Mutation::new("another host key", "ssh_host_rsa_key.pub is another one", |scene| {
                scene.replace("rsa_key.pub 13", "rsa_key.pub 99");
            }),
            Mutation::new("another name", "node-1 and is localhost", |scene| {
                scene.replace("name node-1", "name localhost");
            }),
            Mutation::new("another instance", "takes it for another instance", |scene| {
                scene.replace("iid-1", "iid-datasource-none");
            }),
            Mutation::new("a module ran again", "ran config_ssh again", |scene| {
                scene.replace("config_ssh 1000", "config_ssh 2000");
            }),
            Mutation::new("a record is lost", "record of config_ssh is lost", |scene| {
                scene.replace("module config_ssh 1000\n", "");
            }),
            Mutation::new("no container runtime", "is enabled and failed", |scene| {
                scene.replace(
                    "containerd.service enabled active",
                    "containerd.service enabled failed",
                );
            }),
            Mutation::new("the root is read-only", "mounted ro,", |scene| {
                scene.replace("rw,relatime", "ro,relatime");
            }),
            Mutation::new("a shell for its owner", "the system is maintenance", |scene| {
                scene.replace("system running", "system maintenance");
            }),
            Mutation::new("the check of a volume failed", "fsck@dev-vda15", |scene| {
                scene.replace(
                    "system running\n",
                    "system degraded\nfailed systemd-fsck@dev-vda15.service\n",
                );
            }),
            Mutation::new("the kernel finds damage", "bad entry", |scene| {
                scene.prints += "said [ 9.1] EXT4-fs error (device vda1): bad entry\n";
            }),
            Mutation::new("the check finds damage", "RUN fsck MANUALLY", |scene| {
                scene.prints += "said /dev/vda1: UNEXPECTED INCONSISTENCY; RUN fsck MANUALLY.\n";
            }),
            Mutation::new("a fault on the console", "console: Kernel panic", |scene| {
                scene.console = "Kernel panic - not syncing: no root\n".into();
            }),
        ],
    ),
    Answer::new(
        "clones-differ",
        tests::CLONE,
        &[
            Mutation::new("one name", "both have the host name", |scene| {
                scene.replace("name node-2", "name node-1");
            }),
            Mutation::new("one machine-id", "both have /etc/machine-id", |scene| {
                scene.replace("machine-id 21", "machine-id 11");
            })
            .incident("machine-controller issue 1455"),
            Mutation::new("one host key", "both have /etc/ssh/ssh_host_rsa_key.pub", |scene| {
                scene.replace("rsa_key.pub 23", "rsa_key.pub 13");
            })
            .incident("packer-plugin-scaleway issue 30"),
            Mutation::new("one initiator", "both have /etc/iscsi/initiatorname.iscsi", |scene| {
                scene.replace("initiatorname.iscsi 24", "initiatorname.iscsi 14");
            })
            .incident("terraform-provider-vsphere issue 516"),
            Mutation::new("one NVMe host id", "both have /etc/nvme/hostid", |scene| {
                scene.replace("hostid 25", "hostid 15");
            }),
            Mutation::new("one NVMe host name", "both have /etc/nvme/hostnqn", |scene| {
                scene.replace("hostnqn 26", "hostnqn 16");
            }),
            Mutation::new("one random seed", "both have /var/lib/systemd/random-seed", |scene| {
                scene.replace("random-seed 27", "random-seed 17");
            }),
            Mutation::new("one instance", "both have cloud-init's instance", |scene| {
                scene.replace("iid-2", "iid-1");
            }),
            Mutation::new("no machine-id", "the clone has no /etc/machine-id", |scene| {
                scene.replace("file /etc/machine-id 21\n", "");
            }),
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::super::portrait::testing::SOUND;
    use super::super::testing::{context, fails, judge_pair, passes};
    use super::*;
    use crate::expect::Expectations;

    const REPLAY: &str = "said [    3.1] EXT4-fs (vda1): recovery complete\n";
    /// What the machine of [`SOUND`] says after a power cut.
    pub(super) const AFTER: &str = "\
        name node-1\nboot b-2\ninstance /var/lib/cloud/instances/iid-1\n\
        file /etc/machine-id 11\nfile /etc/ssh/ssh_host_ed25519_key.pub 12\n\
        file /etc/ssh/ssh_host_rsa_key.pub 13\nfile /etc/iscsi/initiatorname.iscsi 14\n\
        file /etc/nvme/hostid 15\nfile /etc/nvme/hostnqn 16\nfile /var/lib/systemd/random-seed 27\n\
        module config_ssh 1000\nmodule config_write_files 1001\n\
        service containerd.service enabled active\nservice kubelet.service enabled active\n\
        root ext4 rw,relatime,errors=remount-ro\nsystem running\n\
        said [    3.1] EXT4-fs (vda1): recovery complete\n";
    /// What another machine says that shares nothing with that of [`SOUND`].
    pub(super) const CLONE: &str = "\
        name node-2\nboot b-3\ninstance /var/lib/cloud/instances/iid-2\n\
        file /etc/machine-id 21\nfile /etc/ssh/ssh_host_ed25519_key.pub 22\n\
        file /etc/ssh/ssh_host_rsa_key.pub 23\nfile /etc/iscsi/initiatorname.iscsi 24\n\
        file /etc/nvme/hostid 25\nfile /etc/nvme/hostnqn 26\nfile /var/lib/systemd/random-seed 27\n\
        module config_ssh 1000\nservice containerd.service enabled active\n\
        root ext4 rw,relatime\nsystem running\n";

    fn cut_of(before: &str, after: &str) -> Result<Verdict> {
        let expect = Expectations::default();
        judge_pair("power-cut", before, after, &[], &context(&expect, Tier::Boot))
    }

    fn cut(after: &str) -> Verdict {
        cut_of(SOUND, after).unwrap()
    }

    #[test]
    fn a_machine_that_never_went_is_no_answer_and_a_journal_of_which_nothing_tells_is_not_proven() {
        assert!(cut_of(SOUND, SOUND).is_err());
        let silent = AFTER.replace(REPLAY, "");
        assert!(matches!(cut(&silent), Verdict::NotProven(_)));
        assert!(passes(&cut(&silent.replace("root ext4", "root btrfs"))));
    }

    #[test]
    fn what_a_cut_does_to_any_machine_is_no_fault() {
        for harmless in [
            "said EXT4-fs (vda1): re-mounted. Opts: errors=remount-ro.\n",
            "said [ 4.0] FAT-fs (vda15): Volume was not properly unmounted. Some data may be corrupt.\n",
            "failed kubelet.service\n", // it has no configuration yet
        ] {
            assert!(passes(&cut(&format!("{AFTER}{harmless}"))), "{harmless}");
        }
    }

    #[test]
    fn what_was_said_before_the_cut_is_not_held_against_it() {
        let noise = |seconds: &str| format!("said [ {seconds}] I/O error, dev fd0, sector 0\n");
        let (before, after) = (SOUND.to_owned() + &noise("2.5"), AFTER.to_owned() + &noise("3.1"));
        assert!(passes(&cut_of(&before, &after).unwrap()));
        assert!(fails(&cut(&after), "dev fd0"));
    }
}
