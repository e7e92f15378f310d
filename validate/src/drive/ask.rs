//! Asks the rules, and fetches the guest's logs when something is wrong.

mod again;
mod late;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use nodekiln_goss::guest as goss;
use nodekiln_words::{Class, Failure, Result, ResultExt as _};

pub(super) use self::late::{Late, ends, joined, judge_late, sound, unjoined};
use crate::api_server;
use crate::boot_times::{self, BootTimes};
use crate::checks::{self, Ask, Asked, Context, Question, Turn, rules_of};
use crate::deadlines::Stage;
use crate::evidence;
use crate::guest::{Guest, Life as _, Output};
use crate::own_rules;
use crate::report::{Excerpt, Judged, Outcome};
use crate::rules::{Rule, Verdict};
use crate::run::Running;
use crate::{Request, Tier};

/// Questions about the cluster that are asked at the same time: programs start in pods for some of them.
const AT_ONCE: usize = 3;

/// Whether a rule's outcome calls for a look at the guest's logs.
pub(super) fn fine(rule: &Judged) -> bool {
    !matches!(rule.outcome, Outcome::Unasked(_) | Outcome::Judged(Verdict::Fail(_)))
}

/// What a guest answered and when it was asked.
#[derive(Default)]
pub(super) struct Answers {
    /// By the script.
    scripts: BTreeMap<&'static str, (Output, Asked)>,
    /// By the rule's id, to the questions about the cluster; or why there is no answer.
    cluster: BTreeMap<&'static str, std::result::Result<(Output, Asked), String>>,
}

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
        if let Some(known) = self.scripts.get(script) {
            return Ok(known.clone());
        }
        let before = SystemTime::now();
        let output = guest.run(&["sh", "-c", script], running.deadlines().command())?;
        let answer = (output, Asked { before, after: SystemTime::now() });
        self.scripts.insert(script, answer.clone());
        Ok(answer)
    }

    /// The answer to the `question` about the cluster that `rule` asks. All whose turn it is are asked at once, when the
    /// first answer is wanted.
    fn of_cluster(
        &mut self,
        rule: &Rule,
        question: &Question,
        guest: &Guest,
        context: &Context,
        running: &Running,
    ) -> Result<(Output, Asked)> {
        if !self.cluster.contains_key(rule.id) {
            let due = due(question.turn, context);
            self.cluster.extend(ask_together(&due, guest, running)?);
        }
        match self.cluster.get(rule.id) {
            Some(Ok(answer)) => Ok(answer.clone()),
            Some(Err(why)) => Err(Failure::io(why.clone())),
            None => Err(Failure::io("the guest says nothing of this question")),
        }
    }
}

/// What came of a question about the cluster, by the rule's id.
type OfCluster = Vec<(&'static str, std::result::Result<(Output, Asked), String>)>;

/// The questions about the cluster whose `turn` it is: the rule's id, and Python.
fn due(turn: Turn, context: &Context) -> Vec<(&'static str, &'static str)> {
    let due = |rule: &'static Rule| match checks::ask(rule) {
        Ask::Cluster(question) if question.turn == turn => {
            checks::settled(rule, context).is_none().then_some((rule.id, question.python))
        }
        _ => None,
    };
    rules_of(context.tier).filter_map(due).collect()
}

/// Asks `questions` about the cluster by one script, a few at a time.
///
/// # Errors
/// When the run is cancelled: any other failure is the answer to each of them.
fn ask_together(
    questions: &[(&'static str, &'static str)],
    guest: &Guest,
    running: &Running,
) -> Result<OfCluster> {
    let answers = || {
        let script = api_server::together(questions, AT_ONCE)?;
        let deadlines = running.deadlines();
        let (limit, patience) = (deadlines.of(Stage::Rules), deadlines.patience().to_string());
        let seconds = limit.as_secs_f64().to_string();
        let argv = ["sh", "-c", WITHIN, "within", &seconds, "sh", "-c", &script, "ask", &patience];
        let started = SystemTime::now();
        let printed = guest.run(&argv, limit + deadlines.command())?;
        api_server::answered(&printed, started)
    };
    let mut answers: BTreeMap<String, (Output, Asked)> = match answers() {
        Err(failure) if failure.class() == Class::Interrupted => return Err(failure),
        Err(failure) => {
            let why = failure.chain().join(": ");
            return Ok(questions.iter().map(|(id, _)| (*id, Err(why.clone()))).collect());
        }
        Ok(answers) => answers.into_iter().collect(),
    };
    let answer = |(id, _): &(&'static str, _)| {
        (*id, answers.remove(*id).ok_or_else(|| "the guest does not answer".to_owned()))
    };
    Ok(questions.iter().map(answer).collect())
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
    let mut ending = false;
    for rule in rules_of(context.tier) {
        if !ending && matches!(checks::ask(rule), Ask::Cluster(one) if one.turn == Turn::End) {
            ending = true;
            again::ask_alone(&mut judged, guest, context, running)?;
        }
        if let Some(settled) = checks::settled(rule, context) {
            judged.push(Judged::new(rule, Outcome::Judged(settled)));
            continue;
        }
        running.tell(rule.title);
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
            Ask::Script(script) | Ask::Last(script) | Ask::Told(script) | Ask::Standing(script) => {
                answers.ask_at(script, guest, running).map(|(answer, asked)| (answer, Some(asked)))
            }
            Ask::Cluster(question) => {
                let answer = answers.of_cluster(rule, &question, guest, context, running);
                answer.map(|(answer, asked)| (answer, Some(asked)))
            }
        };
        judged.push(judge(rule, answer, context)?);
    }
    Ok(judged)
}

/// What `rule` says of the guest's `answer`, and when that was asked.
///
/// # Errors
/// When the run is cancelled.
fn judge(
    rule: &Rule,
    answer: Result<(Output, Option<Asked>)>,
    context: &Context,
) -> Result<Judged> {
    let asked = answer.as_ref().ok().and_then(|(_, asked)| *asked);
    let verdict = answer
        .and_then(|(answer, asked)| checks::verdict(rule, &answer, &Context { asked, ..*context }));
    let outcome = match verdict {
        Ok(verdict) => Outcome::Judged(verdict),
        Err(failure) if failure.class() == Class::Interrupted => return Err(failure),
        Err(failure) => Outcome::Unasked(failure.chain().join(": ")),
    };
    Ok(Judged { took: asked.map(Asked::seconds), ..Judged::new(rule, outcome) })
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
