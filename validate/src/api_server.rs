//! Scripts that ask the guest's API server.
//!
//! `kubectl` takes seconds to start under emulation, and each question would start it. A script made by [`api_script`] is
//! Python instead, in front of which stands the client in `api_server/client.py`. cloud-init is written in Python, so a guest
//! that came as far as a cluster has it; what it speaks is what `kubectl` speaks: HTTPS with the administrator's
//! certificate, and web sockets for exec and forwarded ports. Questions that wait most of the time are put together into
//! one such script, which answers a few of them at a time.

use std::time::{Duration, SystemTime};

use nodekiln_words::{Failure, Result, ResultExt as _};
use serde::Deserialize;

use crate::checks::Asked;
use crate::guest::Output;

/// A shell script that runs the given Python with the client, and then, where that succeeded, the given shell command. The
/// script's arguments are those of the Python too; the last one, where it is a number, is how patient it is: see `within`
/// in the client.
macro_rules! api_script {
    ($python:expr) => {
        $crate::api_server::api_script!($python, "true")
    };
    ($python:expr, $then:expr) => {
        concat!(
            "\"$(command -v python3 || echo /usr/libexec/platform-python)\" - \"$@\" <<'NODEKILN' && ",
            $then,
            "\n",
            include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/src/api_server/client.py")),
            $python,
            "\nNODEKILN\n"
        )
    };
}
pub(crate) use api_script;

/// The two halves of a script that answers several questions; between them stand the questions.
const HALVES: [&str; 2] = [
    concat!(
        "\"$(command -v python3 || echo /usr/libexec/platform-python)\" - \"$@\" <<'NODEKILN'\n",
        include_str!("api_server/client.py")
    ),
    concat!(include_str!("api_server/together.py"), "\nNODEKILN\n"),
];

/// A shell script that answers `questions`, each a name and Python that defines `question`, of which `at_once` are asked at
/// the same time. Its argument is how patient it is.
///
/// # Errors
/// Never for questions that are text.
pub(crate) fn together(questions: &[(&str, &str)], at_once: usize) -> Result<String> {
    let mut script = HALVES[0].to_owned();
    script.push_str("\nQUESTIONS = dict(");
    // JSON's strings are Python's too.
    let pairs = serde_json::to_string(questions).or_io(|| "write questions as JSON".into())?;
    script.push_str(&format!("{pairs})\nAT_ONCE = {at_once}\n{}", HALVES[1]));
    Ok(script)
}

/// A line that the script of [`together`] prints.
#[derive(Deserialize)]
struct Line {
    name: String,
    said: String,
    error: String,
    began: f64,
    ended: f64,
}

/// What such a script `printed`, which was started at `started` by the host's clock: the answer to each question by its
/// name, and when that was asked.
///
/// # Errors
/// When it is not what the script prints, or the script failed.
pub(crate) fn answered(
    printed: &Output,
    started: SystemTime,
) -> Result<Vec<(String, (Output, Asked))>> {
    let text = crate::checks::answers::text(printed)?;
    let answer = |line: &str| {
        let line: Line = serde_json::from_str(line)
            .or_io(|| format!("read what the guest says of the cluster: `{line}`"))?;
        let at = |seconds: f64| {
            let seconds = Duration::try_from_secs_f64(seconds);
            seconds.ok().and_then(|seconds| started.checked_add(seconds)).ok_or_else(|| {
                Failure::io(format!("the guest says that {} took no time at all", line.name))
            })
        };
        let asked = Asked { before: at(line.began)?, after: at(line.ended)? };
        let status = i32::from(!line.error.is_empty());
        let output = Output { stdout: line.said.into(), stderr: line.error.into(), status };
        Ok((line.name, (output, asked)))
    };
    text.lines().map(answer).collect()
}

#[cfg(test)]
mod tests {
    use std::process::Command;
    use std::time::UNIX_EPOCH;

    use super::*;

    /// Runs the second half alone, with stand-ins for what the client defines: there is no API server here.
    fn run(questions: &[(&str, &str)]) -> Vec<(String, (Output, Asked))> {
        const CLIENT: &str = "import json, time\nclass Refused(Exception): pass\n";
        let script = together(questions, 2).unwrap();
        let between = script.find("\nQUESTIONS = ").unwrap();
        let python = format!("{CLIENT}{}", script[between..].strip_suffix("\nNODEKILN\n").unwrap());
        let output = Command::new("python3").args(["-c", &python]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let printed = Output { stdout: output.stdout, ..Output::default() };
        answered(&printed, UNIX_EPOCH).unwrap()
    }

    #[test]
    fn each_question_has_its_own_answer_in_its_own_time() {
        let slow = "def question():\n    time.sleep(0.3)\n    return \"slow \\\"quoted\\\" …\"";
        let answers = run(&[("slow", slow), ("quick", "def question():\n    return 'quick'")]);
        let [(first, (slow, long)), (second, (quick, short))] = &answers[..] else {
            panic!("{answers:?}")
        };
        assert_eq!((first.as_str(), second.as_str()), ("slow", "quick"));
        assert_eq!((slow.text().as_str(), quick.text().as_str()), ("slow \"quoted\" …", "quick"));
        assert!(long.seconds() >= 0.3 && short.seconds() < long.seconds());
        assert!(short.before < long.after, "they are asked at the same time");
    }

    #[test]
    fn what_cannot_be_asked_is_told_and_keeps_no_other_from_its_answer() {
        let answers = run(&[
            ("refused", "def question():\n    raise Refused('403: no')"),
            ("absent", "def question():\n    return {}['podIP']"),
            ("gone", "def question():\n    raise OSError('Connection refused')"),
            ("wrong", "def question(:"),
            ("fine", "def question():\n    return ''"),
        ]);
        let told: Vec<(i32, String)> = answers
            .iter()
            .map(|(_, (output, _))| (output.status, output.text() + &output.error_text()))
            .collect();
        assert_eq!(told[0], (0, "403: no".into()));
        assert_eq!(told[1], (0, "there is no 'podIP'".into()));
        assert_eq!(told[2], (1, "OSError: Connection refused".into()));
        assert!(told[3].0 == 1 && told[3].1.starts_with("SyntaxError"), "{:?}", told[3]);
        assert_eq!(told[4], (0, String::new()));
    }

    #[test]
    fn a_script_that_fails_or_prints_something_else_is_no_answer() {
        let printed =
            |text: &str, status| Output { stdout: text.into(), stderr: Vec::new(), status };
        assert!(answered(&printed("", 127), UNIX_EPOCH).is_err());
        assert!(answered(&printed("Traceback\n", 0), UNIX_EPOCH).is_err());
        let line = r#"{"name": "a", "said": "", "error": "", "began": -1, "ended": 0}"#;
        assert!(answered(&printed(line, 0), UNIX_EPOCH).is_err());
    }
}
