//! One start of the suite.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use nodekiln_kit::junit::{self, Case};
use nodekiln_kit::{pattern, suite};
use nodekiln_words::{Class, Failure, Result, ResultExt as _};

use super::guest::{KIT, Node};
use super::{Outcome, Spec, kept, said};
use crate::deadlines::Stage;
use crate::guest::Guest;
use crate::run::{Running, Waited};

/// Where a batch works and reports, in the guest.
const WORK: &str = "/var/lib/nodekiln-kit/work";
/// The part of the batch's deadline that each spec adds, of the deadline for the set-up.
const SPECS_OF_SETUP: u32 = 3;
/// Last bytes of the suite's log that are fetched.
const LOG_BYTES: &str = "8388608";
/// What to do about a suite that does not start.
const SEE_LOG: &str = "conformance/batch-*.log in the evidence has the whole log";
/// How much of a failure's text is kept, in characters: the suite's own report is beside it whole.
const LONGEST_SAID: usize = 2000;

/// A suite in a guest.
#[derive(Clone, Copy)]
pub(super) struct Suite<'a> {
    pub(super) guest: &'a Guest<'a>,
    pub(super) running: &'a Running<'a>,
    pub(super) node: &'a Node,
    pub(super) folder: &'a Path,
    /// How many specs run at once.
    pub(super) parallel: u32,
}

/// How a batch ended.
pub(super) enum End {
    /// With a report of some specs at least; others had no time any more, or went with the process that ran them.
    Reported(BTreeMap<String, Spec>),
    /// Before its first spec: a part of its set-up failed, or came to no end.
    Unready(Failure),
    /// Without a word of any of its specs; what that says of a single one.
    Died(String),
}

/// Why there is no telling what a batch came to.
pub(crate) enum Ended {
    /// The guest died, the run was cancelled, or the suite could not be set up in it.
    Guest(Failure),
    /// What the suite left could not be kept on the host.
    Host(Failure),
}

impl From<Failure> for Ended {
    fn from(failure: Failure) -> Self {
        Self::Guest(failure)
    }
}

/// Begins what the suite says before its first spec; what ends earlier ends with every spec.
const BEGINS: &str = "Running Suite:";
/// Exit codes of timeout(1) where it ended the suite.
const TIMED_OUT: [&str; 2] = ["124", "137"];

/// Starts the suite and leaves it to itself. The suite fetches a manifest from the network before it reads its
/// flags: a proxy that refuses ends that at once, where a network without answer would take minutes. Nothing
/// that it needs is behind the proxy: the node's own addresses, those of pods and its name, at which the suite's API
/// server speaks to the kubelet, are excepted.
const START: &str = "\
    work=$1; seconds=$2; repositories=$3; path=$4; shift 4\n\
    rm -rf \"$work\" && mkdir -p \"$work/reports\" && cd \"$work\" || exit 1\n\
    (\n\
      test -z \"$repositories\" || export KUBE_TEST_REPO_LIST=\"$repositories\"\n\
      export PATH=\"$path:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\" HOME=/root USER=root\n\
      export HTTPS_PROXY=http://127.0.0.1:9 NO_PROXY=127.0.0.1,localhost,10.0.0.0/8,.svc,$(hostname)\n\
      timeout -k 30 \"$seconds\" \"$@\" >log 2>&1 </dev/null\n\
      echo $? >status.partial; mv status.partial status\n\
    ) >/dev/null 2>&1 &";

/// What both versions of Ginkgo put before what they say of a spec that has ended.
const MARKS: [&str; 2] = ["•", "S ["];

/// Waits some seconds for the end, so that a guest is not kept busy by being asked. Until then it tells how many specs have
/// ended, by [`MARKS`].
const WAIT: &str = "\
    n=0\n\
    while ! test -e \"$1/status\" && test $n -lt 15; do sleep 1; n=$((n+1)); done\n\
    if test -e \"$1/status\"; then echo \"ended $(cat \"$1/status\")\"; exit; fi\n\
    grep -c -e '^•' -e '^S \\[' \"$1/log\"";

/// Prints the reports, which end with a zero each.
const REPORTS: &str = "\
    for report in \"$1\"/*.xml; do\n\
      if test -e \"$report\"; then cat \"$report\" && printf '\\000'; fi\n\
    done";

impl Suite<'_> {
    /// Runs `specs`; `ended` is told now and then how many of them have ended.
    ///
    /// # Errors
    /// When the guest dies, the run is cancelled, or the suite's own set-up fails: no spec could run then.
    pub(super) fn run(
        &self,
        specs: &[String],
        ended: &dyn Fn(usize),
    ) -> std::result::Result<End, Ended> {
        let Self { guest, running, node, folder, parallel } = self;
        let (command, setup) =
            (running.deadlines().command(), running.deadlines().of(Stage::Conformance));
        let allowed = deadline(setup, specs.len());
        let reports = format!("{WORK}/reports");
        let flags = suite::running(node.minor, &node.driver, &pattern(specs), &reports)?;
        let seconds = allowed.as_secs().to_string();
        let (repositories, bin) =
            (node.repositories.clone().unwrap_or_default(), format!("{KIT}/bin"));
        let program = match parallel {
            1 => [vec![node.suite.clone()], flags].concat(),
            more => {
                let runner = format!("{KIT}/{}", suite::RUNNER);
                suite::at_once(node.minor, *more, &runner, &node.suite, flags)
            }
        };
        let mut argv = vec!["sh", "-c", START, "start", WORK, &seconds, &repositories, &bin];
        argv.extend(program.iter().map(String::as_str));
        guest.run(&argv, command)?;
        // The guest's own deadline comes first, so that the suite still takes its kubelet down.
        let status = running.wait_for(allowed + command, || {
            let said = guest.run(&["sh", "-c", WAIT, "wait", WORK], command)?.text();
            Ok(match said.strip_prefix("ended ") {
                Some(status) => Waited::Done(status.trim().to_owned()),
                None => {
                    let count = said.trim().parse().unwrap_or(0);
                    ended(count);
                    Waited::Still(match count {
                        0 => "no spec has ended yet".to_owned(),
                        count => format!("{count} of {} specs have ended", specs.len()),
                    })
                }
            })
        })?;
        let tail = ["tail", "-c", LOG_BYTES, &format!("{WORK}/log")].map(str::to_owned);
        let tail: Vec<&str> = tail.iter().map(String::as_str).collect();
        let log = guest.run(&tail, command)?;
        let told = guest.run(&["sh", "-c", REPORTS, "reports", &reports], command)?.text();
        let reports: Vec<&str> = told.split_terminator('\0').collect();
        let number = number(folder).map_err(Ended::Host)?;
        let keep = |ending: &str, bytes: &[u8]| {
            let path = folder.join(format!("{}{number}{ending}", kept::BATCH));
            fs_err::write(&path, bytes).or_io(|| format!("write {}", path.display()))
        };
        keep(".log", &log.stdout).map_err(Ended::Host)?;
        for (at, report) in reports.iter().enumerate() {
            let ending =
                if *parallel == 1 { ".xml".to_owned() } else { format!("-{}.xml", at + 1) };
            keep(&ending, report.as_bytes()).map_err(Ended::Host)?;
        }
        let left = Left { status: &status, log: &log.text(), reports: &reports };
        Ok(end(specs, &left, suite::reports(node.minor, *parallel))?)
    }
}

/// What a suite left behind.
struct Left<'a> {
    /// Status of timeout(1).
    status: &'a str,
    log: &'a str,
    reports: &'a [&'a str],
}

/// How a run of `specs` ended that should have left `wanted` reports.
///
/// # Errors
/// When the suite ended before it set itself up: it will not another time.
fn end(specs: &[String], left: &Left, wanted: usize) -> Result<End> {
    let Left { status, log, reports } = *left;
    let failure = |text| Failure::new(Class::Verdict, text).with_help(SEE_LOG);
    let last = last_words(status, log);
    // One that is cut off is none; a suite that was ended may have no time for it.
    let read: Vec<Vec<Case>> = reports.iter().filter_map(|text| junit::read(text).ok()).collect();
    let whole = read.len() >= wanted;
    if read.is_empty() && !log.contains(BEGINS) {
        return Err(failure(format!("the suite ends before its first spec: {last}")));
    }
    let cases = junit::by_spec(read.into_iter().flatten().collect());
    let mut results = results(specs, &cases, log);
    if !whole {
        // With a process of several goes what the others need: what failed then may hold.
        results.retain(|_, spec| !matches!(spec.outcome, Outcome::Failed(_)));
    }
    if !results.is_empty() {
        return Ok(End::Reported(results));
    }
    if let Some(said) = setup_failed(&cases) {
        return Ok(End::Unready(failure(format!("the suite could not be set up: {said}"))));
    }
    let ran = log.lines().any(|line| MARKS.iter().any(|mark| line.starts_with(mark)));
    Ok(match (ran, whole) {
        (false, false) if TIMED_OUT.contains(&status) => {
            End::Unready(failure(format!("the suite's set-up came to no end: {last}")))
        }
        (_, true) => End::Died(format!("the suite's report does not have it: {last}")),
        (_, false) => End::Died(format!("the suite ended with it: {last}")),
    })
}

/// What a part of the suite's set-up said that failed, on one line.
fn setup_failed(cases: &BTreeMap<String, Case>) -> Option<String> {
    cases.values().find_map(|case| match &case.outcome {
        junit::Outcome::Failed(said) if case.name.contains("BeforeSuite") => {
            Some(shortened(said).replace('\n', " | "))
        }
        _ => None,
    })
}

/// How long a batch of so many specs may take.
fn deadline(setup: Duration, specs: usize) -> Duration {
    let specs = u32::try_from(specs).unwrap_or(u32::MAX);
    setup.saturating_add((setup / SPECS_OF_SETUP).saturating_mul(specs))
}

/// The number of the next batch.
fn number(folder: &Path) -> Result<usize> {
    let reading = || format!("read {}", folder.display());
    let entries = fs_err::read_dir(folder).or_io(reading)?.flatten();
    let batches = entries.filter(|entry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        name.starts_with(kept::BATCH) && name.ends_with(".log")
    });
    Ok(batches.count() + 1)
}

fn last_words(status: &str, log: &str) -> String {
    let line = log.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or("nothing");
    let how = if TIMED_OUT.contains(&status) { "at its deadline" } else { "" };
    format!("status {status} {how}, last said: {}", line.trim()).replace(" ,", ",")
}

/// What came of those of `specs` that the suite tells of. One of which only it knows why it did not run has not passed.
fn results(specs: &[String], cases: &BTreeMap<String, Case>, log: &str) -> BTreeMap<String, Spec> {
    let reasons = said::reasons(log, specs);
    let result = |spec: &String| {
        let case = cases.get(spec)?;
        let outcome = match &case.outcome {
            junit::Outcome::Passed => Outcome::Passed,
            junit::Outcome::Failed(said) => Outcome::Failed(shortened(said)),
            junit::Outcome::Skipped(Some(said)) => Outcome::Skipped(said.clone()),
            junit::Outcome::Skipped(None) => match reasons.get(spec) {
                Some(reason) => Outcome::Skipped(reason.clone()),
                None => Outcome::Failed("the suite left it out and does not say why".to_owned()),
            },
        };
        Some((spec.clone(), Spec::once(outcome, case.seconds)))
    };
    specs.iter().filter_map(result).collect()
}

fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_SAID) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn case(name: &str, outcome: junit::Outcome) -> Case {
        Case { name: name.to_owned(), outcome, seconds: 1.0 }
    }

    #[test]
    fn a_spec_passes_only_where_the_report_says_so() {
        let specs = ["a", "b", "c", "d"].map(str::to_owned);
        let cases = vec![
            case("a", junit::Outcome::Passed),
            case("b", junit::Outcome::Failed("no".into())),
            case("c", junit::Outcome::Skipped(None)),
            case("z", junit::Outcome::Passed),
        ];
        let results = results(&specs, &junit::by_spec(cases), "");
        let failed = |spec: &str| matches!(results[spec].outcome, Outcome::Failed(_));
        assert_eq!(results["a"].outcome, Outcome::Passed);
        assert!(failed("b") && failed("c"), "{results:?}");
        assert_eq!(results.len(), 3); // `d` is still to be run
    }

    #[test]
    fn a_failed_set_up_is_no_failure_of_a_spec() {
        let report = "<testsuite name=\"E2eNode Suite\"><testcase name=\"BeforeSuite\" time=\"1\">\
            <failure type=\"x\">no kubelet</failure></testcase></testsuite>";
        // Another process may have run specs all the same.
        let another = ended(&["a"], "1", BEGINS, &[report, REPORT], 2);
        assert!(matches!(another, Ok(End::Reported(results)) if results.contains_key("a")));
        let end = ended(&["a"], "1", BEGINS, &[report], 1).unwrap();
        assert!(matches!(end, End::Unready(failure) if failure.to_string().contains("no kubelet")));
    }

    #[test]
    fn each_of_several_processes_has_a_report_of_its_own() {
        let other = REPORT.replace("name=\"a\"", "name=\"b\"");
        let end = ended(&["a", "b"], "0", BEGINS, &[REPORT, &other], 2).unwrap();
        assert!(matches!(end, End::Reported(results) if results.len() == 2));
    }

    #[test]
    fn where_a_process_left_no_whole_report_what_failed_is_run_again() {
        let failed = REPORT
            .replace("></testcase>", "><failure type=\"x\">no API server</failure></testcase>");
        let held = REPORT.replace("name=\"a\"", "name=\"b\"");
        let specs = ["a", "b"];
        for reports in [vec![&*failed, &held], vec![&failed, &held, "<testsuite><testc"]] {
            let end = ended(&specs, "1", BEGINS, &reports, 3).unwrap();
            assert!(matches!(end, End::Reported(results) if results.keys().eq(["b"])));
        }
        let end = ended(&specs, "1", BEGINS, &[&failed, &held], 2).unwrap();
        assert!(matches!(end, End::Reported(results) if results.len() == 2));
    }

    fn ended(
        specs: &[&str],
        status: &str,
        log: &str,
        reports: &[&str],
        wanted: usize,
    ) -> Result<End> {
        let specs: Vec<String> = specs.iter().map(|&spec| spec.to_owned()).collect();
        end(&specs, &Left { status, log, reports }, wanted)
    }

    #[test]
    fn specs_that_have_ended_are_counted_until_the_suite_ends() {
        let folder = tempfile::tempdir().unwrap();
        let [passed, skipped] = MARKS;
        let log =
            format!("{BEGINS}\n{passed} [SLOW TEST]\nx {passed}\nSSSS\n{skipped}SKIPPING]\nS\n");
        fs_err::write(folder.path().join("log"), log).unwrap();
        // Without the seconds that it waits for the end.
        let wait = WAIT.replace("-lt 15", "-lt 0");
        let argv = ["-c", &wait, "wait", folder.path().to_str().unwrap()];
        let output = std::process::Command::new("sh").args(argv).output().unwrap();
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "2\n");
    }

    #[test]
    fn the_guest_prints_each_report_to_its_end() {
        let folder = tempfile::tempdir().unwrap();
        let print = || {
            let argv = ["-c", REPORTS, "reports", folder.path().to_str().unwrap()];
            let output = std::process::Command::new("sh").args(argv).output().unwrap();
            String::from_utf8(output.stdout).unwrap()
        };
        assert_eq!(print(), "");
        for name in ["junit_01.xml", "junit_02.xml", "kubelet.log"] {
            fs_err::write(folder.path().join(name), name).unwrap();
        }
        let told = print();
        assert!(told.split_terminator('\0').eq(["junit_01.xml", "junit_02.xml"]), "{told:?}");
    }

    /// A report in which `a` passed.
    const REPORT: &str = "<testsuite name=\"E2eNode Suite\" tests=\"1\" failures=\"0\" errors=\"0\" time=\"1\">\
        <testcase name=\"a\" classname=\"E2eNode Suite\" time=\"1\"></testcase></testsuite>";

    #[test]
    fn what_the_report_does_not_have_is_still_to_be_run_unless_nothing_else_was() {
        let specs = ["a", "b"];
        for status in ["124", "137", "1"] {
            let Ok(End::Reported(results)) = ended(&specs, status, BEGINS, &[REPORT], 1) else {
                panic!("{status}");
            };
            assert_eq!(results["a"].outcome, Outcome::Passed);
            assert!(!results.contains_key("b"), "{results:?}");
        }
        let none = ended(&specs[1..], "124", BEGINS, &[REPORT], 1);
        assert!(matches!(none, Ok(End::Died(_))));
    }

    #[test]
    fn a_suite_without_a_report_died_with_its_specs_or_never_began() {
        let specs = ["a"];
        let begun = format!("{BEGINS} E2eNode Suite\npanic: x\n");
        let died = ended(&specs, "2", &begun, &[], 1);
        assert!(matches!(died, Ok(End::Died(why)) if why.contains("panic: x")));
        let hangs = ended(&specs, "124", &begun, &[""], 1);
        assert!(matches!(hangs, Ok(End::Unready(_))));
        let Err(never) = ended(&specs, "2", "unknown flag: --x\n", &[], 1) else { panic!() };
        assert!(never.to_string().contains("unknown flag") && never.help().is_some(), "{never}");
    }

    #[test]
    fn the_start_runs_the_program_it_is_given_and_leaves_its_status() {
        let folder = tempfile::tempdir().unwrap();
        let work = folder.path().join("work");
        let work = work.to_str().unwrap();
        let script = "echo \"$KUBE_TEST_REPO_LIST $USER $1\"; exit 7";
        let argv = [
            "-c",
            START,
            "start",
            work,
            "20",
            "/repo list",
            "/x",
            "sh",
            "-c",
            script,
            "sh",
            "a 'b'",
        ];
        let status = std::process::Command::new("sh").args(argv).status().unwrap();
        assert!(status.success());
        let waited = std::process::Command::new("sh").args(["-c", WAIT, "wait", work]).output();
        assert_eq!(String::from_utf8(waited.unwrap().stdout).unwrap(), "ended 7\n");
        let log = fs_err::read_to_string(format!("{work}/log")).unwrap();
        assert_eq!(log, "/repo list root a 'b'\n");
    }

    #[test]
    fn longer_batches_have_more_time() {
        let setup = Duration::from_secs(900);
        assert!(deadline(setup, 1) > setup);
        assert_eq!(deadline(setup, 3), setup * 2);
        assert!(last_words("124", "x\nlast\n\n").contains("at its deadline, last said: last"));
    }
}
