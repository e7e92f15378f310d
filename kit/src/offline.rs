//! Specs that cannot be judged without a network, each with the reason. They pull with the policy Always, so
//! that an image in the store does not help; what is to fail to pull fails offline for another cause.

/// A spec by a part of its text, and why it is left out.
pub(crate) struct Offline {
    /// Part of the spec's text.
    pub(crate) text: &'static str,
    /// Why.
    pub(crate) reason: &'static str,
}

/// Source: test/e2e/common/runtime.go (later test/e2e/common/node/runtime.go) and
/// test/e2e_node/runtime_conformance_test.go.
pub(crate) const OFFLINE: [Offline; 5] = [
    Offline {
        text: "should not be able to pull image from invalid registry",
        reason: "needs a network: offline every pull fails, so that it would pass without meaning",
    },
    Offline {
        text: "should not be able to pull from private registry without secret",
        reason: "needs a network: offline every pull fails, so that it would pass without meaning",
    },
    Offline {
        text: "should be able to pull from private registry with secret",
        reason: "needs a network: it pulls from a private registry of gcr.io",
    },
    Offline {
        text: "should be able to pull from private registry with credential provider",
        reason: "needs a network: it pulls from a private registry of gcr.io",
    },
    Offline {
        text: "should be able to pull image",
        reason: "needs a network: it pulls with the policy Always from a registry",
    },
];

/// Why `spec` cannot be judged offline, if it cannot.
pub(crate) fn reason(spec: &str) -> Option<&'static str> {
    OFFLINE.iter().find(|offline| spec.contains(offline.text)).map(|offline| offline.reason)
}
