//! Users' rules and waivers on an image file, from their YAML to the report in each of its forms.

use std::path::Path;

use nodekiln_validate::own_rules::{OwnRules, Settings, Sources};
use nodekiln_validate::report::{self, Kept, WaiverState};
use nodekiln_validate::{Report, Request, Tier, validate};
use nodekiln_words::{Cancel, Class, Silent};

use crate::disk_mutations::sound;
use crate::small_guests::request;

const GOSS: &str = "\
file:
  /etc/motd:
    exists: true
    mode: '0644'
    contents: ['/^Acme/', '!Debian']
  /etc/issue:
    exists: false
  {{ .Vars.release }}:
    exists: true
package:
  kubelet:
    installed: true
    versions: [1.34.1-1.1]
service:
  kubelet:
    enabled: true
    running: true
kernel-param:
  net.ipv4.ip_forward:
    value: '1'
";

const RULES: &str = "\
rules:
- id: ops-is-there
  title: the operators have their account
  severity: fail
  remedy: add the user to the recipe
  check: {user: {ops: {exists: true, uid: 1000}}}
- id: no-editor
  title: no editor is installed
  severity: warn
  check: {package: {nano: {installed: false}}}
";

/// What becomes of the image with these files under /etc/…, judged by the rules above and by `waivers`.
fn judged(folder: &Path, files: &[(&str, &str)], waivers: &str, today: &str) -> Report {
    let mut disk = sound();
    disk.root.extend(
        [
            ("etc/motd", "Acme node\n"),
            ("etc/passwd", "root:x:0:0::/root:/bin/sh\nops:x:1000:1000::/home/ops:/bin/sh\n"),
            (
                "var/lib/dpkg/status",
                "Package: kubelet\nStatus: install ok installed\nVersion: 1.34.1-1.1\n",
            ),
            ("usr/lib/systemd/system/kubelet.service", "[Service]\nExecStart=/usr/bin/kubelet\n"),
        ]
        .iter()
        .chain(files)
        .map(|(path, text)| ((*path).to_owned(), text.as_bytes().to_vec())),
    );
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        std::fs::write(&path, text).unwrap();
        path
    };
    let paths = vec![
        write("goss.yaml", GOSS),
        write("node.rules.yaml", RULES),
        write("waivers.rules.yaml", waivers),
    ];
    let vars = vec![write("vars.yaml", "release: /etc/os-release\n")];
    let goss = Settings { vars, ..Settings::default() };
    let own = OwnRules::read(&Sources { paths, goss }, &Silent).unwrap();
    let image = folder.join("node.raw");
    std::fs::write(&image, disk.bytes(folder)).unwrap();
    let request = Request {
        tier: Tier::Static,
        provider: Some("aws".to_owned()),
        machine: disk.machine,
        own,
        recipe: Some("node".to_owned()),
        today: today.parse().unwrap(),
        ..request(image, &folder.join("out"))
    };
    validate(&request, &Silent, &Cancel::default()).unwrap()
}

const NONE: &str = "waivers: []\n";

fn word(report: &Report, id: &str) -> &'static str {
    let judged = report.rules.iter().find(|judged| judged.rule.id == id);
    judged.unwrap_or_else(|| panic!("no rule {id}")).verdict().unwrap().word()
}

#[test]
fn what_the_files_of_an_image_tell_is_judged_without_a_boot() {
    let folder = tempfile::tempdir().unwrap();
    let report = judged(folder.path(), &[], NONE, "2026-11-22");
    for (id, expected) in [
        ("file:/etc/motd", "pass"),
        ("file:/etc/issue", "pass"),
        ("file:/etc/os-release", "pass"),
        ("package:kubelet", "pass"),
        ("service:kubelet", "not proven"),
        ("ops-is-there", "pass"),
        ("no-editor", "pass"),
    ] {
        assert_eq!(word(&report, id), expected, "{id} in\n{}", report.text());
    }
    assert!(report.rules.iter().all(|judged| judged.rule.id != "kernel-param:net.ipv4.ip_forward"));
    let beyond = "1 of your own rules: judged by a tier above static";
    assert!(report.fidelity.iter().any(|line| line == beyond), "{:?}", report.fidelity);
}

#[test]
fn what_is_not_as_wanted_is_red_in_every_form_of_the_report() {
    let folder = tempfile::tempdir().unwrap();
    let files = [
        ("etc/motd", "Debian\n"),
        ("etc/issue", "x"),
        ("etc/passwd", "ops:x:1001:1001::/:/bin/sh\n"),
        (
            "var/lib/dpkg/status",
            "Package: nano\nStatus: install ok installed\nVersion: 1\n\n\
             Package: kubelet\nStatus: install ok installed\nVersion: 1.33.0-1.1\n",
        ),
        ("usr/lib/systemd/system/kubelet.service", ""),
    ];
    let report = judged(folder.path(), &files, NONE, "2026-11-22");
    for id in
        ["file:/etc/motd", "file:/etc/issue", "package:kubelet", "service:kubelet", "ops-is-there"]
    {
        assert_eq!(word(&report, id), "FAIL", "{id} in\n{}", report.text());
    }
    assert_eq!(word(&report, "no-editor"), "warn");
    assert_eq!(report.result().unwrap_err().class(), Class::Verdict);
    let kept = [Kept { folder: folder.path().to_owned(), report: report.clone() }];
    let seen = "uid: wanted 1000, found 1001";
    let forms =
        [report.text(), report.junit(), report::summary(&kept), report::page(&kept), report.json()];
    for form in forms {
        for words in ["ops-is-there", seen, "add the user to the recipe"] {
            assert!(form.contains(words), "{words} in\n{form}");
        }
    }
}

#[test]
fn waived_failures_pass_until_their_last_day_and_each_waiver_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let files = [("etc/passwd", "root:x:0:0::/root:/bin/sh\n")];
    let red = judged(folder.path(), &files, NONE, "2026-11-22");
    let failed: Vec<String> = red.failed().map(|judged| judged.rule.id.clone()).collect();
    assert!(failed.len() > 1 && failed.contains(&"ops-is-there".to_owned()), "{failed:?}");
    // Every rule that fails, nodekiln's own among them, and one that does not.
    let mut waivers = String::from("waivers:\n");
    for id in failed.iter().map(String::as_str).chain(["no-editor"]) {
        waivers.push_str(&format!(
            "- {{rule: '{id}', reason: with the next base, until: 2027-01-31, provider: aws, image: node}}\n"
        ));
    }
    let green = judged(folder.path(), &files, &waivers, "2027-01-31");
    green.result().unwrap_or_else(|failure| panic!("{failure}\n{}", green.text()));
    assert_eq!(green.waived().count(), failed.len());
    assert!(green.verdict().starts_with("passed (waived: "), "{}", green.verdict());
    let state = |report: &Report, id: &str| {
        report.waivers.iter().find(|waiver| waiver.rule == id).unwrap().state
    };
    assert_eq!(state(&green, "ops-is-there"), WaiverState::Used);
    assert_eq!(state(&green, "no-editor"), WaiverState::NotNeeded);
    let kept = [Kept { folder: folder.path().to_owned(), report: green.clone() }];
    let forms =
        [green.text(), green.junit(), report::summary(&kept), report::page(&kept), green.json()];
    for form in forms {
        assert!(form.contains("waived until 2027-01-31: with the next base"), "{form}");
        assert!(form.contains("not needed") || form.contains("not-needed"), "{form}");
    }
    let ended = judged(folder.path(), &files, &waivers, "2027-02-01");
    assert_eq!(ended.failed().count(), failed.len());
    assert_eq!(state(&ended, "ops-is-there"), WaiverState::Expired);
    let text = ended.text();
    assert!(text.contains("(its waiver ended on 2027-01-31: with the next base)"), "{text}");
    assert!(text.contains("EXPIRED"), "{text}");
    let other = waivers.replace("aws", "gce");
    assert_eq!(judged(folder.path(), &files, &other, "2026-11-22").failed().count(), failed.len());
}
