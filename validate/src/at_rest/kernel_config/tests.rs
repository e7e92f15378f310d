use nodekiln_recipes::recipe::Version;

use super::*;
use crate::at_rest::corpus::sound;
use crate::rules::Family;

const CONFIG: &str = "/boot/config-6.1.0-56-cloud-amd64";
const MODULES: &str = "/usr/lib/modules/6.1.0-56-cloud-amd64";

fn of_minor(minor: u32) -> Examined<'static> {
    let mut examined = sound(Family::Debian);
    examined.facts.kubernetes = Some(Version { major: 1, minor, patch: 0 });
    examined
}

#[test]
fn the_verdict_says_by_which_table() {
    for (minor, words) in [
        (20, "system-validators 1.2.0 (Kubernetes 1.20)"),
        (19, "1.2.0 (Kubernetes 1.20), the nearest that is known for 1.19.0"),
        (21, "1.4.0 (Kubernetes 1.21)"),
        (28, "1.5.0 to 1.8.0 (Kubernetes 1.22 to 1.31)"),
        (33, "1.9.1 (Kubernetes 1.32.0"),
        (34, "1.10.1 (Kubernetes 1.34)"),
        (36, "1.12 (Kubernetes 1.35), the nearest"),
    ] {
        let verdict = required(&of_minor(minor)).unwrap();
        assert!(matches!(&verdict, Verdict::Pass(seen) if seen.contains(words)), "{verdict:?}");
    }
}

#[test]
fn later_tables_ask_by_the_hierarchy() {
    let mut examined = of_minor(35);
    let lacks = |examined: &Examined, words: &str| {
        let verdict = required(examined).unwrap();
        assert!(matches!(&verdict, Verdict::Fail(seen) if seen.contains(words)), "{verdict:?}");
    };
    // What only the first hierarchy needs may be absent on the second.
    examined.tree.replace(CONFIG, "CONFIG_CGROUP_FREEZER=y\n", "");
    assert!(matches!(required(&examined).unwrap(), Verdict::Pass(_)));
    examined.tree.replace("/boot/grub/grub.cfg", " ro ", " ro systemd.unified_cgroup_hierarchy=0 ");
    // What the next update would write changes nothing of this start.
    examined.tree.write("/etc/default/grub", 0o644, "GRUB_CMDLINE_LINUX=\"quiet\"\n");
    lacks(&examined, "CONFIG_CGROUP_FREEZER");
    let mut examined = of_minor(35);
    examined.tree.replace(CONFIG, "CONFIG_CGROUP_BPF=y\n", "");
    lacks(&examined, "CONFIG_CGROUP_BPF");
    let mut examined = of_minor(35);
    examined.tree.replace(CONFIG, "CONFIG_FAIR_GROUP_SCHED=y\n", "");
    lacks(&examined, "CONFIG_FAIR_GROUP_SCHED");
    examined.facts.kubernetes = None;
    assert!(matches!(required(&examined).unwrap(), Verdict::Pass(_)));
}

#[test]
fn what_a_table_asks_for_moved_from_release_to_release() {
    let lacks = |version: &str, option: &str| {
        let mut examined = sound(Family::Debian);
        examined.facts.kubernetes = Some(version.parse().unwrap());
        examined.tree.replace(CONFIG, &format!("CONFIG_{option}=y\n"), "");
        let judged = [required(&examined).unwrap(), advised(&examined).unwrap()];
        judged.map(|verdict| matches!(verdict, Verdict::Fail(_)))
    };
    for (version, option, refused, warned) in [
        ("1.20.2", "CGROUP_PIDS", false, false),
        ("1.21.0", "CGROUP_PIDS", true, false),
        ("1.20.2", "CFS_BANDWIDTH", false, false),
        ("1.21.0", "CFS_BANDWIDTH", false, true),
        ("1.21.0", "SECCOMP", false, false),
        ("1.22.0", "SECCOMP", false, true),
        ("1.31.14", "CGROUP_BPF", false, false),
        ("1.32.9", "CGROUP_BPF", true, false),
        ("1.32.10", "CGROUP_BPF", false, false),
        ("1.33.5", "CGROUP_CPUACCT", true, false),
        ("1.33.6", "CGROUP_CPUACCT", false, false),
        ("1.33.6", "CGROUP_HUGETLB", false, false),
        ("1.34.0", "CGROUP_CPUACCT", true, false),
        ("1.35.0", "CGROUP_CPUACCT", false, false),
        ("1.35.0", "CGROUP_HUGETLB", false, true),
    ] {
        assert_eq!(lacks(version, option), [refused, warned], "{version} {option}");
    }
}

#[test]
fn a_config_is_found_where_a_node_looks_for_it() {
    for place in PLACES {
        let mut examined = sound(Family::Debian);
        let text = examined.tree.text(CONFIG).unwrap().unwrap();
        examined.tree.remove(CONFIG);
        let path = place.replace("REL", "6.1.0-56-cloud-amd64");
        examined.tree.write(
            &path.replace("/lib/modules", "/usr/lib/modules").replace("/usr/usr", "/usr"),
            0o644,
            text,
        );
        let verdict = required(&examined).unwrap();
        assert!(matches!(verdict, Verdict::Pass(_)), "{place}: {verdict:?}");
    }
}

#[test]
fn a_kernel_that_may_carry_its_config_in_itself_is_not_proven() {
    let mut examined = sound(Family::Debian);
    examined.tree.remove(CONFIG);
    for judge in [required, advised, modules] {
        assert!(matches!(judge(&examined).unwrap(), Verdict::NotProven(_)));
    }
    examined.tree.remove("/boot");
    for judge in [required, advised, modules, version] {
        assert!(matches!(judge(&examined).unwrap(), Verdict::NotProven(_)));
    }
}

#[test]
fn built_in_options_need_no_file_and_compressed_files_will_do() {
    let mut examined = sound(Family::Debian);
    let tree = &mut examined.tree;
    tree.remove(&format!("{MODULES}/kernel/net/netfilter"));
    tree.replace(
        CONFIG,
        "CONFIG_NETFILTER_XT_MATCH_COMMENT=m",
        "CONFIG_NETFILTER_XT_MATCH_COMMENT=y",
    );
    tree.write(&format!("{MODULES}/kernel/net/netfilter/xt_REDIRECT.ko.xz"), 0o644, "xz");
    assert!(matches!(modules(&examined).unwrap(), Verdict::Pass(_)), "{:?}", modules(&examined));
    // Built in by one of its names.
    let tree = &mut examined.tree;
    tree.remove(&format!("{MODULES}/kernel/net/netfilter"));
    let both = "CONFIG_NETFILTER_XT_TARGET_REDIRECT=y\nCONFIG_IP_NF_TARGET_REDIRECT=m";
    tree.replace(CONFIG, "CONFIG_NETFILTER_XT_TARGET_REDIRECT=m", both);
    assert!(matches!(modules(&examined).unwrap(), Verdict::Pass(_)), "{:?}", modules(&examined));
}

#[test]
fn kernels_are_weighed_by_the_table() {
    let weighed = |minor: u32, release: &str| {
        let mut examined = of_minor(minor);
        examined.tree.remove("/boot");
        examined.tree.write(&format!("/boot/vmlinuz-{release}"), 0o644, "x");
        version(&examined).unwrap().word()
    };
    assert_eq!(weighed(20, "3.10.0-1160.el7.x86_64"), "pass");
    assert_eq!(weighed(20, "3.9.1"), "FAIL");
    assert_eq!(weighed(20, "2.6.32"), "FAIL");
    assert_eq!(weighed(31, "4.18.0-553.el8_10.x86_64"), "pass");
    assert_eq!(weighed(32, "4.18.0-553.el8_10.x86_64"), "FAIL");
    assert_eq!(weighed(33, "4.19.0-27-amd64"), "pass");
    assert_eq!(weighed(34, "4.18.0-553.el8_10.x86_64"), "warn");
    assert_eq!(weighed(35, "5.10.0-30-amd64"), "pass");
    assert_eq!(weighed(35, "5.14.0-427.el9"), "warn");
    assert_eq!(weighed(35, "6.12+deb"), "pass");
    assert_eq!(weighed(35, "virt"), "not proven");
}
