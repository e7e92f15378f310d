//! Rules on the ways to a pod: from another pod, through the API server and through the node's own address.

use nodekiln_words::Result;

use super::answers::text;
use super::cluster_pods::healthy;
use super::{Applies, Ask, Context, Judge, Question, Rule, Severity, Software, Verdict};
use crate::Tier;
use crate::guest::Output;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "pod-to-pod",
        title: "A pod reaches another, at its address and through a Service",
        tier: Tier::Kubeadm,
        severity: Severity::Fatal,
        reads: &["etcdctl endpoint health in a second pod"],
        why: "what runs in a cluster speaks to other pods, mostly through a Service",
        remedy: "at the address alone it fails: look at the bridge, its kernel modules and `net.ipv4.ip_forward`; at the \
                 Service alone: look at kube-proxy and `net.bridge.bridge-nf-call-iptables`",
        source: "etcdctl in a second pod, against the first one's address and its Service's cluster IP",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Cluster(Question::pods(
                r#"
def question():
    pod = json.loads(get(PODS + "/nodekiln-probe"))
    service = json.loads(get("/api/v1/namespaces/default/services/nodekiln-probe"))
    places = [pod["status"].get("podIP"), service["spec"].get("clusterIP")]
    ends = ["http://%s:2379" % place for place in places]
    times = ["--%s-timeout=%ds" % (what, max(20, within(6))) for what in ("dial", "command")]
    command = ["etcdctl"] + times + ["--endpoints=" + ",".join(ends), "endpoint", "health"]
    return "\n".join(ends + ["--", execute("nodekiln-client", command)])
"#,
            )),
            pod_to_pod,
        ),
    },
    Rule {
        id: "port-forward",
        title: "A port is forwarded through the API server",
        tier: Tier::Kubeadm,
        severity: Severity::Fatal,
        reads: &["GET /health through the pod's portforward"],
        why: "the API server, the kubelet and the runtime's streaming server forward a port into the pod's network",
        remedy: "look at containerd's streaming server and its log; older runtimes need socat on the node",
        source: "GET /health through a web socket at the pod's portforward, as kubectl port-forward does it",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Cluster(Question::pods(
                r#"
def question():
    return forward("nodekiln-probe", 2379, b"GET /health HTTP/1.0\r\n\r\n", b"}")
"#,
            )),
            port_forward,
        ),
    },
    Rule {
        id: "host-port",
        title: "A pod answers at a port of the node",
        tier: Tier::Kubeadm,
        severity: Severity::Fatal,
        reads: &["GET /health at the node's address, port 12379"],
        why: "ingress controllers and agents of the node take a port of the node for their pod",
        remedy: "look at the portmap plugin in /opt/cni/bin and at iptables, which it calls",
        source: "GET /health at the address that the node registered and a pod's hostPort",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Cluster(Question::pods(
                r#"
def question():
    pod = json.loads(get(PODS + "/nodekiln-client"))
    address, port = pod["status"].get("hostIP"), pod["spec"]["containers"][0]["ports"][0].get("hostPort")
    return "%s:%s\n%s" % (address, port, plain(address, port, "/health"))
"#,
            )),
            host_port,
        ),
    },
];

fn pod_to_pod(answer: &Output, _: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let Some((ends, said)) = text.split_once("\n--") else { return Ok(Verdict::Fail(text)) };
    let mut wrong = Vec::new();
    for (end, name) in ends.lines().zip(["its address", "its Service"]) {
        let health = format!("{end} is healthy");
        if !said.lines().any(|line| line.starts_with(&health)) {
            let about = said.lines().find(|line| line.contains(end));
            let about = about.or(said.lines().rfind(|line| !line.is_empty()));
            wrong.push(format!(
                "the pod is not reached at {name} {end}: `{}`",
                about.unwrap_or("no answer").trim()
            ));
        }
    }
    let ends: Vec<&str> = ends.lines().collect();
    Ok(Verdict::of(&wrong, format!("a second pod reaches {}", ends.join(" and "))))
}

fn port_forward(answer: &Output, _: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let wrong = if healthy(&text) {
        vec![]
    } else {
        let said = text.lines().rfind(|line| !line.is_empty()).unwrap_or("nothing");
        vec![format!("the forwarded port answers `{}`", said.trim())]
    };
    Ok(Verdict::of(&wrong, "/health is true through a forwarded port"))
}

fn host_port(answer: &Output, _: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let (place, said) = text.split_once('\n').unwrap_or((text.as_str(), ""));
    let wrong = if healthy(said) {
        vec![]
    } else {
        vec![format!("http://{place}/health answers `{}`", said.trim())]
    };
    Ok(Verdict::of(&wrong, format!("http://{place}/health is true")))
}

#[cfg(test)]
pub(super) use mutations::ANSWERS;

#[cfg(test)]
mod mutations {
    use crate::checks::corpus::{Answer, Mutation};

    pub(in crate::checks) const ANSWERS: &[Answer] = &[
        Answer::new(
            "pod-to-pod",
            "http://10.244.0.3:2379\nhttp://10.104.7.9:2379\n--\n\
             http://10.104.7.9:2379 is healthy: successfully committed proposal: took = 40.1ms\n\
             http://10.244.0.3:2379 is healthy: successfully committed proposal: took = 31.7ms\n",
            &[
                Mutation::new(
                    "kube-proxy's rules are flushed",
                    "not reached at its Service http://10.104.7.9:2379: `http://10.104.7.9:2379 is unhealthy",
                    |guest| {
                        guest.replace("10.104.7.9:2379 is healthy", "10.104.7.9:2379 is unhealthy");
                    },
                ),
                Mutation::new(
                    "the bridge lets nothing pass",
                    "not reached at its address http://10.244.0.3:2379",
                    |guest| {
                        guest.replace("10.244.0.3:2379 is healthy", "10.244.0.3:2379 is unhealthy");
                    },
                ),
                Mutation::new("nothing to ask with", "not found in $PATH", |guest| {
                    guest.print(
                        "http://10.244.0.3:2379\nhttp://10.104.7.9:2379\n--\n\n\
                         exec: \"etcdctl\": executable file not found in $PATH\n",
                    );
                }),
                Mutation::new("it answers nothing", "no answer", |guest| {
                    guest.print("http://10.244.0.3:2379\nhttp://10.104.7.9:2379\n--\n\n");
                }),
                Mutation::new("the second pod was never made", "404: pods not found", |guest| {
                    guest.print(
                        "…/pods/nodekiln-client/exec is answered with 404: pods not found\n",
                    );
                }),
            ],
        ),
        Answer::new(
            "port-forward",
            "HTTP/1.0 200 OK\r\nContent-Length: 17\r\n\r\n{\"health\":\"true\"}\n",
            &[
                Mutation::new("nothing listens in the pod", "connection refused", |guest| {
                    guest.print("error forwarding port 2379 to pod 7f: connection refused\n");
                }),
                Mutation::new("the stream ends at once", "answers `nothing`", |guest| {
                    guest.print("\n");
                }),
                Mutation::new("another server", "{\"health\":\"false\"}", |guest| {
                    guest.replace("true", "false");
                }),
            ],
        ),
        Answer::new(
            "host-port",
            "10.0.2.15:12379\n{\"health\":\"true\"}\n",
            &[
                Mutation::new(
                    "no portmap plugin",
                    "http://10.0.2.15:12379/health answers `[Errno 111] Connection refused`",
                    |guest| guest.print("10.0.2.15:12379\n[Errno 111] Connection refused\n"),
                ),
                Mutation::new("it answers nothing", "answers ``", |guest| {
                    guest.print("10.0.2.15:12379\n");
                }),
            ],
        ),
    ];
}
