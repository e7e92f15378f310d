//! The rule on a second node.

use nodekiln_words::Result;
use serde_json::Value;

use super::answers::{parts, string, text};
use super::cluster_pods::{healthy, trouble};
use super::question::without_pod;
use super::{Applies, Ask, Context, Judge, Rule, Severity, Software, Verdict};
use crate::Tier;
use crate::api_server::api_script;
use crate::guest::Output;

pub(super) const RULES: &[Rule] = &[Rule {
    id: "kubeadm-join",
    title: "A second machine of the image joins the cluster and runs pods",
    tier: Tier::Kubeadm,
    severity: Severity::Fatal,
    reads: &[
        "kubeadm join in a clone",
        "its node",
        "kube-proxy and a pod on it",
        "GET /health at that pod's address",
    ],
    why: "every node but the first joins: from a bootstrap token to a certificate of its own and pods that others reach",
    remedy: "`console-clone.log` and the logs of the clone tell how far kubeadm came; a node that is not Ready: look at its kubelet",
    source: "kubeadm join in user-data as Cluster API's bootstrap provider writes it, in a second guest of the same bytes",
    applies: Applies::with(&[Software::Kubernetes]),
    stops_boot: false,
    judge: Judge::Machine(
        Ask::Joined(api_script!(
            r#"
def question():
    name = sys.argv[1]
    nodes = wait("/api/v1/nodes", lambda nodes: len(nodes) > 1 and all(map(ready, nodes)), within(30))
    node = [node for node in nodes if node["metadata"]["name"] == name]
    if not node:
        return "no node %s among %s" % (name, ", ".join(node["metadata"]["name"] for node in nodes))
    there = "fieldSelector=spec.nodeName%3D" + name
    system = "/api/v1/namespaces/kube-system/pods?labelSelector=k8s-app%3Dkube-proxy&" + there
    proxies = wait(system, lambda pods: any(map(ready, pods)), within(20))
    own = wait(PODS + "?fieldSelector=metadata.name%3Dnodekiln-probe", lambda pods: any(map(ready, pods)), within(20))
    if not own:
        return "\n--\n".join([json.dumps(node[0]), json.dumps(proxies), "[]", "", ""])
    first = own[0]  # another one of its kind goes onto the second node
    spec = {"nodeName": name, "terminationGracePeriodSeconds": 1, "automountServiceAccountToken": False}
    for key in ("containers", "volumes", "tolerations"):
        spec[key] = first["spec"][key]
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "nodekiln-joined"}, "spec": spec}
    status, said = call(PODS, "POST", json.dumps(pod))
    if status not in (201, 409):
        raise Refused(PODS, status, said)
    ran = wait(PODS + "?" + there, lambda pods: any(map(ready, pods)), within(30))
    address = ran[0]["status"].get("podIP", "none") if ran else "none"
    health = plain(address, 2379, "/health")
    command = ["etcdctl", "--dial-timeout=20s", "--command-timeout=20s"]
    place = "http://%s:2379" % first["status"].get("podIP")
    try:
        back = execute("nodekiln-joined", command + ["--endpoints=" + place, "endpoint", "health"])
    except (OSError, http.client.HTTPException) as error:
        back = str(error) or repr(error)
    seen = [json.dumps(node[0]), json.dumps(proxies), json.dumps(ran), health, place + "\n" + back]
    return "\n--\n".join(seen)


def patiently():
    """Asks again where the API server went away meanwhile: on a loaded host the kubelet may start it anew."""
    end = time.monotonic() + within(40)
    while True:
        try:
            return question()
        except (OSError, ValueError, http.client.HTTPException) as error:
            if time.monotonic() > end:
                return "the API server is gone: " + (str(error) or repr(error))
            time.sleep(5)


answer(patiently)
"#
        )),
        joined,
    ),
}];

fn joined(answer: &Output, context: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let Ok([node, proxies, pods, health, back]) = parts(&text) else {
        return Ok(Verdict::Fail(text));
    };
    let [node, proxies, pods]: [Value; 3] =
        [node, proxies, pods].map(|part| serde_json::from_str(&part).unwrap_or_default());
    let mut wrong = Vec::new();
    let conditions = node.pointer("/status/conditions").and_then(Value::as_array);
    let ready = conditions.into_iter().flatten().find(|condition| condition["type"] == "Ready");
    if ready.is_none_or(|condition| condition["status"] != "True") {
        let why =
            ready.map_or("it does not say".into(), |condition| condition["message"].to_string());
        wrong.push(format!("the second node is not Ready: {why}"));
    }
    let version = string(&node, "/status/nodeInfo/kubeletVersion");
    if let Some(wanted) = context.expect.kubernetes
        && version != format!("v{wanted}")
    {
        wrong.push(format!("its kubelet says {version}, not v{wanted}"));
    }
    let probed = without_pod(context).is_none();
    let wanted = [("kube-proxy", &proxies), ("the pod", &pods)];
    for (what, found) in wanted.into_iter().take(if probed { 2 } else { 1 }) {
        match found.get(0) {
            None => wrong.push(format!("{what} is not on it")),
            Some(pod) => {
                wrong.extend(trouble(pod).map(|trouble| format!("{what} on it {trouble}")));
            }
        }
    }
    let name = string(&node, "/metadata/name");
    if !probed {
        let seen =
            format!("{name} is Ready, kubelet {version}; no image for a pod on it is claimed");
        return Ok(Verdict::of(&wrong, seen));
    }
    let address = string(&pods, "/0/status/podIP");
    if !healthy(&health) {
        wrong.push(format!(
            "from the first node http://{address}:2379/health answers `{}`",
            health.trim()
        ));
    }
    let (place, said) = back.split_once('\n').unwrap_or((&back, ""));
    if !said.lines().any(|line| line.starts_with(&format!("{place} is healthy"))) {
        let said = said.lines().rfind(|line| !line.is_empty()).unwrap_or("no answer");
        wrong.push(format!("from its pod {place} is not reached: `{}`", said.trim()));
    }
    Ok(Verdict::of(
        &wrong,
        format!(
            "{name} is Ready, kubelet {version}; pods of both nodes reach each other's ({address}, {place})"
        ),
    ))
}

#[cfg(test)]
pub(super) use mutations::ANSWERS;

#[cfg(test)]
mod mutations {
    use crate::checks::corpus::{Answer, Mutation};

    pub(in crate::checks) const ANSWERS: &[Answer] = &[Answer::new(
        "kubeadm-join",
        r#"{"metadata": {"name": "node-2"}, "status": {"conditions": [{"type": "Ready", "status": "True"}], "nodeInfo": {"kubeletVersion": "v1.20.2"}}}
--
[{"metadata": {"name": "kube-proxy-b"}, "status": {"phase": "Running", "containerStatuses": [{"ready": true}]}}]
--
[{"metadata": {"name": "nodekiln-joined"}, "status": {"phase": "Running", "podIP": "10.244.1.2", "containerStatuses": [{"ready": true}]}}]
--
{"health":"true"}
--
http://10.244.0.2:2379
http://10.244.0.2:2379 is healthy: successfully committed proposal: took = 9ms
"#,
        &[
            Mutation::new("it never comes", "no node node-2", |guest| {
                guest.print("no node node-2 among node-1\n");
            }),
            Mutation::new("its kubelet complains", "not Ready: \"no network\"", |guest| {
                guest.replace(
                    r#""status": "True"}"#,
                    r#""status": "False", "message": "no network"}"#,
                );
            }),
            Mutation::new("another version", "its kubelet says v1.20.1", |guest| {
                guest.replace("v1.20.2", "v1.20.1");
            }),
            Mutation::new("no kube-proxy", "kube-proxy is not on it", |guest| {
                let from = guest.prints.find("[{\"metadata\": {\"name\": \"kube-proxy").unwrap();
                let to = from + guest.prints[from..].find('\n').unwrap();
                guest.prints.replace_range(from..to, "[]");
            }),
            Mutation::new(
                "no way to its pods",
                "answers `[Errno 113] No route to host`",
                |guest| {
                    guest.replace(r#"{"health":"true"}"#, "[Errno 113] No route to host");
                },
            ),
            Mutation::new(
                "no way back",
                "from its pod http://10.244.0.2:2379 is not reached",
                |guest| {
                    guest.replace("2379 is healthy", "2379 is unhealthy");
                },
            ),
        ],
    )];
}
