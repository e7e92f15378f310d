//! Users' rules from their files to verdicts, on trees and in a guest that this machine's shell plays.

use std::path::Path;

use nodekiln_goss::guest::{Answer, Ask, Question};
use nodekiln_words::{Failure, Result, Silent};

use super::*;
use crate::accelerator::Engine;
use crate::deadlines::Deadlines;

/// The rules of these files, by name and text, each named by itself.
fn read(files: &[(&str, &str)]) -> Result<OwnRules> {
    let folder = tempfile::tempdir().unwrap();
    let paths = files.iter().map(|(name, text)| {
        fs_err::write(folder.path().join(name), text).unwrap();
        folder.path().join(name)
    });
    let paths = paths.collect();
    OwnRules::read(&Sources { paths, goss: Settings::default() }, &Silent)
}

fn goss(text: &str) -> OwnRules {
    read(&[("goss.yaml", text)]).unwrap_or_else(|failure| panic!("{failure:?}"))
}

/// What is wrong with these files: the message from the first file's name on, and the remedy.
fn wrong(files: &[(&str, &str)]) -> (String, String) {
    let failure = read(files).unwrap_err();
    let message = failure.to_string();
    let begin = files.iter().filter_map(|(name, _)| message.find(name)).min().unwrap_or(0);
    (message[begin..].to_owned(), failure.help().unwrap_or_default().to_owned())
}

/// A tree as it might be of a small node.
fn tree() -> Tree<'static> {
    let mut tree = Tree::default();
    tree.write(
        "/etc/passwd",
        0o644,
        "root:x:0:0::/root:/bin/bash\nops:x:1000:4::/home/ops:/bin/sh\n",
    );
    tree.write("/etc/group", 0o644, "root:x:0:\nadm:x:4:syslog\nsudo:x:27:ops\n");
    tree.write("/etc/motd", 0o644, "Acme node\n");
    tree.write("/home/ops/.profile", 0o600, "umask 027\n");
    tree.link("/etc/link", "motd");
    tree.link("/etc/dangling", "/none");
    tree.folder("/srv", 0o1777);
    tree.write(
        "/var/lib/dpkg/status",
        0o644,
        "Package: kubelet\nStatus: install ok installed\nVersion: 1.34.1-1.1\nArchitecture: amd64\n",
    );
    let unit = "[Service]\nExecStart=/a\n[Install]\nWantedBy=multi-user.target\n";
    tree.write("/usr/lib/systemd/system/kubelet.service", 0o644, unit);
    tree.write("/usr/lib/systemd/system/idle.service", 0o644, unit);
    tree.write("/usr/lib/systemd/system/fixed.service", 0o644, "[Service]\nExecStart=/a\n");
    let also = "[Service]\nExecStart=/a\n[Install]\nAlso=kubelet.service\n";
    tree.write("/usr/lib/systemd/system/indirect.service", 0o644, also);
    let wants = "/etc/systemd/system/multi-user.target.wants/kubelet.service";
    tree.link(wants, "/usr/lib/systemd/system/kubelet.service");
    tree.write("/etc/machine-id", 0o444, "");
    tree
}

fn verdict(judged: &[Judged], id: &str) -> Verdict {
    let judged = judged.iter().find(|judged| judged.rule.id == id);
    let judged = judged.unwrap_or_else(|| panic!("no rule {id}"));
    judged.verdict().unwrap_or_else(|| panic!("{judged:?}")).clone()
}

/// The verdict on the only resource of a goss file, on the tree.
fn at_rest(text: &str) -> Verdict {
    let judged = goss(text).judge_tree(&tree());
    assert_eq!(judged.len(), 1, "{judged:?}");
    judged[0].verdict().unwrap().clone()
}

/// Each line holds of the tree; with what is wanted changed it does not, and that is told.
#[test]
fn what_a_tree_answers_is_green_and_its_contrary_red() {
    for (text, contrary, told) in [
        ("file: {/etc/motd: {exists: true}}", "file: {/etc/motd: {exists: false}}", "found true"),
        ("file: {/none: {exists: false}}", "file: {/none: {exists: true}}", "found false"),
        (
            "file: {/etc/motd: {exists: true, mode: '0644', owner: root, group: root, filetype: file, size: 10}}",
            "file: {/etc/motd: {exists: true, mode: '0600'}}",
            "found \"0644\"",
        ),
        (
            "file: {/etc/motd: {exists: true, contents: ['/^Acme/']}}",
            "file: {/etc/motd: {exists: true, contents: ['!Acme']}}",
            "line 1 is \"Acme node\"",
        ),
        (
            "file: {/etc/link: {exists: true, filetype: symlink, linked-to: motd, contents: [Acme]}}",
            "file: {/etc/link: {exists: true, linked-to: issue}}",
            "found \"motd\"",
        ),
        (
            "file: {/etc/dangling: {exists: true}}",
            "file: {/etc/dangling: {exists: true, contents: [x]}}",
            "there is no such file",
        ),
        (
            "file: {/srv/: {exists: true, mode: '1777', filetype: directory}}",
            "file: {/srv: {exists: true, contents: [x]}}",
            "it is a directory",
        ),
        (
            "file: {/etc/motd: {exists: true, md5: 472659bf50d737544a02f032e616778f}}",
            "file: {/etc/motd: {exists: true, sha256: ad9a}}",
            "found \"",
        ),
        (
            "file: {~ops/.profile: {exists: true, mode: '0600'}}",
            "file: {~none/.profile: {exists: true}}",
            "there is no user none",
        ),
        (
            "package: {kubelet: {installed: true, versions: [{match-regexp: '^1\\.34'}]}}",
            "package: {kubelet: {installed: true, versions: ['1.33']}}",
            "found [\"1.34.1-1.1\"]",
        ),
        (
            "package: {kubelet:amd64: {installed: true}}",
            "package: {kubelet:arm64: {installed: true}}",
            "found false",
        ),
        (
            "package: {nano: {installed: false}}",
            "package: {nano: {installed: true}}",
            "found false",
        ),
        (
            "service: {kubelet: {enabled: true}}",
            "service: {kubelet: {enabled: false}}",
            "found true",
        ),
        (
            "service: {idle.service: {enabled: false}}",
            "service: {idle: {enabled: true}}",
            "found false",
        ),
        ("service: {fixed: {enabled: true}}", "service: {none: {enabled: true}}", "found false"),
        (
            "service: {indirect: {enabled: true}}",
            "service: {indirect: {enabled: false}}",
            "found true",
        ),
        (
            "user: {ops: {exists: true, uid: 1000, groups: [adm, sudo], home: /home/ops, shell: /bin/sh}}",
            "user: {ops: {exists: true, groups: [docker]}}",
            "nothing fits wanted element 1",
        ),
        (
            "file: {/etc/motd: {exists: true, uid: 0, gid: {lt: 1}}}",
            "file: {/etc/motd: {exists: true, uid: 0, gid: 5}}",
            "gid: wanted 5, found 0",
        ),
        ("group: {adm: {exists: true, gid: 4}}", "group: {adm: {exists: true, gid: 5}}", "found 4"),
        (
            "matching: {seven: {content: 7, matches: {gt: 6}}}",
            "matching: {seven: {content: 7, matches: {gt: 7}}}",
            "found 7",
        ),
    ] {
        assert!(matches!(at_rest(text), Verdict::Pass(_)), "{text}: {:?}", at_rest(text));
        let red = at_rest(contrary);
        assert!(matches!(&red, Verdict::Fail(seen) if seen.contains(told)), "{contrary}: {red:?}");
    }
}

#[test]
fn digests_are_those_of_the_bytes() {
    let sha256 = nodekiln_words::Sha256::of("Acme node\n").to_string();
    let hexadecimal = sha256.rsplit(':').next().unwrap();
    let text = format!(
        "file: {{/etc/link: {{exists: true, sha256: {hexadecimal}, sha512: {{have-len: 128}}}}}}"
    );
    assert!(matches!(at_rest(&text), Verdict::Pass(_)), "{:?}", at_rest(&text));
}

#[test]
fn what_only_a_running_machine_knows_is_left_open_on_a_tree_and_asked_in_a_guest() {
    let own = goss(
        "service: {kubelet: {enabled: true, running: true}}\ncommand: {id: {exit-status: 0}}\n\
         matching: {seven: {content: 7, matches: 7}}\n",
    );
    let tiers: Vec<Tier> = own.records().map(|record| record.tier).collect();
    assert_eq!(tiers, [Tier::Static, Tier::Boot, Tier::Static]);
    let mut judged = own.judge_tree(&tree());
    let seen = verdict(&judged, "service:kubelet");
    let open = "enabled as wanted; not judged: running: it needs a running machine";
    assert_eq!(seen, Verdict::NotProven(open.into()));
    assert_eq!((judged.len(), own.beyond(Tier::Static), own.beyond(Tier::Boot)), (2, 1, 0));
    // Where no guest answers the tree's word stays.
    add(&mut judged, own.without_guest(Tier::Boot, "not booted"));
    assert_eq!(verdict(&judged, "service:kubelet"), seen);
    assert_eq!(verdict(&judged, "command:id"), Verdict::Skipped("not booted".into()));
    let asked: Vec<&str> = own.in_guest(Tier::Boot).map(|rule| rule.record.id.as_str()).collect();
    assert_eq!(asked, ["service:kubelet", "command:id"]);
    assert_eq!(own.in_guest(Tier::Static).count(), 0);
}

#[test]
fn of_a_goss_file_the_guest_says_what_holds_wherever_there_is_one() {
    let own = goss(
        "file: {/none-at-rest: {exists: true}, /etc/motd: {exists: true, contents: [Acme]}}\n\
         user: {root: {exists: true, uid: 0}}\npackage: {nano: {installed: false}}\n",
    );
    let mut judged = own.judge_tree(&tree());
    assert!(matches!(verdict(&judged, "file:/none-at-rest"), Verdict::Fail(_)));
    assert!(matches!(verdict(&judged, "file:/etc/motd"), Verdict::Pass(_)));
    // A guest in which the first file was made and the second changed.
    let mut guest = |ask: &Ask| {
        let path = ask.arguments.first().map(String::as_str);
        let stdout: &[u8] = match (&ask.question, path) {
            (_, Some("/none-at-rest")) => b"81a4 1 0 0 root root\n",
            (Question::File(_), Some("/etc/motd")) => b"81a4 8 0 0 root root\n",
            (Question::Contents(_), Some("/etc/motd")) => b"another\n",
            (Question::Users, _) => b"root:x:0:0::/root:/bin/sh\n",
            (Question::Package(_), _) => b"deb\n",
            other => panic!("{other:?}"),
        };
        Ok(Answer { status: Some(0), stdout: stdout.to_vec(), stderr: vec![] })
    };
    add(&mut judged, in_guest(&own, Tier::Boot, false, &mut guest).unwrap());
    assert_eq!(judged.len(), 4);
    assert!(matches!(verdict(&judged, "file:/none-at-rest"), Verdict::Pass(_)), "{judged:?}");
    let changed = verdict(&judged, "file:/etc/motd");
    assert!(matches!(&changed, Verdict::Fail(seen) if seen.contains("Acme")), "{changed:?}");
}

#[test]
fn below_run_and_its_like_a_tree_proves_nothing_but_for_rules_of_tier_static() {
    let mut tree = tree();
    tree.write("/tmp/left.sh", 0o755, "rm me\n");
    tree.link("/etc/resolv.conf", "../run/systemd/resolve/stub-resolv.conf");
    let text = "file: {/run/x: {exists: false}, /proc/cpuinfo: {exists: true}, /tmp/left.sh: {exists: false},\n  \
                /etc/resolv.conf: {exists: true, contents: [nameserver]}, /run: {exists: false}}\n";
    let judged = goss(text).judge_tree(&tree);
    for (path, place) in [
        ("/run/x", "/run"),
        ("/proc/cpuinfo", "/proc"),
        ("/tmp/left.sh", "/tmp"),
        ("/etc/resolv.conf", "/run"),
    ] {
        let said = verdict(&judged, &format!("file:{path}"));
        let told = format!("only a running machine has what is below {place}");
        assert!(matches!(&said, Verdict::NotProven(seen) if seen.contains(&told)), "{said:?}");
    }
    assert!(matches!(verdict(&judged, "file:/run"), Verdict::Pass(_)));

    let rule = |tier: &str| {
        let text = format!(
            "rules:\n- id: tidy\n  title: tidy\n  severity: fail\n{tier}  check: {{file: {{/tmp/left.sh: {{exists: false}}}}}}\n"
        );
        read(&[("a.rules.yaml", &text)]).unwrap()
    };
    let fixed = rule("  tier: static\n");
    assert!(matches!(verdict(&fixed.judge_tree(&tree), "tidy"), Verdict::Fail(_)));
    assert_eq!(fixed.in_guest(Tier::Boot).count(), 0);
    let free = rule("");
    assert!(matches!(verdict(&free.judge_tree(&tree), "tidy"), Verdict::NotProven(_)));
    assert_eq!(free.in_guest(Tier::Boot).count(), 1);
}

#[test]
fn what_cannot_be_judged_at_all_leaves_the_run_incomplete_unless_the_rule_is_advisory() {
    let unasked = |judged: &[Judged], id: &str| {
        let judged = judged.iter().find(|judged| judged.rule.id == id).unwrap();
        match &judged.outcome {
            Outcome::Unasked(why) => why.clone(),
            Outcome::Judged(verdict) => panic!("{verdict:?}"),
        }
    };
    // A kind and a query that nodekiln does not judge, on the tree already.
    let own = goss(
        "dns: {example.org: {resolvable: true}}\n\
         file: {/etc/motd: {exists: true, contents: {gjson: {'a.#(b==1)': 2}}}}\n\
         matching: {x: {content: '{\"a\": []}', matches: {gjson: {'a.#(b==1)': 2}}}}\n",
    );
    let judged = own.judge_tree(&tree());
    assert!(unasked(&judged, "dns:example.org").contains("without a network"));
    assert!(unasked(&judged, "matching:x").contains("queries"));
    // What is wrong all the same is told.
    assert!(matches!(verdict(&judged, "file:/etc/motd"), Verdict::Fail(_)));

    // A guest that lacks what it takes to ask.
    let lacks = |ask: &Ask| {
        let status = Some(if matches!(ask.question, Question::File(_)) { 0 } else { 69 });
        let stdout = b"81a4 8 0 0 root root\n".to_vec();
        Ok(Answer { status, stdout, stderr: b"sha256sum is missing\n".to_vec() })
    };
    let rule = |severity: &str| {
        let text = format!(
            "rules:\n- id: a\n  title: a\n  severity: {severity}\n  tier: boot\n  check: {{file: {{/a: {{exists: true, sha256: x}}}}}}\n"
        );
        let own = read(&[("a.rules.yaml", &text)]).unwrap();
        in_guest(&own, Tier::Boot, false, &mut |ask| lacks(ask)).unwrap()
    };
    assert_eq!(
        unasked(&rule("fail"), "a"),
        "exists as wanted; not judged: sha256: in the guest sha256sum is missing"
    );
    assert!(matches!(verdict(&rule("warn"), "a"), Verdict::NotProven(_)));
}

#[test]
fn without_a_tree_nothing_of_it_is_proven() {
    let own = goss("file: {/etc/motd: {exists: true}}\n");
    let none = Verdict::NotProven("no file system".into());
    assert_eq!(verdict(&own.without_tree(&none), "file:/etc/motd"), none);
    // Nobody else judges a rule of the static tier.
    let fixed = RULES.replace("severity: warn", "severity: fail\n  tier: static");
    let own = read(&[("a.rules.yaml", &fixed)]).unwrap();
    let judged = own.without_tree(&none);
    assert_eq!(judged[0].outcome, Outcome::Unasked("no file system".into()));
    let why = Verdict::Skipped("skimmed".into());
    assert_eq!(verdict(&own.without_tree(&why), "motd"), why);
}

const RULES: &str = "\
rules:
- id: motd
  title: the message is ours
  severity: warn
  why: people read it
  remedy: |
    write it
    in the recipe
  check:
    file:
      /etc/motd: {exists: true, contents: [Example]}
      /srv: {exists: true}
- id: node-up
  title: the node is up
  severity: fail
  tier: kubeadm
  check: {file: {/etc/kubernetes/admin.conf: {exists: true}}}
";

#[test]
fn a_rule_has_its_record_and_weighs_what_its_severity_says() {
    let own = read(&[("a.rules.yaml", RULES)]).unwrap();
    let records: Vec<&Record> = own.records().collect();
    assert_eq!(records[0].remedy, "write it in the recipe");
    assert_eq!(records[0].reads, ["/etc/motd", "/srv"]);
    assert!(records[0].source.ends_with("a.rules.yaml:2:3"), "{}", records[0].source);
    assert!(records[1].remedy.contains("a.rules.yaml:13:3"), "{}", records[1].remedy);
    assert_eq!(
        records.iter().map(|one| one.tier).collect::<Vec<_>>(),
        [Tier::Static, Tier::Kubeadm]
    );
    let judged = own.judge_tree(&tree());
    let seen = verdict(&judged, "motd");
    assert!(
        matches!(&seen, Verdict::Warn(seen) if seen.starts_with("file /etc/motd: contents: wanted")),
        "{seen:?}"
    );
    let mut changed = tree();
    changed.write("/etc/motd", 0o644, "Example\n");
    let seen = verdict(&own.judge_tree(&changed), "motd");
    assert_eq!(
        seen,
        Verdict::Pass(
            "file /etc/motd: exists, contents as wanted; file /srv: exists as wanted".into()
        )
    );
}

#[test]
fn files_of_a_folder_are_taken_by_their_names() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs_err::write(folder.path().join(name), text).unwrap();
    let sources = || Sources { paths: vec![folder.path().to_owned()], goss: Settings::default() };
    write("node.yaml", "name: a recipe\n");
    let failure = OwnRules::read(&sources(), &Silent).unwrap_err();
    assert!(failure.to_string().ends_with("has no rules"), "{failure}");
    write("goss.yaml", "file: {/etc/motd: {exists: true}}\n");
    write("node.rules.yaml", RULES);
    write("vars.yaml", "a: 1\n");
    let own = OwnRules::read(&sources(), &Silent).unwrap();
    let ids: Vec<&str> = own.records().map(|record| record.id.as_str()).collect();
    assert_eq!(ids, ["file:/etc/motd", "motd", "node-up"]);
}

#[test]
fn files_that_do_not_fit_together_are_refused_at_their_places() {
    let waiver = "waivers:\n- {rule: motdd, reason: x, until: 2027-01-31}\n";
    for (files, message, help) in [
        (
            vec![("a.rules.yaml", RULES), ("b.rules.yaml", waiver)],
            "b.rules.yaml:2:3: there is no rule `motdd` that could be waived",
            "did you mean `motd`?",
        ),
        (
            vec![("b.rules.yaml", &*waiver.replace("motdd", "of-another-house"))],
            "b.rules.yaml:2:3: there is no rule `of-another-house`",
            "--list-rules",
        ),
        (
            vec![("a.rules.yaml", RULES), ("b.rules.yaml", RULES)],
            "b.rules.yaml:2:3: the id `motd` is taken by the rule of ",
            "another id",
        ),
        (
            vec![("a.rules.yaml", &*RULES.replace("id: motd", "id: swap"))],
            "a.rules.yaml:2:3: the id `swap` is taken by nodekiln's own rule",
            "another id",
        ),
        (
            vec![("rules.yaml", "file: {/a: {exists: true}}\n")],
            "rules.yaml:1:1: the file has no `file`",
            "",
        ),
        (vec![("goss.yaml", "rules: []\n")], "goss.yaml asks for nothing", "NAME.rules.yaml"),
        (
            vec![("goss.yaml", "file:\n  /etc/motd: {exist: true}\n")],
            "goss.yaml:2:15: a file has no attribute `exist`",
            "did you mean `exists`?",
        ),
        (vec![("goss.yaml", "file: {{ .Vars.x }}\n")], "goss.yaml:1:", ""),
    ] {
        let (found, remedy) = wrong(&files);
        assert!(found.starts_with(message), "{found}");
        assert!(remedy.contains(help), "{remedy}");
    }
    // nodekiln's own rules and resources of goss files can be waived.
    let waivers = "waivers:\n- {rule: swap, reason: x, until: 2027-01-31}\n\
                   - {rule: 'file:/etc/motd', reason: x, until: 2027-01-31}\n";
    let files = [("goss.yaml", "file: {/etc/motd: {exists: true}}\n"), ("w.rules.yaml", waivers)];
    assert_eq!(read(&files).unwrap().waivers().len(), 2);
}

#[test]
fn a_waiver_for_years_is_refused_at_its_place() {
    let of = |until: &str| {
        let text = format!("waivers:\n- {{rule: swap, reason: x, until: {until}}}\n");
        read(&[("w.rules.yaml", &text)]).unwrap().bounded("2026-11-22".parse().unwrap())
    };
    assert!(of("2026-01-01").is_ok() && of("2028-11-22").is_ok());
    let failure = of("2028-11-23").unwrap_err();
    let text = failure.to_string();
    assert!(
        text.contains("w.rules.yaml:2:3: the waiver of `swap` holds until 2028-11-23"),
        "{text}"
    );
    assert!(failure.help().unwrap().contains("within two years"));
}

/// Runs an ask by this machine's shell.
fn run(ask: &Ask) -> Result<Answer> {
    let argv = ask.argv();
    let output = std::process::Command::new(&argv[0]).args(&argv[1..]).output().unwrap();
    Ok(Answer { status: output.status.code(), stdout: output.stdout, stderr: output.stderr })
}

fn in_guest(
    own: &OwnRules,
    tier: Tier,
    cluster: bool,
    run: &mut dyn FnMut(&Ask) -> Result<Answer>,
) -> Result<Vec<Judged>> {
    judge_in_guest(own, tier, cluster, Deadlines::new(Engine::Kvm, 1), run)
}

#[test]
fn a_guest_is_asked_each_question_once_and_its_answers_are_judged() {
    let own = goss(
        "command:\n  say: {exec: echo hello, exit-status: 0, stdout: [hello]}\n  \
         again: {exec: echo hello, exit-status: 0, stdout: [goodbye]}\n\
         mount: {/proc: {exists: true, filesystem: proc}}\n",
    );
    let mut asked = 0;
    let mut counted = |ask: &Ask| {
        asked += 1;
        run(ask)
    };
    let judged = in_guest(&own, Tier::Boot, false, &mut counted).unwrap();
    assert_eq!(asked, 2);
    assert!(matches!(verdict(&judged, "command:say"), Verdict::Pass(_)), "{judged:?}");
    let again = verdict(&judged, "command:again");
    assert!(
        matches!(&again, Verdict::Fail(seen) if seen.contains("no line fits `goodbye`")),
        "{again:?}"
    );
    assert!(matches!(verdict(&judged, "mount:/proc"), Verdict::Pass(_)), "{judged:?}");
}

#[test]
fn a_guest_that_does_not_answer_leaves_its_rules_unasked_and_one_that_is_late_fails_them() {
    let own = goss("command: {id: {exit-status: 0}}\nmount: {/: {exists: true}}\n");
    let mut first = true;
    let mut gone = |ask: &Ask| match std::mem::take(&mut first) {
        true => Err(Failure::io("the guest's shell has ended")),
        false => run(ask),
    };
    let judged = in_guest(&own, Tier::Boot, false, &mut gone).unwrap();
    assert_eq!(judged[0].outcome, Outcome::Unasked("the guest's shell has ended".into()));
    assert!(matches!(verdict(&judged, "mount:/"), Verdict::Pass(_)), "{judged:?}");
    let judged = in_guest(&own, Tier::Boot, false, &mut |_| Ok(Answer::timed_out())).unwrap();
    let late = verdict(&judged, "command:id");
    assert!(
        matches!(&late, Verdict::Fail(seen) if seen.contains("longer than 10000 ms")),
        "{late:?}"
    );
    let stopped = in_guest(&own, Tier::Boot, false, &mut |_| Err(Failure::interrupted()));
    assert!(stopped.is_err(), "whoever asks to stop is heard");
}

#[test]
fn rules_on_a_cluster_are_asked_where_there_is_one() {
    let own = read(&[("a.rules.yaml", RULES)]).unwrap();
    let of = |tier, cluster| in_guest(&own, tier, cluster, &mut |ask| run(ask)).unwrap();
    assert!(of(Tier::Boot, false).is_empty());
    let without = verdict(&of(Tier::Kubeadm, false), "node-up");
    assert!(matches!(&without, Verdict::Skipped(why) if why.contains("kubeadm init")));
    let there = Path::new("/etc/kubernetes/admin.conf").exists();
    let found = verdict(&of(Tier::Kubeadm, true), "node-up");
    assert_eq!(matches!(found, Verdict::Pass(_)), there, "{found:?}");
}

#[test]
fn what_its_file_says_to_skip_fails_nothing() {
    let own = goss(
        "file: {/none: {exists: true, skip: true}}\ndns: {example.org: {resolvable: true, skip: true}}\n",
    );
    let judged = own.judge_tree(&tree());
    for id in ["file:/none", "dns:example.org"] {
        let skipped = verdict(&judged, id);
        assert!(
            matches!(&skipped, Verdict::Skipped(why) if why.contains("says to skip")),
            "{skipped:?}"
        );
    }
    assert_eq!(own.in_guest(Tier::Boot).count(), 0);
}

#[test]
fn a_record_is_one_line_whatever_a_file_says() {
    let own = goss("command: {\"a\\n\\e[2J  b\": {exit-status: 0, title: \"x\\ny\"}}\n");
    let record = own.records().next().unwrap();
    assert_eq!((record.id.as_str(), record.title.as_str()), ("command:a \u{FFFD}[2J b", "x y"));
}
