//! Which hierarchy of control groups an image boots with, and whether its kubelet runs on it.

use nodekiln_words::Result;

use super::Examined;
use super::findings::{self, Findings};
use super::kernel_config::Config;
use crate::Tier;
use crate::rules::{Applies, Family, Judge, Rule, Severity, Software, Verdict};
use crate::tree::Tree;
use crate::tree::drop_ins;
use crate::tree::loader::Loader;

pub(super) const RULES: &[Rule] = &[VERSION, CONTROLLERS_RULE];

const VERSION: Rule = Rule {
    id: "cgroup-version",
    title: "The kubelet runs on the control groups that the image boots with",
    tier: Tier::Static,
    severity: Severity::Fatal,
    reads: &[
        "/boot/grub/grub.cfg",
        "/boot/loader/entries",
        "/etc/default/grub",
        "/boot/config-*",
        "systemd's library",
    ],
    why: "a kubelet of 1.35 and later does not start on version 1, and since 1.31 it is no longer developed",
    remedy: "remove systemd.unified_cgroup_hierarchy=0 from the kernel's arguments, or take a distribution whose \
             systemd boots with version 2",
    source: "kubeadm preflight: SystemVerification; the kubelet's failCgroupV1; systemd(1), \
             systemd.unified_cgroup_hierarchy",
    applies: Applies::with(&[Software::Kubernetes, Software::Systemd]),
    stops_boot: false,
    judge: Judge::Tree(version),
};

const CONTROLLERS_RULE: Rule = Rule {
    id: "cgroup-controllers",
    title: "The kernel has the controllers that the kubelet needs, and none is switched off",
    tier: Tier::Static,
    severity: Severity::Fatal,
    reads: &["/boot/grub/grub.cfg", "/boot/loader/entries", "/etc/default/grub", "/boot/config-*"],
    why: "without one of them kubeadm refuses the node, and pods have no limits of that kind",
    remedy: "remove `cgroup_disable=` from the kernel's arguments, or take a kernel that has the controllers",
    source: "kubeadm preflight: SystemVerification; system-validators, `Cgroups` and `CgroupsV2`; \
             kernel-parameters.txt, cgroup_disable",
    applies: Applies::with(&[Software::Kubernetes, Software::Systemd]),
    stops_boot: false,
    judge: Judge::Tree(controllers),
};

/// Controllers with their options of the kernel, and whether only the first hierarchy has them as such: on the second
/// system-validators takes devices and freezer for given.
const CONTROLLERS: [(&str, &str, bool); 7] = [
    ("cpu", "CGROUP_SCHED", false),
    ("cpuacct", "CGROUP_CPUACCT", true),
    ("cpuset", "CPUSETS", false),
    ("devices", "CGROUP_DEVICE", true),
    ("freezer", "CGROUP_FREEZER", true),
    ("memory", "MEMCG", false),
    ("pids", "CGROUP_PIDS", false),
];

/// The first minor version whose kubelet refuses version 1 unless it is told otherwise.
const REFUSED_FROM: u32 = 35;
/// The first minor version that warns of it (KEP 4569).
const WARNED_FROM: u32 = 31;
/// The last minor version that is said to run on version 2 with limits.
const EARLY_UNTIL: u32 = 21;
/// The first systemd whose own default is version 2; before it the first or both at once.
const UNIFIED: u32 = 243;
/// The first systemd that Debian builds with that default.
const UNIFIED_DEBIAN: u32 = 247;
/// The first systemd that refuses version 1 unless it is forced.
const OBSOLETE: u32 = 256;
/// The first systemd that has no version 1 any more.
const GONE: u32 = 258;

/// A hierarchy of control groups. Where systemd mounts both, the kubelet sees the first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Hierarchy {
    V1,
    V2,
}

/// What a way to boot comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Decision {
    /// The kernel's release, where it is known.
    release: Option<String>,
    hierarchy: Hierarchy,
    /// What decided it.
    by: String,
    /// Whether systemd does not go on with it.
    refused: bool,
}

/// What every way to boot comes to.
pub(super) struct Decisions(Vec<Decision>);

impl Decisions {
    /// That of the kernel `release`, by the entries that start it, or by all where none is known to; nothing where
    /// they differ.
    pub(super) fn of(&self, release: &str) -> Option<Hierarchy> {
        let starts = |decision: &&Decision| decision.release.as_deref() == Some(release);
        let known = self.0.iter().any(|decision| starts(&decision));
        let mut found = self.0.iter().filter(|decision| !known || starts(decision));
        let first = found.next()?.hierarchy;
        found.all(|other| other.hierarchy == first).then_some(first)
    }
}

/// A way to boot.
struct Way {
    /// The kernel's release, where it is known.
    release: Option<String>,
    /// Where its arguments stand.
    place: String,
    /// The arguments, after those that the kernel has in itself.
    arguments: String,
    /// The kernel's configuration, where there is one.
    config: Option<Config>,
}

/// Every set of arguments. What /etc/default/grub says is what the next update of a kernel writes.
fn ways(tree: &Tree) -> Result<Vec<Way>> {
    let mut found: Vec<(Option<String>, String, String)> = Vec::new();
    for entry in Loader::of(tree)?.entries {
        found.push((entry.release, format!("{}:{}", entry.path, entry.line), entry.arguments));
    }
    let text = tree.text("/etc/default/grub")?.unwrap_or_default();
    for set in drop_ins::variables(&text, "/etc/default/grub") {
        if set.key.starts_with("GRUB_CMDLINE_LINUX") {
            found.push((None, set.place(), set.value));
        }
    }
    if found.is_empty() {
        found.push((None, "no boot loader".to_owned(), String::new()));
    }
    let mut ways = Vec::new();
    for (release, place, arguments) in found {
        let config = match &release {
            Some(release) => Config::of(tree, release)?,
            None => None,
        };
        let built_in = config.as_ref().filter(|config| config.get("CMDLINE_BOOL") == Some("y"));
        let built_in = built_in.and_then(|config| config.get("CMDLINE")).unwrap_or_default();
        let arguments = format!("{built_in} {arguments}");
        ways.push(Way { release, place, arguments, config });
    }
    Ok(ways)
}

/// Which hierarchy each way to boot has: systemd's default, unless the kernel's arguments say otherwise, which its
/// own configuration may hold too.
pub(super) fn hierarchy(examined: &Examined) -> Result<Decisions> {
    let tree = &examined.tree;
    let Some(systemd) = systemd(tree) else { return Ok(Decisions(Vec::new())) };
    let mut decisions = Vec::new();
    for Way { release, place, arguments, .. } in ways(tree)? {
        let decision = decide(systemd, examined.facts.family, &arguments);
        decisions.extend(decision.map(|(hierarchy, argument, refused)| {
            let by = argument.map_or_else(
                || format!("systemd {systemd}'s default"),
                |it| format!("{it} at {place}"),
            );
            Decision { release, hierarchy, by, refused }
        }));
    }
    Ok(Decisions(decisions))
}

/// What a systemd of this version makes of arguments: the hierarchy, the argument that decided it, and whether systemd
/// refuses to go on with it. Nothing where its default is not known.
fn decide(
    systemd: u32,
    family: Option<Family>,
    arguments: &str,
) -> Option<(Hierarchy, Option<String>, bool)> {
    let word = |key: &str| {
        let mut words = arguments.split_whitespace();
        words.rfind(|word| word.split('=').next() == Some(key))
    };
    let told = word("systemd.unified_cgroup_hierarchy").map(|word| {
        let value = word.split_once('=').map_or("1", |(_, value)| value);
        (!matches!(value, "0" | "no" | "n" | "false" | "f" | "off"), word)
    });
    let told = told.or_else(|| {
        word("cgroup_no_v1").filter(|word| *word == "cgroup_no_v1=all").map(|word| (true, word))
    });
    if systemd >= GONE {
        return Some((Hierarchy::V2, None, false));
    }
    if let Some((unified, word)) = told {
        let forced = word_is(arguments, "SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1");
        let hierarchy = if unified { Hierarchy::V2 } else { Hierarchy::V1 };
        return Some((
            hierarchy,
            Some(word.to_owned()),
            !unified && systemd >= OBSOLETE && !forced,
        ));
    }
    let unified = match (systemd, family) {
        (UNIFIED_DEBIAN.., _) | (UNIFIED.., Some(Family::Rpm)) => true,
        (..UNIFIED, _) | (_, Some(Family::Debian)) => false,
        (_, None) => return None,
    };
    Some((if unified { Hierarchy::V2 } else { Hierarchy::V1 }, None, false))
}

fn word_is(arguments: &str, wanted: &str) -> bool {
    arguments.split_whitespace().any(|word| word == wanted)
}

/// systemd's version, by the name of its library.
fn systemd(tree: &Tree) -> Option<u32> {
    let of_machines =
        tree.names("/usr/lib").into_iter().filter(|name| name.ends_with("-linux-gnu"));
    let folders = of_machines.map(|name| format!("/usr/lib/{name}/systemd"));
    let folders = ["/usr/lib/systemd", "/lib/systemd", "/usr/lib64/systemd"]
        .map(str::to_owned)
        .into_iter()
        .chain(folders);
    folders.into_iter().find_map(|folder| {
        tree.names(&folder).into_iter().find_map(|name| {
            let version = name.strip_prefix("libsystemd-shared-")?;
            let digits = version.bytes().take_while(u8::is_ascii_digit).count();
            version[..digits].parse().ok()
        })
    })
}

fn version(examined: &Examined) -> Result<Verdict> {
    let Decisions(decisions) = hierarchy(examined)?;
    if decisions.is_empty() {
        return Ok(Verdict::NotProven(
            "nothing tells systemd's version or what its default is".to_owned(),
        ));
    }
    let (mut wrong, mut old, mut seen) = (Vec::new(), Vec::new(), Vec::new());
    let kubernetes = examined.facts.kubernetes;
    let minor = kubernetes.map(|version| version.minor);
    for Decision { hierarchy, by, refused, .. } in decisions {
        match (hierarchy, minor) {
            _ if refused => {
                wrong.push(format!("version 1 by {by}, which this systemd refuses to start with"));
            }
            (Hierarchy::V1, Some(REFUSED_FROM..)) => wrong.push(format!("version 1 by {by}")),
            (Hierarchy::V1, Some(WARNED_FROM..)) => old.push(format!("version 1 by {by}")),
            (Hierarchy::V1, _) => seen.push(format!("version 1 by {by}")),
            (Hierarchy::V2, Some(..=EARLY_UNTIL)) => {
                seen.push(format!("version 2 by {by}, on which this kubelet runs with limits"));
            }
            (Hierarchy::V2, _) => seen.push(format!("version 2 by {by}")),
        }
    }
    seen.dedup();
    let of = kubernetes.map_or_else(String::new, |version| format!(", for Kubernetes {version}"));
    Ok(match (wrong.is_empty(), old.is_empty(), minor) {
        (false, ..) => Verdict::Fail(format!("{}{of}", findings::some(&wrong))),
        (true, false, _) => Verdict::Warn(format!("{}{of}", findings::some(&old))),
        (true, true, None) if seen.iter().any(|line| line.starts_with("version 1")) => {
            Verdict::NotProven(format!(
                "{}, and Kubernetes' version is not known",
                findings::some(&seen)
            ))
        }
        (true, true, _) => Verdict::Pass(format!("{}{of}", findings::some(&seen))),
    })
}

fn controllers(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let systemd = systemd(tree);
    let mut findings = Findings::default();
    for Way { release, place, arguments, config } in ways(tree)? {
        let decided = systemd.and_then(|it| decide(it, examined.facts.family, &arguments));
        let hierarchy = decided.map(|(hierarchy, ..)| hierarchy);
        let needed =
            CONTROLLERS.iter().filter(|(_, _, first)| !first || hierarchy == Some(Hierarchy::V1));
        for (name, option, _) in needed {
            if disabled(&arguments, name) {
                findings.wrong(format!("{place}: cgroup_disable={name}"));
            }
            let Some(release) = &release else { continue };
            match config.as_ref().map(|config| config.get(option)) {
                Some(Some("y")) => {}
                Some(_) => findings.wrong(format!(
                    "{release} has no controller {name}: CONFIG_{option} is not set"
                )),
                None => findings.unknown(format!(
                    "no config of {release} tells whether it has the controller {name}"
                )),
            }
        }
    }
    Ok(findings.verdict("cpu, cpuset, memory and pids, and what the first hierarchy needs besides"))
}

/// Whether the kernel's arguments switch the controller `name` off.
fn disabled(arguments: &str, name: &str) -> bool {
    let lists =
        arguments.split_whitespace().filter_map(|word| word.strip_prefix("cgroup_disable="));
    lists.flat_map(|list| list.split(',')).any(|one| one == name)
}

#[cfg(test)]
pub(super) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use crate::at_rest::corpus::sound_node::{V1_ARGUMENT, of_kubernetes};
    use crate::at_rest::corpus::{Examined, Mutation};

    fn argue(examined: &mut Examined<'static>, argument: &str) {
        examined.tree.replace("/boot/grub/grub.cfg", " ro ", &format!(" ro {argument} "));
    }

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new(
            "memory that is not counted",
            &["cgroup-controllers"],
            "cgroup_disable=memory",
            |examined| argue(examined, "cgroup_disable=net_cls,memory"),
        ),
        Mutation::new(
            "a controller that the next update switches off",
            &["cgroup-controllers"],
            "/etc/default/grub:1: cgroup_disable=cpu",
            |examined| {
                let text = "GRUB_CMDLINE_LINUX=\"console=ttyS0 cgroup_disable=cpu\"\n";
                examined.tree.write("/etc/default/grub", 0o644, text);
            },
        ),
        Mutation::new(
            "no controller of processes, which the table of 1.20 does not name",
            &["cgroup-controllers"],
            "has no controller pids: CONFIG_CGROUP_PIDS",
            |examined| {
                let config = "/boot/config-6.1.0-56-cloud-amd64";
                examined.tree.replace(config, "CONFIG_CGROUP_PIDS=y\n", "");
            },
        ),
        Mutation::new(
            "version 1 for a kubelet that refuses it",
            &["cgroup-version", "kubelet-files-mode"],
            "/boot/grub/grub.cfg",
            |examined| {
                of_kubernetes(examined, 36);
                argue(examined, V1_ARGUMENT);
            },
        )
        .incident("cgroup v1 with kubelet >= 1.35"),
        Mutation::new(
            "version 1 at the next update",
            &["cgroup-version", "kubelet-files-mode"],
            "/etc/default/grub:1",
            |examined| {
                of_kubernetes(examined, 35);
                let text =
                    format!("GRUB_CMDLINE_LINUX=\"console=tty1 console=ttyS0 {V1_ARGUMENT}\"\n");
                examined.tree.write("/etc/default/grub", 0o644, text);
            },
        ),
        Mutation::new(
            "version 1 in the kernel itself",
            &["cgroup-version", "kubelet-files-mode"],
            "unified_cgroup_hierarchy=no",
            |examined| {
                of_kubernetes(examined, 35);
                let built_in = "CONFIG_CMDLINE_BOOL=y\nCONFIG_CMDLINE=\"systemd.unified_cgroup_hierarchy=no\"\n";
                let path = "/boot/config-6.1.0-56-cloud-amd64";
                let before = examined.tree.text(path).unwrap().unwrap();
                examined.tree.write(path, 0o644, before + built_in);
            },
        ),
        Mutation::new(
            "version 1 where it is warned of",
            &["cgroup-version", "kubelet-files-mode"],
            "version 1 by",
            |examined| {
                of_kubernetes(examined, 31);
                argue(examined, V1_ARGUMENT);
            },
        ),
        Mutation::new(
            "version 1 for a systemd that refuses it",
            &["cgroup-version"],
            "refuses to start",
            |examined| {
                examined.tree.remove("/usr/lib/x86_64-linux-gnu/systemd");
                examined.tree.write(
                    "/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-257.so",
                    0o644,
                    "elf",
                );
                argue(examined, V1_ARGUMENT);
            },
        ),
        Mutation::new(
            "an old systemd's default",
            &["cgroup-version", "kubelet-files-mode"],
            "systemd 241's default",
            |examined| {
                of_kubernetes(examined, 35);
                examined.tree.remove("/usr/lib/x86_64-linux-gnu/systemd");
                examined.tree.write(
                    "/usr/lib/x86_64-linux-gnu/systemd/libsystemd-shared-241.so",
                    0o644,
                    "elf",
                );
            },
        ),
    ];
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::at_rest::corpus::sound;
    use nodekiln_recipes::recipe::Version;

    fn of(systemd: u32, family: Option<Family>, arguments: &str) -> Option<Hierarchy> {
        decide(systemd, family, arguments).map(|(hierarchy, ..)| hierarchy)
    }

    #[test]
    fn the_default_is_by_version_and_family() {
        let (debian, rpm) = (Some(Family::Debian), Some(Family::Rpm));
        for (systemd, family, expected) in [
            (241, debian, Some(Hierarchy::V1)),
            (245, debian, Some(Hierarchy::V1)),
            (247, debian, Some(Hierarchy::V2)),
            (239, rpm, Some(Hierarchy::V1)),
            (243, rpm, Some(Hierarchy::V2)),
            (245, None, None),
            (252, None, Some(Hierarchy::V2)),
            (219, None, Some(Hierarchy::V1)),
        ] {
            assert_eq!(of(systemd, family, "ro quiet"), expected, "{systemd} {family:?}");
        }
    }

    #[test]
    fn the_second_hierarchy_has_devices_and_freezer_without_options() {
        let config = "/boot/config-6.1.0-56-cloud-amd64";
        for option in ["CGROUP_DEVICE", "CGROUP_FREEZER", "CGROUP_CPUACCT"] {
            let mut examined = sound(Family::Debian);
            examined.tree.replace(config, &format!("CONFIG_{option}=y\n"), "");
            assert!(matches!(controllers(&examined).unwrap(), Verdict::Pass(_)), "{option}");
            examined.tree.replace(
                "/boot/grub/grub.cfg",
                " ro ",
                " ro systemd.unified_cgroup_hierarchy=0 ",
            );
            let verdict = controllers(&examined).unwrap();
            assert!(
                matches!(&verdict, Verdict::Fail(why) if why.contains(option)),
                "{option}: {verdict:?}"
            );
        }
        let mut examined = sound(Family::Debian);
        examined.tree.remove(config);
        assert!(matches!(controllers(&examined).unwrap(), Verdict::NotProven(_)));
        assert!(!disabled("cgroup_disable=memory2 cgroup_enable=memory", "memory"));
    }

    #[test]
    fn arguments_decide_and_the_last_one_does() {
        let key = "systemd.unified_cgroup_hierarchy";
        assert_eq!(of(252, None, &format!("{key}=0")), Some(Hierarchy::V1));
        assert_eq!(of(241, None, key), Some(Hierarchy::V2));
        assert_eq!(of(252, None, &format!("{key}=0 ro {key}=1")), Some(Hierarchy::V2));
        assert_eq!(of(241, None, "cgroup_no_v1=all"), Some(Hierarchy::V2));
        assert_eq!(of(241, None, "cgroup_no_v1=memory"), Some(Hierarchy::V1));
        assert_eq!(of(258, None, &format!("{key}=0")), Some(Hierarchy::V2));
        let refused = |arguments: &str| decide(256, None, arguments).unwrap().2;
        assert!(refused(&format!("{key}=0")));
        assert!(!refused(&format!("{key}=0 SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1")));
    }

    #[test]
    fn old_kubelets_take_either() {
        let mut examined = sound(Family::Debian);
        let judged = |examined: &Examined| version(examined).unwrap();
        assert!(matches!(judged(&examined), Verdict::Pass(seen) if seen.contains("with limits")));
        examined.tree.replace(
            "/boot/grub/grub.cfg",
            " ro ",
            " ro systemd.unified_cgroup_hierarchy=0 ",
        );
        for minor in [20, 30] {
            examined.facts.kubernetes = Some(Version { major: 1, minor, patch: 0 });
            assert!(matches!(judged(&examined), Verdict::Pass(seen) if seen.contains("version 1")));
        }
        examined.facts.kubernetes = None;
        assert!(matches!(judged(&examined), Verdict::NotProven(_)));
        examined.tree.remove("/usr/lib/x86_64-linux-gnu/systemd");
        assert!(matches!(judged(&examined), Verdict::NotProven(_)));
    }
}
