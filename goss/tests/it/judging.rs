//! Resources against a machine: goss's rules on which attributes are judged.

use nodekiln_goss::{
    Dialect, FileKind, MountFacts, Overall, PackageFacts, Response, UserFacts, Verdict, judge,
};

use crate::fake::{Fake, Nothing, judged, lines, suite, suite_of};

fn machine() -> Fake {
    let mut fake = Fake::default();
    fake.files
        .insert("/etc/passwd".into(), (FileKind::File, 0o644, b"root:x:0:0\nme:x:1\n".to_vec()));
    fake.files
        .insert("/etc/mta".into(), (FileKind::Symlink, 0o777, b"/usr/sbin/sendmail".to_vec()));
    fake.files.insert("/tmp".into(), (FileKind::Directory, 0o1777, Vec::new()));
    let versions = vec!["1.20.2-00".to_owned()];
    fake.packages.insert("kubelet".into(), PackageFacts { versions, rpm: false });
    let versions = vec!["1:1.20.2-0.el8".to_owned()];
    fake.packages.insert("kubeadm".into(), PackageFacts { versions, rpm: true });
    fake.enabled.push("containerd".into());
    fake.running.push("containerd".into());
    fake.commands
        .insert("go version".into(), (0, "go version go1.6 linux/amd64\n".into(), String::new()));
    fake.parameters.insert("net.core.somaxconn".into(), "128".into());
    let groups = vec!["me".to_owned(), "sudo".to_owned()];
    fake.users.insert(
        "me".into(),
        UserFacts {
            uid: 1000,
            gid: 1000,
            groups,
            home: "/home/me".into(),
            shell: "/bin/sh".into(),
        },
    );
    fake.ports.push(("tcp:22".into(), [0, 0, 0, 0].into()));
    let headers = vec!["Content-Type: text/html".to_owned()];
    fake.responses
        .insert("http://x/".into(), Response { status: 200, headers, body: b"hello\n".to_vec() });
    let mount = MountFacts {
        options: vec!["rw".into(), "relatime".into()],
        super_options: vec!["rw".into()],
        source: "/dev/vda1".into(),
        file_system: "ext4".into(),
    };
    fake.mounts.insert("/".into(), mount);
    fake
}

#[test]
fn every_attribute_of_every_kind() {
    let text = r#"
file:
  /etc/passwd: {exists: true, mode: "0644", owner: root, uid: 0, group: adm, gid: 4, filetype: file, size: 18, contents: ["/^root:/", "!toor"], sha256: x}
  mta: {path: /etc/mta, exists: true, linked-to: /usr/sbin/sendmail, filetype: symlink}
  /tmp: {exists: true, mode: "1777", filetype: directory}
package:
  kubelet: {installed: true, versions: [1.20.2-00]}
  kubeadm: {installed: true, versions: {contain-element: {have-prefix: "1:1.20"}}}
service:
  containerd: {enabled: true, running: true, runlevels: ["3"]}
command:
  go version: {exit-status: 0, stdout: ["go1.6"], stderr: [], timeout: 0}
  version: {exec: go version, exit-status: {lt: 1}, stdout: {have-suffix: "amd64\n"}}
kernel-param:
  net.core.somaxconn: {value: "128"}
  limit: {name: net.core.somaxconn, value: {ge: 100}}
mount:
  /: {exists: true, opts: [rw], vfs-opts: [rw], source: /dev/vda1, filesystem: ext4, usage: {lt: 95}}
user:
  me: {exists: true, uid: 1000, gid: 1000, groups: [sudo], home: /home/me, shell: /bin/sh}
group:
  adm: {exists: true, gid: 4}
port:
  tcp:22: {listening: true, ip: [0.0.0.0]}
  "22": {listening: true}
http:
  http://x/: {status: 200, headers: ["/^Content-Type: text/"], body: [hello]}
matching:
  same: {content: {a: 1}, matches: {have-key: a}}
"#;
    let expected = "\
file /etc/passwd: exists=pass mode=pass owner=pass uid=pass group=pass gid=pass filetype=pass contents=pass size=pass sha256=skip
file mta: exists=pass linked-to=pass filetype=pass
file /tmp: exists=pass mode=pass filetype=pass
package kubelet: installed=pass versions=pass
package kubeadm: installed=pass versions=pass
service containerd: enabled=pass running=pass runlevels=skip
command go version: exit-status=pass stdout=pass
command version: exit-status=pass stdout=pass
kernel-param net.core.somaxconn: value=pass
kernel-param limit: value=pass
mount /: exists=pass opts=pass vfs-opts=pass source=pass filesystem=pass usage=pass
user me: exists=pass uid=pass gid=pass groups=pass home=pass shell=pass
group adm: exists=pass gid=pass
port tcp:22: listening=pass ip=pass
port 22: listening=pass
http http://x/: status=pass headers=pass body=pass
matching same: matches=pass
";
    assert_eq!(judged(text, &machine()), expected);
    // Wanted otherwise, each of them is red.
    let other = text
        .replace("0644", "0600")
        .replace("owner: root", "owner: you")
        .replace("uid: 0,", "uid: 7,")
        .replace("group: adm", "group: me")
        .replace("filetype: file", "filetype: pipe")
        .replace("size: 18", "size: 19")
        .replace("/^root:/", "/^toor:/")
        .replace("linked-to: /usr", "linked-to: /opt")
        .replace("[1.20.2-00]", "[1.20.3-00]")
        .replace("1:1.20", "1.20")
        .replace("running: true", "running: false")
        .replace("go1.6", "go1.7")
        .replace("amd64\\n", "arm64\\n")
        .replace("value: \"128\"", "value: \"129\"")
        .replace("ge: 100", "ge: 200")
        .replace("opts: [rw]", "opts: [ro]")
        .replace("vda1", "vdb1")
        .replace("ext4", "xfs")
        .replace("lt: 95", "lt: 5")
        .replace("id: 1000", "id: 1")
        .replace("[sudo]", "[wheel]")
        .replace("/home/me", "/home/you")
        .replace("/bin/sh", "/bin/bash")
        .replace("gid: 4", "gid: 5")
        .replace("0.0.0.0", "127.0.0.1")
        .replace("Type: text/", "Type: image/")
        .replace("[hello]", "[bye]")
        .replace("have-key: a", "have-key: b");
    let red = judged(&other, &machine());
    let first = ["exists", "installed", "enabled", "exit-status", "listening", "status"];
    for line in red.lines() {
        for result in line.split(": ").last().unwrap().split(' ') {
            let (attribute, verdict) = result.split_once('=').unwrap();
            let stays =
                first.contains(&attribute) || verdict == "skip" || line.starts_with("file /tmp");
            assert!(
                stays || verdict == "fail" || attribute == "filetype" && line.contains("mta"),
                "{line}"
            );
        }
    }
    assert_eq!(red.matches("=fail").count(), 31, "{red}");
}

#[test]
fn where_the_first_is_not_as_wanted_the_others_are_skipped() {
    let text = r#"
file:
  /gone: {exists: true, mode: "0644", contents: [x]}
  /away: {exists: false, mode: "0644"}
  /etc/passwd: {exists: false, mode: "0000"}
package:
  gone: {installed: true, versions: [1]}
  ntp: {installed: false, versions: [1]}
service:
  dockerd: {enabled: true, running: true}
command:
  false: {exit-status: 0, stdout: [x]}
port:
  tcp:23: {listening: false, ip: [1.2.3.4]}
http:
  http://x/: {status: 404, body: [x]}
  http://gone/: {status: 200, body: [x]}
"#;
    let expected = "\
file /gone: exists=fail mode=skip contents=skip
file /away: exists=pass mode=skip
file /etc/passwd: exists=fail mode=skip
package gone: installed=fail versions=skip
package ntp: installed=pass versions=skip
service dockerd: enabled=fail running=fail
command false: exit-status=fail stdout=fail
port tcp:23: listening=pass ip=skip
http http://x/: status=fail body=skip
http http://gone/: status=fail body=skip
";
    assert_eq!(judged(text, &machine()), expected);
}

#[test]
fn what_the_file_says_to_skip_and_what_nodekiln_does_not_judge_is_skipped() {
    let text = "file:\n  /gone: {exists: true, mode: '0644', skip: true}\n\
                dns:\n  localhost: {resolvable: true, addrs: [127.0.0.1]}\n\
                addr:\n  tcp://x:80: {reachable: true}\nprocess:\n  sshd: {running: true}\n\
                interface:\n  eth0: {exists: true}\n";
    let suite = suite(text).unwrap();
    let expected = "file /gone: exists=skip mode=skip\ndns localhost: *=skip\naddr tcp://x:80: *=skip\n\
                    process sshd: *=skip\ninterface eth0: *=skip\n";
    assert_eq!(lines(&suite, &machine()), expected);
    for resource in &suite.resources {
        let outcome = judge(resource, &machine());
        assert_eq!(outcome.overall(), Overall::Skipped);
        for result in outcome.results {
            let Verdict::Skipped { reason, .. } = result.verdict else { panic!("{result:?}") };
            assert!(reason.len() > 10, "{reason}");
        }
    }
}

#[test]
fn a_tree_at_rest_skips_what_needs_a_machine() {
    let text = "service:\n  a: {enabled: false, running: true}\ncommand:\n  a: {exit-status: 0}\n\
                kernel-param:\n  a: {value: 1}\nmount:\n  /: {exists: true, usage: 1}\n\
                port:\n  tcp:22: {listening: true}\nhttp:\n  http://x: {status: 200, body: [a]}\n";
    let expected = "service a: enabled=pass running=skip\ncommand a: exit-status=skip\n\
                    kernel-param a: value=skip\nmount /: exists=skip usage=skip\n\
                    port tcp:22: listening=skip\nhttp http://x: status=skip body=skip\n";
    assert_eq!(judged(text, &Nothing), expected);
}

#[test]
fn what_goss_demands_and_the_file_does_not_say_fails() {
    let text = "file:\n  /etc/passwd: {mode: '0644'}\nservice:\n  x: {}\n";
    assert_eq!(judged(text, &machine()), "file /etc/passwd: exists=fail mode=skip\nservice x: \n");
}

#[test]
fn an_output_that_is_a_text_is_compared_whole() {
    let text = r#"
command:
  go version: {exit-status: 0, stdout: "go version go1.6 linux/amd64\n"}
  same: {exec: go version, exit-status: 0, stdout: go version}
"#;
    let expected = "command go version: exit-status=pass stdout=pass\ncommand same: exit-status=pass stdout=fail\n";
    assert_eq!(judged(text, &machine()), expected);
}

#[test]
fn an_rpm_version_is_what_the_dialect_sees() {
    let text = "package:\n  kubeadm: {installed: true, versions: [1.20.2]}\n  kubelet: {installed: true, versions: [1.20.2]}\n";
    let of = |dialect| lines(&suite_of(text, dialect).unwrap(), &machine());
    let new = "package kubeadm: installed=pass versions=fail\npackage kubelet: installed=pass versions=fail\n";
    assert_eq!(of(Dialect::Goss04), new);
    // Debian's version is whole in both.
    assert_eq!(of(Dialect::Goss03), new.replacen("versions=fail", "versions=pass", 1));
}

#[test]
fn a_failure_names_the_resource_and_what_was_found() {
    let suite =
        suite("kernel-param:\n  net.core.somaxconn: {title: backlog, value: {gt: 200}}\n").unwrap();
    let outcome = judge(&suite.resources[0], &machine());
    let failure = outcome.result().unwrap_err();
    assert_eq!(
        failure.to_string(),
        r#"kernel-param backlog: value: wanted {"gt":200}, found "128""#
    );
    assert_eq!(failure.class(), nodekiln_words::Class::Verdict);
    let json = serde_json::to_value(&outcome).unwrap();
    assert_eq!(json["results"][0]["verdict"], "fail");
    assert_eq!(json["results"][0]["found"], "\"128\"");
    assert!(json["place"].as_str().unwrap().ends_with("goss.yaml:2:3"));
}
