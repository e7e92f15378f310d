//! Asks a host the rules that may be asked of one.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, SystemTime};

use nodekiln_words::{Class, Result, ResultExt as _};

use crate::checks::{self, Ask, Asked, Context, rules_of};
use crate::drive::LOGS;
use crate::evidence;
use crate::guest::{Guest, Output};
use crate::report::{Excerpt, Judged, Outcome};
use crate::rules::{Rule, Verdict};

/// Whether a rule's outcome calls for a look at the host's logs.
pub(super) fn calls_for_logs(rule: &Judged) -> bool {
    matches!(rule.outcome, Outcome::Unasked(_) | Outcome::Judged(Verdict::Fail(_)))
}

/// Asks every rule of the tier that may be asked. Where the host is lost meanwhile the rest counts as not asked.
pub(super) fn ask_all(guest: &Guest, context: &Context, command: Duration) -> Result<Vec<Judged>> {
    let mut asking = Asking { guest, command, answers: BTreeMap::new() };
    let mut judged = Vec::new();
    for rule in rules_of(context.tier) {
        let why = checks::excluded(rule, context).or_else(|| withheld(rule).map(str::to_owned));
        let (outcome, took) = match why {
            Some(why) => (Outcome::Judged(Verdict::Skipped(why)), None),
            None => asking.outcome(rule, context)?,
        };
        judged.push(Judged { took, ..Judged::new(rule, outcome) });
    }
    Ok(judged)
}

/// Why a host is not asked, if it is not.
fn withheld(rule: &Rule) -> Option<&'static str> {
    match checks::ask(rule) {
        Ask::Script(_) | Ask::Last(_) | Ask::Standing(_) | Ask::LoginMethods => None,
        Ask::Nothing => Some("is seen by a run that starts the machine itself"),
        Ask::Told(_) => Some("is about what a run tells its own guest, or has it do"),
        // What is not known to be harmless is not asked.
        _ => Some(
            "may change the machine, or is about what a run puts there: only a run's own guest is asked",
        ),
    }
}

struct Asking<'a> {
    guest: &'a Guest<'a>,
    command: Duration,
    answers: BTreeMap<&'static str, (Output, Asked)>,
}

impl Asking<'_> {
    /// What comes of a rule, and how many seconds its answer took.
    fn outcome(&mut self, rule: &Rule, context: &Context) -> Result<(Outcome, Option<f64>)> {
        let answer = match checks::ask(rule) {
            Ask::Script(script) | Ask::Last(script) | Ask::Standing(script) => {
                self.script(script).map(|(answer, asked)| (answer, Some(asked)))
            }
            _ => self.guest.offered_methods(self.command).map(|methods| {
                (Output { stdout: methods.into_bytes(), ..Output::default() }, None)
            }),
        };
        let judge = |(answer, asked): (Output, Option<Asked>)| {
            checks::verdict(rule, &answer, &Context { asked, ..*context })
        };
        let took = answer.as_ref().ok().and_then(|(_, asked)| *asked).map(Asked::seconds);
        match answer.and_then(judge) {
            Ok(verdict) => Ok((Outcome::Judged(verdict), took)),
            Err(failure) if failure.class() == Class::Interrupted => Err(failure),
            Err(failure) => Ok((Outcome::Unasked(failure.chain().join(": ")), took)),
        }
    }

    /// Two rules that ask the same get the same answer.
    fn script(&mut self, script: &'static str) -> Result<(Output, Asked)> {
        if let Some(known) = self.answers.get(script) {
            return Ok(known.clone());
        }
        let before = SystemTime::now();
        let output = self.guest.run(&["sh", "-c", script], self.command)?;
        let answer = (output, Asked { before, after: SystemTime::now() });
        self.answers.insert(script, answer.clone());
        Ok(answer)
    }
}

/// Saves the host's logs in `out/guest` and returns the ends of those that tell most.
pub(super) fn fetch_logs(guest: &Guest, out: &Path, command: Duration) -> Result<Vec<Excerpt>> {
    let mut excerpts = Vec::new();
    for (name, script, shown) in LOGS {
        let output = match guest.run(&["sh", "-c", script], command) {
            Err(failure) if failure.class() == Class::Interrupted => return Err(failure),
            // A log that cannot be had must not hide the failure that made us look for it.
            Err(_) => continue,
            Ok(output) if output.stdout.is_empty() => continue,
            Ok(output) => output,
        };
        let file = Path::new(evidence::GUEST).join(format!("{name}.log"));
        fs_err::create_dir_all(out.join(evidence::GUEST))
            .and_then(|()| fs_err::write(out.join(&file), &output.stdout))
            .or_io(|| format!("keep the host's log {name}"))?;
        let text = output.text();
        let lines: Vec<&str> = text.lines().collect();
        let lines = &lines[lines.len().saturating_sub(shown)..];
        if !lines.is_empty() {
            let lines = lines.iter().map(|line| (*line).to_owned()).collect();
            excerpts.push(Excerpt { what: name.into(), lines, file });
        }
    }
    Ok(excerpts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Tier;

    fn ids(of: impl Fn(&Rule) -> bool) -> Vec<&'static str> {
        rules_of(Tier::Kubeadm).filter(|rule| of(rule)).map(|rule| rule.id).collect()
    }

    #[test]
    fn what_a_run_knows_of_its_own_guest_alone_is_not_asked_of_a_host() {
        let left = ids(|rule| withheld(rule).is_some());
        for id in [
            "console",
            "azure-ready",
            "instance-id",
            "cloud-ssh-key",
            "user-data",
            "hostname",
            "kubeadm-preflight",
            "pod-scheduled",
            "pod-exec",
            "service-network",
        ] {
            assert!(left.contains(&id), "{id} is asked");
        }
    }

    #[test]
    fn what_any_machine_can_tell_is_asked() {
        let asked = ids(|rule| withheld(rule).is_none());
        for id in [
            "multi-user",
            "failed-units",
            "root-growth",
            "journal",
            "cloud-init-done",
            "cloud-detection",
            "machine-id",
            "swap",
            "modules",
            "sysctls",
            "containerd",
            "kubernetes-version",
            "images-preloaded",
            "ssh-passwords",
            "node-ready",
            "control-plane",
            "cgroup-driver",
        ] {
            assert!(asked.contains(&id), "{id} is not asked");
        }
    }

    #[test]
    fn a_question_that_a_host_is_asked_has_no_word_that_changes_anything() {
        const CHANGES: [&str; 14] = [
            "kubectl apply",
            "kubectl delete",
            "kubectl create",
            "kubectl exec",
            "kubectl run",
            "kubectl drain",
            "kubeadm reset",
            "kubeadm init",
            "systemctl stop",
            "systemctl restart",
            "systemctl start",
            "reboot",
            "kill ",
            "mount ",
        ];
        for rule in rules_of(Tier::Kubeadm).filter(|rule| withheld(rule).is_none()) {
            if let Ask::Script(script) | Ask::Last(script) | Ask::Standing(script) =
                checks::ask(rule)
            {
                for word in CHANGES {
                    assert!(!script.contains(word), "{} has `{word}`", rule.id);
                }
            }
        }
    }
}
