//! Rules on the ends of things: a container that is killed, a pod that is evicted, and the cluster itself. The last of them
//! takes the cluster down, so nothing can be asked of it afterwards.

use nodekiln_words::Result;
use serde_json::Value;

use super::answers::{parts, string, text};
use super::cluster_pods::{trouble, without_pod};
use super::{Applies, Ask, Context, Judge, Rule, Severity, Software, Verdict};
use crate::Tier;
use crate::api_server::api_script;
use crate::guest::Output;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "pod-restart",
        title: "A container that dies is started again",
        tier: Tier::Kubeadm,
        severity: Severity::Fatal,
        reads: &["the pod's containerStatuses before and after SIGKILL"],
        why: "the kubelet has to see a container's end and start it anew, which takes the runtime's word for both",
        remedy: "`guest/journal-kubelet.log` and `guest/journal-containerd.log` tell what each saw of the end",
        source: "the status of a pod whose container's processes were killed",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Cluster(api_script!(
                r#"
def container(pod):
    return pod["status"]["containerStatuses"][0]


def kill(name):
    """Kills the processes of the container: those of the control groups with its name."""
    for folder, _, files in os.walk("/sys/fs/cgroup"):
        if name in folder and "cgroup.procs" in files:
            with open(folder + "/cgroup.procs") as file:
                for process in file.read().split():
                    os.kill(int(process), 9)


def question():
    before = json.loads(get(PODS + "/nodekiln-probe"))
    count = container(before)["restartCount"]
    kill(container(before)["containerID"].split("//")[1])
    again = lambda pods: any(ready(pod) and container(pod)["restartCount"] > count for pod in pods)
    after = wait(PODS + "?fieldSelector=metadata.name%3Dnodekiln-probe", again, 120)
    return "\n--\n".join([json.dumps(before)] + [json.dumps(pod) for pod in after])


answer(question)
"#
            )),
            pod_restart,
        ),
    },
    Rule {
        id: "pod-eviction",
        title: "A pod that is evicted goes",
        tier: Tier::Kubeadm,
        severity: Severity::Fatal,
        reads: &["POST to the pod's eviction", "/sys/fs/cgroup", "/run/containerd"],
        why: "nodes are drained before they are replaced: Cluster API waits for each evicted pod to be gone",
        remedy: "`guest/journal-kubelet.log` tells what of the pod could not be cleaned up",
        source: "POST to the pod's eviction; its object, control groups and containers afterwards",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Cluster(api_script!(
                r#"
CONTAINERS = "/run/containerd/io.containerd.runtime.v2.task/k8s.io"


def question():
    pod = json.loads(get(PODS + "/nodekiln-client"))
    uid = pod["metadata"]["uid"]
    names = [uid, uid.replace("-", "_")]  # as cgroupfs and as systemd name a pod's control groups
    names += [one.get("containerID", "//-").split("//")[1] for one in pod["status"].get("containerStatuses", [])]

    def traces():
        folders = [folder for folder, _, _ in os.walk("/sys/fs/cgroup")]
        folders += [CONTAINERS + "/" + name for name in os.listdir(CONTAINERS)]
        return sorted(folder for folder in folders if any(name in folder for name in names))

    had = len(traces())
    for version in ("policy/v1", "policy/v1beta1"):  # the first one from 1.22 on
        metadata = {"name": "nodekiln-client", "namespace": "default"}
        eviction = {"apiVersion": version, "kind": "Eviction", "metadata": metadata}
        status, text = call(PODS + "/nodekiln-client/eviction", "POST", json.dumps(eviction))
        if status != 400:
            break
    gone = lambda pods: status != 201 or not pods
    left = wait(PODS + "?fieldSelector=metadata.name%3Dnodekiln-client", gone, 120)
    end = time.monotonic() + 30
    while status == 201 and traces() and time.monotonic() < end:
        time.sleep(0.5)
    phases = [pod["status"].get("phase", "") for pod in left]
    parts = ["%d %s" % (status, " ".join(text.split())), "%d traces" % had]
    return "\n".join(parts + ["--"] + phases + ["--"] + traces())


answer(question)
"#
            )),
            pod_eviction,
        ),
    },
    Rule {
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
        ],
        why: "what is left behind keeps the node from a second `kubeadm init` or `join`, or goes on running",
        remedy: "look at what kubeadm says of containers and mounts: it needs crictl up to 1.31, and a runtime that answers",
        source: "kubeadm reset, and what its phase cleanup-node removes",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(Ask::Cluster(RESET), kubeadm_reset),
    },
];

/// Takes the cluster down, and looks for what kubeadm removes and for what it says it leaves.
const RESET: &str = "\
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
    ls /etc/cni/net.d; iptables-save 2>/dev/null | grep -c KUBE-; true";

fn pod_restart(answer: &Output, context: &Context) -> Result<Verdict> {
    if let Some(verdict) = without_pod(context) {
        return Ok(verdict);
    }
    let text = text(answer)?;
    let Some((before, after)) = text.split_once("\n--\n") else {
        return Ok(Verdict::Fail(format!("the pod is gone: {text}")));
    };
    let [before, after]: [Value; 2] =
        [before, after].map(|pod| serde_json::from_str(pod).unwrap_or_default());
    let count = |pod: &Value| {
        let restarts = pod.pointer("/status/containerStatuses/0/restartCount");
        restarts.and_then(Value::as_u64).unwrap_or(0)
    };
    let name = |pod: &Value| string(pod, "/status/containerStatuses/0/containerID").to_owned();
    let mut wrong = Vec::from_iter(trouble(&after));
    if count(&after) <= count(&before) {
        wrong.push(format!(
            "killed, the container was not started again: {} restarts before and after",
            count(&before)
        ));
    } else if name(&after) == name(&before) {
        wrong.push(format!("{} is counted as restarted, yet is the same", name(&after)));
    }
    let ended = "/status/containerStatuses/0/lastState/terminated/exitCode";
    let code = after.pointer(ended).and_then(Value::as_i64);
    if wrong.is_empty() && code != Some(137) {
        let seen = code.map_or("none".into(), |code| code.to_string());
        wrong.push(format!("its end is told with exit code {seen}, not 137, that of SIGKILL"));
    }
    Ok(Verdict::of(&wrong, format!("killed, started again, Ready; restarts {}", count(&after))))
}

fn pod_eviction(answer: &Output, context: &Context) -> Result<Verdict> {
    if let Some(verdict) = without_pod(context) {
        return Ok(verdict);
    }
    let text = text(answer)?;
    let Ok([said, pods, traces]) = parts(&text) else { return Ok(Verdict::Fail(text)) };
    let (status, had) = said.split_once('\n').unwrap_or((&said, ""));
    let mut wrong = Vec::new();
    if !status.starts_with("201 ") {
        wrong.push(format!("the eviction is answered with {status}"));
    }
    if had.starts_with("0 ") {
        wrong.push("the pod had neither control groups nor containers before".into());
    }
    for phase in pods.lines() {
        wrong.push(format!("the evicted pod is still there, {phase}"));
    }
    wrong.extend(traces.lines().take(5).map(|path| format!("{path} is left of it")));
    Ok(Verdict::of(&wrong, "evicted, its object, control groups and containers are gone"))
}

fn kubeadm_reset(answer: &Output, _: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let [said, paths, mounts, containers, kubelet, kept] = parts(&text)?;
    let mut wrong = Vec::new();
    if said.lines().next() != Some("status 0") {
        let lines: Vec<&str> = said.lines().rev().take(3).collect();
        let last: Vec<&str> = lines.into_iter().rev().collect();
        wrong.push(format!("kubeadm reset ended with {}", last.join(" | ")));
    }
    for (what, left) in [("files", paths), ("mounts", mounts), ("containers", containers)] {
        let left: Vec<&str> = left.lines().collect();
        if !left.is_empty() {
            let some = left[..left.len().min(3)].join(", ");
            wrong.push(format!("{what} are left, {} of them: {some}", left.len()));
        }
    }
    if kubelet.trim() == "active" {
        wrong.push("the kubelet still runs".into());
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
mod tests {
    use nodekiln_words::Sha256;
    use serde_json::json;

    use super::super::testing::{fails, judge, passes};
    use super::*;
    use crate::expect::Expectations;

    fn expect() -> Expectations {
        let images = [("r/etcd:1".to_owned(), Sha256::of("etcd"))].into();
        Expectations { images, ..Expectations::default() }
    }

    fn pod(id: &str, restarts: u32, ready: bool, code: i32) -> String {
        json!({"metadata": {"name": "nodekiln-probe"}, "status": {"phase": "Running", "containerStatuses": [{
            "containerID": format!("containerd://{id}"), "restartCount": restarts, "ready": ready,
            "lastState": {"terminated": {"exitCode": code}}}]}})
        .to_string()
    }

    #[test]
    fn a_killed_container_must_come_back_as_another_one() {
        let before = pod("aa", 0, true, 0);
        let seen =
            |after: &str| judge("pod-restart", &format!("{before}\n--\n{after}\n"), &expect());
        assert!(passes(&seen(&pod("bb", 1, true, 137))));
        assert!(fails(&seen(&pod("aa", 0, true, 0)), "not started again: 0 restarts"));
        assert!(fails(&seen(&pod("bb", 1, false, 137)), "is Running"));
        assert!(fails(&seen(&pod("aa", 1, true, 137)), "yet is the same"));
        assert!(fails(&seen(&pod("bb", 1, true, 0)), "exit code 0, not 137"));
        assert!(fails(&judge("pod-restart", &before, &expect()), "the pod is gone"));
    }

    #[test]
    fn an_evicted_pod_must_be_gone_everywhere() {
        let seen = |answer: &str| judge("pod-eviction", answer, &expect());
        let created = "201 {\"kind\":\"Status\",\"status\":\"Success\"}";
        assert!(passes(&seen(&format!("{created}\n4 traces\n--\n--\n"))));
        let stays = format!("{created}\n4 traces\n--\nRunning\n--\n/sys/fs/cgroup/x\n/run/c/y\n");
        assert!(fails(
            &seen(&stays),
            "still there, Running; /sys/fs/cgroup/x is left of it; /run/c/y is left"
        ));
        let refused =
            "429 {\"message\":\"violates the pod's disruption budget\"}\n4 traces\n--\n--\n";
        assert!(fails(&seen(refused), "answered with 429"));
        assert!(fails(&seen(&format!("{created}\n0 traces\n--\n--\n")), "neither control groups"));
        assert!(fails(&seen("…/nodekiln-client is answered with 404: not found"), "404"));
    }

    #[test]
    fn a_reset_must_succeed_and_leave_nothing() {
        let seen = |answer: &str| judge("kubeadm-reset", answer, &expect());
        let good = "status 0\n[reset] Stopping the kubelet service\n--\n--\n--\n--\ninactive\n--\n10-nodekiln.conflist\n96\n";
        let passed = seen(good);
        assert!(passes(&passed), "{passed:?}");
        assert!(
            passed
                .seen()
                .ends_with("/etc/cni/net.d (10-nodekiln.conflist) and iptables (96 lines)")
        );
        let failed = good.replace("status 0", "status 1");
        assert!(fails(&seen(&failed), "kubeadm reset ended with status 1 | [reset] Stopping"));
        let left = |part: usize, line: &str| {
            let mut parts: Vec<String> = good.split("--\n").map(str::to_owned).collect();
            parts[part].push_str(line);
            seen(&parts.join("--\n"))
        };
        let manifest = left(1, "/etc/kubernetes/manifests/etcd.yaml\n/var/lib/etcd/member\n");
        assert!(fails(
            &manifest,
            "files are left, 2 of them: /etc/kubernetes/manifests/etcd.yaml, /var/lib/etcd/member"
        ));
        assert!(fails(
            &left(2, "/var/lib/kubelet/pods/1/volumes/a\n"),
            "mounts are left, 1 of them: /var/lib/kubelet/pods/1"
        ));
        assert!(fails(&left(3, "0a1b\n"), "containers are left, 1 of them: 0a1b"));
        assert!(fails(&seen(&good.replace("inactive", "active")), "the kubelet still runs"));
    }

    #[test]
    fn pods_that_cannot_be_run_are_not_judged() {
        for id in ["pod-restart", "pod-eviction"] {
            let verdict = judge(id, "", &Expectations::default());
            assert!(matches!(verdict, Verdict::Skipped(_)), "{id}");
        }
    }
}
