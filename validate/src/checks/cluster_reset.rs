//! The rule on a cluster's end, after which nothing can be asked of it.

use nodekiln_words::Result;

use super::answers::{parts, text};
use super::{Applies, Ask, Context, Judge, Rule, Severity, Software, Verdict};
use crate::Tier;
use crate::api_server::api_script;
use crate::guest::Output;

/// What is left of one kind is named up to so many.
const NAMED: usize = 3;

pub(super) const RULES: &[Rule] = &[Rule {
    id: "kubeadm-reset",
    title: "kubeadm takes the cluster down and leaves nothing that runs",
    tier: Tier::Kubeadm,
    severity: Severity::Fatal,
    reads: &[
        "kubeadm reset --force",
        "/etc/kubernetes",
        "/var/lib/etcd",
        "/var/lib/kubelet",
        "/proc/mounts",
        "containerd's containers",
        "the ports that a control plane listens at",
    ],
    why: "what is left keeps the node from a second `kubeadm init` or `join`, or goes on running; it is asked last of all, \
          after the power cut where there was one, and the cluster has to be up again by then",
    remedy: "look at what kubeadm says of containers and mounts: it needs crictl up to 1.31, and a runtime that answers",
    source: "kubeadm reset, and what its phase cleanup-node removes",
    applies: Applies::with(&[Software::Kubernetes]),
    stops_boot: false,
    judge: Judge::Machine(Ask::End(RESET), kubeadm_reset),
}];

/// Waits for the node of this name, which may have been powered on a moment ago; takes the cluster down, and looks for what
/// kubeadm removes and for what it says it leaves.
const RESET: &str = concat!(
    api_script!(
        r#"
end = time.monotonic() + within(60)
seen = "no answer"
while time.monotonic() < end:
    try:
        one = "/api/v1/nodes?fieldSelector=metadata.name%3D" + sys.argv[1]
        nodes = wait(one, lambda nodes: any(map(ready, nodes)), 60)
        seen = "ready" if any(map(ready, nodes)) else "not ready"
        if seen == "ready":
            break
    except (OSError, ValueError, http.client.HTTPException, Refused) as error:
        seen = " ".join(str(error).split()) or repr(error)
    time.sleep(2)
print(seen)
"#
    ),
    "echo --\n\
     said=$(kubeadm reset --force 2>&1 </dev/null)\n\
     echo \"status $?\"\n\
     printf '%s\\n' \"$said\" | grep -v '^$' | tail -n 40\n\
     echo --\n\
     find /etc/kubernetes/manifests /etc/kubernetes/pki /var/lib/etcd /var/lib/kubelet/pods -mindepth 1 2>/dev/null\n\
     find /etc/kubernetes -maxdepth 1 -name '*.conf'\n\
     echo --\n\
     cut -d ' ' -f 2 /proc/mounts | grep '^/var/lib/kubelet/'\n\
     echo --\n\
     ctr --namespace k8s.io containers list --quiet || exit\n\
     echo --\n\
     systemctl is-active kubelet.service\n\
     echo --\n\
     ss -H -l -n -t | grep -E ':(6443|2379|2380|10250|10256|10257|10259) '; test $? -le 1 || exit\n\
     echo --\n\
     ls /etc/cni/net.d; iptables-save 2>/dev/null | grep -c KUBE-; true"
);

fn kubeadm_reset(answer: &Output, _: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let [node, said, paths, mounts, containers, kubelet, ports, kept] = parts(&text)?;
    let mut wrong = Vec::new();
    if node.trim() != "ready" {
        wrong.push(format!("before it the node was not Ready: {}", node.trim()));
    }
    if said.lines().next() != Some("status 0") {
        let lines: Vec<&str> = said.lines().rev().take(NAMED).collect();
        let last: Vec<&str> = lines.into_iter().rev().collect();
        wrong.push(format!("kubeadm reset ended with {}", last.join(" | ")));
    }
    for (what, left) in [("files", paths), ("mounts", mounts), ("containers", containers)] {
        let left: Vec<&str> = left.lines().collect();
        if !left.is_empty() {
            let some: Vec<&str> = left.iter().take(NAMED).copied().collect();
            wrong.push(format!("{what} are left, {} of them: {}", left.len(), some.join(", ")));
        }
    }
    if !matches!(kubelet.trim(), "inactive" | "failed") {
        wrong.push(format!("the kubelet still runs: it is {}", kubelet.trim()));
    }
    for line in ports.lines() {
        let local = line.split_whitespace().nth(3).unwrap_or(line);
        wrong.push(format!("something still listens at {local}"));
    }
    let (rules, plugins) = match kept.lines().collect::<Vec<_>>()[..] {
        [ref plugins @ .., rules] => (rules.to_owned(), plugins.join(", ")),
        [] => ("0".to_owned(), String::new()),
    };
    let plugins = if plugins.is_empty() { "nothing".to_owned() } else { plugins };
    let seen = "no manifests, keys, etcd data, pods, mounts or containers are left; as kubeadm says, it leaves";
    Ok(Verdict::of(
        &wrong,
        format!("{seen} /etc/cni/net.d ({plugins}) and iptables ({rules} lines)"),
    ))
}

#[cfg(test)]
pub(super) use mutations::ANSWERS;

#[cfg(test)]
mod mutations {
    use crate::checks::corpus::{Answer, Mutation};

    pub(in crate::checks) const ANSWERS: &[Answer] = &[Answer::new(
        "kubeadm-reset",
        "ready\n--\nstatus 0\n[reset] Stopping the kubelet service\n--\n--\n--\n--\ninactive\n--\n--\n10-nodekiln.conflist\n96\n",
        &[
            Mutation::new(
                "the cluster did not come back",
                "not Ready: Connection refused",
                |guest| {
                    guest.replace("ready\n", "Connection refused\n");
                },
            ),
            Mutation::new("kubeadm gives up", "ended with status 1 | [reset] Stopping", |guest| {
                guest.replace("status 0", "status 1");
            }),
            Mutation::new(
                "manifests and data stay",
                "files are left, 2 of them: /etc/kubernetes/manifests/etcd.yaml, /var/lib/etcd/member",
                |guest| {
                    guest.replace(
                        "service\n--\n",
                        "service\n--\n/etc/kubernetes/manifests/etcd.yaml\n/var/lib/etcd/member\n",
                    );
                },
            ),
            Mutation::new("a volume stays mounted", "mounts are left, 1 of them", |guest| {
                guest.replace(
                    "service\n--\n--\n",
                    "service\n--\n--\n/var/lib/kubelet/pods/1/volumes/a\n",
                );
            }),
            Mutation::new(
                "a crictl that stops nothing",
                "containers are left, 4 of them: 0a, 1b, 2c",
                |guest| {
                    guest.replace("--\ninactive", "0a\n1b\n2c\n3d\n--\ninactive");
                },
            ),
            Mutation::new("something starts it again", "the kubelet still runs", |guest| {
                guest.replace("inactive", "active");
            }),
            Mutation::new("systemd goes on trying", "it is activating", |guest| {
                guest.replace("inactive", "activating");
            }),
            Mutation::new("a server outlives its container", "listens at *:6443", |guest| {
                guest.replace("inactive\n--\n", "inactive\n--\nLISTEN 0 4096 *:6443 *:*\n");
            }),
        ],
    )];
}
