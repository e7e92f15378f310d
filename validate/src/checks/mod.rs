//! The rules on a running guest: records that say what is asked of it and how the answer is judged. Those
//! on the image's file are in [`crate::at_rest`].
//!
//! A rule's judgement is a pure function of the guest's answer and the image's claims, so that each
//! is tested on recorded answers that pass and on mutated ones that fail. Not being able to ask is
//! an error of the run and never a verdict.

mod access;
mod answers;
mod cloud_init;
mod cluster;
mod cluster_pods;
mod identity;
mod kernel;
mod provisioning;
mod runtime;
mod system;

pub(crate) use cluster_pods::{COMPONENTS, trouble};
use nodekiln_words::Result;
use serde::{Deserialize, Serialize};

use crate::Tier;
use crate::console::Finding;
use crate::expect::Expectations;
use crate::guest::Output;
use crate::metadata::Observed;
use crate::provisioning::Told;

/// How much a rule's "no" weighs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// The image fails.
    Fatal,
    /// The image passes, with a warning.
    Advisory,
}

/// What a rule says, with what was seen or why.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "verdict", content = "seen")]
pub enum Verdict {
    /// As it should be.
    Pass(String),
    /// Acceptable, yet worth telling.
    Warn(String),
    /// Not as it should be.
    Fail(String),
    /// Could not be shown with this image; the reason is known and accepted.
    NotProven(String),
    /// Not applicable to this image or this run.
    Skipped(String),
}

/// What a rule asks for.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    /// The output of this script, run as root by the guest's `/bin/sh`.
    Script(&'static str),
    /// The same, asked only where a cluster was bootstrapped.
    Cluster(&'static str),
    /// The ways of logging in that the SSH server offers, as standard output.
    LoginMethods,
    /// Nothing: judged from what the run itself has seen.
    Nothing,
}

/// What is known besides the guest's answer.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The image's claims.
    pub expect: &'a Expectations,
    /// Whether a manifest made them; without one nothing is known of what the image should hold.
    pub claimed: bool,
    /// The tier that was run.
    pub tier: Tier,
    /// What the guest's cloud told it.
    pub told: &'a Told,
    /// What the guest told its cloud's services, where it has any.
    pub observed: Option<&'a Observed>,
    /// What the console scan found.
    pub console: &'a [Finding],
}

/// One rule.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// Stable name.
    pub id: &'static str,
    /// The lowest tier that judges it.
    pub tier: Tier,
    /// How much a "no" weighs.
    pub severity: Severity,
    /// Why it matters.
    pub why: &'static str,
    /// Where it comes from.
    pub source: &'static str,
    /// What it asks.
    pub ask: Ask,
    /// How the answer is judged.
    pub judge: fn(&Output, &Context) -> Result<Verdict>,
}

/// Every rule, in the order in which they are asked and reported.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    [
        system::RULES,
        cloud_init::RULES,
        provisioning::RULES,
        identity::RULES,
        kernel::RULES,
        access::RULES,
        runtime::RULES,
        cluster::RULES,
        cluster_pods::RULES,
    ]
    .into_iter()
    .flatten()
}

/// The rules that a run of `tier` judges.
pub fn rules_of(tier: Tier) -> impl Iterator<Item = &'static Rule> {
    rules().filter(move |rule| rule.tier <= tier)
}

impl Rule {
    /// Judges `answer`; an advisory rule's "no" is a warning.
    ///
    /// # Errors
    /// When the answer is no answer to the question.
    pub fn verdict(&self, answer: &Output, context: &Context) -> Result<Verdict> {
        Ok(self.severity.weigh((self.judge)(answer, context)?))
    }
}

impl Severity {
    /// What a rule of this severity says: an advisory one's "no" is a warning.
    pub(crate) fn weigh(self, verdict: Verdict) -> Verdict {
        match (self, verdict) {
            (Self::Advisory, Verdict::Fail(seen)) => Verdict::Warn(seen),
            (_, verdict) => verdict,
        }
    }
}

impl Verdict {
    /// Pass when nothing is wrong, else fail with all of it.
    pub(crate) fn of(wrong: &[String], seen: impl Into<String>) -> Self {
        if wrong.is_empty() { Self::Pass(seen.into()) } else { Self::Fail(wrong.join("; ")) }
    }

    /// What was seen, or the reason.
    #[must_use]
    pub fn seen(&self) -> &str {
        match self {
            Self::Pass(text)
            | Self::Warn(text)
            | Self::Fail(text)
            | Self::NotProven(text)
            | Self::Skipped(text) => text,
        }
    }

    /// One word for it.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Pass(_) => "pass",
            Self::Warn(_) => "warn",
            Self::Fail(_) => "FAIL",
            Self::NotProven(_) => "not proven",
            Self::Skipped(_) => "skipped",
        }
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use nodekiln_words::Sha256;

    use super::*;
    use crate::at_rest;
    use crate::metadata::Cloud;

    /// The verdict of the rule `id` on a recorded answer.
    pub(crate) fn judge(id: &str, stdout: &str, expect: &Expectations) -> Verdict {
        judge_with(id, stdout, 0, &context(expect, Tier::Kubeadm)).unwrap()
    }

    /// What NoCloud tells a guest.
    pub(crate) fn told() -> &'static Told {
        static TOLD: std::sync::LazyLock<Told> = std::sync::LazyLock::new(|| Told {
            cloud: Cloud::NoCloud,
            data_source: "NoCloud",
            hostname: "node-1".into(),
            node: "node-1".into(),
            instance_id: "iid-1".into(),
            ssh_key: None,
            user_data: Sha256::of("#cloud-config\n"),
        });
        &TOLD
    }

    /// A context in which nothing was found and `expect` comes from a manifest.
    pub(crate) fn context(expect: &Expectations, tier: Tier) -> Context<'_> {
        Context { expect, claimed: true, tier, told: told(), observed: None, console: &[] }
    }

    pub(crate) fn judge_with(
        id: &str,
        stdout: &str,
        status: i32,
        context: &Context,
    ) -> Result<Verdict> {
        let rule = rules().find(|rule| rule.id == id).unwrap_or_else(|| panic!("no rule {id}"));
        let answer = Output { stdout: stdout.as_bytes().to_vec(), stderr: Vec::new(), status };
        (rule.judge)(&answer, context)
    }

    pub(crate) fn passes(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Pass(_))
    }

    pub(crate) fn fails(verdict: &Verdict, naming: &str) -> bool {
        matches!(verdict, Verdict::Fail(seen) if seen.contains(naming))
    }

    #[test]
    fn ids_are_unique_and_every_rule_gives_its_reason_and_source() {
        let at_rest = at_rest::rules().map(|rule| rule.id);
        let mut ids: Vec<_> = rules().map(|rule| rule.id).chain(at_rest).collect();
        ids.sort_unstable();
        let count = ids.len();
        ids.dedup();
        assert_eq!(ids.len(), count);
        assert!(rules().all(|rule| !rule.why.is_empty() && !rule.source.is_empty()));
        assert!(at_rest::rules().all(|rule| !rule.why.is_empty() && !rule.source.is_empty()));
    }
}
