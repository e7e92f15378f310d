//! Kernel settings and modules without which pods have no network.

use nodekiln_words::Result;

use super::{Examined, findings};
use crate::Tier;
use crate::rules::{Applies, Judge, Rule, Severity, Software, Verdict};
use crate::tree::drop_ins::{LoadedModules, Set, Sysctls};
use crate::tree::loader::Loader;
use crate::tree::modules::Modules;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "bridge-netfilter",
        title: "Traffic over bridges passes the packet filter",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/etc/modules-load.d", "/etc/modprobe.d", "/etc/sysctl.d", "/lib/modules/*"],
        why: "services have no effect on pods of one node whose traffic passes the packet filter by, and the settings \
              exist only once the module is loaded",
        remedy: "name br_netfilter in a file of modules-load.d, take a kernel that has it, and let no file of sysctl.d \
                 set net.bridge.bridge-nf-call-iptables to another value than 1",
        source: "kubeadm preflight: FileContent--proc-sys-net-bridge-bridge-nf-call-iptables, \
                 FileContent--proc-sys-net-bridge-bridge-nf-call-ip6tables; systemd-modules-load.service(8), sysctl.d(5)",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Tree(bridge_netfilter),
    },
    Rule {
        id: "ip-forward",
        title: "The kernel forwards packets",
        tier: Tier::Static,
        severity: Severity::Fatal,
        reads: &["/etc/sysctl.d", "/usr/lib/sysctl.d", "manifest.json"],
        why: "a node is a router for its pods, and the kernel forwards nothing by itself",
        remedy: "set net.ipv4.ip_forward (and net.ipv6.conf.all.forwarding) to 1 in a file that sorts after the others",
        source: "kubeadm preflight: FileContent--proc-sys-net-ipv4-ip_forward, \
                 FileContent--proc-sys-net-ipv6-conf-default-forwarding; sysctl.d(5)",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Tree(ip_forward),
    },
];

/// The module that gives bridges to the packet filter.
const MODULE: &str = "br_netfilter";
/// Keys of the same value of the kernel: writing one writes the other (net/ipv4/devinet.c, `devinet_sysctl_forward`).
const FORWARD_V4: [&str; 2] = ["net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"];
/// kubeadm looks at the second; writing the first writes it too (net/ipv6/addrconf.c, `addrconf_fixup_forwarding`).
const FORWARD_V6: [&str; 2] = ["net.ipv6.conf.all.forwarding", "net.ipv6.conf.default.forwarding"];

fn bridge_netfilter(examined: &Examined) -> Result<Verdict> {
    let tree = &examined.tree;
    let loaded = LoadedModules::of(tree)?;
    let kernels = Loader::of(tree)?.kernels;
    let mut wrong = Vec::new();
    // 1. Every kernel has it.
    let mut as_file = false;
    for release in &kernels {
        let modules = Modules::of(tree, release)?;
        as_file |= !modules.is_built_in(MODULE);
        if !modules.has(MODULE) {
            wrong
                .push(format!("kernel {release} has no module {MODULE} in /lib/modules/{release}"));
        }
    }
    // 2. It is loaded at boot.
    let named = loaded.named(MODULE);
    if as_file && named.is_none() {
        wrong.push(format!("no file of modules-load.d names {MODULE}"));
    }
    if let Some(place) = loaded.forbidden(MODULE).filter(|_| as_file) {
        wrong.push(format!("{place} keeps {MODULE} from being loaded"));
    }
    // 3. Nothing turns off what it does by itself.
    let settings = Sysctls::of(tree)?;
    let v6 = wants_v6(examined).then_some("net.bridge.bridge-nf-call-ip6tables");
    let mut seen = Vec::new();
    for key in ["net.bridge.bridge-nf-call-iptables"].into_iter().chain(v6) {
        match settings.get(key) {
            Some(set) if set.value != "1" => wrong.push(sentence(set)),
            Some(set) => seen.push(sentence(set)),
            None => seen.push(format!("{key} is the module's own 1")),
        }
    }
    if kernels.is_empty() && wrong.is_empty() {
        return Ok(Verdict::NotProven(format!("there is no kernel to look for {MODULE} of")));
    }
    seen.insert(
        0,
        named.map_or_else(
            || format!("{MODULE} is built in"),
            |place| format!("{MODULE} by {place}"),
        ),
    );
    Ok(Verdict::of(&wrong, findings::some(&seen)))
}

fn ip_forward(examined: &Examined) -> Result<Verdict> {
    let settings = Sysctls::of(&examined.tree)?;
    let v6 = wants_v6(examined).then_some(FORWARD_V6);
    let (mut seen, mut wrong) = (Vec::new(), Vec::new());
    for keys in [FORWARD_V4].into_iter().chain(v6) {
        // What is applied last counts, by whichever name.
        let last = keys.iter().filter_map(|key| settings.get(key)).max_by_key(|set| set.order);
        match last {
            Some(set) if set.value == "1" => seen.push(sentence(set)),
            Some(set) => wrong.push(sentence(set)),
            None => wrong.push(format!("nothing sets {}", keys[0])),
        }
    }
    Ok(Verdict::of(&wrong, findings::some(&seen)))
}

fn sentence(set: &Set) -> String {
    format!("{} is {} by {}", set.key, set.value, set.place())
}

/// Whether the claims say that the node forwards IPv6 too.
fn wants_v6(examined: &Examined) -> bool {
    FORWARD_V6.iter().any(|key| examined.expect.sysctls.get(*key).is_some_and(|value| value == "1"))
}

#[cfg(test)]
pub(super) use mutations::MUTATIONS;

#[cfg(test)]
mod mutations {
    use crate::at_rest::corpus::{Examined, Mutation};

    const LATER: &str = "/etc/sysctl.d/99-zzz-later.conf";

    fn later(examined: &mut Examined<'static>, text: &str) {
        examined.tree.write(LATER, 0o644, text);
    }

    fn claim_v6(examined: &mut Examined<'static>) {
        examined.expect.sysctls.insert("net.ipv6.conf.all.forwarding".to_owned(), "1".to_owned());
    }

    pub(in crate::at_rest) const MUTATIONS: &[Mutation] = &[
        Mutation::new(
            "br_netfilter is not loaded",
            &["bridge-netfilter"],
            "names br_netfilter",
            |examined| {
                examined.tree.replace("/etc/modules-load.d/kubernetes.conf", "br_netfilter\n", "");
            },
        )
        .incident("br_netfilter missing"),
        Mutation::new(
            "br_netfilter has no file",
            &["bridge-netfilter", "kernel-modules"],
            "br_netfilter",
            |examined| {
                examined.tree.remove("/usr/lib/modules/6.1.0-56-cloud-amd64/kernel/net/bridge");
            },
        ),
        Mutation::new(
            "br_netfilter on a block list",
            &["bridge-netfilter"],
            "a.conf:1 keeps",
            |examined| {
                examined.tree.write("/etc/modprobe.d/a.conf", 0o644, "blacklist br-netfilter\n");
            },
        ),
        Mutation::new(
            "a later file turns the filter off",
            &["bridge-netfilter"],
            "later.conf:1",
            |examined| {
                later(examined, "net.bridge.bridge-nf-call-iptables = 0\n");
            },
        ),
        Mutation::new(
            "the filter off for IPv6",
            &["bridge-netfilter"],
            "ip6tables is 0",
            |examined| {
                claim_v6(examined);
                later(examined, "net/bridge/bridge-nf-call-ip6tables=0\n");
            },
        ),
        Mutation::new(
            "a later file stops forwarding",
            &["ip-forward"],
            "99-zzz-later.conf:2",
            |examined| {
                later(examined, "# hardening\nnet.ipv4.ip_forward=0\n");
            },
        ),
        Mutation::new(
            "forwarding stopped by its other name",
            &["ip-forward"],
            "conf.all.forwarding is 0",
            |examined| {
                later(examined, "-net.ipv4.conf.all.forwarding = 0\n");
            },
        ),
        Mutation::new(
            "no IPv6 forwarding by default",
            &["ip-forward"],
            "conf.*.forwarding is 0",
            |examined| {
                claim_v6(examined);
                later(examined, "net.ipv6.conf.*.forwarding = 0\n");
            },
        ),
        Mutation::new(
            "nothing sets forwarding",
            &["ip-forward"],
            "nothing sets net.ipv4.ip_forward",
            |examined| {
                examined.tree.replace(
                    "/etc/sysctl.d/99-kubernetes.conf",
                    "net.ipv4.ip_forward = 1\n",
                    "",
                );
            },
        ),
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
        // Built in, it need not be named; IPv6 is not claimed; a wildcard does not undo what is named.
        tree.replace("/etc/modules-load.d/kubernetes.conf", "br_netfilter\n", "");
        let built_in = "/usr/lib/modules/6.1.0-56-cloud-amd64/modules.builtin";
        tree.write(built_in, 0o644, "kernel/net/bridge/br_netfilter.ko\n");
        let text = "net.ipv6.conf.default.forwarding = 0\nnet.ipv4.conf.*.forwarding = 0\nnet.ipv4.ip_forward = 1\n\
                    net.bridge.bridge-nf-call-ip6tables = 0\n";
        tree.write("/etc/sysctl.d/99-zzz-later.conf", 0o644, text);
        tree.write("/etc/sysctl.d/00-early.conf", 0o644, "net.ipv4.ip_forward = 0\n");
        for verdict in [bridge_netfilter(&examined), ip_forward(&examined)] {
            assert!(matches!(verdict, Ok(Verdict::Pass(_))), "{verdict:?}");
        }
    }

    #[test]
    fn without_a_kernel_nothing_is_shown() {
        let mut examined = sound(Family::Debian);
        examined.tree.remove("/boot");
        assert!(matches!(bridge_netfilter(&examined).unwrap(), Verdict::NotProven(_)));
    }

    #[test]
    fn without_a_setting_the_modules_own_holds() {
        let mut examined = sound(Family::Debian);
        examined.tree.remove("/etc/sysctl.d");
        let verdict = bridge_netfilter(&examined).unwrap();
        assert!(matches!(&verdict, Verdict::Pass(seen) if seen.contains("own 1")), "{verdict:?}");
    }
}
