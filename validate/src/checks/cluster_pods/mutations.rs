//! What a sound cluster's pods answer, and what may become of them.

use serde_json::{Value, json};

use crate::checks::corpus::{Answer, Mutation, Scene};

/// As the API server lists the pods, and `ctr images list` the images; the store has each image by its configuration too.
pub(super) const CONTROL_PLANE: &str = include_str!("../recorded/control-plane.txt");
const POD: &str = include_str!("../recorded/pod-scheduled.txt");

pub(in crate::checks) const ANSWERS: &[Answer] = &[
    Answer::new(
        "control-plane",
        CONTROL_PLANE,
        &[
            Mutation::new(
                "a name in the store stands for another image",
                "etcd runs sha256:9999",
                |guest| guest.replace("sha256:1111", "sha256:9999"),
            ),
            Mutation::new("an image that nobody claimed", "does not claim to bring", |guest| {
                guest.expect.images.remove("k8s.gcr.io/etcd:3.4.13-0");
            }),
            Mutation::new(
                "a manifest names what is not there",
                "ErrImageNeverPull: not there",
                |guest| {
                    of_pod(guest, "kube-controller-manager", |pod| {
                        pod["status"] = json!({"phase": "Pending", "containerStatuses": [{"ready": false,
                        "state": {"waiting": {"reason": "ErrImageNeverPull", "message": "not there"}}}]});
                    });
                },
            ),
            Mutation::new("kube-proxy is not deployed", "kube-proxy has no pod", |guest| {
                of_pod(guest, "kube-proxy", |pod| pod["metadata"]["labels"] = json!({}));
            }),
            Mutation::new("no pods", "etcd has no pod", |guest| guest.print("{}\n--\n")),
        ],
    ),
    Answer::new(
        "pod-scheduled",
        POD,
        &[
            Mutation::new("no node takes it", "0/1 nodes are available", |guest| {
                let condition = json!({"type": "PodScheduled", "status": "False",
                    "message": "0/1 nodes are available"});
                let pod = json!({"status": {"phase": "Pending", "conditions": [condition]}});
                guest.print(&pod.to_string());
            }),
            Mutation::new("it was never made", "no pod nodekiln-probe", |guest| guest.print("")),
        ],
    ),
    Answer::new(
        "pod-logs",
        "2026-11-01 00:04:12.402174 I | embed: ready to serve client requests\n",
        &[Mutation::new("the API server does not reach the kubelet", "refused", |guest| {
            guest.print("{\"kind\":\"Status\",\"message\":\"Get \\\"https://10.0.2.15:10250/containerLogs\\\": dial tcp: refused\"}\n");
        })],
    ),
    Answer::new(
        "pod-exec",
        "etcd Version: 3.4.23\nGit SHA: Not provided (use ./build instead of go build)\n",
        &[Mutation::new("no stream to the runtime", "container not found", |guest| {
            guest.print(
                "…/nodekiln-probe/exec is answered with 500: container not found (\"server\")\n",
            );
        })],
    ),
    Answer::new(
        "pod-network",
        "10.244.0.2\n{\"health\":\"true\"}\n",
        &[
            Mutation::new("nothing answers", "timed out", |guest| {
                guest.print("10.244.0.2\ntimed out\n");
            }),
            Mutation::new("it has no address", "http://None:2379", |guest| {
                guest.print("None\n[Errno -2] Name or service not known\n");
            }),
        ],
    ),
];

/// Changes the pod of one component.
fn of_pod(guest: &mut Scene, component: &str, change: fn(&mut Value)) {
    let (pods, store) = guest.prints.split_once("\n--\n").unwrap();
    let mut pods: Value = serde_json::from_str(pods).unwrap();
    let is = |pod: &&mut Value| {
        let labels = &pod["metadata"]["labels"];
        labels["component"] == component || labels["k8s-app"] == component
    };
    change(pods["items"].as_array_mut().unwrap().iter_mut().find(is).unwrap());
    guest.prints = format!("{pods}\n--\n{store}");
}
