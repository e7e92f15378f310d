//! Rules on the cluster that the bootstrap made.

use nodekiln_words::Result;
use serde_json::Value;

use super::answers::{json, list, parts, string, text};
use super::{Applies, Ask, Context, Judge, Question, Rule, Severity, Software, Verdict};
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
        judge: Judge::Machine(Ask::Cluster(Question::cluster(SERVICE)), service_network),
    },
    Rule {
        id: "cluster-dns",
        title: "Cluster DNS answers",
        tier: Tier::Kubeadm,
        severity: Severity::Fatal,
        reads: &["a query for kubernetes.default to 10.96.0.10"],
        why: "programs find services by name",
        remedy: "preload the CoreDNS image that kubeadm lists",
        source: "a DNS query for kubernetes.default at the service address of kube-dns",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(Ask::Cluster(Question::dns(DNS)), cluster_dns),
    },
];

/// Asks the API server at its service address, whose certificate has to name it, for up to 20 seconds of hardware's:
/// kube-proxy makes the way some seconds after its pod runs.
const SERVICE: &str = r#"
def question():
    end = time.monotonic() + within(20)
    while True:
        try:
            wire = secure("10.96.0.1", 443, 5)
            wire.request("GET", "/version")
            return wire.getresponse().read().decode("utf-8", "replace")
        except (OSError, http.client.HTTPException) as error:
            said = str(error) or repr(error)
        if time.monotonic() > end:
            return said
        time.sleep(0.5)
"#;

/// Asks cluster DNS for the API server's name (RFC 1035), for up to 20 seconds of hardware's: kube-proxy opens the way to
/// a server some seconds after that is ready. What it says are the code of the response and the addresses in it.
const DNS: &str = r#"
import socket


def skip(message, at):
    """The place behind the name at `at`: labels, or a pointer to some (RFC 1035, 4.1.4)."""
    while message[at]:
        if message[at] >= 0xC0:
            return at + 2
        at += 1 + message[at]
    return at + 1


def addresses(message):
    """Those of the A records in the answer."""
    asked, answers = struct.unpack(">HH", message[4:8])
    at, found = 12, []
    for _ in range(asked):
        at = skip(message, at) + 4
    for _ in range(answers):
        at = skip(message, at)
        kind, _, _, size = struct.unpack(">HHIH", message[at:at + 10])
        if kind == 1:
            found.append(socket.inet_ntoa(message[at + 10:at + 14]))
        at += 10 + size
    return found


def question():
    labels = b"kubernetes.default.svc.cluster.local".split(b".")
    name = b"".join(bytes([len(label)]) + label for label in labels) + b"\0"
    query = struct.pack(">HHHHHH", 7, 0x100, 1, 0, 0, 0) + name + struct.pack(">HH", 1, 1)
    wire = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    wire.settimeout(5)
    wire.connect(("10.96.0.10", 53))
    end = time.monotonic() + within(20)
    while True:
        try:
            wire.send(query)
            message = wire.recv(512)
            return " ".join(["response code %d:" % (message[3] & 15)] + addresses(message))
        except OSError as error:
            said = "no answer: %s" % error
        if time.monotonic() > end:
            return said
        time.sleep(0.5)
"#;

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
    context.named()?;
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

fn cluster_dns(answer: &Output, _: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let wrong = match text.strip_prefix("response code 0:") {
        Some(addresses) if addresses.split_whitespace().eq(["10.96.0.1"]) => vec![],
        Some(addresses) => {
            let addresses = addresses.trim();
            let found = if addresses.is_empty() { "no address" } else { addresses };
            vec![format!("kubernetes.default is {found} instead of 10.96.0.1")]
        }
        None => vec![format!("kubernetes.default does not resolve: {text}")],
    };
    Ok(Verdict::of(&wrong, "kubernetes.default is 10.96.0.1"))
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
            "response code 0: 10.96.0.1\n",
            &[
                Mutation::new("the name is not known", "does not resolve: response code 3", |guest| {
                    guest.print("response code 3:\n");
                }),
                Mutation::new("another address", "is 127.0.0.1 instead of", |guest| {
                    guest.replace("10.96.0.1", "127.0.0.1");
                }),
                Mutation::new("a name without an address", "is no address", |guest| {
                    guest.replace(" 10.96.0.1", "");
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
}
