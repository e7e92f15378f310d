//! Rules on cloud-init: the way in for every Cluster API node.

use nodekiln_words::Result;

use super::answers::{json, list, string, text};
use super::{Ask, Context, Rule, Severity, Verdict};
use crate::Tier;
use crate::guest::Output;

/// `cloud-init status` has exit status 1 and 2 for errors that its output tells.
const STATUS: Ask = Ask::Script("cloud-init status --long --format json; test $? -le 2");

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "cloud-init-done",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        why: "what the bootstrap provider sends is carried out by cloud-init",
        source: "cloud-init status --format json",
        ask: STATUS,
        judge: done,
    },
    Rule {
        id: "cloud-init-datasource",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        why: "another datasource means that the node does not get its own data",
        source: "cloud-init status --format json",
        ask: STATUS,
        judge: datasource,
    },
    Rule {
        id: "cloud-init-log",
        tier: Tier::Boot,
        severity: Severity::Advisory,
        why: "warnings and tracebacks tell of an image that cloud-init only half understands",
        source: "/var/log/cloud-init.log",
        ask: Ask::Script(
            "grep -E 'WARNING|Traceback|DEPRECATED' /var/log/cloud-init.log; test $? -le 1",
        ),
        judge: log,
    },
];

fn done(answer: &Output, _: &Context) -> Result<Verdict> {
    let status = json(answer)?;
    let mut wrong: Vec<String> = list(&status, "/errors")
        .iter()
        .map(|error| format!("cloud-init reports: {error}"))
        .collect();
    let state = string(&status, "/status");
    if state != "done" {
        wrong.insert(0, format!("status is `{state}`"));
    }
    Ok(Verdict::of(&wrong, "done, no errors"))
}

fn datasource(answer: &Output, _: &Context) -> Result<Verdict> {
    let status = json(answer)?;
    let (name, detail) = (string(&status, "/datasource"), string(&status, "/detail"));
    let wrong = match name {
        "nocloud" => vec![],
        _ => vec![format!("the datasource is `{name}` ({detail}), not nocloud")],
    };
    // When something failed the detail tells of that, not of the source.
    Ok(Verdict::of(&wrong, if detail.starts_with("DataSource") { detail } else { name }))
}

fn log(answer: &Output, _: &Context) -> Result<Verdict> {
    let text = text(answer)?;
    let lines: Vec<String> = text.lines().take(8).map(|line| line.trim().to_owned()).collect();
    Ok(Verdict::of(&lines, "no warnings"))
}

#[cfg(test)]
mod tests {
    use super::super::testing::{fails, judge, passes};
    use crate::expect::Expectations;

    const DONE: &str = r#"{"boot_status_code":"enabled-by-generator","datasource":"nocloud",
        "detail":"DataSourceNoCloud [seed=/dev/vdb][dsmode=net]","errors":[],"status":"done"}"#;

    #[test]
    fn errors_fail_even_when_the_status_is_done() {
        let expect = Expectations::default();
        assert!(passes(&judge("cloud-init-done", DONE, &expect)));
        let errors =
            DONE.replace("\"errors\":[]", "\"errors\":[\"Failed to run module scripts_user\"]");
        assert!(fails(&judge("cloud-init-done", &errors, &expect), "scripts_user"));
        let running = DONE.replace("\"done\"", "\"running\"");
        assert!(fails(&judge("cloud-init-done", &running, &expect), "running"));
    }

    #[test]
    fn another_datasource_fails() {
        let expect = Expectations::default();
        assert!(passes(&judge("cloud-init-datasource", DONE, &expect)));
        let none = DONE.replace("\"nocloud\"", "\"none\"");
        assert!(fails(&judge("cloud-init-datasource", &none, &expect), "none"));
    }

    #[test]
    fn a_warning_in_the_log_is_shown() {
        let expect = Expectations::default();
        assert!(passes(&judge("cloud-init-log", "", &expect)));
        let line = "2026 - util.py[WARNING]: something odd\n";
        assert!(fails(&judge("cloud-init-log", line, &expect), "something odd"));
    }
}
