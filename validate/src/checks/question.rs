//! Questions to the cluster of the run's own guest.

use super::{Context, Verdict};

/// Python that defines `question`, which says what the cluster answers.
///
/// Those that only look are asked a few at a time, those that end something after them.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    pub(crate) python: &'static str,
    pub(crate) turn: Turn,
    about: About,
}

/// When a question is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It looks, and any other may look beside it.
    Look,
    /// It ends something that the ones that look want to see. Two of them end different things.
    End,
}

/// What has to be there to be asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// What every cluster has.
    Cluster,
    /// The pods that the run puts there.
    Pods,
    /// Cluster DNS.
    Dns,
}

impl Question {
    /// One about what every cluster has.
    pub(super) const fn cluster(python: &'static str) -> Self {
        Self { python, turn: Turn::Look, about: About::Cluster }
    }

    /// One about the pods that the run has put there.
    pub(super) const fn pods(python: &'static str) -> Self {
        Self { about: About::Pods, ..Self::cluster(python) }
    }

    /// One about cluster DNS.
    pub(super) const fn dns(python: &'static str) -> Self {
        Self { about: About::Dns, ..Self::cluster(python) }
    }

    /// The same, as one that ends what it asks about.
    pub(super) const fn ending(self) -> Self {
        Self { turn: Turn::End, ..self }
    }

    /// What is said without asking, where what it is about is known not to be there: a server that nobody started keeps
    /// whoever asks it waiting.
    pub(super) fn moot(&self, context: &Context) -> Option<Verdict> {
        match self.about {
            About::Cluster => None,
            About::Pods => without_pod(context),
            About::Dns => context.expect.unavailable("coredns").map(|reason| {
                Verdict::NotProven(format!(
                    "cluster DNS is not proven: CoreDNS is not in the image ({reason})"
                ))
            }),
        }
    }
}

/// Skipped where there is no pod to judge, since the image brings nothing to run.
pub(super) fn without_pod(context: &Context) -> Option<Verdict> {
    let reason = "the image claims no etcd, and no other image for the probe pod was named";
    context.expect.pod_image().is_none().then(|| Verdict::Skipped(reason.into()))
}

#[cfg(test)]
mod tests {
    use crate::Tier;
    use crate::checks::{self, testing};
    use crate::expect::Expectations;
    use crate::guest::Output;

    use super::*;

    /// What is said of the rule `id` by an image with these claims, whatever its guest answers.
    fn said(id: &str, expect: &Expectations) -> Verdict {
        let rule = checks::rules().find(|rule| rule.id == id).unwrap();
        let context = testing::context(expect, Tier::Kubeadm);
        let settled = checks::settled(rule, &context).unwrap();
        assert_eq!(checks::verdict(rule, &Output::default(), &context).unwrap(), settled);
        settled
    }

    #[test]
    fn without_an_image_to_run_no_pod_is_asked_about() {
        let ids = [
            "pod-scheduled",
            "pod-logs",
            "pod-exec",
            "pod-network",
            "pod-to-pod",
            "port-forward",
            "host-port",
            "pod-restart",
            "pod-eviction",
        ];
        for id in ids {
            assert!(matches!(said(id, &Expectations::default()), Verdict::Skipped(_)), "{id}");
        }
    }

    #[test]
    fn dns_whose_server_is_known_to_be_missing_is_not_proven_and_not_asked() {
        let mut expect = Expectations::default();
        expect.unavailable_images.insert("r/coredns:1".into(), "not in Debian".into());
        let verdict = said("cluster-dns", &expect);
        assert!(matches!(verdict, Verdict::NotProven(seen) if seen.contains("not in Debian")));
    }

    #[test]
    fn what_the_image_brings_is_asked_about() {
        let expect = Expectations::default();
        let context = testing::context(&expect, Tier::Kubeadm);
        for id in ["service-network", "cluster-dns"] {
            let rule = checks::rules().find(|rule| rule.id == id).unwrap();
            assert!(checks::settled(rule, &context).is_none(), "{id}");
        }
    }
}
