//! Asks the rules one after the other, and fetches the guest's logs when something is wrong.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use nodekiln_goss::guest as goss;
use nodekiln_words::{Class, Result, ResultExt as _};

use crate::boot_times::{self, BootTimes};
use crate::checks::{self, Ask, Asked, Context, rules_of};
use crate::evidence;
use crate::guest::{Guest, Life as _, Output};
use crate::own_rules;
use crate::report::{Excerpt, Judged, Outcome};
use crate::rules::{Rule, Verdict};
use crate::run::Running;
use crate::{Request, Tier};

/// How much longer than a short command a second node, or the end of a cluster, may take.
const LATE: u32 = 20;

/// Whether a rule's outcome calls for a look at the guest's logs.
pub(super) fn fine(rule: &Judged) -> bool {
    !matches!(rule.outcome, Outcome::Unasked(_) | Outcome::Judged(Verdict::Fail(_)))
}

/// What a guest answered and when it was asked, by what it was asked.
#[derive(Default)]
pub(super) struct Answers(BTreeMap<&'static str, (Output, Asked)>);

impl Answers {
    /// Asks what does not change any more while a cluster comes up. What cannot be asked now is asked again
    /// with the rest.
    pub(super) fn fetch(&mut self, guest: &Guest, running: &Running, tier: Tier) -> Result<()> {
        for rule in rules_of(tier) {
            if let Ask::Script(script) | Ask::Told(script) = checks::ask(rule) {
                match self.ask(script, guest, running) {
                    Err(failure) if failure.class() == Class::Interrupted => return Err(failure),
                    _ => {}
                }
            }
        }
        Ok(())
    }

    /// Two rules that ask the same get the same answer; programs start slowly under emulation.
    pub(super) fn ask(
        &mut self,
        script: &'static str,
        guest: &Guest,
        running: &Running,
    ) -> Result<Output> {
        self.ask_at(script, guest, running).map(|(answer, _)| answer)
    }

    /// The same, with the time at which the guest was asked.
    fn ask_at(
        &mut self,
        script: &'static str,
        guest: &Guest,
        running: &Running,
    ) -> Result<(Output, Asked)> {
        if let Some(known) = self.0.get(script) {
            return Ok(known.clone());
        }
        let before = SystemTime::now();
        let output = guest.run(&["sh", "-c", script], running.deadlines().command())?;
        let answer = (output, Asked { before, after: SystemTime::now() });
        self.0.insert(script, answer.clone());
        Ok(answer)
    }
}

/// Asks every rule of the tier that `answers` does not have. When the guest dies meanwhile, the rest counts as not
/// asked.
pub(super) fn ask_all(
    guest: &Guest,
    context: &Context,
    running: &Running,
    cluster: bool,
    answers: &mut Answers,
) -> Result<Vec<Judged>> {
    let mut judged = Vec::new();
    for rule in rules_of(context.tier) {
        if !cluster
            && matches!(
                checks::ask(rule),
                Ask::Cluster(_) | Ask::Standing(_) | Ask::Joined(_) | Ask::End(_)
            )
        {
            let reason = "kubeadm init did not succeed: see bootstrap-sentinel";
            judged.push(Judged::new(rule, Outcome::Judged(Verdict::Skipped(reason.into()))));
            continue;
        }
        if matches!(checks::ask(rule), Ask::Joined(_) | Ask::End(_)) {
            let reason = "the machine did not live to the end of the rules: see the cause";
            judged.push(Judged::new(rule, Outcome::Judged(Verdict::Skipped(reason.into()))));
            continue;
        }
        let answer = match checks::ask(rule) {
            Ask::Nothing | Ask::Again | Ask::Joined(_) | Ask::End(_) => {
                Ok((Output::default(), None))
            }
            Ask::LoginMethods => login_methods(guest, running).map(|answer| (answer, None)),
            Ask::Script(script)
            | Ask::Last(script)
            | Ask::Told(script)
            | Ask::Cluster(script)
            | Ask::Standing(script) => {
                answers.ask_at(script, guest, running).map(|(answer, asked)| (answer, Some(asked)))
            }
        };
        let judge = |(answer, asked): (Output, Option<Asked>)| {
            checks::verdict(rule, &answer, &Context { asked, ..*context })
        };
        let asked = answer.as_ref().ok().and_then(|(_, asked)| *asked);
        let outcome = match answer.and_then(judge) {
            Ok(verdict) => Outcome::Judged(verdict),
            Err(failure) if failure.class() == Class::Interrupted => return Err(failure),
            Err(failure) => Outcome::Unasked(failure.chain().join(": ")),
        };
        judged.push(Judged { took: asked.map(Asked::seconds), ..Judged::new(rule, outcome) });
    }
    Ok(judged)
}

/// What came of the questions that are asked after the others, by rule: answers and when they were asked for, or why
/// there are none.
pub(super) type Late = Vec<(&'static Rule, std::result::Result<(Output, Asked), Outcome>)>;

/// Asks what ends the cluster of the machine that it calls `node`: nothing can be asked of it afterwards.
pub(super) fn ends(guest: &Guest, running: &Running, tier: Tier, node: &str) -> Result<Late> {
    late(guest, running, tier, &["end", node], |ask| match ask {
        Ask::End(script) => Some(script),
        _ => None,
    })
}

/// Asks about the node that has joined the guest's cluster.
pub(super) fn joined(guest: &Guest, running: &Running, tier: Tier, node: &str) -> Result<Late> {
    late(guest, running, tier, &["joined", node], |ask| match ask {
        Ask::Joined(script) => Some(script),
        _ => None,
    })
}

fn late(
    guest: &Guest,
    running: &Running,
    tier: Tier,
    arguments: &[&str],
    chosen: impl Fn(Ask) -> Option<&'static str>,
) -> Result<Late> {
    let mut late = Late::new();
    for rule in rules_of(tier) {
        let Some(script) = chosen(checks::ask(rule)) else { continue };
        let argv = [&["sh", "-c", script], arguments].concat();
        let before = SystemTime::now();
        // It waits for a cluster that was powered on a moment ago, and for each pod in turn.
        let answer = match guest.run(&argv, running.deadlines().command() * LATE) {
            Err(failure) if failure.class() == Class::Interrupted => return Err(failure),
            answer => answer.map_err(|failure| Outcome::Unasked(failure.chain().join(": "))),
        };
        let asked = Asked { before, after: SystemTime::now() };
        late.push((rule, answer.map(|output| (output, asked))));
    }
    Ok(late)
}

/// `outcome` for each rule on a second node.
pub(super) fn unjoined(tier: Tier, outcome: &Outcome) -> Late {
    let rules = rules_of(tier).filter(|rule| matches!(checks::ask(rule), Ask::Joined(_)));
    rules.map(|rule| (rule, Err(outcome.clone()))).collect()
}

/// Whether none of the answers that came late turns its rule red.
pub(super) fn sound(late: &Late, context: &Context) -> bool {
    late.iter().all(|(rule, answer)| match answer {
        Ok((answer, _)) => {
            !matches!(checks::verdict(rule, answer, context), Err(_) | Ok(Verdict::Fail(_)))
        }
        Err(outcome) => !matches!(outcome, Outcome::Unasked(_) | Outcome::Judged(Verdict::Fail(_))),
    })
}

/// Judges the rules of the questions that were asked after the others.
pub(super) fn judge_late(rules: &mut [Judged], late: &Late, context: &Context) {
    for (rule, answer) in late {
        let (outcome, took) = match answer {
            Err(outcome) => (outcome.clone(), None),
            Ok((answer, asked)) => {
                (unasked_or_judged(checks::verdict(rule, answer, context)), Some(asked.seconds()))
            }
        };
        for judged in rules.iter_mut().filter(|judged| judged.rule.id == rule.id) {
            (judged.outcome, judged.took) = (outcome.clone(), took);
        }
    }
}

/// Asks what the user's own rules want to know, after nodekiln's: their commands may do anything.
pub(super) fn ask_own(
    guest: &Guest,
    request: &Request,
    running: &Running,
    cluster: bool,
) -> Result<Vec<Judged>> {
    let deadlines = running.deadlines();
    let mut run = |ask: &goss::Ask| answer(guest, ask, deadlines.command());
    own_rules::judge_in_guest(&request.own, request.tier, cluster, deadlines, &mut run)
}

/// Ends a command in the guest by itself after the seconds of `$1`, so that it does not go on beside the next.
const WITHIN: &str = "\
    limit=$1; shift\n\
    command -v timeout >/dev/null 2>&1 && exec timeout -k 10 \"$limit\" \"$@\"\n\
    exec \"$@\"";
/// What timeout(1) ends with where it ended the command; the second where that needed a SIGKILL.
const TIMED_OUT: [i32; 2] = [124, 137];

/// What comes of a question of a user's rules. A command has the time that the user gives it, a script of nodekiln's
/// own `usual` at least.
fn answer(guest: &Guest, ask: &goss::Ask, usual: Duration) -> Result<goss::Answer> {
    let limit = match ask.question {
        goss::Question::Command(_) => ask.timeout,
        _ => ask.timeout.max(usual),
    };
    let (seconds, words) = (limit.as_secs_f64().to_string(), ask.argv());
    let mut argv = vec!["sh", "-c", WITHIN, "within", &seconds];
    argv.extend(words.iter().map(String::as_str));
    let started = Instant::now();
    let Output { stdout, stderr, status } = guest.run_fed(&argv, &ask.input.0, limit + usual)?;
    if TIMED_OUT.contains(&status) && started.elapsed() >= limit {
        return Ok(goss::Answer::timed_out());
    }
    Ok(goss::Answer { status: Some(status), stdout, stderr })
}

fn login_methods(guest: &Guest, running: &Running) -> Result<Output> {
    let methods = guest.offered_methods(running.deadlines().command())?;
    Ok(Output { stdout: methods.into_bytes(), ..Output::default() })
}

/// Judges the rules that ask nothing once more, now that the guest has said its last word: the console
/// may tell of a panic on the way down.
pub(super) fn judge_again(rules: &mut [Judged], context: &Context) {
    for rule in rules_of(context.tier).filter(|rule| matches!(checks::ask(rule), Ask::Nothing)) {
        let outcome = unasked_or_judged(checks::verdict(rule, &Output::default(), context));
        for judged in rules.iter_mut().filter(|judged| judged.rule.id == rule.id) {
            judged.outcome = outcome.clone();
        }
    }
}

/// What comes of a rule that asks nothing.
fn unasked_or_judged(verdict: Result<Verdict>) -> Outcome {
    match verdict {
        Ok(verdict) => Outcome::Judged(verdict),
        Err(failure) => Outcome::Unasked(failure.chain().join(": ")),
    }
}

/// Why a rule on a running guest is not judged where nobody could log in to it.
pub(super) const UNREACHABLE: &str = "the guest could not be asked: see the cause";
/// The same where it was not booted.
pub(super) const NOT_BOOTED: &str = "not booted";

/// The outcomes for a guest that nobody could log in to: only what needs no guest is judged.
pub(super) fn unreachable(context: &Context) -> Vec<Judged> {
    let outcome = |rule: &Rule| match checks::ask(rule) {
        Ask::Nothing => unasked_or_judged(checks::verdict(rule, &Output::default(), context)),
        _ => Outcome::Judged(Verdict::Skipped(UNREACHABLE.into())),
    };
    rules_of(context.tier).map(|rule| Judged::new(rule, outcome(rule))).collect()
}

/// The outcomes for an image that was not booted, for what was found before.
pub(super) fn not_booted(tier: Tier) -> Vec<Judged> {
    let skipped = || Outcome::Judged(Verdict::Skipped(NOT_BOOTED.into()));
    rules_of(tier).map(|rule| Judged::new(rule, skipped())).collect()
}

/// Asks where the seconds of the boot went.
pub(super) fn boot_times(guest: &Guest, running: &Running) -> Result<BootTimes> {
    let script = ["sh", "-c", boot_times::SCRIPT];
    let answer = guest.run(&script, running.deadlines().command())?;
    BootTimes::read(&checks::answers::text(&answer)?)
}

/// Logs worth having when something failed: name, command, lines shown in the report.
pub(crate) const LOGS: [(&str, &str, usize); 6] = [
    ("cloud-init-output", "cat /var/log/cloud-init-output.log", 15),
    ("cloud-init", "cat /var/log/cloud-init.log", 0),
    ("journal-kubelet", "journalctl -b -u kubelet -o short-monotonic --no-pager -n 2000", 10),
    ("journal-containerd", "journalctl -b -u containerd -o short-monotonic --no-pager -n 2000", 8),
    ("journal", "journalctl -b -o short-monotonic --no-pager", 0),
    (
        "pods",
        "for log in /var/log/pods/*/*/*.log; do echo \"== $log\"; tail -n 50 \"$log\"; done 2>/dev/null",
        0,
    ),
];

/// Saves the guest's logs in `out/guest` and returns the ends of those that tell most.
pub(super) fn fetch_logs(guest: &Guest, out: &Path, running: &Running) -> Result<Vec<Excerpt>> {
    let power_on = running.which();
    let folder = out.join(power_on.file(evidence::GUEST));
    fs_err::create_dir_all(&folder).or_io(|| "make a folder for the guest's logs".into())?;
    let mut excerpts = Vec::new();
    for (name, script, shown) in LOGS {
        if running.check().is_err() {
            break;
        }
        // A log that cannot be had must not hide the failure that made us look for it.
        let Ok(output) = guest.run(&["sh", "-c", script], running.deadlines().command()) else {
            continue;
        };
        let file = Path::new(&power_on.file(evidence::GUEST)).join(format!("{name}.log"));
        fs_err::write(out.join(&file), &output.stdout)
            .or_io(|| format!("keep the guest's log {name}"))?;
        let text = output.text();
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let lines = lines[lines.len().saturating_sub(shown)..].to_vec();
        if !lines.is_empty() {
            let what = format!("{}{name}", power_on.whose());
            excerpts.push(Excerpt { what, lines, file });
        }
    }
    Ok(excerpts)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::console::Scanner;
    use crate::expect::Expectations;

    #[test]
    fn a_panic_on_the_way_down_turns_the_console_rule() {
        let (expect, mut scanner) = (Expectations::default(), Scanner::default());
        let context = |console| Context {
            expect: &expect,
            claimed: true,
            tier: Tier::Boot,
            told: checks::testing::told(),
            observed: None,
            console,
            traffic: None,
            asked: None,
            conformance: None,
        };
        let mut rules = unreachable(&context(&[]));
        let console = |rules: &[Judged]| {
            rules.iter().find(|judged| judged.rule.id == "console").unwrap().outcome.clone()
        };
        assert!(matches!(console(&rules), Outcome::Judged(Verdict::Pass(_))));
        scanner.push(b"Kernel panic - not syncing: on the way down\n");
        judge_again(&mut rules, &context(scanner.findings()));
        assert!(matches!(console(&rules), Outcome::Judged(Verdict::Fail(_))));
    }
}
