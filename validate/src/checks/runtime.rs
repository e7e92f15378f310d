//! Rules on the container runtime, the Kubernetes programs and the preloaded images.

use std::collections::BTreeMap;

use nodekiln_words::Result;

use super::answers::{parts, text};
use super::{Applies, Ask, Context, Judge, Rule, Severity, Software, Verdict};
use crate::Tier;
use crate::guest::Output;

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "containerd",
        title: "containerd runs, in the claimed version",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["systemctl is-active containerd", "containerd --version"],
        why: "no container runs without it, and the kubelet speaks only to some versions",
        remedy: "enable containerd.service; lock the package's version",
        source: "the image's claims; ctr version",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Script(
                "systemctl is-active containerd.service; echo --; containerd --version; true",
            ),
            containerd,
        ),
    },
    Rule {
        id: "kubernetes-version",
        title: "kubeadm and kubelet have the claimed version",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["kubeadm version", "kubelet --version"],
        why: "kubeadm and kubelet of another version than claimed break version skew rules",
        remedy: "give `kubernetes.version` the version of the files that are installed",
        source: "the image's claims; kubeadm preflight check KubeletVersion",
        applies: Applies::ALL,
        stops_boot: false,
        judge: Judge::Machine(
            Ask::Script("kubeadm version -o short; echo --; kubelet --version; true"),
            kubernetes_version,
        ),
    },
    Rule {
        id: "images-preloaded",
        title: "containerd's store has the claimed images",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["ctr images list"],
        why: "a node without a network can only run what it brought along",
        remedy: "build the image again: its store is not the one that was written",
        source: "the image's claims; containerd's store, namespace k8s.io",
        applies: Applies::with(&[Software::Kubernetes]),
        stops_boot: false,
        judge: Judge::Machine(Ask::Script("ctr --namespace k8s.io images list"), images_preloaded),
    },
];

fn containerd(answer: &Output, context: &Context) -> Result<Verdict> {
    let claimed = context.expect.containerd.as_ref();
    if context.claimed && claimed.is_none() && context.expect.kubernetes.is_none() {
        return Ok(Verdict::Skipped("the image claims neither containerd nor Kubernetes".into()));
    }
    let text = text(answer)?;
    let [active, version] = parts(&text)?;
    let mut wrong = Vec::new();
    if active.trim() != "active" {
        wrong.push(format!("containerd.service is {}", active.trim()));
    }
    let found = version.split_whitespace().nth(2).unwrap_or("nothing");
    match claimed {
        Some(expected) if !same_version(found, expected) => {
            wrong.push(format!("containerd is {found}, not {expected}"));
        }
        None if wrong.is_empty() => {
            let text = format!("containerd {found} runs, but the image claims no version of it");
            return Ok(Verdict::NotProven(text));
        }
        _ => {}
    }
    Ok(Verdict::of(&wrong, found))
}

/// A distribution adds to upstream's version what `~`, `+` or `-` introduces: `1.6.20~ds1`.
fn same_version(found: &str, expected: &str) -> bool {
    let upstream = |version: &str| {
        let version = version.strip_prefix('v').unwrap_or(version);
        version.split(['~', '+', '-']).next().unwrap_or(version).to_owned()
    };
    upstream(found) == upstream(expected)
}

fn kubernetes_version(answer: &Output, context: &Context) -> Result<Verdict> {
    let Some(expected) = context.expect.kubernetes else {
        return Ok(Verdict::Skipped("the image claims no Kubernetes".into()));
    };
    let text = text(answer)?;
    let [kubeadm, kubelet] = parts(&text)?;
    let wrong: Vec<String> = [
        ("kubeadm", kubeadm.trim()),
        ("kubelet", kubelet.trim().trim_start_matches("Kubernetes ")),
    ]
    .iter()
    .filter(|(_, found)| *found != format!("v{expected}"))
    .map(|(name, found)| format!("{name} says `{found}`, not v{expected}"))
    .collect();
    Ok(Verdict::of(&wrong, format!("v{expected}")))
}

fn images_preloaded(answer: &Output, context: &Context) -> Result<Verdict> {
    if context.expect.images.is_empty() {
        return Ok(Verdict::Skipped("the image claims no container images".into()));
    }
    let store = store(&text(answer)?);
    let mut wrong = Vec::new();
    for (reference, expected) in &context.expect.images {
        match store.get(reference) {
            Some(found) if *found == format!("sha256:{expected}") => {}
            Some(found) => wrong.push(format!("{reference} is {found}, not sha256:{expected}")),
            None => wrong.push(format!("{reference} is not in the store")),
        }
    }
    Ok(Verdict::of(
        &wrong,
        format!(
            "{} images with the digests {}",
            context.expect.images.len(),
            if context.claimed { "claimed" } else { "that were in the image" }
        ),
    ))
}

/// Digest by reference, from the table that `ctr images list` prints.
pub(super) fn store(table: &str) -> BTreeMap<String, String> {
    let rows = table.lines().filter_map(|line| {
        let mut fields = line.split_whitespace();
        let (reference, _, digest) = (fields.next()?, fields.next()?, fields.next()?);
        digest.starts_with("sha256:").then(|| (reference.to_owned(), digest.to_owned()))
    });
    rows.collect()
}

#[cfg(test)]
pub(super) use mutations::ANSWERS;

#[cfg(test)]
mod mutations {
    use crate::checks::corpus::{Answer, Mutation};

    const STORE: &str = include_str!("recorded/images-preloaded.txt");

    pub(in crate::checks) const ANSWERS: &[Answer] = &[
        Answer::new(
            "containerd",
            "active\n--\ncontainerd github.com/containerd/containerd 1.6.20~ds1 1.6.20~ds1-1+b1\n",
            &[
                Mutation::new("it failed", "containerd.service is failed", |guest| {
                    guest.replace("active", "failed");
                }),
                Mutation::new("another version", "1.6.2~ds1, not 1.6.20", |guest| {
                    guest.replace("1.6.20", "1.6.2");
                }),
                Mutation::new("there is none", "containerd is nothing", |guest| {
                    guest.print("inactive\n--\n");
                }),
            ],
        ),
        Answer::new(
            "kubernetes-version",
            "v1.20.2\n--\nKubernetes v1.20.2\n",
            &[
                Mutation::new(
                    "a kubelet built without its version",
                    "kubelet says `v0.0.0",
                    |guest| {
                        guest.replace("Kubernetes v1.20.2", "Kubernetes v0.0.0-master+$Format:%h$");
                    },
                ),
                Mutation::new("a kubeadm of another version", "kubeadm says `v1.20.4`", |guest| {
                    guest.print("v1.20.4\n--\nKubernetes v1.20.2\n");
                }),
                Mutation::new("neither is there", "kubeadm says ``", |guest| guest.print("--\n")),
            ],
        ),
        Answer::new(
            "images-preloaded",
            STORE,
            &[
                Mutation::new(
                    "one is missing",
                    "k8s.gcr.io/pause:3.2 is not in the store",
                    |guest| {
                        guest.replace("k8s.gcr.io/pause:3.2 ", "k8s.gcr.io/pause:3.5 ");
                    },
                )
                .incident("sandbox image not preloaded"),
                Mutation::new(
                    "a name stands for another image",
                    "kube-proxy:v1.20.2 is sha256:999",
                    |guest| {
                        guest.replace("sha256:4444", "sha256:9999");
                    },
                ),
                Mutation::new("the store is empty", "etcd:3.4.13-0 is not in the store", |guest| {
                    guest.print("REF TYPE DIGEST SIZE PLATFORMS LABELS \n");
                }),
            ],
        ),
    ];
}

#[cfg(test)]
mod tests {
    use super::super::testing::{context, fails, judge, judge_with};
    use super::*;
    use crate::expect::Expectations;

    #[test]
    fn containerd_without_a_claim_is_never_passed_and_asked_only_of_a_node() {
        let kubernetes = Some("1.20.2".parse().unwrap());
        let node = Expectations { kubernetes, ..Expectations::default() };
        let (up, down) = ("active\n--\ncontainerd x 1.6.20 y\n", "inactive\n--\n");
        assert!(matches!(judge("containerd", up, &node), Verdict::NotProven(_)));
        assert!(fails(&judge("containerd", down, &node), "inactive"));
        let plain = Expectations::default();
        assert!(matches!(judge("containerd", down, &plain), Verdict::Skipped(_)));
        let unknown = Context { claimed: false, ..context(&plain, Tier::Boot) };
        assert!(fails(&judge_with("containerd", down, 0, &unknown).unwrap(), "inactive"));
        let up = judge_with("containerd", up, 0, &unknown).unwrap();
        assert!(matches!(up, Verdict::NotProven(_)));
    }
}
