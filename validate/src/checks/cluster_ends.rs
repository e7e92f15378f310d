//! Rules on ends: a container that is killed, and a pod that is evicted.

use nodekiln_words::Result;
use serde_json::Value;

use super::answers::{parts, string, text};
use super::cluster_pods::trouble;
use super::{Applies, Ask, Context, Judge, Question, Rule, Severity, Software, Verdict};
use crate::Tier;
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
            Ask::Cluster(
                Question::pods(
                    r#"
def container(pod):
    return pod["status"]["containerStatuses"][0]


def kill(name):
    """Kills the processes of the container: those of the control groups with its name."""
    for folder, _, files in os.walk("/sys/fs/cgroup"):
        if name in folder and "cgroup.procs" in files:
            with open(folder + "/cgroup.procs") as file:
                processes = file.read().split()
            for process in processes:
                try:
                    os.kill(int(process), 9)
                except ProcessLookupError:
                    pass  # it ended with another one


def question():
    before = json.loads(get(PODS + "/nodekiln-probe"))
    count = container(before)["restartCount"]
    kill(container(before)["containerID"].split("//")[1])
    again = lambda pods: any(ready(pod) and container(pod)["restartCount"] > count for pod in pods)
    after = wait(PODS + "?fieldSelector=metadata.name%3Dnodekiln-probe", again, within(20))
    return "\n--\n".join([json.dumps(before)] + [json.dumps(pod) for pod in after])
"#,
                )
                .ending(),
            ),
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
            Ask::Cluster(
                Question::pods(
                    r#"
CONTAINERS = "/run/containerd/io.containerd.runtime.v2.task/k8s.io"


def question():
    pod = json.loads(get(PODS + "/nodekiln-client"))
    uid = pod["metadata"]["uid"]
    names = [uid, uid.replace("-", "_")]  # as cgroupfs and as systemd name a pod's control groups
    started = [one["containerID"] for one in pod["status"].get("containerStatuses", []) if one.get("containerID")]
    names += [name.split("//")[1] for name in started]

    def traces():
        folders = [folder for folder, _, _ in os.walk("/sys/fs/cgroup")]
        # Beside the first version's trees kubelets leave an empty folder in the second's.
        folders = [folder for folder in folders if not folder.startswith("/sys/fs/cgroup/unified/")]
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
    left = wait(PODS + "?fieldSelector=metadata.name%3Dnodekiln-client", gone, within(30))
    end = time.monotonic() + within(5)
    while status == 201 and traces() and time.monotonic() < end:
        time.sleep(0.5)
    phases = [pod["status"].get("phase", "") for pod in left]
    parts = ["%d %s" % (status, " ".join(text.split())), "%d traces" % had]
    return "\n".join(parts + ["--"] + phases + ["--"] + traces())
"#,
                )
                .ending(),
            ),
            pod_eviction,
        ),
    },
];

fn pod_restart(answer: &Output, _: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let Some((before, after)) = text.split_once("\n--\n") else {
        return Ok(Verdict::Fail(format!("no pod is left to judge: {text}")));
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
    // A kubelet under load may have removed the dead container before it looked at its end.
    if let (true, Some(code)) = (wrong.is_empty(), code)
        && code != 137
    {
        wrong.push(format!("its end is told with exit code {code}, not 137, that of SIGKILL"));
    }
    let told = if code.is_some() { "" } else { "; the kubelet does not tell of its end" };
    let count = count(&after);
    Ok(Verdict::of(&wrong, format!("killed, started again, Ready; restarts {count}{told}")))
}

fn pod_eviction(answer: &Output, _: &Context) -> Result<Verdict> {
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

#[cfg(test)]
pub(super) use mutations::ANSWERS;

#[cfg(test)]
mod mutations {
    use crate::checks::corpus::{Answer, Mutation};

    pub(in crate::checks) const ANSWERS: &[Answer] = &[
        Answer::new(
            "pod-restart",
            r#"{"status": {"phase": "Running", "containerStatuses": [{"containerID": "containerd://aa", "restartCount": 0, "ready": true}]}}
--
{"status": {"phase": "Running", "containerStatuses": [{"containerID": "containerd://bb", "restartCount": 1, "ready": true, "lastState": {"terminated": {"exitCode": 137}}}]}}
"#,
            &[
                Mutation::new("nobody starts it again", "not started again: 0 restarts", |guest| {
                    guest.replace("\"restartCount\": 1", "\"restartCount\": 0");
                }),
                Mutation::new("it does not come up", "is Running", |guest| {
                    let (before, after) = guest.prints.split_once("\n--\n").unwrap();
                    guest.prints = format!("{before}\n--\n{}", after.replace("true", "false"));
                }),
                Mutation::new("the same container is counted twice", "yet is the same", |guest| {
                    guest.replace("containerd://bb", "containerd://aa");
                }),
                Mutation::new("it ended by itself", "exit code 0, not 137", |guest| {
                    guest.replace("137", "0");
                }),
                Mutation::new("the pod went with it", "no pod is left", |guest| {
                    let before = guest.prints.split_once("\n--\n").unwrap().0.to_owned();
                    guest.print(&before);
                }),
            ],
        ),
        Answer::new(
            "pod-eviction",
            "201 {\"kind\":\"Status\",\"status\":\"Success\"}\n4 traces\n--\n--\n",
            &[
                Mutation::new(
                    "it stays",
                    "still there, Running; /sys/fs/cgroup/x is left",
                    |guest| {
                        guest.replace("--\n--\n", "--\nRunning\n--\n/sys/fs/cgroup/x\n");
                    },
                ),
                Mutation::new(
                    "its object goes, its container stays",
                    "/run/c/aa is left",
                    |guest| {
                        guest.prints.push_str("/run/c/aa\n");
                    },
                ),
                Mutation::new("a budget forbids it", "answered with 429", |guest| {
                    guest.replace("201 ", "429 ");
                }),
                Mutation::new("it was never there", "neither control groups", |guest| {
                    guest.replace("4 traces", "0 traces");
                }),
                Mutation::new("it was never made", "404: not found", |guest| {
                    guest.print("…/nodekiln-client is answered with 404: not found\n");
                }),
            ],
        ),
    ];
}
