//! Rules on what runs in the cluster.

use nodekiln_words::Result;
use serde_json::Value;

use super::answers::{list, parts, string, text};
use super::{Applies, Ask, Context, Judge, Question, Rule, Severity, Software, Verdict};
use crate::Tier;
use crate::api_server::api_script;
use crate::guest::Output;

/// What a control-plane node runs: label, its value.
pub(crate) const COMPONENTS: [(&str, &str); 5] = [
    ("/metadata/labels/component", "etcd"),
    ("/metadata/labels/component", "kube-apiserver"),
    ("/metadata/labels/component", "kube-controller-manager"),
    ("/metadata/labels/component", "kube-scheduler"),
    ("/metadata/labels/k8s-app", "kube-proxy"),
];

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "control-plane",
        title: "The control plane runs the images that were shipped",
        tier: Tier::Kubeadm,
        severity: Severity::Fatal,
        reads: &["GET /api/v1/namespaces/kube-system/pods", "ctr images list"],
        why: "the control plane must run from the very images that were shipped",
        remedy: "preload what kubeadm's manifests name, and nothing else under those names",
        source: "the API server's pods against containerd's store and the image's claims",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Standing(api_script!(
                "print(get('/api/v1/namespaces/kube-system/pods'))",
                "echo -- && ctr --namespace k8s.io images list"
            )),
            control_plane,
        ),
    },
    Rule {
        id: "pod-scheduled",
        title: "A pod is scheduled and runs",
        tier: Tier::Kubeadm,
        severity: Severity::Fatal,
        reads: &["GET /api/v1/namespaces/default/pods/nodekiln-probe"],
        why: "scheduler, kubelet, runtime and network plugin have to work together once",
        remedy: "the report tells which condition of the pod is missing",
        source: "the pod's status",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Cluster(Question::pods(
                r#"
def question():
    path = PODS + "/nodekiln-probe"
    status, text = call(path)
    if status not in (200, 404):
        raise Refused(path, status, text)
    return text if status == 200 else ""
"#,
            )),
            pod_scheduled,
        ),
    },
    Rule {
        id: "pod-logs",
        title: "Logs come through the API server",
        tier: Tier::Kubeadm,
        severity: Severity::Fatal,
        reads: &["GET the pod's log"],
        why: "the API server fetches logs from the kubelet, which needs both certificates",
        remedy: "look at the kubelet's serving certificate and at the address that the node registered",
        source: "GET the pod's log at the API server, as kubectl logs does",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Cluster(Question::pods(
                r#"
def question():
    return call(PODS + "/nodekiln-probe/log")[1][:65536]
"#,
            )),
            pod_logs,
        ),
    },
    Rule {
        id: "pod-exec",
        title: "exec comes through the API server",
        tier: Tier::Kubeadm,
        severity: Severity::Fatal,
        reads: &["etcd --version through the pod's exec"],
        why: "exec goes from the API server through the kubelet to the runtime's streaming server",
        remedy: "look at containerd's streaming server: its address has to be a loopback one",
        source: "a web socket at the pod's exec, as kubectl exec has one",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Cluster(Question::pods(
                r#"
def question():
    return execute("nodekiln-probe", ["etcd", "--version"])
"#,
            )),
            pod_exec,
        ),
    },
    Rule {
        id: "pod-network",
        title: "A pod answers at its own address",
        tier: Tier::Kubeadm,
        severity: Severity::Fatal,
        reads: &["GET /health at the pod"],
        why: "a pod must be reachable at its own address",
        remedy: "look at the network plugin's configuration in /etc/cni/net.d",
        source: "GET /health at the pod's address",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Cluster(Question::pods(
                r#"
def question():
    address = json.loads(get(PODS + "/nodekiln-probe"))["status"].get("podIP")
    return "%s\n%s" % (address, plain(address, 2379, "/health"))
"#,
            )),
            pod_network,
        ),
    },
];

fn control_plane(answer: &Output, context: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    context.named()?;
    let [pods, table] = parts(&text)?;
    let pods: Value = serde_json::from_str(&pods).unwrap_or_default();
    let store = super::runtime::store(&table);
    let (mut wrong, mut seen) = (Vec::new(), Vec::new());
    // A host's cluster may have a control plane on other nodes too.
    let own = |pod: &&Value| {
        context.told.host.is_none() || string(pod, "/spec/nodeName") == context.told.node
    };
    for (label, name) in COMPONENTS {
        let mut pods = list(&pods, "/items").iter().filter(own);
        let Some(pod) = pods.find(|pod| string(pod, label) == name) else {
            wrong.push(format!("{name} has no pod"));
            continue;
        };
        if let Some(trouble) = trouble(pod) {
            wrong.push(format!("{name} {trouble}"));
        }
        let wanted = string(pod, "/spec/containers/0/image");
        let runs = string(pod, "/status/containerStatuses/0/imageID");
        let runs = runs.rsplit('@').next().unwrap_or(runs);
        // The runtime names an image without a repository digest by its configuration; the store
        // has that name too and says which manifest it belongs to.
        let manifest = store.get(runs).map_or(runs, String::as_str);
        match context.expect.images.get(wanted) {
            Some(expected) if manifest == format!("sha256:{expected}") => {
                seen.push(with_restarts(name, pod));
            }
            Some(expected) => {
                wrong.push(format!("{name} runs {manifest}, not sha256:{expected} ({wanted})"));
            }
            None if context.expect.images.is_empty() => seen.push(with_restarts(name, pod)),
            None => {
                wrong
                    .push(format!("{name} runs {wanted}, which the image does not claim to bring"));
            }
        }
    }
    let seen = format!("{} run", seen.join(", "));
    Ok(if wrong.is_empty() && context.expect.images.is_empty() {
        Verdict::NotProven(format!("{seen}, but the image claims no digests to compare with"))
    } else {
        let whose =
            if context.claimed { "the claimed digests" } else { "the digests in its store" };
        Verdict::of(&wrong, format!("{seen}, from {whose}"))
    })
}

/// The component's name, and how often its container was started again, if it was: an API server that comes up before
/// etcd, or is too slow for its probe, has cost the cluster minutes.
fn with_restarts(name: &str, pod: &Value) -> String {
    let count = pod.pointer("/status/containerStatuses/0/restartCount").and_then(Value::as_u64);
    match count.unwrap_or(0) {
        0 => name.to_owned(),
        1 => format!("{name} (restarted once)"),
        count => format!("{name} (restarted {count} times)"),
    }
}

/// What keeps a pod from being ready, if anything does.
pub(crate) fn trouble(pod: &Value) -> Option<String> {
    let phase = string(pod, "/status/phase");
    let statuses = list(pod, "/status/containerStatuses");
    let ready = |status: &&Value| status.get("ready").and_then(Value::as_bool) == Some(true);
    if phase == "Running" && !statuses.is_empty() && statuses.iter().all(|status| ready(&status)) {
        return None;
    }
    let mut words =
        vec![format!("is {}", if phase.is_empty() { "without a phase" } else { phase })];
    for status in statuses.iter().filter(|status| !ready(status)) {
        for state in ["waiting", "terminated"] {
            let reason = string(status, &format!("/state/{state}/reason"));
            if !reason.is_empty() {
                words.push(format!(
                    "{reason}: {}",
                    string(status, &format!("/state/{state}/message"))
                ));
            }
        }
    }
    for condition in list(pod, "/status/conditions") {
        let message = string(condition, "/message");
        if string(condition, "/status") != "True" && !message.is_empty() {
            words.push(message.to_owned());
        }
    }
    Some(words.join(", "))
}

fn pod_scheduled(answer: &Output, _: &Context) -> Result<Verdict> {
    let pod: Value = serde_json::from_str(&text(answer)?).unwrap_or_default();
    let wrong = if pod.is_null() {
        vec!["there is no pod nodekiln-probe".into()]
    } else {
        Vec::from_iter(trouble(&pod))
    };
    let seen = format!(
        "running on {} at {}",
        string(&pod, "/spec/nodeName"),
        string(&pod, "/status/podIP")
    );
    Ok(Verdict::of(&wrong, seen))
}

/// etcd says `ready to serve client requests` in both of its log formats.
fn pod_logs(answer: &Output, _: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let found = text.lines().find(|line| line.contains("ready to serve client requests"));
    let last = || text.lines().last().unwrap_or("nothing").to_owned();
    let wrong = if found.is_some() {
        vec![]
    } else {
        vec![format!("the logs lack the server's start; they end in `{}`", last())]
    };
    Ok(Verdict::of(&wrong, found.unwrap_or_default().trim()))
}

fn pod_exec(answer: &Output, _: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let first = text.lines().find(|line| line.contains("etcd Version:"));
    let wrong = if first.is_some() {
        vec![]
    } else {
        vec![format!("it answers `{}`", text.lines().last().unwrap_or_default())]
    };
    Ok(Verdict::of(&wrong, first.unwrap_or_default()))
}

/// Whether this is what etcd says of itself at `/health`.
pub(super) fn healthy(said: &str) -> bool {
    said.contains("\"health\":\"true\"") || said.contains("\"health\": \"true\"")
}

fn pod_network(answer: &Output, _: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let (address, health) = text.split_once('\n').unwrap_or((text.as_str(), ""));
    let wrong = if healthy(health) {
        vec![]
    } else {
        vec![format!("http://{address}:2379/health answers `{}`", health.trim())]
    };
    Ok(Verdict::of(&wrong, format!("http://{address}:2379/health is true")))
}

#[cfg(test)]
pub(super) use mutations::ANSWERS;

#[cfg(test)]
mod mutations;

#[cfg(test)]
mod tests {
    use super::super::testing::judge;
    use super::*;
    use crate::expect::Expectations;

    #[test]
    fn without_claimed_digests_the_control_plane_is_not_proven() {
        let verdict = judge("control-plane", mutations::CONTROL_PLANE, &Expectations::default());
        assert!(matches!(verdict, Verdict::NotProven(_)), "{verdict:?}");
    }

    #[test]
    fn a_component_that_was_started_again_is_told_with_the_count() {
        let pod = |count: u64| serde_json::json!({"status": {"containerStatuses": [{"restartCount": count}]}});
        assert_eq!(with_restarts("etcd", &pod(0)), "etcd");
        assert_eq!(with_restarts("etcd", &Value::Null), "etcd");
        assert_eq!(with_restarts("etcd", &pod(1)), "etcd (restarted once)");
        assert_eq!(with_restarts("etcd", &pod(2)), "etcd (restarted 2 times)");
    }
}
