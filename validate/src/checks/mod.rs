//! The rules on a running guest: records that say what is asked of it and how the answer is judged. Those
//! on the image's file are in [`crate::at_rest`].
//!
//! A rule's judgement is a pure function of the guest's answer and the image's claims, so that each
//! is tested on recorded answers that pass and on mutated ones that fail. Not being able to ask is
//! an error of the run and never a verdict.

mod access;
pub(crate) mod answers;
mod clock;
mod cloud_init;
mod cluster;
mod cluster_ends;
mod cluster_files;
mod cluster_join;
mod cluster_pods;
mod cluster_reset;
mod cluster_traffic;
mod conformance;
#[cfg(test)]
pub(crate) mod corpus;
mod identity;
mod kernel;
mod network;
mod portrait;
mod power_ons;
mod provisioning;
mod question;
mod runtime;
mod system;

use std::time::SystemTime;

pub(crate) use cluster_pods::{COMPONENTS, trouble};
pub(crate) use network::is_own;
use nodekiln_words::{Failure, Result};
pub(crate) use portrait::PORTRAIT;
pub use question::Question;
pub(crate) use question::Turn;

use crate::Tier;
use crate::conformance::Conformance;
use crate::console::Finding;
use crate::expect::Expectations;
use crate::guest::Output;
use crate::metadata::Observed;
use crate::power_on::PowerOn;
use crate::provisioning::Told;
use crate::rules::{Applies, Facts, Judge, Rule, Severity, Software, Verdict};
use crate::traffic::Traffic;

/// What a rule asks for.
#[derive(Clone, Copy, Debug)]
pub enum Ask {
    /// The output of this script, run as root by the guest's `/bin/sh`. It changes nothing: any host may be asked.
    Script(&'static str),
    /// The same, but not before everything else has been waited for: what runs meanwhile may still change it.
    Last(&'static str),
    /// The same, about what the run itself told its guest, or had it do: of a host nobody knows that.
    Told(&'static str),
    /// What the cluster answers, asked only where one was bootstrapped. The question may change the cluster, or be about
    /// what the run has put there, so that no host is asked.
    Cluster(Question),
    /// The same, about any cluster. It changes nothing: any host may be asked.
    Standing(&'static str),
    /// The same, asked only where a cluster was bootstrapped, and last of all before the machine goes off for good: it
    /// ends the cluster. The script's arguments are the machine's node and how patient it is.
    End(&'static str),
    /// The same, asked of a cluster that a second machine has joined, whose node is the script's first argument; the
    /// other one is how patient it is.
    Joined(&'static str),
    /// The ways of logging in that the SSH server offers, as standard output.
    LoginMethods,
    /// Nothing: judged from what the run itself has seen.
    Nothing,
    /// What it says of itself, of this machine and of one that is powered on besides.
    Again,
}

/// What two machines say of themselves, or one before and after.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// What the machine of the first power-on answered.
    pub first: &'a Output,
    /// What the machine of the other power-on answered to the same question.
    pub other: &'a Output,
    /// What the scan of the other one's console found.
    pub console: &'a [Finding],
}

/// Why a rule on the cloud's datasource is not judged.
const UNKNOWN_CLOUD: &str = "nobody knows which cloud the host is in: name its provider";

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
    /// What the guest reached for over its network, where that was written down.
    pub traffic: Option<&'a Traffic>,
    /// When the guest was asked; nothing where it was not.
    pub asked: Option<Asked>,
    /// What became of the suite's specs, where it was run.
    pub conformance: Option<&'a Conformance>,
}

/// When a question was asked, by the host's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked {
    /// The moment before it was sent.
    pub before: SystemTime,
    /// The moment after the answer had come.
    pub after: SystemTime,
}

impl Asked {
    /// Seconds between the two, to the thousandth; 0 where the host's clock was set back meanwhile.
    #[must_use]
    pub fn seconds(self) -> f64 {
        let between = self.after.duration_since(self.before).unwrap_or_default();
        (between.as_secs_f64() * 1000.0).round() / 1000.0
    }
}

/// Every rule, in the order in which they are asked and reported.
pub fn rules() -> impl Iterator<Item = &'static Rule> {
    [
        system::RULES,
        cloud_init::RULES,
        provisioning::RULES,
        identity::RULES,
        kernel::RULES,
        clock::RULES,
        network::RULES,
        access::RULES,
        runtime::RULES,
        power_ons::RULES,
        cluster::RULES,
        cluster_pods::RULES,
        cluster_traffic::RULES,
        cluster_files::RULES,
        cluster_ends::RULES,
        cluster_join::RULES,
        cluster_reset::RULES,
        conformance::RULES,
    ]
    .into_iter()
    .flatten()
}

/// The rules that a run of `tier` judges.
pub fn rules_of(tier: Tier) -> impl Iterator<Item = &'static Rule> {
    rules().filter(move |rule| tier.judges(rule.tier))
}

/// What `rule` says of a running machine's `answer`; why it is not for this machine, if it is not.
///
/// # Errors
/// When the answer is no answer to the question.
pub(crate) fn verdict(rule: &Rule, answer: &Output, context: &Context) -> Result<Verdict> {
    if let Some(settled) = settled(rule, context) {
        return Ok(settled);
    }
    match rule.judge {
        Judge::Machine(_, judge) => Ok(rule.severity.weigh(judge(answer, context)?)),
        Judge::Image(_) | Judge::Tree(_) | Judge::Pair(..) => {
            Ok(Verdict::Skipped("is no rule on one running machine".to_owned()))
        }
    }
}

/// What `rule` says of a pair of answers; nothing where it judges no pair with this power-on.
///
/// # Errors
/// When an answer is no answer to the question.
pub(crate) fn pair_verdict(
    rule: &Rule,
    other: PowerOn,
    pair: &Pair,
    context: &Context,
) -> Option<Result<Verdict>> {
    match rule.judge {
        Judge::Pair(power_on, judge) if power_on == other => {
            Some(judge(pair, context).map(|verdict| rule.severity.weigh(verdict)))
        }
        _ => None,
    }
}

/// What is said of `rule` whatever the machine answers, so that it need not be asked: the rule is not for this machine, or
/// what it is about is known not to be there.
pub(crate) fn settled(rule: &Rule, context: &Context) -> Option<Verdict> {
    if let Some(why) = excluded(rule, context) {
        return Some(Verdict::Skipped(why));
    }
    match ask(rule) {
        Ask::Cluster(question) => question.moot(context),
        _ => None,
    }
}

/// Why `rule` is not for this machine, if it is not.
pub(crate) fn excluded(rule: &Rule, context: &Context) -> Option<String> {
    rule.applies.excludes(&context.facts())
}

/// What `rule` asks of a running machine.
pub(crate) fn ask(rule: &Rule) -> Ask {
    match rule.judge {
        Judge::Machine(ask, _) => ask,
        Judge::Pair(..) => Ask::Again,
        Judge::Image(_) | Judge::Tree(_) => Ask::Nothing,
    }
}

impl Context<'_> {
    /// What decides which rules are for this machine.
    fn facts(&self) -> Facts {
        Facts {
            kubernetes: self.expect.kubernetes,
            cloud: match &self.told.host {
                None => Some(self.told.cloud),
                Some(host) => host.cloud.map(|(cloud, _)| cloud),
            },
            software: self.told.host.as_ref().map(|host| host.software.clone()),
            ..Facts::default()
        }
    }

    /// cloud-init's datasource for the machine's cloud, where that is known.
    fn data_source(&self) -> Option<&'static str> {
        match &self.told.host {
            None => Some(self.told.data_source),
            Some(host) => host.cloud.map(|(_, source)| source),
        }
    }

    /// That the machine's name in its cluster is known.
    ///
    /// # Errors
    /// When it is not: nothing can be said of a node that nobody can tell from the others.
    fn named(&self) -> Result<()> {
        if self.told.node.is_empty() {
            return Err(Failure::io("which node of its cluster the host is cannot be told")
                .with_help(
                    "see there whether `kubectl get nodes` answers by /etc/kubernetes/admin.conf",
                ));
        }
        Ok(())
    }

    /// Whether the machine is part of a cluster.
    fn clustered(&self) -> bool {
        self.tier.clusters() || self.told.host.as_ref().is_some_and(|host| host.joined)
    }
}

#[cfg(test)]
pub(crate) mod testing {
    use nodekiln_words::Sha256;

    use super::*;
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
            host: None,
        });
        &TOLD
    }

    /// A context in which nothing was found and `expect` comes from a manifest.
    pub(crate) fn context(expect: &Expectations, tier: Tier) -> Context<'_> {
        Context {
            expect,
            claimed: true,
            tier,
            told: told(),
            observed: None,
            console: &[],
            traffic: None,
            asked: None,
            conformance: None,
        }
    }

    pub(crate) fn judge_with(
        id: &str,
        stdout: &str,
        status: i32,
        context: &Context,
    ) -> Result<Verdict> {
        let rule = rules().find(|rule| rule.id == id).unwrap_or_else(|| panic!("no rule {id}"));
        let answer = Output { stdout: stdout.as_bytes().to_vec(), stderr: Vec::new(), status };
        let Judge::Machine(_, judge) = rule.judge else { panic!("{id} asks nothing") };
        judge(&answer, context) // unweighed
    }

    /// The verdict of the rule `id` on two recorded answers, unweighed.
    pub(crate) fn judge_pair(
        id: &str,
        first: &str,
        other: &str,
        console: &[Finding],
        context: &Context,
    ) -> Result<Verdict> {
        let rule = rules().find(|rule| rule.id == id).unwrap_or_else(|| panic!("no rule {id}"));
        let answer = |text: &str| Output { stdout: text.into(), ..Output::default() };
        let Judge::Pair(_, judge) = rule.judge else { panic!("{id} judges no pair") };
        let (first, other) = (answer(first), answer(other));
        judge(&Pair { first: &first, other: &other, console }, context)
    }

    pub(crate) fn passes(verdict: &Verdict) -> bool {
        matches!(verdict, Verdict::Pass(_))
    }

    pub(crate) fn fails(verdict: &Verdict, naming: &str) -> bool {
        matches!(verdict, Verdict::Fail(seen) if seen.contains(naming))
    }
}
