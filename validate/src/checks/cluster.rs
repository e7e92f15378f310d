//! Rules on the cluster that the bootstrap made.

use nodekiln_words::Result;
use serde_json::Value;

use super::answers::{json, list, parts, string, text};
use super::{Applies, Ask, Context, Judge, Rule, Severity, Software, Verdict};
use crate::Tier;
use crate::api_server::api_script;
use crate::expect::name_of;
use crate::guest::Output;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "bootstrap-sentinel",
        title: "The bootstrap came to its end",
        tier: Tier::Kubeadm,
        severity: Severity::Fatal,
        reads: &["/run/cluster-api/bootstrap-success.complete", "/var/log/cloud-init-output.log"],
        why: "Cluster API takes a node for bootstrapped when this file is there",
        remedy: "the report has the last error of kubeadm; `guest/journal-kubelet.log` has the rest",
        source: "Cluster API's bootstrap provider contract",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Script(
                "cat /run/cluster-api/bootstrap-success.complete 2>/dev/null; printf '\\n--\\n'; \
             grep --no-group-separator -E -A 12 'error execution phase|\\[ERROR |timed out|panic:' /var/log/cloud-init-output.log | tail -n 30; true",
            ),
            sentinel,
        ),
    },
    Rule {
        id: "kubeadm-preflight",
        title: "kubeadm warns of nothing",
        tier: Tier::Kubeadm,
        severity: Severity::Advisory,
        reads: &["/var/log/cloud-init-output.log"],
        why: "kubeadm's own warnings about this node",
        remedy: "mend what kubeadm's line names",
        source: "kubeadm init, preflight",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Told(
                "grep -E '\\[(WARNING|ERROR) ' /var/log/cloud-init-output.log; test $? -le 1",
            ),
            preflight,
        ),
    },
    Rule {
        id: "node-ready",
        title: "The node is Ready",
        tier: Tier::Kubeadm,
        severity: Severity::Fatal,
        reads: &["GET /api/v1/nodes"],
        why: "a node that is not Ready takes no work",
        remedy: "`guest/journal-kubelet.log` says what the kubelet waits for; mostly it is the network plugin",
        source: "GET /api/v1/nodes",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Standing(api_script!("print(get('/api/v1/nodes'))")),
            node_ready,
        ),
    },
    Rule {
        id: "kubeadm-images",
        title: "The store has every image that kubeadm lists",
        tier: Tier::Kubeadm,
        severity: Severity::Fatal,
        reads: &["kubeadm config images list", "ctr images list"],
        why: "what kubeadm lists and the store lacks would have to be pulled",
        remedy: "preload the images of this kubeadm's own list",
        source: "kubeadm config images list against containerd's store",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Told(
                "kubeadm config images list --config /run/kubeadm/kubeadm.yaml && echo -- && \
             ctr --namespace k8s.io images list",
            ),
            kubeadm_images,
        ),
    },
    Rule {
        id: "cgroup-driver",
        title: "Pods have the kubelet's own cgroups",
        tier: Tier::Kubeadm,
        severity: Severity::Fatal,
        reads: &["/sys/fs/cgroup"],
        why: "kubelet on systemd and containerd on cgroupfs start and silently put all pods into one flat folder",
        remedy: "give containerd (`SystemdCgroup`) and the kubelet (`cgroupDriver`) the same driver",
        source: "directory names below /sys/fs/cgroup",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        // Containers come and go while it looks, so a folder that is gone is no error.
        judge: Judge::Machine(
            Ask::Standing(
                "find /sys/fs/cgroup -ignore_readdir_race -type d \\( -name '*:cri-containerd:*' \
             -o -name 'cri-containerd-*.scope' -o -path '*/kubepods/*' \\)",
            ),
            cgroup_driver,
        ),
    },
    Rule {
        id: "service-network",
        title: "The API server answers at its service address",
        tier: Tier::Kubeadm,
        severity: Severity::Fatal,
        reads: &["GET /version at 10.96.0.1"],
        why: "pods reach the API server through a service address that kube-proxy makes",
        remedy: "look whether kube-proxy runs, and whether its mode has its kernel modules",
        source: "GET /version at the service address of kubernetes.default",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(Ask::Cluster(SERVICE_QUERY), service_network),
    },
    Rule {
        id: "cluster-dns",
        title: "Cluster DNS answers",
        tier: Tier::Kubeadm,
        severity: Severity::Fatal,
        reads: &["a query to 10.96.0.10"],
        why: "programs find services by name",
        remedy: "preload the CoreDNS image that kubeadm lists",
        source: "a DNS query for kubernetes.default at the service address of kube-dns",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(Ask::Cluster(DNS_QUERY), cluster_dns),
    },
];

/// Asks the API server at its service address, whose certificate has to name it, for up to a minute: kube-proxy makes the
/// way some seconds after its pod runs.
const SERVICE_QUERY: &str = api_script!(
    r#"
for attempt in range(12):
    try:
        wire = secure("10.96.0.1", 443, 30)
        wire.request("GET", "/version")
        said = wire.getresponse().read().decode("utf-8", "replace")
        break
    except (OSError, http.client.HTTPException) as error:
        said = str(error) or repr(error)
        time.sleep(5)
print(said)
"#
);

/// Sends a query (RFC 1035) and prints the number of answers, or what went wrong. It tries again a
/// few times: kube-proxy opens the way to a server some seconds after that is ready.
const DNS_QUERY: &str = r#"python3 - <<'EOF'
import socket, struct, time
name = b"".join(bytes([len(part)]) + part for part in b"kubernetes.default.svc.cluster.local".split(b"."))
query = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + name + b"\0" + struct.pack(">HH", 1, 1)
wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
wire.settimeout(10)
wire.connect(("10.96.0.10", 53))
for attempt in range(5):
    try:
        wire.send(query)
        print("answers", struct.unpack(">H", wire.recv(512)[6:8])[0])
        break
    except OSError as error:
        said = error
        time.sleep(2)
else:
    print("no answer:", said)
EOF"#;

fn sentinel(answer: &Output, context: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let [sentinel, errors] = parts(&text)?;
    if sentinel.trim() == "success" {
        return Ok(Verdict::Pass(
            "/run/cluster-api/bootstrap-success.complete says success".into(),
        ));
    }
    let errors: Vec<&str> = errors.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    if errors.is_empty() && context.told.host.is_some() {
        return Ok(Verdict::NotProven(
            "there is no sentinel: only Cluster API's bootstrap leaves one, until the next restart"
                .into(),
        ));
    }
    let cause =
        if errors.is_empty() { "its output names no cause".into() } else { errors.join(" | ") };
    Ok(Verdict::Fail(format!("kubeadm init did not succeed: {cause}")))
}

fn preflight(answer: &Output, _: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let lines: Vec<String> = text.lines().map(|line| line.trim().to_owned()).collect();
    Ok(Verdict::of(&lines, "no warnings"))
}

fn node_ready(answer: &Output, context: &Context) -> Result<Verdict> {
    let nodes = json(answer)?;
    // A host's cluster may have others besides.
    let own = |node: &&Value| {
        context.told.host.is_none() || string(node, "/metadata/name") == context.told.node
    };
    let own: Vec<&Value> = list(&nodes, "/items").iter().filter(own).collect();
    let [node] = own[..] else {
        return Ok(Verdict::Fail(format!("{} nodes instead of one", own.len())));
    };
    let ready = list(node, "/status/conditions").iter().find(|one| string(one, "/type") == "Ready");
    let state = ready.map_or("", |condition| string(condition, "/status"));
    let (name, version) =
        (string(node, "/metadata/name"), string(node, "/status/nodeInfo/kubeletVersion"));
    let mut wrong = Vec::new();
    if state != "True" {
        let message = ready.map_or("no such condition", |condition| string(condition, "/message"));
        wrong.push(format!("Ready is `{state}`: {message}"));
    }
    if name != context.told.node {
        wrong.push(format!("the node is called `{name}`, not `{}`", context.told.node));
    }
    let runtime = string(node, "/status/nodeInfo/containerRuntimeVersion");
    Ok(Verdict::of(&wrong, format!("{name} is Ready, kubelet {version}, {runtime}")))
}

fn kubeadm_images(answer: &Output, context: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let [wanted, table] = parts(&text)?;
    let store = super::runtime::store(&table);
    let (mut wrong, mut known, mut there) = (Vec::new(), Vec::new(), 0);
    for reference in wanted.lines().map(str::trim).filter(|line| !line.is_empty()) {
        match context.expect.unavailable(name_of(reference)) {
            _ if store.contains_key(reference) => there += 1,
            Some(reason) => known.push(format!("{reference} is known to be missing: {reason}")),
            None => wrong.push(format!("{reference} is not in the store")),
        }
    }
    if there == 0 {
        wrong.push("kubeadm lists no image that the store has".into());
    }
    Ok(if wrong.is_empty() && !known.is_empty() {
        Verdict::Warn(known.join("; "))
    } else {
        Verdict::of(&wrong, format!("all {there} are in the store"))
    })
}

fn cgroup_driver(answer: &Output, _: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let flat = |path: &&str| path.contains(":cri-containerd:");
    let mut wrong: Vec<String> =
        text.lines().filter(flat).take(3).map(|path| format!("flat cgroup {path}")).collect();
    let containers = text.lines().filter(|path| nested(path)).count();
    if containers == 0 && wrong.is_empty() {
        wrong.push("no container has a cgroup, although a control plane runs".into());
    }
    Ok(Verdict::of(&wrong, format!("{containers} containers below kubepods, no flat cgroups")))
}

/// Whether `path` is a container's cgroup where it belongs: as a scope in one of the kubelet's slices
/// (systemd), or a folder below its pod's that is called by the container's id (cgroupfs).
fn nested(path: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let id = name.len() == 64 && name.bytes().all(|byte| byte.is_ascii_hexdigit());
    let scope = name.starts_with("cri-containerd-") && name.ends_with(".scope");
    (scope && path.contains("/kubepods.slice/")) || (id && path.contains("/kubepods/"))
}

fn service_network(answer: &Output, _: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let wrong = if text.contains("\"gitVersion\"") {
        vec![]
    } else {
        vec![format!("10.96.0.1:443 answers `{}`", text.lines().next().unwrap_or_default())]
    };
    Ok(Verdict::of(&wrong, "the API server answers at 10.96.0.1"))
}

fn cluster_dns(answer: &Output, context: &Context) -> Result<Verdict> {
    if let Some(reason) = context.expect.unavailable("coredns") {
        let text = format!("cluster DNS is not proven: CoreDNS is not in the image ({reason})");
        return Ok(Verdict::NotProven(text));
    }
    let text = text(answer)?;
    let count = text.strip_prefix("answers ").and_then(|count| count.parse().ok()).unwrap_or(0);
    let wrong = if count > 0 {
        vec![]
    } else {
        vec![format!("kubernetes.default does not resolve: {text}")]
    };
    Ok(Verdict::of(&wrong, "kubernetes.default resolves"))
}

#[cfg(test)]
pub(super) use mutations::ANSWERS;

#[cfg(test)]
mod mutations {
    use crate::checks::corpus::{Answer, Mutation};

    const NODE: &str = r#"{"apiVersion": "v1", "items": [{"kind": "Node", "metadata": {"name": "node-1"}, "status": {
        "nodeInfo": {"containerRuntimeVersion": "containerd://1.6.20~ds1", "kubeletVersion": "v1.20.2"},
        "conditions": [{"type": "MemoryPressure", "status": "False"},
            {"type": "Ready", "status": "True", "message": "kubelet is posting ready status"}]}}], "kind": "List"}
"#;

    const LISTED: &str = "\
k8s.gcr.io/kube-apiserver:v1.20.2
k8s.gcr.io/pause:3.2
--
REF TYPE DIGEST SIZE PLATFORMS LABELS
k8s.gcr.io/kube-apiserver:v1.20.2 application/vnd.oci.image.manifest.v1+json sha256:22 31.0 MiB linux/amd64 -
k8s.gcr.io/pause:3.2 application/vnd.oci.image.manifest.v1+json sha256:66 750.7 KiB linux/amd64 -
";

    pub(in crate::checks) const ANSWERS: &[Answer] = &[
        Answer::new(
            "bootstrap-sentinel",
            "success\n\n--\n",
            &[
                Mutation::new("preflight refused", "[ERROR Swap]", |guest| {
                    guest.print(
                        "\n--\nerror execution phase preflight: [preflight] Some fatal errors occurred:\n\
                         \t[ERROR Swap]: running with swap on is not supported\n",
                    );
                })
                .incident("swap on"),
                Mutation::new("no word of a cause", "names no cause", |guest| guest.print("\n--\n")),
            ],
        ),
        Answer::new(
            "kubeadm-preflight",
            "",
            &[Mutation::new("nobody knows the host's name", "[WARNING Hostname]", |guest| {
                guest.print("\t[WARNING Hostname]: hostname \"node-1\" could not be reached\n");
            })],
        ),
        Answer::new(
            "node-ready",
            NODE,
            &[
                Mutation::new("no network plugin", "cni plugin not initialized", |guest| {
                    guest.replace("\"status\": \"True\"", "\"status\": \"False\"");
                    guest.replace("kubelet is posting ready status", "cni plugin not initialized");
                }),
                Mutation::new("the kubelet registered another name", "called `localhost`", |guest| {
                    guest.replace("node-1", "localhost");
                }),
                Mutation::new("no node", "0 nodes", |guest| guest.print("{\"items\": []}")),
            ],
        ),
        Answer::new(
            "kubeadm-images",
            LISTED,
            &[
                Mutation::new("one is missing", "k8s.gcr.io/pause:3.2 is not in the store", |guest| {
                    guest.replace("k8s.gcr.io/pause:3.2 app", "k8s.gcr.io/pause:3.5 app");
                })
                .incident("sandbox image not preloaded"),
                Mutation::new("kubeadm lists none", "no image", |guest| guest.print("\n--\nREF\n")),
            ],
        ),
        Answer::new(
            "cgroup-driver",
            "/sys/fs/cgroup/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-pod1.slice/cri-containerd-6666666666666666666666666666666666666666666666666666666666666666.scope\n",
            &[
                Mutation::new("containerd on cgroupfs beside a kubelet on systemd", "flat cgroup", |guest| {
                    guest.prints.push_str("/sys/fs/cgroup/system.slice:cri-containerd:77\n");
                }),
                Mutation::new("no container", "no container has a cgroup", |guest| guest.print("")),
                Mutation::new("pods without a container", "no container has a cgroup", |guest| {
                    guest.print(
                        "/sys/fs/cgroup/kubepods/burstable\n/sys/fs/cgroup/kubepods/burstable/pod1\n",
                    );
                }),
            ],
        ),
        Answer::new(
            "service-network",
            "{\n  \"major\": \"1\",\n  \"minor\": \"20\",\n  \"gitVersion\": \"v1.20.2\"\n}\n",
            &[Mutation::new("kube-proxy makes no way", "Connection refused", |guest| {
                guest.print("[Errno 111] Connection refused\n");
            })],
        ),
        Answer::new(
            "cluster-dns",
            "answers 1\n",
            &[
                Mutation::new("the name is not known", "does not resolve: answers 0", |guest| {
                    guest.print("answers 0\n");
                }),
                Mutation::new("no server behind the address", "timed out", |guest| {
                    guest.print("no answer: timed out\n");
                })
                .incident("cluster DNS broken, smoke test green"),
            ],
        ),
    ];
}

#[cfg(test)]
mod tests {
    use super::super::testing::{judge, passes};
    use super::*;
    use crate::expect::Expectations;

    #[test]
    fn an_image_that_is_known_to_be_missing_is_a_warning() {
        let answer = "r/pause:1\nr/coredns:1\n--\nREF TYPE DIGEST\nr/pause:1 t sha256:00 1 B x y\n";
        let mut expect = Expectations::default();
        expect.unavailable_images.insert("r/coredns:1".into(), "no source".into());
        let verdict = judge("kubeadm-images", answer, &expect);
        assert!(matches!(verdict, Verdict::Warn(seen) if seen.contains("no source")));
    }

    #[test]
    fn containers_may_be_below_the_kubelets_folder_of_either_driver() {
        let cgroupfs = format!("/sys/fs/cgroup/kubepods/burstable/pod1/{}\n", "6".repeat(64));
        assert!(passes(&judge("cgroup-driver", &cgroupfs, &Expectations::default())));
    }

    #[test]
    fn without_a_cluster_cgroups_are_not_asked_for() {
        let rule = RULES.iter().find(|rule| rule.id == "cgroup-driver").unwrap();
        assert!(
            matches!(crate::checks::ask(rule), Ask::Standing(script) if script.contains("readdir_race"))
        );
    }

    #[test]
    fn dns_whose_server_is_known_to_be_missing_is_not_proven() {
        let mut expect = Expectations::default();
        expect.unavailable_images.insert("r/coredns:1".into(), "not in Debian".into());
        let verdict = judge("cluster-dns", "no answer: timed out\n", &expect);
        assert!(matches!(verdict, Verdict::NotProven(seen) if seen.contains("not in Debian")));
    }
}
