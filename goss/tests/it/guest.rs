//! The scripts, run by this machine's shell, against what is really there.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _, symlink};
use std::path::Path;
use std::process::{Command as Process, Stdio};
use std::thread::JoinHandle;

use nodekiln_goss::guest::{Answer, Answers, Ask, Question, plan};
use nodekiln_goss::{Known, Target, Unknown, Verdict, judge};
use sha2::Digest as _;

use crate::fake::{lines, suite};

/// Runs an ask as it is run over SSH: one line for a shell.
fn run(ask: &Ask) -> Answer {
    run_with(ask, |_| {})
}

fn run_with(ask: &Ask, change: impl Fn(&mut Process)) -> Answer {
    let mut process = Process::new("/bin/sh");
    process.arg("-c").arg(ask.command_line());
    process.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    change(&mut process);
    let mut child = process.spawn().unwrap();
    // What ends before it has read everything is fine.
    let _ = child.stdin.take().unwrap().write_all(&ask.input.0);
    let output = child.wait_with_output().unwrap();
    Answer { status: output.status.code(), stdout: output.stdout, stderr: output.stderr }
}

fn asked(text: &str) -> (nodekiln_goss::file::Suite, Answers) {
    let suite = suite(text).unwrap_or_else(|failure| panic!("{failure:?}"));
    let mut answers = Answers::default();
    for ask in plan(&suite.resources) {
        let answer = run(&ask);
        answers.insert(ask.question, answer);
    }
    (suite, answers)
}

fn judged(text: &str) -> String {
    let (suite, answers) = asked(text);
    lines(&suite, &answers)
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn files_are_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    // Names that a shell would make something of.
    let odd = "a b'c\"$(id)`id`;*";
    std::fs::write(at(odd), "alpha\nbeta\n").unwrap();
    std::fs::set_permissions(at(odd), std::fs::Permissions::from_mode(0o4751)).unwrap();
    symlink("/nowhere", at("-dangling")).unwrap();
    symlink(at(odd), at("link")).unwrap();
    let socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
    assert!(std::fs::metadata(at("socket")).unwrap().file_type().is_socket());
    let owner = |path: &Path| std::fs::metadata(path).unwrap().uid();
    let sha256 = hexadecimal(&sha2::Sha256::digest(b"alpha\nbeta\n"));
    let sha512 = hexadecimal(&sha2::Sha512::digest(b"alpha\nbeta\n"));
    let path = |name: &str| serde_json::to_string(&at(name)).unwrap();
    let text = format!(
        "file:\n  odd: {{path: {odd}, exists: true, mode: '4751', filetype: file, size: 11, contents: [alpha, '!gamma'],\n    \
         sha256: {sha256}, sha512: {sha512}, md5: {{have-len: 32}}}}\n  \
         dangling: {{path: {dangling}, exists: true, filetype: symlink, linked-to: /nowhere, contents: [x]}}\n  \
         link: {{path: {link}, exists: true, filetype: symlink, contents: ['/^beta$/'], sha256: {sha256}}}\n  \
         socket: {{path: {socket}, exists: true, filetype: socket}}\n  \
         gone: {{path: {gone}, exists: false}}\n  \
         folder: {{path: {folder}, exists: true, filetype: directory, contents: [x]}}\n  \
         /dev/null: {{exists: true, filetype: character-device, owner: root, uid: 0, group: root, gid: 0, mode: '0666'}}\n",
        odd = path(odd),
        dangling = path("-dangling"),
        link = path("link"),
        socket = path("socket"),
        gone = path("gone"),
        folder = serde_json::to_string(folder.path()).unwrap(),
    );
    let expected = "\
file odd: exists=pass mode=pass filetype=pass contents=pass size=pass md5=pass sha256=pass sha512=pass
file dangling: exists=pass linked-to=pass filetype=pass contents=fail
file link: exists=pass filetype=pass contents=pass sha256=pass
file socket: exists=pass filetype=pass
file gone: exists=pass
file folder: exists=pass filetype=pass contents=fail
file /dev/null: exists=pass mode=pass owner=pass uid=pass group=pass gid=pass filetype=pass
";
    assert_eq!(judged(&text), expected, "as user {}", owner(folder.path()));
    drop(socket);
}

#[test]
fn a_home_directory_stands_for_itself() {
    let home = std::fs::read_to_string("/etc/passwd").unwrap();
    let root =
        home.lines().find(|line| line.starts_with("root:")).unwrap().split(':').nth(5).unwrap();
    let (suite, answers) = asked(
        "file:\n  '~': {exists: true, filetype: directory}\n  ~root: {exists: true}\n  ~nobody-here/x: {exists: true}\n",
    );
    assert_eq!(
        lines(&suite, &answers),
        "file ~: exists=pass filetype=pass\nfile ~root: exists=pass\nfile ~nobody-here/x: exists=fail\n"
    );
    let same = answers.file("~").unwrap().unwrap();
    assert_eq!(same.mode, std::fs::symlink_metadata(root).unwrap().mode() & 0o7777);
    let missing = answers.file("~nobody-here/x").unwrap_err();
    assert_eq!(missing, Unknown::failed("there is no user nobody-here"));
}

#[test]
fn users_groups_packages_parameters_and_mounts_are_this_machines() {
    let version =
        Process::new("dpkg-query").args(["-W", "-f", "${Version}", "dpkg"]).output().unwrap();
    let version = String::from_utf8(version.stdout).unwrap();
    let limit = std::fs::read_to_string("/proc/sys/kernel/pid_max").unwrap();
    let limit = limit.trim();
    let text = format!(
        "user:\n  root: {{exists: true, uid: 0, gid: 0, groups: [root], home: /root}}\n  nobody-here: {{exists: false}}\n\
         group:\n  root: {{exists: true, gid: 0}}\n  nobody-here: {{exists: true, gid: 1}}\n\
         package:\n  dpkg: {{installed: true, versions: ['{version}']}}\n  not-there-at-all: {{installed: false}}\n  \
         -W: {{installed: false}}\n\
         kernel-param:\n  kernel.pid_max: {{value: '{limit}'}}\n  kernel/pid_max: {{value: {{ge: 300}}}}\n  no.such: {{value: 1}}\n\
         mount:\n  /proc: {{exists: true, filesystem: proc}}\n  /: {{exists: true, usage: {{le: 100}}}}\n  /gone: {{exists: false}}\n\
         command:\n  'echo \"a  b\"; echo c >&2; exit 3': {{exit-status: 3, stdout: ['/^a  b$/'], stderr: [c]}}\n"
    );
    let expected = "\
user root: exists=pass uid=pass gid=pass groups=pass home=pass
user nobody-here: exists=pass
group root: exists=pass gid=pass
group nobody-here: exists=fail gid=skip
package dpkg: installed=pass versions=pass
package not-there-at-all: installed=pass
package -W: installed=pass
kernel-param kernel.pid_max: value=pass
kernel-param kernel/pid_max: value=pass
kernel-param no.such: value=fail
mount /proc: exists=pass filesystem=pass
mount /: exists=pass usage=pass
mount /gone: exists=pass
command echo \"a  b\"; echo c >&2; exit 3: exit-status=pass stdout=pass stderr=pass
";
    assert_eq!(judged(&text), expected);
}

#[test]
fn a_listening_port_is_seen_and_only_it() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let number = listener.local_addr().unwrap().port();
    let text = format!(
        "port:\n  tcp:{number}: {{listening: true, ip: [127.0.0.1]}}\n  udp:{number}: {{listening: false}}\n  tcp6:{number}: {{listening: false}}\n"
    );
    let expected = format!(
        "port tcp:{number}: listening=pass ip=pass\nport udp:{number}: listening=pass\nport tcp6:{number}: listening=pass\n"
    );
    assert_eq!(judged(&text), expected);
    drop(listener);
    assert!(judged(&text).starts_with(&format!("port tcp:{number}: listening=fail ip=skip\n")));
}

#[test]
fn units_are_known_where_systemd_is() {
    let (suite, answers) =
        asked("service:\n  no-such-unit-here: {enabled: false, running: false}\n");
    let results = judge(&suite.resources[0], &answers).results;
    let there = |path: &str| Path::new(path).exists();
    let verdict = |there: bool, verdict: &Verdict| match verdict {
        Verdict::Pass => there,
        Verdict::Skipped { reason, .. } => !there && reason.starts_with("in the guest "),
        Verdict::Fail(_) => false,
    };
    let systemctl = there("/usr/bin/systemctl") || there("/bin/systemctl");
    assert!(verdict(systemctl, &results[0].verdict), "{results:?}");
    assert!(verdict(systemctl && there("/run/systemd/system"), &results[1].verdict), "{results:?}");
}

/// A stand-in for a program of a guest, in a folder that is the whole PATH.
fn with_programs(ask: &Ask, programs: &[(&str, &str)]) -> Answer {
    let folder = tempfile::tempdir().unwrap();
    for name in ["cat", "stat", "readlink", "env"] {
        let real = ["/usr/bin", "/bin"].map(|place| Path::new(place).join(name));
        symlink(real.iter().find(|path| path.exists()).unwrap(), folder.path().join(name)).unwrap();
    }
    // The shell itself is called by name in a script's command.
    symlink("/bin/sh", folder.path().join("sh")).unwrap();
    for (name, body) in programs {
        let path = folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/sh\n{body}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    run_with(ask, |process| {
        process.env("PATH", folder.path());
    })
}

fn only(text: &str) -> Ask {
    let asks = plan(&suite(text).unwrap().resources);
    let Ok([ask]) = <[Ask; 1]>::try_from(asks) else { panic!("{text}") };
    ask
}

fn answered(ask: &Ask, answer: Answer) -> Answers {
    let mut answers = Answers::default();
    answers.insert(ask.question.clone(), answer);
    answers
}

#[test]
fn rpm_answers_where_dpkg_is_not() {
    let ask = only("package: {kubelet: {installed: true}}\n");
    let body = "for last; do :; done; [ \"$last\" = kubelet ] || exit 1; echo 0:1.30.4-1";
    let facts = answered(&ask, with_programs(&ask, &[("rpm", body)])).package("kubelet").unwrap();
    assert!(facts.rpm && facts.versions == ["0:1.30.4-1"], "{facts:?}");
    let absent = "echo package kubelet is not installed; exit 1";
    let facts = answered(&ask, with_programs(&ask, &[("rpm", absent)])).package("kubelet").unwrap();
    assert!(facts.rpm && facts.versions.is_empty(), "{facts:?}");
    let none = answered(&ask, with_programs(&ask, &[])).package("kubelet");
    assert_eq!(none, Err(Unknown::not_here("in the guest neither dpkg-query nor rpm is there")));
}

#[test]
fn what_the_guest_lacks_is_the_reason_of_a_skip() {
    let missing = |text: &str| -> Unknown {
        let ask = only(text);
        let answers = answered(&ask, with_programs(&ask, &[]));
        let gone = |known: Known<()>| known.unwrap_err();
        match &ask.question {
            Question::Digest(path, algorithm) => gone(answers.digest(path, *algorithm).map(|_| ())),
            Question::Enabled(unit) => gone(answers.enabled(unit).map(|_| ())),
            Question::Http(request) => gone(answers.http(request).map(|_| ())),
            other => panic!("{other:?}"),
        }
    };
    // `exists` is asked as well unless it is left out.
    let digest = suite("file: {/etc/passwd: {exists: true, sha256: x}}\n").unwrap();
    let asks = plan(&digest.resources);
    assert_eq!(asks.len(), 2);
    assert_eq!(
        missing("service: {a: {enabled: true}}\n"),
        Unknown::not_here("in the guest systemctl is missing")
    );
    assert_eq!(
        missing("http: {http://x/: {status: 200}}\n"),
        Unknown::not_here("in the guest neither curl nor Python is there")
    );
    let answer = with_programs(&asks[1], &[]);
    let Question::Digest(path, algorithm) = &asks[1].question else { panic!("{asks:?}") };
    let reason = answered(&asks[1], answer).digest(path, *algorithm).unwrap_err();
    assert_eq!(reason, Unknown::not_here("in the guest sha256sum is missing"));
}

#[test]
fn units_are_what_systemctl_says() {
    for (body, expected) in [("exit 0", true), ("exit 1", false), ("exit 4", false)] {
        let ask = only("service: {a: {enabled: true}}\n");
        let answers = answered(&ask, with_programs(&ask, &[("systemctl", body)]));
        assert_eq!(answers.enabled("a"), Ok(expected));
    }
    // The name is an argument behind `--`, whatever it looks like.
    let ask = only("service: {--version: {enabled: true}}\n");
    let body = "[ \"$*\" = '-q is-enabled -- --version' ]";
    let answers = answered(&ask, with_programs(&ask, &[("systemctl", body)]));
    assert_eq!(answers.enabled("--version"), Ok(true));
}

/// A server that answers two requests, the first with a redirect: its address, and what it was asked.
fn server() -> (SocketAddr, JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = std::thread::spawn(move || {
        let mut requests = Vec::new();
        for answer in [
            "HTTP/1.1 302 Found\r\nLocation: /b\r\nContent-Length: 3\r\nConnection: close\r\n\r\nno\n",
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\nContent-Length: 6\r\nConnection: close\r\n\r\nhello\n",
        ] {
            let (mut stream, _) = listener.accept().unwrap();
            let mut reader = BufReader::new(stream.try_clone().unwrap());
            let (mut request, mut body) = (String::new(), 0);
            loop {
                let mut line = String::new();
                reader.read_line(&mut line).unwrap();
                let line = line.trim_end();
                if line.is_empty() {
                    break;
                }
                if let Some(length) = line.strip_prefix("Content-Length: ") {
                    body = length.parse().unwrap();
                }
                request.push_str(&format!("{line}\n"));
            }
            reader.read_exact(&mut vec![0; body]).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            requests.push(request);
        }
        requests
    });
    (address, server)
}

fn page(address: SocketAddr) -> String {
    format!(
        "http:\n  page: {{url: 'http://{address}/a', status: 200, headers: ['Content-Type: text/plain'], body: [hello, '!no'],\n    \
         username: me, password: 'pass word', request-headers: ['X-A: \"1\"']}}\n"
    )
}

fn were_as_wanted(requests: &[String]) {
    assert!(
        requests[0].starts_with("GET /a ") && requests[0].contains("X-A: \"1\"\n"),
        "{requests:?}"
    );
    assert!(requests[0].contains("Authorization: Basic bWU6cGFzcyB3b3Jk\n"), "{requests:?}");
    assert!(requests[1].starts_with("GET /b "), "{requests:?}");
}

#[test]
fn curl_asks_a_server_and_its_answer_is_read() {
    if !Path::new("/usr/bin/curl").exists() {
        // Without curl the reading of its answers is tested beside the code.
        return;
    }
    let (address, server) = server();
    let text = page(address);
    assert_eq!(judged(&text), "http page: status=pass headers=pass body=pass\n");
    were_as_wanted(&server.join().unwrap());
    let (suite, answers) = asked(&text);
    let failed = judge(&suite.resources[0], &answers).result().unwrap_err();
    assert!(failed.to_string().contains("curl: "), "nobody listens any more: {failed}");
}

/// Asks with no curl on the PATH and this machine's Python.
fn by_python(text: &str) -> (nodekiln_goss::file::Suite, Answers) {
    let ask = only(text);
    let answer = with_programs(&ask, &[("python3", "exec /usr/bin/python3 \"$@\"")]);
    (suite(text).unwrap(), answered(&ask, answer))
}

#[test]
fn python_asks_a_server_where_there_is_no_curl() {
    let (address, server) = server();
    let text = page(address);
    let (suite, answers) = by_python(&text);
    assert_eq!(lines(&suite, &answers), "http page: status=pass headers=pass body=pass\n");
    were_as_wanted(&server.join().unwrap());
    let (suite, answers) = by_python(&text);
    let failed = judge(&suite.resources[0], &answers).result().unwrap_err();
    assert!(failed.to_string().contains("ConnectionRefusedError"), "{failed}");
}

#[test]
fn python_takes_a_redirect_for_the_answer_sends_a_body_and_gives_up_in_time() {
    let (address, asked) = server();
    let text = format!(
        "http: {{'http://{address}/a?b=c d': {{status: 302, no-follow-redirects: true, method: PUT, request-body: 'ä',\
         request-headers: ['Host: example.org', 'User-Agent:']}}}}\n"
    );
    let (suite, answers) = by_python(&text);
    assert_eq!(lines(&suite, &answers).rsplit(' ').next(), Some("status=pass\n"));
    let head = format!("http: {{'{address}/': {{status: 200, method: HEAD}}}}\n");
    let (suite, answers) = by_python(&head);
    assert_eq!(lines(&suite, &answers).rsplit(' ').next(), Some("status=pass\n"));
    let requests = asked.join().unwrap();
    assert!(
        requests[0].starts_with("PUT /a?b=c%20d HTTP/1.1\n")
            && requests[0].contains("Host: example.org\n"),
        "{requests:?}"
    );
    assert!(requests[0].contains("Content-Length: 2\n"), "{requests:?}");
    assert!(!requests[0].contains("User-Agent") && !requests[0].contains("Content-Type"));
    assert!(requests[1].starts_with("HEAD / "), "{requests:?}");
    // Somebody takes the call and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    let (suite, answers) =
        by_python(&format!("http: {{'http://{address}': {{status: 200, timeout: 300}}}}\n"));
    let late = judge(&suite.resources[0], &answers).result().unwrap_err();
    assert!(late.to_string().contains("took longer"), "{late}");
}

#[test]
fn a_command_that_takes_too_long_fails_with_its_limit() {
    let ask = only("command: {sleep: {exit-status: 0, timeout: 50}}\n");
    assert_eq!(ask.timeout.as_millis(), 50);
    let answers = answered(&ask, Answer::timed_out());
    let suite = suite("command: {sleep: {exit-status: 0, timeout: 50}}\n").unwrap();
    let failure = judge(&suite.resources[0], &answers).result().unwrap_err();
    assert!(failure.to_string().contains("it took longer than 50 ms"), "{failure}");
}

#[test]
fn each_question_is_asked_once_and_skipped_resources_ask_nothing() {
    let text = "user: {a: {exists: true}, b: {exists: true, groups: [x]}}\n\
                file: {/a: {exists: true, mode: '0644', owner: root}, again: {path: /a, exists: true}, /b: {exists: true, skip: true}}\n\
                port: {'1': {listening: true}, '2': {listening: true}}\nmatching: {x: {content: 1, matches: 1}}\n";
    let questions: Vec<Question> =
        plan(&suite(text).unwrap().resources).into_iter().map(|ask| ask.question).collect();
    assert_eq!(
        questions,
        [Question::Users, Question::Groups, Question::File("/a".into()), Question::Sockets]
    );
    // What was not asked is not known.
    assert_eq!(Answers::default().file("/a"), Err(Unknown::not_here("the guest was not asked")));
}
