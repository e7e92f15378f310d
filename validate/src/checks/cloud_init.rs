//! Rules on cloud-init: the way in for every Cluster API node.

use nodekiln_words::{Failure, Result, ResultExt as _};
use serde_json::Value;

use super::answers::{list, parts, string, text};
use super::{Applies, Ask, Context, Judge, Rule, Severity, Software, UNKNOWN_CLOUD, Verdict};
use crate::Tier;
use crate::guest::Output;

/// What cloud-init writes down as it goes on, which `cloud-init status` reads too: that takes seconds to start under
/// emulation. Where there is no such file, it never ran.
const STATUS: Ask = Ask::Script(
    "cat /run/cloud-init/status.json || cloud-init status --long; echo --\n\
     if test -e /run/cloud-init/result.json; then echo finished; fi",
);

/// The warnings, and where cloud-init finds its configuration invalid also what is wrong with it.
/// `schema --system` looks at user-data only, yet the warning is about that merged with the image's own
/// configuration; `query` knows the latter by a name that differs between versions.
const WARNINGS: &str = "\
    log=/var/log/cloud-init.log\n\
    grep -E 'WARNING|Traceback|DEPRECATED' $log; test $? -le 1 || exit\n\
    echo --\n\
    grep -q 'Invalid cloud-config provided' $log || exit 0\n\
    cloud-init schema --system 2>&1\n\
    own=$(mktemp)\n\
    { echo '#cloud-config'; cloud-init query merged_system_cfg 2>/dev/null \
      || cloud-init query merged_cfg; } >\"$own\" 2>/dev/null\n\
    echo \"the image's own configuration:\"\n\
    cloud-init schema --config-file \"$own\" 2>&1\n\
    rm -f \"$own\"";

pub(super) const RULES: &[Rule] = &[
    Rule {
        id: "cloud-init-done",
        title: "cloud-init came to its end",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["/run/cloud-init/status.json", "/run/cloud-init/result.json"],
        why: "what the bootstrap provider sends is carried out by cloud-init",
        remedy: "`guest/cloud-init.log` in the evidence has the module and its traceback",
        source: "cloud-init's status file: errors and ends of its stages",
        applies: Applies::with(&[Software::CloudInit]),
        stops_boot: false,
        judge: Judge::Machine(STATUS, done),
    },
    Rule {
        id: "cloud-init-datasource",
        title: "cloud-init took the cloud's own datasource",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["/run/cloud-init/status.json"],
        why: "another datasource means that the node does not get its own data",
        remedy: "put the provider's datasource into `datasource_list`, and remove seeds that answer before it",
        source: "cloud-init's status file: datasource",
        applies: Applies::with(&[Software::CloudInit]),
        stops_boot: false,
        judge: Judge::Machine(STATUS, datasource),
    },
    Rule {
        id: "cloud-init-log",
        title: "cloud-init's log has no warnings of note",
        tier: Tier::Boot,
        severity: Severity::Fatal,
        reads: &["/var/log/cloud-init.log", "cloud-init schema"],
        why: "a configuration that cloud-init finds invalid is one that it may ignore; other warnings are told",
        remedy: "correct the configuration that the line names, in /etc/cloud or in the user-data",
        source: "/var/log/cloud-init.log; cloud-init schema --system",
        applies: Applies::with(&[Software::CloudInit]),
        stops_boot: false,
        judge: Judge::Machine(Ask::Script(WARNINGS), log),
    },
];

/// The file's part that has been there in all its versions, and whether cloud-init has written its result.
fn status(answer: &Output) -> Result<(Value, bool)> {
    let [told, finished] = parts(&text(answer)?)?;
    let status: Value =
        serde_json::from_str(&told).or_io(|| format!("cloud-init says `{}`", told.trim()))?;
    Ok((status.get("v1").cloned().unwrap_or_default(), finished.trim() == "finished"))
}

fn done(answer: &Output, _: &Context) -> Result<Verdict> {
    let (status, finished) = status(answer)?;
    let mut wrong = Vec::new();
    match string(&status, "/stage") {
        _ if finished => {}
        "" => wrong.push("it has not come to its end".to_owned()),
        stage => wrong.push(format!("it is in its stage `{stage}`")),
    }
    // The stages stand beside what is known of all of them.
    for (stage, told) in status.as_object().into_iter().flatten() {
        let errors = list(told, "/errors").iter();
        wrong.extend(errors.map(|error| format!("cloud-init reports in {stage}: {error}")));
    }
    Ok(Verdict::of(&wrong, "done, no errors"))
}

fn datasource(answer: &Output, context: &Context) -> Result<Verdict> {
    let (status, _) = status(answer)?;
    let detail = string(&status, "/datasource");
    let Some(own) = context.data_source().map(str::to_lowercase) else {
        return Ok(Verdict::Skipped(UNKNOWN_CLOUD.into()));
    };
    // The class's name, and in brackets whence it took its data.
    let class = detail.strip_prefix("DataSource").unwrap_or_default();
    let end = class.find(|character: char| !character.is_ascii_alphanumeric());
    let name = class[..end.unwrap_or(class.len())].to_lowercase();
    let wrong = match name.strip_prefix(&*own) {
        // Some have a class of their own for the time before the network, as in `Ec2Local`.
        Some("" | "local") => vec![],
        _ => vec![format!("the datasource is `{detail}`, not {own}")],
    };
    Ok(Verdict::of(&wrong, detail))
}

/// What cloud-init warns of when it finds its configuration against its schema.
const INVALID: &str = "Invalid cloud-config provided";

fn log(answer: &Output, _: &Context) -> Result<Verdict> {
    let text = text(answer)? + "\n";
    let (warnings, schema) = text
        .strip_prefix("--\n")
        .map(|schema| ("", schema))
        .or_else(|| text.split_once("\n--\n"))
        .ok_or_else(|| Failure::io(format!("the log's warnings are not told apart in `{text}`")))?;
    let joined = |text: &str, most| {
        let lines: Vec<&str> = text.lines().take(most).map(str::trim).collect();
        lines.join("; ")
    };
    Ok(match warnings.lines().find(|line| line.contains(INVALID)) {
        None if warnings.trim().is_empty() => Verdict::Pass("no warnings".into()),
        None => Verdict::Warn(joined(warnings, 8)),
        Some(line) => Verdict::Fail(format!(
            "{}; `cloud-init schema --system` tells what to correct; it prints: {}",
            line.trim(),
            joined(schema, 12)
        )),
    })
}

#[cfg(test)]
pub(super) use mutations::ANSWERS;

#[cfg(test)]
mod mutations {
    use crate::checks::corpus::{Answer, Mutation};

    pub(super) const DONE: &str = r#"{
 "v1": {
  "datasource": "DataSourceNoCloud [seed=/dev/vdb][dsmode=net]",
  "init": {"errors": [], "finished": 1790000012.5, "start": 1790000010.1},
  "init-local": {"errors": [], "finished": 1790000009.1, "start": 1790000007.8},
  "modules-config": {"errors": [], "finished": 1790000016.2, "start": 1790000014.9},
  "modules-final": {"errors": [], "finished": 1790000021.7, "start": 1790000017.3},
  "stage": null
 }
}
--
finished
"#;

    pub(in crate::checks) const ANSWERS: &[Answer] = &[
        Answer::new(
            "cloud-init-done",
            DONE,
            &[
                Mutation::new(
                    "a module failed, yet all came to its end",
                    "scripts_user",
                    |guest| {
                        guest.replace(
                        "\"modules-final\": {\"errors\": []",
                        "\"modules-final\": {\"errors\": [\"Failed to run module scripts_user\"]",
                    );
                    },
                ),
                Mutation::new("it still runs", "in its stage `modules-final`", |guest| {
                    guest.replace("\"stage\": null", "\"stage\": \"modules-final\"");
                    guest.replace("finished\n", "");
                }),
                Mutation::new("it ended between two stages", "not come to its end", |guest| {
                    guest.replace("--\nfinished\n", "--\n");
                }),
            ],
        ),
        Answer::new(
            "cloud-init-datasource",
            DONE,
            &[
                Mutation::new("no datasource", "is `DataSourceNone`", |guest| {
                    guest.replace("NoCloud [seed=/dev/vdb][dsmode=net]", "None");
                }),
                Mutation::new("another cloud's", "is `DataSourceAzure [seed", |guest| {
                    guest.replace("NoCloud", "Azure");
                })
                .incident("another provider's datasource list"),
            ],
        ),
        Answer::new(
            "cloud-init-log",
            "--\n",
            &[Mutation::new("a configuration against the schema", "locale: False", |guest| {
                guest.print(
                    "2026-11-01 00:00:12,345 - schema.py[WARNING]: Invalid cloud-config provided: Please run \
                     'sudo cloud-init schema --system' to see the schema errors.\n--\n\
                     Error: Cloud config schema errors: locale: False is not of type 'string'\n\
                     the image's own configuration:\nValid cloud-config: system userdata\n",
                );
            })],
        ),
    ];
}

#[cfg(test)]
mod tests {
    use super::super::testing::{context, fails, judge, judge_with, passes, told};
    use super::mutations::DONE;
    use super::*;
    use crate::expect::Expectations;
    use crate::provisioning::Told;

    #[test]
    fn a_datasource_may_have_a_class_for_the_time_before_the_network() {
        let expect = Expectations::default();
        let told = Told { data_source: "Ec2", ..told().clone() };
        let context = Context { told: &told, ..context(&expect, Tier::Boot) };
        let verdict = |name: &str| {
            let answer = DONE.replace("DataSourceNoCloud", name);
            judge_with("cloud-init-datasource", &answer, 0, &context).unwrap()
        };
        assert!(passes(&verdict("DataSourceEc2")) && passes(&verdict("DataSourceEc2Local")));
        for other in ["DataSourceNoCloud", "DataSourceNone", "Ec2", "", "DataSourceEc2x"] {
            assert!(fails(&verdict(other), "not ec2"), "{other}");
        }
    }

    #[test]
    fn a_cloud_init_that_never_ran_is_no_verdict() {
        let expect = Expectations::default();
        let context = context(&expect, Tier::Boot);
        let told = judge_with("cloud-init-done", "status: disabled\n--\n", 0, &context);
        assert!(told.unwrap_err().to_string().contains("status: disabled"));
    }

    #[test]
    fn a_warning_in_the_log_is_shown() {
        let expect = Expectations::default();
        let line = "2026 - util.py[WARNING]: something odd\n--\n";
        let told = judge("cloud-init-log", line, &expect);
        assert!(matches!(told, Verdict::Warn(seen) if seen.contains("something odd")));
        let context = context(&expect, Tier::Boot);
        assert!(judge_with("cloud-init-log", "", 0, &context).is_err());
    }

    #[test]
    fn a_configuration_against_the_schema_fails_with_the_remedy() {
        let expect = Expectations::default();
        let answer = "2026 - schema.py[WARNING]: Invalid cloud-config provided: Please run\n--\n\
                      Error: Cloud config schema errors: locale: False is not of type 'string'\n";
        let verdict = judge("cloud-init-log", answer, &expect);
        assert!(fails(&verdict, "`cloud-init schema --system`"));
        let rule = RULES.iter().find(|rule| rule.id == "cloud-init-log").unwrap();
        assert_eq!(rule.severity, Severity::Fatal); // else the "no" would be a warning
    }

    /// The script in an `sh` whose `cloud-init` is a stand-in and whose log holds `log`.
    fn asked(log: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let (path, program) = (folder.path().join("log"), folder.path().join("cloud-init"));
        fs_err::write(&path, log).unwrap();
        fs_err::write(
            &program,
            "#!/bin/sh\necho \"ran $1 $2\"\ntest \"$2\" != merged_system_cfg\n",
        )
        .unwrap();
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        fs_err::set_permissions(&program, mode).unwrap();
        let script = WARNINGS.replace("/var/log/cloud-init.log", &path.to_string_lossy());
        let search = format!("{}:/usr/bin:/bin", folder.path().display());
        let mut command = std::process::Command::new("sh");
        let output = command.env("PATH", search).args(["-c", &script]).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn the_schema_is_asked_only_when_cloud_init_warns_of_it() {
        assert_eq!(asked("all is well\n"), "--\n");
        assert_eq!(asked("x [WARNING]: odd\n"), "x [WARNING]: odd\n--\n");
        let invalid = "x [WARNING]: Invalid cloud-config provided: see\n";
        let told = asked(invalid);
        assert!(told.starts_with(&format!("{invalid}--\nran schema --system\n")), "{told}");
        assert!(told.ends_with("own configuration:\nran schema --config-file\n"), "{told}");
    }
}
